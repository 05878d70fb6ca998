package autodiff

import (
	"math"
	"slices"

	"ebmrun/graphs"
)

func compositeLowerings() map[string]Lowering {
	return map[string]Lowering{
		"Einsum": lowerEinsum, "Attention": lowerAttention, "RotaryEmbedding": one(lowerRotary), "DFT": one(lowerDFT), "STFT": one(lowerSTFT), "Det": one(lowerDet),
		"SoftmaxCrossEntropyLoss": lowerLoss, "NegativeLogLikelihoodLoss": lowerLoss,
		"LRN": one(lowerLRN), "LpPool": one(lowerLpPool), "GlobalLpPool": one(lowerGlobalLpPool),
		"ReduceProd": one(lowerReduceProd), "GatherND": lowerGatherND,
		"DequantizeLinear": one(lowerDequantize),
	}
}

// lowerAttention: softmax(Q·Kᵀ·scale + mask)·V per head.
func lowerAttention(b *graphs.Builder, n *graphs.Node) []val {
	fail := func(format string, args ...any) []val {
		b.Fail(format, args...)
		return nil
	}
	q, k, v := n.In(0), n.In(1), n.In(2)
	if q.Shape == nil || k.Shape == nil || v.Shape == nil {
		return fail("the ranks of the operands must be known")
	}
	for _, a := range []string{"left_window_size", "right_window_size"} {
		if n.Int(a, -1) >= 0 {
			return fail("%w for attention within a window", ErrNoRule)
		}
	}
	if n.In(6) != nil {
		return fail("%w for nonpad_kv_seqlen", ErrNoRule)
	}
	merged := len(q.Shape) == 3
	qh, kh := n.Int("q_num_heads", 0), n.Int("kv_num_heads", 0)
	if merged {
		split := func(x val, heads int64) val {
			return b.Transpose(b.ReshapeTo(x, 0, 0, heads, -1), 0, 2, 1, 3)
		}
		q, k, v = split(q, qh), split(k, kh), split(v, kh)
	} else {
		if !q.Shape[1].Known() || !k.Shape[1].Known() {
			return fail("the number of heads must be known")
		}
		qh, kh = q.Shape[1].N, k.Shape[1].N
	}
	if b.Err() != nil {
		return nil
	}
	past := n.In(4)
	if past != nil {
		k, v = b.Concat(2, past, k), b.Concat(2, n.In(5), v)
	}
	presentK, presentV := k, v
	if reps := qh / kh; reps > 1 { // each key head serves reps query heads in a row
		repeat := func(x val) val {
			y := b.Expand(b.Unsqueeze(x, 2), b.Ints(1, 1, reps, 1, 1))
			return reshapeBy(b, y, size(b, x, 0), b.Ints(qh), size(b, x, 2), size(b, x, 3))
		}
		k, v = repeat(k), repeat(v)
	}
	if b.Err() != nil {
		return nil
	}
	scale := n.Float("scale", 0)
	if n.Attr("scale") == nil {
		d := q.Shape[3]
		if !d.Known() {
			return fail("the size of a head must be known")
		}
		scale = 1 / math.Sqrt(float64(d.N))
	}
	s := b.Scale(b.MatMul(q, b.Transpose(k, 0, 1, 3, 2)), scale)
	stages := []val{s}
	causal, capAt := n.Int("is_causal", 0) != 0, n.Float("softcap", 0)
	if capAt > 0 && (causal || n.In(3) != nil) {
		return fail("softcap together with a mask: versions of the op differ in their order")
	}
	never := func() val { return b.Scalar(s, math.Inf(-1)) }
	if m := n.In(3); m != nil {
		if m.Type == graphs.Bool {
			s = b.Where(m, s, never())
		} else {
			s = b.Add(s, m)
		}
	}
	if causal {
		allowed := causalMask(b, q, k, past)
		s = b.Where(allowed, s, never())
	}
	stages = append(stages, s)
	if capAt > 0 {
		s = b.Scale(b.Tanh(b.Scale(s, 1/capAt)), capAt)
	}
	stages = append(stages, s)
	if n.In(3) == nil {
		s = b.Op("Softmax", []val{s}, graphs.I("axis", -1))
	} else { // a query that may see no key gets zeros
		top := b.Op("ReduceMax", []val{s, b.Ints(-1)})
		none, zero := b.Equal(top, never()), b.Scalar(s, 0)
		s = b.Where(none, zero, b.Op("Softmax", []val{b.Where(none, zero, s)}, graphs.I("axis", -1)))
	}
	stages = append(stages, s)
	y := b.MatMul(s, v)
	if merged {
		y = b.Transpose(y, 0, 2, 1, 3)
		y = b.ReshapeTo(y, 0, 0, -1)
	}
	mode := n.Int("qk_matmul_output_mode", 0)
	if mode < 0 || mode > 3 {
		return fail("qk_matmul_output_mode %d", mode)
	}
	return []val{y, presentK, presentV, stages[mode]}
}

