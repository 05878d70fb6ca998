package autodiff

import "ebmrun/graphs"

func reductionRules() map[string]Rule {
	return map[string]Rule{
		// y = Σ x: every element gets dy.
		"ReduceSum": unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.expandLike(b.unreduce(n, d), x) }),
		// y = Σ x / N with N = size(x) / size(y).
		"ReduceMean": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			return b.expandLike(b.unreduce(n, b.Div(d, b.ratio(x, y))), x)
		}),
		// y = √Σ x²: dx = x·dy/y, 0 where all of x is.
		"ReduceL2": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			y = b.Where(b.Equal(y, b.Scalar(y, 0)), b.Scalar(y, 1), y)
			return b.Mul(x, b.unreduce(n, b.Div(d, y)))
		}),
		"ReduceMax": unary(reduceExtreme),
		"ReduceMin": unary(reduceExtreme),
		"MatMul":    matMulRule,
		"Gemm":      gemmRule,
		// y = running sum: dx is the running sum from the other end.
		"CumSum": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			return b.Op("CumSum", []val{d, n.In(1)}, graphs.I("exclusive", n.Int("exclusive", 0)), graphs.I("reverse", 1-n.Int("reverse", 0)))
		}),
	}
}

// unreduce puts back the axes of size 1 that a reduction removed.
func (b *Back) unreduce(n *graphs.Node, d val) val {
	x := n.In(0)
	if n.Int("keepdims", 1) != 0 {
		return d
	}
	if x.Shape == nil {
		return b.Fail("the rank of %s must be known", x)
	}
	var axes []int64
	if a := n.In(1); a != nil {
		v, ok := graphs.ConstInts(a)
		if !ok {
			return b.Fail("axes that are computed at run time need keepdims")
		}
		axes = v
	}
	if len(axes) == 0 {
		if n.Int("noop_with_empty_axes", 0) != 0 {
			return d
		}
		axes = iota64(len(x.Shape))
	}
	if len(axes) == 0 {
		return d
	}
	return b.Unsqueeze(d, axes...)
}

// ratio is size(x)/size(y) as a float scalar of x's type.
func (b *Back) ratio(x, y val) val {
	if q, ok := sizeRatio(x, y); ok {
		return b.Scalar(x, q)
	}
	if lo, hi := reducedRange(x, y); hi > lo {
		sizes := b.Op("Shape", []val{x}, graphs.I("start", int64(lo)), graphs.I("end", int64(hi)))
		if hi-lo > 1 {
			sizes = b.Op("ReduceProd", []val{sizes}, graphs.I("keepdims", 0))
		}
		return b.Cast(sizes, x.Type)
	}
	f := func(v val) val { return b.Cast(b.Op("Size", []val{v}), x.Type) }
	return b.Div(f(x), f(y))
}

// reducedRange finds the axes of x whose sizes make up size(x)/size(y), if they
// stand together and y kept them with size 1.
func reducedRange(x, y val) (lo, hi int) {
	if x.Shape == nil || len(x.Shape) != len(y.Shape) {
		return 0, 0
	}
	lo = -1
	for i, d := range x.Shape {
		switch {
		case d.Same(y.Shape[i]):
		case y.Shape[i].N != 1 || lo >= 0 && hi != i:
			return 0, 0
		default:
			if lo < 0 {
				lo = i
			}
			hi = i + 1
		}
	}
	return max(lo, 0), hi
}

// sizeRatio is size(x)/size(y) where symbolic axes cancel.
func sizeRatio(x, y val) (float64, bool) {
	if x.Shape == nil || y.Shape == nil {
		return 0, false
	}
	q := 1.0
	left := map[string]int{}
	for _, d := range x.Shape {
		if d.Known() {
			q *= float64(d.N)
		} else {
			left[d.Name]++
		}
	}
	for _, d := range y.Shape {
		if d.Known() {
			q /= float64(d.N)
		} else {
			left[d.Name]--
		}
	}
	for name, k := range left {
		if k != 0 || name == "" {
			return 0, false
		}
	}
	return q, q > 0
}

// reduceExtreme: the elements that reach the extreme share the slope evenly.
func reduceExtreme(b *Back, n *graphs.Node, x, y, d val) val {
	hit := b.step(b.Equal(x, b.unreduce(n, y)), x)
	in := append([]val{hit}, n.Inputs[1:]...)
	count := b.Op("ReduceSum", in, graphs.I("keepdims", 1), graphs.I("noop_with_empty_axes", n.Int("noop_with_empty_axes", 0)))
	return b.Mul(hit, b.Div(b.unreduce(n, d), count))
}

