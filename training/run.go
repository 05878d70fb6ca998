package training

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"ebmrun/training/checkpoint"
)

// Options say how far a run goes and what it leaves behind.
type Options struct {
	Steps     int           // iterations in all, those before a resume included
	TimeLimit time.Duration // stop after so long, with a checkpoint; 0 is never

	Checkpoints string // folder of checkpoints; "" keeps them in memory only
	SaveEvery   int    // iterations between checkpoints; 0 means Steps/10
	EvalEvery   int    // iterations between evaluations; 0 means Steps/10
	PaintEvery  int    // iterations between pictures; 0 means Steps/10

	Guard Guard
	Best  float64 // lowest objective so far, 0 for none: see [Resume]

	// Stop, once closed, ends the run after the iteration under way, with a
	// checkpoint and [ErrStopped]; ending the context breaks the iteration off.
	Stop <-chan struct{}

	// Begin, if not nil, is called once, before anything is recorded or saved: after the first iteration, when
	// programs have settled on providers, or in its place if there is none. What it returns ends the run.
	Begin func() error

	Recorder Recorder                               // may be nil
	Pictures func(step int, pics []Picture) error   // may be nil
	OnStep   func(step int, m Metrics)              // after every iteration; may be nil
	OnEvent  func(step int, what string, err error) // rollbacks; may be nil
	OnPhase  func(step int, what string)            // before what follows an iteration and may take long: measuring, drawing pictures; may be nil
	Took     func(d time.Duration)                  // time of every iteration, without what is measured and saved after it; may be nil
}

// ErrTimeLimit says that a run has reached its time limit; what it returned and
// saved is valid.
var ErrTimeLimit = errors.New("time limit reached")

// ErrStopped says that a run was asked to stop; what it saved is valid.
var ErrStopped = errors.New("stopped")

// Run drives a system until its iteration count is o.Steps. If ctx ends between
// two iterations, or the time is up, it saves first. An iteration that produces bad numbers is undone:
// the system goes back to its last good checkpoint at half the learning rate;
// after o.Guard.Recover times in a row without a new checkpoint the run ends
// with an error that wraps [ErrGuard].
func Run(ctx context.Context, s System, o Options) error {
	r := &runner{s: s, o: o}
	every := max(o.Steps/10, 1)
	for _, v := range []*int{&r.o.SaveEvery, &r.o.EvalEvery, &r.o.PaintEvery} {
		if *v <= 0 {
			*v = every
		}
	}
	return r.run(ctx)
}

// bestTensor holds the lowest objective so far.
const bestTensor = "run.best"

// Resume restores a system from the newest intact checkpoint of a folder and
// returns the lowest objective so far, for [Options]. The fallback is not nil
// when the last checkpoint was damaged and an older one was taken.
func Resume(s System, dir string) (best float64, fallback *checkpoint.Fallback, err error) {
	st, fallback, err := checkpoint.LoadNewest(dir)
	if err != nil {
		return 0, nil, err
	}
	v, err := checkpoint.Values[float64](st, bestTensor)
	if err != nil {
		return 0, nil, err
	}
	return v[0], fallback, s.Restore(st)
}

type runner struct {
	s    System
	o    Options
	good *checkpoint.State // last state known to be good
	best float64
	fell int // rollbacks since then

	painted bool // whether there are pictures of this run
}

// begin has the run begin, if it has not.
func (r *runner) begin() error {
	if r.o.Begin == nil {
		return nil
	}
	begin := r.o.Begin
	r.o.Begin = nil
	if err := begin(); err != nil || r.good == nil || r.o.Checkpoints == "" {
		return err
	}
	return checkpoint.Save(r.o.Checkpoints, r.good, checkpoint.Keep{})
}

func (r *runner) run(ctx context.Context) error {
	start := time.Now()
	if r.best = r.o.Best; r.best == 0 {
		r.best = math.Inf(1)
	}
	if err := r.save(); err != nil {
		return err
	}
	for r.s.Iteration() < r.o.Steps {
		if err := r.asked(ctx, start); err != nil {
			return errors.Join(err, r.begin(), r.save(), r.firstPictures(ctx))
		}
		began := time.Now()
		m, err := r.s.Step(ctx)
		if r.o.Took != nil {
			r.o.Took(time.Since(began))
		}
		if err == nil {
			err = r.o.Guard.Check(m)
		}
		if err == nil || Numeric(err) && ctx.Err() == nil {
			if err := r.begin(); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			// An interrupted iteration leaves no trace: what was saved last is intact.
			return ctx.Err()
		case Numeric(err):
			if err := r.rollback(err); err != nil {
				return err
			}
			continue
		default:
			return err
		}
		if err := r.after(ctx, m); err != nil {
			return err
		}
	}
	return r.begin()
}

