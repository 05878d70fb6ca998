package accept

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/swin"
	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/generativeswin"
	"ebmrun/training/record"
)

// GenerativeSwin is the acceptance of generative-swin. The arms: M takes the likelihood of
// a code for a mean over the pixels of a batch, so that codes mean nothing; D learns and
// is tested with the depths of other pictures.
var GenerativeSwin = Suite{"generative-swin", []Part{
	{"maps", "shapes on textured ground of 32×32: maps, and what is uncertain in them", false, swinMaps},
	{"depth", "shapes that their colours hide, with their depth and without", false, swinDepth},
}}

const (
	asMean   = "M"
	deranged = "D"
)

// swinArm learns an arm for so many iterations and hands the system to use.
func (e Env) swinArm(ctx context.Context, what, arm string, steps int, set *data.Set, use func(*generativeswin.Model, error) error) error {
	c, err := generativeswin.For("small", set.Dims(), set.N)
	if err != nil {
		return err
	}
	if c.Steps, c.Begin = steps, steps/6; arm == asMean {
		c.Sabotage = generativeswin.Mean
	}
	if what == "maps" { // codes shall choose between two shapes
		c.Sigma = 0.4
	} else { // so few iterations leave codes that are heard early too much to say
		c.Begin, c.Overlap = steps/3, 1
	}
	spec, err := c.Network()
	if err != nil {
		return err
	}
	gm, err := swin.Build(spec, set.Dims(), set.Given.Dims(), e.Seed)
	if err != nil {
		return err
	}
	pm, err := energy.Build(c.PriorNet(), []int{gm.Codes}, c.Reference.Sigma, e.Seed)
	if err != nil {
		return err
	}
	p, g, free, err := e.BindEncoded(ctx, pm, gm, c.Residual(set.Dim()))
	if err != nil {
		return err
	}
	s, err := generativeswin.New(c, p, g, set, e.Seed)
	if err != nil {
		return errors.Join(err, free())
	}
	ended, err := e.learn(ctx, what, arm, s, c.Steps, c.Guard)
	if err == nil {
		err = use(s.Learned(), ended)
	}
	return errors.Join(err, free())
}

func swinMaps(ctx context.Context, e Env, it *Item) error {
	train, held, err := e.salientSets(ctx)
	if err != nil {
		return err
	}
	const used = "difference of maps of two codes, pictures of two shapes"
	for _, arm := range []string{Works, asMean} {
		steps := 2000
		if arm != Works {
			steps = 200
		}
		if err := e.swinArm(ctx, "maps", arm, steps, train, func(m *generativeswin.Model, ended error) error {
			if ended != nil {
				it.Check(arm, used, math.Inf(1), AtMost(0.02), endedBy(ended))
				return nil
			}
			differ, err := codeUse(ctx, m, held, e.Seed)
			if err != nil {
				return err
			}
			if arm != Works {
				it.Check(arm, used, differ, AtMost(0.02), "must not be used")
				return nil
			}
			p, err := m.Predict(ctx, held.Given.X(), e.Seed)
			if err != nil {
				return err
			}
			got, err := generativeswin.Measure(p.Mean, held)
			if err != nil {
				return err
			}
			inside, outside := undecided(held, p.Epistemic)
			it.Check(arm, "mean absolute error", got.MAE, AtMost(0.06), fmt.Sprintf("mean F %.3g", got.MeanF))
			it.Check(arm, "S-measure", got.S, AtLeast(0.83), "")
			it.Check(arm, "mean E-measure", got.MeanE, AtLeast(0.88), "")
			it.Check(arm, used, differ, AtLeast(0.05), "")
			it.Check(arm, "epistemic entropy within either of two shapes, share of that on the ground", inside/outside, AtLeast(3), fmt.Sprintf("%.3g, %.3g", inside, outside))
			it.Check(arm, "area under the curve of total entropy as a detector of wrong pixels", detects(held, p), AtLeast(0.75), "")
			return e.swinPicture("swin-maps", held, p)
		}); err != nil {
			return err
		}
	}
	return nil
}

