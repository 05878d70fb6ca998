package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ebmrun/export/onnxfile"
	weightfile "ebmrun/export/weights"
	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/onnxmodels"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/generativeconvnet"
)

// The functions of docs/gradients.md, word for word: follow compares.

// python is an interpreter with onnxruntime and numpy; without one the test is skipped.
func python(t *testing.T) string {
	t.Helper()
	path := os.Getenv("EBM_PYTHON")
	if path == "" {
		cache, err := runtime.CacheDir()
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(cache, "python", "bin", "python")
	}
	if out, err := exec.CommandContext(t.Context(), path, "-c", "import numpy, onnxruntime").CombinedOutput(); err != nil {
		enginetest.Unavailable(t, fmt.Errorf("no Python with onnxruntime and numpy (EBM_PYTHON names one): %w %s", err, out))
	}
	return path
}

// relax moves atoms along the forces on them until none is larger than small.
func relax(ctx context.Context, p runtime.Program, x []float32, step, small float32) (energy float32, err error) {
	in := []*graphs.Tensor{graphs.Of(x, len(x)/3, 3)}
	out := make([]*graphs.Tensor, 2) // energy, grad/x
	for range 10000 {
		if err := p.Run(ctx, in, out); err != nil {
			return 0, err
		}
		largest := float32(0)
		for i, slope := range out[1].F32() {
			x[i] -= step * slope // the force is -slope
			largest = max(largest, slope, -slope)
		}
		if largest < small {
			return out[0].F32()[0], nil
		}
	}
	return 0, errors.New("the forces do not vanish")
}

// stiffest is the largest curvature of the energy at x in any direction, found by
// multiplying one by the Hessian again and again.
func stiffest(ctx context.Context, p runtime.Program, x []float32, times int) (curvature float32, err error) {
	v := graphs.NewTensor(graphs.Float32, len(x)/3, 3)
	v.F32()[0] = 1
	in := []*graphs.Tensor{graphs.Of(x, len(x)/3, 3), v} // x, cotangent/grad/x
	out := make([]*graphs.Tensor, 3)                     // energy, grad/x, grad/grad/x
	for range times {
		if err := p.Run(ctx, in, out); err != nil {
			return 0, err
		}
		square := float32(0)
		for _, h := range out[2].F32() {
			square += h * h
		}
		curvature = float32(math.Sqrt(float64(square)))
		for i, h := range out[2].F32() {
			v.F32()[i] = h / curvature
		}
	}
	return curvature, nil
}

// pick weighs the logits of n examples: 1 for the class asked for, 0 for the others.
func pick(n, classes, class int) *graphs.Tensor {
	t := graphs.NewTensor(graphs.Float32, n, classes)
	for i := range n {
		t.F32()[i*classes+class] = 1
	}
	return t
}

// saliency is the slope of the logit of a class in each pixel.
func saliency(ctx context.Context, p runtime.Program, pictures *graphs.Tensor, classes, class int) ([]float32, error) {
	out := make([]*graphs.Tensor, 2) // logits, grad/x
	err := p.Run(ctx, []*graphs.Tensor{pictures, pick(pictures.Dims[0], classes, class)}, out)
	return out[1].F32(), err
}

// guided moves points in the plane by Langevin dynamics with the slope of an
// energy and, scaled, that of the log-probability of one of two classes.
func guided(ctx context.Context, energy, classifier runtime.Program, x []float32, class int, scale, step float64, steps int, rng *rand.Rand) error {
	at := graphs.Of(x, len(x)/2, 2)
	weigh := pick(len(x)/2, 2, class)
	u, c := make([]*graphs.Tensor, 2), make([]*graphs.Tensor, 2)
	for range steps {
		err := errors.Join(
			energy.Run(ctx, []*graphs.Tensor{at}, u),            // energy, grad/x
			classifier.Run(ctx, []*graphs.Tensor{at, weigh}, c)) // logprob, grad/x
		if err != nil {
			return err
		}
		for i := range x {
			drift := scale*float64(c[1].F32()[i]) - float64(u[1].F32()[i])
			x[i] += float32(step*step/2*drift + step*rng.NormFloat64())
		}
	}
	return nil
}

