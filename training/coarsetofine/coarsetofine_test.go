package coarsetofine_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/bind/bindtest"
	"ebmrun/training/coarsetofine"
	"ebmrun/training/data"
	"ebmrun/training/pyramid"
	"ebmrun/training/systemtest"
)

func config(change func(*coarsetofine.Config)) coarsetofine.Config {
	c := coarsetofine.Config{
		Spec: &energy.Spec{Expand: &energy.Expand{Base: 1, From: 8}, Activation: "swish"},
		// stages of 2·4 and 2·6 iterations
		Steps: 20, Phase: 24, Batches: []int{6, 4}, ScoreL2: 0.1, Spectral: true,
		Langevin: training.Langevin{Steps: 2, Step: 1, Noise: 0.01, GradClip: 1, Clamp: [2]float64{-1, 1}},
		Optim:    training.Optim{LR: 1e-2, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1},
	}
	c.Data.Noise = 0.01
	if change != nil {
		change(&c)
	}
	return c
}

// networks is a new system over small networks, as a new process would make it.
func networks(t testing.TB, e runtime.Engine, c coarsetofine.Config) (*coarsetofine.System, []*bind.Energy) {
	t.Helper()
	set, err := data.Load(t.Context(), "synthetic/shape", data.Options{Seed: 2, Size: 16, Limit: 25})
	if err != nil {
		t.Fatal(err)
	}
	var nets []training.Energy
	var bound []*bind.Energy
	for k, side := range []int{8, 16} {
		net := bindtest.On(t, e, bind.Options{Spectral: c.Spectral})(energy.Build(*c.Spec, []int{1, side, side}, 0, uint64(k)))
		nets, bound = append(nets, net), append(bound, net)
	}
	s, err := coarsetofine.New(c, nets, set, 3)
	if err != nil {
		t.Fatal(err)
	}
	return s, bound
}

func weight(e *bind.Energy, name string) []float32 {
	for _, p := range e.Params() {
		if p.Name == name {
			return p.W
		}
	}
	return nil
}

// TestStages: a stage begins with the weights of the one before, α = 0 and the same
// scores of averaged pictures; then its block is faded in while the coarse energy stays.
func TestStages(t *testing.T) {
	s, nets := networks(t, ref.New(), config(nil))
	var frozen [][]float32
	for i := range 20 {
		if i == 8 {
			for _, p := range nets[0].Params() {
				frozen = append(frozen, slices.Clone(p.W))
			}
		}
		m, err := s.Step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Draw(t.Context(), 1, 2); err != nil { // as between two iterations that are judged
			t.Fatal(err)
		}
		side, alpha := 8.0, 1.0
		if i >= 8 {
			side, alpha = 16, min(1, float64(i-8)/6)
		}
		if m["side"] != side || math.Abs(m["fade"]-alpha) > 1e-6 {
			t.Errorf("iteration %d: side %g, α %g; wanted %g, %g", i, m["side"], m["fade"], side, alpha)
		}
		if i >= 8 && weight(nets[1], energy.Fade)[0] != float32(alpha) {
			t.Errorf("iteration %d: the network's α is %g", i, weight(nets[1], energy.Fade)[0])
		}
	}
	for i, p := range nets[0].Params() {
		if !slices.Equal(p.W, frozen[i]) {
			t.Errorf("%s of the coarse energy changes while the fine one learns", p.Name)
		}
	}
	if slices.Equal(weight(nets[1], "head.top.weight"), weight(nets[0], "head.top.weight")) {
		t.Error("the fine energy does not learn")
	}
}

// TestNoise: chains of long steps end at the signs of their noise, which is new in each iteration.
func TestNoise(t *testing.T) {
	s, _ := networks(t, ref.New(), config(func(c *coarsetofine.Config) {
		c.Langevin = training.Langevin{Steps: 1, Step: 1, Noise: 1000, GradClip: 1e-3}
	}))
	s.Slow(0)
	lo, hi := 1.0, -1.0
	for range 6 {
		m := systemtest.Steps(t, s, 1)["sample_mean"]
		lo, hi = min(lo, m), max(hi, m)
	}
	if hi-lo < 0.05 { // the mean of 384 signs has the deviation 0.051
		t.Errorf("means of iterations are from %g to %g", lo, hi)
	}
}

