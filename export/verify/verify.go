// Package verify reopens exported files with other readers than the one that
// belongs to the writer, and compares what they find with the model.
//
// [ONNX] takes energy.onnx, energy-grad.onnx and sampler.onnx, [Network] any other network. A runtime.Engine
// runs the file on random inputs; its outputs are compared with those of the
// model in memory on the pure-Go interpreter, a sampler's with Langevin steps
// taken one by one. onnx-go parses the file with its own protobuf code; the
// weights that it finds are compared bit by bit, and where all ops are among the
// few that [gorgonia.org/tensor] can do, such as those of a multi-layer
// perceptron, the energy that it computes as well. [Weights] takes safetensors
// and npz files. A [Report] says what was compared and what was not.
//
// This is the one package that imports onnx-go.
package verify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"

	"ebmrun/export/weights"
	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/chain"
	"ebmrun/runtime"
	"ebmrun/runtime/ref"
)

// Tolerance is the largest distance of an output from the wanted one, as a share
// of its largest value.
const Tolerance = 1e-4

// SlopeTolerance is the largest relative L2 distance, over all examples, of a
// gradient whose network has units with a jump in their slope, and of the samples
// that follow it. Where such a unit stands at its jump within rounding, two correct
// readers take different sides, and values that hang on it differ by more than
// rounding: decision 29. It is what [runtime.Check] demands of providers.
const SlopeTolerance = 1e-3

