// Package samplertest is the suite that every sampler kernel must pass.
package samplertest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"ebmrun/training/sampler"
)

// Run checks the contract of [sampler.Kernel]. newKernel returns the kernel under test with a noise
// multiplier of 1 or 0, or nil if it has no such setting and noise is 0. Its step size must suit a unit
// Gaussian: at most 0.25 for Langevin without a Metropolis test, whose bias is then within tolerance.
func Run(t *testing.T, newKernel func(noise float32) sampler.Kernel) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			if err := c.run(newKernel); err != nil {
				t.Error(err)
			}
		})
	}
}

type maker = func(noise float32) sampler.Kernel

var checks = []struct {
	name string
	run  func(maker) error
}{
	{"moments", moments},
	{"downhill", downhill},
	{"same seed same bits", sameBits},
	{"batch split", batchSplit},
	{"shapes", shapes},
	{"field error", fieldError},
	{"bad numbers", badNumbers},
	{"cancel", cancel},
	{"allocations", allocations},
}

// A Gaussian is the field U = Σ (x − Mean)²/(2·Std²), one Mean and Std per entry of a chain.
type Gaussian struct {
	Mean, Std []float32
}

// EnergyGrad implements [sampler.Field].
func (f Gaussian) EnergyGrad(x, u, g []float32) error {
	d := len(f.Mean)
	for c := range u {
		var sum float64
		for i := range d {
			r := (x[c*d+i] - f.Mean[i]) / f.Std[i]
			g[c*d+i] = r / f.Std[i]
			sum += float64(r) * float64(r) / 2
		}
		u[c] = float32(sum)
	}
	return nil
}

var (
	mean = []float32{0.5, -1, 2}

	unit sampler.Field = Gaussian{Mean: mean, Std: []float32{1, 1, 1}}
)

const dim = 3

// start returns n chains at x = at, numbered from first.
func start(n int, first uint64, at float32) *sampler.State {
	x := make([]float32, n*dim)
	for i := range x {
		x[i] = at
	}
	s, err := sampler.NewState(x, dim, sampler.Chains(first, n))
	if err != nil {
		panic(err) // the shapes are right by construction
	}
	return s
}

func run(k sampler.Kernel, f sampler.Field, s *sampler.State, seed uint64, steps int, each func(int, sampler.Info)) error {
	_, err := sampler.Run(context.Background(), sampler.Noise{Seed: seed}, k, f, s, steps, each)
	return err
}

// moments: mean and covariance of a unit Gaussian, from a start elsewhere.
func moments(newKernel maker) error {
	s := start(2048, 0, 4)
	k := newKernel(1)
	if err := run(k, unit, s, 1, 300, nil); err != nil {
		return err
	}
	var count float64
	var sum [dim]float64
	var prod [dim][dim]float64
	err := run(k, unit, s, 1, 300, func(int, sampler.Info) {
		for c := 0; c < len(s.X); c += dim {
			count++
			for i := range dim {
				a := float64(s.X[c+i] - mean[i])
				sum[i] += a
				for j := range i + 1 {
					prod[i][j] += a * float64(s.X[c+j]-mean[j])
				}
			}
		}
	})
	for i := range dim {
		if m := sum[i] / count; math.Abs(m) > 0.04 {
			err = errors.Join(err, fmt.Errorf("entry %d: mean is off by %.4f, want within 0.04", i, m))
		}
		for j := range i + 1 {
			want := 0.0
			if i == j {
				want = 1
			}
			if got := prod[i][j]/count - sum[i]*sum[j]/count/count; math.Abs(got-want) > 0.05 {
				err = errors.Join(err, fmt.Errorf("covariance of entries %d and %d: want %v ± 0.05, got %.4f", i, j, want, got))
			}
		}
	}
	return err
}

// downhill: from far away the energy falls; without noise it falls at every step and the seed is idle.
func downhill(newKernel maker) error {
	k, quiet := newKernel(0), true
	if k == nil {
		k, quiet = newKernel(1), false
	}
	energy := func(s *sampler.State) (sum float64) {
		u, g := make([]float32, s.Len()), make([]float32, len(s.X))
		if err := unit.EnergyGrad(s.X, u, g); err != nil {
			return math.NaN()
		}
		for _, v := range u {
			sum += float64(v)
		}
		return sum
	}
	s := start(16, 0, 20)
	first := energy(s)
	last := first
	var uphill error
	err := run(k, unit, s, 1, 50, func(step int, _ sampler.Info) {
		now := energy(s)
		if quiet && !(now < last) && uphill == nil {
			uphill = fmt.Errorf("step %d without noise: the energy goes from %v to %v", step, last, now)
		}
		last = now
	})
	if err = errors.Join(err, uphill); err != nil {
		return err
	}
	if !(last < first/2) {
		return fmt.Errorf("energy after 50 steps from far away: want less than half of %v, got %v", first, last)
	}
	if other := start(16, 0, 20); quiet {
		if err := run(newKernel(0), unit, other, 2, 50, nil); err != nil {
			return err
		}
		return sameX(s, other, "two seeds without noise")
	}
	return nil
}

func sameBits(newKernel maker) error {
	a, b, c := start(9, 0, 1), start(9, 0, 1), start(9, 0, 1)
	err := errors.Join(
		run(newKernel(1), unit, a, 7, 20, nil),
		run(newKernel(1), unit, b, 7, 11, nil),
		run(newKernel(1), unit, b, 7, 9, nil),
		run(newKernel(1), unit, c, 8, 20, nil))
	if err != nil {
		return err
	}
	if slices.Equal(a.X, c.X) {
		return errors.New("two seeds give the same chains")
	}
	for i := dim; i < len(a.X); i += dim {
		if slices.Equal(a.X[:dim], a.X[i:i+dim]) {
			return fmt.Errorf("chains 0 and %d are the same", i/dim)
		}
	}
	return sameX(a, b, "20 steps against 11 and 9")
}

