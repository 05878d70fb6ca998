package deepframe

import (
	"context"
	"fmt"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/maxent"
	"ebmrun/training/sampler"
)

// A Layer of the network: so many units, each at so many places of a picture.
type Layer struct {
	Name          string
	Units, Places int
}

// Model is what has been learned. It compares statistics.
type Model struct {
	Config Config
	Energy training.Energy
	Layers []Layer

	chains []float32
	stride float64
}

var _ training.Statistician = (*Model)(nil)

// Open restores the weights and the chains of a checkpoint, of pictures of dim values; it needs no data.
func Open(c Config, e training.Energy, layers []Layer, st *checkpoint.State, dim int) (*Model, error) {
	m := &Model{Config: c, Energy: e, Layers: layers}
	var err error
	if m.stride, err = stride(c, st); err != nil {
		return nil, err
	}
	if m.chains, err = checkpoint.Values[float32](st, chainsTensor, c.Chains.Number, dim); err != nil {
		return nil, err
	}
	if err := training.RestoreParams(st, "weights", e.Params()); err != nil {
		return nil, err
	}
	e.Refresh()
	return m, nil
}

// Chains are the persistent chains [chains.number, dim].
func (m *Model) Chains() []float32 { return append([]float32(nil), m.chains...) }

// Langevin are the settings of the sampler with the step that learning came to.
func (m *Model) Langevin() training.Langevin { return shortened(m.Config.Langevin, m.stride) }

// Statistics implements [training.Statistician]: the response of each unit, in the mean over places and
// examples, and over places and the persistent chains after as many steps more as an iteration has.
func (m *Model) Statistics(ctx context.Context, x []float32, seed uint64) (names []string, observed, drawn []float64, err error) {
	n := m.Config.Chains.Number
	dim := len(m.chains) / n
	if len(x) == 0 || len(x)%dim != 0 {
		return nil, nil, nil, fmt.Errorf("deep-frame: wanted pictures of %d values, got %d", dim, len(x))
	}
	st, err := sampler.NewState(m.Chains(), dim, sampler.Chains(0, n))
	if err != nil {
		return nil, nil, nil, err
	}
	l := m.Langevin()
	if _, err := sampler.Run(ctx, sampler.Noise{Seed: seed}, l.Kernel(), m.Energy, st, l.Steps, nil); err != nil {
		return nil, nil, nil, err
	}
	for _, l := range m.Layers {
		for k := range l.Units {
			names = append(names, fmt.Sprintf("%s unit %d", l.Name, k+1))
		}
	}
	if observed, err = m.means(ctx, x, dim); err == nil {
		drawn, err = m.means(ctx, st.X, dim)
	}
	return names, observed, drawn, err
}

// means are the mean responses of all units to pictures x [n, dim].
func (m *Model) means(ctx context.Context, x []float32, dim int) (out []float64, err error) {
	n := len(x) / dim
	h, err := maxent.Observe(ctx, m.Energy, x, n, min(n, m.Config.Batch))
	if err != nil {
		return nil, err
	}
	for i, l := range m.Layers {
		each := len(h[i]) / l.Units // one where places are summed over already
		for k := range l.Units {
			out = append(out, training.Mean(h[i][k*each:(k+1)*each])*float64(each)/float64(l.Places))
		}
	}
	return out, nil
}
