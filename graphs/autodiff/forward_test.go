package autodiff

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/graphtest"
)

// TestForward: the interpreter gives what it gave when ONNX's own node tests passed: gradient checks alone
// would pass a wrong op with the right slope of it. testdata/forward.golden has a line a case, with the dims
// of the result and a weighted sum of it; UPDATE_GOLDEN=1 writes it anew, after bench/conformance's TestNodeCases.
func TestForward(t *testing.T) {
	path := filepath.Join("testdata", "forward.golden")
	text, err := os.ReadFile(path)
	update := os.Getenv("UPDATE_GOLDEN") != ""
	if err != nil && !update {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "\t")
		want[name] = value
	}
	var lines strings.Builder
	seen := map[string]int{}
	unknown := 0
	for _, c := range cases {
		name := c.op + "/" + c.name
		if seen[name]++; seen[name] > 1 {
			name = fmt.Sprint(name, " ", seen[name])
		}
		h := fnv.New64a()
		fmt.Fprint(h, name)
		rng := rand.New(rand.NewPCG(h.Sum64(), 1))
		b := graphs.NewBuilder(&graphs.Graph{})
		var x []val
		var in []*graphs.Tensor
		for i, a := range c.args {
			x = append(x, b.Input(fmt.Sprint("x", i), graphs.Float64, graphs.MakeShape(a.dims...)))
			in = append(in, a.draw(rng))
		}
		b.Output("y", c.build(b, x))
		g, err := b.Graph()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out := graphtest.Run(t, graphs.NewModel(g), in...)[0]
		y, err := out.AsFloats()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sum, size := 0.0, 0.0
		for i, v := range y {
			sum += v * math.Cos(float64(i))
			size += math.Abs(v)
		}
		fmt.Fprintf(&lines, "%s\t%v %.12g\n", name, out.Dims, sum)
		value, ok := want[name]
		if !ok {
			unknown++
			continue
		}
		at := strings.LastIndexByte(value, ' ')
		var old float64
		if _, err := fmt.Sscan(value[at+1:], &old); err != nil {
			t.Fatalf("%s: %s: %v", path, name, err)
		}
		if near := math.Abs(sum-old) <= 1e-10*(1+size) || math.IsNaN(sum) && math.IsNaN(old); (!near || fmt.Sprint(out.Dims) != value[:at]) && !update {
			t.Errorf("%s: got %v %.12g, want %s", name, out.Dims, sum, value)
		}
	}
	switch {
	case update:
		if err := os.WriteFile(path, []byte(lines.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	case unknown > len(cases)/20:
		t.Errorf("%s lacks %d of %d cases: UPDATE_GOLDEN=1 writes them", path, unknown, len(cases))
	}
}
