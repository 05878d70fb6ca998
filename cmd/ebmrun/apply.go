package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ebmrun/graphs"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/check"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
	"ebmrun/training/shortrun"
)

// tasks is everything that apply can do.
var tasks = []func(*common) *cobra.Command{energyTask, anomalyTask, likelihoodTask, interpolateTask, reconstructTask, inpaintTask, recoverTask, manifoldTask, translateTask, predictTask, explainTask, longrunTask,
	featuresTask, classifyTask, clusterTask, detectTask, sketchTask, partsTask, statisticsTask, superresTask}

func applyCommand(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apply TASK RUN|FILE.onnx",
		Short: "Use what was learned: rank, interpolate, reconstruct, recover, inpaint, translate, classify, detect, test in long runs",
		Long: `Use what a system has learned for a task. Each task says in its own help what it
needs and what it leaves behind. A system does what its paper gives a meaning to:
a task that a run cannot do names those that it can.`,
		Example: example(
			"ebmrun apply energy runs/mnist --data fashion-mnist -o energies.csv",
			"ebmrun apply recover runs/faces --hidden 0.5 -o recovered.png",
			"ebmrun apply inpaint runs/faces --image face.png --mask mask.png -o completed.png"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			var names []string
			for _, task := range cmd.Commands() {
				names = append(names, task.Name())
			}
			return badInput(fmt.Errorf("apply: no task %q; %s", args[0], check.Instead(args[0], names)))
		},
		Args: cobra.ArbitraryArgs,
	}
	for _, task := range tasks {
		cmd.AddCommand(task(c))
	}
	return cmd
}

// task is what the tasks have in common. RUN is opened, bound and handed to do.
func (c *common) task(use, short, long, sample string, do func(ctx context.Context, a *applied) error) (*cobra.Command, *applied) {
	a := &applied{c: c, task: use}
	cmd := &cobra.Command{
		Use: use + " RUN|FILE.onnx", Short: short, Long: long, Example: example(sample), Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), args[0], do)
		},
	}
	a.flags = cmd.Flags()
	cmd.Flags().StringVar(&a.checkpoint, "checkpoint", "", "best, last or step-NNNNNN (default: best)")
	cmd.Flags().StringVarP(&a.out, "out", "o", "", "file to write")
	return cmd, a
}

// applied is a run ready for a task.
type applied struct {
	c               *common
	task            string
	flags           *pflag.FlagSet
	checkpoint, out string

	*openedRun
	e   *bind.Energy // nil if no energy is learned
	dim int
}

func (a *applied) with(ctx context.Context, path string, do func(context.Context, *applied) error) error {
	if a.out == "" {
		return badInput(errors.New("--out is missing: the file to write"))
	}
	r, err := a.c.open(ctx, path, a.checkpoint)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.lacks(a.task); err != nil {
		return err
	}
	a.openedRun, a.dim = r, graphs.Size(r.Dims)
	if r.Model != nil {
		engine, err := a.c.engine(ctx)
		if err != nil {
			return err
		}
		if a.e, err = bind.Freeze(ctx, r.Model, engine, bind.Options{Runtime: a.c.options()}); err != nil {
			return badInput(err)
		}
		defer a.e.Close()
	}
	return do(ctx, a)
}

// unused refuses flags that mean nothing to this system, which does the task in
// a way of its own.
func (a *applied) unused(names ...string) error {
	for _, name := range names {
		if a.flags.Changed(name) {
			return badInput(fmt.Errorf("--%s: %s of %s takes no such setting", name, a.task, a.Head.System))
		}
	}
	return nil
}

// examples loads at most limit examples in the sizes and the scale of the
// run's: of the named data or files, or held-out ones of the run's own data.
func (a *applied) examples(ctx context.Context, name string, limit int) (*data.Set, error) {
	if name == "" {
		return a.part(ctx, name, "test", limit)
	}
	return a.part(ctx, name, "", limit)
}

// order is the numbers below n, at random.
func (a *applied) order(n int) []int { return rand.New(rand.NewPCG(a.c.seed, 0x6f72646572)).Perm(n) }

