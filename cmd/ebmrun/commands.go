package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// The groups that the help text lists verbs under.
const (
	groupLearn   = "learn"
	groupONNX    = "onnx"
	groupMachine = "machine"
)

var groups = []*cobra.Group{
	{ID: groupLearn, Title: "Learn and sample:"},
	{ID: groupONNX, Title: "ONNX files:"},
	{ID: groupMachine, Title: "This machine:"},
}

// commands is every verb, in the order of the help text.
var commands = []struct {
	group string
	make  func(*common) *cobra.Command
}{
	{groupLearn, demoCommand},
	{groupLearn, trainCommand},
	{groupLearn, sampleCommand},
	{groupLearn, evalCommand},
	{groupLearn, applyCommand},
	{groupLearn, verifyCommand},
	{groupLearn, tuneCommand},
	{groupLearn, systemsCommand},
	{groupLearn, dataCommand},
	{groupONNX, exportCommand},
	{groupONNX, importCommand},
	{groupONNX, gradCommand},
	{groupONNX, inspectCommand},
	{groupMachine, setupCommand},
	{groupMachine, doctorCommand},
	{groupMachine, benchCommand},
	{groupMachine, versionCommand},
}

// The help text keeps the table's order.
func init() {
	cobra.EnableCommandSorting = false
	cobra.AddTemplateFunc("plain", plainFlags)
}

// writesGraphs are the verbs whose gradient graphs leave this program.
var writesGraphs = map[string]bool{"grad": true, "export": true, "demo": true}

// samples are the verbs that only run networks, and may do so in a shorter type.
var samples = map[string]bool{"sample": true, "apply": true, "eval": true, "bench": true}

// newRoot assembles the command tree over c.
func newRoot(c *common) *cobra.Command {
	root := &cobra.Command{
		Use:   "ebmrun",
		Short: "Deep energy-based learning on ONNX Runtime",
		Long: `ebmrun trains, samples and ships deep energy-based models.

Energies, generators and flows are ONNX graphs; so are their gradients, which
ebmrun derives; ONNX Runtime runs them all.

Exit status: 0 done; 1 failure; 2 bad usage or input; 3 a numeric guard tripped
and recovery failed; 4 time limit reached, the checkpoint is valid; 5 acceptance
not met; 130 interrupted.`,
		Example: example("ebmrun demo", "ebmrun train generative-convnet --data mnist --out runs/mnist",
			"ebmrun sample runs/mnist -o samples.png", "ebmrun grad net.onnx -o net-grad.onnx"),
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.check(); err != nil {
				return err
			}
			if c.gradients != builtin && writesGraphs[cmd.Name()] {
				return fmt.Errorf("--gradients %s: %s writes graphs of standard ops for any runtime, which only builtin makes", c.gradients, cmd.Name())
			}
			if c.precision != float32s && !samples[cmd.Name()] && (cmd.Parent() == nil || !samples[cmd.Parent().Name()]) {
				return fmt.Errorf("--precision %s is for sampling (sample, apply, bench): %s computes in float32", c.precision, cmd.Name())
			}
			return nil
		},
	}
	root.SetOut(c.out)
	root.SetErr(c.errOut)
	root.SetFlagErrorFunc(usageError)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), "FlagUsages |", "FlagUsages | plain |"))
	root.SetVersionTemplate("ebmrun {{.Version}}\n")
	c.addFlags(root.PersistentFlags())
	root.AddGroup(groups...)
	for _, row := range commands {
		cmd := row.make(c)
		cmd.GroupID = row.group
		c.track(cmd)
		root.AddCommand(cmd)
	}
	root.InitDefaultHelpCmd()
	help, _, _ := root.Find([]string{"help"})
	help.Example = example("ebmrun help train", "ebmrun help apply inpaint")
	help.Args = func(_ *cobra.Command, args []string) error {
		_, _, err := root.Find(args)
		return err
	}
	root.SetHelpCommandGroupID(groupMachine)
	root.SetCompletionCommandGroupID(groupMachine)
	completions(root)
	return root
}

// track notes when a verb starts: an error before that is one of usage.
func (c *common) track(cmd *cobra.Command) {
	if cmd.Args != nil {
		cmd.Args = argued(cmd.Args)
	}
	if inner := cmd.RunE; inner != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err := noNegative(cmd); err != nil {
				return err
			}
			tidy, err := makeRoom(cmd)
			if err != nil {
				return err
			}
			defer tidy()
			c.running = true
			return inner(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		c.track(sub)
	}
}

// example joins the lines of an Example text.
func example(lines ...string) string { return "  " + strings.Join(lines, "\n  ") }
