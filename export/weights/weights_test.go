package weights_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"ebmrun/export/weights"
	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
)

func model(t testing.TB, seed uint64) *onnxmodels.Model {
	t.Helper()
	m, err := energy.Build(energy.Spec{Layers: []energy.Layer{{Filters: 3, Kernel: 3}, {Filters: 1, Kernel: 2}}, Activation: "swish"}, []int{2, 4, 4}, 1, seed)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// mixed holds every type and rank that both formats have.
func mixed() weights.Tensors {
	return weights.Tensors{
		"a/weight": graphs.Of([]float32{1, -2, 3, 4, float32(math.Inf(1)), 6}, 1, 2, 3),
		"b.bias":   graphs.Of([]float64{0.1}, 1),
		"scalar":   graphs.Of([]float32{2.5}),
		"ünï code": graphs.Of([]int64{-1 << 60, 7}, 2),
		"i32":      graphs.Of([]int32{-5, 6}, 2, 1), "i16": graphs.Of([]int16{-5}, 1), "i8": graphs.Of([]int8{-5}, 1),
		"u64": graphs.Of([]uint64{1 << 63}, 1), "u32": graphs.Of([]uint32{5}, 1), "u8": graphs.Of([]uint8{200, 1}, 2),
		"flags": graphs.Of([]bool{true, false, true, true}, 2, 2, 1, 1),
	}
}

var writers = map[string]func(*bytes.Buffer, weights.Tensors) error{
	"w.safetensors": func(b *bytes.Buffer, w weights.Tensors) error {
		return weights.Safetensors(b, w, map[string]string{"format": "pt"})
	},
	"w.npz": func(b *bytes.Buffer, w weights.Tensors) error { return weights.NPZ(b, w) },
}

func save(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRoundTrip(t *testing.T) {
	for name, write := range writers {
		var b, again bytes.Buffer
		if err := write(&b, mixed()); err != nil {
			t.Fatal(err)
		}
		write(&again, mixed())
		if !bytes.Equal(b.Bytes(), again.Bytes()) {
			t.Errorf("%s: two files of the same weights differ", name)
		}
		got, about, err := weights.Read(save(t, name, b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, mixed()) {
			t.Errorf("%s: wanted %v, got %v", name, mixed(), got)
		}
		if name == "w.safetensors" && about["format"] != "pt" {
			t.Errorf("got %v about the file", about)
		}
	}
}

// TestWayBack: the weights of one model turn another of the same network into it.
func TestWayBack(t *testing.T) {
	from, to := model(t, 1), model(t, 2)
	for name, write := range writers {
		var b bytes.Buffer
		if err := write(&b, weights.Of(from.Model)); err != nil {
			t.Fatal(err)
		}
		w, _, err := weights.Read(save(t, name, b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		m, err := weights.Into(to, w)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(weights.Of(m.Model), weights.Of(from.Model)) || reflect.DeepEqual(weights.Of(to.Model), weights.Of(from.Model)) {
			t.Errorf("%s: the weights did not get across, or changed the model they were to replace", name)
		}
	}
	w := weights.Of(from.Model)
	for first := range w {
		old := w[first]
		delete(w, first)
		refuse(t, to, w, "no tensor", first)
		w[first] = graphs.Of([]float32{1}, 1, 1, 1, 1, 1)
		refuse(t, to, w, "wanted", first)
		w[first] = old
	}
	w["other"] = graphs.Of([]float32{1}, 1)
	refuse(t, to, w, `"other" is not a weight`)
}

func refuse(t *testing.T, m *onnxmodels.Model, w weights.Tensors, want ...string) {
	t.Helper()
	_, err := weights.Into(m, w)
	for _, s := range want {
		if err == nil || !strings.Contains(err.Error(), s) {
			t.Errorf("wanted an error with %q, got %v", s, err)
		}
	}
}

func TestUnwritable(t *testing.T) {
	for name, tensor := range map[string]*graphs.Tensor{
		"": graphs.Of([]float32{1}, 1), "__metadata__": graphs.Of([]float32{1}, 1), "bad\xff": graphs.Of([]float32{1}, 1),
		"empty": graphs.NewTensor(graphs.Float32, 0, 3), "text": {Type: graphs.String, Dims: []int{1}, Data: [][]byte{{1}}},
	} {
		for file, write := range writers {
			if err := write(new(bytes.Buffer), weights.Tensors{name: tensor}); err == nil {
				t.Errorf("%s: tensor %q was written", file, name)
			}
		}
	}
	if weights.NPZ(new(bytes.Buffer), weights.Tensors{"h": graphs.NewTensor(graphs.BFloat16, 2)}) == nil {
		t.Error("NumPy has no bfloat16, yet it was written")
	}
}

// safe makes a safetensors file out of a header and data.
func safe(header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, data)...)
}

// zipped makes an npz file with one entry.
func zipped(t testing.TB, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	f, err := z.Create("w.npy")
	if err != nil {
		t.Fatal(err)
	}
	f.Write(content)
	z.Close()
	return b.Bytes()
}

func npy(dict string, data int) []byte {
	b := append([]byte("\x93NUMPY\x01\x00"), byte(len(dict)+1), byte((len(dict)+1)>>8))
	return append(append(append(b, dict...), '\n'), make([]byte, data)...)
}

func hostile(t testing.TB) map[string][]byte {
	dict := func(descr, order, shape string) string {
		return fmt.Sprintf("{'descr': %s, 'fortran_order': %s, 'shape': %s, }", descr, order, shape)
	}
	return map[string][]byte{
		"empty":            {},
		"no header":        []byte("hello, this is no file of weights"),
		"long header":      binary.LittleEndian.AppendUint64(nil, 1<<62),
		"no json":          safe("{", 0),
		"overflow":         safe(`{"w":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,0]}}`, 0),
		"huge by nothing":  safe(`{"w":{"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0]}}`, 0),
		"beyond the end":   safe(`{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}`, 8),
		"too much data":    safe(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 9),
		"unknown type":     safe(`{"w":{"dtype":"F8","shape":[2],"data_offsets":[0,2]}}`, 2),
		"overlap":          safe(`{"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12),
		"null tensor":      safe(`{"w":null}`, 0),
		"lines":            safe("{\"w\\nx\":{\"dtype\":\"a\\nb\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8),
		"cut zip":          []byte("PK\x03\x04 and then nothing"),
		"no array":         zipped(t, []byte("hello")),
		"cut array":        zipped(t, npy(dict("'<f4'", "False", "(2, 3)"), 23)),
		"many elements":    zipped(t, npy(dict("'<f4'", "False", "(1000000000000,)"), 4)),
		"negative":         zipped(t, npy(dict("'<f4'", "False", "(-1, -1)"), 4)),
		"Fortran":          zipped(t, npy(dict("'<f4'", "True", "(2, 3)"), 24)),
		"big-endian":       zipped(t, npy(dict("'>f4'", "False", "(2, 3)"), 24)),
		"objects":          zipped(t, npy(dict("'|O'", "False", "(2, 3)"), 24)),
		"no dictionary":    zipped(t, npy("'fortran_order': 'shape': 'descr': }", 4)),
		"nothing to parse": zipped(t, npy("", 0)),
		"header of 4 GB":   zipped(t, []byte("\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'")),
	}
}

func TestHostile(t *testing.T) {
	for name, b := range hostile(t) {
		w, _, err := weights.Read(save(t, "w", b))
		if err == nil {
			t.Errorf("%s: read as %v", name, w)
			continue
		}
		if s := err.Error(); strings.ContainsAny(s, "\n\r") || len(s) > 500 || !strings.HasPrefix(s, "weights: ") || !strings.Contains(s, "/w: ") {
			t.Errorf("%s: %q is no line that names the file", name, s)
		}
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "absent"), t.TempDir()} {
		if _, _, err := weights.Read(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

// TestDamage cuts and changes good files at every place.
func TestDamage(t *testing.T) {
	for name, write := range writers {
		var b bytes.Buffer
		if err := write(&b, weights.Tensors{"w": graphs.Of([]float32{1, 2, 3}, 3, 1)}); err != nil {
			t.Fatal(err)
		}
		for n := range b.Len() {
			if _, _, err := weights.Read(save(t, name, b.Bytes()[:n])); err == nil {
				t.Errorf("%s: read without its last %d bytes", name, b.Len()-n)
			}
			bad := bytes.Clone(b.Bytes())
			bad[n] ^= 0x55
			weights.Read(save(t, name, bad)) // must not panic
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, b := range hostile(f) {
		f.Add(b)
	}
	for _, write := range writers {
		var b bytes.Buffer
		write(&b, mixed())
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		w, _, err := weights.Read(save(t, "w", b))
		if err != nil {
			return
		}
		for name, x := range w {
			if reflect.ValueOf(x.Data).Len() != x.Len() {
				t.Errorf("tensor %q: %d elements of shape %v", name, reflect.ValueOf(x.Data).Len(), x.Dims)
			}
		}
	})
}
