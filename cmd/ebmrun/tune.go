package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/data"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

type tuneFlags struct {
	trainFlags
	try    []string
	asJSON bool
}

// A trial is what tune finds about one choice of settings.
type trial struct {
	Set        []string `json:"set"` // key=value, as --set takes it
	Iterations int      `json:"iterations"`
	V          any      `json:"V"`         // mean of the last half, as are the next two
	R          any      `json:"r"`         // mean drift of a Langevin step
	StdRatio   any      `json:"std_ratio"` // deviation of samples, share of the data's
	Seconds    float64  `json:"seconds_per_iteration"`
	Stable     bool     `json:"stable"`
	Why        string   `json:"why,omitempty"`
}

func tuneCommand(c *common) *cobra.Command {
	var f tuneFlags
	cmd := &cobra.Command{
		Use:   "tune SYSTEM",
		Short: "Try some step sizes and learning rates for a few iterations",
		Long: `Learn for a few iterations with every combination of the values to try, from the
same start, and tell which are stable: no guard trips, and the samples have some spread.
It finds what cannot work; a choice that is stable for 50 iterations need not be a good
one. V is the value function, r the mean length of a Langevin drift, and the std ratio
the samples' deviation as a share of the data's, over the last half of the iterations.

Without --try these are a third of, once and three times langevin.step and optim.lr.`,
		Example: example(
			"ebmrun tune generative-convnet --data mnist --limit 2000",
			"ebmrun tune generative-convnet --data synthetic/rings --try langevin.step=0.05,0.1,0.2 --try optim.lr=1e-3 --steps 100"),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.system = args[0]
			return c.tune(cmd.Context(), f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.source.Data, "data", "", "a `name` that data --list shows, or a folder, picture, .npy or .csv")
	fl.IntVar(&f.source.Size, "size", 0, "resize pictures to this many pixels")
	fl.IntVar(&f.source.Width, "width", 0, "width, where it is not --size")
	fl.BoolVar(&f.source.Grey, "grey", false, "one channel")
	fl.IntVar(&f.source.Limit, "limit", 0, "use at most so many examples")
	fl.StringVar(&f.preset, "preset", "small", "small, paper, or a name that \"ebmrun systems SYSTEM\" lists")
	fl.StringArrayVar(&f.set, "set", nil, "one setting for all trials, key=value (repeatable)")
	fl.StringArrayVar(&f.try, "try", nil, "values of one setting, key=value,value… (repeatable)")
	fl.IntVar(&f.steps, "steps", 50, "iterations of each trial")
	fl.BoolVar(&f.asJSON, "json", false, "as a JSON array")
	return cmd
}

func (c *common) tune(ctx context.Context, f tuneFlags) error {
	if f.steps < 2 {
		return badInput(fmt.Errorf("--steps: wanted at least 2, got %d", f.steps))
	}
	row, err := findSystem(f.system)
	if err != nil {
		return err
	}
	set, held, err := c.loadSource(ctx, f.source)
	if err != nil {
		return err
	}
	// The length of the whole run, not of a trial, decides how the rate falls.
	iterations := f.steps
	f.steps = 0
	base, err := c.settingsOf(row, f.trainFlags, nil, set)
	if err != nil {
		return err
	}
	choices, err := combinations(f.try, base)
	if err != nil {
		return badInput(err)
	}
	var trials []trial
	p := c.progress("trials", 0, len(choices))
	for _, choice := range choices {
		g := f.trainFlags
		g.set = slices.Concat(f.set, choice)
		t, err := c.try(ctx, row, g, set, held, iterations)
		if err != nil {
			return err
		}
		t.Set = choice
		trials = append(trials, t)
		p.step(len(trials), nil)
	}
	p.finish()
	if f.asJSON {
		return c.printJSON(trials)
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "settings\tV\tr\tstd ratio\ts/iteration\t")
	for _, t := range trials {
		verdict := "stable"
		if !t.Stable {
			verdict = fmt.Sprintf("unstable after %d: %s", t.Iterations, t.Why)
		}
		fmt.Fprintf(w, "%s\t%.3v\t%.3v\t%.3v\t%.3g\t%s\n", strings.Join(t.Set, " "), t.V, t.R, t.StdRatio, t.Seconds, verdict)
	}
	return w.Flush()
}

// combinations are all choices of one value for every key to try.
func combinations(try []string, settings any) ([][]string, error) {
	if len(try) == 0 {
		for _, key := range []string{"langevin.step", "optim.lr"} {
			v, err := numberAt(settings, key)
			if err != nil {
				return nil, fmt.Errorf("%w: say with --try what to vary", err)
			}
			try = append(try, fmt.Sprintf("%s=%.3g,%.3g,%.3g", key, v/3, v, 3*v))
		}
	}
	all := [][]string{nil}
	for _, t := range try {
		key, values, ok := strings.Cut(t, "=")
		if !ok || key == "" || values == "" {
			return nil, fmt.Errorf("--try: wanted key=value,value…, got %q", t)
		}
		var longer [][]string
		for _, choice := range all {
			for v := range strings.SplitSeq(values, ",") {
				longer = append(longer, append(slices.Clone(choice), key+"="+v))
			}
		}
		all = longer
	}
	if len(all) > 100 {
		return nil, fmt.Errorf("--try: %d combinations, wanted at most 100", len(all))
	}
	return all, nil
}

// numberAt is the setting at a path such as langevin.step.
func numberAt(settings any, path string) (float64, error) {
	text, err := yaml.Marshal(settings)
	if err != nil {
		return 0, err
	}
	var tree any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return 0, err
	}
	for key := range strings.SplitSeq(path, ".") {
		m, _ := tree.(map[string]any)
		tree = m[key]
	}
	v, err := strconv.ParseFloat(fmt.Sprint(tree), 64)
	if err != nil {
		return 0, fmt.Errorf("the system has no number %s", path)
	}
	return v, nil
}

