package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/spf13/cobra"

	"ebmrun/graphs"
	"ebmrun/training"
	"ebmrun/training/data"
)

// explain writes pictures above what the system makes of them, with the error of
// each and the codes, if there are any.
func (a *applied) explain(ctx context.Context, l training.Reconstructor, set *data.Set) error {
	var y, z []float32
	var err error
	if coder, ok := a.Learned.(interface {
		training.Encoder
		Decode(ctx context.Context, z []float32) ([]float32, error)
	}); ok {
		if z, err = coder.Encode(ctx, set.X(), nil, a.c.seed); err == nil {
			y, err = coder.Decode(ctx, z)
		}
	} else {
		y, err = l.Reconstruct(ctx, set.X(), nil, a.c.seed)
	}
	if err != nil {
		return err
	}
	errs := a.errors(set.X(), y, nil)
	rows := make([][]float64, set.N)
	for i, e := range errs {
		rows[i] = []float64{float64(i), e}
	}
	if err := a.table(a.beside("-error.csv"), []string{"example", "mse"}, rows); err != nil {
		return err
	}
	if z != nil {
		path := a.beside("-z.npy")
		if err := data.WriteNPY(path, z, set.N, len(z)/set.N); err != nil {
			return err
		}
		a.c.say("wrote " + path)
	}
	mean := average(errs)
	fmt.Fprintf(a.c.out, "%d examples of %s: mean squared error %.4g%s\n", set.N, set.Name, mean, a.decibels(mean))
	return a.show(a.out, set.X(), y)
}

// errors are the mean squared differences of each example, where mask is 0 or,
// without a mask, everywhere.
func (a *applied) errors(x, y, mask []float32) []float64 {
	sum, count := make([]float64, len(x)/a.dim), make([]float64, len(x)/a.dim)
	for i := range x {
		if mask == nil || mask[i] == 0 {
			d := float64(x[i]) - float64(y[i])
			sum[i/a.dim] += d * d
			count[i/a.dim]++
		}
	}
	for i := range sum {
		sum[i] /= max(count[i], 1)
	}
	return sum
}

func average(x []float64) (mean float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	return mean
}

// decibels is a mean squared error as a peak signal-to-noise ratio, where values
// have a range.
func (a *applied) decibels(mse float64) string {
	span := float64(a.Hi - a.Lo)
	if span <= 0 {
		return ""
	}
	return fmt.Sprintf(", PSNR %.2f dB", 10*math.Log10(span*span/mse))
}

// show writes rows of pictures, or one scatter plot for points of the plane.
func (a *applied) show(path string, rows ...[]float32) error {
	if len(a.Dims) == 3 {
		return a.strip(path, rows...)
	}
	img, err := a.shown(rows...)
	return a.write(path, img, err)
}

func recoverTask(c *common) *cobra.Command {
	var name, mask, truth string
	var n, steps int
	var hidden float64
	cmd, _ := c.task("recover", "Reconstruct incomplete pictures",
		`Reconstruct pictures of which parts are missing: what is visible is explained by the
model, and the rest follows from that (an energy alone fills it in with Langevin
dynamics). Either --hidden says how large a share of the pixels to hide, at random and
in each picture anew, or --mask names one picture, or one for every picture, that is
white where pixels are missing.

OUT.png holds a row of incomplete pictures, missing pixels in grey, and a row of
recovered ones, above the truth where it is known: it is with --hidden, or from --truth.
Then the mean squared error of the missing pixels is told, and OUT-error.csv has that of
each picture.`,
		"ebmrun apply recover runs/faces --hidden 0.5 -o recovered.png",
		func(ctx context.Context, a *applied) error {
			switch {
			case (mask == "") == !a.flags.Changed("hidden"):
				return badInput(errors.New("wanted either --hidden SHARE or --mask FILE"))
			case mask == "" && !(hidden > 0 && hidden < 1):
				return badInput(fmt.Errorf("--hidden: wanted a share between 0 and 1, got %g", hidden))
			case n < 1 || steps < 0:
				return badInput(fmt.Errorf("--n and --steps: wanted positive numbers, got %d and %d", n, steps))
			}
			if is[training.Reconstructor](a.openedRun) {
				if err := a.unused("steps"); err != nil {
					return err
				}
			}
			set, err := a.examples(ctx, name, n)
			if err != nil {
				return err
			}
			whole := set.X()
			var known []float32
			if mask == "" {
				known = a.hide(set.N, hidden)
			} else {
				if known, err = a.mask(mask, name, set.N); err != nil {
					return err
				}
				if whole = nil; truth != "" {
					t, err := a.examples(ctx, truth, n)
					if err != nil {
						return err
					}
					if t.N != set.N {
						return badInput(fmt.Errorf("--truth %s: wanted %d pictures, as many as --data gives, got %d", truth, set.N, t.N))
					}
					whole = t.X()
				}
			}
			x := slices.Clone(set.X())
			for i, m := range known {
				if m == 0 {
					x[i] = (a.Lo + a.Hi) / 2 // nothing of the truth can leak
				}
			}
			y, err := a.recovered(ctx, x, known, steps)
			if err != nil {
				return err
			}
			y = pasted(x, y, known)
			rows := [][]float32{x, y}
			if whole != nil {
				rows = append(rows, whole)
				if err := a.tellRecovery(set, whole, y, known); err != nil {
					return err
				}
			}
			return a.show(a.out, rows...)
		})
	fl := cmd.Flags()
	fl.StringVar(&name, "data", "", "incomplete pictures: a name, folder or file (default: held-out examples of the run's data)")
	fl.Float64Var(&hidden, "hidden", 0.5, "share of the pixels to hide")
	fl.StringVar(&mask, "mask", "", "picture, or folder of as many pictures, white where pixels are missing")
	fl.StringVar(&truth, "truth", "", "with --mask: the whole pictures, to measure with")
	fl.IntVar(&n, "n", 8, "pictures at most")
	fl.IntVar(&steps, "steps", 0, "Langevin steps of an energy alone (default: 10 times those of learning)")
	return cmd
}

