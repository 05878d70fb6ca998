package multigrid_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/multigrid"
	"ebmrun/training/optim"
	"ebmrun/training/pyramid"
	"ebmrun/training/systemtest"
)

// linear is f(x) = θ·x with a uniform reference: its slope is −θ everywhere.
type linear struct {
	theta optim.Param
	began []float32 // where chains began last
	x, w  []float32 // of the last Learn
	fresh bool

	refreshed int
}

func newLinear(dim int) *linear {
	return &linear{theta: optim.Param{Name: "theta", W: make([]float32, dim), G: make([]float32, dim)}, fresh: true}
}

func (l *linear) Params() []optim.Param { return []optim.Param{l.theta} }
func (l *linear) Refresh()              { l.refreshed++ }

func (l *linear) EnergyGrad(x, u, g []float32) error {
	if l.fresh {
		l.began, l.fresh = slices.Clone(x), false
	}
	dim := len(l.theta.W)
	clear(u)
	for i, v := range x {
		u[i/dim] -= v * l.theta.W[i%dim]
		g[i] = -l.theta.W[i%dim]
	}
	return nil
}

func (l *linear) Learn(_ context.Context, x, w []float32, l2 float32, score []float32) error {
	clear(l.theta.G)
	clear(score)
	dim := len(l.theta.W)
	for i, v := range x {
		score[i/dim] += v * l.theta.W[i%dim]
	}
	for i, v := range x {
		l.theta.G[i%dim] += (w[i/dim] + l2*score[i/dim]) * v
	}
	l.x, l.w, l.fresh = slices.Clone(x), slices.Clone(w), true
	return nil
}

const batch, step = 40, 0.4

func config(change func(*multigrid.Config)) multigrid.Config {
	c := multigrid.Config{
		Grids: []int{1, 2, 4}, Nets: []string{"", ""}, Bins: 8, Steps: 1000, Batch: batch,
		Langevin: training.Langevin{Steps: 2, Step: step, Clamp: [2]float64{-1, 1}},
		Optim:    training.Optim{Name: "sgd", LR: 0.5},
	}
	if change != nil {
		change(&c)
	}
	return c
}

// tilted is pictures of 4×4 in two channels that are darker above than below, and
// brighter in the second channel.
func tilted(t testing.TB, n int, seed uint64) *data.Set {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 5))
	s := &data.Set{Name: "tilted", N: n, C: 2, H: 4, W: 4, Lo: -1, Hi: 1, Gain: 1}
	for range n {
		base := 0.4*r.Float64() - 0.2
		for i := range 32 {
			v := base + 0.1*float64(i/16) + 0.1*float64(i%16/4-1) + 0.05*(r.Float64()-0.5)
			s.Floats = append(s.Floats, float32(v))
		}
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	return s
}

func system(t testing.TB, c multigrid.Config, set *data.Set, seed uint64) (*multigrid.System, []*linear) {
	t.Helper()
	nets := []*linear{newLinear(8), newLinear(32)}
	s, err := multigrid.New(c, []training.Energy{nets[0], nets[1]}, set, seed)
	if err != nil {
		t.Fatal(err)
	}
	return s, nets
}

