// Package conformance compares gradient graphs of exported networks with the
// gradients that PyTorch's autograd gives for the same weights and inputs.
//
// A network is a folder with model.onnx and data.safetensors, as export.py
// writes them. A few small ones are kept in testdata/conformance and checked by
// every test run. The whole set is checked with
//
//	python export.py DIR
//	EBM_CONFORMANCE=DIR go test ./bench/conformance -run TestConformance -timeout 2h
//
// which notes what it found in each folder, so that -run TestConformance/NAME
// may measure a part at a time. EBM_CONFORMANCE_TABLE=FILE then writes the table of
// docs/conformance.md from the notes; with -run TestConformance/^$ nothing is measured.
// Rows of that file about networks that the folder does not hold stay as they are.
package conformance

import (
	"bytes"
	"cmp"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nlpodyssey/safetensors"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/onnxio"
	"ebmrun/graphs/passes"
	"ebmrun/graphs/refeval"
	"ebmrun/runtime"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ortlib"
)

// Relative L2 errors that are accepted: against another framework in float32,
// the same in float64, and between two optimization levels of one library.
const (
	tolerance   = 1e-4
	tolerance64 = 1e-6
	toleranceO  = 1e-5
)

// A network is an exported model with inputs and expected results.
type network struct {
	name  string
	model *graphs.Model
	of    string // output that is differentiated
	data  map[string]*graphs.Tensor
	meta  map[string]string
	skip  map[string]bool // weights that are not compared
}

func load(dir string) (*network, error) {
	m, err := onnxio.Read(filepath.Join(dir, "model.onnx"))
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, "data.safetensors"))
	if err != nil {
		return nil, err
	}
	_, header, err := safetensors.ReadMetadata(raw)
	if err != nil {
		return nil, err
	}
	st, err := safetensors.Deserialize(raw)
	if err != nil {
		return nil, err
	}
	n := &network{name: filepath.Base(dir), model: m, data: map[string]*graphs.Tensor{}, meta: header.Metadata(), skip: map[string]bool{}}
	for _, t := range st.Tensors() {
		dims := []int{}
		for _, d := range t.TensorView.Shape() {
			dims = append(dims, int(d))
		}
		typ := map[safetensors.DType]graphs.DType{safetensors.F32: graphs.Float32, safetensors.F64: graphs.Float64}[t.TensorView.DType()]
		values, err := graphs.DecodeRaw(typ, t.TensorView.Data(), graphs.Size(dims))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		n.data[t.Name] = &graphs.Tensor{Type: typ, Dims: dims, Data: values}
		if of, ok := strings.CutPrefix(t.Name, "cot/"); ok {
			n.of = of
		}
	}
	return n, nil
}

// grad builds the gradient graph for all inputs and weights.
func (n *network) grad() (*graphs.Model, error) {
	return autodiff.Grad(n.model, autodiff.Options{Of: n.of, VJP: true, Params: true})
}

// feed is what a gradient graph's inputs get.
func (n *network) feed(inputs []*graphs.Value) ([]*graphs.Tensor, error) {
	var in []*graphs.Tensor
	for _, v := range inputs {
		key := "in/" + v.Name
		if of, ok := strings.CutPrefix(v.Name, autodiff.CotangentPrefix); ok {
			key = "cot/" + of
		}
		x := n.data[key]
		if x == nil {
			return nil, fmt.Errorf("no data for input %q", v.Name)
		}
		f, err := x.AsFloats()
		if err != nil {
			return nil, err
		}
		t, err := graphs.FromFloats(v.Type, f, x.Dims...)
		if err != nil {
			return nil, err
		}
		in = append(in, t)
	}
	return in, nil
}

// errs are relative errors, NaN where nothing was compared.
type errs struct {
	Out, In, Param float64
	Worst          string   // the tensor with the largest error
	Inputs, Params int      // inputs and weights compared
	Bad            []string // slopes of weights with an error above the tolerance
}

