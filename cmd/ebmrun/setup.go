package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	goruntime "runtime"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"ebmrun/runtime"
	"ebmrun/runtime/ortlib"
	"ebmrun/runtime/orttraining"
)

func setupCommand(c *common) *cobra.Command {
	var plain, full, list, trainer bool
	var cuda string
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Find or obtain ONNX Runtime and check that it runs",
		Long: `Find ONNX Runtime on this machine, or obtain it with the machine's package client
(pip, else npm), check the file against its known hash and unpack it in the cache
folder. Then load it and run a small gradient graph.

A library is looked for as --ort-library says, then in the variables
EBMRUN_ORT_LIBRARY, ONNXRUNTIME_SHARED_LIBRARY_PATH and ORT_DYLIB_PATH, beside
the program, in the cache folder, in Python's site-packages and in the system's
library folders. Only where all this leads nowhere, or where --plain or --full
asks for it, something is downloaded.

--cuda obtains a build with the CUDA and TensorRT providers, for CUDA 13, or for
CUDA 12 where the driver is older than 580; --cuda=12 and --cuda=13 choose. NVIDIA's
driver, the libraries of the CUDA toolkit and cuDNN 9 are not in it: each that is
missing is named, with the package that holds it.

--ort-training obtains ONNX Runtime 1.19.2's training build, for --gradients
ort-training: a Python environment of its own in the cache folder, made with a
CPython of 3.8 to 3.12 on this machine. With --cuda it is the build for CUDA 11 and
cuDNN 8, which takes a CPython of 3.8 to 3.11 on Linux x86-64; what it lacks here is
named in the same way.`,
		Example: example("ebmrun setup", "ebmrun setup --plain", "ebmrun setup --ort-training", "ebmrun setup --ort-training --cuda", "ebmrun setup --list"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case list:
				return c.listPackages()
			case trainer:
				return c.setupTraining(cmd.Context(), cuda)
			case plain && full || plain && cuda != "" || full && cuda != "":
				return badInput(errors.New("setup: wanted one of --plain, --full and --cuda"))
			case cuda != "":
				return c.setupCUDA(cmd.Context(), cuda)
			case plain:
				return c.setup(cmd.Context(), plainPackage())
			case full:
				return c.setup(cmd.Context(), fullPackage())
			}
			return c.setup(cmd.Context(), "")
		},
	}
	f := cmd.Flags()
	f.BoolVar(&plain, "plain", false, "obtain the smallest package, with the CPU provider only, whatever is at hand")
	f.BoolVar(&full, "full", false, "obtain the package with the most providers, whatever is at hand")
	f.StringVar(&cuda, "cuda", "", "obtain the package with the CUDA and TensorRT providers (220 to 253 MB) for CUDA `12` or 13, and say what else they need here")
	f.Lookup("cuda").NoOptDefVal = ofDriver
	f.BoolVar(&trainer, "ort-training", false, "obtain ONNX Runtime 1.19.2's training build, a second source of gradients")
	f.BoolVar(&list, "list", false, "list the packages for this system and obtain nothing")
	return cmd
}

// cudaPackage has the providers for NVIDIA's graphics processors.
const cudaPackage = "onnxruntime-gpu"

// ofDriver stands for the CUDA version that the machine's driver runs.
const ofDriver = "auto"

// setupCUDA obtains the package with the CUDA provider for a version of CUDA and says
// what the machine lacks for it. It is used where the variable or the flag names it,
// since a process loads one library and this one has no OpenVINO.
func (c *common) setupCUDA(ctx context.Context, version string) error {
	switch version {
	case ofDriver:
		version = ortlib.DriverCUDA()
	case "12", "13":
	default:
		return badInput(fmt.Errorf("--cuda: wanted 12 or 13, got %q", version))
	}
	lib, err := c.library(ctx, ortlib.Request{Package: cudaPackage, CUDA: version})
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s; EBMRUN_ORT_LIBRARY=%s makes other verbs use it\n", lib.Path, filepath.Dir(lib.Path))
	if err := c.lacking(lib.Lacks(ctx, runtime.CUDA)); err != nil {
		return err
	}
	fmt.Fprintln(c.out, "driver, CUDA "+version+" and cuDNN are there: see ebmrun doctor --provider cuda")
	return nil
}

// lacking prints what CUDA lacks here, a line for each thing, if anything.
func (c *common) lacking(lacks []string) error {
	if len(lacks) == 0 {
		return nil
	}
	for _, line := range lacks {
		fmt.Fprintln(c.out, "to mend:", line)
	}
	return errors.New("the provider cuda cannot run on this machine yet")
}

