package accept

import (
	"context"
	"errors"
	"fmt"
	"math"

	"ebmrun/onnxmodels/conditional"
	"ebmrun/training"
	"ebmrun/training/conditionalcoopnets"
	"ebmrun/training/data"
	"ebmrun/training/record"
)

// ConditionalCoopNets is the acceptance of conditional-coopnets. The arms: F turns the
// sign of the energy's update, B hides the condition from the energy.
var ConditionalCoopNets = Suite{"conditional-coopnets", []Part{
	{"fill", "outlines of 16×16 are filled: drafts and solutions, right and wrong conditions", false, conditionalFill},
	{"inpaint", "glyphs of 16×16 with a hole of 8×8", false, conditionalInpaint},
	{"classes", "glyphs of 16×16 of a class that is asked for", false, conditionalClasses},
}}

const blind = "B"

// solver binds the networks of the settings.
func (e Env) solver(ctx context.Context, c *conditionalcoopnets.Config, set *data.Set) (training.ConditionalEnergy, training.ConditionalGenerator, func() error, error) {
	es, err := c.EnergyNet()
	if err != nil {
		return nil, nil, nil, err
	}
	gs, err := c.GeneratorNet()
	if err != nil {
		return nil, nil, nil, err
	}
	em, err := conditional.BuildEnergy(es, set.Dims(), set.Given.Dims(), c.Reference.Sigma, e.Seed)
	if err != nil {
		return nil, nil, nil, err
	}
	gm, err := conditional.Build(gs, set.Dims(), set.Given.Dims(), e.Seed)
	if err != nil {
		return nil, nil, nil, err
	}
	return e.BindConditional(ctx, em, gm, c.Sigma)
}

// preset16 are the preset's settings for an arm.
func preset16(arm string, set *data.Set) (conditionalcoopnets.Config, error) {
	c, err := conditionalcoopnets.For("pictures-16", set.Dims(), 0)
	if c.Steps = 500; arm != Works {
		c.Steps /= 5
	}
	return c, err
}

// taughtBySolver are the settings of an arm whose initialiser learns from the solver alone.
func taughtBySolver(arm string, set *data.Set) (conditionalcoopnets.Config, error) {
	c, err := preset16(arm, set)
	c.Truth, c.TruthEnd = 0, 0
	return c, err
}

// conditionalArm learns an arm and hands the system to use.
func (e Env) conditionalArm(ctx context.Context, what, arm string, c conditionalcoopnets.Config, set *data.Set, use func(*conditionalcoopnets.System, error) error) error {
	c.Sabotage = map[string]string{Works: "", Flipped: conditionalcoopnets.Flip, blind: conditionalcoopnets.Blind}[arm]
	net, g, free, err := e.solver(ctx, &c, set)
	if err != nil {
		return err
	}
	s, err := conditionalcoopnets.New(c, net, g, set, e.Seed)
	if err != nil {
		return errors.Join(err, free())
	}
	ended, err := e.learn(ctx, what, arm, s, c.Steps, c.Guard)
	if err == nil {
		err = use(s, ended)
	}
	return errors.Join(err, free())
}

// rolled are conditions [n, size], each in the place of the one before it.
func rolled(c []float32, size int) []float32 {
	return append(append([]float32(nil), c[size:]...), c[:size]...)
}

func conditionalFill(ctx context.Context, e Env, it *Item) error {
	train, err := data.Load(ctx, "synthetic/fill16", data.Options{Seed: e.Seed})
	if err != nil {
		return err
	}
	held, err := data.Load(ctx, "synthetic/fill16", data.Options{Seed: e.Seed, Part: "test", Limit: 200})
	if err != nil {
		return err
	}
	outlines := training.MSE(held.Given.X(), held.X())
	it.Check("", "squared error of outlines as they are", outlines, Reported, "")
	for _, arm := range []string{Works, Flipped} {
		c, err := taughtBySolver(arm, train)
		if err != nil {
			return err
		}
		if err := e.conditionalArm(ctx, "fill", arm, c, train, func(s *conditionalcoopnets.System, ended error) error {
			if ended != nil {
				it.Check(arm, "squared error of solutions, share of outlines'", math.Inf(1), AtLeast(0.15), endedBy(ended))
				return nil
			}
			drafts, x, err := s.Solve(ctx, held.Given.X(), e.Seed)
			if err != nil {
				return err
			}
			got := training.MSE(x, held.X())
			if arm != Works {
				it.Check(arm, "squared error of solutions, share of outlines'", got/outlines, AtLeast(0.15), "must not solve")
				return nil
			}
			it.Check(arm, "squared error of solutions, share of outlines'", got/outlines, AtMost(0.15), fmt.Sprintf("%.3g", got))
			it.Check(arm, "squared error of solutions, share of drafts'", got/training.MSE(drafts, held.X()), AtMost(1.05), "")
			wrong, err := s.Translate(ctx, rolled(held.Given.X(), s.Given), e.Seed)
			if err != nil {
				return err
			}
			it.Check(arm, "squared error under another's condition, share of that under the right one", training.MSE(wrong, held.X())/got, AtLeast(3), "")
			right, other := make([]float32, held.N), make([]float32, held.N)
			w := make([]float32, held.N)
			err = errors.Join(s.Energy.Given(held.Given.X()).Learn(ctx, held.X(), w, 0, right),
				s.Energy.Given(rolled(held.Given.X(), s.Given)).Learn(ctx, held.X(), w, 0, other))
			if err != nil {
				return err
			}
			higher := 0.0
			for i := range right {
				if right[i] > other[i] {
					higher += 1 / float64(held.N)
				}
			}
			it.Check(arm, "examples that score higher under their own condition", higher, AtLeast(0.9), "")
			n := 16 * held.Dim()
			row := func(x []float32) record.Images { return pictures(held, x[:n], held.H, 16) }
			img, err := record.Strip(2, 2, row(held.Given.X()), row(drafts), row(x), row(held.X()))
			return e.show("conditional-fill", img, err)
		}); err != nil {
			return err
		}
	}
	return nil
}

