package coopflow_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ebmrun/onnxmodels/energy"
	nets "ebmrun/onnxmodels/flow"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/coopflow"
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

// quadratic is U(x) = (x − centre)²/(2·width²), and its score −U, over numbers. It
// remembers what it was asked.
type quadratic struct {
	p           []optim.Param // precision 1/width², pull centre/width²
	began, x, w []float32
}

func newQuadratic(precision, pull float32) *quadratic {
	return &quadratic{p: []optim.Param{{Name: "theta", W: []float32{precision, pull}, G: make([]float32, 2)}}}
}

func (q *quadratic) EnergyGrad(x, u, g []float32) error {
	if q.began == nil {
		q.began = slices.Clone(x)
	}
	for i, v := range x {
		u[i] = q.p[0].W[0]*v*v/2 - q.p[0].W[1]*v
		g[i] = q.p[0].W[0]*v - q.p[0].W[1]
	}
	return nil
}

func (q *quadratic) HessianVector(_, v, hv []float32) error {
	for i := range v {
		hv[i] = q.p[0].W[0] * v[i]
	}
	return nil
}

func (q *quadratic) Learn(_ context.Context, x, w []float32, _ float32, score []float32) error {
	q.x, q.w = slices.Clone(x), slices.Clone(w)
	q.p[0].G[0], q.p[0].G[1] = 0, 0
	for i, v := range x {
		score[i] = -(q.p[0].W[0]*v*v/2 - q.p[0].W[1]*v)
		q.p[0].G[0] -= w[i] * v * v / 2
		q.p[0].G[1] += w[i] * v
	}
	return nil
}

func (q *quadratic) Params() []optim.Param { return q.p }
func (q *quadratic) Refresh()              {}

// affine is the flow z = (x − mean)·exp(−scale) of numbers.
type affine struct {
	p          []optim.Param
	decoded, x []float32
	learned    int
	begun      float64
	slope      float32 // in the mean, of the last call
}

func newAffine() *affine {
	return &affine{p: []optim.Param{{Name: "mean", W: []float32{0}, G: []float32{0}}, {Name: "scale", W: []float32{0}, G: []float32{0}}}}
}

func (f *affine) Params() []optim.Param { return f.p }
func (f *affine) Level() float64        { return 0 }

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
	f.decoded = slices.Clone(x)
	return nil
}

func (f *affine) Bound(ctx context.Context, x, _, bound []float32) error {
	return f.Encode(ctx, x, make([]float32, len(x)), bound)
}

func (f *affine) Learn(ctx context.Context, x, _, w, bound []float32) error {
	f.x = slices.Clone(x)
	f.learned++
	z := make([]float32, len(x))
	if err := f.Encode(ctx, x, z, bound); err != nil {
		return err
	}
	f.p[0].G[0], f.p[1].G[0] = 0, 0
	for i, v := range z {
		f.p[0].G[0] += w[i] * v * float32(math.Exp(-float64(f.p[1].W[0])))
		f.p[1].G[0] += w[i] * (v*v - 1)
	}
	f.slope = f.p[0].G[0]
	return nil
}

func (f *affine) Start(_ context.Context, x, _ []float32) error {
	f.begun = float64(len(x))
	return nil
}

// numbers are draws of N(1, 0.5²).
func numbers(t testing.TB, n int) *data.Set {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	s := &data.Set{Name: "numbers", N: n, C: 1, H: 1, W: 1, Gain: 1, Floats: make([]float32, n)}
	for i := range s.Floats {
		s.Floats[i] = float32(1 + 0.5*r.NormFloat64())
	}
	return s
}

func config(change func(c *coopflow.Config)) coopflow.Config {
	c := coopflow.Config{Steps: 400, Every: 1, Batch: 200, Begin: 50,
		Langevin: training.Langevin{Steps: 10, Step: 0.15, Noise: 1},
		Optim:    training.Optim{Name: "sgd", LR: 0.05}, Teach: training.Optim{Name: "sgd", LR: 0.05},
		Search: coopflow.Search{Steps: 200, Rate: 0.05, Fall: 0.99, Starts: 2}}
	if change != nil {
		change(&c)
	}
	return c
}

