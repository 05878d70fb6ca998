package accept

import (
	"context"
	"fmt"
	"math"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/maxent"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
	"ebmrun/training/sparseframe"
)

var sparseFrameSuite = Suite{"sparse-frame", []Part{
	{"increments", "responses kept up to date over 100 sweeps are those worked out anew", true, sparseIncrements},
	{"square", "the atoms of a known template of 48×48, from 36 pictures sampled of it", false, sparseSquare},
	{"learning", "cartoon faces of 48×48: responses are matched", false, sparseLearning},
	{"mixing", "Gibbs sweeps forget faster than HMC", false, sparseMixing},
	{"clusters", "cartoon faces upright and upside down, told apart by hard EM", false, sparseClusters},
}}

func sparseConfig(how string, change func(*sparseframe.Config)) (sparseframe.Config, error) {
	c, err := sparseframe.For(how, nil, 0)
	change(&c)
	return c, err
}

// sparse assembles a system whose energy, if it has one, is on the engine.
func (e Env) sparse(ctx context.Context, c sparseframe.Config, set *data.Set, seed uint64) (s *sparseframe.System, release func(), err error) {
	var net Energy
	s, err = sparseframe.New(ctx, c, func(ctx context.Context, taps []float32) (training.Energy, error) {
		var err error
		net, err = e.atoms(ctx, set, taps)
		return net, err
	}, set, seed)
	return s, func() {
		if net != nil {
			net.Close()
		}
	}, err
}

func (e Env) atoms(ctx context.Context, set *data.Set, taps []float32) (Energy, error) {
	m, err := energy.Linear(set.Dims(), 1, false, energy.Atoms(taps))
	if err != nil {
		return nil, err
	}
	return e.Bind(ctx, m)
}

func sparseIncrements(_ context.Context, e Env, it *Item) error {
	c, err := sparseConfig(sparseframe.Boost, func(*sparseframe.Config) {})
	if err != nil {
		return err
	}
	off, err := sparseframe.Drift(c, 48, 20, 4, 100, e.Seed)
	it.Check("", "largest error of a response", off, AtMost(1e-3), "")
	return err
}

func sparseSquare(ctx context.Context, e Env, it *Item) error {
	const repetitions = 3
	for _, theta := range []float64{1, 2, 4} {
		mean, chance := map[string]float64{}, 0.0
		for rep := range uint64(repetitions) {
			for _, how := range []string{sparseframe.Pursuit, sparseframe.Boost} {
				c, err := sparseConfig(how, func(c *sparseframe.Config) {
					c.Shift, c.Turn, c.Local, c.Atoms, c.HMC.Leapfrogs = 0, 0, false, 16, 1
					c.Cells, c.Every, c.Steps, c.Optim.LR = 2, 6, 96, 0.15
				})
				if err != nil {
					return err
				}
				set, truth, err := sparseframe.Square(c, 48, 20, 4, 36, theta, e.Seed+1000*rep)
				if err != nil {
					return err
				}
				s, release, err := e.sparse(ctx, c, set, e.Seed+rep)
				if err != nil {
					return err
				}
				if how == sparseframe.Boost {
					_, err = e.learn(ctx, fmt.Sprintf("square λ=%g", theta), Works, s, c.Steps, c.Guard)
				}
				if release(); err != nil {
					return err
				}
				mean[how] += s.Likeness(truth) / repetitions
				chance += s.Chance(truth, e.Seed+rep) / (2 * repetitions)
			}
		}
		boost, pursuit := mean[sparseframe.Boost], mean[sparseframe.Pursuit]
		it.Check(Works, fmt.Sprintf("correlation with the truth, boosting less pursuit, λ = %g", theta), boost-pursuit, AtLeast(-0.02), fmt.Sprintf("%.3f and %.3f", boost, pursuit))
		it.Check(Untrained, fmt.Sprintf("correlation of random atoms, λ = %g", theta), chance, AtMost(0.4), "")
		if theta == 4 {
			it.Check(Works, "correlation of boosted atoms with the truth, λ = 4", boost, AtLeast(0.9), "")
		}
	}
	return nil
}

func sparseFaces(ctx context.Context, e Env) (*data.Set, error) {
	return data.Load(ctx, "synthetic/face", data.Options{Seed: e.Seed, Size: 48, Limit: 15})
}

