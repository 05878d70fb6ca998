package patchwise

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/pyramid"
	"ebmrun/training/sampler"
)

// A Model is what is learned: an energy for each scale of the picture. Outside
// learning all chains run without noise; what differs between samples is the noise
// that the coarsest chain begins with.
type Model struct {
	Scales []*pyramid.Level

	// Bind makes an energy like that of a scale for pictures of another size, whose
	// weights are then set; nil where only the picture's own size is wanted.
	Bind func(scale, h, w int) (training.Energy, error)

	config  Config
	reached int // finest scale that has begun to learn
	other   map[[3]int]*pyramid.Level
}

var (
	_ training.Drawer        = (*Model)(nil)
	_ training.Reconstructor = (*Model)(nil)
	_ training.Translator    = (*Model)(nil)
	_ training.Enlarger      = (*Model)(nil)
)

// NewModel joins energies, coarse to fine, for a picture of c×h×w.
func NewModel(c Config, energies []training.Energy, channels, h, w int) (*Model, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("patchwise: %w", err)
	}
	sizes, err := c.Sizes(h, w)
	if err != nil {
		return nil, fmt.Errorf("patchwise: %w", err)
	}
	if len(energies) != len(sizes) {
		return nil, fmt.Errorf("patchwise: wanted %d energies, got %d", len(sizes), len(energies))
	}
	m := &Model{config: c, other: map[[3]int]*pyramid.Level{}, reached: c.Scales - 1}
	for k, e := range energies {
		l := c.Langevin
		if k == 0 && c.First > 0 {
			l.Steps = c.First
		}
		v, err := pyramid.NewLevel(e, channels, sizes[k][0], sizes[k][1], l, c.Optim.For(max(c.length(k), 1)))
		if err == nil && c.EMA > 0 {
			err = v.Average(c.EMA)
		}
		if err != nil {
			return nil, fmt.Errorf("patchwise: %w", err)
		}
		v.Frozen = c.Sabotage == Freeze
		m.Scales = append(m.Scales, v)
	}
	return m, nil
}

func (m *Model) top() *pyramid.Level { return m.Scales[len(m.Scales)-1] }

// at is the level of a scale for pictures of h×w.
func (m *Model) at(scale, h, w int) (*pyramid.Level, error) {
	v := m.Scales[scale]
	if v.H == h && v.W == w {
		return v, nil
	}
	key := [3]int{scale, h, w}
	o := m.other[key]
	if o == nil {
		if m.Bind == nil {
			return nil, errors.New("patchwise: this model knows its picture's size only")
		}
		e, err := m.Bind(scale, h, w)
		if err != nil {
			return nil, err
		}
		if o, err = pyramid.NewLevel(e, v.C, h, w, v.Langevin, training.Optim{LR: 1}); err != nil {
			return nil, err
		}
		m.other[key] = o
	}
	return o, pyramid.Carry(o.Energy, v.Energy)
}

// Noise is the start of n coarsest chains: one number in [−1, 1] a pixel, the same in
// every channel.
func noise(r *rand.Rand, n, c, size int) []float32 {
	x := make([]float32, 0, n*c*size)
	for range n {
		plane := make([]float32, size)
		for i := range plane {
			plane[i] = 2*r.Float32() - 1
		}
		for range c {
			x = append(x, plane...)
		}
	}
	return x
}

// descend takes noise-free steps at a scale, in place; keep, if not nil, is put back
// after every step.
func descend(ctx context.Context, v *pyramid.Level, steps int, x []float32, keep func([]float32)) error {
	k := v.Langevin.Kernel()
	k.Noise, k.Project = 0, keep
	_, err := v.Move(ctx, sampler.Noise{}, k, steps, sampler.Chains(0, len(x)/v.Dim()), 0, x)
	return err
}

// run takes pictures x, which have the size of scale `from`, through the scales up
// to `to`, with averaged weights where they are kept. The picture's height and width are scaled by fh and fw.
func (m *Model) run(ctx context.Context, x []float32, from, to int, fh, fw float64, keep func(v *pyramid.Level) func([]float32)) (out []float32, err error) {
	err = pyramid.Averaged(m.Scales[from:to+1], func() error {
		out, err = m.cascade(ctx, x, from, to, fh, fw, keep)
		return err
	})
	return out, err
}

func (m *Model) cascade(ctx context.Context, x []float32, from, to int, fh, fw float64, keep func(v *pyramid.Level) func([]float32)) ([]float32, error) {
	var below *pyramid.Level
	for k := from; k <= to; k++ {
		v, err := m.at(k, scaled(m.Scales[k].H, fh), scaled(m.Scales[k].W, fw))
		if err != nil {
			return nil, err
		}
		if below != nil {
			x = pyramid.Resize(x, below.H, below.W, v.H, v.W)
		}
		var put func([]float32)
		if keep != nil {
			put = keep(v)
			put(x)
		}
		if err := descend(ctx, v, v.Langevin.Steps, x, put); err != nil {
			return nil, err
		}
		below = v
	}
	return x, nil
}

func scaled(n int, f float64) int { return int(math.Round(float64(n) * f)) }

// Draw implements [training.Drawer].
func (m *Model) Draw(ctx context.Context, n int, seed uint64) ([]float32, error) {
	return m.DrawSize(ctx, n, m.top().H, m.top().W, seed)
}

