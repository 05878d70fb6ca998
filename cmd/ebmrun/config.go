package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"ebmrun/training/data"
)

// A source says where training data comes from and how it is presented.
type source struct {
	Data    string  `yaml:"data"`               // a name of `ebmrun data --list`, or a path
	Size    int     `yaml:"size,omitempty"`     // height in pixels, and width unless given
	Width   int     `yaml:"width,omitempty"`    //
	Grey    bool    `yaml:"grey,omitempty"`     // one channel
	Limit   int     `yaml:"limit,omitempty"`    // at most so many examples
	Patches int     `yaml:"patches,omitempty"`  // so many windows cut at random instead
	HeldOut float64 `yaml:"held_out,omitempty"` // share kept for judging, where the data has no test part
	Classes []int   `yaml:"classes,omitempty"`  // only these classes

	As       data.Kind `yaml:"as,omitempty"`       // video, voxels, points or paths, where a path does not show it
	Frames   int       `yaml:"frames,omitempty"`   // of clips and trajectories
	Points   int       `yaml:"points,omitempty"`   // of each point set
	Stretch  bool      `yaml:"stretch,omitempty"`  // pictures are stretched to the size, nothing is cut off
	Given    string    `yaml:"given,omitempty"`    // grey, edges, hole, or data aligned with this
	Depth    string    `yaml:"depth,omitempty"`    // of the pictures given, a folder
	Far      bool      `yaml:"far,omitempty"`      // depth is brighter where it is farther
	B        string    `yaml:"b,omitempty"`        // data of a second domain
	Disjoint bool      `yaml:"disjoint,omitempty"` // learn from every other example, and from the rest in the second domain
}

func (s source) options(part string, progress func(string)) data.Options {
	return data.Options{Size: s.Size, Width: s.Width, Grey: s.Grey, Limit: s.Limit, Patches: s.Patches, HeldOut: s.HeldOut,
		Classes: s.Classes, As: s.As, Frames: s.Frames, Points: s.Points, Stretch: s.Stretch, Given: s.Given, Depth: s.Depth, Far: s.Far, Part: part, Progress: progress}
}

// An option is what a flag asks for, and what it was when a run began.
type option struct {
	flag       string
	asked, was any
}

// since are the options of a source, beside those of an earlier one.
func (s source) since(was source) (all []option) {
	a, b := reflect.ValueOf(s), reflect.ValueOf(was)
	for i := range a.NumField() {
		flag, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("yaml"), ",")
		if flag == "b" {
			flag = "data-b"
		}
		all = append(all, option{flag, a.Field(i).Interface(), b.Field(i).Interface()})
	}
	return all
}

// runHead is the part of config.yaml that is the same for every system; the
// system's own settings follow it at the same level.
type runHead struct {
	System string `yaml:"system"`
	Source source `yaml:"source"`
}

// A runConfig is a whole config.yaml. Marshalled, it is one flat mapping.
type runConfig struct {
	Head     runHead
	Settings any // pointer to the system's settings
}

// MarshalYAML implements the marshaller of goccy/go-yaml.
func (c runConfig) MarshalYAML() ([]byte, error) {
	head, err := yaml.Marshal(c.Head)
	if err != nil {
		return nil, err
	}
	rest, err := yaml.Marshal(c.Settings)
	return append(head, rest...), err
}

// splitConfig separates the common part of a config file from the settings.
func splitConfig(text []byte) (head runHead, settings map[string]any, err error) {
	if err := parse(string(text), &settings); err != nil {
		return head, nil, err
	}
	top := map[string]any{}
	for _, key := range []string{"system", "source"} {
		if v, ok := settings[key]; ok {
			top[key] = v
			delete(settings, key)
		}
	}
	b, err := yaml.Marshal(top)
	if err != nil {
		return head, nil, err
	}
	return head, settings, yaml.UnmarshalWithOptions(b, &head, yaml.Strict())
}

// merge lays a tree of settings over a struct; a key that the struct does not
// have is an error.
func merge(into any, settings map[string]any) error {
	if len(settings) == 0 {
		return nil
	}
	if err := checkSettings(reflect.TypeOf(into), settings); err != nil {
		return err
	}
	b, err := yaml.Marshal(settings)
	if err != nil {
		return err
	}
	return yaml.UnmarshalWithOptions(b, into, yaml.Strict())
}

// Larger settings, and deeper ones, are none; the reader of YAML takes memory in the square of their depth.
const (
	maxConfig = 32 << 10
	maxDepth  = 64
)

// parse reads YAML into a map or an any. It refuses more brackets open at once than settings have,
// and text that stands for more than itself by aliases of aliases.
func parse[T any](text string, into *T) error {
	depth := 0
	for _, c := range text {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		}
		if depth > maxDepth {
			return errors.New("nested too deeply")
		}
	}
	if err := yaml.Unmarshal([]byte(text), into); err != nil {
		return err
	}
	if left := maxConfig; !fits(*into, &left) {
		return errors.New("too many values by way of aliases")
	}
	return nil
}

// fits takes the values of a tree from what is left, and reports whether there were enough.
func fits(v any, left *int) bool {
	*left--
	all, _ := v.([]any)
	if m, ok := v.(map[string]any); ok {
		all = slices.Collect(maps.Values(m))
	}
	return *left >= 0 && !slices.ContainsFunc(all, func(v any) bool { return !fits(v, left) })
}

// readConfig reads a config file.
func readConfig(path string) (runHead, map[string]any, error) {
	f, err := os.Open(path)
	if err != nil {
		return runHead{}, nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	switch {
	case err != nil:
		return runHead{}, nil, err
	case len(text) > maxConfig:
		return runHead{}, nil, fmt.Errorf("%s: wanted at most %s of settings", path, byteText(maxConfig))
	}
	head, settings, err := splitConfig(text)
	if err != nil {
		return head, nil, fmt.Errorf("%s: %s", path, yaml.FormatError(err, false, false))
	}
	return head, settings, nil
}

// parseSetting turns "langevin.steps=30" into a tree of settings.
func parseSetting(assignment string) (map[string]any, error) {
	path, text, ok := strings.Cut(assignment, "=")
	if !ok || path == "" {
		return nil, errors.New("wanted key=value")
	}
	var value any
	if err := parse(text, &value); err != nil {
		return nil, errors.New(yaml.FormatError(err, false, false))
	}
	keys := strings.Split(path, ".")
	for i := len(keys) - 1; i >= 0; i-- {
		value = map[string]any{keys[i]: value}
	}
	return value.(map[string]any), nil
}
