package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
)

// MaxValues bounds the float32 values of one set (2 GiB of them), and MaxBytes those of a set that keeps
// bytes; readers refuse what would not fit.
const (
	MaxValues = 1 << 29
	MaxBytes  = 1 << 33
)

// A Set is N examples of C×H×W values, or C×D×H×W where Kind is Video or Voxels. Points in the plane
// are examples with C = 2 and H = W = 1; [Set.Dims] is the shape that networks see.
type Set struct {
	Name       string
	Kind       Kind
	N, C, H, W int
	D          int // frames of a clip, or depth of a volume; otherwise 0

	// Floats is the values, [N, C, D, H, W], row-major; nil where the set keeps the bytes that they came
	// from. X, At and Copy read both.
	Floats []float32
	bytes  []byte        // what Floats would hold, as places in level
	level  *[256]float32 // the values of bytes
	rounds bool          // to the nearest bytes, where float32 would have had room too

	// Lo and Hi bound the values: -1 and 1 for pictures. Both are zero where nothing bounds them.
	Lo, Hi float32

	// Gain and Offset tell how the values came from those in the file: value = raw·Gain + Offset.
	Gain, Offset float64

	// LeftOut counts the files of a folder that are pictures of formats not read here, by the ends of their names.
	LeftOut map[string]int

	Labels  []int    // one class per example; nil without labels
	Classes []string // names of the classes, where the source has names

	// Factors [N, len(FactorNames)] are the parameters that synthetic examples were drawn with.
	Factors     []float32
	FactorNames []string

	// Given holds, example by example, what each example is to be drawn from: the outline that is to be
	// filled, the photo that a map belongs to, the scene that a vehicle drives through. Nil without.
	Given *Set
	// Beside holds further sets that are aligned with this one, by name: what only a test may look at
	// ("target", "mask") or what a weak supervisor knows ("scribbles").
	Beside map[string]*Set
}

// newSet reserves a set of pictures in [-1, 1] whose raw values are 0 … 255.
func newSet(name string, n, c, h, w int) (*Set, error) {
	if err := checkSize(name, n, c, h, w); err != nil {
		return nil, err
	}
	s, err := byteSet(name, nil, n, c, h, w)
	if err == nil {
		s.Floats = make([]float32, n*c*h*w)
	}
	return s, err
}

// byteSet is a set of pictures in [-1, 1] that keeps bytes.
func byteSet(name string, bytes []byte, n, c, h, w int) (*Set, error) {
	if err := checkBytes(name, n, c, h, w); err != nil {
		return nil, err
	}
	return &Set{
		Name: name, N: n, C: c, H: h, W: w, bytes: bytes, level: &byteValue,
		Lo: -1, Hi: 1, Gain: byteGain, Offset: byteOffset,
	}, nil
}

// checkSize refuses shapes that are empty, overflow or need more than MaxValues.
func checkSize(where string, dims ...int) error { return checkRoom(where, MaxValues, 4, dims) }

// checkBytes is checkSize for values that are kept as bytes.
func checkBytes(where string, dims ...int) error { return checkRoom(where, MaxBytes, 1, dims) }

// checkRoom refuses shapes of more than so many values of so many bytes.
func checkRoom(where string, most, width int, dims []int) error {
	n := 1.0
	for _, d := range dims {
		if d <= 0 {
			return fmt.Errorf("data: %s: shape %v has a size below 1", where, dims)
		}
		n *= float64(d)
	}
	if n > float64(most) {
		return fmt.Errorf("data: %s: shape %v holds more than %d values: %.1f GiB of memory, want at most %d", where, dims, most, n*float64(width)/(1<<30), most*width>>30)
	}
	return nil
}

// checkRoom refuses to keep n examples of h×w as s keeps its own.
func (s *Set) checkRoom(where string, n, h, w int) error {
	if s.packed() {
		return checkBytes(where, n, s.planes(), h, w)
	}
	return checkSize(where, n, s.planes(), h, w)
}

// Dim is the number of values of one example, C·D·H·W without the axes that there are not.
func (s *Set) Dim() int { return s.planes() * s.H * s.W }

// Raw undoes the scale: the value in the file's units.
func (s *Set) Raw(v float32) float64 { return (float64(v) - s.Offset) / s.Gain }

