package abp_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/onnxmodels/generator"
	"ebmrun/training"
	"ebmrun/training/abp"
	"ebmrun/training/data"
	"ebmrun/training/sampler"
)

// TestPosterior: with W given, inferred codes have the closed-form posterior
// means and the variances 1/λ/(1 − s²λ/4) that Langevin steps of size s leave at
// precision λ. A likelihood divided by the batch size fails.
func TestPosterior(t *testing.T) {
	const points, size = 5, 0.1
	w, set := factors(), draws(t, points, 1)
	// variances of the codes, pooled over examples, and the largest error of a mean
	measure := func(g *linear, chains int) (variance [codes]float64, off float64) {
		n := points * chains
		x := make([]float32, n*dim)
		for i := range n {
			copy(x[i*dim:], set.At(i%points))
		}
		z, y, err := abp.Infer(t.Context(), g, training.Langevin{Step: size, Noise: 1}, sampler.Noise{Seed: 1}, x, repeat(1, len(x)), n, 300)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]float32, len(x))
		if err := g.Forward(t.Context(), z, want); err != nil || !slices.Equal(y, want) {
			t.Fatalf("the reconstruction is not g of the codes (%v)", err)
		}
		for p := range points {
			for k, s := range scales {
				sum, square := 0.0, 0.0
				for i := p; i < n; i += points {
					v := float64(z[i*codes+k])
					sum += v / float64(chains)
					square += v * v / float64(chains)
				}
				variance[k] += (square - sum*sum) / points
				exact := 0.0
				for j := range dim {
					exact += w.At(j, k) * float64(set.At(p)[j])
				}
				exact /= residual*residual + s*s
				off = max(off, math.Abs(sum-exact))
			}
		}
		return variance, off
	}
	passes := func(variance [codes]float64, off float64) bool {
		ok := off <= 0.02
		for k, s := range scales {
			precision := 1 + s*s/(residual*residual)
			want := 1 / precision / (1 - size*size*precision/4)
			ok = ok && math.Abs(variance[k]-want) <= 0.05*want
		}
		return ok
	}
	variance, off := measure(newLinear(w.At), 4000)
	t.Logf("variances %.5f, means within %.4f", variance, off)
	if !passes(variance, off) {
		t.Errorf("variances %.5f, means within %.4f: wanted 0.02483, 0.04114, 0.08515 within 5%%, and 0.02", variance, off)
	}
	weak := newLinear(w.At)
	weak.share = 1.0 / points
	if variance, off = measure(weak, 400); passes(variance, off) {
		t.Errorf("a likelihood divided by %d passes: variances %.5f, means within %.4f", points, variance, off)
	}
}

// TestLearn finds the factor model from examples: likelihood, subspace and
// reconstructions of new examples. Without inference nothing is learned.
func TestLearn(t *testing.T) {
	set, held := draws(t, 2000, 1), draws(t, 200, 2)
	_, sd := training.Moments(held.X())
	learn := func(sabotage string) (nll, angle, share float64) {
		g := untrained()
		s := system(t, config(func(c *abp.Config) { c.Sabotage = sabotage }), g, set)
		s.Held = held
		run(t, s, 400)
		m, err := s.Evaluate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m[training.Objective] != m["held_out/mse"] {
			t.Errorf("the objective is %v, the held-out error %v", m[training.Objective], m["held_out/mse"])
		}
		nll, angle = compare(t, g.matrix())
		return nll, angle, m["held_out/mse"] / (sd * sd)
	}
	if nll, angle := compare(t, factors()); math.Abs(nll-entropy) > 1e-4 || angle > 1e-3 {
		t.Fatalf("the true model has %g nats, angle %g°", nll, angle)
	}
	nll, angle, share := learn("")
	t.Logf("%.4f nats, subspace angle %.2f°, error %.3f of the mean's", nll, angle, share)
	if nll > entropy+0.15 || angle > 5 || share > 0.2 {
		t.Errorf("%.4f nats, subspace angle %.2f°, held-out error %.3f of the mean's; wanted at most %.4f, 5°, 0.2", nll, angle, share, entropy+0.15)
	}
	nll, angle, share = learn(abp.Freeze)
	t.Logf("frozen: %.4f nats, subspace angle %.2f°, error %.3f of the mean's", nll, angle, share)
	if share < 0.9 || nll < entropy+0.15 {
		t.Errorf("without inference: %.4f nats, held-out error %.3f of the mean's", nll, share)
	}
}