func (e errs) within(tol float64) bool {
	return e.Out <= tol && (e.Inputs == 0 || e.In <= tol) && (e.Params == 0 || e.Param <= tol)
}

// compare measures results against the expected ones. The error of a slope is
// ‖got−want‖ / max(‖want‖, 0.001·largest ‖want‖ of its group): a slope that is
// zero but for rounding has no relative error of its own.
func (n *network) compare(outputs []*graphs.Value, got []*graphs.Tensor) (errs, error) {
	type group struct{ diff, norm []float64 }
	groups := [3]group{}
	labels := [3][]string{}
	for i, v := range outputs {
		k := 0
		key := "out/" + v.Name
		if name, ok := strings.CutPrefix(v.Name, autodiff.GradPrefix); ok {
			key, k = "grad/"+name, 2
			if n.data["in/"+name] != nil {
				k = 1
			}
		}
		want := n.data[key]
		if want == nil || n.skip[strings.TrimPrefix(v.Name, autodiff.GradPrefix)] {
			continue
		}
		if !slices.Equal(want.Dims, got[i].Dims) {
			return errs{}, fmt.Errorf("%s has dims %v, want %v", v.Name, got[i].Dims, want.Dims)
		}
		a, err := got[i].AsFloats()
		if err != nil {
			return errs{}, err
		}
		b, err := want.AsFloats()
		if err != nil {
			return errs{}, err
		}
		var diff, norm float64
		for j := range b {
			d := a[j] - b[j]
			diff, norm = diff+d*d, norm+b[j]*b[j]
		}
		groups[k].diff, groups[k].norm = append(groups[k].diff, math.Sqrt(diff)), append(groups[k].norm, math.Sqrt(norm))
		labels[k] = append(labels[k], v.Name)
	}
	if len(groups[0].diff) == 0 || len(groups[1].diff)+len(groups[2].diff) == 0 {
		return errs{}, fmt.Errorf("nothing to compare: the outputs are %v", outputs)
	}
	e := errs{Inputs: len(groups[1].diff), Params: len(groups[2].diff)}
	worst := -1.0
	for k, to := range []*float64{&e.Out, &e.In, &e.Param} {
		g := groups[k]
		if len(g.norm) == 0 {
			continue
		}
		floor := max(1e-3*slices.Max(g.norm), 1e-12)
		for j := range g.diff {
			r := g.diff[j] / max(g.norm[j], floor)
			if math.IsNaN(r) {
				r = math.Inf(1)
			}
			*to = max(*to, r)
			if k == 2 && r > tolerance {
				e.Bad = append(e.Bad, strings.TrimPrefix(labels[k][j], autodiff.GradPrefix))
			}
			if r > worst {
				worst, e.Worst = r, labels[k][j]
			}
		}
	}
	return e, nil
}

func (n *network) onRefeval(ctx context.Context, g *graphs.Model, round bool) (errs, error) {
	p, err := refeval.New(g.Graph, graphs.OpsetVersion, refeval.Options{Round: round})
	if err != nil {
		return errs{}, err
	}
	in, err := n.feed(p.Inputs())
	if err != nil {
		return errs{}, err
	}
	out, err := p.Run(ctx, in)
	if err != nil {
		return errs{}, err
	}
	return n.compare(p.Outputs(), out)
}

// onEngine runs on the CPU provider, or on the one that EBM_PROVIDER names.
func (n *network) onEngine(ctx context.Context, e runtime.Engine, g *graphs.Model, level runtime.Level) (errs, []*graphs.Tensor, error) {
	p, err := e.Compile(ctx, g, runtime.Options{Provider: os.Getenv("EBM_PROVIDER"), Threads: 1, Optimize: level, NoSpin: true})
	if err != nil {
		return errs{}, nil, err
	}
	defer p.Close()
	in, err := n.feed(p.Inputs())
	if err != nil {
		return errs{}, nil, err
	}
	out := make([]*graphs.Tensor, len(p.Outputs()))
	if err := p.Run(ctx, in, out); err != nil {
		return errs{}, nil, err
	}
	r, err := n.compare(p.Outputs(), out)
	return r, out, err
}

