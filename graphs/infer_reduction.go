package graphs

import "fmt"

// reductionShapes: reductions, arg-reductions, matrix products.
func reductionShapes() map[string]func(*inferer) error {
	t := map[string]func(*inferer) error{
		"ArgMax": inferArg, "ArgMin": inferArg, "MatMul": inferMatMul, "Gemm": inferGemm, "TopK": inferTopK, "Einsum": inferEinsum,
	}
	for _, op := range []string{
		"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
		"ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp",
	} {
		t[op] = inferReduce
	}
	return t
}

func inferReduce(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	if c.n.Attr("axes") != nil && c.opset >= 18 {
		return fmt.Errorf("axes are an input since opset 18, not an attribute")
	}
	keep := c.n.Int("keepdims", 1) != 0
	axes, known, present := c.ints(1, "axes")
	if x.Shape == nil {
		c.set(0, x.Type, nil)
		if !present && !keep {
			c.set(0, x.Type, Shape{})
		}
		return nil
	}
	if present && !known {
		if keep {
			c.set(0, x.Type, unknownRank(len(x.Shape)))
		} else {
			c.set(0, x.Type, nil)
		}
		return nil
	}
	s, err := ReducedShape(x.Shape, axes, keep, c.n.Int("noop_with_empty_axes", 0) != 0)
	if err != nil {
		return err
	}
	c.set(0, x.Type, s)
	return nil
}

// ReducedShape is the shape left by a reduction over axes (all if empty, none
// if noop is set).
func ReducedShape(s Shape, axes []int64, keep, noop bool) (Shape, error) {
	if len(axes) == 0 {
		if noop {
			return s, nil
		}
		for i := range s {
			axes = append(axes, int64(i))
		}
	}
	set, err := normAxes(axes, len(s))
	if err != nil {
		return nil, err
	}
	out := Shape{}
	for i, d := range s {
		if !set[i] {
			out = append(out, d)
		} else if keep {
			out = append(out, D(1))
		}
	}
	return out, nil
}

func inferArg(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	if x.Shape == nil {
		c.set(0, Int64, nil)
		return nil
	}
	s, err := ReducedShape(x.Shape, []int64{c.n.Int("axis", 0)}, c.n.Int("keepdims", 1) != 0, false)
	c.set(0, Int64, s)
	return err
}

func inferTopK(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	s := append(Shape(nil), x.Shape...)
	if x.Shape != nil {
		axis, err := NormAxis(c.n.Int("axis", -1), len(s))
		if err != nil {
			return err
		}
		s[axis] = UnknownDim
		if k, known, _ := c.ints(1, "k"); known && len(k) == 1 {
			s[axis] = Dim{N: k[0]}
		}
	}
	c.set(0, x.Type, s)
	c.set(1, Int64, append(Shape(nil), s...))
	return nil
}

func inferMatMul(c *inferer) error {
	a, err := c.in(0)
	if err != nil {
		return err
	}
	b, err := c.in(1)
	if err != nil {
		return err
	}
	if a.Type != b.Type {
		return fmt.Errorf("operands %s and %s have different types", a, b)
	}
	if a.Shape == nil || b.Shape == nil {
		c.set(0, a.Type, nil)
		return nil
	}
	s, err := MatMulShape(a.Shape, b.Shape)
	if err != nil {
		return fmt.Errorf("%w: %s, %s", err, a, b)
	}
	c.set(0, a.Type, s)
	return nil
}

// MatMulShape is the shape of a matrix product with numpy's rules.
func MatMulShape(a, b Shape) (Shape, error) {
	if len(a) == 0 || len(b) == 0 {
		return nil, fmt.Errorf("a scalar cannot be an operand of a matrix product")
	}
	va, vb := len(a) == 1, len(b) == 1
	if va {
		a = Shape{D(1), a[0]}
	}
	if vb {
		b = Shape{b[0], D(1)}
	}
	inner, inner2 := a[len(a)-1], b[len(b)-2]
	if inner.Known() && inner2.Known() && inner.N != inner2.N {
		return nil, fmt.Errorf("inner sizes %v and %v differ", inner, inner2)
	}
	s, err := Broadcast(a[:len(a)-2], b[:len(b)-2])
	if err != nil {
		return nil, err
	}
	s = append(Shape{}, s...)
	if !va {
		s = append(s, a[len(a)-2])
	}
	if !vb {
		s = append(s, b[len(b)-1])
	}
	return s, nil
}

func inferGemm(c *inferer) error {
	a, err := c.in(0)
	if err != nil {
		return err
	}
	b, err := c.in(1)
	if err != nil {
		return err
	}
	for i, v := range []*Value{a, b, c.n.In(2)} {
		if v == nil {
			continue
		}
		if v.Type != a.Type && v.Type != Undefined && a.Type != Undefined {
			return fmt.Errorf("operands %s and %s have different types", a, v)
		}
		if k := len(v.Shape); v.Shape != nil && k != 2 && (i < 2 || k > 2) {
			return fmt.Errorf("operand %s is not a matrix", v)
		}
	}
	if a.Shape == nil || b.Shape == nil {
		c.set(0, a.Type, unknownRank(2))
		return nil
	}
	m, k, k2, n := a.Shape[0], a.Shape[1], b.Shape[0], b.Shape[1]
	if c.n.Int("transA", 0) != 0 {
		m, k = k, m
	}
	if c.n.Int("transB", 0) != 0 {
		k2, n = n, k2
	}
	if k.Known() && k2.Known() && k.N != k2.N {
		return fmt.Errorf("inner sizes differ: %s, %s", a, b)
	}
	c.set(0, a.Type, Shape{m, n})
	if v := c.n.In(2); v != nil && v.Shape != nil {
		s, err := Broadcast(v.Shape, Shape{m, n})
		if err != nil || len(s) != 2 {
			return fmt.Errorf("the addend %s does not broadcast to %v", v, Shape{m, n})
		}
	}
	return nil
}
