// Package weights writes the weights of a model to safetensors and npz files,
// under the names that they have in its .onnx file, and reads them back.
//
// [Of] takes the weights out of a model, [Safetensors] and [NPZ] write them,
// [Read] reads either format, and [Into] puts them into a model of the same
// network. Equal weights give equal bytes.
//
// Files are not trusted: sizes are checked against the bytes that are there
// before anything is allocated for them, and a refusal is one line that names
// the file, the tensor and the fault.
package weights

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
)

// Tensors are weights by name.
type Tensors map[string]*graphs.Tensor

// maxBytes bounds a file, and what a compressed one may hold.
const maxBytes = 4 << 30

// Of returns the weights of a model. They share its memory.
func Of(m *graphs.Model) Tensors {
	w := Tensors{}
	for _, v := range passes.Weights(m.Graph) {
		w[v.Name] = v.Const
	}
	return w
}

// Into returns a copy of m that holds the given weights in place of its own. All
// weights of m must be given, with their types and dimensions, and no others.
func Into(m *onnxmodels.Model, w Tensors) (*onnxmodels.Model, error) {
	c := passes.Clone(m.Model)
	have := map[string]bool{}
	for _, v := range passes.Weights(c.Graph) {
		t := w[v.Name]
		have[v.Name] = true
		switch {
		case t == nil:
			return nil, fmt.Errorf("weights: no tensor %q of the model", v.Name)
		case t.Type != v.Const.Type || !slices.Equal(t.Dims, v.Const.Dims):
			return nil, fmt.Errorf("weights: tensor %q: wanted %v%v, got %v%v", v.Name, v.Const.Type, v.Const.Dims, t.Type, t.Dims)
		}
		v.Const = t
	}
	for _, name := range w.names() {
		if !have[name] {
			return nil, fmt.Errorf("weights: tensor %s is not a weight of the model", quote(name))
		}
	}
	return onnxmodels.Of(c)
}

// Read reads a safetensors or npz file; its first bytes tell which. The second
// result is the text that a safetensors file says about itself, nil if none.
func Read(path string) (Tensors, map[string]string, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("weights: %w", err)
	}
	var w Tensors
	var about map[string]string
	if bytes.HasPrefix(b, []byte("PK")) {
		w, err = readNPZ(b)
	} else {
		w, about, err = readSafetensors(b)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("weights: %s: %s", path, oneLine(err))
	}
	return w, about, nil
}

func readFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s: not a regular file", path)
	case st.Size() > maxBytes:
		return nil, fmt.Errorf("%s: file holds %d bytes, want at most %d", path, st.Size(), int64(maxBytes))
	}
	return os.ReadFile(path)
}

func (w Tensors) names() []string { return slices.Sorted(maps.Keys(w)) }

// check reports the first tensor that cannot be written.
func (w Tensors) check() error {
	for _, name := range w.names() {
		if name == "" || name == "__metadata__" || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
			return fmt.Errorf("weights: tensor %s: the name is empty, reserved or no text", quote(name))
		}
		if t := w[name]; t == nil || t.Len() == 0 {
			return fmt.Errorf("weights: tensor %s: holds no elements", quote(name))
		}
	}
	return nil
}

// dims checks the sizes of a stored tensor whose elements take width bytes and
// that has n bytes of data.
func dims[T int | uint64](shape []T, width, n int) ([]int, error) {
	wide := make([]int64, len(shape))
	for i, d := range shape {
		if uint64(d) > math.MaxInt64 {
			return nil, fmt.Errorf("shape %v: a size is out of range", shape)
		}
		wide[i] = int64(d)
	}
	if err := graphs.CheckDims(wide); err != nil {
		return nil, err
	}
	out := make([]int, len(shape))
	for i, d := range wide {
		out[i] = int(d)
	}
	if want := graphs.Size(out) * width; want != n {
		return nil, fmt.Errorf("shape %v of %d bytes an element wants %d bytes of data, got %d", shape, width, want, n)
	}
	return out, nil
}

// quote shows a name from a file, cut if it is long.
func quote(name string) string {
	if len(name) > 100 {
		name = strings.ToValidUTF8(name[:100], "") + "…"
	}
	return strconv.Quote(name)
}

// oneLine cuts messages that quote a hostile file at length.
func oneLine(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "file is truncated"
	}
	s := strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, err.Error())
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}
