package accept

import (
	"context"
	"fmt"
	"math"
	"slices"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/coopflow"
	"ebmrun/training/data"
	"ebmrun/training/diag"
)

// CoopFlow is the acceptance of coopflow. In the arm U the energy is never updated.
var CoopFlow = Suite{"coopflow", []Part{
	{"ring", "a flow that learns eight Gaussians from revised drafts alone", false, ringOfCoopFlow},
	{"blobs", "discs of 16×16: drafts and their revisions, reconstruction, inpainting", false, blobsOfCoopFlow},
	{"pretrained", "the same discs: a flow that has learned from data begins", false, pretrainedCoopFlow},
}}

var coopflowSabotage = map[string]string{Works: "", Untrained: coopflow.Freeze, Flipped: coopflow.Flip}

// coopflowArm trains one arm for so many iterations.
func (e Env) coopflowArm(ctx context.Context, what, arm string, c coopflow.Config, set *data.Set, steps int) (s *coopflow.System, done func(), ended, err error) {
	c.Sabotage = coopflowSabotage[arm]
	es, err := c.EnergyNet()
	if err != nil {
		return nil, nil, nil, err
	}
	fs, err := c.FlowNet()
	if err != nil {
		return nil, nil, nil, err
	}
	dims := []int{set.C, set.H, set.W}
	if set.H == 1 {
		dims = dims[:1]
	}
	m, err := energy.Build(es, dims, c.Reference.Sigma, e.Seed)
	if err != nil {
		return nil, nil, nil, err
	}
	net, err := e.Bind(ctx, m)
	if err != nil {
		return nil, nil, nil, err
	}
	f, err := e.flow(ctx, fs, dims)
	if err != nil {
		net.Close()
		return nil, nil, nil, err
	}
	done = func() { net.Close(); f.Close() }
	if s, err = coopflow.New(c, net, f, set, e.Seed); err != nil {
		done()
		return nil, nil, nil, err
	}
	if ended, err = e.learn(ctx, what, arm, s, steps, c.Guard); err != nil {
		done()
	}
	return s, done, ended, err
}

func ringOfCoopFlow(ctx context.Context, e Env, it *Item) error {
	train, held, err := ring8(ctx, e)
	if err != nil {
		return err
	}
	for _, arm := range []string{Works, Untrained, Flipped} {
		c, err := coopflow.For("points", []int{2, 1, 1}, train.N)
		if err != nil {
			return err
		}
		steps := map[string]int{Works: c.Steps, Untrained: c.Steps / 4, Flipped: c.Steps / 4}[arm]
		s, done, ended, err := e.coopflowArm(ctx, "ring", arm, c, train, steps)
		if err != nil {
			return err
		}
		nll, own := math.Inf(1), training.Metrics{}
		if ended == nil {
			if err := s.Flow.HeldOut(ctx, own, held, e.Seed); err != nil {
				done()
				return err
			}
			nll = own["held_out/nll"]
		}
		limit := AtLeast(ringNats)
		if arm == Works {
			limit = AtMost(ringNats)
		}
		it.Check(arm, "the flow's held-out −log p, nats (truth 0.31, one Gaussian 3.54)", nll, limit, endedBy(ended))
		if ended == nil {
			err = e.revisedRing(ctx, it, arm, held, s)
		}
		done()
		if err != nil {
			return err
		}
	}
	return nil
}

// ringNats and ringShare tell arms apart: see docs/calibration.md.
const (
	ringNats  = 1.5
	ringShare = 0.85
)

// revisedRing checks revised drafts against the modes and held-out points.
func (e Env) revisedRing(ctx context.Context, it *Item, arm string, held *data.Set, s *coopflow.System) error {
	drafts, err := s.Flow.Draw(ctx, held.N, e.Seed)
	if err != nil {
		return err
	}
	revised, err := s.Draw(ctx, held.N, e.Seed)
	if err != nil {
		return err
	}
	centres, sd, _ := data.Modes("synthetic/ring8")
	shares, within, err := diag.Modes(revised, centres, 4*sd)
	if err != nil {
		return err
	}
	of, err := diag.MMD2(held.X(), drafts, 2, 0)
	if err != nil {
		return err
	}
	ofRevised, err := diag.MMD2(held.X(), revised, 2, 0)
	if err != nil {
		return err
	}
	if arm != Works {
		it.Check(arm, "share of revised drafts within four deviations of a mode", within, AtMost(ringShare), "")
		return nil
	}
	it.Check(arm, "smallest share of a mode", slices.Min(shares), AtLeast(0.05), "")
	it.Check(arm, "share of revised drafts within four deviations of a mode", within, AtLeast(ringShare), "")
	// Both come to the scatter of the estimate, which is about 0.0003.
	it.Check(arm, "MMD² of revised drafts less that of drafts", ofRevised-of, AtMost(0.0005), fmt.Sprintf("%.2g and %.2g", ofRevised, of))
	return nil
}