// part loads examples of a part of the named data or, without a name, of the run's.
func (a *applied) part(ctx context.Context, name, part string, limit int) (*data.Set, error) {
	src := a.Head.Source
	if name != "" {
		src = source{Data: name, Stretch: src.Stretch}
	}
	if src.Data == "" {
		return nil, badInput(fmt.Errorf("%s does not say what it was learned from: give --data", a.Name))
	}
	src.Limit = 0
	dims := a.Dims
	switch {
	case len(dims) == 3 && src.Patches == 0:
		src.Size, src.Width, src.Grey = dims[1], dims[2], dims[0] == 1
	case len(dims) == 4: // clips and volumes
		src.Size, src.As = dims[2], a.Head.Source.As
	case len(dims) == 2: // points and moments
		src.As = a.Head.Source.As
		if src.Points = dims[0]; src.As == data.Path {
			src.Points = 0
		}
	}
	o := src.options(part, a.c.say)
	o.Limit = limit
	set, err := data.Load(ctx, src.Data, o)
	if err != nil {
		return nil, badInput(err)
	}
	if !slices.Equal(set.Dims(), dims) {
		return nil, badInput(fmt.Errorf("%s: examples of %v, wanted %v as %s takes them", src.Data, set.Dims(), dims, a.Name))
	}
	return a.inScale(set), nil
}

// inScale brings examples to the run's scale: pictures by their range, other
// values by the units of the files.
func (a *applied) inScale(s *data.Set) *data.Set {
	x := make([]float32, s.N*s.Dim())
	for i, v := range s.X() {
		if s.Lo < s.Hi && a.Lo < a.Hi {
			x[i] = a.Lo + (v-s.Lo)*((a.Hi-a.Lo)/(s.Hi-s.Lo))
		} else {
			x[i] = float32(s.Raw(v)*a.Gain + a.Offset)
		}
	}
	t := *s
	t.Floats, t.Lo, t.Hi, t.Gain, t.Offset = x, a.Lo, a.Hi, a.Gain, a.Offset
	return &t
}

// pictures are n examples as record takes them.
func (a *applied) pictures(x []float32) (record.Images, error) {
	d := a.Dims
	if len(d) != 3 {
		return record.Images{}, badInput(fmt.Errorf("%s was learned from vectors: wanted a run on pictures", a.Name))
	}
	return record.Images{Data: x, N: len(x) / a.dim, C: d[0], H: d[1], W: d[2], Lo: a.Lo, Hi: a.Hi}, nil
}

// strip writes rows of pictures.
func (a *applied) strip(path string, rows ...[]float32) error {
	var images []record.Images
	for _, x := range rows {
		im, err := a.pictures(x)
		if err != nil {
			return err
		}
		images = append(images, im)
	}
	img, err := record.Strip(2, 0, images...)
	return a.write(path, img, err)
}

func (a *applied) write(path string, img image.Image, err error) error {
	if err != nil {
		return err
	}
	if err := record.WritePNG(path, img); err != nil {
		return err
	}
	a.c.say("wrote " + path)
	return nil
}

// beside is a.out with another ending.
func (a *applied) beside(ending string) string {
	return strings.TrimSuffix(a.out, filepath.Ext(a.out)) + ending
}

// table writes rows of numbers under a head.
func (a *applied) table(path string, head []string, rows [][]float64) error {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.Write(head)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, v := range row {
			cells[i] = strconv.FormatFloat(v, 'g', 9, 64)
		}
		w.Write(cells)
	}
	w.Flush()
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		return err
	}
	a.c.say("wrote " + path)
	return nil
}

