package data

import "iter"

// The scale of pictures: 0 … 255 becomes -1 … 1.
const (
	byteGain   = 2.0 / 255
	byteOffset = -1.0
)

// byteValue is the picture scale for every byte.
var byteValue = func() (t [256]float32) {
	for i := range t {
		t[i] = float32(float64(i)*byteGain + byteOffset)
	}
	return t
}()

// packed tells that the values are kept as bytes.
func (s *Set) packed() bool { return s.Floats == nil && s.bytes != nil }

// X is all values, [N, C, D, H, W], row-major: Floats, or a copy where the set keeps bytes.
func (s *Set) X() []float32 {
	if !s.packed() {
		return s.Floats
	}
	x := make([]float32, len(s.bytes))
	for i, v := range s.bytes {
		x[i] = s.level[v]
	}
	return x
}

// At is example i, of length Dim: a view into Floats, or a copy where the set keeps bytes.
func (s *Set) At(i int) []float32 { return s.at(i, nil) }

// Copy writes example i to dst, of length Dim at least.
func (s *Set) Copy(dst []float32, i int) { copy(dst, s.at(i, dst)) }

// at is example i, written to buf where the set keeps bytes and buf has room.
func (s *Set) at(i int, buf []float32) []float32 {
	d := s.Dim()
	if !s.packed() {
		return s.Floats[i*d : (i+1)*d : (i+1)*d]
	}
	if len(buf) < d {
		buf = make([]float32, d)
	}
	for j, v := range s.bytes[i*d : (i+1)*d] {
		buf[j] = s.level[v]
	}
	return buf[:d]
}

// each yields the examples in order. One lasts until the next and is not to be written to.
func (s *Set) each() iter.Seq2[int, []float32] {
	return func(yield func(int, []float32) bool) {
		var buf []float32
		if s.packed() {
			buf = make([]float32, s.Dim())
		}
		for i := range s.N {
			if !yield(i, s.at(i, buf)) {
				return
			}
		}
	}
}

// put sets the values of example i. A set that keeps bytes goes on doing so while every value is that
// of a byte; one that is too large for float32 takes the nearest bytes.
func (s *Set) put(i int, x []float32) {
	if s.packed() {
		b, rounds := s.bytes[i*s.Dim():], s.rounds || len(s.bytes) > MaxValues
		lo, gain := float64(s.level[0]), float64(s.level[255]-s.level[0])/255
		for j, v := range x {
			k := byte(max(0, min(255, (float64(v)-lo)/gain+0.5)))
			if s.level[k] != v && !rounds {
				s.Floats, s.bytes = s.X(), nil
				break
			}
			b[j] = k
		}
	}
	if !s.packed() {
		copy(s.At(i), x)
	}
}
