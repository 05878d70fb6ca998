package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/runtime"
	"ebmrun/runtime/ref"
)

var weights = []float32{0.5, -1, 2}

// tiny is energy[batch] = Σ w·tanh x over x[batch,3].
func tiny(t *testing.T) *graphs.Model {
	t.Helper()
	b := graphs.NewBuilder(&graphs.Graph{Name: "tiny"})
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(3)})
	w := b.Weight("w", graphs.Of(slices.Clone(weights), 3))
	b.Output("energy", b.Sum(b.Mul(b.Tanh(x), w), false, 1))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	m := graphs.NewModel(g)
	m.SetMeta("source", "a test")
	return m
}

// save writes a model to a new folder and returns its path.
func save(t *testing.T, m *graphs.Model) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := onnxio.Write(path, m); err != nil {
		t.Fatal(err)
	}
	return path
}

// custom is tiny with its Tanh replaced by an op of another domain.
func custom(t *testing.T, op, domain string) string {
	t.Helper()
	m := tiny(t)
	n := m.Graph.Nodes[0]
	n.Name, n.Op, n.Domain = "act3", op, domain
	if domain != "" {
		m.Opsets = append(m.Opsets, graphs.Opset{Domain: domain, Version: 1})
	}
	return save(t, m)
}

func TestGrad(t *testing.T) {
	in := save(t, tiny(t))
	out := filepath.Join(filepath.Dir(in), "grad.onnx")
	r := ebmrun(t, "grad", in, "--wrt-params", "--vjp", "--check", "-o", out)
	r.wantOut(t, "grad.onnx", "grad/x", "grad/w")
	if !strings.Contains(r.errOut, "finite difference") {
		t.Errorf("--check said %q", r.errOut)
	}
	m, err := onnxio.Read(out)
	if err != nil {
		t.Fatal(err)
	}
	if got := valueNames(m.Graph.Inputs); got != "x, cotangent/energy" {
		t.Errorf("inputs %s", got)
	}
	if got := valueNames(m.Graph.Outputs); got != "energy, grad/x, grad/w" {
		t.Errorf("outputs %s", got)
	}
	if got := m.Graph.Outputs[1].Shape.String(); got != "[batch,3]" {
		t.Errorf("grad/x has shape %s", got)
	}
	if m.Meta("source") != "a test" {
		t.Error("metadata got lost")
	}
	x, c := []float32{0.1, -0.4, 1, 2, 0, -3}, []float32{1, -2}
	got, _, err := evaluate(t.Context(), ref.New(), m, runtime.Options{}, []*graphs.Tensor{graphs.Of(x, 2, 3), graphs.Of(c, 2)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range got[1].F32() {
		th := math.Tanh(float64(x[i]))
		if want := float64(c[i/3]*weights[i%3]) * (1 - th*th); math.Abs(float64(g)-want) > 1e-5 {
			t.Errorf("grad/x[%d] = %g, wanted %g", i, g, want)
		}
	}
}

func TestGradRefusals(t *testing.T) {
	hostile := t.TempDir()
	for _, c := range []struct {
		name  string
		model string
		flags []string
		want  []string
	}{
		{"unknown op", custom(t, "Frobnicate", ""), nil, []string{`"act3"`, "Frobnicate", "opset 21"}},
		{"other domain", custom(t, "Frobnicate", "com.acme"), nil, []string{`"act3"`, "com.acme", "Frobnicate"}},
		{"no such output", save(t, tiny(t)), []string{"--of", "y"}, []string{`"y"`, "energy"}},
		{"no such input", save(t, tiny(t)), []string{"--wrt", "x,z"}, []string{`"z"`, "x"}},
		{"no file", filepath.Join(hostile, "none.onnx"), nil, []string{"none.onnx"}},
		{"not a model", write(t, filepath.Join(hostile, "text.onnx"), []byte("# ONNX\nnot a model\n")), nil, []string{"text.onnx"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "grad.onnx")
			ebmrun(t, append([]string{"grad", c.model, "-o", out}, c.flags...)...).wantError(t, 2, c.want...)
			if left, _ := os.ReadDir(filepath.Dir(out)); len(left) != 0 {
				t.Errorf("left %v behind", left)
			}
		})
	}
}

func TestGradOfOldOpset(t *testing.T) {
	m := tiny(t)
	m.Opsets = []graphs.Opset{{Version: 7}}
	ebmrun(t, "grad", save(t, m), "-o", filepath.Join(t.TempDir(), "g.onnx")).wantError(t, 2, "wanted 9 to", "got 7")
}

// TestGradKeepsTheModel checks that a model is not replaced by its gradient.
func TestGradKeepsTheModel(t *testing.T) {
	in := save(t, tiny(t))
	before, _ := os.ReadFile(in)
	link := filepath.Join(filepath.Dir(in), "link.onnx")
	if err := os.Symlink(in, link); err != nil {
		t.Skip(err)
	}
	for _, out := range []string{in, link} {
		ebmrun(t, "grad", in, "-o", out).wantError(t, 2, "replace")
	}
	if after, _ := os.ReadFile(in); string(after) != string(before) {
		t.Error("the model changed")
	}
}

// TestCheckCatchesWrongSlopes hands a gradient with a sign error to --check.
func TestCheckCatchesWrongSlopes(t *testing.T) {
	b := graphs.NewBuilder(&graphs.Graph{Name: "wrong"})
	x := b.Input("x", graphs.Float32, graphs.MakeShape(4))
	b.Output("y", b.Mul(x, x))
	b.Output("grad/x", b.Scale(x, -2))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	c := newCommon(nil, nil)
	c.provider = refProvider
	err = c.checkGradient(t.Context(), graphs.NewModel(g), "y")
	if err == nil || !strings.Contains(err.Error(), "by the gradient and") {
		t.Errorf("got %v", err)
	}
}

// TestCheckOfFlatSum checks a gradient that is zero but for rounding.
func TestCheckOfFlatSum(t *testing.T) {
	b := graphs.NewBuilder(&graphs.Graph{Name: "flat"})
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(100)})
	b.Output("p", b.Op("Softmax", []*graphs.Value{b.Scale(x, 3)}, graphs.I("axis", -1)))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	ebmrun(t, "grad", save(t, graphs.NewModel(g)), "--provider", "ref", "--check", "-o", filepath.Join(t.TempDir(), "g.onnx")).wantOut(t, "grad/x")
}

