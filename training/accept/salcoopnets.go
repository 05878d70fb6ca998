package accept

import (
	"context"
	"errors"
	"fmt"
	"math"

	"ebmrun/training"
	"ebmrun/training/conditionalcoopnets"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/record"
	"ebmrun/training/salcoopnets"
)

// SalCoopNets is the acceptance of salcoopnets. The arms: F turns the sign of the
// energy's update, B takes what no scribble tells for background, P learns from
// scribbles alone, without recovering maps.
var SalCoopNets = Suite{"salcoopnets", []Part{
	{"maps", "shapes on textured ground of 32×32, from whole maps", false, saliencyMaps},
	{"scribbles", "the same from strokes that cover a few pixels", false, saliencyScribbles},
}}

const (
	background = "B"
	strokes    = "P"
)

// salientSets are pictures to learn from and others to test with.
func (e Env) salientSets(ctx context.Context) (train, held *data.Set, err error) {
	if train, err = data.Load(ctx, "synthetic/salient", data.Options{Seed: e.Seed}); err != nil {
		return nil, nil, err
	}
	held, err = data.Load(ctx, "synthetic/salient", data.Options{Seed: e.Seed, Part: "test", Limit: 200})
	return train, held, err
}

// saliencyArm learns an arm and hands the system to use.
func (e Env) saliencyArm(ctx context.Context, what, arm string, c salcoopnets.Config, set *data.Set, use func(*salcoopnets.System, error) error) error {
	c.Sabotage = map[string]string{Works: "", Flipped: conditionalcoopnets.Flip, background: salcoopnets.Background}[arm]
	net, g, free, err := e.solver(ctx, &c.Config, set)
	if err != nil {
		return err
	}
	s, err := salcoopnets.New(c, net, g, set, e.Seed)
	if err != nil {
		return errors.Join(err, free())
	}
	ended, err := e.learn(ctx, what, arm, s, c.Steps, c.Guard)
	if err == nil {
		err = use(s, ended)
	}
	return errors.Join(err, free())
}

// centred is the mean map of a set for each of n pictures: what is known without looking.
func centred(set *data.Set, n int) []float32 {
	dim := set.Dim()
	mean := make([]float64, dim)
	for i, v := range set.X() {
		mean[i%dim] += float64(v) / float64(set.N)
	}
	out := make([]float32, n*dim)
	for i := range out {
		out[i] = float32(mean[i%dim])
	}
	return out
}

// corrupted are maps blurred by 5×5 means, with noise on them.
func (e Env) corrupted(set *data.Set) []float32 {
	r := e.random(7)
	h, w := set.H, set.W
	out := make([]float32, set.N*set.Dim())
	for i := range out {
		base, y, x := i/(h*w)*h*w, i/w%h, i%w
		sum, n := 0.0, 0.0
		for dy := max(0, y-2); dy <= min(h-1, y+2); dy++ {
			for dx := max(0, x-2); dx <= min(w-1, x+2); dx++ {
				sum, n = sum+float64(set.X()[base+dy*w+dx]), n+1
			}
		}
		out[i] = float32(max(-1, min(1, sum/n+0.3*r.NormFloat64())))
	}
	return out
}

func saliencyMaps(ctx context.Context, e Env, it *Item) error {
	train, held, err := e.salientSets(ctx)
	if err != nil {
		return err
	}
	prior, err := salcoopnets.Measure(centred(train, held.N), held)
	if err != nil {
		return err
	}
	it.Check("", "mean absolute error of the mean map", prior.MAE, Reported, fmt.Sprintf("S %.3g, mean F %.3g", prior.S, prior.MeanF))
	spoilt := e.corrupted(held)
	l1 := func(x []float32) (sum float64) {
		for i, v := range x {
			sum += math.Abs(float64(v-held.X()[i])) / 2 / float64(len(x))
		}
		return sum
	}
	for _, arm := range []string{Works, Flipped} {
		c, err := salcoopnets.For("maps-32", train.Dims(), 0)
		if err != nil {
			return err
		}
		if arm != Works {
			c.Steps /= 10
		}
		if err := e.saliencyArm(ctx, "maps", arm, c, train, func(s *salcoopnets.System, ended error) error {
			if ended != nil {
				it.Check(arm, "error of corrupted maps after revision, share of that before", math.Inf(1), AtLeast(0.9), endedBy(ended))
				return nil
			}
			mended, err := s.Refine(ctx, held.Given.X(), spoilt, e.Seed)
			if err != nil {
				return err
			}
			ratio := l1(mended) / l1(spoilt)
			if arm != Works {
				it.Check(arm, "error of corrupted maps after revision, share of that before", ratio, AtLeast(0.9), "must not mend")
				return nil
			}
			mean, variance, err := s.Learned().Predict(ctx, held.Given.X(), e.Seed)
			if err != nil {
				return err
			}
			drafts, revised, err := s.Solve(ctx, held.Given.X(), e.Seed)
			if err != nil {
				return err
			}
			m, err := salcoopnets.Measure(mean, held)
			if err != nil {
				return err
			}
			it.Check(arm, "mean absolute error", m.MAE, AtMost(0.05), "")
			it.Check(arm, "S-measure", m.S, AtLeast(0.75), "")
			it.Check(arm, "mean F-measure", m.MeanF, AtLeast(0.65), "")
			it.Check(arm, "mean absolute error of the mean map, share of this one", prior.MAE/m.MAE, AtLeast(2), "")
			it.Check(arm, "error of revised maps, share of drafts'", l1(revised)/l1(drafts), AtMost(1.02), "")
			it.Check(arm, "error of corrupted maps after revision, share of that before", ratio, AtMost(0.9), "")
			inside, outside := undecided(held, variance)
			it.Check(arm, "variance within either of two shapes, share of that on the ground", inside/outside, AtLeast(3), fmt.Sprintf("%.3g, %.3g", inside, outside))
			return e.saliencyPicture("saliency-maps", held, mean, variance)
		}); err != nil {
			return err
		}
	}
	return nil
}

