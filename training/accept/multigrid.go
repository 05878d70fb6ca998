package accept

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/stat/distuv"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/multigrid"
	"ebmrun/training/pyramid"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// Multigrid is the suite of the multi-grid model.
var Multigrid = Suite{"multigrid", []Part{
	{"colours", "the 1×1 grid draws colours as often as the pictures have them", true, colours},
	{"cascade", "faces of 16×16 over grids 1, 4, 16, beside a single grid, and holes in faces", false, cascade},
}}

// plain is a small swish network: 3×3 filters, halvings, a window over what is left.
func plain(n, halvings, left int) energy.Spec {
	layers := []energy.Layer{{Filters: n, Kernel: 3, Pad: 1}}
	for i := range halvings {
		layers = append(layers, energy.Layer{Filters: n << min(i+1, 3), Kernel: 4, Stride: 2, Pad: 1})
	}
	return energy.Spec{Layers: append(layers, energy.Layer{Filters: 1, Kernel: left}), Activation: "swish"}
}

func multigridConfig(steps, langevin int) multigrid.Config {
	c := multigrid.Config{
		Grids: []int{1, 4, 16}, Specs: []energy.Spec{plain(8, 1, 2), plain(8, 2, 4)}, Bins: 16,
		Steps: steps, Batch: 16,
		Langevin: training.Langevin{Steps: langevin, Step: 4.472, Noise: 0.001118, GradClip: 0.03, Clamp: [2]float64{-1, 1}, Fused: true},
		Optim:    training.Optim{LR: 2e-3, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1},
		ScoreL2:  0.05,
	}
	c.Data.Noise = 0.01
	return c
}

// grids builds and learns one arm and hands it to use.
func (e Env) grids(ctx context.Context, what, arm string, c multigrid.Config, set *data.Set, use func(*multigrid.System) error) (ended, err error) {
	c.Sabotage, c.Optim.Over = sabotageOf[arm], c.Steps
	c.Steps = shrunk(arm, c.Steps)
	var dims [][]int
	for _, side := range c.Grids[1:] {
		dims = append(dims, []int{set.C, side, side})
	}
	nets, free, err := e.levels(ctx, c.Specs, dims)
	if err != nil {
		return nil, err
	}
	defer free()
	s, err := multigrid.New(c, nets, set, e.Seed)
	if err != nil {
		return nil, err
	}
	if ended, err = e.learn(ctx, what, arm, s, c.Steps, c.Guard); ended != nil || err != nil {
		return ended, err
	}
	return nil, use(s)
}

// colours compares 5000 draws of the 1×1 grid with the shares they are drawn by.
func colours(ctx context.Context, e Env, it *Item) error {
	const n = 5000
	set, err := data.Load(ctx, "synthetic/shape", data.Options{Seed: e.Seed, Size: 8, Limit: 2000})
	if err != nil {
		return err
	}
	c := multigridConfig(1, 1)
	c.Grids, c.Specs = []int{1, 8}, []energy.Spec{plain(2, 1, 4)}
	_, err = e.grids(ctx, "colours", Untrained, c, set, func(s *multigrid.System) error {
		for _, shift := range []float32{0, 0.05} {
			r := rand.New(rand.NewPCG(e.Seed, 77))
			seen := make([]float64, c.Bins)
			x := make([]float32, 1)
			for range n {
				s.Colours.Draw(r, x)
				x[0] += shift
				seen[s.Colours.Bin(x)]++
			}
			p := chiSquared(seen, s.Colours.Share)
			if shift == 0 {
				it.Check(Works, "p of χ² of 5000 draws", p, AtLeast(0.001), "")
			} else {
				it.Check("", "the same with colours shifted by 0.05", p, AtMost(0.001), "")
			}
		}
		return nil
	})
	return err
}

// chiSquared is the probability of counts that deviate more from their shares; cells
// of fewer than five expected are joined.
func chiSquared(seen []float64, share func(int) float64) float64 {
	n, chi, cells := 0.0, 0.0, -1
	for _, v := range seen {
		n += v
	}
	var rest, restSeen float64
	cell := func(want, got float64) {
		chi += (got - want) * (got - want) / want
		cells++
	}
	for i, got := range seen {
		if want := n * share(i); want >= 5 {
			cell(want, got)
		} else {
			rest, restSeen = rest+want, restSeen+got
		}
	}
	if rest > 0 {
		cell(rest, restSeen)
	} else if restSeen > 0 {
		return 0
	}
	return distuv.ChiSquared{K: float64(cells)}.Survival(chi)
}

