package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ebmrun/graphs"
	"ebmrun/runtime"
	"ebmrun/training/check"
	"ebmrun/training/data"
	"ebmrun/training/diag"
)

type evalFlags struct {
	source   source
	n        int
	steps    int
	from     string
	features string
	asJSON   bool
}

// A comparison is samples and the data they are measured against, n rows each.
// learned and held have nothing in common, unless the data is one picture.
type comparison struct {
	set                    *data.Set // all training examples
	samples, learned, held *data.Set
	features               *features // nil without --features
}

// A metric measures samples; the floor is the same number for real data.
type metric struct {
	name, title string
	measure     func(ctx context.Context, q comparison) (value, floor float64, err error)
}

var metrics = []metric{
	{"fd-pca", "Fréchet distance on 16 principal components of the data", fdPCA},
	{"patch-swd", "sliced Wasserstein distance of 7×7 patches", patchSWD},
	{"energy-distance", "energy distance, unbiased: near zero, of either sign, for equal distributions", func(_ context.Context, q comparison) (value, floor float64, err error) {
		return againstHeld(q, diag.EnergyDistance)
	}},
	{"kl", "divergence of the samples' histogram from the known density, nats; points of the plane only", klGrid},
	{"diversity", "mean distance between samples, per value; the floor is that of real data", func(_ context.Context, q comparison) (value, floor float64, err error) {
		if value, err = diag.Diversity(q.samples.X(), q.samples.Dim()); err == nil {
			floor, err = diag.Diversity(q.held.X(), q.held.Dim())
		}
		return value, floor, err
	}},
	{"nearest", "median distance to the nearest training example, per value: well below the floor, samples are copies", nearest},
	{"fid", "Fréchet distance on the features of the network --features names", fid},
	{saliencyName, "scores of a folder of maps beside the true ones of --data, each in the true one's size", nil},
}