// swap transposes the last two axes.
func (b *Back) swap(x val) val {
	p := iota64(len(x.Shape))
	k := len(p)
	p[k-1], p[k-2] = p[k-2], p[k-1]
	return b.Transpose(x, p...)
}

// matMulRule: Y = A·B: dA = dY·Bᵀ, dB = Aᵀ·dY, summed over broadcast axes.
// Vectors are handled as matrices with one row or column.
func matMulRule(b *Back, n *graphs.Node, dy []val) []val {
	x, w, d := n.In(0), n.In(1), dy[0]
	if x.Shape == nil || w.Shape == nil {
		return b.Refuse(n, "the ranks of the operands must be known")
	}
	a, c := x, w
	rank := max(len(x.Shape), len(w.Shape))
	if len(x.Shape) == 1 {
		a = b.Unsqueeze(x, 0)
		if len(w.Shape) > 1 {
			d = b.Unsqueeze(d, -2)
		}
	}
	if len(w.Shape) == 1 {
		c = b.Unsqueeze(w, 1)
		d = b.Unsqueeze(d, -1)
		if rank == 1 {
			d = b.ReshapeTo(d, 1, 1)
		}
	}
	if b.Err() != nil {
		return nil
	}
	return b.each(n, func(i int) val {
		if i == 0 {
			g := b.unbroadcast(b.product(d, c, false, true), a)
			if a != x {
				g = b.ReshapeLike(g, x)
			}
			return g
		}
		var g val
		if len(c.Shape) == 2 && len(a.Shape) > 2 {
			// One product over all rows at once instead of a batch of products.
			rows := "abcdefgh"
			if n := len(a.Shape) - 1; n <= len(rows) {
				rows = rows[:n]
				g = b.Op("Einsum", []val{a, d}, graphs.S("equation", rows+"i,"+rows+"o->io"))
			}
		}
		if g == nil {
			g = b.unbroadcast(b.product(a, d, true, false), c)
		}
		if c != w {
			g = b.ReshapeLike(g, w)
		}
		return g
	})
}

// product multiplies matrices, transposed where asked for. A product of two
// matrices is a Gemm, which reads them transposed as they are (in float64 ONNX
// Runtime has no kernel for the MatMul that it fuses with a Transpose).
func (b *Back) product(x, y val, tx, ty bool) val {
	if b.Err() == nil && (x.Type == graphs.Float32 || x.Type == graphs.Float64) && len(x.Shape) == 2 && len(y.Shape) == 2 {
		var attrs []*graphs.Attr
		if tx {
			attrs = append(attrs, graphs.I("transA", 1))
		}
		if ty {
			attrs = append(attrs, graphs.I("transB", 1))
		}
		return b.Op("Gemm", []val{x, y}, attrs...)
	}
	if tx {
		x = b.swap(x)
	}
	if ty {
		y = b.swap(y)
	}
	return b.MatMul(x, y)
}

// gemmRule: Y = α·op(A)·op(B) + β·C.
func gemmRule(b *Back, n *graphs.Node, dy []val) []val {
	ta, tb, alpha, beta := n.Int("transA", 0), n.Int("transB", 0), n.Float("alpha", 1), n.Float("beta", 1)
	gemm := func(x, y val, tx, ty int64) val {
		attrs := []*graphs.Attr{graphs.I("transA", tx), graphs.I("transB", ty)}
		if alpha != 1 {
			attrs = append(attrs, graphs.F("alpha", alpha))
		}
		return b.Op("Gemm", []val{x, y}, attrs...)
	}
	d := dy[0]
	return b.each(n, func(i int) val {
		switch i {
		case 0:
			if ta != 0 {
				return gemm(n.In(1), d, tb, 1) // Aᵀ = A': dA = op(B)·dYᵀ
			}
			return gemm(d, n.In(1), 0, 1-tb)
		case 1:
			if tb != 0 {
				return gemm(d, n.In(0), 1, ta)
			}
			return gemm(n.In(0), d, 1-ta, 0)
		}
		return b.unbroadcast(b.Scale(d, beta), n.In(2))
	})
}
