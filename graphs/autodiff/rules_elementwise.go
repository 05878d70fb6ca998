package autodiff

import (
	"math"

	"ebmrun/graphs"
)

type val = *graphs.Value

// flat lists ops whose slope is zero wherever it exists, and ops whose outputs
// are not of a float type. "Flat" is not "unknown": an unknown op is an error.
var flat = map[string]bool{
	"Shape": true, "Size": true, "Less": true, "LessOrEqual": true, "Greater": true, "GreaterOrEqual": true, "Equal": true,
	"Not": true, "And": true, "Or": true, "Xor": true, "Sign": true, "Floor": true, "Ceil": true, "Round": true,
	"IsNaN": true, "IsInf": true, "ArgMax": true, "ArgMin": true, "NonZero": true, "NonMaxSuppression": true, "EyeLike": true,
	"Constant": true, "ConstantOfShape": true, "BitShift": true, "BitwiseAnd": true, "BitwiseOr": true,
	"BitwiseXor": true, "BitwiseNot": true, "Hardmax": true,
}

// unary wraps a rule of an op with one differentiable input: f gets the input
// x, the output y and the slope d.
func unary(f func(b *Back, n *graphs.Node, x, y, d val) val) Rule {
	return func(b *Back, n *graphs.Node, dy []val) []val {
		return []val{f(b, n, n.In(0), n.Out(0), dy[0])}
	}
}

// step is 1 where c holds and 0 elsewhere, in the type of like.
func (b *Back) step(c, like val) val { return b.CastLike(c, like) }

// keep is d where c holds and 0 elsewhere.
func (b *Back) keep(c, d val) val { return b.Where(c, d, b.Scalar(d, 0)) }

func (b *Back) square(x val) val { return b.Mul(x, x) }

// oneMinus is 1 − x.
func (b *Back) oneMinus(x val) val { return b.Sub(b.Scalar(x, 1), x) }

