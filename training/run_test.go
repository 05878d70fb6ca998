package training_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

// toy is a system in plain Go: w descends w²/2, and the numbers can be made to
// go bad.
type toy struct {
	w    []float32
	iter int
	rate float64

	metrics  func(s *toy, m training.Metrics)
	fail     func(s *toy) error // before the iteration
	evaluate func(s *toy) (training.Metrics, error)
	restored int
}

func newToy() *toy { return &toy{w: []float32{1}, rate: 0.1} }

func (s *toy) Step(ctx context.Context) (training.Metrics, error) {
	s.w[0] -= float32(s.rate) * s.w[0]
	if s.fail != nil {
		if err := s.fail(s); err != nil {
			return nil, err
		}
	}
	s.iter++
	m := training.Metrics{training.Value: float64(s.w[0]), training.DataStd: 1, training.SampleStd: 1}
	if s.metrics != nil {
		s.metrics(s, m)
	}
	return m, nil
}

func (s *toy) Iteration() int { return s.iter }

func (s *toy) Save() (*checkpoint.State, error) {
	return &checkpoint.State{Step: s.iter, Meta: json.RawMessage("{}"), Tensors: map[string]checkpoint.Tensor{
		"w": {Shape: []int{1}, Data: s.w}, "rate": checkpoint.Scalar(s.rate),
	}}, nil
}

func (s *toy) Restore(st *checkpoint.State) error {
	w, err := checkpoint.Values[float32](st, "w", 1)
	if err != nil {
		return err
	}
	rate, err := checkpoint.Values[float64](st, "rate")
	if err != nil {
		return err
	}
	copy(s.w, w)
	s.rate, s.iter = rate[0], st.Step
	s.restored++
	return nil
}

func (s *toy) Slow(f float64) { s.rate *= f }

func (s *toy) Evaluate(context.Context) (training.Metrics, error) {
	if s.evaluate == nil {
		return nil, nil
	}
	return s.evaluate(s)
}

type recorder struct{ steps []int }

func (r *recorder) Metrics(step int, m map[string]float64) error {
	r.steps = append(r.steps, step)
	return nil
}

// decayed is the toy's weight after so many steps.
func decayed(steps int, rate float64) float32 {
	w := float32(1)
	for range steps {
		w -= float32(rate) * w
	}
	return w
}

