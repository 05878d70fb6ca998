package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math/rand/v2"
	"slices"

	"github.com/spf13/cobra"

	"ebmrun/graphs"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/data"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

type sampleFlags struct {
	n, steps   int
	out, npy   string
	checkpoint string
	from       string
	step       float64
	noise      float64
	batch      int
}

func sampleCommand(c *common) *cobra.Command {
	var f sampleFlags
	cmd := &cobra.Command{
		Use:   "sample RUN|FILE.onnx",
		Short: "Draw samples from what was learned",
		Long: `Draw samples from what was learned and write them as a grid, and with --npy as
numbers in data units.

An energy is sampled with Langevin dynamics: a run with persistent chains goes on
from those and one with a generator revises its drafts; --from noise begins anew,
which takes many more steps. Systems without an energy draw as their model says.
A file must be an energy, with input x and outputs energy and score, or a
generator, from z to x, as exports are; its metadata holds the settings.`,
		Example: example(
			"ebmrun sample runs/mnist --n 64 -o samples.png",
			"ebmrun sample runs/mnist --n 256 --steps 500 --from noise --seed 7 -o samples.png --npy samples.npy",
			"ebmrun sample demo/energy.onnx --steps 1000 -o samples.png"),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := c.open(cmd.Context(), args[0], f.checkpoint)
			if err != nil {
				return err
			}
			defer r.Close()
			if err := r.lacks("sample"); err != nil {
				return err
			}
			x, err := c.draw(cmd.Context(), r, f)
			if err != nil {
				return err
			}
			return c.writeSamples(cmd.Context(), r, x, f)
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&f.n, "n", 64, "number of samples")
	fl.IntVar(&f.steps, "steps", 0, "Langevin steps (default: as in learning for chains that go on, 1000 from noise)")
	fl.StringVarP(&f.out, "out", "o", "samples.png", "grid of the samples")
	fl.StringVar(&f.npy, "npy", "", "also write the samples as a NumPy array, float32, in data units")
	fl.StringVar(&f.checkpoint, "checkpoint", "", "best, last or step-NNNNNN (default: best)")
	fl.StringVar(&f.from, "from", "", "chains (those of the run), drafts (of the run's generator) or noise")
	fl.Float64Var(&f.step, "step", 0, "step size s (default: as in learning)")
	fl.Float64Var(&f.noise, "noise", -1, "noise multiplier (default: as in learning)")
	fl.IntVar(&f.batch, "batch", 64, "chains in one call")
	fl.Lookup("noise").DefValue = "0" // the text says it
	return cmd
}

// draw returns f.n samples [n, dim].
func (c *common) draw(ctx context.Context, r *openedRun, f sampleFlags) ([]float32, error) {
	if f.n < 1 || f.batch < 1 {
		return nil, badInput(errors.New("--n and --batch: wanted at least 1"))
	}
	if r.Model != nil {
		return c.chains(ctx, r, f)
	}
	if f.steps != 0 || f.from != "" || f.step > 0 || f.noise >= 0 {
		return nil, badInput(fmt.Errorf("%s: %s samples without chains: --steps, --from, --step and --noise are those of an energy", r.Name, r.Head.System))
	}
	if d, ok := r.Learned.(training.Drawer); ok {
		return d.Draw(ctx, f.n, c.seed)
	}
	return c.drafts(ctx, r, f)
}

// chains runs Langevin chains on the energy to f.n samples.
func (c *common) chains(ctx context.Context, r *openedRun, f sampleFlags) ([]float32, error) {
	l := r.Langevin
	if f.step > 0 {
		l.Step = f.step
	}
	if f.noise >= 0 {
		l.Noise = f.noise
	}
	if l.Step == 0 {
		return nil, badInput(fmt.Errorf("%s says no step size: give --step and --noise", r.Name))
	}
	if f.from == "" {
		f.from = "noise"
		switch {
		case r.Bank != nil:
			f.from = "chains"
		case r.Generator != nil || r.Drafts != nil:
			f.from = "drafts"
		}
	}
	dim := r.Model.Size()
	switch {
	case f.from != "noise" && f.from != "chains" && f.from != "drafts":
		return nil, badInput(fmt.Errorf("--from: wanted chains, drafts or noise, got %q", f.from))
	case f.from == "drafts" && r.Generator == nil && r.Drafts == nil:
		return nil, badInput(errors.New("--from drafts: the run has no generator"))
	case f.from == "chains" && len(r.Bank) < f.n*dim:
		return nil, badInput(fmt.Errorf("--from chains: the run keeps %d chains, --n asks for %d", len(r.Bank)/dim, f.n))
	}
	if f.steps == 0 {
		if f.steps = l.Steps; f.from == "noise" && (r.Bank != nil || f.steps == 0) {
			f.steps = 1000
		}
	}
	engine, err := c.engine(ctx)
	if err != nil {
		return nil, err
	}
	e, err := bind.Freeze(ctx, r.Model, engine, bind.Options{Runtime: c.options()})
	if err != nil {
		return nil, err
	}
	defer e.Close()
	l.Steps = f.steps
	c.say(fmt.Sprintf("%d chains from %s, %s", f.n, f.from, l))
	rng := rand.New(rand.NewPCG(c.seed, 0x73616d706c65))
	x := make([]float32, f.n*dim)
	switch f.from {
	case "drafts":
		if x, err = c.drafts(ctx, r, f); err != nil {
			return nil, err
		}
	case "chains":
		order := rng.Perm(len(r.Bank) / dim)
		for k := range f.n {
			copy(x[k*dim:], r.Bank[order[k]*dim:(order[k]+1)*dim])
		}
	default:
		begin(rng, r, x)
	}
	p := c.progress("sampling", 0, f.steps*((f.n+f.batch-1)/f.batch))
	done := 0
	for first := 0; first < f.n; first += f.batch {
		n := min(f.batch, f.n-first)
		st, err := sampler.NewState(x[first*dim:(first+n)*dim], dim, sampler.Chains(uint64(first), n))
		if err != nil {
			return nil, err
		}
		_, err = sampler.Run(ctx, sampler.Noise{Seed: c.seed}, l.Kernel(), e, st, f.steps, func(int, sampler.Info) {
			done++
			p.step(done, nil)
		})
		if err != nil {
			return nil, err
		}
	}
	p.finish()
	return x, nil
}

