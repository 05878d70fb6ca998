package optim

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
)

func params() []Param {
	return []Param{
		{Name: "a", W: []float32{1, -2}, G: make([]float32, 2)},
		{Name: "b", W: []float32{0.5}, G: make([]float32, 1)},
	}
}

// optimizers are all ways to descend, with settings that suit both targets below.
var optimizers = map[string]func() *Chained{
	"sgd":         func() *Chained { return SGD(Constant(0.02), 0) },
	"sgd cosine":  func() *Chained { return SGD(Cosine(0.05, 0.01, 2000), 0) },
	"momentum":    func() *Chained { return SGD(Constant(0.005), 0.9) },
	"nesterov":    func() *Chained { return Chain(Momentum(0.9, true), Scale(-0.005)) },
	"rmsprop":     func() *Chained { return Chain(RMSProp(0.9, 1e-8), LearningRate(Exponential(0.02, 0.1, 1000))) },
	"adam":        func() *Chained { return Chain(Adam(0.9, 0.999, 1e-8), Scale(-0.02)) },
	"adamw":       func() *Chained { return AdamW(Linear(0.05, 0, 3000), 0.9, 0.999, 1e-8, 1e-4) },
	"clip":        func() *Chained { return Chain(Clip(1), Scale(-0.02)) },
	"clip norm":   func() *Chained { return Chain(ClipNorm(1), Scale(-0.02)) },
	"adam climbs": nil, // the sabotage arm: the sign of the learning rate is wrong
}

// TestOptimizers descends on two targets: a quadratic of condition 20 with its minimum at (1, −2, 0.5)
// and Rosenbrock's valley of depth 5 with its minimum at (1, 1).
func TestOptimizers(t *testing.T) {
	targets := map[string]struct {
		start, minimum []float32
		grad           func(w, g []float32)
	}{
		"quadratic": {[]float32{-1, 1, 3}, []float32{1, -2, 0.5}, func(w, g []float32) {
			g[0], g[1], g[2] = w[0]-1, 20*(w[1]+2), 4*(w[2]-0.5)
		}},
		"rosenbrock": {[]float32{-1, 1}, []float32{1, 1}, func(w, g []float32) {
			d := w[1] - w[0]*w[0]
			g[0], g[1] = -2*(1-w[0])-20*w[0]*d, 10*d
		}},
	}
	for name, newOptimizer := range optimizers {
		for target, c := range targets {
			climbs := newOptimizer == nil
			o := Chain(Adam(0.9, 0.999, 1e-8), Scale(0.02))
			if !climbs {
				o = newOptimizer()
			}
			p := []Param{{Name: "w", W: slices.Clone(c.start), G: make([]float32, len(c.start))}}
			var err error
			for step := 0; step < 3000 && err == nil; step++ {
				c.grad(p[0].W, p[0].G)
				err = Step(o, p)
			}
			var far float64
			for i, w := range p[0].W {
				far = max(far, math.Abs(float64(w-c.minimum[i])))
			}
			if found := err == nil && far < 0.01; found == climbs {
				t.Errorf("%s on %s: ends %.3g from the minimum at %v, error %v", name, target, far, p[0].W, err)
			}
		}
	}
}

