package abp_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/abp"
	"ebmrun/training/data"
)

// TestLearned: what a checkpoint gives explains new examples as the closed form
// does, whatever the split into blocks, and better with restarts; equal seeds are
// equal, and a Langevin step that was slowed in learning stays slowed.
func TestLearned(t *testing.T) {
	w, set := factors(), draws(t, 130, 1)
	s := system(t, config(nil), newLinear(w.At), set)
	s.Slow(0.5)
	st, err := s.Save()
	if err != nil {
		t.Fatal(err)
	}
	c := s.Config
	l, err := abp.Open(c, untrained(), dim, st)
	if err != nil {
		t.Fatal(err)
	}
	if l.Langevin.Step != c.Langevin.Step/2 || l.Cold.Steps != 200 || l.Cold.Restarts != 1 {
		t.Errorf("step %g, cold %+v", l.Langevin.Step, l.Cold)
	}
	l.Langevin.Step, l.Langevin.Noise = 0.2, 0 // descent ends at the posterior's mean
	for _, sharp := range []float64{1, 9} {
		l.Cold.Settle, l.Cold.Sharp = 400, sharp
		z, err := l.Encode(t.Context(), set.X(), nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		for i := range set.N {
			for k, scale := range scales {
				want := 0.0
				for j := range dim {
					want += w.At(j, k) * float64(set.At(i)[j]) / (residual*residual/sharp + scale*scale)
				}
				if got := float64(z[i*codes+k]); math.Abs(got-want) > 1e-3 {
					t.Fatalf("residual weighed %g, example %d, code %d: wanted %g, got %g", sharp, i, k, want, got)
				}
			}
		}
	}
	l.Cold.Settle, l.Cold.Sharp = 0, 1
	l.Langevin.Noise = 1
	y, err := l.Reconstruct(t.Context(), set.X(), nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	some, err := l.Reconstruct(t.Context(), set.Head(3).X(), nil, 1)
	if err != nil || !slices.Equal(some, y[:len(some)]) {
		t.Errorf("a smaller set is reconstructed in another way (%v)", err)
	}
	one := training.MSE(set.X(), y)
	l.Cold.Restarts = 8
	if y, err = l.Reconstruct(t.Context(), set.X(), nil, 1); err != nil || training.MSE(set.X(), y) >= one {
		t.Errorf("error %g with 8 restarts, %g with one (%v)", training.MSE(set.X(), y), one, err)
	}
	x, err := l.Interpolate(t.Context(), 1, 2, 5)
	if err != nil {
		t.Fatal(err)
	}
	ends := [][]float32{x[:dim], x[4*dim:]}
	for i, seed := range []uint64{1, 2} {
		if d, err := l.Draw(t.Context(), 1, seed); err != nil || !slices.Equal(d, ends[i]) {
			t.Errorf("end %d of the way is not the draw of seed %d (%v)", i, seed, err)
		}
	}
	if _, err := l.Reconstruct(t.Context(), set.X(), make([]float32, 7), 1); err == nil || !strings.Contains(err.Error(), "7") {
		t.Errorf("a mask of another size: %v", err)
	}
	other := &narrow{untrained()}
	if _, err := abp.New(c, other, set, 3); err != nil {
		t.Fatal(err)
	}
	fresh := system(t, c, other, set)
	if err := fresh.Restore(st); err == nil || !strings.Contains(err.Error(), "[130 3]") || !strings.Contains(err.Error(), "[130 2]") {
		t.Errorf("another number of codes on resuming: %v", err)
	}
}

// narrow says that it has two codes.
type narrow struct{ *linear }

func (narrow) Codes() int { return 2 }

// TestSquares: each example has a square of its own hidden, in all channels, and
// masks that are given are used, stored, and refused where they do not fit.
func TestSquares(t *testing.T) {
	s := network(t, ref.New())
	c := s.Config
	c.Data.Hidden, c.Data.Square = 0, 3
	set := shapes(t)
	s = system(t, c, s.Generator, set)
	_, mask, _, err := s.Recover(t.Context(), set.N)
	if err != nil {
		t.Fatal(err)
	}
	places := map[int]bool{}
	for i := range set.N {
		row := mask[i*64 : (i+1)*64]
		first := slices.Index(row, 0)
		places[first] = true
		hidden := 0
		for p, v := range row {
			if v == 0 {
				hidden++
				if dy, dx := p/8-first/8, p%8-first%8; dy < 0 || dy > 2 || dx < 0 || dx > 2 {
					t.Fatalf("example %d: pixel %d is hidden, the square begins at %d", i, p, first)
				}
			}
		}
		if hidden != 9 {
			t.Fatalf("example %d: %d hidden pixels", i, hidden)
		}
	}
	if len(places) < 5 {
		t.Errorf("squares at %d places only", len(places))
	}

	given := &data.Set{Name: "masks", N: 1, C: 1, H: 8, W: 8, Floats: make([]float32, 64), Gain: 1}
	for i := range 20 {
		given.Floats[i] = 1
	}
	if err := s.Hide(given); err != nil {
		t.Fatal(err)
	}
	st, err := s.Save()
	if err != nil {
		t.Fatal(err)
	}
	c.Data.Square = 0
	again := system(t, c, s.Generator, set)
	if err := again.Restore(st); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*abp.System{s, again} {
		if _, mask, _, err := s.Recover(t.Context(), 2); err != nil || mask[0] != 0 || mask[19] != 0 || mask[20] != 1 || mask[64+19] != 0 {
			t.Errorf("the given mask is not used (%v)", err)
		}
	}
	wide := &data.Set{Name: "masks", N: 1, C: 1, H: 8, W: 9, Floats: make([]float32, 72), Gain: 1}
	if err := s.Hide(wide); err == nil || !strings.Contains(err.Error(), "8×9") || !strings.Contains(err.Error(), "8×8") {
		t.Errorf("a mask of another size: %v", err)
	}
	c.Data.Square = 9
	if _, err := abp.New(c, s.Generator, set, 1); err == nil || !strings.Contains(err.Error(), "9 pixels") {
		t.Errorf("a square that does not fit: %v", err)
	}
}

// TestDiverges: beyond the longest stable step, 0.2967 for this posterior, the
// run ends by the guard, which names the chains; below it learns on. The state
// saved before is kept.
func TestDiverges(t *testing.T) {
	for _, c := range []struct {
		size float64
		bad  bool
	}{{0.25, false}, {1, true}} {
		s := system(t, config(func(f *abp.Config) { f.Langevin.Step, f.Optim.LR = c.size, 1e-4 }), newLinear(factors().At), draws(t, 400, 1))
		dir := t.TempDir()
		err := training.Run(t.Context(), s, training.Options{Steps: 20, Checkpoints: dir, Guard: training.Guard{Recover: 1}})
		if c.bad {
			if !errors.Is(err, training.ErrGuard) || !strings.Contains(err.Error(), "chains of codes went wrong") || !strings.Contains(err.Error(), "langevin.step") {
				t.Errorf("step %g: %v", c.size, err)
			}
			if st := last(t, dir); st.Step != 0 {
				t.Errorf("the checkpoint is of iteration %d", st.Step)
			}
		} else if err != nil {
			t.Errorf("step %g: %v", c.size, err)
		}
	}
}
