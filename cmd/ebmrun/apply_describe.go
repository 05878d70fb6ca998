package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/record"
	"ebmrun/training/sparseframe"
)

// energyOf is the energy whose hidden layers describe examples: the run's own, or that of its finest grid.
func (r *openedRun) energyOf() (*onnxmodels.Model, error) {
	if r.Model != nil {
		return r.Model, nil
	}
	if m := r.Networks["energy"]; m != nil {
		return onnxmodels.Of(m)
	}
	return nil, errors.New("no energy is learned")
}

func describes(r *openedRun) bool {
	return is[training.Describer](r) || r.Model != nil || r.Networks["energy"] != nil
}

// A hidden layer describes examples.
type hidden struct {
	runtime.Program
	dims []int
}

// Describe implements [training.Describer].
func (h hidden) Describe(ctx context.Context, x []float32) (out []float32, err error) {
	dim := graphs.Size(h.dims)
	return out, training.Blocks(len(x)/dim, training.Block, func(first, end int) error {
		in := graphs.NewTensor(graphs.Float32, append([]int{end - first}, h.dims...)...)
		copy(in.F32(), x[first*dim:end*dim])
		y := make([]*graphs.Tensor, 1)
		if err := h.Run(ctx, []*graphs.Tensor{in}, y); err != nil {
			return err
		}
		out = append(out, y[0].F32()...)
		return nil
	})
}

// describer is the system itself where it describes examples, or else a hidden layer of its energy. The caller
// calls free.
func (a *applied) describer(ctx context.Context, layer string) (d training.Describer, free func() error, err error) {
	if d, ok := a.Learned.(training.Describer); ok {
		return d, func() error { return nil }, a.unused("layer")
	}
	m, err := a.energyOf()
	if err != nil {
		return nil, nil, badInput(err)
	}
	cut, err := energy.Hidden(m, layer)
	if err != nil {
		return nil, nil, badInput(err)
	}
	engine, err := a.c.engine(ctx)
	if err != nil {
		return nil, nil, err
	}
	p, err := engine.Compile(ctx, cut, a.c.options())
	if err != nil {
		return nil, nil, err
	}
	return hidden{p, m.Dims}, p.Close, nil
}

const layerHelp = "`value` of the energy's graph to describe examples by (default: what its last layer takes)"

func featuresTask(c *common) *cobra.Command {
	var name, layer string
	var limit int
	cmd, _ := c.task("features", "Features of every example, as an array",
		`Write features [examples, d] to an .npy file, for another learner to use: those that
the system's paper gives, or the units of a hidden layer of its energy.`,
		"ebmrun apply features runs/mnist --data mnist -o features.npy",
		func(ctx context.Context, a *applied) error {
			set, err := a.examples(ctx, name, limit)
			if err != nil {
				return err
			}
			d, free, err := a.describer(ctx, layer)
			if err != nil {
				return err
			}
			x, err := d.Describe(ctx, set.X())
			if err = errors.Join(err, free()); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "%d features of each of %d examples of %s\n", len(x)/set.N, set.N, set.Name)
			return data.WriteNPY(a.out, x, set.N, len(x)/set.N)
		})
	cmd.Flags().StringVar(&name, "data", "", "a name, folder or file (default: held-out examples of the run's data)")
	cmd.Flags().StringVar(&layer, "layer", "", layerHelp)
	cmd.Flags().IntVar(&limit, "limit", 1000, "at most so many examples, 0 for all")
	return cmd
}

func classifyTask(c *common) *cobra.Command {
	var name, layer string
	var labelled, tested int
	var l2 float64
	cmd, _ := c.task("classify", "How well a linear classifier does on the features",
		`Fit a linear classifier (multinomial logistic regression) to the features of labelled
examples and tell how often it is right on others, beside one that is fitted to the
examples' values as they are. OUT.csv has the class of every test example, true and given.

The data's own labels are used: of the run's data, or of --data, which is cut into
examples to learn from and to test on.`,
		"ebmrun apply classify runs/mnist --labelled 500 -o classes.csv",
		func(ctx context.Context, a *applied) error {
			if labelled < 2 || tested < 1 || !(l2 >= 0) {
				return badInput(fmt.Errorf("--labelled, --tested and --l2: wanted at least 2, at least 1 and no negative number, got %d, %d and %g", labelled, tested, l2))
			}
			learn, test, err := a.labelled(ctx, name, labelled, tested)
			if err != nil {
				return err
			}
			d, free, err := a.describer(ctx, layer)
			if err != nil {
				return err
			}
			x, err := d.Describe(ctx, learn.X())
			var y []float32
			if err == nil {
				y, err = d.Describe(ctx, test.X())
			}
			if err = errors.Join(err, free()); err != nil {
				return err
			}
			classes := slices.Max(learn.Labels) + 1
			accuracy := func(x, y []float32) ([]int, float64, error) {
				p, err := diag.FitProbe(x, learn.Labels, classes, l2)
				if err != nil {
					return nil, 0, err
				}
				got := p.Classify(y)
				return got, diag.Accuracy(got, test.Labels), nil
			}
			got, share, err := accuracy(x, y)
			if err != nil {
				return err
			}
			_, plain, err := accuracy(learn.X(), test.X())
			if err != nil {
				return err
			}
			fmt.Fprintf(c.out, "%d examples of %s to learn from, %d to test: accuracy %.4f by %d features, %.4f by the %d values themselves\n",
				learn.N, learn.Name, test.N, share, len(x)/learn.N, plain, learn.Dim())
			rows := make([][]float64, test.N)
			for i, k := range got {
				rows[i] = []float64{float64(i), float64(test.Labels[i]), float64(k)}
			}
			return a.table(a.out, []string{"example", "class", "given"}, rows)
		})
	cmd.Flags().StringVar(&name, "data", "", "a name, folder or file with labels (default: the run's data)")
	cmd.Flags().StringVar(&layer, "layer", "", layerHelp)
	cmd.Flags().IntVar(&labelled, "labelled", 1000, "examples to learn from")
	cmd.Flags().IntVar(&tested, "tested", 1000, "examples to test, at most")
	cmd.Flags().Float64Var(&l2, "l2", 0.01, "strength of the prior of the classifier's weights, as a share of one example's loss")
	return cmd
}

