package training

import (
	"context"
	"math"

	"ebmrun/training/sampler"
)

// What a learned system can do besides drawing Langevin samples from an energy.
// A system implements the interfaces that its paper gives a meaning to; the
// command asks for them by type. Examples are flat, [n, …] row after row, in the
// scale of the data that was learned from, and equal seeds give equal results.
type (
	// A Drawer draws n new examples.
	Drawer interface {
		Draw(ctx context.Context, n int, seed uint64) ([]float32, error)
	}

	// A Reconstructor explains given examples by the model and returns what the
	// model makes of them. Entries where mask is 0 are unknown and are filled in; a
	// nil mask knows all. What is returned where mask is 1 is the model's too.
	Reconstructor interface {
		Reconstruct(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error)
	}

	// An Interpolator walks between the draws of two seeds, both included.
	Interpolator interface {
		Interpolate(ctx context.Context, from, to uint64, frames int) ([]float32, error)
	}

	// A Scorer judges examples, one number each, which is high where the model
	// finds them likely. The name says what it is and its unit, such as "log p(x), nats".
	Scorer interface {
		Score(ctx context.Context, x []float32, seed uint64) (name string, values []float64, err error)
	}

	// An Encoder finds the codes [n, d] behind examples, whose unknown entries mask
	// tells as for a Reconstructor.
	Encoder interface {
		Encode(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error)
	}

	// A Decoder maps codes [n, Codes], a priori standard normal numbers, to examples
	// without noise.
	Decoder interface {
		Codes() int
		Decode(ctx context.Context, z []float32) ([]float32, error)
	}

	// A Translator maps conditions, or examples of one domain, to examples of the other.
	Translator interface {
		Translate(ctx context.Context, source []float32, seed uint64) ([]float32, error)
	}
)

// Codes draws n codes of d standard normal numbers, the same for equal seeds.
func Codes(seed uint64, n, d int) []float32 {
	z := make([]float32, n*d)
	sampler.Noise{Seed: seed}.Normals(z, sampler.Chains(0, n), math.MaxUint64)
	return z
}
