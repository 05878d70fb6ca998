// Package control builds costs of control sequences as energies: controls u_1 … u_T lead
// through known dynamics x_t = f(x_{t−1}, u_t) from a scene's first state to a path, features
// of the path are weighed, and the weighted sum is the cost C(u | scene) of the density
// p(u | scene) ∝ exp(−C) (Xu, Xie, Zhao, Baker, Zhao, Wu, "Energy-Based Continuous Inverse
// Optimal Control", TNNLS 2022).
//
// The graph holds the whole path: states are running sums of controls, so its gradient in u is
// back-propagation through time. Controls enter normalised, in units of [Spec] Unit.
package control

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/conditional"
	"ebmrun/onnxmodels/generator"
	"ebmrun/onnxmodels/nn"
)

// Weights is the name of the features' weights [features]; see [Spec] Norm.
const Weights = "cost.weights"

// A Spec describes dynamics and cost.
type Spec struct {
	Dynamics string   `yaml:"dynamics"`       // a name of [Dynamics]
	Step     float64  `yaml:"step"`           // time between moments, seconds
	Base     float64  `yaml:"base,omitempty"` // of a bicycle: metres between the axles
	Scene    []string `yaml:"scene"`          // what the columns of a scene are; see [Columns]

	// Agents is how many move at once, with the same cost each. Their controls lie side by side,
	// [T, Agents·controls], and so do their scenes. Others are obstacles: where they go
	// themselves, so that all decide together, or with Alone where constant velocity leads them.
	Agents int  `yaml:"agents"`
	Alone  bool `yaml:"alone,omitempty"`

	Features []string  `yaml:"features"`         // names of [Features]
	Unit     []float64 `yaml:"unit"`             // of each control of an agent: u = Unit·x
	Norm     []float64 `yaml:"norm,omitempty"`   // a feature is divided by its norm; none is 1
	Start    float64   `yaml:"start"`            // first weight of every feature
	Cost     string    `yaml:"cost"`             // linear; mlp, of each moment's features; residual, both; cnn, over time
	Hidden   int       `yaml:"hidden,omitempty"` // units of the network
	Window   int       `yaml:"window,omitempty"` // of cnn: moments that a unit sees, odd
}

// A motion is how controls move an agent: roll, and along its tangent at another path bend, nil
// where roll is linear.
type motion struct {
	controls, states []string
	roll             func(p *path)
	bend             func(p, at *path)
}

// Dynamics is the table of motions. The states after moment t are sums over all moments so far,
// with speed and heading as they were before it:
//
//	integrator  x += u·Δ
//	bicycle     x += v·cos φ·Δ, y += v·sin φ·Δ, φ += v/base·tan δ·Δ, v += a·Δ; controls a, δ
//	unicycle    the same with φ += ω·Δ; controls a, ω
var Dynamics = map[string]motion{
	"integrator": {[]string{"control"}, []string{"x"}, func(p *path) {
		p.x = p.sum("x", p.control(0), false)
	}, nil},
	"bicycle": {[]string{"acceleration", "steering"}, []string{"x", "y", "heading", "speed"}, func(p *path) {
		p.plane(func(before *graphs.Value) *graphs.Value {
			return p.Scale(p.Mul(before, p.Op("Tan", []*graphs.Value{p.control(1)})), 1/p.spec.Base)
		})
	}, func(p, at *path) {
		tan := p.Op("Tan", []*graphs.Value{at.control(1)})
		slope := p.Add(p.square(tan), p.Const(graphs.Of([]float32{1}, 1, 1, 1)))
		p.tangent(at, func(faster *graphs.Value) *graphs.Value {
			steered := p.Mul(p.Mul(at.before, slope), p.Sub(p.control(1), at.control(1)))
			return p.Scale(p.Add(p.Mul(faster, tan), steered), 1/p.spec.Base)
		})
	}},
	"unicycle": {[]string{"acceleration", "turn"}, []string{"x", "y", "heading", "speed"}, func(p *path) {
		p.plane(func(*graphs.Value) *graphs.Value { return p.control(1) })
	}, func(p, at *path) {
		p.tangent(at, func(*graphs.Value) *graphs.Value { return p.Sub(p.control(1), at.control(1)) })
	}},
}

