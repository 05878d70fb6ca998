package inverseoptimalcontrol

import (
	"context"
	"fmt"
	"math"
	"slices"

	"ebmrun/onnxmodels/control"
	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

// A Model is what is learned, a cost of controls in a scene, with what the controls lead to.
type Model struct {
	Energy training.ConditionalEnergy
	// Trace leads from controls, as codes, to states and features; it has no weights.
	Trace training.ConditionalGenerator
	// Tangent is the cost with its dynamics linearised, as [control.Spec] Tangent has it, for iLQR;
	// else nil. It takes its weights from Energy.
	Tangent training.ConditionalEnergy
	Moments int

	config Config
	scenes []float32 // some that were held out, to draw controls in; nil until a run is opened
}

// NewModel joins the networks with their settings, for controls over so many moments.
func NewModel(c Config, e training.ConditionalEnergy, trace training.ConditionalGenerator, moments int) (*Model, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("inverse-optimal-control: %w", err)
	}
	m := &Model{Energy: e, Trace: trace, Moments: moments, config: c}
	if got := trace.Given(nil).Codes(); got != m.dim() {
		return nil, fmt.Errorf("inverse-optimal-control: paths of %d controls, wanted %d moments of %d", got, moments, m.dim()/moments)
	}
	return m, nil
}

func (m *Model) dim() int       { return m.Moments * m.config.Net.Dims(1)[1] }
func (m *Model) sceneSize() int { return m.config.Net.Given()[0] }

// width is how many numbers Follow gives for a moment.
func (m *Model) width() int { return m.config.Net.Agents * m.config.Net.Traced() }

// Predict draws k normalised controls for each scene [n, given] by Langevin dynamics on the
// learned cost from controls of 0: [n, k, dim]. Without noise, or by iLQR, all k are the same minimum.
func (m *Model) Predict(ctx context.Context, scenes []float32, k int, seed uint64) ([]float32, error) {
	n := len(scenes) / m.sceneSize()
	if n < 1 || len(scenes) != n*m.sceneSize() || k < 1 {
		return nil, fmt.Errorf("inverse-optimal-control: wanted scenes of %d values each and at least 1 draw, got %d values and %d draws", m.sceneSize(), len(scenes), k)
	}
	if m.config.ILQR > 0 {
		x := make([]float32, n*m.dim())
		err := m.blocks(n, func(first, end int) error {
			return m.regulate(ctx, x[first*m.dim():end*m.dim()], scenes[first*m.sceneSize():end*m.sceneSize()], m.config.ILQR)
		})
		return repeated(x, n, k), err
	}
	scenes = repeated(scenes, n, k)
	x := make([]float32, n*k*m.dim())
	return x, m.blocks(n*k, func(first, end int) error {
		st, err := sampler.NewState(x[first*m.dim():end*m.dim()], m.dim(), sampler.Chains(uint64(first), end-first))
		if err != nil {
			return err
		}
		l := m.config.Predict
		_, err = sampler.Run(ctx, sampler.Noise{Seed: seed}.Fork(drawn), l.Kernel(), m.Energy.Given(scenes[first*m.sceneSize():end*m.sceneSize()]), st, l.Steps, nil)
		return training.Blame("chains of the prediction", "a smaller predict.step", err)
	})
}

// blocks splits n rows for calls of one size, so that few sizes are compiled.
func (m *Model) blocks(n int, f func(first, end int) error) error {
	return training.Blocks(n, 4*training.Block, f)
}

// repeated is n rows, each k times.
func repeated(x []float32, n, k int) []float32 {
	d := len(x) / n
	out := make([]float32, 0, k*len(x))
	for i := range n {
		for range k {
			out = append(out, x[i*d:(i+1)*d]...)
		}
	}
	return out
}

// Follow is where normalised controls lead in their scenes, as [control.Spec] Trace has it.
func (m *Model) Follow(ctx context.Context, x, scenes []float32) ([]float32, error) {
	n := len(x) / m.dim()
	out := make([]float32, n*m.Moments*m.width())
	return out, m.blocks(n, func(first, end int) error {
		return m.Trace.Given(scenes[first*m.sceneSize():end*m.sceneSize()]).Forward(ctx, x[first*m.dim():end*m.dim()], out[first*m.Moments*m.width():end*m.Moments*m.width()])
	})
}

// Features are the means over examples of each feature's sum over agents and moments.
func (m *Model) Features(ctx context.Context, x, scenes []float32) ([]float64, error) {
	trace, err := m.Follow(ctx, x, scenes)
	if err != nil {
		return nil, err
	}
	s := m.config.Net
	out, n := make([]float64, len(s.Features)), float64(len(x)/m.dim())
	for i := 0; i < len(trace); i += s.Traced() {
		for f := range out {
			out[f] += float64(trace[i+len(s.States())+f]) / n
		}
	}
	return out, nil
}

