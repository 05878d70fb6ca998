package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ebmrun/training/checkpoint/atomicfile"
)

// sample returns a state with every type, odd values, odd shapes and odd names.
func sample(step int) *State {
	nan := math.Float32frombits(0x7fc12345) // a NaN with a payload must survive
	return &State{
		Step: step,
		Tensors: map[string]Tensor{
			"energy/conv1.w": {Shape: []int{2, 1, 3}, Data: []float32{1, -0.5, nan, float32(math.Inf(1)), math.SmallestNonzeroFloat32, float32(math.Copysign(0, -1))}},
			"moments":        {Shape: []int{2}, Data: []float64{math.Pi, math.NaN()}},
			"counter":        Scalar(uint64(math.MaxUint64)),
			"order":          {Shape: []int{3}, Data: []int64{math.MinInt64, 0, math.MaxInt64}},
			"rng":            {Shape: []int{2, 2}, Data: []uint8{0, 255, 7, 8}},
			"empty":          {Shape: []int{0, 4}, Data: []float32{}},
			"empty too":      {Shape: []int{3, 0}, Data: []float32{}},
			"名前 <&> \"q\"\n": {Shape: []int{1}, Data: []float32{float32(step)}},
		},
		Meta: json.RawMessage(`{"lr":1e-4,"text":"<a&b>","big":9007199254740993}`),
	}
}

func mustSave(t *testing.T, dir string, s *State, keep Keep) {
	t.Helper()
	if err := Save(dir, s, keep); err != nil {
		t.Fatal(err)
	}
}

