package accept

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/generativeconvnet"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
	"ebmrun/training/shortrun"
)

// Suites is the acceptance of every system that has one.
var Suites = []Suite{
	mrfSuite,
	frameSuite,
	deepFRAMESuite,
	inhomogeneousFrameSuite,
	sparseFrameSuite,
	hierarchicalSparseFrameSuite,
	{"generative-convnet", []Part{
		{"linear", "a linear network under a Gaussian reference has a Gaussian density", true, linear},
		{"mechanics", "sampling without noise climbs, a small update raises V, a flipped one lowers it", true, mechanics},
		{"pull-back", "the slope of a reconstruction is the numerical one", true, pullBack},
		{"ring", "eight Gaussians on a circle, persistent chains", false, ring},
		{"short-run", "the same from fresh noise", false, ringShortRun},
		{"texture", "stripes of 64×64, and a larger canvas from the same weights", false, texture},
		{"faces", "cartoon faces from noise in K steps, and the way between two starts", false, faces},
	}},
	ABP,
	CoopNets,
	ConditionalCoopNets,
	CycleCoopNets,
	SalCoopNets,
	SequenceCycleCoopNets,
	LatentEBM,
	GenerativeSwin,
	VAE,
	CoopVAEBM,
	Flow,
	CoopFlow,
	Multigrid,
	CoarseToFine,
	OneSided,
	Patchwise,
	Video,
	Voxelnet,
	Pointnet,
	InverseOptimalControl,
}

// sabotageOf is the setting that makes an arm.
var sabotageOf = map[string]string{Works: "", Untrained: generativeconvnet.Freeze, Flipped: generativeconvnet.Flip}

// arm trains one arm and hands the system to use. The Flipped arm gets a fifth of
// the iterations; Untrained gets few, for persistent chains to settle.
func (e Env) arm(ctx context.Context, what, arm string, c generativeconvnet.Config, set *data.Set, frozen int, use func(Energy, *generativeconvnet.System) error) (ended, err error) {
	c.Sabotage = sabotageOf[arm]
	spec, err := c.Network()
	if err != nil {
		return nil, err
	}
	net, err := e.network(ctx, spec, set, c.Reference.Sigma)
	if err != nil {
		return nil, err
	}
	defer net.Close()
	c.Optim.Over = c.Steps
	switch arm {
	case Untrained:
		c.Steps = frozen
	case Flipped:
		c.Steps /= 5
	}
	s, err := generativeconvnet.New(c, net, set, e.Seed)
	if err != nil {
		return nil, err
	}
	if ended, err = e.learn(ctx, what, arm, s, c.Steps, c.Guard); ended != nil || err != nil {
		return ended, err
	}
	return nil, use(net, s)
}

// arms learns c as each arm does. measure judges what an arm has learned, by a number that is low where samples are
// good and that the arm without updates gives first; flipped checks that of the arm of the wrong sign.
func (e Env) arms(ctx context.Context, it *Item, what string, c generativeconvnet.Config, set *data.Set, frozen int,
	measure func(arm string, untrained float64, net Energy, s *generativeconvnet.System) (float64, error),
	flipped func(got, untrained float64, remark string)) error {
	untrained := math.NaN()
	for _, arm := range []string{Untrained, Works, Flipped} {
		got := math.Inf(1)
		ended, err := e.arm(ctx, what, arm, c, set, frozen, func(net Energy, s *generativeconvnet.System) (err error) {
			got, err = measure(arm, untrained, net, s)
			return err
		})
		switch {
		case err != nil:
			return err
		case arm == Flipped:
			flipped(got, untrained, endedBy(ended))
		case ended != nil:
			it.Check(arm, "learning to the end", 0, AtLeast(1), ended.Error())
			return nil
		case arm == Untrained:
			untrained = got
		}
	}
	return nil
}

// network builds and binds an energy of examples like those of a set.
func (e Env) network(ctx context.Context, spec energy.Spec, set *data.Set, sigma float64) (Energy, error) {
	m, err := energy.Build(spec, set.Dims(), sigma, e.Seed)
	if err != nil {
		return nil, err
	}
	return e.Bind(ctx, m)
}

func (e Env) random(label uint64) *rand.Rand { return rand.New(rand.NewPCG(e.Seed, label)) }

