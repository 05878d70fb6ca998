package sampler

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

// fieldFunc is a field made of one function.
type fieldFunc func(x, u, g []float32) error

func (f fieldFunc) EnergyGrad(x, u, g []float32) error { return f(x, u, g) }

// slope is a field of energy 0 and the given slope in every chain.
func slope(row ...float32) Field {
	return fieldFunc(func(x, u, g []float32) error {
		clear(u)
		for i := range g {
			g[i] = row[i%len(row)]
		}
		return nil
	})
}

// TestLangevinStep follows one step entry by entry: clip, drift, noise, clamp, project.
func TestLangevinStep(t *testing.T) {
	var seen []float32
	k := Langevin{Size: 2, Noise: 0.5, GradClip: 3, ClampMin: -5, ClampMax: 2, Project: func(x []float32) {
		seen = slices.Clone(x)
		x[1] = 9
	}}
	s := state(t, []float32{1, 1, 1, 1}, 2, 2)
	n := Noise{Seed: 3}
	info, err := k.Step(n, slope(4, -1), s)
	if err != nil {
		t.Fatal(err)
	}
	e := make([]float32, 4)
	n.Normals(e, []uint64{0, 1}, 0)
	held := 0
	for i, drift := range []float32{-6, 2, -6, 2} { // −(2²/2)·clip(4, −1; 3)
		want := 1 + drift + e[i]
		if want < -5 || want > 2 {
			want = max(-5, min(2, want))
			held++
		}
		if seen[i] != want {
			t.Errorf("entry %d before projection: want %v, got %v", i, want, seen[i])
		}
	}
	if held == 0 || held == 4 {
		t.Fatalf("%d of 4 entries are clamped: the case tells nothing", held)
	}
	if s.X[1] != 9 || s.X[0] != seen[0] {
		t.Errorf("projection: want [%v 9 …], got %v", seen[0], s.X)
	}
	want := Info{Accepted: 1, Drift: 2 * math.Sqrt(10), Clamped: float64(held) / 4}
	if math.Abs(info.Drift-want.Drift) > 1e-12 || info.Accepted != 1 || info.Clamped != want.Clamped || info.NonFinite != 0 {
		t.Errorf("info: want %+v, got %+v", want, info)
	}
}

// TestEvaluations counts calls of the field in a run of 6 steps.
func TestEvaluations(t *testing.T) {
	for name, c := range map[string]struct {
		k    Kernel
		want int
	}{
		"Langevin": {Langevin{Size: 0.1}, 6}, "MALA": {MALA{Size: 0.1}, 7}, "HMC": {HMC{Size: 0.1, Leapfrogs: 4}, 25},
	} {
		calls := 0
		f := fieldFunc(func(x, u, g []float32) error {
			calls++
			return quadratic{}.EnergyGrad(x, u, g)
		})
		if _, err := Run(context.Background(), Noise{}, c.k, f, gaussian(t, 3), 6, nil); err != nil {
			t.Fatal(err)
		}
		if calls != c.want {
			t.Errorf("%s: want %d evaluations, got %d", name, c.want, calls)
		}
	}
}

func TestRunStopsAtNaN(t *testing.T) {
	calls := 0
	f := fieldFunc(func(x, u, g []float32) error {
		if calls++; calls == 12 {
			for _, c := range []int{5, 9, 63} {
				u[c] = float32(math.NaN())
			}
			return nil
		}
		return quadratic{}.EnergyGrad(x, u, g)
	})
	s := gaussian(t, 64)
	_, err := Run(context.Background(), Noise{}, Langevin{Size: 0.1, Noise: 1}, f, s, 60, nil)
	if want := "sampler: step 12 of 60: energy is NaN in 3 of 64 chains"; err == nil || err.Error() != want {
		t.Errorf("want %q, got %v", want, err)
	}
	var bad *NonFiniteError
	if !errors.As(err, &bad) || bad.First != 5 || s.T != 11 {
		t.Errorf("want a NonFiniteError that starts at row 5 after 11 steps, got %+v after %d", bad, s.T)
	}
	if err := countBad("energy", s.X); err != nil {
		t.Errorf("positions after the stop: %v", err)
	}
}

func TestRunMean(t *testing.T) {
	var drift, accepted float64
	mean, err := Run(context.Background(), Noise{}, MALA{Size: 1.5}, quadratic{}, gaussian(t, 50), 10, func(_ int, i Info) {
		drift += i.Drift / 10
		accepted += i.Accepted / 10
	})
	if err != nil || math.Abs(mean.Drift-drift) > 1e-9 || math.Abs(mean.Accepted-accepted) > 1e-9 || accepted == 0 || accepted == 1 {
		t.Errorf("want mean drift %v and acceptance %v, got %+v, %v", drift, accepted, mean, err)
	}
}

