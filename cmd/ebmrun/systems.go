package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// A system is a learning system that can be trained.
type system struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Paper string `json:"paper"`
}

// systems is every learning system, in the order of the tutorial's chapters.
var systems = []system{
	{"generative-convnet", "Generative ConvNet: maximum-likelihood learning with Langevin sampling", "Xie, Lu, Zhu, Wu, ICML 2016"},
}

func systemsCommand(c *common) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "systems",
		Short:   "List the learning systems",
		Long:    `List the learning systems: the name that other verbs take, what it is, and the paper it comes from.`,
		Example: example("ebmrun systems", "ebmrun systems --json"),
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return c.printJSON(systems)
			}
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			for _, s := range systems {
				fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, s.Title, s.Paper)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as a JSON array")
	return cmd
}