// Columns is what a scene may say of an agent; what it does not say is 0.
var Columns = map[string]string{
	"x": "place at the start", "y": "place at the start", "heading": "at the start", "speed": "at the start",
	"acceleration": "control before the start", "turn": "control before the start",
	"curvature": "of the lane, whose middle is y = curvature·x²/2", "limit": "of speed",
	"obstacle-x": "middle of what stands in the way", "obstacle-y": "middle of what stands in the way",
}

// Reach is the deviation of the obstacle's feature exp(−d²/(2·Reach²)), metres.
const Reach = 1.5

// A feature is one number for every agent and moment, [batch, agents, T].
type feature struct {
	Title string
	needs []string // columns that the scene must have
	plane bool     // wants states in the plane
	of    func(p *path) *graphs.Value
}

// Features is the table of features.
var Features = map[string]feature{
	"state":   {"x²", nil, false, func(p *path) *graphs.Value { return p.square(p.x) }},
	"control": {"u²", nil, false, func(p *path) *graphs.Value { return p.square(p.control(0)) }},
	"lane":    {"squared distance to the middle of the lane", []string{"curvature"}, true, func(p *path) *graphs.Value { return p.square(p.Sub(p.y, p.lane(p.x))) }},
	"heading": {"squared heading against the lane's", []string{"curvature"}, true, func(p *path) *graphs.Value {
		return p.square(p.Sub(p.heading, p.Op("Atan", []*graphs.Value{p.Mul(p.column("curvature"), p.x)})))
	}},
	"speed":        {"squared speed against the limit", []string{"limit"}, true, func(p *path) *graphs.Value { return p.square(p.Sub(p.speed, p.column("limit"))) }},
	"pace":         {"squared change of speed since the start", nil, true, func(p *path) *graphs.Value { return p.square(p.Sub(p.speed, p.column("speed"))) }},
	"course":       {"squared change of heading since the start", nil, true, func(p *path) *graphs.Value { return p.square(p.Sub(p.heading, p.column("heading"))) }},
	"acceleration": {"squared acceleration", nil, true, func(p *path) *graphs.Value { return p.square(p.control(0)) }},
	"steering":     {"squared steering angle, or turn rate", nil, true, func(p *path) *graphs.Value { return p.square(p.control(1)) }},
	"jerk":         {"squared change of acceleration", nil, true, func(p *path) *graphs.Value { return p.square(p.change(0, "acceleration")) }},
	"swerve":       {"squared change of steering, or of turn rate", nil, true, func(p *path) *graphs.Value { return p.square(p.change(1, "turn")) }},
	"goal-x":       {"squared distance along the lane to who keeps the limit", []string{"curvature", "limit"}, true, func(p *path) *graphs.Value { return p.square(p.Sub(p.x, p.goal())) }},
	"goal-y":       {"squared distance across the lane to who keeps the limit", []string{"curvature", "limit"}, true, func(p *path) *graphs.Value { return p.square(p.Sub(p.y, p.lane(p.goal()))) }},
	"obstacle":     {"exp(−d²/(2·1.5²)) of the distance to the obstacle and to the others", nil, true, (*path).near},
}

