package graphs

import (
	"encoding/binary"
	"fmt"
	"math"
)

// MaxElements bounds the size of one tensor; larger products of dimensions are
// treated as overflow.
const MaxElements = 1 << 40

// A Tensor is a dense, row-major constant or host array. Data is a Go slice of
// the element type: []float32, []float64, []int64, []int32, []int16, []int8,
// []uint64, []uint32, []uint16 (also Float16 and BFloat16 as bits), []uint8,
// []bool, [][]byte for strings, or []byte with the packed little-endian bytes
// for every other type. Tensors in a graph are never modified in place: a
// changed constant is a new Tensor.
type Tensor struct {
	Type DType
	Dims []int
	Data any

	// Wire is the wire form a tensor was read from, kept so that writing it back
	// gives the same bytes (raw or typed storage, external location, doc string).
	// It is owned by graphs/onnxio and nil for tensors made in memory.
	Wire any
}

// NewTensor returns a zero tensor of type t and the given dimensions.
func NewTensor(t DType, dims ...int) *Tensor {
	n := Size(dims)
	x := &Tensor{Type: t, Dims: append([]int{}, dims...)}
	switch t {
	case Float32:
		x.Data = make([]float32, n)
	case Float64:
		x.Data = make([]float64, n)
	case Int64:
		x.Data = make([]int64, n)
	case Int32:
		x.Data = make([]int32, n)
	case Int16:
		x.Data = make([]int16, n)
	case Int8:
		x.Data = make([]int8, n)
	case Uint64:
		x.Data = make([]uint64, n)
	case Uint32:
		x.Data = make([]uint32, n)
	case Uint16, Float16, BFloat16:
		x.Data = make([]uint16, n)
	case Uint8:
		x.Data = make([]uint8, n)
	case Bool:
		x.Data = make([]bool, n)
	case String:
		x.Data = make([][]byte, n)
	default:
		x.Data = make([]byte, (n*t.Bits()+7)/8)
	}
	return x
}

// Of wraps data in a tensor without copying it. It panics if the length does
// not match the dimensions, which is a bug of the caller.
func Of[T float32 | float64 | int64 | int32 | int16 | int8 | uint64 | uint32 | uint8 | bool](data []T, dims ...int) *Tensor {
	if Size(dims) != len(data) {
		panic(fmt.Sprintf("graphs: tensor of dims %v needs %d elements, got %d", dims, Size(dims), len(data)))
	}
	var t DType
	switch any(data).(type) {
	case []float32:
		t = Float32
	case []float64:
		t = Float64
	case []int64:
		t = Int64
	case []int32:
		t = Int32
	case []int16:
		t = Int16
	case []int8:
		t = Int8
	case []uint64:
		t = Uint64
	case []uint32:
		t = Uint32
	case []uint8:
		t = Uint8
	case []bool:
		t = Bool
	}
	return &Tensor{Type: t, Dims: append([]int{}, dims...), Data: data}
}

// Ints returns a one-dimensional int64 tensor.
func Ints(v ...int64) *Tensor { return Of(v, len(v)) }