func elementwiseRules() map[string]Rule {
	return map[string]Rule{
		// y = x + z: both slopes are dy.
		"Add": func(b *Back, n *graphs.Node, dy []val) []val {
			return []val{b.unbroadcast(dy[0], n.In(0)), b.unbroadcast(dy[0], n.In(1))}
		},
		// y = x − z: dx = dy, dz = −dy.
		"Sub": func(b *Back, n *graphs.Node, dy []val) []val {
			if d := b.centred(n, dy[0]); d != nil {
				return []val{d}
			}
			return b.each(n, func(i int) val {
				if i == 1 {
					return b.Neg(b.unbroadcast(dy[0], n.In(1)))
				}
				return b.unbroadcast(dy[0], n.In(0))
			})
		},
		// y = x·z: dx = dy·z, dz = dy·x.
		"Mul": func(b *Back, n *graphs.Node, dy []val) []val {
			for i := range 2 {
				if d := b.scaled(n, i, dy[0]); d != nil {
					return [][]val{{d}, {nil, d}}[i]
				}
				if d := b.gated(n, i, dy[0]); d != nil {
					return [][]val{{d}, {nil, d}}[i]
				}
			}
			return b.each(n, func(i int) val {
				if b.activated(n, i, dy[0]) {
					return nil
				}
				return b.unbroadcast(b.Mul(dy[0], n.In(1-i)), n.In(i))
			})
		},
		// y = x/z: dx = dy/z, dz = −dy·y/z.
		"Div": func(b *Back, n *graphs.Node, dy []val) []val {
			if d := b.scaled(n, 0, dy[0]); d != nil {
				return []val{d}
			}
			return b.each(n, func(i int) val {
				d := b.Div(dy[0], n.In(1))
				if i == 1 {
					d = b.Neg(b.Mul(d, n.Out(0)))
				}
				return b.unbroadcast(d, n.In(i))
			})
		},
		"Pow": powRule,
		// y = x − z·trunc or floor(x/z): dx = dy, dz = −dy·(x−y)/z.
		"Mod": func(b *Back, n *graphs.Node, dy []val) []val {
			return b.each(n, func(i int) val {
				d := dy[0]
				if i == 1 {
					q := b.Op("Round", []val{b.Div(b.Sub(n.In(0), n.Out(0)), n.In(1))})
					d = b.Neg(b.Mul(d, q))
				}
				return b.unbroadcast(d, n.In(i))
			})
		},
		"Max": extremeRule,
		"Min": extremeRule,
		"Sum": func(b *Back, n *graphs.Node, dy []val) []val {
			return b.each(n, func(i int) val { return b.unbroadcast(dy[0], n.In(i)) })
		},
		"Mean": func(b *Back, n *graphs.Node, dy []val) []val {
			d := b.Scale(dy[0], 1/float64(len(n.Inputs)))
			return b.each(n, func(i int) val { return b.unbroadcast(d, n.In(i)) })
		},
		"Where": func(b *Back, n *graphs.Node, dy []val) []val {
			zero := b.Scalar(dy[0], 0)
			return b.each(n, func(i int) val {
				if i == 1 {
					return b.unbroadcast(b.Where(n.In(0), dy[0], zero), n.In(1))
				}
				return b.unbroadcast(b.Where(n.In(0), zero, dy[0]), n.In(2))
			})
		},
		// y = x for x ≥ 0, a·x below: dx = dy or a·dy; da = dy·x below 0.
		"PRelu": func(b *Back, n *graphs.Node, dy []val) []val {
			x, a := n.In(0), n.In(1)
			below := b.Less(x, b.Scalar(x, 0))
			return b.each(n, func(i int) val {
				if i == 0 {
					return b.Where(below, b.Mul(dy[0], a), dy[0])
				}
				return b.unbroadcast(b.keep(below, b.Mul(dy[0], x)), a)
			})
		},
		// Flat, unless it is marked to pass its slope.
		"Round":      unary(func(b *Back, n *graphs.Node, x, y, d val) val { return d }),
		"Identity":   unary(func(b *Back, n *graphs.Node, x, y, d val) val { return d }),
		"Cast":       unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Cast(d, x.Type) }),
		"Neg":        unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Neg(d) }),
		"Abs":        unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Mul(d, b.Sign(x)) }),
		"Exp":        unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Mul(d, y) }),
		"Log":        unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Div(d, x) }),
		"Sqrt":       unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Div(b.Scale(d, 0.5), y) }),
		"Reciprocal": unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Neg(b.Mul(d, b.square(y))) }),
		"Sigmoid":    unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Mul(d, b.Mul(y, b.oneMinus(y))) }),
		"Tanh":       unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Mul(d, b.oneMinus(b.square(y))) }),
		"Softplus":   unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Mul(d, b.Sigmoid(x)) }),
		"Sin":        unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Mul(d, b.Op("Cos", []val{x})) }),
		"Cos":        unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Neg(b.Mul(d, b.Op("Sin", []val{x}))) }),
		"Tan":        unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Mul(d, b.Add(b.square(y), b.Scalar(y, 1))) }),
		"Sinh":       unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Mul(d, b.Op("Cosh", []val{x})) }),
		"Cosh":       unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Mul(d, b.Op("Sinh", []val{x})) }),
		"Asin":       unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Div(d, b.Sqrt(b.oneMinus(b.square(x)))) }),
		"Acos": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			return b.Neg(b.Div(d, b.Sqrt(b.oneMinus(b.square(x)))))
		}),
		"Atan": unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Div(d, b.Add(b.square(x), b.Scalar(x, 1))) }),
		"Asinh": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			return b.Div(d, b.Sqrt(b.Add(b.square(x), b.Scalar(x, 1))))
		}),
		"Acosh": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			return b.Div(d, b.Sqrt(b.Sub(b.square(x), b.Scalar(x, 1))))
		}),
		"Atanh": unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Div(d, b.oneMinus(b.square(x))) }),
		// d erf(x)/dx = 2/√π·exp(−x²)
		"Erf": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			return b.Mul(d, b.Scale(b.Exp(b.Neg(b.square(x))), 2/math.SqrtPi))
		}),
		// y = max(x, 0): the mask is read off the output, so x need not be kept.
		"Relu": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			return b.keep(b.Greater(y, b.Scalar(y, 0)), d)
		}),
		"LeakyRelu": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			slope := b.Where(b.Greater(x, b.Scalar(x, 0)), b.Scalar(x, 1), b.Scalar(x, n.Float("alpha", float64(float32(0.01)))))
			return b.Mul(d, slope)
		}),
		// y = x or a·(eˣ−1): below zero the slope is y + a.
		"Elu": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			a := n.Float("alpha", 1)
			if a == 1 { // above zero it is 0 + a
				return b.Mul(d, b.Add(b.Op("Min", []val{y, b.Scalar(x, 0)}), b.Scalar(x, 1)))
			}
			return b.Where(b.Greater(x, b.Scalar(x, 0)), d, b.Mul(d, b.Add(y, b.Scalar(x, a))))
		}),
		"Clip": clipRule,
		// y = x/(1+|x|): slope (1−|y|)².
		"Softsign": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			return b.Mul(d, b.square(b.oneMinus(b.Op("Abs", []val{y}))))
		}),
		"ThresholdedRelu": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			return b.keep(b.Greater(x, b.Scalar(x, n.Float("alpha", 1))), d)
		}),
		"Softmax": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			return b.Mul(y, b.Sub(d, b.Sum(b.Mul(d, y), true, n.Int("axis", -1))))
		}),
		"LogSoftmax": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			return b.Sub(d, b.Mul(b.Exp(y), b.Sum(d, true, n.Int("axis", -1))))
		}),
		"Shrink": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			return b.keep(b.Greater(b.Op("Abs", []val{x}), b.Scalar(x, n.Float("lambd", 0.5))), d)
		}),
		"CastLike": unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.Cast(d, x.Type) }),
		"OneHot":   oneHotRule,
		"Range":    rangeRule,
		// Inference: the input passes through.
		"Dropout": func(b *Back, n *graphs.Node, dy []val) []val {
			if t := n.In(2); t != nil {
				if v, ok := graphs.ConstInts(t); !ok || v[0] != 0 {
					return b.Refuse(n, "training mode has no gradient; export the model in evaluation mode")
				}
			}
			return []val{dy[0]}
		},
	}
}

