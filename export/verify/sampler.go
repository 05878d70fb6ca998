package verify

import (
	"context"
	"fmt"
	"math/rand/v2"

	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/chain"
)

// A walk follows a sampler's file and says where it leaves the path.
type walk struct {
	*Report
	step   chain.Step
	ours   *reader // x → energy, score, grad/x
	theirs *reader // the file, x0, noise → x, energy
	others *copies // of ours, nil if slopes do not jump
}

// run compares some rounds of the file, of one step each where it takes any number of
// them, each from where its own last one ended, so that differences do not add up.
func (w *walk) run(ctx context.Context, noise graphs.Shape, x *graphs.Tensor, random *rand.Rand) error {
	n, k := rounds, 1
	if len(noise) != len(x.Dims)+1 {
		return fmt.Errorf("verify: %s: input %q: wanted [k, batch, …] for examples of %v, got %v", w.File, chain.Noise, x.Dims[1:], noise)
	}
	if noise[0].Known() {
		n, k = 1, int(noise[0].N)
	}
	for _, v := range w.theirs.Outputs() {
		if v.Name != chain.X && v.Name != chain.Energy {
			return fmt.Errorf("verify: %s: %w: it has an output %q", w.File, ErrDiffers, v.Name)
		}
	}
	for range n {
		var err error
		if x, err = w.round(ctx, x, normals(random, 1, append([]int{k}, x.Dims...)...)); err != nil {
			return err
		}
	}
	return nil
}

// round compares what the file moves x by without noise, what noise adds to that, and
// the energy where it ends. It returns where that is.
func (w *walk) round(ctx context.Context, x, z *graphs.Tensor) (*graphs.Tensor, error) {
	silence := graphs.NewTensor(graphs.Float32, z.Dims...)
	still, err := w.follow(ctx, w.ours, x, silence)
	if err != nil {
		return nil, err
	}
	stirred, err := w.follow(ctx, w.ours, x, z)
	if err != nil {
		return nil, err
	}
	rest, _, err := w.file(ctx, x, silence)
	if err != nil {
		return nil, err
	}
	end, energy, err := w.file(ctx, x, z)
	if err != nil {
		return nil, err
	}
	blur := 4 * 0x1p-24 * max(most(x), most(still), most(stirred)) // differences of rounded numbers are no more exact
	for _, c := range []struct {
		what      string
		got, want *graphs.Tensor
		again     func(r *reader) (*graphs.Tensor, error)
	}{
		{"drift", minus(rest, x), minus(still, x), func(r *reader) (*graphs.Tensor, error) {
			still, err := w.follow(ctx, r, x, silence)
			if err != nil {
				return nil, err
			}
			return minus(still, x), nil
		}},
		{"noise", minus(end, rest), minus(stirred, still), func(r *reader) (*graphs.Tensor, error) {
			still, err := w.follow(ctx, r, x, silence)
			if err != nil {
				return nil, err
			}
			stirred, err := w.follow(ctx, r, x, z)
			if err != nil {
				return nil, err
			}
			return minus(stirred, still), nil
		}},
	} {
		if err := w.near(ctx, Check{Reader: w.theirs.name, What: c.what}, c.got, c.want, blur, w.others, c.again); err != nil {
			return nil, err
		}
	}
	out, err := w.ours.on(ctx, end)
	if err != nil {
		return nil, fmt.Errorf("verify: %s: %w", w.File, err)
	}
	return end, w.add(Check{Reader: w.theirs.name, What: chain.Energy, Off: distance(energy, out[onnxmodels.Energy], 0)}, Tolerance)
}

// file runs the file from x.
func (w *walk) file(ctx context.Context, x, z *graphs.Tensor) (end, energy *graphs.Tensor, err error) {
	out, err := w.theirs.run(ctx, map[string]*graphs.Tensor{chain.X0: x, chain.Noise: z})
	if err != nil {
		return nil, nil, fmt.Errorf("verify: %s: %w", w.File, err)
	}
	if !sameDims(out[chain.X], x) {
		return nil, nil, fmt.Errorf("verify: %s: %w: output %q: wanted %v, got %v", w.File, ErrDiffers, chain.X, x.Dims, out[chain.X])
	}
	return out[chain.X], out[chain.Energy], nil
}

// follow takes the Langevin steps that the noise z [k, batch, …] is for, each
// operation rounded to float32.
func (w *walk) follow(ctx context.Context, r *reader, x, z *graphs.Tensor) (*graphs.Tensor, error) {
	s := w.step
	drift, kick := float32(s.Size*s.Size/2), float32(s.Noise*s.Size)
	for t := range z.Dims[0] {
		out, err := r.on(ctx, x)
		if err != nil {
			return nil, fmt.Errorf("verify: %s: %w", w.File, err)
		}
		y, g, noise := graphs.NewTensor(graphs.Float32, x.Dims...), out[onnxmodels.GradX].F32(), z.F32()[t*x.Len():]
		for i, v := range x.F32() {
			d := g[i]
			if c := float32(s.GradClip); c > 0 {
				d = min(max(d, -c), c)
			}
			v = float32(v-float32(drift*d)) + float32(kick*noise[i])
			if s.ClampMin != 0 || s.ClampMax != 0 {
				v = min(max(v, float32(s.ClampMin)), float32(s.ClampMax))
			}
			y.F32()[i] = v
		}
		x = y
	}
	return x, nil
}
