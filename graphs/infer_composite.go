package graphs

import "fmt"

// compositeShapes: attention, losses, transforms, quantization and the like.
func compositeShapes() map[string]func(*inferer) error {
	return map[string]func(*inferer) error{
		"Attention": inferAttention, "RotaryEmbedding": sameAsFirst, "DFT": inferDFT, "STFT": inferSTFT, "Det": inferDet,
		"SoftmaxCrossEntropyLoss": inferLoss, "NegativeLogLikelihoodLoss": inferLoss,
		"QuantizeLinear": inferQuantize, "DequantizeLinear": inferDequantize,
	}
}

// inferAttention: queries, keys and values are [batch, heads, length, size] or
// [batch, length, heads·size].
func inferAttention(c *inferer) error {
	var v [3]*Value
	for i := range v {
		x, err := c.in(i)
		if err != nil {
			return err
		}
		v[i] = x
	}
	q, k, w := v[0], v[1], v[2]
	for i := range c.n.Outputs {
		c.set(i, q.Type, nil)
	}
	if q.Shape == nil || k.Shape == nil || w.Shape == nil {
		return nil
	}
	rank := len(q.Shape)
	if rank != 3 && rank != 4 || len(k.Shape) != rank || len(w.Shape) != rank {
		return fmt.Errorf("inputs %s, %s, %s: wanted equal ranks of 3 or 4", q, k, w)
	}
	qh, kh := c.n.Int("q_num_heads", 0), c.n.Int("kv_num_heads", 0)
	if rank == 4 {
		if d := q.Shape[1]; qh == 0 {
			qh = d.N
		}
		if d := k.Shape[1]; kh == 0 {
			kh = d.N
		}
	}
	if rank == 3 && (qh < 1 || kh < 1) {
		return fmt.Errorf("q_num_heads and kv_num_heads are needed for inputs of rank 3")
	}
	if qh > 0 && kh > 0 && qh%kh != 0 {
		return fmt.Errorf("%d query heads are no multiple of %d key heads", qh, kh)
	}
	heads := func(n int64) Dim {
		if n < 1 {
			return UnknownDim
		}
		return Dim{N: n}
	}
	length, size, vsize := k.Shape[rank-2], k.Shape[rank-1], w.Shape[rank-1]
	if rank == 3 {
		size, vsize = affine(size, 1, 0, kh, false), affine(vsize, 1, 0, kh, false)
		c.set(0, q.Type, Shape{q.Shape[0], q.Shape[1], affine(vsize, qh, 0, 1, false)})
	} else {
		c.set(0, q.Type, Shape{q.Shape[0], q.Shape[1], q.Shape[2], vsize})
	}
	if past := c.n.In(4); past != nil {
		if len(past.Shape) != 4 {
			length = UnknownDim
		} else if p := past.Shape[2]; p.Known() {
			length = affine(length, 1, p.N, 1, false)
		} else {
			length = UnknownDim
		}
	}
	c.set(1, k.Type, Shape{k.Shape[0], heads(kh), length, size})
	c.set(2, w.Type, Shape{k.Shape[0], heads(kh), length, vsize})
	c.set(3, q.Type, Shape{q.Shape[0], heads(qh), q.Shape[rank-2], length})
	return nil
}

// DFTSpec is the constant part of a DFT node.
type DFTSpec struct {
	Axis              int
	Length            Dim // of the transformed signal
	Onesided, Inverse bool
}

// DFTOf reads a DFT node (opset 20: the axis is an input).
func DFTOf(n *Node) (*DFTSpec, error) {
	x := n.In(0)
	if x == nil || x.Shape == nil {
		return nil, fmt.Errorf("the rank of the signal must be known")
	}
	s := &DFTSpec{Onesided: n.Int("onesided", 0) != 0, Inverse: n.Int("inverse", 0) != 0}
	axis := int64(-2)
	if a := n.In(2); a != nil {
		v, ok := ConstInts(a)
		if !ok || len(v) != 1 {
			return nil, fmt.Errorf("the axis must be constant")
		}
		axis = v[0]
	}
	rank := len(x.Shape)
	if rank < 2 {
		return nil, fmt.Errorf("signal %s: wanted two axes or more", x)
	}
	k, err := NormAxis(axis, rank)
	if err != nil {
		return nil, err
	}
	if k == rank-1 {
		return nil, fmt.Errorf("axis %d holds the real and imaginary parts", axis)
	}
	s.Axis, s.Length = k, x.Shape[k]
	if l := n.In(1); l != nil {
		s.Length = UnknownDim
		if v, ok := ConstInts(l); ok && len(v) == 1 {
			if v[0] < 1 {
				return nil, fmt.Errorf("length %d", v[0])
			}
			s.Length = Dim{N: v[0]}
		}
	}
	if s.Onesided && s.Inverse {
		return nil, fmt.Errorf("onesided and inverse exclude each other")
	}
	if d := x.Shape[rank-1]; d.Known() && d.N != 1 && d.N != 2 {
		return nil, fmt.Errorf("last axis of %s: wanted size 1 or 2", x)
	}
	return s, nil
}

