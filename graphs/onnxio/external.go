package onnxio

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxpb"

	"google.golang.org/protobuf/proto"
)

// A folder gives access to the data files beside a model, and to no others:
// absolute paths, "..", and links that lead out are refused.
type folder struct {
	path  string
	root  *os.Root
	files map[string]*input
}

type input struct {
	file *os.File
	size int64
	left int64 // bytes that may still be read; see region
	seen map[region]any
}

// A region of a file read as one kind of tensor. Equal regions share their
// elements; others may overlap only so much, which keeps a small file from
// turning into many large tensors.
type region struct {
	off, n int64
	t      graphs.DType
}

const maxOverlap = 4

func (d *folder) close() {
	for _, in := range d.files {
		in.file.Close()
	}
	if d.root != nil {
		d.root.Close()
	}
}

func (d *folder) open(name string) (*input, error) {
	if in := d.files[name]; in != nil {
		return in, nil
	}
	if !filepath.IsLocal(name) {
		return nil, errors.New("path is not inside the model's folder")
	}
	if d.root == nil {
		root, err := os.OpenRoot(d.path)
		if err != nil {
			return nil, err
		}
		d.root, d.files = root, map[string]*input{}
	}
	// A pipe would block in Open, so look first.
	st, err := d.root.Stat(name)
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, plain(err)
	}
	f, err := d.root.Open(name)
	if err != nil {
		return nil, plain(err)
	}
	in := &input{file: f, size: st.Size(), left: maxOverlap * st.Size(), seen: map[region]any{}}
	d.files[name] = in
	return in, nil
}

// plain drops the operation and path that the caller names anyway.
func plain(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// tensor reads the elements of a tensor that lie in another file.
func (d *folder) tensor(p *onnxpb.TensorProto, t graphs.DType, dims []int) (any, error) {
	var name, off, length string
	for _, e := range p.ExternalData {
		switch e.GetKey() {
		case "location":
			name = e.GetValue()
		case "offset":
			off = e.GetValue()
		case "length":
			length = e.GetValue()
		}
	}
	data, err := d.load(name, off, length, t, dims)
	if err != nil {
		return nil, fmt.Errorf("external data %s: %w", q(name), err)
	}
	return data, nil
}

func (d *folder) load(name, offset, length string, t graphs.DType, dims []int) (any, error) {
	if d == nil {
		return nil, errors.New("only a model read from a file can have any")
	}
	if t.Bits() == 0 {
		return nil, fmt.Errorf("%v elements cannot be external", t)
	}
	n := graphs.Size(dims)
	r := region{n: (int64(n)*int64(t.Bits()) + 7) / 8, t: t}
	if offset != "" {
		var err error
		if r.off, err = strconv.ParseInt(offset, 10, 64); err != nil || r.off < 0 {
			return nil, fmt.Errorf("bad offset %s", q(offset))
		}
	}
	if length != "" {
		got, err := strconv.ParseInt(length, 10, 64)
		if err != nil || got < 0 {
			return nil, fmt.Errorf("bad length %s", q(length))
		}
		if got != r.n {
			return nil, fmt.Errorf("%v tensor of dims %v needs %d bytes, got %d", t, dims, r.n, got)
		}
	}
	in, err := d.open(name)
	if err != nil {
		return nil, err
	}
	if r.off > in.size || r.n > in.size-r.off {
		return nil, fmt.Errorf("wanted %d bytes at %d, the file holds %d", r.n, r.off, in.size)
	}
	if data, ok := in.seen[r]; ok {
		return data, nil
	}
	if in.left -= r.n; in.left < 0 {
		return nil, errors.New("too many tensors overlap")
	}
	b := make([]byte, r.n)
	if _, err := io.ReadFull(io.NewSectionReader(in.file, r.off, r.n), b); err != nil {
		return nil, plain(err)
	}
	data, err := graphs.DecodeRaw(t, b, n)
	if err == nil {
		in.seen[r] = data
	}
	return data, err
}

// A dataFile collects tensors in a file beside the model. The file is made when
// the first one arrives.
type dataFile struct {
	path string
	all  bool // all large tensors, not just those that were external before
	tmp  *os.File
	off  int64
}

const (
	minExternal = 1024 // bytes; smaller tensors stay in the model
	pageSize    = 4096 // lets a reader map the tensors into memory
)

func (d *dataFile) wants(t *graphs.Tensor, f form) bool {
	return d != nil && (f == external || d.all && t.Len()*t.Type.Bits() >= 8*minExternal)
}

// add appends the elements of t and makes p refer to them.
func (d *dataFile) add(p *onnxpb.TensorProto, t *graphs.Tensor) error {
	n, err := rawSize(t), error(nil)
	if d.tmp == nil {
		if d.tmp, err = createTemp(d.path); err != nil {
			return err
		}
	}
	if n >= minExternal {
		d.off = (d.off + pageSize - 1) / pageSize * pageSize
	}
	if err := writeRaw(io.NewOffsetWriter(d.tmp, d.off), t); err != nil {
		return err
	}
	p.DataLocation = onnxpb.TensorProto_EXTERNAL.Enum()
	p.ExternalData = nil
	for _, e := range [][2]string{
		{"location", filepath.Base(d.path)},
		{"offset", strconv.FormatInt(d.off, 10)},
		{"length", strconv.Itoa(n)},
	} {
		p.ExternalData = append(p.ExternalData, &onnxpb.StringStringEntryProto{Key: proto.String(e[0]), Value: proto.String(e[1])})
	}
	d.off += int64(n)
	return nil
}

// commit moves the finished file to its place.
func (d *dataFile) commit() error {
	if d.tmp == nil {
		return nil
	}
	if err := d.tmp.Sync(); err != nil {
		return err
	}
	if err := d.tmp.Close(); err != nil {
		return err
	}
	if err := os.Rename(d.tmp.Name(), d.path); err != nil {
		return err
	}
	d.tmp = nil
	return nil
}

// abort removes what was not committed.
func (d *dataFile) abort() {
	if d.tmp != nil {
		d.tmp.Close()
		os.Remove(d.tmp.Name())
	}
}

// weightBytes is the size of all tensors of a model, in their raw form.
func weightBytes(m *graphs.Model) int {
	if m == nil || m.Graph == nil {
		return 0
	}
	total := 0
	var graph func(g *graphs.Graph)
	graph = func(g *graphs.Graph) {
		for _, v := range g.Inits {
			if v.Const != nil {
				total += v.Const.Len() * v.Const.Type.Bits() / 8
			}
		}
		for _, n := range g.Nodes {
			for _, a := range n.Attrs {
				if a.T != nil {
					total += a.T.Len() * a.T.Type.Bits() / 8
				}
				for _, s := range subgraphs(a) {
					graph(s)
				}
			}
		}
	}
	graph(m.Graph)
	return total
}