// asked reports why the run should end before its time, if it should.
func (r *runner) asked(ctx context.Context, start time.Time) error {
	done := func() string { return fmt.Sprintf("after %d of %d iterations", r.s.Iteration(), r.o.Steps) }
	select {
	case <-r.o.Stop:
		return fmt.Errorf("training: %w %s", ErrStopped, done())
	case <-ctx.Done():
		return ctx.Err()
	default:
	}
	if r.o.TimeLimit > 0 && time.Since(start) >= r.o.TimeLimit {
		return fmt.Errorf("training: %w %s", ErrTimeLimit, done())
	}
	return nil
}

// after records one iteration and does what is due.
func (r *runner) after(ctx context.Context, m Metrics) error {
	step := r.s.Iteration()
	last := step >= r.o.Steps
	due := func(every int) bool { return step%every == 0 || last }
	objective := math.NaN()
	if e, ok := r.s.(Evaluator); ok && due(r.o.EvalEvery) {
		r.phase("measuring")
		found, err := e.Evaluate(ctx)
		if err != nil {
			return fmt.Errorf("training: evaluation at iteration %d: %w", step, err)
		}
		for k, v := range found {
			m[k] = v
		}
		if v, ok := found[Objective]; ok {
			objective = v
		}
	}
	if r.o.Recorder != nil {
		if err := r.o.Recorder.Metrics(step, m); err != nil {
			return err
		}
	}
	if r.o.OnStep != nil {
		r.o.OnStep(step, m)
	}
	if due(r.o.PaintEvery) {
		if err := r.paint(ctx); err != nil {
			return err
		}
	}
	better := objective < r.best
	if due(r.o.SaveEvery) || better {
		if better {
			r.best = objective
		}
		if err := r.save(); err != nil {
			return err
		}
		if better {
			if r.o.Checkpoints != "" {
				return checkpoint.MarkBest(r.o.Checkpoints, step)
			}
		}
	}
	return nil
}

func (r *runner) phase(what string) {
	if r.o.OnPhase != nil {
		r.o.OnPhase(r.s.Iteration(), what)
	}
}

func (r *runner) paint(ctx context.Context) error {
	p, ok := r.s.(Painter)
	if !ok || r.o.Pictures == nil {
		return nil
	}
	step := r.s.Iteration()
	r.phase("drawing pictures")
	pics, err := p.Pictures(ctx)
	if err != nil {
		return fmt.Errorf("training: pictures at iteration %d: %w", step, err)
	}
	r.painted = true
	return r.o.Pictures(step, pics)
}

// firstPictures shows what a run that ends before its first pictures has come to.
func (r *runner) firstPictures(ctx context.Context) error {
	if r.painted || ctx.Err() != nil || r.s.Iteration() == 0 {
		return nil
	}
	return r.paint(ctx)
}

func (r *runner) save() error {
	st, err := r.s.Save()
	if err != nil {
		return err
	}
	if st.Tensors == nil {
		st.Tensors = map[string]checkpoint.Tensor{}
	}
	st.Tensors[bestTensor] = checkpoint.Scalar(r.best)
	r.good, r.fell = CopyState(st), 0
	if r.o.Checkpoints == "" || r.o.Begin != nil {
		return nil
	}
	return checkpoint.Save(r.o.Checkpoints, st, checkpoint.Keep{})
}

// CopyState detaches a state from the live tensors it was made of.
func CopyState(s *checkpoint.State) *checkpoint.State {
	c := &checkpoint.State{Step: s.Step, Meta: append([]byte(nil), s.Meta...), Tensors: map[string]checkpoint.Tensor{}}
	for name, t := range s.Tensors {
		switch v := t.Data.(type) {
		case []float32:
			t.Data = append([]float32(nil), v...)
		case []float64:
			t.Data = append([]float64(nil), v...)
		case []int64:
			t.Data = append([]int64(nil), v...)
		case []uint64:
			t.Data = append([]uint64(nil), v...)
		case []uint8:
			t.Data = append([]uint8(nil), v...)
		}
		c.Tensors[name] = t
	}
	return c
}

// rollback returns to the last good state with half the learning rate.
func (r *runner) rollback(why error) error {
	failed := r.s.Iteration()
	r.fell++
	if limit := int(orDefault(float64(r.o.Guard.Recover), 3)); r.fell > limit {
		return fmt.Errorf("training: iteration %d: %w: gave up after %d rollbacks to iteration %d: %w", failed, ErrGuard, limit, r.good.Step, why)
	}
	if err := r.s.Restore(r.good); err != nil {
		return fmt.Errorf("training: rollback to iteration %d: %w", r.good.Step, err)
	}
	if w, ok := r.o.Recorder.(Rewinder); ok {
		if err := w.Rewind(r.good.Step); err != nil {
			return err
		}
	}
	r.s.Slow(math.Pow(0.5, float64(r.fell)))
	r.o.Guard.wide = 0
	if r.o.OnEvent != nil {
		r.o.OnEvent(failed, fmt.Sprintf("back to iteration %d with the learning rate divided by %d", r.good.Step, 1<<r.fell), why)
	}
	return nil
}