// linear: with f(x) = w·x and a reference of deviation σ the density is
// N(σ²w, σ²), which Langevin steps of size s widen to σ²/(1 − s²/(4σ²)).
func linear(ctx context.Context, e Env, it *Item) error {
	const side, sigma, step, chains, drop, keep = 4, 0.8, 0.3, 256, 500, 1500
	const dim = side * side
	m, err := energy.Build(energy.Spec{Layers: []energy.Layer{{Filters: 1, Kernel: side}}}, []int{1, side, side}, sigma, e.Seed)
	if err != nil {
		return err
	}
	net, err := e.Bind(ctx, m)
	if err != nil {
		return err
	}
	defer net.Close()
	rng := e.random(1)
	var w []float32
	for _, p := range net.Params() {
		for i := range p.W {
			p.W[i] = float32(rng.NormFloat64())
		}
		if len(p.W) == dim {
			w = p.W
		}
	}
	net.Refresh()
	if w == nil {
		return fmt.Errorf("the network has no weights of %d values", dim)
	}
	st, err := sampler.NewState(make([]float32, chains*dim), dim, sampler.Chains(0, chains))
	if err != nil {
		return err
	}
	var sum, square [dim]float64
	_, err = sampler.Run(ctx, sampler.Noise{Seed: e.Seed}, sampler.Langevin{Size: step, Noise: 1}, net, st, drop+keep, func(t int, _ sampler.Info) {
		if t > drop {
			for i, v := range st.X {
				sum[i%dim] += float64(v)
				square[i%dim] += float64(v) * float64(v)
			}
		}
	})
	if err != nil {
		return err
	}
	worst, variance := 0.0, 0.0
	for i := range dim {
		mean := sum[i] / (chains * keep)
		worst = max(worst, math.Abs(mean-sigma*sigma*float64(w[i])))
		variance += (square[i]/(chains*keep) - mean*mean) / dim
	}
	want := sigma * sigma / (1 - step*step/(4*sigma*sigma))
	it.Check("", "largest error of a mean, σ²w expected", worst, AtMost(0.03), "")
	it.Check("", fmt.Sprintf("variance, %.4f expected", want), variance, Within(want-0.01, want+0.01), "")
	return nil
}

// A watched energy keeps what was learned from last.
type watched struct {
	Energy
	x, w, score []float32
}

func (w *watched) Learn(ctx context.Context, x, weights []float32, l2 float32, score []float32) error {
	err := w.Energy.Learn(ctx, x, weights, l2, score)
	w.x, w.w, w.score = append(w.x[:0], x...), append(w.w[:0], weights...), append(w.score[:0], score...)
	return err
}

// mechanics: without noise every small step lowers U, and a tiny gradient step
// on the weights raises V on the same batch, or lowers it with the sign flipped.
func mechanics(ctx context.Context, e Env, it *Item) error {
	set, err := data.Load(ctx, "synthetic/shape", data.Options{Seed: e.Seed, Size: 16, Limit: 256})
	if err != nil {
		return err
	}
	const batch, steps = 32, 200
	c := generativeconvnet.Config{
		Spec:  &energy.Spec{Layers: []energy.Layer{{Filters: 8, Kernel: 3, Pad: 1}, {Filters: 16, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 1, Kernel: 8}}, Activation: "swish"},
		Steps: steps, Batch: batch, Langevin: training.Langevin{Steps: 5, Step: 0.05, Noise: 1},
		Chains: generativeconvnet.Chains{Init: generativeconvnet.FromNoise, Start: generativeconvnet.Gaussian},
		Optim:  training.Optim{Name: "sgd", LR: 1e-5},
	}
	c.Reference.Sigma = 1
	for _, arm := range []string{Works, Flipped} {
		c.Sabotage = sabotageOf[arm]
		net, err := e.network(ctx, *c.Spec, set, c.Reference.Sigma)
		if err != nil {
			return err
		}
		defer net.Close()
		if arm == Works {
			if err := e.descent(ctx, it, net, set.Dim()); err != nil {
				return err
			}
		}
		w := &watched{Energy: net}
		s, err := generativeconvnet.New(c, w, set, e.Seed)
		if err != nil {
			return err
		}
		rose := 0
		after := make([]float32, 2*batch)
		for range steps {
			if _, err := s.Step(ctx); err != nil {
				return err
			}
			before := slices.Clone(w.score)
			if err := net.Learn(ctx, w.x, w.w, 0, after); err != nil {
				return err
			}
			change := 0.0
			for i := range batch {
				change += float64(after[i]-before[i]) - float64(after[batch+i]-before[batch+i])
			}
			if change > 0 {
				rose++
			}
		}
		share := float64(rose) / steps
		if arm == Works {
			it.Check(arm, "share of updates that raise V on their batch", share, AtLeast(0.99), "")
		} else {
			it.Check(arm, "share of updates that raise V on their batch", share, AtMost(0.01), "")
		}
	}
	return nil
}