// Check reports the first inconsistency: sizes that disagree, a value that is not finite or outside
// the range, a label without example.
func (s *Set) Check() error {
	if err := checkBytes(s.Name, s.N, s.C, s.H, s.W); err != nil {
		return err
	}
	if s.Kind.deep() != (s.D > 0) || s.D < 0 || (s.Kind == Cloud || s.Kind == Path) && s.C != 1 {
		return fmt.Errorf("data: %s: %s of %d×%d×%d×%d", s.Name, s.Kind, s.C, s.D, s.H, s.W)
	}
	if err := s.checkRoom(s.Name, s.N, s.H, s.W); err != nil {
		return err
	}
	n := len(s.Floats)
	if s.packed() {
		n = len(s.bytes)
	}
	if n != s.N*s.Dim() {
		return fmt.Errorf("data: %s: shape %d×%d×%d×%d wants %d values, got %d", s.Name, s.N, s.C, s.H, s.W, s.N*s.Dim(), n)
	}
	if s.Labels != nil && len(s.Labels) != s.N {
		return fmt.Errorf("data: %s: %d examples want as many labels, got %d", s.Name, s.N, len(s.Labels))
	}
	if len(s.Factors) != s.N*len(s.FactorNames) {
		return fmt.Errorf("data: %s: %d factors of %d examples, got %d values", s.Name, len(s.FactorNames), s.N, len(s.Factors))
	}
	if s.Gain == 0 || !finite(s.Gain) || !finite(s.Offset) {
		return fmt.Errorf("data: %s: scale %g, %g cannot be undone", s.Name, s.Gain, s.Offset)
	}
	for i, x := range s.each() {
		for j, v := range x {
			if !finite(float64(v)) {
				return fmt.Errorf("data: %s: example %d: value %d is %v, want finite values", s.Name, i, j, v)
			}
			if s.Lo < s.Hi && (v < s.Lo || v > s.Hi) {
				return fmt.Errorf("data: %s: example %d: value %d is %v, want %v … %v", s.Name, i, j, v, s.Lo, s.Hi)
			}
		}
	}
	for what, a := range s.aligned() {
		if err := a.Check(); err != nil {
			return err
		}
		if a.N != s.N {
			return fmt.Errorf("data: %s: %s: %d examples want as many, got %d", s.Name, what, s.N, a.N)
		}
	}
	return nil
}

// aligned is the sets that go with s, by name.
func (s *Set) aligned() iter.Seq2[string, *Set] {
	return func(yield func(string, *Set) bool) {
		if s.Given != nil && !yield("given", s.Given) {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(s.Beside)) {
			if !yield(name, s.Beside[name]) {
				return
			}
		}
	}
}

// along makes the sets that go with t out of those that go with s by f.
func (t *Set) along(s *Set, f func(*Set) (*Set, error)) (*Set, error) {
	t.Given, t.Beside = nil, nil
	for name, a := range s.aligned() {
		b, err := f(a)
		switch {
		case err != nil:
			return nil, err
		case a == s.Given:
			t.Given = b
			continue
		case t.Beside == nil:
			t.Beside = map[string]*Set{}
		}
		t.Beside[name] = b
	}
	return t, nil
}

