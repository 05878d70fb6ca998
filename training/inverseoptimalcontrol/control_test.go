package inverseoptimalcontrol_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"ebmrun/runtime"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/data"
	"ebmrun/training/inverseoptimalcontrol"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
	"ebmrun/training/systemtest"
)

// quadratic is C = a·Σx² + b·Σu² of x(t+1) = x(t) + u(t) from x(0) in a dozen lines of Go.
type quadratic struct{ w optim.Param }

type quadraticGiven struct {
	*quadratic
	from []float32
}

func newQuadratic() *quadratic {
	return &quadratic{optim.Param{Name: "cost.weights", W: []float32{0.3, 0.3}, G: make([]float32, 2)}}
}

func (q *quadratic) Given(c []float32) training.Energy { return quadraticGiven{q, c} }
func (q *quadratic) Params() []optim.Param             { return []optim.Param{q.w} }
func (q *quadratic) Refresh()                          {}

// sums are Σx² and Σu², and the slopes of the first in the controls.
func (q quadraticGiven) sums(i int, u, slope []float32) (x2, u2 float64) {
	x := float64(q.from[i])
	path := make([]float64, len(u))
	for t, v := range u {
		x += float64(v)
		path[t], x2, u2 = x, x2+x*x, u2+float64(v)*float64(v)
	}
	back := 0.0
	for t := len(u) - 1; t >= 0; t-- {
		back += 2 * path[t]
		slope[t] = float32(back)
	}
	return x2, u2
}

func (q quadraticGiven) EnergyGrad(x, u, g []float32) error {
	d := len(x) / len(u)
	for i := range u {
		x2, u2 := q.sums(i, x[i*d:(i+1)*d], g[i*d:(i+1)*d])
		u[i] = q.w.W[0]*float32(x2) + q.w.W[1]*float32(u2)
		for t := i * d; t < (i+1)*d; t++ {
			g[t] = q.w.W[0]*g[t] + 2*q.w.W[1]*x[t]
		}
	}
	return nil
}

func (q quadraticGiven) Learn(_ context.Context, x, w []float32, _ float32, score []float32) error {
	d := len(x) / len(w)
	slope := make([]float32, d)
	clear(q.w.G)
	for i := range w {
		x2, u2 := q.sums(i, x[i*d:(i+1)*d], slope)
		score[i] = -q.w.W[0]*float32(x2) - q.w.W[1]*float32(u2)
		q.w.G[0] -= w[i] * float32(x2)
		q.w.G[1] -= w[i] * float32(u2)
	}
	return nil
}

// untraced is a generator of which nobody asks more than its size.
type untraced struct{ training.Generator }

func (untraced) Given([]float32) training.Generator { return untraced{} }
func (untraced) Codes() int                         { return data.Regulator.T }