// each collects the slopes of the inputs that are wanted.
func (b *Back) each(n *graphs.Node, f func(i int) val) []val {
	dx := make([]val, len(n.Inputs))
	for i := range dx {
		if b.Wants(n, i) {
			dx[i] = f(i)
		}
	}
	return dx
}

// powRule: y = xᵖ: dx = dy·p·xᵖ⁻¹, dp = dy·y·log x (0 where x ≤ 0).
func powRule(b *Back, n *graphs.Node, dy []val) []val {
	x, p, y, d := n.In(0), n.In(1), n.Out(0), dy[0]
	return b.each(n, func(i int) val {
		if i == 1 {
			pos := b.Greater(x, b.Scalar(x, 0))
			logx := b.Log(b.Where(pos, x, b.Scalar(x, 1)))
			return b.unbroadcast(b.Cast(b.Mul(d, b.Mul(y, logx)), p.Type), p)
		}
		if c, ok := constScalar(p); ok {
			switch c {
			case 0:
				return b.unbroadcast(b.Scale(d, 0), x)
			case 1:
				return b.unbroadcast(d, x)
			case 2:
				return b.unbroadcast(b.Mul(d, b.Scale(x, 2)), x)
			}
			return b.unbroadcast(b.Mul(d, b.Scale(b.Pow(x, b.Scalar(x, c-1)), c)), x)
		}
		q := b.Cast(p, x.Type)
		// p = 0 gives slope 0, also at x = 0 where x⁻¹ is infinite.
		slope := b.Where(b.Equal(q, b.Scalar(q, 0)), b.Scalar(q, 0), b.Mul(q, b.Pow(x, b.Sub(q, b.Scalar(q, 1)))))
		return b.unbroadcast(b.Mul(d, slope), x)
	})
}

