package generativeswin_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/swin"
	"ebmrun/runtime"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/data"
	"ebmrun/training/generativeswin"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
	"ebmrun/training/systemtest"
)

// linear is x = a·c + w·z under the prior N(0, 1), all numbers.
type linear struct {
	w, g  []float32 // a, w
	sigma float64   // of the posterior
	c     []float32
}

func (g *linear) Given(c []float32) training.Generator {
	return &linear{g.w, g.g, g.sigma, c}
}
func (g *linear) Codes() int            { return 1 }
func (g *linear) Params() []optim.Param { return []optim.Param{{Name: "w", W: g.w, G: g.g}} }

func (g *linear) Forward(_ context.Context, z, x []float32) error {
	for i := range x {
		x[i] = g.w[0]*g.c[i] + g.w[1]*z[i]
	}
	return nil
}

func (g *linear) Posterior(target, mask []float32) sampler.Field { return posterior{g, target} }

type posterior struct {
	*linear
	x []float32
}

func (p posterior) EnergyGrad(z, u, d []float32) error {
	precision := float32(1 / (p.sigma * p.sigma))
	for i := range z {
		r := p.x[i] - p.w[0]*p.c[i] - p.w[1]*z[i]
		u[i], d[i] = z[i]*z[i]/2+precision*r*r/2, z[i]-precision*r*p.w[1]
	}
	return nil
}

func (g *linear) Learn(_ context.Context, z, target, _, w, e []float32) error {
	clear(g.g)
	for i := range z {
		r := target[i] - g.w[0]*g.c[i] - g.w[1]*z[i]
		e[i] = r * r
		g.g[0] -= 2 * w[i] * r * g.c[i]
		g.g[1] -= 2 * w[i] * r * z[i]
	}
	return nil
}

// normal is the energy of N(0, 1), of which nothing is learned.
type normal struct{}

func (normal) Params() []optim.Param { return nil }
func (normal) Refresh()              {}
func (normal) EnergyGrad(z, u, g []float32) error {
	for i, v := range z {
		u[i], g[i] = v*v/2, v
	}
	return nil
}
func (normal) Learn(_ context.Context, _, _ []float32, _ float32, score []float32) error {
	clear(score)
	return nil
}

func config() generativeswin.Config {
	c := generativeswin.Config{Draws: 3}
	c.Steps, c.Batch, c.Sigma, c.Infer = 400, 100, 0.3, 5
	c.Reference.Sigma = 1
	c.Prior = training.Langevin{Steps: 4, Step: 0.3, Noise: 1}
	c.Posterior = training.Langevin{Steps: 20, Step: 0.25, Noise: 1}
	c.Optim = training.Optim{Name: "sgd", LR: 0.01}
	c.Teach = training.Optim{Name: "sgd", LR: 0.01, Decay: 0.1}
	return c
}

// TestLearn: of x = 2c + N(0, 0.6² + 0.3²) the generator learns a = 2, and w = ±0.6 with
// codes of the posterior; where the likelihood is a mean over the batch, codes mean nothing.
func TestLearn(t *testing.T) {
	set := &data.Set{Name: "lines", N: 4000, C: 1, H: 1, W: 1, Floats: make([]float32, 4000), Gain: 1}
	given := *set
	given.Floats = make([]float32, 4000)
	sampler.Noise{Seed: 5}.Normals(given.X(), sampler.Chains(0, 4000), 0)
	sampler.Noise{Seed: 5}.Normals(set.X(), sampler.Chains(0, 4000), 1)
	for i := range set.Floats {
		set.Floats[i] = 2*given.X()[i] + float32(math.Sqrt(0.36+0.09))*set.X()[i]
	}
	set.Given = &given
	for _, sabotage := range []string{"", generativeswin.Mean} {
		c := config()
		c.Sabotage = sabotage
		g := &linear{w: []float32{0.5, 0.3}, g: make([]float32, 2), sigma: c.Residual(1)}
		s, err := generativeswin.New(c, normal{}, g, set, 3)
		if err != nil {
			t.Fatal(err)
		}
		if err := training.Run(t.Context(), s, training.Options{Steps: c.Steps, EvalEvery: 1 << 30}); err != nil {
			t.Fatal(err)
		}
		a, w := g.w[0], math.Abs(float64(g.w[1]))
		t.Logf("%q: a = %.3f, w = %.3f", sabotage, a, w)
		if learned := math.Abs(w-0.6) < 0.06; math.Abs(float64(a)-2) > 0.05 || learned != (sabotage == "") {
			t.Errorf("sabotage %q: wanted a = 2 and w = 0.6 without sabotage only, got %.3f and %.3f", sabotage, a, w)
		}
		p, err := s.Learned().Predict(t.Context(), []float32{0, 0.1}, 1)
		if err != nil {
			t.Fatal(err)
		}
		for i := range p.Mean {
			if off := p.Total[i] - p.Aleatoric[i] - p.Epistemic[i]; math.Abs(float64(off)) > 1e-5 || p.Total[i] > math.Ln2+1e-6 {
				t.Errorf("entropies %g = %g + %g", p.Total[i], p.Aleatoric[i], p.Epistemic[i])
			}
		}
	}
}

