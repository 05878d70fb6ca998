package sampler

import (
	"context"
	"math"
	"testing"
)

// quadratic is U = x²/2.
type quadratic struct{}

func (quadratic) EnergyGrad(x, u, g []float32) error {
	copy(g, x)
	dim := len(x) / len(u)
	for c := range u {
		var sum float64
		for _, v := range x[c*dim : (c+1)*dim] {
			sum += float64(v) * float64(v)
		}
		u[c] = float32(sum / 2)
	}
	return nil
}

// gaussian returns n chains of dimension 1 at exact draws of N(0, 1).
func gaussian(t *testing.T, n int) *State {
	t.Helper()
	x := make([]float32, n)
	Noise{Seed: 99}.Fork(1).Normals(x, Chains(0, n), 0)
	return state(t, x, 1, n)
}

func state(t *testing.T, x []float32, dim, n int) *State {
	t.Helper()
	s, err := NewState(x, dim, Chains(0, n))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pooled returns the mean of x² over all chains and the last pool of drop + pool steps.
func pooled(t *testing.T, k Kernel, s *State, drop, pool int) float64 {
	t.Helper()
	var sum, count float64
	_, err := Run(context.Background(), Noise{Seed: 1}, k, quadratic{}, s, drop+pool, func(step int, _ Info) {
		if step <= drop {
			return
		}
		for _, x := range s.X {
			sum += float64(x) * float64(x)
		}
		count += float64(len(s.X))
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum / count
}

// TestLangevinVariance holds the step-size convention to closed forms on U = x²/2, where the variance
// obeys v ← (1 − s²/2)²·v + s². The mixed-up convention, Δt = s, is Size = √s and must fall outside.
func TestLangevinVariance(t *testing.T) {
	for _, c := range []struct {
		name               string
		size               float64
		chains, drop, pool int
		want, tolerance    float64
	}{
		// 4096 chains × 1500 steps; x² forgets itself in (1 + a²)/(1 − a²) ≈ 22 steps: standard error 0.003.
		{"stationary at 0.3", 0.3, 4096, 500, 1500, 1.0230, 0.01},
		{"stationary at 0.4", 0.4, 4096, 100, 500, 1.0416667, 0.006},
		// One snapshot of n chains: standard error v·√(2/n), here times 3.
		{"5 steps of 0.4", 0.4, 100000, 4, 1, 1.0235671, 0.0137},
		{"20 steps of 0.1", 0.1, 100000, 19, 1, 1.0004553, 0.0134},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := pooled(t, Langevin{Size: float32(c.size), Noise: 1}, gaussian(t, c.chains), c.drop, c.pool)
			t.Logf("variance %.5f, want %.5f", got, c.want)
			if math.Abs(got-c.want) > c.tolerance {
				t.Errorf("variance: want %v ± %v, got %.5f", c.want, c.tolerance, got)
			}
			mixed := pooled(t, Langevin{Size: float32(math.Sqrt(c.size)), Noise: 1}, gaussian(t, c.chains), c.drop, c.pool)
			if math.Abs(mixed-c.want) <= c.tolerance {
				t.Errorf("the mixed-up convention passes with %.5f", mixed)
			}
		})
	}
}

// TestMetropolisVariance: kernels with a test have no discretisation error at steps where plain
// Langevin is off by a third. 4096 chains × 400 steps hold at least 10⁵ independent draws: standard
// error at most 0.004.
func TestMetropolisVariance(t *testing.T) {
	for name, k := range map[string]Kernel{
		"MALA":               MALA{Size: 1},
		"HMC":                HMC{Size: 1, Leapfrogs: 2},
		"HMC of mass 4":      HMC{Size: 2, Leapfrogs: 2, Mass: 4},
		"HMC of 1 leapfrog":  HMC{Size: 1.2, Leapfrogs: 1},
		"HMC in small steps": HMC{Size: 0.1, Leapfrogs: 10, Mass: 0.5},
	} {
		t.Run(name, func(t *testing.T) {
			x := make([]float32, 4096)
			for i := range x {
				x[i] = 3
			}
			got := pooled(t, k, state(t, x, 1, len(x)), 100, 400)
			t.Logf("variance %.5f", got)
			if math.Abs(got-1) > 0.012 {
				t.Errorf("variance: want 1 ± 0.012, got %.5f", got)
			}
		})
	}
	if biased := pooled(t, Langevin{Size: 1, Noise: 1}, gaussian(t, 4096), 20, 50); biased < 1.3 {
		t.Errorf("variance without a test: want 4/3, got %.4f: this step size tells nothing", biased)
	}
}

// quartic is U = x⁴/4 + x²/2.
type quartic struct{}

func (quartic) EnergyGrad(x, u, g []float32) error {
	for i, v := range x {
		u[i] = v*v*v*v/4 + v*v/2
		g[i] = v*v*v + v
	}
	return nil
}

// TestHMCEnergyError: at a fixed length of path the root mean square energy error falls with the square
// of the leapfrog step, and nearly all proposals of the small step are taken.
func TestHMCEnergyError(t *testing.T) {
	var last float64
	for i, k := range []HMC{{Size: 0.2, Leapfrogs: 5}, {Size: 0.1, Leapfrogs: 10}, {Size: 0.05, Leapfrogs: 20}} {
		s := gaussian(t, 2048)
		info, err := k.Step(Noise{Seed: 4}, quartic{}, s)
		if err != nil {
			t.Fatal(err)
		}
		var sum float64
		for _, r := range s.spare.r {
			sum += r * r
		}
		rms := math.Sqrt(sum / 2048)
		t.Logf("step %v: energy error %.3g, accepted %.3f", k.Size, rms, info.Accepted)
		if ratio := last / rms; i > 0 && (ratio < 3.3 || ratio > 5) {
			t.Errorf("half the step %v: want a quarter of the energy error, got 1/%.2f", k.Size, ratio)
		}
		if i == 2 && info.Accepted < 0.97 {
			t.Errorf("accepted at step %v: want nearly all, got %.3f", k.Size, info.Accepted)
		}
		last = rms
	}
}
