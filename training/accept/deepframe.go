package accept

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/dsp/fourier"

	"ebmrun/onnxmodels/backbone"
	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/deepframe"
	"ebmrun/training/diag"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

var deepFRAMESuite = Suite{"deep-frame", []Part{
	{"linear", "without a rectifier the density is a Gaussian of mean σ²·Σ θ·F", true, deepFRAMELinear},
	{"judges", "spot noise and bricks that stand are no bricks to what judges the texture", false, deepFRAMEJudges},
	{"texture", "bricks of 64×64 on a network of random weights, one weight a feature", false, deepFRAMETexture},
	{"object", "cartoon faces of 32×32 on the same network, one weight a feature and position", false, deepFRAMEObject},
}}

// deepFRAMELinear samples from random weights on linear filters.
func deepFRAMELinear(ctx context.Context, e Env, it *Item) error {
	const side, sigma, step, chains, drop, keep = 6, 0.8, 0.5, 256, 60, 400
	const dim = side * side
	rng := e.random(1)
	filter := make([]float32, 3*9)
	for i := range filter {
		filter[i] = float32(rng.NormFloat64())
	}
	m, err := energy.Linear([]int{1, side, side}, sigma, false, energy.Filtered(energy.Kernels{Size: 3, Taps: filter}))
	if err != nil {
		return err
	}
	net, err := e.Bind(ctx, m)
	if err != nil {
		return err
	}
	defer net.Close()
	const places = side - 2
	theta := net.Params()[0].W
	var mean [dim]float64
	for i := range theta {
		theta[i] = float32(0.3 * rng.NormFloat64())
		k, p := i/(places*places), i%(places*places)
		for q := range 9 {
			mean[(p/places+q/3)*side+p%places+q%3] += sigma * sigma * float64(theta[i]) * float64(filter[k*9+q])
		}
	}
	net.Refresh()
	st, err := sampler.NewState(make([]float32, chains*dim), dim, sampler.Chains(0, chains))
	if err != nil {
		return err
	}
	var sum [dim]float64
	_, err = sampler.Run(ctx, sampler.Noise{Seed: e.Seed}, sampler.Langevin{Size: step, Noise: 1}, net, st, drop+keep, func(t int, _ sampler.Info) {
		if t >= drop {
			for i, v := range st.X {
				sum[i%dim] += float64(v)
			}
		}
	})
	if err != nil {
		return err
	}
	// steps are correlated by a = 1 − s²/(2σ²): (1+a)/(1−a) of them count as one
	a := 1 - step*step/(2*sigma*sigma)
	se := sigma / math.Sqrt(1-step*step/(4*sigma*sigma)) * math.Sqrt((1+a)/(1-a)/(chains*keep))
	far, beyond := 0.0, 0.0
	for i, s := range sum {
		z := math.Abs(s/(chains*keep)-mean[i]) / se
		far += z * z / dim
		if z > 3 {
			beyond++
		}
	}
	it.Check("", "mean squared error of the means, in squared standard errors (1 expected)", far, AtMost(1.8), fmt.Sprintf("%d pixels", dim))
	it.Check("", "share of pixels beyond 3 standard errors (0.0027 expected)", beyond/dim, AtMost(0.03), "")
	return nil
}

// onBackbone binds the energy of a configuration whose network has not to be obtained.
func (e Env) onBackbone(ctx context.Context, c deepframe.Config, set *data.Set) (Energy, error) {
	net, err := backbone.Load(c.Backbone, nil)
	if err != nil {
		return nil, err
	}
	m, err := energy.Linear(set.Dims(), c.Reference.Sigma, c.Stationary, net.Features(backbone.Pixels{Lo: float64(set.Lo), Hi: float64(set.Hi)}))
	if err != nil {
		return nil, err
	}
	return e.Bind(ctx, m)
}

