// Package onnxio reads and writes .onnx files: the bytes of an ONNX ModelProto
// on one side, a [graphs.Model] on the other.
//
// Nothing is lost on the way. What the model types do not hold (fields of newer
// ONNX versions, training information, sparse tensors, annotations, the way a
// tensor is stored, whether an empty field was written) travels in their Wire
// fields, so that a file read and written again is equal field by field. The
// one exception is a graph whose nodes are not in topological order: it is
// sorted.
//
// Input is not trusted: sizes are checked against the bytes present before
// anything is allocated for them, and every refusal is one line that names the
// file, the place and the fault.
package onnxio

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxpb"

	"google.golang.org/protobuf/proto"
)

// The versions of the ai.onnx operator set that the op tables of this module
// cover.
const (
	MinOpset = 9
	MaxOpset = 25
)

// maxFile is the largest size of a protobuf message, and so of a model file.
const maxFile = math.MaxInt32

// maxDepth bounds the nesting of subgraphs.
const maxDepth = 64

// CheckOpset reports an ai.onnx operator set outside [MinOpset, MaxOpset], in
// the model or in one of its functions. Reading and writing accept any.
func CheckOpset(m *graphs.Model) error {
	if m.Opset("") == 0 && m.Graph != nil && len(m.Graph.Nodes) > 0 {
		return fmt.Errorf("onnx: opset ai.onnx: wanted %d to %d, got none", MinOpset, MaxOpset)
	}
	lists := [][]graphs.Opset{m.Opsets}
	for _, f := range m.Functions {
		lists = append(lists, f.Opsets)
	}
	for _, list := range lists {
		for _, o := range list {
			if (o.Domain == "" || o.Domain == "ai.onnx") && (o.Version < MinOpset || o.Version > MaxOpset) {
				return fmt.Errorf("onnx: opset ai.onnx: wanted %d to %d, got %d", MinOpset, MaxOpset, o.Version)
			}
		}
	}
	return nil
}

// Decode reads a model from the bytes of a .onnx file. Tensors kept in other
// files are refused, as there is no folder to look in; see [Read].
func Decode(b []byte) (*graphs.Model, error) {
	m, err := decode(b, nil)
	if err != nil {
		return nil, &refusal{"", err}
	}
	return m, nil
}

// Read reads a .onnx file. External tensor data is looked up in the file's own
// folder and nowhere else.
func Read(path string) (*graphs.Model, error) {
	m, err := read(path)
	if err != nil {
		return nil, &refusal{path + ": ", err}
	}
	return m, nil
}

func read(path string) (*graphs.Model, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, plain(err)
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if st.Size() > maxFile {
		return nil, fmt.Errorf("file holds %d bytes, a model at most %d", st.Size(), maxFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, plain(err)
	}
	dir := &folder{path: filepath.Dir(path)}
	defer dir.close()
	return decode(b, dir)
}

// Encode returns the bytes of a .onnx file. Equal models give equal bytes. All
// tensors are embedded, those read from external files too; a model beyond the
// 2 GiB limit of the format is refused, see [Write].
func Encode(m *graphs.Model) ([]byte, error) {
	p, err := (&encoder{}).model(m)
	if err == nil {
		var b []byte
		if b, err = marshal(p); err == nil {
			return b, nil
		}
	}
	return nil, &refusal{"", err}
}

// Apart is [Encode] without the elements of large initializers of floats: the bytes
// refer to them as external data in a file that there is not, and they are returned,
// in order, to be handed to a reader beside the bytes.
func Apart(m *graphs.Model) (b []byte, large []*graphs.Value, err error) {
	e := &encoder{later: map[*onnxpb.TensorProto]*graphs.Tensor{}}
	p, err := e.model(m)
	if err != nil {
		return nil, nil, &refusal{"", err}
	}
	for i, tp := range p.Graph.Initializer {
		t := e.later[tp]
		switch {
		case t == nil:
		case t.Type.IsFloat() && rawSize(t) >= minLifted:
			tp.DataLocation = onnxpb.TensorProto_EXTERNAL.Enum()
			tp.ExternalData = []*onnxpb.StringStringEntryProto{{Key: proto.String("location"), Value: proto.String("memory")}}
			large = append(large, m.Graph.Inits[i])
		default:
			if err := embed(tp, t); err != nil {
				return nil, nil, &refusal{"", err}
			}
		}
	}
	if b, err = marshal(p); err != nil {
		return nil, nil, &refusal{"", err}
	}
	return b, large, nil
}

func marshal(p *onnxpb.ModelProto) ([]byte, error) {
	if err := fitsFile(proto.Size(p)); err != nil {
		return nil, err
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(p)
}

func fitsFile(n int) error {
	if n > maxFile {
		return fmt.Errorf("model needs %d bytes, a file holds at most %d without external data", n, maxFile)
	}
	return nil
}

// Write writes a .onnx file; nothing is seen under the path until it is
// complete. Tensors that were read from external files, and all large ones if
// the model would pass 2 GiB, go to a second file beside it, path + ".data".
func Write(path string, m *graphs.Model) error {
	return write(path, m, weightBytes(m) > maxFile-(64<<20))
}

// WriteExternal is [Write] with every large tensor in the second file.
func WriteExternal(path string, m *graphs.Model) error { return write(path, m, true) }

func write(path string, m *graphs.Model, all bool) (err error) {
	defer func() {
		if err != nil {
			err = &refusal{path + ": ", err}
		}
	}()
	ext := &dataFile{path: path + ".data", all: all}
	defer ext.abort()
	e := &encoder{ext: ext, later: map[*onnxpb.TensorProto]*graphs.Tensor{}}
	p, err := e.model(m)
	if err != nil {
		return err
	}
	parts, err := split(p, e.later)
	if err != nil {
		return err
	}
	f, err := createTemp(path)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err = stream(f, parts); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := ext.commit(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// createTemp opens a new file in the folder of path, under a name of its own.
func createTemp(path string) (*os.File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*.tmp")
	if err != nil {
		return nil, plain(err)
	}
	if err := f.Chmod(0o644); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, err
	}
	return f, nil
}

// A refusal is an error as this package hands it out: one line of bounded
// length, even if the fault lies deep in nested subgraphs.
type refusal struct {
	file string
	err  error
}

func (r *refusal) Error() string {
	s := r.err.Error()
	if len(s) > 600 {
		s = strings.ToValidUTF8(s[:200], "") + " … " + strings.ToValidUTF8(s[len(s)-400:], "")
	}
	return "onnx: " + r.file + s
}

func (r *refusal) Unwrap() error { return r.err }

// q quotes a name from a file for an error message, cut if it is very long.
func q(s string) string { return `"` + clip(s) + `"` }

// clip makes a name from a file fit to be shown on one line.
func clip(s string) string {
	if len(s) > 100 {
		s = strings.ToValidUTF8(s[:100], "") + "…"
	}
	s = strconv.Quote(s)
	return s[1 : len(s)-1]
}