// TestUpdates holds each transform to numbers worked out by hand for the gradients 0.1, −0.2, 0.4 of a
// weight of 2.
func TestUpdates(t *testing.T) {
	for name, c := range map[string]struct {
		t    Transform
		want [3]float64
	}{
		// m = 0.01, −0.011, 0.0301; v = 1e-5, 4.999e-5, 2.0994001e-4. Divided by 1 − 0.9ᵗ = 0.1, 0.19, 0.271
		// and 1 − 0.999ᵗ = 0.001, 0.001999, 0.002997001.
		"adam": {Adam(0.9, 0.999, 1e-8), [3]float64{
			0.1 / (0.1 + 1e-8),
			-0.011 / 0.19 / (math.Sqrt(4.999e-5/0.001999) + 1e-8),
			0.0301 / 0.271 / (math.Sqrt(2.0994001e-4/0.002997001) + 1e-8),
		}},
		"adam's eps is outside the root": {Adam(0, 0, 0.1), [3]float64{0.5, -0.2 / 0.3, 0.8}},
		// v = 0.001, 0.0049, 0.02041.
		"rmsprop":       {RMSProp(0.9, 0.01), [3]float64{0.1 / (math.Sqrt(0.001) + 0.01), -0.2 / (math.Sqrt(0.0049) + 0.01), 0.4 / (math.Sqrt(0.02041) + 0.01)}},
		"momentum":      {Momentum(0.5, false), [3]float64{0.1, -0.15, 0.325}},
		"nesterov":      {Momentum(0.5, true), [3]float64{0.15, -0.275, 0.5625}},
		"weight decay":  {WeightDecay(0.25), [3]float64{0.6, 0.3, 0.9}},
		"clip":          {Clip(0.15), [3]float64{0.1, -0.15, 0.15}},
		"clip norm":     {ClipNorm(0.25), [3]float64{0.1, -0.2, 0.25}},
		"scale":         {Scale(-3), [3]float64{-0.3, 0.6, -1.2}},
		"scale by":      {ScaleBy(Linear(1, 0, 2)), [3]float64{0.1, -0.1, 0}},
		"learning rate": {LearningRate(Piecewise(1, Piece{2, 0.5})), [3]float64{-0.1, 0.2, -0.2}},
		"sgd":           {SGD(Constant(2), 0.5), [3]float64{-0.2, 0.3, -0.65}},
		"adamw":         {AdamW(Constant(0.1), 0, 0, 0, 0.25), [3]float64{-0.15, 0.05, -0.15}},
		"l2 then scale": {Chain(WeightDecay(0.25), Scale(2)), [3]float64{1.2, 0.6, 1.8}},
	} {
		for i, g := range []float32{0.1, -0.2, 0.4} {
			p := []Param{{Name: "w", W: []float32{2}, G: []float32{g}}}
			if err := c.t.Update(p); err != nil {
				t.Fatal(name, err)
			}
			if math.Abs(float64(p[0].G[0])-c.want[i]) > 2e-7*(1+math.Abs(c.want[i])) {
				t.Errorf("%s, update %d: want %.8f, got %.8f", name, i+1, c.want[i], p[0].G[0])
			}
		}
	}
}

func TestClipNormIsGlobal(t *testing.T) {
	c := ClipNorm(1)
	p := params()
	copy(p[0].G, []float32{2, -1})
	p[1].G[0] = 2
	if err := c.Update(p); err != nil {
		t.Fatal(err)
	}
	if c.Seen() != 3 || math.Abs(Norm(p)-1) > 1e-6 || math.Abs(float64(p[0].G[1])+1.0/3) > 1e-7 {
		t.Errorf("want norm 3 seen and 1 left, got %v and %v: %v", c.Seen(), Norm(p), p)
	}
}

// TestNorm sums squares over tensors of every length around those that the loop takes at once.
func TestNorm(t *testing.T) {
	var p []Param
	want, next := 0.0, float32(1)
	for n := range 14 {
		g := make([]float32, n)
		for i := range g {
			g[i], next = next, next+1
			want += float64(g[i]) * float64(g[i])
		}
		p = append(p, Param{G: g})
		if got := Norm(p); got != math.Sqrt(want) {
			t.Errorf("with a tensor of %d: want %v, got %v", n, math.Sqrt(want), got)
		}
	}
}

// feed takes n updates of noisy gradients that depend on the update's number and the weights.
func feed(t *testing.T, o Transform, e *EMA, p []Param, from, n int) {
	t.Helper()
	for step := from; step < from+n; step++ {
		for i := range p {
			for j := range p[i].G {
				p[i].G[j] = p[i].W[j] + float32(math.Sin(float64(7*step+3*i+j)))
			}
		}
		if err := Step(o, p); err != nil {
			t.Fatal(err)
		}
		if err := e.Update(p); err != nil {
			t.Fatal(err)
		}
	}
}

