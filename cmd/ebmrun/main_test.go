package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"ebmrun/training"
)

// result is what a command line left behind.
type result struct {
	status      int
	out, errOut string
}

// ebmrun runs a command line.
func ebmrun(t *testing.T, args ...string) result {
	t.Helper()
	var out, errOut bytes.Buffer
	status := run(args, &out, &errOut)
	return result{status, out.String(), errOut.String()}
}

// wantError checks for an exit status and one line of error that holds all parts.
func (r result) wantError(t *testing.T, status int, parts ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status %d, wanted %d: %s", r.status, status, r.errOut)
	}
	if strings.Count(r.errOut, "\n") != 1 || !strings.HasPrefix(r.errOut, "ebmrun: ") {
		t.Errorf("wanted one line of error, got %q", r.errOut)
	}
	for _, part := range parts {
		if !strings.Contains(r.errOut, part) {
			t.Errorf("error %q lacks %q", r.errOut, part)
		}
	}
}

// wantOut checks for success and an output that holds all parts.
func (r result) wantOut(t *testing.T, parts ...string) {
	t.Helper()
	if r.status != 0 {
		t.Fatalf("status %d: %s", r.status, r.errOut)
	}
	for _, part := range parts {
		if !strings.Contains(r.out, part) {
			t.Errorf("output lacks %q:\n%s", part, r.out)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"systems", "--bogus"}, "--bogus"},
		{[]string{"bogus"}, `unknown command "bogus"`},
		{[]string{"gard"}, "Did you mean this? grad"},
		{[]string{"grad"}, "wanted: ebmrun grad MODEL.onnx -o GRAD.onnx; got: nothing"},
		{[]string{"grad", "m.onnx"}, "missing: --out"},
		{[]string{"systems", "extra"}, "extra"},
		{[]string{"systems", "--threads", "-1"}, "--threads"},
		{[]string{"systems", "--seed", "x"}, "--seed"},
		{[]string{"systems", "--provider", "gpu"}, "wanted one of auto, cpu"},
		{[]string{"systems", "--gradients", "ort-training", "--provider", "openvino"}, "cpu and cuda"},
		{[]string{"grad", "m.onnx", "-o", "g.onnx", "--gradients", "ort-training"}, "only builtin"},
		{[]string{"systems", "--gradients", "other"}, "builtin"},
		{[]string{"systems", "--precision", "int8"}, "float32 or bf16"},
		{[]string{"train", "abp", "--precision", "bf16"}, "train computes in float32"},
		{[]string{"bench", "sr16", "--precision", "bf16", "--provider", "cpu"}, "only provider openvino"},
		{[]string{"systems", "--log-format", "xml"}, "text or json"},
	} {
		r := ebmrun(t, c.args...)
		r.wantError(t, 2, c.want)
		if r.out != "" {
			t.Errorf("%q wrote %q to standard output", c.args, r.out)
		}
	}
}

func TestEveryVerbExplainsItself(t *testing.T) {
	for _, row := range commands {
		cmd := row.make(newCommon(io.Discard, io.Discard))
		if cmd.Long == "" || cmd.Example == "" || cmd.Short == "" {
			t.Errorf("%s: wanted Short, Long and Example", cmd.Name())
		}
		r := ebmrun(t, cmd.Name(), "--help")
		r.wantOut(t, "Examples:", "ebmrun "+cmd.Name(), "--provider")
	}
	ebmrun(t).wantOut(t, "systems", "completion", groups[1].Title)
	ebmrun(t, "completion", "bash").wantOut(t, "bash completion")
	ebmrun(t, "version").wantOut(t, "ebmrun 0.1.0-dev", "cgo")
	ebmrun(t, "--version").wantOut(t, "ebmrun 0.1.0-dev")
}

func TestSystems(t *testing.T) {
	r := ebmrun(t, "systems", "--json")
	r.wantOut(t)
	var got []system
	if err := json.Unmarshal([]byte(r.out), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(systems) {
		t.Fatalf("%d systems, wanted %d", len(got), len(systems))
	}
	for _, s := range got {
		if s.Name == "" || s.Title == "" || s.Paper == "" {
			t.Errorf("wanted name, title and paper, got %+v", s)
		}
	}
	ebmrun(t, "systems").wantOut(t, "generative-convnet", "ICML 2016")
}

func TestExitStatus(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("disk full"), 1},
		{badInput(errors.New("no such file")), 2},
		{fmt.Errorf("training: %w: |V| too large", training.ErrGuard), 3},
		{fmt.Errorf("training: %w", training.ErrTimeLimit), 4},
		{&exitError{statusUnmet, errors.New("not met")}, 5},
		{fmt.Errorf("training: %w", training.ErrStopped), 130},
		{errors.Join(context.Canceled, errors.New("and more")), 130},
		{badInput(fmt.Errorf("reading: %w", context.Canceled)), 130},
	} {
		if got := exitStatus(c.err); got != c.want {
			t.Errorf("%v: status %d, wanted %d", c.err, got, c.want)
		}
	}
	if badInput(nil) != nil {
		t.Error("no error became one")
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"a":                        "a",
		"first\nsecond\n":          "first; second",
		"unknown\n\nMean?\n\tgrad": "unknown; Mean? grad",
		"red \x1b[31m\u202e":       "red \ufffd[31m\ufffd",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("%q became %q, wanted %q", in, got, want)
		}
	}
}

