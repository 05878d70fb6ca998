package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ebmrun/runtime"
	"ebmrun/training/check"
)

// A measurement is what bench prints.
type measurement struct {
	Workload  string     `json:"workload"`
	MsPerStep float64    `json:"ms_per_step"` // median over chains
	Spread    [2]float64 `json:"spread"`      // the fastest and the slowest chain, in ms a step
	PeakMB    float64    `json:"peak_mb"`     // largest resident size of the process, 0 where the system does not tell
	Provider  string     `json:"provider"`
	Fused     bool       `json:"fused"`
	Capture   string     `json:"capture,omitempty"` // whether the provider starts a call of many steps as one, or why not
	First     float64    `json:"first_step_s"`      // from the start of the process to the end of the first step, 0 where the system does not tell
	GFLOP     float64    `json:"gflop"`             // 10⁹ operations of convolutions and matrix products in a step, 0 if not counted
}

type benchFlags struct {
	list, json bool
	chains     int
	fused      string
	first      bool
	write      string
	setting
}

func benchCommand(c *common) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench WORKLOAD|FILE.onnx",
		Short: "Measure speed and memory on this machine",
		Long: `Measure the time of one step and the largest resident size of the process.

A step of a Langevin workload is the gradient of a network with fixed seeded
weights, the noise and the move; the time is the median over --chains chains. Of a
file it is one call of its gradient. Unless --fused says otherwise, both ways of
running are tried and the faster one is measured; --provider auto takes the fastest
provider that is right.`,
		Example: example("ebmrun bench --list", "ebmrun bench sr16", "ebmrun bench mlp2d --provider cpu --fused no --json", "ebmrun bench sr32 --batch 64 --side 64", "ebmrun bench model.onnx"),
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case f.list && len(args) > 0:
				return errors.New("--list takes no workload")
			case !f.list && len(args) != 1:
				return fmt.Errorf("wanted one workload of %s", strings.Join(workloadNames(), ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.list {
				return c.listWorkloads(f.json)
			}
			return c.bench(cmd.Context(), args[0], f)
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.list, "list", false, "list the workloads")
	fl.BoolVar(&f.json, "json", false, "as JSON")
	fl.IntVar(&f.chains, "chains", 9, "chains to take the median of, at least 7")
	fl.StringVar(&f.fused, "fused", "auto", "many steps in one graph: yes, no, or auto for the faster way")
	fl.IntVar(&f.batch, "batch", 0, "chains side by side [those of the workload]")
	fl.IntVar(&f.side, "side", 0, "height and width of pictures, a multiple of 8 [that of the workload]")
	fl.IntVar(&f.setting.steps, "steps", 0, "steps of a chain [those of the workload]")
	fl.BoolVar(&f.still, "still", false, "draw no noise")
	fl.BoolVar(&f.first, "first", false, "stop after the first step: the time from the command to there")
	fl.StringVar(&f.write, "write", "", "do not measure: write settings, weights, and what comes of a chain without noise, to this `folder`")
	return cmd
}

func workloadNames() []string {
	var names []string
	for _, w := range workloads {
		names = append(names, w.Name)
	}
	return names
}