// same compares bit for bit (NaN equals NaN of the same bits).
func same(t *testing.T, got, want *State) {
	t.Helper()
	if got.Step != want.Step || string(got.Meta) != string(want.Meta) || len(got.Tensors) != len(want.Tensors) {
		t.Fatalf("got step %d, meta %s, %d tensors; want step %d, meta %s, %d tensors",
			got.Step, got.Meta, len(got.Tensors), want.Step, want.Meta, len(want.Tensors))
	}
	for name, w := range want.Tensors {
		g := got.Tensors[name]
		if !slices.Equal(g.Shape, w.Shape) || reflect.TypeOf(g.Data) != reflect.TypeOf(w.Data) || !bytes.Equal(g.encode(), w.encode()) {
			t.Errorf("tensor %q: got %v, want %v", name, g, w)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "checkpoints")
	want := sample(123)
	mustSave(t, dir, want, Keep{})
	for _, name := range []string{Last, "step-000123"} {
		got, err := Load(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, want)
	}
	if w, err := Values[float32](want, "energy/conv1.w", 2, 1, 3); err != nil || w[1] != -0.5 {
		t.Errorf("got %v, %v", w, err)
	}
	if n, err := Values[uint64](want, "counter"); err != nil || n[0] != math.MaxUint64 {
		t.Errorf("got %v, %v", n, err)
	}
	for _, bad := range []func() error{
		func() error { _, err := Values[float64](want, "energy/conv1.w", 2, 1, 3); return err },
		func() error { _, err := Values[float32](want, "energy/conv1.w", 2, 3); return err },
		func() error { _, err := Values[float32](want, "missing", 2, 3); return err },
	} {
		if bad() == nil {
			t.Error("want an error for a wrong type, shape or name")
		}
	}
}

func TestEmptyStateAndLooseMeta(t *testing.T) {
	dir := t.TempDir()
	mustSave(t, dir, &State{}, Keep{})
	got, err := Load(dir, Last)
	if err != nil {
		t.Fatal(err)
	}
	if got.Step != 0 || got.Meta != nil || len(got.Tensors) != 0 {
		t.Errorf("got %+v, want an empty state", got)
	}
	mustSave(t, dir, &State{Step: 1, Meta: json.RawMessage(" { \"a\" : [ 1 ] }\n")}, Keep{})
	if got, err = Load(dir, Last); err != nil || string(got.Meta) != `{"a":[1]}` {
		t.Errorf("got %v, %v, want the compact form", got, err)
	}
}

func TestEqualStatesGiveEqualBytes(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	mustSave(t, a, sample(5), Keep{})
	mustSave(t, b, sample(5), Keep{})
	for _, name := range []string{modelFile, tensorsFile} {
		x, err := os.ReadFile(filepath.Join(a, "step-000005", name))
		if err != nil {
			t.Fatal(err)
		}
		y, _ := os.ReadFile(filepath.Join(b, "step-000005", name))
		if !bytes.Equal(x, y) {
			t.Errorf("%s differs", name)
		}
	}
}

func TestSaveRefuses(t *testing.T) {
	dir := t.TempDir()
	mustSave(t, dir, sample(1), Keep{})
	for name, s := range map[string]*State{
		"negative step": {Step: -1},
		"reserved name": {Step: 2, Tensors: map[string]Tensor{"__metadata__": Scalar(float32(1))}},
		"empty name":    {Step: 2, Tensors: map[string]Tensor{"": Scalar(float32(1))}},
		"not UTF-8":     {Step: 2, Tensors: map[string]Tensor{"\xff": Scalar(float32(1))}},
		"wrong shape":   {Step: 2, Tensors: map[string]Tensor{"a": {Shape: []int{3}, Data: []float32{1, 2}}}},
		"negative size": {Step: 2, Tensors: map[string]Tensor{"a": {Shape: []int{-1, -2}, Data: []float32{1, 2}}}},
		"overflow":      {Step: 2, Tensors: map[string]Tensor{"a": {Shape: []int{1 << 32, 1 << 32}, Data: []float32{}}}},
		"unknown type":  {Step: 2, Tensors: map[string]Tensor{"a": {Shape: []int{1}, Data: []int32{1}}}},
		"no data":       {Step: 2, Tensors: map[string]Tensor{"a": {Shape: []int{0}}}},
		"broken meta":   {Step: 2, Meta: json.RawMessage("{")},
		"large header":  {Step: 2, Tensors: map[string]Tensor{strings.Repeat("a", maxHeader/6): Scalar(float32(1))}},
	} {
		if err := Save(dir, s, Keep{}); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want a one-line error", name, err)
		}
	}
	if got := names(t, dir); !slices.Equal(got, []string{"last", "step-000001"}) {
		t.Errorf("got %v, want nothing half-written", got)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// TestLongRuns: steps of seven digits come after those of six, although their names do not.
func TestLongRuns(t *testing.T) {
	dir := t.TempDir()
	for _, step := range []int{999_998, 999_999, 1_000_000} {
		mustSave(t, dir, &State{Step: step}, Keep{Newest: 2})
	}
	if got, err := Steps(dir); err != nil || !slices.Equal(got, []int{999_999, 1_000_000}) {
		t.Errorf("got %v, %v, want the two newest in order", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, stepName(1_000_000), modelFile), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if s, _, err := LoadNewest(dir); err != nil || s.Step != 999_999 {
		t.Errorf("got %v, %v, want the one before the damaged one", s, err)
	}
}

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	for step := 10; step <= 80; step += 10 {
		mustSave(t, dir, &State{Step: step}, Keep{Newest: 2, Every: 40})
		if step == 20 {
			if err := MarkBest(dir, 20); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, _ := Steps(dir); !slices.Equal(got, []int{20, 40, 70, 80}) {
		t.Errorf("got %v, want best, multiples of 40 and the two newest", got)
	}
	if s, err := Load(dir, Best); err != nil || s.Step != 20 {
		t.Errorf("best: got %v, %v", s, err)
	}
	if err := MarkBest(dir, 30); err == nil {
		t.Error("a pruned step was marked best")
	}

	// A run resumed from 20 drops what lay ahead of it.
	mustSave(t, dir, &State{Step: 30}, Keep{Newest: 2, Every: 40})
	if got, _ := Steps(dir); !slices.Equal(got, []int{20, 30}) {
		t.Errorf("got %v, want 20 and 30", got)
	}

	// Without settings the two newest stay; what is no checkpoint is left alone.
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "notes"), 0o777), os.WriteFile(filepath.Join(dir, "step-000099"), nil, 0o666)); err != nil {
		t.Fatal(err)
	}
	for step := 32; step <= 35; step++ {
		mustSave(t, dir, &State{Step: step}, Keep{})
	}
	if got, _ := Steps(dir); !slices.Equal(got, []int{20, 34, 35}) {
		t.Errorf("got %v, want best and the two newest", got)
	}
	mustSave(t, dir, &State{Step: 36}, Keep{Newest: 1, Every: 1})
	if got, _ := Steps(dir); !slices.Equal(got, []int{20, 34, 35, 36}) {
		t.Errorf("got %v, want every step", got)
	}

	// An unreadable pointer could pin anything: nothing is removed.
	os.WriteFile(filepath.Join(dir, Best), []byte("garbage"), 0o666)
	mustSave(t, dir, &State{Step: 37}, Keep{Newest: 1})
	if got, _ := Steps(dir); !slices.Equal(got, []int{20, 34, 35, 36, 37}) {
		t.Errorf("got %v, want all kept", got)
	}
}

func TestSameStepAgain(t *testing.T) {
	dir := t.TempDir()
	mustSave(t, dir, sample(5), Keep{})
	again := sample(5)
	again.Meta = json.RawMessage(`"again"`)
	mustSave(t, dir, again, Keep{})
	got, err := Load(dir, Last)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, again)
	if got := names(t, dir); !slices.Equal(got, []string{"last", "step-000005"}) {
		t.Errorf("got %v, want nothing left over", got)
	}
}

