// Package accept holds the acceptance runs of the learning systems: what each
// must show at toy size, measured and compared with what is required.
//
// A run has three arms with one seed: [Works] as specified, [Untrained] without
// updates, and [Flipped] with the sign of the update turned round. A system is
// accepted when the first meets its thresholds, beats the second, and the third
// fails: thresholds that a broken system meets too say nothing.
//
// [Suites] is the table of systems. An item that has a closed form is exact and
// its threshold is never moved.
package accept

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/conditional"
	"ebmrun/onnxmodels/encoder"
	"ebmrun/onnxmodels/flow"
	"ebmrun/onnxmodels/generator"
	"ebmrun/training"
	"ebmrun/training/check"
)

// The arms of a run.
const (
	Works     = "W" // as specified
	Untrained = "U" // no updates
	Flipped   = "F" // updates of the wrong sign
)

// A Number is a measured value; infinities and NaN become strings in JSON.
type Number float64

// MarshalJSON implements json.Marshaler.
func (n Number) MarshalJSON() ([]byte, error) {
	if v := float64(n); math.IsNaN(v) || math.IsInf(v, 0) {
		return json.Marshal(fmt.Sprint(v))
	}
	return json.Marshal(float64(n))
}

// A Check is one measured number beside what is required of it.
type Check struct {
	Item   string   `json:"item"`             // such as "ring"
	What   string   `json:"what"`             // what was measured
	Arm    string   `json:"arm,omitempty"`    // none for checks of the mechanics
	Exact  bool     `json:"exact"`            // has a closed form
	Got    Number   `json:"got"`              // the median where there are several seeds
	Seeds  []Number `json:"seeds,omitempty"`  // the value of each seed, of more than one
	Want   string   `json:"want"`             // "" for a number that is only reported
	Met    bool     `json:"met"`              //
	Remark string   `json:"remark,omitempty"` // such as why the arm ended early

	meets func(float64) bool
}

// A Limit is what a number must meet.
type Limit struct {
	text  string
	meets func(float64) bool
}

// AtMost and AtLeast bound a number; NaN meets neither.
func AtMost(v float64) Limit {
	return Limit{fmt.Sprintf("≤ %.4g", v), func(x float64) bool { return x <= v }}
}

// AtLeast is the other bound.
func AtLeast(v float64) Limit {
	return Limit{fmt.Sprintf("≥ %.4g", v), func(x float64) bool { return x >= v }}
}

// Within bounds a number on both sides.
func Within(lo, hi float64) Limit {
	return Limit{fmt.Sprintf("%.4g … %.4g", lo, hi), func(x float64) bool { return x >= lo && x <= hi }}
}

// Reported bounds nothing: the number is there to be read.
var Reported = Limit{"", func(float64) bool { return true }}

// An Item collects the checks of one part of a suite.
type Item struct {
	Name  string
	Exact bool
	Out   []Check

	say func(format string, args ...any)
}

// Check compares a number with its limit.
func (i *Item) Check(arm, what string, got float64, want Limit, remark string) {
	c := Check{Item: i.Name, What: what, Arm: arm, Exact: i.Exact, Got: Number(got), Want: want.text,
		Met: want.meets(got), Remark: remark, meets: want.meets}
	if i.Out = append(i.Out, c); i.say != nil {
		i.say("%s", strings.Join(c.cells(), " | "))
	}
}

// An Energy is a bound energy network.
type Energy interface {
	training.Energy
	training.Fuser
	training.Curver
	io.Closer
}

// A Generator is a bound generator network.
type Generator interface {
	training.Generator
	io.Closer
}

// An Autoencoder is a bound encoder with its generator.
type Autoencoder interface {
	training.Autoencoder
	io.Closer
}

// A BoundFlow is a bound flow.
type BoundFlow interface {
	training.Flow
	io.Closer
}

// An Env is what acceptance runs need from outside. There is one Bind function for
// each kind of network, which puts a model on an engine; a suite calls those that
// its system has.
type Env struct {
	Seed          uint64
	Bind          func(ctx context.Context, m *onnxmodels.Model) (Energy, error)
	BindGenerator func(ctx context.Context, m *generator.Model, sigma float64) (Generator, error) // sigma: deviation of the residual

	BindLatent      func(ctx context.Context, prior *onnxmodels.Model, g *generator.Model, sigma float64) (Energy, Generator, error) // a prior of codes, and a generator under it
	BindFlow        func(ctx context.Context, m *flow.Model) (BoundFlow, error)
	BindAutoencoder func(ctx context.Context, m *encoder.Model, g *generator.Model, sigma float64) (Autoencoder, error)
	BindConditional func(ctx context.Context, m *conditional.Energy, g *conditional.Generator, sigma float64) (training.ConditionalEnergy, training.ConditionalGenerator, func() error, error)
	BindEncoded     func(ctx context.Context, prior *onnxmodels.Model, g *conditional.Generator, sigma float64) (training.Energy, training.ConditionalGenerator, func() error, error) // as BindLatent, under conditions
	BindMappings    func(ctx context.Context, m *conditional.Mappings) (BoundMappings, error)

	Say  func(line string)                        // remarks on the way; may be nil
	Step func(what string, done, total int)       // progress; may be nil
	Show func(name string, img image.Image) error // pictures; may be nil
}

func (e Env) say(format string, args ...any) {
	if e.Say != nil {
		e.Say(fmt.Sprintf(format, args...))
	}
}

