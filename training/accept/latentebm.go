package accept

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/training"
	"ebmrun/training/ais"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/latentebm"
)

// LatentEBM is the acceptance of latent-ebm. In the arm F the codes of prior and
// posterior are swapped where the prior learns.
var LatentEBM = Suite{"latent-ebm", []Part{
	{"prior-chains", "chains of a linear prior have the mean and the variance of Langevin steps", true, priorChains},
	{"likelihood", "annealed importance sampling on a linear prior and a linear generator", true, linearLikelihood},
	{"tilt", "a linear prior finds the mean of Gaussian data", false, tiltedPrior},
	{"modes", "four Gaussians, the generator being the identity", false, latentModes},
	{"blobs", "discs of 16×16: reconstructions, and samples of the learned prior", false, latentBlobs},
	{"anomaly", "glyphs of a class that was left out", false, latentAnomaly},
}}

// linearPair is a prior N(σ0²a, σ0²I) and the generator x = zW.
func (e Env) linearPair(ctx context.Context, sigma0 float64, a, w []float32, sigma float64) (Energy, Generator, error) {
	d := len(a)
	p, g, err := e.latent(ctx, energy.Spec{Layers: []energy.Layer{{Filters: 1}}, Activation: "linear"}, sigma0,
		generator.Spec{Codes: d, Activation: "linear", Layers: []generator.Layer{{}}}, []int{len(w) / d}, sigma)
	if err != nil {
		return nil, nil, err
	}
	err = errors.Join(setWeights(p.Params(), map[string][]float32{"layer1.weight": a, "layer1.bias": {0}}),
		setWeights(g.Params(), map[string][]float32{"layer1.weight": w, "layer1.bias": make([]float32, len(w)/d)}))
	p.Refresh()
	return p, fixed{g}, err
}

func latentConfig(change func(c *latentebm.Config)) latentebm.Config {
	c, _ := latentebm.For("pictures-16", []int{1, 16, 16}, 0)
	change(&c)
	return c
}

// priorChains: K0 = 60 steps of size 0.4 from N(0, σ0²I).
func priorChains(ctx context.Context, e Env, it *Item) error {
	const n, size, steps, sigma0 = 20000, 0.4, 60, 1.2
	a := []float32{1, -0.5}
	p, g, err := e.linearPair(ctx, sigma0, a, []float32{1, 0, 0, 1}, 0.3)
	if err != nil {
		return err
	}
	defer p.Close()
	defer g.Close()
	m := latentebm.Model{Prior: p, Generator: g, Dim: 2, Config: latentConfig(func(c *latentebm.Config) {
		c.Prior, c.Reference.Sigma, c.Batch = training.Langevin{Steps: steps, Step: size, Noise: 1, Fused: true}, sigma0, n
	})}
	z, err := m.PriorCodes(ctx, n, e.Seed, true)
	if err != nil {
		return err
	}
	const v0 = sigma0 * sigma0
	shrink := math.Pow(1-size*size/(2*v0), steps)
	limit := v0 / (1 - size*size/(4*v0))
	want := limit + shrink*shrink*(v0-limit)
	for k, slope := range a {
		column := make([]float32, n)
		for i := range column {
			column[i] = z[2*i+k]
		}
		mean, sd := training.Moments(column)
		at := v0 * float64(slope) * (1 - shrink)
		it.Check("", fmt.Sprintf("mean of code %d, %.4f expected", k+1, at), mean, Within(at-4*sd/math.Sqrt(n), at+4*sd/math.Sqrt(n)), "")
		it.Check("", fmt.Sprintf("variance of code %d, %.4f expected", k+1, want), sd*sd, Within(0.96*want, 1.04*want), "")
	}
	return nil
}

