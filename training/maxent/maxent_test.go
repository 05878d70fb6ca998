package maxent_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/bind/bindtest"
	"ebmrun/training/data"
	"ebmrun/training/maxent"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
	"ebmrun/training/systemtest"
)

// folded is f(x) = Σ_j θ_j·|x_j| under N(0, 1): the absolute responses to an orthonormal dictionary, which
// are independent truncated normals.
type folded struct{ theta optim.Param }

func newFolded(dim int) *folded {
	return &folded{optim.Param{Name: "theta", W: make([]float32, dim), G: make([]float32, dim)}}
}

func (e *folded) EnergyGrad(x, u, g []float32) error {
	d := len(e.theta.W)
	for i := range u {
		sum := 0.0
		for j, w := range e.theta.W {
			v := x[i*d+j]
			sum += float64(v)*float64(v)/2 - float64(w)*math.Abs(float64(v))
			g[i*d+j] = v - w*float32(math.Copysign(1, float64(v)))
		}
		u[i] = float32(sum)
	}
	return nil
}

func (e *folded) Learn(_ context.Context, x, w []float32, l2 float32, score []float32) error {
	d := len(e.theta.W)
	clear(e.theta.G)
	for i := range w {
		f := 0.0
		for j, t := range e.theta.W {
			f += float64(t) * math.Abs(float64(x[i*d+j]))
		}
		score[i] = float32(f)
		for j := range e.theta.W {
			e.theta.G[j] += (w[i] + l2*float32(f)) * float32(math.Abs(float64(x[i*d+j])))
		}
	}
	return nil
}

func (e *folded) Params() []optim.Param { return []optim.Param{e.theta} }
func (e *folded) Refresh()              {}

// targets are weights with the means of |r| and the log Z per atom that they have under N(0, 1):
// λ + φ(λ)/Φ(λ), and log 2 + λ²/2 + log Φ(λ).
var targets = []struct{ lambda, mean, logz float64 }{{-1, 0.5251, -0.6479}, {0, 0.7979, 0}, {0.5, 1.0092, 0.4492}, {1, 1.2876, 1.0204}, {2, 2.0552, 2.6701}}

func TestTargets(t *testing.T) {
	for _, c := range targets {
		phi, cum := math.Exp(-c.lambda*c.lambda/2)/math.Sqrt(2*math.Pi), math.Erfc(-c.lambda/math.Sqrt2)/2
		if math.Abs(c.lambda+phi/cum-c.mean) > 1e-4 || math.Abs(math.Ln2+c.lambda*c.lambda/2+math.Log(cum)-c.logz) > 1e-4 {
			t.Errorf("%+v: the closed form gives %g and %g", c, c.lambda+phi/cum, math.Ln2+c.lambda*c.lambda/2+math.Log(cum))
		}
	}
}

// means is a set of one example whose statistics are the targets' means.
func means() *data.Set {
	s := &data.Set{Name: "means", N: 1, C: len(targets), H: 1, W: 1, Gain: 1}
	for _, c := range targets {
		s.Floats = append(s.Floats, float32(c.mean))
	}
	return s
}

func config(change func(*maxent.Config)) maxent.Config {
	c := maxent.Config{Steps: 300, Chains: 256}
	c.HMC.Step, c.HMC.Leapfrogs, c.HMC.Mass, c.HMC.Calls = 0.03, 10, 0.1, 3
	c.Optim = training.Optim{Name: "sgd", LR: 0.05}
	change(&c)
	return c
}