func energyTask(c *common) *cobra.Command {
	var name string
	var limit int
	cmd, _ := c.task("energy", "Energy and score of every example, as a table",
		`Write a row for every example: its number, its class (-1 without one), its energy
U and its score f. Low energy is likely; the reference density is part of U and
not of f, so that f ranks the network's own opinion. Both are up to a constant.
Where the system has a judgement of its own, such as a likelihood, it is a column
more, or instead where no energy is learned.`,
		"ebmrun apply energy runs/mnist --data fashion-mnist -o energies.csv",
		func(ctx context.Context, a *applied) error {
			set, err := a.examples(ctx, name, limit)
			if err != nil {
				return err
			}
			head, rows := []string{"example", "class"}, make([][]float64, set.N)
			for i := range rows {
				rows[i] = []float64{float64(i), -1}
				if set.Labels != nil {
					rows[i][1] = float64(set.Labels[i])
				}
			}
			add := func(name string, v func(i int) float64) {
				head = append(head, name)
				for i := range rows {
					rows[i] = append(rows[i], v(i))
				}
			}
			if a.e != nil {
				u, f, err := a.energies(ctx, set)
				if err != nil {
					return err
				}
				add("energy", func(i int) float64 { return float64(u[i]) })
				add("score", func(i int) float64 { return float64(f[i]) })
				mean, sd := moments(u)
				fmt.Fprintf(c.out, "%d examples of %s: energy %.5g ± %.4g\n", set.N, set.Name, mean, sd)
			}
			if s, ok := a.Learned.(training.Scorer); ok {
				what, v, err := s.Score(ctx, set.X(), c.seed)
				if err != nil {
					return err
				}
				add(what, func(i int) float64 { return v[i] })
				mean, sd := moments(v)
				fmt.Fprintf(c.out, "%d examples of %s: %s %.5g ± %.4g\n", set.N, set.Name, what, mean, sd)
			}
			return a.table(a.out, head, rows)
		})
	cmd.Flags().StringVar(&name, "data", "", "a name, folder or file (default: held-out examples of the run's data)")
	cmd.Flags().IntVar(&limit, "limit", 1000, "at most so many examples, 0 for all")
	return cmd
}

// energies of all examples, and their scores.
func (a *applied) energies(ctx context.Context, set *data.Set) (u, f []float32, err error) {
	const batch = 64
	x := set.X()
	u, f = make([]float32, set.N), make([]float32, set.N)
	p := a.c.progress("energies", 0, set.N)
	defer p.finish()
	for i := 0; i < set.N; i += batch {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		end := min(i+batch, set.N)
		if err := a.e.Scores(x[i*a.dim:end*a.dim], u[i:end], f[i:end]); err != nil {
			return nil, nil, err
		}
		p.step(end, nil)
	}
	return u, f, nil
}

func moments[T float32 | float64](x []T) (mean, sd float64) {
	for _, v := range x {
		mean += float64(v) / float64(len(x))
	}
	for _, v := range x {
		sd += (float64(v) - mean) * (float64(v) - mean) / float64(len(x))
	}
	return mean, math.Sqrt(sd)
}

// generator is the short run of a learned energy: K noise-free steps.
func (a *applied) generator(steps int) (*shortrun.Generator, error) {
	l := a.Langevin
	if steps > 0 {
		l.Steps = steps
	}
	if err := l.Check(); err != nil {
		return nil, badInput(fmt.Errorf("%s: %w", a.Name, err))
	}
	if a.Bank != nil {
		a.c.log.Warnf("%s was learned with persistent chains: %d steps from noise may not reach its pictures, see --steps", a.Name, l.Steps)
	}
	return &shortrun.Generator{Field: a.e, Kernel: l.Kernel(), K: l.Steps, Dim: a.dim, Sigma: a.Sigma}, nil
}

// starts draws n starts.
func (a *applied) starts(seed uint64, n int) []float32 {
	z := make([]float32, n*a.dim)
	begin(rand.New(rand.NewPCG(seed, 0x73746172)), a.openedRun, z)
	return z
}

// hold is the range of starts, zero where they are Gaussian.
func (a *applied) hold() (h [2]float32) {
	if !a.Gaussian {
		lo, hi := a.Langevin.Clamp[0], a.Langevin.Clamp[1]
		if h = [2]float32{float32(lo), float32(hi)}; lo == hi {
			h = [2]float32{-1, 1}
		}
	}
	return h
}