// TestInterruptedReplacement builds by hand each state that a kill inside Save over an existing step
// can leave.
func TestInterruptedReplacement(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "step-000005")
	mustSave(t, dir, sample(5), Keep{})

	// Killed after the old folder was set aside.
	if err := os.Rename(target, target+old); err != nil {
		t.Fatal(err)
	}
	temp := target + atomicfile.Infix + "00"
	if err := os.Mkdir(temp, 0o777); err != nil {
		t.Fatal(err)
	}
	got, err := Load(dir, Last)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, sample(5))
	mustSave(t, dir, sample(6), Keep{})
	if got := names(t, dir); !slices.Equal(got, []string{"last", "step-000005", "step-000006"}) {
		t.Errorf("got %v, want the old folder back and no leftovers", got)
	}

	// Killed after the new one was put in place.
	if err := os.CopyFS(target+old, os.DirFS(target)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, Last+atomicfile.Infix+"1"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	mustSave(t, dir, sample(7), Keep{Newest: 3})
	if got := names(t, dir); !slices.Equal(got, []string{"last", "step-000005", "step-000006", "step-000007"}) {
		t.Errorf("got %v, want no leftovers", got)
	}
}

func TestCleanLeavesStrangersAlone(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"notes.tmp-1", "step-5.old", "step-000005x"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	mustSave(t, dir, sample(1), Keep{})
	if got := names(t, dir); len(got) != 5 {
		t.Errorf("got %v, want the three strangers kept", got)
	}
}

func TestNothingSavedYet(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing")} {
		if _, err := Load(dir, Last); !errors.Is(err, ErrNone) {
			t.Errorf("Load: got %v, want ErrNone", err)
		}
		if _, _, err := LoadNewest(dir); !errors.Is(err, ErrNone) {
			t.Errorf("LoadNewest: got %v, want ErrNone", err)
		}
	}
}

// TestDamage flips, cuts and stretches files of the newest checkpoint: Load must name the older one
// and LoadNewest must return it.
func TestDamage(t *testing.T) {
	file := func(name string) func(dir string) string {
		return func(dir string) string { return filepath.Join(dir, "step-000020", name) }
	}
	edit := func(path string, f func([]byte) []byte) error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, f(b), 0o666)
	}
	replace := func(from, to string) func([]byte) []byte {
		return func(b []byte) []byte {
			if !bytes.Contains(b, []byte(from)) {
				panic("no " + from)
			}
			return bytes.Replace(b, []byte(from), []byte(to), 1)
		}
	}
	for name, c := range map[string]struct {
		path func(dir string) string
		edit func([]byte) []byte
	}{
		"tensor bit":      {file(tensorsFile), func(b []byte) []byte { b[len(b)-1] ^= 1; return b }},
		"tensors cut":     {file(tensorsFile), func(b []byte) []byte { return b[:len(b)-1] }},
		"tensors longer":  {file(tensorsFile), func(b []byte) []byte { return append(b, 0) }},
		"tensors empty":   {file(tensorsFile), func(b []byte) []byte { return nil }},
		"header length":   {file(tensorsFile), func(b []byte) []byte { binary.LittleEndian.PutUint64(b, math.MaxUint64); return b }},
		"header length 2": {file(tensorsFile), func(b []byte) []byte { binary.LittleEndian.PutUint64(b, uint64(len(b))); return b }},
		"header type":     {file(tensorsFile), replace("F64", "I64")},
		"header shape":    {file(tensorsFile), replace(`[0,4]`, `[4,0]`)},
		"giant shape":     {file(tensorsFile), replace(`[0,4]`, `[9223372036854775807,9223372036854775807]`)},
		"header name":     {file(tensorsFile), replace(`"order"`, `"odder"`)},
		"model cut":       {file(modelFile), func(b []byte) []byte { return b[:len(b)/2] }},
		"model empty":     {file(modelFile), func(b []byte) []byte { return nil }},
		"model tail":      {file(modelFile), func(b []byte) []byte { return append(b, "{}"...) }},
		"model version":   {file(modelFile), replace(`"format": 1`, `"format": 2`)},
		"model key":       {file(modelFile), replace(`"format"`, `"extra": 1, "format"`)},
		"model long key":  {file(modelFile), replace(`"format"`, `"`+strings.Repeat("x", 10000)+`": 1, "format"`)},
		"model step":      {file(modelFile), replace(`"step": 20`, `"step": 21`)},
		"model meta":      {file(modelFile), replace("a&b", "a&c")},
		"model shape":     {file(modelFile), replace("    3\n", "    4611686018427387904,\n    4611686018427387904\n")},
		"model twice":     {file(modelFile), replace(`"name": "empty too"`, `"name": "empty"`)},
		"pointer":         {func(dir string) string { return filepath.Join(dir, Last) }, func([]byte) []byte { return []byte("../../etc\n") }},
		"pointer long": {func(dir string) string { return filepath.Join(dir, Last) }, func([]byte) []byte {
			return bytes.Repeat([]byte("step-"), 1<<20)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mustSave(t, dir, sample(10), Keep{})
			mustSave(t, dir, sample(20), Keep{})
			if err := edit(c.path(dir), c.edit); err != nil {
				t.Fatal(err)
			}
			pointer := strings.HasPrefix(name, "pointer")
			_, err := Load(dir, Last)
			if err == nil || strings.Contains(err.Error(), "\n") || len(err.Error()) > 600 {
				t.Fatalf("got %.1000v, want a one-line error", err)
			}
			if !pointer && !strings.Contains(err.Error(), "newest intact is step-000010") {
				t.Errorf("got %v, want it to name step-000010", err)
			}
			got, fallback, err := LoadNewest(dir)
			if err != nil {
				t.Fatal(err)
			}
			want := 10
			if pointer {
				want = 20 // only the pointer is broken
			}
			if fallback == nil || fallback.Step != want || fallback.Reason == nil {
				t.Errorf("got fallback %+v, want step %d and a reason", fallback, want)
			}
			same(t, got, sample(want))
		})
	}
}

