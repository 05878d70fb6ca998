package accept

import (
	"context"
	"image"
	"math"

	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/record"
	"ebmrun/training/video"
)

// Video is the suite of the spatial-temporal generative ConvNet.
var Video = Suite{"video", []Part{
	{"waves", "a clip of travelling waves, 24×32×32, drawn anew", false, waves},
	{"holes", "the same learned from with holes of three kinds", false, clipHoles},
}}

// stripOf draws examples of any kind.
func stripOf(set *data.Set, x []float32) (image.Image, error) {
	p, err := training.Show(record.SamplesTag, set, x)
	if err != nil {
		return nil, err
	}
	if p.Rows != nil {
		return record.Strip(2, 0, p.Rows...)
	}
	return record.Grid(p.Images, 0, 2, 0)
}

func clip(ctx context.Context, e Env) (*data.Set, error) {
	set, err := data.Load(ctx, "synthetic/wave", data.Options{Seed: e.Seed, Size: 32, Frames: 24, Limit: 1})
	if err != nil {
		return nil, err
	}
	set, _ = data.Rescale(data.Bytes, set, set)
	return set, nil
}

// clips builds and learns one arm.
func (e Env) clips(ctx context.Context, what, arm string, c video.Config, set *data.Set, use func(*video.System) error) (ended, err error) {
	c.Sabotage, c.Optim.Over = sabotageOf[arm], c.Steps
	spec, err := c.Network()
	if err != nil {
		return nil, err
	}
	net, err := e.network(ctx, spec, set, c.Reference.Sigma)
	if err != nil {
		return nil, err
	}
	defer net.Close()
	s, err := video.New(c, net, set, e.Seed)
	if err != nil {
		return nil, err
	}
	if ended, err = e.learn(ctx, what, arm, s, shrunk(arm, c.Steps), c.Guard); ended != nil || err != nil {
		return ended, err
	}
	return nil, use(s)
}

// waves compares how frames follow one another, beside the same frames shuffled.
func waves(ctx context.Context, e Env, it *Item) error {
	const lags = 6
	set, err := clip(ctx, e)
	if err != nil {
		return err
	}
	course := func(x []float32) ([]float64, error) {
		return diag.TemporalAutocorrelation(x, set.C, set.D, set.H, set.W, lags)
	}
	want, err := course(set.X())
	if err != nil {
		return err
	}
	gap := func(x []float32) (float64, error) {
		got, err := course(x)
		worst := 0.0
		for i := range got {
			worst = math.Max(worst, math.Abs(got[i]-want[i]))
		}
		return worst, err
	}
	shuffled := append([]float32(nil), set.X()...)
	frame := set.H * set.W
	r := e.random(12)
	for t, from := range r.Perm(set.D) {
		copy(shuffled[t*frame:(t+1)*frame], set.X()[from*frame:(from+1)*frame])
	}
	control, err := gap(shuffled)
	if err != nil {
		return err
	}
	it.Check("", "autocorrelation over 6 frames, gap of the shuffled clip", control, AtLeast(0.15), "")
	_, sd := moments(set.X())
	for _, arm := range []string{Works, Untrained, Flipped} {
		c, err := video.For("small", set.Dims(), set.N)
		if err != nil {
			return err
		}
		off, ratio := math.Inf(1), math.Inf(1)
		ended, err := e.clips(ctx, "waves", arm, c, set, func(s *video.System) error {
			x, err := s.Samples(ctx, 3)
			if err != nil {
				return err
			}
			off, ratio = 0, 0
			for k := range 3 {
				part := x[k*set.Dim() : (k+1)*set.Dim()]
				d, err := gap(part)
				if err != nil {
					return err
				}
				_, own := moments(part)
				off, ratio = off+d/3, ratio+own/sd/3
			}
			img, err := stripOf(set, x)
			return e.show("video-"+arm, img, err)
		})
		if err != nil {
			return err
		}
		remark := ""
		if ended != nil {
			remark = ended.Error()
		}
		if arm == Works {
			it.Check(arm, "autocorrelation over 6 frames, gap from the clip's", off, AtMost(0.15), remark)
			it.Check(arm, "deviation over the clip's", ratio, Within(0.7, 1.3), remark)
		} else {
			it.Check(arm, "distance of the deviation's ratio from 1", math.Abs(ratio-1), AtLeast(0.3), remark)
		}
	}
	return nil
}

// clipHoles learns from a clip that is never seen whole.
func clipHoles(ctx context.Context, e Env, it *Item) error {
	set, err := clip(ctx, e)
	if err != nil {
		return err
	}
	for _, k := range []struct {
		mask    string
		missing float64
	}{{video.Region, 0.15}, {video.Frames, 0.3}, {video.Pixels, 0.5}} {
		c, err := video.For("small", set.Dims(), set.N)
		if err != nil {
			return err
		}
		c.Mask, c.Missing = k.mask, k.missing
		known, err := video.Known(k.mask, k.missing, set, e.Seed)
		if err != nil {
			return err
		}
		filled := append([]float32(nil), set.X()...)
		video.Fill(filled, known, set.Dim())
		plain := video.HoleRMSE(filled, set.X(), known)
		for _, arm := range []string{Works, Untrained} {
			got, kept := math.Inf(1), 1.0
			ended, err := e.clips(ctx, "holes, "+k.mask, arm, c, set, func(s *video.System) error {
				got = video.HoleRMSE(s.Recovered(), set.X(), known)
				for i, v := range known {
					if v != 0 && s.Recovered()[i] != set.X()[i] {
						kept = 0
					}
				}
				img, err := stripOf(set, s.Recovered())
				return e.show("video-"+k.mask+"-"+arm, img, err)
			})
			if err != nil {
				return err
			}
			remark := ""
			if ended != nil {
				remark = ended.Error()
			}
			what := "error in missing " + k.mask + ", share of the mean fill's"
			if arm == Works {
				it.Check(arm, what, got/plain, AtMost(0.7), remark)
				it.Check(arm, "known values as they were ("+k.mask+")", kept, AtLeast(1), "")
			} else {
				it.Check(arm, what, got/plain, AtLeast(0.9), remark)
			}
		}
	}
	return nil
}