// folded reports whether the slope of a weight is right for the exported file,
// by a central difference, although it differs from autograd's: exporters fold
// what depends on weights alone into constants, and that part has no slope.
func (n *network) folded(ctx context.Context, g *graphs.Model, weight string) (bool, error) {
	value := func(step []float64, h float64) (float64, []*graphs.Value, []*graphs.Tensor, error) {
		m := passes.Clone(g)
		for _, v := range m.Graph.Inits {
			if v.Name == weight && step != nil {
				w, err := v.Const.AsFloats()
				if err != nil {
					return 0, nil, nil, err
				}
				for i := range w {
					w[i] += h * step[i]
				}
				v.Const = &graphs.Tensor{Type: v.Type, Dims: v.Const.Dims, Data: w} // keeps its digits in float64 arithmetic
			}
		}
		p, err := refeval.New(m.Graph, graphs.OpsetVersion, refeval.Options{})
		if err != nil {
			return 0, nil, nil, err
		}
		in, err := n.feed(p.Inputs())
		if err != nil {
			return 0, nil, nil, err
		}
		out, err := p.Run(ctx, in)
		if err != nil {
			return 0, nil, nil, err
		}
		sum := 0.0
		cot, err := n.data["cot/"+n.of].AsFloats()
		for i, v := range p.Outputs() {
			if v.Name == n.of {
				for j, y := range out[i].F64() {
					sum += cot[j] * y
				}
			}
		}
		return sum, p.Outputs(), out, err
	}
	_, outputs, out, err := value(nil, 0)
	if err != nil {
		return false, err
	}
	for i, v := range outputs {
		if v.Name != autodiff.GradPrefix+weight {
			continue
		}
		slope := out[i].F64()
		norm := 0.0
		for _, s := range slope {
			norm += s * s
		}
		h := 1e-6 / max(math.Sqrt(norm), 1e-6)
		up, _, _, err1 := value(slope, h)
		down, _, _, err2 := value(slope, -h)
		return math.Abs((up-down)/(2*h)-norm) <= 1e-4*norm, errors.Join(err1, err2)
	}
	return false, nil
}

// apart is the largest relative difference of two lists of results, with the
// same reserve for what is zero but for rounding.
func apart(a, b []*graphs.Tensor) float64 {
	worst, top := 0.0, 0.0
	norms := make([][2]float64, len(a))
	for i := range a {
		x, err1 := a[i].AsFloats()
		y, err2 := b[i].AsFloats()
		if err1 != nil || err2 != nil || !a[i].Type.IsFloat() {
			continue
		}
		for j := range x {
			d := x[j] - y[j]
			norms[i][0], norms[i][1] = norms[i][0]+d*d, norms[i][1]+x[j]*x[j]
		}
		top = max(top, math.Sqrt(norms[i][1]))
	}
	for _, n := range norms {
		worst = max(worst, math.Sqrt(n[0])/max(math.Sqrt(n[1]), 1e-2*top, 1e-30))
	}
	return worst
}

// size counts the nodes of a gradient graph: those of the (lowered) forward
// part, those of the backward part, and the weights that have a slope.
func size(g *graphs.Graph) (forward, backward, weights int) {
	for _, n := range g.Nodes {
		if strings.HasPrefix(n.Name, "bwd/") {
			backward++
		} else {
			forward++
		}
	}
	for _, v := range g.Outputs {
		if name, ok := strings.CutPrefix(v.Name, autodiff.GradPrefix); ok && g.Input(name) == nil {
			weights++
		}
	}
	return
}