// jumping are the ops with a jump in their slope.
var jumping = []string{"Abs", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Max", "MaxPool", "Min", "PRelu", "ReduceMax", "ReduceMin", "Relu", "ThresholdedRelu"}

// jumps tells whether the gradient of a network jumps.
func jumps(m *graphs.Model) bool {
	return slices.ContainsFunc(m.Graph.Nodes, func(n *graphs.Node) bool { return slices.Contains(jumping, n.Op) })
}

// The random inputs: so many examples, and so many steps of a sampler with any
// number of them.
const batch, loopSteps = 4, 3

// ErrDiffers is returned (wrapped) if a reader finds something else than was to
// be written.
var ErrDiffers = errors.New("the file differs from the model")

// A Check is one comparison.
type Check struct {
	Reader  string  `json:"reader"`            // who read the file
	What    string  `json:"what"`              // what was compared
	Off     float64 `json:"off"`               // the largest distance, as a share of the largest value; of slopes that jump the relative L2 distance
	Skipped string  `json:"skipped,omitempty"` // why it could not be compared, "" if it was
}

func (c Check) String() string {
	switch {
	case c.Skipped != "":
		return fmt.Sprintf("%s: %s not compared: %s", c.Reader, c.What, c.Skipped)
	case c.Off == 0:
		return fmt.Sprintf("%s: %s equal", c.Reader, c.What)
	}
	return fmt.Sprintf("%s: %s within %.1g", c.Reader, c.What, c.Off)
}

// A Report lists what was compared for one file.
type Report struct {
	File   string  `json:"file"`
	Checks []Check `json:"checks"`
}

func (r *Report) add(reader, what string, off, tolerance float64) error {
	r.Checks = append(r.Checks, Check{Reader: reader, What: what, Off: off})
	if !(off <= tolerance) {
		return fmt.Errorf("verify: %s: %s: %w: %s is off by %.2g, want at most %g", r.File, reader, ErrDiffers, what, off, tolerance)
	}
	return nil
}

// ONNX checks that the file holds the energy m, and its gradient or the sampler
// with settings s if it has their outputs or inputs.
func ONNX(ctx context.Context, path string, m *onnxmodels.Model, s chain.Step, e runtime.Engine, o runtime.Options) (Report, error) {
	r := Report{File: path}
	file, err := onnxio.Read(path)
	if err != nil {
		return r, err
	}
	want, in, err := expect(ctx, file, m, s)
	if err != nil {
		return r, fmt.Errorf("verify: %s: %w", path, err)
	}
	if err := r.run(ctx, file, e, o, in, want, jumps(m.Model)); err != nil {
		return r, err
	}
	bytes, err := os.ReadFile(path)
	if err != nil {
		return r, fmt.Errorf("verify: %w", err)
	}
	return r, r.second(bytes, m.Model, in, want)
}

// Network checks that the file holds the network m, which has inputs of float32
// with a batch axis and otherwise known sizes.
func Network(ctx context.Context, path string, m *graphs.Model, e runtime.Engine, o runtime.Options) (Report, error) {
	r := Report{File: path}
	file, err := onnxio.Read(path)
	if err != nil {
		return r, err
	}
	p, err := ref.New().Compile(ctx, m, runtime.Options{})
	if err != nil {
		return r, fmt.Errorf("verify: %s: %w", path, err)
	}
	defer p.Close()
	random := rand.New(rand.NewPCG(1, 2))
	in, want := map[string]*graphs.Tensor{}, map[string]*graphs.Tensor{}
	var x []*graphs.Tensor
	for _, v := range p.Inputs() {
		if v.Type != graphs.Float32 || len(v.Shape) == 0 || !v.Shape[1:].Known() {
			r.Checks = append(r.Checks, Check{Reader: "engine", What: "outputs", Skipped: fmt.Sprintf("input %s is not float32 of known size", v)})
			return r, nil
		}
		in[v.Name] = normals(random, 1, append([]int{batch}, v.Shape[1:].Ints()...)...)
		x = append(x, in[v.Name])
	}
	y := make([]*graphs.Tensor, len(p.Outputs()))
	if err := p.Run(ctx, x, y); err != nil {
		return r, fmt.Errorf("verify: %s: %w", path, err)
	}
	for i, v := range p.Outputs() {
		if want[v.Name] = y[i]; file.Graph.Output(v.Name) == nil {
			return r, fmt.Errorf("verify: %s: %w: it lacks the output %q", path, ErrDiffers, v.Name)
		}
	}
	if err := r.run(ctx, file, e, o, in, want, false); err != nil {
		return r, err
	}
	bytes, err := os.ReadFile(path)
	if err != nil {
		return r, fmt.Errorf("verify: %w", err)
	}
	return r, r.second(bytes, m, in, want)
}

// expect makes inputs for the file and works out the outputs that it has to give.
func expect(ctx context.Context, file *graphs.Model, m *onnxmodels.Model, s chain.Step) (want, in map[string]*graphs.Tensor, err error) {
	g, err := chain.Gradient(m)
	if err != nil {
		return nil, nil, err
	}
	p, err := ref.New().Compile(ctx, g, runtime.Options{})
	if err != nil {
		return nil, nil, err
	}
	defer p.Close()
	at := func(x *graphs.Tensor) error {
		out := make([]*graphs.Tensor, len(p.Outputs()))
		if err := p.Run(ctx, []*graphs.Tensor{x}, out); err != nil {
			return err
		}
		want = map[string]*graphs.Tensor{}
		for i, v := range p.Outputs() {
			want[v.Name] = out[i]
		}
		return nil
	}
	random := rand.New(rand.NewPCG(1, 2))
	x := normals(random, 0.5, append([]int{batch}, m.Dims...)...)
	noise := file.Graph.Input(chain.Noise)
	if noise == nil {
		return want, map[string]*graphs.Tensor{onnxmodels.X: x}, at(x)
	}
	if len(noise.Shape) != len(m.Dims)+2 {
		return nil, nil, fmt.Errorf("input %q: wanted [k, batch, %v], got %v", chain.Noise, m.Dims, noise.Shape)
	}
	k := loopSteps
	if noise.Shape[0].Known() {
		k = int(noise.Shape[0].N)
	}
	z := normals(random, 1, append([]int{k, batch}, m.Dims...)...)
	in = map[string]*graphs.Tensor{chain.X0: x, chain.Noise: z}
	for t := range k {
		if err := at(x); err != nil {
			return nil, nil, err
		}
		x = step(s, x, want[onnxmodels.GradX].F32(), z.F32()[t*x.Len():])
	}
	if err := at(x); err != nil {
		return nil, nil, err
	}
	want[chain.X] = x
	return want, in, nil
}

// step is one Langevin step, each operation rounded to float32.
func step(s chain.Step, x *graphs.Tensor, g, noise []float32) *graphs.Tensor {
	y := graphs.NewTensor(graphs.Float32, x.Dims...)
	drift, kick := float32(s.Size*s.Size/2), float32(s.Noise*s.Size)
	for i, v := range x.F32() {
		d := g[i]
		if c := float32(s.GradClip); c > 0 {
			d = min(max(d, -c), c)
		}
		v = float32(v-float32(drift*d)) + float32(kick*noise[i])
		if s.ClampMin != 0 || s.ClampMax != 0 {
			v = min(max(v, float32(s.ClampMin)), float32(s.ClampMax))
		}
		y.F32()[i] = v
	}
	return y
}

func normals(r *rand.Rand, size float64, dims ...int) *graphs.Tensor {
	t := graphs.NewTensor(graphs.Float32, dims...)
	for i := range t.F32() {
		t.F32()[i] = float32(size * r.NormFloat64())
	}
	return t
}

// run compares the outputs of the file on the engine; jumps tells whether a
// gradient among them, or the samples that follow one, may jump.
func (r *Report) run(ctx context.Context, file *graphs.Model, e runtime.Engine, o runtime.Options, in, want map[string]*graphs.Tensor, jumps bool) error {
	p, err := e.Compile(ctx, file, o)
	if err != nil {
		return fmt.Errorf("verify: %s: %w", r.File, err)
	}
	defer p.Close()
	x := make([]*graphs.Tensor, len(p.Inputs()))
	for i, v := range p.Inputs() {
		if x[i] = in[v.Name]; x[i] == nil {
			return fmt.Errorf("verify: %s: %w: it has an input %q", r.File, ErrDiffers, v.Name)
		}
	}
	y := make([]*graphs.Tensor, len(p.Outputs()))
	if err := p.Run(ctx, x, y); err != nil {
		return fmt.Errorf("verify: %s: %w", r.File, err)
	}
	reader := runtime.Describe(p).Library
	if reader == "" {
		reader = "engine"
	}
	for i, v := range p.Outputs() {
		if want[v.Name] == nil {
			return fmt.Errorf("verify: %s: %w: it has an output %q", r.File, ErrDiffers, v.Name)
		}
		off, tolerance := distance(y[i], want[v.Name]), Tolerance
		if jumps && (v.Name == onnxmodels.GradX || v.Name == chain.X) && off > Tolerance {
			off, tolerance = apart(y[i], want[v.Name]), SlopeTolerance
		}
		if err := r.add(reader, v.Name, off, tolerance); err != nil {
			return err
		}
	}
	return nil
}

// second compares what onnx-go finds in the file.
func (r *Report) second(file []byte, m *graphs.Model, in, want map[string]*graphs.Tensor) error {
	const reader = "onnx-go"
	found, structure := parse(file)
	w := weights.Of(m)
	for _, v := range sorted(w) {
		got := found.tensor(v)
		if got == nil {
			return fmt.Errorf("verify: %s: %s: %w: no weight %q", r.File, reader, ErrDiffers, v)
		}
		if d := distance(got, w[v]); d != 0 {
			return fmt.Errorf("verify: %s: %s: %w: weight %q is off by %.2g", r.File, reader, ErrDiffers, v, d)
		}
	}
	r.Checks = append(r.Checks, Check{Reader: reader, What: fmt.Sprintf("%d weights", len(w))})
	skip := func(err error) {
		r.Checks = append(r.Checks, Check{Reader: reader, What: "outputs", Skipped: err.Error()})
	}
	if structure != nil {
		skip(structure)
		return nil
	}
	for _, name := range found.outputs() {
		got, err := found.run(name, in)
		if err != nil {
			skip(err)
			return nil
		}
		if err := r.add(reader, name, distance(got, want[name]), Tolerance); err != nil {
			return err
		}
	}
	return nil
}

// Weights checks that a safetensors or npz file holds the weights of m.
func Weights(path string, m *graphs.Model) (Report, error) {
	r := Report{File: path}
	got, _, err := weights.Read(path)
	if err != nil {
		return r, err
	}
	want := weights.Of(m)
	if a, b := sorted(got), sorted(want); !slices.Equal(a, b) {
		return r, fmt.Errorf("verify: %s: %w: wanted tensors %s, got %s", path, ErrDiffers, strings.Join(b, ", "), strings.Join(a, ", "))
	}
	for _, name := range sorted(want) {
		if d := distance(got[name], want[name]); d != 0 {
			return r, fmt.Errorf("verify: %s: %w: weight %q is off by %.2g", path, ErrDiffers, name, d)
		}
	}
	r.Checks = []Check{{Reader: "reader", What: fmt.Sprintf("%d weights", len(want))}}
	return r, nil
}

func sorted(w weights.Tensors) []string {
	names := make([]string, 0, len(w))
	for name := range w {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// distance is the largest difference as a share of the largest wanted value, 0
// for the same bits, infinite if the two cannot be compared.
func distance(got, want *graphs.Tensor) float64 {
	if got == nil || want == nil || got.Type != want.Type || !slices.Equal(got.Dims, want.Dims) {
		return math.Inf(1)
	}
	a, errA := got.AsFloats()
	b, errB := want.AsFloats()
	if errA != nil || errB != nil {
		return math.Inf(1)
	}
	off, size := 0.0, 0.0
	for i, v := range b {
		size = max(size, math.Abs(v))
		if a[i] != v {
			off = max(off, math.Abs(a[i]-v)) // max keeps NaN
		}
	}
	if off == 0 {
		return 0
	}
	return off / size
}

// apart is the relative L2 distance of all examples together, where distance is finite.
func apart(got, want *graphs.Tensor) float64 {
	if d := distance(got, want); !(d > 0) || math.IsInf(d, 0) {
		return d
	}
	a, _ := got.AsFloats()
	b, _ := want.AsFloats()
	off, size := 0.0, 0.0
	for i, v := range b {
		off += (a[i] - v) * (a[i] - v)
		size += v * v
	}
	return math.Sqrt(off / size)
}
