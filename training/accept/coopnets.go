package accept

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"ebmrun/onnxmodels/generator"
	"ebmrun/training"
	"ebmrun/training/coopnets"
	"ebmrun/training/diag"
	"ebmrun/training/record"
)

// CoopNets is the acceptance of coopnets. The arms: G freezes the generator, F
// turns the sign of the energy's update, K takes no revision steps.
var CoopNets = Suite{"coopnets", []Part{
	{"gaussian", "one-dimensional teaching: the rigorous variant against jump-start", false, coopGaussian},
	{"blobs", "discs of 16×16: drafts, revised drafts, teaching; the way between two; half a disc", false, coopBlobs},
}}

const (
	frozenStudent = "G"
	noRevision    = "K"
)

// pair binds the networks of the settings.
func (e Env) pair(ctx context.Context, c *coopnets.Config, b blobs) (Energy, Generator, error) {
	es, err := c.EnergyNet()
	if err != nil {
		return nil, nil, err
	}
	gs, err := c.GeneratorNet()
	if err != nil {
		return nil, nil, err
	}
	net, err := e.network(ctx, es, b.train, c.Reference.Sigma)
	if err != nil {
		return nil, nil, err
	}
	m, err := generator.Build(gs, []int{b.train.C, b.train.H, b.train.W}, e.Seed)
	if err != nil {
		return nil, nil, errors.Join(err, net.Close())
	}
	g, err := e.BindGenerator(ctx, m, c.Sigma)
	if err != nil {
		return nil, nil, errors.Join(err, net.Close())
	}
	return net, g, nil
}

func coopBlobs(ctx context.Context, e Env, it *Item) error {
	b, err := e.blobs(ctx)
	if err != nil {
		return err
	}
	it.Check("", "FD-PCA of real pictures (the floor)", b.floor, Reported, "")
	untrained := math.NaN()
	for _, arm := range []string{Works, frozenStudent, Flipped, noRevision} {
		c, err := coopnets.For("pictures-16", []int{1, 16, 16}, 0)
		if err != nil {
			return err
		}
		c.Sabotage = map[string]string{Works: "", frozenStudent: coopnets.Freeze, Flipped: coopnets.Flip, noRevision: coopnets.Still}[arm]
		c.Steps = 1000
		c.Optim.Over, c.Teach.Over = c.Steps, c.Steps
		if arm != Works {
			c.Steps /= 5
		}
		net, g, err := e.pair(ctx, &c, b)
		if err != nil {
			return err
		}
		defer net.Close()
		defer g.Close()
		s, err := coopnets.New(c, net, g, b.train, e.Seed)
		if err != nil {
			return err
		}
		of := func(revised bool) (x []float32, fd float64, err error) {
			if x, err = s.Samples(ctx, compared, revised); err == nil {
				fd, err = b.distance(x)
			}
			return x, fd, err
		}
		if arm == Works {
			if _, untrained, err = of(false); err != nil {
				return err
			}
			it.Check("", "FD-PCA of drafts before learning", untrained, Reported, "")
		}
		early, late := math.NaN(), 0.0
		ended, err := e.learn(ctx, "blobs", arm, watch{s, func(m training.Metrics) {
			const averaged = 20
			switch i := s.Iteration(); {
			case i == 20:
				early = m["revision"]
			case i > c.Steps-averaged:
				late += m["revision"] / averaged
			}
		}}, c.Steps, c.Guard)
		if err != nil {
			return err
		}
		x, revised, err := of(true)
		if ended != nil || err != nil && arm != Works {
			revised, err = math.Inf(1), nil
		}
		if err != nil {
			return err
		}
		if arm == frozenStudent { // the energy alone may turn poor drafts into discs
			_, drafts, err := of(false)
			if err != nil {
				return err
			}
			it.Check(arm, "FD-PCA of drafts, share of revised drafts'", drafts/revised, AtLeast(2), "must not catch up")
			if err := e.halves(ctx, it, arm, coopnets.Of(c, net, g, b.train.Dim()), b); err != nil {
				return err
			}
			continue
		}
		if arm != Works {
			it.Check(arm, "FD-PCA of revised drafts, share of untrained drafts'", revised/untrained, AtLeast(0.25), endedBy(ended))
			continue
		}
		_, drafts, err := of(false)
		if err != nil {
			return err
		}
		valid, covered, err := b.valid(x)
		if err != nil {
			return err
		}
		it.Check(arm, "FD-PCA of revised drafts, share of untrained drafts'", revised/untrained, AtMost(0.25), fmt.Sprintf("FD-PCA %.3g", revised))
		it.Check(arm, "FD-PCA of revised drafts, share of the floor", revised/b.floor, AtMost(4), "")
		it.Check(arm, "revised drafts that are one disc of a right size", valid, AtLeast(0.8), "")
		it.Check(arm, "places of discs that occur", covered, AtLeast(0.7), "")
		it.Check(arm, "FD-PCA of drafts, share of revised drafts'", drafts/revised, AtMost(2), "")
		it.Check(arm, "revision in iteration 20, share of that at the end", early/late, AtLeast(3), "")
		if err := e.pictures("coopnets-blobs", x, b.held); err != nil {
			return err
		}
		l := coopnets.Of(c, net, g, b.train.Dim())
		if err := errors.Join(e.ways(ctx, it, l, b), e.halves(ctx, it, arm, l, b)); err != nil {
			return err
		}
	}
	return nil
}

