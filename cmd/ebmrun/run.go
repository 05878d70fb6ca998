package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ebmrun/export/onnxfile"
	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/chain"
	"ebmrun/onnxmodels/generator"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/inverseoptimalcontrol"
	"ebmrun/training/record"
)

// An openedRun is what a system has learned, with what using it needs to know. It
// comes from a run folder, or from an energy.onnx or generator.onnx with its
// metadata.
type openedRun struct {
	Name     string
	Dims     []int           // of one example
	like     *data.Set       // what was learned from, for its shape and kind; nil for a file
	From     []int           // of what a training.Translator takes, nil if that has Dims too
	Manifest record.Manifest // zero for a file
	Head     runHead
	State    *checkpoint.State // nil for a file

	Model     *onnxmodels.Model // the energy, nil if none is learned
	Generator *generator.Model  // nil if none is learned
	Drafts    training.Drawer   // where chains begin if not at the generator's draws, else nil
	Langevin  training.Langevin
	Residual  float64   // deviation of the generator residual x − g(z)
	Sigma     float64   // of the reference density, 0 for the uniform one
	Gaussian  bool      // chains begin with Gaussian noise
	Bank      []float32 // persistent chains, nil if there are none

	// Learned is the system with its networks bound, for tasks that ask it for an
	// ability: a training.Drawer, Reconstructor, Interpolator, Scorer or Translator.
	// Networks are the ones to export besides Model and Generator, by file name
	// without ending. release, if set, closes what Learned holds.
	Learned  any
	Networks map[string]*graphs.Model
	Given    *onnxmodels.Model // an energy under conditions, which has a sampler, else nil
	release  func() error

	// value = raw·Gain + Offset; Lo and Hi bound the values, both 0 if nothing does
	Gain, Offset float64
	Lo, Hi       float32
}

// Close lets go of what Learned holds.
func (r *openedRun) Close() error {
	if r.release == nil {
		return nil
	}
	return r.release()
}

