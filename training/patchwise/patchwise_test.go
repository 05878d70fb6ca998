package patchwise_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/bind/bindtest"
	"ebmrun/training/data"
	"ebmrun/training/patchwise"
	"ebmrun/training/systemtest"
)

func config(change func(*patchwise.Config)) patchwise.Config {
	c := patchwise.Config{
		Spec:   &energy.Spec{Layers: []energy.Layer{{Filters: 4, Kernel: 3, Pad: 2}, {Filters: 1, Kernel: 3}}, Activation: "elu"},
		Scales: 3, Coarsest: 8, Steps: 18, Chains: 2, First: 3, Paint: 1, NoiseOver: 0.5,
		Langevin: training.Langevin{Steps: 2, Step: 0.3, Noise: 0.1, GradClip: 1, Clamp: [2]float64{-1, 1}},
		Optim:    training.Optim{LR: 1e-2, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1},
		Spectral: true, ScoreL2: 1e-6,
	}
	c.Recover.Weight, c.Recover.Steps, c.Recover.Shrink = 0.1, 2, 0.75
	if change != nil {
		change(&c)
	}
	return c
}

func picture(t testing.TB) *data.Set {
	t.Helper()
	set, err := data.Load(t.Context(), "synthetic/tex-c-rgb", data.Options{Seed: 2, Size: 16})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// networks is a new system, as a new process would make it.
func networks(t testing.TB, c patchwise.Config) (*patchwise.System, []*bind.Energy) {
	t.Helper()
	engine, err := ort.Open("")
	enginetest.Unavailable(t, err)
	one := func(h, w int) *bind.Energy {
		e := bindtest.On(t, engine, bind.Options{Spectral: c.Spectral,
			Only: func(_ string, dims []int) bool { return dims[0] > 1 }})(energy.Build(*c.Spec, []int{3, h, w}, 0, uint64(h)))
		return e
	}
	sizes, err := c.Sizes(16, 16)
	if err != nil {
		t.Fatal(err)
	}
	var nets []training.Energy
	var bound []*bind.Energy
	for _, s := range sizes {
		bound = append(bound, one(s[0], s[1]))
		nets = append(nets, bound[len(bound)-1])
	}
	s, err := patchwise.New(c, nets, picture(t), 3)
	if err != nil {
		t.Fatal(err)
	}
	s.Bind = func(_, h, w int) (training.Energy, error) { return one(h, w), nil }
	return s, bound
}

func weights(all []*bind.Energy) (w [][]float32) {
	for _, e := range all {
		var one []float32
		for _, p := range e.Params() {
			one = append(one, p.W...)
		}
		w = append(w, one)
	}
	return w
}

// TestSizes: scales are geometric and end at the picture.
func TestSizes(t *testing.T) {
	c := config(func(c *patchwise.Config) { c.Scales, c.Coarsest = 8, 25 })
	sizes, err := c.Sizes(188, 250)
	if err != nil {
		t.Fatal(err)
	}
	if sizes[0] != [2]int{25, 33} || sizes[7] != [2]int{188, 250} {
		t.Errorf("got %v", sizes)
	}
	r := math.Pow(188.0/25, 1.0/7)
	for k := range 7 {
		if got := float64(sizes[k+1][0]) / float64(sizes[k][0]); math.Abs(got-r) > 0.03 {
			t.Errorf("from scale %d to the next: a factor of %g, wanted %g", k, got, r)
		}
	}
	if _, err := c.Sizes(20, 30); err == nil || !strings.Contains(err.Error(), "20 pixels") {
		t.Errorf("got %v", err)
	}
}

// TestScales: one scale learns at a time, coarse to fine, while the others stay; the
// update raises the picture's score above that of samples, flipped it lowers it.
func TestScales(t *testing.T) {
	for sabotage, sign := range map[string]float64{"": 1, patchwise.Flip: -1, patchwise.Freeze: 0} {
		s, nets := networks(t, config(func(c *patchwise.Config) { c.Sabotage = sabotage }))
		rose := 0.0
		for i := range 18 {
			before := weights(nets)
			m, err := s.Step(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if m["scale"] != float64(i/6) {
				t.Errorf("iteration %d learns scale %g", i, m["scale"])
			}
			for k, w := range weights(nets) {
				if same := slices.Equal(w, before[k]); same != (k != i/6 || sign == 0) {
					t.Errorf("%q, iteration %d, scale %d: weights stay: %v", sabotage, i, k, same)
				}
			}
			if i%6 > 0 {
				rose += m[training.Value]
			}
		}
		if sign*rose < 0 {
			t.Errorf("%q: V adds up to %g", sabotage, rose)
		}
	}
}

// TestUpdate: scores are weighed to sum to 0, so that a constant in them is not learned; noise is new in
// each iteration.
func TestUpdate(t *testing.T) {
	const rate = 0.5
	s, nets := networks(t, config(func(c *patchwise.Config) {
		c.Optim, c.ScoreL2, c.Spectral, c.NoiseOver = training.Optim{Name: "sgd", LR: rate}, 0, false, 0
		c.Langevin = training.Langevin{Steps: 2, Step: 1, Noise: 1000, GradClip: 1e-3, Clamp: [2]float64{-1e6, 1e6}}
	}))
	constants := 0
	before := map[string]float32{}
	for _, p := range nets[0].Params() {
		if len(p.W) == 1 {
			before[p.Name] = p.W[0]
		}
	}
	noise := func() float64 { // its mean in deviations
		m := systemtest.Steps(t, s, 1)
		return m["sample_mean"] / m[training.SampleStd]
	}
	lo := noise()
	for _, p := range nets[0].Params() {
		if len(p.W) == 1 {
			constants++
			if d := p.W[0] - before[p.Name]; math.Abs(float64(d)) > 1e-4*rate {
				t.Errorf("%s moves by %g", p.Name, d)
			}
		}
	}
	if constants != 1 {
		t.Errorf("%d constants, wanted that of the last layer", constants)
	}
	s.Slow(0)
	hi := lo
	for range 5 {
		mean := noise()
		lo, hi = min(lo, mean), max(hi, mean)
	}
	if hi-lo < 0.05 { // the mean of 384 numbers has the deviation 0.051
		t.Errorf("the means of iterations' noise are from %g to %g deviations", lo, hi)
	}
}

// TestResume: a run broken off in any scale, also where one begins, goes on bit for bit.
func TestResume(t *testing.T) {
	averaged := config(func(c *patchwise.Config) { c.EMA, c.Favour = 0.5, 2 })
	fresh := func() *patchwise.System { s, _ := networks(t, averaged); return s }
	whole, end := systemtest.Broken(t, fresh, 18, 3, 10, 11, 16) // scales begin at 10 and 15
	bare := fresh().Model
	if err := bare.Restore(end); err != nil {
		t.Fatal(err)
	}
	a, err := whole.Draw(t.Context(), 3, 4)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := bare.Draw(t.Context(), 3, 4); err != nil || !slices.Equal(a, b) {
		t.Errorf("the model without its picture draws otherwise (%v)", err)
	}
	for _, name := range []string{"weights3/layer1.weight", "recovery2", "energy1/layer1.weight/u", "average3/w/layer1.weight"} {
		part := training.CopyState(end)
		delete(part.Tensors, name)
		if err := whole.Restore(part); err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(name, "energy1/")) {
			t.Errorf("wanted an error about %s, got %v", name, err)
		}
	}
}

// TestAverage: the averaged weights draw and recover, finer scales build on them, and a step goes on
// from the last ones.
func TestAverage(t *testing.T) {
	plain, nets := networks(t, config(nil))
	s, averaged := networks(t, config(func(c *patchwise.Config) { c.EMA = 0.9 }))
	systemtest.Steps(t, plain, 6)
	systemtest.Steps(t, s, 6)
	if !slices.Equal(weights(nets)[0], weights(averaged)[0]) {
		t.Error("the average changes how the first scale learns")
	}
	last, err := plain.Draw(t.Context(), 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	x, err := s.Draw(t.Context(), 2, 1)
	if err != nil || slices.Equal(x, last) || !slices.Equal(weights(nets)[0], weights(averaged)[0]) {
		t.Errorf("draws are not of the average, or it stays (%v)", err)
	}
	systemtest.Steps(t, s, 1)
	if slices.Equal(weights(nets)[0], weights(averaged)[0]) {
		t.Error("the second scale does not build on the average of the first")
	}
	if again, err := s.Draw(t.Context(), 2, 1); err != nil || slices.Equal(again, x) {
		t.Errorf("the second scale draws nothing (%v)", err)
	}
}

// TestFavour: coarser scales have as many times the iterations as they are favoured by.
func TestFavour(t *testing.T) {
	s, _ := networks(t, config(func(c *patchwise.Config) { c.Favour, c.Steps = 2, 14 }))
	var got [3]int
	for range 14 {
		got[int(systemtest.Steps(t, s, 1)["scale"])]++
	}
	if got != [3]int{8, 4, 2} {
		t.Errorf("iterations of the scales: wanted 8, 4, 2, got %v", got)
	}
}

// TestAbilities: other sizes, larger pictures, edits that keep what they are told to.
func TestAbilities(t *testing.T) {
	s, _ := networks(t, config(nil))
	for range 18 {
		if _, err := s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	set := picture(t)
	if x, err := s.DrawSize(t.Context(), 3, 16, 24, 1); err != nil || len(x) != 3*3*16*24 {
		t.Errorf("%d values, %v", len(x), err)
	}
	a, err := s.Draw(t.Context(), 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := s.DrawSize(t.Context(), 2, 16, 16, 1); err != nil || !slices.Equal(a, b) || slices.Equal(a[:768], a[768:]) {
		t.Errorf("draws of the picture's size differ, or do not differ from each other (%v)", err)
	}
	if x, err := s.Enlarge(t.Context(), set.X(), 16, 16, 2); err != nil || len(x) != 3*32*32 {
		t.Errorf("%d values, %v", len(x), err)
	}
	mask := make([]float32, len(set.X()))
	for i := range mask {
		if i%16 > 4 {
			mask[i] = 1
		}
	}
	x, err := s.Reconstruct(t.Context(), set.X(), mask, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range x {
		if mask[i] == 1 && v != set.X()[i] {
			t.Fatalf("visible value %d changes", i)
		}
	}
	_, psnr, err := s.Recovery(t.Context())
	if err != nil || len(psnr) != 3 {
		t.Errorf("recovery at %d scales, %v", len(psnr), err)
	}
	if y, err := s.Reconstruct(t.Context(), set.X(), nil, 1); err != nil || len(y) != len(set.X()) {
		t.Errorf("%d values, %v", len(y), err)
	}
	if y, err := s.Translate(t.Context(), set.X(), 1); err != nil || len(y) != len(set.X()) {
		t.Errorf("%d values, %v", len(y), err)
	}
	if _, err := s.Edit(t.Context(), set.X(), nil, 3); err == nil || !strings.Contains(err.Error(), "0 to 2") {
		t.Errorf("got %v", err)
	}
	if _, err := s.Edit(t.Context(), set.X()[1:], nil, 1); err == nil {
		t.Error("a part of a picture is accepted")
	}
	if pics, err := s.Pictures(t.Context()); err != nil || len(pics) != 2 {
		t.Errorf("%d pictures, %v", len(pics), err)
	}
}

func TestCheck(t *testing.T) {
	for want, change := range map[string]func(*patchwise.Config){
		"scales":     func(c *patchwise.Config) { c.Scales = 0 },
		"coarsest":   func(c *patchwise.Config) { c.Coarsest = 3 },
		"steps":      func(c *patchwise.Config) { c.Steps = 2 },
		"chains":     func(c *patchwise.Config) { c.Chains = 0 },
		"paint":      func(c *patchwise.Config) { c.Paint = 3 },
		"clamp":      func(c *patchwise.Config) { c.Langevin.Clamp = [2]float64{} },
		"shrink":     func(c *patchwise.Config) { c.Recover.Shrink = 0 },
		"noise_over": func(c *patchwise.Config) { c.NoiseOver = 2 },
		"favour":     func(c *patchwise.Config) { c.Favour = -1 },
		"ema":        func(c *patchwise.Config) { c.EMA = 1 },
		"flip":       func(c *patchwise.Config) { c.Sabotage = "no" },
	} {
		c := config(change)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %q, got %v", want, err)
		}
	}
	two := *picture(t)
	two.N, two.Floats = 2, append(slices.Clone(two.X()), two.X()...)
	if _, err := patchwise.New(config(nil), nil, &two, 1); err == nil || !strings.Contains(err.Error(), "one picture") {
		t.Errorf("got %v", err)
	}
	for name, p := range patchwise.Presets {
		c := p.Config
		if err := c.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.Network(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"small", "paper"} {
		if _, err := patchwise.For(name, []int{3, 64, 64}, 1); err != nil {
			t.Error(err)
		}
	}
	if _, err := patchwise.For("no", []int{3, 64, 64}, 1); err == nil || !strings.Contains(err.Error(), "picture-small") {
		t.Errorf("got %v", err)
	}
}
