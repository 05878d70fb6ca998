package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/data"
	"ebmrun/training/generativeconvnet"
	"ebmrun/training/sampler"
)

// A workload is something whose speed is measured.
type workload struct {
	Name  string `json:"name"`
	Title string `json:"title"`

	// start makes it ready to run, fused or step by step.
	start func(ctx context.Context, e runtime.Engine, o runtime.Options, fused bool) (*rig, error)
}

// A rig is a workload ready to run.
type rig struct {
	steps   int // per chain
	chain   func() error
	reports func() map[string]runtime.Report
	close   func() error
}

// fusedSteps is how many steps the fused form takes in a call.
const fusedSteps = 20

var workloads = []workload{
	{"sr16", "Langevin step, short-run net of 16 filters, batch 64 of 3×32×32", langevin(shortRun32(16), 20, 64, 3, 32, 32)},
	{"sr32", "Langevin step, short-run net of 32 filters, batch 16 of 3×32×32", langevin(shortRun32(32), 20, 16, 3, 32, 32)},
	{"sr64", "Langevin step, short-run net of 64 filters, batch 32 of 3×32×32", langevin(shortRun32(64), 20, 32, 3, 32, 32)},
	{"mlp2d", "Langevin step, dense net 2-128-128-1, batch 1000", langevin(dense(128), 200, 1000, 2)},
	{"latent", "Langevin step, dense net 100-200-200-1, batch 100", langevin(dense(200), 200, 100, 100)},
	{"convnet-iteration", "learning iteration of preset digits: 20 Langevin steps of 64 chains, one update", learning},
}

// shortRun32 is the network of Nijkamp et al. (2019) for 32×32 with n filters.
func shortRun32(n int) energy.Spec {
	return energy.Spec{Activation: "leaky.05", Layers: []energy.Layer{
		{Filters: n, Kernel: 3, Pad: 1},
		{Filters: 2 * n, Kernel: 4, Stride: 2, Pad: 1},
		{Filters: 4 * n, Kernel: 4, Stride: 2, Pad: 1},
		{Filters: 8 * n, Kernel: 4, Stride: 2, Pad: 1},
		{Filters: 1, Kernel: 4},
	}}
}

// dense is a network of two hidden layers of n units.
func dense(n int) energy.Spec {
	return energy.Spec{Activation: "leaky.05", Layers: []energy.Layer{{Filters: n}, {Filters: n}, {Filters: 1}}}
}

// langevin is sampling from fixed weights, chains of the given length. A step
// includes its noise.
func langevin(spec energy.Spec, steps, batch int, dims ...int) func(context.Context, runtime.Engine, runtime.Options, bool) (*rig, error) {
	return func(ctx context.Context, e runtime.Engine, o runtime.Options, fused bool) (*rig, error) {
		m, err := energy.Build(spec, dims, 0, 1)
		if err != nil {
			return nil, err
		}
		net, err := bind.Freeze(ctx, m, e, bind.Options{Runtime: o})
		if err != nil {
			return nil, err
		}
		noise, kernel := sampler.Noise{Seed: 1}, sampler.Langevin{Size: 0.01, Noise: 1}
		start := make([]float32, batch*m.Size())
		noise.Fork(1).Normals(start, sampler.Chains(0, batch), 0)
		s, err := sampler.NewState(slices.Clone(start), m.Size(), sampler.Chains(0, batch))
		if err != nil {
			return nil, err
		}
		f := &sampler.Fused{Chain: net.Chain(kernel), K: fusedSteps}
		return &rig{steps, func() error {
			copy(s.X, start)
			if fused {
				_, err := f.Run(ctx, noise, s, steps, nil)
				return err
			}
			_, err := sampler.Run(ctx, noise, kernel, net, s, steps, nil)
			return err
		}, net.Reports, net.Close}, nil
	}
}

