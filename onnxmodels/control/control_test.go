package control_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/graphtest"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/conditional"
	"ebmrun/onnxmodels/control"
	"ebmrun/training/data"
)

// driving is the cost of synthetic/drive.
func driving() control.Spec {
	return control.Spec{
		Dynamics: "bicycle", Step: data.DriveStep, Base: data.DriveBase, Agents: 1,
		Scene:    []string{"y", "heading", "speed", "curvature", "limit", "obstacle-x", "obstacle-y"},
		Features: []string{"lane", "heading", "speed", "acceleration", "steering", "obstacle"},
		Unit:     []float64{2, 0.1}, Start: 1, Cost: "linear",
	}
}

// everything has all features of the plane and a network for the cost.
func everything(dynamics, cost string, agents int) control.Spec {
	return control.Spec{
		Dynamics: dynamics, Step: 0.1, Base: 2.8, Agents: agents,
		Scene:    []string{"x", "y", "heading", "speed", "curvature", "limit", "acceleration", "turn", "obstacle-x", "obstacle-y"},
		Features: []string{"lane", "heading", "speed", "pace", "course", "acceleration", "steering", "jerk", "swerve", "goal-x", "goal-y", "obstacle"},
		Unit:     []float64{2, 0.1}, Start: 0.5, Cost: cost, Hidden: 4, Window: 3,
	}
}

// TestGradient: back-propagation through time agrees with central differences in float64.
func TestGradient(t *testing.T) {
	for _, c := range []struct {
		what    string
		spec    control.Spec
		moments int
	}{
		{"drive", driving(), 30},
		{"regulator", control.Spec{Dynamics: "integrator", Step: 1, Agents: 1, Scene: []string{"x"}, Features: []string{"state", "control"}, Unit: []float64{1}, Start: 0.3, Cost: "linear"}, 10},
		{"three together", everything("unicycle", "residual", 3), 6},
		{"one moment", everything("bicycle", "mlp", 1), 1},
		{"over time", everything("bicycle", "cnn", 2), 7},
	} {
		e, err := c.spec.Build(c.moments, 1.5, 1)
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		if _, err := passes.WeightsToInputs(e.Graph); err != nil {
			t.Fatal(err)
		}
		wrt := []string{onnxmodels.X}
		r := graphtest.NewRand(7)
		var in []*graphs.Tensor
		for _, v := range e.Graph.Inputs {
			dims := []int{2}
			if v.Name == onnxmodels.X || v.Name == conditional.Given {
				dims = append(dims, v.Shape[1:].Ints()...)
			} else {
				dims, wrt = v.Shape.Ints(), append(wrt, v.Name)
			}
			in = append(in, r.Normal(dims...))
		}
		grad, err := autodiff.Grad(e.Model.Model, autodiff.Options{Of: onnxmodels.Energy, Wrt: wrt})
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		graphtest.CheckGrad(t, e.Graph, grad.Graph, in, graphtest.GradOptions{Of: onnxmodels.Energy, Wrt: wrt, Seeds: 2, Step: 1e-6, Tol: 1e-5})
	}
}

