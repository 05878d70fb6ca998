package runtime

import (
	"fmt"
	"reflect"

	"ebmrun/graphs"
)

// A Signature is what a model takes and gives. It checks tensors against it.
type Signature struct {
	Inputs, Outputs []*graphs.Value

	names []string // of symbolic axes
	in    [][]int  // per input and axis: index into names, −1 if not symbolic
	out   [][]int
}

// NewSignature returns the signature of a graph. Inputs with a default are left
// out. Values that are not tensors of numbers are an error.
func NewSignature(g *graphs.Graph) (*Signature, error) {
	s := &Signature{}
	axes := func(v *graphs.Value, add bool) []int {
		idx := make([]int, len(v.Shape))
		for i, d := range v.Shape {
			idx[i] = -1
			if d.Known() || d.Name == "" {
				continue
			}
			for j, n := range s.names {
				if n == d.Name {
					idx[i] = j
				}
			}
			if idx[i] < 0 && add {
				idx[i] = len(s.names)
				s.names = append(s.names, d.Name)
			}
		}
		return idx
	}
	for _, v := range g.Inputs {
		if v.Const != nil {
			continue
		}
		if err := numeric("input", v); err != nil {
			return nil, err
		}
		s.Inputs = append(s.Inputs, edge(v))
		s.in = append(s.in, axes(v, true))
	}
	for _, v := range g.Outputs {
		if err := numeric("output", v); err != nil {
			return nil, err
		}
		s.Outputs = append(s.Outputs, edge(v))
		s.out = append(s.out, axes(v, false))
	}
	if len(s.Outputs) == 0 {
		return nil, fmt.Errorf("graph %q has no outputs", g.Name)
	}
	return s, nil
}

// edge is what is to be known of an input or output. It leads to no node, and so does not
// hold on to a model and its weights.
func edge(v *graphs.Value) *graphs.Value {
	return &graphs.Value{Name: v.Name, Type: v.Type, Shape: v.Shape, Doc: v.Doc}
}

func numeric(role string, v *graphs.Value) error {
	switch {
	case v.Opaque != nil:
		return fmt.Errorf("%s %q is not a tensor", role, v.Name)
	case v.Type == graphs.Undefined:
		return fmt.Errorf("%s %q has no element type", role, v.Name)
	case goTypes[v.Type] == nil:
		return fmt.Errorf("%s %q: tensors of %v cannot be fed or fetched", role, v.Name, v.Type)
	}
	return nil
}

// Check reports the first tensor that does not fit: count, type, rank, known
// sizes, equal sizes on equally named axes, and content that matches the
// dimensions. Nil outputs are fine.
func (s *Signature) Check(in, out []*graphs.Tensor) error {
	if len(in) != len(s.Inputs) {
		return fmt.Errorf("wanted %d inputs, got %d", len(s.Inputs), len(in))
	}
	if len(out) != len(s.Outputs) {
		return fmt.Errorf("wanted %d outputs, got %d", len(s.Outputs), len(out))
	}
	var few [8]int
	sizes := s.sizes(few[:0])
	for i, t := range in {
		if t == nil {
			return fmt.Errorf("input %q: wanted %v%v, got none", s.Inputs[i].Name, s.Inputs[i].Type, s.Inputs[i].Shape)
		}
		if err := s.checkOne("input", s.Inputs[i], s.in[i], t, sizes); err != nil {
			return err
		}
	}
	for i, t := range out {
		if t == nil {
			continue
		}
		if err := s.checkOne("output", s.Outputs[i], s.out[i], t, sizes); err != nil {
			return err
		}
	}
	return s.checkShared(in, out)
}

// checkShared reports outputs that share memory with another tensor: the library
// may write an output before it has read every input.
func (s *Signature) checkShared(in, out []*graphs.Tensor) error {
	var few [96]span
	spans := few[:0]
	for _, t := range in {
		spans = append(spans, spanOf(t))
	}
	for i, t := range out {
		w := spanOf(t)
		for j, r := range spans {
			if !w.overlaps(r) {
				continue
			}
			if j < len(in) {
				return fmt.Errorf("output %q shares memory with input %q", s.Outputs[i].Name, s.Inputs[j].Name)
			}
			return fmt.Errorf("output %q shares memory with output %q", s.Outputs[i].Name, s.Outputs[j-len(in)].Name)
		}
		spans = append(spans, w)
	}
	return nil
}

