//go:build cgo

package ort

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/graphtest"
	"ebmrun/graphs/refeval"
	"ebmrun/runtime"
)

// TestRandomGraphs draws graphs and compares the library's numbers of them and of their
// gradients with the interpreter's. EBM_RANDOM_GRAPHS=10m draws for that long, from the
// seed EBM_SEED.
func TestRandomGraphs(t *testing.T) {
	e := engineFor(t)
	seed, _ := strconv.ParseUint(os.Getenv("EBM_SEED"), 10, 64)
	long, _ := time.ParseDuration(os.Getenv("EBM_RANDOM_GRAPHS"))
	end := time.Now().Add(long)
	seen := map[string]int{}
	for i := uint64(0); i < 25 || time.Now().Before(end); i++ {
		d, err := graphtest.Draw(graphs.Float32, graphtest.Choices(seed<<32+i, 20+int(i%60)))
		if err != nil {
			t.Fatal(err)
		}
		m, err := autodiff.Grad(graphs.NewModel(d.Graph), autodiff.Options{Of: "y0"})
		if err != nil || slices.ContainsFunc(d.Graph.Nodes, faulty) {
			continue
		}
		for k, m := range []*graphs.Model{graphs.NewModel(d.Graph), m} {
			err := agree(t.Context(), e, m, d.In, seen)
			if lacks := (*noResult)(nil); errors.As(err, &lacks) && (k == 0 || strings.Contains(err.Error(), "NOT_IMPLEMENTED") || strings.Contains(err.Error(), "implementation")) {
				seen["not run"]++ // the library has its limits, which a gradient is not to meet where its graph does not
				break
			}
			if err != nil {
				t.Errorf("graph %d of seed %d, gradient %v: %v\n%s", i, seed, k > 0, err, graphtest.Dump(m.Graph))
				break
			}
		}
	}
	t.Log(seen)
	if seen["compared"] < 30 {
		t.Error("too little was compared")
	}
}

// faulty reports forms that ONNX Runtime 1.24 gets wrong, or of which ONNX says nothing.
func faulty(n *graphs.Node) bool {
	empty := func(v *graphs.Value) bool { return v != nil && slices.Contains(v.Shape, graphs.D(0)) }
	switch {
	case n.Op == "AveragePool" || n.Op == "MaxPool": // pads at one end alone or beside dilations are not counted; a window that begins in a pad is
		p, counted := n.Ints("pads"), n.Int("count_include_pad", 0) != 0
		return n.Int("ceil_mode", 0) != 0 || counted && len(p) > 0 && (n.Attr("dilations") != nil || !slices.Equal(p[:len(p)/2], p[len(p)/2:]))
	case n.Op == "Pad" && n.Str("mode", "") != "constant": // by more than there is
		lo, hi, ok, err := graphs.Pads(n, len(n.In(0).Shape))
		for a, d := range n.In(0).Shape {
			if !ok || err != nil || max(lo[a], hi[a]) >= d.N+min(lo[a], 0)+min(hi[a], 0) {
				return true
			}
		}
	case strings.HasPrefix(n.Op, "Reduce"): // of nothing
		return empty(n.In(0))
	}
	return false
}

// A noResult is the library's error.
type noResult struct{ error }

// agree compares the library with the interpreter in float64. Where float32 makes a
// difference to the interpreter too, by rounding at a step or a kink, nothing is said.
func agree(ctx context.Context, e runtime.Engine, m *graphs.Model, in []*graphs.Tensor, seen map[string]int) error {
	p, err := e.Compile(ctx, m, runtime.Options{Threads: 1})
	if err != nil {
		return &noResult{err}
	}
	defer p.Close()
	got := make([]*graphs.Tensor, len(m.Graph.Outputs))
	if err := p.Run(ctx, in, got); err != nil {
		return &noResult{err}
	}
	var want [2][]*graphs.Tensor
	for i, o := range []refeval.Options{{}, {Round: true}} {
		r, err := refeval.New(m.Graph, graphs.OpsetVersion, o)
		if err != nil {
			return err
		}
		if want[i], err = r.Run(ctx, in); err != nil {
			return err
		}
	}
	for i, y := range got {
		name := m.Graph.Outputs[i].Name
		if fmt.Sprint(y.Dims) != fmt.Sprint(want[0][i].Dims) {
			return fmt.Errorf("output %s has the sizes %v, wanted %v", name, y.Dims, want[0][i].Dims)
		}
		exact, rounded := distance(want[0][i], want[1][i]), distance(want[0][i], y)
		switch {
		case exact > 1e-4 || math.IsNaN(exact):
			seen["sensitive"]++
		case !(rounded < 1e-3):
			a, _ := y.AsFloats()
			b, _ := want[0][i].AsFloats()
			return fmt.Errorf("output %s is %v, wanted %v", name, a, b)
		default:
			seen["compared"]++
		}
	}
	return nil
}

// distance is the largest difference between two tensors, relative to the largest element.
func distance(x, y *graphs.Tensor) float64 {
	a, _ := x.AsFloats()
	b, _ := y.AsFloats()
	worst, size := 0.0, 1.0
	for i := range a {
		size = max(size, math.Abs(a[i]))
		if d := math.Abs(a[i] - b[i]); !(d <= worst) {
			worst = d
		}
	}
	return worst / size
}
