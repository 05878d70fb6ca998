package flow_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	nets "ebmrun/onnxmodels/flow"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/data"
	"ebmrun/training/flow"
	"ebmrun/training/optim"
	"ebmrun/training/systemtest"
)

func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tol*(1+math.Abs(want))) {
		t.Errorf("%s: wanted %g, got %g", what, want, got)
	}
}

// affine is the flow z = (x − mean)·exp(−scale) of numbers. With levels, noise fills
// them evenly.
type affine struct {
	level   float64
	p       []optim.Param // mean, scale
	started int
	seen    []float32 // the noise of the last call
	batch   []float32 // its examples
}

func newAffine(level float64) *affine {
	return &affine{level: level, p: []optim.Param{
		{Name: "mean", W: []float32{0}, G: []float32{0}}, {Name: "scale", W: []float32{0}, G: []float32{0}}}}
}

func (f *affine) Params() []optim.Param { return f.p }
func (f *affine) Level() float64        { return f.level }

func (f *affine) Encode(_ context.Context, x, z, logP []float32) error {
	for i, v := range x {
		s := float64(f.p[1].W[0])
		u := float64(v-f.p[0].W[0]) * math.Exp(-s)
		z[i], logP[i] = float32(u), float32(-u*u/2-math.Log(2*math.Pi)/2-s)
	}
	return nil
}

func (f *affine) Decode(_ context.Context, z, x []float32) error {
	for i, v := range z {
		x[i] = v*float32(math.Exp(float64(f.p[1].W[0]))) + f.p[0].W[0]
	}
	return nil
}

func (f *affine) filled(x, noise []float32) []float32 {
	f.seen, f.batch = slices.Clone(noise), slices.Clone(x)
	y := slices.Clone(x)
	for i := range y {
		y[i] += float32(f.level * (math.Erfc(-float64(noise[i])/math.Sqrt2)/2 - 0.5))
	}
	return y
}

func (f *affine) Bound(ctx context.Context, x, noise, bound []float32) error {
	return f.Encode(ctx, f.filled(x, noise), make([]float32, len(x)), bound)
}

func (f *affine) Learn(ctx context.Context, x, noise, w, bound []float32) error {
	z := make([]float32, len(x))
	if err := f.Encode(ctx, f.filled(x, noise), z, bound); err != nil {
		return err
	}
	f.p[0].G[0], f.p[1].G[0] = 0, 0
	for i, v := range z {
		f.p[0].G[0] += w[i] * v * float32(math.Exp(-float64(f.p[1].W[0])))
		f.p[1].G[0] += w[i] * (v*v - 1)
	}
	return nil
}

func (f *affine) Start(_ context.Context, x, _ []float32) error {
	f.started = len(x)
	return nil
}

