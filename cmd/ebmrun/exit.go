package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"ebmrun/training"
	"ebmrun/training/data"
)

// The exit statuses.
const (
	statusFailure     = 1
	statusBadInput    = 2
	statusGuard       = 3
	statusTimeLimit   = 4
	statusUnmet       = 5
	statusInterrupted = 130
)

var errInterrupted = errors.New("interrupted")

// An exitError is an error that decides the exit status.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// badInput marks an error as the caller's: usage, or a file that is no good. Data that
// cannot be had at the moment is neither.
func badInput(err error) error {
	if err == nil || errors.Is(err, data.ErrObtain) {
		return err
	}
	if errors.Is(err, data.ErrSizes) {
		err = fmt.Errorf("%w: --size N", err)
	}
	return &exitError{statusBadInput, err}
}

// exitStatus is the one place that maps errors to exit statuses. That a run was
// interrupted or went wrong outweighs what a verb says about its input.
func exitStatus(err error) int {
	var e *exitError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, training.ErrStopped), errors.Is(err, context.Canceled):
		return statusInterrupted
	case errors.Is(err, training.ErrGuard):
		return statusGuard
	case errors.Is(err, training.ErrTimeLimit):
		return statusTimeLimit
	case errors.As(err, &e):
		return e.status
	}
	return statusFailure
}

// oneLine puts a message on one line. Control characters, which names in a
// hostile file may hold, are replaced.
func oneLine(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if b.Len() > 0 {
			if last := b.String()[b.Len()-1]; last == '?' || last == ':' {
				b.WriteByte(' ')
			} else {
				b.WriteString("; ")
			}
		}
		b.WriteString(line)
	}
	return printable(b.String())
}

// printable replaces what a terminal might obey.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}