// labelled are examples with labels to learn from and others to test on. They are drawn at random, since
// many sets are sorted by class.
func (a *applied) labelled(ctx context.Context, name string, learn, test int) (*data.Set, *data.Set, error) {
	var sets []*data.Set
	for _, part := range []string{"train", "test"} {
		set, err := a.part(ctx, name, part, 0)
		if err != nil {
			return nil, nil, err
		}
		if set.Labels == nil {
			return nil, nil, badInput(fmt.Errorf("%s has no labels", set.Name))
		}
		order := a.order(set.N)
		if set, err = set.Subset(order[:min(len(order), []int{learn, test}[len(sets)])]); err != nil {
			return nil, nil, err
		}
		sets = append(sets, set)
	}
	return sets[0], sets[1], nil
}

func clusterTask(c *common) *cobra.Command {
	var name string
	var k, limit int
	cmd, _ := c.task("cluster", "Sort examples into clusters",
		`Sort the examples into clusters and write a row for each: its number, its class (-1
without one) and its cluster. Where classes are known the clusters' purity is told.
A hierarchical sparse FRAME run has learned its clusters; a sparse FRAME run lends its
settings, and templates of --k clusters of the given examples are learned by EM.`,
		"ebmrun apply cluster runs/animals --data animals --limit 100 -o clusters.csv",
		func(ctx context.Context, a *applied) error {
			if k < 0 {
				return badInput(fmt.Errorf("--k: wanted 0 or more, got %d", k))
			}
			set, err := a.examples(ctx, name, limit)
			if err != nil {
				return err
			}
			of, err := a.Learned.(training.Clusterer).Cluster(ctx, set.X(), k, c.seed)
			if err != nil {
				return badInput(err)
			}
			rows := make([][]float64, set.N)
			for i, q := range of {
				rows[i] = []float64{float64(i), -1, float64(q)}
				if set.Labels != nil {
					rows[i][1] = float64(set.Labels[i])
				}
			}
			purity := ""
			if set.Labels != nil {
				purity = fmt.Sprintf(", purity %.3f", diag.Purity(of, set.Labels))
			}
			fmt.Fprintf(c.out, "%d examples of %s in %d clusters%s\n", set.N, set.Name, slices.Max(of)+1, purity)
			return a.table(a.out, []string{"example", "class", "cluster"}, rows)
		})
	cmd.Flags().StringVar(&name, "data", "", "a name, folder or file (default: held-out examples of the run's data)")
	cmd.Flags().IntVar(&k, "k", 0, "so many clusters (default: as many as were learned)")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many examples, 0 for all")
	return cmd
}

// pictureTask is a task on a few pictures, of --data or held out.
func (c *common) pictureTask(verb, short, long, example string, do func(context.Context, *applied, *data.Set) error) *cobra.Command {
	var name string
	var n int
	cmd, _ := c.task(verb, short, long, example,
		func(ctx context.Context, a *applied) error {
			if n < 1 {
				return badInput(fmt.Errorf("--n: wanted at least 1, got %d", n))
			}
			set, err := a.examples(ctx, name, n)
			if err != nil {
				return err
			}
			return do(ctx, a, set)
		})
	cmd.Flags().StringVar(&name, "data", "", "pictures: a name, folder or file (default: held-out examples of the run's data)")
	cmd.Flags().IntVar(&n, "n", 8, "pictures at most")
	return cmd
}

