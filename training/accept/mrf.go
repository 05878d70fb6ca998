package accept

import (
	"context"
	"fmt"
	"math"

	"ebmrun/training/data"
	"ebmrun/training/mrf"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

var mrfSuite = Suite{"mrf", []Part{
	{"tiny", "Ising on 3×3 pixels with free edges, against all 512 states", true, tinyIsing},
	{"torus", "Ising on a 64×64 torus, against Onsager's solution", true, torusIsing},
	{"pseudo-likelihood", "ten such pictures give back the weight that they were drawn with", false, pseudoLikelihood},
	{"texture", "blobs of 64×64 on 8 grey levels", false, mrfTexture},
}}

func isingOf(side int, torus bool, beta float64) *mrf.Model {
	m := mrf.NewModel(mrf.Ising, 2, false, mrf.Lattice{H: side, W: side, Torus: torus, Offsets: mrf.Offsets(1)})
	m.Theta[0], m.Theta[1] = beta, beta
	return m
}

// products sweeps from a random picture and returns the mean over later sweeps of the sum of neighbours'
// products, and the last picture.
func (e Env) products(m *mrf.Model, label uint64, burn, sweeps int) (sum float64, x []uint8) {
	r := sampler.Stream(e.Seed, label, 0)
	x = make([]uint8, m.H*m.W)
	for i := range x {
		x[i] = uint8(r.IntN(2))
	}
	for i := range burn + sweeps {
		if m.Sweep(r, x); i >= burn {
			s := m.Statistics(x)
			sum += (s[0] + s[1]) / float64(sweeps)
		}
	}
	return sum, x
}

func tinyIsing(_ context.Context, e Env, it *Item) error {
	for _, c := range []struct{ beta, logZ, products float64 }{{0.3, 6.8015, 3.9001}, {0.4, 7.2677, 5.4409}} {
		m := isingOf(3, false, c.beta)
		logZ, mean, err := m.Enumerate()
		if err != nil {
			return err
		}
		it.Check("", fmt.Sprintf("log Z at β = %g", c.beta), logZ, Within(c.logZ-1e-4, c.logZ+1e-4), "enumerated")
		it.Check("", fmt.Sprintf("mean sum of products at β = %g", c.beta), mean[0]+mean[1], Within(c.products-1e-4, c.products+1e-4), "enumerated")
		got, _ := e.products(m, 1, 200, 200000)
		it.Check("", fmt.Sprintf("the same of 200,000 sweeps at β = %g", c.beta), got, Within(c.products-0.05, c.products+0.05), "")
	}
	return nil
}

func torusIsing(_ context.Context, e Env, it *Item) error {
	const side = 64
	for _, c := range []struct{ beta, product float64 }{{0.2, 0.21411}, {0.3, 0.35225}, {0.4, 0.55304}} {
		sweeps := 1000
		if c.beta > 0.35 {
			sweeps = 6000 // near the transition they are correlated
		}
		got, _ := e.products(isingOf(side, true, c.beta), 2, 200, sweeps)
		limit := Within(c.product-0.006, c.product+0.006)
		it.Check("", fmt.Sprintf("mean product of neighbours at β = %g", c.beta), got/(2*side*side), limit, "")
	}
	return nil
}

var mrfSabotage = map[string]string{Works: "", Untrained: mrf.Freeze, Flipped: mrf.Flip}

func pseudoLikelihood(ctx context.Context, e Env, it *Item) error {
	const side, beta = 64, 0.3
	set := &data.Set{Name: "ising", N: 10, C: 1, H: side, W: side, Lo: -1, Hi: 1, Gain: 1}
	for k := range set.N {
		_, x := e.products(isingOf(side, true, beta), uint64(3+k), 200, 1)
		for _, v := range x {
			set.Floats = append(set.Floats, float32(2*int(v)-1))
		}
	}
	for _, arm := range []string{Works, Untrained, Flipped} {
		c, err := mrf.For("ising", set.Dims(), set.N)
		if err != nil {
			return err
		}
		c.Field, c.Order, c.Steps, c.Newton, c.Sabotage = false, 1, 8, 8, mrfSabotage[arm]
		s, err := mrf.New(c, set, e.Seed)
		if err != nil {
			return err
		}
		if _, err := e.learn(ctx, "pseudo-likelihood", arm, s, c.Steps, c.Guard); err != nil {
			return err
		}
		off := 0.0
		for _, v := range s.Field.Theta {
			off = max(off, math.Abs(v-beta))
		}
		limit := AtMost(0.015)
		if arm != Works {
			limit = AtLeast(0.1)
		}
		it.Check(arm, "largest error of a weight", off, limit, "")
	}
	return nil
}

func mrfTexture(ctx context.Context, e Env, it *Item) error {
	set, err := data.Load(ctx, "synthetic/tex-b", data.Options{Seed: e.Seed, Size: 64})
	if err != nil {
		return err
	}
	for _, family := range []string{mrf.Potts, mrf.AutoBinomial} {
		for _, arm := range []string{Works, Untrained, Flipped} {
			c, err := mrf.For(family, set.Dims(), 1)
			if err != nil {
				return err
			}
			c.Sabotage = mrfSabotage[arm]
			s, err := mrf.New(c, set, e.Seed)
			if err != nil {
				return err
			}
			if _, err := e.learn(ctx, family, arm, s, c.Steps, c.Guard); err != nil {
				return err
			}
			n := mrfLevels[family]
			share := s.CoOccurrence(n) / s.Shuffled(n)
			what := fmt.Sprintf("co-occurrence gap of %s on %d levels, share of shuffled levels'", family, n)
			if arm != Works {
				it.Check(arm, what, share, AtLeast(0.7), "")
				continue
			}
			it.Check(arm, what, share, AtMost(mrfGap[family]), fmt.Sprintf("shuffled %.3f", s.Shuffled(n)))
			pics, err := s.Pictures(ctx)
			if err != nil {
				return err
			}
			img, err := record.Strip(2, 3, pics[0].Rows...)
			if err := e.show("mrf-"+family, img, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// A binomial level spreads over its neighbours however black or white the texture is: its structure shows
// in black and white.
var mrfLevels = map[string]int{mrf.Potts: 8, mrf.AutoBinomial: 2}

var mrfGap = map[string]float64{mrf.Potts: 0.6, mrf.AutoBinomial: 0.3}
