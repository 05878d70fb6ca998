package hierarchicalsparseframe

import (
	"math"

	"ebmrun/training/sampler"
	"ebmrun/training/sparseframe"
)

// Rigid is the largest difference between SUM3 of a random template without freedom and the score of a flat
// sparse FRAME template, over all places of a picture of h×w where the template lies inside; and the largest
// score.
func Rigid(c Config, x []float32, h, w int, seed uint64) (off, most float64, err error) {
	c.Object, c.Part = Freedom{}, Freedom{}
	m, err := NewModel(c, h, w)
	if err != nil {
		return 0, 0, err
	}
	t, err := m.random(10, seed)
	if err != nil {
		return 0, 0, err
	}
	v, half := m.view(x), c.Side/2
	m.search(v, t, false).objects(func(turn, level int, sum3 []float32) {
		for y := half; y+half <= h; y++ {
			for x := half; x+half <= w; x++ {
				crop := make([]float32, 0, c.Side*c.Side)
				for r := y - half; r < y+half; r++ {
					crop = append(crop, v.pictures[level][r*w+x-half:][:c.Side]...)
				}
				want := t.Score(m.dict.Responses(crop))
				off = max(off, math.Abs(float64(sum3[y*w+x])-t.LogZ-want))
				most = max(most, math.Abs(want))
			}
		}
	})
	return off, most, nil
}

// random is a template of wavelets that may all move without leaving it.
func (m *Model) random(atoms int, seed uint64) (*sparseframe.Template, error) {
	r, edge := sampler.Stream(seed, 0, 0), m.dict.Half()+m.config.Frame.Shift+1
	var at []sparseframe.Atom
	var theta []float64
	for range atoms {
		room := max(1, m.config.Side-2*edge)
		at = append(at, sparseframe.Atom{Filter: r.IntN(m.dict.Filters()), Y: edge + r.IntN(room), X: edge + r.IntN(room)})
		theta = append(theta, r.NormFloat64())
	}
	return sparseframe.NewTemplate(m.dict, at, theta, 1.5)
}