func TestInspect(t *testing.T) {
	path := save(t, tiny(t))
	r := ebmrun(t, "inspect", path)
	r.wantOut(t, "x float32[batch,3]", "energy float32[batch]", "1 tensors, 3 values, 12 bytes", "IR 10, opset ai.onnx 21",
		"source = a test", "Tanh × 1, gradient: rule", "batch, in x, energy", "can be differentiated")

	r = ebmrun(t, "inspect", "--json", custom(t, "Frobnicate", "com.acme"))
	r.wantOut(t)
	var s summary
	if err := json.Unmarshal([]byte(r.out), &s); err != nil {
		t.Fatal(err)
	}
	if s.Differentiable || len(s.Problems) != 1 || s.Problems[0].Node != "act3" || s.Problems[0].Op != "com.acme.Frobnicate" {
		t.Errorf("problems: %+v", s.Problems)
	}
	if s.Nodes != 3 || !slices.Contains(s.Ops, opInfo{"com.acme.Frobnicate", 1, "none"}) {
		t.Errorf("%d nodes: %+v", s.Nodes, s.Ops)
	}
	if s.Opsets["com.acme"] != 1 || s.Opsets["ai.onnx"] != 21 {
		t.Errorf("opsets: %v", s.Opsets)
	}
}

// TestInspectWeightsAmongInputs reads a model that lists its weights as inputs.
func TestInspectWeightsAmongInputs(t *testing.T) {
	m := tiny(t)
	m.Graph.Inputs = append(m.Graph.Inputs, m.Graph.Inits[0])
	r := ebmrun(t, "inspect", "--json", save(t, m))
	r.wantOut(t)
	var s summary
	if err := json.Unmarshal([]byte(r.out), &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Inputs) != 1 || s.Inputs[0].Name != "x" || s.Parameters.Values != 3 {
		t.Errorf("inputs %v, parameters %v", s.Inputs, s.Parameters)
	}
}

// TestInspectFrozenBatch looks for the batch that an exporter left in a Reshape.
func TestInspectFrozenBatch(t *testing.T) {
	b := graphs.NewBuilder(&graphs.Graph{Name: "frozen"})
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(4)})
	fixed := b.Input("fixed", graphs.Float32, graphs.MakeShape(1, 4))
	b.Output("y", b.Add(b.ReshapeTo(x, 1, 4), fixed))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	ebmrun(t, "inspect", save(t, graphs.NewModel(g))).wantOut(t, "reshapes to the fixed sizes [1 4]", "input fixed has a fixed batch of 1")
	if r := ebmrun(t, "inspect", save(t, tiny(t))); strings.Contains(r.out, "hint") {
		t.Errorf("a hint about a free batch:\n%s", r.out)
	}
}

