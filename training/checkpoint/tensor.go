package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/nlpodyssey/safetensors"
)

// Element is a type that a tensor may hold.
type Element interface {
	float32 | float64 | int64 | uint64 | uint8
}

// Tensor is a block of numbers in row-major order. Data is a []float32, []float64, []int64,
// []uint64 or []uint8 with as many elements as the product of Shape; an empty Shape is a scalar.
type Tensor struct {
	Shape []int
	Data  any
}

// Scalar returns a tensor of one number and no axes.
func Scalar[T Element](v T) Tensor { return Tensor{Data: []T{v}} }

// ErrUnfit is what [Values] fails with: the checkpoint is of another network or data.
var ErrUnfit = errors.New("checkpoint: a tensor does not fit")

// unfit is ErrUnfit with a text of its own.
type unfit struct{ error }

func (unfit) Is(target error) bool { return target == ErrUnfit }

// Values returns the data of the named tensor, not a copy. It fails when the tensor is missing,
// holds another type, or has another shape than the one given (no shape: a scalar).
func Values[T Element](s *State, name string, shape ...int) ([]T, error) {
	t, ok := s.Tensors[name]
	if !ok {
		return nil, unfit{fmt.Errorf("checkpoint: step %d: no tensor %q", s.Step, name)}
	}
	data, ok := t.Data.([]T)
	if !ok {
		return nil, unfit{fmt.Errorf("checkpoint: step %d: tensor %q: got %T, want %T", s.Step, name, t.Data, data)}
	}
	if !slices.Equal(t.Shape, shape) {
		return nil, unfit{fmt.Errorf("checkpoint: step %d: tensor %q: got shape %v, want %v", s.Step, name, t.Shape, shape)}
	}
	return data, nil
}

// dtype returns the stored type and the element count of t's data.
func (t Tensor) dtype() (safetensors.DType, int, error) {
	switch d := t.Data.(type) {
	case []float32:
		return safetensors.F32, len(d), nil
	case []float64:
		return safetensors.F64, len(d), nil
	case []int64:
		return safetensors.I64, len(d), nil
	case []uint64:
		return safetensors.U64, len(d), nil
	case []uint8:
		return safetensors.U8, len(d), nil
	}
	return 0, 0, fmt.Errorf("got data %T, want []float32, []float64, []int64, []uint64 or []uint8", t.Data)
}

// check reports whether data and shape agree.
func (t Tensor) check() error {
	_, n, err := t.dtype()
	if err != nil {
		return err
	}
	want, err := elements(t.Shape)
	if err != nil {
		return err
	}
	if n != want {
		return fmt.Errorf("shape %v: got %d elements, want %d", t.Shape, n, want)
	}
	return nil
}

// elements returns the product of shape, refusing negative sizes and overflow.
func elements(shape []int) (int, error) {
	n := 1
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("shape %v: negative size", shape)
		}
		if d != 0 && n > math.MaxInt/8/d {
			return 0, fmt.Errorf("shape %v: too many elements", shape)
		}
		n *= d
	}
	return n, nil
}

// encode returns the little-endian bytes of t's data.
func (t Tensor) encode() []byte {
	var b bytes.Buffer
	b.Grow(binary.Size(t.Data))
	binary.Write(&b, binary.LittleEndian, t.Data) // a Buffer takes every write and check has seen the type
	return b.Bytes()
}

// decode turns little-endian bytes into the data of a tensor of type dt.
func decode(dt safetensors.DType, raw []byte) (any, error) {
	n := len(raw) / int(dt.Size())
	var data any
	switch dt {
	case safetensors.F32:
		data = make([]float32, n)
	case safetensors.F64:
		data = make([]float64, n)
	case safetensors.I64:
		data = make([]int64, n)
	case safetensors.U64:
		data = make([]uint64, n)
	case safetensors.U8:
		return raw, nil
	default:
		return nil, fmt.Errorf("unsupported type %v", dt)
	}
	_, err := binary.Decode(raw, binary.LittleEndian, data)
	return data, err
}
