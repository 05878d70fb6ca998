package accept

import (
	"context"
	"errors"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/pyramid"
)

// levels binds an energy for each description and its dimensions.
func (e Env) levels(ctx context.Context, specs []energy.Spec, dims [][]int) (all []training.Energy, free func() error, err error) {
	var open []Energy
	free = func() error {
		var errs []error
		for _, n := range open {
			errs = append(errs, n.Close())
		}
		return errors.Join(errs...)
	}
	for k, s := range specs {
		m, err := energy.Build(s, dims[k], 0, e.Seed+uint64(k)<<32)
		if err != nil {
			return nil, free, errors.Join(err, free())
		}
		net, err := e.Bind(ctx, m)
		if err != nil {
			return nil, free, errors.Join(err, free())
		}
		open, all = append(open, net), append(all, net)
	}
	return all, free, nil
}

// shrunk is the number of iterations of an arm: the Flipped one gets a fifth, the
// Untrained one a single iteration.
func shrunk(arm string, steps int) int {
	switch arm {
	case Untrained:
		return 1
	case Flipped:
		return max(steps/5, 1)
	}
	return steps
}

// facesOf is drawn faces to learn from and others to compare with.
func facesOf(ctx context.Context, e Env, side, learned, compared int) (train, held *data.Set, err error) {
	if train, err = data.Load(ctx, "synthetic/face", data.Options{Seed: e.Seed, Size: side, Limit: learned, Part: "train"}); err != nil {
		return nil, nil, err
	}
	held, err = data.Load(ctx, "synthetic/face", data.Options{Seed: e.Seed, Size: side, Limit: compared, Part: "test"})
	return train, held, err
}

// A hole is a mask with a square of unknown pixels in the middle of pictures.
func hole(n, c, side, wide int) []float32 {
	mask := make([]float32, n*c*side*side)
	from := (side - wide) / 2
	for i := range mask {
		if y, x := i/side%side-from, i%side-from; y < 0 || y >= wide || x < 0 || x >= wide {
			mask[i] = 1
		}
	}
	return mask
}

// hidden picks the values that a mask hides.
func hidden(x, mask []float32) []float32 {
	var out []float32
	for i, m := range mask {
		if m == 0 {
			out = append(out, x[i])
		}
	}
	return out
}

// holes compares completions with a fill of the visible mean: the PSNR of each inside
// the hole, in dB, and the largest change of a visible pixel.
func holes(ctx context.Context, r training.Reconstructor, set *data.Set, mask []float32, seed uint64) (filled []float32, model, mean, changed float64, err error) {
	blind := append([]float32(nil), set.X()...)
	for i, m := range mask {
		if m == 0 {
			blind[i] = 0
		}
	}
	if filled, err = r.Reconstruct(ctx, blind, mask, seed); err != nil {
		return nil, 0, 0, 0, err
	}
	for i, m := range mask {
		if d := float64(filled[i] - set.X()[i]); m == 1 && d != 0 {
			changed = max(changed, max(d, -d))
		}
	}
	truth := hidden(set.X(), mask)
	if model, err = diag.PSNR(truth, hidden(filled, mask), 2); err != nil {
		return nil, 0, 0, 0, err
	}
	means := pyramid.VisibleMean(blind, mask, set.H*set.W)
	flat := pyramid.Grow(means, 1, 1, set.W)
	mean, err = diag.PSNR(truth, hidden(flat, mask), 2)
	return filled, model, mean, changed, err
}
