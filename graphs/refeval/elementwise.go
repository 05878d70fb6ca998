package refeval

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	"ebmrun/graphs"
)

func elementwiseKernels() map[string]kernel {
	t := map[string]kernel{
		"Identity": func(c *call) ([]*array, error) { return c.args(1) },
		"Not":      intUnary(func(x int64) int64 { return 1 - x }), "BitwiseNot": intUnary(func(x int64) int64 { return ^x }),
		"IsNaN": isNaN, "IsInf": isInf, "Clip": clip, "Where": where, "Cast": cast, "CastLike": cast, "Dropout": dropout,
		"BitShift": bitShift, "Mod": mod, "Pow": pow, "PRelu": binary(ops2{f: prelu}),
		"Add": binary(ops2{row: '+', i: func(x, y int64) int64 { return x + y }}),
		"Sub": binary(ops2{row: '-', i: func(x, y int64) int64 { return x - y }}),
		"Mul": binary(ops2{row: '*', i: func(x, y int64) int64 { return x * y }}),
		"Div": binary(ops2{row: '/', nonzero: true, i: func(x, y int64) int64 { return x / y },
			u: func(x, y int64) int64 { return int64(uint64(x) / uint64(y)) }}),
		"Max": variadic(ops2{f: larger, i: func(x, y int64) int64 { return max(x, y) },
			u: func(x, y int64) int64 { return int64(max(uint64(x), uint64(y))) }}),
		"Min": variadic(ops2{f: smaller, i: func(x, y int64) int64 { return min(x, y) },
			u: func(x, y int64) int64 { return int64(min(uint64(x), uint64(y))) }}),
		"Sum": variadic(ops2{row: '+'}), "Mean": mean,
		"BitwiseAnd": binary(ops2{i: func(x, y int64) int64 { return x & y }}),
		"BitwiseOr":  binary(ops2{i: func(x, y int64) int64 { return x | y }}),
		"BitwiseXor": binary(ops2{i: func(x, y int64) int64 { return x ^ y }}),
		"And":        binary(ops2{i: func(x, y int64) int64 { return x & y }}),
		"Or":         binary(ops2{i: func(x, y int64) int64 { return x | y }}),
		"Xor":        binary(ops2{i: func(x, y int64) int64 { return x ^ y }}),
		"Equal":      compare(func(sign int) bool { return sign == 0 }), "Less": compare(func(sign int) bool { return sign < 0 }),
		"Greater":        compare(func(sign int) bool { return sign == 1 }),
		"LessOrEqual":    compare(func(sign int) bool { return sign <= 0 }),
		"GreaterOrEqual": compare(func(sign int) bool { return sign == 0 || sign == 1 }),
	}
	for op, f := range map[string]func(float64) float64{
		"Acos": math.Acos, "Acosh": math.Acosh, "Asin": math.Asin, "Asinh": math.Asinh, "Atan": math.Atan, "Atanh": math.Atanh,
		"Ceil": math.Ceil, "Cos": math.Cos, "Cosh": math.Cosh, "Erf": math.Erf, "Exp": math.Exp, "Floor": math.Floor,
		"Log": math.Log, "Round": math.RoundToEven, "Sin": math.Sin, "Sinh": math.Sinh, "Sqrt": math.Sqrt, "Tan": math.Tan,
		"Tanh": math.Tanh, "Sigmoid": sigmoid, "Softplus": softplus, "Reciprocal": func(x float64) float64 { return 1 / x },
		"Softsign":  func(x float64) float64 { return x / (1 + math.Abs(x)) },
		"Mish":      func(x float64) float64 { return x * math.Tanh(softplus(x)) },
		"HardSwish": func(x float64) float64 { return x * min(1, max(0, x/6+0.5)) },
	} {
		t[op] = unary(func(*graphs.Node) (func(float64) float64, error) { return f, nil }, nil)
	}
	for op, f := range map[string]func(n *graphs.Node) func(float64) float64{
		"Celu": func(n *graphs.Node) func(float64) float64 {
			a := n.Float("alpha", 1)
			return func(x float64) float64 { return max(0, x) + min(0, a*math.Expm1(x/a)) }
		},
		"Elu": func(n *graphs.Node) func(float64) float64 {
			a := n.Float("alpha", 1)
			return func(x float64) float64 {
				if x < 0 {
					return a * math.Expm1(x)
				}
				return x
			}
		},
		"Selu": func(n *graphs.Node) func(float64) float64 {
			a, g := n.Float("alpha", float64(float32(1.67326319217681884765625))), n.Float("gamma", float64(float32(1.05070102214813232421875)))
			return func(x float64) float64 {
				if x < 0 {
					return g * a * math.Expm1(x)
				}
				return g * x
			}
		},
		"LeakyRelu": func(n *graphs.Node) func(float64) float64 {
			a := n.Float("alpha", float64(float32(0.01)))
			return func(x float64) float64 { return prelu(x, a) }
		},
		"ThresholdedRelu": func(n *graphs.Node) func(float64) float64 {
			a := n.Float("alpha", 1)
			return func(x float64) float64 {
				if x > a || x != x {
					return x
				}
				return 0
			}
		},
		"HardSigmoid": func(n *graphs.Node) func(float64) float64 {
			a, b := n.Float("alpha", float64(float32(0.2))), n.Float("beta", 0.5)
			return func(x float64) float64 { return max(0, min(1, a*x+b)) }
		},
		"Swish": func(n *graphs.Node) func(float64) float64 {
			a := n.Float("alpha", 1)
			return func(x float64) float64 { return x * sigmoid(a*x) }
		},
		"Shrink": func(n *graphs.Node) func(float64) float64 {
			b, l := n.Float("bias", 0), n.Float("lambd", 0.5)
			return func(x float64) float64 {
				switch {
				case x < -l:
					return x + b
				case x > l:
					return x - b
				}
				return x - x // 0, or NaN for NaN
			}
		},
	} {
		t[op] = unary(func(n *graphs.Node) (func(float64) float64, error) { return f(n), nil }, nil)
	}
	t["Gelu"] = unary(gelu, nil)
	for op, k := range map[string]struct {
		f func(float64) float64
		i func(int64) int64
	}{
		"Abs":  {math.Abs, func(x int64) int64 { return max(x, -x) }},
		"Neg":  {func(x float64) float64 { return -x }, func(x int64) int64 { return -x }},
		"Relu": {func(x float64) float64 { return max(x, 0) }, func(x int64) int64 { return max(x, 0) }},
		"Sign": {sign, func(x int64) int64 { return int64(sign(float64(x))) }},
	} {
		t[op] = unary(func(*graphs.Node) (func(float64) float64, error) { return k.f, nil }, k.i)
	}
	return t
}