func TestMissingParts(t *testing.T) {
	dir := t.TempDir()
	mustSave(t, dir, sample(10), Keep{})
	if _, err := Load(dir, "step-000011"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "folder step-000011") {
		t.Errorf("got %v, want the folder named as missing", err)
	}
	if err := os.Remove(filepath.Join(dir, "step-000010", tensorsFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, Last); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNone) || !strings.Contains(err.Error(), tensorsFile) {
		t.Errorf("got %v, want the file named as missing", err)
	}
}

func TestOnlyDamaged(t *testing.T) {
	dir := t.TempDir()
	mustSave(t, dir, sample(10), Keep{})
	if err := os.Truncate(filepath.Join(dir, "step-000010", tensorsFile), 20); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, Last); err == nil || !strings.Contains(err.Error(), "no other checkpoint is intact") {
		t.Errorf("got %v", err)
	}
	if _, _, err := LoadNewest(dir); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("got %v, want the damage, not ErrNone", err)
	}
}

func TestNamesThatLeaveTheFolder(t *testing.T) {
	outside := t.TempDir()
	mustSave(t, outside, sample(1), Keep{})
	dir := t.TempDir()
	for _, name := range []string{"", ".", "..", "../" + filepath.Base(outside) + "/step-000001", "step-1", "step--00001", "step-+00001", "step-000001/", "step-99999999999999999999"} {
		if _, err := Load(dir, name); err == nil || !strings.Contains(err.Error(), "want last, best or step-NNNNNN") {
			t.Errorf("%q: got %v, want it refused", name, err)
		}
	}
	// A link inside the step folder must not lead out of it.
	step := filepath.Join(dir, "step-000001")
	if err := os.Mkdir(step, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{modelFile, tensorsFile} {
		if err := os.Symlink(filepath.Join(outside, "step-000001", name), filepath.Join(step, name)); err != nil {
			t.Skip(err)
		}
	}
	if _, err := Load(dir, "step-000001"); err == nil {
		t.Error("a link out of the folder was followed")
	}
}

func BenchmarkSave(b *testing.B) {
	dir := b.TempDir()
	s := &State{Tensors: map[string]Tensor{"w": {Shape: []int{1 << 20}, Data: make([]float32, 1<<20)}}}
	b.SetBytes(4 << 20)
	for b.Loop() {
		s.Step++
		if err := Save(dir, s, Keep{}); err != nil {
			b.Fatal(err)
		}
	}
}