// networks is a new system over small networks.
func networks(t testing.TB, name string, change func(c *generativeswin.Config)) *generativeswin.System {
	t.Helper()
	set, err := data.Load(context.Background(), name, data.Options{Seed: 2, Size: 16, Limit: 8})
	if err != nil {
		t.Fatal(err)
	}
	c := config()
	c.Batch, c.Steps, c.Posterior.Steps, c.Posterior.GradClip = 2, 10, 2, 10
	c.Loss, c.Mirror, c.Piece = swin.Structure, true, 1
	if change != nil {
		change(&c)
	}
	c.Optim, c.Teach = training.Optim{LR: 1e-3}, training.Optim{LR: 1e-3}
	o := runtime.Options{Threads: 1, NoSpin: true}
	spec := swin.Spec{Patch: 4, Embed: 4, Depths: []int{2, 1}, Heads: []int{2, 2}, Window: 2, Codes: 2, Features: 2, Reduction: 2, Dilations: []int{1}}
	c.Swin, c.Hidden = &spec, []int{4}
	if spec, err = c.Network(); err != nil {
		t.Fatal(err)
	}
	gm, err := swin.Build(spec, set.Dims(), set.Given.Dims(), 1)
	if err != nil {
		t.Fatal(err)
	}
	pm, err := energy.Build(c.PriorNet(), []int{gm.Codes}, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	p, err := bind.New(context.Background(), pm, ref.New(), bind.Options{Runtime: o})
	if err != nil {
		t.Fatal(err)
	}
	g, err := bind.NewEncoded(context.Background(), gm, ref.New(), o, c.Residual(set.Dim()), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(); g.Close() })
	s, err := generativeswin.New(c, p, g, set, 1)
	if err != nil {
		t.Fatal(err)
	}
	s.Held = set
	return s
}

func TestResume(t *testing.T) {
	for _, name := range []string{"synthetic/salient", "synthetic/salient-depth"} {
		w := []string{"prior/layer1.weight", "generator/encoder.layers.0.blocks.1.attn.relative_position_bias_table", "generator/decoder.code.weight"}
		if strings.HasSuffix(name, "depth") {
			w = append(w, "generator/fusion.weight")
		}
		systemtest.Resume(t, func() training.System { return networks(t, name, nil) }, w...)
	}
}

// TestPieces: learning in pieces changes nothing but rounding, and mirrors are pairs still.
func TestPieces(t *testing.T) {
	slopes := func(piece int) (out [][]float32, loss float64) {
		s := networks(t, "synthetic/salient", func(c *generativeswin.Config) { c.Piece = piece })
		m, err := s.Step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range s.Generator.Params() {
			out = append(out, slices.Clone(p.G))
		}
		return out, m[swin.Structure]
	}
	whole, want := slopes(0)
	parts, got := slopes(1)
	if math.Abs(got-want) > 1e-5*want {
		t.Errorf("loss %g in pieces, %g at once", got, want)
	}
	for i := range whole {
		for j, v := range whole[i] {
			if d := math.Abs(float64(v - parts[i][j])); d > 1e-5*(1+math.Abs(float64(v))) {
				t.Fatalf("slope %d of parameter %d: %g in pieces, %g at once", j, i, parts[i][j], v)
			}
		}
	}
}

