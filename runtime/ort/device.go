//go:build cgo && (linux || darwin)

package ort

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdint.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

// The library's table of functions, which only grows at its end. The binding wraps
// most of it; these few it does not, or not for memory of a device.
enum {
	GET_ERROR_MESSAGE = 2,
	CREATE_TENSOR_AS_ORT_VALUE = 48,
	GET_TENSOR_MUTABLE_DATA = 51,
	CREATE_MEMORY_INFO = 68,
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
	ADD_RUN_CONFIG_ENTRY = 165,
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
// ort_tensor makes a tensor in memory of an allocator and gives its address.
static status *ort_tensor(void *alloc, const int64_t *dims, size_t rank, int type, void **value, void **data) {
	status *s = ((status *(*)(void *, const int64_t *, size_t, int, void **))api[CREATE_TENSOR_AS_ORT_VALUE])(alloc, dims, rank, type, value);
	return s != NULL ? s : ((status *(*)(void *, void **))api[GET_TENSOR_MUTABLE_DATA])(*value, data);
}
static status *ort_allocator(void *session, void *memory, void **out) {
	return ((status *(*)(void *, void *, void **))api[CREATE_ALLOCATOR])(session, memory, out);
}
static status *ort_initializers(void *options, const char *const *names, void *const *values, size_t n) {
	return ((status *(*)(void *, const char *const *, void *const *, size_t))api[ADD_EXTERNAL_INITIALIZERS])(options, names, values, n);
}
static status *ort_run_config(void *options, const char *key, const char *value) {
	return ((status *(*)(void *, const char *, const char *))api[ADD_RUN_CONFIG_ENTRY])(options, key, value);
}

// Memory of a device is copied to and from by the runtime that the provider's library is linked to.
static int (*device_copy)(void *, const void *, size_t, int);
static int (*device_wait)(void *);
static int ort_load_copy(const char *provider) {
	void *lib = dlopen(provider, RTLD_LAZY | RTLD_NOLOAD);
	if (lib == NULL) return 0;
	device_copy = (int (*)(void *, const void *, size_t, int))dlsym(lib, "cudaMemcpy");
	device_wait = (int (*)(void *))dlsym(lib, "cudaStreamSynchronize");
	return device_copy != NULL && device_wait != NULL;
}
// ort_copy returns when all of it is there: a copy to a device may be under way when cudaMemcpy returns.
static int ort_copy(int device, void *dst, const void *src, size_t n) {
	const int either_way = 4;
	if (device) {
		int failed = device_copy(dst, src, n, either_way);
		return failed ? failed : device_wait(NULL);
	}
	memcpy(dst, src, n);
	return 0;
}
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"sync"
	"unsafe"

	onnx "github.com/yalue/onnxruntime_go"