// tune learns the head of a classifier by descent on the mean cross-entropy.
func tune(ctx context.Context, p runtime.Program, x *graphs.Tensor, labels []int64, weight, bias *graphs.Tensor, rate float32, steps int) error {
	classes := bias.Dims[0]
	slope := graphs.NewTensor(graphs.Float32, len(labels), classes) // of the loss in the logits
	in := []*graphs.Tensor{x, slope, weight, bias}
	out := make([]*graphs.Tensor, 3) // logits, grad/head.weight, grad/head.bias
	for range steps {
		if err := p.Run(ctx, in, out); err != nil {
			return err
		}
		for i, label := range labels { // (softmax - one hot)/n
			logits, s := out[0].F32()[i*classes:][:classes], slope.F32()[i*classes:][:classes]
			sum := 0.0
			for _, v := range logits {
				sum += math.Exp(float64(v))
			}
			for k, v := range logits {
				s[k] = float32(math.Exp(float64(v)) / sum / float64(len(labels)))
			}
			s[label] -= 1 / float32(len(labels))
		}
		if err := p.Run(ctx, in, out); err != nil {
			return err
		}
		for k, w := range []*graphs.Tensor{weight, bias} {
			for i, g := range out[1+k].F32() {
				w.F32()[i] -= rate * g
			}
		}
	}
	return nil
}

// learnFile has the energy in a file learn points by maximum likelihood, with samples from Langevin dynamics, and
// writes energy.onnx, energy-grad.onnx and sampler.onnx into a folder.
func learnFile(ctx context.Context, path string, engine runtime.Engine, points *data.Set, steps int, folder string) error {
	file, err := onnxio.Read(path)
	if err != nil {
		return err
	}
	model, err := onnxmodels.Of(file) // x → energy, score
	if err != nil {
		return err
	}
	net, err := bind.New(ctx, model, engine, bind.Options{})
	if err != nil {
		return err
	}
	defer net.Close()
	c, err := generativeconvnet.For("points", points.Dims(), points.N) // a preset of ebmrun train
	if err != nil {
		return err
	}
	system, err := generativeconvnet.New(c, net, points, 1)
	if err != nil {
		return err
	}
	if err := training.Run(ctx, system, training.Options{Steps: steps}); err != nil {
		return err
	}
	if model, err = net.Model(nil); err != nil {
		return err
	}
	_, err = onnxfile.All(folder, model, onnxfile.Meta{Step: bind.StepOf(c.Langevin.Kernel())}, 0)
	return err
}

// page is docs/gradients.md: the code blocks of a language under a heading.
func page(t *testing.T, heading, language string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "gradients.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("docs/gradients.md has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var blocks []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) == 0 {
		t.Fatalf("section %q of docs/gradients.md has no code in %s", heading, language)
	}
	return blocks
}

// follow runs the commands of a section, in a folder that holds what they read,
// and checks that its Go code is what the tests run.
func follow(t *testing.T, dir, heading string) {
	t.Helper()
	source, err := os.ReadFile("gradients_doc_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range page(t, heading, "go") {
		if !strings.Contains(string(source), "\n"+block) {
			t.Errorf("section %q of docs/gradients.md shows other code than its test runs:\n%s", heading, block)
		}
	}
	for _, block := range page(t, heading, "sh") {
		for command := range strings.Lines(block) {
			words := strings.Fields(command)
			for i, w := range words {
				if strings.HasSuffix(w, ".onnx") {
					words[i] = filepath.Join(dir, w)
				}
			}
			ebmrun(t, words[1:]...).wantOut(t)
		}
	}
}

// built writes a model of the page.
func built(t *testing.T, path string, make func(b *graphs.Builder)) {
	t.Helper()
	if err := onnxio.Write(path, enginetest.Build(t, make)); err != nil {
		t.Fatal(err)
	}
}

