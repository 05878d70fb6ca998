//go:build cgo && (linux || darwin)

package ort

/*
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

// trim gives what the C library has freed back to the system, where it can.
static void trim(void) {
	int (*f)(size_t) = (int (*)(size_t))dlsym(RTLD_DEFAULT, "malloc_trim");
	if (f) f(0);
}
*/
import "C"

import (
	"runtime/debug"

	onnx "github.com/yalue/onnxruntime_go"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
)

// apart encodes a model without its large weights, which are handed over where they
// lie: bytes with the weights in them would be copied three times on the way into
// a session.
func apart(m *graphs.Model) ([]byte, []*graphs.Value, error) { return onnxio.Apart(m) }

// hand gives a session that is made with opts the weights that its model lacks. done
// is to be called when it is made.
func hand(opts *onnx.SessionOptions, large []*graphs.Value) (done func(), err error) {
	var views []*view
	done = func() {
		for _, v := range views {
			v.destroy()
		}
	}
	var names []string
	for _, v := range large {
		w, err := wrap(v.Const)
		if err != nil {
			return done, err
		}
		names, views = append(names, v.Name), append(views, w)
	}
	if len(views) == 0 {
		return done, nil
	}
	return done, initializers(opts, names, views)
}

// heavyWeights is the size of weights, in bytes, from which on it is worth a few
// milliseconds to have no garbage while a session is made, and none after it.
const heavyWeights = 16 << 20

func heavy(large []*graphs.Value) bool {
	size := 0
	for _, v := range large {
		size += v.Const.Len() * v.Const.Type.Bits() / 8
	}
	return size >= heavyWeights
}

// tidy leaves no garbage of before, and after of what was made since, if weights are heavy.
func tidy(large []*graphs.Value) (after func()) {
	if !heavy(large) {
		return func() {}
	}
	debug.FreeOSMemory()
	return func() {
		C.trim()
		debug.FreeOSMemory()
	}
}
