package sampler

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"testing"
)

const goldenFile = "../../testdata/noise/golden.json"

// golden holds reference values; numbers above 2⁵³ and bit patterns are hexadecimal text.
type golden struct {
	About  string       `json:"about"`
	Philox []goldenCall `json:"philox"`
	Noise  []goldenRow  `json:"noise"`
	Fork   []goldenFork `json:"fork"`
}

// goldenCall is a known answer of Philox4x32-10 from the Random123 distribution.
type goldenCall struct {
	Counter []string `json:"counter"`
	Key     []string `json:"key"`
	Words   []string `json:"words"`
}

type goldenRow struct {
	Seed     string   `json:"seed"`
	Chain    string   `json:"chain"`
	Step     string   `json:"step"`
	Words    []string `json:"words"`
	Normals  []string `json:"normals"`
	Uniforms []string `json:"uniforms"`
}

type goldenFork struct {
	Seed   string `json:"seed"`
	Label  string `json:"label"`
	Forked string `json:"forked"`
}

func hex[T any](v []T, bits func(T) uint64, width int) (text []string) {
	for _, a := range v {
		text = append(text, fmt.Sprintf("%0*x", width, bits(a)))
	}
	return text
}

func parse(t *testing.T, text string) (v uint64) {
	t.Helper()
	if _, err := fmt.Sscanf(text, "%x", &v); err != nil {
		t.Fatalf("golden file: %q: %v", text, err)
	}
	return v
}

func word(w uint32) uint64 { return uint64(w) }

// row draws the 16 first words and normals and the uniform of one chain and step.
func row(seed, chain, step uint64) goldenRow {
	n := Noise{Seed: seed}
	words, normal, uniform := make([]uint32, 16), make([]float32, 16), make([]float64, 1)
	k := n.key(step)
	for b := range uint32(4) {
		words[4*b], words[4*b+1], words[4*b+2], words[4*b+3] =
			philox(uint32(chain), uint32(chain>>32), uint32(step), normalStream+b, k[0], k[1])
	}
	n.Normals(normal, []uint64{chain}, step)
	n.Uniforms(uniform, []uint64{chain}, step)
	return goldenRow{
		Seed: fmt.Sprintf("%x", seed), Chain: fmt.Sprintf("%x", chain), Step: fmt.Sprintf("%x", step),
		Words:    hex(words, word, 8),
		Normals:  hex(normal, func(v float32) uint64 { return uint64(math.Float32bits(v)) }, 8),
		Uniforms: hex(uniform, math.Float64bits, 16),
	}
}

