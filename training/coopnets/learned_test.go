package coopnets_test

import (
	"slices"
	"testing"

	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/coopnets"
	"ebmrun/training/sampler"
	"ebmrun/training/systemtest"
)

// TestLearned: draws are revised drafts, the ends of the way are draws, and with
// a mask the visible part of what is returned is the draft's, the hidden one has
// been revised beside what is visible.
func TestLearned(t *testing.T) {
	s := networks(t, ref.New(), false)
	l := coopnets.Of(s.Config, s.Energy, s.Generator, 64)
	draft, err := l.Learned.Draw(t.Context(), 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	x, err := l.Draw(t.Context(), 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	same := 0
	for i, v := range x {
		if v == draft[i] {
			same++
		}
	}
	if same > len(x)/10 {
		t.Errorf("%d of %d values of the drafts are not revised", same, len(x))
	}
	way, err := l.Interpolate(t.Context(), 1, 2, 4)
	if err != nil || len(way) != 4*64 || !slices.Equal(way[:64], x[:64]) {
		t.Errorf("the way does not begin at the draw of its seed (%v)", err)
	}
	mask := make([]float32, 2*64)
	for i := range mask {
		mask[i] = float32(i / 4 % 2)
	}
	l.Cold.Steps, l.Cold.Settle = 20, 5
	of := func(hidden float32) []float32 {
		in := slices.Clone(x[:128])
		for i, m := range mask {
			if m == 0 {
				in[i] = hidden
			}
		}
		y, err := l.Reconstruct(t.Context(), in, mask, 5)
		if err != nil {
			t.Fatal(err)
		}
		return y
	}
	y := of(0.5)
	if !slices.Equal(y, of(-0.5)) {
		t.Error("hidden values leak")
	}
	// Of several completions the likeliest is taken, the first among them.
	joint := func(y []float32) (u []float32) {
		u = make([]float32, 2)
		if err := l.Energy.EnergyGrad(y, u, make([]float32, len(y))); err != nil {
			t.Fatal(err)
		}
		for i, m := range mask {
			u[i/64] += m * (x[i] - y[i]) * (x[i] - y[i]) / float32(2*l.Sigma*l.Sigma)
		}
		return u
	}
	several := joint(y)
	l.Cold.Restarts = 1
	y = of(0.5)
	for i, one := range joint(y) {
		if several[i] > one*(1+1e-5) {
			t.Errorf("example %d: the completion that is taken has %g nats, the first %g", i, several[i], one)
		}
	}
	decoded, err := l.Learned.Reconstruct(t.Context(), x[:128], mask, sampler.Noise{Seed: 5}.Fork(0).Seed)
	if err != nil {
		t.Fatal(err)
	}
	moved := 0
	for i, m := range mask {
		switch {
		case m == 1 && y[i] != decoded[i]:
			t.Fatalf("visible value %d is %g, the generator says %g", i, y[i], decoded[i])
		case m == 0 && y[i] != decoded[i]:
			moved++
		}
	}
	if moved < 50 {
		t.Errorf("%d of 64 hidden values are revised", moved)
	}
}

// TestStill: without revision the generator is taught what it drafts.
func TestStill(t *testing.T) {
	e, g := newQuadratic(), newAffine()
	s := system(t, config(func(c *coopnets.Config) { jumpStart(c); c.Sabotage = coopnets.Still }), e, g, gaussian(t, 500))
	m := step(t, s)
	if !slices.Equal(g.target, g.drafts) || m["revision"] != 0 || m["fit"] > 1e-6 {
		t.Errorf("revision %g, fit %g", m["revision"], m["fit"])
	}
}

// TestDiverges: a run whose chains, energy or generator go wrong says which.
func TestDiverges(t *testing.T) {
	of := func(change func(c *coopnets.Config)) training.System {
		return system(t, config(change), newQuadratic(), newAffine(), gaussian(t, 500))
	}
	systemtest.Diverges(t, map[string]training.System{
		"chains of the revision": of(func(c *coopnets.Config) { c.Langevin.Step, c.Langevin.Steps = 1e4, 40 }),
		"chains of codes":        of(func(c *coopnets.Config) { c.Inference.Step, c.Inference.Steps = 1e4, 40 }),
		"energy":                 of(func(c *coopnets.Config) { c.Optim.LR, c.Langevin.Step = 2, 0.01 }),
		"generator":              of(func(c *coopnets.Config) { c.Teach.LR = 1e40; jumpStart(c) }),
	})
}