// learning is one iteration of the demo, on pictures of noise.
func learning(ctx context.Context, e runtime.Engine, o runtime.Options, fused bool) (*rig, error) {
	const n, side = 1024, 28
	set := &data.Set{Name: "noise", N: n, C: 1, H: side, W: side, X: make([]float32, n*side*side), Lo: -1, Hi: 1, Gain: 1}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range set.X {
		set.X[i] = 2*r.Float32() - 1
	}
	c, err := generativeconvnet.For("digits", []int{1, side, side}, n)
	if err != nil {
		return nil, err
	}
	c.Langevin.Fused = fused
	net, err := energyOf(ctx, environment{engine: e, bind: bind.Options{Runtime: o}, seed: 1, dims: dimsOf(set)}, &c)
	if err != nil {
		return nil, err
	}
	s, err := generativeconvnet.New(c, net, set, 1)
	if err != nil {
		return nil, errors.Join(err, net.Close())
	}
	return &rig{1, func() error {
		m, err := s.Step(ctx)
		if err == nil && m[training.Value] != m[training.Value] {
			err = errors.New("learning gave numbers that are not finite")
		}
		return err
	}, net.Reports, net.Close}, nil
}

// A measurement is what bench prints.
type measurement struct {
	Workload  string  `json:"workload"`
	MsPerStep float64 `json:"ms_per_step"` // median over chains
	PeakMB    float64 `json:"peak_mb"`     // largest resident size of the process, 0 where the system does not tell
	Provider  string  `json:"provider"`
	Fused     bool    `json:"fused"`
}

type benchFlags struct {
	list, json bool
	chains     int
	fused      string
}

func benchCommand(c *common) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench WORKLOAD",
		Short: "Measure speed and memory on this machine",
		Long: `Measure the time of one step and the largest resident size of the process.

A step of a Langevin workload is the gradient of a network with fixed seeded
weights, the noise and the move; the time is the median over --chains chains.
Unless --fused says otherwise, both ways of running are tried and the faster one
is measured; --provider auto takes the fastest provider that is right.`,
		Example: example("ebmrun bench --list", "ebmrun bench sr16", "ebmrun bench mlp2d --provider cpu --fused no --json"),
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
	at := slices.Index(workloadNames(), name)
	if at < 0 {
		return badInput(fmt.Errorf("no workload %q; there are %s", name, strings.Join(workloadNames(), ", ")))
	}
	if f.chains < 7 {
		return badInput(fmt.Errorf("--chains: wanted at least 7, got %d", f.chains))
	}
	ways, ok := map[string][]bool{"auto": {false, true}, "no": {false}, "yes": {true}}[f.fused]
	if !ok {
		return badInput(fmt.Errorf("--fused: wanted auto, yes or no, got %q", f.fused))
	}
	e, err := c.engine(ctx)
	if err != nil {
		return err
	}
	m, err := measure(ctx, workloads[at], e, c.options(), ways, f.chains)
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
	_, err = fmt.Fprintf(c.out, "%s: %.4g ms a step, provider %s, %s, peak %.0f MB\n", m.Workload, m.MsPerStep, m.Provider, how, m.PeakMB)
	return err
}

// trialChains is how many chains decide between the ways of running.
const trialChains = 3

// measure runs a workload in the fastest of the given ways.
func measure(ctx context.Context, w workload, e runtime.Engine, o runtime.Options, ways []bool, chains int) (*measurement, error) {
	var best *rig
	var fused bool
	var fastest time.Duration
	for _, way := range ways {
		r, err := w.start(ctx, e, o, way)
		if err != nil {
			return nil, err
		}
		// The first chain compiles and settles on a provider.
		times, err := r.run(1 + trialChains)
		if err != nil {
			return nil, errors.Join(err, r.close())
		}
		if t := slices.Min(times[1:]); best == nil || t < fastest {
			best, r, fused, fastest = r, best, way, t
		}
		if r != nil { // the slower one
			if err := r.close(); err != nil {
				return nil, err
			}
		}
	}
	times, err := best.run(chains)
	provider, _ := providersOf(best.reports())
	if err := errors.Join(err, best.close()); err != nil {
		return nil, err
	}
	slices.Sort(times)
	half := (times[(len(times)-1)/2] + times[len(times)/2]) / 2
	return &measurement{w.Name, half.Seconds() * 1e3 / float64(best.steps), peakMB(), provider, fused}, nil
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