// TestRecovery: learned from examples of which half is hidden, the generator
// fills in hidden entries of new ones.
func TestRecovery(t *testing.T) {
	g := untrained()
	s := system(t, config(func(c *abp.Config) { c.Data.Hidden = 0.5 }), g, draws(t, 2000, 1))
	run(t, s, 400)
	nll, angle := compare(t, g.matrix())
	held := draws(t, 300, 2)
	mask := make([]float32, len(held.X()))
	for i := range mask {
		mask[i] = float32((i + i/dim) % 2)
	}
	x := slices.Clone(held.X())
	for i, m := range mask {
		if m == 0 {
			x[i] = 1e3
		}
	}
	_, y, err := abp.Infer(t.Context(), g, s.Config.Langevin, sampler.Noise{Seed: 2}, x, mask, held.N, 200)
	if err != nil {
		t.Fatal(err)
	}
	var got, mean float64 // squared errors where hidden; the mean is 0
	for i, m := range mask {
		if m == 0 {
			got += float64((y[i] - held.X()[i]) * (y[i] - held.X()[i]))
			mean += float64(held.X()[i] * held.X()[i])
		}
	}
	t.Logf("%.4f nats, angle %.2f°, hidden error %.3f of the mean's", nll, angle, got/mean)
	if nll > entropy+0.3 || angle > 10 || got > 0.5*mean {
		t.Errorf("%.4f nats, angle %.2f°, hidden error %.3f of the mean's; wanted at most %.4f, 10°, 0.5", nll, angle, got/mean, entropy+0.3)
	}
}

// rows finds an example by its values.
func rows(set *data.Set) map[[dim]float32]int {
	m := map[[dim]float32]int{}
	for i := range set.N {
		m[[dim]float32(set.At(i))] = i
	}
	return m
}

func saved(t testing.TB, s *abp.System) (z []float32) {
	t.Helper()
	st, err := s.Save()
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(st.Tensors["codes"].Data.([]float32))
}

// TestHidden: every example has a mask of its own that stays; what it hides
// influences neither codes nor weights, bit for bit, and what it shows does.
func TestHidden(t *testing.T) {
	set := draws(t, 50, 1)
	c := config(func(c *abp.Config) { c.Batch, c.Data.Hidden = 20, 0.4 })
	masks := map[int][dim]float32{}
	arm := func(set *data.Set) (w, z []float32) {
		g, id := untrained(), rows(set)
		g.learn = func(_, target, mask []float32) {
			for i := range len(target) / dim {
				example := id[[dim]float32(target[i*dim:])]
				m := [dim]float32(mask[i*dim:])
				if old, seen := masks[example]; seen && old != m {
					t.Errorf("example %d: mask %v, then %v", example, old, m)
				}
				masks[example] = m
			}
		}
		s := system(t, c, g, set)
		run(t, s, 12)
		return g.w.W, saved(t, s)
	}
	w, z := arm(set)
	hidden, distinct := 0, map[[dim]float32]bool{}
	for _, m := range masks {
		distinct[m] = true
		for _, v := range m {
			if v == 0 {
				hidden++
			} else if v != 1 {
				t.Fatalf("a mask holds %g", v)
			}
		}
	}
	if share := float64(hidden) / float64(set.N*dim); len(masks) != set.N || len(distinct) < 40 || math.Abs(share-0.4) > 0.08 {
		t.Fatalf("%d masks, %d distinct, %.3f hidden", len(masks), len(distinct), share)
	}
	for _, change := range []float32{0, 1} { // where the mask has this value
		other := *set
		other.Floats = slices.Clone(set.X())
		for i, m := range masks {
			for j, v := range m {
				if v == change {
					other.Floats[i*dim+j] = -1 - other.X()[i*dim+j]
				}
			}
		}
		w2, z2 := arm(&other)
		if same := slices.Equal(w, w2) && slices.Equal(z, z2); same != (change == 0) {
			t.Errorf("other values where the mask is %g: the same weights and codes: %v", change, same)
		}
	}
}

