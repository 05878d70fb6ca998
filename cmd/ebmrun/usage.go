package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ebmrun/training/check"
)

// usageError says what was wrong with a command line in the words of its verb.
func usageError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	name := unknown.GetSpecifiedName()
	hint := check.Nearest("--"+name, names)
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if hint == "" && strings.HasPrefix(f.Usage, name+" ") { // iterations, which --steps counts
			hint = "--" + f.Name
		}
	})
	switch {
	case hint != "" && len(name) > 1:
		return fmt.Errorf("%w: did you mean %s?", err, hint)
	case cmd.Flags().Lookup("set") != nil:
		return fmt.Errorf("%w: see %s --help; a setting is given as --set KEY=VALUE", err, cmd.CommandPath())
	}
	return fmt.Errorf("%w: see %s --help", err, cmd.CommandPath())
}

// needs are the flags that cobra found missing.
var needs = regexp.MustCompile(`^required flag\(s\) (.*) not set$`)

// missingFlags is an error about flags that must be set, by their names.
func missingFlags(err error) error {
	m := needs.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	return fmt.Errorf("missing: --%s", strings.ReplaceAll(strings.ReplaceAll(m[1], `"`, ""), ", ", ", --"))
}

// counted are cobra's errors about the number of arguments.
var counted = regexp.MustCompile(`^(accepts|requires) |^unknown command`)

// argued is a check of arguments whose error shows the form that was wanted.
func argued(inner cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		err := inner(cmd, args)
		if err == nil || !counted.MatchString(err.Error()) {
			return err
		}
		got := "nothing"
		if len(args) > 0 {
			got = strings.Join(args, " ")
		}
		return fmt.Errorf("wanted: %s; got: %s", strings.TrimSuffix(cmd.UseLine(), " [flags]"), got)
	}
}

// noNegative refuses counts below 0, which no flag has a meaning for.
func noNegative(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "int" && strings.HasPrefix(f.Value.String(), "-") {
			err = fmt.Errorf("--%s: wanted 0 or more, got %s", f.Name, f.Value)
		}
	})
	return err
}

// optional is what a help text has behind the name of a flag that may stand without a value.
var optional = regexp.MustCompile(`\[=[a-z|"]+\]`)

// plainFlags has blanks in the place of optional.
func plainFlags(text string) string {
	return optional.ReplaceAllStringFunc(text, func(form string) string { return strings.Repeat(" ", len(form)) })
}

// checkSettings holds a tree of settings against the struct that it is to be read into: every key must be
// a setting, every value of its kind.
func checkSettings(t reflect.Type, tree map[string]any) error {
	known := map[string]reflect.Type{}
	settingsIn(t, "", known)
	var walk func(tree map[string]any, prefix string) error
	walk = func(tree map[string]any, prefix string) error {
		for _, k := range slices.Sorted(maps.Keys(tree)) {
			path := prefix + k
			want, ok := known[path]
			if !ok {
				if near := check.Nearest(path, slices.Sorted(maps.Keys(known))); near != "" {
					return fmt.Errorf("there is no setting %s; did you mean %s?", path, near)
				}
				return fmt.Errorf("there is no setting %s; `ebmrun systems SYSTEM PRESET` shows them all", path)
			}
			v := tree[k]
			if word := misfit(want, v); word != "" {
				return fmt.Errorf("%s: wanted %s, got %v", path, word, v)
			}
			if sub, ok := v.(map[string]any); ok && want.Kind() == reflect.Struct {
				if err := walk(sub, path+"."); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return walk(tree, "")
}

// misfit is what a setting of type t wants in place of v, "" if v will do.
func misfit(t reflect.Type, v any) string {
	if text, ok := v.(string); ok { // what the reader leaves 1e-3 as
		if f, err := strconv.ParseFloat(text, 64); err == nil && t.Kind() != reflect.String {
			v = f
		}
	}
	switch _, list := v.([]any); t.Kind() {
	case reflect.Int, reflect.Int64, reflect.Uint64:
		if f, ok := v.(float64); ok && f == math.Trunc(f) {
			return ""
		}
		switch v.(type) {
		case int64, uint64:
			return ""
		}
		return "a whole number"
	case reflect.Float32, reflect.Float64:
		switch v.(type) {
		case int64, uint64, float64:
			return ""
		}
		return "a number"
	case reflect.Bool:
		if _, ok := v.(bool); !ok {
			return "true or false"
		}
	case reflect.Slice, reflect.Array:
		if !list && v != nil {
			return "a list, as [1, 2]"
		}
	case reflect.Struct:
		if _, ok := v.(map[string]any); !ok && v != nil {
			return "settings below it"
		}
	case reflect.String:
		if _, below := v.(map[string]any); list || below {
			return "text"
		}
	}
	return ""
}

// settingsIn collects the paths of the settings of a struct type, and their types.
func settingsIn(t reflect.Type, prefix string, paths map[string]reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if prefix != "" {
		paths[strings.TrimSuffix(prefix, ".")] = t
	}
	if t.Kind() != reflect.Struct {
		return
	}
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case options == "inline":
			settingsIn(f.Type, prefix, paths)
		default:
			if name == "" {
				name = strings.ToLower(f.Name)
			}
			settingsIn(f.Type, prefix+name+".", paths)
		}
	}
}