// checkTidy fails if a gradient graph holds nodes that do nothing.
func checkTidy(t *testing.T, m *graphs.Model) {
	t.Helper()
	c := passes.Clone(m)
	if changed, err := passes.Prune(c.Graph); changed || err != nil {
		t.Errorf("the gradient graph holds dead nodes or weights (%v)", err)
	}
	if changed, err := passes.CSE(c.Graph); changed || err != nil {
		t.Errorf("the gradient graph computes something twice (%v)", err)
	}
	if changed, err := passes.FoldConstants(c.Graph); changed || err != nil {
		t.Errorf("the gradient graph computes constants (%v)", err)
	}
}

// checkSize holds a gradient graph to 3 nodes for each of the forward part and 2
// for each weight.
func checkSize(t *testing.T, m *graphs.Model) {
	t.Helper()
	forward, backward, weights := size(m.Graph)
	limit := 3*forward + 2*weights
	t.Logf("%d nodes: %d forward, %d backward, %d weights; bound %d", forward+backward, forward, backward, weights, limit)
	if forward+backward > limit {
		t.Errorf("%d nodes, wanted at most %d", forward+backward, limit)
	}
}

func engine(t *testing.T) runtime.Engine {
	t.Helper()
	lib, err := ortlib.Find("")
	if err != nil {
		return nil
	}
	e, err := ort.Open(lib.Path)
	if err != nil {
		return nil
	}
	return e
}