// TestGolden compares the source with testdata/noise/golden.json, which the Python twin checks too.
// UPDATE_GOLDEN=1 rewrites all of the file but the known answers of Philox.
func TestGolden(t *testing.T) {
	text, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var want golden
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	if len(want.Philox) != 3 {
		t.Fatalf("want 3 known answers of Philox, got %d", len(want.Philox))
	}
	for _, c := range want.Philox {
		var in [6]uint32
		for i, s := range append(slices.Clone(c.Counter), c.Key...) {
			in[i] = uint32(parse(t, s))
		}
		a, b, d, e := philox(in[0], in[1], in[2], in[3], in[4], in[5])
		if got := hex([]uint32{a, b, d, e}, word, 8); !slices.Equal(got, c.Words) {
			t.Errorf("philox of %v under %v: want %v, got %v", c.Counter, c.Key, c.Words, got)
		}
	}
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		want.Noise, want.Fork = nil, nil
		for _, v := range [][3]uint64{
			{0, 0, 0}, {1, 0, 0}, {1, 1, 0}, {1, 0, 1}, {0xfedcba9876543210, 0x123456789abcdef0, 4294967295}, {42, 7, 1<<32 + 5},
		} {
			want.Noise = append(want.Noise, row(v[0], v[1], v[2]))
		}
		for _, v := range [][2]uint64{{0, 0}, {1, 2}, {0xfedcba9876543210, 1 << 40}} {
			want.Fork = append(want.Fork, goldenFork{
				Seed: fmt.Sprintf("%x", v[0]), Label: fmt.Sprintf("%x", v[1]), Forked: fmt.Sprintf("%016x", Noise{Seed: v[0]}.Fork(v[1]).Seed),
			})
		}
		text, err := json.MarshalIndent(want, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(goldenFile, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if len(want.Noise) < 6 || len(want.Fork) < 3 {
		t.Fatalf("golden file holds %d rows and %d forks", len(want.Noise), len(want.Fork))
	}
	for _, w := range want.Noise {
		got := row(parse(t, w.Seed), parse(t, w.Chain), parse(t, w.Step))
		if !slices.Equal(got.Words, w.Words) || !slices.Equal(got.Normals, w.Normals) || !slices.Equal(got.Uniforms, w.Uniforms) {
			t.Errorf("want %v\ngot  %v", w, got)
		}
	}
	for _, w := range want.Fork {
		if got := (Noise{Seed: parse(t, w.Seed)}).Fork(parse(t, w.Label)).Seed; got != parse(t, w.Forked) {
			t.Errorf("fork %s of seed %s: want %s, got %x", w.Label, w.Seed, w.Forked, got)
		}
	}
}

// TestTable compares the table compiled in with the one beside the Python twin.
func TestTable(t *testing.T) {
	text, err := os.ReadFile("../../testdata/noise/normal_table.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Pieces [256][4]string }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for i, c := range pieces {
		for j, v := range c {
			if uint32(parse(t, file.Pieces[i][j])) != math.Float32bits(v) {
				t.Fatalf("piece %d, coefficient %d: %s in the file, %08x in Go", i, j, file.Pieces[i][j], math.Float32bits(v))
			}
		}
	}
}

// grid calls visit with magnitudes m of the lower 31 bits that cover every octave evenly and the
// share of all magnitudes each stands for: all m below 2¹², then 4096 midpoints per octave.
func grid(visit func(m uint32, weight float64)) {
	const fine = 12
	for m := range uint32(1 << fine) {
		visit(m, 1.0/(1<<31))
	}
	for o := fine; o < 31; o++ {
		stride := uint32(1) << (o - fine)
		for i := range uint32(1 << fine) {
			visit(1<<o+i*stride+stride/2, float64(stride)/(1<<31))
		}
	}
}

func one(w uint32) float64 {
	var z [1]float32
	normals(z[:], []uint32{w})
	return float64(z[0])
}

// TestNormalFormula checks the table against the tail probability each word stands for, and
// integrates the moments over all words: 1, 3 and 15 for powers 2, 4 and 6, and 0 by symmetry.
func TestNormalFormula(t *testing.T) {
	var worst float64
	var moment [7]float64
	grid(func(m uint32, weight float64) {
		z := one(m)
		if one(m|1<<31) != -z {
			t.Fatalf("word %08x: the sign bit gives %v, not −%v", m, one(m|1<<31), z)
		}
		p := (float64(m) + 0.5) / (1 << 32)
		// First order: the error of z is that of its tail probability over the density.
		worst = max(worst, math.Abs(math.Erfc(z/math.Sqrt2)/2-p)*math.Sqrt(2*math.Pi)*math.Exp(z*z/2))
		for k := range moment {
			moment[k] += weight * math.Pow(z, float64(k))
		}
	})
	t.Logf("largest error %.2g, variance − 1 = %.2g, fourth moment − 3 = %.2g", worst, moment[2]-1, moment[4]-3)
	if worst > 1e-6 {
		t.Errorf("largest error of a normal number: want at most 1e-6, got %.3g", worst)
	}
	for _, c := range []struct {
		k               int
		want, tolerance float64
	}{{0, 1, 1e-12}, {2, 1, 1e-6}, {4, 3, 1e-5}, {6, 15, 1e-3}} {
		if math.Abs(moment[c.k]-c.want) > c.tolerance {
			t.Errorf("moment %d over all words: want %v ± %v, got %.9f", c.k, c.want, c.tolerance, moment[c.k])
		}
	}
	if z := one(0); z < 6.3 || z > 6.4 {
		t.Errorf("largest normal: want 6.34, got %v", z)
	}
}

// TestNormalSample draws 2²⁰ numbers: moments within 4 standard errors, a Kolmogorov-Smirnov distance
// below its 0.1 % point, and no correlation between neighbours, chains or steps.
func TestNormalSample(t *testing.T) {
	const chains, dim = 256, 4096
	z := make([]float32, chains*dim)
	n := Noise{Seed: 2022}
	n.Normals(z, Chains(0, chains), 3)
	var sum, square, next, across float64
	for i, v := range z {
		a := float64(v)
		sum += a
		square += a * a
		next += a * float64(z[(i+1)%len(z)])
		across += a * float64(z[(i+dim)%len(z)])
	}
	other := make([]float32, len(z))
	n.Normals(other, Chains(0, chains), 4)
	var steps float64
	for i, v := range other {
		steps += float64(v) * float64(z[i])
	}
	count := float64(len(z))
	se := 4 / math.Sqrt(count)
	for name, c := range map[string][2]float64{
		"mean": {sum / count, se}, "variance − 1": {square/count - 1, se * math.Sqrt2},
		"correlation of neighbours": {next / count, se}, "correlation of chains": {across / count, se},
		"correlation of steps": {steps / count, se},
	} {
		if math.Abs(c[0]) > c[1] {
			t.Errorf("%s: want 0 ± %.2g, got %.2g", name, c[1], c[0])
		}
	}
	slices.Sort(z)
	var distance float64
	for i, v := range z {
		p := math.Erfc(-float64(v)/math.Sqrt2) / 2
		distance = max(distance, p-float64(i)/count, float64(i+1)/count-p)
	}
	if limit := 1.95 / math.Sqrt(count); distance > limit {
		t.Errorf("Kolmogorov-Smirnov distance: want at most %.2g, got %.2g", limit, distance)
	}
}

func TestUniformSample(t *testing.T) {
	u := make([]float64, 1<<17)
	Noise{Seed: 5}.Uniforms(u, Chains(0, len(u)), 9)
	slices.Sort(u)
	var distance float64
	for i, v := range u {
		distance = max(distance, math.Abs(v-float64(i)/float64(len(u))))
	}
	if u[0] <= 0 || u[len(u)-1] >= 1 || distance > 1.95/math.Sqrt(float64(len(u))) {
		t.Errorf("uniforms from %v to %v, Kolmogorov-Smirnov distance %.2g", u[0], u[len(u)-1], distance)
	}
}

// TestNoiseSplit: the bits do not depend on batch split, number of processors, dimension or block.
func TestNoiseSplit(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	n, chain := Noise{Seed: 11}, []uint64{4, 1 << 40, 9, 2, 77}
	for _, dim := range []int{1, 2, 3, 4, 6, 257, 1026, 40001} {
		want := make([]float32, 5*dim)
		n.Normals(want, chain, 6)
		check := func(what string, got []float32) {
			t.Helper()
			if !slices.Equal(want, got) {
				t.Errorf("dimension %d: %s changes the noise", dim, what)
			}
		}
		for _, procs := range []int{2, 3, 8} {
			runtime.GOMAXPROCS(procs)
			got := make([]float32, len(want))
			n.Normals(got, chain, 6)
			check(fmt.Sprint(procs, " processors"), got)
			steps := make([]float32, 3*len(want))
			n.Block(steps, chain, 5, 3)
			check(fmt.Sprint("a block on ", procs, " processors"), steps[len(want):2*len(want)])
		}
		split := make([]float32, len(want))
		n.Normals(split[:2*dim], chain[:2], 6)
		n.Normals(split[2*dim:], chain[2:], 6)
		check("a batch split", split)
		block := make([]float32, 3*len(want))
		n.Block(block, chain, 5, 3)
		check("a block", block[len(want):2*len(want)])
		n.Block(block[:2*dim], chain[2:3], 5, 2)
		check("a block of one chain", slices.Concat(want[:2*dim], block[dim:2*dim], want[3*dim:]))
		long := make([]float32, dim+5)
		n.Normals(long, chain[2:3], 6)
		check("a longer row", slices.Concat(want[:2*dim], long[:dim], want[3*dim:]))
		runtime.GOMAXPROCS(1)
	}
	n.Normals(nil, nil, 0)
	n.Normals(nil, chain, 0)
}

// TestStepSplit: neither do those of a step, and it clips, measures and moves every entry.
func TestStepSplit(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const dim = 40001
	x, chain := make([]float32, 5*dim), Chains(3, 5)
	Noise{Seed: 2}.Normals(x, chain, 0)
	for _, k := range []Langevin{{Size: 0.3, Noise: 1, GradClip: 1}, {Size: 0.3, GradClip: 1}, {Size: 0.3, Noise: 2}} {
		var want *State
		var info Info
		for _, procs := range []int{1, 2, 3, 8} {
			runtime.GOMAXPROCS(procs)
			s, err := NewState(slices.Clone(x), dim, chain)
			if err != nil {
				t.Fatal(err)
			}
			got, err := k.Step(Noise{Seed: 11}, quadratic{}, s)
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want, info = s, got
			}
			if !slices.Equal(want.X, s.X) || !slices.Equal(want.G, s.G) || got != info {
				t.Errorf("%+v: %d processors change the step", k, procs)
			}
		}
		e := make([]float32, len(x))
		Noise{Seed: 11}.Normals(e, chain, 0)
		for i, v := range want.X {
			g := x[i]
			if k.GradClip > 0 {
				g = max(-k.GradClip, min(k.GradClip, g))
			}
			moved := x[i] - float32(k.Size*k.Size/2*g)
			if moved += float32(k.Noise * k.Size * e[i]); v != moved {
				t.Fatalf("%+v: entry %d: want %v, got %v", k, i, moved, v)
			}
		}
	}
}

// TestStreams: seeds, chains, steps beyond 32 bits and forks all give other numbers.
func TestStreams(t *testing.T) {
	seen := map[[4]float32]string{}
	for name, c := range map[string]struct {
		n           Noise
		chain, step uint64
	}{
		"zero": {}, "seed": {n: Noise{1}}, "high seed": {n: Noise{1 << 32}}, "chain": {chain: 1}, "high chain": {chain: 1 << 32},
		"step": {step: 1}, "fork": {n: Noise{}.Fork(0)}, "fork 1": {n: Noise{}.Fork(1)}, "high fork": {n: Noise{}.Fork(1 << 32)}, "high step": {step: 2 << 32},
	} {
		var z [4]float32
		c.n.Normals(z[:], []uint64{c.chain}, c.step)
		if other, ok := seen[z]; ok {
			t.Errorf("%s and %s give the same noise", name, other)
		}
		seen[z] = name
	}
}
