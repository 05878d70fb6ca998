package onnxio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxpb"

	"google.golang.org/protobuf/proto"
)

// form is the way the elements of a tensor are stored.
type form int

const (
	raw      form = iota // raw_data
	typed                // float_data and its kin
	external             // another file
	verbatim             // kept in the Wire, as the elements do not give it back
)

// tensorWire is the Wire of a tensor: its message, without the elements unless
// the form is verbatim.
type tensorWire struct {
	proto *onnxpb.TensorProto
	form  form
}

// tensor decodes p and takes its elements out of it.
func (d *decoder) tensor(p *onnxpb.TensorProto) (*graphs.Tensor, error) {
	t := &graphs.Tensor{Type: graphs.DType(p.GetDataType()), Dims: make([]int, len(p.Dims))}
	if t.Type != graphs.String && t.Type.Bits() == 0 {
		return nil, fmt.Errorf("unknown element type %d", p.GetDataType())
	}
	if err := checkDims(p.Dims); err != nil {
		return nil, err
	}
	for i, n := range p.Dims {
		t.Dims[i] = int(n)
	}
	w := &tensorWire{proto: p}
	t.Wire = w
	exact := true
	var err error
	switch {
	case p.GetDataLocation() == onnxpb.TensorProto_EXTERNAL:
		w.form = external
		t.Data, err = d.ext.tensor(p, t.Type, t.Dims)
	case len(p.RawData) > 0 || p.RawData != nil && t.Len() == 0:
		t.Data, err = graphs.DecodeRaw(t.Type, p.RawData, t.Len())
		if t.Type == graphs.Bool {
			for _, b := range p.RawData {
				exact = exact && b <= 1
			}
		}
	default:
		w.form = typed
		t.Data, exact, err = typedData(p, t)
	}
	if err != nil {
		return nil, err
	}
	if !exact {
		w.form = verbatim
	}
	switch w.form {
	case raw:
		p.RawData = nil
	case typed:
		setTyped(p, t.Type, nil)
	case verbatim:
		p.RawData = bytes.Clone(p.RawData) // may be the file's
	}
	p.Dims = nil
	return t, nil
}

func checkDims(dims []int64) error {
	if len(dims) > 64 {
		return fmt.Errorf("tensor has %d dimensions, wanted at most 64", len(dims))
	}
	return graphs.CheckDims(dims)
}

// typedLen is the number of entries in the typed field for n elements.
func typedLen(t graphs.DType, n int) int {
	switch bits := t.Bits(); {
	case t == 14 || t == 15: // complex numbers are pairs
		return 2 * n
	case bits > 0 && bits < 8:
		return (n*bits + 7) / 8
	}
	return n
}

// typedData decodes the typed field that belongs to the element type. It also
// reports whether encoding the result gives the field back.
func typedData(p *onnxpb.TensorProto, t *graphs.Tensor) (data any, exact bool, err error) {
	want, got := typedLen(t.Type, t.Len()), 0
	switch t.Type {
	case graphs.Float32, 14:
		got = len(p.FloatData)
	case graphs.Float64, 15:
		got = len(p.DoubleData)
	case graphs.Int64:
		got = len(p.Int64Data)
	case graphs.Uint32, graphs.Uint64:
		got = len(p.Uint64Data)
	case graphs.String:
		got = len(p.StringData)
	default:
		got = len(p.Int32Data)
	}
	if got != want {
		return nil, false, fmt.Errorf("%v tensor of dims %v needs %d entries, got %d", t.Type, t.Dims, want, got)
	}
	exact = true
	switch t.Type {
	case graphs.Float32:
		data = notNil(p.FloatData)
	case graphs.Float64:
		data = notNil(p.DoubleData)
	case graphs.Int64:
		data = notNil(p.Int64Data)
	case graphs.Uint64:
		data = notNil(p.Uint64Data)
	case graphs.String:
		data = notNil(p.StringData)
	case graphs.Int32:
		data = notNil(p.Int32Data)
	case graphs.Uint32:
		data, exact = narrow[uint32](p.Uint64Data)
	case graphs.Int16:
		data, exact = narrow[int16](p.Int32Data)
	case graphs.Int8:
		data, exact = narrow[int8](p.Int32Data)
	case graphs.Uint16, graphs.Float16, graphs.BFloat16:
		data, exact = narrow[uint16](p.Int32Data)
	case graphs.Bool:
		out := make([]bool, got)
		for i, x := range p.Int32Data {
			out[i] = x != 0
			exact = exact && uint32(x) <= 1
		}
		data = out
	case 14:
		out := make([]byte, 0, 4*got)
		for _, f := range p.FloatData {
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(f))
		}
		data = out
	case 15:
		out := make([]byte, 0, 8*got)
		for _, f := range p.DoubleData {
			out = binary.LittleEndian.AppendUint64(out, math.Float64bits(f))
		}
		data = out
	default: // uint8 and the packed types
		data, exact = narrow[uint8](p.Int32Data)
	}
	return data, exact, nil
}

