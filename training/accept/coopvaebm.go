package accept

import (
	"context"
	"fmt"
	"math"

	"ebmrun/training"
	"ebmrun/training/coopvaebm"
)

// CoopVAEBM is the acceptance of coopvaebm. The arm U never teaches encoder and
// generator, in F the sign of the energy's gradient is turned.
var CoopVAEBM = Suite{"coopvaebm", []Part{
	{"blobs", "discs of 16×16: revised drafts, drafts, and data through an encoder that saw none", false, coopvaebmBlobs},
}}

// A coopvaebmArm is a way to run the system.
type coopvaebmArm struct {
	arm, what string
	change    func(c *coopvaebm.Config)
}

var coopvaebmArms = []coopvaebmArm{
	{Works, "", func(*coopvaebm.Config) {}},
	{Untrained, "no teaching: ", func(c *coopvaebm.Config) { c.Sabotage, c.Steps = coopvaebm.Freeze, c.Steps/5 }},
	{Flipped, "", func(c *coopvaebm.Config) { c.Sabotage, c.Steps = coopvaebm.Flip, c.Steps/5 }},
	{"KL", "sign of the divergence turned: ", func(c *coopvaebm.Config) { c.Sabotage = coopvaebm.FlipKL }},
	{"0", "no divergence: ", func(c *coopvaebm.Config) { c.KL.Weight = 0 }},
}

func coopvaebmBlobs(ctx context.Context, e Env, it *Item) error {
	b, err := e.blobs(ctx)
	if err != nil {
		return err
	}
	it.Check("", "FD-PCA of real pictures (the floor)", b.floor, Reported, "")
	works := math.NaN() // share of valid drafts
	for _, a := range coopvaebmArms {
		c, err := coopvaebm.For("pictures-16", []int{1, 16, 16}, 0)
		if err != nil {
			return err
		}
		c.Optim.Over, c.Teach.Over = c.Steps, c.Steps // for shorter arms too
		a.change(&c)
		valid, err := e.coopvaebmArm(ctx, it, b, a, c, works)
		if err != nil {
			return err
		}
		if a.arm == Works {
			works = valid
		}
	}
	return nil
}

// coopvaebmArm runs one arm, checks it, and returns the share of valid drafts.
func (e Env) coopvaebmArm(ctx context.Context, it *Item, b blobs, a coopvaebmArm, c coopvaebm.Config, works float64) (float64, error) {
	spec, err := c.EnergyNet()
	if err != nil {
		return 0, err
	}
	net, err := e.network(ctx, spec, b.train, c.Reference.Sigma)
	if err != nil {
		return 0, err
	}
	defer net.Close()
	vae, err := e.autoencoder(ctx, &c.Nets, []int{1, 16, 16}, c.Sigma)
	if err != nil {
		return 0, err
	}
	defer vae.Close()
	s, err := coopvaebm.New(c, net, vae, b.train, e.Seed)
	if err != nil {
		return 0, err
	}
	raw, err := s.Drafts.Draw(ctx, compared, e.Seed)
	if err != nil {
		return 0, err
	}
	before, err := b.distance(raw)
	if err != nil {
		return 0, err
	}
	revision := &lately{}
	ended, err := e.learn(ctx, "blobs", a.arm, revision.of(s, "revision"), c.Steps, c.Guard)
	if err != nil {
		return 0, err
	}
	drafts, err := s.Drafts.Draw(ctx, compared, e.Seed)
	if err != nil {
		return 0, err
	}
	revised, err := s.Draw(ctx, compared, e.Seed)
	if err != nil {
		return 0, err
	}
	draftDistance, err := b.distance(drafts)
	if err != nil {
		return 0, err
	}
	distance, err := b.distance(revised)
	if err != nil {
		return 0, err
	}
	validDrafts, _, err := b.valid(drafts)
	if err != nil {
		return 0, err
	}
	valid, covered, err := b.valid(revised)
	if err != nil {
		return 0, err
	}
	remark := endedBy(ended)
	switch a.arm {
	case Works:
		it.Check(a.arm, "FD-PCA of revised drafts, share of untrained drafts'", distance/before, AtMost(0.06), fmt.Sprintf("%.3g of %.3g", distance, before))
		it.Check(a.arm, "FD-PCA of revised drafts, multiple of the floor", distance/b.floor, AtMost(4), remark)
		it.Check(a.arm, "valid revised drafts", valid, AtLeast(0.8), fmt.Sprintf("%.3g of the drafts", validDrafts))
		it.Check(a.arm, "covered places", covered, AtLeast(0.7), "")
		it.Check(a.arm, "FD-PCA of drafts, multiple of revised drafts'", draftDistance/distance, AtMost(4), fmt.Sprintf("%.3g", draftDistance))
		first := revision.values[min(19, len(revision.values)-1)]
		it.Check(a.arm, "‖revised − draft‖² at iteration 20, multiple of the end's", first/revision.mean(20), AtLeast(3), "")
		if err := e.coopvaebmCodes(ctx, it, a.arm, b, s); err != nil {
			return 0, err
		}
		return validDrafts, e.pictures("coopvaebm-blobs", revised, b.held)
	case Untrained:
		it.Check(a.arm, a.what+"FD-PCA of revised drafts, share of untrained drafts'", distance/before, AtLeast(0.06), remark)
		it.Check(a.arm, a.what+"FD-PCA of drafts, multiple of revised drafts'", draftDistance/distance, AtLeast(4), "must not catch up")
	case "0":
		it.Check(a.arm, a.what+"valid drafts, less than W's by", works-validDrafts, AtLeast(0.3), remark)
	case "KL":
		// codes spread without bound, and drafts of standard normal ones are no pictures
		it.Check(a.arm, a.what+"valid drafts, less than W's by", works-validDrafts, AtLeast(0.3), remark)
	default:
		it.Check(a.arm, a.what+"FD-PCA of revised drafts, share of untrained drafts'", distance/before, AtLeast(0.06), remark)
	}
	return validDrafts, nil
}

// coopvaebmCodes: real pictures through encoder and generator, which saw none.
func (e Env) coopvaebmCodes(ctx context.Context, it *Item, arm string, b blobs, s *coopvaebm.System) error {
	held := b.held.Head(400).X()
	r, err := s.Reconstruct(ctx, held, nil, e.Seed)
	if err != nil {
		return err
	}
	it.Check(arm, "held-out reconstruction error, share of the pixels' variance", training.MSE(held, r)/b.variance, AtMost(0.35), "")
	d := s.Codes()
	z, logvar := make([]float32, 400*d), make([]float32, 400*d)
	if err := s.Drafts.Net.Encode(ctx, held, z, logvar); err != nil {
		return err
	}
	mean, spread := 0.0, 0.0
	for k := range d {
		column := make([]float32, 400)
		for i := range column {
			column[i] = z[i*d+k]
			spread += math.Exp(float64(logvar[i*d+k])) / float64(400*d)
		}
		m, sd := training.Moments(column)
		mean, spread = mean+math.Abs(m)/float64(d), spread+sd*sd/float64(d)
	}
	it.Check(arm, "mean size of the codes' means", mean, AtMost(0.3), "")
	it.Check(arm, "mean variance of the codes", spread, Within(0.5, 1.5), "")
	return nil
}