// linearLikelihood: log Z is (d/2)·log(2πσ0²) + σ0²‖a‖²/2, and examples of the
// factor model whose codes have the mean a have a Gaussian density.
func linearLikelihood(ctx context.Context, e Env, it *Item) error {
	a := []float32{0.7, -0.4, 1}
	p, g, err := e.linearPair(ctx, 1, a, factorWeights(), factorResidual)
	if err != nil {
		return err
	}
	defer p.Close()
	defer g.Close()
	m := latentebm.Model{Prior: p, Generator: g, Dim: 12, Config: latentConfig(func(c *latentebm.Config) {
		c.Sigma, c.Batch = factorResidual, 2000
	})}
	logZ, se, err := m.LogZ(ctx, 2000, e.Seed, ais.Options{})
	if err != nil {
		return err
	}
	want, mean := 1.5*math.Log(2*math.Pi), [3]float64{}
	for k, v := range a {
		want += float64(v) * float64(v) / 2
		mean[k] = float64(v)
	}
	it.Check("", fmt.Sprintf("log Z of the prior, %.4f expected", want), logZ, Within(want-0.03, want+0.03), fmt.Sprintf("standard error %.2g", se))
	set := e.factors(20, 7)
	logp, ses, err := m.LogLikelihood(ctx, set.X(), want, 400, e.Seed, ais.Options{Levels: 400})
	if err != nil {
		return err
	}
	worst, off, error1 := 0.0, 0.0, 0.0
	for i, v := range logp {
		d := v - factorDensity(set.At(i), mean)
		worst = max(worst, math.Abs(d))
		off += d / float64(set.N)
		error1 += ses[i] / float64(set.N)
	}
	it.Check("", "mean error of log p(x), nats", off, Within(-0.05, 0.05), fmt.Sprintf("standard errors of examples %.2g", error1))
	it.Check("", "largest error of log p(x), nats", worst, AtMost(0.3), "")
	return nil
}

// seenAll is the arm that learns from what is to be unknown.
const seenAll = "S"

// arms of the prior's learning.
var latentSabotage = map[string]string{Works: "", Flipped: latentebm.Flip}

// latentArm trains one arm and hands the system to use; an arm that a guard ended is
// used as it was left.
func (e Env) latentArm(ctx context.Context, what, arm string, c latentebm.Config, p Energy, g Generator, set *data.Set) (*latentebm.System, error, error) {
	c.Sabotage = latentSabotage[arm]
	s, err := latentebm.New(c, p, g, set, e.Seed)
	if err != nil {
		return nil, nil, err
	}
	ended, err := e.learn(ctx, what, arm, s, c.Steps, c.Guard)
	return s, ended, err
}

// tiltedPrior: g the identity, f linear, data of N(m, (1+σ²)I): a = m.
func tiltedPrior(ctx context.Context, e Env, it *Item) error {
	m := []float32{0.8, -0.5}
	set := &data.Set{Name: "normal", N: 10000, C: 2, H: 1, W: 1, Floats: make([]float32, 20000), Gain: 1}
	rng := e.random(8)
	for i := range set.Floats {
		set.Floats[i] = m[i%2] + float32(math.Sqrt(1.09)*rng.NormFloat64())
	}
	for _, arm := range []string{Works, Flipped} {
		p, g, err := e.linearPair(ctx, 1, []float32{0, 0}, []float32{1, 0, 0, 1}, 0.3)
		if err != nil {
			return err
		}
		defer p.Close()
		defer g.Close()
		_, ended, err := e.latentArm(ctx, "tilt", arm, latentConfig(func(c *latentebm.Config) {
			c.Steps, c.Batch = 600, 200
			c.Prior, c.Posterior = training.Langevin{Steps: 60, Step: 0.4, Noise: 1, Fused: true}, training.Langevin{Steps: 20, Step: 0.2, Noise: 1}
			c.Optim, c.Teach = training.Optim{Name: "sgd", LR: 0.1, Decay: 0.1}, training.Optim{Name: "sgd", LR: 1}
		}), p, g, set)
		if err != nil {
			return err
		}
		worst := 0.0
		for _, q := range p.Params() {
			if q.Name == "layer1.weight" {
				for k, v := range q.W {
					worst = max(worst, math.Abs(float64(v-m[k])))
				}
			}
		}
		if arm == Works {
			it.Check(arm, "largest error of a, the data's mean expected", worst, AtMost(0.05), endedBy(ended))
		} else {
			it.Check(arm, "largest error of a", worst, AtLeast(0.5), endedBy(ended))
		}
	}
	return nil
}