// causalMask is true where a query may look: at keys up to its own place, those
// of the past included.
func causalMask(b *graphs.Builder, q, k, past val) val {
	place := func(v val) val { // 0, 1, … along axis 2
		end := size(b, v, 2)
		return b.Op("Range", []val{b.Const(graphs.Of([]int64{0})), b.Squeeze(end, 0), b.Const(graphs.Of([]int64{1}))})
	}
	i := place(q)
	if past != nil {
		i = b.Add(i, size(b, past, 2))
	}
	return b.Op("LessOrEqual", []val{b.Unsqueeze(place(k), 0), b.Unsqueeze(i, 1)})
}

// lowerRotary turns pairs of elements: (x₁, x₂) → (c·x₁ − s·x₂, s·x₁ + c·x₂).
func lowerRotary(b *graphs.Builder, n *graphs.Node, x val) val {
	if x.Shape == nil {
		return b.Fail("%w", errRank(x))
	}
	y, rank := x, len(x.Shape)
	if rank == 4 {
		y = b.Transpose(x, 0, 2, 1, 3)
	} else {
		y = b.ReshapeTo(x, 0, 0, n.Int("num_heads", 0), -1)
	}
	if b.Err() != nil {
		return y
	}
	d := y.Shape[3] // [batch, length, heads, size]
	if !d.Known() {
		return b.Fail("the size of a head must be known")
	}
	rot := n.Int("rotary_embedding_dim", 0)
	if rot == 0 {
		rot = d.N
	}
	angles := func(v val) val {
		if p := n.In(3); p != nil {
			v = b.Gather(v, p, 0)
		}
		return b.Unsqueeze(v, 2)
	}
	c, s := angles(n.In(1)), angles(n.In(2))
	slice := func(v val, from, to, step int64) val {
		return b.Slice(v, []int64{from}, []int64{to}, []int64{3}, []int64{step})
	}
	turned := y
	if rot < d.N {
		turned = slice(y, 0, rot, 1)
	}
	interleaved := n.Int("interleaved", 0) != 0
	x1, x2 := slice(turned, 0, rot/2, 1), slice(turned, rot/2, rot, 1)
	if interleaved {
		x1, x2 = slice(turned, 0, rot, 2), slice(turned, 1, rot, 2)
	}
	re := b.Sub(b.Mul(c, x1), b.Mul(s, x2))
	im := b.Add(b.Mul(s, x1), b.Mul(c, x2))
	if interleaved {
		turned = b.ReshapeTo(b.Concat(4, b.Unsqueeze(re, 4), b.Unsqueeze(im, 4)), 0, 0, 0, rot)
	} else {
		turned = b.Concat(3, re, im)
	}
	if rot < d.N {
		turned = b.Concat(3, turned, slice(y, rot, d.N, 1))
	}
	if rank == 4 {
		return b.Transpose(turned, 0, 2, 1, 3)
	}
	return b.ReshapeTo(turned, 0, 0, -1)
}

// maxDFT bounds the length of a transform that is written as matrix products.
const maxDFT = 4096