// ways: on the way between two draws nearly every frame is one disc, and its place
// moves steadily.
func (e Env) ways(ctx context.Context, it *Item, l *coopnets.Learned, b blobs) error {
	const pairs, frames = 40, 9
	var all []float32
	steady := 0
	for k := range uint64(pairs) {
		x, err := l.Interpolate(ctx, e.Seed+1000+2*k, e.Seed+1001+2*k, frames)
		if err != nil {
			return err
		}
		s, err := diag.Blobs(x, b.held.H, b.held.W, 0)
		if err != nil {
			return err
		}
		path := [2][]float64{}
		for _, blob := range s {
			path[0], path[1] = append(path[0], blob.X), append(path[1], blob.Y)
		}
		moved := func(p []float64) float64 { return math.Abs(p[frames-1] - p[0]) }
		axis := path[0]
		if moved(path[1]) > moved(path[0]) {
			axis = path[1]
		}
		if math.Abs(spearman(axis)) >= 0.9 {
			steady++
		}
		all = append(all, x...)
	}
	valid, _, err := b.valid(all)
	if err != nil {
		return err
	}
	it.Check(Works, "frames between two draws that are one disc", valid, AtLeast(0.8), "")
	it.Check(Works, "ways on which the disc moves steadily", float64(steady)/pairs, AtLeast(0.7), "rank correlation of its place with time of 0.9 and more")
	img, err := record.Grid(record.Images{Data: all[:16*frames*b.held.Dim()], N: 16 * frames, C: 1, H: b.held.H, W: b.held.W, Lo: -1, Hi: 1}, frames, 1, 0)
	return e.show("coopnets-ways", img, err)
}

// spearman is the rank correlation of values with their order; ties count as they come.
func spearman(x []float64) float64 {
	order := make([]int, len(x))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case x[a] < x[b]:
			return -1
		case x[a] > x[b]:
			return 1
		}
		return 0
	})
	sum, n := 0.0, float64(len(x))
	for rank, i := range order {
		sum += float64((rank - i) * (rank - i))
	}
	return 1 - 6*sum/(n*(n*n-1))
}

// halfError tells W from G.
const halfError = 0.5

// halves hides the right half of held-out discs whose centre lies within a pixel of
// the middle.
func (e Env) halves(ctx context.Context, it *Item, arm string, l *coopnets.Learned, b blobs) error {
	const most = 64
	var x []float32
	for i, s := range b.real {
		if math.Abs(s.X-7.5) < 1 && len(x) < most*b.held.Dim() {
			x = append(x, b.held.At(i)...)
		}
	}
	mask, dim, side := training.Ones(len(x)), b.held.Dim(), b.held.W
	mean := make([]float64, dim)
	for i := range b.train.X() {
		mean[i%dim] += float64(b.train.X()[i]) / float64(b.train.N)
	}
	seen := slices.Clone(x)
	for i := range mask {
		if i%side >= side/2 {
			mask[i], seen[i] = 0, 0
		}
	}
	y, err := l.Reconstruct(ctx, seen, mask, e.Seed)
	if err != nil {
		return err
	}
	got, filled := 0.0, 0.0
	for i, m := range mask {
		if m == 0 {
			got += math.Pow(float64(x[i]-y[i]), 2)
			filled += math.Pow(float64(x[i])-mean[i%dim], 2)
		}
	}
	limit := AtMost(halfError)
	if arm != Works {
		limit = AtLeast(halfError)
	}
	it.Check(arm, "error of the hidden half of a disc, share of the mean image's", got/filled, limit, fmt.Sprintf("%d discs", len(x)/dim))
	if arm != Works {
		return nil
	}
	img, err := record.Strip(2, 0, b.row(seen), b.row(y), b.row(x))
	return e.show("coopnets-halves", img, err)
}
