package generator

import (
	"fmt"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
)

// squared is the squared error of every example over its known entries,
// summed over entries: a mean here would weaken the likelihood against the prior.
func squared(b *graphs.Builder, x, target, mask *graphs.Value) *graphs.Value {
	axes := make([]int64, len(x.Shape)-1)
	for i := range axes {
		axes[i] = int64(i + 1)
	}
	d := b.Mul(mask, b.Sub(target, x))
	return b.Sum(b.Mul(d, d), false, axes...)
}

// masked appends a loss of every example, the squared error for nil.
func masked(b *graphs.Builder, g *graphs.Graph, loss Loss) *graphs.Value {
	x := g.Output(X)
	target := b.Input(Target, graphs.Float32, x.Shape)
	mask := b.Input(Mask, graphs.Float32, x.Shape)
	b.Prefix("error")
	if loss == nil {
		loss = squared
	}
	return loss(b, x, target, mask)
}

// Posterior is the model z, target, mask → energy, error, grad/z of the joint
// density of code and example,
//
//	energy = ‖z‖²/2 + ‖mask·(target − g(z))‖²/(2σ²):
//
// the field of Langevin inference, one graph.
func (m *Model) Posterior(sigma float64) (*graphs.Model, error) {
	return m.posterior(sigma, func(p *graphs.Model, z *graphs.Value) (*graphs.Graph, *graphs.Value, error) {
		b := graphs.NewBuilder(p.Graph)
		b.Prefix("energy")
		return p.Graph, b.Scale(b.Sum(b.Mul(z, z), false, 1), 0.5), b.Err()
	})
}

// PriorPrefix begins the names of a learned prior's weights in [Model.PosteriorUnder].
const PriorPrefix = "prior/"

// PosteriorUnder is [Model.Posterior] with the density exp(−U(z)) of an energy of
// codes in place of N(0, I),
//
//	energy = U(z) + ‖mask·(target − g(z))‖²/(2σ²):
//
// both networks joined in one graph and differentiated once.
func (m *Model) PosteriorUnder(prior *onnxmodels.Model, sigma float64) (*graphs.Model, error) {
	if len(prior.Dims) != 1 || prior.Dims[0] != m.Codes {
		return nil, fmt.Errorf("generator: the prior is over codes of %v, the generator takes %d", prior.Dims, m.Codes)
	}
	return m.posterior(sigma, func(p *graphs.Model, z *graphs.Value) (*graphs.Graph, *graphs.Value, error) {
		b := graphs.NewBuilder(p.Graph)
		const code = "joint/code"
		b.Output(code, b.Identity(z))
		if err := b.Err(); err != nil {
			return nil, nil, err
		}
		u, err := autodiff.Prepare(prior.Model)
		if err != nil {
			return nil, nil, err
		}
		if err := passes.CutAt(u.Graph, onnxmodels.Energy); err != nil {
			return nil, nil, err
		}
		if err := passes.RenameFunc(u.Graph, func(name string) string { return PriorPrefix + name }); err != nil {
			return nil, nil, err
		}
		g, err := passes.Join(p.Graph, u.Graph, map[string]string{code: PriorPrefix + onnxmodels.X})
		if err != nil {
			return nil, nil, err
		}
		return g, g.Output(PriorPrefix + onnxmodels.Energy), nil
	})
}

// posterior adds the likelihood to an energy of codes that prior appends to the
// graph, in place or in a new one, and takes the slope.
func (m *Model) posterior(sigma float64, prior func(p *graphs.Model, z *graphs.Value) (*graphs.Graph, *graphs.Value, error)) (*graphs.Model, error) {
	if !(sigma > 0) {
		return nil, fmt.Errorf("generator: residual deviation sigma: wanted a positive number, got %g", sigma)
	}
	p, err := autodiff.Prepare(m.Model)
	if err != nil {
		return nil, err
	}
	b := graphs.NewBuilder(p.Graph)
	b.Output(Error, masked(b, p.Graph, nil))
	if err := b.Err(); err != nil {
		return nil, err
	}
	g, u, err := prior(p, p.Graph.Input(Z))
	if err != nil {
		return nil, err
	}
	p.Graph = g
	b = graphs.NewBuilder(g)
	b.Prefix("energy")
	u = b.Output(Energy, b.Add(u, b.Scale(g.Output(Error), 1/(2*sigma*sigma))))
	slopes, err := autodiff.Append(b, u, nil, g.Input(Z))
	if err != nil {
		return nil, err
	}
	b.Output(GradZ, slopes[0])
	return finish(p, b, Energy, Error, GradZ)
}

// Regression is the model z, target, mask, weight → error, grad/weights of
// Σ weight_i·‖mask·(target_i − g(z_i))‖², or of the model's Loss in the place of squared errors.
func (m *Model) Regression() (*graphs.Model, error) {
	p, err := autodiff.Prepare(m.Model)
	if err != nil {
		return nil, err
	}
	g := p.Graph
	weights := passes.Weights(g)
	b := graphs.NewBuilder(g)
	e := b.Output(Error, masked(b, g, m.Loss))
	w := b.Input(Weight, graphs.Float32, e.Shape)
	slopes, err := autodiff.Append(b, e, w, weights...)
	if err != nil {
		return nil, err
	}
	keep := []string{Error}
	for i, v := range weights {
		if slopes[i] == nil {
			slopes[i] = b.Zeros(v)
		}
		b.Output(autodiff.GradPrefix+v.Name, slopes[i])
		keep = append(keep, autodiff.GradPrefix+v.Name)
	}
	return finish(p, b, keep...)
}

func finish(p *graphs.Model, b *graphs.Builder, keep ...string) (*graphs.Model, error) {
	if _, err := b.Graph(); err != nil {
		return nil, err
	}
	if err := passes.CutAt(p.Graph, keep...); err != nil {
		return nil, err
	}
	return p, autodiff.Tidy(p.Graph)
}
