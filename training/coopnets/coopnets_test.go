package coopnets_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/training"
	"ebmrun/training/coopnets"
)

func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tol*(1+math.Abs(want))) {
		t.Errorf("%s: wanted %g, got %g", what, want, got)
	}
}

// TestStep follows single iterations: drafts start the revision, the energy
// learns from data against revised drafts, inference starts at the drawn codes
// and explains the revised drafts, and the generator's gradient takes revised
// drafts and codes as constants.
func TestStep(t *testing.T) {
	const n, rate = 100, 0.05
	for name, change := range map[string]func(c *coopnets.Config){
		"rigorous":   func(*coopnets.Config) {},
		"jump-start": jumpStart,
		"scores":     func(c *coopnets.Config) { c.ScoreL2 = 0.2 },
		"flip":       func(c *coopnets.Config) { c.Sabotage = coopnets.Flip },
		"freeze":     func(c *coopnets.Config) { c.Sabotage = coopnets.Freeze },
	} {
		t.Run(name, func(t *testing.T) {
			set := gaussian(t, 500)
			c := config(change)
			e, g := newQuadratic(), newAffine()
			copy(e.theta.W, []float32{0.2, -0.1})
			s := system(t, c, e, g, set)
			inData := map[float32]bool{}
			for _, v := range set.X() {
				inData[v] = true
			}
			var last []float32
			for i := range 3 {
				theta, w := slices.Clone(e.theta.W), slices.Clone(g.w.W)
				g.began, e.began = nil, nil
				m := step(t, s)

				if slices.Equal(g.drawn, last) {
					t.Error("the same codes are drawn twice")
				}
				last = g.drawn
				if mean, sd := training.Moments(g.drawn); math.Abs(mean) > 0.35 || math.Abs(sd-1) > 0.25 {
					t.Errorf("drawn codes have mean %g and deviation %g", mean, sd)
				}
				if !slices.Equal(e.began, g.drafts) {
					t.Error("the revision does not begin at the drafts")
				}
				observed, revised := e.x[:n], e.x[n:]
				for _, v := range observed {
					if !inData[v] {
						t.Fatalf("%g is no example", v)
					}
				}
				if slices.Equal(revised, g.drafts) || !slices.Equal(revised, g.target) {
					t.Error("the generator is not taught the revised drafts")
				}
				switch c.Inference.Steps {
				case 0:
					if g.began != nil || !slices.Equal(g.z, g.drawn) {
						t.Error("jump-start does not keep the codes it drew")
					}
				default:
					if !slices.Equal(g.began, g.drawn) || !slices.Equal(g.towards, revised) || slices.Min(g.mask) != 1 || slices.Equal(g.z, g.drawn) {
						t.Error("inference does not go from the drawn codes to those of the revised drafts")
					}
				}

				// θ descends on mean f(revised) − mean f(data) (+ c·mean f² of both).
				sign := 1.0
				if c.Sabotage == coopnets.Flip {
					sign = -1
				}
				f := func(x float32) float64 { return float64(theta[0])*float64(x) + float64(theta[1])*float64(x)*float64(x) }
				var grad [2]float64
				var fd, fs float64
				for k, x := range e.x {
					pull := sign / n
					if k < n {
						pull = -pull
						fd += f(x) / n
					} else {
						fs += f(x) / n
					}
					pull += 2 * c.ScoreL2 * f(x) / n
					grad[0] += pull * float64(x)
					grad[1] += pull * float64(x) * float64(x)
				}
				for j := range grad {
					near(t, "step of θ", float64(e.theta.W[j]-theta[j]), -rate*grad[j], 1e-5)
				}
				near(t, "V", m[training.Value], fd-fs, 1e-5)
				near(t, "score of data", m["score_data"], fd, 1e-5)
				near(t, "score of samples", m["score_samples"], fs, 1e-5)
				// On this pair of batches the step widens the gap, or narrows it if flipped.
				if c.ScoreL2 == 0 {
					gap := 0.0
					for k, x := range e.x {
						v := float64(e.f(x)) / n
						if k >= n {
							v = -v
						}
						gap += v
					}
					if sign*(gap-(fd-fs)) <= 0 {
						t.Errorf("V goes from %g to %g", fd-fs, gap)
					}
				}

				// α, μ descend on mean ‖revised − g(z)‖²/(2σ²) with revised and z fixed.
				var fit [2]float64
				var square, moved float64
				for k, z := range g.z {
					r := float64(revised[k]) - float64(w[0])*float64(z) - float64(w[1])
					fit[0] -= r * float64(z) / (residual * residual * n)
					fit[1] -= r / (residual * residual * n)
					square += r * r / n
					moved += math.Pow(float64(revised[k]-g.drafts[k]), 2) / n
				}
				for j := range fit {
					want := -rate * fit[j]
					if c.Sabotage == coopnets.Freeze {
						want = 0
					}
					near(t, "step of the generator", float64(g.w.W[j]-w[j]), want, 1e-5)
				}
				near(t, "fit", m["fit"], square, 1e-5)
				near(t, "revision", m["revision"], moved, 1e-5)
				near(t, "norm of the generator's gradient", m["generator/grad_norm"], math.Hypot(fit[0], fit[1]), 1e-5)
				near(t, "norm of the energy's gradient", m["grad_norm"], math.Hypot(grad[0], grad[1]), 1e-5)
				_, sd := training.Moments(revised)
				near(t, "deviation of samples", m[training.SampleStd], sd, 1e-6)
				_, sd = training.Moments(observed)
				near(t, "deviation of data", m[training.DataStd], sd, 1e-6)
				if s.Iteration() != i+1 || e.refreshed != i+1 {
					t.Errorf("iteration %d, %d refreshes; wanted %d", s.Iteration(), e.refreshed, i+1)
				}
			}
		})
	}
}

