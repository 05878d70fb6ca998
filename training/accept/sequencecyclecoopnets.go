package accept

import (
	"context"
	"errors"
	"math"
	"sort"

	"ebmrun/training"
	"ebmrun/training/cyclecoopnets"
	"ebmrun/training/data"
	"ebmrun/training/record"
	"ebmrun/training/sequencecyclecoopnets"
)

// SequenceCycleCoopNets is the acceptance of sequence-cycle-coopnets. The arm F turns
// the sign of the energies' updates.
var SequenceCycleCoopNets = Suite{"sequence-cycle-coopnets", []Part{
	{"clips", "clips of bright glyphs become clips of dark ones that move alike", false, sequenceClips},
}}

// sequence binds the networks of the settings and assembles the system.
func (e Env) sequence(ctx context.Context, c sequencecyclecoopnets.Config, a, b *data.Set) (*sequencecyclecoopnets.System, func() error, error) {
	shape, err := sequencecyclecoopnets.ShapeOf(a.Dims())
	if err != nil {
		return nil, nil, err
	}
	spec, err := c.EnergyNet()
	if err != nil {
		return nil, nil, err
	}
	var nets [2]Energy
	for k := range nets {
		frame := data.Set{C: shape.C, H: shape.H, W: shape.W}
		if nets[k], err = e.network(ctx, spec, &frame, c.Reference.Sigma); err != nil {
			return nil, nil, err
		}
	}
	m, err := c.Maps(shape.Frame(), shape.Frame(), e.Seed)
	if err != nil {
		return nil, nil, err
	}
	maps, err := e.BindMappings(ctx, m)
	if err != nil {
		return nil, nil, err
	}
	s, err := sequencecyclecoopnets.New(c, nets[0], nets[1], maps, a, b, e.Seed)
	return s, func() error { return errors.Join(nets[0].Close(), nets[1].Close(), maps.Close()) }, err
}

// track is the centre of what differs from the ground, the mean of the border, frame by
// frame: [2][frames].
func track(frames []float32, side int) (xy [2][]float64) {
	size := side * side
	for f := range len(frames) / size {
		x := frames[f*size : (f+1)*size]
		ground, n := 0.0, 0.0
		for i, v := range x {
			if r, c := i/side, i%side; r == 0 || c == 0 || r == side-1 || c == side-1 {
				ground, n = ground+float64(v), n+1
			}
		}
		ground /= n
		sum, at := 0.0, [2]float64{}
		for i, v := range x {
			if d := math.Abs(float64(v) - ground); d > 0.6 {
				sum += d
				at[0] += d * float64(i%side)
				at[1] += d * float64(i/side)
			}
		}
		for k := range xy {
			xy[k] = append(xy[k], at[k]/max(sum, 1e-9))
		}
	}
	return xy
}

// alike is the correlation of two tracks, the smaller one of both axes; axes along which
// the first does not move are left out.
func alike(a, b [2][]float64) float64 {
	least := 1.0
	for k := range a {
		var x, y []float32
		for i := range a[k] {
			x, y = append(x, float32(a[k][i])), append(y, float32(b[k][i]))
		}
		if _, sd := training.Moments(x); sd < 0.3 {
			continue
		}
		c := correlation(x, y)
		if math.IsNaN(c) {
			c = 0
		}
		least = min(least, c)
	}
	return least
}

// rough is the mean squared second difference of a track.
func rough(xy [2][]float64) (sum float64) {
	for _, p := range xy {
		for i := 1; i < len(p)-1; i++ {
			sum += math.Pow(p[i+1]-2*p[i]+p[i-1], 2) / float64(2*(len(p)-2))
		}
	}
	return sum
}

func sequenceClips(ctx context.Context, e Env, it *Item) error {
	load := func(name, part string, limit int, seed uint64) (*data.Set, error) {
		return data.Load(ctx, "synthetic/"+name, data.Options{Seed: seed, Part: part, Limit: limit})
	}
	a, err := load("seq16-a", "train", 300, e.Seed)
	if err != nil {
		return err
	}
	b, err := load("seq16-b", "train", 300, e.Seed+77)
	if err != nil {
		return err
	}
	held, err := load("seq16-a", "test", 40, e.Seed)
	if err != nil {
		return err
	}
	for _, arm := range []string{Works, Flipped} {
		c, err := sequencecyclecoopnets.For("clips-16", a.Dims(), 0)
		if err != nil {
			return err
		}
		if c.Steps = 700; arm != Works {
			c.Steps, c.Sabotage = c.Steps/5, cyclecoopnets.Flip
		}
		s, free, err := e.sequence(ctx, c, a, b)
		if err != nil {
			return err
		}
		ended, err := e.learn(ctx, "clips", arm, s, c.Steps, c.Guard)
		if err != nil {
			return errors.Join(err, free())
		}
		if ended != nil {
			it.Check(arm, "frames that have the ground of b", 0, AtMost(0.6), endedBy(ended))
			if err := free(); err != nil {
				return err
			}
			continue
		}
		m := s.Learned()
		y, err := m.Translate(ctx, held.X(), e.Seed)
		if err != nil {
			return errors.Join(err, free())
		}
		ahead, err := m.Foresight(ctx, 0, held.X())
		if err = errors.Join(err, free()); err != nil {
			return err
		}
		from, to := m.Split(held.X()), m.Split(y)
		size := m.Dim() * m.D
		var corr, ratio []float64
		for i := range held.N {
			p, q := track(from[i*size:(i+1)*size], m.H), track(to[i*size:(i+1)*size], m.H)
			corr = append(corr, alike(p, q))
			ratio = append(ratio, rough(q)/max(rough(p), 1e-3))
		}
		sort.Float64s(corr)
		sort.Float64s(ratio)
		dark := share(len(to)/m.Dim(), func(i int) bool { return striped(to[i*m.Dim():(i+1)*m.Dim()], m.H) })
		if arm != Works {
			it.Check(arm, "frames that have the ground of b", dark, AtMost(0.6), "")
			continue
		}
		it.Check(arm, "squared error of predicted frames, share of the last frame's", ahead, AtMost(0.5), "")
		it.Check(arm, "correlation of tracks, median", corr[held.N/2], AtLeast(0.9), "")
		it.Check(arm, "frames that have the ground of b", dark, AtLeast(0.85), "")
		it.Check(arm, "roughness of tracks, share of the source's, median", ratio[held.N/2], AtMost(1.5), "")
		var rows []record.Images
		for i := range 4 {
			for _, x := range [][]float32{from, to} {
				rows = append(rows, record.Images{Data: x[i*size : (i+1)*size], N: m.D, C: m.C, H: m.H, W: m.W, Lo: held.Lo, Hi: held.Hi})
			}
		}
		img, err := record.Strip(2, 2, rows...)
		if err := e.show("sequence-clips", img, err); err != nil {
			return err
		}
	}
	return nil
}
