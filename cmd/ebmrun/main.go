// Ebmrun trains, samples and ships deep energy-based models as ONNX graphs.
//
// Each verb lives in a file of its own and is a row of the table commands. What
// a verb finds out goes to standard output; progress, logs and the one line that
// an error gets go to standard error.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	goruntime "runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run executes one command line and returns its exit status.
func run(args []string, stdout, stderr io.Writer) int {
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	return execute(args, stdout, stderr, signals)
}

// execute is run with the signals of the caller.
func execute(args []string, stdout, stderr io.Writer, signals chan os.Signal) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := newCommon(stdout, stderr)
	go c.interrupt.watch(ctx, signals, cancel, c.log.Warn)
	root := newRoot(c)
	root.SetArgs(append([]string{}, args...)) // of none at all cobra would take the process's
	err := patiently(ctx, patience, func() error { return guarded(ctx, root) })
	if err != errBrokenOff {
		c.closeTraining()
	}
	if err == nil {
		return 0
	}
	switch {
	case ctx.Err() != nil:
		err = &exitError{statusInterrupted, errInterrupted}
	case !c.running:
		err = badInput(missingFlags(err))
	}
	status := exitStatus(err)
	c.fail(err, status)
	return status
}

// guarded turns a panic, which is a bug of ours, into an error that says where.
func guarded(ctx context.Context, root *cobra.Command) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("internal error at %s: %v", panicPlace(), r)
		}
	}()
	return root.ExecuteContext(ctx)
}

// panicPlace is the file and line of the innermost frame, below the run-time
// system's own, of a panic being recovered.
func panicPlace() string {
	pc := make([]uintptr, 32)
	frames := goruntime.CallersFrames(pc[:goruntime.Callers(3, pc)])
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") {
			return fmt.Sprintf("%s:%d", f.File[strings.LastIndexByte(f.File, '/')+1:], f.Line)
		}
		if !more {
			return "unknown place"
		}
	}
}