// lowerDFT multiplies by constant matrices of cosines and sines.
func lowerDFT(b *graphs.Builder, n *graphs.Node, x val) val {
	d, err := graphs.DFTOf(n)
	if err != nil {
		return b.Fail("%w", err)
	}
	last := len(x.Shape) - 1
	if !d.Length.Known() || !x.Shape[d.Axis].Known() || !x.Shape[last].Known() || d.Length.N > maxDFT {
		return b.Fail("the length of a transform must be known and at most %d (%s)", maxDFT, x)
	}
	if x.Shape[last].N > 2 {
		return b.Fail("last axis of %s: wanted size 1 or 2", x)
	}
	length, rows := d.Length.N, min(x.Shape[d.Axis].N, d.Length.N)
	cols := length
	if d.Onesided {
		cols = length/2 + 1
	}
	if x.Shape[d.Axis].N > rows {
		x = b.Slice(x, []int64{0}, []int64{rows}, []int64{int64(d.Axis)}, nil)
	}
	cos, sin := make([]float64, rows*cols), make([]float64, rows*cols)
	sign, norm := -1.0, 1.0
	if d.Inverse {
		sign, norm = 1, 1/float64(length)
	}
	for t := range rows {
		for k := range cols {
			a := 2 * math.Pi * float64(t*k%length) / float64(length)
			cos[t*cols+k], sin[t*cols+k] = norm*math.Cos(a), sign*norm*math.Sin(a)
		}
	}
	part := func(i int64) val { return b.Gather(x, b.Const(graphs.Of([]int64{i})), int64(last)) }
	times := func(v val, m []float64) val { return alongAxis(b, v, d.Axis, m, int(rows), int(cols)) }
	r := part(0)
	re, im := times(r, cos), times(r, sin)
	if x.Shape[last].N == 2 {
		i := part(1)
		re, im = b.Sub(re, times(i, sin)), b.Add(im, times(i, cos))
	}
	return b.Concat(int64(last), b.Unsqueeze(re, int64(last)), b.Unsqueeze(im, int64(last)))
}

// lowerSTFT convolves a signal [batch, length, parts] with a windowed cosine and sine for each
// frequency.
func lowerSTFT(b *graphs.Builder, n *graphs.Node, x val) val {
	s, err := graphs.STFTOf(n)
	if err != nil {
		return b.Fail("%w", err)
	}
	if s.Length > maxDFT || !x.Shape[2].Known() {
		return b.Fail("the last axis of %s must be known, and frames be at most %d long", x, maxDFT)
	}
	parts := int(x.Shape[2].N)
	var waves []float64 // [real and imaginary parts, frequency, parts, length]
	for turn := range 2 {
		for k := range s.Bins {
			for part := range parts {
				for t := range s.Length { // e^(−ia) = cos a − i·sin a; times i it is sin a + i·cos a
					quarter := float64(part-turn) * math.Pi / 2
					waves = append(waves, math.Cos(2*math.Pi*float64(k*t%s.Length)/float64(s.Length)-quarter))
				}
			}
		}
	}
	kernel := matrix(b, x, waves, 2*int(s.Bins), parts, int(s.Length))
	if w := n.In(2); w != nil {
		kernel = b.Mul(kernel, w)
	}
	y := b.Op("Conv", []val{b.Transpose(x, 0, 2, 1), kernel}, graphs.IntsAttr("strides", s.Step))
	return b.Transpose(reshapeBy(b, y, size(b, y, 0), b.Ints(2, s.Bins), size(b, y, 2)), 0, 3, 2, 1)
}

// lowerDet expands determinants of matrices up to 4×4 by cofactors.
func lowerDet(b *graphs.Builder, n *graphs.Node, x val) val {
	if x.Shape == nil {
		return b.Fail("%w", errRank(x))
	}
	d := x.Shape[len(x.Shape)-1]
	if !d.Known() || d.N < 1 || d.N > 4 {
		return b.Fail("%w for determinants of matrices larger than 4×4 or of unknown size", ErrNoRule)
	}
	split := func(v val, axis int64) []val {
		if d.N == 1 {
			return []val{v}
		}
		return b.Ops("Split", int(d.N), []val{v}, graphs.I("axis", axis), graphs.I("num_outputs", d.N))
	}
	var rows [][]val
	for _, row := range split(x, -2) {
		rows = append(rows, split(row, -1))
	}
	// minor of the rows from number i on and the columns given as bits
	known := map[[2]int]val{}
	var minor func(i, cols int) val
	minor = func(i, cols int) val {
		if v := known[[2]int{i, cols}]; v != nil {
			return v
		}
		var sum val
		sign := false
		for j := range rows[i] {
			if cols&(1<<j) == 0 {
				continue
			}
			t := rows[i][j]
			if i+1 < len(rows) {
				t = b.Mul(t, minor(i+1, cols&^(1<<j)))
			}
			switch {
			case sum == nil:
				sum = t
			case sign:
				sum = b.Sub(sum, t)
			default:
				sum = b.Add(sum, t)
			}
			sign = !sign
		}
		known[[2]int{i, cols}] = sum
		return sum
	}
	return b.Squeeze(minor(0, 1<<d.N-1), -2, -1)
}