func (a *applied) tellRecovery(set *data.Set, whole, y, known []float32) error {
	rows, total, holes := make([][]float64, set.N), 0.0, 0
	for i, e := range a.errors(whole, y, known) {
		missing := 0
		for _, m := range known[i*a.dim : (i+1)*a.dim] {
			if m == 0 {
				missing++
			}
		}
		rows[i] = []float64{float64(i), float64(missing), e}
		total, holes = total+e*float64(missing), holes+missing
	}
	mse := total / float64(holes)
	fmt.Fprintf(a.c.out, "%d examples of %s, %.0f %% missing: mean squared error %.4g of what is missing%s\n",
		set.N, set.Name, 100*float64(holes)/float64(len(known)), mse, a.decibels(mse))
	return a.table(a.beside("-error.csv"), []string{"example", "missing", "mse"}, rows)
}

// hide draws a mask for each of n examples, 1 where a pixel stays visible, in
// all channels alike.
func (a *applied) hide(n int, share float64) []float32 {
	pixels := a.dim
	if len(a.Dims) == 3 {
		pixels = a.Dims[1] * a.Dims[2]
	}
	rng := rand.New(rand.NewPCG(a.c.seed, 0x68696465))
	mask := make([]float32, n*a.dim)
	for i := range n {
		for p := range pixels {
			v := visible(rng.Float64() < share)
			for at := p; at < a.dim; at += pixels {
				mask[i*a.dim+at] = v
			}
		}
	}
	return mask
}

// mask reads the masks of n examples, one for all or one each, white where
// pixels are missing. It is 1 where a value is known. A mask has the size of the
// run's pictures, or of the files that it belongs to, which are resized alike.
func (a *applied) mask(path, pictures string, n int) ([]float32, error) {
	if _, err := a.pictures(nil); err != nil {
		return nil, err
	}
	d := a.Dims
	raw, err := data.ReadPictures(path, 0, 0, true, 0)
	if err != nil {
		return nil, badInput(err)
	}
	if raw.H != d[1] || raw.W != d[2] {
		of, err := data.ReadPictures(pictures, 0, 0, true, 1)
		if pictures == "" || err != nil || of.H != raw.H || of.W != raw.W {
			wanted := fmt.Sprintf("%d×%d as %s takes them", d[1], d[2], a.Name)
			if pictures != "" && err == nil {
				wanted = fmt.Sprintf("%d×%d as %s, or %s", of.H, of.W, pictures, wanted)
			}
			return nil, badInput(fmt.Errorf("%s: a mask of %d×%d pixels, wanted %s", path, raw.H, raw.W, wanted))
		}
		if raw, err = data.ReadPictures(path, d[1], d[2], true, 0); err != nil {
			return nil, badInput(err)
		}
	}
	if raw.N != 1 && raw.N != n {
		return nil, badInput(fmt.Errorf("%s: %d masks for %d pictures, wanted one, or one each", path, raw.N, n))
	}
	mask := make([]float32, 0, n*a.dim)
	for i := range n {
		count := 0
		for range d[0] {
			for _, v := range raw.At(i % raw.N) {
				mask = append(mask, visible(v > 0))
				if v > 0 {
					count++
				}
			}
		}
		if count == 0 || count == a.dim {
			return nil, badInput(fmt.Errorf("%s: wanted white where pixels are missing and black elsewhere, got one colour only", path))
		}
	}
	return mask, nil
}

