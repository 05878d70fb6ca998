package hierarchicalsparseframe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
	"ebmrun/training/sparseframe"
)

// A Model is what is learned: a template of every cluster, by which pictures of h×w are read.
type Model struct {
	Templates []*sparseframe.Template // none before the first round

	config Config
	h, w   int
	dict   *sparseframe.Dictionary   // of templates
	levels []*sparseframe.Dictionary // of pictures at each resolution
}

var (
	_ training.Drawer      = (*Model)(nil)
	_ training.Scorer      = (*Model)(nil)
	_ training.Detector    = (*Model)(nil)
	_ training.Clusterer   = (*Model)(nil)
	_ training.Describer   = (*Model)(nil)
	_ training.Sketcher    = (*Model)(nil)
	_ training.Illustrator = (*Model)(nil)
)

// NewModel is a model without templates for grey pictures of h×w.
func NewModel(c Config, h, w int) (*Model, error) {
	fail := func(err error) (*Model, error) { return nil, fmt.Errorf("hierarchical-sparse-frame: %w", err) }
	if err := c.Check(); err != nil {
		return fail(err)
	}
	m := &Model{config: c, h: h, w: w}
	var err error
	if m.dict, err = sparseframe.NewDictionary(&c.Frame, c.Side, c.Side); err != nil {
		return fail(err)
	}
	for l := range c.Levels {
		d, err := sparseframe.NewDictionary(&c.Frame, c.size(l, h), c.size(l, w))
		if err != nil {
			return fail(err)
		}
		m.levels = append(m.levels, d)
	}
	return m, nil
}

// Restore reads the templates of a checkpoint.
func (m *Model) Restore(st *checkpoint.State) error {
	m.Templates = nil
	for q := range m.config.Clusters {
		if _, ok := st.Tensors[prefix(q)+"atoms"]; !ok && q == 0 && st.Step == 0 {
			return nil
		}
		t, err := sparseframe.ReadTemplate(st, prefix(q), m.dict)
		if err != nil {
			return err
		}
		m.Templates = append(m.Templates, t)
	}
	return nil
}

func prefix(q int) string { return fmt.Sprintf("template%d/", q+1) }

// each calls f for n pictures, several at a time.
func each(ctx context.Context, n int, f func(i int)) error {
	var wait sync.WaitGroup
	next := make(chan int)
	for range min(n, runtime.GOMAXPROCS(0)) {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := range next {
				f(i)
			}
		}()
	}
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wait.Wait()
	return ctx.Err()
}

// count is the number of pictures in x.
func (m *Model) count(x []float32) (int, error) {
	n := len(x) / (m.h * m.w)
	switch {
	case n < 1 || len(x) != n*m.h*m.w:
		return 0, fmt.Errorf("hierarchical-sparse-frame: wanted grey pictures of %d×%d, got %d values", m.h, m.w, len(x))
	case len(m.Templates) == 0:
		return 0, errors.New("hierarchical-sparse-frame: no round of learning has ended yet")
	}
	return n, nil
}

// read finds every picture's best template and its pose.
func (m *Model) read(ctx context.Context, x []float32, f func(i int, v *view, d Detection)) error {
	n, err := m.count(x)
	if err != nil {
		return err
	}
	return each(ctx, n, func(i int) {
		v := m.view(x[i*m.h*m.w : (i+1)*m.h*m.w])
		f(i, v, m.best(v, false))
	})
}

// best is the template that scores a picture highest.
func (m *Model) best(v *view, rest bool) Detection {
	best := Detection{Score: math.Inf(-1)}
	for q, t := range m.Templates {
		if d := m.find(v, t, rest); d.Score > best.Score {
			best = d
			best.Cluster = q
		}
	}
	return best
}

