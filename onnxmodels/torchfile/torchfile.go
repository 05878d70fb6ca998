// Package torchfile reads the weights that PyTorch's save writes: a file .pth or
// .pt with a dictionary of tensors, in the ZIP form of today or the plain one of
// before version 1.6.
//
// Such a file is a program for Python's pickle machine. [Read] runs the part of
// that machine that dictionaries of tensors need; a file that names any other
// class or function is refused, and nothing of it is ever called.
package torchfile

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"

	"ebmrun/graphs"
)

// maxBytes bounds the program and a single storage (4 GiB).
const maxBytes = 4 << 30

// Read returns the tensors of a file by name. One in a dictionary within has both
// names, as "model/head.weight".
func Read(file string) (map[string]*graphs.Tensor, error) {
	tensors, err := read(file)
	if err != nil {
		return nil, fmt.Errorf("torchfile: %s: %w", file, err)
	}
	return tensors, nil
}

func read(file string) (map[string]*graphs.Tensor, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return readFrom(f, info.Size())
}

func readFrom(f io.ReaderAt, size int64) (map[string]*graphs.Tensor, error) {
	var root any
	archive, err := zip.NewReader(f, size)
	if err == nil {
		root, err = readZip(archive)
	} else {
		root, err = readPlain(bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 1<<16))
	}
	if err != nil {
		return nil, err
	}
	out := map[string]*graphs.Tensor{}
	c := collector{out: out, entries: maxEntries, bytes: maxGrowth*size + 1<<20}
	if err := c.collect("", root, 0); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, errors.New("wanted a dictionary of tensors, got none")
	}
	return out, nil
}

// readZip reads the program of NAME/data.pkl, and the storages NAME/data/KEY as
// it names them.
func readZip(z *zip.Reader) (any, error) {
	var program *zip.File
	for _, f := range z.File {
		if path.Base(f.Name) == "data.pkl" && strings.Count(f.Name, "/") == 1 {
			program = f
		}
	}
	if program == nil {
		return nil, errors.New("a ZIP file without data.pkl")
	}
	dir := path.Dir(program.Name)
	files := map[string]*zip.File{}
	for _, f := range z.File {
		files[f.Name] = f
	}
	content := func(name string) ([]byte, error) {
		f := files[name]
		if f == nil {
			return nil, fmt.Errorf("%q: %w", name, fs.ErrNotExist)
		}
		if f.Method != zip.Store { // as PyTorch writes them; nothing grows
			return nil, fmt.Errorf("%q is compressed", name)
		}
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(io.LimitReader(r, maxBytes))
	}
	if order, err := content(dir + "/byteorder"); err == nil && strings.TrimSpace(string(order)) != "little" {
		return nil, fmt.Errorf("wanted little-endian numbers, got %q", order)
	}
	text, err := content(program.Name)
	if err != nil {
		return nil, err
	}
	m := machine{in: bufio.NewReader(bytes.NewReader(text)), storages: map[string]*storage{}}
	root, err := m.run()
	for key, s := range m.storages {
		if err == nil {
			s.raw, err = content(dir + "/data/" + key)
		}
	}
	return root, err
}

// magic begins the plain form.
const magic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"

// readPlain reads five programs (a magic number, a version, what the machine was,
// the dictionary, the keys of its storages) and then the storages in that order,
// each a count of numbers and the numbers.
func readPlain(in *bufio.Reader) (any, error) {
	m := machine{in: in, storages: map[string]*storage{}}
	var parts [5]any
	for i := range parts {
		var err error
		if parts[i], err = m.run(); err != nil {
			return nil, err
		}
		if i == 0 && parts[0] != integer(magic) {
			return nil, errors.New("not a file of PyTorch's save")
		}
	}
	keys, ok := parts[4].(*list)
	if !ok {
		return nil, fmt.Errorf("wanted the keys of the storages, got %T", parts[4])
	}
	for _, k := range keys.items {
		key, _ := k.(string)
		s := m.storages[key]
		if s == nil {
			return nil, fmt.Errorf("a storage %q that no tensor has", key)
		}
		var n int64
		if err := binary.Read(in, binary.LittleEndian, &n); err != nil {
			return nil, fmt.Errorf("storage %q: %w", key, err)
		}
		if n != s.n {
			return nil, fmt.Errorf("storage %q: wanted %d numbers, got %d", key, s.n, n)
		}
		raw, err := io.ReadAll(io.LimitReader(in, n*int64(s.kind.Bits()/8)))
		if err != nil {
			return nil, err
		}
		s.raw = raw
	}
	return parts[3], nil
}