// TestNoise: drawn codes, the revision's noise and that of inference are new in
// every iteration and independent of one another.
func TestNoise(t *testing.T) {
	const n, size = 2000, 0.15
	e, g := newQuadratic(), newAffine()
	s := system(t, config(func(c *coopnets.Config) {
		c.Batch, c.Langevin.Steps, c.Inference.Steps = n, 1, 1
	}), e, g, gaussian(t, n))
	var streams [][]float64
	for range 3 {
		e.began = nil
		theta, w := slices.Clone(e.theta.W), slices.Clone(g.w.W)
		step(t, s)
		code, revision, inference := make([]float64, n), make([]float64, n), make([]float64, n)
		for i, z := range g.drawn {
			x, y := g.drafts[i], g.target[i]
			slope := x/(reference*reference) - theta[0] - 2*theta[1]*x
			pull := z - (y-w[0]*z-w[1])*w[0]/(residual*residual)
			code[i] = float64(z)
			revision[i] = float64(y-x+size*size/2*slope) / size
			inference[i] = float64(g.z[i]-z+size*size/2*pull) / size
		}
		streams = append(streams, code, revision, inference)
	}
	for i, a := range streams {
		for j, b := range streams[:i+1] {
			cov, want := 0.0, 0.0
			for k := range a {
				cov += a[k] * b[k] / n
			}
			if i == j {
				want = 1
			}
			if math.Abs(cov-want) > 0.13 {
				t.Errorf("covariance of streams %d and %d: wanted %g, got %.3f", i, j, want, cov)
			}
		}
	}
}

// TestSlow: slowing down reaches both optimizers.
func TestSlow(t *testing.T) {
	e, g := newQuadratic(), newAffine()
	s := system(t, config(nil), e, g, gaussian(t, 200))
	step(t, s)
	theta, w := slices.Clone(e.theta.W), slices.Clone(g.w.W)
	s.Slow(0)
	step(t, s)
	if !slices.Equal(theta, e.theta.W) || !slices.Equal(w, g.w.W) {
		t.Error("weights move at a learning rate of 0")
	}
}

// TestSamples: drafts are g(z), revised ones follow the chain from them, and
// drawing changes nothing.
func TestSamples(t *testing.T) {
	e, g := newQuadratic(), newAffine()
	s := system(t, config(nil), e, g, gaussian(t, 200))
	copy(e.theta.W, []float32{1, -0.5})
	copy(g.w.W, []float32{0.7, -2})
	const n = 5050 // no multiple of the batch
	drafts, err := s.Samples(t.Context(), n, false)
	if err != nil {
		t.Fatal(err)
	}
	revised, err := s.Samples(t.Context(), n, true)
	if err != nil {
		t.Fatal(err)
	}
	if len(drafts) != n || len(revised) != n {
		t.Fatalf("%d drafts, %d revised; wanted %d", len(drafts), len(revised), n)
	}
	again, err := s.Samples(t.Context(), n, true)
	if err != nil || !slices.Equal(revised, again) {
		t.Errorf("samples differ from call to call (%v)", err)
	}
	mean, sd := training.Moments(drafts)
	near(t, "mean of drafts", mean, -2, 0.02)
	near(t, "deviation of drafts", sd, 0.7, 0.02)
	// x ← x − (s²/2)(λx − θ1) + sε, ten times
	const size = 0.15
	m, v, keep := -2.0, 0.49, 1-size*size/2*1.25
	for range 10 {
		m, v = keep*m+size*size/2, keep*keep*v+size*size
	}
	mean, sd = training.Moments(revised)
	near(t, "mean of revised", mean, m, 0.02)
	near(t, "deviation of revised", sd, math.Sqrt(v), 0.02)

	// An iteration after drawing is the iteration without.
	other := system(t, config(nil), newQuadratic(), newAffine(), gaussian(t, 200))
	copy(other.Energy.Params()[0].W, e.theta.W)
	copy(other.Generator.Params()[0].W, g.w.W)
	step(t, s)
	step(t, other)
	if !slices.Equal(other.Generator.Params()[0].W, g.w.W) || !slices.Equal(other.Energy.Params()[0].W, e.theta.W) {
		t.Error("drawing samples changes the next iteration")
	}
}

