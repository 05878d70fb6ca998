package training

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

// A Guard stops a run that has gone wrong before it wastes hours. Its zero
// value uses the defaults in brackets.
type Guard struct {
	MaxValue float64 `yaml:"max_value"` // largest |V| [1000]
	MaxStd   float64 `yaml:"max_std"`   // largest sample deviation, as a multiple of the data's [3]
	Patience int     `yaml:"patience"`  // iterations in a row that may exceed max_std [3]
	Recover  int     `yaml:"recover"`   // rollbacks to the last good checkpoint before giving up [3]

	wide int
}

// ErrGuard is wrapped by the error of a run that a guard has stopped for good.
var ErrGuard = errors.New("numeric guard")

// Check judges the metrics of one iteration.
func (g *Guard) Check(m Metrics) error {
	for _, name := range slices.Sorted(maps.Keys(m)) { // the same is named every time
		if v := m[name]; math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%w: metric %s is %v", ErrGuard, name, v)
		}
	}
	if v, limit := math.Abs(m[Value]), orDefault(g.MaxValue, 1000); v > limit {
		return Blame("energy", "a smaller optim.lr, or score_l2", fmt.Errorf("%w: |V| = %.4g exceeds %g", ErrGuard, v, limit))
	}
	if limit := orDefault(g.MaxStd, 3) * m[DataStd]; m[SampleStd] > limit && limit > 0 {
		if g.wide++; g.wide >= int(orDefault(float64(g.Patience), 3)) {
			g.wide = 0
			return Blame("chains", "a smaller langevin.step, or langevin.clamp",
				fmt.Errorf("%w: the samples' deviation %.4g exceeds %.4g, %g times the data's", ErrGuard, m[SampleStd], limit, orDefault(g.MaxStd, 3)))
		}
	} else {
		g.wide = 0
	}
	return nil
}

// Blame says in which part of a system numbers went bad and what may cure it.
// Other errors stay as they are.
func Blame(part, cure string, err error) error {
	if err == nil || !Numeric(err) {
		return err
	}
	return fmt.Errorf("the %s went wrong: %w; try %s", part, err, cure)
}

// Finite checks what a network gives, or its errors.
func Finite(x []float32) error {
	for i, v := range x {
		if v-v != 0 {
			return fmt.Errorf("%w: value %d of %d is %v", ErrGuard, i, len(x), v)
		}
	}
	return nil
}

func orDefault(v, def float64) float64 {
	if v == 0 {
		return def
	}
	return v
}

// Numeric reports whether an error means that numbers have gone bad, which a
// smaller learning rate may cure.
func Numeric(err error) bool {
	var bad *sampler.NonFiniteError
	return errors.As(err, &bad) || errors.Is(err, optim.ErrNonFinite) || errors.Is(err, ErrGuard)
}
