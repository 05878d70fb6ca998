package diag

import (
	"fmt"
	"math"
)

// Saliency are the scores of saliency maps against true ones, averaged over pictures.
// Of the F-measure (Achanta et al., 2009, β² = 0.3) and the E-measure (Fan et al., 2018)
// there is the one at the adaptive threshold, and mean and maximum over 256 thresholds
// of the curve that is the average over pictures.
type Saliency struct {
	MAE       float64 // mean absolute error
	S         float64 // S-measure (Fan et al., 2017), α = 1/2
	AdaptiveF float64
	MeanF     float64
	MaxF      float64
	AdaptiveE float64
	MeanE     float64
	MaxE      float64
	WeightedF float64 // weighted F-measure (Margolin et al., 2014)
}

const (
	tiny       = 2.22e-16
	thresholds = 256
)

// SaliencyOf scores maps [n, h, w], as a [SaliencyMeter] does.
func SaliencyOf(maps, truth []float32, h, w int) (Saliency, error) {
	n, _, err := pair("saliency", maps, truth, h*w, 1)
	if err != nil {
		return Saliency{}, err
	}
	if len(maps) != len(truth) {
		return Saliency{}, fmt.Errorf("diag: saliency: wanted as many maps as true ones, got %d and %d values", len(maps), len(truth))
	}
	var m SaliencyMeter
	for i := range n {
		m.Add(maps[i*h*w:(i+1)*h*w], truth[i*h*w:(i+1)*h*w], h, w)
	}
	return m.Scores(), nil
}

// A SaliencyMeter scores maps one after another, which may differ in size.
type SaliencyMeter struct {
	n              float64
	sum            Saliency
	curveF, curveE [thresholds]float64
}

// Add scores a map [h, w] from 0 to 1. What exceeds 128/255 in the true one is salient. The map
// is stretched to 0 … 1 first, unless it is constant.
func (m *SaliencyMeter) Add(x, truth []float32, h, w int) {
	p, g, mean := stretched(x), make([]bool, h*w), 0.0
	var levels [thresholds]counts // of the pixels of each grey level
	for j, v := range p {
		g[j] = 255*float64(truth[j]) > 128
		mean += v / float64(len(p))
		m.sum.MAE += math.Abs(v-unit(g[j])) / float64(len(p))
		if at := &levels[min(int(255*v+1e-3), thresholds-1)]; g[j] { // float32 may hold a byte as a little less
			at.hit++
		} else {
			at.false++
		}
	}
	m.n++
	m.sum.S += structure(p, g, h, w)
	m.sum.WeightedF += weightedF(p, g, h, w)
	cut := min(2*mean, 1)
	at := countsOf(g, func(j int) bool { return p[j] >= cut })
	m.sum.AdaptiveF += at.f()
	m.sum.AdaptiveE += at.e()
	at = counts{missed: at.hit + at.missed, rest: at.false + at.rest} // nothing is marked
	for t := thresholds - 1; t >= 0; t-- {
		l := levels[t]
		at = counts{at.hit + l.hit, at.false + l.false, at.missed - l.hit, at.rest - l.false}
		m.curveF[t] += at.f()
		m.curveE[t] += at.e()
	}
}

// Scores are means over the maps so far; a maximum is that of the mean curve.
func (m *SaliencyMeter) Scores() Saliency {
	s := m.sum
	for _, v := range []*float64{&s.MAE, &s.S, &s.WeightedF, &s.AdaptiveF, &s.AdaptiveE} {
		*v /= m.n
	}
	for t := range thresholds {
		f, e := m.curveF[t]/m.n, m.curveE[t]/m.n
		s.MeanF += f / thresholds
		s.MeanE += e / thresholds
		s.MaxF, s.MaxE = max(s.MaxF, f), max(s.MaxE, e)
	}
	return s
}

func unit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func stretched(x []float32) []float64 {
	lo, hi := math.Inf(1), math.Inf(-1)
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
		lo, hi = min(lo, out[i]), max(hi, out[i])
	}
	if lo == hi {
		return out
	}
	for i := range out {
		out[i] = (out[i] - lo) / (hi - lo)
	}
	return out
}

// counts are the pixels of each kind: marked or not, salient or not.
type counts struct{ hit, false, missed, rest float64 }

