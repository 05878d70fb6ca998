package passes

import (
	"math"
	"math/rand/v2"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/refeval"
)

// fused evaluates one node of ONNX Runtime's domain as it is spelt out.
func fused(t *testing.T, op string, in []*graphs.Tensor, outputs int, attrs ...*graphs.Attr) [][]float64 {
	t.Helper()
	g := &graphs.Graph{}
	n := &graphs.Node{Name: "fused", Op: op, Domain: microsoft, Attrs: attrs}
	for i, x := range in {
		v := &graphs.Value{Name: string(rune('a' + i)), Type: x.Type, Shape: graphs.MakeShape(x.Dims...)}
		g.Inputs, n.Inputs = append(g.Inputs, v), append(n.Inputs, v)
	}
	for i := range outputs {
		v := &graphs.Value{Name: string(rune('y' + i)), Type: in[0].Type, From: n}
		g.Outputs, n.Outputs = append(g.Outputs, v), append(n.Outputs, v)
	}
	g.Nodes = append(g.Nodes, n)
	m := graphs.NewModel(g)
	m.Opsets = append(m.Opsets, graphs.Opset{Domain: microsoft, Version: 1})
	if err := Raise(m); err != nil {
		t.Fatal(err)
	}
	if len(m.Opsets) != 1 {
		t.Errorf("%s: the model still asks for %v", op, m.Opsets)
	}
	p, err := refeval.New(m.Graph, graphs.OpsetVersion, refeval.Options{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]float64
	for _, y := range out {
		all = append(all, y.F64())
	}
	return all
}

// TestContribOfGPUs: the fused ops that the library has on GPUs only, against loops.
func TestContribOfGPUs(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 7))
	normal := func(dims ...int) *graphs.Tensor {
		v := make([]float64, graphs.Size(dims))
		for i := range v {
			v[i] = r.NormFloat64()
		}
		return graphs.Of(v, dims...)
	}
	x, w, bias := normal(2, 4, 3, 2), normal(5, 2, 1, 2), normal(5)
	conv := make([]float64, 2*3*3*5) // [batch, height, width, channels]
	for i := range conv {
		o, c, row, k := i/45, i/15%3, i/5%3, i%5
		conv[i] = bias.F64()[k]
		for dy := range 2 {
			for ch := range 2 {
				conv[i] += x.F64()[((o*4+row+dy)*3+c)*2+ch] * w.F64()[(k*2+dy)*2+ch]
			}
		}
	}
	byColumn := make([]float64, len(conv)) // the loop above has columns before rows
	for i := range conv {
		o, c, row, k := i/45, i/15%3, i/5%3, i%5
		byColumn[((o*3+row)*3+c)*5+k] = conv[i]
	}
	near(t, "NhwcConv", fused(t, "NhwcConv", []*graphs.Tensor{x, w, bias}, 1), [][]float64{byColumn})

	y, gamma, beta, skip, shift := normal(2, 3, 1, 4), normal(4), normal(4), normal(2, 3, 1, 4), normal(4)
	sum, norm := make([]float64, 24), make([]float64, 24)
	for i := range sum {
		sum[i] = y.F64()[i] + skip.F64()[i] + shift.F64()[i%4]
	}
	for o := range 2 {
		for group := range 2 {
			var at []int
			for p := range 3 {
				at = append(at, (o*3+p)*4+2*group, (o*3+p)*4+2*group+1)
			}
			mean, square := 0.0, 0.0
			for _, i := range at {
				mean += sum[i] / 6
			}
			for _, i := range at {
				square += (sum[i] - mean) * (sum[i] - mean) / 6
			}
			for _, i := range at {
				h := (sum[i]-mean)/math.Sqrt(square+0.1)*gamma.F64()[i%4] + beta.F64()[i%4]
				norm[i] = h / (1 + math.Exp(-h))
			}
		}
	}
	attrs := []*graphs.Attr{graphs.I("groups", 2), graphs.F("epsilon", 0.1), graphs.I("activation", 1)}
	near(t, "SkipGroupNorm", fused(t, "SkipGroupNorm", []*graphs.Tensor{y, gamma, beta, skip, shift}, 2, attrs...), [][]float64{norm, sum})
	near(t, "GroupNorm", fused(t, "GroupNorm", []*graphs.Tensor{graphs.Of(sum, 2, 3, 1, 4), gamma, beta}, 1, attrs...), [][]float64{norm})

	near(t, "BiasAdd", fused(t, "BiasAdd", []*graphs.Tensor{y, shift, skip}, 1), [][]float64{sum})
	split := make([]float64, 12)
	for i := range split {
		a, b := y.F64()[i/2*4+i%2]+shift.F64()[i%2], y.F64()[i/2*4+2+i%2]+shift.F64()[2+i%2]
		split[i] = a * b * (1 + math.Erf(b/math.Sqrt2)) / 2
	}
	near(t, "BiasSplitGelu", fused(t, "BiasSplitGelu", []*graphs.Tensor{y, shift}, 1), [][]float64{split})
}

// TestContribLeft: a form that has no spelling stays as it is, with its domain.
func TestContribLeft(t *testing.T) {
	n := &graphs.Node{Name: "fused", Op: "FusedConv", Domain: microsoft, Inputs: one(input("x", 1, 1, 3, 3), input("w", 1, 1, 1, 1)), Attrs: []*graphs.Attr{graphs.S("activation", "Unheard")}}
	n.Outputs = one(&graphs.Value{Name: "y", Type: graphs.Float32, From: n})
	m := graphs.NewModel(&graphs.Graph{Nodes: []*graphs.Node{n}, Inputs: n.Inputs, Outputs: n.Outputs})
	m.Opsets = append(m.Opsets, graphs.Opset{Domain: microsoft, Version: 1})
	if err := Raise(m); err != nil {
		t.Fatal(err)
	}
	if len(m.Graph.Nodes) != 1 || m.Graph.Nodes[0] != n || m.Opset(microsoft) != 1 {
		t.Errorf("got %s, opsets %v", text(m.Graph), m.Opsets)
	}
}
