package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"ebmrun/runtime"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ortlib"
	"ebmrun/runtime/orttraining"
	"ebmrun/runtime/ref"
	"ebmrun/training/data"
)

// cgoFix mends a build without cgo.
const cgoFix = "install a C compiler (gcc or clang) and build again with CGO_ENABLED=1"

func doctorCommand(c *common) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Tell what can run on this machine, and what mends the rest",
		Long: `Tell what can run on this machine: the build, the ONNX Runtime library and what
led to it, each execution provider (tried on a small gradient graph and compared
with the CPU provider), the pure-Go interpreter, the cache folders and the package
clients that setup and data use. Each thing missing gets the line that mends it.

The exit status is 1 if nothing can run or, with --provider P, if P cannot.`,
		Example: example("ebmrun doctor", "ebmrun doctor --provider openvino --json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h := c.examine(cmd.Context())
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			if asJSON {
				return errors.Join(c.printJSON(h), h.verdict(c.provider))
			}
			return errors.Join(h.write(c), h.verdict(c.provider))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as a JSON object")
	return cmd
}

// health is what doctor finds out.
type health struct {
	EBMRun string `json:"ebmrun"` // version
	ortlib.Diagnosis
	Data     string `json:"data"`     // folder of obtained data
	Training string `json:"training"` // what there is of ONNX Runtime's training builds
	Trains   bool   `json:"trains"`   // whether it can be used
}

func (c *common) examine(ctx context.Context) health {
	h := health{EBMRun: version(), Diagnosis: ort.Diagnose(ctx, c.ortLibrary)}
	t := ortlib.Trial{Provider: refProvider, Works: true}
	if _, err := try(ctx, ref.New(), runtime.Options{Threads: c.threads}); err != nil {
		t.Works, t.Reason = false, err.Error()
	}
	h.Trials = append(h.Trials, t)
	if dir, err := data.CacheDir(); err == nil {
		h.Data = dir
	}
	h.Training, h.Trains = trainingText(ctx)
	return h
}

// trainingText tells what there is of ONNX Runtime's training builds, and what the rest takes.
func trainingText(ctx context.Context) (text string, ok bool) {
	text, ok = trainingBuild(ctx, orttraining.CPU, runtime.CPU)
	cuda, runs := trainingBuild(ctx, orttraining.CUDA, runtime.CUDA)
	return text + "; on cuda: " + cuda, ok || runs
}

// trainingBuild tells whether a training build can be used on a provider, and else what it takes.
func trainingBuild(ctx context.Context, b orttraining.Build, provider string) (text string, ok bool) {
	python, err := b.Find()
	if errors.Is(err, orttraining.ErrMissing) {
		path, version, err := b.Base(ctx)
		if err != nil {
			return "not installed: " + err.Error(), false
		}
		return fmt.Sprintf("not installed; `%s` makes it with Python %s (%s)", b.Command, version, path), false
	}
	if err != nil {
		return err.Error(), false
	}
	e, err := orttraining.Open(ctx, python)
	if err != nil {
		return err.Error(), false
	}
	defer e.Close()
	if lacks := e.Lacks(ctx, provider); lacks != nil {
		return e.Library() + ": " + strings.Join(lacks, "; "), false
	}
	if _, err := try(ctx, e, runtime.Options{Provider: provider}); err != nil {
		return e.Library() + ": " + err.Error(), false
	}
	return e.Library() + ", runs, for --gradients ort-training", true
}

func (h health) write(c *common) error {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	row := func(ok bool, name, format string, args ...any) {
		mark := "ok"
		if !ok {
			mark = "--"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", mark, name, oneLine(fmt.Sprintf(format, args...)))
	}
	row(true, "ebmrun", "%s, %s, %s, %d processors", h.EBMRun, h.Go, h.System, h.Cores)
	if h.Cgo {
		row(true, "cgo", "on")
	} else {
		row(false, "cgo", "off, so ONNX Runtime cannot be loaded")
	}
	if h.Library == nil {
		row(false, "ONNX Runtime", "not found")
	} else {
		row(h.Version != "", "ONNX Runtime", "%s, %s (%s)", cmp.Or(h.Version, "not loaded"), h.Library.Path, h.Library.Rule)
	}
	for _, t := range h.Trials {
		row(t.Works, t.Provider, "%s", trialText(t))
	}
	row(h.Trains, "ort-training", "%s", h.Training)
	row(h.Cache != "", "cache", "%s", cacheText(h.Cache))
	row(h.Data != "", "data", "%s", cacheText(h.Data))
	for _, t := range h.Tools {
		row(t.Path != "", t.Name, "%s (%s)", cmp.Or(t.Version, t.Path, "not installed"), t.Purpose)
	}
	err := w.Flush()
	for _, line := range h.Advice {
		fmt.Fprintf(c.out, "to mend: %s\n", oneLine(line))
	}
	return err
}

func trialText(t ortlib.Trial) string {
	if !t.Works {
		return cmp.Or(t.Reason, "does not run")
	}
	text := "runs a small gradient graph"
	if t.Provider == refProvider {
		text += " in plain Go, with no library"
	}
	if v := t.Verdict; v != nil {
		text += fmt.Sprintf(", agrees with cpu (relative distance %.1g), %.2g ms a call", v.Distance, 1e3*v.Seconds)
		var nodes []string
		for _, p := range v.Elsewhere {
			nodes = append(nodes, p.String())
		}
		if nodes != nil {
			text += "; given to others: " + strings.Join(nodes, ", ")
		}
	}
	return text
}

// cacheText is a folder and what lies in it.
func cacheText(dir string) string {
	if dir == "" {
		return "no folder: set EBMRUN_CACHE"
	}
	size, err := sizeOnDisk(dir)
	if err != nil {
		return dir + ", empty"
	}
	return dir + ", " + byteText(size)
}

// verdict is an error if the provider asked for does not run or, where none was,
// if nothing does.
func (h health) verdict(asked string) error {
	for _, t := range h.Trials {
		if t.Works && (asked == runtime.Auto || asked == t.Provider) {
			return nil
		}
	}
	if asked == runtime.Auto {
		return errors.New("doctor: nothing can run on this machine")
	}
	return fmt.Errorf("doctor: provider %s does not run on this machine", asked)
}
