package checkpoint

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const killDir = "EBMRUN_CHECKPOINT_KILL_DIR"

// TestMain turns the test binary into the victim of TestKill when killDir is set.
func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		if err := saveForever(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// saveForever resumes from last and saves step after step, each of them twice, acknowledging every
// Save on standard output.
func saveForever(dir string) error {
	step := 0
	if s, err := Load(dir, Last); err == nil {
		step = s.Step // saved over again
	}
	for attempt := 0; ; attempt++ {
		if err := Save(dir, victim(step, attempt), Keep{Newest: 2, Every: 50}); err != nil {
			return err
		}
		fmt.Println(step)
		if step == 1 {
			if err := MarkBest(dir, step); err != nil {
				return err
			}
		}
		step += attempt % 2
	}
}

// victim returns a state whose every number follows from step and attempt.
func victim(step, attempt int) *State {
	w := make([]float32, 5000)
	for i := range w {
		w[i] = float32(step*31 + attempt*17 + i)
	}
	return &State{
		Step:    step,
		Meta:    json.RawMessage(strconv.Itoa(attempt)),
		Tensors: map[string]Tensor{"w": {Shape: []int{50, 100}, Data: w}, "step": Scalar(int64(step))},
	}
}

// TestKill kills a saving process at random instants. Each time last must load, whole, and be at
// least the last step that was acknowledged.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "checkpoints")
	rng := rand.New(rand.NewPCG(1, 2))
	acked, leftovers := -1, 0
	for round := range 20 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The clock starts at the first acknowledgement, so that every round saves something.
		lines := bufio.NewScanner(out)
		first := true
		for lines.Scan() {
			if acked, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(err)
			}
			if first {
				first = false
				time.AfterFunc(time.Duration(rng.IntN(60_000))*time.Microsecond, func() { cmd.Process.Kill() })
			}
		}
		cmd.Wait()
		if stderr.Len() > 0 || first {
			t.Fatalf("round %d: the child failed: %s", round, &stderr)
		}

		got, err := Load(dir, Last)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if got.Step < acked {
			t.Fatalf("round %d: got step %d, want at least the acknowledged %d", round, got.Step, acked)
		}
		attempt, err := strconv.Atoi(string(got.Meta))
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, victim(got.Step, attempt))
		if acked > 1 {
			if s, err := Load(dir, Best); err != nil || s.Step != 1 {
				t.Fatalf("round %d: best: got %v, %v", round, s, err)
			}
		}
		for _, name := range names(t, dir) {
			if strings.Contains(name, ".") {
				leftovers++
			}
		}
	}
	t.Logf("reached step %d; kills left %d temporary names behind", acked, leftovers)
	mustSave(t, dir, victim(acked+1, 0), Keep{})
	for _, name := range names(t, dir) {
		if strings.Contains(name, ".") {
			t.Errorf("left over after the next save: %s", name)
		}
	}
}
