package accept

import (
	"context"
	"fmt"
	"math"

	nets "ebmrun/onnxmodels/flow"
	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/flow"
)

// Flow is the acceptance of flow.
var Flow = Suite{"flow", []Part{
	{"bijections", "there and back, volumes, and densities that sum to 1", true, bijections},
	{"ring", "eight Gaussians on a circle by maximum likelihood", false, ringOfFlow},
	{"blobs", "discs of 16×16: bits per dimension, and draws", false, blobsOfFlow},
}}

// flow binds a flow.
func (e Env) flow(ctx context.Context, s nets.Spec, dims []int) (BoundFlow, error) {
	m, err := nets.Build(s, dims, e.Seed)
	if err != nil {
		return nil, err
	}
	return e.BindFlow(ctx, m)
}

// bijections checks named flows whose weights have been moved at random, so that no
// layer is the identity.
func bijections(ctx context.Context, e Env, it *Item) error {
	for _, c := range []struct {
		name  string
		dims  []int
		worst float64
	}{
		{"glow-16", []int{1, 16, 16}, 1e-4}, {"flowpp-16", []int{1, 16, 16}, 1e-3},
		{"glow-2d", []int{2}, 1e-4}, {"realnvp-2d", []int{2}, 1e-4}, {"flowpp-2d", []int{2}, 1e-3},
	} {
		spec, err := nets.ByName(c.name)
		if err != nil {
			return err
		}
		spec.Coupling.Hidden = 8
		f, err := e.flow(ctx, spec, c.dims)
		if err != nil {
			return err
		}
		defer f.Close()
		rng := e.random(2)
		for _, p := range f.Params() {
			for i := range p.W {
				p.W[i] += float32(0.03 * rng.NormFloat64())
			}
		}
		const n = 16
		dim := 1
		for _, d := range c.dims {
			dim *= d
		}
		x, z, back, logP := make([]float32, n*dim), make([]float32, n*dim), make([]float32, n*dim), make([]float32, n)
		for i := range x {
			x[i] = float32(2*rng.Float64() - 1)
		}
		if err := f.Encode(ctx, x, z, logP); err != nil {
			return err
		}
		if err := f.Decode(ctx, z, back); err != nil {
			return err
		}
		worst := 0.0
		for i := range x {
			worst = max(worst, math.Abs(float64(back[i]-x[i])))
		}
		it.Check("", c.name+": largest difference there and back", worst, AtMost(c.worst), "")
		if dim == 2 {
			if err := plane(ctx, it, c.name, f, x, z, logP); err != nil {
				return err
			}
		}
	}
	return nil
}

// plane compares densities of points x with codes z with differences of the codes,
// and sums the density over a square.
func plane(ctx context.Context, it *Item, name string, f BoundFlow, x, z, logP []float32) error {
	const h = 4e-3
	n := len(logP)
	var slope [2][]float64 // ∂z/∂x_k, row after row
	for k := range slope {
		var ends [2][]float32
		for j, sign := range []float32{1, -1} {
			moved := append([]float32(nil), x...)
			for i := range n {
				moved[2*i+k] += sign * h
			}
			ends[j] = make([]float32, len(z))
			if err := f.Encode(ctx, moved, ends[j], make([]float32, n)); err != nil {
				return err
			}
		}
		for i := range z {
			slope[k] = append(slope[k], float64(ends[0][i]-ends[1][i])/(2*h))
		}
	}
	worst := 0.0
	for i := range n {
		det := slope[0][2*i]*slope[1][2*i+1] - slope[0][2*i+1]*slope[1][2*i]
		a, b := float64(z[2*i]), float64(z[2*i+1])
		want := math.Log(math.Abs(det)) - (a*a+b*b)/2 - math.Log(2*math.Pi)
		worst = max(worst, math.Abs(float64(logP[i])-want)/(1+math.Abs(want)))
	}
	it.Check("", name+": log p against differences, relative", worst, AtMost(1e-3), "")

	const side, half = 256, 16.0
	const cell = 2 * half / side
	sum, row, density := 0.0, make([]float32, 2*side), make([]float32, side)
	for i := range side {
		for j := range side {
			row[2*j], row[2*j+1] = float32(-half+cell*(float64(i)+0.5)), float32(-half+cell*(float64(j)+0.5))
		}
		if err := f.Encode(ctx, row, make([]float32, 2*side), density); err != nil {
			return err
		}
		for _, v := range density {
			sum += math.Exp(float64(v)) * cell * cell
		}
	}
	it.Check("", name+": sum of the density", sum, Within(0.98, 1.02), "")
	return nil
}

// flowSabotage is the setting that makes an arm.
var flowSabotage = map[string]string{Works: "", Untrained: flow.Freeze, Flipped: flow.Flip}