// TestDrive: path, features, cost and slope are those of the sweep over moments by hand.
func TestDrive(t *testing.T) {
	const n = 30
	s := data.DriveScene{Y: 0.4, Heading: -0.05, Speed: 10.5, Curvature: 0.015, Limit: 12, ObstacleX: 20, ObstacleY: 3}
	spec := driving()
	r := graphtest.NewRand(3)
	x := r.Normal(1, n, 2)
	u := make([][2]float64, n)
	for i := range u {
		u[i] = [2]float64{x.F64()[2*i] * spec.Unit[0], x.F64()[2*i+1] * spec.Unit[1]}
	}
	given := graphs.Of([]float64{s.Y, s.Heading, s.Speed, s.Curvature, s.Limit, s.ObstacleX, s.ObstacleY}, 1, 7)
	near := func(what string, want, got float64) {
		if math.Abs(want-got) > 2e-6*(1+math.Abs(want)) {
			t.Errorf("%s: wanted %.9g, got %.9g", what, want, got)
		}
	}
	trace, err := spec.Trace(n)
	if err != nil {
		t.Fatal(err)
	}
	states := s.Roll(u)
	out := graphtest.Run(t, trace.Model.Model, graphs.Of(x.F64(), 1, 2*n), given)[0].F64()
	for i, state := range states {
		row := out[i*spec.Traced():]
		for k, v := range state {
			near("state "+spec.States()[k], v, row[k])
		}
		for k, v := range s.DriveFeatures(state, u[i]) {
			near("feature "+spec.Features[k], v, row[4+k])
		}
	}
	e, err := spec.Build(n, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range e.Graph.Inits {
		if v.Name == control.Weights {
			for i, w := range data.DriveWeights {
				v.Const.F32()[i] = float32(w)
			}
		}
	}
	grad, err := autodiff.Grad(e.Model.Model, autodiff.Options{Of: onnxmodels.Energy, Wrt: []string{onnxmodels.X}})
	if err != nil {
		t.Fatal(err)
	}
	got := graphtest.Run(t, grad, x, given)
	cost, slope := s.Cost(u)
	near("cost", cost, got[0].F64()[0])
	for i, want := range slope {
		for k := range want {
			near("slope", want[k]*spec.Unit[k], got[len(got)-1].F64()[2*i+k])
		}
	}
}

// TestOneOfMany: one agent beside no other costs, to the bit, what it costs by itself; two that
// are far apart cost what each costs; two that are near cost more.
func TestOneOfMany(t *testing.T) {
	cost := func(agents int, x, given *graphs.Tensor, alone bool) float64 {
		s := everything("bicycle", "linear", agents)
		s.Alone = alone
		e, err := s.Build(8, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		return graphtest.Run(t, e.Model.Model, x, given)[0].F64()[0]
	}
	scene := func(at float64) []float64 { return []float64{at, 0.5, 0.02, 10, 0.01, 11, 0.1, 0, 200, 0} }
	r := graphtest.NewRand(5)
	one := r.Normal(1, 8, 2)
	both := make([]float64, 0, 32)
	for i := range 8 {
		both = append(both, one.F64()[2*i:2*i+2]...)
		both = append(both, one.F64()[2*i:2*i+2]...)
	}
	two := graphs.Of(both, 1, 8, 4)
	single := cost(1, one, graphs.Of(scene(0), 1, 10), false)
	if alone := cost(1, one, graphs.Of(scene(0), 1, 10), true); alone != single {
		t.Errorf("one agent costs %g alone and %g together", alone, single)
	}
	for _, alone := range []bool{false, true} {
		// What depends on x but the lane is the same everywhere on a straight road.
		far := append(scene(0), scene(0)...)
		far[4], far[14], far[10] = 0, 0, 500
		own := scene(0)
		own[4] = 0
		want := 2 * cost(1, one, graphs.Of(own, 1, 10), false)
		if got := cost(2, two, graphs.Of(far, 1, 20), alone); math.Abs(got-want) > 1e-3*want {
			t.Errorf("alone %v: two far apart cost %g, wanted %g", alone, got, want)
		}
		far[10] = 2
		if got := cost(2, two, graphs.Of(far, 1, 20), alone); !(got > want+1) {
			t.Errorf("alone %v: two that are near cost %g, wanted more than %g", alone, got, want)
		}
	}
}

// TestRefused: what makes no sense is refused in words.
func TestRefused(t *testing.T) {
	for want, change := range map[string]func(s *control.Spec){
		"bicycle, integrator": func(s *control.Spec) { s.Dynamics = "train" },
		"positive time":       func(s *control.Spec) { s.Step = 0 },
		"axles":               func(s *control.Spec) { s.Base = 0 },
		"agents":              func(s *control.Spec) { s.Agents = 0 },
		"no column":           func(s *control.Spec) { s.Scene[0] = "weather" },
		"named twice":         func(s *control.Spec) { s.Features[1] = "lane" },
		"none of dynamics":    func(s *control.Spec) { s.Features[1] = "state" },
		"wants \"limit\"":     func(s *control.Spec) { s.Scene = s.Scene[:4] },
		"unit: want a number": func(s *control.Spec) { s.Unit = s.Unit[:1] },
		"positive numbers":    func(s *control.Spec) { s.Norm = make([]float64, 6) },
		"hidden units":        func(s *control.Spec) { s.Cost = "mlp" },
		"odd number":          func(s *control.Spec) { s.Cost, s.Hidden, s.Window = "cnn", 4, 2 },
	} {
		s := driving()
		change(&s)
		if _, err := s.Build(5, 0, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error with %q, got %v", want, err)
		}
	}
	if _, err := driving().Trace(0); err == nil {
		t.Error("no moments were taken")
	}
}

// TestTangent: at the controls it is taken at, the energy along the tangent has the value and the slope of
// the energy itself. Beside them its states are those of the first order: with costs that are squares
// of states and controls its curvature is 2·Σw·(∂r/∂u)(∂r/∂u)ᵀ, which the energy's own is not.
func TestTangent(t *testing.T) {
	gradient := func(e *conditional.Energy, in ...*graphs.Tensor) (u, g []float64) {
		m, err := autodiff.Grad(e.Model.Model, autodiff.Options{Of: onnxmodels.Energy, Wrt: []string{onnxmodels.X}})
		if err != nil {
			t.Fatal(err)
		}
		out := graphtest.Run(t, m, in...)
		return out[0].F64(), out[len(out)-1].F64()
	}
	build := func(e *conditional.Energy, err error) *conditional.Energy {
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	squares := everything("bicycle", "linear", 1)
	squares.Features, squares.Step, squares.Unit = []string{"speed", "pace", "course", "acceleration", "jerk"}, 1, []float64{2, 0.3}
	for what, c := range map[string]struct {
		spec    control.Spec
		moments int
	}{
		"drive": {driving(), 12}, "together": {everything("unicycle", "residual", 3), 5}, "over time": {everything("bicycle", "cnn", 2), 7}, "squares": {squares, 6},
		"regulator": {control.Spec{Dynamics: "integrator", Step: 1, Agents: 1, Scene: []string{"x"}, Features: []string{"state", "control"}, Unit: []float64{1}, Start: 0.3, Cost: "linear"}, 10},
	} {
		r := graphtest.NewRand(13) // the same for each case in whatever order they come: states whose own curvature is far from the tangent's
		own, tangent := build(c.spec.Build(c.moments, 1.5, 1)), build(c.spec.Tangent(c.moments, 1.5, 1))
		dims := append([]int{2}, c.spec.Dims(c.moments)...)
		size := graphs.Size(dims) / 2
		x, scene := r.Normal(dims...), r.Normal(2, c.spec.Given()[0])
		given := func(around []float64) *graphs.Tensor {
			var both []float64
			for i := range 2 {
				k := c.spec.Given()[0]
				both = append(append(both, scene.F64()[i*k:(i+1)*k]...), around[i*size:(i+1)*size]...)
			}
			return graphs.Of(both, 2, len(both)/2)
		}
		u, g := gradient(own, x, scene)
		tu, tg := gradient(tangent, x, given(x.F64()))
		for i := range u {
			if math.Abs(u[i]-tu[i]) > 1e-5*(1+math.Abs(u[i])) {
				t.Errorf("%s: energy %g, along the tangent %g", what, u[i], tu[i])
			}
		}
		for i := range g {
			if math.Abs(g[i]-tg[i]) > 1e-5*(1+math.Abs(g[i])) {
				t.Errorf("%s: slope %g, along the tangent %g", what, g[i], tg[i])
			}
		}
		if what != "squares" {
			continue
		}
		// The curvature along v: of the tangent by differences of its slope, of the sum by those of
		// residuals (heading, speed, and controls), whose squares the features are.
		v, h := r.Normal(dims...).F64(), 1e-4
		moved := func(by float64) *graphs.Tensor {
			y := slices.Clone(x.F64())
			for i := range y {
				y[i] += by * v[i]
			}
			return graphs.Of(y, dims...)
		}
		_, up := gradient(tangent, moved(h), given(x.F64()))
		_, down := gradient(tangent, moved(-h), given(x.F64()))
		trace, err := c.spec.Trace(c.moments)
		if err != nil {
			t.Fatal(err)
		}
		states := func(x *graphs.Tensor) []float64 {
			return graphtest.Run(t, trace.Model.Model, graphs.Of(x.F64(), 2, size), scene)[0].F64()
		}
		along, want := 0.0, 0.0
		for i := range up {
			along += v[i] * (up[i] - down[i]) / (2 * h)
		}
		a, b := states(moved(h)), states(moved(-h))
		for i := range a {
			if k := i % c.spec.Traced(); k == 2 || k == 3 { // heading and speed: one feature, and two
				d := (a[i] - b[i]) / (2 * h)
				want += 2 * float64(k-1) * c.spec.Start * d * d
			}
		}
		for i := range v {
			want += v[i] * v[i] / (1.5 * 1.5)
			if i%2 == 0 { // acceleration, and its changes
				d := v[i] * c.spec.Unit[0]
				change := d
				if i%size > 0 {
					change -= v[i-2] * c.spec.Unit[0]
				}
				want += 2 * c.spec.Start * (d*d + change*change)
			}
		}
		if math.Abs(along-want) > 1e-4*want {
			t.Errorf("curvature along a direction: wanted %g, got %g", want, along)
		}
		_, up = gradient(own, moved(h), scene)
		_, down = gradient(own, moved(-h), scene)
		whole := 0.0
		for i := range up {
			whole += v[i] * (up[i] - down[i]) / (2 * h)
		}
		if math.Abs(whole-want) < 1e-2*want {
			t.Errorf("the energy's own curvature %g is not told from that of the tangent, %g", whole, want)
		}
	}
}