// loaded compiles a file for ONNX Runtime.
func loaded(t *testing.T, path string) runtime.Program {
	t.Helper()
	e, err := ort.Open("")
	enginetest.Unavailable(t, err)
	m, err := onnxio.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.Compile(t.Context(), m, runtime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// lennardJones is 4·Σ r⁻¹² − r⁻⁶ over the pairs of atoms.
func lennardJones(atoms int) func(b *graphs.Builder) {
	return func(b *graphs.Builder) {
		x := b.Input("x", graphs.Float32, graphs.Shape{graphs.D(atoms), graphs.D(3)})
		self, pair := make([]float32, atoms*atoms), make([]float32, atoms*atoms)
		for i := range atoms {
			self[i*atoms+i] = 1
			for j := range i {
				pair[i*atoms+j] = 4
			}
		}
		d := b.Sub(b.Unsqueeze(x, 1), b.Unsqueeze(x, 0))
		r2 := b.Add(b.Sum(b.Mul(d, d), false, 2), b.Const(graphs.Of(self, atoms, atoms)))
		s := b.Recip(b.Mul(b.Mul(r2, r2), r2))
		b.Output("energy", b.Sum(b.Mul(b.Sub(b.Mul(s, s), s), b.Const(graphs.Of(pair, atoms, atoms))), false, 0, 1))
	}
}

// TestGradientsForces: two atoms attract and repel as the formula says, and four
// end in the tetrahedron, whose energy is −6.
func TestGradientsForces(t *testing.T) {
	dir := t.TempDir()
	built(t, filepath.Join(dir, "potential.onnx"), lennardJones(4))
	follow(t, dir, "Forces from an energy")
	p := loaded(t, filepath.Join(dir, "potential-grad.onnx"))

	x := []float32{0, 0, 0, 1.3, 0, 0, 0.2, 1.2, 0, 0.5, 0.4, 1.1}
	out := make([]*graphs.Tensor, 2)
	if err := p.Run(t.Context(), []*graphs.Tensor{graphs.Of(x, 4, 3)}, out); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		for k := range 3 {
			want := 0.0
			for j := range 4 {
				if j == i {
					continue
				}
				r2 := 0.0
				for c := range 3 {
					d := float64(x[3*i+c] - x[3*j+c])
					r2 += d * d
				}
				want += 4 * (-12*math.Pow(r2, -7) + 6*math.Pow(r2, -4)) * float64(x[3*i+k]-x[3*j+k])
			}
			if got := float64(out[1].F32()[3*i+k]); math.Abs(got-want) > 1e-4 {
				t.Errorf("atom %d, axis %d: slope %g, wanted %g", i, k, got, want)
			}
		}
	}
	energy, err := relax(t.Context(), p, x, 0.005, 1e-3)
	if err != nil || math.Abs(float64(energy)+6) > 1e-4 {
		t.Errorf("energy %g, wanted -6: %v", energy, err)
	}

	follow(t, dir, "Curvature")
	got, err := stiffest(t.Context(), loaded(t, filepath.Join(dir, "potential-curve.onnx")), x, 40)
	if want := 4 * 72 / math.Cbrt(2); err != nil || math.Abs(float64(got)-want) > 0.2 {
		t.Errorf("curvature %g, wanted %g: %v", got, want, err)
	}
}

const (
	side    = 8
	classes = 4
)

// spots are noisy pictures with a spot in one of the four quarters, its label.
func spots(n int, seed uint64) (x *graphs.Tensor, labels []int64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	x, labels = graphs.NewTensor(graphs.Float32, n, 1, side, side), make([]int64, n)
	for i := range n {
		label := rng.IntN(classes)
		labels[i] = int64(label)
		cy, cx := float64(label/2*4)+1+rng.Float64(), float64(label%2*4)+1+rng.Float64()
		for p := range side * side {
			dy, dx := float64(p/side)-cy, float64(p%side)-cx
			x.F32()[i*side*side+p] = float32(math.Exp(-(dy*dy+dx*dx)/2) + 0.3*rng.NormFloat64())
		}
	}
	return x, labels
}

// classifier is a convolution that has not learned and a linear head.
func classifier(weight, bias *graphs.Tensor) func(b *graphs.Builder) {
	return func(b *graphs.Builder) {
		const filters = 8
		rng := rand.New(rand.NewPCG(3, 0))
		w := graphs.NewTensor(graphs.Float32, filters, 1, 3, 3)
		for i := range w.F32() {
			w.F32()[i] = float32(rng.NormFloat64() / 3)
		}
		x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(1), graphs.D(side), graphs.D(side)})
		h := b.Op("Conv", []*graphs.Value{x, b.Weight("conv.weight", w)}, graphs.IntsAttr("pads", 1, 1, 1, 1))
		h = b.Op("AveragePool", []*graphs.Value{b.Op("Relu", []*graphs.Value{h})}, graphs.IntsAttr("kernel_shape", 2, 2), graphs.IntsAttr("strides", 2, 2))
		h = b.ReshapeTo(h, -1, filters*side*side/4)
		h = b.Op("Gemm", []*graphs.Value{h, b.Weight("head.weight", weight), b.Weight("head.bias", bias)}, graphs.I("transB", 1))
		b.Output("logits", h)
	}
}

