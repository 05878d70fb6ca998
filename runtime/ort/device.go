//go:build cgo && (linux || darwin)

package ort

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdint.h>
#include <stddef.h>
#include <stdlib.h>

// The library's table of functions, which only grows at its end. The binding wraps
// most of it; these few it does not, or not for memory of a device.
enum {
	GET_ERROR_MESSAGE = 2,
	CREATE_TENSOR_AS_ORT_VALUE = 48,
	GET_TENSOR_MUTABLE_DATA = 51,
	CREATE_MEMORY_INFO = 68,
	ALLOCATOR_FREE = 76,
	GET_ALLOCATOR_WITH_DEFAULT_OPTIONS = 78,
	RELEASE_STATUS = 93,
	RELEASE_MEMORY_INFO = 94,
	RELEASE_VALUE = 96,
	CREATE_ALLOCATOR = 131,
	RELEASE_ALLOCATOR = 132,
	RUN_WITH_BINDING = 133,
	CREATE_IO_BINDING = 134,
	RELEASE_IO_BINDING = 135,
	BIND_INPUT = 136,
	BIND_OUTPUT = 137,
	BIND_OUTPUT_TO_DEVICE = 138,
	GET_BOUND_OUTPUT_VALUES = 140,
	ADD_EXTERNAL_INITIALIZERS = 210,
};

typedef void status; // NULL is success
typedef struct { void *const *(*api)(uint32_t); const char *(*version)(void); } base;
static void *const *api;

static int ort_load(const char *path, uint32_t version) {
	void *lib = dlopen(path, RTLD_LAZY);
	base *(*get)(void) = lib ? (base *(*)(void))dlsym(lib, "OrtGetApiBase") : NULL;
	api = get ? get()->api(version) : NULL;
	return api != NULL;
}
static const char *ort_message(status *s) { return ((const char *(*)(status *))api[GET_ERROR_MESSAGE])(s); }
static void ort_release(int what, void *p) { ((void (*)(void *))api[what])(p); }
static status *ort_memory(const char *name, void **out) {
	const int device = 0, id = 0, plain = 0;
	return ((status *(*)(const char *, int, int, int, void **))api[CREATE_MEMORY_INFO])(name, device, id, plain, out);
}
static status *ort_binding(void *session, void **out) { return ((status *(*)(void *, void **))api[CREATE_IO_BINDING])(session, out); }
static status *ort_bind(int what, void *b, const char *name, void *value) {
	return ((status *(*)(void *, const char *, void *))api[what])(b, name, value);
}
static status *ort_run(void *session, void *options, void *b) {
	return ((status *(*)(void *, void *, void *))api[RUN_WITH_BINDING])(session, options, b);
}
// ort_tensor makes a tensor of float32 in memory of an allocator and gives its address.
static status *ort_tensor(void *alloc, const int64_t *dims, size_t rank, void **value, void **data) {
	const int float32 = 1;
	status *s = ((status *(*)(void *, const int64_t *, size_t, int, void **))api[CREATE_TENSOR_AS_ORT_VALUE])(alloc, dims, rank, float32, value);
	return s != NULL ? s : ((status *(*)(void *, void **))api[GET_TENSOR_MUTABLE_DATA])(*value, data);
}
static status *ort_allocator(void *session, void *memory, void **out) {
	return ((status *(*)(void *, void *, void **))api[CREATE_ALLOCATOR])(session, memory, out);
}
static status *ort_initializers(void *options, const char *const *names, void *const *values, size_t n) {
	return ((status *(*)(void *, const char *const *, void *const *, size_t))api[ADD_EXTERNAL_INITIALIZERS])(options, names, values, n);
}
// ort_output gives the value bound to output i, to be released.
static status *ort_output(void *b, size_t i, void **value) {
	void *alloc, **values = NULL;
	size_t n = 0;
	status *s = ((status *(*)(void **))api[GET_ALLOCATOR_WITH_DEFAULT_OPTIONS])(&alloc);
	if (s == NULL) s = ((status *(*)(void *, void *, void ***, size_t *))api[GET_BOUND_OUTPUT_VALUES])(b, alloc, &values, &n);
	if (s != NULL) return s;
	*value = NULL;
	for (size_t j = 0; j < n; j++) {
		if (j == i) *value = values[j]; else ort_release(RELEASE_VALUE, values[j]);
	}
	((status *(*)(void *, void *))api[ALLOCATOR_FREE])(alloc, values);
	return NULL;
}
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"unsafe"

	onnx "github.com/yalue/onnxruntime_go"

	"ebmrun/graphs"
	"ebmrun/runtime"
)