	"ebmrun/graphs"
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

// bound is a session's inputs and outputs tied to memory.
type bound struct {
	p           *program
	session, io unsafe.Pointer
}

// open makes a binding of p's session.
func (p *program) open() (*bound, error) {
	b := &bound{p: p, session: handle(p.session, "s", "ortSession")}
	return b, failure(C.ort_binding(b.session, &b.io))
}

func (b *bound) bind(what C.int, name string, value unsafe.Pointer) error {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	if err := failure(C.ort_bind(what, b.io, text, value)); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	return nil
}

func (b *bound) run(ctx context.Context, o *onnx.RunOptions) error {
	var options unsafe.Pointer
	if o != nil {
		options = handle(o, "o")
	}
	if err := failure(C.ort_run(b.session, options, b.io)); err != nil {
		if cerr := ctx.Err(); cerr != nil {
			return fmt.Errorf("stopped: %w", cerr)
		}
		return kernelError(b.p.types, err)
	}
	return nil
}

func (b *bound) close() {
	release(C.RELEASE_IO_BINDING, b.io)
}

// runOptions are those of a run that is captured as graph, or replays it, of a run that is neither for
// graph "-1". A session that captures nothing ignores this.
func runOptions(graph string) (*onnx.RunOptions, error) {
	o, err := onnx.NewRunOptions()
	if err != nil || graph == "" {
		return o, err
	}
	if err := loadAPI(); err != nil {
		o.Destroy()
		return nil, err
	}
	key, value := C.CString("gpu_graph_id"), C.CString(graph)
	defer C.free(unsafe.Pointer(key))
	defer C.free(unsafe.Pointer(value))
	if err := failure(C.ort_run_config(handle(o, "o"), key, value)); err != nil {
		o.Destroy()
		return nil, err
	}
	return o, nil
}

// A buffer is a tensor in memory of an allocator of the library, which does not move.
type buffer struct {
	value, data unsafe.Pointer
	size        int  // bytes
	device      bool // not the processor's memory
}

// buffer makes one with room for a tensor like t.
func (p *program) buffer(allocator unsafe.Pointer, t *graphs.Tensor, device bool) (*buffer, error) {
	b := &buffer{size: t.Len() * t.Type.Bits() / 8, device: device}
	dims := make([]C.int64_t, len(t.Dims)+1) // one more, so that there is a first
	for i, d := range t.Dims {
		dims[i] = C.int64_t(d)
	}
	return b, failure(C.ort_tensor(allocator, &dims[0], C.size_t(len(t.Dims)), C.int(t.Type), &b.value, &b.data))
}

func (b *buffer) load(t *graphs.Tensor) error { return b.copy(b.data, address(t), b.size) }

func (b *buffer) store(t *graphs.Tensor) error { return b.copy(address(t), b.data, b.size) }

func (b *buffer) copy(dst, src unsafe.Pointer, n int) error {
	device := C.int(0)
	if b.device {
		device = 1
	}
	if n == 0 {
		return nil
	}
	if code := C.ort_copy(device, dst, src, C.size_t(n)); code != 0 {
		return fmt.Errorf("copying %d bytes to or from the device: CUDA error %d", n, code)
	}
	return nil
}

func address(t *graphs.Tensor) unsafe.Pointer { return reflect.ValueOf(t.Data).UnsafePointer() }

// allocator makes the one of memory by the library's name.
func (p *program) allocator(name string) (unsafe.Pointer, error) {
	var memory, allocator unsafe.Pointer
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	if err := failure(C.ort_memory(text, &memory)); err != nil {
		return nil, err
	}
	defer C.ort_release(C.RELEASE_MEMORY_INFO, memory)
	err := failure(C.ort_allocator(handle(p.session, "s", "ortSession"), memory, &allocator))
	return allocator, err
}

func release(what C.int, p unsafe.Pointer) {
	if p != nil {
		C.ort_release(what, p)
	}
}

// loadCopy finds the functions that copy to and from the memory of a device, once a provider that
// computes there is loaded.
var loadCopy = sync.OnceValue(func() error {
	for provider := range memories {
		path := C.CString(filepath.Join(filepath.Dir(loaded.Path), "libonnxruntime_providers_"+provider+".so"))
		defer C.free(unsafe.Pointer(path))
		if C.ort_load_copy(path) != 0 {
			return nil
		}
	}
	return errors.New("the provider is not linked to a libcudart that can be shared")
})

// free frees a loop's memory.
func (l *loop) free() {
	for _, b := range l.buffers {
		release(C.RELEASE_VALUE, b.value)
	}
	for _, a := range l.memories {
		release(C.RELEASE_ALLOCATOR, a)
	}
}

func (b *bound) bindInput(i int, to *buffer) error {
	return b.bind(C.BIND_INPUT, b.p.sig.Inputs[i].Name, to.value)
}

func (b *bound) bindOutput(i int, to *buffer) error {
	return b.bind(C.BIND_OUTPUT, b.p.sig.Outputs[i].Name, to.value)
}
