//go:build cgo

package ort

import (
	"fmt"
	"reflect"
	goruntime "runtime"
	"slices"
	"sync"
	"unsafe"

	onnx "github.com/yalue/onnxruntime_go"

	"ebmrun/graphs"
)

// A view is the library's handle on a tensor's memory.
type view struct {
	onnx.Value                         // of the binding
	internals  *onnx.ValueInternalData // of Value, which would allocate one a call

	addr unsafe.Pointer
	dims []int
	pin  goruntime.Pinner

	// Of scalars only, whose handle holds a copy:
	stale func() bool // reports whether the copy differs from the tensor
	fetch func()      // copies it to the tensor

	slot *slot
	uses int // under slot.mu
	kept bool
}

// GetInternals implements onnx.Value.
func (v *view) GetInternals() *onnx.ValueInternalData { return v.internals }

func (v *view) destroy() {
	v.Value.Destroy()
	v.pin.Unpin()
}

// release gives a view back to its slot.
func (v *view) release() {
	v.slot.mu.Lock()
	defer v.slot.mu.Unlock()
	if v.uses--; v.uses == 0 && !v.kept {
		v.destroy()
	}
}

// How many buffers a program keeps wrapped for each input and output: enough for two that
// take turns, and two to spare; more if so many are in use at once.
const (
	maxViews  = 4
	mostViews = 256
)

// A slot keeps the views of one input or output.
type slot struct {
	value *graphs.Value
	mu    *sync.Mutex
	views []*view
	next  int // to be replaced
}

func newSlots(vs []*graphs.Value) []slot {
	s := make([]slot, len(vs))
	for i, v := range vs {
		s[i] = slot{value: v, mu: new(sync.Mutex)}
	}
	return s
}

// take returns a view of t, to be released after the call. A tensor's memory is
// known by its address: a view keeps it from being freed, so no other tensor can
// come to lie there.
func (s *slot) take(t *graphs.Tensor) (*view, error) {
	addr := reflect.ValueOf(t.Data).UnsafePointer()
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.next
	if at < len(s.views) && s.views[at].uses > 0 && len(s.views) < mostViews {
		at = len(s.views)
	}
	for i, v := range s.views {
		if v.addr != addr || !slices.Equal(v.dims, t.Dims) {
			continue
		}
		if v.stale == nil || !v.stale() {
			v.uses++
			return v, nil
		}
		at = i
		break
	}
	v, err := wrap(t)
	if err != nil {
		return nil, fmt.Errorf("%q: wrapping %v%v: %w", s.value.Name, t.Type, t.Dims, err)
	}
	v.slot, v.addr, v.uses, v.kept = s, addr, 1, true
	if at == len(s.views) {
		s.views = append(s.views, v)
	} else {
		old := s.views[at]
		s.views[at] = v
		if old.kept = false; old.uses == 0 {
			old.destroy()
		}
	}
	if at == s.next {
		s.next = (at + 1) % max(maxViews, len(s.views))
	}
	return v, nil
}

func (s *slot) close() {
	for _, v := range s.views {
		v.destroy()
	}
	s.views = nil
}

// wrap makes a view of t's memory, which stays pinned until the view is destroyed.
func wrap(t *graphs.Tensor) (*view, error) {
	v := &view{dims: slices.Clone(t.Dims)}
	var err error
	switch data := t.Data.(type) {
	case []float32:
		err = wrapSlice(v, data)
	case []float64:
		err = wrapSlice(v, data)
	case []int64:
		err = wrapSlice(v, data)
	case []int32:
		err = wrapSlice(v, data)
	case []int16:
		err = wrapSlice(v, data)
	case []int8:
		err = wrapSlice(v, data)
	case []uint64:
		err = wrapSlice(v, data)
	case []uint32:
		err = wrapSlice(v, data)
	case []uint8:
		err = wrapSlice(v, data)
	case []bool:
		err = wrapSlice(v, data)
	case []uint16:
		if t.Type == graphs.Uint16 {
			err = wrapSlice(v, data)
			break
		}
		err = wrapHalf(v, t.Type, data)
	default:
		err = fmt.Errorf("no handle for %T", data)
	}
	if err != nil {
		return nil, err
	}
	v.internals = v.Value.GetInternals()
	return v, nil
}

func wrapSlice[T onnx.TensorData](v *view, data []T) error {
	if len(v.dims) == 0 {
		s, err := onnx.NewScalar(data[0])
		if err != nil {
			return err
		}
		v.Value = s
		v.stale = func() bool { return s.GetData() != data[0] }
		v.fetch = func() { data[0] = s.GetData() }
		return nil
	}
	if len(data) > 0 {
		v.pin.Pin(&data[0])
	}
	t, err := onnx.NewTensor(shape(v.dims), data)
	if err != nil {
		v.pin.Unpin()
		return err
	}
	v.Value = t
	return nil
}

// wrapHalf wraps 16-bit floats, which the binding knows as bytes.
func wrapHalf(v *view, t graphs.DType, data []uint16) error {
	if len(v.dims) == 0 || len(data) == 0 {
		return fmt.Errorf("the binding has no scalars and no empty tensors of this type: wanted rank 1 or more and at least one element")
	}
	kind := onnx.TensorElementDataType(onnx.TensorElementDataTypeFloat16)
	if t == graphs.BFloat16 {
		kind = onnx.TensorElementDataTypeBFloat16
	}
	v.pin.Pin(&data[0])
	x, err := onnx.NewCustomDataTensor(shape(v.dims), unsafe.Slice((*byte)(unsafe.Pointer(&data[0])), 2*len(data)), kind)
	if err != nil {
		v.pin.Unpin()
		return err
	}
	v.Value = x
	return nil
}

func shape(dims []int) onnx.Shape {
	s := make(onnx.Shape, len(dims))
	for i, d := range dims {
		s[i] = int64(d)
	}
	return s
}

// fetchable reports whether the binding copies a tensor out whose dimensions were
// not known before the call. It gets the size of 16-bit floats wrong, and has no
// scalars here.
func fetchable(v *graphs.Value) bool {
	return v.Type != graphs.Float16 && v.Type != graphs.BFloat16
}

// adopt takes over the content of a tensor that the library made.
func adopt(want *graphs.Value, v onnx.Value) (*graphs.Tensor, error) {
	dims := []int{}
	for _, d := range v.GetShape() {
		dims = append(dims, int(d))
	}
	t := &graphs.Tensor{Type: want.Type, Dims: dims}
	switch x := v.(type) {
	case *onnx.Tensor[float32]:
		t.Data = x.GetData()
	case *onnx.Tensor[float64]:
		t.Data = x.GetData()
	case *onnx.Tensor[int64]:
		t.Data = x.GetData()
	case *onnx.Tensor[int32]:
		t.Data = x.GetData()
	case *onnx.Tensor[int16]:
		t.Data = x.GetData()
	case *onnx.Tensor[int8]:
		t.Data = x.GetData()
	case *onnx.Tensor[uint64]:
		t.Data = x.GetData()
	case *onnx.Tensor[uint32]:
		t.Data = x.GetData()
	case *onnx.Tensor[uint16]:
		t.Data = x.GetData()
	case *onnx.Tensor[uint8]:
		t.Data = x.GetData()
	case *onnx.Tensor[bool]:
		t.Data = x.GetData()
	default:
		return nil, fmt.Errorf("output %q: wanted a tensor of %v, got %T", want.Name, want.Type, v)
	}
	return t, nil
}