// constScalar is the value of a constant with one element.
func constScalar(v val) (float64, bool) {
	if v == nil || v.Const == nil || v.Const.Len() != 1 {
		return 0, false
	}
	f, err := v.Const.AsFloats()
	if err != nil {
		return 0, false
	}
	return f[0], true
}

// extremeRule: y = max or min of the operands: the operands that reach y share
// its slope evenly.
func extremeRule(b *Back, n *graphs.Node, dy []val) []val {
	y := n.Out(0)
	if len(n.Inputs) == 1 {
		return []val{dy[0]}
	}
	if len(n.Inputs) == 2 { // half the slope at a tie, and the second operand takes what the first leaves
		first, second := n.In(0), n.In(1)
		own := b.keep(b.Equal(first, y), b.Where(b.Equal(second, y), b.Scale(dy[0], 0.5), dy[0]))
		return b.each(n, func(i int) val {
			if i == 1 {
				return b.unbroadcast(b.Sub(dy[0], own), second)
			}
			return b.unbroadcast(own, first)
		})
	}
	var hits []val
	var count val
	for _, x := range n.Inputs {
		h := b.step(b.Equal(x, y), y)
		hits = append(hits, h)
		if count == nil {
			count = h
		} else {
			count = b.Add(count, h)
		}
	}
	share := b.Div(dy[0], count)
	return b.each(n, func(i int) val { return b.unbroadcast(b.Mul(share, hits[i]), n.In(i)) })
}

// clipRule: the slope passes where lo ≤ x ≤ hi; what lies outside passes its
// slope to the bound.
func clipRule(b *Back, n *graphs.Node, dy []val) []val {
	x, lo, hi := n.In(0), n.In(1), n.In(2)
	return b.each(n, func(i int) val {
		d := dy[0]
		switch i {
		case 0:
			if lo == nil && hi == nil {
				return d
			}
			return b.keep(b.Equal(x, n.Out(0)), d) // within the bounds, at them too
		case 1: // below both bounds the upper one would win
			below := b.Less(x, lo)
			if hi != nil {
				below = b.Op("And", []val{below, b.Op("LessOrEqual", []val{lo, hi})})
			}
			return b.unbroadcast(b.keep(below, d), lo)
		}
		above := b.Greater(x, hi)
		if lo != nil {
			above = b.Op("Or", []val{above, b.Greater(lo, hi)})
		}
		return b.unbroadcast(b.keep(above, d), hi)
	})
}

// oneHotRule: y = off + (on − off)·hit: the slopes of off and on are the sums of
// dy over what was missed and what was hit.
func oneHotRule(b *Back, n *graphs.Node, dy []val) []val {
	idx, depth, values := n.In(0), n.In(1), n.In(2)
	if !b.Wants(n, 2) {
		return nil
	}
	pair, err := graphs.FromFloats(values.Type, []float64{0, 1}, 2)
	if err != nil {
		return b.Refuse(n, "%w", err)
	}
	hit := b.Op("OneHot", []val{idx, depth, b.Const(pair)}, graphs.I("axis", n.Int("axis", -1)))
	on := b.Sum(b.Mul(dy[0], hit), false)
	off := b.Sub(b.Sum(dy[0], false), on)
	return []val{nil, nil, b.Concat(0, b.Unsqueeze(off, 0), b.Unsqueeze(on, 0))}
}

// rangeRule: yᵢ = start + i·delta: the slope of start is Σ dy, of delta Σ i·dy.
func rangeRule(b *Back, n *graphs.Node, dy []val) []val {
	return b.each(n, func(i int) val {
		switch i {
		case 0:
			return b.Sum(dy[0], false)
		case 1:
			return nil // only decides how many there are
		}
		return b.Sum(b.Mul(dy[0], b.Div(b.Sub(n.Out(0), n.In(0)), n.In(2))), false)
	})
}
