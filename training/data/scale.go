package data

import "math"

// Scales that pictures may have.
const (
	Unit  = "unit"  // [−1, 1], as loaded
	Bytes = "bytes" // [0, 255] minus the mean of the training examples
	Share = "share" // [0, 1] minus the mean of the training examples

	Standard = "standard" // mean 0 and variance 10 over the training examples
)

// Affine maps every value v to v·gain + offset, the range and the record of the
// scale with it. gain must be positive. Aligned sets keep their scale.
func (s *Set) Affine(gain, offset float64) *Set {
	t := *s
	scaled := func(values []float32) []float32 {
		out := make([]float32, len(values))
		for i, v := range values {
			out[i] = float32(float64(v)*gain + offset)
		}
		return out
	}
	if s.packed() {
		t.level = (*[256]float32)(scaled(s.level[:]))
	} else {
		t.Floats = scaled(s.Floats)
	}
	if s.Lo != 0 || s.Hi != 0 {
		t.Lo, t.Hi = float32(float64(s.Lo)*gain+offset), float32(float64(s.Hi)*gain+offset)
	}
	t.Gain, t.Offset = s.Gain*gain, s.Offset*gain+offset
	return &t
}

// Rescale brings training and held-out pictures that lie in [−1, 1] to the named
// scale, both by the same map.
func Rescale(scale string, train, held *Set) (*Set, *Set) {
	gain, ok := map[string]float64{Bytes: 127.5, Share: 0.5, Standard: math.Sqrt(10)}[scale]
	if !ok {
		return train, held
	}
	mean, square := 0.0, 0.0
	for _, x := range train.each() {
		for _, v := range x {
			mean += float64(v)
			square += float64(v) * float64(v)
		}
	}
	n := float64(train.N * train.Dim())
	mean /= n
	if variance := square/n - mean*mean; scale == Standard && variance > 0 {
		gain /= math.Sqrt(variance)
	}
	if held == train {
		train = train.Affine(gain, -gain*mean)
		return train, train
	}
	return train.Affine(gain, -gain*mean), held.Affine(gain, -gain*mean)
}
