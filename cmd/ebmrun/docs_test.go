package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ebmrun/training/data"
)

// A documented command is one that a page or a help text shows.
type documented struct {
	where, text string
	whole       bool // on a line of its own, to be run as it stands
}

// documentedCommands are those of the pages and of every help text.
func documentedCommands(t *testing.T) (all []documented) {
	root := filepath.Join("..", "..")
	pages, _ := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	tops, _ := filepath.Glob(filepath.Join(root, "*.md"))
	inline := regexp.MustCompile("`(?:bin/)?(ebmrun [a-z][^`]*)`")
	for _, page := range append(pages, tops...) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		fenced := false
		for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
			if strings.HasPrefix(line, "```") {
				fenced = !fenced
			}
			command := strings.TrimPrefix(strings.TrimSpace(line), "bin/")
			if strings.HasPrefix(command, "ebmrun ") && (fenced || strings.HasPrefix(line, "    ")) {
				all = append(all, documented{page, command, true})
			}
			for _, m := range inline.FindAllStringSubmatch(line, -1) {
				all = append(all, documented{page, m[1], false})
			}
		}
	}
	var helps func(cmd *cobra.Command)
	helps = func(cmd *cobra.Command) {
		for line := range strings.Lines(cmd.Example) {
			all = append(all, documented{cmd.CommandPath() + " --help", strings.TrimSpace(line), true})
		}
		if cmd.Example == "" && cmd.Runnable() {
			t.Errorf("%s --help has no example", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			helps(sub)
		}
	}
	helps(newRoot(newCommon(io.Discard, io.Discard)))
	return all
}

// words splits a command line as a shell does, up to a comment, a pipe or a file to write to.
var words = regexp.MustCompile(`'([^']*)'|(\S+)`)

// understands says what of a command line this program would not take: the verb, a flag or its
// value, the arguments, a flag that is missing, the system, the preset, the data.
func understands(d documented) error {
	var args []string
	for _, m := range words.FindAllStringSubmatch(d.text, -1)[1:] {
		if m[2] == "|" || m[2] == ">" || strings.HasPrefix(m[2], "#") {
			break
		}
		args = append(args, m[1]+m[2])
	}
	c := newCommon(io.Discard, io.Discard)
	cmd, args, err := newRoot(c).Find(args)
	if err != nil {
		return err
	}
	var bare *pflag.ValueRequiredError
	switch err := cmd.ParseFlags(args); {
	case errors.Is(err, pflag.ErrHelp), !d.whole && errors.As(err, &bare):
		return nil
	case err != nil:
		return err
	}
	args = cmd.Flags().Args()
	if d.whole {
		err = errors.Join(cmd.ValidateArgs(args), cmd.ValidateRequiredFlags(), c.check())
	}
	flag := func(name string) string {
		if f := cmd.Flags().Lookup(name); f != nil {
			return f.Value.String()
		}
		return ""
	}
	if name := flag("data"); name != "" && !strings.ContainsAny(name, "/.") || strings.HasPrefix(name, "synthetic/") {
		if _, known := data.Lookup(name); !known {
			return errors.Join(err, errors.New("no data "+name))
		}
	}
	switch cmd.Name() {
	case "train", "tune", "verify":
		if len(args) == 0 || strings.ToLower(args[0]) != args[0] { // inline, or SYSTEM
			return err
		}
		row, unknown := findSystem(args[0])
		if unknown != nil {
			return errors.Join(err, unknown)
		}
		if size, _ := strconv.Atoi(flag("size")); flag("preset") != "" && flag("preset") != "small" {
			_, none := row.preset(flag("preset"), []int{3, size, size}, 1000)
			err = errors.Join(err, none)
		}
	}
	return err
}

// TestDocumentedCommands: what the pages and the help texts tell a reader to type is understood.
func TestDocumentedCommands(t *testing.T) {
	all := documentedCommands(t)
	if len(all) < 150 {
		t.Errorf("%d commands found", len(all))
	}
	for _, d := range all {
		if err := understands(d); err != nil {
			t.Errorf("%s: %s: %v", d.where, d.text, err)
		}
	}
	for text, want := range map[string]string{
		"ebmrun tain mrf":                                 "unknown command",
		"ebmrun train mrf --sizes 3 -o r":                 "unknown flag",
		"ebmrun train mrv -o r":                           "no system",
		"ebmrun train mrf --data mnst -o r":               "no data",
		"ebmrun train mrf":                                "out",
		"ebmrun train abp -o r --preset large --size 32":  "no preset",
		"ebmrun grad -o g.onnx":                           "wanted: ebmrun grad",
		"ebmrun grad net.onnx -o g.onnx --provider guess": "--provider",
	} {
		if err := understands(documented{text: text, whole: true}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: wanted an error with %q, got %v", text, want, err)
		}
	}
}
