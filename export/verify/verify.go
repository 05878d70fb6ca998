// Package verify reopens exported files with other readers than the one that
// belongs to the writer, and compares what they find with the model.
//
// [ONNX] takes energy.onnx, energy-grad.onnx and sampler.onnx, [Network] any other network. A runtime.Engine
// runs the file on random inputs; its outputs are compared with those of the
// model in memory on the pure-Go interpreter. A sampler is run a step at a time, each
// from where its own last one ended, with noise and with none: what it moves by must be
// the drift and the noise of a Langevin step from there. So are the steps of an unrolled sampler,
// whose values between them become outputs; of a file without those names only the end is
// compared, and the report says so. onnx-go parses the file with its own protobuf code; the
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

	"ebmrun/export/onnxfile"
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

// JumpTolerance is the largest relative L2 distance, in each example, of what hangs on
// units that stand at a jump of their slope: two correct readers then take different
// sides of it, and differ by more than rounding (decision 29). That is believed as far
// as slack times what rounding is seen to do to the model itself.
const JumpTolerance, slack = 5e-3, 3

// jumping are the ops with a jump in their slope.
var jumping = []string{"Abs", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Max", "MaxPool", "Min", "PRelu", "ReduceMax", "ReduceMin", "Relu", "ThresholdedRelu"}

// jumps tells whether the gradient of a network jumps.
func jumps(m *graphs.Model) bool {
	return slices.ContainsFunc(m.Graph.Nodes, func(n *graphs.Node) bool { return slices.Contains(jumping, n.Op) })
}

// The random inputs: so many examples, and so many rounds of a sampler.
const batch, rounds = 4, 3

// ErrDiffers is returned (wrapped) if a reader finds something else than was to
// be written.
var ErrDiffers = errors.New("the file differs from the model")

// A Check is one comparison.
type Check struct {
	Reader  string  `json:"reader"`            // who read the file
	What    string  `json:"what"`              // what was compared
	Off     float64 `json:"off"`               // the largest distance, as a share of the largest value; with Rounding the relative L2 distance of the worst example
	Skipped string  `json:"skipped,omitempty"` // why it could not be compared, "" if it was

	// Rounding is how far readers of the same model that round otherwise are apart, in
	// relative L2 of the same example; 0 where there was no need to look.
	Rounding float64 `json:"rounding,omitempty"`
}

func (c Check) String() string {
	switch {
	case c.Skipped != "":
		return fmt.Sprintf("%s: %s not compared: %s", c.Reader, c.What, c.Skipped)
	case c.Off == 0:
		return fmt.Sprintf("%s: %s equal", c.Reader, c.What)
	}
	text := fmt.Sprintf("%s: %s within %.1g", c.Reader, c.What, c.Off)
	if c.Rounding > 0 {
		text += fmt.Sprintf(" in L2, where rounding, by units at their jump, does %.1g", c.Rounding)
	}
	return text
}

// A Report lists what was compared for one file.
type Report struct {
	File   string  `json:"file"`
	Checks []Check `json:"checks"`
}

// add takes a comparison, the worst of those of the same thing.
func (r *Report) add(c Check, tolerance float64) error {
	same := slices.IndexFunc(r.Checks, func(o Check) bool { return o.Reader == c.Reader && o.What == c.What })
	switch {
	case same < 0:
		r.Checks = append(r.Checks, c)
	case !(c.Off <= r.Checks[same].Off):
		r.Checks[same] = c
	}
	if !(c.Off <= tolerance) {
		return fmt.Errorf("verify: %s: %s: %w: %s is off by %.2g, want at most %.2g", r.File, c.Reader, ErrDiffers, c.What, c.Off, tolerance)
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
	g, err := chain.Gradient(m)
	if err != nil {
		return r, fmt.Errorf("verify: %s: %w", path, err)
	}
	ours, err := compile(ctx, g, ref.New(), runtime.Options{})
	if err != nil {
		return r, fmt.Errorf("verify: %s: %w", path, err)
	}
	defer ours.Close()
	steps := tap(file.Graph)
	theirs, err := compile(ctx, file, e, o)
	if err != nil {
		return r, fmt.Errorf("verify: %s: %w", path, err)
	}
	defer theirs.Close()
	var others *copies
	if jumps(m.Model) {
		others = &copies{of: g, engine: e, options: o}
		defer others.Close()
	}

	random := rand.New(rand.NewPCG(1, 2))
	x := starts(random, file, m.Dims)
	in, want := map[string]*graphs.Tensor{onnxmodels.X: x}, map[string]*graphs.Tensor(nil)
	if noise := file.Graph.Input(chain.Noise); noise != nil {
		err = (&walk{Report: &r, step: s, steps: steps, ours: ours, theirs: theirs, others: others}).run(ctx, noise.Shape, x, random)
	} else if want, err = ours.run(ctx, in); err == nil {
		err = r.outputs(ctx, theirs, in, want, others)
	}
	if err != nil {
		return r, err
	}
	bytes, err := os.ReadFile(path)
	if err != nil {
		return r, fmt.Errorf("verify: %w", err)
	}
	return r, r.second(bytes, m.Model, in, want)
}

// starts are examples of two sizes in turn: about 1, and about that of the reference
// density if it is wider, where its slope can be seen beside the network's.
func starts(r *rand.Rand, file *graphs.Model, dims []int) *graphs.Tensor {
	x := normals(r, 0.5, append([]int{batch}, dims...)...)
	if about, err := onnxfile.ReadMeta(file); err == nil && about.Sigma > 1 {
		for i := range x.F32() {
			if i/graphs.Size(dims)%2 == 1 {
				x.F32()[i] *= float32(about.Sigma)
			}
		}
	}
	return x
}

// Network checks that the file holds the network m, which has inputs of float32
// with the batch as first axis; any other axis of unknown size is the steps of a chain.
func Network(ctx context.Context, path string, m *graphs.Model, e runtime.Engine, o runtime.Options) (Report, error) {
	r := Report{File: path}
	file, err := onnxio.Read(path)
	if err != nil {
		return r, err
	}
	ours, err := compile(ctx, m, ref.New(), runtime.Options{})
	if err != nil {
		return r, fmt.Errorf("verify: %s: %w", path, err)
	}
	defer ours.Close()
	random := rand.New(rand.NewPCG(1, 2))
	in := map[string]*graphs.Tensor{}
	for _, v := range ours.Inputs() {
		if v.Type != graphs.Float32 || len(v.Shape) == 0 {
			r.Checks = append(r.Checks, Check{Reader: "engine", What: "outputs", Skipped: fmt.Sprintf("input %s is not float32 of a batch", v)})
			return r, nil
		}
		var dims []int
		for _, d := range v.Shape {
			switch {
			case d.Known():
				dims = append(dims, int(d.N))
			case d == ours.Inputs()[0].Shape[0]:
				dims = append(dims, batch)
			default:
				dims = append(dims, rounds)
			}
		}
		in[v.Name] = normals(random, 1, dims...)
	}
	want, err := ours.run(ctx, in)
	if err != nil {
		return r, fmt.Errorf("verify: %s: %w", path, err)
	}
	theirs, err := compile(ctx, file, e, o)
	if err != nil {
		return r, fmt.Errorf("verify: %s: %w", path, err)
	}
	defer theirs.Close()
	for _, v := range ours.Outputs() {
		if file.Graph.Output(v.Name) == nil {
			return r, fmt.Errorf("verify: %s: %w: it lacks the output %q", path, ErrDiffers, v.Name)
		}
	}
	if err := r.outputs(ctx, theirs, in, want, nil); err != nil {
		return r, err
	}
	bytes, err := os.ReadFile(path)
	if err != nil {
		return r, fmt.Errorf("verify: %w", err)
	}
	return r, r.second(bytes, m, in, want)
}

func normals(r *rand.Rand, size float64, dims ...int) *graphs.Tensor {
	t := graphs.NewTensor(graphs.Float32, dims...)
	for i := range t.F32() {
		t.F32()[i] = float32(size * r.NormFloat64())
	}
	return t
}

// outputs compares the outputs of the file; others are readers of the model whose
// gradient jumps, nil if there is none.
func (r *Report) outputs(ctx context.Context, theirs *reader, in, want map[string]*graphs.Tensor, others *copies) error {
	got, err := theirs.run(ctx, in)
	if err != nil {
		return fmt.Errorf("verify: %s: %w", r.File, err)
	}
	for _, v := range theirs.Outputs() {
		c, w := Check{Reader: theirs.name, What: v.Name}, want[v.Name]
		switch {
		case w == nil:
			return fmt.Errorf("verify: %s: %w: it has an output %q", r.File, ErrDiffers, v.Name)
		case v.Name == onnxmodels.GradX:
			err = r.near(ctx, c, got[v.Name], w, 0, others, func(copy *reader) (*graphs.Tensor, error) {
				out, err := copy.on(ctx, in[onnxmodels.X])
				return out[v.Name], err
			})
		default:
			c.Off = distance(got[v.Name], w, 0)
			err = r.add(c, Tolerance)
		}
		if err != nil {
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
		if d := distance(got, w[v], 0); d != 0 {
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
		if err := r.add(Check{Reader: reader, What: name, Off: distance(got, want[name], 0)}, Tolerance); err != nil {
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
		if d := distance(got[name], want[name], 0); d != 0 {
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
// for the same bits, infinite if the two cannot be compared. Differences up to blur
// are none.
func distance(got, want *graphs.Tensor, blur float64) float64 {
	if !sameDims(got, want) {
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
			off = max(off, beyond(a[i]-v, blur)) // max keeps NaN
		}
	}
	if off == 0 {
		return 0
	}
	return off / size
}
