package main

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestTune(t *testing.T) {
	args := []string{"tune", "generative-convnet", "--data", "synthetic/rings", "--limit", "200", "--provider", "ref", "--quiet", "--steps", "8",
		"--set", "batch=8", "--set", "chains.buffer=8", "--set", "langevin.steps=4", "--set", "guard.max_std=100", "--set", "spec={layers: [{filters: 8}, {filters: 1}], activation: swish}"}
	r := ebmrun(t, append(args, "--json", "--try", "langevin.step=0.1,6", "--try", "optim.lr=0.001")...)
	r.wantOut(t)
	var trials []trial
	if err := json.Unmarshal([]byte(r.out), &trials); err != nil {
		t.Fatal(err)
	}
	// steps beyond 2σ = 4 of the reference blow up
	if len(trials) != 2 || !trials[0].Stable || trials[0].Iterations != 8 || trials[1].Stable || trials[1].Iterations >= 8 || trials[1].Why == "" {
		t.Errorf("got %+v", trials)
	}
	if want := []string{"langevin.step=6", "optim.lr=0.001"}; len(trials) == 2 && !slices.Equal(trials[1].Set, want) {
		t.Errorf("wanted the settings %v, got %v", want, trials[1].Set)
	}
	ebmrun(t, append(args, "--try", "batch=4,8")...).wantOut(t, "batch=4", "batch=8", "stable")
	ebmrun(t, append(args, "--try", "batch")...).wantError(t, statusBadInput, "--try")
	ebmrun(t, append(args, "--try", "no.such=1")...).wantError(t, statusBadInput, "no.such")
}

func TestCombinations(t *testing.T) {
	type settings struct {
		Langevin struct{ Step float64 } `yaml:"langevin"`
		Optim    struct {
			LR float64 `yaml:"lr"`
		} `yaml:"optim"`
	}
	var s settings
	s.Langevin.Step, s.Optim.LR = 0.3, 0.001
	all, err := combinations(nil, &s)
	if err != nil || len(all) != 9 || !slices.Equal(all[4], []string{"langevin.step=0.3", "optim.lr=0.001"}) {
		t.Errorf("got %v, %v", all, err)
	}
	if _, err := combinations(nil, &struct{}{}); err == nil {
		t.Error("settings without a step size are accepted")
	}
}