// kinds are the classes of storages.
var kinds = map[string]graphs.DType{
	"FloatStorage": graphs.Float32, "DoubleStorage": graphs.Float64, "HalfStorage": graphs.Float16, "BFloat16Storage": graphs.BFloat16,
	"LongStorage": graphs.Int64, "IntStorage": graphs.Int32, "ShortStorage": graphs.Int16, "CharStorage": graphs.Int8, "ByteStorage": graphs.Uint8, "BoolStorage": graphs.Bool,
}

// A storage is a run of numbers, which tensors are views of.
type storage struct {
	kind graphs.DType
	n    int64
	raw  []byte
}

// A view is a tensor before its storage is there.
type view struct {
	of           *storage
	offset       int64
	dims, stride []int64
}

// Bounds of what a small file may become: entries of dictionaries within one another,
// and bytes of tensors for each byte of the file (tensors may share a storage).
const (
	maxEntries = 1 << 20
	maxGrowth  = 16
)

// A collector turns the views of dictionaries into tensors.
type collector struct {
	out            map[string]*graphs.Tensor
	entries, bytes int64 // that may still come
}

func (c *collector) collect(prefix string, v any, depth int) error {
	switch v := v.(type) {
	case *view:
		t, err := v.tensor()
		if err != nil {
			return fmt.Errorf("%q: %w", prefix, err)
		}
		if c.bytes -= int64(t.Len()) * int64(t.Type.Bits()/8); c.bytes < 0 {
			return fmt.Errorf("%q: the tensors are larger than %d times the file", prefix, maxGrowth)
		}
		c.out[prefix] = t
	case *dict:
		if depth > 8 {
			return errors.New("dictionaries within one another without end")
		}
		for i, key := range v.keys {
			if c.entries--; c.entries < 0 {
				return errors.New("dictionaries within one another without end")
			}
			name, err := nameOf(key)
			if err != nil {
				return err
			}
			if prefix != "" {
				name = prefix + "/" + name
			}
			if err := c.collect(name, v.values[i], depth+1); err != nil {
				return err
			}
		}
	}
	return nil // numbers and texts beside the tensors, such as an epoch
}

// nameOf is the text of a key.
func nameOf(key any) (string, error) {
	switch key.(type) {
	case string, int64, bool, nil, float:
		return fmt.Sprint(key), nil
	}
	return "", fmt.Errorf("a key that is a %T, wanted a name", key)
}

func (v *view) tensor() (*graphs.Tensor, error) {
	if len(v.dims) != len(v.stride) {
		return nil, fmt.Errorf("%d sizes and %d strides", len(v.dims), len(v.stride))
	}
	if len(v.dims) > 64 {
		return nil, fmt.Errorf("a tensor of %d axes", len(v.dims))
	}
	last, count, dims := v.offset, int64(1), make([]int, len(v.dims))
	for i, d := range v.dims {
		if d < 0 || d > math.MaxInt32 || v.stride[i] < 0 || d > 1 && v.stride[i] > max(v.of.n, 1<<16) {
			return nil, fmt.Errorf("sizes %v, strides %v of %d numbers", v.dims, v.stride, v.of.n)
		}
		dims[i] = int(d)
		if count *= d; count > v.of.n {
			return nil, fmt.Errorf("sizes %v of %d numbers", v.dims, v.of.n)
		}
		if d > 1 {
			last += (d - 1) * v.stride[i]
		}
	}
	size := int64(v.of.kind.Bits() / 8)
	if has := int64(len(v.of.raw)) / size; has != v.of.n {
		return nil, fmt.Errorf("wanted %d numbers, got %d: the file is cut off", v.of.n, has)
	}
	if v.offset < 0 || count > 0 && last >= v.of.n {
		return nil, fmt.Errorf("reaches number %d of %d", last, v.of.n)
	}
	raw := make([]byte, 0, count*size)
	for i := range count {
		at := v.offset
		for axis := len(dims) - 1; axis >= 0; axis-- {
			at += i % v.dims[axis] * v.stride[axis]
			i /= v.dims[axis]
		}
		raw = append(raw, v.of.raw[at*size:(at+1)*size]...)
	}
	data, err := graphs.DecodeRaw(v.of.kind, raw, int(count))
	return &graphs.Tensor{Type: v.of.kind, Dims: dims, Data: data}, err
}
