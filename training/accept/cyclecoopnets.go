package accept

import (
	"context"
	"errors"
	"fmt"
	"math"

	"ebmrun/training"
	"ebmrun/training/cyclecoopnets"
	"ebmrun/training/data"
	"ebmrun/training/record"
)

// CycleCoopNets is the acceptance of cycle-coopnets. The arms: K takes no revision
// steps, L has no weight on the way there and back, F turns the sign of the energies' updates.
var CycleCoopNets = Suite{"cycle-coopnets", []Part{
	{"domains", "bright glyphs of 16×16 become striped dark ones in the same place, without pairs", false, cycleDomains},
}}

const noCycle = "L" // λ = 0

// BoundMappings are mappings that can be closed.
type BoundMappings interface {
	training.Mappings
	Close() error
}

// share is the part of n that holds.
func share(n int, holds func(i int) bool) float64 {
	sum := 0.0
	for i := range n {
		if holds(i) {
			sum++
		}
	}
	return sum / float64(n)
}

// striped tells whether a picture of 16×16 is of domain b: its border, where no glyph
// is, is bright.
func striped(x []float32, side int) bool {
	sum, n := 0.0, 0.0
	for i, v := range x {
		if r, c := i/side, i%side; r == 0 || c == 0 || r == side-1 || c == side-1 {
			sum, n = sum+float64(v), n+1
		}
	}
	return sum/n > 0.3
}

// overlap is the intersection of two masks, positive inside, over their union.
func overlap(a, b func(i int) bool, n int) float64 {
	both, either := 0.0, 0.0
	for i := range n {
		if a(i) && b(i) {
			both++
		}
		if a(i) || b(i) {
			either++
		}
	}
	return both / max(either, 1)
}

func cycleDomains(ctx context.Context, e Env, it *Item) error {
	load := func(name, part string, limit int) (*data.Set, error) {
		return data.Load(ctx, "synthetic/"+name, data.Options{Seed: e.Seed, Part: part, Limit: limit})
	}
	a, err := load("ab16-a", "train", 0)
	if err != nil {
		return err
	}
	// glyphs of their own, so that nothing is paired
	b, err := data.Load(ctx, "synthetic/ab16-b", data.Options{Seed: e.Seed + 77})
	if err != nil {
		return err
	}
	held, err := load("ab16-a", "test", 200)
	if err != nil {
		return err
	}
	heldB, err := load("ab16-b", "test", 200)
	if err != nil {
		return err
	}
	dim, side := held.Dim(), held.H
	at := func(x []float32, i int) []float32 { return x[i*dim : (i+1)*dim] }
	calls := func(x []float32) float64 {
		return share(len(x)/dim, func(i int) bool { return striped(at(x, i), side) })
	}
	it.Check("", "pictures of b that have its bright ground", calls(heldB.X()), AtLeast(0.98), "")
	it.Check("", "pictures of a that have it", calls(held.X()), AtMost(0.02), "")
	target, mask := held.Beside["target"], held.Beside["mask"]
	same := training.MSE(held.X(), target.X())
	ious := func(x []float32, shift int) float64 {
		sum := 0.0
		for i := range held.N {
			y, m := at(x, i), at(mask.X(), (i+shift)%held.N)
			sum += overlap(func(p int) bool { return y[p] < 0.1 }, func(p int) bool { return m[p] > 0 }, dim) / float64(held.N)
		}
		return sum
	}
	for _, arm := range []string{Works, noCycle, noRevision, Flipped} {
		c, err := cyclecoopnets.For("pictures-16", a.Dims(), 0)
		if err != nil {
			return err
		}
		c.Sabotage = map[string]string{Works: "", noRevision: cyclecoopnets.Still, Flipped: cyclecoopnets.Flip}[arm]
		switch c.Steps = 400; arm {
		case Works:
		case noCycle:
			c.Cycle = 0
		default:
			c.Steps /= 5
		}
		s, free, err := e.cycle(ctx, c, a, b)
		if err != nil {
			return err
		}
		ended, err := e.learn(ctx, "domains", arm, s, c.Steps, c.Guard)
		if err != nil {
			return errors.Join(err, free())
		}
		if ended != nil {
			it.Check(arm, "translations that have the ground of b", 0, AtMost(0.6), endedBy(ended))
			if err := free(); err != nil {
				return err
			}
			continue
		}
		drafts, x, err := s.Through(ctx, cyclecoopnets.AB, held.X(), e.Seed)
		if err != nil {
			return errors.Join(err, free())
		}
		back, _, err := s.Through(ctx, cyclecoopnets.BA, drafts, e.Seed)
		if err = errors.Join(err, free()); err != nil {
			return err
		}
		off := training.MSE(x, target.X()) / same
		if arm == noCycle {
			it.Check(arm, "overlap of the glyph before and after", ious(x, 0), Reported, fmt.Sprintf("%.0f %% have the ground of b", 100*calls(x)))
			continue
		}
		if arm != Works {
			it.Check(arm, "squared error to the true translation, share of no translation's", off, AtLeast(0.1), fmt.Sprintf("%.0f %% have the ground of b", 100*calls(x)))
			continue
		}
		cycle := 0.0
		for i, v := range back {
			cycle += math.Abs(float64(v-held.X()[i])) / float64(len(back))
		}
		it.Check(arm, "translations that have the ground of b", calls(x), AtLeast(0.9), "")
		it.Check(arm, "overlap of the glyph before and after", ious(x, 0), AtLeast(0.7), fmt.Sprintf("%.2f with another's", ious(x, 1)))
		it.Check(arm, "squared error to the true translation, share of no translation's", off, AtMost(0.1), "")
		it.Check(arm, "absolute error there and back", cycle, AtMost(0.08), "")
		n := 16 * dim
		row := func(x []float32) record.Images { return pictures(held, x[:n], side, 16) }
		img, err := record.Strip(2, 2, row(held.X()), row(drafts), row(x), row(target.X()), row(back))
		if err := e.show("cycle-domains", img, err); err != nil {
			return err
		}
	}
	return nil
}

// cycle binds the networks of the settings and assembles the system.
func (e Env) cycle(ctx context.Context, c cyclecoopnets.Config, a, b *data.Set) (s *cyclecoopnets.System, free func() error, err error) {
	spec, err := c.EnergyNet()
	if err != nil {
		return nil, nil, err
	}
	var nets [2]Energy
	for k, set := range []*data.Set{a, b} {
		if nets[k], err = e.network(ctx, spec, set, c.Reference.Sigma); err != nil {
			return nil, nil, err
		}
	}
	m, err := c.Maps(a.Dims(), b.Dims(), e.Seed)
	if err != nil {
		return nil, nil, err
	}
	maps, err := e.BindMappings(ctx, m)
	if err != nil {
		return nil, nil, err
	}
	s, err = cyclecoopnets.New(c, nets[0], nets[1], maps, a, b, e.Seed)
	return s, func() error { return errors.Join(nets[0].Close(), nets[1].Close(), maps.Close()) }, err
}
