package accept

import (
	"context"
	"fmt"
	"math"

	"ebmrun/training"
	"ebmrun/training/vae"
)

// VAE is the acceptance of vae. In the arm F the sign of the divergence is turned.
var VAE = Suite{"vae", []Part{
	{"exact", "draws from the exact posterior of a linear generator weigh an example by its density", true, exactPosterior},
	{"factors", "the bound reaches the likelihood of a linear generator", false, factorBound},
	{"blobs", "discs of 16×16: reconstructions and samples", false, vaeBlobs},
}}

var vaeSabotage = map[string]string{Works: "", Untrained: vae.Freeze, Flipped: vae.Flip}

func linearVAE(change func(c *vae.Config)) vae.Config {
	c, _ := vae.For("pictures-16", []int{1, 16, 16}, 0)
	c.Nets, c.Sigma = vae.Nets{Encoder: "linear", Generator: "linear"}, factorResidual
	change(&c)
	return c
}

func exactPosterior(ctx context.Context, e Env, it *Item) error {
	c := linearVAE(func(c *vae.Config) { c.Draws = 20 })
	net, err := e.autoencoder(ctx, &c.Nets, []int{12}, c.Sigma)
	if err != nil {
		return err
	}
	defer net.Close()
	mean, logvar := make([]float32, 12*3), make([]float32, 3)
	for k, s := range factorScales {
		precision := 1 + s*s/(factorResidual*factorResidual)
		logvar[k] = float32(-math.Log(precision))
		for j := range factorGroup {
			mean[(k*factorGroup+j)*3+k] = float32(s / 2 / (factorResidual * factorResidual) / precision)
		}
	}
	if err := setWeights(net.Params(), map[string][]float32{
		"mean.weight": mean, "mean.bias": make([]float32, 3), "logvar.weight": make([]float32, 12*3), "logvar.bias": logvar,
		"layer1.weight": factorWeights(), "layer1.bias": make([]float32, 12),
	}); err != nil {
		return err
	}
	set := e.factors(50, 7)
	for _, wrong := range []bool{false, true} {
		m := vae.Of(net, 12, c.Sigma, c.Draws, c.Rounds)
		if wrong {
			m.Sigma *= 1.1
		}
		_, score, err := m.Score(ctx, set.X(), e.Seed)
		if err != nil {
			return err
		}
		worst := 0.0
		for i, v := range score {
			worst = max(worst, math.Abs(v-factorDensity(set.At(i), [3]float64{})))
		}
		if wrong {
			it.Check("", "the same with a deviation that is wrong by a tenth: must fail", worst, AtLeast(0.1), "")
		} else {
			it.Check("", "largest error of log p(x), nats", worst, AtMost(0.005), "")
		}
	}
	return nil
}

// factorBound: the posterior of a linear generator is one that a linear encoder can
// give.
func factorBound(ctx context.Context, e Env, it *Item) error {
	set, held := e.factors(4000, 12), e.factors(500, 13)
	for _, arm := range []string{Untrained, Works, Flipped} {
		c := linearVAE(func(c *vae.Config) {
			c.Steps, c.Batch, c.Sabotage = shrunkVAE(arm, 1500), 100, vaeSabotage[arm]
			c.KL.Warmup, c.Optim = 100, training.Optim{LR: 0.02, Decay: 0.05}
		})
		net, err := e.autoencoder(ctx, &c.Nets, []int{12}, c.Sigma)
		if err != nil {
			return err
		}
		defer net.Close()
		s, err := vae.New(c, net, set, e.Seed)
		if err != nil {
			return err
		}
		ended, err := e.learn(ctx, "factors", arm, s, c.Steps, c.Guard)
		if err != nil {
			return err
		}
		s.Draws = 1
		_, bound, err := s.Score(ctx, held.X(), e.Seed)
		if err != nil {
			return err
		}
		gap := 0.0
		for i, v := range bound {
			gap += (factorDensity(held.At(i), [3]float64{}) - v) / float64(held.N)
		}
		limit := AtLeast(1)
		if arm == Works {
			limit = AtMost(0.15)
		}
		it.Check(arm, "held-out likelihood above the bound, nats", gap, limit, endedBy(ended))
	}
	return nil
}

// shrunkVAE is the number of iterations of an arm.
func shrunkVAE(arm string, steps int) int {
	if arm == Works {
		return steps
	}
	return steps / 5
}

func vaeBlobs(ctx context.Context, e Env, it *Item) error {
	b, err := e.blobs(ctx)
	if err != nil {
		return err
	}
	it.Check("", "FD-PCA of real pictures (the floor)", b.floor, Reported, "")
	untrained := math.NaN()
	for _, arm := range []string{Untrained, Works, Flipped} {
		c, err := vae.For("pictures-16", []int{1, 16, 16}, 0)
		if err != nil {
			return err
		}
		c.Steps, c.Sabotage = shrunkVAE(arm, c.Steps), vaeSabotage[arm]
		net, err := e.autoencoder(ctx, &c.Nets, []int{1, 16, 16}, c.Sigma)
		if err != nil {
			return err
		}
		defer net.Close()
		s, err := vae.New(c, net, b.train, e.Seed)
		if err != nil {
			return err
		}
		ended, err := e.learn(ctx, "blobs", arm, s, c.Steps, c.Guard)
		if err != nil {
			return err
		}
		x, err := s.Draw(ctx, compared, e.Seed)
		if err != nil {
			return err
		}
		distance, err := b.distance(x)
		if err != nil {
			return err
		}
		held := b.held.Head(200).X()
		r, err := s.Reconstruct(ctx, held, nil, e.Seed)
		if err != nil {
			return err
		}
		share := training.MSE(held, r) / b.variance
		switch arm {
		case Untrained:
			untrained = distance
			it.Check(arm, "FD-PCA of samples", distance, Reported, fmt.Sprintf("reconstruction error %.3g of the variance", share))
		case Works:
			it.Check(arm, "FD-PCA of samples, share of U's", distance/untrained, AtMost(0.25), fmt.Sprintf("FD-PCA %.3g", distance))
			it.Check(arm, "held-out reconstruction error, share of the pixels' variance", share, AtMost(0.15), "")
			if err := e.pictures("vae-blobs", x, b.held); err != nil {
				return err
			}
		case Flipped:
			it.Check(arm, "FD-PCA of samples, share of U's", distance/untrained, AtLeast(0.3), endedBy(ended))
			it.Check(arm, "held-out reconstruction error, share of the pixels' variance", share, AtLeast(0.5), "")
		}
	}
	return nil
}
