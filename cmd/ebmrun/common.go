package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"ebmrun/runtime"
	"ebmrun/runtime/orttraining"
)

// refProvider is the provider name of the pure-Go interpreter.
const refProvider = "ref"

var providers = []string{runtime.Auto, runtime.CPU, runtime.OpenVINO, runtime.CUDA, runtime.TensorRT, runtime.CoreML, refProvider}

// common is what all verbs share: flags, output and log.
type common struct {
	seed       uint64
	threads    int
	microBatch int
	provider   string
	ortLibrary string
	gradients  string
	precision  string
	quiet      bool
	logFormat  string

	out, errOut io.Writer
	screen      *screen
	log         *logrus.Logger
	interrupt   *interrupt
	running     bool // the verb itself has started
	now         func() time.Time
	reportMu    sync.Mutex
	reported    map[string]bool // what logReport has said

	training *orttraining.Engine // of --gradients ort-training, once it is wanted
}

// The sources of gradients.
const (
	builtin     = "builtin"
	ortTraining = "ort-training"
)

// The types that networks compute in.
const (
	float32s = "float32"
	bfloat16 = "bf16"
)

func newCommon(stdout, stderr io.Writer) *common {
	c := &common{out: stdout, errOut: stderr, screen: &screen{w: stderr}, now: time.Now, reported: map[string]bool{}}
	c.interrupt = &interrupt{stop: make(chan struct{})}
	c.log = logrus.New()
	c.log.SetOutput(c.screen)
	c.log.SetFormatter(lineFormatter{})
	return c
}

func (c *common) addFlags(f *pflag.FlagSet) {
	f.Uint64Var(&c.seed, "seed", 1, "seed of all random numbers")
	f.IntVar(&c.threads, "threads", 0, "threads within one call, 0 for one a core")
	f.IntVar(&c.microBatch, "micro-batch", 0, "examples of a batch computed at once at most, 0 for all: less memory, the same result up to rounding")
	f.StringVar(&c.provider, "provider", runtime.Auto, "execution provider: "+strings.Join(providers, ", "))
	f.StringVar(&c.ortLibrary, "ort-library", "", "ONNX Runtime library, a file or folder (default: found as doctor shows)")
	f.StringVar(&c.gradients, "gradients", "builtin", "where gradient graphs come from: builtin, or ort-training (ONNX Runtime 1.19.2's own, see setup)")
	f.StringVar(&c.precision, "precision", "float32", "type that networks compute in while sampling: float32, or bf16 (provider openvino)")
	f.BoolVar(&c.quiet, "quiet", false, "no progress and no remarks, only results, warnings and errors")
	f.StringVar(&c.logFormat, "log-format", "text", "what progress and logs look like: text, json (one object a line)")
}

// check refuses what the shared flags cannot mean and sets the log up.
func (c *common) check() error {
	switch c.logFormat {
	case "text":
	case "json":
		c.log.SetFormatter(jsonFormatter())
	default:
		return fmt.Errorf("--log-format: wanted text or json, got %q", c.logFormat)
	}
	if c.quiet {
		c.log.SetLevel(logrus.WarnLevel)
	}
	switch {
	case c.threads < 0:
		return fmt.Errorf("--threads: wanted 0 or more, got %d", c.threads)
	case c.microBatch < 0:
		return fmt.Errorf("--micro-batch: wanted 0 or more, got %d", c.microBatch)
	case !slices.Contains(providers, c.provider):
		return fmt.Errorf("--provider: wanted one of %s, got %q", strings.Join(providers, ", "), c.provider)
	case c.gradients != builtin && c.gradients != ortTraining:
		return fmt.Errorf("--gradients: wanted builtin or ort-training, got %q", c.gradients)
	case c.gradients == ortTraining && !slices.Contains([]string{runtime.Auto, runtime.CPU, runtime.CUDA}, c.provider):
		return fmt.Errorf("--gradients ort-training runs on the providers cpu and cuda, got --provider %s", c.provider)
	case c.precision != float32s && c.precision != bfloat16:
		return fmt.Errorf("--precision: wanted float32 or bf16, got %q", c.precision)
	case c.precision == bfloat16 && c.provider != runtime.Auto && c.provider != runtime.OpenVINO:
		return fmt.Errorf("--precision bf16: only provider openvino computes in another type than the graph's, got --provider %s", c.provider)
	}
	return nil
}

// fail reports the error that ends the command, on one line.
func (c *common) fail(err error, status int) {
	msg := oneLine(err.Error())
	if c.logFormat == "json" {
		c.log.SetFormatter(jsonFormatter()) // a bad flag leaves the log as it was
		c.log.WithField("status", status).Error(msg)
		return
	}
	fmt.Fprintf(c.screen, "ebmrun: %s\n", msg)
}

// say logs a remark; it has the form that libraries take for progress lines.
func (c *common) say(line string) { c.log.Info(line) }

// printJSON writes v to standard output, indented.
func (c *common) printJSON(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func jsonFormatter() logrus.Formatter {
	return &logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano}
}

// lineFormatter writes an entry as "message key=value …".
type lineFormatter struct{}

func (lineFormatter) Format(e *logrus.Entry) ([]byte, error) {
	var b strings.Builder
	if e.Level <= logrus.WarnLevel {
		b.WriteString(e.Level.String() + ": ")
	}
	b.WriteString(oneLine(e.Message))
	keys := make([]string, 0, len(e.Data))
	for k := range e.Data {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		fmt.Fprintf(&b, "  %s=%s", k, fieldText(e.Data[k]))
	}
	b.WriteByte('\n')
	return []byte(b.String()), nil
}

func fieldText(v any) string {
	switch v := v.(type) {
	case float64:
		return fmt.Sprintf("%.4g", v)
	case error:
		return oneLine(v.Error())
	}
	return oneLine(fmt.Sprint(v))
}

// jsonNumber keeps JSON valid: it has no NaN and no infinities.
func jsonNumber(v float64) any {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Sprint(v)
	}
	return v
}