func TestBadSettings(t *testing.T) {
	nan := float32(math.NaN())
	for want, k := range map[string]Kernel{
		"step size: want a positive number, got 0":              Langevin{},
		"step size: want a positive number, got NaN":            MALA{Size: nan},
		"step size: want a positive number, got -1":             HMC{Size: -1},
		"noise multiplier: want 0 or more, got NaN":             Langevin{Size: 1, Noise: nan},
		"gradient clip: want 0 or more, got -1":                 Langevin{Size: 1, GradClip: -1},
		"clamp: want min < max, got 1 and 0":                    Langevin{Size: 1, ClampMin: 1},
		"hmc: want at least one leapfrog and a positive mass":   HMC{Size: 1},
		"adapt: want a target acceptance inside (0, 1), got 1":  &Adapt{Kernel: MALA{}, Size: 1, Target: 1},
		"step size: want a positive number, got +Inf":           &Adapt{Kernel: MALA{}, Size: float32(math.Inf(1)), Target: 0.5},
		"hmc: want at least one leapfrog and a positive mass, ": HMC{Size: 1, Leapfrogs: 2, Mass: nan},
	} {
		s := gaussian(t, 2)
		if _, err := k.Step(Noise{}, quadratic{}, s); err == nil || !strings.HasPrefix(err.Error(), want) || s.T != 0 {
			t.Errorf("%+v: want %q, got %v", k, want, err)
		}
	}
	for _, c := range []struct{ x, dim, chains int }{{6, 4, 2}, {0, 0, 2}, {0, 3, 0}} {
		if _, err := NewState(make([]float32, c.x), c.dim, Chains(0, c.chains)); err == nil {
			t.Errorf("%+v is not refused", c)
		}
	}
}

func TestClone(t *testing.T) {
	a := gaussian(t, 4)
	k, ctx := MALA{Size: 0.5}, context.Background()
	if _, err := Run(ctx, Noise{}, k, quadratic{}, a, 3, nil); err != nil {
		t.Fatal(err)
	}
	b := a.Clone()
	before := slices.Clone(a.X)
	if _, err := Run(ctx, Noise{}, k, quadratic{}, b, 3, nil); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.X, before) || a.T != 3 {
		t.Error("stepping a clone moves the original")
	}
	if _, err := Run(ctx, Noise{}, k, quadratic{}, a, 3, nil); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.X, b.X) || !slices.Equal(a.U, b.U) {
		t.Error("clone and original part")
	}
	if &a.spare.x[0] == &b.spare.x[0] {
		t.Error("clone and original share the buffers of proposals")
	}
}

// TestFresh: no kernel uses the energies and slopes of an x that has been left, or of another field.
func TestFresh(t *testing.T) {
	ctx, n, k := context.Background(), Noise{Seed: 2}, MALA{Size: 1}
	want := func(s *State) []float32 { // one step of k from the x of s, with nothing remembered
		c := s.Clone()
		c.Invalidate()
		if _, err := k.Step(n, quadratic{}, c); err != nil {
			t.Fatal(err)
		}
		return c.X
	}
	for name, before := range map[string]func(s *State) error{
		"Langevin by hand": func(s *State) error {
			_, err := Langevin{Size: 1, Noise: 1, GradClip: 0.1}.Step(n, quadratic{}, s)
			return err
		},
		"a fused chain": func(s *State) error {
			_, err := (&Fused{Chain: &unrolled{size: 1}, K: 2}).Run(ctx, n, s, 2, nil)
			return err
		},
		"the same kernel": func(s *State) error {
			_, err := k.Step(n, quadratic{}, s)
			return err
		},
	} {
		s := gaussian(t, 40)
		if err := s.Evaluate(quadratic{}); err != nil {
			t.Fatal(err)
		}
		if err := before(s); err != nil {
			t.Fatal(err)
		}
		x := want(s)
		if _, err := k.Step(n, quadratic{}, s); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(s.X, x) {
			t.Errorf("after %s: MALA steps from stale energies", name)
		}
	}
	s := gaussian(t, 40)
	if _, err := Run(ctx, n, k, slope(7), s, 1, nil); err != nil {
		t.Fatal(err)
	}
	x := want(s)
	if _, err := Run(ctx, n, k, quadratic{}, s, 1, nil); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.X, x) {
		t.Error("Run starts with the energies of the last field")
	}
}

