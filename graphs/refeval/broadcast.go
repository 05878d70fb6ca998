package refeval

import "fmt"

// maxOperands is the largest number of operands broadcast together.
const maxOperands = 3

// A bcast walks operands that are broadcast to common dimensions, with axes
// merged where every operand allows it.
type bcast struct {
	dims []int
	st   [maxOperands][]int // strides per operand, 0 on broadcast axes
	k    int
	n    int // elements
}

// broadcastDims is the shape that dimensions broadcast to.
func broadcastDims(shapes ...[]int) ([]int, error) {
	rank := 0
	for _, s := range shapes {
		rank = max(rank, len(s))
	}
	out := make([]int, rank)
	for i := range out {
		out[i] = 1
	}
	for _, s := range shapes {
		for i, d := range s {
			j := rank - len(s) + i
			switch {
			case d == out[j] || d == 1:
			case out[j] == 1:
				out[j] = d
			default:
				return nil, fmt.Errorf("dimensions %v do not broadcast", shapes)
			}
		}
	}
	return out, nil
}

func newBcast(out []int, ins ...[]int) (*bcast, error) {
	b := &bcast{k: len(ins), n: 1}
	for _, d := range out {
		b.n *= d
	}
	var full [maxOperands][]int
	for j, in := range ins {
		lead := len(out) - len(in)
		if lead < 0 {
			return nil, fmt.Errorf("dimensions %v do not broadcast to %v", in, out)
		}
		s, st := make([]int, len(out)), strides(in)
		for i, d := range in {
			switch {
			case d == out[lead+i] && d != 1:
				s[lead+i] = st[i]
			case d != 1:
				return nil, fmt.Errorf("dimensions %v do not broadcast to %v", in, out)
			}
		}
		full[j] = s
	}
	for i, d := range out {
		if d == 1 {
			continue
		}
		last := len(b.dims) - 1
		merge := last >= 0
		for j := 0; j < b.k && merge; j++ {
			merge = b.st[j][last] == full[j][i]*d
		}
		if merge {
			b.dims[last] *= d
		} else {
			b.dims = append(b.dims, d)
			last++
		}
		for j := 0; j < b.k; j++ {
			if merge {
				b.st[j][last] = full[j][i]
			} else {
				b.st[j] = append(b.st[j], full[j][i])
			}
		}
	}
	return b, nil
}

// rows calls f for runs of consecutive outputs [o, o+n): operand j starts at
// off[j] and moves by st[j], which is 0, 1 or the stride of the innermost axis.
func (b *bcast) rows(c *call, cost int, f func(o, n int, off, st [maxOperands]int)) {
	inner := 1
	last := len(b.dims) - 1
	var st [maxOperands]int
	if last >= 0 {
		inner = b.dims[last]
		for j := range b.k {
			st[j] = b.st[j][last]
		}
	}
	if b.n == 0 {
		return
	}
	c.parallel(b.n, cost, func(lo, hi int) {
		for o := lo; o < hi; {
			row, col := o/inner, o%inner
			var off [maxOperands]int
			for i := last - 1; i >= 0; i-- {
				q := row % b.dims[i]
				row /= b.dims[i]
				for j := range b.k {
					off[j] += q * b.st[j][i]
				}
			}
			for j := range b.k {
				off[j] += col * st[j]
			}
			n := min(inner-col, hi-o)
			f(o, n, off, st)
			o += n
		}
	})
}

// map2 applies f to two broadcast operands.
func map2[T, R any](c *call, b *bcast, x, y []T, f func(x, y T) R) []R {
	out := make([]R, b.n)
	b.rows(c, 4, func(o, n int, off, st [maxOperands]int) {
		i, j := off[0], off[1]
		for k := range n {
			out[o+k] = f(x[i], y[j])
			i += st[0]
			j += st[1]
		}
	})
	return out
}