// Check reports the first entry that makes no sense.
func (s Spec) Check() error {
	m, ok := Dynamics[s.Dynamics]
	switch {
	case !ok:
		return fmt.Errorf("control: dynamics %q, want one of %s", s.Dynamics, known(Dynamics))
	case !(s.Step > 0):
		return fmt.Errorf("control: step: want a positive time, got %g", s.Step)
	case s.Dynamics == "bicycle" && !(s.Base > 0):
		return fmt.Errorf("control: base: want a positive distance between the axles, got %g", s.Base)
	case s.Agents < 1:
		return fmt.Errorf("control: agents: want at least 1, got %d", s.Agents)
	case len(s.Scene) == 0 || len(s.Features) == 0:
		return fmt.Errorf("control: want columns of the scene and features, got %v and %v", s.Scene, s.Features)
	case len(s.Unit) != len(m.controls):
		return fmt.Errorf("control: unit: want a number for each of %v, got %v", m.controls, s.Unit)
	case s.Norm != nil && len(s.Norm) != len(s.Features):
		return fmt.Errorf("control: norm: want a number for each of %d features, got %d", len(s.Features), len(s.Norm))
	case s.Cost != "linear" && (s.Hidden < 1 || s.Cost != "mlp" && s.Cost != "residual" && s.Cost != "cnn"):
		return fmt.Errorf("control: cost: want linear, or mlp, residual or cnn with hidden units, got %q with %d", s.Cost, s.Hidden)
	case s.Cost == "cnn" && (s.Window < 1 || s.Window%2 == 0):
		return fmt.Errorf("control: window: want an odd number of moments, got %d", s.Window)
	}
	for _, v := range append(slices.Clone(s.Unit), s.Norm...) {
		if !(v > 0) {
			return fmt.Errorf("control: unit, norm: want positive numbers, got %v and %v", s.Unit, s.Norm)
		}
	}
	for _, c := range s.Scene {
		if Columns[c] == "" {
			return fmt.Errorf("control: scene: %q is no column; there are %s", c, known(Columns))
		}
	}
	for i, name := range s.Features {
		f, ok := Features[name]
		switch {
		case !ok || slices.Contains(s.Features[:i], name):
			return fmt.Errorf("control: feature %q is unknown or named twice; there are %s", name, known(Features))
		case f.plane != (len(m.controls) > 1):
			return fmt.Errorf("control: feature %q is none of dynamics %q", name, s.Dynamics)
		}
		for _, c := range f.needs {
			if !slices.Contains(s.Scene, c) {
				return fmt.Errorf("control: feature %q wants %q in the scene, which holds %v", name, c, s.Scene)
			}
		}
	}
	return nil
}

func known[V any](table map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(table)), ", ")
}

// Controls and States are what moves an agent, and what it is at a moment.
func (s Spec) Controls() []string { return Dynamics[s.Dynamics].controls }

// States is what an agent is at a moment.
func (s Spec) States() []string { return Dynamics[s.Dynamics].states }

// Dims is the shape of the controls over T moments.
func (s Spec) Dims(moments int) []int { return []int{moments, s.Agents * len(s.Controls())} }

// Given is the shape of a scene.
func (s Spec) Given() []int { return []int{s.Agents * len(s.Scene)} }

// Traced is how many numbers [Spec.Trace] gives for an agent's moment: its states and features.
func (s Spec) Traced() int { return len(s.States()) + len(s.Features) }

// Build makes the energy of controls over so many moments: x [batch, T, agents·controls] of
// normalised controls and given [batch, agents·columns] → energy, score [batch], where
// score = −cost and the energy adds the Gaussian reference ‖x‖²/(2σ²) (none for sigma 0).
//
// The cost sums over agents and moments. Networks read features through log(1 + φ), see one
// agent at a time, and end in softplus, so that no cost falls without bound.
func (s Spec) Build(moments int, sigma float64, seed uint64) (*conditional.Energy, error) {
	p, err := s.path(onnxmodels.X, s.Dims(moments), moments, 0, seed)
	if err != nil {
		return nil, err
	}
	return p.energy(sigma, s.Given())
}

// Tangent makes the energy of Build with its dynamics linearised at the controls that given holds
// behind the scene, [batch, agents·columns + T·agents·controls]: there the two have the same value and
// slope, and the curvature of this one is what an iterative linear-quadratic regulator takes.
func (s Spec) Tangent(moments int, sigma float64, seed uint64) (*conditional.Energy, error) {
	around := graphs.Size(s.Dims(moments))
	p, err := s.path(onnxmodels.X, s.Dims(moments), moments, around, seed)
	if err != nil {
		return nil, err
	}
	return p.energy(sigma, []int{s.Given()[0] + around})
}

// energy ends a path in its cost.
func (p *path) energy(sigma float64, given []int) (*conditional.Energy, error) {
	if !(sigma >= 0) {
		return nil, fmt.Errorf("control: want a reference deviation of 0 or more, got %g", sigma)
	}
	cost := p.cost(p.features())
	p.Prefix("energy")
	f := p.Neg(cost)
	u := cost
	if sigma > 0 {
		u = p.Add(p.Scale(p.SumAll(p.Mul(p.in, p.in)), 1/(2*sigma*sigma)), cost)
	}
	p.Output(onnxmodels.Energy, u)
	p.Output(onnxmodels.Score, f)
	g, err := p.Graph()
	if err != nil {
		return nil, fmt.Errorf("control: cost %s of %d moments of %s: %w", p.spec.Cost, p.moments, p.spec.Dynamics, err)
	}
	m, err := onnxmodels.Of(graphs.NewModel(g))
	if err != nil {
		return nil, err
	}
	return &conditional.Energy{Model: m, Given: given}, nil
}