func (c *common) listWorkloads(asJSON bool) error {
	if asJSON {
		return c.printJSON(workloads)
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	for _, l := range workloads {
		fmt.Fprintf(w, "%s\t%s\n", l.Name, l.Title)
	}
	return w.Flush()
}

func (c *common) bench(ctx context.Context, name string, f benchFlags) error {
	w, err := workloadOf(name, f.setting)
	if err != nil {
		return err
	}
	if f.chains < 7 {
		return badInput(fmt.Errorf("--chains: wanted at least 7, got %d", f.chains))
	}
	ways, ok := map[string][]bool{"auto": {false, true}, "no": {false}, "yes": {true}}[f.fused]
	switch {
	case !ok:
		return badInput(fmt.Errorf("--fused: wanted auto, yes or no, got %q", f.fused))
	case w.alone && f.fused == "yes":
		return badInput(fmt.Errorf("--fused: workload %s has no fused form", w.Name))
	case w.alone, f.fused == "auto" && (f.first || f.write != ""):
		ways = []bool{false}
	}
	e, err := c.engine(ctx)
	if err != nil {
		return err
	}
	if f.write != "" {
		return writeWorkload(ctx, w, e, c.options(), f.setting, f.write)
	}
	chains := f.chains
	if f.first {
		chains = 0
	}
	m, err := measure(ctx, w, e, c.options(), f.setting, ways, chains)
	if err != nil {
		return err
	}
	if f.json {
		return c.printJSON(m)
	}
	how := "step by step"
	if m.Fused {
		how = "fused"
	}
	if m.Capture != "" {
		how += ", " + m.Capture
	}
	if f.first {
		_, err = fmt.Fprintf(c.out, "%s: first step after %.2f s, provider %s\n", m.Workload, m.First, m.Provider)
		return err
	}
	_, err = fmt.Fprintf(c.out, "%s: %.4g ms a step (%.4g to %.4g), provider %s, %s, peak %.0f MB, first step after %.2f s\n",
		m.Workload, m.MsPerStep, m.Spread[0], m.Spread[1], m.Provider, how, m.PeakMB, m.First)
	if err == nil && m.GFLOP > 0 {
		_, err = fmt.Fprintf(c.out, "%.3g·10⁹ operations a step, %.0f·10⁹ a second\n", m.GFLOP, m.GFLOP/m.MsPerStep*1e3)
	}
	return err
}

// workloadOf finds a workload, or makes one of a file.
func workloadOf(name string, s setting) (workload, error) {
	at := slices.Index(workloadNames(), name)
	var w workload
	switch {
	case at >= 0:
		w = workloads[at]
	case filepath.Ext(name) == ".onnx":
		w = workload{Name: strings.TrimSuffix(filepath.Base(name), ".onnx"), alone: true, start: gradientOf(name)}
	default:
		return w, badInput(fmt.Errorf("no workload %q, and no file that ends in .onnx; %s", name, check.Instead(name, workloadNames())))
	}
	if !w.sized && (s.batch != 0 || s.side != 0 || s.steps != 0) {
		return w, badInput(fmt.Errorf("--batch, --side, --steps: workload %s has its own", w.Name))
	}
	if s.batch < 0 || s.side < 0 || s.steps < 0 {
		return w, badInput(fmt.Errorf("--batch, --side, --steps: wanted 1 or more, got %d, %d, %d", s.batch, s.side, s.steps))
	}
	return w, nil
}

// writeWorkload writes what another program needs to do the same. Nothing is drawn,
// so that all come to the same end.
func writeWorkload(ctx context.Context, w workload, e runtime.Engine, o runtime.Options, s setting, dir string) error {
	s.still = true
	if s.steps == 0 && w.sized {
		s.steps = 5
	}
	r, err := w.start(ctx, e, o, s)
	if err != nil {
		return err
	}
	ref, err := r.refer()
	if err == nil {
		err = ref.write(dir, w.Name)
	}
	return errors.Join(err, r.close())
}

// trialChains is how many chains decide between the ways of running.
const trialChains = 3

// measure runs a workload in the fastest of the given ways; without chains it takes
// the first step only.
func measure(ctx context.Context, w workload, e runtime.Engine, o runtime.Options, s setting, ways []bool, chains int) (*measurement, error) {
	m := &measurement{Workload: w.Name}
	var best *rig
	var fastest time.Duration
	for _, way := range ways {
		s.fused = way
		r, err := w.start(ctx, e, o, s)
		if err != nil {
			return nil, err
		}
		if m.First == 0 {
			begin := r.chain
			if r.first != nil {
				begin = r.first
			}
			err = begin()
			m.First = processAge().Seconds()
		}
		var times []time.Duration
		if err == nil && (len(ways) > 1 || chains > 0) {
			// The first chain compiles and settles on a provider.
			times, err = r.run(1 + trialChains*(len(ways)-1))
		}
		if err != nil {
			return nil, errors.Join(err, r.close())
		}
		if len(ways) == 1 {
			best, m.Fused = r, way
			break
		}
		if t := slices.Min(times[1:]); best == nil || t < fastest {
			best, r, m.Fused, fastest = r, best, way, t
		}
		if r != nil { // the slower one
			if err := r.close(); err != nil {
				return nil, err
			}
		}
	}
	times, err := best.run(chains)
	m.Provider, _ = providersOf(best.reports())
	for _, r := range best.reports() {
		m.Capture = cmp.Or(r.Capture, m.Capture)
	}
	if err := errors.Join(err, best.close()); err != nil {
		return nil, err
	}
	if m.PeakMB, m.GFLOP = peakMB(), best.work; chains == 0 {
		return m, nil
	}
	slices.Sort(times)
	ms := func(t time.Duration) float64 { return t.Seconds() * 1e3 / float64(best.steps) }
	m.MsPerStep = ms((times[(len(times)-1)/2] + times[len(times)/2]) / 2)
	m.Spread = [2]float64{ms(times[0]), ms(times[len(times)-1])}
	return m, nil
}

// run times chains.
func (r *rig) run(chains int) ([]time.Duration, error) {
	times := make([]time.Duration, chains)
	goruntime.GC() // of what making ready has left
	for i := range times {
		start := time.Now()
		if err := r.chain(); err != nil {
			return nil, err
		}
		times[i] = time.Since(start)
	}
	return times, nil
}

// processAge is the time since the process began, 0 where the system does not
// tell. It is known to a hundredth of a second.
func processAge() time.Duration {
	up, _ := os.ReadFile("/proc/uptime")
	stat, _ := os.ReadFile("/proc/self/stat")
	now, _, _ := strings.Cut(string(up), " ")
	seconds, err := strconv.ParseFloat(now, 64)
	// The name of the command, in brackets, may hold anything.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const start, hz = 19, 100 // the field, and its unit
	if err != nil || len(f) <= start {
		return 0
	}
	ticks, err := strconv.ParseFloat(f[start], 64)
	if err != nil {
		return 0
	}
	return time.Duration((seconds - ticks/hz) * float64(time.Second))
}

// peakMB is the largest resident size so far.
func peakMB() float64 {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range bytes.Lines(status) {
		if f := strings.Fields(string(line)); len(f) == 3 && f[0] == "VmHWM:" {
			kb, _ := strconv.ParseFloat(f[1], 64)
			return kb / 1024
		}
	}
	return 0
}