func TestJSONErrors(t *testing.T) {
	for _, args := range [][]string{
		{"--log-format", "json", "systems", "--bogus"},
		{"--log-format", "json", "inspect", "no-such.onnx"},
	} {
		r := ebmrun(t, args...)
		var line struct {
			Level, Msg string
			Status     int
		}
		if err := json.Unmarshal([]byte(r.errOut), &line); err != nil {
			t.Fatalf("%q: %v", r.errOut, err)
		}
		if r.status != 2 || line.Status != 2 || line.Level != "error" || line.Msg == "" {
			t.Errorf("%q: status %d and %+v", args, r.status, line)
		}
	}
}

// fakeClock steps by hand.
type fakeClock struct{ t time.Time }

func (f *fakeClock) now() time.Time { return f.t }

// tellProgress reports on 100 steps, ten a second.
func tellProgress(t *testing.T, flags ...string) []string {
	t.Helper()
	var errOut bytes.Buffer
	c := newCommon(io.Discard, &errOut)
	clock := &fakeClock{time.Unix(0, 0)}
	c.now = clock.now
	root := newRoot(c)
	if err := root.ParseFlags(flags); err != nil {
		t.Fatal(err)
	}
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	p := c.progress("train", 50, 150)
	for i := 51; i <= 150; i++ {
		clock.t = clock.t.Add(100 * time.Millisecond)
		p.step(i, map[string]float64{"value": 0.5, "loss": 1.0 / float64(150-i)})
	}
	p.finish()
	return strings.Split(strings.TrimSuffix(errOut.String(), "\n"), "\n")
}

// TestLongProgress: a log of ten hours can be read.
func TestLongProgress(t *testing.T) {
	var errOut bytes.Buffer
	c := newCommon(io.Discard, &errOut)
	clock := &fakeClock{time.Unix(0, 0)}
	c.now = clock.now
	p := c.progress("train", 0, 36000)
	for i := range 36000 {
		clock.t = clock.t.Add(time.Second)
		p.step(i+1, nil)
	}
	p.finish()
	if n := strings.Count(errOut.String(), "\n"); n < 100 || n > 400 {
		t.Errorf("%d lines in ten hours", n)
	}
}

// TestPhase: what follows a long iteration is announced, what follows a short one is not.
func TestPhase(t *testing.T) {
	var errOut bytes.Buffer
	c := newCommon(io.Discard, &errOut)
	clock := &fakeClock{time.Unix(0, 0)}
	c.now = clock.now
	p := c.progress("train", 0, 2)
	clock.t = clock.t.Add(43 * time.Second)
	p.phase(1, "measuring")
	clock.t = clock.t.Add(time.Second)
	p.phase(1, "drawing pictures")
	if want := "train 1/2  measuring, 43s so far\n"; errOut.String() != want {
		t.Errorf("got %q, wanted %q", errOut.String(), want)
	}
}

func TestProgress(t *testing.T) {
	lines := tellProgress(t)
	// 10 s at a line every 2 s; the last step falls on one
	if len(lines) != 5 {
		t.Fatalf("%d lines, wanted 5: %q", len(lines), lines)
	}
	if want := "train 70/150  loss=0.0125  value=0.5  10/s, 8s left"; lines[0] != want {
		t.Errorf("got %q, wanted %q", lines[0], want)
	}
	if quiet := tellProgress(t, "--quiet"); len(quiet) != 1 || quiet[0] != "" {
		t.Errorf("--quiet says %q", quiet)
	}
	lines = tellProgress(t, "--log-format", "json")
	if len(lines) != 5 {
		t.Fatalf("%d lines, wanted 5: %q", len(lines), lines)
	}
	for i, line := range lines {
		var got struct {
			Msg         string
			Step, Total int
			Value       float64
			Loss        any
			Rate        float64 `json:"steps_per_second"`
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if got.Msg != "train" || got.Step != 70+20*i || got.Total != 150 || got.Value != 0.5 || got.Rate != 10 {
			t.Errorf("line %d: %s", i, line)
		}
		if last := i == 4; last && got.Loss != "+Inf" {
			t.Errorf("an infinite loss became %v", got.Loss)
		}
	}
}

// patient is a verb that ends when it is told to.
func patient(c *common, wait func(ctx context.Context) error) *cobra.Command {
	return &cobra.Command{Use: "patient", RunE: func(cmd *cobra.Command, _ []string) error { return wait(cmd.Context()) }}
}

// interrupted runs a patient verb and sends it signals.
func interrupted(t *testing.T, signals int, wait func(c *common, ctx context.Context) error) result {
	t.Helper()
	saved := commands
	defer func() { commands = saved }()
	commands = append(commands[:len(commands):len(commands)], commands[0])
	commands[len(commands)-1].make = func(c *common) *cobra.Command {
		return patient(c, func(ctx context.Context) error { return wait(c, ctx) })
	}
	ch := make(chan os.Signal, signals)
	for range signals {
		ch <- os.Interrupt
	}
	var out, errOut bytes.Buffer
	status := execute([]string{"patient"}, &out, &errOut, ch)
	return result{status, out.String(), errOut.String()}
}

func TestInterrupt(t *testing.T) {
	wait := func(_ *common, ctx context.Context) error { <-ctx.Done(); return errors.New("child was killed") }
	interrupted(t, 1, wait).wantError(t, 130, "interrupted")
}

func TestPanicIsOneLine(t *testing.T) {
	r := interrupted(t, 0, func(*common, context.Context) error {
		var none []int
		_ = none[len(os.Args)]
		return nil
	})
	r.wantError(t, 1, "internal error at main_test.go:", "index out of range")
}

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
