package inhomogeneousframe_test

import (
	"context"
	"strings"
	"testing"

	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/training/bind"
	"ebmrun/training/bind/bindtest"
	"ebmrun/training/data"
	"ebmrun/training/inhomogeneousframe"
	"ebmrun/training/maxent"
)

func system(t testing.TB, c inhomogeneousframe.Config, source string, size, n int) *maxent.System {
	t.Helper()
	set, err := data.Load(context.Background(), source, data.Options{Seed: 1, Size: size, Limit: n})
	if err != nil {
		t.Fatal(err)
	}
	set, _ = data.Rescale(c.DataScale(), set, set)
	engine, err := ort.Open("")
	enginetest.Unavailable(t, err)
	e := bindtest.On(t, engine, bind.Options{Runtime: runtime.Options{Provider: runtime.CPU}})(c.Network(set.Dims()))
	s, err := inhomogeneousframe.New(t.Context(), c, e, set, 1)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func preset(t testing.TB, name string) inhomogeneousframe.Config {
	t.Helper()
	c, err := inhomogeneousframe.For(name, []int{1, 32, 32}, 20)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestLearns: the statistics of faces are matched; the sabotaged arms do not.
func TestLearns(t *testing.T) {
	gaps := map[string]float64{}
	for _, arm := range []string{"", maxent.Freeze, maxent.Flip} {
		c := preset(t, "objects")
		c.Sabotage, c.Chains, c.Filters.Orientations = arm, 8, 4
		s := system(t, c, "synthetic/face", 24, 10)
		n := 25
		if arm != "" {
			n = 5
		}
		for range n {
			m, err := s.Step(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			gaps[arm] = m["gap"]
		}
		t.Logf("%q: gap %.3f, log Z %.1f", arm, gaps[arm], s.LogPartition())
	}
	if gaps[""] > 0.4*gaps[maxent.Freeze] || gaps[maxent.Flip] < gaps[maxent.Freeze] {
		t.Errorf("gaps of the statistics: %v", gaps)
	}
}

// TestPublished: the published settings build and do an iteration; the texture preset too.
func TestPresets(t *testing.T) {
	if testing.Short() {
		t.Skip()
	}
	for name := range inhomogeneousframe.Presets {
		c := preset(t, name)
		size := 32
		if name == "published" {
			size, c.Chains, c.HMC.Leapfrogs, c.HMC.Calls = 48, 2, 1, 1 // as many filters
		}
		s := system(t, c, "synthetic/face", size, 4)
		if _, err := s.Step(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestErrors(t *testing.T) {
	c := preset(t, "objects")
	if _, err := c.Network([]int{3, 32, 32}); err == nil || !strings.Contains(err.Error(), "grey") {
		t.Errorf("wanted an error about grey pictures, got %v", err)
	}
	if _, err := c.Network([]int{1, 16, 16}); err == nil || !strings.Contains(err.Error(), "fit") {
		t.Errorf("wanted an error about filters that do not fit, got %v", err)
	}
	c.Filters.Scales = nil
	if err := c.Check(); err == nil || !strings.Contains(err.Error(), "scales") {
		t.Errorf("wanted an error about scales, got %v", err)
	}
	if _, err := inhomogeneousframe.For("nosuch", nil, 1); err == nil || !strings.Contains(err.Error(), "objects") {
		t.Errorf("wanted an error that lists the presets, got %v", err)
	}
}
