package accept_test

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/training/accept"
	"ebmrun/training/bind"
	"ebmrun/training/sampler"
)

// wrong is an energy whose slopes are too steep by a tenth.
type wrong struct{ accept.Energy }

func (w wrong) EnergyGrad(x, u, g []float32) error {
	err := w.Energy.EnergyGrad(x, u, g)
	for i := range g {
		g[i] *= 1.1
	}
	return err
}

func run(t *testing.T, spoil func(accept.Energy) accept.Energy, only ...string) []accept.Check {
	t.Helper()
	engine, err := ort.Open("")
	enginetest.Unavailable(t, err)
	s, err := accept.Find("generative-convnet")
	if err != nil {
		t.Fatal(err)
	}
	checks, err := s.Run(t.Context(), accept.Env{Seed: 1, Bind: func(ctx context.Context, m *onnxmodels.Model) (accept.Energy, error) {
		e, err := bind.New(ctx, m, engine, bind.Options{Runtime: runtime.Options{Provider: runtime.CPU, Threads: 1, NoSpin: true}})
		if err != nil {
			return nil, err
		}
		return spoil(e), nil
	}}, only...)
	if err != nil {
		t.Fatal(err)
	}
	return checks
}

// TestExact: the exact items are met, and not met by an energy with wrong slopes.
func TestExact(t *testing.T) {
	for _, c := range run(t, func(e accept.Energy) accept.Energy { return e }, "linear", "mechanics", "pull-back") {
		if !c.Met || !c.Exact {
			t.Errorf("%+v", c)
		}
	}
	if checks := run(t, func(e accept.Energy) accept.Energy { return wrong{e} }, "linear"); accept.Accepted(checks) {
		t.Errorf("wrong slopes are accepted: %+v", checks)
	}
}

// TestCodes: the quick items of the systems with a generator are met, and those of
// abp not by posteriors whose slopes are too steep.
func TestCodes(t *testing.T) {
	engine, err := ort.Open("")
	enginetest.Unavailable(t, err)
	o := runtime.Options{Provider: runtime.CPU, Threads: 1, NoSpin: true}
	for _, c := range []struct {
		suite accept.Suite
		spoil bool
		items []string
	}{
		{accept.ABP, false, []string{"posterior", "factors"}},
		{accept.ABP, true, []string{"posterior"}},
		{accept.CoopNets, false, []string{"gaussian"}},
	} {
		checks, err := c.suite.Run(t.Context(), accept.Env{Seed: 1, BindGenerator: func(ctx context.Context, m *generator.Model, sigma float64) (accept.Generator, error) {
			g, err := bind.NewGenerator(ctx, m, engine, o, sigma)
			if err != nil || !c.spoil {
				return g, err
			}
			return steep{g}, nil
		}}, c.items...)
		if err != nil {
			t.Fatal(err)
		}
		if accept.Accepted(checks) == c.spoil {
			t.Errorf("%s, spoiled %v: %+v", c.suite.System, c.spoil, checks)
		}
	}
}

// steep is a generator whose posteriors have slopes that are too steep by a fifth.
type steep struct{ accept.Generator }

type steepField struct{ sampler.Field }

func (s steep) Posterior(target, mask []float32) sampler.Field {
	return steepField{s.Generator.Posterior(target, mask)}
}

func (f steepField) EnergyGrad(x, u, g []float32) error {
	err := f.Field.EnergyGrad(x, u, g)
	for i := range g {
		g[i] *= 1.2
	}
	return err
}

func checks(exact bool, v float64) []accept.Check {
	it := &accept.Item{Name: "item", Exact: exact}
	it.Check(accept.Works, "error", v, accept.AtMost(1), "a remark")
	it.Check("", "seen", v, accept.Reported, "")
	return it.Out
}

