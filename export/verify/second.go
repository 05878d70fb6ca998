package verify

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/owulveryck/onnx-go"
	"gonum.org/v1/gonum/graph"
	"gonum.org/v1/gonum/graph/simple"
	"gorgonia.org/tensor"

	"ebmrun/graphs"
)

// A reading is a file as onnx-go tells it to a backend: values, each with the
// operation that makes it.
type reading struct {
	model  *onnx.Model
	values map[int64]*value
}

// value is a node of the graph that onnx-go builds, which has one for each value
// of the file.
type value struct {
	id     int64
	name   string
	tensor tensor.Tensor
	op     *onnx.Operation // nil for inputs and weights
	in     []*value
}

func (v *value) ID() int64                       { return v.id }
func (v *value) SetName(name string)             { v.name = name }
func (v *value) GetName() string                 { return v.name }
func (v *value) SetTensor(t tensor.Tensor) error { v.tensor = t; return nil }
func (v *value) GetTensor() tensor.Tensor        { return v.tensor }

// backend is the side of a reading that onnx-go writes to. Edges lead from a value
// to those that it is made of. The embedded graph merges the two edges of x·x, so
// it is not asked.
type backend struct {
	*simple.WeightedDirectedGraph
	*reading
}

func (b *backend) NewNode() graph.Node {
	return &value{id: b.WeightedDirectedGraph.NewNode().ID()}
}

func (b *backend) AddNode(n graph.Node) {
	b.values[n.ID()] = n.(*value)
	b.WeightedDirectedGraph.AddNode(n)
}

func (b *backend) SetWeightedEdge(e graph.WeightedEdge) {
	v := e.From().(*value)
	v.in = append(v.in, e.To().(*value))
}

func (b *backend) ApplyOperation(op onnx.Operation, outputs ...graph.Node) error {
	for i, n := range outputs {
		if i == 0 {
			n.(*value).op = &op
		} else {
			n.(*value).op = &onnx.Operation{Name: op.Name + " with several outputs"}
		}
	}
	return nil
}

// parse reads a file. Weights come before nodes: they are there even if the
// error says that a node could not be read.
func parse(file []byte) (r *reading, err error) {
	r = &reading{values: map[int64]*value{}}
	r.model = onnx.NewModel(&backend{simple.NewWeightedDirectedGraph(0, 0), r})
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("onnx-go cannot read the file: %v", p)
		}
	}()
	err = r.model.UnmarshalBinary(file)
	var unknown *onnx.ErrNotImplemented
	if errors.As(err, &unknown) {
		what := strings.Join(strings.Fields(unknown.Message), " ")
		return r, fmt.Errorf("onnx-go does not read attribute %q (%s)", unknown.AttributeName, what)
	}
	return r, err
}

// tensor returns a weight, nil if there is none of the name.
func (r *reading) tensor(name string) *graphs.Tensor {
	n, ok := r.model.GetNodeByName(name)
	if !ok {
		return nil
	}
	return toHost(n.(*value).tensor)
}

func (r *reading) outputs() (names []string) {
	for _, id := range r.model.Output {
		names = append(names, r.values[id].name)
	}
	return names
}

// run computes one output with the arithmetic of gorgonia's tensors.
func (r *reading) run(output string, in map[string]*graphs.Tensor) (t *graphs.Tensor, err error) {
	n, ok := r.model.GetNodeByName(output)
	if !ok {
		return nil, fmt.Errorf("no value %q", output)
	}
	// The library panics on some shapes that do not fit.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("gorgonia's tensors cannot do this: %v", p)
		}
	}()
	done := map[*value]tensor.Tensor{}
	for _, id := range r.model.Input {
		v := r.values[id]
		if x := in[v.name]; x != nil && x.F32() != nil {
			done[v] = tensor.New(tensor.WithShape(x.Dims...), tensor.WithBacking(append([]float32(nil), x.F32()...)))
		}
	}
	y, err := compute(n.(*value), done)
	if err != nil {
		return nil, err
	}
	return toHost(y), nil
}

