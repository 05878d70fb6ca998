package accept

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/coarsetofine"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/pyramid"
	"ebmrun/training/record"
)

// CoarseToFine is the suite of coarse-to-fine expanding and sampling.
var CoarseToFine = Suite{"coarse-to-fine", []Part{
	{"expansion", "a network grown to twice the side scores as before until its block is faded in", true, expansion},
	{"growing", "faces grown from 8×8 to 16×16, beside a network learned at 16×16 at once, and holes in faces", false, growing},
}}

// expansion: f(x; α = 0) of the grown network is f of averaged pixels of the coarse one.
func expansion(ctx context.Context, e Env, it *Item) error {
	spec := energy.Spec{Expand: &energy.Expand{Base: 4, From: 8}, Activation: "swish"}
	nets, free, err := e.levels(ctx, []energy.Spec{spec, spec}, [][]int{{3, 16, 16}, {3, 32, 32}})
	if err != nil {
		return err
	}
	defer free()
	if err := pyramid.Carry(nets[1], nets[0]); err != nil {
		return err
	}
	const n = 8
	r := e.random(3)
	x := make([]float32, n*3*32*32)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	score := func(net training.Energy, x []float32) ([]float32, error) {
		f := make([]float32, n)
		return f, net.Learn(ctx, x, make([]float32, n), 0, f)
	}
	want, err := score(nets[0], pyramid.Shrink(x, 32, 32, 2))
	if err != nil {
		return err
	}
	for _, alpha := range []float32{0, 1} {
		for _, p := range nets[1].Params() {
			if p.Name == energy.Fade {
				p.W[0] = alpha
			}
		}
		nets[1].Refresh()
		got, err := score(nets[1], x)
		if err != nil {
			return err
		}
		worst := 0.0
		for i, v := range got {
			worst = max(worst, math.Abs(float64(v-want[i])))
		}
		if alpha == 0 {
			it.Check(Works, "largest difference of scores, α = 0", worst, AtMost(1e-4), "")
		} else {
			it.Check("", "the same with α = 1", worst, AtLeast(1e-3), "")
		}
	}
	return nil
}

func growingConfig() coarsetofine.Config {
	c := coarsetofine.Config{
		Spec:  &energy.Spec{Expand: &energy.Expand{Base: 4, From: 8}, Activation: "swish"},
		Phase: 4800, Batches: []int{16}, Steps: 1200,
		Langevin: training.Langevin{Steps: 10, Step: 4.472, Noise: 0.001118, GradClip: 0.03, Clamp: [2]float64{-1, 1}, Fused: true},
		Optim:    training.Optim{LR: 2e-3, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1},
		EMA:      0.98,
		ScoreL2:  0.05,
	}
	c.Data.Noise = 0.01
	return c
}

// growing: samples of the grown energy come close to held-out faces, those of U and F do
// not, and holes in faces are filled with what fits.
func growing(ctx context.Context, e Env, it *Item) error {
	const side, wide, direct = 16, 5, "learned at once"
	train, held, err := facesOf(ctx, e, side, 1000, 320)
	if err != nil {
		return err
	}
	fd, err := diag.FitFD(train.X(), train.Dim(), 16)
	if err != nil {
		return err
	}
	floor, err := fd.Distance(held.X(), train.Head(held.N).X())
	if err != nil {
		return err
	}
	it.Check("", "FD-PCA of real faces (the floor)", floor, Reported, "")
	untrained, once := math.NaN(), math.NaN()
	for _, arm := range []string{Untrained, direct, Works, Flipped} {
		c := growingConfig()
		sides := []int{8, 16}
		c.Sabotage, c.Steps = sabotageOf[arm], shrunk(arm, c.Steps)
		switch arm {
		case direct: // a stage at 16×16 costs about five at 8×8
			c.Spec, sides, c.Phase, c.Steps = &energy.Spec{Expand: &energy.Expand{Base: 4, From: 16}, Activation: "swish"}, sides[1:], 5760, 720
			c.Optim.LR /= 4 // at the others' rate it runs away
		case Untrained, Flipped: // both stages are begun
			c.Phase = c.Batches[0] * max(c.Steps/4, 1)
			c.Steps = max(c.Steps, 3)
		}
		var specs []energy.Spec
		var dims [][]int
		for _, s := range sides {
			specs, dims = append(specs, *c.Spec), append(dims, []int{1, s, s})
		}
		nets, free, err := e.levels(ctx, specs, dims)
		if err != nil {
			return err
		}
		defer free()
		s, err := coarsetofine.New(c, nets, train, e.Seed)
		if err != nil {
			return err
		}
		ended, err := e.learn(ctx, "growing", arm, s, c.Steps, c.Guard)
		if err != nil {
			return err
		}
		got := math.Inf(1)
		if ended == nil {
			x, err := s.Draw(ctx, held.N, e.Seed)
			if err != nil {
				return err
			}
			if got, err = fd.Distance(held.X(), x); err != nil {
				return err
			}
			img, err := record.Grid(pictures(train, x[:64*train.Dim()], side, 64), 0, 1, 0)
			if arm == Works {
				if err := e.show("growing", img, err); err != nil {
					return err
				}
			}
		}
		switch {
		case arm == Untrained:
			untrained = got
			it.Check(arm, "FD-PCA", got, Reported, "")
		case arm == direct:
			once = got
			it.Check(Works, "FD-PCA of a network learned at 16×16 at once", got, Reported, endedBy(ended))
		case arm == Flipped:
			it.Check(arm, "FD-PCA, share of U's", got/untrained, AtLeast(0.6), endedBy(ended))
		default:
			it.Check(arm, "FD-PCA, share of U's", got/untrained, AtMost(0.3), fmt.Sprintf("%.4g", got))
			it.Check(arm, "FD-PCA, share of that of a network learned at once", got/once, AtMost(0.5), "")
			if err := e.fill(ctx, it, s, held.Head(160), wide); err != nil {
				return err
			}
		}
	}
	return nil
}

// fill completes holes in held-out faces.
func (e Env) fill(ctx context.Context, it *Item, s *coarsetofine.System, set *data.Set, wide int) error {
	mask := hole(set.N, set.C, set.W, wide)
	filled, model, mean, changed, err := holes(ctx, s, set, mask, e.Seed)
	if err != nil {
		return err
	}
	it.Check(Works, "largest change of a visible pixel", changed, AtMost(0), "")
	it.Check(Works, fmt.Sprintf("PSNR in holes of %d×%d above that of the visible mean, dB", wide, wide), model-mean, AtLeast(4), fmt.Sprintf("%.1f and %.1f dB", model, mean))
	flat := slices.Clone(set.X())
	for i, v := range pyramid.Grow(pyramid.VisibleMean(set.X(), mask, set.H*set.W), 1, 1, set.W) {
		if mask[i] == 0 {
			flat[i] = v
		}
	}
	u, v, g := make([]float32, set.N), make([]float32, set.N), make([]float32, len(flat))
	top := s.Stages[len(s.Stages)-1].Energy
	if err := pyramid.Averaged(s.Stages, func() error {
		return errors.Join(top.EnergyGrad(filled, u, g), top.EnergyGrad(flat, v, g))
	}); err != nil {
		return err
	}
	better := 0.0
	for i := range u {
		if u[i] < v[i] {
			better += 1 / float64(set.N)
		}
	}
	it.Check(Works, "share of completions that are likelier than the visible mean", better, AtLeast(0.95), "")
	img, err := record.Strip(2, 2, pictures(set, set.X()[:16*set.Dim()], set.W, 16), pictures(set, filled[:16*set.Dim()], set.W, 16))
	return e.show("filled", img, err)
}