// numbers are draws of N(1, 0.5²), as levels if there are some.
func numbers(t testing.TB, n int, level float64) *data.Set {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	s := &data.Set{Name: "numbers", N: n, C: 1, H: 1, W: 1, Gain: 1, Floats: make([]float32, n)}
	for i := range s.Floats {
		s.Floats[i] = float32(1 + 0.5*r.NormFloat64())
		if level > 0 {
			s.Floats[i] = float32(max(-1, min(1, level*math.Round((0.1+0.2*r.NormFloat64()+1)/level)-1)))
		}
	}
	if level > 0 {
		s.Lo, s.Hi = -1, 1
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	return s
}

func config(change func(c *flow.Config)) flow.Config {
	c := flow.Config{Steps: 400, Batch: 100, Begin: 50, Optim: training.Optim{Name: "sgd", LR: 0.05, Decay: 1e-3}}
	if change != nil {
		change(&c)
	}
	return c
}

func system(t testing.TB, c flow.Config, f training.Flow, set *data.Set) *flow.System {
	t.Helper()
	s, err := flow.New(c, f, set, 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func step(t testing.TB, s training.System) training.Metrics {
	t.Helper()
	m, err := s.Step(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestGaussian: maximum likelihood finds mean and deviation, and the likelihood is the
// entropy of the Gaussian; flipped it leaves them and frozen it stays.
func TestGaussian(t *testing.T) {
	set := numbers(t, 500, 0)
	mean, sd := training.Moments(set.X())
	entropy := math.Log(sd) + 0.5*math.Log(2*math.Pi*math.E)
	for _, sabotage := range []string{"", flow.Flip, flow.Freeze} {
		f := newAffine(0)
		s := system(t, config(func(c *flow.Config) { c.Sabotage = sabotage }), f, set)
		s.Exam.Held = set
		for range 10 {
			step(t, s)
		}
		if f.started != 50 {
			t.Errorf("normalisations are set by %d examples, wanted 50", f.started)
		}
		if sabotage == "" {
			for range 390 {
				step(t, s)
			}
			near(t, "mean", float64(f.p[0].W[0]), mean, 0.03)
			near(t, "deviation", math.Exp(float64(f.p[1].W[0])), sd, 0.03)
		}
		m, err := s.Evaluate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := m["held_out/nll"]; (math.Abs(got-entropy) < 0.02) != (sabotage == "") {
			t.Errorf("sabotage %q: wanted an entropy of %g, got %g", sabotage, entropy, got)
		}
		if sabotage == flow.Freeze && (f.p[0].W[0] != 0 || f.p[1].W[0] != 0) {
			t.Error("frozen weights move")
		}
	}
}

// TestStep: one iteration, by hand: the noise is new each time and in the bound, and
// the weights descend on the mean of −log p.
func TestStep(t *testing.T) {
	const level = 2.0 / 255
	f := newAffine(level)
	set := numbers(t, 500, level)
	for i := range set.Floats {
		set.Floats[i] -= float32(i%3-1) * level / 5 * set.Floats[i] // between levels
	}
	s := system(t, config(nil), f, set)
	var last []float32
	for range 3 {
		w := []float64{float64(f.p[0].W[0]), float64(f.p[1].W[0])}
		m := step(t, s)
		if slices.Equal(last, f.seen) {
			t.Error("the same noise twice")
		}
		last = f.seen
		for _, v := range f.batch {
			if k := (float64(v) + 1) / level; math.Abs(k-math.Round(k)) > 1e-3 {
				t.Fatalf("learns from %g, which is no level", v)
			}
		}
		if mean, sd := training.Moments(last); math.Abs(mean) > 0.3 || math.Abs(sd-1) > 0.3 {
			t.Errorf("noise has mean %g and deviation %g", mean, sd)
		}
		// the mean of −log p over the batch, at weights on either side
		at := func(mean, scale float64) (sum float64) {
			g := newAffine(level)
			g.p[0].W[0], g.p[1].W[0] = float32(mean), float32(scale)
			logP := make([]float32, 100)
			if err := g.Bound(t.Context(), f.batch, f.seen, logP); err != nil {
				t.Fatal(err)
			}
			return -training.Mean(logP)
		}
		const h = 1e-2
		near(t, "nll", m["nll"], at(w[0], w[1]), 1e-6)
		near(t, "step of the mean", float64(f.p[0].W[0])-w[0], -0.05*(at(w[0]+h, w[1])-at(w[0]-h, w[1]))/(2*h), 1e-4)
		near(t, "step of the scale", float64(f.p[1].W[0])-w[1], -0.05*(at(w[0], w[1]+h)-at(w[0], w[1]-h))/(2*h), 1e-4)
		near(t, "bits", m["bpd"], m["nll"]/math.Ln2-math.Log2(level), 1e-9)
	}
}

// TestPieces: learning in pieces gives the same bounds and slopes.
func TestPieces(t *testing.T) {
	f := newAffine(0)
	x, w := numbers(t, 7, 0).X(), []float32{1, -2, 3, 0.5, 1, 1, -1}
	noise, want, got := make([]float32, 7), make([]float32, 7), make([]float32, 7)
	if err := training.LearnFlow(t.Context(), f, 0, x, noise, w, want); err != nil {
		t.Fatal(err)
	}
	slopes := []float32{f.p[0].G[0], f.p[1].G[0]}
	if err := training.LearnFlow(t.Context(), f, 3, x, noise, w, got); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("bounds %v, wanted %v", got, want)
	}
	for i, p := range f.p {
		near(t, "slope of "+p.Name, float64(p.G[0]), float64(slopes[i]), 1e-6)
	}
}

// TestBits: values that are uniform over 256 levels take 8 bits each, whatever the
// range; levels of [−1, 1] add log₂ 127.5 to bits of the density.
func TestBits(t *testing.T) {
	near(t, "uniform over [-1, 1] and half a level more", training.BitsPerDim(3*math.Log(255.0/512), 3, 2.0/255), 8, 1e-12)
	near(t, "uniform over [0, 1] in steps of 1/256", training.BitsPerDim(0, 3, 1.0/256), 8, 1e-12)
	near(t, "bits of a density", training.BitsPerDim(-math.Ln2, 1, 0), 1, 1e-12)
	near(t, "mass", training.LogMass(0, 2, 0.5), -2*math.Ln2, 1e-12)
	x := []float32{-1, -0.999, 0.99, 1}
	training.Snap(x, -1, 2.0/255)
	for i, want := range []float64{-1, -1, 1 - 2.0/255, 1} {
		near(t, "level", float64(x[i]), want, 1e-6)
	}
}

func engine(t testing.TB) runtime.Engine {
	t.Helper()
	e, err := ort.Open("")
	enginetest.Unavailable(t, err)
	return e
}

func network(t testing.TB, e runtime.Engine, name string, hidden int, dims ...int) *bind.Flow {
	t.Helper()
	spec, err := nets.ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	spec.Coupling.Hidden = hidden
	return bound(t, e, spec, dims...)
}

func bound(t testing.TB, e runtime.Engine, spec nets.Spec, dims ...int) *bind.Flow {
	t.Helper()
	m, err := nets.Build(spec, dims, 3)
	if err != nil {
		t.Fatal(err)
	}
	f, err := bind.NewFlow(t.Context(), m, e, runtime.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func load(t testing.TB, name string, n int, part string) *data.Set {
	t.Helper()
	s, err := data.Load(t.Context(), name, data.Options{Limit: n, Seed: 1, Part: part})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRing: eight Gaussians on a circle, of true entropy 0.31 nats where the best
// single Gaussian needs 3.54. Flipped, learning fails.
func TestRing(t *testing.T) {
	set, held := load(t, "synthetic/ring8", 2000, "train"), load(t, "synthetic/ring8", 2000, "test")
	for _, sabotage := range []string{"", flow.Flip} {
		c, err := flow.For("points-realnvp", []int{2, 1, 1}, set.N)
		if err != nil {
			t.Fatal(err)
		}
		c.Steps, c.Batch, c.Sabotage = 1000, 128, sabotage
		s := system(t, c, network(t, engine(t), c.Net, 64, 2), set)
		s.Exam.Held = held
		if sabotage == flow.Flip {
			c.Steps = 80
		}
		err = training.Run(t.Context(), s, training.Options{Steps: c.Steps})
		nll := math.Inf(1)
		if err == nil {
			m, err := s.Evaluate(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			nll = m["held_out/nll"]
		}
		if sabotage == "" && !(nll <= 1.5) || sabotage != "" && !(nll > 3.54) {
			t.Errorf("sabotage %q: %g nats (%v)", sabotage, nll, err)
		}
		t.Logf("sabotage %q: %g nats (%v)", sabotage, nll, err)
	}
}

// TestAbilities: there and back, a way between two draws, scores, and what a flow
// cannot do.
func TestAbilities(t *testing.T) {
	set := load(t, "synthetic/blob16", 64, "train")
	c := config(func(c *flow.Config) { c.Steps, c.Batch, c.Begin = 3, 16, 32 })
	c.Optim.LR = 1e-3
	s := system(t, c, network(t, engine(t), "glow-16", 8, 1, 16, 16), set)
	for range 3 {
		step(t, s)
	}
	x := set.Head(5).X()
	back, err := s.Reconstruct(t.Context(), x, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range x {
		near(t, "there and back", float64(back[i]), float64(x[i]), 1e-3)
	}
	way, err := s.Interpolate(t.Context(), 1, 2, 4)
	if err != nil {
		t.Fatal(err)
	}
	for i, seed := range map[int]uint64{0: 1, 3: 2} {
		want, err := s.Draw(t.Context(), 1, seed)
		if err != nil {
			t.Fatal(err)
		}
		for j, v := range way[i*256 : (i+1)*256] {
			near(t, "end of the way", float64(v), float64(want[j]), 1e-4)
		}
	}
	if slices.Min(way) < -1 || slices.Max(way) > 1 {
		t.Error("draws leave the range of pictures")
	}
	name, scores, err := s.Score(t.Context(), append(slices.Clone(x), noisy(x)...), 1)
	if err != nil || !strings.Contains(name, "nats") || len(scores) != 10 {
		t.Fatalf("%d scores %q (%v)", len(scores), name, err)
	}
	for i, v := range scores[:5] {
		if v <= scores[5+i] {
			t.Errorf("example %d scores %g, noise %g", i, v, scores[5+i])
		}
	}
	mask := training.Ones(len(x))
	mask[3] = 0
	if _, err := s.Reconstruct(t.Context(), x, mask, 1); err == nil {
		t.Error("a flow fills in unknown entries")
	}
	bytes := set.Affine(127.5, 0)
	if _, err := flow.New(c, s.Flow, bytes, 3); err == nil || !strings.Contains(err.Error(), "[-1, 1]") {
		t.Errorf("wanted an error about the range, got %v", err)
	}
}

func noisy(x []float32) []float32 {
	r := rand.New(rand.NewPCG(9, 9))
	y := make([]float32, len(x))
	for i := range y {
		y[i] = float32(2*r.Float64() - 1)
	}
	return y
}

func TestResume(t *testing.T) {
	set := load(t, "synthetic/blob16", 40, "train")
	for name, open := range map[string]func() runtime.Engine{
		"ref": func() runtime.Engine { return ref.New() },
		"ort": func() runtime.Engine { return engine(t) },
	} {
		spec, err := nets.ByName("flowpp-16")
		if err != nil {
			t.Fatal(err)
		}
		spec.Coupling.Hidden, spec.Variational.Hidden, spec.Variational.Steps = 4, 3, 1
		spec.Layers = []nets.Layer{{Kind: nets.Steps, N: 1, By: nets.Checkerboard}, {Kind: nets.Squeeze}, {Kind: nets.Leave}, {Kind: nets.Steps, N: 1}}
		t.Run(name, func(t *testing.T) {
			systemtest.Resume(t, func() training.System {
				c, err := flow.For("pictures-16", []int{1, 16, 16}, set.N)
				if err != nil {
					t.Fatal(err)
				}
				c.Batch, c.Begin = 4, 6
				return system(t, c, bound(t, open(), spec, 1, 16, 16), set)
			}, "flow/layer1.step1.norm.bias", "flow/dequantize.step1.coupling.out.bias")
		})
	}
}

func TestCheck(t *testing.T) {
	for want, change := range map[string]func(c *flow.Config){
		"":         func(*flow.Config) {},
		"steps":    func(c *flow.Config) { c.Steps = 0 },
		"batch":    func(c *flow.Config) { c.Batch = 0 },
		"begin":    func(c *flow.Config) { c.Begin = 1 },
		"piece":    func(c *flow.Config) { c.Piece = -1 },
		"sabotage": func(c *flow.Config) { c.Sabotage = "tickle" },
	} {
		c := config(change)
		if err := c.Check(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", want, err)
		}
	}
	for name, p := range flow.Presets {
		if err := p.Config.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Config.Network(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := flow.For("paper", []int{1, 99, 99}, 5); err == nil || !strings.Contains(err.Error(), "pictures-28") {
		t.Errorf("wanted an error that names what there is, got %v", err)
	}
}
