package generativeconvnet_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/generativeconvnet"
	"ebmrun/training/systemtest"
)

// Environment of a child process that trains until it is killed, or up to a
// number of iterations.
const (
	childDir   = "EBMRUN_TRAINING_KILL_DIR"
	childSteps = "EBMRUN_TRAINING_KILL_STEPS"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// everything turns on all that a checkpoint must hold: a bank, restarts, data
// noise, averages, spectral normalisation, a learning rate that falls.
func everything() generativeconvnet.Config {
	c := config(func(c *generativeconvnet.Config) {
		c.Spec = &energy.Spec{Layers: []energy.Layer{{Filters: 4, Kernel: 3, Pad: 1}, {Filters: 4, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 1, Kernel: 4}}, Activation: "swish"}
		c.Batch, c.Chains.Buffer, c.Chains.Restart = 6, 20, 0.2
		c.Langevin = training.Langevin{Steps: 3, Step: 0.2, Noise: 1, GradClip: 1, Clamp: [2]float64{-1, 1}, Fused: true}
		c.Data.Noise, c.EMA, c.Spectral, c.ScoreL2 = 0.1, 0.9, true, 0.1
		c.Optim = training.Optim{LR: 1e-2, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1, Over: 1000}
	})
	return c
}

// fresh is a new system as a new process would make it.
func fresh(c generativeconvnet.Config, e runtime.Engine) (*generativeconvnet.System, error) {
	set, err := data.Load(context.Background(), "synthetic/shape", data.Options{Seed: 2, Size: 8, Limit: 25})
	if err != nil {
		return nil, err
	}
	m, err := energy.Build(*c.Spec, []int{set.C, set.H, set.W}, c.Reference.Sigma, 1)
	if err != nil {
		return nil, err
	}
	b, err := bind.New(context.Background(), m, e, bind.Options{Runtime: runtime.Options{Threads: 1, NoSpin: true}, Spectral: c.Spectral})
	if err != nil {
		return nil, err
	}
	return generativeconvnet.New(c, b, set, 9)
}

// freshFor does so for a test, at whose end the energy is closed.
func freshFor(t *testing.T, c generativeconvnet.Config, e runtime.Engine) *generativeconvnet.System {
	t.Helper()
	s, err := fresh(c, e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Energy.(io.Closer).Close() })
	return s
}

// final trains a new system from the beginning to the given iteration.
func final(t *testing.T, c generativeconvnet.Config, e runtime.Engine, steps int) *checkpoint.State {
	t.Helper()
	s := freshFor(t, c, e)
	dir := t.TempDir()
	if err := training.Run(t.Context(), s, training.Options{Steps: steps, Checkpoints: dir, SaveEvery: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	st, err := checkpoint.Load(dir, checkpoint.Last)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// TestResume: 10 iterations, and 5 saved, restored in a new system and 5 more,
// are the same bits in every way of starting chains, fused or not.
func TestResume(t *testing.T) {
	for _, start := range []generativeconvnet.Chains{
		{Init: generativeconvnet.Persistent, Buffer: 20, Restart: 0.2},
		{Init: generativeconvnet.FromData},
		{Init: generativeconvnet.FromNoise},
	} {
		for _, fused := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, fused %v", start.Init, fused), func(t *testing.T) {
				engine := onnxRuntime(t)
				c := everything()
				c.Chains, c.Langevin.Fused = start, fused
				resume(t, c, engine)
			})
		}
	}
	t.Run("reference engine", func(t *testing.T) { resume(t, everything(), ref.New()) })
}

func resume(t *testing.T, c generativeconvnet.Config, e runtime.Engine) {
	_, end := systemtest.Resume(t, func() *generativeconvnet.System { return freshFor(t, c, e) })
	if len(end.Tensors) < 10 {
		t.Errorf("only %d tensors are saved", len(end.Tensors))
	}
}

// TestRollback: going back to the same checkpoint twice gives the same bits, so
// what follows a rollback does not touch what the next one restores.
func TestRollback(t *testing.T) {
	s := freshFor(t, everything(), ref.New())
	dir := t.TempDir()
	if err := training.Run(t.Context(), s, training.Options{Steps: 3, Checkpoints: dir}); err != nil {
		t.Fatal(err)
	}
	good, err := checkpoint.Load(dir, checkpoint.Last)
	if err != nil {
		t.Fatal(err)
	}
	var after [2]*checkpoint.State
	for i := range after {
		if err := s.Restore(good); err != nil {
			t.Fatal(err)
		}
		other := filepath.Join(t.TempDir(), "c")
		if err := training.Run(t.Context(), s, training.Options{Steps: 6, Checkpoints: other}); err != nil {
			t.Fatal(err)
		}
		if after[i], err = checkpoint.Load(other, checkpoint.Last); err != nil {
			t.Fatal(err)
		}
	}
	systemtest.Same(t, "after the second rollback", after[0], after[1])
}