// undecided is the variance on both shapes of pictures that hold two, and beside them.
func undecided(set *data.Set, variance []float32) (inside, outside float64) {
	var in, out []float32
	candidates := set.Beside["candidates"]
	for i, l := range set.Labels {
		if l != 1 {
			continue
		}
		for j, v := range candidates.At(i) {
			if v > 0 {
				in = append(in, variance[i*set.Dim()+j])
			} else {
				out = append(out, variance[i*set.Dim()+j])
			}
		}
	}
	return training.Mean(in), training.Mean(out)
}

func (e Env) saliencyPicture(name string, set *data.Set, maps, spread []float32) error {
	const n = 12
	row := func(x []float32) record.Images { return pictures(set, x[:n*set.Dim()], set.H, n) }
	rows := []record.Images{row(set.X()), row(maps)}
	if spread != nil {
		scaled := make([]float32, n*set.Dim())
		for i := range scaled {
			scaled[i] = 2*min(1, 2*float32(math.Sqrt(float64(spread[i])))) - 1
		}
		rows = append(rows, row(scaled))
	}
	img, err := record.Strip(2, 2, rows...)
	return e.show(name, img, err)
}

func saliencyScribbles(ctx context.Context, e Env, it *Item) error {
	train, held, err := e.salientSets(ctx)
	if err != nil {
		return err
	}
	var alone diag.Saliency
	for _, arm := range []string{strokes, Works, background} {
		c, err := salcoopnets.For("scribbles-32", train.Dims(), 0)
		if err != nil {
			return err
		}
		if c.Steps = 1000; arm == background {
			c.Steps /= 4
		}
		c.Warm, c.Revise = c.Steps/2, c.Steps+1
		if arm == strokes {
			c.Warm = c.Steps
		}
		if err := e.saliencyArm(ctx, "scribbles", arm, c, train, func(s *salcoopnets.System, ended error) error {
			if ended != nil {
				it.Check(arm, "S-measure", 0, AtMost(0.6), endedBy(ended))
				return nil
			}
			maps, _, err := s.Learned().Predict(ctx, held.Given.X(), e.Seed)
			if arm == strokes && err == nil { // nothing has taught the energy
				maps, _, err = s.Solve(ctx, held.Given.X(), e.Seed)
			}
			if err != nil {
				return err
			}
			m, err := salcoopnets.Measure(maps, held)
			if err != nil {
				return err
			}
			switch arm {
			case strokes:
				alone = m
				it.Check(arm, "mean absolute error from strokes alone", m.MAE, Reported, fmt.Sprintf("S %.3g", m.S))
			case background:
				it.Check(arm, "S-measure", m.S, AtMost(0.6), "")
			case Works:
				some := train.Head(100)
				whole, err := s.Learned().Recover(ctx, some.Given.X(), some.Beside["scribbles"].X(), e.Seed, uint64(c.Steps))
				if err != nil {
					return err
				}
				got, err := salcoopnets.Measure(whole, some)
				if err != nil {
					return err
				}
				it.Check(arm, "S-measure of recovered maps", got.S, AtLeast(0.75), fmt.Sprintf("mean absolute error %.3g", got.MAE))
				it.Check(arm, "mean absolute error, share of that from strokes alone", m.MAE/alone.MAE, AtMost(0.85), fmt.Sprintf("%.3g, S %.3g", m.MAE, m.S))
				return e.saliencyPicture("saliency-scribbles", held, maps, nil)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}