// setTyped stores data, of the Go type that belongs to t, in its typed field;
// nil clears the field.
func setTyped(p *onnxpb.TensorProto, t graphs.DType, data any) {
	switch t {
	case graphs.Float32:
		p.FloatData, _ = data.([]float32)
	case graphs.Float64:
		p.DoubleData, _ = data.([]float64)
	case graphs.Int64:
		p.Int64Data, _ = data.([]int64)
	case graphs.Uint64:
		p.Uint64Data, _ = data.([]uint64)
	case graphs.String:
		p.StringData, _ = data.([][]byte)
	case graphs.Int32:
		p.Int32Data, _ = data.([]int32)
	case graphs.Uint32:
		p.Uint64Data = nil
		if v, ok := data.([]uint32); ok {
			p.Uint64Data, _ = narrow[uint64](v)
		}
	case 14:
		p.FloatData = nil
		b, _ := data.([]byte)
		for ; len(b) >= 4; b = b[4:] {
			p.FloatData = append(p.FloatData, math.Float32frombits(binary.LittleEndian.Uint32(b)))
		}
	case 15:
		p.DoubleData = nil
		b, _ := data.([]byte)
		for ; len(b) >= 8; b = b[8:] {
			p.DoubleData = append(p.DoubleData, math.Float64frombits(binary.LittleEndian.Uint64(b)))
		}
	default:
		p.Int32Data = nil
		switch v := data.(type) {
		case []int16:
			p.Int32Data, _ = narrow[int32](v)
		case []int8:
			p.Int32Data, _ = narrow[int32](v)
		case []uint16:
			p.Int32Data, _ = narrow[int32](v)
		case []uint8:
			p.Int32Data, _ = narrow[int32](v)
		case []bool:
			p.Int32Data = make([]int32, len(v))
			for i, b := range v {
				if b {
					p.Int32Data[i] = 1
				}
			}
		}
	}
}

func notNil[T any](v []T) []T {
	if v == nil {
		return []T{}
	}
	return v
}

// narrow converts integers and reports whether all of them fit.
func narrow[D, S int8 | int16 | int32 | uint8 | uint16 | uint32 | uint64](v []S) (out []D, exact bool) {
	out, exact = make([]D, len(v)), true
	for i, x := range v {
		out[i] = D(x)
		exact = exact && S(out[i]) == x
	}
	return out, exact
}

// tensor encodes t in the form it was read from; raw if it was made in memory.
func (e *encoder) tensor(t *graphs.Tensor) (*onnxpb.TensorProto, error) {
	p, bare, err := e.bare(t)
	if err != nil || !bare {
		return p, err
	}
	return p, embed(p, t)
}

// embed puts the elements of t into its message, raw.
func embed(p *onnxpb.TensorProto, t *graphs.Tensor) (err error) {
	if p.RawData, err = graphs.EncodeRaw(t); p.RawData == nil {
		p.RawData = []byte{}
	}
	return err
}

// bare is [encoder.tensor] that leaves raw elements out and says so.
func (e *encoder) bare(t *graphs.Tensor) (p *onnxpb.TensorProto, bare bool, err error) {
	if t == nil {
		return nil, false, errors.New("tensor is missing")
	}
	if err := checkData(t); err != nil {
		return nil, false, err
	}
	p, f := &onnxpb.TensorProto{}, raw
	if w, ok := t.Wire.(*tensorWire); ok && w.proto.GetDataType() == int32(t.Type) {
		p, f = proto.Clone(w.proto).(*onnxpb.TensorProto), w.form
	}
	p.DataType = proto.Int32(int32(t.Type))
	p.Dims = make([]int64, len(t.Dims))
	for i, n := range t.Dims {
		p.Dims[i] = int64(n)
	}
	if f == verbatim {
		return p, false, nil
	}
	if t.Type == graphs.String {
		setTyped(p, t.Type, t.Data)
		return p, false, nil
	}
	if e.ext.wants(t, f) {
		return p, false, e.ext.add(p, t)
	}
	if f == external {
		p.DataLocation, p.ExternalData = nil, nil
	}
	if f == typed {
		setTyped(p, t.Type, t.Data)
		return p, false, nil
	}
	return p, true, nil
}

// checkData reports elements of another type or number than t declares.
func checkData(t *graphs.Tensor) error {
	if t.Type != graphs.String && t.Type.Bits() == 0 {
		return fmt.Errorf("unknown element type %d", int32(t.Type))
	}
	dims := make([]int64, len(t.Dims))
	for i, n := range t.Dims {
		dims[i] = int64(n)
	}
	if err := checkDims(dims); err != nil {
		return err
	}
	want := reflect.TypeOf(graphs.NewTensor(t.Type, 0).Data)
	if got := reflect.TypeOf(t.Data); got != want {
		return fmt.Errorf("%v tensor holds %v, wanted %v", t.Type, got, want)
	}
	n := t.Len()
	if want.Elem().Kind() == reflect.Uint8 {
		n = (n*t.Type.Bits() + 7) / 8
	}
	if got := reflect.ValueOf(t.Data).Len(); got != n {
		return fmt.Errorf("%v tensor of dims %v needs %d entries, got %d", t.Type, t.Dims, n, got)
	}
	return nil
}
