package onnxio

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ebmrun/graphs"

	"google.golang.org/protobuf/proto"
)

// refer is a model with one float tensor per argument, each the external_data
// entries of a tensor of dims n.
func refer(n int, tensors ...map[string]string) string {
	s := `graph { name: "g"`
	for i, t := range tensors {
		s += fmt.Sprintf(` initializer { name: "w%d" data_type: 1 dims: %d data_location: EXTERNAL`, i, n)
		for k, v := range t {
			s += fmt.Sprintf(` external_data { key: %q value: %q }`, k, v)
		}
		s += " }"
	}
	return s + " }"
}

// inFolder writes a model and its data file in a folder that lies in another.
func inFolder(t *testing.T, text string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(filepath.Dir(dir), "secret")
	for path, b := range map[string][]byte{
		filepath.Join(dir, "m.onnx"): wireBytes(t, parse(t, text)),
		filepath.Join(dir, "w.bin"):  le(1, 2, 3, 4),
		secret:                       le(1, 2, 3, 4),
	} {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(secret, filepath.Join(dir, "out")); err != nil {
		t.Skip(err)
	}
	if err := os.Symlink("w.bin", filepath.Join(dir, "in")); err != nil {
		t.Skip(err)
	}
	return filepath.Join(dir, "m.onnx")
}

type at = map[string]string

func TestExternalRead(t *testing.T) {
	path := inFolder(t, refer(2,
		at{"location": "w.bin", "offset": "8", "length": "8", "checksum": "?"},
		at{"location": "in"},
		at{"location": "w.bin", "offset": "8"},
	))
	m, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]float32{{3, 4}, {1, 2}, {3, 4}} {
		if got := m.Graph.Inits[i].Const.F32(); !slices.Equal(got, want) {
			t.Errorf("tensor %d: got %v, want %v", i, got, want)
		}
	}
	if &m.Graph.Inits[0].Const.F32()[0] != &m.Graph.Inits[2].Const.F32()[0] {
		t.Error("equal regions are held twice")
	}
	// Encoded, the model stands alone.
	b, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	if m, err = Decode(b); err != nil || !slices.Equal(m.Graph.Inits[0].Const.F32(), []float32{3, 4}) {
		t.Errorf("embedded: %v", err)
	}
}

func TestExternalRefused(t *testing.T) {
	abs, _ := filepath.Abs("onnxio.go")
	for name, c := range map[string]struct {
		entries at
		want    string
	}{
		"absolute":      {at{"location": abs}, "path is not inside the model's folder"},
		"parent":        {at{"location": "../secret"}, "path is not inside"},
		"hidden parent": {at{"location": "a/../../secret"}, "path is not inside"},
		"link out":      {at{"location": "out"}, `initializer "w0": external data "out": path escapes`},
		"folder":        {at{"location": "."}, "not a regular file"},
		"no location":   {at{"offset": "0"}, "path is not inside"},
		"missing":       {at{"location": "none"}, "no such file"},
		"offset beyond": {at{"location": "w.bin", "offset": "12"}, "wanted 8 bytes at 12, the file holds 16"},
		"far offset":    {at{"location": "w.bin", "offset": "9223372036854775807"}, "the file holds 16"},
		"huge offset":   {at{"location": "w.bin", "offset": "9223372036854775808"}, "bad offset"},
		"negative":      {at{"location": "w.bin", "offset": "-8"}, `bad offset "-8"`},
		"bad length":    {at{"location": "w.bin", "length": "x"}, `bad length "x"`},
		"short length":  {at{"location": "w.bin", "length": "4"}, "needs 8 bytes, got 4"},
		"long length":   {at{"location": "w.bin", "length": "16"}, "needs 8 bytes, got 16"},
	} {
		t.Run(name, func(t *testing.T) {
			path := inFolder(t, refer(2, c.entries))
			_, err := Read(path)
			oneLine(t, err, c.want)
			if err != nil && !strings.Contains(err.Error(), path+": ") {
				t.Errorf("no file name: %v", err)
			}
		})
	}
	if _, err := Read(inFolder(t, refer(0, at{"location": "w.bin", "length": "0"}))); err != nil {
		t.Errorf("no elements: %v", err)
	}
	_, err := Read(inFolder(t, refer(1<<38, at{"location": "w.bin"})))
	oneLine(t, err, "wanted 1099511627776 bytes")

	var many []at
	for off := range 8 {
		many = append(many, at{"location": "w.bin", "offset": fmt.Sprint(off)})
	}
	if _, err := Read(inFolder(t, refer(2, many...))); err != nil {
		t.Errorf("8 tensors of half the file: %v", err)
	}
	many = append(many, at{"location": "w.bin", "offset": "8"})
	_, err = Read(inFolder(t, refer(2, many...)))
	oneLine(t, err, "too many tensors overlap")
}

func TestExternalWrite(t *testing.T) {
	m := decodeText(t, mlp)
	big := graphs.NewTensor(graphs.Float32, 2, 300)
	for i := range big.F32() {
		big.F32()[i] = float32(i)
	}
	m.Graph.Inits[0].Const = big
	m.Graph.Nodes[0].Attrs = []*graphs.Attr{graphs.T("t", big)}
	embedded, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	path := filepath.Join(dir, "m.onnx")
	if err := WriteExternal(path, m); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Size() > 1000 || st.Mode().Perm() != 0o644 {
		t.Fatalf("%v %v", st, err)
	}
	if st, err = os.Stat(path + ".data"); err != nil || st.Size() != 4096+2400 {
		t.Fatalf("data: %v %v", st, err)
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Graph.Inits[0].Const.F32(), big.F32()) || !slices.Equal(got.Graph.Nodes[0].Attr("t").T.F32(), big.F32()) {
		t.Error("content differs")
	}
	if b, _ := Encode(got); !proto.Equal(encodeParse(t, got), encodeParse(t, m)) || len(b) != len(embedded) {
		t.Error("embedded again, the model differs")
	}

	// What was external stays so, under the new name; the rest stays embedded.
	got.Graph.Nodes[0].Attrs[0].T = big
	other := filepath.Join(dir, "other.onnx")
	if err := Write(other, got); err != nil {
		t.Fatal(err)
	}
	if st, err = os.Stat(other + ".data"); err != nil || st.Size() != 2400 {
		t.Fatalf("data: %v %v", st, err)
	}
	if again, err := Read(other); err != nil || !slices.Equal(again.Graph.Inits[0].Const.F32(), big.F32()) {
		t.Error(err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 4 {
		t.Errorf("left behind: %v", list)
	}
	oneLine(t, Write(filepath.Join(dir, "none", "m.onnx"), m), "m.onnx: no such file")
}

// Write chooses external data by this sum.
func TestWeightBytes(t *testing.T) {
	m := decodeText(t, kitchenSink)
	before := weightBytes(m)
	m.Graph.Inits[0].Const = &graphs.Tensor{Type: graphs.Float32, Dims: []int{1 << 30}}
	inner := m.Graph.Nodes[2].Attr("else_branch").G.Inits[0]
	inner.Const = &graphs.Tensor{Type: graphs.Float64, Dims: []int{1 << 30}}
	if got, want := weightBytes(m)-before, 12<<30-2*4-8; got != want {
		t.Errorf("got %d bytes more, want %d", got, want)
	}
}
