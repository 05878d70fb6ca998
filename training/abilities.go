package training

import (
	"context"
	"fmt"
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

	// A Plotter shows what it has drawn in a way of its own, such as paths in their scenes.
	Plotter interface {
		Plot(ctx context.Context, x []float32) (Picture, error)
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

	// A Divider gives, after the score, the parts that it is made of, which may judge
	// otherwise: what the prior thinks of an example's code, and how well the code explains it.
	Divider interface {
		Scorer
		Parts(ctx context.Context, x []float32, seed uint64) ([]Part, error)
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

	// A Returner is a Translator that knows the way back too.
	Returner interface {
		Translator
		Return(ctx context.Context, source []float32, seed uint64) ([]float32, error)
	}

	// A Refiner makes examples out of coarse ones, whose sides are shorter by a whole
	// factor and whose values are means of theirs.
	Refiner interface {
		Refine(ctx context.Context, coarse []float32, factor int, seed uint64) ([]float32, error)
	}

	// An Enlarger makes pictures of h×w larger by a factor.
	Enlarger interface {
		Enlarge(ctx context.Context, x []float32, h, w int, factor float64) ([]float32, error)
	}

	// A Doubter is a Translator to maps of chances, from −1 to 1 for 0 to 1, each the mean
	// of several draws, that tells where the draws disagree.
	Doubter interface {
		Translator

		// Doubt returns the mean maps and, by name, maps of doubt [n, …] that are 0 where
		// there is none. "deviation" is that of the chance, at most a half.
		Doubt(ctx context.Context, source []float32, seed uint64) (mean []float32, doubts map[string][]float32, err error)
	}

	// A Detector finds an object in each of a number of pictures.
	Detector interface {
		Detect(ctx context.Context, x []float32) ([]Found, error)
	}

	// A Clusterer sorts examples into k clusters; 0 are as many as it has learned.
	Clusterer interface {
		Cluster(ctx context.Context, x []float32, k int, seed uint64) ([]int, error)
	}

	// A Describer gives features [n, d] of examples, for another learner to classify by.
	Describer interface {
		Describe(ctx context.Context, x []float32) ([]float32, error)
	}

	// A Sketcher draws what explains pictures [n, C, H, W], from 0 to 1, [n, H, W].
	Sketcher interface {
		Sketch(ctx context.Context, x []float32) ([]float32, error)
	}

	// An Illustrator shows what the model is made of.
	Illustrator interface {
		Illustrate(ctx context.Context, seed uint64) ([]Picture, error)
	}

	// A Statistician compares the statistics that a model matches, in the mean of
	// examples and in that of its own draws, by name.
	Statistician interface {
		Statistics(ctx context.Context, x []float32, seed uint64) (names []string, observed, drawn []float64, err error)
	}
)

// A Found is an object in a picture, its corners (y, x) in pixels.
type Found struct {
	Kind    int             `json:"kind"`  // which template it fits
	Score   float64         `json:"score"` // log p(x)/q(x) of the picture, nats
	Turn    float64         `json:"turn"`  // radians, from the x axis towards the y axis, which points down
	Scale   float64         `json:"scale"` // of the template's size
	Outline [4][2]float64   `json:"outline"`
	Parts   [][4][2]float64 `json:"parts,omitempty"`
}

// Codes draws n codes of d standard normal numbers, the same for equal seeds.
func Codes(seed uint64, n, d int) []float32 {
	z := make([]float32, n*d)
	sampler.Noise{Seed: seed}.Normals(z, sampler.Chains(0, n), math.MaxUint64)
	return z
}

// Between returns n ≥ 2 codes on the way from a to b, both included, in equal
// angles: cos φ·a + sin φ·b with φ = 0 … π/2, which keeps the length that
// independent normal codes have.
func Between(a, b []float32, n int) ([]float32, error) {
	if n < 2 || len(a) != len(b) {
		return nil, fmt.Errorf("training: wanted at least 2 codes between two of one size, got %d between %d and %d values", n, len(a), len(b))
	}
	z := append(make([]float32, 0, n*len(a)), a...)
	for i := 1; i < n-1; i++ {
		sin, cos := math.Sincos(math.Pi / 2 * float64(i) / float64(n-1))
		for j := range a {
			z = append(z, float32(cos*float64(a[j])+sin*float64(b[j])))
		}
	}
	return append(z, b...), nil
}

// Block is how many examples networks are given at a time outside learning.
const Block = 64

// FromCodes draws, interpolates and decodes by a generator of examples of Dim
// values: x = g(z), z ~ N(0, I).
type FromCodes struct {
	Generator Generator
	Dim       int
}

var (
	_ Drawer       = FromCodes{}
	_ Interpolator = FromCodes{}
	_ Decoder      = FromCodes{}
)

// Codes implements [Decoder].
func (f FromCodes) Codes() int { return f.Generator.Codes() }

// Decode implements [Decoder].
func (f FromCodes) Decode(ctx context.Context, z []float32) ([]float32, error) {
	d := f.Codes()
	n := len(z) / d
	if len(z) != n*d {
		return nil, fmt.Errorf("training: wanted codes of %d values each, got %d values", d, len(z))
	}
	x := make([]float32, n*f.Dim)
	return x, Blocks(n, Block, func(first, end int) error {
		return f.Generator.Forward(ctx, z[first*d:end*d], x[first*f.Dim:end*f.Dim])
	})
}

// Draw implements [Drawer].
func (f FromCodes) Draw(ctx context.Context, n int, seed uint64) ([]float32, error) {
	return f.Decode(ctx, Codes(seed, n, f.Codes()))
}

// Interpolate implements [Interpolator].
func (f FromCodes) Interpolate(ctx context.Context, from, to uint64, frames int) ([]float32, error) {
	z, err := Between(Codes(from, 1, f.Codes()), Codes(to, 1, f.Codes()), frames)
	if err != nil {
		return nil, err
	}
	return f.Decode(ctx, z)
}

// ResidualPart is the name of the part of a score that says how well a code explains the
// example, −‖x − g(z)‖²/(2σ²).
const ResidualPart = "log p(x | z), nats, up to a constant"

// A Part is a score, or a part of one: its name and unit, and a number for each example, high where it is likely.
type Part struct {
	Name   string
	Values []float64
}
