package accept

import (
	"context"
	"fmt"
	"math"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/onesidedtranslation"
	"ebmrun/training/pyramid"
	"ebmrun/training/record"
)

// OneSided is the suite of one-sided translation.
var OneSided = Suite{"one-sided-translation", []Part{
	{"outlines", "outlines of shapes become filled shapes, without pairs", false, outlines},
}}

// outlined is a filled shape's rim: what a wearing away by a pixel takes from it.
func outlined(set *data.Set) *data.Set {
	out := *set
	out.Floats = make([]float32, set.N*set.Dim())
	h, w := set.H, set.W
	for i, v := range set.X() {
		y, x := i/w%h, i%w
		least := v
		for _, d := range [][2]int{{0, 1}, {0, -1}, {1, 0}, {-1, 0}} {
			if yy, xx := y+d[0], x+d[1]; yy >= 0 && yy < h && xx >= 0 && xx < w {
				least = min(least, set.X()[i+d[0]*w+d[1]])
			} else {
				least = -1
			}
		}
		out.Floats[i] = -1 + v - least
	}
	return &out
}

// outlines: translations look filled and keep their places; those from noise do not keep
// them, and those of U and F are not filled.
func outlines(ctx context.Context, e Env, it *Item) error {
	const side = 16
	load := func(part string, n int) (*data.Set, error) {
		return data.Load(ctx, "synthetic/shape", data.Options{Seed: e.Seed, Size: side, Limit: n, Part: part})
	}
	all, err := load("train", 2000)
	if err != nil {
		return err
	}
	held, err := load("test", 400)
	if err != nil {
		return err
	}
	// unpaired: outlines of one half, the filled shapes of the other
	first := all.Head(1000)
	second := *all
	second.N, second.Floats, second.Labels, second.Factors, second.FactorNames = 1000, all.X()[1000*all.Dim():], nil, nil, nil
	a, b := outlined(first), &second
	sources := outlined(held)
	// the ink inside: the mean of pixels that all four neighbours' ink surrounds
	filled := func(x []float32) float64 {
		got, want := 0.0, 0.0
		for i, v := range held.X() {
			if inner := v > -0.9 && sources.X()[i] < -0.9; inner {
				got += float64(x[i]) + 1
				want += float64(v) + 1
			}
		}
		return got / want
	}
	it.Check("", "ink inside of outlines, share of that of filled shapes", filled(sources.X()), AtMost(0.05), "")
	thumbs := func(x []float32) []float32 { return pyramid.Shrink(x, side, side, side/8) }
	floor, err := diag.EnergyDistance(thumbs(held.X()), thumbs(b.X()[:400*b.Dim()]), 64)
	if err != nil {
		return err
	}
	before, err := diag.EnergyDistance(thumbs(held.X()), thumbs(sources.X()), 64)
	if err != nil {
		return err
	}
	it.Check("", "energy distance of outlines from filled shapes, 8×8", before, Reported, fmt.Sprintf("%.4g between filled shapes", floor))
	for _, arm := range []string{Untrained, Works, "from noise", Flipped} {
		c := onesidedtranslation.Config{
			Spec: &energy.Spec{}, Steps: 500, Batch: 16,
			Langevin: training.Langevin{Steps: 15, Step: 4.472, Noise: 0.001118, GradClip: 0.03, Clamp: [2]float64{-1, 1}, Fused: true},
			Optim:    training.Optim{LR: 2e-3, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1, Over: 500},
			ScoreL2:  0.05,
		}
		*c.Spec = plain(8, 2, 4)
		c.Data.Noise = 0.01
		c.Sabotage, c.Steps = sabotageOf[arm], shrunk(arm, c.Steps)
		if arm == "from noise" {
			c.Start = onesidedtranslation.FromNoise
		}
		nets, free, err := e.levels(ctx, []energy.Spec{*c.Spec}, [][]int{{1, side, side}})
		if err != nil {
			return err
		}
		defer free()
		s, err := onesidedtranslation.New(c, nets[0], a, b, e.Seed)
		if err != nil {
			return err
		}
		ended, err := e.learn(ctx, "outlines", arm, s, c.Steps, c.Guard)
		if err != nil {
			return err
		}
		if ended != nil {
			it.Check(arm, "energy distance from filled shapes, share of the outlines'", math.Inf(1), AtLeast(0.7), endedBy(ended))
			continue
		}
		x, heat, err := s.Trace(ctx, sources.X(), e.Seed)
		if err != nil {
			return err
		}
		d, err := diag.EnergyDistance(thumbs(held.X()), thumbs(x), 64)
		if err != nil {
			return err
		}
		kept := correlation(thumbs(x), thumbs(held.X()))
		switch arm {
		case Untrained, Flipped:
			it.Check(arm, "energy distance from filled shapes, share of the outlines'", d/before, AtLeast(0.7), "")
		case Works:
			it.Check(arm, "energy distance from filled shapes, share of the outlines'", d/before, AtMost(0.3), fmt.Sprintf("%.4g", d))
			it.Check(arm, "ink inside, share of that of filled shapes", filled(x), AtLeast(0.24), "")
			it.Check(arm, "correlation of 8×8 means with the true filled shape", kept, AtLeast(0.8), "")
			in, total := 0.0, 0.0
			for i, v := range heat {
				if total += float64(v); held.X()[i] > -0.9 {
					in += float64(v)
				}
			}
			it.Check(arm, "share of the heat map inside the shape", in/total, AtLeast(0.7), "")
			n := 16 * held.Dim()
			img, err := record.Strip(2, 2, pictures(held, sources.X()[:n], side, 16), pictures(held, x[:n], side, 16), pictures(held, held.X()[:n], side, 16))
			if err := e.show("outlines", img, err); err != nil {
				return err
			}
		default:
			it.Check(arm, "correlation of 8×8 means with the true filled shape", kept, AtMost(0.3), "")
		}
	}
	return nil
}