func interpolateTask(c *common) *cobra.Command {
	var from, to uint64
	var n, steps int
	cmd, _ := c.task("interpolate", "A strip of pictures between two starts",
		`Write a strip of pictures on the way from the draw of seed --from to that of seed
--to. A system with codes walks between two codes at equal angles. An energy alone
takes the K noise-free Langevin steps of short-run learning from starts on the way
(Nijkamp et al., 2019); runs that begin their chains at fresh noise
(chains.init=noise) are made for this.`,
		"ebmrun apply interpolate runs/faces --from 1 --to 2 --frames 11 -o strip.png",
		func(ctx context.Context, a *applied) error {
			if _, err := a.pictures(nil); err != nil {
				return err
			}
			if n < 2 {
				return badInput(fmt.Errorf("--frames: wanted at least 2, got %d", n))
			}
			if l, ok := a.Learned.(training.Interpolator); ok {
				if err := a.unused("steps"); err != nil {
					return err
				}
				x, err := l.Interpolate(ctx, from, to, n)
				if err != nil {
					return err
				}
				return a.strip(a.out, x)
			}
			g, err := a.generator(steps)
			if err != nil {
				return err
			}
			x, err := g.Interpolate(ctx, a.starts(from, 1), a.starts(to, 1), n, a.hold())
			if err != nil {
				return err
			}
			return a.strip(a.out, x)
		})
	fl := cmd.Flags()
	fl.Uint64Var(&from, "from", 1, "seed of the first start")
	fl.Uint64Var(&to, "to", 2, "seed of the last start")
	fl.IntVar(&n, "frames", 11, "pictures, the two ends included")
	fl.IntVar(&steps, "steps", 0, "Langevin steps (default: as in learning)")
	return cmd
}

func reconstructTask(c *common) *cobra.Command {
	var name string
	var n, iters, steps int
	var step float64
	cmd, _ := c.task("reconstruct", "What the model makes of given pictures",
		`Explain given pictures by the model. A system that infers codes writes OUT.png,
the pictures above their reconstructions, OUT-error.csv, the mean squared error of
each, and the codes, if there are any, to OUT-z.npy.

With an energy alone look for starts z whose short runs M(z) end at given pictures, by gradient descent
on the squared error through all Langevin steps (Nijkamp et al., 2019). Besides
OUT.png, with the pictures above their reconstructions and what the first starts
gave, OUT-error.csv and OUT-error.png hold the mean squared error over iterations and
OUT-z.npy the starts.`,
		"ebmrun apply reconstruct runs/faces --data ./pictures -o reconstructed.png",
		func(ctx context.Context, a *applied) error {
			if n < 1 || iters < 1 || !(step > 0) {
				return badInput(fmt.Errorf("--n, --iters and --step: wanted positive numbers, got %d, %d and %g", n, iters, step))
			}
			set, err := a.examples(ctx, name, n)
			if err != nil {
				return err
			}
			if l, ok := a.Learned.(training.Reconstructor); ok {
				if err := a.unused("iters", "step", "steps"); err != nil {
					return err
				}
				return a.explain(ctx, l, set)
			}
			if _, err := a.pictures(set.X()); err != nil {
				return err
			}
			g, err := a.generator(steps)
			if err != nil {
				return err
			}
			z := a.starts(c.seed, set.N)
			first, err := g.Map(ctx, z)
			if err != nil {
				return err
			}
			// Whole searches are short; pieces let progress be seen and keep the best.
			const piece = 10
			p := c.progress("reconstruction", 0, iters)
			var r *shortrun.Reconstruction
			var curve []float64
			for done := 0; done < iters; done += piece {
				if r, err = g.Reconstruct(ctx, set.X(), z, min(piece, iters-done), step); err != nil {
					return err
				}
				z = r.Z
				if curve = append(curve, r.Curve...); done+piece < iters {
					curve = curve[:len(curve)-1] // the next piece begins there
				}
				p.step(min(done+piece, iters), map[string]float64{"mse": curve[len(curve)-1]})
			}
			p.finish()
			rows, at := make([][]float64, len(curve)), make([]float64, len(curve))
			for i, v := range curve {
				at[i], rows[i] = float64(i), []float64{float64(i), v}
			}
			img, err := record.Lines{Title: "reconstruction", XLabel: "iteration", YLabel: "mean squared error",
				Series: []record.Series{{Name: "error", X: at, Y: curve}}}.Image()
			if err := a.write(a.beside("-error.png"), img, err); err != nil {
				return err
			}
			if err := a.table(a.beside("-error.csv"), []string{"iteration", "mse"}, rows); err != nil {
				return err
			}
			if err := data.WriteNPY(a.beside("-z.npy"), r.Z, append([]int{set.N}, a.Dims...)...); err != nil {
				return err
			}
			last := 0.0
			for _, v := range r.Error {
				last += v / float64(set.N)
			}
			fmt.Fprintf(c.out, "%d pictures of %s: mean squared error %.4g at first, %.4g after %d iterations (share %.3f)\n", set.N, set.Name, curve[0], last, iters, last/curve[0])
			return a.strip(a.out, set.X(), r.X, first)
		})
	fl := cmd.Flags()
	fl.StringVar(&name, "data", "", "pictures: a name, folder or file (default: held-out examples of the run's data)")
	fl.IntVar(&n, "n", 8, "pictures at most")
	fl.IntVar(&iters, "iters", 200, "iterations of descent")
	fl.Float64Var(&step, "step", 0.1, "step size of the descent")
	fl.IntVar(&steps, "steps", 0, "Langevin steps (default: as in learning)")
	return cmd
}

