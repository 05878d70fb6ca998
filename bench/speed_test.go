//go:build cgo && unix

package bench

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	goruntime "runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	nets "ebmrun/onnxmodels/flow"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/coopnets"
	"ebmrun/training/data"
	"ebmrun/training/generativeconvnet"
	"ebmrun/training/sampler"
)

// recordFile holds what the last release measured; UPDATE_GOLDEN=1 writes it anew.
const recordFile = "testdata/speed.json"

// A record is what is compared from release to release. Counts are the same on every
// machine. Ratios are the processor time of something of ours over that of a
// reference in the same process, in turns: a busy machine slows both.
type record struct {
	Processor string             `json:"processor"`
	Counts    map[string]float64 `json:"counts"`
	Ratios    map[string]float64 `json:"ratios"`
}

// What a value may lose: a tenth. Ratios that another kind of processor recorded tell
// less.
const (
	loss      = 1.10
	elsewhere = 1.50
)

// TestSpeed fails if a count or a ratio has grown by more than a tenth since the last
// release.
func TestSpeed(t *testing.T) {
	e, err := ort.Open("")
	enginetest.Unavailable(t, err)
	want := readRecord(t)
	update := os.Getenv("UPDATE_GOLDEN") != ""
	got := record{processor(), counts(t, e), map[string]float64{}}
	limit := loss
	if want.Processor != got.Processor {
		limit = elsewhere
	}
	for name, p := range pairs(t, e) {
		if update {
			got.Ratios[name] = median(p.ratio(), p.ratio(), p.ratio(), p.ratio(), p.ratio())
			continue
		}
		got.Ratios[name] = p.within(limit * want.Ratios[name])
	}
	if update {
		b, err := json.MarshalIndent(got, "", "\t")
		if err == nil {
			err = os.WriteFile(recordFile, append(b, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, m := range losses(want.Counts, got.Counts, loss) {
		t.Error(m)
	}
	for _, m := range losses(want.Ratios, got.Ratios, limit) {
		t.Error(m)
	}
	t.Logf("%s, recorded on %s\nratios %.3v\nrecorded %.3v", got.Processor, want.Processor, got.Ratios, want.Ratios)
}

// TestPlantedLoss: work that is half as much again as it should be is found, even on a busy machine, and counts that are a fifth more.
func TestPlantedLoss(t *testing.T) {
	e, err := ort.Open("")
	enginetest.Unavailable(t, err)
	want := readRecord(t)
	limit := loss
	if want.Processor != processor() {
		t.Skipf("ratios were recorded on %s", want.Processor)
	}
	n := networks[1]
	n.batch = 4
	ours, reference := n.step(t, e, runtime.Options{Threads: 1}, kernel), bare(t, n.gradient(t), runtime.CPU, 1)
	slow := pair{ours: func() {
		start := clock()
		ours()
		for took := clock() - start; clock()-start < took*3/2; {
		}
	}, reference: reference, times: 20}
	const name = "step/bare sr32 cpu"
	if got := slow.within(limit * want.Ratios[name]); got <= limit*want.Ratios[name] {
		t.Errorf("%s is %.3f with half as much again to do, within the %.3f of the limit", name, got, limit*want.Ratios[name])
	}
	more := maps.Clone(want.Counts)
	for k := range more {
		more[k] *= 1.2
	}
	if found := losses(want.Counts, more, loss); len(found) != len(more) {
		t.Errorf("%d of %d counts that grew by a fifth were found", len(found), len(more))
	}
	delete(more, "nodes sr32")
	if found := losses(want.Counts, more, loss); len(found) != len(more)+1 {
		t.Error("a count that is gone was not missed")
	}
}

// losses says which values have grown, come or gone.
func losses(want, got map[string]float64, limit float64) (found []string) {
	for _, name := range slices.Sorted(maps.Keys(got)) {
		w, ok := want[name]
		switch {
		case !ok:
			found = append(found, fmt.Sprintf("%s: %.4g, not in %s: write it anew with UPDATE_GOLDEN=1", name, got[name], recordFile))
		case !(got[name] <= w*limit):
			found = append(found, fmt.Sprintf("%s: wanted at most %.4g (%.4g at the last release), got %.4g", name, w*limit, w, got[name]))
		}
	}
	for name := range want {
		if _, ok := got[name]; !ok {
			found = append(found, fmt.Sprintf("%s: was measured at the last release, and is not any more", name))
		}
	}
	return found
}

func readRecord(t *testing.T) (r record) {
	b, err := os.ReadFile(recordFile)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil && os.Getenv("UPDATE_GOLDEN") == "" {
		t.Fatal(err)
	}
	return r
}

func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if k, v, _ := strings.Cut(line, ":"); strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return goruntime.GOARCH
}

// clock is the processor time of this process.
func clock() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A pair is something of ours and what it is measured by.
type pair struct {
	ours, reference func()
	times           int // turns of each
}

// ratio is the median over the turns of one's time over the other's.
func (p pair) ratio() float64 {
	took := func(f func()) float64 {
		start := clock()
		f()
		return float64(clock() - start)
	}
	var all []float64
	for range p.times {
		all = append(all, took(p.ours)/took(p.reference))
	}
	return median(all...)
}

// within tries a few times to get a ratio to a limit: other programs on the machine
// can only add to it at random.
func (p pair) within(limit float64) float64 {
	p.ours()
	p.reference()
	least := math.Inf(1)
	for range 8 {
		if least = min(least, p.ratio()); least <= limit {
			break
		}
	}
	return least
}

func median(v ...float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// pairs are the ratios: one thread on both sides.
func pairs(t *testing.T, e runtime.Engine) map[string]pair {
	one := runtime.Options{Threads: 1}
	all := map[string]pair{}
	sr, mlp := networks[1], networks[3]
	sr.batch = 4
	gradient := bare(t, sr.gradient(t), runtime.CPU, 1)
	all["step/bare sr32 cpu"] = pair{sr.step(t, e, one, kernel), gradient, 20}
	all["fused/bare sr32 cpu"] = pair{sr.fused(t, e, one), bare(t, sr.unrolled(t), runtime.CPU, 1), 7}
	all["gradient/forward sr32 cpu"] = pair{gradient, bare(t, sized(t, sr.model(t).Model, nil, sr.batch), runtime.CPU, 1), 20}
	plane := bare(t, mlp.gradient(t), runtime.CPU, 1)
	all["step/bare mlp2d cpu"] = pair{repeat(10, mlp.step(t, e, one, kernel)), repeat(10, plane), 20}
	all["fused/bare mlp2d cpu"] = pair{mlp.fused(t, e, one), bare(t, mlp.unrolled(t), runtime.CPU, 1), 20}
	all["noise/Box-Muller"] = pair{normals, boxMuller, 20}

	f := flow(t, e, one, "realnvp-28", 1, 28, 28)
	x, w, bound := noise(4, 1, 28, 28).X(), make([]float32, 4), make([]float32, 4)
	fine := make([]float32, len(x))
	all["gradient/forward flow cpu"] = pair{func() {
		if err := f.Learn(t.Context(), x, fine, w, bound); err != nil {
			t.Fatal(err)
		}
	}, func() {
		if err := f.Bound(t.Context(), x, fine, bound); err != nil {
			t.Fatal(err)
		}
	}, 7}

	// An iteration of 20 steps of 16 chains, and an update from 32 examples.
	c, sys := digits(t, e, one)
	spec, _ := c.Network()
	n := network{"digits", spec, c.Batch, []int{1, 28, 28}}
	all["iteration/bare digits cpu"] = pair{func() { iterate(t, sys) }, repeat(c.Langevin.Steps, bare(t, n.gradient(t), runtime.CPU, 1)), 5}
	return all
}

func repeat(times int, f func()) func() {
	return func() {
		for range times {
			f()
		}
	}
}

const drawn = 64 * 3072

var dst = make([]float32, drawn)

func normals() { sampler.Noise{Seed: 1}.Normals(dst, sampler.Chains(0, 64), 0) }

// boxMuller draws as many normals in the plainest way.
func boxMuller() {
	r := rand.New(rand.NewPCG(1, 1))
	for i := 0; i < drawn; i += 2 {
		length, angle := math.Sqrt(-2*math.Log(1-r.Float64())), 2*math.Pi*r.Float64()
		sin, cos := math.Sincos(angle)
		dst[i], dst[i+1] = float32(length*sin), float32(length*cos)
	}
}

func noise(n int, dims ...int) *data.Set {
	set := &data.Set{Name: "noise", N: n, C: dims[0], H: dims[1], W: dims[2], Floats: make([]float32, n*graphs.Size(dims)), Lo: -1, Hi: 1, Gain: 1}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range set.Floats {
		set.Floats[i] = 2*r.Float32() - 1
	}
	return set
}

func iterate(t *testing.T, s training.System) {
	if _, err := s.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// digits is the learning of preset digits with smaller batches.
func digits(t *testing.T, e runtime.Engine, o runtime.Options) (generativeconvnet.Config, training.System) {
	c, err := generativeconvnet.For("digits", []int{1, 28, 28}, 64)
	if err != nil {
		t.Fatal(err)
	}
	c.Batch = 16
	spec, err := c.Network()
	if err != nil {
		t.Fatal(err)
	}
	net := learnable(t, network{"digits", spec, c.Batch, []int{1, 28, 28}}, e, o)
	s, err := generativeconvnet.New(c, net, noise(64, 1, 28, 28), 1)
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func learnable(t *testing.T, n network, e runtime.Engine, o runtime.Options) *bind.Energy {
	net, err := bind.New(t.Context(), n.model(t), e, bind.Options{Runtime: o})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { net.Close() })
	return net
}

// counts are nodes and 10⁶ operations of gradient graphs, allocations of a step, and
// session calls and allocated kilobytes of an iteration.
func counts(t *testing.T, e runtime.Engine) map[string]float64 {
	all := map[string]float64{}
	graph := func(name string, m *graphs.Model) {
		work, counted := passes.Work(m.Graph)
		if !counted {
			t.Errorf("%s: operations of unknown size", name)
		}
		all["nodes "+name], all["10⁶ operations "+name] = float64(len(m.Graph.Nodes)), float64(work)/1e6
	}
	for _, n := range networks {
		graph(n.name, n.gradient(t))
	}
	graph("mlp2d fused", networks[3].unrolled(t))
	code := generator.Spec{Codes: 100, Start: 4, Filters: 512, Activation: "leaky", Tanh: true, Layers: []generator.Layer{
		{Filters: 256, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 128, Kernel: 4, Stride: 2, Pad: 1}, {Kernel: 4, Stride: 2, Pad: 1}}}
	g, err := generator.Build(code, []int{3, 32, 32}, 1)
	if err != nil {
		t.Fatal(err)
	}
	m, err := g.Posterior(0.3)
	graph("posterior", sized(t, m, err, 32))
	m, err = g.Regression()
	graph("regression", sized(t, m, err, 32))

	// What a step and an iteration allocate and call.
	one := runtime.Options{Threads: 1}
	for _, n := range []network{networks[1], networks[3]} {
		n.batch = 4
		step := n.step(t, e, one, kernel)
		all["allocations a step "+n.name] = testing.AllocsPerRun(10, step)
	}
	_, sys := digits(t, e, one)
	var reports = sys.(*generativeconvnet.System).Energy.(*bind.Energy).Reports
	perIteration(t, all, "generative-convnet", sys, func() int64 { return called(reports()) })
	c, err := coopnets.For("pictures-16", []int{1, 16, 16}, 64)
	if err != nil {
		t.Fatal(err)
	}
	c.Batch = 8
	es, err := c.EnergyNet()
	gs, err2 := c.GeneratorNet()
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	net := learnable(t, network{"coopnets", es, c.Batch, []int{1, 16, 16}}, e, one)
	gm, err := generator.Build(gs, []int{1, 16, 16}, 1)
	if err != nil {
		t.Fatal(err)
	}
	gen, err := bind.NewGenerator(t.Context(), gm, e, one, c.Sigma)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { gen.Close() })
	sys, err = coopnets.New(c, net, gen, noise(16, 1, 16, 16), 1)
	if err != nil {
		t.Fatal(err)
	}
	perIteration(t, all, "coopnets", sys, func() int64 { return called(net.Reports()) + called(gen.Reports()) })

	encode, decode := flow(t, e, one, "glow-16", 1, 16, 16).Models()
	graph("flow encode", sized(t, encode, nil, 8))
	graph("flow decode", sized(t, decode, nil, 8))
	return all
}

// flow is a named flow, as it is learned.
func flow(t *testing.T, e runtime.Engine, o runtime.Options, name string, dims ...int) *bind.Flow {
	spec, err := nets.ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	m, err := nets.Build(spec, dims, 1)
	if err != nil {
		t.Fatal(err)
	}
	f, err := bind.NewFlow(t.Context(), m, e, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// called is the number of finished session calls.
func called(reports map[string]runtime.Report) (calls int64) {
	for _, r := range reports {
		calls += r.Calls
	}
	return calls
}

// perIteration counts session calls and allocated kilobytes.
func perIteration(t *testing.T, to map[string]float64, name string, s training.System, calls func() int64) {
	iterate(t, s)
	const times = 4
	var before, after goruntime.MemStats
	from := calls()
	goruntime.ReadMemStats(&before)
	for range times {
		iterate(t, s)
	}
	goruntime.ReadMemStats(&after)
	to["session calls an iteration "+name] = float64(calls()-from) / times
	const grain = 16 // a few objects of the runtime's own do not count
	to["allocated kB an iteration "+name] = grain * math.Ceil(float64(after.TotalAlloc-before.TotalAlloc)/times/1e3/grain)
}