func blobsOfCoopFlow(ctx context.Context, e Env, it *Item) error {
	b, err := e.blobs(ctx)
	if err != nil {
		return err
	}
	it.Check("", "FD-PCA of real pictures (the floor)", b.floor, Reported, "")
	works := math.NaN()
	for _, arm := range []string{Works, Untrained, Flipped} {
		c, err := coopflow.For("pictures-16", []int{1, 16, 16}, b.train.N)
		if err != nil {
			return err
		}
		steps := map[string]int{Works: c.Steps, Untrained: c.Steps / 4, Flipped: c.Steps / 4}[arm]
		s, done, ended, err := e.coopflowArm(ctx, "blobs", arm, c, b.train, steps)
		if err != nil {
			return err
		}
		distance, ofDrafts := math.Inf(1), math.Inf(1)
		if ended == nil {
			distance, ofDrafts, err = e.draftsAndRevised(ctx, arm, b, s)
		}
		if err == nil && arm == Works {
			works = distance
			it.Check(arm, "FD-PCA of revised drafts", distance, Reported, endedBy(ended))
			it.Check(arm, "FD-PCA of revised drafts, share of the drafts'", distance/ofDrafts, AtMost(0.8), fmt.Sprintf("drafts %.4g", ofDrafts))
			err = e.given(ctx, it, b, s)
		} else if err == nil {
			it.Check(arm, "FD-PCA of revised drafts, W's share", works/distance, AtMost(0.5), fmt.Sprintf("distance %.4g; %s", distance, endedBy(ended)))
		}
		done()
		if err != nil {
			return err
		}
	}
	return nil
}

// draftsAndRevised is FD-PCA of both.
func (e Env) draftsAndRevised(ctx context.Context, arm string, b blobs, s *coopflow.System) (revised, drafts float64, err error) {
	x, err := s.Draw(ctx, compared, e.Seed)
	if err != nil {
		return 0, 0, err
	}
	y, err := s.Flow.Draw(ctx, compared, e.Seed)
	if err != nil {
		return 0, 0, err
	}
	if err := e.pictures("coopflow-blobs-revised-"+arm, x, b.train); err != nil {
		return 0, 0, err
	}
	if err := e.pictures("coopflow-blobs-drafts-"+arm, y, b.train); err != nil {
		return 0, 0, err
	}
	if revised, err = b.distance(x); err != nil {
		return 0, 0, err
	}
	drafts, err = b.distance(y)
	return revised, drafts, err
}

// given checks what becomes of held-out pictures, whole and with a hole of 6×6.
func (e Env) given(ctx context.Context, it *Item, b blobs, s *coopflow.System) error {
	const n, from, to = 32, 5, 11
	dim, w := b.held.Dim(), b.held.W
	x := b.held.Head(n).X()
	y, err := s.Reconstruct(ctx, x, nil, e.Seed)
	if err != nil {
		return err
	}
	it.Check(Works, "squared error of reconstructions, share of the pixels' variance", training.MSE(x, y)/b.variance, AtMost(0.1), "")
	mask, mean := training.Ones(len(x)), make([]float32, dim)
	for i := range mask {
		if r, c := i%dim/w, i%w; r >= from && r < to && c >= from && c < to {
			mask[i] = 0
		}
	}
	for i, v := range b.train.X() {
		mean[i%dim] += v / float32(b.train.N)
	}
	if y, err = s.Reconstruct(ctx, x, mask, e.Seed); err != nil {
		return err
	}
	var error1, ofMean float64
	for i := range x {
		if mask[i] == 0 {
			error1 += math.Pow(float64(y[i]-x[i]), 2)
			ofMean += math.Pow(float64(mean[i%dim]-x[i]), 2)
		}
	}
	it.Check(Works, "squared error within a hole, share of the mean picture's", error1/ofMean, AtMost(0.5), "")
	return e.pictures("coopflow-blobs-filled", y, b.train)
}

// pretrainedCoopFlow: the first drafts that a pre-trained flow's energy revises are
// closer to the data than those of a new flow.
func pretrainedCoopFlow(ctx context.Context, e Env, it *Item) error {
	b, err := e.blobs(ctx)
	if err != nil {
		return err
	}
	var revised, drafts [2]float64
	for i, what := range []string{"unprepared", "pretrained"} {
		c, err := coopflow.For("pretrained-16", []int{1, 16, 16}, b.train.N)
		if err != nil {
			return err
		}
		if i == 0 {
			c.Pretrain, c.Alone = 0, 0
		}
		s, done, ended, err := e.coopflowArm(ctx, what, Works, c, b.train, c.Pretrain+10)
		if err == nil && ended != nil {
			err = ended
		}
		if err != nil {
			return err
		}
		revised[i], drafts[i], err = e.draftsAndRevised(ctx, what, b, s)
		done()
		if err != nil {
			return err
		}
	}
	it.Check(Works, "FD-PCA of drafts at first, share of pre-trained in unprepared", drafts[1]/drafts[0], AtMost(0.5), fmt.Sprintf("%.4g and %.4g", drafts[1], drafts[0]))
	it.Check(Works, "FD-PCA of revised drafts at first, the same share", revised[1]/revised[0], AtMost(0.8), fmt.Sprintf("%.4g and %.4g", revised[1], revised[0]))
	return nil
}