func evalCommand(c *common) *cobra.Command {
	var f evalFlags
	var list strings.Builder
	for _, m := range metrics {
		fmt.Fprintf(&list, "  %-16s %s\n", m.name, m.title)
	}
	cmd := &cobra.Command{
		Use:   "eval METRIC RUN|SAMPLES.npy|MAPS/",
		Short: "Measure samples against data that was not learned from",
		Long: `Measure samples against data that was not learned from. Samples are drawn from a
run, or read from an array in data units, as "sample --npy" writes it. Beside
every number stands its floor, what as many real examples get.

` + list.String() + `
The network for fid takes pictures [batch, channels, height, width] with values
as in the data, from -1 to 1; its first output are the features. Layers of networks
with a name are there too, as NETWORK:LAYER; they see pictures as they are used
to, enlarged to 96 pixels, and their features are means of maps. A number from
another network, other data or another number of samples is no comparison.

Maps for saliency are those that "apply translate -o MAPS/" writes, or any other
program's, by the names of the true ones; its numbers have no floor.`,
		Example: example(
			"ebmrun eval fd-pca runs/mnist",
			"ebmrun eval nearest runs/mnist --n 256",
			"ebmrun eval energy-distance samples.npy --data synthetic/rings --json",
			"ebmrun eval fid runs/faces --features inception.onnx",
			"ebmrun eval fid runs/faces --features mobilenet-v2:head",
			"ebmrun eval saliency saliency/ --data true-maps/"),
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return c.eval(cmd.Context(), args[0], args[1], f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.source.Data, "data", "", "data to compare with (default: that of the run)")
	fl.IntVar(&f.source.Size, "size", 0, "resize its pictures to this many pixels")
	fl.IntVar(&f.source.Width, "width", 0, "width, where it is not --size")
	fl.BoolVar(&f.source.Grey, "grey", false, "one channel")
	fl.IntVar(&f.n, "n", 512, "at most so many samples, and as many real examples")
	fl.IntVar(&f.steps, "steps", 0, "Langevin steps per sample of an energy (default: as sample)")
	fl.StringVar(&f.from, "from", "", "where samples of an energy start: chains, drafts or noise (default: as sample)")
	fl.StringVar(&f.features, "features", "", "`network` of fid: a file .onnx, or a layer of a network with a name")
	fl.BoolVar(&f.asJSON, "json", false, "as a JSON object")
	return cmd
}

// An evaluated metric is what eval prints.
type evaluated struct {
	Metric  string `json:"metric"`
	Value   any    `json:"value"`
	Floor   any    `json:"floor"`
	Samples int    `json:"samples"`
	Real    int    `json:"real"`
	Data    string `json:"data"`
	Hash    string `json:"data_hash"`
	Of      string `json:"of"`
	Network string `json:"network,omitempty"` // hash of the feature network's file
}

func (c *common) eval(ctx context.Context, name, path string, f evalFlags) error {
	k := slices.IndexFunc(metrics, func(m metric) bool { return m.name == name })
	switch {
	case k < 0:
		var known []string
		for _, m := range metrics {
			known = append(known, m.name)
		}
		return badInput(fmt.Errorf("no metric %q; %s", name, check.Instead(name, known)))
	case f.n < 2:
		return badInput(fmt.Errorf("--n: wanted at least 2, got %d", f.n))
	case (name == "fid") != (f.features != ""):
		return badInput(errors.New("fid and --features FILE.onnx or NETWORK:LAYER go together: the number is that of a network"))
	}
	if name == saliencyName {
		return c.evalSaliency(path, f)
	}
	q, err := c.comparison(ctx, path, f)
	if err != nil {
		return err
	}
	e := evaluated{Metric: name, Samples: q.samples.N, Real: q.held.N, Data: q.set.Name, Hash: q.set.Hash(), Of: path}
	if f.features != "" {
		if q.features, err = c.openFeatures(ctx, f.features, q.set.Dims()); err != nil {
			return err
		}
		defer q.features.Close()
		e.Network = q.features.hash
	}
	value, floor, err := metrics[k].measure(ctx, q)
	if err != nil {
		return badInput(err)
	}
	if e.Value, e.Floor = jsonNumber(value), jsonNumber(floor); f.asJSON {
		return c.printJSON(e)
	}
	network := ""
	if e.Network != "" {
		network = fmt.Sprintf(", network sha256:%.12s", e.Network)
	}
	_, err = fmt.Fprintf(c.out, "%s %.5g  floor %.5g  (%d samples, %d real examples of %s%s)\n", name, value, floor, e.Samples, e.Real, e.Data, network)
	return err
}

// comparison obtains samples and data.
func (c *common) comparison(ctx context.Context, path string, f evalFlags) (q comparison, err error) {
	array := strings.HasSuffix(path, ".npy")
	var r *openedRun
	src := f.source
	if !array {
		if r, err = c.open(ctx, path, ""); err != nil {
			return q, err
		}
		defer r.Close()
		if err := r.lacks("sample"); err != nil {
			return q, err
		}
		if src.Data == "" {
			src = r.Head.Source
		}
	}
	var held *data.Set
	if q.set, held, err = c.loadSource(ctx, src); err != nil {
		return q, err
	}
	one := *held
	one.Labels, one.Factors = nil, nil
	if array {
		raw, err := data.ReadNPY(path)
		if err != nil {
			return q, badInput(err)
		}
		raw = raw.Head(f.n)
		for i, v := range raw.X() {
			raw.Floats[i] = float32(raw.Raw(v)*q.set.Gain + q.set.Offset)
		}
		q.samples = raw
	} else {
		n := f.n
		if len(r.Bank) > 0 && f.from != "noise" {
			n = min(n, len(r.Bank)/graphs.Size(r.Dims))
		}
		x, err := c.draw(ctx, r, sampleFlags{n: n, steps: f.steps, from: f.from, noise: -1, batch: 64})
		if err != nil {
			return q, err
		}
		for i, v := range x {
			x[i] = float32((float64(v)-r.Offset)/r.Gain*q.set.Gain + q.set.Offset)
		}
		one.N, one.Floats = n, x
		d := r.Dims
		if one.C, one.H, one.W = d[0], 1, 1; len(d) == 3 {
			one.H, one.W = d[1], d[2]
		}
		q.samples = &one
	}
	s := q.samples
	if s.C != q.set.C || s.Dim() != q.set.Dim() && q.set.N > 1 {
		return q, badInput(fmt.Errorf("%s: samples of %d×%d×%d, data %s of %d×%d×%d", path, s.C, s.H, s.W, q.set.Name, q.set.C, q.set.H, q.set.W))
	}
	if q.held, err = some(held, s.N, 1); err == nil {
		q.learned, err = some(q.set, s.N, 2)
	}
	return q, err
}

// some takes at most n examples at random: files are often sorted.
func some(s *data.Set, n int, seed uint64) (*data.Set, error) {
	return s.Subset(rand.New(rand.NewPCG(seed, 0x6576616c)).Perm(s.N)[:min(n, s.N)])
}

// againstHeld measures samples, and for the floor learned examples, against
// held-out ones.
func againstHeld(q comparison, distance func(a, b []float32, dim int) (float64, error)) (value, floor float64, err error) {
	if q.set.N == 1 {
		return 0, 0, fmt.Errorf("%s is one picture: patch-swd measures such data", q.set.Name)
	}
	dim := q.set.Dim()
	if value, err = distance(q.held.X(), q.samples.X(), dim); err == nil {
		floor, err = distance(q.held.X(), q.learned.X(), dim)
	}
	return value, floor, err
}

func fdPCA(_ context.Context, q comparison) (value, floor float64, err error) {
	fitted, err := some(q.set, 2000, 3)
	if err != nil {
		return 0, 0, err
	}
	k := min(16, q.set.Dim(), q.set.N-1, q.held.N-1, q.samples.N-1)
	if k < 1 {
		return 0, 0, fmt.Errorf("fd-pca: %d samples and %d real examples are too few", q.samples.N, q.held.N)
	}
	fd, err := diag.FitFD(fitted.X(), q.set.Dim(), k)
	if err != nil {
		return 0, 0, err
	}
	return againstHeld(q, func(a, b []float32, _ int) (float64, error) { return fd.Distance(a, b) })
}

func patchSWD(_ context.Context, q comparison) (value, floor float64, err error) {
	s, d := q.samples, q.set
	if value, err = diag.PatchSWD(q.held.X(), d.H, d.W, s.X(), s.H, s.W, d.C, 1); err != nil {
		return 0, 0, err
	}
	if d.N > 1 {
		floor, err = diag.PatchSWD(q.held.X(), d.H, d.W, q.learned.X(), d.H, d.W, d.C, 1)
		return value, floor, err
	}
	// one picture: its upper half against its lower
	var half [2][]float32
	for ch := range d.C {
		plane := d.X()[ch*d.H*d.W : (ch+1)*d.H*d.W]
		n := d.H / 2 * d.W
		half[0], half[1] = append(half[0], plane[:n]...), append(half[1], plane[len(plane)-n:]...)
	}
	floor, err = diag.PatchSWD(half[0], d.H/2, d.W, half[1], d.H/2, d.W, d.C, 1)
	return value, floor, err
}

func klGrid(_ context.Context, q comparison) (value, floor float64, err error) {
	density, ok := data.LogDensity(q.set.Name)
	if !ok {
		return 0, 0, fmt.Errorf("kl: the density of %s is not known; energy-distance needs none", q.set.Name)
	}
	reach := 0.0
	for _, v := range q.set.X() {
		reach = max(reach, 1.1*math.Abs(float64(v)))
	}
	g := diag.Grid{X0: -reach, X1: reach, Y0: -reach, Y1: reach, Bins: 20}
	if value, err = diag.KLGrid(q.samples.X(), density, g); err == nil {
		floor, err = diag.KLGrid(q.held.X(), density, g)
	}
	return value, floor, err
}

func nearest(_ context.Context, q comparison) (value, floor float64, err error) {
	median := func(x, _ []float32, dim int) (float64, error) {
		d, _, err := diag.NearestNeighbours(x, q.set.X(), dim)
		if err != nil {
			return 0, err
		}
		slices.Sort(d)
		return d[len(d)/2] / math.Sqrt(float64(dim)), nil
	}
	if q.set.N == 1 {
		return 0, 0, fmt.Errorf("%s is one picture: patch-swd measures such data", q.set.Name)
	}
	if value, err = median(q.samples.X(), nil, q.set.Dim()); err == nil {
		floor, err = median(q.held.X(), nil, q.set.Dim())
	}
	return value, floor, err
}

// features is a network whose first output describes pictures.
type features struct {
	runtime.Program
	hash string
}

func (c *common) openFeatures(ctx context.Context, path string, dims []int) (*features, error) {
	m, hash, err := c.featureNet(ctx, path, dims)
	if err != nil {
		return nil, badInput(err)
	}
	engine, err := c.engine(ctx)
	if err != nil {
		return nil, err
	}
	p, err := engine.Compile(ctx, m, c.options())
	if err != nil {
		return nil, badInput(fmt.Errorf("%s: %w", path, err))
	}
	if in := p.Inputs(); len(in) != 1 || len(in[0].Shape) != 4 || in[0].Type != graphs.Float32 {
		p.Close()
		return nil, badInput(fmt.Errorf("%s: wanted one input [batch, channels, height, width] of float32, got %v", path, in))
	}
	return &features{p, hash}, nil
}

// of returns the features of all pictures, [n, dim]. Grey pictures are repeated
// for a network of three channels.
func (f *features) of(ctx context.Context, s *data.Set) (out []float32, dim int, err error) {
	channels := s.C
	if f.Inputs()[0].Shape[1].N == 3 && s.C == 1 {
		channels = 3
	}
	for first := 0; first < s.N; first += 32 {
		n := min(32, s.N-first)
		in := graphs.NewTensor(graphs.Float32, n, channels, s.H, s.W)
		for k := range n {
			for ch := range channels {
				copy(in.F32()[(k*channels+ch)*s.H*s.W:], s.At(first + k)[min(ch, s.C-1)*s.H*s.W:][:s.H*s.W])
			}
		}
		y := make([]*graphs.Tensor, len(f.Outputs()))
		if err := f.Run(ctx, []*graphs.Tensor{in}, y); err != nil {
			return nil, 0, err
		}
		if y[0].Type != graphs.Float32 || y[0].Len()%n != 0 || y[0].Len() == 0 {
			return nil, 0, fmt.Errorf("the feature network gives %s %v for %d pictures, wanted float32 features of each", y[0].Type, y[0].Dims, n)
		}
		dim = y[0].Len() / n
		out = append(out, y[0].F32()...)
	}
	return out, dim, nil
}

func fid(ctx context.Context, q comparison) (value, floor float64, err error) {
	held, dim, err := q.features.of(ctx, q.held)
	if err != nil {
		return 0, 0, err
	}
	learned, _, err := q.features.of(ctx, q.learned)
	if err != nil {
		return 0, 0, err
	}
	x, _, err := q.features.of(ctx, q.samples)
	if err != nil {
		return 0, 0, err
	}
	if value, err = diag.FrechetFeatures(held, x, dim); err == nil {
		floor, err = diag.FrechetFeatures(held, learned, dim)
	}
	return value, floor, err
}