// TestResume: 5 updates, save, restore into a new optimizer, 5 more are 10, bit for bit.
func TestResume(t *testing.T) {
	for name, newOptimizer := range optimizers {
		if newOptimizer == nil {
			continue
		}
		straight, whole, average := newOptimizer(), params(), NewEMA(0.9)
		feed(t, straight, average, whole, 0, 10)

		first, p, e := newOptimizer(), params(), NewEMA(0.9)
		feed(t, first, e, p, 0, 5)
		second, e2 := newOptimizer(), NewEMA(0.9)
		for _, r := range []struct{ from, to Stateful }{{first, second}, {e, e2}} {
			s := r.from.State()
			if err := r.to.Restore(s); err != nil {
				t.Fatal(name, err)
			}
			for _, v := range s.Tensors {
				v[0] += 100 // the copy must not see this
			}
		}
		feed(t, second, e2, p, 5, 5)
		for i := range whole {
			if !slices.Equal(whole[i].W, p[i].W) {
				t.Errorf("%s: %s: want %v, got %v", name, p[i].Name, whole[i].W, p[i].W)
			}
			if !slices.Equal(average.Weights(p[i].Name), e2.Weights(p[i].Name)) {
				t.Errorf("%s: averages part", name)
			}
		}
		if a, b := straight.State(), second.State(); !maps.Equal(a.Counts, b.Counts) || !maps.EqualFunc(a.Tensors, b.Tensors, slices.Equal[[]float32]) {
			t.Errorf("%s: states part: %v, %v", name, a, b)
		}
	}
}

func TestStateNames(t *testing.T) {
	o, p := Chain(ClipNorm(1), Adam(0.9, 0.999, 1e-8), LearningRate(Constant(1))), params()
	feed(t, o, NewEMA(0), p, 0, 3)
	s := o.State()
	if got := slices.Sorted(maps.Keys(s.Tensors)); !slices.Equal(got, []string{"1/m/a", "1/m/b", "1/v/a", "1/v/b"}) {
		t.Errorf("tensors %v", got)
	}
	if want := map[string]uint64{"1/step": 3, "2/step": 3}; !maps.Equal(s.Counts, want) {
		t.Errorf("counters: want %v, got %v", want, s.Counts)
	}
}

// TestRestoreOfNothing: an optimizer that has updated no parameters, those of a network
// that is held fixed, goes back and on.
func TestRestoreOfNothing(t *testing.T) {
	newOptimizer := func() *Chained { return Chain(Adam(0.9, 0.999, 1e-8), Scale(-1)) }
	o := newOptimizer()
	for range 2 {
		if err := Step(o, nil); err != nil {
			t.Fatal(err)
		}
	}
	again := newOptimizer()
	if err := again.Restore(o.State()); err != nil {
		t.Fatal(err)
	}
	if err := Step(again, nil); err != nil || again.State().Counts["0/step"] != 3 {
		t.Errorf("%v, counters %v", err, again.State().Counts)
	}
	if err := Step(again, params()); err == nil || !strings.Contains(err.Error(), "want the 0 parameters of the first update, got 2") {
		t.Errorf("parameters that come later: %v", err)
	}
}