func (e Env) descent(ctx context.Context, it *Item, net Energy, dim int) error {
	const chains, steps = 32, 100
	x, rng := make([]float32, chains*dim), e.random(2)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	st, err := sampler.NewState(x, dim, sampler.Chains(0, chains))
	if err != nil {
		return err
	}
	last := make([]float64, chains)
	for k := range last {
		last[k] = math.Inf(1)
	}
	fell, total := 0, 0
	_, err = sampler.Run(ctx, sampler.Noise{}, sampler.Langevin{Size: 0.1}, net, st, steps, func(t int, _ sampler.Info) {
		for k, u := range st.U {
			if total++; float64(u) < last[k] {
				fell++
			}
			last[k] = float64(u)
		}
	})
	it.Check("", "share of noise-free steps that raise log density", float64(fell)/float64(total), AtLeast(1), "")
	return err
}

// pullBack compares the slope of ‖x − M(z)‖² with central differences. Where the
// network is curved, leaving the curvature out must be seen.
func pullBack(ctx context.Context, e Env, it *Item) error {
	const side, n = 12, 4
	for _, c := range []struct {
		what, activation string
		flat             bool
		gain, size       float32 // of the weights, of the steps
		want             Limit
	}{
		{"cosine with the numerical slope: swish, K = 3", "swish", false, 6, 0.6, AtLeast(0.99)},
		{"the same, curvature left out: must fail", "swish", true, 6, 0.6, AtMost(0.97)},
		{"leaky ReLU, curvature left out, small steps", "leaky", true, 1, 0.01, AtLeast(0.95)},
	} {
		m, err := energy.Build(energy.Spec{Layers: []energy.Layer{{Filters: 8, Kernel: 3, Pad: 1}, {Filters: 8, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 1, Kernel: 6}},
			Activation: c.activation}, []int{1, side, side}, 1, e.Seed)
		if err != nil {
			return err
		}
		net, err := e.Bind(ctx, m)
		if err != nil {
			return err
		}
		defer net.Close()
		for _, p := range net.Params() {
			for i := range p.W {
				p.W[i] *= c.gain
			}
		}
		net.Refresh()
		g := &shortrun.Generator{Field: net, Kernel: sampler.Langevin{Size: c.size}, K: 3, Dim: side * side, Flat: c.flat, Sigma: 1}
		rng := e.random(3)
		z, x := make([]float32, n*g.Dim), make([]float32, n*g.Dim)
		for i := range z {
			z[i], x[i] = float32(rng.NormFloat64()), float32(rng.NormFloat64())
		}
		_, slope, err := g.Slope(ctx, z, x)
		if err != nil {
			return err
		}
		cosine, err := numerical(ctx, g, z, x, slope)
		if err != nil {
			return err
		}
		it.Check("", c.what, cosine, c.want, "")
	}
	return nil
}

// numerical is the cosine of a slope with central differences in every entry.
func numerical(ctx context.Context, g *shortrun.Generator, z, x, slope []float32) (float64, error) {
	const h = 1e-2
	n := len(z) / g.Dim
	loss := func(j int, h float32) ([]float64, error) {
		moved := slices.Clone(z)
		for k := range n {
			moved[k*g.Dim+j] += h
		}
		y, err := g.Map(ctx, moved)
		out := make([]float64, n)
		for i := range y {
			d := float64(y[i]) - float64(x[i])
			out[i/g.Dim] += d * d
		}
		return out, err
	}
	var dot, a, b float64
	for j := range g.Dim {
		up, err := loss(j, h)
		if err != nil {
			return 0, err
		}
		down, err := loss(j, -h)
		if err != nil {
			return 0, err
		}
		for k := range n {
			d, s := (up[k]-down[k])/(2*h), float64(slope[k*g.Dim+j])
			dot, a, b = dot+d*s, a+d*d, b+s*s
		}
	}
	return dot / math.Sqrt(a*b), nil
}