// one loads a single picture in the run's size, and says so where that
// changes it.
func (a *applied) one(ctx context.Context, path string) ([]float32, error) {
	d := a.Dims
	if raw, err := data.ReadPictures(path, 0, 0, d[0] == 1, 0); err == nil && (raw.H != d[1] || raw.W != d[2]) {
		a.c.say(fmt.Sprintf("%s: %d×%d pixels, resized to %d×%d", path, raw.H, raw.W, d[1], d[2]))
	}
	set, err := a.examples(ctx, path, 0)
	if err != nil {
		return nil, err
	}
	if set.N != 1 {
		return nil, badInput(fmt.Errorf("%s: wanted one picture, got %d", path, set.N))
	}
	return set.X(), nil
}

func inpaintTask(c *common) *cobra.Command {
	var picture, mask, truth string
	var chains, steps int
	cmd, _ := c.task("inpaint", "Fill the missing pixels of a picture",
		`Fill the pixels of a picture where a mask is white. A system that infers codes
explains the others and fills in what follows from that; an energy alone runs Langevin
dynamics that keeps all others as they are, from noise. Of several chains OUT.png holds
that of lowest energy, or of the best fit where no energy is learned, and OUT-sd.png how
much they differ, per pixel. With --truth the peak signal-to-noise ratio within the hole
is told.`,
		"ebmrun apply inpaint runs/faces --image face.png --mask mask.png --truth face.png -o completed.png",
		func(ctx context.Context, a *applied) error {
			switch {
			case picture == "" || mask == "":
				return badInput(errors.New("wanted --image and --mask"))
			case chains < 1 || steps < 0:
				return badInput(fmt.Errorf("--chains and --steps: wanted at least 1, got %d and %d", chains, steps))
			}
			if _, err := a.pictures(nil); err != nil {
				return err
			}
			known, err := a.one(ctx, picture)
			if err != nil {
				return err
			}
			hole, err := a.mask(mask, picture, 1)
			if err != nil {
				return err
			}
			x, best, err := a.complete(ctx, known, hole, chains, steps)
			if err != nil {
				return err
			}
			mean, sd := acrossChains(x, a.dim)
			if err := a.tell(ctx, truth, hole, x[best*a.dim:(best+1)*a.dim], mean); err != nil {
				return err
			}
			im, err := a.pictures(x[best*a.dim : (best+1)*a.dim])
			if err != nil {
				return err
			}
			img, err := record.Grid(im, 1, 0, 1)
			if err := a.write(a.out, img, err); err != nil {
				return err
			}
			im.Data, im.Lo, im.Hi = sd, 0, max(slices.Max(sd), 1e-6)
			img, err = record.Grid(im, 1, 0, 1)
			return a.write(a.beside("-sd.png"), img, err)
		})
	fl := cmd.Flags()
	fl.StringVar(&picture, "image", "", "picture with missing pixels")
	fl.StringVar(&mask, "mask", "", "picture of the same size, white where pixels are missing")
	fl.StringVar(&truth, "truth", "", "the whole picture, to measure with")
	fl.IntVar(&chains, "chains", 8, "chains")
	fl.IntVar(&steps, "steps", 0, "Langevin steps of an energy alone (default: 10 times those of learning)")
	return cmd
}

