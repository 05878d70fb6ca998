package encoder

import (
	"fmt"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels/generator"
)

// Bound is the model x, noise, weight, beta → error, kl, grad/weights of
//
//	Σ weight_i·(error_i/(2σ²) + beta·kl_i),  z = mean(x) + e^(logvar(x)/2)·noise,
//
// with the weights of both networks. With beta 1 the sum in brackets is minus the
// evidence lower bound on log p(x_i), up to the constant D/2·log(2πσ²) and with
// one draw of z in place of its expectation.
func (m *Model) Bound(g *generator.Model, sigma float64) (*graphs.Model, error) {
	if !(sigma > 0) {
		return nil, fmt.Errorf("encoder: residual deviation sigma: wanted a positive number, got %g", sigma)
	}
	if m.Codes != g.Codes || graphs.Size(m.Dims) != graphs.Size(g.Dims) || len(m.Dims) != len(g.Dims) {
		return nil, fmt.Errorf("encoder: the encoder goes from %v to %d codes, the generator from %d codes to %v", m.Dims, m.Codes, g.Codes, g.Dims)
	}
	p, err := autodiff.Prepare(m.Model)
	if err != nil {
		return nil, err
	}
	b := graphs.NewBuilder(p.Graph)
	mean, logvar := p.Graph.Output(Mean), p.Graph.Output(LogVar)
	noise := b.Input(Noise, graphs.Float32, mean.Shape)
	b.Prefix("draw")
	const code = "draw/code"
	b.Output(code, b.Add(mean, b.Mul(b.Exp(b.Scale(logvar, 0.5)), noise)))
	b.Prefix("divergence")
	terms := b.Sub(b.Add(b.Mul(mean, mean), b.Exp(logvar)), logvar)
	b.Output(KL, b.Scale(b.Sum(b.Sub(terms, b.Scalar(terms, 1)), false, 1), 0.5))
	if err := b.Err(); err != nil {
		return nil, err
	}
	if err := passes.CutAt(p.Graph, code, KL); err != nil {
		return nil, err
	}
	decoder, err := autodiff.Prepare(g.Model)
	if err != nil {
		return nil, err
	}
	const decoded = "draw/decoded"
	if err := passes.Rename(decoder.Graph, map[string]string{generator.X: decoded}); err != nil {
		return nil, err
	}
	if p.Graph, err = passes.Join(p.Graph, decoder.Graph, map[string]string{code: generator.Z}); err != nil {
		return nil, err
	}
	return p, finish(p.Graph, decoded, sigma)
}

// finish adds error, objective and slopes to the joined graph.
func finish(g *graphs.Graph, decoded string, sigma float64) error {
	b := graphs.NewBuilder(g)
	x, y, kl := g.Input(X), g.Output(decoded), g.Output(KL)
	w := b.Input(Weight, graphs.Float32, kl.Shape)
	beta := b.Input(Beta, graphs.Float32, graphs.Shape{})
	axes := make([]int64, len(x.Shape)-1)
	for i := range axes {
		axes[i] = int64(i + 1)
	}
	b.Prefix("bound")
	d := b.Sub(x, y)
	e := b.Output(Error, b.Sum(b.Mul(d, d), false, axes...))
	loss := b.Add(b.Scale(e, 1/(2*sigma*sigma)), b.Mul(beta, kl))
	if err := b.Err(); err != nil {
		return err
	}
	weights := passes.Weights(g)
	slopes, err := autodiff.Append(b, loss, w, weights...)
	if err != nil {
		return err
	}
	keep := []string{Error, KL}
	for i, v := range weights {
		if slopes[i] == nil {
			slopes[i] = b.Zeros(v)
		}
		keep = append(keep, b.Output(autodiff.GradPrefix+v.Name, slopes[i]).Name)
	}
	if _, err := b.Graph(); err != nil {
		return err
	}
	if err := passes.CutAt(g, keep...); err != nil {
		return err
	}
	return autodiff.Tidy(g)
}
