package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/conditional"
	"ebmrun/onnxmodels/encoder"
	"ebmrun/onnxmodels/flow"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/training"
	"ebmrun/training/accept"
	"ebmrun/training/bind"
	"ebmrun/training/record"
)

type verifyFlags struct {
	seeds  int
	only   []string
	list   bool
	asJSON bool
	out    string
}

// An acceptance is what verify finds.
type acceptance struct {
	System   string         `json:"system"`
	Version  string         `json:"version"`
	Seed     uint64         `json:"seed"`
	Seeds    int            `json:"seeds"`
	Seconds  float64        `json:"seconds"`
	Accepted bool           `json:"accepted"`
	Checks   []accept.Check `json:"checks"`
}

func verifyCommand(c *common) *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify SYSTEM | --list",
		Short: "Show that a learning system works, and that a broken one would not pass",
		Long: `Run the acceptance of a learning system at toy size and show what was measured
beside what is required: exact checks of the mechanics, then learning runs in
three arms, W as specified, U without updates and F with the sign of the update
turned round. W must meet the thresholds, beat U, and F must fail.

With several seeds the median decides; an exact check must be met by each.
The exit status is 5 where something is not met.`,
		Example: example(
			"ebmrun verify generative-convnet",
			"ebmrun verify generative-convnet --only ring,texture --json",
			"ebmrun verify generative-convnet --seeds 3 -o acceptance"),
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.list && len(args) == 0:
				for _, s := range accept.Suites {
					fmt.Fprintln(c.out, s.System)
				}
				return nil
			case f.list || len(args) == 0:
				return badInput(errors.New("verify: wanted a system, or --list alone"))
			}
			return c.verify(cmd.Context(), args[0], f)
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&f.seeds, "seeds", 1, "so many seeds from --seed on")
	fl.StringSliceVar(&f.only, "only", nil, "only these items")
	fl.BoolVar(&f.list, "list", false, "list the systems that have an acceptance")
	fl.BoolVar(&f.asJSON, "json", false, "as a JSON object")
	fl.StringVarP(&f.out, "out", "o", "", "folder for pictures, a JSON file and a Markdown table")
	return cmd
}

func (c *common) verify(ctx context.Context, name string, f verifyFlags) error {
	suite, err := accept.Find(name)
	if err != nil {
		return badInput(err)
	}
	if f.seeds < 1 {
		return badInput(fmt.Errorf("--seeds: wanted at least 1, got %d", f.seeds))
	}
	if err := suite.Check(f.only); err != nil {
		return badInput(err)
	}
	engine, err := c.engine(ctx)
	if err != nil {
		return err
	}
	if f.out != "" {
		if err := os.MkdirAll(f.out, 0o777); err != nil {
			return err
		}
	}
	began := c.now()
	var p *progress
	var what string
	var runs [][]accept.Check
	for k := range f.seeds {
		seed := c.seed + uint64(k)
		env := accept.Env{
			Seed: seed,
			Say:  func(line string) { c.say(fmt.Sprintf("seed %d: %s", seed, line)) },
			Step: func(now string, done, total int) {
				if p == nil || now != what {
					if p != nil {
						p.finish()
					}
					p, what = c.progress(now, 0, total), now
				}
				if p.step(done, nil); done == total {
					p.finish()
					p = nil
				}
			},
			Show: func(tag string, img image.Image) error {
				if f.out == "" {
					return nil
				}
				return record.WritePNG(filepath.Join(f.out, fmt.Sprintf("%s-%d.png", tag, seed)), img)
			},
		}
		binders(&env, engine, c.options())
		checks, err := suite.Run(ctx, env, f.only...)
		if p != nil {
			p.finish()
			p = nil
		}
		if err != nil {
			return err
		}
		runs = append(runs, checks)
	}
	a := acceptance{System: name, Version: version(), Seed: c.seed, Seeds: f.seeds, Seconds: c.now().Sub(began).Round(time.Second).Seconds()}
	if a.Checks, err = accept.Median(runs); err != nil {
		return err
	}
	a.Accepted = accept.Accepted(a.Checks)
	return c.report(a, f)
}

