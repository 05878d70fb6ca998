package autodiff

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ebmrun/graphs"
	"ebmrun/graphs/graphtest"
	"ebmrun/graphs/onnxio"
	"ebmrun/graphs/passes"
	"ebmrun/graphs/refeval"
)

// TestRandomGraphs draws graphs and checks that passes, files and recomputation leave
// their numbers alone, that slopes and slopes of slopes are those of differences, and that
// a freed batch computes other rows alike. EBM_RANDOM_GRAPHS=10m draws for that long, from
// the seed EBM_SEED.
func TestRandomGraphs(t *testing.T) {
	seed, _ := strconv.ParseUint(os.Getenv("EBM_SEED"), 10, 64)
	long, _ := time.ParseDuration(os.Getenv("EBM_RANDOM_GRAPHS"))
	end, least := time.Now().Add(long), uint64(60)
	seen, faults, ops := tally{}, map[string]bool{}, map[string]int{}
	for i := uint64(0); i < least || time.Now().Before(end); i++ {
		choices := graphtest.Choices(seed<<32+i, 20+int(i%100))
		d, err := randomGraph(choices, seen)
		if d != nil {
			for _, n := range d.Graph.Nodes {
				ops[n.Op]++
			}
		}
		if err == nil {
			continue
		}
		kind := digits(err.Error())
		if faults[kind] {
			continue
		}
		faults[kind] = true
		choices = shrink(choices, func(c []byte) bool {
			_, err := randomGraph(c, tally{})
			return err != nil && digits(err.Error()) == kind
		})
		text := ""
		if d, err = randomGraph(choices, tally{}); d != nil {
			text = graphtest.Dump(d.Graph)
		}
		t.Errorf("graph %d of seed %d: %v\n%s%v", i, seed, err, text, choices)
	}
	t.Log(seen, len(ops), "ops")
	if seen["gradients"] < 100 || seen["freed batches"] < 10 || len(ops) < 100 {
		t.Error("too little was checked")
	}
}

// TestRandomGraphsNotice: slopes twice as large as they are, of one op, are noticed.
func TestRandomGraphsNotice(t *testing.T) {
	right := rules["Add"]
	defer func() { rules["Add"] = right }()
	rules["Add"] = func(b *Back, n *graphs.Node, dy []val) []val { return right(b, n, []val{b.Scale(dy[0], 2)}) }
	for i := range uint64(20) {
		if _, err := randomGraph(graphtest.Choices(i, 60), tally{}); err != nil {
			return
		}
	}
	t.Error("wrong slopes were not noticed")
}

// tally counts what was checked.
type tally map[string]int

// digits leaves out of a message what differs between graphs.
func digits(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r == '-' || r == '.' || r == 'e' || r == '+' {
			return -1
		}
		return r
	}, s)
}

// shrink drops and lowers choices as long as the fault stays.
func shrink(choices []byte, fails func([]byte) bool) []byte {
	for n := len(choices) / 2; n > 0; {
		shorter := false
		for i := 0; i+n <= len(choices); i++ {
			if c := slices.Delete(slices.Clone(choices), i, i+n); fails(c) {
				choices, shorter = c, true
				i--
			}
		}
		if !shorter {
			n /= 2
		}
	}
	for i := range choices {
		for _, low := range []byte{0, 1} {
			c := slices.Clone(choices)
			if c[i] = low; choices[i] > low && fails(c) {
				choices = c
				break
			}
		}
	}
	return choices
}

// caseParts put the ops of the cases, which have inputs of certain sizes, into drawings.
var caseParts = sync.OnceValue(func() (all []graphtest.Part) {
	for _, c := range cases {
		all = append(all, func(d *graphtest.Drawing, b *graphs.Builder) {
			var x []val
			for _, a := range c.args {
				lo, hi := a.lo, a.hi
				if lo == 0 && hi == 0 {
					lo, hi = -2, 2
				}
				x = append(x, d.Within(lo, hi, a.dims...))
			}
			c.build(b, x)
		})
	}
	return all
})

