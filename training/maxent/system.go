package maxent

import (
	"context"
	"fmt"
	"math"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// A Model is what has been learned: it draws examples and scores them.
type Model struct {
	Config Config
	Energy training.Energy
	Dim    int     // of one example
	Sigma  float64 // of the Gaussian reference density
	LogZ   float64 // log Z(θ) − log Z(0)

	Prepare func(x []float32) []float32 // what is done to an example before it is scored; nil for nothing

	// Names are what the statistics are called, for every parameter in turn: a name for each part of its
	// weights, all of one length.
	Names [][]string
}

var (
	_ training.Drawer       = (*Model)(nil)
	_ training.Scorer       = (*Model)(nil)
	_ training.Statistician = (*Model)(nil)
)

// Draw implements [training.Drawer]: fresh chains from the reference density.
func (m *Model) Draw(ctx context.Context, n int, seed uint64) ([]float32, error) {
	noise := sampler.Noise{Seed: seed}.Fork(drawNoise)
	s, err := start(noise, n, m.Dim, m.Sigma)
	if err != nil {
		return nil, err
	}
	kernel, steps := m.Config.Kernel()
	_, err = sampler.Run(ctx, noise, kernel, m.Energy, s, steps*orDefault(m.Config.Draw, 30), nil)
	return s.X, err
}

// Score implements [training.Scorer]: log p(x) = f(x) − log Z + log q(x).
func (m *Model) Score(ctx context.Context, x []float32, _ uint64) (string, []float64, error) {
	n := len(x) / m.Dim
	out := make([]float64, 0, n)
	batch := orDefault(m.Config.Batch, 64)
	rows, u, g := make([]float32, batch*m.Dim), make([]float32, batch), make([]float32, batch*m.Dim)
	log := -m.LogZ - float64(m.Dim)*math.Log(m.Sigma*math.Sqrt(2*math.Pi))
	for first := 0; first < n; first += batch {
		if err := ctx.Err(); err != nil {
			return "", nil, err
		}
		clear(rows)
		copy(rows, x[first*m.Dim:min(n, first+batch)*m.Dim])
		for k := 0; m.Prepare != nil && k < min(batch, n-first); k++ {
			copy(rows[k*m.Dim:], m.Prepare(rows[k*m.Dim:(k+1)*m.Dim]))
		}
		if err := m.Energy.EnergyGrad(rows, u, g); err != nil {
			return "", nil, err
		}
		for k := range min(batch, n-first) {
			out = append(out, log-float64(u[k]))
		}
	}
	return "log p(x), nats", out, nil
}

// Statistics implements [training.Statistician]: means of h over examples and over as many draws, and over the
// weights that share a name.
func (m *Model) Statistics(ctx context.Context, x []float32, seed uint64) (names []string, observed, drawn []float64, err error) {
	n := len(x) / m.Dim
	if n == 0 || len(x) != n*m.Dim {
		return nil, nil, nil, fmt.Errorf("maxent: wanted examples of %d values, got %d", m.Dim, len(x))
	}
	if m.Prepare != nil {
		x = append([]float32(nil), x...)
		for i := range n {
			copy(x[i*m.Dim:], m.Prepare(x[i*m.Dim:(i+1)*m.Dim]))
		}
	}
	y, err := m.Draw(ctx, n, seed)
	if err != nil {
		return nil, nil, nil, err
	}
	mean := func(x []float32) (out []float64, err error) {
		h, err := Observe(ctx, m.Energy, x, n, min(n, orDefault(m.Config.Batch, 64)))
		if err != nil {
			return nil, err
		}
		for i, group := range m.Names {
			each := len(h[i]) / len(group)
			for k := range group {
				out = append(out, training.Mean(h[i][k*each:(k+1)*each]))
			}
		}
		return out, nil
	}
	for _, group := range m.Names {
		names = append(names, group...)
	}
	if observed, err = mean(x); err == nil {
		drawn, err = mean(y)
	}
	return names, observed, drawn, err
}

// Open restores the weights and log Z of a checkpoint; it needs no data.
func (m *Model) Open(st *checkpoint.State) error {
	if err := training.RestoreParams(st, "weights", m.Energy.Params()); err != nil {
		return err
	}
	m.Energy.Refresh()
	logz, err := checkpoint.Values[float64](st, "logz", 2)
	if err == nil {
		m.LogZ = logz[0] + logz[1]
	}
	return err
}

// A System learns a model of a data set whose statistics it takes once.
type System struct {
	*Learner

	// Judge, if not nil, measures the chains, brought to JudgeN examples, against held-out data.
	Judge  func(samples []float32) (training.Metrics, error)
	JudgeN int

	name   string
	sigma  float64
	set    *data.Set
	loader *data.Loader
	origin training.Origin
	iter   int
}

// New assembles the named system. observed replaces the data's mean statistics where it is not nil.
func New(ctx context.Context, name string, c Config, e training.Energy, sigma float64, set *data.Set, observed [][]float32, seed uint64) (*System, error) {
	fail := func(err error) (*System, error) { return nil, fmt.Errorf("%s: %w", name, err) }
	if err := c.Check(); err != nil {
		return fail(err)
	}
	if !(sigma > 0) {
		return fail(fmt.Errorf("reference.sigma: wanted a positive deviation, got %g", sigma))
	}
	if observed == nil {
		var err error
		if observed, err = Observe(ctx, e, set.X(), set.N, min(set.N, orDefault(c.Batch, 64))); err != nil {
			return fail(err)
		}
	}
	l, err := NewLearner(c, e, observed, set.Dim(), sigma, seed)
	if err != nil {
		return fail(err)
	}
	loader, err := data.NewLoader(set, 1, seed)
	if err != nil {
		return fail(err)
	}
	return &System{Learner: l, name: name, sigma: sigma, set: set, loader: loader, origin: training.OriginOf(name, seed, set)}, nil
}

// Model is what has been learned so far.
func (s *System) Model() *Model {
	return &Model{Config: s.Config, Energy: s.Energy, Dim: s.set.Dim(), Sigma: s.sigma, LogZ: s.LogPartition()}
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Step implements [training.System].
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	m, err := s.Learner.Step(ctx)
	if err != nil {
		return nil, err
	}
	s.iter++
	_, m[training.DataStd] = training.Moments(s.set.X())
	m["sample_mean"], m[training.SampleStd] = training.Moments(s.Chains.X)
	return m, nil
}

// Evaluate implements [training.Evaluator].
func (s *System) Evaluate(context.Context) (training.Metrics, error) {
	if s.Judge == nil {
		return nil, nil
	}
	dim := s.set.Dim()
	x := make([]float32, 0, s.JudgeN*dim)
	for k := range s.JudgeN {
		i := k % s.Chains.Len()
		x = append(x, s.Chains.X[i*dim:(i+1)*dim]...)
	}
	return s.Judge(x)
}

// Pictures implements [training.Painter]: examples above as many chains.
func (s *System) Pictures(context.Context) ([]training.Picture, error) {
	if len(s.set.Dims()) != 3 {
		return nil, nil
	}
	n := min(8, s.set.N, s.Chains.Len())
	strip := func(x []float32) record.Images { return training.Images(s.set, x[:n*s.set.Dim()]) }
	return []training.Picture{{Tag: record.SamplesTag, Rows: []record.Images{strip(s.set.X()), strip(s.Chains.X)}}}, nil
}

// Save implements [training.System].
func (s *System) Save() (*checkpoint.State, error) {
	st := &checkpoint.State{Step: s.iter, Tensors: map[string]checkpoint.Tensor{}}
	s.Learner.Save(st)
	return st, s.origin.Save(st, s.loader, s.Config)
}

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error {
	position, err := s.origin.Check(st)
	if err != nil {
		return err
	}
	if err := s.Learner.Restore(st); err != nil {
		return err
	}
	s.iter = st.Step
	return s.loader.Seek(position)
}