// TestStep: the first chain begins at the batch's own colours, the next at the
// pixels of the one before, and each grid learns from the batch at its resolution
// against where its chain has ended.
func TestStep(t *testing.T) {
	for _, sabotage := range []string{"", multigrid.Flip, multigrid.Freeze} {
		s, nets := system(t, config(func(c *multigrid.Config) { c.Sabotage = sabotage }), tilted(t, 200, 1), 1)
		for range 3 {
			before := [][]float32{slices.Clone(nets[0].theta.W), slices.Clone(nets[1].theta.W)}
			m, err := s.Step(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			observed := nets[1].x[:batch*32]
			if got := nets[0].x[:batch*8]; !slices.Equal(got, pyramid.Shrink(observed, 4, 4, 2)) {
				t.Error("the coarser grid does not learn from block means")
			}
			colours := pyramid.Shrink(pyramid.Shrink(observed, 4, 4, 2), 2, 2, 2)
			if !slices.Equal(nets[0].began, pyramid.Grow(colours, 1, 1, 2)) {
				t.Error("the first chain does not begin at the batch's colours")
			}
			if !slices.Equal(nets[1].began, pyramid.Grow(nets[0].x[batch*8:], 2, 2, 2)) {
				t.Error("the second chain does not begin at the end of the first")
			}
			for k, l := range nets {
				// without noise, a chain on a linear energy is known
				dim := len(l.theta.W)
				for i, v := range l.x[batch*dim:] {
					want := float64(l.began[i]) + 2*step*step/2*float64(before[k][i%dim])
					if math.Abs(float64(v)-want) > 1e-5 {
						t.Fatalf("grid %d: a chain ends at %g, wanted %g", k+1, v, want)
					}
				}
				sign := map[string]float64{"": 1, multigrid.Flip: -1}[sabotage]
				for j := range dim {
					gap := 0.0
					for i := range batch {
						gap += float64(l.x[i*dim+j]-l.x[(batch+i)*dim+j]) / batch
					}
					if moved := float64(l.theta.W[j] - before[k][j]); math.Abs(moved-sign*0.5*gap) > 1e-5 {
						t.Fatalf("%q: θ moves by %g, wanted %g", sabotage, moved, sign*0.5*gap)
					}
				}
			}
			v := 0.0
			for i, x := range nets[1].x {
				sign := 1.0
				if i >= batch*32 {
					sign = -1
				}
				v += sign * float64(x*before[1][i%32]) / batch
			}
			if math.Abs(m[training.Value]-v) > 1e-4 {
				t.Errorf("V is %g, wanted %g", m[training.Value], v)
			}
		}
	}
}

// TestNoise: what chains that nothing pulls move by is other noise on each grid and in each iteration;
// and changed weights take effect once.
func TestNoise(t *testing.T) {
	s, nets := system(t, config(func(c *multigrid.Config) {
		c.Langevin = training.Langevin{Steps: 1, Step: 1, Noise: 1, Clamp: [2]float64{-100, 100}}
	}), tilted(t, 100, 1), 3)
	s.Slow(0)
	var seen [][]float32
	for i := range 2 {
		systemtest.Steps(t, s, 1)
		for _, l := range nets {
			e := slices.Clone(l.began[:batch*8])
			for k, v := range l.x[len(l.x)/2:][:batch*8] {
				e[k] = v - e[k]
			}
			seen = append(seen, e)
			if l.refreshed != i+1 {
				t.Errorf("iteration %d: weights take effect %d times", i, l.refreshed)
			}
		}
	}
	for i, a := range seen {
		for _, b := range seen[:i] {
			if d := training.MSE(a, b); d < 1 || d > 3 {
				t.Errorf("noises are %g apart, wanted 2", d)
			}
		}
	}
}

// gap is the largest error of a mean pixel of samples, at the finest grid.
func gap(t testing.TB, s *multigrid.System, set *data.Set) float64 {
	t.Helper()
	const n = 2000
	x, err := s.Draw(t.Context(), n, 7)
	if err != nil {
		t.Fatal(err)
	}
	worst := 0.0
	for j := range 32 {
		d := 0.0
		for i := range n {
			d += float64(x[i*32+j]) / n
		}
		for i := range set.N {
			d -= float64(set.X()[i*32+j]) / float64(set.N)
		}
		worst = max(worst, math.Abs(d))
	}
	return worst
}

// TestFixedPoint: linear energies learn the slopes that carry mean colours to mean
// pixels, θ = (data − start)/(K·s²/2), and new samples have the pictures' means.
// With the sign flipped they do not, nor without updates.
func TestFixedPoint(t *testing.T) {
	set := tilted(t, 400, 2)
	for _, c := range []struct {
		sabotage string
		steps    int
		ok       bool
	}{{"", 200, true}, {multigrid.Flip, 10, false}, {multigrid.Freeze, 200, false}} {
		s, nets := system(t, config(func(g *multigrid.Config) { g.Sabotage = c.sabotage }), set, 3)
		for range c.steps {
			if _, err := s.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if g := gap(t, s, set); (g < 0.03) != c.ok {
			t.Errorf("%q: the largest error of a mean pixel is %g", c.sabotage, g)
		}
		if !c.ok {
			continue
		}
		coarse := pyramid.Shrink(set.X(), 4, 4, 2)
		start := pyramid.Grow(pyramid.Shrink(set.X(), 4, 4, 4), 1, 1, 2)
		for j := range 8 {
			want := 0.0
			for i := range set.N {
				want += float64(coarse[i*8+j]-start[i*8+j]) / float64(set.N) / (step * step)
			}
			if math.Abs(float64(nets[0].theta.W[j])-want) > 0.02 {
				t.Errorf("θ[%d] is %g, wanted %g", j, nets[0].theta.W[j], want)
			}
		}
	}
}

// TestColours: draws have the frequencies of what was counted (χ², p > 0.01) and
// fill their bins evenly; those of other colours are told apart.
func TestColours(t *testing.T) {
	set := tilted(t, 3000, 4)
	s, _ := system(t, config(nil), set, 1)
	h := s.Colours
	const n = 5000
	p := func(draw func(r *rand.Rand, x []float32)) float64 {
		r := rand.New(rand.NewPCG(9, 9))
		seen := map[int]float64{}
		x := make([]float32, 2)
		for range n {
			draw(r, x)
			seen[h.Bin(x)]++
		}
		chi, cells, rest, restSeen := 0.0, 0, 1.0, float64(n)
		for bin := range h.Bins * h.Bins {
			want := n * h.Share(bin)
			if want < 5 {
				continue // joined into one cell
			}
			rest, restSeen = rest-h.Share(bin), restSeen-seen[bin]
			chi += (seen[bin] - want) * (seen[bin] - want) / want
			cells++
		}
		if want := n * rest; want > 5 {
			chi += (restSeen - want) * (restSeen - want) / want
			cells++
		}
		return distuv.ChiSquared{K: float64(cells - 1)}.Survival(chi)
	}
	if got := p(h.Draw); got < 0.01 {
		t.Errorf("p is %g", got)
	}
	if got := p(func(r *rand.Rand, x []float32) { h.Draw(r, x); x[0] += 0.1 }); got > 1e-6 {
		t.Errorf("shifted colours have p = %g", got)
	}
	// jitter: places within bins are uniform
	r, mean := rand.New(rand.NewPCG(3, 3)), 0.0
	x := make([]float32, 2)
	for range n {
		h.Draw(r, x)
		at := (float64(x[0]) - h.Lo[0]) / (h.Hi[0] - h.Lo[0]) * float64(h.Bins)
		mean += (at - math.Floor(at)) / n
	}
	if math.Abs(mean-0.5) > 0.02 {
		t.Errorf("the mean place in a bin is %g", mean)
	}
}

// TestComplete: what is visible comes back bit for bit, what is not comes from the
// model, and the same seed gives the same pictures.
func TestComplete(t *testing.T) {
	set := tilted(t, 100, 5)
	s, _ := system(t, config(func(c *multigrid.Config) { c.Langevin.Noise = 0.3 }), set, 1)
	for range 50 {
		if _, err := s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	x := slices.Clone(set.X()[:50*32])
	mask := make([]float32, len(x))
	for i := range mask {
		if i%16 < 5 || i%16 > 10 {
			mask[i] = 1
		}
	}
	got, err := s.Reconstruct(t.Context(), x, mask, 3)
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for i, v := range got {
		if mask[i] == 1 && v != x[i] {
			t.Fatalf("visible value %d is %g, was %g", i, v, x[i])
		}
		if mask[i] == 0 && v != x[i] {
			changed++
		}
	}
	if changed == 0 {
		t.Error("nothing is filled in")
	}
	hidden := slices.Clone(x)
	for i := range hidden {
		if mask[i] == 0 {
			hidden[i] = 0.9
		}
	}
	if again, err := s.Reconstruct(t.Context(), hidden, mask, 3); err != nil || !slices.Equal(again, got) {
		t.Errorf("the completion depends on what is hidden, or not on the seed alone (%v)", err)
	}
	if all, err := s.Reconstruct(t.Context(), x, nil, 3); err != nil || len(all) != len(x) {
		t.Errorf("from thumbnails: %d values, %v", len(all), err)
	}
	if _, err := s.Reconstruct(t.Context(), x[:31], nil, 3); err == nil || !strings.Contains(err.Error(), "31") {
		t.Errorf("got %v", err)
	}
}

func TestCheck(t *testing.T) {
	for want, change := range map[string]func(*multigrid.Config){
		"begin with 1":     func(c *multigrid.Config) { c.Grids = []int{2, 4} },
		"a multiple of 2":  func(c *multigrid.Config) { c.Grids = []int{1, 2, 5} },
		"1 networks":       func(c *multigrid.Config) { c.Nets = c.Nets[:1] },
		"steps":            func(c *multigrid.Config) { c.Steps = 0 },
		"batch":            func(c *multigrid.Config) { c.Batch = 0 },
		"bins":             func(c *multigrid.Config) { c.Bins = 65 },
		"langevin.step":    func(c *multigrid.Config) { c.Langevin.Step = 0 },
		"keeps samples in": func(c *multigrid.Config) { c.Langevin.Clamp = [2]float64{} },
		"sabotage":         func(c *multigrid.Config) { c.Sabotage = "no" },
	} {
		c := config(change)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %q, got %v", want, err)
		}
	}
	if _, err := multigrid.New(config(func(c *multigrid.Config) { c.Grids = []int{1, 2, 8} }), nil, tilted(t, 10, 1), 1); err == nil || !strings.Contains(err.Error(), "does not fit") {
		t.Errorf("got %v", err)
	}
}

// TestPresets: every preset is sound, its networks exist and fit its grids, and
// "small" and "paper" pick one.
func TestPresets(t *testing.T) {
	for name, p := range multigrid.Presets {
		c := p.Config
		if err := c.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		specs, err := c.Networks()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for k, s := range specs {
			if _, err := energy.Build(s, []int{3, c.Grids[k+1], c.Grids[k+1]}, c.Reference.Sigma, 1); err != nil {
				t.Errorf("%s, grid %d: %v", name, c.Grids[k+1], err)
			}
		}
	}
	for name, want := range map[string]int{"small": 800, "paper": 70000, "pictures-32": 800} {
		if c, err := multigrid.For(name, []int{3, 64, 64}, 100); err != nil || c.Steps != want {
			t.Errorf("%s: %d iterations, %v", name, c.Steps, err)
		}
	}
	if _, err := multigrid.For("paper", []int{3, 28, 28}, 100); err == nil || !strings.Contains(err.Error(), "pictures-28") {
		t.Errorf("got %v", err)
	}
}