func system(t testing.TB, c coopflow.Config, e training.Energy, f training.Flow, set *data.Set) *coopflow.System {
	t.Helper()
	s, err := coopflow.New(c, e, f, set, 3)
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

// TestStep follows single iterations: drafts of the flow begin the revision, the flow
// learns what was revised and the energy what differs from data.
func TestStep(t *testing.T) {
	const n, rate = 200, 0.05
	for name, change := range map[string]func(c *coopflow.Config){
		"as published": func(*coopflow.Config) {},
		"flip":         func(c *coopflow.Config) { c.Sabotage = coopflow.Flip },
		"freeze":       func(c *coopflow.Config) { c.Sabotage = coopflow.Freeze },
	} {
		t.Run(name, func(t *testing.T) {
			set := numbers(t, 500)
			e, f := newQuadratic(2, 0.5), newAffine()
			c := config(change)
			s := system(t, c, e, f, set)
			var last []float32
			for range 3 {
				theta, alpha := slices.Clone(e.p[0].W), []float32{f.p[0].W[0], f.p[1].W[0]}
				e.began = nil
				m := step(t, s)
				observed, revised := e.x[:n], e.x[n:]
				if !slices.Equal(e.began, f.decoded) || slices.Equal(f.decoded, last) {
					t.Error("the revision does not begin at new drafts")
				}
				last = f.decoded
				if slices.Equal(revised, f.decoded) || !slices.Equal(revised, f.x) {
					t.Error("the flow is not taught the revised drafts")
				}
				for _, v := range observed {
					if !slices.Contains(set.X(), v) {
						t.Fatalf("%g is no example", v)
					}
				}
				sign := map[string]float64{"": 1, coopflow.Flip: -1, coopflow.Freeze: 0}[c.Sabotage]
				var pull, precision, mean, scale, moved float64
				for i := range n {
					x, y := float64(observed[i]), float64(revised[i])
					pull += (x - y) / n
					precision -= (x*x - y*y) / 2 / n
					z := (y - float64(alpha[0])) * math.Exp(-float64(alpha[1]))
					mean += z * math.Exp(-float64(alpha[1])) / n
					scale += (z*z - 1) / n
					moved += math.Pow(y-float64(f.decoded[i]), 2) / n
				}
				near(t, "step of the precision", float64(e.p[0].W[0]-theta[0]), sign*rate*precision, 1e-5)
				near(t, "step of the pull", float64(e.p[0].W[1]-theta[1]), sign*rate*pull, 1e-5)
				near(t, "step of the flow's mean", float64(f.p[0].W[0]-alpha[0]), rate*mean, 1e-5)
				near(t, "step of the flow's scale", float64(f.p[1].W[0]-alpha[1]), rate*scale, 1e-5)
				near(t, "revision", m["revision"], moved, 1e-4)
			}
			if f.begun != 50 {
				t.Errorf("normalisations are set by %g examples, wanted 50", f.begun)
			}
		})
	}
}

// TestPhases: the pre-trained variant teaches the flow by data, then the energy alone,
// then both, the flow every second time, at a rate of its own before.
func TestPhases(t *testing.T) {
	set := numbers(t, 500)
	e, f := newQuadratic(2, 0.5), newAffine()
	s := system(t, config(func(c *coopflow.Config) {
		c.Pretrain, c.Alone, c.Every, c.Prepare = 3, 2, 2, training.Optim{Name: "sgd", LR: 0.2}
	}), e, f, set)
	for i, want := range []struct{ flow, energy bool }{{true, false}, {true, false}, {true, false}, {false, true}, {false, true}, {true, true}, {false, true}, {true, true}} {
		theta, learned, mean := slices.Clone(e.p[0].W), f.learned, f.p[0].W[0]
		step(t, s)
		if flow, energy := f.learned > learned, !slices.Equal(theta, e.p[0].W); flow != want.flow || energy != want.energy {
			t.Errorf("iteration %d: the flow learns: %v, the energy: %v; wanted %+v", i, flow, energy, want)
		}
		if i < 3 && !slices.Contains(set.X(), f.x[0]) {
			t.Error("the flow is not taught data")
		}
		if rate := map[bool]float64{true: 0.2, false: 0.05}[i < 3]; want.flow {
			near(t, "the rate of the flow", float64((mean-f.p[0].W[0])/f.slope), rate, 1e-4)
		}
	}
}

// TestGaussian: where energies are quadratic and flows affine, both learn the data's
// Gaussian: the flow at its mean and deviation, as the chain's own widening allows. With
// the energy frozen the flow drifts to the energy instead.
func TestGaussian(t *testing.T) {
	set := numbers(t, 500)
	mean, sd := training.Moments(set.X())
	for _, sabotage := range []string{"", coopflow.Freeze} {
		e, f := newQuadratic(1, -1), newAffine()
		s := system(t, config(func(c *coopflow.Config) { c.Sabotage, c.Steps = sabotage, 2500 }), e, f, set)
		for range 2500 {
			step(t, s)
		}
		m, d := float64(f.p[0].W[0]), math.Exp(float64(f.p[1].W[0]))
		if good := math.Abs(m-mean) < 0.05 && math.Abs(d-sd) < 0.05; good != (sabotage == "") {
			t.Errorf("sabotage %q: the flow is N(%g, %g²), the data N(%g, %g²)", sabotage, m, d, mean, sd)
		}
		if sabotage == "" {
			near(t, "centre of the energy", float64(e.p[0].W[1]/e.p[0].W[0]), mean, 0.1)
		}
	}
}

// TestReconstruct: through a quadratic chain the search has a closed form: every
// example has a draft. Unknown entries are left to the draws of the flow.
func TestReconstruct(t *testing.T) {
	e, f := newQuadratic(2, 0.5), newAffine()
	c := config(nil)
	m := c.Of(e, flow.Model{Flow: f, Dim: 1})
	x := []float32{-1.5, 0.3, 2}
	y, err := m.Reconstruct(t.Context(), x, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range x {
		near(t, "reconstruction", float64(y[i]), float64(x[i]), 1e-3)
	}
	draft, err := m.Flow.Draw(t.Context(), 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	// without noise a step of size s multiplies the distance to the centre
	keep := math.Pow(1-0.15*0.15/2*2, 10)
	y, err = m.Reconstruct(t.Context(), x, []float32{1, 0, 1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "what is unknown", float64(y[1]), 0.25+keep*(float64(draft[1])-0.25), 1e-5)
	near(t, "what is known", float64(y[2]), 2, 1e-3)
	if _, err := m.Reconstruct(t.Context(), x, []float32{1}, 1); err == nil {
		t.Error("a mask of another size was accepted")
	}
	m.Energy = onlyField{e}
	if _, err := m.Reconstruct(t.Context(), x, nil, 1); err == nil || !strings.Contains(err.Error(), "second-order") {
		t.Errorf("wanted an error about second-order products, got %v", err)
	}
}

type onlyField struct{ e *quadratic }

func (o onlyField) EnergyGrad(x, u, g []float32) error { return o.e.EnergyGrad(x, u, g) }

// TestOf: another step size outside learning moves an entry as far at most.
func TestOf(t *testing.T) {
	c := config(func(c *coopflow.Config) { c.Langevin.GradClip, c.Step = 0.4, 0.3 })
	l := c.Of(nil, flow.Model{}).Langevin
	near(t, "largest move", l.GradClip*l.Step*l.Step/2, 0.4*0.15*0.15/2, 1e-12)
	near(t, "step", l.Step, 0.3, 1e-12)
}

func engine(t testing.TB) runtime.Engine {
	t.Helper()
	e, err := ort.Open("")
	enginetest.Unavailable(t, err)
	return e
}

// pair binds the networks of settings.
func pair(t testing.TB, eng runtime.Engine, c coopflow.Config, hidden int, dims ...int) (*bind.Energy, *bind.Flow) {
	t.Helper()
	es, err := c.EnergyNet()
	if err != nil {
		t.Fatal(err)
	}
	em, err := energy.Build(es, dims, c.Reference.Sigma, 3)
	if err != nil {
		t.Fatal(err)
	}
	fs, err := c.FlowNet()
	if err != nil {
		t.Fatal(err)
	}
	fs.Coupling.Hidden = hidden
	fm, err := nets.Build(fs, dims, 3)
	if err != nil {
		t.Fatal(err)
	}
	o := runtime.Options{Threads: 1}
	e, err := bind.New(t.Context(), em, eng, bind.Options{Runtime: o})
	if err != nil {
		t.Fatal(err)
	}
	f, err := bind.NewFlow(t.Context(), fm, eng, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(); f.Close() })
	return e, f
}

func load(t testing.TB, name string, n int, part string) *data.Set {
	t.Helper()
	s, err := data.Load(t.Context(), name, data.Options{Limit: n, Seed: 1, Part: part})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRing: a flow that never sees data learns eight Gaussians on a circle from the
// energy's revisions. With the energy frozen it drifts away.
func TestRing(t *testing.T) {
	set, held := load(t, "synthetic/ring8", 2000, "train"), load(t, "synthetic/ring8", 2000, "test")
	for _, sabotage := range []string{"", coopflow.Freeze} {
		c, err := coopflow.For("points", []int{2, 1, 1}, set.N)
		if err != nil {
			t.Fatal(err)
		}
		c.Steps, c.Batch, c.Sabotage = 600, 128, sabotage
		e, f := pair(t, engine(t), c, 32, 2)
		s := system(t, c, e, f, set)
		s.Exam.Held = held
		steps := c.Steps
		if sabotage != "" {
			steps = 300
		}
		if err := training.Run(t.Context(), s, training.Options{Steps: steps}); err != nil {
			t.Fatal(err)
		}
		m, err := s.Evaluate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		nll := m["flow/held_out/nll"]
		if sabotage == "" && !(nll <= 3) || sabotage != "" && !(nll > 3.54) {
			t.Errorf("sabotage %q: the flow has %g nats", sabotage, nll)
		}
		t.Logf("sabotage %q: %g nats", sabotage, nll)
	}
}

func TestResume(t *testing.T) {
	set := load(t, "synthetic/blob16", 40, "train")
	for name, c := range map[string]struct {
		open  func() runtime.Engine
		fused bool
	}{
		"ref":        {func() runtime.Engine { return ref.New() }, false},
		"ort, fused": {func() runtime.Engine { return engine(t) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			systemtest.Resume(t, func() training.System {
				k, err := coopflow.For("pretrained-16", []int{1, 16, 16}, set.N)
				if err != nil {
					t.Fatal(err)
				}
				k.Spec = &energy.Spec{Doubling: &energy.Doubling{Filters: 3, Blocks: 2, Outputs: 1}, Activation: "swish"}
				k.Flow, k.Batch, k.Begin, k.Pretrain, k.Alone = "glow-16", 4, 6, 2, 2
				k.Langevin.Steps, k.Langevin.Fused, k.Langevin.Noise = 3, c.fused, 0.001
				e, f := pair(t, c.open(), k, 4, 1, 16, 16)
				return system(t, k, e, f, set)
			}, "weights/in.weight", "flow/layer2.step1.norm.bias")
		})
	}
}

// TestPictures: a tiny pair draws within the range, walks between its draws, fills in
// what is unknown and shows all of it.
func TestPictures(t *testing.T) {
	set := load(t, "synthetic/blob16", 40, "train")
	c, err := coopflow.For("small", []int{1, 16, 16}, set.N)
	if err != nil {
		t.Fatal(err)
	}
	c.Spec = &energy.Spec{Doubling: &energy.Doubling{Filters: 3, Blocks: 2, Outputs: 1}, Activation: "swish"}
	c.Batch, c.Begin, c.Langevin.Steps, c.Search.Steps = 4, 6, 3, 20
	e, f := pair(t, engine(t), c, 4, 1, 16, 16)
	s := system(t, c, e, f, set)
	for range 2 {
		step(t, s)
	}
	pics, err := s.Pictures(t.Context())
	if err != nil || len(pics) != 3 {
		t.Fatalf("%d pictures (%v)", len(pics), err)
	}
	way, err := s.Interpolate(t.Context(), 1, 2, 5)
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Draw(t.Context(), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range first {
		near(t, "first of the way", float64(way[i]), float64(v), 1e-4)
	}
	x, mask := set.Head(2).X(), training.Ones(512)
	for i := range 100 {
		mask[i] = 0
	}
	y, err := s.Reconstruct(t.Context(), x, mask, 1)
	if err != nil {
		t.Fatal(err)
	}
	start, err := s.Draw(t.Context(), 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	known := func(a []float32) (sum float64) {
		for i, v := range a {
			sum += float64(mask[i]) * math.Pow(float64(v-x[i]), 2)
		}
		return sum
	}
	if known(y) > 0.5*known(start) || slices.Min(y) < -1 || slices.Max(y) > 1 {
		t.Errorf("error %g where known, %g at the start", known(y), known(start))
	}
	if name, v, err := s.Score(t.Context(), x, 1); err != nil || len(v) != 2 || !strings.HasPrefix(name, "flow:") {
		t.Errorf("scores %q %v (%v)", name, v, err)
	}
}

func TestCheck(t *testing.T) {
	for want, change := range map[string]func(c *coopflow.Config){
		"":                func(*coopflow.Config) {},
		"steps":           func(c *coopflow.Config) { c.Steps = 0 },
		"langevin":        func(c *coopflow.Config) { c.Langevin.Steps = 0 },
		"pretrain":        func(c *coopflow.Config) { c.Pretrain = -1 },
		"every":           func(c *coopflow.Config) { c.Every = 0 },
		"batch":           func(c *coopflow.Config) { c.Batch = 0 },
		"begin":           func(c *coopflow.Config) { c.Begin = 1 },
		"piece":           func(c *coopflow.Config) { c.Piece = -1 },
		"step: ":          func(c *coopflow.Config) { c.Step = math.NaN() },
		"reference.sigma": func(c *coopflow.Config) { c.Reference.Sigma = -1 },
		"score_l2":        func(c *coopflow.Config) { c.ScoreL2 = -1 },
		"search":          func(c *coopflow.Config) { c.Search.Fall = 2 },
		"sabotage":        func(c *coopflow.Config) { c.Sabotage = "tickle" },
	} {
		c := config(change)
		if err := c.Check(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", want, err)
		}
	}
	for name, p := range coopflow.Presets {
		if err := p.Config.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Config.EnergyNet(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Config.FlowNet(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := coopflow.For("paper", []int{1, 99, 99}, 5); err == nil || !strings.Contains(err.Error(), "pictures-28") {
		t.Errorf("wanted an error that names what there is, got %v", err)
	}
}