func blank() (weight, bias *graphs.Tensor) {
	return graphs.NewTensor(graphs.Float32, classes, 2*side*side), graphs.NewTensor(graphs.Float32, classes)
}

// accuracy is the share of examples whose largest logit is that of their label.
func accuracy(t *testing.T, p runtime.Program, weight, bias *graphs.Tensor) float64 {
	t.Helper()
	x, labels := spots(500, 2)
	out := make([]*graphs.Tensor, 3)
	if err := p.Run(t.Context(), []*graphs.Tensor{x, graphs.NewTensor(graphs.Float32, len(labels), classes), weight, bias}, out); err != nil {
		t.Fatal(err)
	}
	right := 0
	for i, label := range labels {
		logits := out[0].F32()[i*classes:][:classes]
		if logits[label] == slices.Max(logits) && slices.Index(logits, logits[label]) == int(label) {
			right++
		}
	}
	return float64(right) / float64(len(labels))
}

// headProgram is the gradient file of the page for fine-tuning.
func headProgram(t *testing.T) (dir string, p runtime.Program) {
	t.Helper()
	dir = t.TempDir()
	built(t, filepath.Join(dir, "net.onnx"), classifier(blank()))
	follow(t, dir, "Fine-tuning a head")
	return dir, loaded(t, filepath.Join(dir, "net-head.onnx"))
}

// TestGradientsHead learns the head in ONNX Runtime from Go, and then from
// Python, which must arrive at the same numbers.
func TestGradientsHead(t *testing.T) {
	dir, p := headProgram(t)
	if got := valueNames(p.Inputs()); got != "x, cotangent/logits, head.weight, head.bias" {
		t.Fatalf("the gradient file takes %s", got)
	}
	weight, bias := blank()
	if a := accuracy(t, p, weight, bias); a > 0.4 {
		t.Errorf("a blank head is right on %.3f", a)
	}
	x, labels := spots(200, 1)
	if err := tune(t.Context(), p, x, labels, weight, bias, 0.5, 200); err != nil {
		t.Fatal(err)
	}
	a := accuracy(t, p, weight, bias)
	t.Logf("accuracy on pictures not learned from: %.3f", a)
	if a < 0.97 {
		t.Errorf("accuracy %.3f, wanted 0.97", a)
	}

	python := python(t)
	for name, v := range map[string]*graphs.Tensor{"x.npy": x, "labels.npy": graphs.Of(labels, len(labels))} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(weightfile.NPY(f, v), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	// Only the gradient file is there.
	if err := os.Remove(filepath.Join(dir, "net.onnx")); err != nil {
		t.Fatal(err)
	}
	code := strings.Join(page(t, "Fine-tuning a head", "python"), "") + `
for v in weight, bias:
    print(" ".join(repr(float(x)) for x in v.ravel()))
`
	cmd := exec.CommandContext(t.Context(), python, "-c", code)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v %v", err, cmd.Stderr)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 2 {
		t.Fatalf("wanted two lines, got %q", out)
	}
	for k, v := range []*graphs.Tensor{weight, bias} {
		fields := strings.Fields(lines[k])
		if len(fields) != v.Len() {
			t.Fatalf("wanted %d numbers, got %d", v.Len(), len(fields))
		}
		off := 0.0
		for i, s := range fields {
			var got float64
			if _, err := fmt.Sscan(s, &got); err != nil {
				t.Fatal(err)
			}
			off = max(off, math.Abs(got-float64(v.F32()[i])))
		}
		if off > 1e-4 {
			t.Errorf("Python's head is off by %g", off)
		}
	}
}

