package graphs

import "fmt"

// convolutionShapes: convolutions and pooling.
func convolutionShapes() map[string]func(*inferer) error {
	return map[string]func(*inferer) error{
		"Conv": inferConv, "ConvTranspose": inferConvTranspose,
		"MaxPool": inferPool, "AveragePool": inferPool, "LpPool": inferPool,
		"GlobalAveragePool": inferGlobalPool, "GlobalMaxPool": inferGlobalPool, "GlobalLpPool": inferGlobalPool,
	}
}

// A Window is the geometry of a convolution or pooling, one entry per spatial
// axis, with auto_pad resolved.
type Window struct {
	Kernel, Strides, Dilations []int64
	Begin, End                 []int64 // pads
	OutputPad                  []int64 // ConvTranspose only
	Group                      int64
	Ceil                       bool // pooling only: round output sizes up
}

// WindowOf reads the geometry of a Conv, ConvTranspose or pooling node. The
// spatial axes of its input and, for convolutions, of its kernel must be known
// where auto_pad or the kernel size need them.
func WindowOf(n *Node) (*Window, error) {
	x := n.In(0)
	if x == nil || x.Shape == nil || len(x.Shape) < 3 {
		return nil, fmt.Errorf("input %v needs a batch, a channel and at least one spatial axis", x)
	}
	rank := len(x.Shape) - 2
	w := &Window{Kernel: n.Ints("kernel_shape"), Strides: n.Ints("strides"), Dilations: n.Ints("dilations"), OutputPad: n.Ints("output_padding"), Group: n.Int("group", 1), Ceil: n.Int("ceil_mode", 0) != 0}
	if w.Kernel == nil {
		k := n.In(1)
		if k == nil || len(k.Shape) != rank+2 || !k.Shape[2:].Known() {
			return nil, fmt.Errorf("the kernel size is not known")
		}
		for _, d := range k.Shape[2:] {
			w.Kernel = append(w.Kernel, d.N)
		}
	}
	fill := func(v *[]int64, def int64) {
		if *v == nil {
			*v = make([]int64, rank)
			for i := range *v {
				(*v)[i] = def
			}
		}
	}
	fill(&w.Strides, 1)
	fill(&w.Dilations, 1)
	fill(&w.OutputPad, 0)
	pads := n.Ints("pads")
	fill(&w.Begin, 0)
	fill(&w.End, 0)
	if pads != nil {
		if len(pads) != 2*rank {
			return nil, fmt.Errorf("%d pads for %d spatial axes", len(pads), rank)
		}
		w.Begin, w.End = pads[:rank], pads[rank:]
	}
	for _, v := range [][]int64{w.Kernel, w.Strides, w.Dilations, w.OutputPad} {
		if len(v) != rank {
			return nil, fmt.Errorf("attribute of length %d for %d spatial axes", len(v), rank)
		}
	}
	for i := range w.Kernel {
		if w.Kernel[i] < 1 || w.Strides[i] < 1 || w.Dilations[i] < 1 || w.Kernel[i] > 1<<30 || w.Strides[i] > 1<<30 || w.Dilations[i] > 1<<30 {
			return nil, fmt.Errorf("kernel %v, strides %v and dilations %v must be positive", w.Kernel, w.Strides, w.Dilations)
		}
		if b, e := w.Begin[i], w.End[i]; b < -1<<30 || e < -1<<30 || b > 1<<30 || e > 1<<30 {
			return nil, fmt.Errorf("pads %v %v are out of range", w.Begin, w.End)
		}
	}
	if w.Group < 1 {
		return nil, fmt.Errorf("group %d", w.Group)
	}
	var err error
	switch auto := n.Str("auto_pad", "NOTSET"); auto {
	case "NOTSET", "":
	case "VALID":
		w.Begin, w.End = make([]int64, rank), make([]int64, rank)
	case "SAME_UPPER", "SAME_LOWER":
		err = w.same(n, auto)
	default:
		err = fmt.Errorf("auto_pad %q", auto)
	}
	if os := n.Ints("output_shape"); err == nil && os != nil && n.Op == "ConvTranspose" {
		err = w.sized(n, os)
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

// reach is how far a kernel goes along an axis.
func (w *Window) reach(i int) int64 { return (w.Kernel[i]-1)*w.Dilations[i] + 1 }

// same pads so that as many windows fit as strides do.
func (w *Window) same(n *Node, auto string) error {
	w.Begin, w.End = make([]int64, len(w.Kernel)), make([]int64, len(w.Kernel))
	for i, stride := range w.Strides {
		d, total := n.In(0).Shape[2+i], w.reach(i)-stride
		switch {
		case n.Op == "ConvTranspose":
			total += w.OutputPad[i]
		case d.Known():
			out := (d.N + stride - 1) / stride
			total = (out-1)*stride + w.reach(i) - d.N
		case stride != 1:
			return fmt.Errorf("auto_pad %s with stride %d needs a known size of axis %d of %s", auto, stride, 2+i, n.In(0))
		}
		total = max(total, 0)
		w.Begin[i], w.End[i] = total/2, total-total/2
		if auto == "SAME_LOWER" {
			w.Begin[i], w.End[i] = w.End[i], w.Begin[i]
		}
	}
	return nil
}

// sized pads a ConvTranspose so that its output has the sizes os.
func (w *Window) sized(n *Node, os []int64) error {
	rank := len(w.Kernel)
	if len(os) == rank+2 {
		os = os[2:]
	}
	if len(os) != rank {
		return fmt.Errorf("output_shape %v for %d spatial axes", os, rank)
	}
	w.Begin, w.End = make([]int64, rank), make([]int64, rank)
	for i := range os {
		d := n.In(0).Shape[2+i]
		if !d.Known() {
			return fmt.Errorf("output_shape needs a known size of axis %d of %s", 2+i, n.In(0))
		}
		total := w.Strides[i]*(d.N-1) + w.OutputPad[i] + w.reach(i) - os[i]
		if total < 0 {
			w.OutputPad = append([]int64{}, w.OutputPad...)
			w.OutputPad[i] -= total
			total = 0
		}
		w.Begin[i], w.End[i] = total/2, total-total/2
		if n.Str("auto_pad", "") != "SAME_UPPER" {
			w.Begin[i], w.End[i] = total-total/2, total/2
		}
	}
	return nil
}

// Extent is the size of a dilated kernel on spatial axis i.
func (w *Window) Extent(i int) int64 { return (w.Kernel[i]-1)*w.Dilations[i] + 1 }

// Out is the output size of a convolution or pooling on spatial axis i.
func (w *Window) Out(i int, in Dim) Dim {
	d := affine(in, 1, w.Begin[i]+w.End[i]-w.Extent(i), w.Strides[i], w.Ceil)
	d = affine(d, 1, 1, 1, false)
	if in.Known() {
		// A window that would start beyond the input and its first pads is dropped.
		if w.Ceil && (d.N-1)*w.Strides[i] >= in.N+w.Begin[i] {
			d.N--
		}
		return d
	}
	if w.Strides[i] == 1 {
		return affine(in, 1, w.Begin[i]+w.End[i]-w.Extent(i)+1, 1, false)
	}
	if w.Ceil {
		return UnknownDim
	}
	// floor((in+p-e)/s)+1 = floor((in+p-e+s)/s)
	return affine(in, 1, w.Begin[i]+w.End[i]-w.Extent(i)+w.Strides[i], w.Strides[i], false)
}

func inferConv(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	k, err := c.in(1)
	if err != nil {
		return err
	}
	if x.Shape == nil || k.Shape == nil {
		c.set(0, x.Type, nil)
		return nil
	}
	if len(k.Shape) != len(x.Shape) || len(x.Shape) < 3 {
		return fmt.Errorf("input %s and kernel %s: wanted equal ranks of 3 or more", x, k)
	}
	if c.n.Ints("kernel_shape") == nil && !k.Shape[2:].Known() {
		// a kernel computed at run time, such as a slope: only the rank is sure
		s := unknownRank(len(x.Shape))
		s[0], s[1] = x.Shape[0], k.Shape[0]
		c.set(0, x.Type, s)
		return nil
	}
	w, err := WindowOf(c.n)
	if err != nil {
		return err
	}
	if a, b := x.Shape[1], k.Shape[1]; a.Known() && b.Known() && a.N != b.N*w.Group {
		return fmt.Errorf("input %s and kernel %s with %d groups: channels differ", x, k, w.Group)
	}
	s := Shape{x.Shape[0], k.Shape[0]}
	for i := range w.Kernel {
		if d := k.Shape[2+i]; d.Known() && d.N != w.Kernel[i] {
			return fmt.Errorf("kernel %s is not of size %v", k, w.Kernel)
		}
		d := w.Out(i, x.Shape[2+i])
		if d.Known() && d.N < 1 {
			return fmt.Errorf("input %s is smaller than kernel %v with pads %v %v", x, w.Kernel, w.Begin, w.End)
		}
		s = append(s, d)
	}
	c.set(0, x.Type, s)
	return nil
}

func inferConvTranspose(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	k, err := c.in(1)
	if err != nil {
		return err
	}
	if x.Shape == nil || k.Shape == nil {
		c.set(0, x.Type, nil)
		return nil
	}
	if len(k.Shape) != len(x.Shape) || len(x.Shape) < 3 {
		return fmt.Errorf("input %s and kernel %s: wanted equal ranks of 3 or more", x, k)
	}
	w, err := WindowOf(c.n)
	if err != nil {
		return err
	}
	if a, b := x.Shape[1], k.Shape[0]; a.Known() && b.Known() && a.N != b.N {
		return fmt.Errorf("input %s and kernel %s: channels differ", x, k)
	}
	s := Shape{x.Shape[0], affine(k.Shape[1], w.Group, 0, 1, false)}
	for i := range w.Kernel {
		d := affine(x.Shape[2+i], w.Strides[i], w.OutputPad[i]+w.Extent(i)-w.Strides[i]-w.Begin[i]-w.End[i], 1, false)
		if d.Known() && d.N < 1 {
			return fmt.Errorf("output axis %d of size %d", 2+i, d.N)
		}
		s = append(s, d)
	}
	c.set(0, x.Type, s)
	return nil
}

func inferPool(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	if x.Shape == nil {
		c.set(0, x.Type, nil)
		c.set(1, Int64, nil)
		return nil
	}
	if c.n.Ints("kernel_shape") == nil {
		return fmt.Errorf("kernel_shape is missing")
	}
	w, err := WindowOf(c.n)
	if err != nil {
		return err
	}
	s := Shape{x.Shape[0], x.Shape[1]}
	for i := range w.Kernel {
		d := w.Out(i, x.Shape[2+i])
		if d.Known() && d.N < 1 {
			return fmt.Errorf("input %s is smaller than window %v with pads %v %v", x, w.Kernel, w.Begin, w.End)
		}
		s = append(s, d)
	}
	c.set(0, x.Type, s)
	c.set(1, Int64, append(Shape{}, s...))
	return nil
}

func inferGlobalPool(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	if x.Shape == nil {
		c.set(0, x.Type, nil)
		return nil
	}
	if len(x.Shape) < 3 {
		return fmt.Errorf("input %s has no spatial axis", x)
	}
	s := append(Shape{}, x.Shape...)
	for i := 2; i < len(s); i++ {
		s[i] = D(1)
	}
	c.set(0, x.Type, s)
	return nil
}
