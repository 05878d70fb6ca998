package main

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
)

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