func sigmoid(x float64) float64 {
	if x >= 0 {
		return 1 / (1 + math.Exp(-x))
	}
	e := math.Exp(x)
	return e / (1 + e)
}

func softplus(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

func prelu(x, slope float64) float64 {
	if x < 0 {
		return slope * x
	}
	return x
}

func sign(x float64) float64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return x // 0 and NaN
}

// The built-in max and min give NaN if an operand is NaN, as the ops do.
func larger(x, y float64) float64  { return max(x, y) }
func smaller(x, y float64) float64 { return min(x, y) }

func gelu(n *graphs.Node) (func(float64) float64, error) {
	switch a := n.Str("approximate", "none"); a {
	case "none":
		return func(x float64) float64 { return 0.5 * x * math.Erfc(-x/math.Sqrt2) }, nil
	case "tanh":
		k := math.Sqrt(2 / math.Pi)
		return func(x float64) float64 { return 0.5 * x * (1 + math.Tanh(k*(x+0.044715*x*x*x))) }, nil
	default:
		return nil, fmt.Errorf("approximate %q", a)
	}
}

// unary applies a function to each element; i is for integers, nil if the op
// has no integer form.
func unary(make func(*graphs.Node) (func(float64) float64, error), i func(int64) int64) kernel {
	return func(c *call) ([]*array, error) {
		x, err := c.arg(0)
		if err != nil {
			return nil, err
		}
		f, err := make(c.n)
		if err != nil {
			return nil, err
		}
		switch d := x.data.(type) {
		case []float64:
			return c.one(x.t, x.dims, map1(c, d, f))
		case []float32:
			if y := plain32(c, d); y != nil {
				return c.one(x.t, x.dims, y)
			}
			return c.one(x.t, x.dims, map1(c, d, f))
		case []int64:
			if i != nil {
				return c.one(x.t, x.dims, mapInts(d, i))
			}
		}
		return nil, badData(x)
	}
}