// TestGradientsSaliency: once the head has learned, the slope of the right logit
// lies where the spot is; that of a head of noise does not.
func TestGradientsSaliency(t *testing.T) {
	_, p := headProgram(t)
	weight, bias := blank()
	x, labels := spots(200, 1)
	if err := tune(t.Context(), p, x, labels, weight, bias, 0.5, 200); err != nil {
		t.Fatal(err)
	}
	noise, _ := blank()
	rng := rand.New(rand.NewPCG(4, 0))
	for i := range noise.F32() {
		noise.F32()[i] = float32(rng.NormFloat64())
	}
	share := map[string]float64{}
	for name, head := range map[string]*graphs.Tensor{"learned": weight, "noise": noise} {
		dir := t.TempDir()
		built(t, filepath.Join(dir, "net.onnx"), classifier(head, bias))
		follow(t, dir, "Input saliency")
		q := loaded(t, filepath.Join(dir, "net-saliency.onnx"))
		test, labels := spots(200, 5)
		in, all := 0.0, 0.0
		for class := range classes {
			slope, err := saliency(t.Context(), q, test, classes, class)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range slope {
				if label, at := labels[i/(side*side)], i%(side*side); int(label) == class {
					v2 := float64(v) * float64(max(0, v)) // towards more of the class
					all += v2
					if int64(at/side/4*2+at%side/4) == label {
						in += v2
					}
				}
			}
		}
		share[name] = in / all
	}
	t.Logf("share of the slope inside the quarter with the spot: %.2f learned, %.2f noise", share["learned"], share["noise"])
	if share["learned"] < 0.6 || share["noise"] > 0.4 {
		t.Errorf("share of the slope in the quarter with the spot: %.3f, wanted 0.6; of noise %.3f, wanted about 0.25", share["learned"], share["noise"])
	}
}

