// Package ondevice writes a learnable network as the artifacts of ONNX Runtime's
// on-device training API, and reads such artifacts. Upstream ended that API with
// version 1.19.2; phones and boards that have it can go on learning from these
// files without Python.
//
//	training_model.onnx   inputs, weights, gradient buffers → loss, …; the buffers
//	                      collect the gradients
//	eval_model.onnx       inputs, weights → loss, …
//	optimizer_model.onnx  AdamW over all weights
//	checkpoint            the weights
//
// The gradients are those of graphs/autodiff, standard ops all; only the ops that
// collect them and the optimizer belong to ONNX Runtime (domain com.microsoft).
package ondevice

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/proto"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/onnxio"
	"ebmrun/graphs/onnxpb"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/generator"
	"ebmrun/training/checkpoint/atomicfile"
)

// Names of the files.
const (
	TrainingFile   = "training_model.onnx"
	EvalFile       = "eval_model.onnx"
	OptimizerFile  = "optimizer_model.onnx"
	CheckpointFile = "checkpoint"
)

// Loss is the scalar output that learning lowers.
const Loss = "loss"

// WeightInput [batch] weighs each example in the loss.
const WeightInput = "weight"

// Artifacts are the four files.
type Artifacts struct {
	Training, Eval, Optimizer *graphs.Model
	Checkpoint                *Checkpoint
}

// AdamW are the optimizer's constants; the learning rate is an input of every step.
type AdamW struct {
	Beta1, Beta2, Epsilon, Decay float64
}

// Energy makes the artifacts of an energy that learns: inputs x [batch, …] and
// weight [batch], outputs loss = Σ weight_i·f(x_i), score and energy [batch]. With
// the weight −1/n for n observed examples and 1/m for m samples the loss has the
// slope of the negative log-likelihood.
func Energy(m *onnxmodels.Model, o AdamW) (*Artifacts, error) {
	return artifacts(m.Model, o, []string{onnxmodels.Score, onnxmodels.Energy}, func(b *graphs.Builder, g *graphs.Graph) (*graphs.Value, error) {
		score := g.Output(onnxmodels.Score)
		return b.Mul(b.Input(WeightInput, graphs.Float32, score.Shape), score), b.Err()
	})
}

// Generator makes the artifacts of a generator that learns: inputs z [batch, d],
// target [batch, …] and weight [batch], outputs loss = Σ weight_i·‖target_i − g(z_i)‖²
// and x [batch, …].
func Generator(m *generator.Model, o AdamW) (*Artifacts, error) {
	return artifacts(m.Model, o, []string{generator.X}, func(b *graphs.Builder, g *graphs.Graph) (*graphs.Value, error) {
		x := g.Output(generator.X)
		d := b.Sub(b.Input(generator.Target, graphs.Float32, x.Shape), x)
		axes := make([]int64, len(m.Dims))
		for i := range axes {
			axes[i] = int64(i + 1)
		}
		e := b.Sum(b.Mul(d, d), false, axes...)
		return b.Mul(b.Input(WeightInput, graphs.Float32, e.Shape), e), b.Err()
	})
}

// artifacts adds the loss, the sum of what term gives, and makes the four parts.
func artifacts(m *graphs.Model, o AdamW, outputs []string, term func(*graphs.Builder, *graphs.Graph) (*graphs.Value, error)) (*Artifacts, error) {
	p, err := autodiff.Prepare(m)
	if err != nil {
		return nil, err
	}
	g := p.Graph
	c := &Checkpoint{Version: checkpointVersion}
	for _, w := range passes.Weights(g) {
		if w.Type != graphs.Float32 {
			return nil, fmt.Errorf("ondevice: weight %s: learning needs float32", w)
		}
		c.Trained = append(c.Trained, Parameter{w.Name, w.Const})
	}
	if len(c.Trained) == 0 {
		return nil, fmt.Errorf("ondevice: graph %q has no weights to learn", g.Name)
	}
	b := graphs.NewBuilder(g)
	b.Prefix(Loss)
	y, err := term(b, g)
	if err != nil {
		return nil, fmt.Errorf("ondevice: %w", err)
	}
	b.Output(Loss, b.Sum(y, false))
	if err := b.Err(); err != nil {
		return nil, fmt.Errorf("ondevice: %w", err)
	}
	if err := passes.CutAt(g, append([]string{Loss}, outputs...)...); err != nil {
		return nil, fmt.Errorf("ondevice: %w", err)
	}
	eval := passes.Clone(p)
	if _, err := passes.WeightsToInputs(eval.Graph); err != nil {
		return nil, fmt.Errorf("ondevice: %w", err)
	}
	train, err := trainingModel(p, c)
	if err != nil {
		return nil, fmt.Errorf("ondevice: %w", err)
	}
	return &Artifacts{Training: train, Eval: eval, Optimizer: optimizer(o), Checkpoint: c}, nil
}