// lowerLoss picks the log-probability of each target; targets to be ignored
// weigh nothing.
func lowerLoss(b *graphs.Builder, n *graphs.Node) []val {
	x, t := n.In(0), n.In(1)
	if x.Shape == nil || t.Shape == nil {
		b.Fail("%w", errRank(x))
		return nil
	}
	logp := x
	if n.Op == "SoftmaxCrossEntropyLoss" {
		logp = b.Op("LogSoftmax", []val{x}, graphs.I("axis", 1))
	}
	at := b.Cast(t, graphs.Int64)
	var counts val
	if a := n.Attr("ignore_index"); a != nil {
		counts = b.Op("Not", []val{b.Equal(at, b.Const(graphs.Of([]int64{a.I})))})
		at = b.Where(counts, at, b.Const(graphs.Of([]int64{0})))
	}
	picked := b.Squeeze(b.Op("GatherElements", []val{logp, b.Unsqueeze(at, 1)}, graphs.I("axis", 1)), 1)
	var weight val
	if w := n.In(2); w != nil {
		weight = b.Gather(w, at, 0)
		if counts != nil {
			weight = b.Where(counts, weight, b.Scalar(weight, 0))
		}
	} else if counts != nil {
		weight = b.Cast(counts, x.Type)
	}
	loss := b.Neg(picked)
	if weight != nil {
		loss = b.Mul(loss, weight)
	}
	switch n.Str("reduction", "mean") {
	case "sum":
		loss = b.Sum(loss, false)
	case "mean":
		if weight == nil {
			loss = b.Mean(loss, false)
		} else {
			loss = b.Div(b.Sum(loss, false), b.Sum(weight, false))
		}
	}
	return []val{loss, logp}
}

// lowerLRN: x / (bias + alpha/size·Σ x²)^beta, the sum over a window of channels
// as a sum of shifted copies.
func lowerLRN(b *graphs.Builder, n *graphs.Node, x val) val {
	w := n.Int("size", 0)
	if w < 1 {
		return b.Fail("size %d", w)
	}
	if len(x.Shape) < 3 || !x.Shape[1].Known() {
		return b.Fail("the channels of %s must be known", x)
	}
	alpha, beta, bias := n.Float("alpha", float64(float32(1e-4))), n.Float("beta", 0.75), n.Float("bias", 1)
	pads := make([]int64, 2*len(x.Shape))
	pads[1], pads[1+len(x.Shape)] = (w-1)/2, w-1-(w-1)/2
	sq := b.Op("Pad", []val{b.Mul(x, x), b.Ints(pads...)})
	var sum val
	for i := range w {
		s := b.Slice(sq, []int64{i}, []int64{i + x.Shape[1].N}, []int64{1}, nil)
		if sum == nil {
			sum = s
		} else {
			sum = b.Add(sum, s)
		}
	}
	base := b.Add(b.Scale(sum, alpha/float64(w)), b.Scalar(x, bias))
	return b.Mul(x, b.Pow(base, b.Scalar(x, -beta)))
}

// power is |x|^p.
func power(b *graphs.Builder, x val, p int64) val {
	switch p {
	case 1:
		return b.Op("Abs", []val{x})
	case 2:
		return b.Mul(x, x)
	}
	if p%2 != 0 {
		x = b.Op("Abs", []val{x})
	}
	return b.Pow(x, b.Scalar(x, float64(p)))
}

func root(b *graphs.Builder, x val, p int64) val {
	switch p {
	case 1:
		return x
	case 2:
		return b.Sqrt(x)
	}
	return b.Pow(x, b.Scalar(x, 1/float64(p)))
}

// lowerLpPool: (Σ |x|^p)^(1/p) over each window, the sum as an average times the
// number of elements, zero padding included.
func lowerLpPool(b *graphs.Builder, n *graphs.Node, x val) val {
	w, err := graphs.WindowOf(n)
	if err != nil {
		return b.Fail("%w", err)
	}
	if w.Ceil {
		return b.Fail("%w for LpPool in ceil mode", ErrNoRule)
	}
	count := int64(1)
	for _, k := range w.Kernel {
		count *= k
	}
	p := n.Int("p", 2)
	if pads := slices.Concat([]int64{0, 0}, w.Begin, []int64{0, 0}, w.End); slices.ContainsFunc(pads, func(p int64) bool { return p != 0 }) {
		x = b.Op("Pad", []val{x, b.Ints(pads...)}) // ONNX Runtime 1.24 counts pads of AveragePool wrongly in some forms
	}
	m := b.Op("AveragePool", []val{power(b, x, p)}, graphs.IntsAttr("kernel_shape", w.Kernel...), graphs.IntsAttr("strides", w.Strides...),
		graphs.IntsAttr("dilations", w.Dilations...))
	return root(b, b.Scale(m, float64(count)), p)
}