// Norms are the mean features of a moment of the experts, what [Config] Normalise divides by.
func (m *Model) Norms(ctx context.Context, experts *data.Set) ([]float64, error) {
	phi, err := m.Features(ctx, experts.X(), experts.Given.X())
	if err != nil {
		return nil, err
	}
	for i := range phi {
		phi[i] /= float64(m.Moments * m.config.Net.Agents)
		if !(phi[i] > 1e-12) {
			return nil, fmt.Errorf("inverse-optimal-control: feature %q is 0 for all experts: leave it out", m.config.Net.Features[i])
		}
	}
	return phi, nil
}

// Weights are those of the features as they are, in the order of the settings; nil where the
// cost has none.
func (m *Model) Weights() []float64 {
	p := linear(m.Energy.Given(nil).Params())
	if p == nil {
		return nil
	}
	w := make([]float64, len(p.W))
	for i, v := range p.W {
		if w[i] = float64(v); m.config.Net.Norm != nil {
			w[i] /= m.config.Net.Norm[i]
		}
	}
	return w
}

// Names are the features of the cost, each with what it is.
func (m *Model) Names() (all [][2]string) {
	for _, f := range m.config.Net.Features {
		all = append(all, [2]string{f, control.Features[f].Title})
	}
	return all
}

// Experts is [Config.Experts] of the model's settings.
func (m *Model) Experts(set *data.Set) (*data.Set, error) { return m.config.Experts(set) }

// linear are the weights of features among the parameters of a cost.
func linear(params []optim.Param) *optim.Param {
	for i := range params {
		if params[i].Name == control.Weights {
			return &params[i]
		}
	}
	return nil
}

// Raw are controls in their own units.
func (m *Model) Raw(x []float32) []float32 {
	out, unit := make([]float32, len(x)), m.config.Net.Unit
	for i, v := range x {
		out[i] = v * float32(unit[i%len(unit)])
	}
	return out
}

// normal undoes Raw.
func (m *Model) normal(u []float32) []float32 {
	out, unit := make([]float32, len(u)), m.config.Net.Unit
	for i, v := range u {
		out[i] = v / float32(unit[i%len(unit)])
	}
	return out
}

// Costs are the learned costs of normalised controls in their scenes.
func (m *Model) Costs(ctx context.Context, x, scenes []float32) ([]float32, error) {
	n := len(x) / m.dim()
	score := make([]float32, n)
	err := m.blocks(n, func(first, end int) error {
		return m.Energy.Given(scenes[first*m.sceneSize():end*m.sceneSize()]).Learn(ctx, x[first*m.dim():end*m.dim()], make([]float32, end-first), 0, score[first:end])
	})
	for i := range score {
		score[i] = -score[i]
	}
	return score, err
}

// Restore takes back what Save of a system has put into a checkpoint, without what only
// learning needs.
func (m *Model) Restore(st *checkpoint.State) error {
	if err := m.weights().Restore(st); err != nil {
		return err
	}
	return m.restoreScenes(st)
}

// weights is the network, by what a checkpoint calls its weights.
func (m *Model) weights() training.Weights {
	return training.Weights{"weights": m.Energy.Given(nil)}
}

// restoreScenes takes back the scenes that were learned in.
func (m *Model) restoreScenes(st *checkpoint.State) error {
	t := st.Tensors["scenes"]
	v, ok := t.Data.([]float32)
	if !ok || len(v) == 0 || len(v)%m.sceneSize() != 0 {
		return fmt.Errorf("inverse-optimal-control: checkpoint: wanted scenes of %d values each, got %d values", m.sceneSize(), len(v))
	}
	m.scenes = v
	return nil
}

// Constant is the normalised controls of the two predictions that learn nothing: at constant
// velocity, and with the current controls held. What is current is what the scene says of the
// moment before, or else the experts' first control.
func (m *Model) Constant(experts *data.Set) (velocity, held []float32) {
	s := m.config.Net
	velocity = make([]float32, experts.N*m.dim())
	held = make([]float32, experts.N*m.dim())
	k, columns := len(s.Unit), len(s.Scene)
	for i := range experts.N {
		for agent := range s.Agents {
			for j := range k {
				now := experts.At(i)[agent*k+j]
				for c, name := range s.Scene {
					if name == []string{"acceleration", "turn"}[min(j, 1)] {
						now = experts.Given.X()[(i*s.Agents+agent)*columns+c] / float32(s.Unit[j])
					}
				}
				for t := range m.Moments {
					held[i*m.dim()+(t*s.Agents+agent)*k+j] = now
				}
			}
		}
	}
	return velocity, held
}

// Errors is how far predicted paths are from those that were driven, metres.
type Errors struct {
	RMSE     []float64 // at the end of each of Marks equal parts of the time
	ADE, FDE float64   // mean over moments, and at the last, averaged over draws
	MinADE   float64   // of the best draw of each scene
	MinFDE   float64
	Median   float64 // of all draws' means over moments: a few that pass an obstacle on its other side decide the rest
	Clear    float64 // share of draws in which nobody comes nearer than Touch to an obstacle or another
}

