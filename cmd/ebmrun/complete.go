package main

import (
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"ebmrun/training/data"
)

// completions has the shell offer the names that arguments and flags take, beside files where those will do too.
func completions(root *cobra.Command) {
	systemNames := func([]string) (names []string) {
		for _, s := range systems {
			names = append(names, s.Name+"\t"+s.Title)
		}
		return names
	}
	dataNames := func([]string) (names []string) {
		for _, s := range data.Sources {
			names = append(names, s.Name+"\t"+s.Title)
		}
		return names
	}
	presetNames := func(args []string) (names []string) {
		if len(args) == 0 {
			return nil
		}
		if s, err := findSystem(args[0]); err == nil {
			for _, name := range slices.Sorted(maps.Keys(s.named)) {
				names = append(names, name+"\t"+s.named[name].title)
			}
		}
		return names
	}
	offer := func(names func(args []string) []string, at int, directive cobra.ShellCompDirective) cobra.CompletionFunc {
		return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if at >= 0 && len(args) != at {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return names(args), directive
		}
	}
	const alone, withFiles = cobra.ShellCompDirectiveNoFileComp, cobra.ShellCompDirectiveDefault
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "train", "tune", "verify":
			cmd.ValidArgsFunction = offer(systemNames, 0, alone)
		case "systems":
			cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
				return [][]string{systemNames(args), presetNames(args), nil}[min(len(args), 2)], alone
			}
		case "data":
			cmd.ValidArgsFunction = offer(dataNames, 0, withFiles)
		}
	}
	var flags func(cmd *cobra.Command)
	flags = func(cmd *cobra.Command) {
		for name, f := range map[string]cobra.CompletionFunc{
			"data": offer(dataNames, -1, withFiles), "data-b": offer(dataNames, -1, withFiles), "preset": offer(presetNames, -1, alone),
			"provider": cobra.FixedCompletions(providers, alone),
		} {
			if cmd.Flags().Lookup(name) != nil || cmd.PersistentFlags().Lookup(name) != nil {
				_ = cmd.RegisterFlagCompletionFunc(name, f) // fails for a flag that is not there
			}
		}
		for _, sub := range cmd.Commands() {
			flags(sub)
		}
	}
	flags(root)
}