// flowArm trains one arm; F gets a tenth of the iterations, U one.
func (e Env) flowArm(ctx context.Context, what, arm string, c flow.Config, set, held *data.Set) (s *flow.System, m training.Metrics, done func() error, err error) {
	c.Sabotage = flowSabotage[arm]
	spec, err := c.Network()
	if err != nil {
		return nil, nil, nil, err
	}
	dims := []int{set.C, set.H, set.W}
	if set.H == 1 {
		dims = dims[:1]
	}
	f, err := e.flow(ctx, spec, dims)
	if err != nil {
		return nil, nil, nil, err
	}
	if s, err = flow.New(c, f, set, e.Seed); err != nil {
		return nil, nil, nil, err
	}
	s.Exam.Held = held
	steps := map[string]int{Works: c.Steps, Untrained: 1, Flipped: max(c.Steps/10, 1)}[arm]
	ended, err := e.learn(ctx, what, arm, s, steps, c.Guard)
	if err != nil || ended != nil {
		return s, nil, f.Close, err
	}
	m, err = s.Evaluate(ctx)
	return s, m, f.Close, err
}

// gaussianEntropy is what the best single Gaussian needs for ring8, the entropy of the
// eight being 0.312 nats.
const gaussianEntropy = 3.536

func ring8(ctx context.Context, e Env) (train, held *data.Set, err error) {
	if train, err = data.Load(ctx, "synthetic/ring8", data.Options{Seed: e.Seed, Part: "train", Limit: 4000}); err != nil {
		return nil, nil, err
	}
	held, err = data.Load(ctx, "synthetic/ring8", data.Options{Seed: e.Seed, Part: "test", Limit: 2000})
	return train, held, err
}

func ringOfFlow(ctx context.Context, e Env, it *Item) error {
	train, held, err := ring8(ctx, e)
	if err != nil {
		return err
	}
	for _, arm := range []string{Works, Untrained, Flipped} {
		c, err := flow.For("points-realnvp", []int{2, 1, 1}, train.N)
		if err != nil {
			return err
		}
		_, m, done, err := e.flowArm(ctx, "ring", arm, c, train, held)
		if err != nil {
			return err
		}
		nll := math.Inf(1)
		if m != nil {
			nll = m["held_out/nll"]
		}
		limit := AtLeast(gaussianEntropy)
		if arm == Works {
			limit = AtMost(1.5)
		}
		it.Check(arm, "held-out −log p, nats (truth 0.31, one Gaussian 3.54)", nll, limit, "")
		if err := done(); err != nil {
			return err
		}
	}
	return nil
}

func blobsOfFlow(ctx context.Context, e Env, it *Item) error {
	b, err := e.blobs(ctx)
	if err != nil {
		return err
	}
	it.Check("", "FD-PCA of real pictures (the floor)", b.floor, Reported, "")
	distances := map[string]float64{}
	for _, arm := range []string{Untrained, Works, Flipped} {
		c, err := flow.For("pictures-16", []int{1, 16, 16}, b.train.N)
		if err != nil {
			return err
		}
		s, m, done, err := e.flowArm(ctx, "blobs", arm, c, b.train, b.held)
		if err != nil {
			return err
		}
		bits := math.Inf(1)
		distances[arm] = math.Inf(1)
		var valid float64
		if m != nil {
			bits = m["held_out/bpd"]
			x, err := s.Draw(ctx, compared, e.Seed)
			if err != nil {
				return err
			}
			if d, err := b.distance(x); err == nil {
				distances[arm] = d
			}
			if valid, _, err = b.valid(x); err != nil {
				return err
			}
			if err := e.pictures("flow-blobs-"+arm, x, b.train); err != nil {
				return err
			}
		}
		if arm == Works {
			it.Check(arm, "held-out bits per dimension", bits, AtMost(2), "8 for noise")
			it.Check(arm, "FD-PCA of draws, share of U's", distances[arm]/distances[Untrained], AtMost(drawsOfFlow), fmt.Sprintf("%.3g of %.3g", distances[arm], distances[Untrained]))
			it.Check(arm, "draws that are one disc of a right size", valid, Reported, "")
			if err := b.thereAndBack(ctx, it, s); err != nil {
				return err
			}
		} else {
			it.Check(arm, "held-out bits per dimension", bits, AtLeast(5), "")
		}
		if arm == Flipped {
			it.Check(arm, "FD-PCA of draws, share of U's", distances[arm]/distances[Untrained], AtLeast(drawsOfFlow), "")
		}
		if err := done(); err != nil {
			return err
		}
	}
	return nil
}

// drawsOfFlow tells a flow that draws discs from one that does not.
const drawsOfFlow = 0.25

// thereAndBack: what a flow has learned does not make it lose digits.
func (b blobs) thereAndBack(ctx context.Context, it *Item, s *flow.System) error {
	x := b.held.Head(64).X()
	y, err := s.Reconstruct(ctx, x, nil, 0)
	if err != nil {
		return err
	}
	worst := 0.0
	for i, v := range x {
		worst = max(worst, math.Abs(float64(v-y[i])))
	}
	it.Check(Works, "held-out discs: largest difference there and back", worst, AtMost(1e-4), "")
	return nil
}
