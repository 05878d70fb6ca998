package data

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// twins are the same pictures kept as bytes and as float32.
func twins(t *testing.T, n, c, h, w int) (packed, plain *Set) {
	t.Helper()
	packed, err := byteSet("twin", make([]byte, n*c*h*w), n, c, h, w)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range packed.bytes {
		packed.bytes[i] = byte(r.IntN(256))
	}
	for i := range n {
		packed.Labels = append(packed.Labels, i%3)
	}
	plain, err = newSet("twin", n, c, h, w)
	if err != nil {
		t.Fatal(err)
	}
	plain.Floats, plain.Labels = packed.X(), packed.Labels
	return packed, plain
}

// TestBytes: whatever is done with a set that keeps bytes yields the same bits as with one of float32,
// and bytes where no value is a new one.
func TestBytes(t *testing.T) {
	packed, plain := twins(t, 12, 3, 6, 5)
	done := func(s *Set, err error) *Set {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, c := range map[string]struct {
		do   func(*Set) *Set
		kept bool
	}{
		"itself":  {func(s *Set) *Set { return s }, true},
		"head":    {func(s *Set) *Set { return s.Head(5) }, true},
		"subset":  {func(s *Set) *Set { return done(s.Subset([]int{7, 0, 7})) }, true},
		"class":   {func(s *Set) *Set { return done(s.OfClass(1)) }, true},
		"train":   {func(s *Set) *Set { a, _, err := s.Split(0.25, 3); return done(a, err) }, true},
		"held":    {func(s *Set) *Set { _, b, err := s.Split(0.25, 3); return done(b, err) }, true},
		"crop":    {func(s *Set) *Set { return done(s.Crop(3, 2)) }, true},
		"patches": {func(s *Set) *Set { return done(s.Patches(9, 2, 3, 4)) }, true},
		"affine":  {func(s *Set) *Set { return s.Affine(0.3, -7) }, true},
		"bytes":   {func(s *Set) *Set { a, _ := Rescale(Bytes, s, s.Head(2)); return a }, true},
		"unit":    {func(s *Set) *Set { _, b := Rescale(Standard, s, s.Head(2)); return b }, true},
		"resize":  {func(s *Set) *Set { return done(s.Resize(4, 7)) }, false},
		"grey":    {func(s *Set) *Set { return done(s.Grey()) }, false},
		"edges":   {func(s *Set) *Set { return done(edgesOf(s)) }, false},
		"hole":    {func(s *Set) *Set { return done(holeOf(s)) }, false},
	} {
		got, want := c.do(packed), c.do(plain)
		if !slices.Equal(got.X(), want.X()) || !slices.Equal(got.At(1), want.At(1)) || got.Hash() != want.Hash() {
			t.Errorf("%s: bytes and float32 differ", name)
		}
		if err := got.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got.packed() != c.kept {
			t.Errorf("%s: bytes are kept: %v, want %v", name, got.packed(), c.kept)
		}
	}
	a, err := NewLoader(packed, 5, 1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewLoader(plain, 5, 1)
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		if x, y := a.Next(), b.Next(); !slices.Equal(x.X, y.X) || !slices.Equal(x.Labels, y.Labels) {
			t.Fatal("batches of bytes and of float32 differ")
		}
	}
	buf := make([]float32, packed.Dim())
	if n := testing.AllocsPerRun(10, func() { packed.Copy(buf, 3) }); n != 0 {
		t.Errorf("copying an example allocates %v times", n)
	}
	packed.bytes = packed.bytes[1:]
	if packed.Check() == nil {
		t.Error("a byte too few is accepted")
	}
}

// TestPut: values of bytes stay bytes until another value comes.
func TestPut(t *testing.T) {
	s, plain := twins(t, 4, 1, 3, 3)
	clear(s.bytes)
	for i := range s.N {
		s.put(i, plain.At(i))
	}
	if !s.packed() || !slices.Equal(s.X(), plain.Floats) {
		t.Error("values of bytes are not kept as such")
	}
	x := slices.Clone(plain.At(2))
	x[4] += 1e-6
	s.put(2, x)
	copy(plain.At(2), x)
	if s.packed() || !slices.Equal(s.X(), plain.Floats) {
		t.Error("a value between two bytes is lost")
	}
}

// TestRounds: a set that is too large for float32 keeps the nearest bytes.
func TestRounds(t *testing.T) {
	s, plain := twins(t, 2, 1, 3, 3)
	s.rounds = true
	x := slices.Clone(plain.At(1))
	for j := range x {
		x[j] = max(-1, min(1, x[j]+byteGain*(0.49-0.11*float32(j)))) // −0.39 to 0.49 of the way to another byte
	}
	s.put(1, x)
	if !s.packed() || !slices.Equal(s.X(), plain.Floats) {
		t.Error("values between two bytes are not the nearest ones")
	}
	for what, err := range map[string]error{
		"want at most 2": checkSize("maps", 10553, 1, 384, 384),
		"17.4 GiB":       checkBytes("pictures", 10553, 3, 768, 768),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v: want an error with %q", err, what)
		}
	}
	if err := checkBytes("pictures", 10553, 3, 384, 384); err != nil {
		t.Error(err)
	}
}