func map1[T float](c *call, x []T, f func(float64) float64) []T {
	y := make([]T, len(x))
	c.parallel(len(x), 8, func(lo, hi int) {
		for i, v := range x[lo:hi] {
			y[lo+i] = T(f(float64(v)))
		}
	})
	return y
}

// plain32 is the loop without a call per element for the cheap ops of networks,
// nil for the others.
func plain32(c *call, x []float32) []float32 {
	y := make([]float32, len(x))
	switch c.n.Op {
	case "Relu":
		for i, v := range x {
			y[i] = max(v, 0)
		}
	case "Neg":
		for i, v := range x {
			y[i] = -v
		}
	case "Reciprocal":
		for i, v := range x {
			y[i] = 1 / v
		}
	default:
		return nil
	}
	return y
}

func mapInts(x []int64, f func(int64) int64) []int64 {
	y := make([]int64, len(x))
	for i, v := range x {
		y[i] = f(v)
	}
	return y
}

func intUnary(f func(int64) int64) kernel {
	return func(c *call) ([]*array, error) {
		x, err := c.arg(0)
		if err != nil {
			return nil, err
		}
		d, err := x.ints()
		if err != nil {
			return nil, err
		}
		return c.one(x.t, x.dims, mapInts(d, f))
	}
}

// truth makes a bool array from float elements.
func (c *call) truth(x *array, f func(float64) bool) ([]*array, error) {
	v, err := x.floats()
	if err != nil {
		return nil, err
	}
	out := make([]int64, len(v))
	for i, e := range v {
		if f(e) {
			out[i] = 1
		}
	}
	return c.one(graphs.Bool, x.dims, out)
}

func isNaN(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	return c.truth(x, math.IsNaN)
}

func isInf(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	pos, neg := c.n.Int("detect_positive", 1) != 0, c.n.Int("detect_negative", 1) != 0
	return c.truth(x, func(v float64) bool { return pos && math.IsInf(v, 1) || neg && math.IsInf(v, -1) })
}

func clip(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	if d, ok := x.data.([]int64); ok {
		lo, hi := int64(math.MinInt64), int64(math.MaxInt64)
		for i, v := range []*int64{&lo, &hi} {
			if b := c.opt(1 + i); b != nil {
				if *v, err = b.scalar(); err != nil {
					return nil, err
				}
			}
		}
		return c.one(x.t, x.dims, mapInts(d, func(v int64) int64 { return min(max(v, lo), hi) }))
	}
	lo, hi := c.n.Float("min", math.Inf(-1)), c.n.Float("max", math.Inf(1)) // attributes before opset 11
	for i, v := range []*float64{&lo, &hi} {
		if b := c.opt(1 + i); b != nil {
			f, err := b.floats()
			if err != nil {
				return nil, err
			}
			if len(f) != 1 {
				return nil, fmt.Errorf("bound %v is not one number", b)
			}
			*v = f[0]
		}
	}
	f := func(v float64) float64 { return min(max(v, lo), hi) }
	switch d := x.data.(type) {
	case []float64:
		return c.one(x.t, x.dims, map1(c, d, f))
	case []float32:
		return c.one(x.t, x.dims, map1(c, d, f))
	}
	return nil, badData(x)
}