func TestRun(t *testing.T) {
	s, r := newToy(), &recorder{}
	var seen []int
	err := training.Run(t.Context(), s, training.Options{Steps: 7, Recorder: r, OnStep: func(step int, m training.Metrics) {
		seen = append(seen, step)
		if m[training.Value] != float64(s.w[0]) {
			t.Errorf("step %d: told V = %g", step, m[training.Value])
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if s.w[0] != decayed(7, 0.1) || s.iter != 7 {
		t.Errorf("after 7 iterations: %d, w = %g", s.iter, s.w[0])
	}
	if want := []int{1, 2, 3, 4, 5, 6, 7}; !slices.Equal(r.steps, want) || !slices.Equal(seen, want) {
		t.Errorf("recorded %v, saw %v", r.steps, seen)
	}
}

// TestGuards: each kind of bad number sends the run back to the last good
// checkpoint at half the rate; it then goes on to the end.
func TestGuards(t *testing.T) {
	bad := map[string]func(s *toy, m training.Metrics){
		"NaN":      func(s *toy, m training.Metrics) { m["x"] = math.NaN() },
		"infinite": func(s *toy, m training.Metrics) { m["x"] = math.Inf(-1) },
		"value":    func(s *toy, m training.Metrics) { m[training.Value] = -1001 },
	}
	for name, spoil := range bad {
		t.Run(name, func(t *testing.T) {
			s := newToy()
			hits := 0
			s.metrics = func(s *toy, m training.Metrics) {
				if s.iter == 5 && hits < 2 {
					hits++
					spoil(s, m)
				}
			}
			r := &recorder{}
			var events []string
			err := training.Run(t.Context(), s, training.Options{Steps: 8, SaveEvery: 4, Recorder: r, OnEvent: func(step int, what string, err error) {
				if step != 5 || !errors.Is(err, training.ErrGuard) {
					t.Errorf("event at %d: %v", step, err)
				}
				events = append(events, what)
			}})
			if err != nil {
				t.Fatal(err)
			}
			// Two rollbacks to iteration 4 leave a quarter of the rate.
			want := decayed(4, 0.1)
			for range 4 {
				want -= float32(0.1*0.25) * want
			}
			if s.rate != 0.1*0.25 || s.w[0] != want || s.restored != 2 {
				t.Errorf("wanted w = %g at rate 0.025 after 2 rollbacks; got %g, %g, %d", want, s.w[0], s.rate, s.restored)
			}
			if len(events) != 2 || !strings.Contains(events[0], "divided by 2") || !strings.Contains(events[1], "divided by 4") {
				t.Errorf("events %q", events)
			}
			if !slices.Equal(r.steps, []int{1, 2, 3, 4, 5, 6, 7, 8}) {
				t.Errorf("recorded %v: bad iterations must not be", r.steps)
			}
		})
	}
}

// TestFallsAgain: a checkpoint after a rollback makes it one that has worked; the
// next fall counts anew and halves the rate once more.
func TestFallsAgain(t *testing.T) {
	s := newToy()
	fallen := map[int]bool{}
	s.metrics = func(s *toy, m training.Metrics) {
		if (s.iter == 2 || s.iter == 6) && !fallen[s.iter] {
			fallen[s.iter] = true
			m["x"] = math.NaN()
		}
	}
	o := training.Options{Steps: 8, SaveEvery: 4}
	o.Guard.Recover = 1
	if err := training.Run(t.Context(), s, o); err != nil || s.restored != 2 || s.rate != 0.1*0.25 {
		t.Errorf("wanted 2 rollbacks and a quarter of the rate, got %d, %g, %v", s.restored, s.rate, err)
	}
}

// TestPatience: a rollback forgets the wide samples of the iterations it undoes.
func TestPatience(t *testing.T) {
	s := newToy()
	failed := false
	s.metrics = func(s *toy, m training.Metrics) {
		switch {
		case s.iter == 3 && !failed:
			failed = true
			m["x"] = math.NaN()
		case s.iter <= 2:
			m[training.SampleStd] = 10
		}
	}
	if err := training.Run(t.Context(), s, training.Options{Steps: 6, SaveEvery: 10}); err != nil || s.restored != 1 {
		t.Errorf("wanted one rollback, got %d, %v", s.restored, err)
	}
}

// TestNumericErrors: errors that mean bad numbers are recovered from; others
// end the run at once.
func TestNumericErrors(t *testing.T) {
	other := errors.New("disk on fire")
	for _, c := range []struct {
		err     error
		recover bool
	}{
		{fmt.Errorf("step: %w", &sampler.NonFiniteError{What: "energy", Value: float32(math.NaN())}), true},
		{fmt.Errorf("step: %w", optim.ErrNonFinite), true},
		{other, false},
	} {
		s := newToy()
		failed := false
		s.fail = func(s *toy) error {
			if s.iter == 2 && !failed {
				failed = true
				return c.err
			}
			return nil
		}
		err := training.Run(t.Context(), s, training.Options{Steps: 4, SaveEvery: 1})
		switch {
		case c.recover && (err != nil || s.restored != 1 || s.iter != 4):
			t.Errorf("%v: not recovered from: %v", c.err, err)
		case !c.recover && (!errors.Is(err, other) || s.restored != 0):
			t.Errorf("%v: got %v after %d rollbacks", c.err, err, s.restored)
		}
	}
}

func TestGivesUp(t *testing.T) {
	for _, limit := range []int{0, 1} {
		s := newToy()
		s.metrics = func(s *toy, m training.Metrics) {
			if s.iter == 5 {
				m[training.Value] = math.NaN()
			}
		}
		o := training.Options{Steps: 8, SaveEvery: 2, Checkpoints: filepath.Join(t.TempDir(), "c")}
		o.Guard.Recover = limit
		err := training.Run(t.Context(), s, o)
		if !errors.Is(err, training.ErrGuard) {
			t.Fatalf("wanted the guard's error, got %v", err)
		}
		want := limit
		if limit == 0 {
			want = 3
		}
		if s.restored != want {
			t.Errorf("wanted %d rollbacks, got %d", want, s.restored)
		}
		if !strings.Contains(err.Error(), "V is NaN") || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %q", err)
		}
		if st, err := checkpoint.Load(o.Checkpoints, checkpoint.Last); err != nil || st.Step != 4 {
			t.Errorf("the last good checkpoint is lost: %v", err)
		}
	}
}

// TestWideSamples: a deviation beyond three times the data's is let pass twice.
func TestWideSamples(t *testing.T) {
	wide := training.Metrics{training.SampleStd: 3.1, training.DataStd: 1}
	good := training.Metrics{training.SampleStd: 2.9, training.DataStd: 1}
	var g training.Guard
	for i, m := range []training.Metrics{wide, wide, good, wide, wide} {
		if err := g.Check(m); err != nil {
			t.Errorf("iteration %d: %v", i, err)
		}
	}
	if err := g.Check(wide); !errors.Is(err, training.ErrGuard) {
		t.Errorf("three in a row: %v", err)
	}
	if err := g.Check(wide); err != nil {
		t.Errorf("the count does not begin anew: %v", err)
	}
	g = training.Guard{MaxStd: 2, Patience: 1, MaxValue: 5}
	if err := g.Check(good); !errors.Is(err, training.ErrGuard) {
		t.Errorf("2.9 of at most 2: %v", err)
	}
	if err := g.Check(training.Metrics{training.Value: 5.1}); !errors.Is(err, training.ErrGuard) {
		t.Errorf("|V| 5.1 of at most 5: %v", err)
	}
	if err := g.Check(training.Metrics{training.Value: -4.9}); err != nil {
		t.Errorf("|V| 4.9 of at most 5: %v", err)
	}
}

func TestTimeLimit(t *testing.T) {
	s := newToy()
	s.metrics = func(*toy, training.Metrics) { time.Sleep(time.Millisecond) }
	dir := filepath.Join(t.TempDir(), "c")
	err := training.Run(t.Context(), s, training.Options{Steps: 1 << 30, TimeLimit: 50 * time.Millisecond, Checkpoints: dir})
	if !errors.Is(err, training.ErrTimeLimit) {
		t.Fatalf("wanted %v, got %v", training.ErrTimeLimit, err)
	}
	st, err := checkpoint.Load(dir, checkpoint.Last)
	if err != nil || st.Step != s.iter {
		t.Errorf("saved %+v at iteration %d (%v)", st, s.iter, err)
	}
}

func TestStop(t *testing.T) {
	for name, stop := range map[string]func(o *training.Options, s *toy) context.Context{
		"stop": func(o *training.Options, s *toy) context.Context {
			c := make(chan struct{})
			o.Stop = c
			s.metrics = func(s *toy, _ training.Metrics) {
				if s.iter == 3 {
					close(c)
				}
			}
			return context.Background()
		},
		"context between iterations": func(o *training.Options, s *toy) context.Context {
			ctx, cancel := context.WithCancel(context.Background())
			s.metrics = func(s *toy, _ training.Metrics) {
				if s.iter == 3 {
					cancel()
				}
			}
			return ctx
		},
	} {
		s, o := newToy(), training.Options{Steps: 100, SaveEvery: 50, Checkpoints: filepath.Join(t.TempDir(), "c")}
		ctx := stop(&o, s)
		err := training.Run(ctx, s, o)
		if name == "stop" && !errors.Is(err, training.ErrStopped) || name != "stop" && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", name, err)
		}
		if st, err := checkpoint.Load(o.Checkpoints, checkpoint.Last); err != nil || st.Step != 3 {
			t.Errorf("%s: iteration 3 was not saved: %v", name, err)
		}
	}

	// An iteration that the context breaks off is not saved, nor taken for a bad number.
	s, o := newToy(), training.Options{Steps: 100, SaveEvery: 2, Checkpoints: filepath.Join(t.TempDir(), "c")}
	ctx, cancel := context.WithCancel(context.Background())
	s.fail = func(s *toy) error {
		if s.iter == 3 {
			cancel()
			return fmt.Errorf("step: %w", ctx.Err())
		}
		return nil
	}
	if err := training.Run(ctx, s, o); !errors.Is(err, context.Canceled) {
		t.Errorf("broken off: got %v", err)
	}
	if st, err := checkpoint.Load(o.Checkpoints, checkpoint.Last); err != nil || st.Step != 2 || s.restored != 0 {
		t.Errorf("broken off: wanted the checkpoint of iteration 2, got %v, %v", st, err)
	}
}

// TestResume: 4 iterations, and 6 more by another system, are 10 at once. The
// best objective is remembered across the two, and best points at its step.
func TestResume(t *testing.T) {
	objectives := map[int]float64{1: 5, 2: 3, 3: 4, 4: 6, 5: 3.5, 6: 7, 7: 2, 8: 9, 9: 9, 10: 2.5}
	evaluate := func(s *toy) (training.Metrics, error) {
		return training.Metrics{training.Objective: objectives[s.iter]}, nil
	}
	best := func(dir string) int {
		st, err := checkpoint.Load(dir, checkpoint.Best)
		if err != nil {
			t.Fatal(err)
		}
		return st.Step
	}
	dir := filepath.Join(t.TempDir(), "c")
	first := newToy()
	first.evaluate = evaluate
	o := training.Options{Steps: 4, EvalEvery: 1, SaveEvery: 4, Checkpoints: dir}
	if err := training.Run(t.Context(), first, o); err != nil {
		t.Fatal(err)
	}
	if best(dir) != 2 {
		t.Errorf("after 4 iterations the best is %d, wanted 2", best(dir))
	}
	second := newToy()
	second.evaluate = evaluate
	low, fallback, err := training.Resume(second, dir)
	if err != nil || fallback != nil || low != 3 || second.iter != 4 {
		t.Fatalf("resumed at %d with best %g: %v, %v", second.iter, low, fallback, err)
	}
	var marked []int
	o.Steps, o.Best = 10, low
	o.OnStep = func(step int, m training.Metrics) {
		if m[training.Objective] != objectives[step] {
			t.Errorf("iteration %d: objective %g is not recorded", step, m[training.Objective])
		}
		marked = append(marked, best(dir)) // before this iteration is judged
	}
	if err := training.Run(t.Context(), second, o); err != nil {
		t.Fatal(err)
	}
	if want := []int{2, 2, 2, 7, 7, 7}; !slices.Equal(marked, want) || best(dir) != 7 {
		t.Errorf("best was %v, then %d; wanted %v, then 7", marked, best(dir), want)
	}
	if second.w[0] != decayed(10, 0.1) {
		t.Errorf("wanted w = %g, got %g", decayed(10, 0.1), second.w[0])
	}
	if _, _, err := training.Resume(newToy(), t.TempDir()); !errors.Is(err, checkpoint.ErrNone) {
		t.Errorf("an empty folder: %v", err)
	}
}

// painted is a toy with pictures.
type painted struct{ *toy }

func (painted) Pictures(context.Context) ([]training.Picture, error) { return nil, nil }

// TestPictures: there are pictures when they are due and at the end, and of a run that stops before the first.
func TestPictures(t *testing.T) {
	for _, c := range []struct {
		stop int // iterations until it is asked to, 0 for never
		want []int
	}{{0, []int{4, 8, 9}}, {3, []int{3}}, {6, []int{4}}} {
		var got, announced []int
		stop := make(chan struct{})
		err := training.Run(t.Context(), painted{newToy()}, training.Options{
			Steps: 9, PaintEvery: 4, Stop: stop,
			OnPhase: func(step int, what string) {
				if what == "drawing pictures" {
					announced = append(announced, step)
				}
			},
			OnStep: func(step int, _ training.Metrics) {
				if step == c.stop {
					close(stop)
				}
			},
			Pictures: func(step int, _ []training.Picture) error {
				got = append(got, step)
				return nil
			},
		})
		if (c.stop > 0) != errors.Is(err, training.ErrStopped) || !slices.Equal(got, c.want) {
			t.Errorf("stopped after %d: pictures at %v, wanted %v; %v", c.stop, got, c.want, err)
		}
		if !slices.Equal(announced, got) {
			t.Errorf("announced pictures at %v, drew them at %v", announced, got)
		}
	}
}

func TestEvaluationError(t *testing.T) {
	s := newToy()
	s.evaluate = func(*toy) (training.Metrics, error) { return nil, errors.New("no judge") }
	var phases []string
	say := func(_ int, what string) { phases = append(phases, what) }
	defer func() {
		if !slices.Equal(phases, []string{"measuring"}) {
			t.Errorf("announced %q", phases)
		}
	}()
	if err := training.Run(t.Context(), s, training.Options{Steps: 2, OnPhase: say}); err == nil || !strings.Contains(err.Error(), "evaluation at iteration 1") {
		t.Errorf("got %v", err)
	}
}

// TestBegin: a run begins after its first iteration, before anything is saved or recorded, with a checkpoint of
// where it started; one that fails in that iteration leaves nothing.
func TestBegin(t *testing.T) {
	sick, numeric := errors.New("no such provider"), fmt.Errorf("score: %w", optim.ErrNonFinite)
	stopped := make(chan struct{})
	close(stopped)
	for name, c := range map[string]struct {
		steps  int
		stop   chan struct{}
		fails  error // in the first iteration
		begin  error
		want   error
		begins int
		saved  []int
	}{
		"plain":           {steps: 2, begins: 1, saved: []int{0, 2}},
		"nothing to do":   {steps: 0, begins: 1, saved: []int{0}},
		"asked to stop":   {steps: 2, stop: stopped, want: training.ErrStopped, begins: 1, saved: []int{0}},
		"fails":           {steps: 2, fails: sick, want: sick},
		"bad numbers":     {steps: 2, fails: numeric, begins: 1, saved: []int{0, 2}},
		"cannot begin":    {steps: 2, begin: sick, want: sick, begins: 1},
		"bad and neither": {steps: 2, fails: numeric, begin: sick, want: sick, begins: 1},
	} {
		s, rec, begins, failed := newToy(), &recorder{}, 0, false
		s.fail = func(*toy) error {
			if failed {
				return nil
			}
			failed = true
			return c.fails
		}
		dir := filepath.Join(t.TempDir(), "checkpoints")
		saved := func() []int {
			steps, _ := checkpoint.Steps(dir) // none if there is no folder
			return steps
		}
		err := training.Run(t.Context(), s, training.Options{Steps: c.steps, Checkpoints: dir, SaveEvery: 9, Stop: c.stop, Recorder: rec, Begin: func() error {
			if begins++; len(saved()) > 0 || rec.steps != nil {
				t.Errorf("%s: saved %v, recorded %v before the beginning", name, saved(), rec.steps)
			}
			return c.begin
		}})
		if !errors.Is(err, c.want) || begins != c.begins || !slices.Equal(saved(), c.saved) {
			t.Errorf("%s: wanted %v, %d beginnings and checkpoints %v, got %v, %d and %v", name, c.want, c.begins, c.saved, err, begins, saved())
		}
	}
}