// TestFixtures checks the small networks in testdata/conformance: in float64 in
// plain Go, and with ONNX Runtime where it is found.
func TestFixtures(t *testing.T) {
	dirs, err := filepath.Glob("../../testdata/conformance/*/model.onnx")
	if err != nil || len(dirs) < 10 {
		t.Fatalf("only %d fixtures (%v)", len(dirs), err)
	}
	e := engine(t)
	for _, path := range dirs {
		n, err := load(filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		t.Run(n.name, func(t *testing.T) {
			// what the exporter notes of its own machine has no place in the repository
			if text, err := os.ReadFile(path); err != nil || bytes.Contains(text, []byte("site-packages")) {
				t.Errorf("%s holds stack traces of the exporter (%v)", path, err)
			}
			g, err := n.grad()
			if err != nil {
				t.Fatal(err)
			}
			checkTidy(t, g)
			checkSize(t, g)
			r, err := n.onRefeval(t.Context(), g, false)
			if err != nil {
				t.Fatal(err)
			}
			if !r.within(tolerance64) {
				t.Errorf("float64: %+v", r)
			}
			if e == nil {
				return
			}
			r, _, err = n.onEngine(t.Context(), e, g, runtime.OptimizeAll)
			if err != nil {
				t.Fatal(err)
			}
			if !r.within(tolerance) {
				t.Errorf("ONNX Runtime: %+v", r)
			}
		})
	}
}

// A row of the table.
type row struct {
	Name                       string
	Nodes, Ops                 int
	Forward, Backward, Weights int
	Build                      time.Duration
	E                          errs
	Levels                     float64 // between optimization levels
	Exact                      *errs   // float64 in plain Go, where it was run
	Folded                     int     // weights of which the export holds a part as constants
	Verdict                    string
	Other                      string // onnx-ad's verdict

	line, large string // of a row that was read from the page
}

func (r *row) ok() bool { return r.Verdict == "right" || r.Verdict == "right in float64" }

// TestConformance checks every network in the folder EBM_CONFORMANCE.
func TestConformance(t *testing.T) {
	root := os.Getenv("EBM_CONFORMANCE")
	if root == "" {
		t.Skip("EBM_CONFORMANCE names no folder")
	}
	paths, err := filepath.Glob(filepath.Join(root, "*", "data.safetensors"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no networks in %s (%v)", root, err)
	}
	e := engine(t)
	if e == nil {
		t.Fatal("ONNX Runtime is not found")
	}
	other := map[string]string{}
	if raw, err := os.ReadFile(filepath.Join(root, "onnx-ad.json")); err == nil {
		if err := json.Unmarshal(raw, &other); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range paths {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			r := &row{Name: filepath.Base(dir)}
			defer func() {
				if err := r.note(dir); err != nil {
					t.Error(err)
				}
			}()
			if err := r.measure(t.Context(), dir, e); err != nil {
				r.Verdict = "refused: " + oneLine(err)
				if !errors.Is(err, autodiff.ErrNoRule) {
					r.Verdict = "failed: " + oneLine(err)
				}
			}
			t.Logf("%s: nodes %d, graph %d+%d, out %.1e in %.1e param %.1e (%s, %d), levels %.1e, build %v", r.Verdict, r.Nodes, r.Forward, r.Backward, r.E.Out, r.E.In, r.E.Param, r.E.Worst, r.E.Params, r.Levels, r.Build.Round(time.Millisecond))
			if r.Exact != nil {
				t.Logf("float64: %+v", *r.Exact)
			}
			if !r.ok() {
				t.Error(r.Verdict)
			}
			if limit := 3*r.Forward + 2*r.Weights; r.Forward+r.Backward > limit {
				t.Logf("large: %d nodes, wanted at most %d", r.Forward+r.Backward, limit)
			}
		})
	}
	if to := os.Getenv("EBM_CONFORMANCE_TABLE"); to != "" {
		old, err := os.ReadFile(to)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		kept, after := keptRows(string(old))
		var rows []*row
		for _, path := range paths {
			r, err := noted(filepath.Dir(path))
			if errors.Is(err, os.ErrNotExist) {
				t.Log(path, err)
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.Other = other[r.Name]; r.Other == "" && kept[r.Name] != nil {
				r.Other = kept[r.Name].Other
			}
			delete(kept, r.Name)
			rows = append(rows, r)
		}
		rows = slices.AppendSeq(rows, maps.Values(kept))
		if err := os.WriteFile(to, append(table(rows), after...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// keptRows reads the rows of a table, and what stands after it.
func keptRows(page string) (rows map[string]*row, after string) {
	rows = map[string]*row{}
	above, lines, _ := strings.Cut(page, "|---|")
	if i := strings.Index(lines, "\n\n"); i >= 0 {
		lines, after = lines[:i+1], lines[i+1:]
	}
	for line := range strings.Lines(lines) {
		if cells := strings.Split(strings.TrimSpace(line), " | "); len(cells) == 10 {
			r := &row{Name: strings.TrimPrefix(cells[0], "| "), Verdict: cells[8], Other: strings.TrimSuffix(cells[9], " |"), line: line}
			r.Other = strings.TrimSuffix(r.Other, "|")
			rows[r.Name] = r
		}
	}
	for _, m := range regexp.MustCompile(`(\S+) \(\d+, \d+\)`).FindAllStringSubmatch(above, -1) {
		if r := rows[m[1]]; r != nil {
			r.large = m[0]
		}
	}
	return rows, after
}

func TestTableKeepsRows(t *testing.T) {
	page := table([]*row{
		{Name: "b", Nodes: 3, Forward: 1, Backward: 9, Weights: 1, E: errs{Inputs: 1, Params: 2}, Verdict: "right", Other: "wrong by 1e+00"},
		{Name: "a+size", Nodes: 3, Forward: 9, Backward: 3, E: errs{Params: 2}, Verdict: "right in float64"},
		{Name: "c@13", Verdict: "refused: no"},
	})
	rows, after := keptRows(string(page) + "\n## More\n")
	if len(rows) != 3 || after != "\n## More\n" || rows["b"].Other != "wrong by 1e+00" || rows["a+size"].Other != "" {
		t.Fatalf("%d rows, then %q", len(rows), after)
	}
	if again := table(slices.Collect(maps.Values(rows))); !bytes.Equal(again, page) {
		t.Errorf("wanted\n%s\ngot\n%s", page, again)
	}
}

// note keeps a row beside the network that it is about.
func (r *row) note(dir string) error {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(r); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "row.gob"), b.Bytes(), 0o644)
}

func noted(dir string) (*row, error) {
	f, err := os.Open(filepath.Join(dir, "row.gob"))
	if err != nil {
		return nil, fmt.Errorf("not measured yet: %w", err)
	}
	defer f.Close()
	r := &row{}
	return r, gob.NewDecoder(f).Decode(r)
}

func oneLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}

func (r *row) measure(ctx context.Context, dir string, e runtime.Engine) error {
	n, err := load(dir)
	if err != nil {
		return err
	}
	ops := map[string]bool{}
	for _, node := range n.model.Graph.Nodes {
		ops[node.Op] = true
	}
	r.Nodes, r.Ops = len(n.model.Graph.Nodes), len(ops)
	start := time.Now()
	g, err := n.grad()
	r.Build = time.Since(start)
	if err != nil {
		return err
	}
	r.Forward, r.Backward, r.Weights = size(g.Graph)
	var full, plain []*graphs.Tensor
	var onEngine error
	if r.E, full, onEngine = n.onEngine(ctx, e, g, runtime.OptimizeAll); onEngine == nil {
		if _, plain, onEngine = n.onEngine(ctx, e, g, runtime.OptimizeNone); onEngine == nil {
			r.Levels = apart(full, plain)
		}
	}
	if onEngine == nil && r.E.within(tolerance) && r.Levels <= toleranceO {
		r.Verdict = "right"
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	x, err := n.onRefeval(limited, g, false)
	switch {
	case err != nil:
		return errors.Join(onEngine, err)
	case onEngine != nil:
		return fmt.Errorf("%w (float64 in plain Go: %+v)", onEngine, x)
	}
	r.Exact = &x
	r.Verdict = "wrong"
	for _, w := range x.Bad {
		ok, err := n.folded(limited, g, w)
		if err != nil {
			return err
		}
		if !ok {
			return nil
		}
		n.skip[w] = true
		r.Folded++
	}
	if r.Folded > 0 {
		if r.E, err = n.compare(g.Graph.Outputs, full); err != nil {
			return err
		}
		if r.E.within(tolerance) && r.Levels <= toleranceO {
			r.Verdict = "right"
			return nil
		}
		if x, err = n.onRefeval(limited, g, false); err != nil {
			return err
		}
	}
	if max(r.E.Out, x.Out) <= tolerance && x.within(max(tolerance64, 100*x.Out)) || n.meta["truth"] == "float32" && x.within(tolerance) {
		r.Verdict = "right in float64"
	}
	return nil
}

func table(rows []*row) []byte {
	slices.SortFunc(rows, func(a, b *row) int { return cmp.Compare(a.Name, b.Name) })
	var b bytes.Buffer
	right, right64, refused, small := 0, 0, 0, 0
	var large []string
	for _, r := range rows {
		switch {
		case r.Verdict == "right":
			right++
		case r.ok():
			right64++
		case strings.HasPrefix(r.Verdict, "refused"):
			refused++
			continue
		}
		if limit := 3*r.Forward + 2*r.Weights; r.line == "" && r.Forward+r.Backward > limit {
			r.large = fmt.Sprintf("%s (%d, %d)", r.Name, r.Forward+r.Backward, limit)
		}
		if r.large == "" {
			small++
		} else {
			large = append(large, r.large)
		}
	}
	fmt.Fprintf(&b, preamble, len(rows), right, right64, refused, small, len(rows)-refused, list(large))
	fmt.Fprintln(&b, "| network | nodes | ops | gradient graph | forward error | input slope | weight slopes (number) | build | verdict | onnx-ad 0.3.0 |")
	fmt.Fprintln(&b, "|---|--:|--:|--:|--:|--:|--:|--:|---|---|")
	for _, r := range rows {
		if r.line != "" {
			b.WriteString(r.line)
			continue
		}
		sci := func(f float64) string {
			if r.Verdict == "" || strings.Contains(r.Verdict, ":") {
				return ""
			}
			return fmt.Sprintf("%.0e", f)
		}
		input, weights := "", ""
		if r.E.Inputs > 0 {
			input = sci(r.E.In)
		}
		if r.E.Params > 0 {
			weights = fmt.Sprintf("%s (%d)", sci(r.E.Param), r.E.Params)
		}
		if r.Folded > 0 {
			weights += fmt.Sprintf(" +%d", r.Folded)
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %s | %s | %s | %d ms | %s | %s |\n", r.Name, r.Nodes, r.Ops, r.Forward+r.Backward,
			sci(r.E.Out), input, weights, r.Build.Milliseconds(), strings.ReplaceAll(r.Verdict, "|", "/"), r.Other)
	}
	return b.Bytes()
}

// list puts four to a line.
func list(names []string) string {
	var lines []string
	for four := range slices.Chunk(names, 4) {
		lines = append(lines, strings.Join(four, ", "))
	}
	return strings.Join(lines, ",\n")
}

const preamble = `# Gradients of exported networks

%d files with random weights, at reduced sizes, made by ` + "`export.py` in `bench/conformance`" + ` (PyTorch 2.15.0, torchvision 0.29.2,
timm 1.0.31, transformers 5.24.0, diffusers 0.42.1, onnxscript 0.7.2; kornia 0.9.0, segmentation_models_pytorch 0.6.0, nflows 0.14, normflows 1.7.3,
torch_geometric 2.8.1, torchdiffeq 0.2.5) and by ` + "`keras_export.py`" + ` (names with keras_ and tf_: Keras 3.15.1 and TensorFlow 2.21 by tf2onnx 1.17.0, with slopes of
TensorFlow's tape in float64): opset 18 from the current exporter, another where ` + "`^opset`" + ` says so; the ones
with ` + "`@opset`" + ` are from the older one; ` + "`+batch`" + ` marks a symbolic batch and ` + "`+size`" + ` symbolic image sizes as well; those that end in ` + "`_opset`" + ` and a number are written as tf2onnx and skl2onnx write a network. The gradient graph (slopes of all inputs and weights for a random cotangent) runs in ONNX
Runtime's CPU provider in float32 and is compared with PyTorch's autograd in float64: relative L2 error of the output, of the worst input
slope and of the worst weight slope. The script also notes how far autograd's input slope is from a central difference.

- **right** (%d): all errors at most 1e-4, and with the library's optimizations on and off the results differ by at most 1e-5.
- **right in float64** (%d): float32 rounding is larger than that; the same graph evaluated in float64 agrees with autograd to 1e-6, or to 100
  times the error of the output where the exporter changed that by folding weights in float32.
- **refused** (%d): with the reason.

Weight slopes are compared where the file still holds the weight as it was. "+k" counts weights that the exporter also folded into
constants, which have no slope: their slopes are checked against a finite difference of the file itself. "Gradient graph" counts nodes,
those of the forward part included. The bound is 3 nodes for each of the forward part as it is differentiated, and 2 for each weight: %d of %d
hold it. Above it (nodes, bound) are:
- nets of a single convolution in groups, whose two slopes take an op each and the exchange of batch and channels five more (conv1d_dilated,
  conv_transpose_groups), and nets of a few ops of which most take what the bound allows (minmax, attention_causal^23, tf_strided);
- weights that are used several times: each use has a slope, and the bound counts the weight once (torchvision_retina_head, kornia's filters);
- sizes that are known at run time only: zeros to scatter the slopes of a MaxPool into (torchvision_vgg11_bn), the matrices of a Resize
  (torchvision_fpn@12), parts whose lengths are read off them (reflect_padding@13), operands that might broadcast (slices@13);
- unrolled recurrences, which the bound is not meant for:

%s.

Files with a frozen batch: full-size ` + "`swin_t`, `swin_v2_t`" + ` (torchvision, older exporter) and timm's ` + "`swin_tiny_patch4_window7_224`" + ` (current one),
exported with a batch of 1 and rewritten by ` + "`ebmrun inspect --free-batch`" + `, give the same bits at batch 1 in ONNX Runtime, and at batch 3
what PyTorch gives within 6e-7 (relative L2).

Names that begin with hf_ are models of transformers. Where their inputs are integers, the slopes of the weights alone are compared. A model that detaches a value (a
straight-through code book, the proposals of a detector, the flow of RAFT) leaves no trace of that in the file: its slope is that of what it computes, not that
of the training code, and the script has autograd take it so too.

Whole detectors are those of torchvision at reduced sizes, from the older exporter; the current one refuses them all, since how many boxes are kept is
known at run time only. Which boxes are kept has no slope. PyTorch's roi_align has none in the regions, although its result
depends on them: the script writes its formula out, and so compares the true slope of the file.

Files that ONNX Runtime has rewritten: 24 networks of the table saved by its optimization level extended, and 24 by its optimizer of transformers (of
vision, text and diffusion, ONNX Runtime 1.32.0), which fuse ops into FusedConv, FusedMatMul, FusedGemm, Gelu, BiasGelu, FastGelu, QuickGelu, SkipLayerNormalization,
SkipSimplifiedLayerNormalization, NhwcConv, GroupNorm, SkipGroupNorm, BiasAdd and BiasSplitGelu: all agree with PyTorch as their rows do; of one, a weight is not compared, since the optimizer
stored it transposed. Attention and MultiHeadAttention (without a past and without packed operands) agree with that library's kernels.

Second order: the input slope of a network, differentiated once more along a random direction, agrees with a central difference of the slope in float64
for each of the 372 networks of up to 500 nodes that were at hand and whose slope depends on an input (` + "`TestSecondOrder`" + `); twice differentiated graphs have about 2.5 times the nodes of gradient graphs.

The last column is what onnx-ad 0.3.0 makes of the same file, input slopes only, in the same library; it does not depend on our code, and is empty for networks that
joined the set later.

Left out: timm's fbnetv3_b and maxvit_tiny_pm_256, whose output is off by 7e-4 and 9e-4 in float32 with random weights, and slopes by more (so are PyTorch's of fbnetv3_b, by 1e-2; the
gradient of fbnetv3_b's file agrees with a finite difference to six digits, ` + "`grad --check`" + `); networks of which no exporter wrote a usable file (Mixtral, Keras' ResNet50V2, EfficientNet and ConvNeXt, normflows' Glow).

PyTorch 2.15's own backward pass of a BatchNorm in evaluation mode is wrong on the CPU for a batch of one whose slope comes in through
` + "`flatten(2).transpose(1, 2)`" + ` (finite differences and this table's graphs agree with each other): the script writes that layer out.

ONNX's own node tests, as ` + "`bench/conformance/node_tests.py`" + ` writes them from the data in the onnx 1.23.2 wheel (1871 cases with tensors): the
pure-Go interpreter passes all 1486 whose ops it has; 31 it refuses by name (attention within a window or over a padded cache, blocked quantization, forms on which runtimes differ), the others
have other ops (137), other element types (206), forms of opsets after 25 (4) or random results. On the same inputs 1082 slopes agree with a central
difference in float64, and none disagrees; 78 inputs lie at a kink or a pole or at the edge of where the op is defined, 11 pass through −∞ or NaN and
have NaN slopes, 10 are refused by name. ` + "`EBM_ONNX_NODE_TESTS=DIR go test ./bench/conformance -run TestNodeCases -v`" + ` counts again.

Random graphs of up to 40 nodes (` + "`make fuzz-graphs`" + `: broadcasting, shared values, subgraphs, sizes of 0 and 1, sizes left open): of 23 000, each pass alone and all of them keep the
values, and first and second order agree with differences in float64. In 65 000 outputs ONNX Runtime 1.24 and the interpreter differ where the former is at fault (an AveragePool in
ceil mode or with counted pads at one end, pads that repeat more than there is, reductions of nothing) and nowhere else.

Regenerate with ` + "`EBM_CONFORMANCE=DIR EBM_CONFORMANCE_TABLE=$PWD/docs/conformance.md go test ./bench/conformance -run TestConformance -timeout 2h`" + `.

`
