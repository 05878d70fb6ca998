package accept

import (
	"context"
	"errors"
	"math"

	"ebmrun/onnxmodels/encoder"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/optim"
	"ebmrun/training/record"
	"ebmrun/training/vae"
)

// latent binds a prior of codes and a generator under it.
func (e Env) latent(ctx context.Context, prior energy.Spec, sigma0 float64, g generator.Spec, dims []int, sigma float64) (Energy, Generator, error) {
	gm, err := generator.Build(g, dims, e.Seed)
	if err != nil {
		return nil, nil, err
	}
	pm, err := energy.Build(prior, []int{gm.Codes}, sigma0, e.Seed)
	if err != nil {
		return nil, nil, err
	}
	return e.BindLatent(ctx, pm, gm, sigma)
}

// autoencoder binds an encoder and a generator.
func (e Env) autoencoder(ctx context.Context, n *vae.Nets, dims []int, sigma float64) (Autoencoder, error) {
	gs, err := n.GeneratorNet()
	if err != nil {
		return nil, err
	}
	es, err := n.EncoderNet()
	if err != nil {
		return nil, err
	}
	gm, err := generator.Build(gs, dims, e.Seed)
	if err != nil {
		return nil, err
	}
	em, err := encoder.Build(es, dims, gm.Codes, e.Seed)
	if err != nil {
		return nil, err
	}
	return e.BindAutoencoder(ctx, em, gm, sigma)
}

// fixed is a generator that does not learn.
type fixed struct{ Generator }

func (fixed) Params() []optim.Param { return nil }

// setWeights sets weights by hand.
func setWeights(p []optim.Param, values map[string][]float32) error {
	left := len(values)
	for _, q := range p {
		if v := values[q.Name]; len(v) == len(q.W) {
			copy(q.W, v)
			left--
		}
	}
	if left != 0 {
		return errors.New("the network has other weights than those to set")
	}
	return nil
}

// blobs is one bright disc a picture, to learn from and to compare with.
type blobs struct {
	train, held *data.Set
	fd          diag.FD
	real        []diag.Blob
	floor       float64 // FD-PCA of learned against held-out pictures
	variance    float64 // of the pixels of held-out pictures
}

const compared = 512 // pictures that a distance is taken of

func (e Env) blobs(ctx context.Context) (b blobs, err error) {
	if b.train, err = data.Load(ctx, "synthetic/blob16", data.Options{Seed: e.Seed, Part: "train"}); err != nil {
		return b, err
	}
	if b.held, err = data.Load(ctx, "synthetic/blob16", data.Options{Seed: e.Seed, Part: "test"}); err != nil {
		return b, err
	}
	if b.fd, err = diag.FitFD(b.train.Head(2000).X(), b.train.Dim(), 16); err != nil {
		return b, err
	}
	if b.real, err = diag.Blobs(b.held.X(), b.held.H, b.held.W, 0); err != nil {
		return b, err
	}
	// the variance about each pixel's mean: what the mean image leaves
	for j := range b.held.Dim() {
		column := make([]float32, b.held.N)
		for i := range column {
			column[i] = b.held.At(i)[j]
		}
		_, sd := training.Moments(column)
		b.variance += sd * sd / float64(b.held.Dim())
	}
	b.floor, err = b.distance(b.train.Head(compared).X())
	return b, err
}

// distance is FD-PCA against held-out pictures.
func (b blobs) distance(x []float32) (float64, error) {
	return b.fd.Distance(b.held.Head(compared).X(), x)
}

// valid is the share of pictures with one disc of a right size, covered that of
// the places where discs should be.
func (b blobs) valid(x []float32) (valid, covered float64, err error) {
	s, err := diag.Blobs(x, b.held.H, b.held.W, 0)
	if err != nil {
		return 0, 0, err
	}
	if valid, err = diag.Validity(b.real, s); err != nil {
		return 0, 0, err
	}
	covered, err = diag.Coverage(b.real, s, b.held.H, b.held.W, 5)
	return valid, covered, err
}

// pictures shows pictures as a grid.
func (e Env) pictures(name string, x []float32, s *data.Set) error {
	n := min(100, len(x)/s.Dim())
	img, err := record.Grid(training.Images(s, x[:n*s.Dim()]), 0, 1, 0)
	return e.show(name, img, err)
}

// factorScales are the lengths of the columns of the factor model x = Wz + 0.3ε of
// twelve values: value j of group k of four is s_k/2·z_k + 0.3·ε.
var factorScales = [3]float64{2, 1.5, 1}

const (
	factorGroup    = 4
	factorResidual = 0.3
)

// factors draws n examples of the factor model.
func (e Env) factors(n int, label uint64) *data.Set {
	rng := e.random(label)
	s := &data.Set{Name: "factors", N: n, C: 12, H: 1, W: 1, Floats: make([]float32, n*12), Gain: 1}
	for i := range n {
		for k, scale := range factorScales {
			z := rng.NormFloat64()
			for j := range factorGroup {
				s.At(i)[k*factorGroup+j] = float32(scale/2*z + factorResidual*rng.NormFloat64())
			}
		}
	}
	return s
}

// factorDensity is the exact log p(x) under the factor model with codes of the
// given mean.
func factorDensity(x []float32, mean [3]float64) (sum float64) {
	const square = factorResidual * factorResidual
	for k, s := range factorScales {
		along, all := 0.0, 0.0
		for _, v := range x[k*factorGroup : (k+1)*factorGroup] {
			d := float64(v) - s/2*mean[k]
			along += d / 2
			all += d * d
		}
		wide := s*s + square
		sum -= (factorGroup*math.Log(2*math.Pi) + math.Log(wide) + 3*math.Log(square) + along*along/wide + (all-along*along)/square) / 2
	}
	return sum
}

// factorWeights is W as a dense layer from three codes has it, [codes, values].
func factorWeights() []float32 {
	w := make([]float32, 3*12)
	for k, s := range factorScales {
		for j := range factorGroup {
			w[k*12+k*factorGroup+j] = float32(s / 2)
		}
	}
	return w
}
