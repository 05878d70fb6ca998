package accept

import (
	"context"
	"fmt"
	"math"
	"slices"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/patchwise"
	"ebmrun/training/pyramid"
	"ebmrun/training/record"
)

// Patchwise is the suite of the patchwise generative ConvNet.
var Patchwise = Suite{"patchwise", []Part{
	{"bricks", "one picture of bricks at three scales: recovery, samples, and tasks", false, onePicture},
}}

func patchwiseConfig() patchwise.Config {
	spec, _ := energy.ByName("patch-small")
	c := patchwise.Config{
		Spec: &spec, Scales: 3, Coarsest: 24, Steps: 1000, Favour: 2, Chains: 2, First: 40, Paint: 1,
		Langevin: training.Langevin{Steps: 15, Step: 1, Noise: 0.005, GradClip: 0.6, Clamp: [2]float64{-1, 1}},
		Optim:    training.Optim{LR: 2e-3, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1},
		EMA:      0.98,
		ScoreL2:  1e-6,
	}
	c.Recover.Weight, c.Recover.Steps, c.Recover.Shrink = 0.5, 15, 0.75
	return c
}

// The picture is square and has bricks of 16×8, samples are wider.
const bricksHigh, bricksWide = 64, 96

// onePicture: the picture comes back at every scale, other pictures of its patches are
// drawn at another size, and it can be enlarged, painted and mended.
func onePicture(ctx context.Context, e Env, it *Item) error {
	load := func(seed uint64) (*data.Set, error) {
		return data.Load(ctx, "synthetic/tex-c-rgb", data.Options{Seed: seed, Size: bricksHigh})
	}
	set, err := load(e.Seed)
	if err != nil {
		return err
	}
	other, err := load(e.Seed + 77)
	if err != nil {
		return err
	}
	const side, wide = bricksHigh, bricksWide
	// apart compares how bricks follow one another, up to a brick's width away.
	apart := func(x []float32, h, w int) (float64, error) {
		want, err := diag.Correlogram(set.X(), 3, side, side, 16)
		if err != nil {
			return 0, err
		}
		got, err := diag.Correlogram(x, 3, h, w, 16)
		if err != nil {
			return 0, err
		}
		return diag.CorrelogramGap(want, got), nil
	}
	floor, err := apart(other.X(), side, side)
	if err != nil {
		return err
	}
	it.Check("", "gap of the correlogram, another such picture", floor, Reported, "")
	swd := func(x []float32, h, w int) (float64, error) {
		return diag.PatchSWD(set.X(), side, side, x[:3*h*w], h, w, 3, 1)
	}
	untrained := math.NaN()
	for _, arm := range []string{Untrained, Works, Flipped} {
		c := patchwiseConfig()
		c.Sabotage = sabotageOf[arm]
		if arm != Works { // every scale is begun
			c.Steps = max(shrunk(arm, c.Steps), c.Scales)
		}
		sizes, err := c.Sizes(side, side)
		if err != nil {
			return err
		}
		var specs []energy.Spec
		var dims [][]int
		for _, s := range sizes {
			specs, dims = append(specs, *c.Spec), append(dims, []int{3, s[0], s[1]})
		}
		nets, free, err := e.levels(ctx, specs, dims)
		if err != nil {
			return err
		}
		defer free()
		s, err := patchwise.New(c, nets, set, e.Seed)
		if err != nil {
			return err
		}
		s.Bind = func(_, h, w int) (training.Energy, error) {
			one, _, err := e.levels(ctx, specs[:1], [][]int{{3, h, w}})
			if err != nil {
				return nil, err
			}
			return one[0], nil
		}
		ended, err := e.learn(ctx, "bricks", arm, s, c.Steps, c.Guard)
		if err != nil {
			return err
		}
		if ended != nil {
			it.Check(arm, "patch-SWD of samples, share of U's", math.Inf(1), AtLeast(0.7), endedBy(ended))
			continue
		}
		x, err := s.DrawSize(ctx, 8, side, wide, e.Seed)
		if err != nil {
			return err
		}
		got, err := swd(x, side, wide)
		if err != nil {
			return err
		}
		far, err := apart(x, side, wide)
		if err != nil {
			return err
		}
		switch arm {
		case Untrained:
			untrained = got
			it.Check(arm, "patch-SWD of samples", got, Reported, "")
			it.Check(arm, "gap of the correlogram", far, AtLeast(0.7), "")
			if _, err := mendPatch(ctx, it, arm, s, set, AtLeast(0.85)); err != nil {
				return err
			}
		case Flipped:
			it.Check(arm, "patch-SWD of samples, share of U's", got/untrained, AtLeast(0.7), "")
		default:
			it.Check(arm, "patch-SWD of samples of 64×96, share of U's", got/untrained, AtMost(0.35), fmt.Sprintf("%.4g", got))
			it.Check(arm, "gap of the correlogram", far, AtMost(0.5), "ripples have 0.66")
			sharp := diag.Steepness(x, side, wide) / diag.Steepness(set.X(), side, side)
			it.Check(arm, "differences of neighbours in samples, squared, share of the picture's", sharp, Within(0.5, 1.5), "blurred ones have less")
			if err := e.brickTasks(ctx, it, s, set, x); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e Env) brickTasks(ctx context.Context, it *Item, s *patchwise.System, set *data.Set, x []float32) error {
	const side, wide = bricksHigh, bricksWide
	ends, psnr, err := s.Recovery(ctx)
	if err != nil {
		return err
	}
	it.Check(Works, "PSNR of the recovered picture at the worst scale, dB", slices.Min(psnr), AtLeast(22), fmt.Sprintf("%.1f", psnr))
	// samples differ from one another and from the picture
	_, sd := training.Moments(set.X())
	dim, apart, pairs := 3*side*wide, 0.0, 0.0
	for i := range 8 {
		for j := range i {
			apart += math.Sqrt(training.MSE(x[i*dim:(i+1)*dim], x[j*dim:(j+1)*dim]))
			pairs++
		}
	}
	it.Check(Works, "difference of samples from one another, share of the picture's deviation", apart/pairs/sd, AtLeast(0.1), "")
	same, err := s.Draw(ctx, 1, e.Seed)
	if err != nil {
		return err
	}
	it.Check(Works, "best correlation of a sample with the shifted picture", shifted(same, set.X(), side), AtMost(0.98), "")
	// a picture of half the size, enlarged
	half := pyramid.Resize(set.X(), side, side, side/2, side/2)
	up, err := s.Enlarge(ctx, half, side/2, side/2, 2)
	if err != nil {
		return err
	}
	back, err := diag.PSNR(half, pyramid.Resize(up, side, side, side/2, side/2), 2)
	if err != nil {
		return err
	}
	it.Check(Works, "PSNR of the enlarged picture made small again, dB", back, Reported, "")
	truth, bicubic := diag.Steepness(set.X(), side, side), diag.Steepness(pyramid.Resize(half, side/2, side/2, side, side), side, side)
	off := math.Abs(diag.Steepness(up, side, side)-truth) / math.Abs(bicubic-truth)
	it.Check(Works, "error of its gradient energy, share of the bicubic picture's", off, Reported, "")
	// four colours in, patches of the picture out
	paint := slices.Clone(set.X())
	for i, v := range paint {
		paint[i] = float32(math.Round(float64(v)*1.5) / 1.5) // four levels
	}
	paint = pyramid.Resize(pyramid.Resize(paint, side, side, side/4, side/4), side/4, side/4, side, side)
	painted, err := s.Translate(ctx, paint, e.Seed)
	if err != nil {
		return err
	}
	before, err := diag.PatchSWD(set.X(), side, side, paint, side, side, 3, 1)
	if err != nil {
		return err
	}
	after, err := diag.PatchSWD(set.X(), side, side, painted, side, side, 3, 1)
	if err != nil {
		return err
	}
	it.Check(Works, "patch-SWD of a painting become a picture, share of the painting's", after/before, Reported, fmt.Sprintf("%.4g and %.4g", after, before))
	low := func(x []float32) []float32 { return pyramid.Shrink(x, side, side, side/8) }
	it.Check(Works, "correlation of their 8×8 means", correlation(low(painted), low(paint)), AtLeast(0.85), "")
	mended, err := mendPatch(ctx, it, Works, s, set, AtMost(0.75))
	if err != nil {
		return err
	}
	img, err := record.Strip(2, 2, pictures(set, append(append(append(append(append(slices.Clone(set.X()), ends[len(ends)-1]...), same...), paint...), painted...), mended...), side, 7))
	if err := e.show("bricks", img, err); err != nil {
		return err
	}
	img, err = record.Strip(2, 2, record.Images{Data: x[:4*dim], N: 4, C: 3, H: side, W: wide, Lo: set.Lo, Hi: set.Hi})
	return e.show("bricks-samples", img, err)
}

// mendPatch has a patch of wrong colours harmonised from the coarsest scale on, and returns the picture before
// and after.
func mendPatch(ctx context.Context, it *Item, arm string, s *patchwise.System, set *data.Set, want Limit) ([]float32, error) {
	const side = bricksHigh
	composite, keep := slices.Clone(set.X()), hole(1, 3, side, 16)
	for i, m := range keep {
		if m == 0 {
			composite[i] = composite[i]*0.5 + 0.5*float32(1-i/(side*side))
		}
	}
	mended, err := s.Edit(ctx, composite, keep, 0)
	if err != nil {
		return nil, err
	}
	colour := func(x []float32) (d float64) {
		in, want := hidden(x, keep), hidden(set.X(), keep)
		for c := range 3 {
			n := len(in) / 3
			d += math.Abs(training.Mean(in[c*n:(c+1)*n]) - training.Mean(want[c*n:(c+1)*n]))
		}
		return d
	}
	it.Check(arm, "error of a wrong patch's colours after harmonising, share of before", colour(mended)/colour(composite), want, "")
	changed := 0.0
	for i, m := range keep {
		if m == 1 {
			changed = max(changed, math.Abs(float64(mended[i]-set.X()[i])))
		}
	}
	it.Check(arm, "largest change outside it", changed, AtMost(0), "")
	return append(composite, mended...), nil
}

// shifted is the highest correlation of a with b moved round by any number of pixels.
func shifted(a, b []float32, side int) float64 {
	best := -1.0
	moved := make([]float32, len(b))
	for dy := range side {
		for dx := range side {
			for i := range moved {
				p, y, x := i/(side*side), i/side%side, i%side
				moved[i] = b[(p*side+(y+dy)%side)*side+(x+dx)%side]
			}
			best = max(best, correlation(a, moved))
		}
	}
	return best
}