// complete fills the hole of one picture in several chains and tells the best of
// them.
func (a *applied) complete(ctx context.Context, known, mask []float32, chains, steps int) (x []float32, best int, err error) {
	pictures, masks := make([]float32, 0, chains*a.dim), make([]float32, 0, chains*a.dim)
	for range chains {
		pictures, masks = append(pictures, known...), append(masks, mask...)
	}
	if a.e == nil || is[training.Reconstructor](a.openedRun) {
		if err := a.unused("steps"); err != nil {
			return nil, 0, err
		}
	}
	y, err := a.recovered(ctx, pictures, masks, steps)
	if err != nil {
		return nil, 0, err
	}
	x = pasted(pictures, y, masks)
	u := make([]float32, chains)
	if a.e != nil {
		err = a.e.EnergyGrad(x, u, make([]float32, len(x)))
	} else { // how far the model is from what is known
		for i, m := range masks {
			u[i/a.dim] += m * (y[i] - pictures[i]) * (y[i] - pictures[i])
		}
	}
	for k, v := range u {
		if v < u[best] {
			best = k
		}
	}
	return x, best, err
}

func visible(missing bool) float32 {
	if missing {
		return 0
	}
	return 1
}

// pasted is what is known of x and elsewhere y.
func pasted(x, y, mask []float32) []float32 {
	out := slices.Clone(x)
	for i, m := range mask {
		if m == 0 {
			out[i] = y[i]
		}
	}
	return out
}

// recovered fills in what masks hide of examples, by the system's own inference
// or, with an energy alone, by Langevin dynamics from noise that keeps the rest.
func (a *applied) recovered(ctx context.Context, x, mask []float32, steps int) ([]float32, error) {
	if l, ok := a.Learned.(training.Reconstructor); ok {
		return l.Reconstruct(ctx, x, mask, a.c.seed)
	}
	l := a.Langevin
	if l.Steps = steps; steps == 0 {
		l.Steps = 10 * a.Langevin.Steps
	}
	if err := l.Check(); err != nil {
		return nil, badInput(fmt.Errorf("%s: %w", a.Name, err))
	}
	return a.fill(ctx, x, mask, l.Kernel(), l.Steps)
}

// fill runs a chain from noise inside the hole of every example.
func (a *applied) fill(ctx context.Context, known, mask []float32, k sampler.Langevin, steps int) ([]float32, error) {
	n := len(known) / a.dim
	x := a.starts(a.c.seed, n)
	k.Project = func(x []float32) {
		for i, m := range mask {
			if m != 0 {
				x[i] = known[i]
			}
		}
	}
	k.Project(x)
	st, err := sampler.NewState(x, a.dim, sampler.Chains(0, n))
	if err != nil {
		return nil, err
	}
	p := a.c.progress("filling in", 0, steps)
	defer p.finish()
	_, err = sampler.Run(ctx, sampler.Noise{Seed: a.c.seed}, k, a.e, st, steps, func(t int, _ sampler.Info) { p.step(t, nil) })
	return st.X, err
}