// drafts draws f.n samples that chains begin at: of a run's flow, or from its
// generator: x = g(z), z ~ N(0, I).
func (c *common) drafts(ctx context.Context, r *openedRun, f sampleFlags) ([]float32, error) {
	if r.Drafts != nil {
		return r.Drafts.Draw(ctx, f.n, c.seed)
	}
	engine, err := c.engine(ctx)
	if err != nil {
		return nil, err
	}
	g, err := bind.NewGenerator(ctx, r.Generator, engine, c.options(), r.Residual)
	if err != nil {
		return nil, err
	}
	z := make([]float32, f.n*g.Codes())
	sampler.Noise{Seed: c.seed}.Normals(z, sampler.Chains(0, f.n), 0)
	d, dim := g.Codes(), graphs.Size(r.Generator.Dims)
	x := make([]float32, f.n*dim)
	for first := 0; first < f.n && err == nil; first += f.batch {
		end := min(first+f.batch, f.n)
		err = g.Forward(ctx, z[first*d:end*d], x[first*dim:end*dim])
	}
	return x, errors.Join(err, g.Close())
}

// begin fills x with the noise that the run's chains begin with.
func begin(rng *rand.Rand, r *openedRun, x []float32) {
	lo, hi := r.Langevin.Clamp[0], r.Langevin.Clamp[1]
	if lo == hi {
		lo, hi = -1, 1
	}
	for i := range x {
		switch {
		case r.Gaussian && r.Sigma > 0:
			x[i] = float32(r.Sigma * rng.NormFloat64())
		case r.Gaussian:
			x[i] = float32(rng.NormFloat64())
		default:
			x[i] = float32(lo + (hi-lo)*rng.Float64())
		}
	}
}

func (c *common) writeSamples(ctx context.Context, r *openedRun, x []float32, f sampleFlags) error {
	if f.npy != "" {
		raw := make([]float32, len(x))
		for i, v := range x {
			raw[i] = float32((float64(v) - r.Offset) / r.Gain)
		}
		if err := data.WriteNPY(f.npy, raw, append([]int{f.n}, r.Dims...)...); err != nil {
			return err
		}
		c.say("wrote " + f.npy)
	}
	img, err := r.picture(ctx, x)
	if err != nil {
		return err
	}
	if err := record.WritePNG(f.out, img); err != nil {
		return err
	}
	c.say("wrote " + f.out)
	return nil
}

// picture shows samples as the system itself does, or by their shape.
func (r *openedRun) picture(ctx context.Context, x []float32) (image.Image, error) {
	p, ok := r.Learned.(training.Plotter)
	if !ok {
		return r.shown(x)
	}
	pic, err := p.Plot(ctx, x)
	if err != nil {
		return nil, err
	}
	return record.Grid(pic.Images, 0, 1, 0)
}

// shown is a grid of pictures, rows of frames, or drawings of volumes and of sets of points, several kinds of
// examples one below the other.
func (r *openedRun) shown(rows ...[]float32) (image.Image, error) {
	if len(r.Dims) == 3 || r.like == nil || r.like.IsVectors() || !slices.Equal(r.Dims, r.like.Dims()) {
		return samplePicture(slices.Concat(rows...), r.Dims, r.Lo, r.Hi)
	}
	var images []record.Images
	like := *r.like
	like.Lo, like.Hi = r.Lo, r.Hi
	for _, x := range rows {
		p, err := training.Show(record.SamplesTag, &like, x)
		if err != nil {
			return nil, err
		}
		if p.Rows != nil {
			images = append(images, p.Rows...)
		} else if len(rows) == 1 {
			return record.Grid(p.Images, 0, 1, 0)
		} else {
			images = append(images, p.Images)
		}
	}
	return record.Strip(2, 0, images...)
}

// samplePicture is a grid of pictures, or a scatter plot of points.
func samplePicture(x []float32, dims []int, lo, hi float32) (image.Image, error) {
	if len(dims) == 3 {
		n := len(x) / (dims[0] * dims[1] * dims[2])
		return record.Grid(record.Images{Data: x, N: n, C: dims[0], H: dims[1], W: dims[2], Lo: lo, Hi: hi}, 0, 1, 0)
	}
	span := 0.1
	h := record.Heat{Title: "samples", XLabel: "x₁", YLabel: "x₂", NX: 2, NY: 2, Z: make([]float64, 4)}
	for i := 0; i+1 < len(x); i += dims[0] {
		h.Points = append(h.Points, [2]float64{float64(x[i]), float64(x[i+1])})
		span = max(span, 1.1*float64(max(x[i], -x[i], x[i+1], -x[i+1])))
	}
	h.XMin, h.XMax, h.YMin, h.YMax = -span, span, -span, span
	return h.Image()
}