// latentModes: four Gaussians of deviation 0.5 on radius 2. The posterior of a code
// has the precision 1 + 1/0.09: 30 steps of 0.15 forget where they began (a
// hundredth is left), 20 of 0.1 keep a third and learn a prior that is too narrow.
func latentModes(ctx context.Context, e Env, it *Item) error {
	const sigma, sd, radius, n = 0.3, 0.5, 2.0, 2000
	var centres [][2]float64
	for k := range 4 {
		s, c := math.Sincos(math.Pi / 2 * float64(k))
		centres = append(centres, [2]float64{radius * c, radius * s})
	}
	draw := func(n int, label uint64) []float32 {
		rng, x := e.random(label), make([]float32, 0, 2*n)
		for range n {
			c := centres[rng.IntN(4)]
			x = append(x, float32(c[0]+sd*rng.NormFloat64()), float32(c[1]+sd*rng.NormFloat64()))
		}
		return x
	}
	set := &data.Set{Name: "four Gaussians", N: 8000, C: 2, H: 1, W: 1, Floats: draw(8000, 9), Gain: 1}
	held, rng := draw(n, 10), e.random(11)
	noisy := func(z []float32) []float32 {
		z = slices.Clone(z)
		for i := range z {
			z[i] += float32(sigma * rng.NormFloat64())
		}
		return z
	}
	for _, arm := range []string{Works, Flipped} {
		c := latentConfig(func(c *latentebm.Config) {
			c.Hidden, c.Steps, c.Batch, c.Sigma = []int{64, 64}, 1500, 200, sigma
			c.Prior, c.Posterior = training.Langevin{Steps: 40, Step: 0.2, Noise: 1, Fused: true}, training.Langevin{Steps: 30, Step: 0.15, Noise: 1}
			c.Optim.LR, c.Teach = 1e-3, training.Optim{Name: "sgd", LR: 1}
		})
		p, g, err := e.latent(ctx, c.PriorNet(), 1, generator.Spec{Codes: 2, Activation: "linear", Layers: []generator.Layer{{}}}, []int{2}, sigma)
		if err != nil {
			return err
		}
		defer p.Close()
		defer g.Close()
		if err := setWeights(g.Params(), map[string][]float32{"layer1.weight": {1, 0, 0, 1}, "layer1.bias": {0, 0}}); err != nil {
			return err
		}
		s, ended, err := e.latentArm(ctx, "modes", arm, c, p, fixed{g}, set)
		if err != nil {
			return err
		}
		z, err := s.PriorCodes(ctx, n, e.Seed, true)
		if err != nil {
			return err
		}
		plain, err := s.PriorCodes(ctx, n, e.Seed, false)
		if err != nil {
			return err
		}
		x := noisy(z)
		mmd, err := diag.MMD2(held, x, 2, 0)
		if err != nil {
			return err
		}
		of, err := diag.MMD2(held, noisy(plain), 2, 0)
		if err != nil {
			return err
		}
		share, _, err := diag.Modes(x, centres, 2)
		if err != nil {
			return err
		}
		if arm == Works {
			it.Check(arm, "smallest share of a mode", slices.Min(share), AtLeast(0.15), endedBy(ended))
			it.Check(arm, "largest share of a mode", slices.Max(share), AtMost(0.35), "")
			it.Check(arm, "MMD² with the data, share of that of N(0, I)", mmd/of, AtMost(0.2), fmt.Sprintf("%.3g and %.3g", mmd, of))
		} else {
			it.Check(arm, "MMD² with the data, share of that of N(0, I)", mmd/of, AtLeast(1), endedBy(ended))
		}
	}
	return nil
}

// latentBlobs: the learned prior against N(0, I) through the same generator.
func latentBlobs(ctx context.Context, e Env, it *Item) error {
	b, err := e.blobs(ctx)
	if err != nil {
		return err
	}
	it.Check("", "FD-PCA of real pictures (the floor)", b.floor, Reported, "")
	for _, arm := range []string{Works, Flipped} {
		c := latentConfig(func(*latentebm.Config) {})
		spec, err := c.GeneratorNet()
		if err != nil {
			return err
		}
		p, g, err := e.latent(ctx, c.PriorNet(), c.Reference.Sigma, spec, []int{1, 16, 16}, c.Sigma)
		if err != nil {
			return err
		}
		defer p.Close()
		defer g.Close()
		gap := &lately{}
		c.Sabotage = latentSabotage[arm]
		s, err := latentebm.New(c, p, g, b.train, e.Seed)
		if err != nil {
			return err
		}
		ended, err := e.learn(ctx, "blobs", arm, gap.of(s, "u_gap"), c.Steps, c.Guard)
		if err != nil {
			return err
		}
		x, err := s.Draw(ctx, compared, e.Seed)
		if err != nil {
			return err
		}
		learned, err := b.distance(x)
		if err != nil {
			return err
		}
		z, err := s.PriorCodes(ctx, compared, e.Seed, false)
		if err != nil {
			return err
		}
		y, err := s.Decode(ctx, z)
		if err != nil {
			return err
		}
		plain, err := b.distance(y)
		if err != nil {
			return err
		}
		remark := fmt.Sprintf("%.3g and %.3g", learned, plain)
		if arm == Flipped {
			it.Check(arm, "FD-PCA, share of that of N(0, I)", learned/plain, AtLeast(1), endedBy(ended)+" "+remark)
			continue
		}
		held := b.held.Head(200).X()
		r, err := s.Reconstruct(ctx, held, nil, e.Seed)
		if err != nil {
			return err
		}
		it.Check(arm, "FD-PCA, share of that of N(0, I)", learned/plain, AtMost(0.8), remark)
		it.Check(arm, "held-out reconstruction error, share of the pixels' variance", training.MSE(held, r)/b.variance, AtMost(0.15), "")
		it.Check(arm, "mean U(z⁺) − mean U(z⁻), last fifth", gap.mean(c.Steps/5), Within(-1, 1), "")
		if err := e.pictures("latent-ebm-blobs", x, b.held); err != nil {
			return err
		}
	}
	return nil
}