// acrossChains is the mean and the deviation of each value.
func acrossChains(x []float32, dim int) (mean, sd []float32) {
	n := len(x) / dim
	mean, sd = make([]float32, dim), make([]float32, dim)
	column := make([]float32, n)
	for i := range dim {
		for k := range n {
			column[k] = x[k*dim+i]
		}
		m, s := moments(column)
		mean[i], sd[i] = float32(m), float32(s)
	}
	return mean, sd
}

// tell measures completions inside the hole.
func (a *applied) tell(ctx context.Context, path string, mask, best, mean []float32) error {
	if path == "" {
		return nil
	}
	truth, err := a.one(ctx, path)
	if err != nil {
		return err
	}
	inside := func(x []float32) (out []float32) {
		for i, m := range mask {
			if m == 0 {
				out = append(out, x[i])
			}
		}
		return out
	}
	span := float64(a.Hi - a.Lo)
	of, err := diag.PSNR(inside(truth), inside(best), span)
	if err != nil {
		return err
	}
	ofMean, err := diag.PSNR(inside(truth), inside(mean), span)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.c.out, "hole of %d values: PSNR %.2f dB, %.2f dB for the mean of the chains\n", len(inside(truth)), of, ofMean)
	return nil
}

func longrunTask(c *common) *cobra.Command {
	var name, from string
	var n, steps int
	cmd, _ := c.task("longrun", "Tell whether long chains stay with the data",
		`Run chains ten times as long as in learning, from data or from the run's chains, and
tell whether they stay where the data is (convergent learning) or leave it, as those of
short-run learning do (Nijkamp et al., 2020). OUT.png shows the chains at the end;
OUT-steps.csv and OUT-steps.png hold mean energy, deviation and saturation over the steps.

The verdict compares the end with the data: it is "convergent" where the mean energy
lies within two deviations of the data's energies, the share of saturated values within
0.1, and the deviation of values and the distance between examples within 30 percent.
It tells too where the energy still moves at the end: then more --steps may tell more.`,
		"ebmrun apply longrun runs/mnist --n 64 -o long.png",
		func(ctx context.Context, a *applied) error { return a.longrun(ctx, name, from, n, steps) })
	fl := cmd.Flags()
	fl.StringVar(&name, "data", "", "data to begin with and to compare with (default: held-out examples of the run's)")
	fl.StringVar(&from, "from", "data", "where chains start: data or chains")
	fl.IntVar(&n, "n", 64, "chains")
	fl.IntVar(&steps, "steps", 0, "Langevin steps (default: 10 times those of learning)")
	return cmd
}

// state is what is compared of chains and data.
type state struct{ energy, energySD, sd, diversity, saturation float64 }

func (a *applied) stateOf(x []float32) (s state, err error) {
	n := len(x) / a.dim
	u := make([]float32, n)
	if err := a.e.EnergyGrad(x, u, make([]float32, len(x))); err != nil {
		return s, err
	}
	s.energy, s.energySD = moments(u)
	_, s.sd = moments(x)
	if s.diversity, err = diag.Diversity(x, a.dim); err != nil {
		return s, err
	}
	if a.Lo < a.Hi {
		middle, half := (a.Lo+a.Hi)/2, float64(a.Hi-a.Lo)/2
		centred := make([]float32, len(x))
		for i, v := range x {
			centred[i] = v - middle
		}
		s.saturation = diag.Saturation(centred, 0.99*half)
	}
	return s, nil
}

// differences says how chains have left the data; none means that they have not.
func (s state) differences(of state) (out []string) {
	if d := math.Abs(s.energy - of.energy); !(d <= 2*of.energySD) {
		out = append(out, fmt.Sprintf("mean energy %.4g, of data %.4g ± %.3g", s.energy, of.energy, of.energySD))
	}
	if d := math.Abs(s.saturation - of.saturation); !(d <= 0.1) {
		out = append(out, fmt.Sprintf("%.0f %% of values saturated, of data %.0f %%", 100*s.saturation, 100*of.saturation))
	}
	if r := s.sd / of.sd; !(r >= 0.7 && r <= 1.3) {
		out = append(out, fmt.Sprintf("deviation %.3g, of data %.3g", s.sd, of.sd))
	}
	if r := s.diversity / of.diversity; !(r >= 0.7 && r <= 1.3) {
		out = append(out, fmt.Sprintf("distance between examples %.3g, of data %.3g", s.diversity, of.diversity))
	}
	return out
}

