package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ebmrun/export/ondevice"
	"ebmrun/export/onnxfile"
	"ebmrun/export/verify"
	weightfile "ebmrun/export/weights"
	"ebmrun/graphs"
	"ebmrun/onnxmodels/chain"
	"ebmrun/runtime"
	"ebmrun/training/checkpoint/atomicfile"
)

// exportForms are the forms that a learned system is exported in.
var exportForms = []string{"onnx", "sampler", "safetensors", "npz", ortTraining}

const weightsFile = "weights"

// An exported file is one to write. model is the network that it holds, to
// compare it with, nil if there is nothing to compare; energy says whether it is the energy, its gradient or sampler.
type exportedFile struct {
	name   string
	model  *graphs.Model
	energy bool
	write  func(path string) error
}

// files lists what a form is for this run: the files of its energy, of its
// generator, and of every other network.
func (r *openedRun) files(form string, meta onnxfile.Meta, unroll int) (files []exportedFile) {
	about := map[string]string{"format": "pt", "ebmrun.system": meta.System, "ebmrun.data": meta.Data}
	add := func(m *graphs.Model, energy bool, name string, write func(path string) error) {
		files = append(files, exportedFile{name, m, energy, write})
	}
	weights := func(m *graphs.Model, name string) {
		add(m, false, name+"."+form, func(path string) error {
			return atomicfile.Write(path, func(w io.Writer) error {
				if form == "npz" {
					return weightfile.NPZ(w, weightfile.Of(m))
				}
				return weightfile.Safetensors(w, weightfile.Of(m), about)
			})
		})
	}
	learnable := func(prefix string, a *ondevice.Artifacts, err error) {
		if err != nil {
			add(nil, false, prefix+ondevice.TrainingFile, func(string) error { return err })
			return
		}
		for name, write := range a.Files() {
			add(nil, false, prefix+name, write)
		}
	}
	adamW := ondevice.AdamW{Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8}
	if m := r.Model; m != nil {
		switch form {
		case ortTraining:
			a, err := ondevice.Energy(m, adamW)
			learnable("", a, err)
		case "onnx":
			add(m.Model, true, onnxfile.EnergyFile, func(path string) error { return onnxfile.Energy(path, m, meta) })
			add(m.Model, true, onnxfile.GradientFile, func(path string) error { return onnxfile.Gradient(path, m, meta) })
		case "sampler":
			add(m.Model, true, onnxfile.SamplerFile, func(path string) error { return onnxfile.Sampler(path, m, meta, unroll) })
		default:
			weights(m.Model, weightsFile)
		}
	}
	if m := r.Given; m != nil && form == "sampler" {
		like, err := chain.Sampler(m, meta.Step)
		add(like, false, onnxfile.SamplerFile, func(path string) error { return errors.Join(err, onnxfile.Sampler(path, m, meta, unroll)) })
	}
	others := maps.Clone(r.Networks)
	if r.Generator != nil && form == ortTraining {
		a, err := ondevice.Generator(r.Generator, adamW)
		learnable("generator-", a, err)
	}
	if r.Generator != nil {
		if others == nil {
			others = map[string]*graphs.Model{}
		}
		others["generator"] = r.Generator.Model
	}
	for _, name := range slices.Sorted(maps.Keys(others)) {
		m := others[name]
		switch form {
		case "onnx":
			add(m, false, name+".onnx", func(path string) error {
				if name == "generator" {
					return onnxfile.Generator(path, r.Generator, meta)
				}
				return onnxfile.Network(path, m, meta, fmt.Sprintf("The %s of a learned %s.", name, meta.System))
			})
		case "safetensors", "npz":
			if !repeated(name, others) {
				weights(m, name+"-weights")
			}
		}
	}
	return files
}

// repeated tells whether another network has all weights of this one, name by name: a larger one
// that it is a part of, or one of as many weights and fewer nodes that it is made from.
func repeated(name string, nets map[string]*graphs.Model) bool {
	m, mine := nets[name], weightfile.Of(nets[name])
	for other, o := range nets {
		theirs := weightfile.Of(o)
		first := cmp.Or(cmp.Compare(len(mine), len(theirs)), cmp.Compare(len(o.Graph.Nodes), len(m.Graph.Nodes)), cmp.Compare(other, name))
		if len(mine) > 0 && first < 0 && within(mine, theirs) {
			return true
		}
	}
	return false
}