func lowerGlobalLpPool(b *graphs.Builder, n *graphs.Node, x val) val {
	if x.Shape == nil {
		return b.Fail("%w", errRank(x))
	}
	p := n.Int("p", 2)
	return root(b, b.Sum(power(b, x, p), true, spatial(b, x)...), p)
}

// lowerReduceProd multiplies halves of an axis until one element is left: exact
// to every order, at zeros too.
func lowerReduceProd(b *graphs.Builder, n *graphs.Node, x val) val {
	if x.Shape == nil {
		return b.Fail("%w", errRank(x))
	}
	axes := iota64(len(x.Shape))
	if a := n.In(1); a != nil {
		v, ok := graphs.ConstInts(a)
		if !ok {
			return b.Fail("the axes of a product must be constant")
		}
		if len(v) > 0 {
			axes = v
		} else if n.Int("noop_with_empty_axes", 0) != 0 {
			return b.Identity(x)
		}
	} else if n.Int("noop_with_empty_axes", 0) != 0 {
		return b.Identity(x)
	}
	y := x
	for _, a := range axes {
		k, err := graphs.NormAxis(a, len(x.Shape))
		if err != nil {
			return b.Fail("%w", err)
		}
		d := x.Shape[k]
		if !d.Known() || d.N < 1 {
			return b.Fail("a product over axis %d of %s needs a known size", a, x)
		}
		part := func(v val, from, to int64) val { return b.Slice(v, []int64{from}, []int64{to}, []int64{int64(k)}, nil) }
		var odd []val
		for size := d.N; size > 1; size /= 2 {
			half := size / 2
			if size%2 != 0 {
				odd = append(odd, part(y, size-1, size))
			}
			y = b.Mul(part(y, 0, half), part(y, half, 2*half))
		}
		for _, o := range odd {
			y = b.Mul(y, o)
		}
	}
	if n.Int("keepdims", 1) == 0 && len(axes) > 0 {
		y = b.Squeeze(y, axes...)
	}
	if y == x {
		return b.Identity(x)
	}
	return y
}

// lowerGatherND turns batch axes into coordinates, which leaves the plain form.
// Where the indexed axes are known, flat indices make a Gather of it.
func lowerGatherND(b *graphs.Builder, n *graphs.Node) []val {
	x, idx := n.In(0), n.In(1)
	if x.Shape == nil || idx.Shape == nil {
		b.Fail("%w", errRank(x))
		return nil
	}
	batch, last := int(n.Int("batch_dims", 0)), len(idx.Shape)-1
	if last < 0 || !idx.Shape[last].Known() {
		b.Fail("the last axis of the indices %s must be known", idx)
		return nil
	}
	idx = b.Cast(idx, graphs.Int64)
	if batch > 0 {
		var sizes []val
		for i := range last {
			sizes = append(sizes, size(b, idx, i))
		}
		to := b.Concat(0, append(sizes, b.Ints(1))...)
		var parts []val
		for i := range batch {
			r := b.Op("Range", []val{b.Const(graphs.Of([]int64{0})), b.Squeeze(size(b, idx, i), 0), b.Const(graphs.Of([]int64{1}))})
			dims := fill(last+1, 1)
			dims[i] = -1
			parts = append(parts, b.Expand(b.ReshapeTo(r, dims...), to))
		}
		idx = b.Concat(-1, append(parts, idx)...)
	}
	if b.Err() != nil {
		return nil
	}
	k := int(idx.Shape[last].N)
	if k == 0 || k > len(x.Shape) || !x.Shape[:k].Known() {
		if batch == 0 {
			return nil
		}
		return []val{b.Op("GatherND", []val{x, idx})}
	}
	// flat index: negative ones count from the end
	dims := x.Shape[:k].Ints()
	stride := make([]int64, k)
	sizes := make([]int64, k)
	total := int64(1)
	for i := k - 1; i >= 0; i-- {
		stride[i], sizes[i] = total, int64(dims[i])
		total *= int64(dims[i])
	}
	idx = b.Where(b.Less(idx, b.Const(graphs.Of([]int64{0}))), b.Add(idx, b.Ints(sizes...)), idx)
	flat := b.Sum(b.Mul(idx, b.Ints(stride...)), false, int64(len(idx.Shape)-1))
	shape := []val{b.Ints(total)}
	for i := k; i < len(x.Shape); i++ {
		shape = append(shape, size(b, x, i))
	}
	return []val{b.Gather(reshapeBy(b, x, shape...), flat, 0)}
}