// apiVersion is the version of the library's interface that the binding asks for.
const apiVersion = 24

var loadAPI = sync.OnceValue(func() error {
	path := C.CString(loaded.Path)
	defer C.free(unsafe.Pointer(path))
	if C.ort_load(path, apiVersion) == 0 {
		return fmt.Errorf("%s does not give interface %d", loaded.Path, apiVersion)
	}
	return nil
})

// initializers gives the session that is made with opts the content of initializers
// that its model refers to as external data. It is copied when the session is made.
func initializers(opts *onnx.SessionOptions, names []string, content []*view) error {
	if err := loadAPI(); err != nil {
		return err
	}
	texts, values := make([]*C.char, len(names)), make([]unsafe.Pointer, len(names))
	for i, name := range names {
		texts[i], values[i] = C.CString(name), handle(content[i].internals, "ortValue")
		defer C.free(unsafe.Pointer(texts[i]))
	}
	return failure(C.ort_initializers(handle(opts, "o"), &texts[0], &values[0], C.size_t(len(names))))
}

func failure(s unsafe.Pointer) error {
	if s == nil {
		return nil
	}
	defer C.ort_release(C.RELEASE_STATUS, s)
	return plain(errors.New(C.GoString(C.ort_message(s))))
}

// handle is the library's pointer that an object of the Go binding holds in a field.
func handle(object any, fields ...string) unsafe.Pointer {
	v := reflect.ValueOf(object).Elem()
	for i, f := range fields {
		if v = v.FieldByName(f); i < len(fields)-1 {
			v = v.Elem()
		}
	}
	return v.UnsafePointer()
}

// Repeat implements runtime.Repeater. Where the provider computes in memory of its
// own, the state stays there, and what is new in a call is drawn and copied while
// the call before runs.
func (p *program) Repeat(ctx context.Context, in, out []*graphs.Tensor, r runtime.Repetition) error {
	if p.memory == "" || r.Calls == 1 {
		return runtime.Repeat(ctx, struct{ runtime.Program }{p}, in, out, r)
	}
	return p.resident(ctx, in, out, r)
}

