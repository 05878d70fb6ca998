package data

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// numbered is a set of n pictures whose values are 0, 1, 2 … scaled into [-1, 1], labelled i mod 3.
func numbered(n, c, h, w int) *Set {
	s, err := newSet("numbered", n, c, h, w)
	if err != nil {
		panic(err)
	}
	for i := range s.X() {
		s.Floats[i] = float32(i)/float32(len(s.X())) - 0.5
	}
	for i := range n {
		s.Labels = append(s.Labels, i%3)
		s.Factors = append(s.Factors, float32(i))
	}
	s.FactorNames = []string{"number"}
	return s
}

func TestHash(t *testing.T) {
	s := &Set{Name: "x", N: 2, C: 1, H: 1, W: 2, Floats: []float32{-1, 0, 0.5, 1}, Gain: 2.0 / 255, Offset: -1, Labels: []int{3, 7}}
	const want = "3af5a5ee175913dd80d902ca216a2f9ba24db0b5c10605d5c749bd53fbcb69c5"
	if got := s.Hash(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for what, change := range map[string]func(s *Set){
		"value": func(s *Set) { s.Floats = []float32{-1, 0, 0.25, 1} },
		"label": func(s *Set) { s.Labels = []int{3, 8} },
		"shape": func(s *Set) { s.H, s.W = 2, 1 },
		"scale": func(s *Set) { s.Gain = 1 },
	} {
		c := *s
		change(&c)
		if c.Hash() == want {
			t.Errorf("another %s has the same hash", what)
		}
	}
	c := *s
	if c.Name = "y"; c.Hash() != want {
		t.Error("the name changes the hash")
	}
}

func TestScaleIsUndone(t *testing.T) {
	s, _ := newSet("bytes", 1, 1, 16, 16)
	for i := range s.X() {
		s.Floats[i] = byteValue[i]
	}
	if s.X()[0] != -1 || s.X()[255] != 1 {
		t.Errorf("0 … 255 becomes %v … %v", s.X()[0], s.X()[255])
	}
	for i, v := range s.X() {
		if math.Abs(s.Raw(v)-float64(i)) > 1e-4 {
			t.Fatalf("%d comes back as %g", i, s.Raw(v))
		}
	}
}

func TestCheck(t *testing.T) {
	for want, spoil := range map[string]func(s *Set){
		"value 1 is NaN":      func(s *Set) { s.Floats[5] = float32(math.NaN()) },
		"value 0 is +Inf":     func(s *Set) { s.Floats[8] = float32(math.Inf(1)) },
		"value 3 is 1.5":      func(s *Set) { s.Floats[3] = 1.5 },
		"wants 12 values":     func(s *Set) { s.Floats = s.Floats[:8] },
		"want as many labels": func(s *Set) { s.Labels = s.Labels[:2] },
		"cannot be undone":    func(s *Set) { s.Gain = 0 },
		"size below 1":        func(s *Set) { s.C = 0 },
		"holds more than":     func(s *Set) { s.H, s.W = 1<<40, 1<<40 },
		"1 factors":           func(s *Set) { s.Factors = nil },
	} {
		s := numbered(3, 1, 2, 2)
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		spoil(s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

func TestSplit(t *testing.T) {
	s := numbered(20, 1, 2, 2)
	train, held, err := s.Split(0.25, 7)
	if err != nil {
		t.Fatal(err)
	}
	if train.N != 15 || held.N != 5 {
		t.Fatalf("%d and %d examples", train.N, held.N)
	}
	var seen []int
	for _, part := range []*Set{train, held} {
		for i, f := range part.Factors {
			k := int(f)
			if !slices.Equal(part.At(i), s.At(k)) || part.Labels[i] != s.Labels[k] {
				t.Errorf("example %d is torn apart", k)
			}
			if i > 0 && part.Factors[i-1] >= f {
				t.Error("the order is not kept")
			}
			seen = append(seen, k)
		}
	}
	slices.Sort(seen)
	if len(slices.Compact(seen)) != 20 {
		t.Errorf("the parts overlap: %v", seen)
	}
	again, _, _ := s.Split(0.25, 7)
	other, _, _ := s.Split(0.25, 8)
	if !slices.Equal(again.X(), train.X()) || slices.Equal(other.X(), train.X()) {
		t.Error("the split does not depend on the seed alone")
	}
	for _, share := range []float64{0, 1, 0.01, math.NaN()} {
		if _, _, err := s.Split(share, 1); err == nil {
			t.Errorf("share %g is accepted", share)
		}
	}
}

func TestOfClassAndHead(t *testing.T) {
	s := numbered(7, 1, 1, 2)
	two, err := s.OfClass(0, 2)
	if err != nil || !slices.Equal(two.Factors, []float32{0, 2, 3, 5, 6}) || !slices.Equal(two.Labels, []int{0, 2, 0, 2, 0}) {
		t.Errorf("got %+v, %v", two, err)
	}
	if _, err := s.OfClass(9); err == nil {
		t.Error("an absent class is accepted")
	}
	h := two.Head(2)
	if h.N != 2 || h.Check() != nil || !slices.Equal(h.Factors, []float32{0, 2}) || two.Head(99).N != 5 {
		t.Errorf("head %+v", h)
	}
	s.Labels = nil
	if _, err := s.OfClass(1); err == nil {
		t.Error("classes without labels are accepted")
	}
	if _, err := s.Subset([]int{7}); err == nil {
		t.Error("an index beyond the end is accepted")
	}
}

func TestCropAndPatches(t *testing.T) {
	s := numbered(2, 2, 4, 5)
	c, err := s.Crop(2, 3)
	if err != nil || c.N != 2 || c.C != 2 || c.H != 2 || c.W != 3 {
		t.Fatalf("%+v, %v", c, err)
	}
	// Example 1, channel 1, row 1 of the crop is row 2, columns 1 to 3.
	if got, want := c.At(1)[9:12], s.At(1)[20+2*5+1:][:3]; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	p, err := s.Patches(50, 3, 3, 1)
	if err != nil || p.N != 50 || p.Check() != nil {
		t.Fatalf("%v, %v", p, err)
	}
	places := map[float32]bool{}
	for i := range 50 {
		x := p.At(i)
		places[x[0]] = true
		if step := x[3] - x[0]; math.Abs(float64(step)*80-5) > 1e-3 {
			t.Fatalf("patch %d is no window: rows are %g apart", i, step*80)
		}
	}
	if len(places) != 2*2*3 {
		t.Errorf("%d different windows in 50, want all 12", len(places))
	}
	more, _ := s.Patches(60, 3, 3, 1)
	if !slices.Equal(more.X()[:len(p.X())], p.X()) {
		t.Error("more patches begin differently")
	}
	if _, err := s.Crop(5, 5); err == nil {
		t.Error("a crop larger than the picture is accepted")
	}
	if _, err := s.Patches(1, 5, 5, 1); err == nil {
		t.Error("a patch larger than the picture is accepted")
	}
}

func TestResize(t *testing.T) {
	line := func(v ...float32) *Set {
		return &Set{Name: "line", N: 1, C: 1, H: 1, W: len(v), Floats: v, Gain: 1}
	}
	for _, c := range []struct {
		in   []float32
		w    int
		want []float32
	}{
		{[]float32{0, 1}, 1, []float32{0.5}},
		{[]float32{7, 0, 0, 7}, 2, []float32{3, 3}}, // weights 3/7, 3/7, 1/7
		{[]float32{0, 4}, 4, []float32{0, 1, 3, 4}}, // linear between centres
		{[]float32{2, 2, 2}, 7, []float32{2, 2, 2, 2, 2, 2, 2}},
	} {
		got, err := line(c.in...).Resize(1, c.w)
		if err != nil {
			t.Fatal(err)
		}
		for i := range c.want {
			if math.Abs(float64(got.X()[i]-c.want[i])) > 1e-6 {
				t.Errorf("%v to %d: got %v, want %v", c.in, c.w, got.X(), c.want)
				break
			}
		}
	}
	// Rows and columns are not mixed up, channels stay apart.
	s := numbered(2, 3, 4, 6)
	d, err := s.Resize(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	mean := func(x []float32) (m float64) {
		for _, v := range x {
			m += float64(v) / float64(len(x))
		}
		return m
	}
	for p := range 6 {
		if a, b := mean(s.X()[p*24:(p+1)*24]), mean(d.X()[p*6:(p+1)*6]); math.Abs(a-b) > 1e-6 {
			t.Errorf("plane %d: mean %g becomes %g", p, a, b)
		}
	}
	if down, right := d.X()[3]-d.X()[0], d.X()[1]-d.X()[0]; down < 4*right {
		t.Errorf("a row down adds %g, a column %g", down, right)
	}
}

func TestGrey(t *testing.T) {
	s := &Set{Name: "c", N: 1, C: 3, H: 1, W: 2, Floats: []float32{1, 0, 0, 1, -1, 1}, Gain: 1}
	g, err := s.Grey()
	if err != nil || g.C != 1 || math.Abs(float64(g.X()[0])-(0.299-0.114)) > 1e-6 || math.Abs(float64(g.X()[1])-(0.587+0.114)) > 1e-6 {
		t.Errorf("got %v, %v", g, err)
	}
	if _, err := numbered(1, 2, 2, 2).Grey(); err == nil {
		t.Error("two channels are accepted")
	}
}

// TestMirror: about half of the pictures are turned, with what they are given, the same ones from every position.
func TestMirror(t *testing.T) {
	s := numbered(10, 1, 2, 3)
	s.Given = numbered(10, 2, 4, 4)
	mirrored := func(x []float32, w int) []float32 {
		x = slices.Clone(x)
		Turn(x, w)
		return x
	}
	l, err := NewLoader(s, 4, 3)
	if err != nil {
		t.Fatal(err)
	}
	l.Mirror = true
	n := 0
	for range 10 {
		resumed, _ := NewLoader(s, 4, 99)
		resumed.Mirror = true
		if err := resumed.Seek(l.Position()); err != nil {
			t.Fatal(err)
		}
		b, again := l.Next(), resumed.Next()
		if !slices.Equal(b.Turned, again.Turned) || !slices.Equal(b.X, again.X) || !slices.Equal(b.Given, again.Given) {
			t.Fatalf("%v: resumed %v", b.Turned, again.Turned)
		}
		for k, i := range b.Index {
			x, given := s.At(i), s.Given.At(i)
			if b.Turned[k] {
				x, given, n = mirrored(x, 3), mirrored(given, 4), n+1
			}
			if !slices.Equal(b.X[k*6:(k+1)*6], x) || !slices.Equal(b.Given[k*32:(k+1)*32], given) {
				t.Fatalf("example %d, turned %v, is torn apart", i, b.Turned[k])
			}
		}
	}
	if n < 10 || n > 30 {
		t.Errorf("%d of 40 are turned", n)
	}
	if x := mirrored([]float32{1, 2, 3, 4, 5, 6}, 3); !slices.Equal(x, []float32{3, 2, 1, 6, 5, 4}) {
		t.Errorf("a mirror shows %v", x)
	}
}

func TestLoader(t *testing.T) {
	s := numbered(10, 1, 2, 2)
	take := func(l *Loader, n int) (index []int) {
		for range n {
			b := l.Next()
			for k, i := range b.Index {
				if !slices.Equal(b.X[k*4:(k+1)*4], s.At(i)) || b.Labels[k] != s.Labels[i] {
					t.Fatalf("example %d is torn apart", i)
				}
			}
			index = append(index, b.Index...)
		}
		return index
	}
	l, err := NewLoader(s, 4, 3)
	if err != nil {
		t.Fatal(err)
	}
	all := take(l, 10) // four epochs
	for e := range 4 {
		epoch := slices.Clone(all[10*e : 10*e+10])
		slices.Sort(epoch)
		if !slices.Equal(epoch, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) {
			t.Errorf("epoch %d visits %v", e, epoch)
		}
	}
	if slices.Equal(all[:10], all[10:20]) {
		t.Error("two epochs have the same order")
	}
	other, _ := NewLoader(s, 4, 4)
	if slices.Equal(take(other, 3), all[:12]) {
		t.Error("two seeds have the same order")
	}

	// From every position the stream goes on as it did.
	first, _ := NewLoader(s, 4, 3)
	for k := range 10 {
		p := first.Position()
		resumed, _ := NewLoader(s, 4, 99)
		if err := resumed.Seek(p); err != nil {
			t.Fatal(err)
		}
		if got := take(resumed, 10-k); !slices.Equal(got, all[4*k:]) {
			t.Fatalf("from %+v: got %v, want %v", p, got, all[4*k:])
		}
		take(first, 1)
	}

	small, err := NewLoader(s.Head(3), 8, 1)
	if err != nil {
		t.Fatal(err)
	}
	if b := small.Next(); len(b.Index) != 8 || len(b.X) != 32 {
		t.Errorf("a batch larger than the set: %v", b.Index)
	}
	if _, err := NewLoader(s, 0, 1); err == nil {
		t.Error("an empty batch is accepted")
	}
	for _, p := range []Position{{Epoch: -1}, {Index: -1}, {Index: 11}} {
		if err := l.Seek(p); err == nil {
			t.Errorf("position %+v is accepted", p)
		}
	}
}

// TestEvenly: a limit on several classes takes of each in turn, and all of those that have fewer.
func TestEvenly(t *testing.T) {
	s := numbered(7, 1, 2, 2)
	slices.Sort(s.Labels) // 0 0 0 1 1 2 2
	s, err := s.finish(Options{Classes: []int{0, 2}, Limit: 4}, true)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Labels, []int{0, 2, 0, 2}) {
		t.Errorf("classes %v", s.Labels)
	}
	if s, err = s.finish(Options{Classes: []int{0, 2}, Limit: 9}, true); err != nil || s.N != 4 {
		t.Errorf("a larger limit leaves %d, %v", s.N, err)
	}
}