func countsOf(g []bool, marked func(i int) bool) (c counts) {
	for i, salient := range g {
		switch m := marked(i); {
		case m && salient:
			c.hit++
		case m:
			c.false++
		case salient:
			c.missed++
		default:
			c.rest++
		}
	}
	return c
}

// f is the F-measure (1 + β²)·P·R/(β²·P + R).
func (c counts) f() float64 {
	const beta2 = 0.3
	if c.hit == 0 {
		return 0
	}
	p, r := c.hit/(c.hit+c.false), c.hit/(c.hit+c.missed)
	return (1 + beta2) * p * r / (beta2*p + r)
}

// e is the E-measure, whose sum is divided by one pixel less than there are.
func (c counts) e() float64 {
	n := c.hit + c.false + c.missed + c.rest
	switch {
	case c.hit+c.missed == 0:
		return c.rest / (n - 1 + tiny)
	case c.false+c.rest == 0:
		return c.hit / (n - 1 + tiny)
	}
	mb, mg, sum := (c.hit+c.false)/n, (c.hit+c.missed)/n, 0.0
	for _, k := range []struct{ b, g, n float64 }{{1, 1, c.hit}, {1, 0, c.false}, {0, 1, c.missed}, {0, 0, c.rest}} {
		x, y := k.b-mb, k.g-mg
		a := 2 * x * y / (x*x + y*y + tiny)
		sum += k.n * (a + 1) * (a + 1) / 4
	}
	return sum / (n - 1 + tiny)
}

// structure is the S-measure: half of objects, half of regions.
func structure(p []float64, g []bool, h, w int) float64 {
	mu, mean := 0.0, 0.0
	for i, v := range p {
		mu += unit(g[i]) / float64(len(p))
		mean += v / float64(len(p))
	}
	switch mu {
	case 0:
		return 1 - mean
	case 1:
		return mean
	}
	return max(0, (objects(p, g, mu)+regions(p, g, h, w))/2)
}

// objects scores the map on the salient pixels and its opposite on the others.
func objects(p []float64, g []bool, mu float64) float64 {
	var in, out []float64
	for i, v := range p {
		if g[i] {
			in = append(in, v)
		} else {
			out = append(out, 1-v)
		}
	}
	score := func(x []float64) float64 {
		m, v := spread(x)
		return 2 * m / (m*m + 1 + math.Sqrt(v) + tiny)
	}
	return mu*score(in) + (1-mu)*score(out)
}

// spread is the mean, and the variance with n − 1, of x.
func spread(x []float64) (mean, variance float64) {
	for _, v := range x { // the sum first, so that ones have a mean of 1 and no variance
		mean += v
	}
	mean /= float64(len(x))
	for _, v := range x {
		variance += (v - mean) * (v - mean)
	}
	return mean, variance / float64(max(len(x)-1, 1))
}

// regions scores the four blocks around the centre of what is salient, each by its
// share of the picture.
func regions(p []float64, g []bool, h, w int) float64 {
	row, column, count := 0.0, 0.0, 0.0
	for i, salient := range g {
		if salient {
			row, column, count = row+float64(i/w), column+float64(i%w), count+1
		}
	}
	y, x := int(math.RoundToEven(row/count))+1, int(math.RoundToEven(column/count))+1
	sum := 0.0
	for _, b := range [][4]int{{0, y, 0, x}, {0, y, x, w}, {y, h, 0, x}, {y, h, x, w}} {
		var pv, gv []float64
		for r := b[0]; r < b[1]; r++ {
			for c := b[2]; c < b[3]; c++ {
				pv, gv = append(pv, p[r*w+c]), append(gv, unit(g[r*w+c]))
			}
		}
		if len(pv) > 0 {
			sum += float64(len(pv)) / float64(h*w) * alike(pv, gv)
		}
	}
	return sum
}

// alike is the structural similarity of two blocks without its constants.
func alike(x, y []float64) float64 {
	mx, vx := spread(x)
	my, vy := spread(y)
	cov := 0.0
	for i := range x {
		cov += (x[i] - mx) * (y[i] - my)
	}
	cov /= float64(max(len(x)-1, 1))
	top, bottom := 4*mx*my*cov, (mx*mx+my*my)*(vx+vy)
	switch {
	case top != 0:
		return top / (bottom + tiny)
	case bottom == 0:
		return 1
	}
	return 0
}