func (a *applied) longrun(ctx context.Context, name, from string, n, steps int) error {
	if from != "data" && from != "chains" || n < 2 || steps < 0 {
		return badInput(fmt.Errorf("--from, --n and --steps: wanted data or chains, at least 2, and no negative number; got %q, %d, %d", from, n, steps))
	}
	l := a.Langevin
	if l.Steps = steps; steps == 0 {
		l.Steps = 10 * a.Langevin.Steps
	}
	if err := l.Check(); err != nil {
		return badInput(fmt.Errorf("%s: %w", a.Name, err))
	}
	set, err := a.examples(ctx, name, n)
	if err != nil {
		return err
	}
	of, err := a.stateOf(set.X())
	if err != nil {
		return err
	}
	x := append([]float32(nil), set.X()...)
	if from == "chains" {
		if len(a.Bank) < n*a.dim {
			return badInput(fmt.Errorf("--from chains: the run keeps %d chains, --n asks for %d", len(a.Bank)/a.dim, n))
		}
		x = append(x[:0], a.Bank[:n*a.dim]...)
	}
	st, err := sampler.NewState(x, a.dim, sampler.Chains(0, len(x)/a.dim))
	if err != nil {
		return err
	}
	a.c.say(fmt.Sprintf("%d chains from %s, %s", st.Len(), from, l))
	p := a.c.progress("long run", 0, l.Steps)
	var rows [][]float64
	every := max(1, l.Steps/100)
	var last state
	for done := 0; ; done += every {
		if last, err = a.stateOf(st.X); err != nil {
			return err
		}
		rows = append(rows, []float64{float64(min(done, l.Steps)), last.energy, last.sd, last.saturation})
		if done >= l.Steps {
			break
		}
		_, err := sampler.Run(ctx, sampler.Noise{Seed: a.c.seed}, l.Kernel(), a.e, st, min(every, l.Steps-done), nil)
		var bad *sampler.NonFiniteError
		if errors.As(err, &bad) {
			last.energy = math.NaN()
			rows = append(rows, []float64{float64(done), math.NaN(), last.sd, last.saturation})
			break
		}
		if err != nil {
			return err
		}
		p.step(min(done+every, l.Steps), map[string]float64{"U": last.energy})
	}
	p.finish()
	if err := a.courses(rows); err != nil {
		return err
	}
	img, err := samplePicture(st.X, a.Dims, a.Lo, a.Hi)
	if err := a.write(a.out, img, err); err != nil {
		return err
	}
	verdict := "convergent: the chains stay with the data"
	if d := last.differences(of); len(d) > 0 {
		verdict = "non-convergent: " + strings.Join(d, "; ")
	} else if moved := last.energy - rows[len(rows)*3/4][1]; math.Abs(moved) > 0.1*of.energySD {
		verdict += fmt.Sprintf(", but their energy still moves, by %.2g in the last quarter", moved)
	}
	_, err = fmt.Fprintf(a.c.out, "%d steps from %s: %s\n", l.Steps, from, verdict)
	return err
}

// courses writes how chains went.
func (a *applied) courses(rows [][]float64) error {
	column := func(k int) (y []float64) {
		for _, r := range rows {
			y = append(y, r[k])
		}
		return y
	}
	img, err := record.Lines{Title: "long run", XLabel: "step", YLabel: "mean energy", Series: []record.Series{{Name: "energy", X: column(0), Y: column(1)}}}.Image()
	if err := a.write(a.beside("-steps.png"), img, err); err != nil {
		return err
	}
	return a.table(a.beside("-steps.csv"), []string{"step", "energy", "deviation", "saturation"}, rows)
}