// try learns for some iterations; a guard ends the trial and not the command.
func (c *common) try(ctx context.Context, row system, f trainFlags, set, held *data.Set, iterations int) (t trial, err error) {
	settings, err := c.settingsOf(row, f, nil, set)
	if err != nil {
		return t, err
	}
	set, held = rescale(settings, set, held)
	engine, err := c.engine(ctx)
	if err != nil {
		return t, err
	}
	jb, err := row.start(ctx, environment{engine: engine, say: c.say, bind: bind.Options{Runtime: c.options()}, seed: c.seed, set: set, held: held, dims: dimsOf(set)}, settings)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, jb.close()) }()
	began, guard := c.now(), jb.guard
	var v, r, ratio, n float64
	for t.Stable = true; t.Iterations < iterations; t.Iterations++ {
		m, err := jb.Step(ctx)
		if err == nil {
			err = guard.Check(m)
		}
		if ctx.Err() != nil {
			return t, ctx.Err()
		}
		if err != nil {
			var bad *sampler.NonFiniteError
			if !errors.As(err, &bad) && !errors.Is(err, optim.ErrNonFinite) && !errors.Is(err, training.ErrGuard) {
				return t, err
			}
			t.Stable, t.Why = false, oneLine(err.Error())
			break
		}
		if t.Iterations >= iterations/2 {
			v, r, n = v+m[training.Value], r+m["r"], n+1
			ratio += m[training.SampleStd] / m[training.DataStd]
		}
	}
	t.Seconds = c.now().Sub(began).Seconds() / float64(max(t.Iterations, 1))
	t.V, t.R, t.StdRatio = jsonNumber(v/n), jsonNumber(r/n), jsonNumber(ratio/n)
	if q := ratio / n; t.Stable && (math.IsNaN(q) || q < 0.2) {
		t.Stable, t.Why = false, "the samples have no spread"
	}
	return t, nil
}