func load(t *testing.T, name string, n int) *data.Set {
	t.Helper()
	s, err := data.Load(t.Context(), name, data.Options{Seed: 1, Limit: n})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// learned are the weights after all iterations, over which the last tenth is averaged.
func learned(t *testing.T, c inverseoptimalcontrol.Config, set *data.Set) (w [2]float64) {
	t.Helper()
	q := newQuadratic()
	s, err := inverseoptimalcontrol.New(c, q, untraced{}, set, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	last := max(1, c.Steps/10)
	for i := range c.Steps {
		if _, err := s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i >= c.Steps-last {
			for k, v := range q.w.W {
				w[k] += float64(v) / float64(last)
			}
		}
	}
	return w
}

// TestRegulator: from random experts Langevin learns both weights, 2 and 1; with the sign of the
// update turned, or without updates, it does not.
func TestRegulator(t *testing.T) {
	for sabotage, works := range map[string]bool{"": true, inverseoptimalcontrol.Flip: false, inverseoptimalcontrol.Freeze: false} {
		c := inverseoptimalcontrol.Presets["regulator"].Config
		if c.Sabotage, c.Batch = sabotage, 500; !works {
			c.Steps /= 10
		}
		w := learned(t, c, load(t, "synthetic/regulator", 500))
		if met := math.Abs(w[0]/data.Regulator.A-1) < 0.2 && math.Abs(w[1]/data.Regulator.B-1) < 0.2; met != works {
			t.Errorf("sabotage %q: weights %.3f", sabotage, w)
		}
	}
}

// TestDescent: without noise, experts who are the minimisers teach the ratio of the weights and not
// their length, 0.370 and 0.185 from 0.3 and 0.3; random experts drive a weight to 0 within three updates.
func TestDescent(t *testing.T) {
	c := inverseoptimalcontrol.Presets["regulator"].Config
	c.Langevin = training.Langevin{Steps: 200, Step: 0.25}
	c.Optim = training.Optim{Name: "sgd", LR: 0.05}
	random := load(t, "synthetic/regulator", 2000)
	c.Batch, c.Steps = 2000, 3
	if w := learned(t, c, random); min(w[0], w[1]) != 0 {
		t.Errorf("random experts: weights %.4f, wanted one of 0", w)
	}
	// The minimiser is the mean of the random experts, by descent under the true weights.
	best := random.Head(1)
	best.Floats = make([]float32, data.Regulator.T)
	q := newQuadratic()
	copy(q.w.W, []float32{2, 1})
	st, err := sampler.NewState(best.X(), len(best.X()), []uint64{0})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sampler.Run(t.Context(), sampler.Noise{}, sampler.Langevin{Size: 0.1}, q.Given([]float32{1}), st, 4000, nil); err != nil {
		t.Fatal(err)
	}
	c.Batch, c.Steps = 1, 300
	w := learned(t, c, best)
	if math.Abs(w[0]-0.370) > 1e-3 || math.Abs(w[0]/w[1]-2) > 0.01 {
		t.Errorf("best experts: weights %.4f, wanted 0.370 and 0.185", w)
	}
}

// bound binds the networks of the settings to the interpreter.
func bound(t *testing.T, c inverseoptimalcontrol.Config, moments int) (*bind.ConditionalEnergy, *bind.ConditionalGenerator) {
	t.Helper()
	em, err := c.Net.Build(moments, c.Reference.Sigma, 1)
	if err != nil {
		t.Fatal(err)
	}
	tm, err := c.Net.Trace(moments)
	if err != nil {
		t.Fatal(err)
	}
	e, err := bind.NewConditional(t.Context(), em, ref.New(), bind.Options{})
	if err != nil {
		t.Fatal(err)
	}
	trace, err := bind.NewConditionalGenerator(t.Context(), tm, ref.New(), runtime.Options{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	return e, trace
}

func small(preset string) inverseoptimalcontrol.Config {
	c := inverseoptimalcontrol.Presets[preset].Config
	c.Normalise, c.Batch, c.Langevin.Steps, c.Predict.Steps = false, 3, 4, 4
	return c
}

// TestResume: chains of all experts, weights, the optimizer and the place in the data are saved.
func TestResume(t *testing.T) {
	for preset, name := range map[string]string{"drive-residual": "synthetic/drive", "convoy": "synthetic/convoy", "drive-ilqr": "synthetic/drive"} {
		set, c := load(t, name, 5), small(preset)
		if c.ILQR > 0 {
			c.ILQR = 2
		} else {
			c.Langevin.Noise = 0.1
		}
		systemtest.Resume(t, func() training.System {
			e, trace := bound(t, c, set.H)
			s, err := inverseoptimalcontrol.New(c, e, trace, set, nil, 4)
			if err != nil {
				t.Fatal(err)
			}
			if c.ILQR > 0 {
				s.Tangent = planned(t, c, set.H).Tangent
			}
			return s
		}, "weights/cost.weights", "chains")
	}
}

// TestDrive: in a short run the cost turns towards the true one, and away from it with the sign turned.
func TestDrive(t *testing.T) {
	set := load(t, "synthetic/drive", 40)
	gap := func(sabotage string) float64 {
		c := inverseoptimalcontrol.Presets["drive"].Config
		c.Batch, c.Steps, c.Langevin.Steps, c.Optim, c.Sabotage = 20, 40, 32, training.Optim{LR: 0.02}, sabotage
		if sabotage == inverseoptimalcontrol.Freeze {
			c.Steps = 1
		}
		e, trace := bound(t, c, set.H)
		m, err := inverseoptimalcontrol.NewModel(c, e, trace, set.H)
		if err != nil {
			t.Fatal(err)
		}
		experts, err := c.Experts(set)
		if err != nil {
			t.Fatal(err)
		}
		if c.Net.Norm, err = m.Norms(t.Context(), experts); err != nil {
			t.Fatal(err)
		}
		e, trace = bound(t, c, set.H)
		s, err := inverseoptimalcontrol.New(c, e, trace, set, nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		for range c.Steps {
			if _, err := s.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		got, want, dot := 0.0, 0.0, 0.0
		for i, w := range s.Weights() {
			a, b := w*c.Net.Norm[i], data.DriveWeights[i]*c.Net.Norm[i]
			got, want, dot = got+a*a, want+b*b, dot+a*b
		}
		return dot / math.Sqrt(got*want)
	}
	if works, flipped, frozen := gap(""), gap(inverseoptimalcontrol.Flip), gap(inverseoptimalcontrol.Freeze); !(works > 0.9 && frozen < 0.9 && flipped < frozen) {
		t.Errorf("cosine of what features cost with the truth: %.3f, with the sign turned %.3f, at first %.3f", works, flipped, frozen)
	}
}

// TestStates: states are cut into scenes and controls that lead to them, in the frame of who drives.
func TestStates(t *testing.T) {
	const past, moments = 3, 8
	u := make([][2]float64, past+moments-1)
	for i := range u {
		if u[i] = [2]float64{0.5, 0.02}; i >= past {
			u[i] = [2]float64{0.5 - 0.1*float64(i), 0.02 * float64(i%4)}
		}
	}
	start := data.DriveScene{Y: 1, Heading: 0.4, Speed: 8}
	seen := &data.Set{Name: "seen", Kind: data.Path, N: 1, C: 1, H: past + moments, W: 4, Gain: 1, Floats: []float32{0, 0.001, 0.4, 8}}
	for _, s := range start.Roll(u) {
		seen.Floats = append(seen.Floats, float32(s[0]/1000), float32(s[1]/1000), float32(s[2]), float32(s[3]))
	}
	c := small("drive")
	c.Net.Scene, c.Net.Features = []string{"speed", "acceleration", "turn"}, []string{"acceleration", "steering"}
	c.History, c.Metres = past, 1000
	experts, err := c.Experts(seen)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range u[past-1:] {
		for k, v := range want {
			if got := float64(experts.X()[2*i+k]) * c.Net.Unit[k]; math.Abs(got-v) > 1e-4 {
				t.Errorf("control %d of moment %d: wanted %g, got %g", k, i, v, got)
			}
		}
	}
	if g := experts.Given.X(); math.Abs(float64(g[1])-u[past-2][0]) > 1e-4 || math.Abs(float64(g[2])-u[past-2][1]) > 1e-3 {
		t.Errorf("the scene says %v of the moment before, wanted %v", g, u[past-2])
	}
	e, trace := bound(t, c, moments)
	m, err := inverseoptimalcontrol.NewModel(c, e, trace, moments)
	if err != nil {
		t.Fatal(err)
	}
	errs, err := m.Measure(t.Context(), experts, experts.X(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if errs.FDE > 2e-3 || errs.Clear != 1 {
		t.Errorf("the experts' own controls end %g m from where they were seen", errs.FDE)
	}
	still, held := m.Constant(experts)
	if slices.Max(still) != 0 || held[0] != experts.Given.X()[1]/4 || held[2] != held[0] || held[1] != experts.Given.X()[2]/0.1 {
		t.Errorf("constant controls %v, of the scene %v", held[:4], experts.Given.X())
	}
}

// TestMeasure: errors of paths that are known.
func TestMeasure(t *testing.T) {
	set, c := load(t, "synthetic/drive", 2), small("drive")
	e, trace := bound(t, c, set.H)
	m, err := inverseoptimalcontrol.NewModel(c, e, trace, set.H)
	if err != nil {
		t.Fatal(err)
	}
	experts, err := c.Experts(set)
	if err != nil {
		t.Fatal(err)
	}
	truth, err := m.Driven(t.Context(), experts)
	if err != nil {
		t.Fatal(err)
	}
	// The first draw is the truth, the second stands still.
	x := append(slices.Clone(experts.At(0)), make([]float32, experts.Dim())...)
	x = append(append(x, experts.At(1)...), make([]float32, experts.Dim())...)
	got, err := m.Measure(t.Context(), experts, x, 2)
	if err != nil {
		t.Fatal(err)
	}
	square, fde := 0.0, 0.0
	for i := range 2 {
		s := data.DriveSceneOf(set.Given.At(i))
		last := s.Roll(make([][2]float64, set.H))[set.H-1]
		at := truth[i*2*set.H+2*set.H-2:]
		d := math.Hypot(last[0]-float64(at[0]), last[1]-float64(at[1]))
		square, fde = square+d*d/4, fde+d/4
	}
	if rmse := math.Sqrt(square); math.Abs(got.RMSE[3]-rmse) > 1e-3*rmse || math.Abs(got.FDE-fde) > 1e-3*fde || got.MinFDE > 1e-4 || got.MinADE > 1e-4 {
		t.Errorf("wanted RMSE %g, FDE %g and a best draw without error, got %+v", rmse, fde, got)
	}
}

// TestRefused: what makes no sense is refused in words.
func TestRefused(t *testing.T) {
	set := load(t, "synthetic/drive", 3)
	e, trace := bound(t, small("drive"), set.H)
	for want, change := range map[string]func(c *inverseoptimalcontrol.Config){
		"zero or persistent":   func(c *inverseoptimalcontrol.Config) { c.Chains = "data" },
		"predict: langevin":    func(c *inverseoptimalcontrol.Config) { c.Predict.Steps = 0 },
		"not fused":            func(c *inverseoptimalcontrol.Config) { c.Langevin.Fused = true },
		"flip or freeze":       func(c *inverseoptimalcontrol.Config) { c.Sabotage = "typo" },
		"controls of 3 agents": func(c *inverseoptimalcontrol.Config) { c.Net.Agents = 3 },
		"history":              func(c *inverseoptimalcontrol.Config) { c.History = 1 },
		"numbers of a scene":   func(c *inverseoptimalcontrol.Config) { c.From = []float64{1} },
		"states of 2 values":   func(c *inverseoptimalcontrol.Config) { c.History, c.Metres = 5, 1 },
		"control: feature":     func(c *inverseoptimalcontrol.Config) { c.Net.Features = []string{"state"} },
		"wanted 0 or more":     func(c *inverseoptimalcontrol.Config) { c.Length = -1 },
		"scenes of 7 values":   func(c *inverseoptimalcontrol.Config) { c.Net.Scene = append(slices.Clone(c.Net.Scene), "x") },
	} {
		c := small("drive")
		change(&c)
		if _, err := inverseoptimalcontrol.New(c, e, trace, set, nil, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error with %q, got %v", want, err)
		}
	}
	for name, p := range inverseoptimalcontrol.Presets {
		if err := p.Config.Check(); err != nil {
			t.Errorf("preset %s: %v", name, err)
		}
	}
	if _, err := inverseoptimalcontrol.For("paper", []int{3, 32, 32}, 10); err == nil || !strings.Contains(err.Error(), "published-drive") {
		t.Errorf("a preset for pictures: %v", err)
	}
}

// planned is a model of the settings with the tangent that iLQR takes.
func planned(t *testing.T, c inverseoptimalcontrol.Config, moments int) *inverseoptimalcontrol.Model {
	t.Helper()
	e, trace := bound(t, c, moments)
	m, err := inverseoptimalcontrol.NewModel(c, e, trace, moments)
	if err != nil {
		t.Fatal(err)
	}
	tm, err := c.Net.Tangent(moments, c.Reference.Sigma, 1)
	if err != nil {
		t.Fatal(err)
	}
	if m.Tangent, err = bind.NewConditional(t.Context(), tm, ref.New(), bind.Options{}); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestLQR: on a linear-quadratic problem one undamped step is the answer, −(aLᵀL + bI)⁻¹·aLᵀ1.
func TestLQR(t *testing.T) {
	const moments = 10
	c := inverseoptimalcontrol.Presets["regulator"].Config
	c.Langevin.Noise, c.Predict.Noise, c.Draws, c.ILQR = 0, 0, 1, 3
	m := planned(t, c, moments)
	a, b := 2.0, 1.0
	copy(m.Energy.Given(nil).Params()[0].W, []float32{float32(a), float32(b)})
	h, g := mat.NewSymDense(moments, nil), mat.NewVecDense(moments, nil)
	for i := range moments {
		for j := i; j < moments; j++ {
			h.SetSym(i, j, a*float64(moments-j)) // moments that come after both
		}
		h.SetSym(i, i, h.At(i, i)+b)
		g.SetVec(i, -a*float64(moments-i))
	}
	var cholesky mat.Cholesky
	var want mat.VecDense
	if !cholesky.Factorize(h) || cholesky.SolveVecTo(&want, g) != nil {
		t.Fatal("no solution")
	}
	x, err := m.Predict(t.Context(), []float32{1, 1, -2}, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range x {
		if w := want.AtVec(i%moments) * []float64{1, 1, -2}[i/moments]; math.Abs(float64(got)-w) > 1e-4 {
			t.Errorf("control %d of scene %d: wanted %.6f, got %.6f", i%moments, i/moments, w, got)
		}
	}
}

// TestILQR: past an obstacle, ten iterations end lower than a thousand steps of descent, and where
// the slope is nothing; with the curvature of other controls' tangent they do not.
func TestILQR(t *testing.T) {
	set, c := load(t, "synthetic/drive", 6), inverseoptimalcontrol.Presets["drive-ilqr"].Config
	c.Normalise = false
	costs := func(c inverseoptimalcontrol.Config, spoil bool) (cost []float32, slope float64) {
		m := planned(t, c, set.H)
		for i, w := range data.DriveWeights {
			m.Energy.Given(nil).Params()[0].W[i] = float32(w)
		}
		if spoil {
			m.Tangent = elsewhere{m.Tangent, c.Net.Given()[0]}
		}
		x, err := m.Predict(t.Context(), set.Given.X(), 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		u, g := make([]float32, set.N), make([]float32, len(x))
		if err := m.Energy.Given(set.Given.X()).EnergyGrad(x, u, g); err != nil {
			t.Fatal(err)
		}
		for _, v := range g {
			slope = max(slope, math.Abs(float64(v)))
		}
		return u, slope
	}
	descent := c
	descent.ILQR, descent.Predict.Steps = 0, 1000
	c.ILQR = 15
	best, slope := costs(c, false)
	slow, left := costs(descent, false)
	other, stays := costs(c, true)
	for i := range best {
		if best[i] > slow[i]*(1+1e-4) {
			t.Errorf("scene %d: cost %g after iLQR, %g after descent", i, best[i], slow[i])
		}
	}
	t.Logf("largest slope: iLQR %.2g, descent %.2g, of another tangent %.2g; costs %.4g %.4g %.4g", slope, left, stays, best, slow, other)
	if slope > 0.02 || stays < 5*slope {
		t.Errorf("largest slope %g, with another tangent %g", slope, stays)
	}
}

// elsewhere takes the tangent at controls of 1, not where they are.
type elsewhere struct {
	training.ConditionalEnergy
	scene int
}

func (e elsewhere) Given(c []float32) training.Energy {
	c = slices.Clone(c)
	for i := range c {
		if i%(e.scene+60) >= e.scene {
			c[i] = 1
		}
	}
	return e.ConditionalEnergy.Given(c)
}