// rewriters are the passes that keep what a graph computes, alone and together, and a file.
var rewriters = []struct {
	name string
	pass func(*graphs.Graph) (bool, error)
}{
	{"fold", passes.FoldConstants}, {"simplify", passes.Simplify}, {"settle", passes.Settle}, {"expands", absorbExpands}, {"one row", passes.OneRow},
	{"cse", passes.CSE}, {"moves", passes.Moves}, {"prune", passes.Prune},
	{"tidy", func(g *graphs.Graph) (bool, error) { return true, Tidy(g) }}, {"file", throughFile},
}

// randomGraph draws one graph and checks what is to hold for all.
func randomGraph(choices []byte, seen tally) (d *graphtest.Drawing, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	d, err = graphtest.Draw(graphs.Float64, choices, caseParts()...)
	if err != nil {
		return d, err
	}
	want, err := values(d.Graph, d.In)
	if err != nil {
		return d, err
	}
	seen["graphs"]++
	rng := rand.New(rand.NewPCG(uint64(len(choices)), uint64(choices[0])))
	plain := passes.CloneGraph(d.Graph)
	open := passes.CloneGraph(d.Graph)
	graphtest.Open(open, rng.IntN(4))
	if err := passes.Reinfer(open); err != nil {
		if strings.Contains(err.Error(), "not known") {
			return d, nil
		}
		return d, fmt.Errorf("with open sizes: %w", err)
	}
	for i, g := range []*graphs.Graph{plain, open} {
		if err := inferred(g, d.In); err != nil {
			return d, err
		}
		for _, p := range rewriters {
			c := passes.CloneGraph(g)
			if _, err := p.pass(c); err != nil {
				return d, fmt.Errorf("%s: %w", p.name, err)
			}
			if err := same(p.name, c, d.In, want); err != nil {
				return d, err
			}
		}
		if err := slopes(g, d.In, i > 0, rng, seen); err != nil {
			return d, err
		}
	}
	return d, freed(d, want, seen)
}

// slopes checks the gradient of a random output, the same with recomputation, and at
// times the gradient of the gradient.
func slopes(g *graphs.Graph, in []*graphs.Tensor, open bool, rng *rand.Rand, seen tally) error {
	m := graphs.NewModel(g)
	o := Options{Of: "y0", VJP: rng.IntN(2) == 0, Params: rng.IntN(2) == 0}
	first, err := Grad(m, o)
	if err != nil {
		if open && strings.Contains(err.Error(), "known") || strings.Contains(err.Error(), "does not depend") {
			seen["refused"]++
			return nil
		}
		return fmt.Errorf("grad: %w", err)
	}
	if len(first.Graph.Inputs) == 0 {
		return nil
	}
	weights := graphtest.GradOptions{Of: "y0", Kinks: true, Tol: 3e-5}
	if err := graphtest.GradError(g, first.Graph, in, weights); err != nil {
		return fmt.Errorf("gradient: %w", err)
	}
	seen["gradients"]++
	x := in
	if o.VJP {
		y, err := values(g, in)
		if err != nil {
			return err
		}
		x = append(slices.Clone(in), normals(rng, y[0].Dims))
	}
	want, err := values(first.Graph, x)
	if err != nil {
		return err
	}
	o.Recompute = true
	again, err := Grad(m, o)
	if err != nil {
		return fmt.Errorf("recompute: %w", err)
	}
	if err := same("recompute", again.Graph, x, want); err != nil {
		return err
	}
	of := first.Graph.Outputs[len(g.Outputs)].Name
	second, err := Grad(first, Options{Of: of, VJP: true})
	if err != nil {
		if open && strings.Contains(err.Error(), "known") || strings.Contains(err.Error(), "does not depend") {
			seen["second refused"]++
			return nil
		}
		return fmt.Errorf("grad of grad: %w", err)
	}
	weights.Of = of
	if err := graphtest.GradError(first.Graph, second.Graph, x, weights); err != nil {
		return fmt.Errorf("second: %w", err)
	}
	seen["second gradients"]++
	return nil
}