// Size is the number of elements of a tensor with the given dimensions.
func Size(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

// CheckDims reports negative or overflowing dimensions.
func CheckDims(dims []int64) error {
	n := int64(1)
	for _, d := range dims {
		switch {
		case d < 0:
			return fmt.Errorf("negative dimension in %v", dims)
		case d > 0 && n > MaxElements/d:
			return fmt.Errorf("dimensions %v overflow", dims)
		default:
			n *= d
		}
	}
	return nil
}

// Len is the number of elements.
func (t *Tensor) Len() int { return Size(t.Dims) }

// F32 returns the elements of a Float32 tensor, nil for any other type.
func (t *Tensor) F32() []float32 { v, _ := t.Data.([]float32); return v }

// F64 returns the elements of a Float64 tensor, nil for any other type.
func (t *Tensor) F64() []float64 { v, _ := t.Data.([]float64); return v }

// I64 returns the elements of an Int64 tensor, nil for any other type.
func (t *Tensor) I64() []int64 { v, _ := t.Data.([]int64); return v }

// AsInts returns the elements of any integer or bool tensor as int64.
func (t *Tensor) AsInts() ([]int64, error) {
	switch v := t.Data.(type) {
	case []int64:
		return append([]int64{}, v...), nil
	case []int32:
		return convert[int64](v), nil
	case []int16:
		return convert[int64](v), nil
	case []int8:
		return convert[int64](v), nil
	case []uint8:
		return convert[int64](v), nil
	case []uint32:
		return convert[int64](v), nil
	case []uint64:
		return convert[int64](v), nil
	case []uint16:
		if t.Type == Uint16 {
			return convert[int64](v), nil
		}
	case []bool:
		out := make([]int64, len(v))
		for i, b := range v {
			if b {
				out[i] = 1
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("tensor of type %v does not hold integers", t.Type)
}

// AsFloats returns the elements of any numeric tensor as float64.
func (t *Tensor) AsFloats() ([]float64, error) {
	switch v := t.Data.(type) {
	case []float64:
		return append([]float64{}, v...), nil
	case []float32:
		return convert[float64](v), nil
	case []uint16:
		if t.Type == Float16 || t.Type == BFloat16 {
			out := make([]float64, len(v))
			for i, h := range v {
				if t.Type == Float16 {
					out[i] = float64(HalfToFloat(h))
				} else {
					out[i] = float64(math.Float32frombits(uint32(h) << 16))
				}
			}
			return out, nil
		}
	}
	ints, err := t.AsInts()
	if err != nil {
		return nil, fmt.Errorf("tensor of type %v does not hold numbers", t.Type)
	}
	return convert[float64](ints), nil
}

func convert[D, S int64 | int32 | int16 | int8 | uint64 | uint32 | uint16 | uint8 | float32 | float64](v []S) []D {
	out := make([]D, len(v))
	for i, x := range v {
		out[i] = D(x)
	}
	return out
}

// FromFloats returns a tensor of type t (float, integer or bool) with the given
// values rounded to it.
func FromFloats(t DType, v []float64, dims ...int) (*Tensor, error) {
	x := &Tensor{Type: t, Dims: append([]int{}, dims...)}
	switch t {
	case Float64:
		x.Data = append([]float64{}, v...)
	case Float32:
		x.Data = convert[float32](v)
	case Int64:
		x.Data = convert[int64](v)
	case Int32:
		x.Data = convert[int32](v)
	case Int16:
		x.Data = convert[int16](v)
	case Int8:
		x.Data = convert[int8](v)
	case Uint64:
		x.Data = convert[uint64](v)
	case Uint32:
		x.Data = convert[uint32](v)
	case Uint16:
		x.Data = convert[uint16](v)
	case Uint8:
		x.Data = convert[uint8](v)
	case Bool:
		b := make([]bool, len(v))
		for i, f := range v {
			b[i] = f != 0
		}
		x.Data = b
	case Float16:
		h := make([]uint16, len(v))
		for i, f := range v {
			h[i] = FloatToHalf(float32(f))
		}
		x.Data = h
	case BFloat16:
		h := make([]uint16, len(v))
		for i, f := range v {
			h[i] = FloatToBFloat(float32(f))
		}
		x.Data = h
	default:
		return nil, fmt.Errorf("graphs: no conversion to type %v", t)
	}
	return x, nil
}

// DecodeRaw turns packed little-endian bytes into the Data of a tensor of type
// t with n elements. The bytes are copied.
func DecodeRaw(t DType, raw []byte, n int) (any, error) {
	if t == String {
		return nil, fmt.Errorf("strings cannot be stored as raw bytes")
	}
	bits := t.Bits()
	if bits == 0 {
		return nil, fmt.Errorf("unknown element type %v", t)
	}
	if want := (n*bits + 7) / 8; len(raw) != want {
		return nil, fmt.Errorf("%v tensor of %d elements needs %d bytes, got %d", t, n, want, len(raw))
	}
	x := NewTensor(t, n)
	switch v := x.Data.(type) {
	case []bool:
		for i, b := range raw {
			v[i] = b != 0
		}
	case []uint8:
		copy(v, raw)
	default:
		if _, err := binary.Decode(raw, binary.LittleEndian, v); err != nil {
			return nil, err
		}
	}
	return x.Data, nil
}

// EncodeRaw is the inverse of [DecodeRaw].
func EncodeRaw(t *Tensor) ([]byte, error) {
	switch v := t.Data.(type) {
	case [][]byte:
		return nil, fmt.Errorf("graphs: strings cannot be stored as raw bytes")
	case []uint8:
		return v, nil
	case []bool:
		out := make([]byte, len(v))
		for i, b := range v {
			if b {
				out[i] = 1
			}
		}
		return out, nil
	case []float32:
		out := make([]byte, 4*len(v))
		for i, f := range v {
			binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(f))
		}
		return out, nil
	default:
		return binary.Append(nil, binary.LittleEndian, v)
	}
}

// HalfToFloat widens an IEEE 754 binary16 number.
func HalfToFloat(h uint16) float32 {
	sign, exp, man := uint32(h>>15)<<31, uint32(h>>10)&0x1f, uint32(h)&0x3ff
	switch {
	case exp == 0x1f:
		return math.Float32frombits(sign | 0xff<<23 | man<<13)
	case exp == 0:
		f := float32(man) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | man<<13)
}

// FloatToHalf rounds to the nearest IEEE 754 binary16 number, ties to even.
func FloatToHalf(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00
	case b >= 0x477ff000: // rounds above the largest finite half
		return sign | 0x7c00
	case b < 0x38800000: // subnormal half
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(b))*(1<<24)))
	}
	b += 0xfff + (b >> 13 & 1) // round to nearest even at bit 13
	return sign | uint16((b-112<<23)>>13)
}

// FloatToBFloat rounds to the nearest bfloat16 number, ties to even.
func FloatToBFloat(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + (b >> 16 & 1)) >> 16)
}
