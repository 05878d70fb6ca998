package generativeconvnet_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/bind/bindtest"
	"ebmrun/training/data"
	"ebmrun/training/generativeconvnet"
	"ebmrun/training/sampler"
)

// points is a set of n points [n, dim] drawn around a mean.
func points(t testing.TB, n int, mean []float32, sd float32) *data.Set {
	t.Helper()
	s := &data.Set{Name: "test", N: n, C: len(mean), H: 1, W: 1, Floats: make([]float32, n*len(mean)), Gain: 1}
	sampler.Noise{Seed: 77}.Normals(s.X(), sampler.Chains(0, n), 0)
	for i := range s.Floats {
		s.Floats[i] = mean[i%len(mean)] + sd*s.X()[i]
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	return s
}

// config is a small configuration that a test changes.
func config(change func(c *generativeconvnet.Config)) generativeconvnet.Config {
	c := generativeconvnet.Config{
		Steps: 100, Batch: 50,
		Langevin: training.Langevin{Steps: 10, Step: 0.3, Noise: 1},
		Chains:   generativeconvnet.Chains{Init: generativeconvnet.Persistent, Start: generativeconvnet.Gaussian, Buffer: 50},
		Optim:    training.Optim{Name: "sgd", LR: 0.1},
	}
	c.Reference.Sigma = 1
	change(&c)
	return c
}

func system(t testing.TB, c generativeconvnet.Config, e training.Energy, set *data.Set) *generativeconvnet.System {
	t.Helper()
	s, err := generativeconvnet.New(c, e, set, 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func step(t testing.TB, s *generativeconvnet.System) training.Metrics {
	t.Helper()
	m, err := s.Step(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func samples(t testing.TB, s *generativeconvnet.System, n int) []float32 {
	t.Helper()
	x, err := s.Samples(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// moments are the mean and variance of each of dim columns.
func moments(x []float32, dim int) (mean, variance []float64) {
	mean, variance = make([]float64, dim), make([]float64, dim)
	n := float64(len(x) / dim)
	for i, v := range x {
		mean[i%dim] += float64(v) / n
	}
	for i, v := range x {
		variance[i%dim] += (float64(v) - mean[i%dim]) * (float64(v) - mean[i%dim]) / n
	}
	return mean, variance
}

// TestLinearStationary: with f = w·x and a Gaussian reference the chains settle
// at mean σ²w and variance σ²/(1 − s²/(4σ²)).
func TestLinearStationary(t *testing.T) {
	const sigma, size, chains = 0.8, 0.6, 1500
	spec := energy.Spec{Layers: []energy.Layer{{Filters: 1}}, Activation: "linear"}
	e := bindtest.On(t, ref.New(), bind.Options{})(energy.Build(spec, []int{2}, sigma, 1))
	w := []float32{0.9, -0.6}
	copy(e.Params()[0].W, w)
	c := config(func(c *generativeconvnet.Config) {
		c.Batch, c.Chains.Buffer, c.Reference.Sigma, c.Langevin.Step, c.Langevin.Steps = chains, chains, sigma, size, 15
	})
	s := system(t, c, freeze(e), points(t, 10, []float32{0, 0}, 1))
	var pool []float32
	for i := range 22 {
		step(t, s)
		if i >= 2 {
			pool = append(pool, samples(t, s, chains)...)
		}
	}
	mean, variance := moments(pool, 2)
	want := sigma * sigma / (1 - size*size/(4*sigma*sigma))
	for j := range 2 {
		if d := mean[j] - sigma*sigma*float64(w[j]); math.Abs(d) > 0.02 {
			t.Errorf("mean %d: wanted %.4f, got %.4f", j, sigma*sigma*w[j], mean[j])
		}
		if math.Abs(variance[j]-want) > 0.03*want {
			t.Errorf("variance %d: wanted %.4f, got %.4f (%.4f without the discretisation)", j, want, variance[j], sigma*sigma)
		}
	}
}

// TestAutoEncoding: without noise and with s²/2 = σ² one step of contrastive
// divergence is the encoding x ← σ²·∂f/∂x.
func TestAutoEncoding(t *testing.T) {
	const sigma = 0.7
	c := config(func(c *generativeconvnet.Config) {
		c.Net, c.Batch, c.Chains.Init, c.Reference.Sigma = "toy", 5, generativeconvnet.FromData, sigma
		c.Langevin = training.Langevin{Steps: 1, Step: sigma * math.Sqrt2}
	})
	e := network(t, c, ref.New(), 2)
	batch := &recorded{Energy: freeze(e)}
	s := system(t, c, batch, points(t, 20, []float32{1, 0}, 1))
	step(t, s)
	observed, encoded := batch.x[:10], batch.x[10:]
	u, g := make([]float32, 5), make([]float32, 10)
	if err := e.EnergyGrad(observed, u, g); err != nil {
		t.Fatal(err)
	}
	for i, v := range encoded {
		// ∂f/∂x = x/σ² − ∂U/∂x
		if want := observed[i] - sigma*sigma*g[i]; math.Abs(float64(v-want)) > 1e-5 {
			t.Errorf("value %d: wanted %g, got %g", i, want, v)
		}
	}
}

// TestSabotage: the settings that spoil learning do what the arms of the tests do.
func TestSabotage(t *testing.T) {
	run := func(sabotage string, wrap func(training.Energy) training.Energy) []float32 {
		e := newPolynomial(2, 1)
		c := config(func(c *generativeconvnet.Config) { c.Sabotage, c.Optim.LR = sabotage, 0.01 })
		s := system(t, c, wrap(e), points(t, 100, []float32{1, 0}, 0.5))
		for range 5 {
			if m := step(t, s); m[training.Value] != 0 && math.Signbit(m[training.Value]) != (m["score_data"] < m["score_samples"]) {
				t.Errorf("sabotage %q changes the sign of V", sabotage)
			}
		}
		return append(slices.Clone(e.a.W), e.b.W...)
	}
	plain := func(e training.Energy) training.Energy { return e }
	if !slices.Equal(run(generativeconvnet.Flip, plain), run("", flip)) {
		t.Error("flip does not flip the update")
	}
	if got := run(generativeconvnet.Freeze, plain); !slices.Equal(got, make([]float32, 4)) {
		t.Errorf("freeze has updated the weights to %v", got)
	}
	if slices.Equal(run("", plain), run("", flip)) {
		t.Error("flipped updates are the same")
	}
}

// TestFused: all steps in one graph learn what step by step learns.
func TestFused(t *testing.T) {
	run := func(fused bool) []float32 {
		c := config(func(c *generativeconvnet.Config) {
			c.Net = "toy"
			c.Langevin.Fused, c.Langevin.GradClip = fused, 2
			c.Optim.LR = 0.01
		})
		e := network(t, c, ref.New(), 2)
		s := system(t, c, e, points(t, 100, []float32{1, 0}, 0.5))
		for range 3 {
			step(t, s)
		}
		if _, ok := e.Reports()["10 fused steps, batch 50"]; ok != fused {
			t.Errorf("fused %v: ran %v", fused, e.Reports())
		}
		return bank(t, s)
	}
	a, b := run(false), run(true)
	for i := range a {
		if math.Abs(float64(a[i]-b[i])) > 1e-3 {
			t.Fatalf("value %d of the bank: %g step by step, %g fused", i, a[i], b[i])
		}
	}
}

// TestDescent: without noise and with a small step, the energy of every chain
// falls at every step, and so the score, less the reference, rises.
func TestDescent(t *testing.T) {
	c := config(func(c *generativeconvnet.Config) {
		c.Net = "toy"
		c.Langevin.Step, c.Langevin.Noise, c.Langevin.Steps = 0.05, 0, 1
		c.Chains.Buffer, c.Batch = 20, 20
	})
	e := network(t, c, ref.New(), 2)
	s := system(t, c, freeze(e), points(t, 10, []float32{0, 0}, 1))
	n := c.Batch
	last, u, g := make([]float32, n), make([]float32, n), make([]float32, 2*n)
	for i := range 100 {
		x := bank(t, s)
		if err := e.EnergyGrad(x, u, g); err != nil {
			t.Fatal(err)
		}
		for k := range u {
			if i > 0 && !(u[k] < last[k]) {
				t.Fatalf("step %d, chain %d: energy %g after %g", i, k, u[k], last[k])
			}
		}
		copy(last, u)
		step(t, s)
	}
}

// bank is the chains of a system in their order.
func bank(t testing.TB, s *generativeconvnet.System) []float32 {
	t.Helper()
	st, err := s.Save()
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(st.Tensors["chains/x"].Data.([]float32))
}

// TestValueRises: a small step along the gradient raises V on the same batch.
// The arms with the sign flipped and without updates fail the same assertion.
func TestValueRises(t *testing.T) {
	share := func(wrap func(training.Energy) training.Energy) float64 {
		c := config(func(c *generativeconvnet.Config) {
			c.Spec = &energy.Spec{Layers: []energy.Layer{{Filters: 16}, {Filters: 16}, {Filters: 1}}, Activation: "leaky.05"}
			c.Optim.LR = 1e-5
			c.Langevin.Steps = 2
		})
		e := network(t, c, ref.New(), 2)
		batch := &recorded{Energy: wrap(e)}
		s := system(t, c, batch, points(t, 200, []float32{1, -1}, 0.3))
		u, f := make([]float32, 2*c.Batch), make([]float32, 2*c.Batch)
		const steps = 100
		rose := 0
		for range steps {
			step(t, s)
			if err := e.Scores(batch.x, u, f); err != nil {
				t.Fatal(err)
			}
			if value(f) > value(batch.score) {
				rose++
			}
		}
		return float64(rose) / steps
	}
	if got := share(func(e training.Energy) training.Energy { return e }); got < 0.99 {
		t.Errorf("V rose in %.0f %% of the steps, wanted 99 %%", 100*got)
	}
	if got := share(flip); got > 0.01 {
		t.Errorf("with the sign flipped V rose in %.0f %% of the steps", 100*got)
	}
	if got := share(freeze); got > 0.01 {
		t.Errorf("without updates V rose in %.0f %% of the steps", 100*got)
	}
}

// value is V of the scores of a data batch and of as many samples.
func value(f []float32) float64 {
	n := len(f) / 2
	v := 0.0
	for i := range n {
		v += (float64(f[i]) - float64(f[n+i])) / float64(n)
	}
	return v
}

// TestConventions asserts the signs: low energy is likely, score = U_ref − U,
// V = mean score(data) − mean score(samples), −1/n weighs data and +1/n samples,
// and learning moves density to the data.
func TestConventions(t *testing.T) {
	set := points(t, 64, []float32{2}, 0.1)
	e := newPolynomial(1, 1)
	c := config(func(c *generativeconvnet.Config) { c.Batch, c.Chains.Buffer = 8, 8 })
	s := system(t, c, e, set)
	e.a.W[0] = 0.5
	m := step(t, s)
	l := e.learned[0]
	for i, w := range l.w {
		want := float32(-1.0 / 8)
		if i >= 8 {
			want = 1.0 / 8
		}
		if w != want {
			t.Errorf("weight %d is %g, wanted %g", i, w, want)
		}
	}
	for i, v := range l.x[:8] {
		if !slices.Contains(set.X(), v) {
			t.Errorf("row %d of the batch, %g, is no example", i, v)
		}
	}
	if !slices.Equal(l.x[8:], bank(t, s)) && !samePoints(l.x[8:], bank(t, s)) {
		t.Error("the second half of the batch is not the samples")
	}
	if v := value(l.score); math.Abs(m[training.Value]-v) > 1e-6 || !(v > 0) {
		t.Errorf("V: wanted %g, got %g", v, m[training.Value])
	}
	if fd := mean(l.score[:8]); math.Abs(m["score_data"]-fd) > 1e-6 {
		t.Errorf("score of the data: wanted %g, got %g", fd, m["score_data"])
	}
	// The data lies above the samples: learning must raise a, and with it the
	// density there.
	if !(e.a.W[0] > 0.5) {
		t.Errorf("a fell to %g", e.a.W[0])
	}
	if e.refreshed == 0 {
		t.Error("weights have changed and were not refreshed")
	}
}

func mean(x []float32) (m float64) {
	for _, v := range x {
		m += float64(v) / float64(len(x))
	}
	return m
}

// samePoints compares two sets of numbers, whatever their order.
func samePoints(a, b []float32) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// TestLoss: the update descends
//
//	mean f(samples) − mean f(data) + score_l2·(mean f(data)² + mean f(samples)²).
func TestLoss(t *testing.T) {
	for _, l2 := range []float64{0, 0.3} {
		e := newPolynomial(2, 1)
		copy(e.a.W, []float32{0.5, -1})
		copy(e.b.W, []float32{-0.2, 0.1})
		c := config(func(c *generativeconvnet.Config) { c.ScoreL2, c.Optim.LR = l2, 1 })
		s := system(t, c, e, points(t, 100, []float32{1, -1}, 0.5))
		old := [][]float32{slices.Clone(e.a.W), slices.Clone(e.b.W)}
		step(t, s)
		moved := [][]float32{slices.Clone(e.a.W), slices.Clone(e.b.W)}
		x := e.learned[0].x
		n := len(x) / 4
		loss := func() (sum float64) {
			for i := range 2 * n {
				f := e.f(x[2*i : 2*i+2])
				sign := -1.0
				if i >= n {
					sign = 1
				}
				sum += (sign*f + l2*f*f) / float64(n)
			}
			return sum
		}
		for p, w := range [][]float32{e.a.W, e.b.W} {
			for j := range w {
				copy(e.a.W, old[0])
				copy(e.b.W, old[1])
				const h = 1e-2
				w[j] = old[p][j] + h
				up := loss()
				w[j] = old[p][j] - h
				slope := (up - loss()) / (2 * h)
				if got := float64(old[p][j] - moved[p][j]); math.Abs(got-slope) > 1e-3*(1+math.Abs(slope)) {
					t.Errorf("score_l2 %g, weight %d.%d: moved by −%g, the loss has the slope %g", l2, p, j, got, slope)
				}
			}
		}
	}
}

// TestDataNoise: the batch is examples plus fresh noise of the given deviation.
func TestDataNoise(t *testing.T) {
	set := points(t, 1, make([]float32, 500), 0)
	batches := func(noise float64) (a, b []float32) {
		e := newPolynomial(500, 1)
		c := config(func(c *generativeconvnet.Config) {
			c.Batch, c.Chains.Buffer, c.Langevin.Steps, c.Data.Noise = 4, 4, 1, noise
		})
		s := system(t, c, e, set)
		step(t, s)
		step(t, s)
		return e.learned[0].x[:2000], e.learned[1].x[:2000]
	}
	a, _ := batches(0)
	if !slices.Equal(a, make([]float32, 2000)) {
		t.Error("without noise the batch is not the examples")
	}
	a, b := batches(0.2)
	m, v := moments(a, 1)
	if math.Abs(m[0]) > 0.02 || math.Abs(math.Sqrt(v[0])-0.2) > 0.012 {
		t.Errorf("wanted noise of deviation 0.2, got mean %g and deviation %g", m[0], math.Sqrt(v[0]))
	}
	dot := 0.0
	for i := range a {
		dot += float64(a[i]) * float64(b[i]) / 2000 / v[0]
	}
	if math.Abs(dot) > 0.1 {
		t.Errorf("the noise of two iterations is correlated: %g", dot)
	}
	dot = 0
	for i := range 500 {
		dot += float64(a[i]) * float64(a[500+i]) / 500 / v[0]
	}
	if math.Abs(dot) > 0.2 {
		t.Errorf("the noise of two examples is correlated: %g", dot)
	}
	if again, _ := batches(0.2); !slices.Equal(a, again) {
		t.Error("the noise does not follow from the seed")
	}
}

// TestRestart: the given share of the chains begins anew.
func TestRestart(t *testing.T) {
	ages := func(restart float64) []int64 {
		c := config(func(c *generativeconvnet.Config) {
			c.Batch, c.Chains.Buffer, c.Chains.Restart, c.Langevin.Steps = 400, 400, restart, 1
		})
		s := system(t, c, newPolynomial(1, 1), points(t, 10, []float32{0}, 1))
		for range 3 {
			step(t, s)
		}
		st, err := s.Save()
		if err != nil {
			t.Fatal(err)
		}
		return st.Tensors["chains/age"].Data.([]int64)
	}
	for _, share := range []float64{0, 0.25, 1} {
		var young float64
		for _, a := range ages(share) {
			if a < 1 || a > 3 {
				t.Fatalf("share %g: age %d after 3 iterations", share, a)
			}
			if a == 1 {
				young += 1.0 / 400
			}
		}
		if math.Abs(young-share) > 0.08 {
			t.Errorf("a share of %g was to begin anew, %g did", share, young)
		}
	}
}

// TestBank: an iteration starts from distinct slots of the bank, writes the
// samples back to the same slots, and leaves the others alone.
func TestBank(t *testing.T) {
	const buffer, batch = 40, 10
	e := newPolynomial(2, 1)
	c := config(func(c *generativeconvnet.Config) { c.Batch, c.Chains.Buffer = batch, buffer })
	s := system(t, c, e, points(t, 100, []float32{0, 0}, 1))
	visits := map[int]int{}
	for i := range 20 {
		before := bank(t, s)
		step(t, s)
		after := bank(t, s)
		ended := e.learned[i].x[2*batch:]
		changed := 0
		for slot := range buffer {
			from, to := before[2*slot:2*slot+2], after[2*slot:2*slot+2]
			if slices.Equal(from, to) {
				continue
			}
			changed++
			visits[slot]++
			found := false
			for k := range batch {
				if slices.Equal(e.began[2*k:2*k+2], from) {
					found = slices.Equal(ended[2*k:2*k+2], to)
				}
			}
			if !found {
				t.Fatalf("iteration %d: slot %d holds another chain than it held", i, slot)
			}
		}
		if changed != batch {
			t.Fatalf("iteration %d: %d slots changed, wanted %d", i, changed, batch)
		}
	}
	if len(visits) < buffer-2 {
		t.Errorf("only %d of %d chains were ever moved", len(visits), buffer)
	}
}

// TestNoise: a chain's noise follows from its slot in the bank, or else its place
// in the batch, and from the number of steps taken so far, so that no two
// iterations repeat it.
func TestNoise(t *testing.T) {
	for _, start := range []string{generativeconvnet.Persistent, generativeconvnet.FromNoise, generativeconvnet.FromData} {
		const buffer, batch, steps = 12, 4, 3
		e := newPolynomial(2, 1)
		c := config(func(c *generativeconvnet.Config) {
			c.Batch, c.Chains.Buffer, c.Chains.Init, c.Langevin.Steps = batch, buffer, start, steps
		})
		s := system(t, c, freeze(e), points(t, 100, []float32{0, 0}, 1))
		for i := range 3 {
			var slots []float32
			if start == generativeconvnet.Persistent {
				slots = bank(t, s)
			}
			step(t, s)
			ids := sampler.Chains(0, batch)
			for k := range batch {
				for slot := range len(slots) / 2 {
					if slices.Equal(slots[2*slot:2*slot+2], e.began[2*k:2*k+2]) {
						ids[k] = uint64(slot)
					}
				}
			}
			st, err := sampler.NewState(slices.Clone(e.began), 2, ids)
			if err != nil {
				t.Fatal(err)
			}
			st.T = uint64(i * steps)
			if _, err := sampler.Run(t.Context(), sampler.Noise{Seed: 3}, c.Langevin.Kernel(), newPolynomial(2, 1), st, steps, nil); err != nil {
				t.Fatal(err)
			}
			if got := e.learned[i].x[2*batch:]; !slices.Equal(got, st.X) {
				t.Errorf("%s, iteration %d: the chains end at %v, wanted %v", start, i, got, st.X)
			}
		}
	}
}

// TestEpoch: an epoch visits each example once.
func TestEpoch(t *testing.T) {
	set := points(t, 64, []float32{0}, 1)
	e := newPolynomial(1, 1)
	s := system(t, config(func(c *generativeconvnet.Config) { c.Batch, c.Chains.Buffer = 8, 8 }), e, set)
	var seen []float32
	for i := range 8 {
		step(t, s)
		seen = append(seen, e.learned[i].x[:8]...)
	}
	if !samePoints(seen, set.X()) {
		t.Error("8 batches of 8 are not the 64 examples")
	}
	if slices.Equal(seen, set.X()) {
		t.Error("the examples are not shuffled")
	}
}

// TestStarts: contrastive divergence starts at the data batch, noise included;
// short-run chains at fresh noise.
func TestStarts(t *testing.T) {
	start := func(change func(c *generativeconvnet.Config)) (began []float32, e *polynomial) {
		e = newPolynomial(2, 1)
		c := config(func(c *generativeconvnet.Config) { c.Batch, c.Data.Noise = 500, 0.1; change(c) })
		s := system(t, c, e, points(t, 1000, []float32{3, 3}, 0.5))
		step(t, s)
		return e.began, e
	}
	began, e := start(func(c *generativeconvnet.Config) { c.Chains.Init = generativeconvnet.FromData })
	if !slices.Equal(began, e.learned[0].x[:1000]) {
		t.Error("contrastive divergence does not start at the data batch")
	}
	began, _ = start(func(c *generativeconvnet.Config) {
		c.Chains = generativeconvnet.Chains{Init: generativeconvnet.FromNoise}
	})
	if lo, hi := slices.Min(began), slices.Max(began); lo < -1 || hi > 1 || lo > -0.98 || hi < 0.98 {
		t.Errorf("uniform noise lies in [%g, %g]", lo, hi)
	}
	began, _ = start(func(c *generativeconvnet.Config) {
		c.Chains = generativeconvnet.Chains{Init: generativeconvnet.FromNoise}
		c.Langevin.Clamp = [2]float64{-0.25, 0.5}
	})
	if lo, hi := slices.Min(began), slices.Max(began); lo < -0.25 || hi > 0.5 || lo > -0.23 || hi < 0.48 {
		t.Errorf("uniform noise inside the clamp lies in [%g, %g]", lo, hi)
	}
	began, _ = start(func(c *generativeconvnet.Config) {
		c.Chains = generativeconvnet.Chains{Init: generativeconvnet.FromNoise}
		c.Langevin.Clamp = [2]float64{-1e9, 1e9}
	})
	if lo, hi := slices.Min(began), slices.Max(began); lo < -1 || hi > 1 {
		t.Errorf("uniform noise under a wide clamp lies in [%g, %g]", lo, hi)
	}
	began, _ = start(func(c *generativeconvnet.Config) {
		c.Chains = generativeconvnet.Chains{Init: generativeconvnet.FromNoise, Start: generativeconvnet.Gaussian}
		c.Reference.Sigma = 2
	})
	if m, v := moments(began, 1); math.Abs(m[0]) > 0.2 || math.Abs(math.Sqrt(v[0])-2) > 0.2 {
		t.Errorf("Gaussian noise has mean %g and deviation %g, wanted 0 and 2", m[0], math.Sqrt(v[0]))
	}
}

// TestLearnsGaussian: a family that holds the data's Gaussian must find its
// moments, whatever the chains start from. The arms with the sign flipped and
// without updates must not.
func TestLearnsGaussian(t *testing.T) {
	goal, sd := []float32{1, -0.5}, float32(0.5)
	set := points(t, 2000, goal, sd)
	want, spread := moments(set.X(), 2)
	for _, start := range []generativeconvnet.Chains{
		{Init: generativeconvnet.Persistent, Start: generativeconvnet.Gaussian, Buffer: 500, Restart: 0.01},
		{Init: generativeconvnet.FromData},
		{Init: generativeconvnet.FromNoise},
	} {
		t.Run(start.Init, func(t *testing.T) {
			const iterations = 1500
			fits := func(wrap func(training.Energy) training.Energy, steps int) bool {
				e := newPolynomial(2, 1)
				c := config(func(c *generativeconvnet.Config) {
					c.Batch, c.Chains, c.Langevin.Steps, c.Langevin.Step = 200, start, 30, 0.2
					c.Optim = training.Optim{LR: 0.05, Betas: [2]float64{0.5, 0.999}, Decay: 0.01, Over: iterations}
				})
				s := system(t, c, wrap(e), set)
				if err := training.Run(t.Context(), s, training.Options{Steps: steps}); err != nil {
					t.Log(err)
					return false
				}
				mean, variance := moments(samples(t, s, 500), 2)
				ok := true
				for j := range mean {
					ok = ok && math.Abs(mean[j]-want[j]) < 0.1 && math.Abs(variance[j]/spread[j]-1) < 0.25
				}
				t.Logf("mean %.3f of %.3f, variance %.3f of %.3f", mean, want, variance, spread)
				return ok
			}
			if !fits(func(e training.Energy) training.Energy { return e }, iterations) {
				t.Error("does not learn")
			}
			// Without updates contrastive divergence would keep its samples at the
			// data, were its chains short: these are not.
			if fits(freeze, 10) {
				t.Error("passes without updates")
			}
			if fits(flip, 100) {
				t.Error("passes with the sign flipped")
			}
		})
	}
}

// TestReadOnly: drawing, judging and painting change nothing.
func TestReadOnly(t *testing.T) {
	for _, start := range []string{generativeconvnet.Persistent, generativeconvnet.FromData, generativeconvnet.FromNoise} {
		c := config(func(c *generativeconvnet.Config) { c.Chains.Init, c.Langevin.Step = start, 0.1 })
		run := func(look bool) []float32 {
			e := newPolynomial(2, 1)
			s := system(t, c, e, points(t, 100, []float32{1, 0}, 0.5))
			s.Judge = func(x []float32) (training.Metrics, error) {
				if len(x) != 2*30 {
					t.Errorf("the judge got %d numbers, wanted 30 points", len(x))
				}
				return training.Metrics{training.Objective: 1}, nil
			}
			s.JudgeN = 30
			for range 4 {
				step(t, s)
				if look {
					samples(t, s, 20)
					if m, err := s.Evaluate(t.Context()); err != nil || m[training.Objective] != 1 {
						t.Errorf("evaluation: %v, %v", m, err)
					}
					pics, err := s.Pictures(t.Context())
					if err != nil || len(pics) != 1 || pics[0].Heat == nil {
						t.Errorf("pictures of points in the plane: %v", err)
					}
				}
			}
			return append(slices.Clone(e.a.W), samples(t, s, 40)...)
		}
		if !slices.Equal(run(false), run(true)) {
			t.Errorf("%s: looking at the samples changes the run", start)
		}
	}
	c := config(func(c *generativeconvnet.Config) { c.Chains.Buffer = 50 })
	s := system(t, c, newPolynomial(2, 1), points(t, 10, []float32{0, 0}, 1))
	if _, err := s.Samples(t.Context(), 51); err == nil || !strings.Contains(err.Error(), "50") {
		t.Errorf("51 samples of 50 chains: %v", err)
	}
}

func TestCheck(t *testing.T) {
	good := config(func(*generativeconvnet.Config) {})
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(c *generativeconvnet.Config){
		"langevin.steps":  func(c *generativeconvnet.Config) { c.Langevin.Steps = 0 },
		"steps:":          func(c *generativeconvnet.Config) { c.Steps = 0 },
		"batch":           func(c *generativeconvnet.Config) { c.Batch = 0 },
		"chains.init":     func(c *generativeconvnet.Config) { c.Chains.Init = "x" },
		"chains.start":    func(c *generativeconvnet.Config) { c.Chains.Start = "x" },
		"chains.buffer":   func(c *generativeconvnet.Config) { c.Chains.Buffer = 49 },
		"2001":            func(c *generativeconvnet.Config) { c.Chains.Buffer, c.Batch = 0, 2001 },
		"chains.restart":  func(c *generativeconvnet.Config) { c.Chains.Restart = 1.1 },
		"reference.sigma": func(c *generativeconvnet.Config) { c.Reference.Sigma = -1 },
		"both off":        func(c *generativeconvnet.Config) { c.Reference.Sigma = 0 },
		"data.noise":      func(c *generativeconvnet.Config) { c.Data.Noise = -1 },
		"ema":             func(c *generativeconvnet.Config) { c.EMA = 1 },
		"score_l2":        func(c *generativeconvnet.Config) { c.ScoreL2 = -1 },
		"optim.lr":        func(c *generativeconvnet.Config) { c.Optim.LR = 0 },
	} {
		if _, err := generativeconvnet.New(config(change), newPolynomial(2, 1), points(t, 9, []float32{0, 0}, 1), 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %s, got %v", want, err)
		}
	}
}

func TestPresets(t *testing.T) {
	for name, p := range generativeconvnet.Presets {
		if err := p.Config.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Config.Network(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		o := p.Config.Optim
		if o.Over == 0 {
			o.Over = p.Config.Steps
		}
		if _, err := o.New(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []struct {
		name     string
		dims     []int
		examples int
	}{
		{"small", []int{1, 28, 28}, 1000}, {"", []int{3, 32, 32}, 1000}, {"small", []int{3, 64, 64}, 1000}, {"small", []int{2, 1, 1}, 1000},
		{"small", []int{1, 64, 64}, 1}, {"paper", []int{3, 224, 224}, 1}, {"paper", []int{3, 110, 110}, 9}, {"paper", []int{3, 32, 32}, 1000},
	} {
		got, err := generativeconvnet.For(c.name, c.dims, c.examples)
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		spec, err := got.Network()
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		dims := c.dims
		if dims[1] == 1 {
			dims = dims[:1]
		}
		if _, err := energy.Build(spec, dims, got.Reference.Sigma, 1); err != nil {
			t.Errorf("%v: %v", c, err)
		}
	}
	if _, err := generativeconvnet.For("nosuch", []int{1, 28, 28}, 9); err == nil || !strings.Contains(err.Error(), "digits") {
		t.Errorf("wanted an error that lists the presets, got %v", err)
	}
}

// TestDeform is exact: the points of each set are mapped by its own matrix.
func TestDeform(t *testing.T) {
	x := []float32{1, 2, 3, 4, 1, 0, 0, 1}
	generativeconvnet.Deform(x, []float32{0, 2, 0, 0, -2, 0, 4, 2}, 2, 0.5)
	if want := []float32{3, 2, 7, 4, 0, 2, 0, 2}; !slices.Equal(x, want) {
		t.Errorf("%v, wanted %v", x, want)
	}
	c := config(func(c *generativeconvnet.Config) { c.Chains.Spread = 0.5 })
	if _, err := generativeconvnet.New(c, newPolynomial(2, 1), points(t, 30, []float32{0, 0}, 1), 1); err == nil || !strings.Contains(err.Error(), "chains.spread") {
		t.Errorf("deformed vectors: %v", err)
	}
}