// resident makes the calls of r on two bindings that take turns: while one runs,
// the other is fed.
func (p *program) resident(ctx context.Context, in, out []*graphs.Tensor, r runtime.Repetition) (err error) {
	if err := errors.Join(loadAPI(), p.sig.Check(in, out)); err != nil {
		return err
	}
	p.running.RLock()
	defer p.running.RUnlock()
	if p.closed {
		return runtime.ErrClosed
	}
	stop, err := (*stopper)(nil).watch(ctx)
	if err != nil {
		return err
	}
	defer stop.destroy()
	var turns [2]*bound
	for i := range turns {
		turns[i] = &bound{p: p, session: handle(p.session, "s", "ortSession")}
		defer turns[i].close()
		if err := turns[i].tie(in, out, r); err != nil {
			return err
		}
	}
	feed := func(call int) error {
		if r.Fresh < 0 || call == r.Calls {
			return nil
		}
		b := turns[call%2]
		if err := r.Next(call, b.fresh); err != nil {
			return err
		}
		return b.refresh(r.Fresh)
	}
	if err := errors.Join(feed(0), turns[0].input(r.To, in[r.To])); err != nil {
		return err
	}
	for call := range r.Calls {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, next := turns[call%2], turns[(call+1)%2]
		if call == r.Calls-1 {
			if err := b.output(r.From, out[r.From]); err != nil {
				return err
			}
		}
		fed := make(chan error, 1)
		go func() { fed <- feed(call + 1) }()
		err := b.run(ctx, stop)
		if err == nil && r.Done != nil {
			err = r.Done(call)
		}
		if err = errors.Join(err, <-fed); err != nil {
			return err
		}
		if call < r.Calls-1 {
			if err := b.hand(next, p.sig.Inputs[r.To].Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// bound is a session's inputs and outputs tied to memory. The library copies an
// input to where it is computed with when it is tied.
type bound struct {
	p             *program
	session, io   unsafe.Pointer
	memory        unsafe.Pointer // of the device
	fresh         *graphs.Tensor // in staging, or the program's own
	staging       staging
	inputs, views []*view // views: those of outputs that are fetched here
}

// staging is a tensor in memory that the device reads by itself.
type staging struct{ allocator, value unsafe.Pointer }

// stage makes room for an input that is new in each call: where the provider has it,
// in memory that the device reads by itself, which is several times faster.
func (b *bound) stage(like *graphs.Tensor) error {
	b.fresh = graphs.NewTensor(like.Type, like.Dims...)
	name := stagings[b.p.memory]
	if name == "" || like.Type != graphs.Float32 || like.Len() == 0 || len(like.Dims) == 0 {
		return nil
	}
	var memory, data unsafe.Pointer
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	if err := failure(C.ort_memory(text, &memory)); err != nil {
		return err
	}
	defer C.ort_release(C.RELEASE_MEMORY_INFO, memory)
	if err := failure(C.ort_allocator(b.session, memory, &b.staging.allocator)); err != nil {
		return err
	}
	dims := make([]C.int64_t, len(like.Dims))
	for i, d := range like.Dims {
		dims[i] = C.int64_t(d)
	}
	if err := failure(C.ort_tensor(b.staging.allocator, &dims[0], C.size_t(len(dims)), &b.staging.value, &data)); err != nil {
		return err
	}
	b.fresh.Data = unsafe.Slice((*float32)(data), like.Len())
	return nil
}

// refresh ties what has been written to fresh.
func (b *bound) refresh(i int) error {
	if b.staging.value != nil {
		return b.bind(C.BIND_INPUT, b.p.sig.Inputs[i].Name, b.staging.value)
	}
	return b.input(i, b.fresh)
}

// open makes the binding.
func (b *bound) open() error {
	memory := C.CString(b.p.memory)
	defer C.free(unsafe.Pointer(memory))
	if err := failure(C.ort_binding(b.session, &b.io)); err != nil {
		return err
	}
	return failure(C.ort_memory(memory, &b.memory))
}

// tie ties what stays the same over the calls of r. The state is the last of the
// outputs.
func (b *bound) tie(in, out []*graphs.Tensor, r runtime.Repetition) error {
	if err := b.open(); err != nil {
		return err
	}
	for i, t := range in {
		if i == r.Fresh {
			if err := b.stage(t); err != nil {
				return err
			}
		} else if i != r.To {
			if err := b.input(i, t); err != nil {
				return err
			}
		}
	}
	for i, t := range out {
		if i != r.From {
			if err := b.output(i, t); err != nil {
				return err
			}
		}
	}
	return b.bind(C.BIND_OUTPUT_TO_DEVICE, b.p.sig.Outputs[r.From].Name, b.memory)
}

func (b *bound) bind(what C.int, name string, value unsafe.Pointer) error {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	if err := failure(C.ort_bind(what, b.io, text, value)); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	return nil
}

func (b *bound) input(i int, t *graphs.Tensor) error {
	v, err := b.p.inputs[i].take(t)
	if err != nil {
		return err
	}
	b.inputs = hold(b.inputs, v)
	return b.bind(C.BIND_INPUT, b.p.sig.Inputs[i].Name, handle(v.internals, "ortValue"))
}

func (b *bound) output(i int, t *graphs.Tensor) error {
	v, err := b.p.outputs[i].take(t)
	if err != nil {
		return err
	}
	b.views = hold(b.views, v)
	return b.bind(C.BIND_OUTPUT, b.p.sig.Outputs[i].Name, handle(v.internals, "ortValue"))
}

// hold adds a view to those that are given back in the end.
func hold(views []*view, v *view) []*view {
	if slices.Contains(views, v) {
		v.release()
		return views
	}
	return append(views, v)
}

func (b *bound) run(ctx context.Context, stop *stopper) error {
	var options unsafe.Pointer
	if stop != nil {
		options = handle(stop.opts, "o")
	}
	if err := failure(C.ort_run(b.session, options, b.io)); err != nil {
		if cerr := ctx.Err(); cerr != nil {
			return fmt.Errorf("stopped: %w", cerr)
		}
		return kernelError(b.p.types, err)
	}
	for _, v := range b.views {
		if v.fetch != nil {
			v.fetch()
		}
	}
	return nil
}

// hand ties the state that b has left to an input of next.
func (b *bound) hand(next *bound, input string) error {
	var value unsafe.Pointer
	if err := failure(C.ort_output(b.io, C.size_t(len(b.p.outputs)-1), &value)); err != nil {
		return err
	}
	defer C.ort_release(C.RELEASE_VALUE, value)
	return next.bind(C.BIND_INPUT, input, value)
}

func (b *bound) close() {
	if b.io != nil {
		C.ort_release(C.RELEASE_IO_BINDING, b.io)
	}
	if b.memory != nil {
		C.ort_release(C.RELEASE_MEMORY_INFO, b.memory)
	}
	if b.staging.value != nil {
		C.ort_release(C.RELEASE_VALUE, b.staging.value)
	}
	if b.staging.allocator != nil {
		C.ort_release(C.RELEASE_ALLOCATOR, b.staging.allocator)
	}
	for _, v := range slices.Concat(b.inputs, b.views) {
		v.release()
	}
}