// Marks is at how many moments Errors tells the RMSE, and Touch the distance, metres, below
// which two are in touch.
const (
	Marks = 4
	Touch = 1.0
)

// Paths are the places [n, T, agents, 2] to which normalised controls lead.
func (m *Model) Paths(ctx context.Context, x, scenes []float32) ([]float32, error) {
	trace, err := m.Follow(ctx, x, scenes)
	if err != nil {
		return nil, err
	}
	rows := len(trace) / m.config.Net.Traced()
	out := make([]float32, 0, 2*rows)
	for i := range rows {
		out = append(out, trace[i*m.config.Net.Traced():][:2]...)
	}
	return out, nil
}

// Driven are the places of experts: those that were seen, or else those to which their controls lead.
func (m *Model) Driven(ctx context.Context, experts *data.Set) ([]float32, error) {
	seen := experts.Beside[states]
	if seen == nil {
		return m.Paths(ctx, experts.X(), experts.Given.X())
	}
	const fields = 4
	out := make([]float32, 0, seen.N*seen.Dim()/2)
	for i := 0; i < len(seen.X()); i += fields {
		out = append(out, seen.X()[i:i+2]...)
	}
	return out, nil
}

// Measure compares k normalised controls for each scene, [n, k, dim], with the experts.
func (m *Model) Measure(ctx context.Context, experts *data.Set, x []float32, k int) (e Errors, err error) {
	if !plane(m.config.Net) {
		return e, fmt.Errorf("inverse-optimal-control: %s leads to no places in the plane", m.config.Net.Dynamics)
	}
	paths, err := m.Paths(ctx, x, repeated(experts.Given.X(), experts.N, k))
	if err != nil {
		return e, err
	}
	truth, err := m.Driven(ctx, experts)
	if err != nil {
		return e, err
	}
	agents, n := m.config.Net.Agents, experts.N
	size := m.Moments * agents * 2
	e.RMSE = make([]float64, Marks)
	clear := 0
	var ades []float64
	for i := range n {
		least, last := math.Inf(1), math.Inf(1)
		for d := range k {
			p, q := paths[(i*k+d)*size:][:size], truth[i*size:][:size]
			ade, fde := 0.0, 0.0
			for t := range m.Moments {
				square, far := 0.0, 0.0
				for a := range agents {
					j := 2 * (t*agents + a)
					s := sq(float64(p[j]-q[j])) + sq(float64(p[j+1]-q[j+1]))
					square, far = square+s/float64(agents), far+math.Sqrt(s)/float64(agents)
				}
				ade, fde = ade+far/float64(m.Moments), far
				for mark := range Marks {
					if t == (mark+1)*m.Moments/Marks-1 {
						e.RMSE[mark] += square / float64(n*k)
					}
				}
			}
			ades = append(ades, ade)
			e.ADE, e.FDE = e.ADE+ade/float64(n*k), e.FDE+fde/float64(n*k)
			least, last = min(least, ade), min(last, fde)
			if m.apart(p, experts.Given.At(i)) >= Touch {
				clear++
			}
		}
		e.MinADE, e.MinFDE = e.MinADE+least/float64(n), e.MinFDE+last/float64(n)
	}
	slices.Sort(ades)
	e.Median = (ades[(n*k-1)/2] + ades[n*k/2]) / 2
	e.Clear = float64(clear) / float64(n*k)
	for i, v := range e.RMSE {
		e.RMSE[i] = math.Sqrt(v)
	}
	return e, nil
}

func sq(x float64) float64 { return x * x }

// apart is the least distance of anybody to an obstacle or to another on paths [T, agents, 2].
func (m *Model) apart(p, scene []float32) float64 {
	s, least := m.config.Net, math.Inf(1)
	for i := 0; i < len(p); i += 2 {
		agent := i / 2 % s.Agents
		if ox, oy, ok := m.obstacle(scene, agent); ok {
			least = min(least, math.Hypot(float64(p[i])-ox, float64(p[i+1])-oy))
		}
		for other := range agent {
			j := i - 2*(agent-other)
			least = min(least, math.Hypot(float64(p[i]-p[j]), float64(p[i+1]-p[j+1])))
		}
	}
	return least
}

// says is what a scene says of an agent.
func (m *Model) says(scene []float32, agent int, name string) (float64, bool) {
	for i, column := range m.config.Net.Scene {
		if column == name {
			return float64(scene[agent*len(m.config.Net.Scene)+i]), true
		}
	}
	return 0, false
}

func (m *Model) obstacle(scene []float32, agent int) (x, y float64, ok bool) {
	x, ok = m.says(scene, agent, "obstacle-x")
	y, _ = m.says(scene, agent, "obstacle-y")
	return x, y, ok
}