// DrawSize draws n pictures of another height and width.
func (m *Model) DrawSize(ctx context.Context, n, h, w int, seed uint64) ([]float32, error) {
	first, top := m.Scales[0], m.top()
	fh, fw := float64(h)/float64(top.H), float64(w)/float64(top.W)
	h0, w0 := scaled(first.H, fh), scaled(first.W, fw)
	return pyramid.Batches(n, m.config.Chains, func(at, rows int) ([]float32, error) {
		r := rand.New(rand.NewPCG(seed, uint64(at)))
		x, err := m.run(ctx, noise(r, m.config.Chains, first.C, h0*w0), 0, m.reached, fh, fw, nil)
		if err != nil {
			return nil, err
		}
		end := m.Scales[m.reached]
		x = pyramid.Resize(x, scaled(end.H, fh), scaled(end.W, fw), h, w)
		return x[:rows*first.C*h*w], nil
	})
}

// Edit lets the model rework pictures of the learned size from a scale on: from a
// coarse one it keeps little of them, from a fine one most. Where keep is 1 a pixel
// stays as it is; nil keeps none.
func (m *Model) Edit(ctx context.Context, x, keep []float32, from int) ([]float32, error) {
	top := m.top()
	if len(x) == 0 || len(x)%top.Dim() != 0 || keep != nil && len(keep) != len(x) {
		return nil, fmt.Errorf("patchwise: wanted pictures of %d×%d×%d and a mask of their size, got %d and %d values", top.C, top.H, top.W, len(x), len(keep))
	}
	if from < 0 || from >= len(m.Scales) {
		return nil, fmt.Errorf("patchwise: wanted a scale from 0 to %d, got %d", len(m.Scales)-1, from)
	}
	v := m.Scales[from]
	start := pyramid.Resize(x, top.H, top.W, v.H, v.W)
	if keep == nil {
		return m.run(ctx, start, from, len(m.Scales)-1, 1, 1, nil)
	}
	return m.run(ctx, start, from, len(m.Scales)-1, 1, 1, func(v *pyramid.Level) func([]float32) {
		seen := pyramid.Resize(keep, top.H, top.W, v.H, v.W)
		for i, s := range seen {
			seen[i] = 0
			if s > 0.999 {
				seen[i] = 1
			}
		}
		return pyramid.Impose(pyramid.Resize(x, top.H, top.W, v.H, v.W), seen)
	})
}

// Reconstruct implements [training.Reconstructor]: recovery from the picture at the
// coarsest scale, blurred as in learning. Hidden pixels begin at the mean of what is
// visible, which stays as it is. Nothing is random in it.
func (m *Model) Reconstruct(ctx context.Context, x, mask []float32, _ uint64) ([]float32, error) {
	top := m.top()
	if len(x) == 0 || len(x)%top.Dim() != 0 || mask != nil && len(mask) != len(x) {
		return nil, fmt.Errorf("patchwise: wanted pictures of %d×%d×%d and a mask of their size, got %d and %d values", top.C, top.H, top.W, len(x), len(mask))
	}
	if mask == nil {
		v := m.Scales[0]
		return m.run(ctx, m.blurred(pyramid.Resize(x, top.H, top.W, v.H, v.W)), 0, len(m.Scales)-1, 1, 1, nil)
	}
	mean := pyramid.VisibleMean(x, mask, top.H*top.W)
	start := make([]float32, len(x))
	for i := range start {
		if start[i] = x[i]; mask[i] != 1 {
			start[i] = mean[i/(top.H*top.W)]
		}
	}
	return m.Edit(ctx, start, mask, 0)
}

// Translate implements [training.Translator]: a painting becomes a picture.
func (m *Model) Translate(ctx context.Context, x []float32, _ uint64) ([]float32, error) {
	return m.Edit(ctx, x, nil, m.config.Paint)
}

// Enlarge makes pictures of h×w larger by a factor: again and again one step of the
// pyramid up, and noise-free steps of the energy that is two scales below the top.
func (m *Model) Enlarge(ctx context.Context, x []float32, h, w int, factor float64) (out []float32, err error) {
	scale := max(len(m.Scales)-3, 0)
	err = pyramid.Averaged(m.Scales[scale:scale+1], func() error {
		out, err = m.enlarge(ctx, x, h, w, factor, scale)
		return err
	})
	return out, err
}

func (m *Model) enlarge(ctx context.Context, x []float32, h, w int, factor float64, scale int) ([]float32, error) {
	step := 2.0
	if n := len(m.Scales); n > 1 {
		step = math.Pow(float64(m.top().H)/float64(m.Scales[0].H), 1/float64(n-1))
	}
	nowH, nowW, toH, toW := h, w, scaled(h, factor), scaled(w, factor)
	for f := step; nowH < toH || nowW < toW; f *= step {
		nextH, nextW := min(scaled(h, f), toH), min(scaled(w, f), toW)
		x = pyramid.Resize(x, nowH, nowW, nextH, nextW)
		v, err := m.at(scale, nextH, nextW)
		if err != nil {
			return nil, err
		}
		if err := descend(ctx, v, v.Langevin.Steps, x, nil); err != nil {
			return nil, err
		}
		nowH, nowW = nextH, nextW
	}
	return x, nil
}

// blurred is pictures of the coarsest scale made smaller and back.
func (m *Model) blurred(x []float32) []float32 {
	v := m.Scales[0]
	h, w := max(scaled(v.H, m.config.Recover.Shrink), 1), max(scaled(v.W, m.config.Recover.Shrink), 1)
	return pyramid.Resize(pyramid.Resize(x, v.H, v.W, h, w), h, w, v.H, v.W)
}

// Restore takes back what Save of a system has put into a checkpoint, without
// what only learning needs.
func (m *Model) Restore(st *checkpoint.State) error {
	for k, v := range m.Scales {
		if err := v.RestoreLearned(st, k+1); err != nil {
			return err
		}
	}
	m.reached = m.config.scaleAt(max(st.Step-1, 0))
	return nil
}
