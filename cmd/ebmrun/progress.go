package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
	"github.com/sirupsen/logrus"
)

// progressEvery is the shortest time between two plain lines of progress, and progressShare
// that of the time that has passed: an hour has no more than some two hundred lines.
const (
	progressEvery = 2 * time.Second
	progressShare = 50
)

// A screen is where logs go; it takes a progress bar out of the way first.
type screen struct {
	mu  sync.Mutex
	w   io.Writer
	bar *progressbar.ProgressBar
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil {
		s.bar.Clear()
	}
	return s.w.Write(p)
}

func (s *screen) show(bar *progressbar.ProgressBar) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bar = bar
}

// A progress tells how far a long job is: a bar on a terminal, elsewhere a line
// at most every two seconds, later more seldom, and one at the end (a JSON object with --log-format
// json), nothing with --quiet. It serves one goroutine.
type progress struct {
	c     *common
	what  string
	total int
	bar   *progressbar.ProgressBar // nil without a terminal

	start, told  time.Time
	first, shown int // steps done at the start, and when told last
	done         int
	values       map[string]float64
}

// progress starts to report on a job of total steps, of which done lie behind.
// Finish must be called.
func (c *common) progress(what string, done, total int) *progress {
	p := &progress{c: c, what: what, total: total, first: done, shown: done, done: done, start: c.now()}
	p.told = p.start
	if !c.quiet && c.logFormat == "text" && isTerminal(c.errOut) {
		p.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(c.errOut),
			progressbar.OptionSetDescription(what),
			progressbar.OptionSetWidth(24),
			progressbar.OptionShowCount(),
			progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetElapsedTime(false),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish(),
		)
		c.screen.show(p.bar)
	}
	return p
}

// step says that done steps lie behind, and what was measured last.
func (p *progress) step(done int, values map[string]float64) {
	p.done, p.values = done, values
	if p.bar != nil {
		p.bar.Describe(strings.Join(append([]string{p.what}, p.texts()...), "  "))
		p.bar.Set(done)
		return
	}
	if now := p.c.now(); now.Sub(p.told) >= max(progressEvery, now.Sub(p.start)/progressShare) {
		p.tell()
	}
}

// phase says what the job does between two steps, where the last line is a while ago.
func (p *progress) phase(done int, what string) {
	p.done = done
	if p.bar != nil {
		p.bar.Describe(p.what + "  " + what)
		p.bar.Set(done)
		return
	}
	now := p.c.now()
	if now.Sub(p.told) < progressEvery {
		return
	}
	p.told = now
	if p.c.logFormat == "json" {
		p.c.log.WithFields(logrus.Fields{"step": done, "total": p.total, "seconds": now.Sub(p.start).Seconds(), "phase": what}).Info(p.what)
		return
	}
	p.c.log.Infof("%s %d/%d  %s, %v so far", p.what, done, p.total, what, now.Sub(p.start).Round(time.Second))
}

// finish ends the report, with the last line where it has not been said yet.
func (p *progress) finish() {
	if p.bar != nil {
		p.bar.Finish()
		p.c.screen.show(nil)
		return
	}
	if p.done > p.shown {
		p.tell()
	}
}

func (p *progress) tell() {
	p.told, p.shown = p.c.now(), p.done
	if p.c.logFormat == "json" {
		elapsed, rate := p.pace()
		f := logrus.Fields{"step": p.done, "total": p.total, "seconds": elapsed, "steps_per_second": rate}
		for k, v := range p.values {
			f[k] = jsonNumber(v)
		}
		p.c.log.WithFields(f).Info(p.what)
		return
	}
	p.c.log.Info(strings.Join(append([]string{fmt.Sprintf("%s %d/%d", p.what, p.done, p.total)}, p.texts()...), "  "))
}

// pace is the time since the start, and the steps per second of this job.
func (p *progress) pace() (seconds, rate float64) {
	if seconds = p.c.now().Sub(p.start).Seconds(); seconds > 0 {
		rate = float64(p.done-p.first) / seconds
	}
	return seconds, rate
}

// texts are what was measured last, and the pace.
func (p *progress) texts() []string {
	text := valueTexts(p.values)
	if _, rate := p.pace(); rate > 0 {
		left := time.Duration(float64(p.total-p.done) / rate * float64(time.Second))
		text = append(text, fmt.Sprintf("%.3g/s, %v left", rate, left.Round(time.Second)))
	}
	return text
}

// valueTexts writes values in the order of their names.
func valueTexts(values map[string]float64) []string {
	var out []string
	for k, v := range values {
		out = append(out, fmt.Sprintf("%s=%.4g", k, v))
	}
	slices.Sort(out)
	return out
}

// isTerminal reports whether w is a terminal that can go back to the beginning of a line.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("TERM") != "dumb" && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()))
}
