package torchfile_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ebmrun/onnxmodels/torchfile"
)

// TestRead: both forms give the numbers of testdata/make.py.
func TestRead(t *testing.T) {
	base := make([]float64, 24)
	for i := range base {
		base[i] = float64(i)
	}
	var turned []float64
	for i := range 6 {
		for j := range 4 {
			turned = append(turned, float64(6*j+i))
		}
	}
	want := map[string]struct {
		dims   []int
		values []float64
	}{
		"plain":     {[]int{2, 3, 4}, base},
		"turned":    {[]int{6, 4}, turned},
		"part":      {[]int{6}, []float64{5, 7, 9, 11, 13, 15}},
		"double":    {[]int{2}, []float64{1.0 / 3, -2}},
		"half":      {[]int{3}, []float64{0.0999755859375, -65504, math.Ldexp(1, -24)}},
		"bfloat16":  {[]int{2}, []float64{0.10009765625, 3.00405527047391e38}},
		"steps":     {[]int{}, []float64{12345678901}},
		"none":      {[]int{0, 3}, nil},
		"parameter": {[]int{2}, []float64{7, 8}},
	}
	for _, file := range []string{"zip.pth", "plain.pth"} {
		got, err := torchfile.Read(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Errorf("%s: wanted %d tensors, got %d", file, len(want), len(got))
		}
		for name, w := range want {
			v, err := got[name].AsFloats()
			if err != nil || !slices.Equal(got[name].Dims, w.dims) || !slices.Equal(v, w.values) && len(v)+len(w.values) > 0 {
				t.Errorf("%s: %s: wanted %v %v, got %v %v (%v)", file, name, w.dims, w.values, got[name].Dims, v, err)
			}
		}
	}
	got, err := torchfile.Read("testdata/nested.pth")
	if err != nil || len(got) != 2 || !slices.Equal(got["model/weight"].Dims, []int{1, 2}) || !slices.Equal(got["model/bias"].Dims, []int{1}) {
		t.Errorf("nested: got %v (%v)", got, err)
	}
}

// TestRefused: what is more than tensors, or less than a file, is an error of one line.
func TestRefused(t *testing.T) {
	plain, err := os.ReadFile("testdata/plain.pth")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"module":     {nil, "torch.nn.modules.linear.Linear"},
		"cut off":    {plain[:len(plain)-3], "cut off"},
		"cut early":  {plain[:200], "ends early"},
		"a picture":  {[]byte("\x89PNG\r\n\x1a\n"), "not a file of PyTorch's save"},
		"other":      {[]byte("\x80\x02K\x05."), "not a file of PyTorch's save"},
		"empty":      {nil, "ends early"},
		"no such":    {nil, "no such file"},
		"less stack": {[]byte("\x80\x02R."), "stack is empty"},
	} {
		path := filepath.Join(t.TempDir(), "file")
		switch name {
		case "module":
			path = "testdata/module.pth"
		case "no such":
		default:
			if err := os.WriteFile(path, c.file, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := torchfile.Read(path); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: wanted %q in one line, got %v", name, c.want, err)
		}
	}
}

// TestSmallFilesStaySmall: programs of a few bytes that stand for much more.
func TestSmallFilesStaySmall(t *testing.T) {
	const head = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}."
	doubled := "K\x01" + strings.Repeat("q\x00h\x00\x86", 60) // a pair of pairs of pairs
	itself := "}q\x00("                                       // a dictionary that holds itself often
	for i := range 100 {
		itself += "K" + string([]byte{byte(i)}) + "h\x00"
	}
	for name, c := range map[string]struct{ program, want string }{
		"a storage of pairs":    {"\x80\x02" + doubled + "Q.", "broken program"},
		"calls pairs":           {"\x80\x02" + doubled + ")R.", "broken program"},
		"a key of pairs":        {"\x80\x02}" + doubled + "K\x01s.\x80\x02].", "wanted a name"},
		"dictionary in itself":  {"\x80\x02" + itself + "u.\x80\x02].", "without end"},
		"storages of no tensor": {"\x80\x02}.\x80\x02](" + doubled + "e.", "no tensor has"},
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(head+c.program), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := torchfile.Read(path); err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 300 {
			t.Errorf("%s: wanted %q, got %.300v", name, c.want, err)
		}
	}
}

// TestMutated reads files with random bytes changed, doubled or lost.
func TestMutated(t *testing.T) {
	rounds := 300
	if n, err := strconv.Atoi(os.Getenv("EBM_MUTATIONS")); err == nil {
		rounds = n
	}
	r := rand.New(rand.NewPCG(5, 6))
	for _, name := range []string{"zip.pth", "plain.pth", "nested.pth", "module.pth"} {
		whole, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		for range rounds {
			b := slices.Clone(whole)
			for range 1 + r.IntN(6) {
				at := r.IntN(len(b))
				switch r.IntN(4) {
				case 0:
					b[at] = byte(r.Uint32())
				case 1:
					b[at] ^= 1 << r.IntN(8)
				case 2:
					from := r.IntN(len(b))
					b = slices.Insert(b, at, slices.Clone(b[from:min(from+r.IntN(40), len(b))])...)
				case 3:
					b = slices.Delete(b, at, min(at+r.IntN(20), len(b)-1))
				}
			}
			if _, err := torchfile.ReadFrom(bytes.NewReader(b), int64(len(b))); err != nil && strings.Contains(err.Error(), "\n") {
				t.Fatalf("more than one line: %q", err)
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"zip.pth", "plain.pth", "nested.pth", "module.pth"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		torchfile.ReadFrom(bytes.NewReader(b), int64(len(b))) // may refuse, must not panic
	})
}
