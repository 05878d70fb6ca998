package judge_test

import (
	"context"
	"math/rand/v2"
	"testing"

	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/judge"
)

func load(t *testing.T, name string, o data.Options) *data.Set {
	t.Helper()
	s, err := data.Load(context.Background(), name, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func measure(t *testing.T, j *judge.Judge, x []float32) training.Metrics {
	t.Helper()
	m, err := j.Measure(x)
	if err != nil {
		t.Fatal(err)
	}
	if m[training.Objective] != m[j.Name] {
		t.Errorf("the objective is %g, %s is %g", m[training.Objective], j.Name, m[j.Name])
	}
	return m
}

func noise(n int) []float32 {
	r := rand.New(rand.NewPCG(1, 1))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(2*r.Float64() - 1)
	}
	return x
}

func head(t *testing.T, s *data.Set, n int) []float32 {
	t.Helper()
	if s.N < n {
		t.Fatalf("wanted %d examples, got %d", n, s.N)
	}
	return s.X()[:n*s.Dim()]
}

// TestJudges: new real examples come close to the floor, noise does not, and
// neither does one example repeated.
func TestJudges(t *testing.T) {
	for _, c := range []struct {
		data, metric string
		o            data.Options
		n            int     // samples wanted
		near, far    float64 // of the floor: real examples at most, noise at least
	}{
		{"synthetic/rings", "energy_distance", data.Options{Limit: 2000}, 2000, 0, 0},
		{"synthetic/shape", "fd_pca", data.Options{Size: 12, Limit: 1200}, 512, 2, 10},
		{"synthetic/volumes", "fd_pca", data.Options{Size: 8, Limit: 1200}, 512, 2, 10},
		{"synthetic/discs", "fd_pca", data.Options{Size: 8, Frames: 4, Limit: 600}, 512, 2, 10},
		{"synthetic/surfaces", "mmd_cd", data.Options{Points: 48, Limit: 80}, 64, 1.5, 2},
		{"synthetic/linear", "energy_distance", data.Options{Limit: 2000}, 2000, 0, 0},
		{"synthetic/regulator", "energy_distance", data.Options{Limit: 2000}, 2000, 0, 0},
	} {
		t.Run(c.data, func(t *testing.T) {
			part := func(seed uint64) *data.Set {
				o := c.o
				o.Seed = seed
				return load(t, c.data, o)
			}
			train, held, other := part(1), part(2), part(3)
			j, err := judge.New(train, held)
			if err != nil {
				t.Fatal(err)
			}
			if j.Name != c.metric || j.N != c.n {
				t.Errorf("wanted %s of %d samples, got %s of %d", c.metric, c.n, j.Name, j.N)
			}
			x := head(t, other, c.n)
			real := measure(t, j, x)[c.metric]
			if again := measure(t, j, x)[c.metric]; again != real {
				t.Errorf("the same samples measure %g and %g", real, again)
			}
			broken := measure(t, j, noise(len(x)))[c.metric]
			same := make([]float32, 0, len(x))
			for len(same) < len(x) {
				same = append(same, other.At(0)...)
			}
			collapsed := measure(t, j, same)
			t.Logf("floor %.4g, real %.4g, noise %.4g, one example %.4g", j.Floor, real, broken, collapsed[c.metric])
			if c.near > 0 && (real > c.near*j.Floor || broken < c.far*j.Floor || collapsed[c.metric] < c.far*j.Floor) {
				t.Error("the measure does not tell real examples from broken ones")
			}
			// The energy distance has no bias: its floor may be anything near 0.
			if c.near == 0 && (real > 0.005 || j.Floor > 0.005 || broken < 0.02 || collapsed[c.metric] < 0.1) {
				t.Error("the measure does not tell real points from broken ones")
			}
			if d, ok := collapsed["diversity"]; ok && d != 0 {
				t.Errorf("one example repeated has the diversity %g", d)
			}
			if _, err := j.Measure(x[:len(x)-1]); err == nil {
				t.Error("part of an example was measured")
			}
		})
	}
}

// TestClip: the frames of a clip in another order look right and move wrong.
func TestClip(t *testing.T) {
	train := load(t, "synthetic/wave", data.Options{Size: 24, Limit: 1})
	j, err := judge.New(train, train)
	if err != nil {
		t.Fatal(err)
	}
	self := measure(t, j, train.X())
	p := train.H * train.W
	shuffled := make([]float32, len(train.X()))
	for i := range train.D {
		copy(shuffled[i*p:][:p], train.X()[i*7%train.D*p:])
	}
	mixed, broken := measure(t, j, shuffled), measure(t, j, noise(len(train.X())))
	t.Logf("floor %.4g, itself %v, shuffled %v, noise %v", j.Floor, self, mixed, broken)
	if j.Name != "clip_swd" || self["clip_swd"] > 1e-6 || self["autocorrelation_gap"] > 1e-9 || j.Floor > broken["clip_swd"]/2 {
		t.Errorf("%s: floor %g, itself %v, noise %v", j.Name, j.Floor, self, broken)
	}
	if mixed["clip_swd"] < 1.5*j.Floor || mixed["autocorrelation_gap"] < 0.15 {
		t.Errorf("shuffled frames measure %v, the floor is %g", mixed, j.Floor)
	}
	if _, err := j.Measure(train.X()[1:]); err == nil {
		t.Error("part of a clip was measured")
	}
}

// TestFewClips: where one clip is held out of a few, its frames are the measure.
func TestFewClips(t *testing.T) {
	train := load(t, "synthetic/wave", data.Options{Size: 24, Limit: 3})
	held, err := train.Subset([]int{2})
	if err != nil {
		t.Fatal(err)
	}
	j, err := judge.New(train, held)
	if err != nil {
		t.Fatal(err)
	}
	self, broken := measure(t, j, held.X()), measure(t, j, noise(held.Dim()))
	t.Logf("%s: floor %.4g, the held-out clip %v, noise %v", j.Name, j.Floor, self, broken)
	if j.Name != "clip_swd" || self["clip_swd"] > 1e-6 || j.Floor <= 0 || broken["clip_swd"] < 2*j.Floor {
		t.Errorf("%s: floor %g, the held-out clip %v, noise %v", j.Name, j.Floor, self, broken)
	}
}

func TestTexture(t *testing.T) {
	for _, name := range []string{"synthetic/tex-a", "synthetic/tex-b-rgb"} {
		train := load(t, name, data.Options{Size: 48, Limit: 1})
		j, err := judge.New(train, train)
		if err != nil {
			t.Fatal(err)
		}
		if j.Name != "patch_swd" || j.N != 1 {
			t.Errorf("wanted patch_swd of one sample, got %s of %d", j.Name, j.N)
		}
		self := measure(t, j, train.X())["patch_swd"]
		broken := measure(t, j, noise(len(train.X())))["patch_swd"]
		t.Logf("%s: floor %.4g, itself %.4g, noise %.4g", name, j.Floor, self, broken)
		if self > 1e-6 || broken < 0.1 || j.Floor > broken/2 {
			t.Errorf("%s: floor %g, itself %g, noise %g", name, j.Floor, self, broken)
		}
		if _, err := j.Measure(train.X()[1:]); err == nil {
			t.Error("part of a picture was measured")
		}
	}
}

// TestFewExamples: with one example held out samples are compared with all there are, and a set
// of many is nearer to them than one alone.
func TestFewExamples(t *testing.T) {
	for _, name := range []string{"synthetic/shape", "synthetic/rings", "synthetic/regulator"} {
		train := load(t, name, data.Options{Limit: 12})
		held := load(t, name, data.Options{Limit: 1})
		j, err := judge.New(train, held)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if j.Name != "energy_distance" || j.N != 13 || j.Floor != 0 {
			t.Errorf("%s: judged by %s of %d samples, floor %g", name, j.Name, j.N, j.Floor)
		}
		fresh := load(t, name, data.Options{Seed: 5, Limit: 40})
		wild := noise(40 * train.Dim())
		for i := range wild {
			wild[i] = 3 * wild[i]
		}
		if near, far := measure(t, j, fresh.X())[j.Name], measure(t, j, wild)[j.Name]; !(near < far/3) {
			t.Errorf("%s: real examples at %g, noise at %g", name, near, far)
		}
		one := head(t, train, 1)
		if alone, all := measure(t, j, one)[j.Name], measure(t, j, fresh.X())[j.Name]; !(all < alone) {
			t.Errorf("%s: one example at %g, many at %g", name, alone, all)
		}
	}
}