// Score implements [training.Scorer].
func (m *Model) Score(ctx context.Context, x []float32, _ uint64) (string, []float64, error) {
	out := make([]float64, len(x)/(m.h*m.w))
	err := m.read(ctx, x, func(i int, _ *view, d Detection) { out[i] = d.Score })
	return "log p(x)/q(x), nats", out, err
}

// Cluster implements [training.Clusterer]: by the templates that were learned.
func (m *Model) Cluster(ctx context.Context, x []float32, k int, _ uint64) ([]int, error) {
	if k != 0 && k != m.config.Clusters {
		return nil, fmt.Errorf("hierarchical-sparse-frame: wanted %d clusters, as many as were learned, got %d", m.config.Clusters, k)
	}
	out := make([]int, len(x)/(m.h*m.w))
	return out, m.read(ctx, x, func(i int, _ *view, d Detection) { out[i] = d.Cluster })
}

// Detect implements [training.Detector].
func (m *Model) Detect(ctx context.Context, x []float32) ([]training.Found, error) {
	out := make([]training.Found, len(x)/(m.h*m.w))
	return out, m.read(ctx, x, func(i int, _ *view, d Detection) {
		_, _, scale := m.Place(d.Object)
		out[i] = training.Found{Kind: d.Cluster, Score: d.Score, Scale: scale,
			Turn: math.Pi * float64(d.Object.Turn) / float64(m.config.Frame.Orientations), Outline: m.outline(d.Object, 1)}
		for _, p := range d.Parts {
			out[i].Parts = append(out[i].Parts, m.outline(p, m.config.Parts))
		}
	})
}

// outline is the corners of a template, or of one of n×n parts of it, in pixels of the picture.
func (m *Model) outline(p Pose, n int) (corners [4][2]float64) {
	y, x, scale := m.Place(p)
	half := m.config.Side / n / 2
	for k, c := range [4][2]int{{-half, -half}, {-half, half}, {half, half}, {half, -half}} {
		dy, dx := m.turned(c[0], c[1], p.Turn)
		corners[k] = [2]float64{y + scale*dy, x + scale*dx}
	}
	return corners
}

// Describe implements [training.Describer]: the highest SUM3 of every template, over turns and resolutions,
// in the whole picture and in each quarter of it, and the highest MAX2 of each of its parts likewise.
func (m *Model) Describe(ctx context.Context, x []float32) ([]float32, error) {
	const cells = 5
	n, err := m.count(x)
	if err != nil {
		return nil, err
	}
	parts := m.config.Parts * m.config.Parts
	width := len(m.Templates) * (1 + parts) * cells
	out := make([]float32, n*width)
	for i := range out {
		out[i] = float32(math.Inf(-1))
	}
	pool := func(to, of []float32, level int) {
		h, w := m.config.size(level, m.h), m.config.size(level, m.w)
		for i, v := range of {
			quarter := 1 + 2*(i/w*2/h) + i%w*2/w
			to[0], to[quarter] = max(to[0], v), max(to[quarter], v)
		}
	}
	err = each(ctx, n, func(i int) {
		v := m.view(x[i*m.h*m.w : (i+1)*m.h*m.w])
		to := out[i*width : (i+1)*width]
		for _, t := range m.Templates {
			s := m.search(v, t, false)
			s.objects(func(_, level int, sum3 []float32) { pool(to, sum3, level) })
			for k, of := range s.max2 {
				pool(to[(1+k.part)*cells:], of, k.level)
			}
			to = to[(1+parts)*cells:]
		}
	})
	return out, err
}

// Sketch implements [training.Sketcher]: a template's wavelets as bars where its parts have moved to, as
// bright as their weights.
func (m *Model) Sketch(ctx context.Context, x []float32) ([]float32, error) {
	out := make([]float32, len(x))
	return out, m.read(ctx, x, func(i int, _ *view, d Detection) {
		m.sketch(out[i*m.h*m.w:(i+1)*m.h*m.w], d)
	})
}

