package multigrid

import (
	"math/rand/v2"
	"sort"

	"ebmrun/training/checkpoint"
)

// Colours is a joint histogram of the mean colours of pictures: the model of the
// 1×1 grid.
type Colours struct {
	Bins   int     // per channel
	Lo, Hi float64 // the range that they divide
	C      int
	counts []float64 // [Bins^C]
	upTo   []float64 // their running sum
}

func newColours(c, bins int, lo, hi float64) *Colours {
	n := 1
	for range c {
		n *= bins
	}
	return &Colours{Bins: bins, Lo: lo, Hi: hi, C: c, counts: make([]float64, n)}
}

// Bin is the bin of a colour.
func (h *Colours) Bin(x []float32) int {
	bin := 0
	for _, v := range x {
		k := int((float64(v) - h.Lo) / (h.Hi - h.Lo) * float64(h.Bins))
		bin = bin*h.Bins + min(max(k, 0), h.Bins-1)
	}
	return bin
}

// Count adds colours [n, C].
func (h *Colours) Count(x []float32) {
	for ; len(x) >= h.C; x = x[h.C:] {
		h.counts[h.Bin(x[:h.C])]++
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
	for c := h.C - 1; c >= 0; c-- {
		x[c] = float32(h.Lo + (h.Hi-h.Lo)*(float64(bin%h.Bins)+r.Float64())/float64(h.Bins))
		bin /= h.Bins
	}
}

func (h *Colours) save(st *checkpoint.State) {
	st.Tensors["colours"] = checkpoint.Tensor{Shape: []int{len(h.counts)}, Data: h.counts}
	st.Tensors["colours/range"] = checkpoint.Tensor{Shape: []int{2}, Data: []float64{h.Lo, h.Hi}}
}

func (h *Colours) restore(st *checkpoint.State) error {
	counts, err := checkpoint.Values[float64](st, "colours", len(h.counts))
	if err != nil {
		return err
	}
	limits, err := checkpoint.Values[float64](st, "colours/range", 2)
	if err != nil {
		return err
	}
	h.counts, h.upTo, h.Lo, h.Hi = append([]float64(nil), counts...), nil, limits[0], limits[1]
	return nil
}
