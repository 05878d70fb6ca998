package graphs

import "fmt"

// A DType is an ONNX tensor element type. The numbers are those of the ONNX
// wire format (TensorProto.DataType).
type DType int32

// The element types that have a Go representation; others are kept as raw bytes.
const (
	Undefined DType = 0
	Float32   DType = 1
	Uint8     DType = 2
	Int8      DType = 3
	Uint16    DType = 4
	Int16     DType = 5
	Int32     DType = 6
	Int64     DType = 7
	String    DType = 8
	Bool      DType = 9
	Float16   DType = 10
	Float64   DType = 11
	Uint32    DType = 12
	Uint64    DType = 13
	BFloat16  DType = 16
)

var dtypeNames = map[DType]string{
	Undefined: "undefined", Float32: "float32", Uint8: "uint8", Int8: "int8", Uint16: "uint16",
	Int16: "int16", Int32: "int32", Int64: "int64", String: "string", Bool: "bool",
	Float16: "float16", Float64: "float64", Uint32: "uint32", Uint64: "uint64",
	14: "complex64", 15: "complex128", BFloat16: "bfloat16", 17: "float8e4m3fn", 18: "float8e4m3fnuz",
	19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4", 23: "float4e2m1",
	24: "float8e8m0", 25: "uint2", 26: "int2",
}

// String returns the type's name as the ONNX documents spell it, with bit widths.
func (t DType) String() string {
	if s, ok := dtypeNames[t]; ok {
		return s
	}
	return fmt.Sprintf("dtype(%d)", int32(t))
}

// IsFloat reports whether a gradient can flow through values of type t.
func (t DType) IsFloat() bool {
	return t == Float32 || t == Float64 || t == Float16 || t == BFloat16
}

// Bits is the storage width of one element, 0 for strings and unknown types.
func (t DType) Bits() int {
	switch t {
	case Uint8, Int8, Bool, 17, 18, 19, 20, 24:
		return 8
	case Uint16, Int16, Float16, BFloat16:
		return 16
	case Float32, Int32, Uint32:
		return 32
	case Int64, Float64, Uint64, 14:
		return 64
	case 15:
		return 128
	case 21, 22, 23:
		return 4
	case 25, 26:
		return 2
	}
	return 0
}