// lately keeps one metric of every iteration.
type lately struct {
	training.System
	name   string
	values []float64
}

func (l *lately) of(s training.System, name string) training.System {
	l.System, l.name = s, name
	return l
}

// Step implements [training.System].
func (l *lately) Step(ctx context.Context) (training.Metrics, error) {
	m, err := l.System.Step(ctx)
	l.values = append(l.values, m[l.name])
	return m, err
}

// mean is over the last n iterations.
func (l *lately) mean(n int) (sum float64) {
	last := l.values[max(0, len(l.values)-n):]
	for _, v := range last {
		sum += v / float64(len(last))
	}
	return sum
}

// latentAnomaly: learned from three classes of glyphs, the fourth is to score low. In
// the arm S nothing is left out: what was learned from cannot be told from the rest.
func latentAnomaly(ctx context.Context, e Env, it *Item) error {
	all, err := data.Load(ctx, "synthetic/glyph16", data.Options{Seed: e.Seed, Part: "train"})
	if err != nil {
		return err
	}
	held, err := data.Load(ctx, "synthetic/glyph16", data.Options{Seed: e.Seed, Part: "test", Limit: 400})
	if err != nil {
		return err
	}
	// judged is how unlikely held-out glyphs are by what is learned from a set
	judged := func(what, arm string, set *data.Set) (surprise []float64, ended, err error) {
		c := latentConfig(func(c *latentebm.Config) { c.Steps = 250 })
		spec, err := c.GeneratorNet()
		if err != nil {
			return nil, nil, err
		}
		p, g, err := e.latent(ctx, c.PriorNet(), c.Reference.Sigma, spec, []int{1, 16, 16}, c.Sigma)
		if err != nil {
			return nil, nil, err
		}
		defer p.Close()
		defer g.Close()
		s, ended, err := e.latentArm(ctx, "anomaly, "+what, arm, c, p, g, set)
		if err != nil {
			return nil, nil, err
		}
		_, score, err := s.Score(ctx, held.X(), e.Seed)
		for _, v := range score {
			surprise = append(surprise, -v)
		}
		return surprise, ended, err
	}
	seen, over, err := judged("nothing left out,", seenAll, all)
	if err != nil {
		return err
	}
	worst, gain, sabotaged, remark := math.Inf(1), 0.0, 0.0, ""
	for k, class := range all.Classes {
		var rest []int
		for j := range all.Classes {
			if j != k {
				rest = append(rest, j)
			}
		}
		set, err := all.OfClass(rest...)
		if err != nil {
			return err
		}
		surprise, ended, err := judged(class+" left out,", Works, set)
		if err != nil {
			return err
		}
		odd, n := make([]bool, held.N), 0
		for i, l := range held.Labels {
			if odd[i] = l == k; odd[i] {
				n++
			}
		}
		share := float64(n) / float64(held.N)
		area, err := diag.AveragePrecision(surprise, odd)
		if err != nil {
			return err
		}
		spoiled, err := diag.AveragePrecision(seen, odd)
		if err != nil {
			return err
		}
		classes := float64(len(all.Classes))
		worst, gain, sabotaged = min(worst, area-share), gain+(area-share)/classes, sabotaged+(spoiled-share)/classes
		remark += fmt.Sprintf("%s %.3f (%s %.3f) of %.3f%s ", class, area, seenAll, spoiled, share, endedBy(ended))
	}
	const area = "area under precision and recall above the share of anomalies, mean of four classes"
	it.Check(Works, area, gain, AtLeast(0.25), remark)
	it.Check(Works, "the same, worst class", worst, Reported, "")
	it.Check(seenAll, area, sabotaged, AtMost(0.15), endedBy(over))
	return nil
}