// rings are the settings of both ring items.
func rings(ctx context.Context, e Env) (train, held *data.Set, c generativeconvnet.Config, err error) {
	if train, err = data.Load(ctx, "synthetic/rings", data.Options{Seed: e.Seed, Part: "train", Limit: 4000}); err != nil {
		return
	}
	if held, err = data.Load(ctx, "synthetic/rings", data.Options{Seed: e.Seed, Part: "test", Limit: 6000}); err != nil {
		return
	}
	c = generativeconvnet.Config{
		Spec:  &energy.Spec{Layers: []energy.Layer{{Filters: 64}, {Filters: 64}, {Filters: 1}}, Activation: "swish"},
		Steps: 3000, Batch: 100,
		Langevin: training.Langevin{Steps: 40, Step: 0.1, Noise: 1, Fused: true},
		Chains:   generativeconvnet.Chains{Init: generativeconvnet.Persistent, Start: generativeconvnet.Gaussian, Buffer: 2000, Restart: 0.02},
		Optim:    training.Optim{LR: 3e-3, Betas: [2]float64{0.5, 0.999}, Clip: 10, Decay: 0.05},
	}
	c.Reference.Sigma = 1
	return
}

// shares is the smallest and the largest share of a mode, and the share of points
// within three deviations of one: of the Gaussians themselves 0.989.
func shares(x []float32) (least, most, within float64, err error) {
	centres, sd, _ := data.Modes("synthetic/rings")
	s, within, err := diag.Modes(x, centres, 3*sd)
	if err != nil {
		return 0, 0, 0, err
	}
	return slices.Min(s), slices.Max(s), within, nil
}

// modesAndDistance checks points against the eight modes and held-out data.
func modesAndDistance(it *Item, arm, of string, x []float32, held *data.Set, untrained float64) (distance float64, err error) {
	least, most, within, err := shares(x)
	if err != nil {
		return 0, err
	}
	if distance, err = diag.EnergyDistance(held.X(), x, 2); err != nil {
		return 0, err
	}
	switch arm {
	case Works:
		it.Check(arm, "smallest share of a mode"+of, least, AtLeast(0.06), "")
		it.Check(arm, "largest share of a mode"+of, most, AtMost(0.19), "")
		it.Check(arm, "share of points near a mode"+of, within, AtLeast(0.9), "")
		it.Check(arm, "energy distance, share of U's"+of, distance/untrained, AtMost(0.1), fmt.Sprintf("distance %.4g", distance))
	case Untrained:
		it.Check(arm, "energy distance"+of, distance, Reported, fmt.Sprintf("shares %.3f … %.3f, %.3f near a mode", least, most, within))
	}
	return distance, nil
}

func ring(ctx context.Context, e Env, it *Item) error {
	train, held, c, err := rings(ctx, e)
	if err != nil {
		return err
	}
	floor, err := diag.EnergyDistance(held.X(), train.X(), 2)
	if err != nil {
		return err
	}
	it.Check("", "energy distance of real data (the floor)", floor, Reported, fmt.Sprintf("%d and %d points", held.N, train.N))
	return e.arms(ctx, it, "ring", c, train, 200, func(arm string, untrained float64, _ Energy, s *generativeconvnet.System) (float64, error) {
		x, err := s.Samples(ctx, c.Bank())
		if err == nil && arm == Works {
			err = e.heat(ctx, "ring", s)
		}
		if err != nil {
			return 0, err
		}
		return modesAndDistance(it, arm, "", x, held, untrained)
	}, ringFlipped(it))
}

func ringFlipped(it *Item) func(got, untrained float64, remark string) {
	return func(got, untrained float64, remark string) {
		it.Check(Flipped, "energy distance, share of U's", got/untrained, AtLeast(0.5), remark)
	}
}

func (e Env) heat(ctx context.Context, name string, s *generativeconvnet.System) error {
	pics, err := s.Pictures(ctx)
	if err != nil {
		return err
	}
	img, err := pics[0].Heat.Image()
	return e.show(name, img, err)
}

