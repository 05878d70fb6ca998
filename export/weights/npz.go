package weights

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"codeberg.org/sbinet/npyio/npy"
	"codeberg.org/sbinet/npyio/npz"

	"ebmrun/graphs"
)

// npyTypes are the element types of npz files, as their headers name them. Those
// without a letter for the order of bytes have one byte.
var npyTypes = map[string]graphs.DType{
	"|b1": graphs.Bool, "|u1": graphs.Uint8, "|i1": graphs.Int8,
	"<u2": graphs.Uint16, "<i2": graphs.Int16, "<f2": graphs.Float16,
	"<u4": graphs.Uint32, "<i4": graphs.Int32, "<f4": graphs.Float32,
	"<u8": graphs.Uint64, "<i8": graphs.Int64, "<f8": graphs.Float64,
}

// NPZ writes an npz file, to be read with numpy.load. Floats of 16 bits are
// refused.
func NPZ(dst io.Writer, w Tensors) error {
	if err := w.check(); err != nil {
		return err
	}
	z := npz.NewWriter(dst)
	for _, name := range w.names() {
		v, err := nested(w[name])
		if err != nil {
			return fmt.Errorf("weights: tensor %s: %w", quote(name), err)
		}
		if err := z.Write(name+".npy", v); err != nil {
			return fmt.Errorf("weights: tensor %s: %w", quote(name), err)
		}
	}
	return z.Close()
}

// NPY writes one array, to be read with numpy.load.
func NPY(dst io.Writer, t *graphs.Tensor) error {
	v, err := nested(t)
	if err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	return npy.Write(dst, v)
}

// nested gives a tensor the form that the writer takes its shape from: slices of
// slices over the same memory, or a number where there are no axes.
func nested(t *graphs.Tensor) (any, error) {
	known := slices.Contains(slices.Collect(maps.Values(npyTypes)), t.Type) && t.Type != graphs.Float16
	if !known || t.Len() == 0 {
		return nil, fmt.Errorf("NumPy's format has no form for %v%v", t.Type, t.Dims)
	}
	v := reflect.ValueOf(t.Data)
	if len(t.Dims) == 0 {
		return v.Index(0).Interface(), nil
	}
	for i := len(t.Dims) - 1; i > 0; i-- {
		d := t.Dims[i]
		rows := reflect.MakeSlice(reflect.SliceOf(v.Type()), v.Len()/d, v.Len()/d)
		for k := range rows.Len() {
			rows.Index(k).Set(v.Slice(k*d, (k+1)*d))
		}
		v = rows
	}
	return v.Interface(), nil
}

func readNPZ(b []byte) (Tensors, error) {
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	w, left := Tensors{}, int64(maxBytes)
	for _, f := range z.File {
		name := strings.TrimSuffix(f.Name, ".npy")
		if w[name] != nil {
			return nil, fmt.Errorf("tensor %s: listed twice", quote(name))
		}
		raw, err := unpack(f, left)
		if err == nil {
			left -= int64(len(raw))
			w[name], err = array(raw)
		}
		if err != nil {
			return nil, fmt.Errorf("tensor %s: %w", quote(name), err)
		}
	}
	return w, nil
}

// unpack reads an entry of at most limit bytes; memory grows with what is there,
// not with what the entry claims.
func unpack(f *zip.File, limit int64) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("the file unpacks to more than %d bytes", int64(maxBytes))
	}
	return raw, err
}

// array reads the bytes of an npy file.
func array(raw []byte) (*graphs.Tensor, error) {
	r := bytes.NewReader(raw)
	head, err := header(r)
	if err != nil {
		return nil, err
	}
	kind := strings.Trim(head.Descr.Type, `'"`)
	typ, ok := npyTypes[kind]
	switch {
	case !ok:
		return nil, fmt.Errorf("element type %.20q, want a little-endian number", kind)
	case head.Descr.Fortran && len(head.Descr.Shape) > 1:
		return nil, errors.New("the array is in Fortran order, want C order (numpy.ascontiguousarray)")
	}
	d, err := dims(head.Descr.Shape, typ.Bits()/8, r.Len())
	if err != nil {
		return nil, err
	}
	t := &graphs.Tensor{Type: typ, Dims: d}
	t.Data, err = graphs.DecodeRaw(typ, raw[len(raw)-r.Len():], t.Len())
	return t, err
}

// header reads the header of an npy file. The parser indexes into malformed text
// without looking; what it trips over is an error here. It also makes room for
// the length that the file claims, so that is checked first.
func header(r *bytes.Reader) (h npy.Header, err error) {
	var start struct {
		Magic        [6]byte
		Major, Minor uint8
		Length       uint32
	}
	err = binary.Read(io.NewSectionReader(r, 0, r.Size()), binary.LittleEndian, &start)
	switch {
	case err != nil:
		return h, err
	case start.Major == 2 && int64(start.Length) > r.Size():
		return h, io.ErrUnexpectedEOF
	}
	defer func() {
		if recover() != nil {
			err = errors.New("not the header of a NumPy array")
		}
	}()
	in, err := npy.NewReader(r)
	if err != nil {
		return h, err
	}
	return in.Header, nil
}