// TestCodes: under shuffling every example's chain goes on where the same
// example's ended, and inference is what moves it.
func TestCodes(t *testing.T) {
	set := draws(t, 50, 1)
	id := rows(set)
	g := untrained()
	s := system(t, config(func(c *abp.Config) { c.Batch = 20 }), g, set)
	stored := saved(t, s)
	if mean, sd := training.Moments(stored); math.Abs(mean) > 0.25 || math.Abs(sd-1) > 0.2 {
		t.Errorf("codes begin with mean %g and deviation %g, wanted those of N(0, 1)", mean, sd)
	}
	began, learned, order := 0, 0, map[int]bool{}
	each := func(z, target []float32, f func(example int, code []float32)) {
		for i := range len(target) / dim {
			example, ok := id[[dim]float32(target[i*dim:])]
			if !ok {
				t.Fatal("a target is no example")
			}
			f(example, z[i*codes:(i+1)*codes])
		}
	}
	g.began = func(z, target []float32) {
		each(z, target, func(example int, code []float32) {
			began++
			order[example] = true
			if !slices.Equal(code, stored[example*codes:(example+1)*codes]) {
				t.Errorf("example %d begins at %v, its code is %v", example, code, stored[example*codes:(example+1)*codes])
			}
		})
	}
	g.learn = func(z, target, _ []float32) {
		after := slices.Clone(stored)
		each(z, target, func(example int, code []float32) {
			learned++
			if slices.Equal(code, stored[example*codes:(example+1)*codes]) {
				t.Errorf("example %d has not moved", example)
			}
			copy(after[example*codes:], code)
		})
		stored = after
	}
	for range 10 {
		if _, err := s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(stored, saved(t, s)) {
			t.Fatal("the codes stored are not those of the examples learned from")
		}
	}
	if began != 200 || learned != 200 || len(order) != set.N {
		t.Errorf("%d chains began, %d were learned from, of %d examples; wanted 200, 200, %d", began, learned, len(order), set.N)
	}
}