func TestHostileFiles(t *testing.T) {
	good, err := onnxio.Encode(tiny(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cut := write(t, filepath.Join(dir, "cut.onnx"), good[:len(good)*2/3])
	empty := write(t, filepath.Join(dir, "empty.onnx"), nil)
	m := tiny(t)
	m.Graph.Nodes[0].Inputs[0] = m.Graph.Outputs[0] // Tanh reads what follows from it
	cyclic, err := onnxio.Encode(m)
	if err != nil {
		t.Skip(err)
	}
	for _, path := range []string{cut, empty, dir, write(t, filepath.Join(dir, "cyclic.onnx"), cyclic)} {
		ebmrun(t, "inspect", path).wantError(t, 2, filepath.Base(path))
		ebmrun(t, "grad", path, "-o", filepath.Join(dir, "g.onnx")).wantError(t, 2, filepath.Base(path))
	}
}

// TestInspectTerminal checks that names in a file cannot reach the terminal's
// controls.
func TestInspectTerminal(t *testing.T) {
	m := tiny(t)
	m.Graph.Inputs[0].Name = "x\x1b[2J\n"
	m.Producer = "p\rq"
	r := ebmrun(t, "inspect", save(t, m))
	r.wantOut(t)
	if strings.ContainsAny(r.out, "\x1b\r") {
		t.Errorf("controls got through: %q", r.out)
	}
}

// Recomputation leaves names and numbers as they are.
func TestGradRecompute(t *testing.T) {
	in := filepath.Join("..", "..", "testdata", "conformance", "unet-13", "model.onnx")
	out := filepath.Join(t.TempDir(), "grad.onnx")
	ebmrun(t, "--provider", "cpu", "grad", in, "--recompute", "--wrt-params", "--check", "-o", out).wantOut(t, "grad/x")
	m, err := onnxio.Read(out)
	if err != nil {
		t.Fatal(err)
	}
	again := 0
	for _, n := range m.Graph.Nodes {
		if strings.HasPrefix(n.Name, "again/") {
			again++
		}
	}
	if again < 10 {
		t.Errorf("only %d nodes are computed again", again)
	}
}

// The gradient of a model in another type is in that type. Where the library has
// no kernel for it, the plain-Go check stands and the kernel is named; slopes
// beyond the type's range are counted.
func TestGradOfOtherTypes(t *testing.T) {
	for _, c := range []struct {
		typ   graphs.DType
		scale float64
		said  string
	}{
		{graphs.Float64, 1, ""},
		{graphs.Float16, 1, ""},
		{graphs.Float16, 1e3, "too large for float16"},
		{graphs.BFloat16, 1, "no kernel for MatMul of bfloat16"},
	} {
		b := graphs.NewBuilder(&graphs.Graph{Name: "net"})
		x := b.Input("x", c.typ, graphs.Shape{graphs.Sym("batch"), graphs.D(2)})
		w, err := graphs.FromFloats(c.typ, []float64{c.scale, 2 * c.scale, 3 * c.scale, c.scale}, 2, 2)
		if err != nil {
			t.Fatal(err)
		}
		h := b.MatMul(x, b.Weight("w", w))
		b.Output("y", b.Scale(b.Sum(h, false, 1), 100))
		g, err := b.Graph()
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "grad.onnx")
		r := ebmrun(t, "--provider", "cpu", "grad", save(t, graphs.NewModel(g)), "--check", "-o", out)
		if runs := c.typ != graphs.BFloat16 && c.scale == 1; runs && r.status != 0 || c.said != "" && !strings.Contains(r.errOut, c.said) && !strings.Contains(r.errOut, "ebmrun reference") {
			t.Errorf("%v × %g: status %d, %s", c.typ, c.scale, r.status, r.errOut)
			continue
		}
		if m, err := onnxio.Read(out); err == nil && m.Graph.Output("grad/x").Type != c.typ {
			t.Errorf("the slope of a %v is %v", c.typ, m.Graph.Output("grad/x").Type)
		}
	}
}