func detectTask(c *common) *cobra.Command {
	return c.pictureTask("detect", "Find the object in each picture, and its parts",
		`Find the template and the pose that fit each picture best. OUT.png holds the pictures
above the same with the outlines of the object and its parts; OUT.json has for each the
kind, the score, the turn, the scale and the corners (y, x) in pixels of the run's size.`,
		"ebmrun apply detect runs/faces --data ./pictures -o found.png",
		func(ctx context.Context, a *applied, set *data.Set) error {
			found, err := a.Learned.(training.Detector).Detect(ctx, set.X())
			if err != nil {
				return err
			}
			text, err := json.MarshalIndent(found, "", "  ")
			if err != nil {
				return err
			}
			path := a.beside(".json")
			if err := os.WriteFile(path, append(text, '\n'), 0o666); err != nil {
				return err
			}
			c.say("wrote " + path)
			drawn := slices.Clone(set.X())
			for i, f := range found {
				x := drawn[i*a.dim : (i+1)*a.dim]
				for j, corners := range append([][4][2]float64{f.Outline}, f.Parts...) {
					outlineOn(x, set.H, set.W, corners, []float32{a.Hi, a.Lo + 0.75*(a.Hi-a.Lo)}[min(j, 1)])
				}
			}
			return a.strip(a.out, set.X(), drawn)
		})
}

// outlineOn draws a closed line through corners (y, x).
func outlineOn(x []float32, h, w int, corners [4][2]float64, value float32) {
	for k, a := range corners {
		b := corners[(k+1)%4]
		line := make([]float32, h*w)
		sparseframe.Line(line, h, w, a[0], a[1], b[0], b[1], 1)
		for i, v := range line {
			if v > 0 {
				x[i] = value
			}
		}
	}
}

func sketchTask(c *common) *cobra.Command {
	return c.pictureTask("sketch", "Draw what explains pictures",
		`Draw the wavelets that were selected as bars, where they have moved to in each of the
pictures. OUT.png holds the pictures above their sketches.`,
		"ebmrun apply sketch runs/faces -o sketch.png",
		func(ctx context.Context, a *applied, set *data.Set) error {
			x, err := a.Learned.(training.Sketcher).Sketch(ctx, set.X())
			if err != nil {
				return err
			}
			for i, v := range x {
				x[i] = a.Lo + v*(a.Hi-a.Lo)
			}
			return a.strip(a.out, set.X(), x)
		})
}

func partsTask(c *common) *cobra.Command {
	cmd, _ := c.task("parts", "Show what the model is made of",
		`Write pictures of what was learned: the templates' wavelets as bars and samples of them
and of each of their parts. The name of every picture goes between OUT and its ending.`,
		"ebmrun apply parts runs/faces -o faces.png",
		func(ctx context.Context, a *applied) error {
			pics, err := a.Learned.(training.Illustrator).Illustrate(ctx, c.seed)
			if err != nil {
				return err
			}
			for _, p := range pics {
				rows := p.Rows
				if rows == nil {
					rows = []record.Images{p.Images}
				}
				img, err := record.Strip(2, 2, rows...)
				if err := a.write(a.beside("-"+p.Tag+".png"), img, err); err != nil {
					return err
				}
			}
			return nil
		})
	return cmd
}

func statisticsTask(c *common) *cobra.Command {
	var name string
	var limit int
	cmd, _ := c.task("statistics", "What the model matches, in data and in its draws",
		`Write a row for each statistic that the model matches, such as the mean response of a
filter: its name, its mean in the examples and in as many draws of the model. The sum of
all differences, as a share of the sum of the examples' means, is told.`,
		"ebmrun apply statistics runs/grass -o statistics.csv",
		func(ctx context.Context, a *applied) error {
			set, err := a.part(ctx, name, "", limit)
			if err != nil {
				return err
			}
			names, observed, drawn, err := a.Learned.(training.Statistician).Statistics(ctx, set.X(), c.seed)
			if err != nil {
				return err
			}
			text, gap, size := "statistic,observed,drawn\n", 0.0, 0.0
			for i, n := range names {
				text += fmt.Sprintf("%s,%s,%s\n", strconv.Quote(n), strconv.FormatFloat(observed[i], 'g', 9, 64), strconv.FormatFloat(drawn[i], 'g', 9, 64))
				gap, size = gap+max(observed[i]-drawn[i], drawn[i]-observed[i]), size+max(observed[i], -observed[i])
			}
			fmt.Fprintf(c.out, "%d statistics of %d examples of %s and of draws: they differ by %.4f of their size\n", len(names), set.N, set.Name, gap/max(size, 1e-12))
			if err := os.WriteFile(a.out, []byte(text), 0o666); err != nil {
				return err
			}
			c.say("wrote " + filepath.Clean(a.out))
			return nil
		})
	cmd.Flags().StringVar(&name, "data", "", "a name, folder or file (default: the run's data)")
	cmd.Flags().IntVar(&limit, "limit", 16, "at most so many examples")
	return cmd
}