func learn(t testing.TB, c maxent.Config, e training.Energy, steps int) *maxent.System {
	t.Helper()
	s, err := maxent.New(t.Context(), "test", c, e, 1, means(), nil, 5)
	if err != nil {
		t.Fatal(err)
	}
	for range steps {
		if _, err := s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestClosedForm: from the means of |r| come the weights and log Z, with HMC and with Langevin dynamics,
// and not in the sabotaged arms.
func TestClosedForm(t *testing.T) {
	want := 0.0
	for _, c := range targets {
		want += c.logz
	}
	for _, arm := range []struct {
		name   string
		change func(*maxent.Config)
		works  bool
	}{
		{"hmc", func(*maxent.Config) {}, true},
		{"langevin", func(c *maxent.Config) {
			c.HMC.Leapfrogs, c.Langevin = 0, training.Langevin{Steps: 100, Step: 0.12, Noise: 1}
		}, true},
		{"freeze", func(c *maxent.Config) { c.Sabotage = maxent.Freeze }, false},
		{"flip", func(c *maxent.Config) { c.Sabotage, c.Steps = maxent.Flip, 60 }, false},
	} {
		e := newFolded(len(targets))
		c := config(arm.change)
		s := learn(t, c, e, c.Steps)
		off := 0.0
		for j, c := range targets {
			off = max(off, math.Abs(float64(e.theta.W[j])-c.lambda))
		}
		logz := s.LogPartition()
		t.Logf("%s: largest error of a weight %.3f, log Z %.4f of %.4f", arm.name, off, logz, want)
		if met := off <= 0.08 && math.Abs(logz-want) <= 0.05*want; met != arm.works {
			t.Errorf("%s: weights %v, off by %g, log Z %g, wanted %g", arm.name, e.theta.W, off, logz, want)
		}
	}
}

// TestScore: log p(x) = f − log Z + log q in closed form.
func TestScore(t *testing.T) {
	e := newFolded(2)
	copy(e.theta.W, []float32{1, -1})
	m := &maxent.Model{Energy: e, Dim: 2, Sigma: 1, LogZ: 1.0204 - 0.6479}
	x := []float32{0.5, -2, 0, 0, 1, 1}
	_, got, err := m.Score(t.Context(), x, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		a, b := float64(x[2*i]), float64(x[2*i+1])
		want := math.Abs(a) - math.Abs(b) - (a*a+b*b)/2 - math.Log(2*math.Pi) - m.LogZ
		if math.Abs(v-want) > 1e-5 {
			t.Errorf("example %d: wanted %g, got %g", i, want, v)
		}
	}
}

// TestDraw: drawn examples have the statistics of the weights.
func TestDraw(t *testing.T) {
	e := newFolded(len(targets))
	for j, c := range targets {
		e.theta.W[j] = float32(c.lambda)
	}
	m := &maxent.Model{Config: config(func(*maxent.Config) {}), Energy: e, Dim: len(targets), Sigma: 1}
	const n = 4000
	x, err := m.Draw(t.Context(), n, 3)
	if err != nil {
		t.Fatal(err)
	}
	for j, c := range targets {
		mean := 0.0
		for i := range n {
			mean += math.Abs(float64(x[i*len(targets)+j])) / n
		}
		if math.Abs(mean-c.mean) > 0.05 {
			t.Errorf("weight %g: wanted a mean response of %g, got %g", c.lambda, c.mean, mean)
		}
	}
}

// TestEnergyError: halving the leapfrog step divides the error of the total energy by four.
func TestEnergyError(t *testing.T) {
	rejected := func(size float32, leapfrogs int) float64 {
		e := newFolded(40) // θ = 0: a smooth energy
		s, err := sampler.NewState(make([]float32, 400*40), 40, sampler.Chains(0, 400))
		if err != nil {
			t.Fatal(err)
		}
		sampler.Noise{Seed: 1}.Normals(s.X, s.Chain, 0)
		info, err := sampler.Run(t.Context(), sampler.Noise{Seed: 2}, sampler.HMC{Size: size, Leapfrogs: leapfrogs}, e, s, 40, nil)
		if err != nil {
			t.Fatal(err)
		}
		return 1 - info.Accepted
	}
	// The rejected share of small errors is proportional to their deviation.
	if a, b := rejected(0.6, 4), rejected(0.3, 8); !(a/b > 3.2 && a/b < 5) {
		t.Errorf("rejected shares %g and %g: wanted a ratio of about 4", a, b)
	}
}

// network is the same energy as a graph.
func network(t testing.TB) *bind.Energy {
	t.Helper()
	eye := make([]float32, 25)
	for i := range 5 {
		eye[6*i] = 1
	}
	return bindtest.On(t, ref.New(), bind.Options{})(energy.Linear([]int{5}, 1, false, energy.Atoms(eye)))
}

// TestResume: 10 iterations, and 5 saved, restored in a new system and 5 more, are the same bits.
func TestResume(t *testing.T) {
	c := config(func(c *maxent.Config) { c.Chains, c.Optim = 8, training.Optim{LR: 0.1, Decay: 0.1} })
	whole, end := systemtest.Resume(t, func() *maxent.System { return learn(t, c, network(t), 0) })
	m := &maxent.Model{Config: c, Energy: network(t), Dim: 5, Sigma: 1}
	if err := m.Open(end); err != nil {
		t.Fatal(err)
	}
	if m.LogZ != whole.LogPartition() {
		t.Errorf("log Z: wanted %g, got %g", whole.LogPartition(), m.LogZ)
	}
}

func TestBadSettings(t *testing.T) {
	for want, change := range map[string]func(*maxent.Config){
		"steps":         func(c *maxent.Config) { c.Steps = 0 },
		"chains":        func(c *maxent.Config) { c.Chains = 0 },
		"hmc":           func(c *maxent.Config) { c.HMC.Step = 0 },
		"langevin.step": func(c *maxent.Config) { c.HMC.Leapfrogs = 0; c.Langevin.Steps = 1 },
		"optim.lr":      func(c *maxent.Config) { c.Optim.LR = 0 },
		"sabotage":      func(c *maxent.Config) { c.Sabotage = "other" },
	} {
		if _, err := maxent.New(t.Context(), "test", config(change), newFolded(5), 1, means(), nil, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %s, got %v", want, err)
		}
	}
	if _, err := maxent.New(t.Context(), "test", config(func(*maxent.Config) {}), newFolded(5), 1, means(), make([][]float32, 2), 1); err == nil || !strings.Contains(err.Error(), "statistics") {
		t.Errorf("wanted an error about statistics, got %v", err)
	}
}