func batchSplit(newKernel maker) error {
	whole, left, right := start(7, 5, 1), start(3, 5, 1), start(4, 8, 1)
	for _, s := range []*sampler.State{whole, left, right} {
		if err := run(newKernel(1), unit, s, 3, 20, nil); err != nil {
			return err
		}
	}
	left.X = append(left.X, right.X...)
	return sameX(whole, left, "7 chains against 3 and 4")
}

func sameX(a, b *sampler.State, what string) error {
	for i := range a.X {
		if math.Float32bits(a.X[i]) != math.Float32bits(b.X[i]) {
			return fmt.Errorf("%s: entry %d: %v against %v", what, i, a.X[i], b.X[i])
		}
	}
	return nil
}

// shapes: a step keeps every length, the chain numbers and the caller's memory, and counts itself.
func shapes(newKernel maker) error {
	s := start(5, 3, 1)
	x := s.X
	for step := range uint64(3) {
		if _, err := newKernel(1).Step(sampler.Noise{}, unit, s); err != nil {
			return err
		}
		if s.T != step+1 {
			return fmt.Errorf("step counter after step %d is %d", step+1, s.T)
		}
	}
	if len(s.X) != 15 || len(s.G) != 15 || len(s.E) != 15 || len(s.U) != 5 || s.Dim != dim {
		return fmt.Errorf("lengths changed: x %d, g %d, e %d, u %d, dim %d", len(s.X), len(s.G), len(s.E), len(s.U), s.Dim)
	}
	if !slices.Equal(s.Chain, sampler.Chains(3, 5)) {
		return fmt.Errorf("chain numbers changed to %v", s.Chain)
	}
	if &x[0] != &s.X[0] {
		return errors.New("x moved to other memory")
	}
	bad := start(5, 3, 1)
	bad.G = bad.G[:4]
	if _, err := newKernel(1).Step(sampler.Noise{}, unit, bad); err == nil {
		return errors.New("a state with a short gradient is not refused")
	}
	return nil
}

// counted is unit and calls after with the number of the call, from 0, at the end of each evaluation.
type counted struct {
	calls int
	after func(call int, u, g []float32) error
}

func (f *counted) EnergyGrad(x, u, g []float32) error {
	if err := unit.EnergyGrad(x, u, g); err != nil {
		return err
	}
	f.calls++
	return f.after(f.calls-1, u, g)
}

// fieldError: an error of the field, at any of its calls, comes back and the step does not count.
func fieldError(newKernel maker) error {
	broken := errors.New("broken field")
	for at := range 4 {
		s := start(5, 0, 1)
		f := &counted{after: func(call int, _, _ []float32) error {
			if call >= at {
				return broken
			}
			return nil
		}}
		err := run(newKernel(1), f, s, 1, 8, nil)
		if !errors.Is(err, broken) {
			return fmt.Errorf("field fails at call %d: want its error, got %v", at, err)
		}
		if s.T > uint64(at) {
			return fmt.Errorf("field fails at call %d: %d steps are counted", at, s.T)
		}
	}
	return nil
}

// badNumbers: when a chain's energy or slope becomes NaN the kernel stops and counts it, or refuses
// the proposal; no chain ever moves to a NaN.
func badNumbers(newKernel maker) error {
	nan := float32(math.NaN())
	for name, spoil := range map[string]func(u, g []float32){
		"energy": func(u, _ []float32) { u[2] = nan },
		"slope":  func(_, g []float32) { g[2*dim+1] = nan },
	} {
		s := start(5, 0, 1)
		f := &counted{after: func(call int, u, g []float32) error {
			if call > 0 {
				spoil(u, g)
			}
			return nil
		}}
		rejected := 0
		err := run(newKernel(1), f, s, 1, 6, func(_ int, i sampler.Info) { rejected += i.NonFinite })
		var bad *sampler.NonFiniteError
		if errors.As(err, &bad) {
			if bad.Bad != 1 || bad.Chains != 5 || bad.First != 2 {
				return fmt.Errorf("%s of chain 2 is NaN: the error says %v, first %d", name, err, bad.First)
			}
		} else if err != nil || rejected == 0 {
			return fmt.Errorf("%s of chain 2 is NaN: want a NonFiniteError or rejections, got %v and %d", name, err, rejected)
		}
		for i, x := range s.X {
			if x != x {
				return fmt.Errorf("%s of chain 2 is NaN: entry %d of x is NaN", name, i)
			}
		}
	}
	return nil
}

func cancel(newKernel maker) error {
	s := start(5, 0, 1)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	_, err := sampler.Run(ctx, sampler.Noise{}, newKernel(1), unit, s, 10, func(step int, _ sampler.Info) {
		if step == 3 {
			stop()
		}
	})
	if !errors.Is(err, context.Canceled) || s.T != 3 {
		return fmt.Errorf("cancelled after step 3: want context.Canceled there, got %v after %d", err, s.T)
	}
	return nil
}

func allocations(newKernel maker) error {
	s, k := start(8, 0, 1), newKernel(1)
	var err error
	n := testing.AllocsPerRun(50, func() {
		if _, e := k.Step(sampler.Noise{}, unit, s); e != nil {
			err = e
		}
	})
	if n > 0 {
		err = errors.Join(err, fmt.Errorf("%v allocations per step, want 0", n))
	}
	return err
}