// ops2 is an operation on two numbers: f on floats, or row for the four that
// have loops of their own; i on integers, u on uint64 where it differs.
type ops2 struct {
	row     byte
	f       func(x, y float64) float64
	i, u    func(x, y int64) int64
	nonzero bool // the second integer must not be 0
}

func (o ops2) apply(c *call, x, y *array) (*array, error) {
	dims, err := broadcastDims(x.dims, y.dims)
	if err != nil {
		return nil, err
	}
	if err := c.check(dims); err != nil {
		return nil, err
	}
	b, err := newBcast(dims, x.dims, y.dims)
	if err != nil {
		return nil, err
	}
	switch dx := x.data.(type) {
	case []float64:
		if dy, ok := y.data.([]float64); ok && (o.f != nil || o.row != 0) {
			return c.fresh(x.t, dims, floats2(c, o, b, dx, dy)), nil
		}
	case []float32:
		if dy, ok := y.data.([]float32); ok && (o.f != nil || o.row != 0) {
			return c.fresh(x.t, dims, floats2(c, o, b, dx, dy)), nil
		}
	case []int64:
		f := o.i
		if x.t == graphs.Uint64 && o.u != nil {
			f = o.u
		}
		if dy, ok := y.data.([]int64); ok && f != nil {
			if o.nonzero && slices.Contains(dy, 0) {
				return nil, fmt.Errorf("integer division by zero")
			}
			return c.fresh(x.t, dims, map2(c, b, dx, dy, f)), nil
		}
	}
	return nil, fmt.Errorf("operands %v and %v are not supported", x, y)
}

func floats2[T float](c *call, o ops2, b *bcast, x, y []T) []T {
	if o.row == 0 {
		return map2(c, b, x, y, func(x, y T) T { return T(o.f(float64(x), float64(y))) })
	}
	out := make([]T, b.n)
	b.rows(c, 1, func(at, n int, off, st [maxOperands]int) {
		row2(o.row, out[at:at+n], x[off[0]:], y[off[1]:], st[0], st[1])
	})
	return out
}

// row2 is z = x op y over one run.
func row2[T float](op byte, z, x, y []T, sx, sy int) {
	switch {
	case sx == 1 && sy == 1:
		x, y = x[:len(z)], y[:len(z)]
		switch op {
		case '+':
			for i := range z {
				z[i] = x[i] + y[i]
			}
		case '-':
			for i := range z {
				z[i] = x[i] - y[i]
			}
		case '*':
			for i := range z {
				z[i] = x[i] * y[i]
			}
		case '/':
			for i := range z {
				z[i] = x[i] / y[i]
			}
		}
	case sx == 1 && sy == 0:
		x = x[:len(z)]
		v := y[0]
		switch op {
		case '+':
			for i := range z {
				z[i] = x[i] + v
			}
		case '-':
			for i := range z {
				z[i] = x[i] - v
			}
		case '*':
			for i := range z {
				z[i] = x[i] * v
			}
		case '/':
			for i := range z {
				z[i] = x[i] / v
			}
		}
	default:
		i, j := 0, 0
		for k := range z {
			switch op {
			case '+':
				z[k] = x[i] + y[j]
			case '-':
				z[k] = x[i] - y[j]
			case '*':
				z[k] = x[i] * y[j]
			case '/':
				z[k] = x[i] / y[j]
			}
			i += sx
			j += sy
		}
	}
}

func binary(o ops2) kernel {
	return func(c *call) ([]*array, error) {
		in, err := c.args(2)
		if err != nil {
			return nil, err
		}
		y, err := o.apply(c, in[0], in[1])
		return []*array{y}, err
	}
}

func variadic(o ops2) kernel {
	return func(c *call) ([]*array, error) {
		y, err := o.fold(c)
		return []*array{y}, err
	}
}

func (o ops2) fold(c *call) (*array, error) {
	in, err := c.args(max(1, len(c.in)))
	if err != nil {
		return nil, err
	}
	y := in[0]
	for _, x := range in[1:] {
		if y, err = o.apply(c, y, x); err != nil {
			return nil, err
		}
	}
	return y, nil
}

