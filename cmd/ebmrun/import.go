package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"ebmrun/export/ondevice"
	"ebmrun/graphs/onnxio"
)

func importCommand(c *common) *cobra.Command {
	var from, out string
	cmd := &cobra.Command{
		Use:   "import DIR",
		Short: "Make a plain .onnx file of ONNX Runtime's training artifacts",
		Long: `Read a folder of artifacts of ONNX Runtime's on-device training (eval_model.onnx and
checkpoint, whoever made them) and write the network with the learned weights
inside, as a file that grad, inspect, export and any runtime take.`,
		Example: example("ebmrun import phone-artifacts --from ort-training -o model.onnx",
			"ebmrun grad model.onnx --wrt-params -o model-grad.onnx"),
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if from != ortTraining {
				return badInput(fmt.Errorf("--from: wanted %s, got %q", ortTraining, from))
			}
			m, state, err := ondevice.Read(args[0])
			if err != nil {
				return badInput(err)
			}
			if m.Graph.Outputs == nil {
				return badInput(errors.New("a network without outputs"))
			}
			if err := onnxio.Write(out, m); err != nil {
				return err
			}
			values := 0
			for _, p := range append(state.Trained, state.Frozen...) {
				values += p.Len()
			}
			line := fmt.Sprintf("%s: %d weights in %d tensors", printable(out), values, len(state.Trained)+len(state.Frozen))
			if len(state.Frozen) > 0 {
				line += fmt.Sprintf(", %d of them frozen", len(state.Frozen))
			}
			for _, g := range state.Groups {
				line += fmt.Sprintf(", after %d steps", g.Step)
			}
			_, err = fmt.Fprintln(c.out, line)
			return err
		},
	}
	cmd.Flags().StringVar(&from, "from", ortTraining, "what the folder holds: ort-training")
	cmd.Flags().StringVarP(&out, "out", "o", "", "file to write")
	cmd.MarkFlagRequired("out")
	return cmd
}