func TestRestoreRefuses(t *testing.T) {
	for want, spoil := range map[string]func(s State){
		"no part of the chain knows tensor \"7/m/a\"": func(s State) { s.Tensors["7/m/a"] = nil },
		"no part of the chain knows counter \"step\"": func(s State) { s.Counts["step"] = 1 },
		"unknown tensor \"q/a\"":                      func(s State) { s.Tensors["0/q/a"] = nil },
		"want the counter \"step\"":                   func(s State) { delete(s.Counts, "0/step") },
		"2 updates with 1 tensors \"v\" and 2":        func(s State) { delete(s.Tensors, "0/v/a") },
		"0 updates with 2 tensors \"m\"":              func(s State) { s.Counts["0/step"] = 0 },
		"got 2 counters":                              func(s State) { s.Counts["0/steps"] = 1 },
	} {
		o := Chain(Adam(0.9, 0.999, 1e-8), Scale(-1))
		feed(t, o, NewEMA(0), params(), 0, 2)
		s := o.State()
		spoil(s)
		if err := Chain(Adam(0.9, 0.999, 1e-8), Scale(-1)).Restore(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestStepRefuses(t *testing.T) {
	newOptimizer := func() *Chained { return Chain(Adam(0.9, 0.999, 1e-8), Scale(-1)) }
	for want, spoil := range map[string]func(p []Param) []Param{
		"parameter \"b\": want a gradient of 1 entries": func(p []Param) []Param { p[1].G = p[1].G[:0]; return p },
		"want the 2 parameters of the first update":     func(p []Param) []Param { return p[:1] },
		"parameter \"c\" was not there":                 func(p []Param) []Param { p[1].Name = "c"; return p },
		"parameter \"b\": want 1 weights":               func(p []Param) []Param { p[1].W, p[1].G = make([]float32, 2), make([]float32, 2); return p },
	} {
		o, p := newOptimizer(), params()
		feed(t, o, NewEMA(0), p, 0, 1)
		if err := Step(o, spoil(p)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	e, p := NewEMA(0), params()
	feed(t, newOptimizer(), e, p, 0, 1)
	for _, spoilt := range []Param{{Name: "b", W: p[1].W, G: make([]float32, 2)}, {Name: "b", W: make([]float32, 2), G: p[1].G}, {Name: "b", W: make([]float32, 2)}} {
		if err := e.Update([]Param{p[0], spoilt}); err == nil || !strings.Contains(err.Error(), "parameter \"b\": want 1 weights") {
			t.Errorf("an average of %d weights and %d gradient entries: %v", len(spoilt.W), len(spoilt.G), err)
		}
	}
	p = params()
	p[1].Name = "a"
	if err := Step(newOptimizer(), p); err == nil || !strings.Contains(err.Error(), "two parameters are named \"a\"") {
		t.Errorf("two parameters of one name: %v", err)
	}
	o, p := newOptimizer(), params()
	p[1].G[0] = float32(math.NaN())
	if err := Step(o, p); !errors.Is(err, ErrNonFinite) || !strings.Contains(err.Error(), "\"b\"") || o.State().Counts["0/step"] != 0 || p[0].W[0] != 1 {
		t.Errorf("a NaN gradient: %v, state %v, weights %v", err, o.State(), p)
	}
	if err := ClipNorm(1).Update(p); !errors.Is(err, ErrNonFinite) {
		t.Errorf("norm of a NaN gradient: %v", err)
	}
}

func TestEMA(t *testing.T) {
	e := NewEMA(0.75)
	if e.Weights("w") != nil {
		t.Error("an average before the first update")
	}
	p := []Param{{Name: "w", W: []float32{4}}}
	for i, c := range []struct{ w, want float32 }{{4, 4}, {8, 5}, {1, 4}} {
		p[0].W[0] = c.w
		if err := e.Update(p); err != nil {
			t.Fatal(err)
		}
		if got := e.Weights("w")[0]; got != c.want {
			t.Errorf("update %d: want %v, got %v", i+1, c.want, got)
		}
	}
}

func TestSchedules(t *testing.T) {
	for name, c := range map[string]struct {
		s    Schedule
		want map[int]float64
	}{
		"constant":    {Constant(3), map[int]float64{0: 3, 9: 3}},
		"linear":      {Linear(1, 5, 8), map[int]float64{0: 1, 2: 2, 8: 5, 99: 5}},
		"linear at 0": {Linear(1, 5, 0), map[int]float64{0: 5}},
		"cosine":      {Cosine(4, 2, 6), map[int]float64{0: 4, 2: 3.5, 3: 3, 6: 2, 7: 2}},
		"exponential": {Exponential(8, 0.25, 4), map[int]float64{0: 8, 2: 4, 4: 2}},
		"piecewise":   {Piecewise(1, Piece{3, 2}, Piece{5, 0.5}), map[int]float64{0: 1, 2: 1, 3: 2, 4: 2, 5: 0.5, 50: 0.5}},
		"warmup":      {Warmup(4, Linear(8, 0, 8)), map[int]float64{0: 2, 1: 3.5, 3: 5, 4: 4, 8: 0}},
	} {
		for step, want := range c.want {
			if got := c.s(step); math.Abs(got-want) > 1e-12 {
				t.Errorf("%s at %d: want %v, got %v", name, step, want, got)
			}
		}
	}
}

func TestNoAllocation(t *testing.T) {
	for name, newOptimizer := range optimizers {
		if newOptimizer == nil {
			continue
		}
		o, p, e := newOptimizer(), params(), NewEMA(0.5)
		p[0].G[0] = 1
		var err error
		if n := testing.AllocsPerRun(20, func() { err = errors.Join(err, Step(o, p), e.Update(p)) }); n != 0 || err != nil {
			t.Errorf("%s: %v allocations per update, error %v", name, n, err)
		}
	}
}

// BenchmarkAdam reports nanoseconds per weight for two million weights.
func BenchmarkAdam(b *testing.B) {
	p := []Param{{Name: "w", W: make([]float32, 1<<21), G: make([]float32, 1<<21)}}
	for i := range p[0].G {
		p[0].G[i] = float32(i%7) + 1
	}
	o := Chain(ClipNorm(1), Adam(0.9, 0.999, 1e-8), Scale(-1e-3))
	for b.Loop() {
		if err := Step(o, p); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(1<<21), "ns/weight")
}