func TestAnneal(t *testing.T) {
	size := func(step uint64) float32 { return 0.5 / float32(1+step) }
	noise := func(step uint64) float32 { return 1 - float32(step)/4 }
	a, b := gaussian(t, 8), gaussian(t, 8)
	a.T, b.T = 100, 100
	k := Anneal{Langevin: Langevin{ClampMin: -1, ClampMax: 1}, Size: size, Noise: noise, From: 100}
	for step := range uint64(4) {
		want := Langevin{Size: size(step), Noise: noise(step), ClampMin: -1, ClampMax: 1}
		if _, err := want.Step(Noise{}, quadratic{}, a); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Step(Noise{}, quadratic{}, b); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(a.X, b.X) {
		t.Errorf("want %v, got %v", a.X, b.X)
	}
}

// TestAdapt: from a step size ten times too small and one ten times too large the acceptance rate
// comes near its target, the size then stays, and a resumed Adapt goes the same way.
func TestAdapt(t *testing.T) {
	for _, first := range []float32{0.1, 10} {
		for name, kernel := range map[string]Sized{"MALA": MALA{}, "HMC": HMC{Leapfrogs: 2}} {
			x := make([]float32, 64*10)
			Noise{Seed: 8}.Normals(x, Chains(0, 64), 0)
			s := state(t, x, 10, 64)
			a := &Adapt{Kernel: kernel, Size: first, Target: 0.8, Warmup: 200}
			if _, err := Run(context.Background(), Noise{}, a, quadratic{}, s, 120, nil); err != nil {
				t.Fatal(err)
			}
			resumed, r := *a, s.Clone()
			r.Invalidate()
			var sizes [2]float32
			for i, run := range []struct {
				a *Adapt
				s *State
			}{{a, s}, {&resumed, r}} {
				if _, err := Run(context.Background(), Noise{}, run.a, quadratic{}, run.s, 80, nil); err != nil {
					t.Fatal(err)
				}
				sizes[i] = run.a.Current()
			}
			mean, err := Run(context.Background(), Noise{}, a, quadratic{}, s, 100, nil)
			if err != nil || math.Abs(mean.Accepted-0.8) > 0.05 {
				t.Errorf("%s from %v: want acceptance 0.8 ± 0.05, got %.3f at size %v (%v)", name, first, mean.Accepted, a.Current(), err)
			}
			if a.Current() != sizes[0] || sizes[0] != sizes[1] {
				t.Errorf("%s: sizes after warm-up, later, resumed: %v, %v, %v", name, sizes[0], a.Current(), sizes[1])
			}
		}
	}
}

// TestDualAveraging follows two updates worked out by hand from the paper's equation 6.
func TestDualAveraging(t *testing.T) {
	var a Tuning
	for i, c := range []struct{ deficit, wantDeficit, wantLog, wantMean float64 }{
		{0.22, 0.02, 3 - 0.4, 3 - 0.4},
		{-0.1, 0.01, 3 - 0.2*math.Sqrt2, 2.6 + (0.4-0.2*math.Sqrt2)*math.Pow(2, -0.75)},
	} {
		a.update(c.deficit, 3)
		if math.Abs(a.Deficit-c.wantDeficit)+math.Abs(a.Log-c.wantLog)+math.Abs(a.Mean-c.wantMean) > 1e-12 || a.Steps != i+1 {
			t.Errorf("update %d: want %+v, got %+v", i+1, c, a)
		}
	}
}

// unrolled is a chain of plain Langevin steps on U = x²/2, as a fused graph would run them.
type unrolled struct {
	size  float32
	calls []int
	fail  error
}

func (c *unrolled) RunChain(_ context.Context, x, u, noise []float32) (Info, error) {
	c.calls = append(c.calls, len(noise)/len(x))
	if c.fail != nil && len(c.calls) == 2 {
		return Info{}, c.fail
	}
	g := make([]float32, len(x))
	for ; len(noise) > 0; noise = noise[len(x):] {
		if err := (quadratic{}).EnergyGrad(x, u, g); err != nil {
			return Info{}, err
		}
		for i := range x {
			x[i] -= float32(c.size * c.size / 2 * g[i])
			x[i] += float32(c.size * noise[i])
		}
	}
	return Info{Accepted: 1, Drift: float64(len(c.calls))}, nil
}

// relayed is an unrolled chain that makes several calls in a row.
type relayed struct {
	unrolled
	rows int
}

func (c *relayed) Piece(k, _ int) int { return min(k, 3) }

func (c *relayed) RunChains(ctx context.Context, x, u []float32, k, calls int, draw func(int, []float32), done func(Info) error) error {
	c.rows++
	at, noise := slices.Clone(x), make([]float32, k*len(x))
	for call := range calls {
		draw(call, noise)
		i, err := c.RunChain(ctx, at, u, noise)
		if err == nil {
			err = done(i)
		}
		if err != nil {
			return err
		}
	}
	copy(x, at)
	return nil
}

// TestRelay takes calls in a row where nobody looks between them, and no state that
// was not reached where one of them fails.
func TestRelay(t *testing.T) {
	ctx, n := context.Background(), Noise{Seed: 6}
	want := gaussian(t, 30)
	want.Dim, want.Chain, want.U, want.T = 3, Chains(40, 10), want.U[:10], 17
	start := want.Clone()
	if _, err := Run(ctx, n, Langevin{Size: 0.3, Noise: 1}, quadratic{}, want, 10, nil); err != nil {
		t.Fatal(err)
	}
	for name, each := range map[string]func(int, Info){"in a row": nil, "one by one": func(int, Info) {}} {
		c, got := &relayed{unrolled: unrolled{size: 0.3}}, start.Clone()
		mean, err := (&Fused{Chain: c, K: 4}).Run(ctx, n, got, 10, each)
		if err != nil {
			t.Fatal(err)
		}
		calls, rows, drift := []int{3, 3, 3, 1}, 1, 0.3+0.6+0.9+0.4
		if each != nil {
			calls, rows, drift = []int{4, 4, 2}, 0, 1.8
		}
		if !slices.Equal(got.X, want.X) || !slices.Equal(got.U, want.U) || got.T != want.T {
			t.Errorf("%s: T %d, x %v against %v", name, got.T, got.X, want.X)
		}
		if !slices.Equal(c.calls, calls) || c.rows != rows || math.Abs(mean.Drift-drift) > 1e-12 {
			t.Errorf("%s: calls of %v steps in %d rows, mean %+v", name, c.calls, c.rows, mean)
		}
	}
	broken, got := errors.New("broken chain"), start.Clone()
	_, err := (&Fused{Chain: &relayed{unrolled: unrolled{size: 0.3, fail: broken}}, K: 4}).Run(ctx, n, got, 10, nil)
	if !errors.Is(err, broken) || got.T != 17 || !slices.Equal(got.X, start.X) {
		t.Errorf("want the chain's error and the state left alone, got %v and T %d", err, got.T)
	}
}

func TestFused(t *testing.T) {
	ctx, n := context.Background(), Noise{Seed: 6}
	want := gaussian(t, 30)
	want.Dim, want.Chain, want.U, want.T = 3, Chains(40, 10), want.U[:10], 17
	got := want.Clone()
	if _, err := Run(ctx, n, Langevin{Size: 0.3, Noise: 1}, quadratic{}, want, 10, nil); err != nil {
		t.Fatal(err)
	}
	c := &unrolled{size: 0.3}
	f := Fused{Chain: c, K: 4}
	var steps []int
	mean, err := f.Run(ctx, n, got, 10, func(step int, _ Info) { steps = append(steps, step) })
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.X, want.X) || !slices.Equal(got.U, want.U) || got.T != 27 {
		t.Errorf("fused and stepwise part: T %d, x %v against %v", got.T, got.X, want.X)
	}
	if !slices.Equal(c.calls, []int{4, 4, 2}) || !slices.Equal(steps, []int{4, 8, 10}) || math.Abs(mean.Drift-1.8) > 1e-12 {
		t.Errorf("calls of %v steps, reported at %v, mean %+v", c.calls, steps, mean)
	}

	broken := errors.New("broken chain")
	_, err = (&Fused{Chain: &unrolled{size: 0.3, fail: broken}, K: 4}).Run(ctx, n, got, 10, nil)
	if !errors.Is(err, broken) || got.T != 31 || !strings.HasPrefix(err.Error(), "sampler: steps 5 to 8 of 10: ") {
		t.Errorf("want the chain's error and 4 steps counted, got %v and T %d", err, got.T)
	}
	got.X[4] = float32(math.NaN())
	var bad *NonFiniteError
	if _, err = f.Run(ctx, n, got, 4, nil); !errors.As(err, &bad) || bad.Bad != 1 || bad.First != 1 {
		t.Errorf("want a NonFiniteError for chain 1, got %v", err)
	}
	stopped, stop := context.WithCancel(ctx)
	stop()
	if _, err = f.Run(stopped, n, want, 4, nil); !errors.Is(err, context.Canceled) || want.T != 27 {
		t.Errorf("want context.Canceled and no step, got %v and T %d", err, want.T)
	}
	if _, err = (&Fused{Chain: c}).Run(ctx, n, want, 4, nil); err == nil {
		t.Error("zero steps per call is not refused")
	}
}