func sparseLearning(ctx context.Context, e Env, it *Item) error {
	set, err := sparseFaces(ctx, e)
	if err != nil {
		return err
	}
	for _, how := range []string{sparseframe.Pursuit, sparseframe.Boost} {
		for _, arm := range []string{Works, Untrained, Flipped} {
			c, err := sparseConfig(how, func(c *sparseframe.Config) { c.Sabotage = maxentSabotage[arm] })
			if err != nil {
				return err
			}
			s, release, err := e.sparse(ctx, c, set, e.Seed)
			if err != nil {
				return err
			}
			defer release()
			steps := c.Steps
			if arm == Flipped {
				steps /= 5
			}
			if _, err := e.learn(ctx, how, arm, s, steps, c.Guard); err != nil {
				return err
			}
			m, err := s.Evaluate(ctx)
			if err != nil {
				return err
			}
			limit := AtMost(0.25)
			if arm != Works {
				limit = AtLeast(0.6)
			}
			it.Check(arm, "gap of responses, "+how, m["response_gap"], limit, fmt.Sprintf("%d atoms", len(s.Atoms)))
			if arm != Works {
				continue
			}
			pics, err := s.Pictures(ctx)
			if err != nil {
				return err
			}
			img, err := record.Strip(2, 2, pics[0].Rows...)
			if err := e.show("sparse-frame-"+how, img, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// sparseMixing compares how the score forgets itself under the same weights: 20 sweeps against 20 HMC
// trajectories of 30 leapfrogs.
func sparseMixing(ctx context.Context, e Env, it *Item) error {
	const lag, burn, length, chains = 20, 100, 150, 16
	set, err := sparseFaces(ctx, e)
	if err != nil {
		return err
	}
	c, err := sparseConfig(sparseframe.Boost, func(c *sparseframe.Config) { c.Atoms, c.Chains, c.Steps = 50, chains, 40 })
	if err != nil {
		return err
	}
	s, release, err := e.sparse(ctx, c, set, e.Seed)
	if err != nil {
		return err
	}
	defer release()
	if _, err := e.learn(ctx, "mixing", Works, s, c.Steps, c.Guard); err != nil {
		return err
	}
	net, err := e.atoms(ctx, set, s.Taps())
	if err != nil {
		return err
	}
	defer net.Close()
	for j, v := range s.Theta {
		net.Params()[0].W[j] = float32(v)
	}
	net.Refresh()
	dim := set.Dim()
	series := func(step func() ([]float32, error)) (mean float64, err error) {
		f := make([][]float64, chains)
		for t := range burn + length {
			x, err := step()
			if err != nil {
				return 0, err
			}
			if t < burn {
				continue
			}
			u, g := make([]float32, chains), make([]float32, len(x))
			if err := net.EnergyGrad(x, u, g); err != nil {
				return 0, err
			}
			for k := range chains {
				square := 0.0
				for _, v := range x[k*dim : (k+1)*dim] {
					square += float64(v) * float64(v)
				}
				f[k] = append(f[k], square/2-float64(u[k]))
			}
		}
		for k := range chains {
			rho, err := diag.Autocorrelation(f[k], lag)
			if err != nil {
				return 0, err
			}
			mean += rho[lag] / chains
		}
		return mean, nil
	}
	s.Config.Sabotage = maxent.Freeze // sweeps alone
	s.Config.Sweeps = 1
	gibbs, err := series(func() ([]float32, error) {
		_, err := s.Step(ctx)
		return s.Samples(chains), err
	})
	if err != nil {
		return err
	}
	state, err := sampler.NewState(s.Samples(chains), dim, sampler.Chains(0, chains))
	if err != nil {
		return err
	}
	kernel := sampler.HMC{Size: 0.03, Leapfrogs: 30, Mass: 0.1}
	hmc, err := series(func() ([]float32, error) {
		_, err := sampler.Run(ctx, sampler.Noise{Seed: e.Seed}, kernel, net, state, 1, nil)
		return state.X, err
	})
	it.Check(Works, "autocorrelation of the score at lag 20, Gibbs less HMC", math.Abs(gibbs)-math.Abs(hmc), AtMost(0.1), fmt.Sprintf("%.3f and %.3f", gibbs, hmc))
	return err
}

func sparseClusters(ctx context.Context, e Env, it *Item) error {
	set, err := data.Load(ctx, "synthetic/face", data.Options{Seed: e.Seed, Size: 32, Limit: 30})
	if err != nil {
		return err
	}
	set.Labels = make([]int, set.N)
	for i := 1; i < set.N; i += 2 {
		set.Labels[i] = 1
		x := set.At(i)
		for y := range set.H / 2 {
			for z := range set.W {
				a, b := y*set.W+z, (set.H-1-y)*set.W+z
				x[a], x[b] = x[b], x[a]
			}
		}
	}
	c, err := sparseConfig(sparseframe.Boost, func(c *sparseframe.Config) {
		c.Atoms, c.Steps, c.Scales, c.Shift, c.Turn = 40, 25, []float64{0.5}, 1, 0
	})
	if err != nil {
		return err
	}
	assigned, err := sparseframe.Cluster(ctx, c, set, 2, 10, 5, e.Seed)
	if err != nil {
		return err
	}
	it.Check(Works, "purity of two clusters", diag.Purity(assigned, set.Labels), AtLeast(0.75), fmt.Sprintf("%d pictures", set.N))
	turned := make([]int, len(assigned))
	for i := range turned {
		turned[i] = i / 2 % 2
	}
	it.Check(Untrained, "purity of arbitrary clusters", diag.Purity(turned, set.Labels), AtMost(0.7), "")
	return nil
}
