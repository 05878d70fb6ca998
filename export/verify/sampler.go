package verify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/chain"
)

// A walk follows a sampler's file and says where it leaves the path.
type walk struct {
	*Report
	step   chain.Step
	steps  []string // the file's values of x to compare, the last at its end
	ours   *reader  // x → energy, score, grad/x
	theirs *reader  // the file, x0, noise → x, energy, and the steps between
	others *copies  // of ours, nil if slopes do not jump
}

// tap makes outputs of what x is between the steps of an unrolled chain, and returns the
// names of x after each. It is the end alone where there is nothing between, or the
// file gives it other names.
func tap(g *graphs.Graph) []string {
	noise, end := g.Input(chain.Noise), []string{chain.X}
	if noise == nil || len(noise.Shape) == 0 || !noise.Shape[0].Known() {
		return end
	}
	var between []*graphs.Value
	var names []string
	for t := range max(0, int(noise.Shape[0].N)-1) {
		v := g.Find(chain.After(t))
		if v == nil || v.From == nil || slices.Contains(g.Outputs, v) {
			return end
		}
		between, names = append(between, v), append(names, v.Name)
	}
	g.Outputs = append(g.Outputs, between...)
	return append(names, end...)
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
		if v.Name != chain.Energy && !slices.Contains(w.steps, v.Name) {
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
// the energy where it ends. It returns where that is. Of a file that shows them every step is
// compared, without noise and with it, each from where the file's own last one ended.
func (w *walk) round(ctx context.Context, x, z *graphs.Tensor) (*graphs.Tensor, error) {
	each, after := z.Dims[0]/len(w.steps), ""
	if each > 1 {
		after = fmt.Sprintf(" after all %d steps", each)
	}
	silence := graphs.NewTensor(graphs.Float32, append([]int{each}, x.Dims...)...)
	rest, _, err := w.file(ctx, x, graphs.NewTensor(graphs.Float32, z.Dims...))
	if err != nil {
		return nil, err
	}
	noisy, energy, err := w.file(ctx, x, z)
	if err != nil {
		return nil, err
	}
	// where chains go from x, and what of that the noise is for
	move := func(x, z *graphs.Tensor) func(*reader) (*graphs.Tensor, error) {
		return func(r *reader) (*graphs.Tensor, error) {
			y, err := w.follow(ctx, r, x, z)
			if err != nil {
				return nil, err
			}
			return minus(y, x), nil
		}
	}
	stir := func(x, z *graphs.Tensor) func(*reader) (*graphs.Tensor, error) {
		return func(r *reader) (*graphs.Tensor, error) {
			still, err := w.follow(ctx, r, x, silence)
			if err != nil {
				return nil, err
			}
			stirred, err := w.follow(ctx, r, x, z)
			if err != nil {
				return nil, err
			}
			return minus(stirred, still), nil
		}
	}
	quiet, end := x, x
	for t := range w.steps {
		dz := graphs.Of(z.F32()[t*silence.Len():(t+1)*silence.Len()], silence.Dims...)
		if err := w.compare(ctx, "drift"+after, minus(rest[t], quiet), move(quiet, silence), x, quiet, rest[t]); err != nil {
			return nil, err
		}
		if t == 0 {
			err = w.compare(ctx, "noise"+after, minus(noisy[t], rest[t]), stir(x, dz), x, rest[t], noisy[t])
		} else {
			err = w.compare(ctx, "drift and noise", minus(noisy[t], end), move(end, dz), end, noisy[t])
		}
		if err != nil {
			return nil, err
		}
		quiet, end = rest[t], noisy[t]
	}
	out, err := w.ours.on(ctx, end)
	if err != nil {
		return nil, fmt.Errorf("verify: %s: %w", w.File, err)
	}
	return end, w.add(Check{Reader: w.theirs.name, What: chain.Energy, Off: distance(energy, out[onnxmodels.Energy], 0)}, Tolerance)
}

// compare holds a difference of the given rounded numbers, which is no more exact than
// they are, to what a reader makes of the same.
func (w *walk) compare(ctx context.Context, what string, got *graphs.Tensor, wanted func(*reader) (*graphs.Tensor, error), of ...*graphs.Tensor) error {
	want, err := wanted(w.ours)
	if err != nil {
		return err
	}
	blur := 0.0
	for _, x := range of {
		blur = max(blur, 4*0x1p-24*most(x))
	}
	return w.near(ctx, Check{Reader: w.theirs.name, What: what}, got, want, blur, w.others, wanted)
}

// file runs the file from x and returns what x is after its steps.
func (w *walk) file(ctx context.Context, x, z *graphs.Tensor) (after []*graphs.Tensor, energy *graphs.Tensor, err error) {
	out, err := w.theirs.run(ctx, map[string]*graphs.Tensor{chain.X0: x, chain.Noise: z})
	if err != nil {
		return nil, nil, fmt.Errorf("verify: %s: %w", w.File, err)
	}
	for _, name := range w.steps {
		if !sameDims(out[name], x) {
			return nil, nil, fmt.Errorf("verify: %s: %w: output %q: wanted %v, got %v", w.File, ErrDiffers, name, x.Dims, out[name])
		}
		after = append(after, out[name])
	}
	return after, out[chain.Energy], nil
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