// deepFRAME trains one arm: the Flipped one until a guard ends it, and Untrained,
// whose chains only follow the reference density, for a tenth of the iterations.
func (e Env) deepFRAME(ctx context.Context, what, arm string, c deepframe.Config, set *data.Set) (s *deepframe.System, m training.Metrics, ended, err error) {
	c.Sabotage = map[string]string{Works: "", Untrained: deepframe.Freeze, Flipped: deepframe.Flip}[arm]
	c.Optim.Over = c.Steps
	steps := c.Steps
	if arm == Untrained {
		steps /= 10
	}
	bound, err := e.onBackbone(ctx, c, set)
	if err != nil {
		return nil, nil, nil, err
	}
	defer bound.Close()
	if s, err = deepframe.New(ctx, c, bound, set, e.Seed); err != nil {
		return nil, nil, nil, err
	}
	ended, err = e.learn(ctx, what, arm, s, steps, c.Guard)
	if err != nil {
		return nil, nil, nil, err
	}
	m, err = s.Gap(ctx)
	return s, m, ended, err
}

// textureLimits are what pictures of a texture must meet. Spot noise, which has the
// spectrum of the picture and nothing else of it, must miss both.
var textureLimits = struct{ taught, unseen float64 }{0.05, 0.75}

// A textureJudge compares pictures [side, side] with the one that is learned from, in
// the statistics of the network that they were taught on and in those of another
// one, of which no learning has heard.
type textureJudge struct {
	set           *data.Set
	spot          []float32 // pictures of spot noise with its spectrum
	taught, other Energy
	unit          float64 // their mean gap on the other network
}