func (m *Model) sketch(out []float32, d Detection) {
	t := m.Templates[d.Cluster]
	most := slices.Max(t.Theta)
	for k, a := range t.Atoms {
		p := d.Parts[m.of(a.Y, a.X)]
		cy, cx := m.part(m.of(a.Y, a.X))
		dy, dx := m.turned(a.Y-cy, a.X-cx, p.Turn)
		y, x, scale := m.Place(p)
		sparseframe.Bar(out, m.h, m.w, y+scale*dy, x+scale*dx, t.Angle(t.Turned(a.Filter, p.Turn)), 0.7*scale*float64(t.Half()), max(0.15, t.Theta[k]/most))
	}
}

// sweeps of a template's wavelets that a sample takes.
const sweeps = 20

// Draw implements [training.Drawer]: templates in turn, each in the middle of a picture that is white noise
// elsewhere, as the reference density has it.
func (m *Model) Draw(_ context.Context, n int, seed uint64) ([]float32, error) {
	if len(m.Templates) == 0 {
		return nil, errors.New("hierarchical-sparse-frame: no round of learning has ended yet")
	}
	side := m.config.Side
	x := make([]float32, n*m.h*m.w)
	sampler.Noise{Seed: seed}.Fork(1).Normals(x, sampler.Chains(0, n), 0)
	for i := range n {
		t := m.Templates[i%len(m.Templates)].Draw(1, sweeps, seed+uint64(i))
		y0, x0 := m.h/2-side/2, m.w/2-side/2
		for p, v := range t {
			if y, z := y0+p/side, x0+p%side; y >= 0 && y < m.h && z >= 0 && z < m.w {
				x[i*m.h*m.w+y*m.w+z] = v
			}
		}
	}
	return x, nil
}

// Illustrate implements [training.Illustrator]: of every template its wavelets as bars, a sample, and a
// sample of each part on its own.
func (m *Model) Illustrate(_ context.Context, seed uint64) ([]training.Picture, error) {
	if len(m.Templates) == 0 {
		return nil, nil
	}
	side, parts := m.config.Side, m.config.Parts*m.config.Parts
	bars, samples := record.Images{C: 1, H: side, W: side, Lo: 0, Hi: 1}, record.Images{C: 1, H: side, W: side, Lo: lo, Hi: hi}
	for q, t := range m.Templates {
		for j := -1; j < parts; j++ {
			var atoms []sparseframe.Atom
			var theta []float64
			for i, a := range t.Atoms {
				if j < 0 || m.of(a.Y, a.X) == j {
					atoms, theta = append(atoms, a), append(theta, t.Theta[i])
				}
			}
			part, err := sparseframe.NewTemplate(m.dict, atoms, theta, 0)
			if err != nil {
				return nil, err
			}
			bars.Data, samples.Data = append(bars.Data, part.Bars()...), append(samples.Data, part.Draw(1, sweeps, seed+uint64(q))...)
		}
	}
	bars.N = len(m.Templates) * (1 + parts)
	samples.N = bars.N
	return []training.Picture{{Tag: "templates", Rows: rows(bars, 1+parts)}, {Tag: "parts", Rows: rows(samples, 1+parts)}}, nil
}

// rows puts so many pictures beside one another.
func rows(im record.Images, n int) (out []record.Images) {
	size := im.C * im.H * im.W
	for i := 0; i < im.N; i += n {
		row := im
		row.N = min(n, im.N-i)
		row.Data = im.Data[i*size : (i+row.N)*size]
		out = append(out, row)
	}
	return out
}

// lo and hi are the values of normalised pictures shown black and white.
const lo, hi = -8, 8

// crops is what detections take for their objects, as examples of their own.
func (m *Model) crops(name string, x [][]float32) *data.Set {
	return &data.Set{Name: name, N: len(x), C: 1, H: m.config.Side, W: m.config.Side, Gain: 1, Floats: slices.Concat(x...)}
}