// Trace makes the path and its features as a network without weights: z [batch,
// T·agents·controls] of normalised controls, given → x [batch, T, agents·Traced], for each agent
// the states that the moment leads to and then its features as they are, undivided.
func (s Spec) Trace(moments int) (*conditional.Generator, error) {
	codes := graphs.Size(s.Dims(moments))
	p, err := s.path(generator.Z, []int{codes}, moments, 0, 0)
	if err != nil {
		return nil, err
	}
	rows := []*graphs.Value{p.x}
	if p.y != nil {
		rows = append(rows, p.y, p.heading, p.speed)
	}
	for i, v := range rows {
		rows[i] = p.Unsqueeze(v, 1)
	}
	all := p.Concat(1, append(rows, p.features())...) // [batch, traced, agents, T]
	x := p.ReshapeTo(p.Transpose(all, 0, 3, 2, 1), -1, int64(moments), int64(s.Agents*s.Traced()))
	if p.Err() == nil {
		x.Shape = graphs.Shape{onnxmodels.Batch, graphs.D(moments), graphs.D(s.Agents * s.Traced())}
	}
	p.Output(generator.X, x)
	g, err := p.Graph()
	if err != nil {
		return nil, fmt.Errorf("control: path of %d moments of %s: %w", moments, s.Dynamics, err)
	}
	return &conditional.Generator{Model: &generator.Model{Model: graphs.NewModel(g), Codes: codes, Dims: x.Shape[1:].Ints()}, Given: s.Given()}, nil
}

// A path is a graph under construction with what it has of the path so far, all values
// [batch, agents, T], and [batch, agents, 1] for columns of the scene.
type path struct {
	*nn.Net
	spec    Spec
	moments int
	in      *graphs.Value // as it came
	u       *graphs.Value // controls in their own units [batch, T, agents, controls]
	given   *graphs.Value // [batch, agents, columns]

	x, y, heading, speed *graphs.Value
	before, ahead        *graphs.Value // speed and heading before each moment
}

// path begins a graph with the controls as an input of the given name and rolls them out, along
// the tangent at the last so many values of what is given if around is not 0.
func (s Spec) path(name string, dims []int, moments, around int, seed uint64) (*path, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if moments < 1 {
		return nil, fmt.Errorf("control: want at least 1 moment, got %d", moments)
	}
	net := &nn.Net{Builder: graphs.NewBuilder(&graphs.Graph{Name: "control"}), Rng: rand.New(rand.NewPCG(seed, 0x636f6e74726f6c)), Weights: nn.Kaiming, Biases: nn.Kaiming}
	p := &path{Net: net, spec: s, moments: moments}
	p.in = net.Input(name, graphs.Float32, append(graphs.Shape{onnxmodels.Batch}, graphs.MakeShape(dims...)...))
	columns := s.Given()[0]
	given := net.Input(conditional.Given, graphs.Float32, append(graphs.Shape{onnxmodels.Batch}, graphs.D(columns+around)))
	net.Prefix("path")
	part := func(from, to int) *graphs.Value {
		return net.Slice(given, []int64{int64(from)}, []int64{int64(to)}, []int64{1}, []int64{1})
	}
	scene := given
	if around > 0 {
		scene = part(0, columns)
	}
	k := len(s.Unit)
	unit := make([]float32, k)
	for i, v := range s.Unit {
		unit[i] = float32(v)
	}
	raw := func(x *graphs.Value) *graphs.Value {
		return net.Mul(p.shaped(x, moments, s.Agents, k), net.Const(graphs.Of(unit, k)))
	}
	p.u = raw(p.in)
	p.given = p.shaped(scene, s.Agents, len(s.Scene))
	if m := Dynamics[s.Dynamics]; around == 0 || m.bend == nil {
		m.roll(p)
	} else {
		at := &path{Net: net, spec: s, moments: moments, u: raw(part(columns, columns+around)), given: p.given}
		m.roll(at)
		m.bend(p, at)
	}
	return p, net.Err()
}