func compute(v *value, done map[*value]tensor.Tensor) (tensor.Tensor, error) {
	if t := done[v]; t != nil {
		return t, nil
	}
	if v.op == nil {
		if v.tensor == nil {
			return nil, fmt.Errorf("value %q has no content", v.name)
		}
		return v.tensor, nil
	}
	f := ops[v.op.Name]
	if f == nil {
		return nil, fmt.Errorf("op %s is not among those that gorgonia's tensors can do", v.op.Name)
	}
	in := make([]tensor.Tensor, len(v.in))
	for i, w := range v.in {
		t, err := compute(w, done)
		if err != nil {
			return nil, err
		}
		in[i] = t
	}
	t, err := f(v.op.Attributes, in)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", v.op.Name, v.name, err)
	}
	done[v] = t
	return t, nil
}

type attributes map[string]any

// ops are the operations of a multi-layer perceptron.
var ops = map[string]func(attributes, []tensor.Tensor) (tensor.Tensor, error){
	"Gemm": func(a attributes, in []tensor.Tensor) (tensor.Tensor, error) {
		for name, want := range map[string]any{"alpha": float32(1), "beta": float32(1), "transA": int64(0), "transB": int64(0)} {
			if got, ok := a[name]; ok && got != want {
				return nil, fmt.Errorf("attribute %s = %v is not supported", name, got)
			}
		}
		y, err := tensor.MatMul(in[0], in[1])
		if err != nil || len(in) < 3 {
			return y, err
		}
		bias := in[2].Clone().(tensor.Tensor)
		if err := bias.Reshape(1, bias.Shape().TotalSize()); err != nil {
			return nil, err
		}
		rows, err := tensor.Repeat(bias, 0, y.Shape()[0])
		if err != nil {
			return nil, err
		}
		return tensor.Add(y, rows)
	},
	"MatMul": func(_ attributes, in []tensor.Tensor) (tensor.Tensor, error) { return tensor.MatMul(in[0], in[1]) },
	"Add":    elementwise(tensor.Add),
	"Sub":    elementwise(tensor.Sub),
	"Mul":    elementwise(tensor.Mul),
	"Neg":    func(_ attributes, in []tensor.Tensor) (tensor.Tensor, error) { return tensor.Neg(in[0]) },
	"Tanh":   func(_ attributes, in []tensor.Tensor) (tensor.Tensor, error) { return tensor.Tanh(in[0]) },
	"Sigmoid": func(_ attributes, in []tensor.Tensor) (tensor.Tensor, error) {
		return in[0].Apply(func(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) })
	},
	"Relu": func(_ attributes, in []tensor.Tensor) (tensor.Tensor, error) {
		return in[0].Apply(func(x float32) float32 { return max(x, 0) })
	},
	"LeakyRelu": func(a attributes, in []tensor.Tensor) (tensor.Tensor, error) {
		slope, ok := a["alpha"].(float32)
		if !ok {
			slope = 0.01
		}
		return in[0].Apply(func(x float32) float32 {
			if x < 0 {
				return slope * x
			}
			return x
		})
	},
	"ReduceSum": func(a attributes, in []tensor.Tensor) (tensor.Tensor, error) {
		if len(in) != 2 || a["keepdims"] != int64(0) {
			return nil, errors.New("only sums over given axes that are dropped are supported")
		}
		var axes []int
		for _, axis := range toHost(in[1]).I64() {
			axes = append(axes, int(axis))
		}
		return tensor.Sum(in[0], axes...)
	},
}

// elementwise applies f to tensors of one shape, or to one and a number.
func elementwise(f func(a, b any, _ ...tensor.FuncOpt) (tensor.Tensor, error)) func(attributes, []tensor.Tensor) (tensor.Tensor, error) {
	return func(_ attributes, in []tensor.Tensor) (tensor.Tensor, error) {
		args := make([]any, 2)
		for i, t := range in {
			if args[i] = t; t.IsScalar() {
				args[i] = t.ScalarValue()
			}
		}
		return f(args[0], args[1])
	}
}

// toHost copies a tensor of gorgonia's; nil if it has no form here.
func toHost(t tensor.Tensor) *graphs.Tensor {
	if t == nil {
		return nil
	}
	dims := append([]int{}, t.Shape()...)
	data := t.Data()
	if v, ok := data.(float32); ok {
		data = []float32{v}
	}
	if v, ok := data.(int64); ok {
		data = []int64{v}
	}
	switch v := data.(type) {
	case []float32:
		return graphs.Of(append([]float32(nil), v...), dims...)
	case []float64:
		return graphs.Of(append([]float64(nil), v...), dims...)
	case []int64:
		return graphs.Of(append([]int64(nil), v...), dims...)
	}
	return nil
}