// ringShortRun: chains of exactly K steps must pass; ten times K may not, which
// is reported.
func ringShortRun(ctx context.Context, e Env, it *Item) error {
	train, held, c, err := rings(ctx, e)
	if err != nil {
		return err
	}
	c.Chains = generativeconvnet.Chains{Init: generativeconvnet.FromNoise, Start: generativeconvnet.Gaussian}
	return e.arms(ctx, it, "short-run", c, train, 1, func(arm string, untrained float64, net Energy, s *generativeconvnet.System) (float64, error) {
		x, err := s.Samples(ctx, held.N)
		if err != nil {
			return 0, err
		}
		distance, err := modesAndDistance(it, arm, " after K steps", x, held, untrained)
		if err != nil || arm != Works {
			return distance, err
		}
		if err := e.heat(ctx, "short-run", s); err != nil {
			return 0, err
		}
		st, err := sampler.NewState(x, 2, sampler.Chains(0, held.N))
		if err != nil {
			return 0, err
		}
		st.T = uint64(c.Langevin.Steps)
		if _, err := sampler.Run(ctx, sampler.Noise{Seed: e.Seed}, c.Langevin.Kernel(), net, st, 9*c.Langevin.Steps, nil); err != nil {
			return 0, err
		}
		long, err := diag.EnergyDistance(held.X(), st.X, 2)
		it.Check(arm, "energy distance, share of U's after 10·K steps", long/untrained, Reported, verdictOf(long, distance, untrained))
		return distance, err
	}, ringFlipped(it))
}

func verdictOf(long, short, untrained float64) string {
	if long > 2*max(short, 0) && long > 0.1*untrained {
		return "non-convergent: use K steps only"
	}
	return "convergent"
}

// textureBank are the filters that judge textures.
func textureBank() (diag.GaborBank, error) { return diag.Gabors([]float64{4, 6, 9}, 6) }

// texture learns stripes from one picture, in grey levels less their mean, under
// a reference of deviation 1. The same weights must then give the same texture on
// a larger canvas.
func texture(ctx context.Context, e Env, it *Item) error {
	set, err := data.Load(ctx, "synthetic/tex-a", data.Options{Seed: e.Seed, Size: 64})
	if err != nil {
		return err
	}
	other, err := data.Load(ctx, "synthetic/tex-a", data.Options{Seed: e.Seed + 1000, Size: 64})
	if err != nil {
		return err
	}
	set, other = data.Rescale(data.Bytes, set, other)
	bank, err := textureBank()
	if err != nil {
		return err
	}
	want, err := bank.Moments(set.X(), 64, 64)
	if err != nil {
		return err
	}
	gap := func(x []float32) (float64, error) {
		got, err := bank.Moments(x, 64, 64)
		if err != nil {
			return 0, err
		}
		return diag.MomentGap(want, got, len(bank.Filters))
	}
	if floor, err := gap(other.X()); err != nil {
		return err
	} else {
		it.Check("", "moment gap of another such picture (the floor)", floor, Reported, fmt.Sprintf("%d Gabor filters", len(bank.Filters)))
	}
	_, sd := moments(set.X())
	noise, rng := make([]float32, set.Dim()), e.random(4)
	for i := range noise {
		noise[i] = float32(sd * rng.NormFloat64())
	}
	if v, err := gap(noise); err != nil {
		return err
	} else {
		it.Check("", "moment gap of noise as strong as the picture", v, Reported, "")
	}
	c := textureConfig()
	const what = "moment gap on Gabor filters"
	return e.arms(ctx, it, "texture", c, set, 20, func(arm string, untrained float64, net Energy, s *generativeconvnet.System) (float64, error) {
		x, err := s.Samples(ctx, c.Chains.Buffer)
		if err != nil {
			return 0, err
		}
		got, err := gap(x)
		if err == nil && arm == Untrained {
			it.Check(arm, what, got, Reported, "")
		}
		if err != nil || arm != Works {
			return got, err
		}
		_, synthetic := moments(x)
		it.Check(arm, what, got, AtMost(0.15), "")
		it.Check(arm, "moment gap, share of U's", got/untrained, AtMost(0.25), "")
		it.Check(arm, "deviation, share of the picture's", synthetic/sd, Within(0.7, 1.3), "")
		img, err := record.Strip(2, 3, pictures(set, set.X()[:], 64, 1), pictures(set, x[:set.Dim()], 64, 1))
		if err := e.show("texture", img, err); err != nil {
			return 0, err
		}
		return got, e.larger(ctx, it, c, net, set, bank)
	}, func(got, _ float64, remark string) { it.Check(Flipped, what, got, AtLeast(0.6), remark) })
}