// cascade: samples through three grids come close to held-out faces, keep to what the
// coarse grid has drawn, and fill holes. What one grid comes to with as many steps from
// the same colours is reported: at this size it does as well.
func cascade(ctx context.Context, e Env, it *Item) error {
	const side, steps, langevin, wide = 16, 600, 15, 6
	train, held, err := facesOf(ctx, e, side, 1000, 320)
	if err != nil {
		return err
	}
	thumbs := func(x []float32) []float32 { return pyramid.Shrink(x, side, side, side/8) }
	want := thumbs(held.X())
	distance := func(s *multigrid.System) (d float64, ends [][]float32, err error) {
		var all, small []float32
		for first := 0; first < held.N; first += s.Config.Batch {
			r := e.random(uint64(100 + first))
			x := make([]float32, s.Config.Batch)
			for i := range x {
				s.Colours.Draw(r, x[i:i+1])
			}
			ends, err := s.Cascade(ctx, sampler.Noise{Seed: e.Seed}.Fork(5), sampler.Chains(uint64(first), len(x)), 0, x)
			if err != nil {
				return 0, nil, err
			}
			all, small = append(all, ends[len(ends)-1]...), append(small, ends[1]...)
		}
		d, err = diag.EnergyDistance(want, thumbs(all), 64)
		return d, [][]float32{small, all}, err
	}
	untrained, single := math.NaN(), math.NaN()
	for _, arm := range []string{Untrained, "single grid", Works, Flipped} {
		c := multigridConfig(steps, langevin)
		name := arm
		if arm == "single grid" {
			c.Grids, c.Specs, c.Langevin.Steps, name = []int{1, side}, c.Specs[1:], 2*langevin, Works
		}
		got := math.Inf(1)
		ended, err := e.grids(ctx, "cascade", name, c, train, func(s *multigrid.System) (err error) {
			var ends [][]float32
			if got, ends, err = distance(s); err != nil || arm != Works {
				return err
			}
			kept := correlation(pyramid.Shrink(ends[1], side, side, side/4), ends[0])
			it.Check(arm, "correlation of samples' 4×4 means with the coarse grid", kept, AtLeast(0.8), "")
			img, err := record.Grid(pictures(train, ends[1][:64*train.Dim()], side, 64), 0, 1, 0)
			if err := e.show("cascade", img, err); err != nil {
				return err
			}
			some := held.Head(64)
			mask := hole(some.N, 1, side, wide)
			filled, model, mean, changed, err := holes(ctx, s, some, mask, e.Seed)
			if err != nil {
				return err
			}
			it.Check(arm, "largest change of a visible pixel", changed, AtMost(0), "")
			it.Check(arm, "PSNR in holes of 6×6 above that of the visible mean, dB", model-mean, AtLeast(3), fmt.Sprintf("%.1f and %.1f dB", model, mean))
			img, err = record.Strip(2, 2, pictures(train, some.X()[:16*train.Dim()], side, 16), pictures(train, filled[:16*train.Dim()], side, 16))
			return e.show("holes", img, err)
		})
		switch {
		case err != nil:
			return err
		case arm == Untrained:
			untrained = got
			it.Check(arm, "energy distance at 8×8", got, Reported, "")
		case arm == Flipped:
			it.Check(arm, "energy distance at 8×8, share of U's", got/untrained, AtLeast(0.5), endedBy(ended))
		case ended != nil:
			it.Check(arm, "learning to the end", 0, AtLeast(1), ended.Error())
		case arm == Works:
			it.Check(arm, "energy distance at 8×8, share of U's", got/untrained, AtMost(0.25), "")
			it.Check(arm, "energy distance at 8×8, share of a single grid's", got/single, Reported, fmt.Sprintf("%.4g and %.4g", got, single))
		default:
			single = got
		}
	}
	return nil
}