func (s *Signature) sizes(buf []int) []int {
	for range s.names {
		buf = append(buf, -1)
	}
	return buf
}

func (s *Signature) checkOne(role string, v *graphs.Value, axes []int, t *graphs.Tensor, sizes []int) error {
	ok := t.Type == v.Type && (v.Shape == nil || len(t.Dims) == len(v.Shape))
	for i := 0; ok && i < len(v.Shape); i++ {
		ok = t.Dims[i] >= 0 && (!v.Shape[i].Known() || int64(t.Dims[i]) == v.Shape[i].N)
	}
	if !ok {
		return fmt.Errorf("%s %q: wanted %v%v, got %v%v", role, v.Name, v.Type, v.Shape, t.Type, t.Dims)
	}
	for i, a := range axes {
		switch {
		case a < 0:
		case sizes[a] < 0:
			sizes[a] = t.Dims[i]
		case sizes[a] != t.Dims[i]:
			return fmt.Errorf("%s %q: axis %d (%s) wanted %d as in the tensors before it, got %d",
				role, v.Name, i, s.names[a], sizes[a], t.Dims[i])
		}
	}
	if n := dataLen(t); n != t.Len() {
		return fmt.Errorf("%s %q: dims %v want %d elements, got %T of %d", role, v.Name, t.Dims, t.Len(), t.Data, n)
	}
	return nil
}

// OutputDims returns the dimensions of output i for the given inputs, which must
// have passed Check; ok is false if they are known only after running.
func (s *Signature) OutputDims(i int, in []*graphs.Tensor) (dims []int, ok bool) {
	shape := s.Outputs[i].Shape
	if shape == nil {
		return nil, false
	}
	dims = make([]int, len(shape))
	for j, d := range shape {
		switch {
		case d.Known():
			dims[j] = int(d.N)
		case s.out[i][j] < 0:
			return nil, false
		default:
			dims[j] = s.size(s.out[i][j], in)
		}
	}
	return dims, true
}

func (s *Signature) size(name int, in []*graphs.Tensor) int {
	for i, axes := range s.in {
		for j, a := range axes {
			if a == name {
				return in[i].Dims[j]
			}
		}
	}
	return 0
}

// goTypes are the slices that hold the elements of a tensor that can be fed.
var goTypes = map[graphs.DType]reflect.Type{
	graphs.Float32: reflect.TypeFor[[]float32](), graphs.Float64: reflect.TypeFor[[]float64](),
	graphs.Float16: reflect.TypeFor[[]uint16](), graphs.BFloat16: reflect.TypeFor[[]uint16](),
	graphs.Int64: reflect.TypeFor[[]int64](), graphs.Int32: reflect.TypeFor[[]int32](),
	graphs.Int16: reflect.TypeFor[[]int16](), graphs.Int8: reflect.TypeFor[[]int8](),
	graphs.Uint64: reflect.TypeFor[[]uint64](), graphs.Uint32: reflect.TypeFor[[]uint32](),
	graphs.Uint16: reflect.TypeFor[[]uint16](), graphs.Uint8: reflect.TypeFor[[]uint8](),
	graphs.Bool: reflect.TypeFor[[]bool](),
}

// dataLen is the number of elements in t.Data, −1 if it is not the slice that
// t.Type wants.
func dataLen(t *graphs.Tensor) int {
	v := reflect.ValueOf(t.Data)
	if !v.IsValid() || v.Type() != goTypes[t.Type] {
		return -1
	}
	return v.Len()
}

// A span is the range of addresses that a tensor's elements take.
type span struct{ from, to uintptr }

func spanOf(t *graphs.Tensor) span {
	if t == nil {
		return span{}
	}
	v := reflect.ValueOf(t.Data)
	from := v.Pointer()
	return span{from, from + uintptr(v.Len()*t.Type.Bits()/8)}
}

func (a span) overlaps(b span) bool { return a.from < b.to && b.from < a.to }