func (e Env) show(name string, img image.Image, err error) error {
	if err != nil || e.Show == nil {
		return err
	}
	return e.Show(name, img)
}

// learn drives an arm. That a guard ended it is a result, not an error, of every arm but
// the one that works as specified: that one has failed, whatever was left to measure.
func (e Env) learn(ctx context.Context, what, arm string, s training.System, steps int, g training.Guard) (ended, err error) {
	err = training.Run(ctx, s, training.Options{Steps: steps, Guard: g, OnStep: func(step int, _ training.Metrics) {
		if e.Step != nil {
			e.Step(what+" "+arm, step, steps)
		}
	}})
	if errors.Is(err, training.ErrGuard) && arm != Works {
		return err, nil
	}
	return nil, err
}

// A Suite is the acceptance of one system.
type Suite struct {
	System string
	Parts  []Part
}

// A Part is one item of a suite.
type Part struct {
	Name, Title string
	Exact       bool
	Run         func(ctx context.Context, e Env, it *Item) error
}

// Run does every part whose name is listed (all for none) and returns the checks.
func (s Suite) Run(ctx context.Context, e Env, only ...string) ([]Check, error) {
	if err := s.Check(only); err != nil {
		return nil, err
	}
	var out []Check
	for _, p := range s.Parts {
		if len(only) > 0 && !slices.Contains(only, p.Name) {
			continue
		}
		e.say("%s: %s", p.Name, p.Title)
		it := &Item{Name: p.Name, Exact: p.Exact, say: e.say}
		err := p.Run(ctx, e, it)
		if errors.Is(err, training.ErrGuard) {
			it.Check(Works, "learning to the end", 0, AtLeast(1), err.Error())
			err = nil
		}
		if err != nil {
			return out, fmt.Errorf("accept: %s: %s: %w", s.System, p.Name, err)
		}
		out = append(out, it.Out...)
	}
	return out, nil
}

// Check reports the first name that is no part of the suite.
func (s Suite) Check(only []string) error {
	var names []string
	for _, p := range s.Parts {
		names = append(names, p.Name)
	}
	for _, name := range only {
		if !slices.Contains(names, name) {
			return fmt.Errorf("accept: %s has no part %q; %s", s.System, name, check.Instead(name, names))
		}
	}
	return nil
}

// Find returns the suite of a system.
func Find(system string) (Suite, error) {
	var known []string
	for _, s := range Suites {
		if s.System == system {
			return s, nil
		}
		known = append(known, s.System)
	}
	return Suite{}, fmt.Errorf("accept: no acceptance of %q; %s", system, check.Instead(system, known))
}

// Median joins the checks of several seeds, in the same order each: the median
// decides, except that an exact check must be met by every seed.
func Median(runs [][]Check) ([]Check, error) {
	if len(runs) == 0 {
		return nil, errors.New("accept: no runs")
	}
	out := slices.Clone(runs[0])
	if len(runs) == 1 {
		return out, nil
	}
	for i := range out {
		c := &out[i]
		var all []float64
		every := true
		for _, r := range runs {
			if len(r) != len(out) || r[i].What != c.What || r[i].Arm != c.Arm || r[i].Item != c.Item {
				return nil, errors.New("accept: the seeds' checks are not the same")
			}
			c.Seeds = append(c.Seeds, r[i].Got)
			all = append(all, float64(r[i].Got))
			every = every && r[i].Met
			if r[i].Remark != c.Remark {
				c.Remark = "" // it is of one seed
			}
		}
		slices.Sort(all) // NaN first
		n := len(all)
		c.Got = Number((all[(n-1)/2] + all[n/2]) / 2)
		if math.IsInf(all[n/2], 1) && math.IsInf(all[(n-1)/2], 1) {
			c.Got = Number(math.Inf(1))
		}
		c.Met = c.meets(float64(c.Got))
		if c.Exact {
			c.Met = every
		}
	}
	return out, nil
}

// Accepted reports whether every check is met.
func Accepted(checks []Check) bool {
	return !slices.ContainsFunc(checks, func(c Check) bool { return !c.Met })
}

func (c Check) verdict() string {
	switch {
	case c.Want == "":
		return ""
	case c.Met:
		return "met"
	}
	return "NOT MET"
}

func (c Check) cells() []string {
	seeds := ""
	for _, v := range c.Seeds {
		seeds += fmt.Sprintf("%.4g ", float64(v))
	}
	return []string{c.Item, c.What, c.Arm, fmt.Sprintf("%.4g", float64(c.Got)), c.Want, c.verdict(), strings.TrimSpace(seeds + c.Remark)}
}

var heads = []string{"item", "measured", "arm", "value", "required", "", "remark"}

// WriteTable writes the checks for a terminal.
func WriteTable(w io.Writer, checks []Check) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(heads, "\t"))
	for _, c := range checks {
		fmt.Fprintln(t, strings.Join(c.cells(), "\t"))
	}
	return t.Flush()
}

// WriteMarkdown writes the checks as a Markdown table.
func WriteMarkdown(w io.Writer, checks []Check) error {
	line := func(cells []string) string { return "| " + strings.Join(cells, " | ") + " |\n" }
	text := line(heads) + "|" + strings.Repeat("---|", len(heads)) + "\n"
	for _, c := range checks {
		text += line(c.cells())
	}
	_, err := io.WriteString(w, text)
	return err
}
