package sparseframe

import (
	"context"
	"fmt"
	"math"
	"slices"

	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/maxent"
	"ebmrun/training/record"
)

// A Model is what has been learned: the template as an energy, and its wavelets.
type Model struct {
	*maxent.Model
	Template *Template
	Config   Config
}

var (
	_ training.Sketcher    = (*Model)(nil)
	_ training.Clusterer   = (*Model)(nil)
	_ training.Illustrator = (*Model)(nil)
)

// Names tell each atom's wavelet and its place.
func (t *Template) Names() (names []string) {
	for _, a := range t.Atoms {
		names = append(names, fmt.Sprintf("%s at (%d, %d)", t.bank[a.Filter].Name, a.Y, a.X))
	}
	return names
}

// count is the number of pictures in x.
func (m *Model) count(x []float32) (int, error) {
	d := m.Template.h * m.Template.w
	if len(x) == 0 || len(x)%d != 0 {
		return 0, fmt.Errorf("sparse-frame: wanted grey pictures of %d×%d, got %d values", m.Template.h, m.Template.w, len(x))
	}
	return len(x) / d, nil
}

// Sketch implements [training.Sketcher]: every atom as a bar where it has moved to.
func (m *Model) Sketch(_ context.Context, x []float32) (out []float32, err error) {
	n, err := m.count(x)
	for i := range n {
		d := m.Template.h * m.Template.w
		out = append(out, m.Template.Sketch(m.Template.Responses(m.Prepare(x[i*d:(i+1)*d])))...)
	}
	return out, err
}

// Cluster implements [training.Clusterer] by EM: templates of k clusters are learned of the given pictures.
func (m *Model) Cluster(ctx context.Context, x []float32, k int, seed uint64) ([]int, error) {
	const iterations, starts = 10, 3
	n, err := m.count(x)
	if err != nil {
		return nil, err
	}
	if k < 2 {
		return nil, fmt.Errorf("sparse-frame: wanted 2 clusters or more, got %d", k)
	}
	set := &data.Set{Name: "pictures", N: n, C: 1, H: m.Template.h, W: m.Template.w, Gain: 1, Floats: x}
	return Cluster(ctx, m.Config, set, k, iterations, starts, seed)
}

// Illustrate implements [training.Illustrator]: all atoms as bars beside a sample, and the strongest one by one.
func (m *Model) Illustrate(_ context.Context, seed uint64) ([]training.Picture, error) {
	const shown = 16
	t := m.Template
	images := func(x []float32, n int, most float32) record.Images {
		return record.Images{Data: x, N: n, C: 1, H: t.h, W: t.w, Lo: -most, Hi: most}
	}
	order := make([]int, len(t.Atoms))
	for j := range order {
		order[j] = j
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(math.Copysign(1, t.Theta[b]-t.Theta[a])) })
	var strongest []Atom
	for _, j := range order[:min(shown, len(order))] {
		strongest = append(strongest, t.Atoms[j])
	}
	taps := t.taps(strongest)
	return []training.Picture{
		{Tag: "atoms", Images: images(t.Bars(), 1, 1)},
		{Tag: "codebook", Images: images(taps, len(strongest), slices.Max(taps))},
		{Tag: "sample", Images: images(t.Draw(4, 20, seed), 4, hi)},
	}, nil
}
