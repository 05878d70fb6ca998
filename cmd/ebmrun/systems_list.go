package main

import (
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"ebmrun/training/check"
	"ebmrun/training/data"
)

func systemsCommand(c *common) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "systems [SYSTEM [PRESET]]",
		Short: "List the learning systems, the presets of one, the settings of a preset",
		Long: `List the learning systems: the name that other verbs take, what it is, and the
paper it comes from. With a system, list its presets; with a preset too, write
its settings, which --config reads and --set changes.`,
		Example: example("ebmrun systems", "ebmrun systems coopnets", "ebmrun systems coopnets pictures-32 > mine.yaml", "ebmrun systems --json"),
		Args:    cobra.MaximumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			switch {
			case asJSON && len(args) > 0:
				return badInput(fmt.Errorf("--json is for the list of all systems, not for %s", args[0]))
			case asJSON:
				return c.printJSON(systems)
			case len(args) == 0:
				return c.listSystems()
			}
			row, err := findSystem(args[0])
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return c.listPresets(row)
			}
			return c.showPreset(row, args[1])
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as a JSON array")
	return cmd
}

func (c *common) listSystems() error {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	for _, s := range systems {
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, s.Title, s.Paper)
	}
	return w.Flush()
}

func (c *common) listPresets(s system) error {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	from := intakes[s.Name].String()
	if _, points := s.named["points"]; points && from == data.Plain.String() {
		from += ", vectors"
	}
	fmt.Fprintf(w, "name\t%s\ntitle\t%s\npaper\t%s\nlearns from\t%s\n", s.Name, s.Title, s.Paper, from)
	for _, name := range slices.Sorted(maps.Keys(s.named)) {
		fmt.Fprintf(w, "preset\t%s: %s\n", name, s.named[name].title)
	}
	return w.Flush()
}

func (c *common) showPreset(s system, name string) error {
	p, ok := s.named[name]
	if !ok {
		return badInput(fmt.Errorf("%s: no preset %q; %s", s.Name, name, check.Instead(name, slices.Sorted(maps.Keys(s.named)))))
	}
	text, err := yaml.Marshal(p.settings)
	if err == nil {
		_, err = c.out.Write(text)
	}
	return err
}
