package generativeswin

import (
	"context"
	"math"

	"ebmrun/onnxmodels/swin"
	"ebmrun/training"
	"ebmrun/training/sampler"
)

// A student is the generator as an iteration sees it, under the pictures of a batch: it
// learns in pieces, by the loss of the settings.
type student struct {
	training.Generator // under all pictures
	of                 training.ConditionalGenerator
	pictures           []float32
	prior              sampler.Field // of codes
	piece              int           // examples learned from at one time
	weight             float32       // of the loss, beside that of a squared error
	begin              int           // where examples begin to have a say in their codes
	say                float32       // and how much of one: the weight of the likelihood
}

func newStudent(c Config, p training.Energy, g training.ConditionalGenerator, pictures []float32) *student {
	s := &student{g.Given(pictures), g, pictures, p, c.Piece, 1, c.Begin, 1}
	if c.Loss == swin.Structure { // an iteration divides squared errors by twice the variance
		s.weight = float32(2 * c.Sigma * c.Sigma)
	}
	return s
}

// at tells the iteration.
func (s *student) at(iteration int) {
	if s.begin > 0 {
		s.say = min(1, max(0, float32(iteration-s.begin)/float32(s.begin)))
	}
}

// Posterior implements [training.Generator]. The mask is squared with the error.
func (s *student) Posterior(target, mask []float32) sampler.Field {
	if s.say == 0 {
		return s.prior
	}
	if s.say < 1 {
		weighed, root := make([]float32, len(mask)), float32(math.Sqrt(float64(s.say)))
		for i, v := range mask {
			weighed[i] = v * root
		}
		mask = weighed
	}
	return s.Generator.Posterior(target, mask)
}

// Learn implements [training.Generator].
func (s *student) Learn(ctx context.Context, z, target, mask, w, e []float32) error {
	n := len(w)
	d, dim, given := len(z)/n, len(target)/n, len(s.pictures)/n
	scaled := make([]float32, n)
	for i, v := range w {
		scaled[i] = v * s.weight
	}
	return training.Pieces(s.Params(), n, s.piece, func(a, b int) error {
		return s.of.Given(s.pictures[a*given:b*given]).Learn(ctx, z[a*d:b*d], target[a*dim:b*dim], mask[a*dim:b*dim], scaled[a:b], e[a:b])
	})
}
