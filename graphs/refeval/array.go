package refeval

import (
	"fmt"
	"math"

	"ebmrun/graphs"
)

// An array is a value during evaluation: dense, row-major, never modified once
// it is stored, so that reshaped values share their elements. data is
// []float64, []float32, []int64 (all integers and bool) or [][]byte (strings).
type array struct {
	t    graphs.DType
	dims []int
	data any
}

type float interface{ ~float32 | ~float64 }

type number interface{ ~float32 | ~float64 | ~int64 }

// settings are what kernels need to know about the whole evaluation.
type settings struct {
	round   bool
	workers int
	memory  int64
	opset   int64
}

// wide reports whether type t is held as []float64.
func (s *settings) wide(t graphs.DType) bool { return !s.round || t == graphs.Float64 }

func isInt(t graphs.DType) bool {
	switch t {
	case graphs.Int64, graphs.Int32, graphs.Int16, graphs.Int8, graphs.Uint64, graphs.Uint32, graphs.Uint16, graphs.Uint8, graphs.Bool:
		return true
	}
	return false
}

// elements is the number of elements held in data, −1 for a foreign type.
func elements(data any) int {
	switch d := data.(type) {
	case []float64:
		return len(d)
	case []float32:
		return len(d)
	case []int64:
		return len(d)
	case [][]byte:
		return len(d)
	}
	return -1
}

func (a *array) len() int { return graphs.Size(a.dims) }

// with is the same elements under other dimensions.
func (a *array) with(dims []int) *array { return &array{a.t, dims, a.data} }

func (a *array) String() string {
	if a == nil {
		return "<none>"
	}
	return fmt.Sprintf("%v%v", a.t, a.dims)
}

// floats returns the elements of a numeric array as float64; they must not be
// modified.
func (a *array) floats() ([]float64, error) {
	switch d := a.data.(type) {
	case []float64:
		return d, nil
	case []float32:
		return convert[float64](d), nil
	case []int64:
		if a.t == graphs.Uint64 {
			out := make([]float64, len(d))
			for i, v := range d {
				out[i] = float64(uint64(v))
			}
			return out, nil
		}
		return convert[float64](d), nil
	}
	return nil, fmt.Errorf("%v does not hold numbers", a)
}

// ints returns the elements of an integer array; they must not be modified.
func (a *array) ints() ([]int64, error) {
	if d, ok := a.data.([]int64); ok {
		return d, nil
	}
	return nil, fmt.Errorf("%v does not hold integers", a)
}

// scalar is the one integer in a.
func (a *array) scalar() (int64, error) {
	d, err := a.ints()
	if err != nil {
		return 0, err
	}
	if len(d) != 1 {
		return 0, fmt.Errorf("%v is not one number", a)
	}
	return d[0], nil
}

func convert[D, S number](v []S) []D {
	out := make([]D, len(v))
	for i, x := range v {
		out[i] = D(x)
	}
	return out
}

// load wraps or converts a tensor.
func (s *settings) load(t *graphs.Tensor) (*array, error) {
	a := &array{t: t.Type, dims: t.Dims}
	if err := s.check(t.Dims, 0); err != nil {
		return nil, err
	}
	switch {
	case t.Type.IsFloat():
		switch d := t.Data.(type) {
		case []float32:
			a.data = d
			if s.wide(t.Type) {
				a.data = convert[float64](d)
			}
		case []float64:
			a.data = d
		default:
			v, err := t.AsFloats()
			if err != nil {
				return nil, err
			}
			a.data = v
			if !s.wide(t.Type) {
				a.data = convert[float32](v)
			}
		}
	case t.Type == graphs.Int64:
		a.data = t.Data
	case isInt(t.Type):
		v, err := t.AsInts()
		if err != nil {
			return nil, err
		}
		a.data = v
	case t.Type == graphs.String:
		a.data = t.Data
	default:
		return nil, fmt.Errorf("tensors of type %v are not supported", t.Type)
	}
	if n := elements(a.data); n != t.Len() {
		return nil, fmt.Errorf("tensor of type %v and dims %v holds %T of %d elements", t.Type, t.Dims, t.Data, n)
	}
	return a, nil
}

// store is the inverse of load. Floats that are held wide stay Float64 unless
// narrow is set. The tensor shares the array's elements where it can.
func (s *settings) store(a *array, narrow bool) (*graphs.Tensor, error) {
	t := &graphs.Tensor{Type: a.t, Dims: append([]int{}, a.dims...)}
	switch d := a.data.(type) {
	case []float64:
		if a.t == graphs.Float64 || !narrow {
			t.Type, t.Data = graphs.Float64, d
			return t, nil
		}
		return graphs.FromFloats(a.t, d, a.dims...)
	case []float32:
		if a.t == graphs.Float32 {
			t.Data = d
			return t, nil
		}
		return graphs.FromFloats(a.t, convert[float64](d), a.dims...)
	case [][]byte:
		t.Data = d
	case []int64:
		switch a.t {
		case graphs.Int64:
			t.Data = d
		case graphs.Int32:
			t.Data = narrowed[int32](d)
		case graphs.Int16:
			t.Data = narrowed[int16](d)
		case graphs.Int8:
			t.Data = narrowed[int8](d)
		case graphs.Uint64:
			t.Data = narrowed[uint64](d)
		case graphs.Uint32:
			t.Data = narrowed[uint32](d)
		case graphs.Uint16:
			t.Data = narrowed[uint16](d)
		case graphs.Uint8:
			t.Data = narrowed[uint8](d)
		case graphs.Bool:
			b := make([]bool, len(d))
			for i, v := range d {
				b[i] = v != 0
			}
			t.Data = b
		}
	}
	if t.Data == nil {
		return nil, fmt.Errorf("%v cannot be stored", a)
	}
	return t, nil
}

func narrowed[D int32 | int16 | int8 | uint64 | uint32 | uint16 | uint8](v []int64) []D {
	out := make([]D, len(v))
	for i, x := range v {
		out[i] = D(x)
	}
	return out
}

// settle rounds a fresh result to its type: halves when rounding is on, narrow
// integers always.
func (s *settings) settle(a *array) {
	switch d := a.data.(type) {
	case []float32:
		switch a.t {
		case graphs.Float16:
			for i, v := range d {
				d[i] = graphs.HalfToFloat(graphs.FloatToHalf(v))
			}
		case graphs.BFloat16:
			for i, v := range d {
				d[i] = math.Float32frombits(uint32(graphs.FloatToBFloat(v)) << 16)
			}
		}
	case []int64:
		wrapInts(a.t, d)
	}
}

func wrapInts(t graphs.DType, d []int64) {
	switch t {
	case graphs.Int32:
		for i, v := range d {
			d[i] = int64(int32(v))
		}
	case graphs.Int16:
		for i, v := range d {
			d[i] = int64(int16(v))
		}
	case graphs.Int8:
		for i, v := range d {
			d[i] = int64(int8(v))
		}
	case graphs.Uint32:
		for i, v := range d {
			d[i] = int64(uint32(v))
		}
	case graphs.Uint16:
		for i, v := range d {
			d[i] = int64(uint16(v))
		}
	case graphs.Uint8:
		for i, v := range d {
			d[i] = int64(uint8(v))
		}
	}
}