// TestUpdate: one iteration descends on (1/n) Σ ‖x − g(z)‖²/(2σ²), and the
// metrics tell of it.
func TestUpdate(t *testing.T) {
	set := draws(t, 30, 1)
	g := untrained()
	const rate = 0.01
	s := system(t, config(func(c *abp.Config) {
		c.Batch, c.Data.Hidden, c.Optim = 30, 0.3, training.Optim{Name: "sgd", LR: rate}
	}), g, set)
	before := slices.Clone(g.w.W)
	want, square, visible := make([]float64, len(before)), 0.0, 0.0
	g.learn = func(z, target, mask []float32) {
		for i, x := range target {
			w, code := before[i%dim*codes:][:codes], z[i/dim*codes:][:codes]
			r := float64(mask[i] * (x - w[0]*code[0] - w[1]*code[1] - w[2]*code[2]))
			square += r * r
			visible += float64(mask[i])
			for k, c := range code {
				want[i%dim*codes+k] += rate * r * float64(c) / (residual * residual * 30)
			}
		}
	}
	m, err := s.Step(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range g.w.W {
		if d := float64(v - before[i]); math.Abs(d-want[i]) > 1e-5*(1+math.Abs(want[i])) {
			t.Errorf("weight %d: wanted a step of %g, got %g", i, want[i], d)
		}
	}
	if math.Abs(m["mse"]-square/visible) > 1e-5 {
		t.Errorf("mse: wanted %g, got %g", square/visible, m["mse"])
	}
	if s.Iteration() != 1 || m["r"] <= 0 || m["grad_norm"] <= 0 || m["code_square"] <= 0 {
		t.Errorf("iteration %d, metrics %v", s.Iteration(), m)
	}
	s.Slow(0)
	g.learn = nil
	copy(before, g.w.W)
	if _, err := s.Step(t.Context()); err != nil || !slices.Equal(before, g.w.W) {
		t.Errorf("a learning rate of 0 moves the weights (%v)", err)
	}
}

// TestSamples: samples follow N(0, WWᵀ) and drawing them changes nothing.
func TestSamples(t *testing.T) {
	w := factors()
	s := system(t, config(nil), newLinear(w.At), draws(t, 20, 1))
	before := saved(t, s)
	x, err := s.Samples(t.Context(), 4000)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Samples(t.Context(), 4000)
	if err != nil || !slices.Equal(x, again) || !slices.Equal(before, saved(t, s)) {
		t.Errorf("drawing samples is not without effect (%v)", err)
	}
	cov := covariance(w)
	for i := range dim {
		for j := range dim {
			got := 0.0
			for k := range 4000 {
				got += float64(x[k*dim+i]) * float64(x[k*dim+j]) / 4000
			}
			want := cov.At(i, j)
			if i == j {
				want -= residual * residual
			}
			if math.Abs(got-want) > 0.12 {
				t.Errorf("covariance of entries %d and %d: wanted %.3f, got %.3f", i, j, want, got)
			}
		}
	}
	s.JudgeN = 7
	s.Judge = func(x []float32) (training.Metrics, error) {
		return training.Metrics{"judged": float64(len(x)), training.Objective: -1}, nil
	}
	for range s.Config.Steps { // until every example has codes
		if _, err := s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	m, err := s.Evaluate(t.Context())
	if err != nil || m["judged"] != 7*dim || m["fitted/judged"] != 7*dim || m[training.Objective] != -1 {
		t.Errorf("without held-out examples the judge decides: got %v (%v)", m, err)
	}
	s.Held = draws(t, 5, 3)
	if m, err = s.Evaluate(t.Context()); err != nil || m[training.Objective] <= 0 || m[training.Objective] != m["held_out/mse"] {
		t.Errorf("with held-out examples reconstruction decides: got %v (%v)", m, err)
	}
}

func TestManifold(t *testing.T) {
	if got, want := abp.Manifold(3), []float32{-2, -2, 0, -2, 2, -2, -2, 0, 0, 0, 2, 0, -2, 2, 0, 2, 2, 2}; !slices.Equal(got, want) {
		t.Errorf("wanted %v, got %v", want, got)
	}
}

func TestCheck(t *testing.T) {
	for want, change := range map[string]func(c *abp.Config){
		"":                func(*abp.Config) {},
		"steps":           func(c *abp.Config) { c.Steps = 0 },
		"batch":           func(c *abp.Config) { c.Batch = 0 },
		"sigma":           func(c *abp.Config) { c.Sigma = math.NaN() },
		"langevin.steps":  func(c *abp.Config) { c.Langevin.Steps = 0 },
		"data.hidden":     func(c *abp.Config) { c.Data.Hidden = 1 },
		"not a share":     func(c *abp.Config) { c.Data.Hidden = math.NaN() },
		"sabotage":        func(c *abp.Config) { c.Sabotage = "flip" },
		"optim.lr":        func(c *abp.Config) { c.Optim.LR = 0 },
		"unknown network": func(c *abp.Config) { c.Net = "none" },
	} {
		c := config(change)
		err := c.Check()
		switch want {
		case "optim.lr":
			_, err = abp.New(c, untrained(), draws(t, 5, 1), 1)
		case "unknown network":
			_, err = c.Network()
		case "not a share":
			want = "data.hidden"
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("wanted an error about %q, got %v", want, err)
		}
	}
}

// TestPresets: every preset makes sense and its network is there.
func TestPresets(t *testing.T) {
	for name, p := range abp.Presets {
		c := p.Config
		if err := c.Check(); err != nil || p.Title == "" {
			t.Errorf("%s %q: %v", name, p.Title, err)
		}
	}
	for _, dims := range [][]int{{1, 16, 16}, {1, 28, 28}, {3, 32, 32}, {3, 64, 64}, {2, 1, 1}} {
		for _, name := range []string{"", "small", "paper"} {
			c, err := abp.For(name, dims, 100)
			if err != nil {
				t.Errorf("%q for %v: %v", name, dims, err)
				continue
			}
			s, err := c.Network()
			if err != nil {
				t.Fatal(err)
			}
			if dims[1] == 1 {
				dims = dims[:1]
			}
			if _, err := generator.Build(s, dims, 1); err != nil {
				t.Errorf("%q for %v: %v", name, dims, err)
			}
			dims = append(dims, 1, 1)[:3]
		}
	}
	if _, err := abp.For("small", []int{1, 17, 17}, 100); err == nil || !strings.Contains(err.Error(), "pictures-16") {
		t.Errorf("wanted an error that names the presets, got %v", err)
	}
}