func mean(c *call) ([]*array, error) {
	s, err := ops2{row: '+'}.fold(c)
	if err != nil {
		return nil, err
	}
	n := float64(len(c.in))
	switch d := s.data.(type) {
	case []float64:
		return c.one(s.t, s.dims, map1(c, d, func(v float64) float64 { return v / n }))
	case []float32:
		return c.one(s.t, s.dims, map1(c, d, func(v float64) float64 { return v / n }))
	}
	return nil, badData(s)
}

func mod(c *call) ([]*array, error) {
	c99 := c.n.Int("fmod", 0) != 0
	return binary(ops2{
		f: func(x, y float64) float64 {
			r := math.Mod(x, y)
			if !c99 && r != 0 && (r < 0) != (y < 0) {
				r += y
			}
			return r
		},
		nonzero: true,
		i: func(x, y int64) int64 {
			r := x % y
			if !c99 && r != 0 && (r < 0) != (y < 0) {
				r += y
			}
			return r
		},
		u: func(x, y int64) int64 { return int64(uint64(x) % uint64(y)) },
	})(c)
}

// pow: the exponent may be of another type; the result has the base's.
func pow(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	x, y := in[0], in[1]
	if isInt(x.t) && isInt(y.t) {
		r, err := ops2{i: intPow}.apply(c, x, y)
		return []*array{r}, err
	}
	fx, err := x.floats()
	if err != nil {
		return nil, err
	}
	fy, err := y.floats()
	if err != nil {
		return nil, err
	}
	r, err := ops2{f: power}.apply(c, &array{graphs.Float64, x.dims, fx}, &array{graphs.Float64, y.dims, fy})
	if err != nil {
		return nil, err
	}
	return []*array{c.fromFloats(x.t, r.dims, r.data.([]float64))}, nil
}

// power takes the exponents that networks use without a logarithm.
func power(x, y float64) float64 {
	switch y {
	case 2:
		return x * x
	case 1:
		return x
	}
	return math.Pow(x, y)
}

func intPow(x, y int64) int64 {
	if y < 0 {
		return int64(math.Pow(float64(x), float64(y)))
	}
	r := int64(1)
	for ; y > 0; y >>= 1 {
		if y&1 != 0 {
			r *= x
		}
		x *= x
	}
	return r
}

func bitShift(c *call) ([]*array, error) {
	switch d := c.n.Str("direction", ""); d {
	case "LEFT":
		return binary(ops2{i: func(x, y int64) int64 { return x << uint64(y) }})(c)
	case "RIGHT":
		return binary(ops2{
			i: func(x, y int64) int64 { return x >> uint64(y) },
			u: func(x, y int64) int64 { return int64(uint64(x) >> uint64(y)) },
		})(c)
	default:
		return nil, fmt.Errorf("direction %q", d)
	}
}

// compare tests the order of two elements: −1, 0, 1, or 2 where one is NaN.
func compare(test func(order int) bool) kernel {
	bit := func(ok bool) int64 {
		if ok {
			return 1
		}
		return 0
	}
	return func(c *call) ([]*array, error) {
		in, err := c.args(2)
		if err != nil {
			return nil, err
		}
		x, y := in[0], in[1]
		dims, err := broadcastDims(x.dims, y.dims)
		if err != nil {
			return nil, err
		}
		if err := c.check(dims); err != nil {
			return nil, err
		}
		b, err := newBcast(dims, x.dims, y.dims)
		if err != nil {
			return nil, err
		}
		switch dx := x.data.(type) {
		case []float64:
			if dy, ok := y.data.([]float64); ok {
				return c.one(graphs.Bool, dims, map2(c, b, dx, dy, func(x, y float64) int64 { return bit(test(order(x, y))) }))
			}
		case []float32:
			if dy, ok := y.data.([]float32); ok {
				return c.one(graphs.Bool, dims, map2(c, b, dx, dy, func(x, y float32) int64 { return bit(test(order(x, y))) }))
			}
		case []int64:
			if dy, ok := y.data.([]int64); ok {
				f := func(x, y int64) int64 { return bit(test(order(x, y))) }
				if x.t == graphs.Uint64 {
					f = func(x, y int64) int64 { return bit(test(order(uint64(x), uint64(y)))) }
				}
				return c.one(graphs.Bool, dims, map2(c, b, dx, dy, f))
			}
		case [][]byte:
			if dy, ok := y.data.([][]byte); ok {
				return c.one(graphs.Bool, dims, map2(c, b, dx, dy, func(x, y []byte) int64 { return bit(test(bytes.Compare(x, y))) }))
			}
		}
		return nil, fmt.Errorf("operands %v and %v are not supported", x, y)
	}
}