// STFTSpec is the constant part of an STFT node, whose signal is [batch, length, 1 or 2].
type STFTSpec struct {
	Step, Length int64 // of the frames
	Bins         int64 // frequencies
}

// STFTOf reads an STFT node.
func STFTOf(n *Node) (*STFTSpec, error) {
	x, s := n.In(0), &STFTSpec{}
	if x == nil || x.Shape == nil || len(x.Shape) != 3 {
		return nil, fmt.Errorf("signal %v: wanted [batch, length, 1 or 2]", x)
	}
	constant := func(i int) ([]int64, bool) {
		if n.In(i) == nil {
			return nil, false
		}
		return ConstInts(n.In(i))
	}
	step, ok := constant(1)
	if !ok || len(step) != 1 || step[0] < 1 {
		return nil, fmt.Errorf("the step of the frames must be constant and at least 1")
	}
	s.Step = step[0]
	w := n.In(2)
	if length, ok := constant(3); ok && len(length) == 1 {
		s.Length = length[0]
	} else if n.In(3) == nil && w != nil && w.Rank() == 1 {
		s.Length = w.Shape[0].N
	}
	if s.Length < 1 {
		return nil, fmt.Errorf("the length of the frames must be known and at least 1")
	}
	if w != nil && w.Shape.Known() && (w.Rank() != 1 || w.Shape[0].N != s.Length) {
		return nil, fmt.Errorf("window %s, wanted [%d]", w, s.Length)
	}
	if d := x.Shape[2]; d.Known() && d.N != 1 && d.N != 2 {
		return nil, fmt.Errorf("last axis of %s: wanted size 1 or 2", x)
	}
	s.Bins = s.Length
	if n.Int("onesided", 1) != 0 {
		s.Bins = s.Length/2 + 1
	}
	return s, nil
}

func inferSTFT(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	s, err := STFTOf(c.n)
	if err != nil {
		c.set(0, x.Type, unknownRank(4))
		return nil
	}
	frames := affine(x.Shape[1], 1, s.Step-s.Length, s.Step, false)
	if frames.Known() && frames.N < 1 {
		return fmt.Errorf("signal %s is shorter than a frame of %d", x, s.Length)
	}
	c.set(0, x.Type, Shape{x.Shape[0], frames, D(int(s.Bins)), D(2)})
	return nil
}

func inferDFT(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	if x.Shape == nil {
		c.set(0, x.Type, nil)
		return nil
	}
	s := append(Shape{}, x.Shape...)
	d, err := DFTOf(c.n)
	if err != nil { // the axis is known at run time only, or the form is not supported
		c.set(0, x.Type, unknownRank(len(s)))
		return nil
	}
	s[d.Axis], s[len(s)-1] = d.Length, D(2)
	if d.Onesided {
		s[d.Axis] = affine(affine(d.Length, 1, 0, 2, false), 1, 1, 1, false)
	}
	c.set(0, x.Type, s)
	return nil
}

func inferDet(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	if x.Shape == nil {
		c.set(0, x.Type, nil)
		return nil
	}
	r := len(x.Shape)
	if r < 2 || x.Shape[r-1].Known() && x.Shape[r-2].Known() && x.Shape[r-1].N != x.Shape[r-2].N {
		return fmt.Errorf("input %s: wanted square matrices", x)
	}
	c.set(0, x.Type, append(Shape{}, x.Shape[:r-2]...))
	return nil
}

// inferLoss: scores [batch, classes, …] and targets [batch, …].
func inferLoss(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	t, err := c.in(1)
	if err != nil {
		return err
	}
	if x.Shape != nil && len(x.Shape) < 2 {
		return fmt.Errorf("scores %s: wanted a batch and a class axis", x)
	}
	if x.Shape != nil && t.Shape != nil && len(x.Shape) != len(t.Shape)+1 {
		return fmt.Errorf("targets %s do not fit scores %s", t, x)
	}
	switch r := c.n.Str("reduction", "mean"); r {
	case "none":
		c.set(0, x.Type, t.Shape)
	case "mean", "sum":
		c.set(0, x.Type, Shape{})
	default:
		return fmt.Errorf("reduction %q", r)
	}
	c.set(1, x.Type, x.Shape)
	return nil
}

func inferQuantize(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	if _, err := c.in(1); err != nil {
		return err
	}
	t := DType(c.n.Int("output_dtype", 0))
	if z := c.n.In(2); z != nil {
		t = z.Type
	}
	if t == Undefined {
		t = Uint8
	}
	c.set(0, t, x.Shape)
	return nil
}

func inferDequantize(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	s, err := c.in(1)
	if err != nil {
		return err
	}
	c.set(0, s.Type, x.Shape)
	return nil
}

// IntRange is the smallest and largest value of an integer type that values are
// quantized to.
func IntRange(t DType) (lo, hi float64, ok bool) {
	switch t {
	case Uint8:
		return 0, 255, true
	case Int8:
		return -128, 127, true
	case Uint16:
		return 0, 65535, true
	case Int16:
		return -32768, 32767, true
	}
	return 0, 0, false
}