// freed checks FreeBatch: what it proves must hold for a batch of other rows.
func freed(d *graphtest.Drawing, want []*graphs.Tensor, seen tally) error {
	m, _, err := passes.FreeBatch(graphs.NewModel(passes.CloneGraph(d.Graph)), "batch")
	if err != nil {
		return nil
	}
	seen["freed batches"]++
	if err := same("freed batch", m.Graph, d.In, want); err != nil {
		return err
	}
	// twice the rows, the second half those of the first
	twice := slices.Clone(d.In)
	for i, v := range m.Graph.Inputs {
		if len(v.Shape) > 0 && v.Shape[0].Name == "batch" {
			x := d.In[i]
			twice[i] = graphs.Of(append(slices.Clone(x.F64()), x.F64()...), append([]int{2 * x.Dims[0]}, x.Dims[1:]...)...)
		}
	}
	got, err := values(m.Graph, twice)
	if err != nil {
		return fmt.Errorf("freed batch: %w", err)
	}
	for i, w := range want {
		a, errA := w.AsFloats()
		b, errB := got[i].AsFloats()
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		if len(b) == 2*len(a) {
			if !near(b[:len(a)], a) || !near(b[len(a):], a) {
				return fmt.Errorf("freed batch: output %d of twice the rows is %v, wanted %v twice", i, b, a)
			}
		} else if !near(a, b) {
			return fmt.Errorf("freed batch: output %d of twice the rows is %v, wanted %v", i, b, a)
		}
	}
	return nil
}

func near(a, b []float64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !(math.Abs(a[i]-b[i]) <= 1e-9*(1+math.Abs(b[i]))) {
			return false
		}
	}
	return true
}

// values evaluates a graph in float64.
func values(g *graphs.Graph, in []*graphs.Tensor) ([]*graphs.Tensor, error) {
	p, err := refeval.New(g, graphs.OpsetVersion, refeval.Options{})
	if err != nil {
		return nil, err
	}
	return p.Run(context.Background(), in)
}

// same compares a graph's outputs with what they were.
func same(what string, g *graphs.Graph, in, want []*graphs.Tensor) error {
	if err := graphs.Check(g); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	got, err := values(g, in)
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", what, err, graphtest.Dump(g))
	}
	for i, w := range want {
		a, errA := w.AsFloats()
		b, errB := got[i].AsFloats()
		if errors.Join(errA, errB) != nil || !slices.Equal(w.Dims, got[i].Dims) || !near(b, a) {
			return fmt.Errorf("%s: output %s differs: %v%v, wanted %v%v\n%s", what, g.Outputs[i].Name, got[i].Dims, b, w.Dims, a, graphtest.Dump(g))
		}
		if err := graphtest.Fits(g.Outputs[i], got[i]); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return inferred(g, in)
}

// inferred checks what is known of all values against what they come to.
func inferred(g *graphs.Graph, in []*graphs.Tensor) error {
	all := *g
	all.Outputs = nil
	for _, n := range g.Nodes {
		for _, v := range n.Outputs {
			if v != nil {
				all.Outputs = append(all.Outputs, v)
			}
		}
	}
	out, err := values(&all, in)
	if err != nil {
		return err
	}
	for i, v := range all.Outputs {
		if err := graphtest.Fits(v, out[i]); err != nil {
			return fmt.Errorf("inferred: %w", err)
		}
	}
	return nil
}

// throughFile takes a graph through a file.
func throughFile(g *graphs.Graph) (bool, error) {
	b, err := onnxio.Encode(graphs.NewModel(g))
	if err != nil {
		return false, err
	}
	m, err := onnxio.Decode(b)
	if err != nil {
		return false, err
	}
	*g = *m.Graph
	return true, nil
}
