package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ebmrun/export/onnxfile"
	"ebmrun/export/verify"
	weightfile "ebmrun/export/weights"
	"ebmrun/runtime"
	"ebmrun/training/checkpoint/atomicfile"
)

// The forms that an energy is exported in, with the files of each.
var exportForms = map[string][]string{
	"onnx":        {onnxfile.EnergyFile, onnxfile.GradientFile},
	"sampler":     {onnxfile.SamplerFile},
	"safetensors": {weightsFile + ".safetensors"},
	"npz":         {weightsFile + ".npz"},
}

const weightsFile = "weights"

// files lists what a form is for this run: those of its energy, and its
// generator's.
func (r *openedRun) files(form string) []string {
	var files []string
	if r.Model != nil {
		files = append(files, exportForms[form]...)
	}
	if r.Generator != nil {
		switch form {
		case "onnx":
			files = append(files, onnxfile.GeneratorFile)
		case "safetensors", "npz":
			files = append(files, generatorWeights+"."+form)
		}
	}
	return files
}

const generatorWeights = "generator-weights"

type exportFlags struct {
	to          []string
	out         string
	unroll      int
	checkpoint  string
	step, noise float64
	check       bool
}

func exportCommand(c *common) *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export RUN|FILE.onnx",
		Short: "Write a learned energy as plain .onnx files and weights",
		Long: `Write a learned energy for use without ebmrun:

  onnx         energy.onnx       x → energy, score
               energy-grad.onnx  x → energy, score, grad/x
  sampler      sampler.onnx      x0, noise [k, batch, …] → x, energy: k Langevin
                                 steps, k being whatever the noise holds
  safetensors  weights.safetensors
  npz          weights.npz

The reference density, the clip of the gradient and the clamp of the samples are
inside the graphs; step size, noise multiplier and the scale of the data are in
their metadata too (raw value = (x − ebmrun.data_offset) / ebmrun.data_gain). The
noise is standard normal. Files appear together, once all are complete.`,
		Example: example(
			"ebmrun export runs/mnist -o mnist-onnx",
			"ebmrun export runs/mnist --to sampler --unroll 40 --checkpoint last -o mnist-onnx",
			"ebmrun export runs/mnist --check -o mnist-onnx"),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.validate(); err != nil {
				return badInput(err)
			}
			r, err := c.openAny(cmd.Context(), args[0], stepFolder(f.checkpoint))
			if err != nil {
				return err
			}
			return c.export(cmd.Context(), r, f)
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.to, "to", []string{"onnx", "sampler", "safetensors"}, "what to write: onnx, sampler, safetensors, npz")
	fl.StringVarP(&f.out, "out", "o", "", "folder to write into; made if needed")
	fl.IntVar(&f.unroll, "unroll", 0, "write the sampler as so many copies of the step instead of a Loop")
	fl.StringVar(&f.checkpoint, "checkpoint", "", "best, last or step-N (default: best)")
	fl.Float64Var(&f.step, "step", 0, "step size s of the sampler (default: as in learning)")
	fl.Float64Var(&f.noise, "noise", -1, "noise multiplier of the sampler (default: as in learning)")
	fl.BoolVar(&f.check, "check", false, "reopen the files with other readers, compare, and keep them only if they agree")
	cmd.MarkFlagRequired("out")
	return cmd
}

func (f exportFlags) validate() error {
	for _, form := range f.to {
		if exportForms[form] == nil {
			return fmt.Errorf("--to: wanted onnx, sampler, safetensors or npz, got %q", form)
		}
	}
	switch {
	case len(f.to) == 0:
		return errors.New("--to: wanted onnx, sampler, safetensors or npz, got nothing")
	case f.unroll < 0:
		return fmt.Errorf("--unroll: wanted 0 or more steps, got %d", f.unroll)
	case f.step < 0:
		return fmt.Errorf("--step: wanted a positive step size, got %g", f.step)
	}
	return nil
}

// stepFolder turns step-120 into the name of the checkpoint's folder.
func stepFolder(name string) string {
	var n int
	if _, err := fmt.Sscanf(name, "step-%d", &n); err == nil && name == fmt.Sprintf("step-%d", n) {
		return fmt.Sprintf("step-%06d", n)
	}
	return name
}