// codeUse is how far maps of two codes lie apart, pixel by pixel, on pictures that hold two
// shapes: the mean over all pairs of a few draws.
func codeUse(ctx context.Context, m *generativeswin.Model, set *data.Set, seed uint64) (float64, error) {
	var draws [8][]float32
	for i := range draws {
		var err error
		if draws[i], err = m.Maps(ctx, set.Given.X(), seed+uint64(i), true); err != nil {
			return 0, err
		}
	}
	sum, n := 0.0, 0
	for k := range set.N * set.Dim() {
		if set.Labels[k/set.Dim()] != 1 {
			continue
		}
		for i, a := range draws {
			for _, b := range draws[:i] {
				sum, n = sum+math.Abs(float64(a[k]-b[k]))/2, n+1
			}
		}
	}
	return sum / float64(n), nil
}

// detects is the chance that a pixel on the wrong side of 0 has more entropy than one on
// the right side.
func detects(set *data.Set, p *generativeswin.Prediction) float64 {
	order := make([]int, len(p.Total))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case p.Total[a] < p.Total[b]:
			return -1
		case p.Total[a] > p.Total[b]:
			return 1
		}
		return a - b
	})
	var wrong, right, below float64
	for _, i := range order {
		if (p.Mean[i] > 0) != (set.X()[i] > 0) {
			wrong, below = wrong+1, below+right
			continue
		}
		right++
	}
	return below / (wrong * right)
}

func (e Env) swinPicture(name string, set *data.Set, p *generativeswin.Prediction) error {
	n := min(12, set.N)
	m := n * set.Dim()
	img, err := record.Strip(2, 2, generativeswin.Rows(set.Head(n), &generativeswin.Prediction{Mean: p.Mean[:m], Deviation: p.Deviation[:m]})...)
	return e.show(name, img, err)
}

// channels is a set with other channels of its pictures: with depth false the colours
// alone, else with the depth of the picture so many places further.
func channels(set *data.Set, depth bool, further int) *data.Set {
	out, given, plane := *set, *set.Given, set.H*set.W
	given.C, given.Floats = 3, nil
	if depth {
		given.C = 4
	}
	for i := range set.N {
		given.Floats = append(given.Floats, set.Given.At(i)[:3*plane]...)
		if depth {
			given.Floats = append(given.Floats, set.Given.At((i + further) % set.N)[3*plane:]...)
		}
	}
	out.Given = &given
	return &out
}

func swinDepth(ctx context.Context, e Env, it *Item) error {
	train, err := data.Load(ctx, "synthetic/salient-depth", data.Options{Seed: e.Seed})
	if err != nil {
		return err
	}
	held, err := data.Load(ctx, "synthetic/salient-depth", data.Options{Seed: e.Seed, Part: "test", Limit: 200})
	if err != nil {
		return err
	}
	// mean absolute errors on pictures whose colours hide the shape, and on others, without depth
	var hidden, plain float64
	for _, a := range []struct {
		arm     string
		depth   bool
		further int
	}{{"rgb", false, 0}, {Works, true, 0}, {deranged, true, 1}} {
		part := channels(held, a.depth, a.further)
		if err := e.swinArm(ctx, "depth", a.arm, 800, channels(train, a.depth, a.further), func(m *generativeswin.Model, ended error) error {
			if ended != nil {
				return fmt.Errorf("%s: %w", a.arm, ended)
			}
			p, err := m.Predict(ctx, part.Given.X(), e.Seed)
			if err != nil {
				return err
			}
			var h, o []float32
			for k, v := range p.Mean {
				off := float32(math.Abs(float64(v-held.X()[k]))) / 2
				if held.Labels[k/held.Dim()] == 2 {
					h = append(h, off)
				} else {
					o = append(o, off)
				}
			}
			onHidden, onPlain := training.Mean(h), training.Mean(o)
			const gain = "mean absolute error on hidden shapes, share of that without depth"
			switch a.arm {
			case Works:
				it.Check(Works, gain, onHidden/hidden, AtMost(0.6), fmt.Sprintf("%.3g, %.3g", onHidden, hidden))
				it.Check(Works, "mean absolute error on other shapes above that without depth", onPlain-plain, AtMost(0.01), fmt.Sprintf("%.3g, %.3g", onPlain, plain))
				return e.swinPicture("swin-depth", part, p)
			case deranged:
				it.Check(deranged, gain, onHidden/hidden, AtLeast(0.9), "must not help")
			default:
				hidden, plain = onHidden, onPlain
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}