func manifoldTask(c *common) *cobra.Command {
	var axes []int
	var side int
	var reach float64
	var around uint64
	cmd, _ := c.task("manifold", "A grid of what codes along two axes give",
		`Write a grid of what the generator makes of codes whose entries --axes go from
-REACH to REACH, the first to the right and the second downwards. With more than two
codes the others are those of the draw of seed --around, or zero for seed 0.`,
		"ebmrun apply manifold runs/faces --side 8 -o manifold.png",
		func(ctx context.Context, a *applied) error {
			g := a.Learned.(training.Decoder)
			d := g.Codes()
			switch {
			case side < 2 || !(reach > 0):
				return badInput(fmt.Errorf("--side and --reach: wanted at least 2 and a positive number, got %d and %g", side, reach))
			case len(axes) != 2 || axes[0] == axes[1] || min(axes[0], axes[1]) < 0 || max(axes[0], axes[1]) >= d:
				return badInput(fmt.Errorf("--axes: wanted two different ones of the run's codes 0 … %d, got %v", d-1, axes))
			}
			base := make([]float32, d)
			if around != 0 {
				base = training.Codes(around, 1, d)
			}
			z := make([]float32, 0, side*side*d)
			at := func(i int) float32 { return float32(reach * (2*float64(i)/float64(side-1) - 1)) }
			for i := range side * side {
				code := slices.Clone(base)
				code[axes[0]], code[axes[1]] = at(i%side), at(i/side)
				z = append(z, code...)
			}
			x, err := g.Decode(ctx, z)
			if err != nil {
				return err
			}
			img, err := samplePicture(x, a.Dims, a.Lo, a.Hi)
			return a.write(a.out, img, err)
		})
	fl := cmd.Flags()
	fl.IntSliceVar(&axes, "axes", []int{0, 1}, "the two codes that vary")
	fl.IntVar(&side, "side", 8, "pictures a row, and rows")
	fl.Float64Var(&reach, "reach", 2, "largest value of the two codes")
	fl.Uint64Var(&around, "around", 0, "seed of the draw that gives the other codes, 0 for zeros")
	return cmd
}

// returning is the way back of a translator.
type returning struct{ r training.Returner }

func (t returning) Translate(ctx context.Context, source []float32, seed uint64) ([]float32, error) {
	return t.r.Return(ctx, source, seed)
}

func translateTask(c *common) *cobra.Command {
	var name, depth string
	var n int
	var back bool
	cmd, _ := c.task("translate", "Map examples of one domain to another",
		`Map the examples of --data, in the domain that the system translates from, to the
other one, or with --back from that one. OUT.png holds them above their translations; OUT.npy the translations in the
scale of learning.

Saliency maps are means of several draws. OUT-deviation.npy holds how far the draws
deviate, as chances from 0 to 0.5, and OUT.png a row of it, white where it is 0.5;
generative-swin adds OUT-entropy.npy, and its parts OUT-aleatoric.npy, what the picture
leaves open, and OUT-epistemic.npy, what the code leaves open, in nats.

Where --out is a folder (it exists, or ends in a slash) every picture of --data has its translation
there, under its name and in its size, and how far draws deviate in OUT-deviation, white
where it is 0.5. A picture is stretched to the size of learning and what comes of it back.`,
		`ebmrun apply translate runs/edges --data ./edges -o translated.png
  ebmrun apply translate runs/maps --data ./pictures -o maps/`,
		func(ctx context.Context, a *applied) error {
			l := a.Learned.(training.Translator)
			if n < 1 {
				return badInput(fmt.Errorf("--n: wanted at least 1, got %d", n))
			}
			if back {
				r, ok := l.(training.Returner)
				if !ok {
					return a.unused("back")
				}
				l = returning{r}
				if a.From != nil {
					a.From, a.Dims = a.Dims, a.From
					a.dim = graphs.Size(a.Dims)
				}
			}
			if a.toFolder() {
				if !a.flags.Changed("n") {
					n = 0
				}
				return a.translateEach(ctx, l, name, depth, n)
			}
			source, truth, err := a.sources(ctx, name, depth, n)
			if err != nil {
				return err
			}
			y, doubts, err := translated(ctx, l, source, c.seed)
			if err != nil {
				return err
			}
			files := map[string][]float32{".npy": y}
			for what, x := range doubts {
				files["-"+what+".npy"] = x
			}
			for _, ending := range slices.Sorted(maps.Keys(files)) {
				path, x := a.beside(ending), files[ending]
				if err := data.WriteNPY(path, x, append([]int{len(x) / a.dim}, a.Dims...)...); err != nil {
					return err
				}
				c.say("wrote " + path)
			}
			return a.translations(source, y, truth, doubts["deviation"])
		})
	fl := cmd.Flags()
	fl.StringVar(&name, "data", "", "what to translate: a name, folder or file; of pairs, what is given (default: held-out pairs of the run's data)")
	fl.StringVar(&depth, "depth", "", "folder of how near is what the pictures of --data show, where the run has learned with depth")
	fl.IntVar(&n, "n", 8, "examples at most (into a folder: all)")
	fl.BoolVar(&back, "back", false, "from the second domain to the first")
	return cmd
}
