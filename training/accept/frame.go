package accept

import (
	"context"
	"fmt"
	"math"

	"ebmrun/training/data"
	"ebmrun/training/frame"
	"ebmrun/training/inhomogeneousframe"
	"ebmrun/training/maxent"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

var frameSuite = Suite{"frame", []Part{
	{"increments", "responses and histograms kept up to date are those worked out anew", true, frameIncrements},
	{"histogram", "stripes of 64×64 by potentials of up to 6 filters", false, frameTexture(frame.Histogram)},
	{"julesz", "the same histograms by annealing", false, frameTexture(frame.Julesz)},
	{"parametric", "blobs of 64×64 by mean absolute responses, HMC on the gradient graph", false, frameParametric},
}}

func frameSystem(ctx context.Context, e Env, mode, sabotage string) (*frame.System, error) {
	set, err := data.Load(ctx, "synthetic/tex-a", data.Options{Seed: e.Seed, Size: 64})
	if err != nil {
		return nil, err
	}
	preset := map[string]string{frame.Histogram: "texture", frame.Julesz: "julesz"}[mode]
	c, err := frame.For(preset, set.Dims(), 1)
	if err != nil {
		return nil, err
	}
	c.Sabotage = sabotage
	return frame.New(c, set, e.Seed)
}

func frameIncrements(ctx context.Context, e Env, it *Item) error {
	s, err := frameSystem(ctx, e, frame.Histogram, "")
	if err != nil {
		return err
	}
	wrong, remark := 0.0, ""
	if err := s.CheckIncrements(1000); err != nil {
		wrong, remark = 1, err.Error()
	}
	it.Check("", "wrong responses or bins after 1,000 changes of pixels", wrong, AtMost(0), remark)
	return nil
}

// frameTexture learns stripes. Chosen histograms must be matched, and the others, which nothing drives,
// must follow.
func frameTexture(mode string) func(context.Context, Env, *Item) error {
	return func(ctx context.Context, e Env, it *Item) error {
		for _, arm := range []string{Works, Untrained, Flipped} {
			s, err := frameSystem(ctx, e, mode, map[string]string{Works: "", Untrained: frame.Freeze, Flipped: frame.Flip}[arm])
			if err != nil {
				return err
			}
			steps := s.Config.Steps
			if arm != Works {
				steps /= 5
			}
			first := s.Gaps()
			if _, err := e.learn(ctx, mode, arm, s, steps, s.Config.Guard); err != nil {
				return err
			}
			last, chosen, start := s.Gaps(), 0.0, 0.0
			for j := range last {
				if s.IsChosen(j) {
					chosen, start = max(chosen, last[j]), max(start, first[j])
				}
			}
			left := s.Rest(last) / s.Rest(first)
			remark := fmt.Sprintf("%.3f at first", s.Rest(first))
			if arm != Works {
				it.Check(arm, "gap of the other filters, share of that at first", left, AtLeast(0.6), remark)
				it.Check(arm, "largest gap of a chosen filter", chosen, AtLeast(1), "")
				continue
			}
			it.Check(arm, "largest gap of a chosen filter", chosen, AtMost(frameGap[mode]), fmt.Sprintf("%d filters, %.3f at first", len(s.Chosen()), start))
			it.Check(arm, "largest gap of a chosen filter at first", start, AtLeast(1), "")
			it.Check(arm, "gap of the other filters, share of that at first", left, AtMost(0.6), remark)
			pics, err := s.Pictures(ctx)
			if err != nil {
				return err
			}
			img, err := record.Strip(2, 3, pics[0].Rows...)
			if err := e.show("frame-"+mode, img, err); err != nil {
				return err
			}
		}
		return nil
	}
}

// frameGap is what the histograms of a chosen filter may differ by.
var frameGap = map[string]float64{frame.Histogram: 0.3, frame.Julesz: 0.6}

// frameMoments is the largest relative error of a filter's mean response under the learned weights. Chains at
// one moment scatter by about as much as is allowed, so the mean is one over time too.
func frameMoments(ctx context.Context, s *maxent.System, net Energy, seed uint64) (most float64, err error) {
	const moments = 25
	kernel, steps := s.Config.Kernel()
	noise := sampler.Noise{Seed: seed}
	sum := make([][]float64, len(s.Observed))
	for range moments {
		if _, err := sampler.Run(ctx, noise, kernel, net, s.Chains, steps, nil); err != nil {
			return 0, err
		}
		got, err := maxent.Observe(ctx, net, s.Chains.X, s.Chains.Len(), s.Chains.Len())
		if err != nil {
			return 0, err
		}
		for i, h := range got {
			if sum[i] == nil {
				sum[i] = make([]float64, len(h))
			}
			for j, v := range h {
				sum[i][j] += float64(v) / moments
			}
		}
	}
	for i, want := range s.Observed {
		for j, v := range want {
			most = max(most, math.Abs(sum[i][j]-float64(v))/float64(v))
		}
	}
	return most, nil
}

// frameParametric learns a texture by one weight a filter, which is the inhomogeneous model with its
// weights tied over places: gradients take the place of Gibbs sweeps.
func frameParametric(ctx context.Context, e Env, it *Item) error {
	set, err := data.Load(ctx, "synthetic/tex-b", data.Options{Seed: e.Seed, Size: 64})
	if err != nil {
		return err
	}
	set, _ = data.Rescale(data.Standard, set, set)
	for _, arm := range []string{Works, Untrained, Flipped} {
		c, err := inhomogeneousframe.For("texture", set.Dims(), 1)
		if err != nil {
			return err
		}
		c.Sabotage = maxentSabotage[arm]
		s, net, err := e.aligned(ctx, c, set)
		if err != nil {
			return err
		}
		defer net.Close()
		steps := c.Steps
		if arm != Works {
			steps /= 10
		}
		if _, err := e.learn(ctx, "parametric", arm, s, steps, c.Guard); err != nil {
			return err
		}
		most, err := frameMoments(ctx, s, net, e.Seed)
		if err != nil {
			return err
		}
		if arm != Works {
			it.Check(arm, "largest relative error of a mean response", most, AtLeast(0.4), "")
			continue
		}
		it.Check(arm, "largest relative error of a mean response", most, AtMost(0.05), "")
		pics, err := s.Pictures(ctx)
		if err != nil {
			return err
		}
		img, err := record.Strip(2, 3, pics[0].Rows...)
		if err := e.show("frame-parametric", img, err); err != nil {
			return err
		}
	}
	return nil
}