func conditionalInpaint(ctx context.Context, e Env, it *Item) error {
	load := func(part string, n int) (*data.Set, error) {
		return data.Load(ctx, "synthetic/glyph16", data.Options{Seed: e.Seed, Part: part, Given: data.Hole, Limit: n})
	}
	train, err := load("train", 0)
	if err != nil {
		return err
	}
	held, err := load("test", 200)
	if err != nil {
		return err
	}
	known := make([]float32, len(held.X()))
	for i, hole := range held.Beside[data.Hole].X() {
		known[i] = (1 - hole) / 2
	}
	const what, fair = "PSNR in holes of 8×8 above that of the visible mean, dB", 6
	for _, arm := range []string{Works, Flipped} {
		c, err := preset16(arm, train)
		if err != nil {
			return err
		}
		if err := e.conditionalArm(ctx, "inpaint", arm, c, train, func(s *conditionalcoopnets.System, ended error) error {
			if ended != nil {
				it.Check(arm, what, math.Inf(-1), AtMost(fair), endedBy(ended))
				return nil
			}
			filled, model, mean, _, err := holes(ctx, conditionalcoopnets.Inpainter{Model: s.Model, Blank: (held.Lo + held.Hi) / 2}, held, known, e.Seed)
			if err != nil {
				return err
			}
			said := fmt.Sprintf("%.1f and %.1f dB", model, mean)
			if arm != Works {
				it.Check(arm, what, model-mean, AtMost(fair), said)
				return nil
			}
			it.Check(arm, what, model-mean, AtLeast(fair), said)
			truth := held.X()
			for i, m := range known {
				if m == 1 {
					filled[i] = truth[i]
				}
			}
			n := 16 * held.Dim()
			row := func(x []float32) record.Images { return pictures(held, x[:n], held.H, 16) }
			img, err := record.Strip(2, 2, row(held.Given.X()), row(filled), row(truth))
			return e.show("conditional-inpaint", img, err)
		}); err != nil {
			return err
		}
	}
	return nil
}

// nearest tells the class of the training example nearest to each picture.
func nearest(x []float32, train *data.Set) []int {
	dim := train.Dim()
	out := make([]int, len(x)/dim)
	for i := range out {
		best := math.Inf(1)
		for k := range train.N {
			d, other := 0.0, train.At(k)
			for j, v := range x[i*dim : (i+1)*dim] {
				d += float64(v-other[j]) * float64(v-other[j])
			}
			if d < best {
				best, out[i] = d, train.Labels[k]
			}
		}
	}
	return out
}

func agreeing(a, b []int) float64 {
	n := 0.0
	for i := range a {
		if a[i] == b[i] {
			n++
		}
	}
	return n / float64(len(a))
}

// within is the variance of pixels among pictures of the same class.
func within(x []float32, labels []int, classes int) float64 {
	dim := len(x) / len(labels)
	mean, count := make([]float64, classes*dim), make([]float64, classes)
	for i, l := range labels {
		count[l]++
		for j, v := range x[i*dim : (i+1)*dim] {
			mean[l*dim+j] += float64(v)
		}
	}
	sum := 0.0
	for i, l := range labels {
		for j, v := range x[i*dim : (i+1)*dim] {
			d := float64(v) - mean[l*dim+j]/count[l]
			sum += d * d / float64(len(x))
		}
	}
	return sum
}

func conditionalClasses(ctx context.Context, e Env, it *Item) error {
	const classes, n = 4, 200
	load := func(part string) (*data.Set, error) {
		s, err := data.Load(ctx, "synthetic/glyph16", data.Options{Seed: e.Seed, Part: part})
		if err != nil {
			return nil, err
		}
		return conditionalcoopnets.Labelled(s, classes)
	}
	train, err := load("train")
	if err != nil {
		return err
	}
	held, err := load("test")
	if err != nil {
		return err
	}
	held = held.Head(n)
	it.Check("", "real glyphs whose nearest neighbour has their class", agreeing(nearest(held.X(), train), held.Labels), AtLeast(0.95), "")
	asked := make([]int, n)
	for i := range asked {
		asked[i] = i % classes
	}
	for _, arm := range []string{Works, blind} {
		c, err := conditionalcoopnets.For("labels-16", train.Dims(), 0)
		if err != nil {
			return err
		}
		c.Classes, c.Steps = classes, 600
		if arm != Works {
			c.Steps /= 2
		}
		if err := e.conditionalArm(ctx, "classes", arm, c, train, func(s *conditionalcoopnets.System, ended error) error {
			if ended != nil {
				it.Check(arm, "draws of the class that was asked for", 0, AtMost(0.7), endedBy(ended))
				return nil
			}
			x, err := conditionalcoopnets.ByClass{Model: s.Model}.Draw(ctx, n, e.Seed)
			if err != nil {
				return err
			}
			right := agreeing(nearest(x, train), asked)
			if arm != Works {
				it.Check(arm, "draws of the class that was asked for", right, AtMost(0.7), "")
				return nil
			}
			it.Check(arm, "draws of the class that was asked for", right, AtLeast(0.9), "")
			it.Check(arm, "variance within classes, share of real glyphs'", within(x, asked, classes)/within(held.X(), held.Labels, classes), AtLeast(0.3), "")
			return e.pictures("conditional-classes", x, held)
		}); err != nil {
			return err
		}
	}
	return nil
}
