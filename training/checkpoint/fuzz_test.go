package checkpoint

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLoad feeds both files of a checkpoint. Whatever they hold, reading must end in a state that
// survives another round trip or in a one-line error.
func FuzzLoad(f *testing.F) {
	seed := f.TempDir()
	for step, s := range []*State{{}, {Tensors: map[string]Tensor{"w": {Shape: []int{2}, Data: []float32{1, 2}}}}, sample(2)} {
		s.Step = step
		if err := Save(seed, s, Keep{Newest: 9}); err != nil {
			f.Fatal(err)
		}
		m, err := os.ReadFile(filepath.Join(seed, stepName(step), modelFile))
		if err != nil {
			f.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(seed, stepName(step), tensorsFile))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m, b)
		f.Add(m[:len(m)/2], b)
		f.Add(m, b[:len(b)/2])
		f.Add(m, bytes.Repeat([]byte{0xff}, 16))
	}
	f.Fuzz(func(t *testing.T, m, b []byte) {
		s, err := read(m, bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
				t.Fatalf("not a short line: %.1000q", err)
			}
			return
		}
		dir := t.TempDir()
		if err := Save(dir, s, Keep{}); err != nil {
			t.Fatal(err)
		}
		again, err := Load(dir, Last)
		if err != nil {
			t.Fatal(err)
		}
		same(t, again, s)
	})
}
