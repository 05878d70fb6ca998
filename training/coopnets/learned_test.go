package coopnets_test

import (
	"cmp"
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
	// Of twelve completions the three of lowest energy, with what is visible put in, stay,
	// and the one nearest to their mean is taken.
	l.Cold.Restarts = 12
	y = of(0.5)
	once := l.Learned
	once.Cold.Restarts = 1
	var all [12][]float32
	var u [12][2]float32
	for r := range all {
		if all[r], err = once.Reconstruct(t.Context(), x[:128], mask, sampler.Noise{Seed: 5}.Fork(0).Fork(uint64(r)).Seed); err != nil {
			t.Fatal(err)
		}
		whole := slices.Clone(all[r])
		for i, m := range mask {
			whole[i] += m * (x[i] - whole[i])
		}
		if err := l.Energy.EnergyGrad(whole, u[r][:], make([]float32, 128)); err != nil {
			t.Fatal(err)
		}
	}
	decoded := make([]float32, 0, 128)
	for k := range 2 {
		order := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
		slices.SortFunc(order, func(a, b int) int { return cmp.Compare(u[a][k], u[b][k]) })
		apart := func(r int) (d float64) { // of the three, this one's distance from all
			for _, other := range order[:3] {
				d += training.MSE(all[r][k*64:(k+1)*64], all[other][k*64:(k+1)*64])
			}
			return d
		}
		best := slices.MinFunc(order[:3], func(a, b int) int { return cmp.Compare(apart(a), apart(b)) })
		decoded = append(decoded, all[best][k*64:(k+1)*64]...)
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