// alongPictures is along for an f that changes pictures and clips and leaves everything else alone.
func (t *Set) alongPictures(s *Set, f func(*Set) (*Set, error)) (*Set, error) {
	return t.along(s, func(a *Set) (*Set, error) {
		if a.H == 1 && a.W == 1 || a.Kind != Plain && a.Kind != Video {
			return a, nil
		}
		return f(a)
	})
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// Hash is the SHA-256 of shape, scale, values, labels and what is given, in hexadecimal. It names the data in a run's
// manifest; the set's own name does not enter.
func (s *Set) Hash() string {
	h := sha256.New()
	head := []uint64{
		uint64(s.N), uint64(s.C), uint64(s.H), uint64(s.W),
		math.Float64bits(s.Gain), math.Float64bits(s.Offset), uint64(len(s.Labels)),
	}
	if s.Kind != Plain {
		head = append(head, uint64(s.Kind), uint64(s.D))
	}
	buf := make([]byte, 0, 1<<16)
	for _, v := range head {
		buf = binary.LittleEndian.AppendUint64(buf, v)
	}
	for _, v := range s.Labels {
		buf = binary.LittleEndian.AppendUint64(buf, uint64(v))
	}
	for _, x := range s.each() {
		for _, v := range x {
			if len(buf) >= 1<<15 {
				h.Write(buf)
				buf = buf[:0]
			}
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
		}
	}
	h.Write(buf)
	if s.Given != nil {
		io.WriteString(h, s.Given.Hash())
	}
	return hex.EncodeToString(h.Sum(nil))
}

// shaped is s without examples, for n examples of another shape.
func (s *Set) shaped(n, c, h, w int) *Set {
	t := *s
	t.N, t.C, t.H, t.W = n, c, h, w
	t.Floats, t.bytes = make([]float32, n*t.Dim()), nil
	return &t
}

// room is shaped for as many examples of c×h×w, or alike where float32 would be more than MaxValues and s
// keeps bytes: what is put there is rounded then.
func (s *Set) room(what string, c, h, w int) (*Set, error) {
	t := *s
	t.C, t.H, t.W = c, h, w
	err := checkSize(s.Name+": "+what, s.N, t.planes(), h, w)
	switch {
	case err == nil:
		return s.shaped(s.N, c, h, w), nil
	case !s.packed():
		return nil, err
	}
	if err := checkBytes(s.Name+": "+what, s.N, t.planes(), h, w); err != nil {
		return nil, err
	}
	return s.alike(s.N, c, h, w), nil
}

// alike is shaped, keeping bytes where s does.
func (s *Set) alike(n, c, h, w int) *Set {
	if !s.packed() {
		return s.shaped(n, c, h, w)
	}
	t := *s
	t.N, t.C, t.H, t.W = n, c, h, w
	t.bytes = make([]byte, n*t.Dim())
	return &t
}

// Subset copies the examples of the given indices, in their order; an index may occur more than once.
func (s *Set) Subset(index []int) (*Set, error) {
	if err := s.checkRoom(s.Name+": subset", len(index), s.H, s.W); err != nil {
		return nil, err
	}
	t := s.alike(len(index), s.C, s.H, s.W)
	t.Labels, t.Factors = nil, nil
	f := len(s.FactorNames)
	for k, i := range index {
		if i < 0 || i >= s.N {
			return nil, fmt.Errorf("data: %s: example %d of %d", s.Name, i, s.N)
		}
		s.cut(t, k, i, 0, 0)
		if s.Labels != nil {
			t.Labels = append(t.Labels, s.Labels[i])
		}
		t.Factors = append(t.Factors, s.Factors[i*f:(i+1)*f]...)
	}
	return t.along(s, func(a *Set) (*Set, error) { return a.Subset(index) })
}

// Head is the first n examples, all of them if n is not below N. The values are shared with s.
func (s *Set) Head(n int) *Set {
	t := *s
	t.N = max(0, min(n, s.N))
	if n := t.N * s.Dim(); s.packed() {
		t.bytes = s.bytes[:n]
	} else {
		t.Floats = s.Floats[:n]
	}
	if s.Labels != nil {
		t.Labels = s.Labels[:t.N]
	}
	t.Factors = s.Factors[:t.N*len(s.FactorNames)]
	t.along(s, func(a *Set) (*Set, error) { return a.Head(n), nil })
	return &t
}

// OfClass is the examples whose label is one of the given classes; labels keep their numbers.
func (s *Set) OfClass(classes ...int) (*Set, error) {
	if s.Labels == nil {
		return nil, fmt.Errorf("data: %s: classes %v are wanted of data without labels", s.Name, classes)
	}
	var index []int
	for i, l := range s.Labels {
		if slices.Contains(classes, l) {
			index = append(index, i)
		}
	}
	if len(index) == 0 {
		return nil, fmt.Errorf("data: %s: no example has a class of %v", s.Name, classes)
	}
	return s.Subset(index)
}

// Split divides the examples at random into a training part and a held-out part of round(heldOut·N)
// examples. The same seed and N always give the same two parts; inside each the order of s is kept.
func (s *Set) Split(heldOut float64, seed uint64) (train, held *Set, err error) {
	in, out, err := parts(s.Name, s.N, heldOut, seed)
	if err != nil {
		return nil, nil, err
	}
	if train, err = s.Subset(in); err != nil {
		return nil, nil, err
	}
	held, err = s.Subset(out)
	return train, held, err
}

// parts divides the indices of n examples as [Set.Split] does.
func parts(name string, n int, heldOut float64, seed uint64) (in, out []int, err error) {
	k := int(math.Round(heldOut * float64(n)))
	if !(heldOut > 0 && heldOut < 1) || k < 1 || k >= n {
		return nil, nil, fmt.Errorf("data: %s: cannot hold out the share %g of %d examples", name, heldOut, n)
	}
	perm := rand.New(rand.NewPCG(seed, splitStream)).Perm(n)
	out, in = perm[:k], perm[k:]
	slices.Sort(out)
	slices.Sort(in)
	return in, out, nil
}

// span is 0 … n − 1.
func span(n int) []int {
	index := make([]int, n)
	for i := range index {
		index[i] = i
	}
	return index
}

// Streams keep the uses of one seed apart.
const (
	splitStream   = 0x5eed_5917
	shuffleStream = 0x5eed_10ad
	patchStream   = 0x5eed_9a7c
	meshStream    = 0x5eed_3e58
	holeStream    = 0x5eed_401e
)

// Grey turns three channels into one with the luma weights of ITU-R BT.601. One channel is returned
// as it is; any other count is an error.
func (s *Set) Grey() (*Set, error) {
	if s.C != 1 && s.C != 3 {
		return nil, fmt.Errorf("data: %s: grey wants 1 or 3 channels, got %d", s.Name, s.C)
	}
	if s.C == 1 && s.Given == nil && s.Beside == nil {
		return s, nil
	}
	t := *s
	if s.C == 3 {
		one, err := s.room("grey", 1, s.H, s.W)
		if err != nil {
			return nil, err
		}
		t = *one
		y := make([]float32, t.Dim())
		for i, x := range s.each() {
			grey(y, x)
			t.put(i, y)
		}
	}
	return t.alongPictures(s, (*Set).Grey)
}

// grey writes the luma of the planes r, g, b in src to dst.
func grey(dst, src []float32) {
	p := len(dst)
	for j := range dst {
		dst[j] = 0.299*src[j] + 0.587*src[p+j] + 0.114*src[2*p+j]
	}
}

// Resize brings every example to h×w with a tent filter that widens when it shrinks (what imaging
// libraries call anti-aliased bilinear). Values stay within the range they had.
func (s *Set) Resize(h, w int) (*Set, error) {
	if err := checkBytes(s.Name+": resize", s.N, s.planes(), h, w); err != nil {
		return nil, err
	}
	if h == s.H && w == s.W {
		return s, nil
	}
	if s.Kind != Plain && s.Kind != Video {
		return nil, fmt.Errorf("data: %s: %s of %v have no other size in pixels", s.Name, s.Kind, s.Dims())
	}
	t, err := s.room("resize", s.C, h, w)
	if err != nil {
		return nil, err
	}
	r, y := newResizer(s.H, s.W, h, w), make([]float32, t.Dim())
	for i, x := range s.each() {
		for k := range s.planes() {
			r.plane(y[k*h*w:(k+1)*h*w], x[k*s.H*s.W:(k+1)*s.H*s.W])
		}
		t.put(i, y)
	}
	return t.alongPictures(s, func(a *Set) (*Set, error) { return a.Resize(h, w) })
}

// Crop keeps the h×w pixels in the middle of every example.
func (s *Set) Crop(h, w int) (*Set, error) {
	if h < 1 || w < 1 || h > s.H || w > s.W {
		return nil, fmt.Errorf("data: %s: cannot cut %d×%d out of %d×%d", s.Name, h, w, s.H, s.W)
	}
	if h == s.H && w == s.W {
		return s, nil
	}
	t := s.alike(s.N, s.C, h, w)
	for i := range s.N {
		s.cut(t, i, i, (s.H-h)/2, (s.W-w)/2)
	}
	return t.alongPictures(s, func(a *Set) (*Set, error) { return a.Crop(h, w) })
}

// cut copies the window of example i at (y, x) to example k of t, which is alike.
func (s *Set) cut(t *Set, k, i, y, x int) {
	if s.packed() {
		window(t.bytes[k*t.Dim():], s.bytes[i*s.Dim():], s, t, y, x)
	} else {
		window(t.Floats[k*t.Dim():], s.Floats[i*s.Dim():], s, t, y, x)
	}
}

// window copies the window at (y, x) of an example of s to one of t.
func window[V byte | float32](dst, src []V, s, t *Set, y, x int) {
	for p := range s.planes() {
		for r := range t.H {
			copy(dst[(p*t.H+r)*t.W:][:t.W], src[(p*s.H+y+r)*s.W+x:][:t.W])
		}
	}
}

// Patches cuts n windows of h×w at random places of random examples. Window k depends on the seed and
// k alone.
func (s *Set) Patches(n, h, w int, seed uint64) (*Set, error) {
	if h < 1 || w < 1 || h > s.H || w > s.W {
		return nil, fmt.Errorf("data: %s: cannot cut %d×%d out of %d×%d", s.Name, h, w, s.H, s.W)
	}
	if err := s.checkRoom(s.Name+": patches", n, h, w); err != nil {
		return nil, err
	}
	for what, a := range s.aligned() {
		if a.H != s.H || a.W != s.W {
			return nil, fmt.Errorf("data: %s: patches: %s is of %d×%d, want %d×%d", s.Name, what, a.H, a.W, s.H, s.W)
		}
	}
	t := s.alike(n, s.C, h, w)
	t.Labels, t.Factors, t.FactorNames = nil, nil, nil
	r := rand.New(rand.NewPCG(seed, patchStream))
	for k := range n {
		i := r.IntN(s.N)
		s.cut(t, k, i, r.IntN(s.H-h+1), r.IntN(s.W-w+1))
		if s.Labels != nil {
			t.Labels = append(t.Labels, s.Labels[i])
		}
	}
	return t.along(s, func(a *Set) (*Set, error) { return a.Patches(n, h, w, seed) })
}
