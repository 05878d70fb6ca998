package accept

import (
	"context"
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"ebmrun/onnxmodels/control"
	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/inverseoptimalcontrol"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// InverseOptimalControl is the acceptance of inverse-optimal-control.
var InverseOptimalControl = Suite{"inverse-optimal-control", []Part{
	{"slope", "back-propagation through time against a sweep by hand", true, controlSlope},
	{"regulator", "controls of a linear-quadratic problem are Gaussian", true, regulatorSampled},
	{"cost", "both weights of that problem from 2,000 experts, by sampling", false, regulatorLearned},
	{"descent", "what descending without noise can learn of them, and what not", true, regulatorDescended},
	{"planner", "iLQR on that problem against the solution of its Riccati equation", true, regulatorPlanned},
	{"drive", "vehicles that keep a lane past an obstacle: paths and weights", false, drive},
	{"convoy", "three vehicles together, and each for itself", false, convoy},
}}

// steered binds the networks of the settings, with features divided by their means over the
// experts where the settings want that.
func (e Env) steered(ctx context.Context, c *inverseoptimalcontrol.Config, set *data.Set) (*inverseoptimalcontrol.Model, func() error, error) {
	experts, err := c.Experts(set)
	if err != nil {
		return nil, nil, err
	}
	for {
		em, err := c.Net.Build(experts.H, c.Reference.Sigma, e.Seed)
		if err != nil {
			return nil, nil, err
		}
		tm, err := c.Net.Trace(experts.H)
		if err != nil {
			return nil, nil, err
		}
		net, trace, free, err := e.BindConditional(ctx, em, tm, 1)
		if err != nil {
			return nil, nil, err
		}
		m, err := inverseoptimalcontrol.NewModel(*c, net, trace, experts.H)
		if err == nil && c.ILQR > 0 {
			energy := free
			var tangent func() error
			if em, err = c.Net.Tangent(experts.H, c.Reference.Sigma, e.Seed); err == nil {
				m.Tangent, _, tangent, err = e.BindConditional(ctx, em, tm, 1)
			}
			free = func() error { return errors.Join(tangent(), energy()) }
			if err != nil {
				return nil, nil, errors.Join(err, energy())
			}
		}
		if err != nil || !c.Normalise || c.Net.Norm != nil {
			return m, free, err
		}
		c.Net.Norm, err = m.Norms(ctx, experts)
		if err := errors.Join(err, free()); err != nil {
			return nil, nil, err
		}
	}
}

// controlArm learns an arm and hands the system to use.
func (e Env) controlArm(ctx context.Context, what, arm string, c inverseoptimalcontrol.Config, set *data.Set, use func(*inverseoptimalcontrol.System, error) error) error {
	c.Sabotage = map[string]string{Flipped: inverseoptimalcontrol.Flip, Untrained: inverseoptimalcontrol.Freeze}[arm]
	if arm == Untrained {
		c.Steps = 1
	}
	m, free, err := e.steered(ctx, &c, set)
	if err != nil {
		return err
	}
	s, err := inverseoptimalcontrol.New(c, m.Energy, m.Trace, set, nil, e.Seed)
	if err != nil {
		return errors.Join(err, free())
	}
	s.Tangent = m.Tangent
	ended, err := e.learn(ctx, what, arm, s, c.Steps, c.Guard)
	if err == nil {
		err = use(s, ended)
	}
	return errors.Join(err, free())
}

// weigh sets the weights of a linear cost.
func weigh(m *inverseoptimalcontrol.Model, w ...float64) {
	e := m.Energy.Given(nil)
	for _, p := range e.Params() {
		if p.Name == control.Weights {
			for i, v := range w {
				p.W[i] = float32(v)
			}
		}
	}
	e.Refresh()
}

func controlConfig(preset string) inverseoptimalcontrol.Config {
	return inverseoptimalcontrol.Presets[preset].Config
}

// controlSlope: the slope of the cost of synthetic/drive in the controls.
func controlSlope(ctx context.Context, e Env, it *Item) error {
	set, err := data.Load(ctx, "synthetic/drive", data.Options{Seed: e.Seed, Limit: 16})
	if err != nil {
		return err
	}
	c := controlConfig("drive")
	c.Normalise = false
	m, free, err := e.steered(ctx, &c, set)
	if err != nil {
		return err
	}
	defer free()
	weigh(m, data.DriveWeights[:]...)
	n, dim := set.N, set.Dim()
	x, u, g := make([]float32, n*dim), make([]float32, n), make([]float32, n*dim)
	sampler.Noise{Seed: e.Seed}.Normals(x, sampler.Chains(0, n), 0)
	if err := m.Energy.Given(set.Given.X()).EnergyGrad(x, u, g); err != nil {
		return err
	}
	off, size := 0.0, 0.0
	for i := range n {
		at := make([][2]float64, dim/2)
		for t := range at {
			at[t] = [2]float64{float64(x[i*dim+2*t]) * c.Net.Unit[0], float64(x[i*dim+2*t+1]) * c.Net.Unit[1]}
		}
		_, slope := data.DriveSceneOf(set.Given.At(i)).Cost(at)
		for t, s := range slope {
			for k, v := range s {
				want := v * c.Net.Unit[k]
				d := float64(g[i*dim+2*t+k]) - want
				off, size = off+d*d, size+want*want
			}
		}
	}
	it.Check("", "relative difference of the slope in float32", math.Sqrt(off/size), AtMost(1e-4), "30 moments of a bicycle, 16 scenes")
	return nil
}

// A quadratic is the problem of synthetic/regulator under weights a and b.
type quadratic struct{ a, b float64 }

// mean is the mean, and best, controls −(a·LᵀL + b·I)⁻¹·a·Lᵀ·1, and the expected Σx² and Σu² of
// draws, the parts of the mean apart.
func (q quadratic) mean() (u []float64, of, spread [2]float64, err error) {
	n := data.Regulator.T
	p, right := mat.NewSymDense(n, nil), mat.NewVecDense(n, nil)
	for i := range n {
		right.SetVec(i, -q.a*float64(n-i))
		for j := i; j < n; j++ {
			p.SetSym(i, j, q.a*float64(n-j))
		}
		p.SetSym(i, i, p.At(i, i)+q.b)
	}
	var ch mat.Cholesky
	if !ch.Factorize(p) {
		return nil, of, spread, fmt.Errorf("the precision under weights %g and %g is not positive", q.a, q.b)
	}
	var best mat.VecDense
	if err := ch.SolveVecTo(&best, right); err != nil {
		return nil, of, spread, err
	}
	var cov mat.SymDense
	if err := ch.InverseTo(&cov); err != nil { // of 2·p: half of this
		return nil, of, spread, err
	}
	x := 1.0
	for i := range n {
		v := best.AtVec(i)
		u, x = append(u, v), x+v
		of[0], of[1] = of[0]+x*x, of[1]+v*v
		spread[1] += cov.At(i, i) / 2
		for j := range i + 1 { // Var x_i = Σ over j, k ≤ i
			for k := range i + 1 {
				spread[0] += cov.At(j, k) / 2
			}
		}
	}
	return u, of, spread, nil
}

// regulatorSampled: the features of what Langevin draws under the true weights.
func regulatorSampled(ctx context.Context, e Env, it *Item) error {
	const chains = 8000
	_, of, spread, err := quadratic{data.Regulator.A, data.Regulator.B}.mean()
	if err != nil {
		return err
	}
	set, err := data.Load(ctx, "synthetic/regulator", data.Options{Seed: e.Seed, Limit: chains})
	if err != nil {
		return err
	}
	c := controlConfig("regulator")
	c.Predict = training.Langevin{Steps: 5000, Step: 0.025, Noise: 1}
	m, free, err := e.steered(ctx, &c, set)
	if err != nil {
		return err
	}
	defer free()
	experts, err := c.Experts(set)
	if err != nil {
		return err
	}
	for _, arm := range []string{Works, Untrained} {
		w := []float64{data.Regulator.A, data.Regulator.B}
		if arm == Untrained {
			w = []float64{c.Net.Start, c.Net.Start}
		}
		weigh(m, w...)
		x, err := m.Predict(ctx, experts.Given.X(), 1, e.Seed)
		if err != nil {
			return err
		}
		phi, err := m.Features(ctx, x, experts.Given.X())
		if err != nil {
			return err
		}
		for k, name := range []string{"Σx²", "Σu²"} {
			want, limit := of[k]+spread[k], AtMost(0.02)
			if arm == Untrained {
				limit = AtLeast(0.1)
			}
			it.Check(arm, "mean "+name+", share off "+fmt.Sprintf("%.4f", want), math.Abs(phi[k]-want)/want, limit, fmt.Sprintf("%.4f", phi[k]))
		}
	}
	return nil
}

// regulatorLearned: the weights from exact draws.
func regulatorLearned(ctx context.Context, e Env, it *Item) error {
	set, err := data.Load(ctx, "synthetic/regulator", data.Options{Seed: e.Seed, Limit: 2000})
	if err != nil {
		return err
	}
	for _, arm := range []string{Works, Untrained, Flipped} {
		if err := e.controlArm(ctx, "cost", arm, controlConfig("regulator"), set, func(s *inverseoptimalcontrol.System, ended error) error {
			w := s.Weights()
			off := max(math.Abs(w[0]/data.Regulator.A-1), math.Abs(w[1]/data.Regulator.B-1))
			limit := AtMost(0.1)
			if arm != Works {
				limit = AtLeast(0.5)
			}
			it.Check(arm, "weights, share off 2 and 1", off, limit, fmt.Sprintf("%.3f, %.3f %s", w[0], w[1], endedBy(ended)))
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// expert is a set of one example with these controls.
func expert(like *data.Set, controls []float64) *data.Set {
	one := like.Head(1)
	one.Floats = make([]float32, len(controls))
	for i, v := range controls {
		one.Floats[i] = float32(v)
	}
	return one
}

// riccati are the best controls from x = 1 by the backward recursion of the cost to go p·x²:
//
//	p ← a + p − p²/(b + p),  u = −p/(b + p)·x
func (q quadratic) riccati() []float64 {
	gains := make([]float64, data.Regulator.T)
	p := q.a
	for t := range gains {
		gains[len(gains)-1-t] = p / (q.b + p)
		p = q.a + p - p*p/(q.b+p)
	}
	x := 1.0
	for t, k := range gains {
		gains[t] = -k * x
		x += gains[t]
	}
	return gains
}

// regulatorPlanned: iLQR finds the best controls, and learning by it what descent learns of experts who are best.
func regulatorPlanned(ctx context.Context, e Env, it *Item) error {
	set, err := data.Load(ctx, "synthetic/regulator", data.Options{Seed: e.Seed, Limit: 1})
	if err != nil {
		return err
	}
	c := controlConfig("regulator")
	c.Langevin.Noise, c.Predict.Noise, c.Draws, c.ILQR = 0, 0, 1, 3
	c.Optim = training.Optim{Name: "sgd", LR: 0.05}
	c.Batch, c.Steps = 1, 400
	experts, err := c.Experts(set)
	if err != nil {
		return err
	}
	m, free, err := e.steered(ctx, &c, set)
	if err != nil {
		return err
	}
	defer free()
	best := quadratic{data.Regulator.A, data.Regulator.B}.riccati()
	for _, arm := range []string{Works, Untrained} {
		w, limit := []float64{data.Regulator.A, data.Regulator.B}, AtMost(1e-4)
		if arm == Untrained {
			w, limit = []float64{c.Net.Start, c.Net.Start}, AtLeast(0.05)
		}
		weigh(m, w...)
		x, err := m.Predict(ctx, experts.Given.X(), 1, e.Seed)
		if err != nil {
			return err
		}
		off := 0.0
		for i, u := range best {
			off = max(off, math.Abs(float64(x[i])-u))
		}
		it.Check(arm, "largest difference of a control from the Riccati solution", off, limit, fmt.Sprintf("%.4f … %.4f", x[0], x[len(x)-1]))
	}
	return e.controlArm(ctx, "planner, best experts", Works, c, expert(set, best), func(s *inverseoptimalcontrol.System, ended error) error {
		w := s.Weights()
		it.Check(Works, "ratio of the weights learned from the best controls", w[0]/w[1], Within(1.99, 2.01), fmt.Sprintf("%.4f, %.4f %s", w[0], w[1], endedBy(ended)))
		it.Check(Works, "the first of them, from 0.3", w[0], Within(0.369, 0.371), "")
		return nil
	})
}

// regulatorDescended: experts who are the minimisers teach the ratio of the weights alone; experts
// who are not drive a weight to 0 at once.
func regulatorDescended(ctx context.Context, e Env, it *Item) error {
	random, err := data.Load(ctx, "synthetic/regulator", data.Options{Seed: e.Seed, Limit: 2000})
	if err != nil {
		return err
	}
	best, of, _, err := quadratic{data.Regulator.A, data.Regulator.B}.mean()
	if err != nil {
		return err
	}
	it.Check("", "Σx² of the best controls", of[0], Within(0.0773, 0.0775), "")
	it.Check("", "Σu² of the best controls", of[1], Within(0.5773, 0.5775), "")
	perfect := expert(random, best)
	c := controlConfig("regulator")
	c.Langevin = training.Langevin{Steps: 200, Step: 0.25}
	c.Optim = training.Optim{Name: "sgd", LR: 0.05}
	c.Batch, c.Steps = 1, 400
	if err := e.controlArm(ctx, "descent, best experts", Works, c, perfect, func(s *inverseoptimalcontrol.System, ended error) error {
		w := s.Weights()
		it.Check(Works, "ratio of the weights, experts who are best", w[0]/w[1], Within(1.99, 2.01), fmt.Sprintf("%.4f, %.4f %s", w[0], w[1], endedBy(ended)))
		it.Check(Works, "the first weight, from 0.3", w[0], Within(0.369, 0.371), "")
		return nil
	}); err != nil {
		return err
	}
	c.Batch, c.Steps = 2000, 3
	return e.controlArm(ctx, "descent, random experts", Works, c, random, func(s *inverseoptimalcontrol.System, ended error) error {
		w := s.Weights()
		it.Check(Works, "the smaller weight after 3 updates, experts who are random", min(w[0], w[1]), Within(0, 0), fmt.Sprintf("%.4f, %.4f", w[0], w[1]))
		return nil
	})
}

// cosine of the angle between two vectors.
func cosine(a, b []float64) float64 {
	if length(a) == 0 || length(b) == 0 {
		return 0
	}
	return dot(a, b) / (length(a) * length(b))
}

func length(w []float64) float64 { return math.Sqrt(dot(w, w)) }

func dot(a, b []float64) (sum float64) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// parts are what each feature adds to a cost.
func parts(w, phi []float64) []float64 {
	out := make([]float64, len(w))
	for i := range w {
		out[i] = w[i] * phi[i]
	}
	return out
}

// bends are the examples whose lanes are curved.
func bends(s *data.Set) (*data.Set, error) {
	var index []int
	for i := range s.N {
		if math.Abs(data.DriveSceneOf(s.Given.At(i)).Curvature) > 0.008 {
			index = append(index, i)
		}
	}
	return s.Subset(index)
}

func drive(ctx context.Context, e Env, it *Item) error {
	set, err := data.Load(ctx, "synthetic/drive", data.Options{Seed: e.Seed, Limit: 200})
	if err != nil {
		return err
	}
	all, err := data.Load(ctx, "synthetic/drive", data.Options{Seed: e.Seed, Part: "test", Limit: 200})
	if err != nil {
		return err
	}
	curved, err := bends(all)
	if err != nil {
		return err
	}
	first := true
	for _, arm := range []string{Works, "W, noise 0.1", Untrained, Flipped} {
		c := controlConfig("drive")
		if arm == "W, noise 0.1" {
			c = controlConfig("drive-langevin")
		}
		if err := e.controlArm(ctx, "drive", arm, c, set, func(s *inverseoptimalcontrol.System, ended error) error {
			held, err := s.Config.Experts(curved)
			if err != nil {
				return err
			}
			measure := func(x []float32, k int) (m inverseoptimalcontrol.Errors) {
				if err == nil {
					m, err = s.Measure(ctx, held, x, k)
				}
				return m
			}
			idle, current := s.Constant(held)
			velocity, constant, own := measure(idle, 1), measure(current, 1), measure(held.X(), 1)
			x, broken := s.Predict(ctx, held.Given.X(), s.Config.Draws, e.Seed)
			if err != nil {
				return err
			}
			last := inverseoptimalcontrol.Marks - 1
			if first {
				first = false
				it.Check("", "RMSE at 3 s of constant velocity, metres", velocity.RMSE[last], Reported, fmt.Sprintf("%d scenes with curved lanes", held.N))
				it.Check("", "RMSE at 3 s of constant control, metres", constant.RMSE[last], Reported, "")
				it.Check("", "experts who touch no obstacle", own.Clear, AtLeast(0.95), "")
			}
			if ended != nil || broken != nil {
				limit := AtMost(0.5)
				if arm == Flipped || arm == Untrained {
					limit = AtLeast(0.5)
				}
				it.Check(arm, "RMSE at 3 s, share of constant velocity's", math.Inf(1), limit, endedBy(errors.Join(ended, broken)))
				return nil
			}
			got := measure(x, s.Config.Draws)
			if err != nil {
				return err
			}
			phi, err := s.Features(ctx, held.X(), held.Given.X())
			if err != nil {
				return err
			}
			share := func() float64 { return cosine(parts(s.Weights(), phi), parts(data.DriveWeights[:], phi)) }
			remark := fmt.Sprintf("%.3g", s.Weights())
			angle := cosine(s.Weights(), data.DriveWeights[:])
			if arm == Flipped || arm == Untrained {
				it.Check(arm, "RMSE at 3 s, share of constant velocity's", got.RMSE[last]/velocity.RMSE[last], Reported, "")
				it.Check(arm, "RMSE at 3 s, metres", got.RMSE[last], Reported, "")
				it.Check(arm, "median distance, metres", got.Median, Reported, "")
				it.Check(arm, "cosine of the weights with the true ones", angle, AtMost(0.95), remark)
				it.Check(arm, "cosine of the features' parts of the cost with the true ones", share(), AtMost(0.9), "")
				return nil
			}
			it.Check(arm, "RMSE at 3 s, metres", got.RMSE[last], Reported, fmt.Sprintf("at 0.7, 1.5, 2.2 s %.3g", got.RMSE[:last]))
			it.Check(arm, "RMSE at 3 s, share of constant velocity's", got.RMSE[last]/velocity.RMSE[last], AtMost(0.5), "")
			it.Check(arm, "RMSE at 3 s, share of constant control's", got.RMSE[last]/constant.RMSE[last], AtMost(0.8), "")
			it.Check(arm, "median distance, metres", got.Median, Reported, fmt.Sprintf("mean %.3g; of the best of %d draws %.3g", got.ADE, s.Config.Draws, got.MinADE))
			it.Check(arm, "cosine of the weights with the true ones", angle, AtLeast(0.9), remark)
			it.Check(arm, "cosine of the features' parts of the cost with the true ones", share(), AtLeast(0.9), "")
			it.Check(arm, "draws that touch no obstacle", got.Clear, AtLeast(0.95), "")
			if err := e.maps(ctx, "drive", s.Model, held, x, s.Config.Draws); err != nil || arm != Works {
				return err
			}
			// What the true cost would have predicted, at the length that was learned.
			truth, norm := make([]float64, len(phi)), s.Config.Net.Norm
			long := length(s.Weights()) / length(data.DriveWeights[:])
			for i, w := range data.DriveWeights {
				truth[i] = w * long * norm[i]
			}
			weigh(s.Model, truth...)
			if x, err = s.Predict(ctx, held.Given.X(), 1, e.Seed); err != nil {
				return err
			}
			floor := measure(x, 1)
			it.Check("", "RMSE at 3 s of the true cost, metres", floor.RMSE[last], Reported, "it too passes some obstacles on the other side")
			it.Check(arm, "RMSE at 3 s, share of the true cost's", got.RMSE[last]/floor.RMSE[last], Reported, "")
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// maps shows the paths of draws in their scenes.
func (e Env) maps(ctx context.Context, name string, m *inverseoptimalcontrol.Model, held *data.Set, x []float32, k int) error {
	few := held.Head(12)
	truth, err := m.Driven(ctx, few)
	if err != nil {
		return err
	}
	p, err := m.Maps(ctx, few.Given.X(), x[:few.N*k*few.Dim()], k, truth)
	if err != nil {
		return err
	}
	img, err := record.Grid(p, 3, 2, 1)
	return e.show(name, img, err)
}

func convoy(ctx context.Context, e Env, it *Item) error {
	set, err := data.Load(ctx, "synthetic/convoy", data.Options{Seed: e.Seed, Limit: 60})
	if err != nil {
		return err
	}
	test, err := data.Load(ctx, "synthetic/convoy", data.Options{Seed: e.Seed, Part: "test", Limit: 60})
	if err != nil {
		return err
	}
	c := controlConfig("convoy")
	if err := e.controlArm(ctx, "convoy", Works, c, set, func(s *inverseoptimalcontrol.System, _ error) error {
		held, err := s.Config.Experts(test)
		if err != nil {
			return err
		}
		// The same cost, each agent for itself.
		apart := s.Config
		apart.Net.Alone = true
		alone, free, err := e.steered(ctx, &apart, test)
		if err != nil {
			return err
		}
		defer free()
		own, its := s.Energy.Given(nil).Params(), alone.Energy.Given(nil)
		for i, p := range its.Params() {
			copy(p.W, own[i].W)
		}
		its.Refresh()
		var m [2]inverseoptimalcontrol.Errors
		for i, model := range []*inverseoptimalcontrol.Model{s.Model, alone} {
			x, err := model.Predict(ctx, held.Given.X(), 1, e.Seed)
			if err != nil {
				return err
			}
			if m[i], err = s.Measure(ctx, held, x, 1); err != nil {
				return err
			}
			if err := e.maps(ctx, []string{"convoy", "convoy-alone"}[i], s.Model, held, x, 1); err != nil {
				return err
			}
		}
		driven, err := s.Measure(ctx, held, held.X(), 1)
		if err != nil {
			return err
		}
		idle, _ := s.Constant(held)
		still, err := s.Measure(ctx, held, idle, 1)
		if err != nil {
			return err
		}
		last := inverseoptimalcontrol.Marks - 1
		it.Check("", "scenes in which experts touch", 1-driven.Clear, AtMost(0.05), "")
		it.Check(Works, "scenes with a touch, each for itself", 1-m[1].Clear, AtLeast(0.1), "")
		it.Check(Works, "scenes with a touch, share of each for itself", (1-m[0].Clear)/(1-m[1].Clear), AtMost(0.5), fmt.Sprintf("%.3g", 1-m[0].Clear))
		it.Check(Works, "RMSE at 3 s, share of constant velocity's", m[0].RMSE[last]/still.RMSE[last], AtMost(0.5), fmt.Sprintf("%.3g m; each for itself %.3g m", m[0].RMSE[last], m[1].RMSE[last]))
		it.Check(Works, "cosine of the weights with the true ones", cosine(s.Weights(), data.DriveWeights[:]), AtLeast(0.9), fmt.Sprintf("%.3g", s.Weights()))
		return nil
	}); err != nil {
		return err
	}
	return oneOfConvoy(ctx, e, it)
}

// oneOfConvoy: one agent drawn together with no others is drawn as a single one, bit for bit.
func oneOfConvoy(ctx context.Context, e Env, it *Item) error {
	set, err := data.Load(ctx, "synthetic/drive", data.Options{Seed: e.Seed, Limit: 8})
	if err != nil {
		return err
	}
	single, joint := controlConfig("drive"), controlConfig("convoy")
	joint.Net.Agents = 1
	placed := *set // the same scenes, with x
	placed.Given = &data.Set{Name: set.Name + " scenes", N: set.N, C: 8, H: 1, W: 1, Gain: 1}
	for i := range set.N {
		placed.Given.Floats = append(append(placed.Given.Floats, set.Given.At(i)...), 0)
	}
	var x [2][]float32
	for i, c := range []*inverseoptimalcontrol.Config{&single, &joint} {
		s := []*data.Set{set, &placed}[i]
		m, free, err := e.steered(ctx, c, s)
		if err != nil {
			return err
		}
		if x[i], err = m.Predict(ctx, s.Given.X(), 1, e.Seed); err != nil {
			return errors.Join(err, free())
		}
		if err := free(); err != nil {
			return err
		}
	}
	differ := 0.0
	for i := range x[0] {
		if math.Float32bits(x[0][i]) != math.Float32bits(x[1][i]) {
			differ++
		}
	}
	it.Check("", "controls of one agent together that differ from a single one's", differ, AtMost(0), fmt.Sprintf("of %d", len(x[0])))
	return nil
}