// TestGradientsGuidance: two Gaussians and the classifier that tells them apart;
// guided at scale 1 the points are drawn from one of them, and mean and variance
// are known.
func TestGradientsGuidance(t *testing.T) {
	const at, variance, n = 1.0, 0.25, 2000
	dir := t.TempDir()
	plane := graphs.Shape{graphs.Sym("batch"), graphs.D(2)}
	built(t, filepath.Join(dir, "energy.onnx"), func(b *graphs.Builder) {
		x := b.Input("x", graphs.Float32, plane)
		d := b.Sub(b.Unsqueeze(x, 1), b.Const(graphs.Of([]float32{at, 0, -at, 0}, 2, 2)))
		each := b.Scale(b.Sum(b.Mul(d, d), false, 2), -1/(2*variance))
		b.Output("energy", b.Neg(b.Op("ReduceLogSumExp", []*graphs.Value{each, b.Ints(1)}, graphs.I("keepdims", 0))))
	})
	built(t, filepath.Join(dir, "classifier.onnx"), func(b *graphs.Builder) {
		x := b.Input("x", graphs.Float32, plane)
		w := b.Weight("weight", graphs.Of([]float32{at / variance, -at / variance, 0, 0}, 2, 2))
		b.Output("logprob", b.Op("LogSoftmax", []*graphs.Value{b.MatMul(x, w)}, graphs.I("axis", 1)))
	})
	follow(t, dir, "Classifier guidance")
	energy, class := loaded(t, filepath.Join(dir, "energy-grad.onnx")), loaded(t, filepath.Join(dir, "classifier-grad.onnx"))
	for _, scale := range []float64{1, 0} {
		rng := rand.New(rand.NewPCG(7, 0))
		x := make([]float32, 2*n)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		if err := guided(t.Context(), energy, class, x, 1, scale, 0.1, 400, rng); err != nil {
			t.Fatal(err)
		}
		mean, second := 0.0, 0.0
		for i := range n {
			mean += float64(x[2*i]) / n
			second += float64(x[2*i]) * float64(x[2*i]) / n
		}
		v := second - mean*mean
		t.Logf("scale %g: mean %.3f, variance %.3f", scale, mean, v)
		if right := math.Abs(mean+at) < 0.05 && math.Abs(v-variance) < 0.03; right != (scale == 1) {
			t.Errorf("scale %g: mean %.3f and variance %.3f; guided they are %g and %g, else 0 and %g", scale, mean, v, -at, variance, variance+at*at)
		}
	}
}

// TestGradientsLearning: a network that somebody else has written learns, and its sampler draws what it has learned.
func TestGradientsLearning(t *testing.T) {
	const n, width = 2000, 64
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(1, 0))
	path := filepath.Join(dir, "mine.onnx")
	built(t, path, func(b *graphs.Builder) {
		x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(2)})
		h, in := x, 2
		for i, out := range []int{width, width, 1} {
			w := graphs.NewTensor(graphs.Float32, in, out)
			for k := range w.F32() {
				w.F32()[k] = float32((2*rng.Float64() - 1) / math.Sqrt(float64(in)))
			}
			bias := b.Weight(fmt.Sprintf("bias%d", i), graphs.NewTensor(graphs.Float32, out))
			h = b.Add(b.Op("MatMul", []*graphs.Value{h, b.Weight(fmt.Sprintf("weight%d", i), w)}), bias)
			if in = out; out > 1 {
				h = b.Mul(h, b.Op("Sigmoid", []*graphs.Value{h}))
			}
		}
		score := b.Sum(h, false, 1)
		b.Output("energy", b.Sub(b.Sum(b.Mul(b.Mul(x, x), b.Const(graphs.Of([]float32{1. / 8}))), false, 1), score))
		b.Output("score", score)
	})
	follow(t, dir, "Learning all of it as an energy")
	engine, err := ort.Open("")
	enginetest.Unavailable(t, err)
	points, err := data.Load(t.Context(), "synthetic/two-rings", data.Options{Limit: n})
	if err != nil {
		t.Fatal(err)
	}
	distance := map[int]float64{}
	for _, steps := range []int{0, 600} {
		if err := learnFile(t.Context(), path, engine, points, steps, dir); err != nil {
			t.Fatal(err)
		}
		x, noise := graphs.NewTensor(graphs.Float32, n, 2), graphs.NewTensor(graphs.Float32, 300, n, 2)
		for _, v := range []*graphs.Tensor{x, noise} {
			for i := range v.F32() {
				v.F32()[i] = float32(rng.NormFloat64())
			}
		}
		out := make([]*graphs.Tensor, 2)
		if err := loaded(t, filepath.Join(dir, "sampler.onnx")).Run(t.Context(), []*graphs.Tensor{x, noise}, out); err != nil {
			t.Fatal(err)
		}
		if distance[steps], err = diag.EnergyDistance(points.X(), out[0].F32(), 2); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("energy distance %.4f, not learned %.4f", distance[600], distance[0])
	if distance[600] > distance[0]/4 {
		t.Errorf("energy distance %g, not learned %g", distance[600], distance[0])
	}
}