// shaped reshapes to [batch, dims…].
func (p *path) shaped(v *graphs.Value, dims ...int) *graphs.Value {
	to := []int64{-1}
	for _, d := range dims {
		to = append(to, int64(d))
	}
	v = p.ReshapeTo(v, to...)
	if p.Err() == nil {
		v.Shape = append(graphs.Shape{onnxmodels.Batch}, graphs.MakeShape(dims...)...)
	}
	return v
}

// at takes entry i of the last axis, which goes.
func (p *path) at(v *graphs.Value, i int) *graphs.Value {
	axis := int64(len(v.Shape) - 1)
	return p.Squeeze(p.Slice(v, []int64{int64(i)}, []int64{int64(i + 1)}, []int64{axis}, []int64{1}), axis)
}

// control is control i.
func (p *path) control(i int) *graphs.Value { return p.Transpose(p.at(p.u, i), 0, 2, 1) }

// column is what the scene says under a name.
func (p *path) column(name string) *graphs.Value {
	i := slices.Index(p.spec.Scene, name)
	if i < 0 {
		return p.Const(graphs.Of([]float32{0}, 1, 1, 1))
	}
	return p.Slice(p.given, []int64{int64(i)}, []int64{int64(i + 1)}, []int64{2}, []int64{1})
}

// sum is the running sum of rates times the step from where the scene begins: after each
// moment, or before it.
func (p *path) sum(start string, rate *graphs.Value, before bool) *graphs.Value {
	var attrs []*graphs.Attr
	if before {
		attrs = append(attrs, graphs.I("exclusive", 1))
	}
	moved := p.Scale(p.Op("CumSum", []*graphs.Value{rate, p.Const(graphs.Of([]int64{2}))}, attrs...), p.spec.Step)
	if !slices.Contains(p.spec.Scene, start) {
		return moved
	}
	return p.Add(p.column(start), moved)
}

// plane moves in the plane; turn is the rate of the heading, given the speed before the moment.
func (p *path) plane(turn func(before *graphs.Value) *graphs.Value) {
	a := p.control(0)
	v := p.sum("speed", a, true)
	rate := turn(v)
	h := p.sum("heading", rate, true)
	p.x = p.sum("x", p.Mul(v, p.Op("Cos", []*graphs.Value{h})), false)
	p.y = p.sum("y", p.Mul(v, p.Op("Sin", []*graphs.Value{h})), false)
	p.heading, p.speed = p.sum("heading", rate, false), p.sum("speed", a, false)
	p.before, p.ahead = v, h
}

// tangent moves by what a path changes to first order as controls do; turn is the change of
// the heading's rate, given that of the speed before the moment.
func (p *path) tangent(at *path, turn func(faster *graphs.Value) *graphs.Value) {
	const nowhere = "" // changes begin at 0
	cos, sin := p.Op("Cos", []*graphs.Value{at.ahead}), p.Op("Sin", []*graphs.Value{at.ahead})
	a := p.Sub(p.control(0), at.control(0))
	v := p.sum(nowhere, a, true)
	rate := turn(v)
	aside := p.Mul(at.before, p.sum(nowhere, rate, true)) // by turning, across the heading
	p.x = p.Add(at.x, p.sum(nowhere, p.Sub(p.Mul(v, cos), p.Mul(aside, sin)), false))
	p.y = p.Add(at.y, p.sum(nowhere, p.Add(p.Mul(v, sin), p.Mul(aside, cos)), false))
	p.heading = p.Add(at.heading, p.sum(nowhere, rate, false))
	p.speed = p.Add(at.speed, p.sum(nowhere, a, false))
}

func (p *path) square(v *graphs.Value) *graphs.Value { return p.Mul(v, v) }

// lane is the middle of the lane at x.
func (p *path) lane(x *graphs.Value) *graphs.Value {
	return p.Scale(p.Mul(p.column("curvature"), p.square(x)), 0.5)
}

// goal is how far along who keeps the limit has come.
func (p *path) goal() *graphs.Value {
	return p.Add(p.column("x"), p.Mul(p.column("limit"), p.clock()))
}

// clock is the time after each moment.
func (p *path) clock() *graphs.Value {
	t := make([]float32, p.moments)
	for i := range t {
		t[i] = float32(p.spec.Step * float64(i+1))
	}
	return p.Const(graphs.Of(t, 1, 1, p.moments))
}

