package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/onnxio"
)

func gradCommand(c *common) *cobra.Command {
	var o autodiff.Options
	var out string
	var check bool
	cmd := &cobra.Command{
		Use:   "grad MODEL.onnx -o GRAD.onnx",
		Short: "Write the gradient of an ONNX model as an ONNX model",
		Long: `Write a model that computes what MODEL computes and the gradient of one output.

The result has the inputs and outputs of MODEL, in order, under their own names
and with their symbolic axes, and after them one output grad/NAME for each input
(or weight) of --wrt, then with --wrt-params one for each weight that the output
depends on. The sum of the output's elements is differentiated; with --vjp, their
sum weighted by one more input, cotangent/OUTPUT.

It is made of standard ops of opset 21 and runs wherever ONNX runs. An op that
cannot be differentiated is refused by name, with exit status 2 and no file.`,
		Example: example(
			"ebmrun grad net.onnx -o net-grad.onnx",
			"ebmrun grad net.onnx --of logits --vjp --wrt image -o net-vjp.onnx",
			"ebmrun grad net.onnx --of loss --wrt-params --params-as-inputs -o net-train.onnx"),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.grad(cmd.Context(), args[0], out, o, check)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Of, "of", "", "output to differentiate (default: the only float output)")
	f.StringSliceVar(&o.Wrt, "wrt", nil, "inputs, or weights by name, to differentiate with respect to (default: all float inputs)")
	f.BoolVar(&o.Params, "wrt-params", false, "also with respect to every float weight that the output depends on")
	f.BoolVar(&o.ParamsAsInputs, "params-as-inputs", false, "make the weights inputs of the same names: those that --wrt names, all if it names none or with --wrt-params")
	f.BoolVar(&o.StraightThrough, "straight-through", false, "let slopes pass quantization unchanged, as if it did not round")
	f.BoolVar(&o.VJP, "vjp", false, "weigh the output's elements by an input cotangent/OUTPUT")
	f.BoolVar(&o.Recompute, "recompute", false, "compute parts of the model again on the way back instead of keeping their values: less memory, more time")
	f.StringVarP(&out, "out", "o", "", "file to write")
	f.BoolVar(&check, "check", false, "compare the gradient with a finite difference on random inputs, and write only if they agree")
	cmd.MarkFlagRequired("out")
	return cmd
}

func (c *common) grad(ctx context.Context, in, out string, o autodiff.Options, check bool) error {
	if sameFile(in, out) {
		return badInput(fmt.Errorf("%s: the gradient would replace the model", out))
	}
	m, err := readModel(in)
	if err != nil {
		return err
	}
	g, err := autodiff.Grad(m, o)
	if err != nil {
		return badInput(fmt.Errorf("%s: %w", in, err))
	}
	g.Producer, g.Version = "ebmrun", version()
	if check {
		if err := c.checkGradient(ctx, g, differentiated(m, o)); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := onnxio.Write(out, g); err != nil {
		return err
	}
	if !c.quiet {
		fmt.Fprintf(c.out, "%s: %d nodes, opset %d; inputs %s; outputs %s\n",
			printable(out), len(g.Graph.Nodes), g.Opset(""), printable(valueNames(g.Graph.Inputs)), printable(valueNames(g.Graph.Outputs)))
	}
	return nil
}

// differentiated is the name of the output that [autodiff.Grad] takes.
func differentiated(m *graphs.Model, o autodiff.Options) string {
	if o.Of != "" {
		return o.Of
	}
	for _, v := range m.Graph.Outputs {
		if v.Type.IsFloat() {
			return v.Name
		}
	}
	return ""
}

// readModel reads a model whose opset the gradient rules cover.
func readModel(path string) (*graphs.Model, error) {
	m, err := onnxio.Read(path)
	if err != nil {
		return nil, badInput(err)
	}
	if err := onnxio.CheckOpset(m); err != nil {
		return nil, badInput(fmt.Errorf("%s: %w", path, err))
	}
	return m, nil
}

// sameFile reports whether two paths name one file that exists.
func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errors.Join(errX, errY) == nil && os.SameFile(x, y)
}

// valueNames lists values for a person: all of them, or the first where they are many.
func valueNames(values []*graphs.Value) string {
	var all []string
	for _, v := range values {
		all = append(all, v.Name)
	}
	if n := len(all); n > 16 {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:8], ", "), n-8)
	}
	return strings.Join(all, ", ")
}