// TestEvaluate: revised samples give the objective, drafts stand beside them.
func TestEvaluate(t *testing.T) {
	s := system(t, config(nil), newQuadratic(), newAffine(), gaussian(t, 200))
	if m, err := s.Evaluate(t.Context()); err != nil || m != nil {
		t.Errorf("without a judge: %v (%v)", m, err)
	}
	s.JudgeN = 30
	s.Judge = func(x []float32) (training.Metrics, error) {
		_, sd := training.Moments(x)
		return training.Metrics{"sd": sd, training.Objective: sd}, nil
	}
	m, err := s.Evaluate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, revised := range map[string]bool{"generator/sd": false, "sd": true} {
		x, err := s.Samples(t.Context(), 30, revised)
		if err != nil {
			t.Fatal(err)
		}
		_, sd := training.Moments(x)
		near(t, name, m[name], sd, 1e-12)
	}
	if len(m) != 3 || m[training.Objective] != m["sd"] {
		t.Errorf("got %v", m)
	}
}

func TestCheck(t *testing.T) {
	for want, change := range map[string]func(c *coopnets.Config){
		"":                func(*coopnets.Config) {},
		"steps":           func(c *coopnets.Config) { c.Steps = 0 },
		"batch":           func(c *coopnets.Config) { c.Batch = 0 },
		"sigma":           func(c *coopnets.Config) { c.Sigma = math.NaN() },
		"langevin.steps":  func(c *coopnets.Config) { c.Langevin.Steps = 0 },
		"inference":       func(c *coopnets.Config) { c.Inference.Step = 0 },
		"inference: ":     func(c *coopnets.Config) { c.Inference.Steps = -1 },
		"reference.sigma": func(c *coopnets.Config) { c.Reference.Sigma = math.NaN() },
		"score_l2":        func(c *coopnets.Config) { c.ScoreL2 = -1 },
		"sabotage":        func(c *coopnets.Config) { c.Sabotage = "sleep" },
	} {
		c := config(change)
		err := c.Check()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("wanted an error about %q, got %v", want, err)
		}
	}
	for want, change := range map[string]func(c *coopnets.Config){
		"optim.lr":    func(c *coopnets.Config) { c.Optim.LR = 0 },
		"teach: opti": func(c *coopnets.Config) { c.Teach.LR = 0 },
		"batch":       func(c *coopnets.Config) { c.Batch = 0 },
	} {
		if _, err := coopnets.New(config(change), newQuadratic(), newAffine(), gaussian(t, 10), 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %q, got %v", want, err)
		}
	}
	c := config(func(c *coopnets.Config) { c.Net, c.Generator = "none", "none" })
	if _, err := c.EnergyNet(); err == nil {
		t.Error("an unknown energy is no error")
	}
	if _, err := c.GeneratorNet(); err == nil {
		t.Error("an unknown generator is no error")
	}
}

// TestPublishedSizes: energies of the presets with published settings have as many
// parameters as the authors' networks.
func TestPublishedSizes(t *testing.T) {
	for _, c := range []struct {
		dims []int
		want int
	}{{[]int{1, 28, 28}, 1066532}, {[]int{3, 64, 64}, 6927588}} {
		s, err := coopnets.For("paper", c.dims, 100)
		if err != nil {
			t.Fatal(err)
		}
		m, err := energy.Build(*s.Spec, c.dims, s.Reference.Sigma, 1)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, p := range passes.Weights(m.Graph) {
			got += graphs.Size(p.Shape.Ints())
		}
		if got != c.want {
			t.Errorf("%v: %d parameters, wanted %d", c.dims, got, c.want)
		}
	}
}

// TestPresets: every preset makes sense, and both networks fit its pictures.
func TestPresets(t *testing.T) {
	for name, p := range coopnets.Presets {
		if err := p.Config.Check(); err != nil || p.Title == "" {
			t.Errorf("%s %q: %v", name, p.Title, err)
		}
	}
	for pick, dims := range map[string][]int{
		"": {1, 16, 16}, "pictures-16": {1, 16, 16}, "small": {1, 28, 28}, "paper": {1, 28, 28},
		"pictures-32": {3, 32, 32}, "pictures-64": {3, 64, 64},
	} {
		c, err := coopnets.For(pick, dims, 100)
		if err != nil {
			t.Errorf("%q: %v", pick, err)
			continue
		}
		es, err := c.EnergyNet()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := energy.Build(es, dims, c.Reference.Sigma, 1); err != nil {
			t.Errorf("%q: energy for %v: %v", pick, dims, err)
		}
		gs, err := c.GeneratorNet()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := generator.Build(gs, dims, 1); err != nil {
			t.Errorf("%q: generator for %v: %v", pick, dims, err)
		}
	}
	if _, err := coopnets.For("small", []int{1, 17, 17}, 100); err == nil || !strings.Contains(err.Error(), "pictures-16") {
		t.Errorf("wanted an error that names the presets, got %v", err)
	}
}