// TestBegin: at first codes come from the prior, whatever the example; then its weight grows.
func TestBegin(t *testing.T) {
	apart := func(begin, steps int) (moved float64) {
		var codes [2][]float32
		for i := range codes {
			s := networks(t, "synthetic/salient", func(c *generativeswin.Config) { c.Begin, c.Posterior.GradClip = begin, 0 })
			if s.Config.Batch != 2 {
				t.Fatal("wanted two examples a batch")
			}
			observe := s.Observe
			s.Observe = func(b data.Batch) {
				if observe(b); s.Iteration() == steps && i == 1 { // other maps
					for j := range b.X {
						b.X[j] = -b.X[j]
					}
				}
			}
			var m training.Metrics
			for range steps + 1 {
				var err error
				if m, err = s.Step(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			codes[i] = []float32{float32(m["code_square"])}
		}
		return math.Abs(float64(codes[0][0] - codes[1][0]))
	}
	if d := apart(2, 0); d != 0 {
		t.Errorf("before it begins an example moves codes by %g", d)
	}
	if d := apart(2, 2); d != 0 {
		t.Errorf("where it begins an example moves codes by %g", d)
	}
	half, full := apart(2, 3), apart(0, 3)
	if half == 0 || full == 0 {
		t.Errorf("examples have no say in their codes: %g, %g", half, full)
	}
}

// TestMirror: pictures are turned where the settings say so.
func TestMirror(t *testing.T) {
	for _, mirror := range []bool{true, false} {
		s := networks(t, "synthetic/salient", func(c *generativeswin.Config) { c.Mirror = mirror })
		if turned := s.Data.Next().Turned; (turned != nil) != mirror {
			t.Errorf("mirror %v: pictures turned: %v", mirror, turned)
		}
	}
}

// TestPosterior: the posterior whose pictures are looked at once is the one that joins
// all in one graph.
func TestPosterior(t *testing.T) {
	set, err := data.Load(t.Context(), "synthetic/salient", data.Options{Seed: 2, Size: 16, Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	spec := swin.Spec{Patch: 4, Embed: 4, Depths: []int{2, 1}, Heads: []int{2, 2}, Window: 2, Codes: 2, Features: 2, Reduction: 2, Dilations: []int{1}}
	gm, err := swin.Build(spec, set.Dims(), set.Given.Dims(), 1)
	if err != nil {
		t.Fatal(err)
	}
	pm, err := energy.Build(energy.Spec{Layers: []energy.Layer{{Filters: 3}, {Filters: 1}}, Activation: "gelu"}, []int{2}, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	prior, err := bind.New(t.Context(), pm, ref.New(), bind.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer prior.Close()
	g, err := bind.NewEncoded(t.Context(), gm, ref.New(), runtime.Options{}, 0.3, prior)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	z := []float32{0.3, -1, 0.5, 2}
	u, slope, want, x, up := make([]float32, 2), make([]float32, 4), make([]float32, 4), make([]float32, 2*set.Dim()), make([]float32, 2)
	given := g.Given(set.Given.X())
	energyOf := func(z []float32) (out []float64) {
		if err := given.Forward(t.Context(), z, x); err != nil {
			t.Fatal(err)
		}
		if err := prior.EnergyGrad(z, up, want); err != nil {
			t.Fatal(err)
		}
		for i, v := range up {
			sum := 0.0
			for j := range set.Dim() {
				d := float64(set.X()[i*set.Dim()+j] - x[i*set.Dim()+j])
				sum += d * d
			}
			out = append(out, float64(v)+sum/(2*0.09))
		}
		return out
	}
	fixed, err := training.Fixed(t.Context(), g, set.Given.X())
	if err != nil {
		t.Fatal(err)
	}
	once := make([]float32, len(x))
	if err := errors.Join(given.Forward(t.Context(), z, x), fixed(t.Context(), z, once)); err != nil {
		t.Fatal(err)
	}
	for i, v := range x {
		if math.Abs(float64(v-once[i])) > 1e-6 {
			t.Fatalf("pixel %d: wanted %g, got %g of a picture that is looked at once", i, v, once[i])
		}
	}
	field := given.Posterior(set.X(), training.Ones(len(set.X())))
	for range 2 {
		if err := field.EnergyGrad(z, u, slope); err != nil {
			t.Fatal(err)
		}
	}
	for i, v := range energyOf(z) {
		if math.Abs(v-float64(u[i])) > 1e-5*v {
			t.Errorf("energy of code %d: wanted %g, got %g", i, v, u[i])
		}
	}
	for j := range z {
		const h = 1e-2
		moved := append([]float32(nil), z...)
		moved[j] += h
		upper := energyOf(moved)[j/2]
		moved[j] -= 2 * h
		if d := (upper - energyOf(moved)[j/2]) / (2 * h); math.Abs(d-float64(slope[j])) > 0.03*max(1, math.Abs(d)) {
			t.Errorf("slope %d: wanted about %g, got %g", j, d, slope[j])
		}
	}
}

func TestRefused(t *testing.T) {
	c := config()
	c.Draws = 0
	if err := c.Check(); err == nil || !strings.Contains(err.Error(), "draws") {
		t.Errorf("no draws: %v", err)
	}
	if _, err := generativeswin.For("small", []int{1, 17, 17}, 0); err == nil || !strings.Contains(err.Error(), "maps-32") {
		t.Errorf("no preset: %v", err)
	}
	for name, p := range generativeswin.Presets {
		if err := p.Config.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Config.Network(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