func (e Env) judgeTexture(ctx context.Context, c deepframe.Config, set *data.Set) (j *textureJudge, err error) {
	j = &textureJudge{set: set, spot: spotNoises(set.X(), set.W, e.random(2)), unit: 1}
	if j.taught, err = e.onBackbone(ctx, c, set); err != nil {
		return nil, err
	}
	c.Backbone.Net = "random-2"
	if j.other, err = e.onBackbone(ctx, c, set); err != nil {
		return nil, errors.Join(err, j.taught.Close())
	}
	if _, j.unit, err = j.each(ctx, j.spot); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

func (j *textureJudge) Close() error { return errors.Join(j.taught.Close(), j.other.Close()) }

// of is the gap of the statistics on the network taught on, and that on the other
// as a share of spot noise's.
func (j *textureJudge) of(ctx context.Context, x []float32) (taught, unseen float64, err error) {
	if taught, err = apartOn(ctx, j.taught, j.set.Dim(), j.set.X(), x); err == nil {
		unseen, err = apartOn(ctx, j.other, j.set.Dim(), j.set.X(), x)
	}
	return taught, unseen / j.unit, err
}

// each is the mean of both over pictures by themselves.
func (j *textureJudge) each(ctx context.Context, x []float32) (taught, unseen float64, err error) {
	n := len(x) / j.set.Dim()
	for i := range n {
		t, u, err := j.of(ctx, x[i*j.set.Dim():(i+1)*j.set.Dim()])
		if err != nil {
			return 0, 0, err
		}
		taught, unseen = taught+t/float64(n), unseen+u/float64(n)
	}
	return taught, unseen, nil
}

// bricks are the picture to learn from and eight others like it.
func (e Env) bricks(ctx context.Context, side int) (set *data.Set, others []float32, err error) {
	raw, err := data.Load(ctx, "synthetic/tex-c", data.Options{Seed: e.Seed, Size: side})
	if err != nil {
		return nil, nil, err
	}
	for k := range 8 {
		other, err := data.Load(ctx, "synthetic/tex-c", data.Options{Seed: e.Seed + 1000*uint64(k+1), Size: side})
		if err != nil {
			return nil, nil, err
		}
		set, other = data.Rescale(data.Bytes, raw, other)
		others = append(others, other.X()...)
	}
	return set, others, nil
}

// inside is a picture [side, side] without a margin, which few filters reach.
func inside(x []float32, side, margin int) (out []float32) {
	for i := margin; i < side-margin; i++ {
		out = append(out, x[i*side+margin:(i+1)*side-margin]...)
	}
	return out
}

// deepFRAMEJudges shows pictures to the judges of the next part that have learned nothing.
func deepFRAMEJudges(ctx context.Context, e Env, it *Item) error {
	set, others, err := e.bricks(ctx, 64)
	if err != nil {
		return err
	}
	c, err := deepframe.For("texture-random", set.Dims(), 1)
	if err != nil {
		return err
	}
	j, err := e.judgeTexture(ctx, c, set)
	if err != nil {
		return err
	}
	defer j.Close()
	turned := make([]float32, set.N*set.Dim()) // bricks that stand
	for i := range turned {
		turned[i] = set.X()[i%set.W*set.W+i/set.W]
	}
	for _, c := range []struct {
		what           string
		x              []float32
		taught, unseen Limit
	}{
		{"the picture itself", set.X(), AtMost(1e-6), AtMost(1e-6)},
		{"other such pictures", others, Reported, Reported},
		{"spot noise of other phases", spotNoises(set.X(), set.W, e.random(3)), AtLeast(1.2 * textureLimits.taught), AtLeast(textureLimits.unseen)},
		{"the picture turned", turned, AtLeast(1.2 * textureLimits.taught), AtLeast(textureLimits.unseen)},
	} {
		taught, unseen, err := j.each(ctx, c.x)
		if err != nil {
			return err
		}
		it.Check("", c.what+": gap of the statistics", taught, c.taught, "")
		it.Check("", c.what+": gap on another network, share of spot noise's", unseen, c.unseen, "")
	}
	return nil
}

func deepFRAMETexture(ctx context.Context, e Env, it *Item) error {
	const side, margin = 64, 8
	set, others, err := e.bricks(ctx, side)
	if err != nil {
		return err
	}
	c, err := deepframe.For("texture-random", set.Dims(), 1)
	if err != nil {
		return err
	}
	j, err := e.judgeTexture(ctx, c, set)
	if err != nil {
		return err
	}
	defer j.Close()
	// Spot noise has the picture's own spectrum, which is most of what patch-SWD sees: it is
	// about as near as other such pictures, so those are what samples are held against.
	apart := func(x []float32) (mean float64, err error) {
		n := len(x) / set.Dim()
		for i := range n {
			v, err := diag.PatchSWD(set.X(), side, side, inside(x[i*set.Dim():(i+1)*set.Dim()], side, margin), side-2*margin, side-2*margin, 1, e.Seed)
			if err != nil {
				return 0, err
			}
			mean += v / float64(n)
		}
		return mean, nil
	}
	floor, err := apart(others)
	if err != nil {
		return err
	}
	it.Check("", "patch-SWD of other such pictures (the floor)", floor, Reported, "8 pictures")
	spot, err := apart(j.spot)
	if err != nil {
		return err
	}
	it.Check("", "patch-SWD of spot noise with the picture's spectrum", spot, Reported, "8 pictures")
	for _, arm := range []string{Works, Untrained, Flipped} {
		s, m, ended, err := e.deepFRAME(ctx, "texture", arm, c, set)
		if err != nil {
			return err
		}
		x := s.Samples()
		swd, err := apart(x)
		if err != nil {
			return err
		}
		if arm != Works {
			gap := m[deepframe.Gap]
			if arm == Flipped {
				gap = gapOf(m, ended)
			}
			it.Check(arm, "gap of the statistics", gap, AtLeast(0.6), endedBy(ended))
			it.Check(arm, "patch-SWD, share of the floor's", swd/floor, AtLeast(3), "")
			continue
		}
		_, unseen, err := j.of(ctx, x)
		if err != nil {
			return err
		}
		it.Check(arm, "gap of the statistics", m[deepframe.Gap], AtMost(textureLimits.taught), endedBy(ended))
		it.Check(arm, "gap on another network, share of spot noise's", unseen, AtMost(textureLimits.unseen), "")
		it.Check(arm, "patch-SWD, share of the floor's", swd/floor, AtMost(1.5), "")
		it.Check(arm, "deviation, share of the picture's", m[training.SampleStd]/m[training.DataStd], Within(0.7, 1.3), "")
		img, err := record.Strip(2, 3, pictures(set, set.X(), side, 1), pictures(set, j.spot[:set.Dim()], side, 1), pictures(set, x[:set.Dim()], side, 1))
		if err := e.show("texture", img, err); err != nil {
			return err
		}
	}
	return nil
}

// gapOf is the gap of an arm, infinite where a guard ended it.
func gapOf(m training.Metrics, ended error) float64 {
	if ended != nil {
		return math.Inf(1)
	}
	return m[deepframe.Gap]
}

// apartOn is the gap of the statistics of two sets of pictures, averaged over the
// maps of a network.
func apartOn(ctx context.Context, net Energy, dim int, a, b []float32) (float64, error) {
	means := func(x []float32) (h [][]float32, err error) {
		w := make([]float32, len(x)/dim)
		for i := range w {
			w[i] = 1 / float32(len(w))
		}
		err = net.Learn(ctx, x, w, 0, make([]float32, len(w)))
		for _, p := range net.Params() {
			h = append(h, append([]float32(nil), p.G...))
		}
		return h, err
	}
	p, err := means(a)
	if err != nil {
		return 0, err
	}
	q, err := means(b)
	if err != nil {
		return 0, err
	}
	gap := 0.0
	for k := range p {
		g, err := diag.MomentGap(p[k], q[k], len(p[k]))
		if err != nil {
			return 0, err
		}
		gap += g / float64(len(p))
	}
	return gap, nil
}

// spotNoises are eight pictures of spot noise.
func spotNoises(x []float32, side int, rng *rand.Rand) (out []float32) {
	for range 8 {
		out = append(out, spotNoise(x, side, rng)...)
	}
	return out
}

// spotNoise is a picture [side, side] with the spectrum of x and random phases.
func spotNoise(x []float32, side int, rng *rand.Rand) []float32 {
	fft := fourier.NewCmplxFFT(side)
	both := func(f []complex128, step func(dst, seq []complex128) []complex128) {
		line := make([]complex128, side)
		for k := range 2 * side { // rows, then columns
			at := func(i int) int { return k*side + i }
			if k >= side {
				at = func(i int) int { return i*side + k - side }
			}
			for i := range line {
				line[i] = f[at(i)]
			}
			step(line, line)
			for i, v := range line {
				f[at(i)] = v
			}
		}
	}
	picture, noise := make([]complex128, len(x)), make([]complex128, len(x))
	for i, v := range x {
		picture[i], noise[i] = complex(float64(v), 0), complex(rng.NormFloat64(), 0)
	}
	both(picture, fft.Coefficients)
	both(noise, fft.Coefficients) // of a real picture: its phases are odd, as they have to be
	for i, v := range noise {
		if size := math.Hypot(real(v), imag(v)); size > 0 {
			picture[i] = v * complex(math.Hypot(real(picture[i]), imag(picture[i]))/size, 0)
		}
	}
	both(picture, fft.Sequence)
	out := make([]float32, len(x))
	for i, v := range picture {
		out[i] = float32(real(v) / float64(len(x)))
	}
	return out
}

func deepFRAMEObject(ctx context.Context, e Env, it *Item) error {
	const side, examples = 32, 20
	all, err := data.Load(ctx, "synthetic/face", data.Options{Seed: e.Seed, Size: side, Limit: 2 * examples})
	if err != nil {
		return err
	}
	all, _ = data.Rescale(data.Bytes, all, all)
	set := all.Head(examples)
	held := all.X()[examples*set.Dim():]
	c, err := deepframe.For("object-random", set.Dims(), examples)
	if err != nil {
		return err
	}
	floor, err := diag.EnergyDistance(held, set.X(), set.Dim())
	if err != nil {
		return err
	}
	it.Check("", "energy distance of the examples to others (the floor)", floor, Reported, "")
	untrained := math.NaN()
	for _, arm := range []string{Untrained, Works, Flipped} {
		s, m, ended, err := e.deepFRAME(ctx, "object", arm, c, set)
		if err != nil {
			return err
		}
		x := s.Samples()
		far, err := diag.EnergyDistance(held, x, set.Dim())
		if err != nil {
			return err
		}
		switch arm {
		case Untrained:
			untrained = far
			it.Check(arm, "gap of the statistics", m[deepframe.Gap], AtLeast(0.6), "")
			it.Check(arm, "energy distance to held-out faces", far, Reported, "")
		case Works:
			it.Check(arm, "gap of the statistics", m[deepframe.Gap], AtMost(0.5), endedBy(ended))
			it.Check(arm, "energy distance to held-out faces, share of U's", far/untrained, AtMost(0.5), "")
			n := min(8, c.Chains.Number)
			img, err := record.Strip(2, 3, pictures(set, set.X()[:n*set.Dim()], side, n), pictures(set, x[:n*set.Dim()], side, n))
			if err := e.show("object", img, err); err != nil {
				return err
			}
		case Flipped:
			it.Check(arm, "gap of the statistics", gapOf(m, ended), AtLeast(0.6), endedBy(ended))
		}
	}
	return nil
}
