package weights

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/nlpodyssey/safetensors"

	"ebmrun/graphs"
)

// maxHeader bounds the header of a safetensors file: room for tens of thousands
// of tensors.
const maxHeader = 16 << 20

var safeTypes = map[graphs.DType]safetensors.DType{
	graphs.Bool: safetensors.BOOL, graphs.Uint8: safetensors.U8, graphs.Int8: safetensors.I8,
	graphs.Int16: safetensors.I16, graphs.Uint16: safetensors.U16, graphs.Float16: safetensors.F16, graphs.BFloat16: safetensors.BF16,
	graphs.Int32: safetensors.I32, graphs.Uint32: safetensors.U32, graphs.Float32: safetensors.F32,
	graphs.Float64: safetensors.F64, graphs.Int64: safetensors.I64, graphs.Uint64: safetensors.U64,
}

// Safetensors writes a safetensors file; about is text that it says about
// itself, nil for none.
func Safetensors(dst io.Writer, w Tensors, about map[string]string) error {
	if err := w.check(); err != nil {
		return err
	}
	views := map[string]view{}
	for _, name := range w.names() {
		t := w[name]
		typ, ok := safeTypes[t.Type]
		if !ok {
			return fmt.Errorf("weights: tensor %s: safetensors has no type for %v", quote(name), t.Type)
		}
		raw, err := graphs.EncodeRaw(t)
		if err != nil {
			return fmt.Errorf("weights: tensor %s: %w", quote(name), err)
		}
		views[name] = view{typ, t.Dims, raw}
	}
	if err := safetensors.SerializeToWriter(views, about, dst); err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	return nil
}

// view is a tensor as the library writes it; the library's own kind knows no scalars.
type view struct {
	typ  safetensors.DType
	dims []int
	raw  []byte
}

func (v view) DType() safetensors.DType { return v.typ }
func (v view) Data() []byte             { return v.raw }
func (v view) DataLen() uint64          { return uint64(len(v.raw)) }

func (v view) Shape() []uint64 {
	shape := make([]uint64, len(v.dims))
	for i, d := range v.dims {
		shape[i] = uint64(d)
	}
	return shape
}

func readSafetensors(b []byte) (Tensors, map[string]string, error) {
	if len(b) < 8 {
		return nil, nil, fmt.Errorf("neither a safetensors nor an npz file: %d bytes", len(b))
	}
	if n := binary.LittleEndian.Uint64(b); n > maxHeader || n > uint64(len(b)-8) {
		return nil, nil, fmt.Errorf("neither a safetensors nor an npz file: header of %d bytes, want at most %d", n, min(maxHeader, len(b)-8))
	}
	_, head, err := safetensors.ReadMetadata(b)
	if err != nil {
		return nil, nil, err
	}
	file, err := safetensors.Deserialize(b)
	if err != nil {
		return nil, nil, err
	}
	types := map[safetensors.DType]graphs.DType{}
	for g, s := range safeTypes {
		types[s] = g
	}
	w := Tensors{}
	for _, v := range file.Tensors() {
		data := v.TensorView.Data()
		typ := types[v.TensorView.DType()]
		d, err := dims(v.TensorView.Shape(), typ.Bits()/8, len(data))
		if err != nil {
			return nil, nil, fmt.Errorf("tensor %s: %w", quote(v.Name), err)
		}
		t := &graphs.Tensor{Type: typ, Dims: d}
		if t.Data, err = graphs.DecodeRaw(typ, data, t.Len()); err != nil {
			return nil, nil, fmt.Errorf("tensor %s: %w", quote(v.Name), err)
		}
		w[v.Name] = t
	}
	return w, head.Metadata(), nil
}