// change is how control i differs from the moment before, the first from what the scene says.
func (p *path) change(i int, before string) *graphs.Value {
	u := p.control(i)
	first := p.Slice(u, []int64{0}, []int64{1}, []int64{2}, []int64{1})
	steps := p.Sub(first, p.column(before))
	if p.moments == 1 {
		return steps
	}
	late := p.Slice(u, []int64{1}, []int64{int64(p.moments)}, []int64{2}, []int64{1})
	early := p.Slice(u, []int64{0}, []int64{int64(p.moments - 1)}, []int64{2}, []int64{1})
	return p.Concat(2, steps, p.Sub(late, early))
}

// near is how near an agent is to what stands in its way, and to the others.
func (p *path) near() *graphs.Value {
	var sum *graphs.Value
	add := func(dx, dy *graphs.Value, mask *graphs.Value) {
		e := p.Exp(p.Scale(p.Add(p.square(dx), p.square(dy)), -1/(2*Reach*Reach)))
		if mask != nil {
			e = p.Sum(p.Mul(e, mask), false, 2)
		}
		if sum != nil {
			e = p.Add(sum, e)
		}
		sum = e
	}
	if slices.Contains(p.spec.Scene, "obstacle-x") {
		add(p.Sub(p.x, p.column("obstacle-x")), p.Sub(p.y, p.column("obstacle-y")), nil)
	}
	if n := p.spec.Agents; n > 1 {
		x, y := p.x, p.y
		if p.spec.Alone {
			h, v := p.column("heading"), p.Mul(p.column("speed"), p.clock())
			x = p.Add(p.column("x"), p.Mul(v, p.Op("Cos", []*graphs.Value{h})))
			y = p.Add(p.column("y"), p.Mul(v, p.Op("Sin", []*graphs.Value{h})))
		}
		others := make([]float32, n*n)
		for i := range others {
			if i/n != i%n {
				others[i] = 1
			}
		}
		pair := func(own, other *graphs.Value) *graphs.Value { return p.Sub(p.Unsqueeze(own, 2), p.Unsqueeze(other, 1)) }
		add(pair(p.x, x), pair(p.y, y), p.Const(graphs.Of(others, 1, n, n, 1)))
	}
	if sum == nil {
		return p.Zeros(p.x)
	}
	return sum
}

// features are all features [batch, features, agents, T].
func (p *path) features() *graphs.Value {
	defer p.Prefix(p.Prefix("features"))
	var all []*graphs.Value
	for _, name := range p.spec.Features {
		all = append(all, p.Unsqueeze(Features[name].of(p), 1))
	}
	return p.Concat(1, all...)
}

// cost weighs features, one number an example.
func (p *path) cost(phi *graphs.Value) *graphs.Value {
	n := len(p.spec.Features)
	if p.spec.Norm != nil {
		inverse := make([]float32, n)
		for i, v := range p.spec.Norm {
			inverse[i] = float32(1 / v)
		}
		phi = p.Mul(phi, p.Const(graphs.Of(inverse, 1, n, 1, 1)))
	}
	var cost *graphs.Value
	if p.spec.Cost == "linear" || p.spec.Cost == "residual" {
		p.Prefix("cost")
		start := make([]float32, n)
		for i := range start {
			start[i] = float32(p.spec.Start)
		}
		cost = p.Sum(p.Mul(p.Sum(phi, false, 2, 3), p.Weight(Weights, graphs.Of(start, n))), false, 1)
	}
	if p.spec.Cost == "linear" {
		return cost
	}
	window := 1
	if p.spec.Cost == "cnn" {
		window = p.spec.Window
	}
	layer := func(name string, h *graphs.Value, filters int) *graphs.Value {
		return p.Conv(name, h, nn.Conv{Filters: filters, Kernels: []int{1, window}, Pads: []int{0, window / 2}})
	}
	h := p.Log(p.Add(phi, p.Scalar(phi, 1)))
	for i := range 2 {
		h = p.Activate("swish", layer(fmt.Sprintf("net%d", i+1), h, p.spec.Hidden))
	}
	net := p.SumAll(p.Activate("softplus", layer("net.out", h, 1)))
	if cost == nil {
		return net
	}
	return p.Add(cost, net)
}