// openRun restores a run folder's energy from a checkpoint: "best" (the last
// where none is marked), "last", "step-000123", or "".
func openRun(ctx context.Context, c *common, dir, name string) (*openedRun, error) {
	m, err := record.ReadManifest(dir)
	if err != nil {
		return nil, badInput(err)
	}
	head, file, err := readConfig(filepath.Join(dir, "config.yaml"))
	if err != nil {
		return nil, badInput(err)
	}
	row, err := findSystem(head.System)
	if err != nil {
		return nil, err
	}
	r := &openedRun{Name: dir, Manifest: m, Head: head}
	checkpoints := filepath.Join(dir, "checkpoints")
	if name == "" || name == checkpoint.Best {
		r.State, err = checkpoint.Load(checkpoints, checkpoint.Best)
		if name == "" && errors.Is(err, checkpoint.ErrNone) {
			r.State, err = checkpoint.Load(checkpoints, checkpoint.Last)
		}
	} else {
		r.State, err = checkpoint.Load(checkpoints, name)
	}
	if err != nil {
		return nil, badInput(err)
	}
	// The data's shape and scale; the examples themselves are not needed.
	src := head.Source
	if intakes[row.Name].maps { // their scale is always the same
		src.Limit = 2
	}
	set, _, b, _, err := c.loadSources(ctx, row, src)
	if err != nil {
		return nil, err
	}
	settings, err := row.written(file, set)
	if err != nil {
		return nil, badInput(fmt.Errorf("%s: %w", dir, err))
	}
	set, _ = rescale(settings, set, set)
	r.like = set
	r.Dims, r.Gain, r.Offset, r.Lo, r.Hi = dimsOf(set), set.Gain, set.Offset, set.Lo, set.Hi
	engine, err := c.engine(ctx)
	if err != nil {
		return nil, err
	}
	e := environment{engine: engine, say: c.say, bind: bind.Options{Runtime: c.options()}, seed: m.Seed, dims: r.Dims, given: dimsOf(set.Given), dimsB: dimsOf(b)}
	if err := row.open(ctx, e, settings, r); err != nil {
		if errors.Is(err, checkpoint.ErrUnfit) {
			err = badInput(fmt.Errorf("%s: %w", dir, unfit(err)))
		}
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// unfit says what to do about a checkpoint that does not fit; other errors stay as they are.
func unfit(err error) error {
	if !errors.Is(err, checkpoint.ErrUnfit) {
		return err
	}
	return fmt.Errorf("%w: settings or data have changed, or a name stands for another network than it did: the ebmrun that began the run reads it, or learn anew", err)
}

// openFile opens an energy.onnx, a model with input x and outputs energy and
// score, or a generator.onnx, from z to x. Settings of sampling come from the
// metadata of files exported here.
func openFile(path string) (*openedRun, error) {
	m, err := onnxio.Read(path)
	if err != nil {
		return nil, badInput(err)
	}
	meta, err := onnxfile.ReadMeta(m)
	if err != nil {
		return nil, badInput(fmt.Errorf("%s: %w", path, err))
	}
	r := &openedRun{Name: path, Lo: -1, Hi: 1, Sigma: meta.Sigma, Gaussian: meta.Sigma > 0, Gain: meta.Gain, Offset: meta.Offset}
	if r.Head.System = meta.System; r.Gain == 0 {
		r.Gain = 1
	}
	g := m.Graph
	switch {
	case g.Output(onnxmodels.Energy) != nil && g.Input(onnxmodels.X) != nil:
		if g.Output(onnxmodels.Score) == nil { // an energy made elsewhere: its score is −U
			if err := addScore(m); err != nil {
				return nil, badInput(fmt.Errorf("%s: wanted outputs energy, score; got %s: %w", path, valueNames(g.Outputs), err))
			}
		}
		if r.Model, err = onnxmodels.Of(m); err != nil {
			return nil, badInput(fmt.Errorf("%s: %w", path, err))
		}
		r.Dims = r.Model.Dims
	case g.Input(generator.Z) != nil && g.Output(generator.X) != nil:
		z, x := g.Input(generator.Z), g.Output(generator.X)
		if z.Type != graphs.Float32 || x.Type != graphs.Float32 || len(z.Shape) != 2 || !z.Shape[1:].Known() || len(x.Shape) < 2 || !x.Shape[1:].Known() {
			return nil, badInput(fmt.Errorf("%s: wanted codes z float32[batch, d] and examples x float32[batch, …] of known size, got %v and %v", path, z, x))
		}
		r.Generator = &generator.Model{Model: m, Codes: int(z.Shape[1].N), Dims: x.Shape[1:].Ints()}
		r.Dims, r.Residual = r.Generator.Dims, 1 // which the forward pass does not use
	default:
		return nil, badInput(fmt.Errorf("%s: wanted an energy, x → energy, score, or a generator, z → x; got %s → %s", path, valueNames(g.Inputs), valueNames(g.Outputs)))
	}
	step := meta.Step
	r.Langevin = training.Langevin{Steps: meta.Steps, Step: step.Size, Noise: step.Noise, GradClip: step.GradClip, Clamp: [2]float64{step.ClampMin, step.ClampMax}}
	return r, nil
}

// metaOf is what an export says about a run.
func metaOf(r *openedRun) onnxfile.Meta {
	l := r.Langevin
	return onnxfile.Meta{
		System: r.Head.System, Data: r.Head.Source.Data, Seed: r.Manifest.Seed, Version: version(),
		Step:  chain.Step{Size: l.Step, Noise: l.Noise, GradClip: l.GradClip, ClampMin: l.Clamp[0], ClampMax: l.Clamp[1]},
		Steps: l.Steps, Sigma: r.Sigma, Gain: r.Gain, Offset: r.Offset,
	}
}

func addScore(m *graphs.Model) error {
	b := graphs.NewBuilder(m.Graph)
	u := m.Graph.Output(onnxmodels.Energy)
	b.Output(onnxmodels.Score, b.Neg(u))
	return b.Err()
}

// abilities says what a run can be asked for, by the verb or the task of apply.
var abilities = []struct {
	verb string
	has  func(r *openedRun) bool
}{
	{"sample", func(r *openedRun) bool { return r.Model != nil || r.Generator != nil || is[training.Drawer](r) }},
	{"energy", func(r *openedRun) bool { return r.Model != nil || is[training.Scorer](r) }},
	{"anomaly", func(r *openedRun) bool { return r.Model != nil || is[training.Scorer](r) }},
	{"likelihood", is[annealed]},
	{"interpolate", func(r *openedRun) bool { return r.Model != nil || is[training.Interpolator](r) }},
	{"reconstruct", func(r *openedRun) bool { return r.Model != nil || is[training.Reconstructor](r) }},
	{"inpaint", func(r *openedRun) bool { return r.Model != nil || is[training.Reconstructor](r) }},
	{"recover", func(r *openedRun) bool { return r.Model != nil || is[training.Reconstructor](r) }},
	{"manifold", func(r *openedRun) bool { return is[training.Decoder](r) }},
	{"translate", func(r *openedRun) bool { return is[training.Translator](r) }},
	{"predict", is[*inverseoptimalcontrol.Model]},
	{"explain", is[*inverseoptimalcontrol.Model]},
	{"features", describes},
	{"classify", describes},
	{"cluster", is[training.Clusterer]},
	{"detect", is[training.Detector]},
	{"sketch", is[training.Sketcher]},
	{"parts", is[training.Illustrator]},
	{"superres", func(r *openedRun) bool { return is[training.Refiner](r) || is[training.Enlarger](r) }},
	{"statistics", is[training.Statistician]},
	{"longrun", func(r *openedRun) bool { return r.Model != nil }},
}

func is[A any](r *openedRun) bool { _, ok := r.Learned.(A); return ok }

// lacks is the error of a run that has not what a verb needs; it is nil for one
// that has.
func (r *openedRun) lacks(verb string) error {
	var can []string
	for _, a := range abilities {
		if a.has(r) {
			if can = append(can, a.verb); a.verb == verb {
				return nil
			}
		}
	}
	who := r.Head.System
	if who == "" {
		who = "this file"
	}
	return badInput(fmt.Errorf("%s: %s has not what %s needs; it can %s", r.Name, who, verb, strings.Join(can, ", ")))
}

// open opens a run folder or an .onnx file. The caller closes what it gets.
func (c *common) open(ctx context.Context, path, checkpointName string) (*openedRun, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s: no such run folder or .onnx file", path)
	}
	if err != nil {
		return nil, badInput(err)
	}
	if info.IsDir() {
		return openRun(ctx, c, path, checkpointName)
	}
	return openFile(path)
}