func TestMedian(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		exact bool
		v     []float64
		want  float64
		met   bool
	}{
		{false, []float64{3, 0.5, 0.7}, 0.7, true},
		{false, []float64{3, 0.5, 2}, 2, false},
		{true, []float64{3, 0.5, 0.7}, 0.7, false}, // each must meet an exact check
		{true, []float64{0.1, 0.5, 0.7}, 0.5, true},
		{false, []float64{0.4, 0.8}, 0.6, true},
		{false, []float64{inf, 0.4, inf}, inf, false},
	} {
		var runs [][]accept.Check
		for _, v := range c.v {
			runs = append(runs, checks(c.exact, v))
		}
		got, err := accept.Median(runs)
		if err != nil {
			t.Fatal(err)
		}
		if float64(got[0].Got) != c.want && math.Abs(float64(got[0].Got)-c.want) > 1e-12 || got[0].Met != c.met || len(got[0].Seeds) != len(c.v) {
			t.Errorf("%+v: got %+v", c, got[0])
		}
		if accept.Accepted(got) != c.met {
			t.Errorf("%+v: accepted %v", c, !c.met)
		}
	}
	if _, err := accept.Median([][]accept.Check{checks(false, 1), checks(false, 1)[:1]}); err == nil {
		t.Error("seeds with other checks are accepted")
	}
	if _, err := accept.Median(nil); err == nil {
		t.Error("no runs are accepted")
	}
}

func TestLimits(t *testing.T) {
	it := &accept.Item{}
	nan := math.NaN()
	for _, c := range []struct {
		v     float64
		limit accept.Limit
		met   bool
	}{
		{1, accept.AtMost(1), true}, {1.1, accept.AtMost(1), false}, {nan, accept.AtMost(1), false},
		{1, accept.AtLeast(1), true}, {0.9, accept.AtLeast(1), false}, {nan, accept.AtLeast(1), false},
		{1, accept.Within(1, 2), true}, {2.1, accept.Within(1, 2), false}, {0.9, accept.Within(1, 2), false}, {nan, accept.Reported, true},
	} {
		it.Check("", "", c.v, c.limit, "")
		if got := it.Out[len(it.Out)-1]; got.Met != c.met {
			t.Errorf("%v %s: met %v", c.v, got.Want, got.Met)
		}
	}
}

func TestTables(t *testing.T) {
	for _, write := range []func(*strings.Builder, []accept.Check) error{
		func(b *strings.Builder, c []accept.Check) error { return accept.WriteTable(b, c) },
		func(b *strings.Builder, c []accept.Check) error { return accept.WriteMarkdown(b, c) },
	} {
		var b strings.Builder
		if err := write(&b, checks(false, 2)); err != nil {
			t.Fatal(err)
		}
		lines := slices.Collect(strings.Lines(b.String()))
		for _, want := range []string{"item", "error", "W", "2", "≤ 1", "NOT MET", "a remark"} {
			if !strings.Contains(lines[len(lines)-2], want) {
				t.Errorf("%q lacks %q", lines[len(lines)-2], want)
			}
		}
	}
	text, err := json.Marshal(checks(false, math.Inf(1)))
	if err != nil || !strings.Contains(string(text), `"got":"+Inf"`) || !strings.Contains(string(text), `"met":false`) {
		t.Errorf("%s, %v", text, err)
	}
}

func TestNames(t *testing.T) {
	if _, err := accept.Find("no-such"); err == nil || !strings.Contains(err.Error(), "generative-convnet") {
		t.Errorf("got %v", err)
	}
	s, err := accept.Find("generative-convnet")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check([]string{"ring", "no-such"}); err == nil || !strings.Contains(err.Error(), "texture") {
		t.Errorf("got %v", err)
	}
}

// TestSpotNoise: what judges the textures of deep-frame refuses spot noise with the
// picture's spectrum, and the picture turned.
func TestSpotNoise(t *testing.T) {
	engine, err := ort.Open("")
	enginetest.Unavailable(t, err)
	s, err := accept.Find("deep-frame")
	if err != nil {
		t.Fatal(err)
	}
	checks, err := s.Run(t.Context(), accept.Env{Seed: 1, Bind: func(ctx context.Context, m *onnxmodels.Model) (accept.Energy, error) {
		return bind.New(ctx, m, engine, bind.Options{Runtime: runtime.Options{Provider: runtime.CPU, Threads: 1, NoSpin: true}})
	}}, "judges")
	if err != nil || len(checks) != 8 {
		t.Fatalf("%d checks (%v)", len(checks), err)
	}
	for _, c := range checks {
		if !c.Met {
			t.Errorf("%s: wanted %s, got %g", c.What, c.Want, float64(c.Got))
		}
	}
}