// trainingModel appends the slopes of the loss and has them collected.
func trainingModel(m *graphs.Model, c *Checkpoint) (*graphs.Model, error) {
	b := graphs.NewBuilder(m.Graph)
	weights := passes.Weights(m.Graph)
	slopes, err := autodiff.Append(b, m.Graph.Output(Loss), nil, weights...)
	if err != nil {
		return nil, err
	}
	for i, w := range weights {
		if slopes[i] == nil {
			slopes[i] = b.Zeros(w)
		}
		b.Output(gradient(w.Name), slopes[i])
	}
	if err := b.Err(); err != nil {
		return nil, err
	}
	if err := autodiff.Tidy(m.Graph); err != nil {
		return nil, err
	}
	if _, err := passes.WeightsToInputs(m.Graph); err != nil {
		return nil, err
	}
	g := m.Graph
	var collected []*graphs.Value
	reset := &graphs.Value{Name: "lazy_reset_grad", Type: graphs.Bool, Shape: graphs.MakeShape(1)}
	for _, p := range c.Trained {
		buffer := &graphs.Value{Name: gradient(p.Name) + ".accumulation.buffer", Type: graphs.Float32, Shape: graphs.MakeShape(p.Dims...)}
		out := &graphs.Value{Name: gradient(p.Name) + ".accumulation.out", Type: graphs.Bool, Shape: graphs.MakeShape(1)}
		out.From = &graphs.Node{Name: gradient(p.Name) + "/collect", Op: "InPlaceAccumulatorV2", Domain: microsoft,
			Inputs: []*graphs.Value{buffer, g.Output(gradient(p.Name)), reset}, Outputs: []*graphs.Value{out}}
		g.Nodes, g.Inputs, collected = append(g.Nodes, out.From), append(g.Inputs, buffer), append(collected, out)
	}
	g.Inputs = append(g.Inputs, reset)
	g.Outputs = append(slices.DeleteFunc(g.Outputs, func(v *graphs.Value) bool {
		return slices.ContainsFunc(c.Trained, func(p Parameter) bool { return v.Name == gradient(p.Name) })
	}), collected...)
	m.Opsets = append(m.Opsets, graphs.Opset{Domain: microsoft, Version: 1})
	return m, nil
}

const microsoft = "com.microsoft"

func gradient(weight string) string { return weight + "_grad" }

// optimizer is a single node of ONNX Runtime over sequences of tensors.
func optimizer(o AdamW) *graphs.Model {
	sequence := &onnxpb.TypeProto{Value: &onnxpb.TypeProto_SequenceType{SequenceType: &onnxpb.TypeProto_Sequence{
		ElemType: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(graphs.Float32))}}},
	}}}
	in := []*graphs.Value{
		{Name: "learning_rate", Type: graphs.Float32, Shape: graphs.MakeShape(1)},
		{Name: "step", Type: graphs.Int64, Shape: graphs.MakeShape(1)},
	}
	for _, name := range []string{"params", "gradients", "first_order_moments", "second_order_moments"} {
		in = append(in, &graphs.Value{Name: name, Opaque: sequence})
	}
	out := &graphs.Value{Name: "updated", Type: graphs.Bool, Shape: graphs.MakeShape(1)}
	out.From = &graphs.Node{Name: "adamw", Op: "AdamWOptimizer", Domain: microsoft, Inputs: in, Outputs: []*graphs.Value{out}, Attrs: []*graphs.Attr{
		graphs.F("alpha", o.Beta1), graphs.F("beta", o.Beta2), graphs.F("epsilon", o.Epsilon), graphs.F("weight_decay", o.Decay),
		graphs.I("adam_mode", 0), graphs.I("correct_bias", 1),
	}}
	m := graphs.NewModel(&graphs.Graph{Name: "adamw", Inputs: in, Outputs: []*graphs.Value{out}, Nodes: []*graphs.Node{out.From}})
	m.Opsets = append(m.Opsets, graphs.Opset{Domain: microsoft, Version: 1})
	return m
}

// Files are the four files by name, each as what writes it to a path, whole or
// not at all.
func (a *Artifacts) Files() map[string]func(path string) error {
	model := func(m *graphs.Model) func(string) error {
		return func(path string) error { return onnxio.Write(path, m) }
	}
	return map[string]func(path string) error{
		TrainingFile: model(a.Training), EvalFile: model(a.Eval), OptimizerFile: model(a.Optimizer),
		CheckpointFile: func(path string) error {
			return atomicfile.Write(path, func(w io.Writer) error {
				_, err := w.Write(a.Checkpoint.Encode())
				return err
			})
		},
	}
}

// Write writes the four files into a folder, which must exist.
func (a *Artifacts) Write(dir string) error {
	for name, write := range a.Files() {
		if err := write(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// Read returns the network of a folder of artifacts, whoever made them: the eval
// model with the checkpoint's weights inside, and the checkpoint.
func Read(dir string) (*graphs.Model, *Checkpoint, error) {
	file := filepath.Join(dir, CheckpointFile)
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	c, err := DecodeCheckpoint(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	file = filepath.Join(dir, EvalFile)
	m, err := onnxio.Read(file)
	if err != nil {
		return nil, nil, err
	}
	weights := map[string]*graphs.Tensor{}
	for _, p := range slices.Concat(c.Trained, c.Frozen) {
		in := m.Graph.Input(p.Name)
		if in == nil {
			return nil, nil, fmt.Errorf("%s: the checkpoint holds %q, which is no input", file, p.Name)
		}
		if want := graphs.MakeShape(p.Dims...); in.Type != graphs.Float32 || len(in.Shape) != len(want) || slices.ContainsFunc(zip(in.Shape, want), func(d [2]graphs.Dim) bool { return d[0].Known() && !d[0].Same(d[1]) }) {
			return nil, nil, fmt.Errorf("%s: %s, the checkpoint holds float32%v", file, in, p.Dims)
		}
		weights[p.Name] = p.Tensor
	}
	if err := passes.InputsToWeights(m.Graph, weights); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	return m, c, nil
}

func zip(a, b graphs.Shape) (pairs [][2]graphs.Dim) {
	for i := range a {
		pairs = append(pairs, [2]graphs.Dim{a[i], b[i]})
	}
	return pairs
}
