package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync/atomic"
	"time"
)

// patience is how long a verb that is broken off may take to return. A library call
// that prepares a graph cannot be stopped from outside.
const patience = 5 * time.Second

var errBrokenOff = errors.New("broken off")

// patiently does work, and leaves it behind as it is where it does not end soon after ctx does.
func patiently(ctx context.Context, soon time.Duration, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(soon):
		return errBrokenOff
	}
}

// An interrupt is how Ctrl-C reaches a verb. A verb that can stop at a good
// moment takes the stop channel, and the first signal closes it; for every other
// verb, and at the second signal, the context ends. One more signal has the
// system's own effect: it ends the process.
type interrupt struct {
	stop     chan struct{}
	graceful atomic.Bool
}

// stopping is closed at the first signal. Asking for it makes the verb
// responsible for ending soon afterwards.
func (c *common) stopping() <-chan struct{} {
	c.interrupt.graceful.Store(true)
	return c.interrupt.stop
}

// watch serves signals until ctx ends.
func (i *interrupt) watch(ctx context.Context, signals chan os.Signal, cancel func(), warn func(...any)) {
	stopped := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		}
		if i.graceful.Load() && !stopped {
			stopped = true
			close(i.stop)
			warn("stopping after this iteration, with a checkpoint; once more to break it off")
			continue
		}
		signal.Stop(signals)
		cancel()
		return
	}
}