// binders puts networks of every kind on an engine.
func binders(e *accept.Env, engine runtime.Engine, o runtime.Options) {
	e.Bind = func(ctx context.Context, m *onnxmodels.Model) (accept.Energy, error) {
		return bind.New(ctx, m, engine, bind.Options{Runtime: o})
	}
	e.BindGenerator = func(ctx context.Context, m *generator.Model, sigma float64) (accept.Generator, error) {
		return bind.NewGenerator(ctx, m, engine, o, sigma)
	}
	e.BindLatent = func(ctx context.Context, prior *onnxmodels.Model, g *generator.Model, sigma float64) (accept.Energy, accept.Generator, error) {
		p, err := bind.New(ctx, prior, engine, bind.Options{Runtime: o})
		if err != nil {
			return nil, nil, err
		}
		b, err := bind.NewGenerator(ctx, g, engine, o, sigma)
		if err == nil {
			err = b.Under(p)
		}
		return p, b, err
	}
	e.BindFlow = func(ctx context.Context, m *flow.Model) (accept.BoundFlow, error) {
		return bind.NewFlow(ctx, m, engine, o)
	}
	e.BindAutoencoder = func(ctx context.Context, m *encoder.Model, g *generator.Model, sigma float64) (accept.Autoencoder, error) {
		return bind.NewAutoencoder(ctx, m, g, engine, o, sigma)
	}
	e.BindConditional = func(ctx context.Context, m *conditional.Energy, g *conditional.Generator, sigma float64) (training.ConditionalEnergy, training.ConditionalGenerator, func() error, error) {
		net, err := bind.NewConditional(ctx, m, engine, bind.Options{Runtime: o})
		if err != nil {
			return nil, nil, nil, err
		}
		init, err := bind.NewConditionalGenerator(ctx, g, engine, o, sigma)
		if err != nil {
			return nil, nil, nil, errors.Join(err, net.Close())
		}
		return net, init, solver{net, init}.Close, nil
	}
	e.BindEncoded = func(ctx context.Context, prior *onnxmodels.Model, g *conditional.Generator, sigma float64) (training.Energy, training.ConditionalGenerator, func() error, error) {
		p, err := bind.New(ctx, prior, engine, bind.Options{Runtime: o})
		if err != nil {
			return nil, nil, nil, err
		}
		b, err := bind.NewEncoded(ctx, g, engine, o, sigma, p)
		if err != nil {
			return nil, nil, nil, errors.Join(err, p.Close())
		}
		return p, b, func() error { return errors.Join(p.Close(), b.Close()) }, nil
	}
	e.BindMappings = func(ctx context.Context, m *conditional.Mappings) (accept.BoundMappings, error) {
		return bind.NewMappings(ctx, m, engine, o)
	}
}

// report writes what verify has found, to standard output and to files.
func (c *common) report(a acceptance, f verifyFlags) error {
	if f.out != "" {
		var table bytes.Buffer
		fmt.Fprintf(&table, "# %s\n\nseeds %d … %d, %g s, accepted: %v\n\n", a.System, a.Seed, a.Seed+uint64(a.Seeds)-1, a.Seconds, a.Accepted)
		if err := accept.WriteMarkdown(&table, a.Checks); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(f.out, a.System+".md"), table.Bytes(), 0o666); err != nil {
			return err
		}
		text, err := json.MarshalIndent(a, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(f.out, a.System+".json"), append(text, '\n'), 0o666); err != nil {
			return err
		}
	}
	if f.asJSON {
		if err := c.printJSON(a); err != nil {
			return err
		}
	} else if err := accept.WriteTable(c.out, a.Checks); err != nil {
		return err
	}
	if !a.Accepted {
		return &exitError{statusUnmet, errors.New(a.System + " is not accepted: see the table")}
	}
	c.say(fmt.Sprintf("%s is accepted, %g s", a.System, a.Seconds))
	return nil
}