func textureConfig() generativeconvnet.Config {
	c := generativeconvnet.Config{
		Net: "texture-small", Steps: 300, Batch: 3,
		Langevin: training.Langevin{Steps: 20, Step: 0.3, Noise: 1, Fused: true},
		Chains:   generativeconvnet.Chains{Init: generativeconvnet.Persistent, Start: generativeconvnet.Gaussian, Buffer: 3},
		Optim:    training.Optim{LR: 5e-4, Betas: [2]float64{0.5, 0.999}},
		Guard:    training.Guard{MaxValue: 1e9},
	}
	c.Reference.Sigma = 1
	return c
}

func pictures(s *data.Set, x []float32, side, n int) record.Images {
	return record.Images{Data: x, N: n, C: s.C, H: side, W: side, Lo: s.Lo, Hi: s.Hi}
}

func moments(x []float32) (mean, sd float64) {
	for _, v := range x {
		mean += float64(v) / float64(len(x))
	}
	for _, v := range x {
		sd += (float64(v) - mean) * (float64(v) - mean) / float64(len(x))
	}
	return mean, math.Sqrt(sd)
}

// larger samples from noise at the size learned and at twice that.
func (e Env) larger(ctx context.Context, it *Item, c generativeconvnet.Config, net Energy, set *data.Set, bank diag.GaborBank) error {
	const small, large, steps = 64, 128, 1000
	var h [2][]float32
	var sd [2]float64
	for k, side := range []int{small, large} {
		spec, err := c.Network()
		if err != nil {
			return err
		}
		m, err := energy.Build(spec, []int{1, side, side}, c.Reference.Sigma, e.Seed)
		if err != nil {
			return err
		}
		wide, err := e.Bind(ctx, m)
		if err != nil {
			return err
		}
		defer wide.Close()
		from := net.Params()
		for i, p := range wide.Params() {
			if copy(p.W, from[i].W) != len(p.W) || p.Name != from[i].Name {
				return fmt.Errorf("weights %s do not depend on the size alone", p.Name)
			}
		}
		wide.Refresh()
		n := 3 * large * large / (side * side) // as much area in small pictures
		if side == large {
			n = 3
		}
		rng := e.random(5)
		x := make([]float32, n*side*side)
		for i := range x {
			x[i] = float32(c.Reference.Sigma * rng.NormFloat64())
		}
		st, err := sampler.NewState(x, side*side, sampler.Chains(0, n))
		if err != nil {
			return err
		}
		if _, err := sampler.Run(ctx, sampler.Noise{Seed: e.Seed}.Fork(6), c.Langevin.Kernel(), wide, st, steps, func(t int, _ sampler.Info) {
			if e.Step != nil {
				e.Step(fmt.Sprintf("texture %d×%d", side, side), t, steps)
			}
		}); err != nil {
			return err
		}
		if h[k], err = bank.Moments(x, side, side); err != nil {
			return err
		}
		_, sd[k] = moments(x)
		img, err := record.Strip(2, 2, pictures(set, x[:side*side], side, 1))
		if err := e.show(fmt.Sprintf("texture-%d", side), img, err); err != nil {
			return err
		}
	}
	gap, err := diag.MomentGap(h[0], h[1], len(bank.Filters))
	it.Check(Works, "moment gap of 128×128 against 64×64 samples, per area", gap, AtMost(0.1), fmt.Sprintf("deviations %.4g and %.4g", sd[1], sd[0]))
	return err
}