// TestExpansion: carried weights, spectral norms included, give the coarse score.
func TestExpansion(t *testing.T) {
	s, nets := networks(t, ref.New(), config(nil))
	for range 8 {
		if _, err := s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := pyramid.Carry(nets[1], nets[0]); err != nil {
		t.Fatal(err)
	}
	set, err := data.Load(t.Context(), "synthetic/shape", data.Options{Seed: 9, Size: 16, Limit: 5})
	if err != nil {
		t.Fatal(err)
	}
	score := func(e *bind.Energy, x []float32) []float32 {
		f := make([]float32, 5)
		if err := e.Scores(x, make([]float32, 5), f); err != nil {
			t.Fatal(err)
		}
		return f
	}
	want := score(nets[0], pyramid.Shrink(set.X(), 16, 16, 2))
	for _, alpha := range []float32{0, 1} {
		weight(nets[1], energy.Fade)[0] = alpha
		if err := pyramid.Renew(nets[1]); err != nil {
			t.Fatal(err)
		}
		worst := 0.0
		for i, v := range score(nets[1], set.X()) {
			worst = max(worst, math.Abs(float64(v-want[i])))
		}
		if (worst < 1e-4) != (alpha == 0) {
			t.Errorf("α = %g: scores differ by %g", alpha, worst)
		}
	}
}

// TestResume: a run broken off in any stage, also where one begins, goes on bit for bit.
func TestResume(t *testing.T) {
	engine, err := ort.Open("")
	enginetest.Unavailable(t, err)
	for name, change := range map[string]func(*coarsetofine.Config){
		"cooled": func(c *coarsetofine.Config) { c.Cool = true },
		"fused":  func(c *coarsetofine.Config) { c.Langevin.Fused, c.EMA = true, 0.5 },
	} {
		fresh := func() *coarsetofine.System { s, _ := networks(t, engine, config(change)); return s }
		whole, end := systemtest.Broken(t, fresh, 20, 5, 8, 9, 15)
		bare := fresh().Model
		if err := bare.Restore(end); err != nil {
			t.Fatal(err)
		}
		a, err := whole.Draw(t.Context(), 9, 4)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := bare.Draw(t.Context(), 9, 4); err != nil || !slices.Equal(a, b) {
			t.Errorf("%s: the model without data draws otherwise (%v)", name, err)
		}
	}
}

// TestAbilities: what is visible comes back bit for bit whatever is hidden, ways have
// the frames they should and end where their seeds lead.
func TestAbilities(t *testing.T) {
	s, _ := networks(t, ref.New(), config(nil))
	for range 12 {
		if _, err := s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	set, err := data.Load(t.Context(), "synthetic/shape", data.Options{Seed: 9, Size: 16, Limit: 5})
	if err != nil {
		t.Fatal(err)
	}
	mask := make([]float32, len(set.X()))
	for i := range mask {
		if i%16 < 6 {
			mask[i] = 1
		}
	}
	got, err := s.Reconstruct(t.Context(), set.X(), mask, 1)
	if err != nil {
		t.Fatal(err)
	}
	other := slices.Clone(set.X())
	for i, v := range got {
		if mask[i] == 1 && v != set.X()[i] {
			t.Fatalf("visible value %d changes", i)
		}
		if mask[i] == 0 {
			other[i] = 0.7
		}
	}
	if again, err := s.Reconstruct(t.Context(), other, mask, 1); err != nil || !slices.Equal(again, got) {
		t.Errorf("the completion depends on what is hidden (%v)", err)
	}
	if x, err := s.Reconstruct(t.Context(), set.X(), nil, 1); err != nil || len(x) != len(set.X()) {
		t.Errorf("from thumbnails: %d values, %v", len(x), err)
	}
	way, err := s.Interpolate(t.Context(), 1, 2, 5)
	if err != nil || len(way) != 5*256 {
		t.Fatalf("%d values, %v", len(way), err)
	}
	if back, err := s.Interpolate(t.Context(), 1, 1, 5); err != nil || !slices.Equal(back[:256], way[:256]) {
		t.Errorf("the way does not begin where its seed leads (%v)", err)
	}
	if _, err := s.Interpolate(t.Context(), 1, 2, 1); err == nil {
		t.Error("one frame is accepted")
	}
	if _, err := s.Reconstruct(t.Context(), set.X()[1:], nil, 1); err == nil {
		t.Error("a part of a picture is accepted")
	}
	if pics, err := s.Pictures(t.Context()); err != nil || len(pics) != 2 || len(pics[1].Rows) != 4 {
		t.Errorf("%d pictures, %v", len(pics), err)
	}
}

// TestSabotage: after one update the value on the same batch rises, flipped it falls,
// frozen it stays.
func TestSabotage(t *testing.T) {
	for sabotage, sign := range map[string]float64{"": 1, coarsetofine.Flip: -1, coarsetofine.Freeze: 0} {
		s, nets := networks(t, ref.New(), config(func(c *coarsetofine.Config) {
			c.Sabotage, c.ScoreL2, c.Data.Noise, c.Spectral = sabotage, 0, 0, false
			c.Optim = training.Optim{Name: "sgd", LR: 1e-3}
			c.Langevin.Noise = 0
		}))
		before, err := s.Draw(t.Context(), 6, 1)
		if err != nil {
			t.Fatal(err)
		}
		x := pyramid.Shrink(before, 16, 16, 2) // samples of 8×8
		set, err := data.Load(t.Context(), "synthetic/shape", data.Options{Seed: 2, Size: 16, Limit: 25})
		if err != nil {
			t.Fatal(err)
		}
		x = append(pyramid.Shrink(set.Head(6).X(), 16, 16, 2), x...)
		value := func() float64 {
			f := make([]float32, 12)
			if err := nets[0].Scores(x, make([]float32, 12), f); err != nil {
				t.Fatal(err)
			}
			return training.Mean(f[:6]) - training.Mean(f[6:])
		}
		v := value()
		for range 5 {
			if _, err := s.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if d := value() - v; sign == 0 && d != 0 || sign*d < 0 || sign != 0 && d == 0 {
			t.Errorf("%q: V changes by %g", sabotage, d)
		}
	}
}

func TestCheck(t *testing.T) {
	for want, change := range map[string]func(*coarsetofine.Config){
		"steps":   func(c *coarsetofine.Config) { c.Steps = 0 },
		"phase":   func(c *coarsetofine.Config) { c.Phase = 0 },
		"batches": func(c *coarsetofine.Config) { c.Batches = nil },
		"cool":    func(c *coarsetofine.Config) { c.Cool, c.Langevin.Fused = true, true },
		"flip":    func(c *coarsetofine.Config) { c.Sabotage = "no" },
	} {
		c := config(change)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %q, got %v", want, err)
		}
	}
	c := config(nil)
	if _, err := c.Sides(28, 28); err == nil || !strings.Contains(err.Error(), "28×28") {
		t.Errorf("got %v", err)
	}
	c.Spec = &energy.Spec{Expand: &energy.Expand{Base: 1}}
	if _, err := c.Sides(16, 16); err == nil || !strings.Contains(err.Error(), "grows") {
		t.Errorf("got %v", err)
	}
	for name, p := range coarsetofine.Presets {
		c := p.Config
		if err := c.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.Network(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"small", "paper"} {
		if _, err := coarsetofine.For(name, []int{3, 32, 32}, 10); err != nil {
			t.Error(err)
		}
	}
	if _, err := coarsetofine.For("small", []int{1, 28, 28}, 10); err == nil || !strings.Contains(err.Error(), "pictures-32") {
		t.Errorf("got %v", err)
	}
}
