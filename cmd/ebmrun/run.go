package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"ebmrun/export/onnxfile"
	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/chain"
	"ebmrun/onnxmodels/generator"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/checkpoint"
	"ebmrun/training/record"
)

// An openedRun is a learned energy with what sampling it needs to know. It comes
// from a run folder or from an energy.onnx with its metadata.
type openedRun struct {
	Name     string
	Manifest record.Manifest // zero for a file
	Head     runHead
	State    *checkpoint.State // nil for a file

	Model     *onnxmodels.Model // the energy, nil for a generator alone
	Generator *generator.Model  // nil for an energy alone
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
	set, _, err := c.loadSource(ctx, head.Source)
	if err != nil {
		return nil, err
	}
	settings, err := row.preset("small", []int{set.C, set.H, set.W}, set.N)
	if err != nil {
		// the run's own file holds every setting, whatever the preset was
		if settings, err = row.preset("digits", []int{set.C, set.H, set.W}, set.N); err != nil {
			return nil, err
		}
	}
	if err := merge(settings, file); err != nil {
		return nil, badInput(fmt.Errorf("%s: %w", dir, err))
	}
	set, _ = rescale(settings, set, set)
	r.Gain, r.Offset, r.Lo, r.Hi = set.Gain, set.Offset, set.Lo, set.Hi
	engine, err := c.engine(ctx)
	if err != nil {
		return nil, err
	}
	e := environment{engine: engine, bind: bind.Options{Runtime: c.options()}, seed: m.Seed, dims: dimsOf(set)}
	return r, row.open(ctx, e, settings, r)
}

// openEnergy opens an energy.onnx: a model with input x and outputs energy and
// score, and settings of sampling in its metadata where it was exported here.
func openEnergy(path string) (*openedRun, error) {
	m, err := onnxio.Read(path)
	if err != nil {
		return nil, badInput(err)
	}
	if m.Graph.Output(onnxmodels.Score) == nil && m.Graph.Output(onnxmodels.Energy) != nil {
		// an energy made elsewhere: its score is −U
		if err := addScore(m); err != nil {
			return nil, badInput(fmt.Errorf("%s: %w", path, err))
		}
	}
	model, err := onnxmodels.Of(m)
	if err != nil {
		return nil, badInput(fmt.Errorf("%s: %w", path, err))
	}
	meta, err := onnxfile.ReadMeta(m)
	if err != nil {
		return nil, badInput(fmt.Errorf("%s: %w", path, err))
	}
	r := &openedRun{Name: path, Model: model, Lo: -1, Hi: 1, Sigma: meta.Sigma, Gaussian: meta.Sigma > 0, Gain: meta.Gain, Offset: meta.Offset}
	if r.Gain == 0 {
		r.Gain = 1
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

// open opens a run folder or an .onnx file that holds an energy.
func (c *common) open(ctx context.Context, path, checkpointName string) (*openedRun, error) {
	r, err := c.openAny(ctx, path, checkpointName)
	if err == nil && r.Model == nil {
		return nil, badInput(fmt.Errorf("%s: %s learns no energy, which this needs", path, r.Head.System))
	}
	return r, err
}

// openAny opens a run folder or an .onnx file.
func (c *common) openAny(ctx context.Context, path, checkpointName string) (*openedRun, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, badInput(err)
	}
	if info.IsDir() {
		return openRun(ctx, c, path, checkpointName)
	}
	return openEnergy(path)
}