// faces: samples come close to held-out faces, those of neither U nor F do, and
// frames at equal angles change evenly and end where their starts lead.
func faces(ctx context.Context, e Env, it *Item) error {
	train, err := data.Load(ctx, "synthetic/face", data.Options{Seed: e.Seed, Size: 32, Limit: 1000, Part: "train"})
	if err != nil {
		return err
	}
	held, err := data.Load(ctx, "synthetic/face", data.Options{Seed: e.Seed, Size: 32, Limit: 500, Part: "test"})
	if err != nil {
		return err
	}
	c := generativeconvnet.Config{
		Spec: &energy.Spec{Layers: []energy.Layer{{Filters: 8, Kernel: 3, Pad: 1}, {Filters: 16, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 32, Kernel: 4, Stride: 2, Pad: 1},
			{Filters: 64, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 1, Kernel: 4}}, Activation: "swish"},
		Steps: 500, Batch: 16,
		Langevin: training.Langevin{Steps: 20, Step: 4.472, Noise: 0.001118, GradClip: 0.03, Clamp: [2]float64{-1, 1}, Fused: true},
		Chains:   generativeconvnet.Chains{Init: generativeconvnet.FromNoise},
		Optim:    training.Optim{LR: 2e-3, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1},
		ScoreL2:  0.05,
	}
	c.Data.Noise = 0.01
	want := coarse(held.X())
	distance := func(x []float32) (float64, error) { return diag.EnergyDistance(want, coarse(x), 64) }
	floor, err := distance(train.Head(held.N).X())
	if err != nil {
		return err
	}
	it.Check("", "energy distance of real faces at 8×8 (the floor)", floor, Reported, fmt.Sprintf("%d each", held.N))
	return e.arms(ctx, it, "faces", c, train, 1, func(arm string, untrained float64, net Energy, s *generativeconvnet.System) (float64, error) {
		x, err := s.Samples(ctx, held.N)
		if err != nil {
			return 0, err
		}
		got, err := distance(x)
		if err == nil && arm == Untrained {
			it.Check(arm, "energy distance at 8×8", got, Reported, "")
		}
		if err != nil || arm != Works {
			return got, err
		}
		it.Check(arm, "energy distance at 8×8, share of U's", got/untrained, AtMost(0.25), "")
		img, err := record.Grid(pictures(train, x[:64*train.Dim()], 32, 64), 0, 1, 0)
		if err := e.show("faces", img, err); err != nil {
			return 0, err
		}
		return got, e.interpolation(ctx, it, c, net, train)
	}, func(got, untrained float64, remark string) {
		it.Check(Flipped, "energy distance at 8×8, share of U's", got/untrained, AtLeast(0.5), remark)
	})
}

// coarse averages the 4×4 blocks of pictures of 32×32.
func coarse(x []float32) []float32 {
	const side, block = 32, 4
	out := make([]float32, len(x)/(block*block))
	for i, v := range x {
		picture, y, z := i/(side*side), i/side%side, i%side
		out[(picture*side/block+y/block)*side/block+z/block] += v / (block * block)
	}
	return out
}

func (e Env) interpolation(ctx context.Context, it *Item, c generativeconvnet.Config, net Energy, set *data.Set) error {
	const frames = 11
	dim := set.Dim()
	g := &shortrun.Generator{Field: net, Kernel: c.Langevin.Kernel(), K: c.Langevin.Steps, Dim: dim}
	rng := e.random(7)
	z := make([]float32, 2*dim)
	for i := range z {
		z[i] = float32(2*rng.Float64() - 1)
	}
	x, err := g.Interpolate(ctx, z[:dim], z[dim:], frames, [2]float32{-1, 1})
	if err != nil {
		return err
	}
	// Rounding depends on the number of rows: the starts go in where the strip has them.
	alone := make([]float32, frames*dim)
	copy(alone, z[:dim])
	copy(alone[(frames-1)*dim:], z[dim:])
	ends, err := g.Map(ctx, alone)
	if err != nil {
		return err
	}
	off := 0.0
	for i := range dim {
		j := (frames-1)*dim + i
		off = max(off, math.Abs(float64(x[i]-ends[i])), math.Abs(float64(x[j]-ends[j])))
	}
	it.Check(Works, "largest difference of the end frames from M(z)", off, AtMost(0), "")
	changes := make([]float64, frames-1)
	for k := range changes {
		for i := range dim {
			d := float64(x[(k+1)*dim+i] - x[k*dim+i])
			changes[k] += d * d
		}
		changes[k] = math.Sqrt(changes[k])
	}
	most := slices.Max(changes)
	slices.Sort(changes)
	it.Check(Works, "largest change between frames, multiple of the median", most/((changes[4]+changes[5])/2), AtMost(2.5), "")
	img, err := record.Strip(2, 3, pictures(set, x, 32, frames))
	return e.show("interpolation", img, err)
}

// endedBy is the remark on an arm that did not reach its end.
func endedBy(guard error) string {
	if guard != nil {
		return "ended by a guard"
	}
	return ""
}