// within tells whether b has every tensor of a, under the same name.
func within(a, b weightfile.Tensors) bool {
	for name, t := range a {
		if u := b[name]; u == nil || t.Type != u.Type || !slices.Equal(t.Dims, u.Dims) || !reflect.DeepEqual(t.Data, u.Data) {
			return false
		}
	}
	return true
}

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
		Short: "Write what was learned as plain .onnx files and weights",
		Long: `Write every network of a run for use without ebmrun:

  onnx         energy.onnx       x → energy, score
               energy-grad.onnx  x → energy, score, grad/x
               generator.onnx    z → x, and NAME.onnx for any other network
  sampler      sampler.onnx      x0, noise [k, batch, …] → x, energy: k Langevin
                                 steps, k being whatever the noise holds; given
                                 too, of energies under conditions
  safetensors  weights.safetensors of the energy, NAME-weights.safetensors of others
  npz          weights.npz, NAME-weights.npz; once where several networks share them

The reference density, the clip of the gradient and the clamp of the samples are
inside the graphs; step size, noise multiplier and the scale of the data are in
their metadata too (raw value = (x − ebmrun.data_offset) / ebmrun.data_gain). The
noise is standard normal. Files appear together, once all are complete.`,
		Example: example(
			"ebmrun export runs/mnist -o mnist-onnx",
			"ebmrun export runs/mnist --to sampler --unroll 40 --checkpoint last -o mnist-onnx",
			"ebmrun export runs/mnist --check -o mnist-onnx",
			"ebmrun export runs/mnist --to ort-training -o mnist-training"),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.validate(); err != nil {
				return badInput(err)
			}
			r, err := c.open(cmd.Context(), args[0], stepFolder(f.checkpoint))
			if err != nil {
				return err
			}
			defer r.Close()
			return c.export(cmd.Context(), r, f)
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.to, "to", []string{"onnx", "sampler", "safetensors"}, "what to write: onnx, sampler, safetensors, npz, ort-training")
	fl.StringVarP(&f.out, "out", "o", "", "folder to write into; made if needed")
	fl.IntVar(&f.unroll, "unroll", 0, "write the sampler as so many copies of the step instead of a Loop")
	fl.StringVar(&f.checkpoint, "checkpoint", "", "best, last or step-NNNNNN (default: best)")
	fl.Float64Var(&f.step, "step", 0, "step size s of the sampler (default: as in learning)")
	fl.Float64Var(&f.noise, "noise", -1, "noise multiplier of the sampler (default: as in learning)")
	fl.Lookup("noise").DefValue = "0" // the text says it
	fl.BoolVar(&f.check, "check", false, "reopen the files with other readers, compare, and keep them only if they agree")
	cmd.MarkFlagRequired("out")
	return cmd
}

func (f exportFlags) validate() error {
	for _, form := range f.to {
		if !slices.Contains(exportForms, form) {
			return fmt.Errorf("--to: wanted onnx, sampler, safetensors, npz or ort-training, got %q", form)
		}
	}
	switch {
	case len(f.to) == 0:
		return errors.New("--to: wanted onnx, sampler, safetensors, npz or ort-training, got nothing")
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

// network is what a file held: an energy, or a generator.
func (r *openedRun) network() *graphs.Model {
	if r.Model != nil {
		return r.Model.Model
	}
	return r.Generator.Model
}

// exportMeta is what the files say about where the model came from: what a file
// said itself, or its run.
func exportMeta(r *openedRun, f exportFlags) (onnxfile.Meta, error) {
	meta := metaOf(r)
	if r.State == nil {
		var err error
		if meta, err = onnxfile.ReadMeta(r.network()); err != nil {
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
	if (r.Model != nil || r.Given != nil) && meta.Step.Size == 0 && slices.Contains(f.to, "sampler") {
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
	var files []exportedFile
	for _, form := range slices.Compact(slices.Sorted(slices.Values(f.to))) {
		files = append(files, r.files(form, meta, f.unroll)...)
	}
	if len(files) == 0 {
		return badInput(fmt.Errorf("%s: %s has nothing of the forms %v", r.Name, meta.System, f.to))
	}
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := file.write(filepath.Join(temp, file.name)); err != nil {
			return err
		}
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
		for _, file := range files {
			path := filepath.Join(f.out, file.name)
			if st, err := os.Stat(path); err == nil {
				fmt.Fprintf(c.out, "%s: %s\n", printable(path), byteText(st.Size()))
			}
		}
	}
	return nil
}

// checkExport compares the files with the models and logs what was compared.
func (c *common) checkExport(ctx context.Context, dir string, files []exportedFile, r *openedRun, meta onnxfile.Meta) error {
	engine, err := c.engineOrRef(ctx)
	if err != nil {
		return err
	}
	for _, f := range files {
		path, o := filepath.Join(dir, f.name), runtime.Options{Threads: c.threads}
		var report verify.Report
		switch {
		case f.model == nil:
			continue // not a network by itself
		case f.energy:
			report, err = verify.ONNX(ctx, path, r.Model, meta.Step, engine, o)
		case strings.HasSuffix(f.name, ".onnx"):
			report, err = verify.Network(ctx, path, f.model, engine, o)
		default:
			report, err = verify.Weights(path, f.model)
		}
		if err != nil {
			return err
		}
		for _, check := range report.Checks {
			c.say(f.name + ": " + check.String())
		}
	}
	return nil
}
