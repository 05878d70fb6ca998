// Package check holds settings to their bounds, a line for each rule:
//
//	return check.First(
//		check.AtLeast("steps", c.Steps, 1),
//		check.Positive("sigma", c.Sigma),
//		check.OneOf("sabotage", c.Sabotage, "", Flip, Freeze),
//		check.If(c.Cool && c.Fused, "cool: the noise of a fused chain does not fall"),
//	)
//
// Every rule is nil where the setting is sound, and otherwise an error of one line: which setting, what
// was wanted, what was got. A number that is none (NaN) breaks every bound.
package check

import (
	"fmt"
	"slices"
	"strings"
)

// First is the first rule that is broken, in the order in which they stand.
func First(rules ...error) error {
	for _, err := range rules {
		if err != nil {
			return err
		}
	}
	return nil
}

// AtLeast wants v >= least.
func AtLeast[V int | float64](name string, v, least V) error {
	switch {
	case v >= least:
		return nil
	case least == 0:
		return fmt.Errorf("%s: wanted 0 or more, got %v", name, v)
	}
	return fmt.Errorf("%s: wanted at least %v, got %v", name, least, v)
}

// EachAtLeast wants every value to be at least least.
func EachAtLeast(name string, values []int, least int) error {
	for _, v := range values {
		if v < least {
			return fmt.Errorf("%s: wanted at least %d each, got %v", name, least, values)
		}
	}
	return nil
}

// Positive wants v > 0.
func Positive(name string, v float64) error {
	if v > 0 {
		return nil
	}
	return fmt.Errorf("%s: wanted a positive number, got %g", name, v)
}

// Within wants lo <= v <= hi.
func Within[V int | float64](name string, v, lo, hi V) error {
	if v >= lo && v <= hi {
		return nil
	}
	return fmt.Errorf("%s: wanted %v to %v, got %v", name, lo, hi, v)
}

// OneOf wants v among the choices. An empty one says that the setting may be left out.
func OneOf(name, v string, choices ...string) error {
	if slices.Contains(choices, v) {
		return nil
	}
	named := slices.DeleteFunc(slices.Clone(choices), func(s string) bool { return s == "" })
	want := named[len(named)-1]
	if len(named) > 1 {
		want = strings.Join(named[:len(named)-1], ", ") + " or " + want
	}
	return fmt.Errorf("%s: wanted %s, got %q", name, want, v)
}

// In says which part of the settings an error is about.
func In(part string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", part, err)
}

// When leaves a rule out unless it applies.
func When(applies bool, rule error) error {
	if !applies {
		return nil
	}
	return rule
}

// If is for what the others cannot say: an error where broken holds.
func If(broken bool, format string, args ...any) error {
	if !broken {
		return nil
	}
	return fmt.Errorf(format, args...)
}
