package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// TestStopping checks that a verb that asked for the stop channel gets the first
// signal there, with its context alive, and the second through the context.
func TestStopping(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := newCommon(io.Discard, io.Discard)
	warned := make(chan bool, 1)
	signals := make(chan os.Signal)
	stop := c.stopping()
	go c.interrupt.watch(ctx, signals, cancel, func(...any) { warned <- true })
	signals <- os.Interrupt
	<-stop
	<-warned
	if ctx.Err() != nil {
		t.Fatal("the first signal broke the verb off")
	}
	signals <- os.Interrupt
	<-ctx.Done()
}

// TestPatiently: work that ends is waited for, and work that does not is left soon after it was broken off.
func TestPatiently(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := patiently(ctx, time.Hour, func() error { return errInterrupted }); err != errInterrupted {
		t.Errorf("of work that ends: %v", err)
	}
	never := make(chan struct{})
	defer close(never)
	if err := patiently(ctx, time.Millisecond, func() error { <-never; return nil }); err != errBrokenOff {
		t.Errorf("of work that does not end: %v", err)
	}
}

func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := newCommon(io.Discard, io.Discard)
	c.interrupt.watch(ctx, make(chan os.Signal), cancel, nil) // returns
}

// TestLogLines checks that warnings say so and that fields come in order.
func TestLogLines(t *testing.T) {
	var errOut bytes.Buffer
	c := newCommon(io.Discard, &errOut)
	c.log.WithField("b", 2.0/3).WithField("a", "x\ny").Warn("careful")
	c.log.Info("fine")
	want := "warning: careful  a=x; y  b=0.6667\nfine\n"
	if got := errOut.String(); got != want {
		t.Errorf("got %q, wanted %q", got, want)
	}
	errOut.Reset()
	c.quiet = true
	c.provider, c.gradients, c.precision, c.logFormat = "auto", "builtin", "float32", "text"
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	c.log.Info("a remark")
	c.log.Warn("a warning")
	if got := errOut.String(); strings.Contains(got, "remark") || !strings.Contains(got, "a warning") {
		t.Errorf("--quiet left %q", got)
	}
}
