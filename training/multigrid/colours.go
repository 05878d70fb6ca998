package multigrid

import (
	"math/rand/v2"
	"sort"

	"ebmrun/training/checkpoint"
)

// Colours is a joint histogram of the mean colours of pictures: the model of the
// 1×1 grid.
type Colours struct {
	Bins   int       // per channel
	Lo, Hi []float64 // the range of each channel that they divide
	counts []float64 // [Bins^C]
	upTo   []float64 // their running sum
}

func newColours(c, bins int) *Colours {
	n := 1
	for range c {
		n *= bins
	}
	return &Colours{Bins: bins, Lo: make([]float64, c), Hi: make([]float64, c), counts: make([]float64, n)}
}

// Bin is the bin of a colour.
func (h *Colours) Bin(x []float32) int {
	bin := 0
	for c, v := range x {
		k := int((float64(v) - h.Lo[c]) / (h.Hi[c] - h.Lo[c]) * float64(h.Bins))
		bin = bin*h.Bins + min(max(k, 0), h.Bins-1)
	}
	return bin
}

// Learn counts colours [n, C] over the range that they have.
func (h *Colours) Learn(x []float32) {
	c := len(h.Lo)
	for i, v := range x {
		if v := float64(v); i < c {
			h.Lo[i], h.Hi[i] = v, v
		} else {
			h.Lo[i%c], h.Hi[i%c] = min(h.Lo[i%c], v), max(h.Hi[i%c], v)
		}
	}
	for i := range h.Lo {
		if h.Hi[i] = h.Hi[i] + 1e-6; !(h.Hi[i]-h.Lo[i] > 1e-6) { // one colour only
			h.Lo[i] -= 1e-6
		}
	}
	for ; len(x) >= c; x = x[c:] {
		h.counts[h.Bin(x[:c])]++
	}
	h.upTo = nil
}

// Share is the share of colours in a bin.
func (h *Colours) Share(bin int) float64 {
	h.sum()
	return h.counts[bin] / h.upTo[len(h.upTo)-1]
}

func (h *Colours) sum() {
	if h.upTo != nil {
		return
	}
	h.upTo = make([]float64, len(h.counts))
	sum := 0.0
	for i, c := range h.counts {
		sum += c
		h.upTo[i] = sum
	}
}

// Draw writes one colour: a bin as often as it was counted, and a place in it.
func (h *Colours) Draw(r *rand.Rand, x []float32) {
	h.sum()
	u := r.Float64() * h.upTo[len(h.upTo)-1]
	bin := sort.Search(len(h.upTo), func(i int) bool { return h.upTo[i] > u })
	for c := len(h.Lo) - 1; c >= 0; c-- {
		x[c] = float32(h.Lo[c] + (h.Hi[c]-h.Lo[c])*(float64(bin%h.Bins)+r.Float64())/float64(h.Bins))
		bin /= h.Bins
	}
}

func (h *Colours) save(st *checkpoint.State) {
	st.Tensors["colours"] = checkpoint.Tensor{Shape: []int{len(h.counts)}, Data: h.counts}
	st.Tensors["colours/low"] = checkpoint.Tensor{Shape: []int{len(h.Lo)}, Data: h.Lo}
	st.Tensors["colours/high"] = checkpoint.Tensor{Shape: []int{len(h.Hi)}, Data: h.Hi}
}

func (h *Colours) restore(st *checkpoint.State) error {
	for name, dst := range map[string][]float64{"colours": h.counts, "colours/low": h.Lo, "colours/high": h.Hi} {
		v, err := checkpoint.Values[float64](st, name, len(dst))
		if err != nil {
			return err
		}
		copy(dst, v)
	}
	h.upTo = nil
	return nil
}