// TestForeignCheckpoint: a checkpoint of other data, scale, seed or system is
// refused.
func TestForeignCheckpoint(t *testing.T) {
	c := config(func(c *generativeconvnet.Config) {})
	set := points(t, 30, []float32{0, 0}, 1)
	s := system(t, c, newPolynomial(2, 1), set)
	st, err := s.Save()
	if err != nil {
		t.Fatal(err)
	}
	scaled := *set
	scaled.Gain = 0.5
	other, err := generativeconvnet.New(c, newPolynomial(2, 1), set, 4)
	if err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string]*generativeconvnet.System{
		"other data": system(t, c, newPolynomial(2, 1), points(t, 30, []float32{0, 1}, 1)),
		"scale":      system(t, c, newPolynomial(2, 1), &scaled),
		"seed 3":     other,
		"chains/":    system(t, config(func(c *generativeconvnet.Config) { c.Chains.Buffer = 60 }), newPolynomial(2, 1), set),
	} {
		if err := s.Restore(st); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %s, got %v", want, err)
		}
	}
	foreign := *st
	foreign.Meta = []byte(strings.Replace(string(st.Meta), "generative-convnet", "flow", 1))
	if err := s.Restore(&foreign); err == nil || !strings.Contains(err.Error(), "flow") {
		t.Errorf("wanted an error about system flow, got %v", err)
	}
}

// child trains with frequent checkpoints, resuming from what is there, and
// tells every checkpoint's iteration on standard output.
func child(dir string) error {
	steps, err := strconv.Atoi(os.Getenv(childSteps))
	if err != nil {
		return err
	}
	e, err := ort.Open("")
	if err != nil {
		return err
	}
	s, err := fresh(everything(), e)
	if err != nil {
		return err
	}
	if done, err := checkpoint.Steps(dir); err != nil {
		return err
	} else if len(done) > 0 {
		if _, _, err := training.Resume(s, dir); err != nil {
			return err
		}
	}
	start := s.Iteration()
	return training.Run(context.Background(), s, training.Options{
		Steps: steps, Checkpoints: dir, SaveEvery: 3,
		OnStep: func(step int, _ training.Metrics) {
			if step%3 == 1 && step-1 > start { // the one before was saved just now
				fmt.Println(step - 1)
			}
		},
	})
}

// TestKill kills a training process at random instants, 20 times. No
// acknowledged checkpoint may be lost, and the end must be that of a run which
// nothing interrupted, bit for bit.
func TestKill(t *testing.T) {
	engine := onnxRuntime(t)
	dir := filepath.Join(t.TempDir(), "checkpoints")
	rng := rand.New(rand.NewPCG(1, 2))
	run := func(steps int, onAck func(cmd *exec.Cmd, step int)) error {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir, childSteps+"="+strconv.Itoa(steps))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			step, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatalf("the child says %q", lines.Text())
			}
			onAck(cmd, step)
		}
		err = cmd.Wait()
		if stderr.Len() > 0 {
			t.Fatalf("the child failed: %s", &stderr)
		}
		return err
	}
	acked := 0
	for round := range 20 {
		first := true
		if err := run(1<<30, func(cmd *exec.Cmd, step int) {
			acked = step
			if first { // so that every round gets on
				first = false
				time.AfterFunc(time.Duration(rng.IntN(30_000))*time.Microsecond, func() { cmd.Process.Kill() })
			}
		}); err == nil {
			t.Fatal("a child that was to be killed ended by itself")
		}
		st, err := checkpoint.Load(dir, checkpoint.Last)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if st.Step < acked {
			t.Fatalf("round %d: iteration %d was saved, the last checkpoint is %d", round, acked, st.Step)
		}
	}
	end := acked + 8
	if err := run(end, func(*exec.Cmd, int) {}); err != nil {
		t.Fatal(err)
	}
	got, err := checkpoint.Load(dir, checkpoint.Last)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("killed 20 times in %d iterations", got.Step)
	systemtest.Same(t, "killed", final(t, everything(), engine, got.Step), got)
}