// setupTraining obtains a training build, that for CUDA if cuda is not empty, and runs a
// gradient graph on it.
func (c *common) setupTraining(ctx context.Context, cuda string) error {
	build, o := orttraining.CPU, runtime.Options{Provider: runtime.CPU, Threads: c.threads}
	switch cuda {
	case "":
	case ofDriver, "11":
		build = orttraining.CUDA
	default:
		return badInput(fmt.Errorf("--cuda: ONNX Runtime %s's training build is for CUDA 11, got %q", orttraining.Version, cuda))
	}
	python, err := build.Setup(ctx, c.say)
	if err != nil {
		return err
	}
	e, err := orttraining.Open(ctx, python)
	if err != nil {
		return err
	}
	defer e.Close()
	r, err := try(ctx, e, o)
	if err == nil && cuda != "" {
		if err := c.lacking(e.Lacks(ctx, runtime.CUDA)); err != nil {
			fmt.Fprintf(c.out, "%s -m pip install PACKAGE… puts libraries where this build looks for them\n", python)
			return fmt.Errorf("%s: %w", r.Library, err)
		}
		o.Provider = runtime.CUDA
		r, err = try(ctx, e, o)
	}
	if err != nil {
		return fmt.Errorf("%s: running a graph: %w", python, err)
	}
	fmt.Fprintf(c.out, "%s: %s, runs on %s\n", r.Library, python, o.Provider)
	return nil
}

// packagesHere lists the packages for this system, by preference.
func packagesHere() []ortlib.Package {
	var out []ortlib.Package
	for _, p := range ortlib.Packages {
		if p.GOOS == goruntime.GOOS && p.GOARCH == goruntime.GOARCH && !p.OnRequest {
			out = append(out, p)
		}
	}
	return out
}

func (c *common) listPackages() error {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	for _, p := range ortlib.Packages {
		if p.GOOS != goruntime.GOOS || p.GOARCH != goruntime.GOARCH {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\twith %s\tsha256 %s\n", p.Name, p.Version, byteText(p.Size), p.Client, p.SHA256)
	}
	return w.Flush()
}

// setup finds a library, or obtains the named package, and tries it.
func (c *common) setup(ctx context.Context, pack string) error {
	lib, err := c.library(ctx, ortlib.Request{Package: pack})
	if err != nil {
		return err
	}
	if !cgoOn {
		fmt.Fprintf(c.out, "%s (%s)\n", lib.Path, lib.Rule)
		return fmt.Errorf("the library is there, but this build cannot load it: %s", cgoFix)
	}
	c.ortLibrary = lib.Path
	e, err := c.engine(ctx)
	if err != nil {
		return err
	}
	r, err := try(ctx, e, runtime.Options{Provider: runtime.CPU, Threads: c.threads})
	if err != nil {
		return fmt.Errorf("%s: running a graph: %w", lib.Path, err)
	}
	if pack == "" && lib.Beside(runtime.OpenVINO) != nil && fullPackage() != plainPackage() {
		c.say("the provider openvino, often the fastest, is not in it; ebmrun setup --full obtains a build that has it")
	}
	if first, err := ortlib.Find(""); err == nil && first.Path != lib.Path {
		c.say(fmt.Sprintf("other verbs find %s first; EBMRUN_ORT_LIBRARY=%s makes them use this one", first.Path, lib.Path))
	}
	fmt.Fprintf(c.out, "%s: %s (%s), runs\n", r.Library, lib.Path, lib.Rule)
	return nil
}

// library finds the library or obtains it. A package that is named is obtained
// even where a library is at hand.
func (c *common) library(ctx context.Context, r ortlib.Request) (ortlib.Library, error) {
	if r.Package == "" || c.ortLibrary != "" {
		lib, err := ortlib.Find(c.ortLibrary)
		switch {
		case err == nil:
			return lib, nil
		case c.ortLibrary != "":
			return lib, badInput(err)
		case !errors.Is(err, ortlib.ErrNotFound):
			return lib, err // a variable that leads nowhere
		}
	}
	r.Progress = c.say
	lib, err := ortlib.Obtain(ctx, r)
	if err != nil {
		return lib, err
	}
	if size, err := sizeOnDisk(filepath.Dir(lib.Path)); err == nil {
		c.say(fmt.Sprintf("%s in %s", byteText(size), filepath.Dir(lib.Path)))
	}
	return lib, nil
}

// fullPackage is the name of the package for this system that is preferred.
func fullPackage() string {
	if all := packagesHere(); len(all) > 0 {
		return all[0].Name
	}
	return ""
}

// plainPackage is the name of the smallest package for this system.
func plainPackage() string {
	name, size := "", int64(0)
	for _, p := range packagesHere() {
		if name == "" || p.Size < size {
			name, size = p.Name, p.Size
		}
	}
	return name
}