func order[T float32 | float64 | int64 | uint64](x, y T) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	case x == y:
		return 0
	}
	return 2
}

func where(c *call) ([]*array, error) {
	in, err := c.args(3)
	if err != nil {
		return nil, err
	}
	dims, err := broadcastDims(in[0].dims, in[1].dims, in[2].dims)
	if err != nil {
		return nil, err
	}
	if err := c.check(dims); err != nil {
		return nil, err
	}
	b, err := newBcast(dims, in[0].dims, in[1].dims, in[2].dims)
	if err != nil {
		return nil, err
	}
	cond, err := in[0].ints()
	if err != nil {
		return nil, err
	}
	switch x := in[1].data.(type) {
	case []float64:
		if y, ok := in[2].data.([]float64); ok {
			return c.one(in[1].t, dims, choose(c, b, cond, x, y))
		}
	case []float32:
		if y, ok := in[2].data.([]float32); ok {
			return c.one(in[1].t, dims, choose(c, b, cond, x, y))
		}
	case []int64:
		if y, ok := in[2].data.([]int64); ok {
			return c.one(in[1].t, dims, choose(c, b, cond, x, y))
		}
	case [][]byte:
		if y, ok := in[2].data.([][]byte); ok {
			return c.one(in[1].t, dims, choose(c, b, cond, x, y))
		}
	}
	return nil, fmt.Errorf("branches %v and %v are not supported", in[1], in[2])
}

func choose[T any](c *call, b *bcast, cond []int64, x, y []T) []T {
	out := make([]T, b.n)
	b.rows(c, 2, func(o, n int, off, st [maxOperands]int) {
		for k := range n {
			if cond[off[0]+k*st[0]] != 0 {
				out[o+k] = x[off[1]+k*st[1]]
			} else {
				out[o+k] = y[off[2]+k*st[2]]
			}
		}
	})
	return out
}

func cast(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	to := c.outType(0)
	switch {
	case to == x.t:
		return []*array{x}, nil
	case isInt(to) && isInt(x.t):
		d, err := x.ints()
		if err != nil {
			return nil, err
		}
		d = append([]int64{}, d...)
		if to == graphs.Bool {
			for i, v := range d {
				if v != 0 {
					d[i] = 1
				}
			}
		}
		return c.one(to, x.dims, d)
	case !isInt(to) && !to.IsFloat():
		return nil, fmt.Errorf("no cast to %v", to)
	}
	v, err := x.floats()
	if err != nil {
		return nil, err
	}
	return []*array{c.fromFloats(to, x.dims, v)}, nil
}

// dropout is the identity; training mode would draw random numbers.
func dropout(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	if m := c.opt(2); m != nil {
		train, err := m.scalar()
		if err != nil {
			return nil, err
		}
		ratio := []float64{0.5}
		if r := c.opt(1); r != nil {
			if ratio, err = r.floats(); err != nil {
				return nil, err
			}
		}
		if train != 0 && (len(ratio) != 1 || ratio[0] != 0) {
			return nil, fmt.Errorf("dropout in training mode is random")
		}
	}
	mask := make([]int64, x.len())
	for i := range mask {
		mask[i] = 1
	}
	return []*array{x, c.fresh(graphs.Bool, x.dims, mask)}, nil
}