// exportMeta is what the files say about where the model came from: what a file
// said itself, or its run.
func exportMeta(r *openedRun, f exportFlags) (onnxfile.Meta, error) {
	meta := metaOf(r)
	if r.State == nil {
		var err error
		if meta, err = onnxfile.ReadMeta(r.Model.Model); err != nil {
			return meta, badInput(fmt.Errorf("%s: %w", r.Name, err))
		}
	}
	meta.Version = version()
	if f.step > 0 {
		meta.Step.Size = f.step
	}
	if f.noise >= 0 {
		meta.Step.Noise = f.noise
	}
	if meta.Step.Size == 0 && slices.Contains(f.to, "sampler") {
		return meta, badInput(fmt.Errorf("%s says no step size: give --step and --noise", r.Name))
	}
	return meta, nil
}

// export writes the files into a folder of its own, checks them there if asked,
// and moves them to their place.
func (c *common) export(ctx context.Context, r *openedRun, f exportFlags) error {
	meta, err := exportMeta(r, f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.out, 0o777); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(f.out, ".export-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	var files []string
	for _, form := range f.to {
		for _, name := range r.files(form) {
			if slices.Contains(files, name) {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := writeExport(filepath.Join(temp, name), r, meta, f.unroll); err != nil {
				return err
			}
			files = append(files, name)
		}
	}
	if len(files) == 0 {
		return badInput(fmt.Errorf("%s: %s has nothing of the forms %v", r.Name, r.Head.System, f.to))
	}
	if f.check {
		if err := c.checkExport(ctx, temp, files, r, meta); err != nil {
			return err
		}
	}
	// Very large weights lie in a file of their own, NAME.onnx.data, which goes first.
	written, err := os.ReadDir(temp)
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(written) {
		if err := os.Rename(filepath.Join(temp, e.Name()), filepath.Join(f.out, e.Name())); err != nil {
			return err
		}
	}
	if err := atomicfile.SyncDir(f.out); err != nil {
		return err
	}
	if !c.quiet {
		for _, name := range files {
			path := filepath.Join(f.out, name)
			if st, err := os.Stat(path); err == nil {
				fmt.Fprintf(c.out, "%s: %d bytes\n", printable(path), st.Size())
			}
		}
	}
	return nil
}

func writeExport(path string, r *openedRun, meta onnxfile.Meta, unroll int) error {
	save := func(fill func(io.Writer) error) error { return atomicfile.Write(path, fill) }
	about := map[string]string{"format": "pt", "ebmrun.system": meta.System, "ebmrun.data": meta.Data}
	switch filepath.Base(path) {
	case onnxfile.EnergyFile:
		return onnxfile.Energy(path, r.Model, meta)
	case onnxfile.GradientFile:
		return onnxfile.Gradient(path, r.Model, meta)
	case onnxfile.SamplerFile:
		return onnxfile.Sampler(path, r.Model, meta, unroll)
	case onnxfile.GeneratorFile:
		return onnxfile.Generator(path, r.Generator, meta)
	case generatorWeights + ".npz":
		return save(func(w io.Writer) error { return weightfile.NPZ(w, weightfile.Of(r.Generator.Model)) })
	case generatorWeights + ".safetensors":
		return save(func(w io.Writer) error { return weightfile.Safetensors(w, weightfile.Of(r.Generator.Model), about) })
	case weightsFile + ".npz":
		return save(func(w io.Writer) error { return weightfile.NPZ(w, weightfile.Of(r.Model.Model)) })
	}
	return save(func(w io.Writer) error { return weightfile.Safetensors(w, weightfile.Of(r.Model.Model), about) })
}

// checkExport compares the files with the model and logs what was compared.
func (c *common) checkExport(ctx context.Context, dir string, files []string, r *openedRun, meta onnxfile.Meta) error {
	engine, err := c.engineOrRef(ctx)
	if err != nil {
		return err
	}
	for _, name := range files {
		if name == onnxfile.GeneratorFile || strings.HasPrefix(name, generatorWeights) {
			c.say(name + ": generators are not compared")
			continue
		}
		path := filepath.Join(dir, name)
		var report verify.Report
		if strings.HasSuffix(name, ".onnx") {
			report, err = verify.ONNX(ctx, path, r.Model, meta.Step, engine, runtime.Options{Threads: c.threads})
		} else {
			report, err = verify.Weights(path, r.Model)
		}
		if err != nil {
			return err
		}
		for _, check := range report.Checks {
			c.say(name + ": " + check.String())
		}
	}
	return nil
}
