package autodiff

import (
	"strings"

	"ebmrun/graphs"
)

// A labelled is an operand of Einsum: one letter per axis.
type labelled struct {
	v      val
	labels string
}

// lowerEinsum contracts the operands from the left, two at a time, as matrix
// products over the labels they share.
func lowerEinsum(b *graphs.Builder, n *graphs.Node) []val {
	spec, err := graphs.EinsumOf(n)
	if err != nil {
		b.Fail("%w", err)
		return nil
	}
	var sizes einsumSizes = map[rune]val{}
	left := make([]labelled, len(n.Inputs))
	for i, x := range n.Inputs {
		if x.Shape == nil {
			b.Fail("%w", errRank(x))
			return nil
		}
		left[i] = labelled{x, spec.In[i]}
		for k, r := range spec.In[i] {
			if sizes[r] == nil || x.Shape[k].Known() && x.Shape[k].N != 1 {
				sizes[r] = size(b, x, k)
			}
		}
	}
	if b.Err() != nil {
		return nil
	}
	later := func(i int) string {
		s := spec.Out
		for _, o := range left[i:] {
			s += o.labels
		}
		return s
	}
	acc := left[0].only(b, later(1))
	for i := 1; i < len(left) && b.Err() == nil; i++ {
		acc = sizes.contract(b, acc, left[i].only(b, later(i+1)+acc.labels), later(i+1))
	}
	if b.Err() != nil {
		return nil
	}
	perm := make([]int64, len(spec.Out))
	same := true
	for i, r := range spec.Out {
		perm[i] = int64(strings.IndexRune(acc.labels, r))
		same = same && perm[i] == int64(i)
	}
	if !same {
		acc.v = b.Transpose(acc.v, perm...)
	}
	return []val{acc.v}
}

type einsumSizes map[rune]val

// only takes diagonals of repeated labels and sums over those not wanted.
func (o labelled) only(b *graphs.Builder, wanted string) labelled {
	for i := 0; i < len(o.labels) && b.Err() == nil; i++ {
		k := strings.IndexByte(o.labels[i+1:], o.labels[i])
		if k < 0 {
			continue
		}
		k += i + 1
		// bring both axes to the front, flatten them, pick the diagonal
		d := o.v.Shape[i]
		if !d.Known() {
			b.Fail("the size of the repeated label %q must be known", o.labels[i])
			return o
		}
		perm, rest := []int64{int64(i), int64(k)}, ""
		for a := range o.labels {
			if a != i && a != k {
				perm, rest = append(perm, int64(a)), rest+o.labels[a:a+1]
			}
		}
		t := b.Transpose(o.v, perm...)
		sizes := []val{b.Ints(d.N * d.N)}
		for a := 2; a < len(perm) && b.Err() == nil; a++ {
			sizes = append(sizes, size(b, t, a))
		}
		idx := make([]int64, d.N)
		for j := range idx {
			idx[j] = int64(j) * (d.N + 1)
		}
		o = labelled{b.Gather(reshapeBy(b, t, sizes...), b.Ints(idx...), 0), o.labels[i:i+1] + rest}
		i = -1
	}
	var axes []int64
	kept := ""
	for a := range o.labels {
		if strings.Contains(wanted, o.labels[a:a+1]) {
			kept += o.labels[a : a+1]
		} else {
			axes = append(axes, int64(a))
		}
	}
	if len(axes) > 0 {
		o = labelled{b.Sum(o.v, false, axes...), kept}
	}
	return o
}

// contract multiplies two operands and sums over the labels that are in both
// and not wanted later.
func (sizes einsumSizes) contract(b *graphs.Builder, x, y labelled, later string) labelled {
	var batch, sum, left, right string
	for _, r := range x.labels {
		switch in := strings.ContainsRune(y.labels, r); {
		case in && strings.ContainsRune(later, r):
			batch += string(r)
		case in:
			sum += string(r)
		default:
			left += string(r)
		}
	}
	for _, r := range y.labels {
		if !strings.ContainsRune(x.labels, r) {
			right += string(r)
		}
	}
	if sum == "" { // nothing to add up: a product with broadcasting
		u := x.arrange(b, batch+left)
		v := y.arrange(b, batch+right)
		for range right {
			u = b.Unsqueeze(u, -1)
		}
		for range left {
			v = b.Unsqueeze(v, int64(len(batch)))
		}
		return labelled{b.Mul(u, v), batch + left + right}
	}
	u := sizes.merged(b, x.arrange(b, batch+left+sum), len(batch), left, sum)
	v := sizes.merged(b, y.arrange(b, batch+sum+right), len(batch), sum, right)
	p := b.MatMul(u, v)
	if len(left) != 1 || len(right) != 1 {
		var dims []val
		for _, r := range batch + left + right {
			dims = append(dims, sizes[r])
		}
		p = reshapeBy(b, p, dims...)
	}
	return labelled{p, batch + left + right}
}

// arrange transposes to the given order of labels.
func (o labelled) arrange(b *graphs.Builder, order string) val {
	if order == o.labels {
		return o.v
	}
	perm := make([]int64, len(order))
	for i := range order {
		perm[i] = int64(strings.IndexByte(o.labels, order[i]))
	}
	return b.Transpose(o.v, perm...)
}

// merged makes two axes of the ones behind the batch: rows and columns.
func (sizes einsumSizes) merged(b *graphs.Builder, v val, batch int, rows, cols string) val {
	if len(rows) == 1 && len(cols) == 1 || b.Err() != nil {
		return v
	}
	var dims []val
	for i := range batch {
		dims = append(dims, size(b, v, i))
	}
	for _, part := range []string{rows, cols} {
		d := b.Ints(1)
		for _, r := range part {
			d = product(b, d, sizes[r])
		}
		dims = append(dims, d)
	}
	return reshapeBy(b, v, dims...)
}

// product multiplies sizes, at once where both are constants.
func product(b *graphs.Builder, x, y val) val {
	p, ok1 := graphs.ConstInts(x)
	q, ok2 := graphs.ConstInts(y)
	if ok1 && ok2 && len(p) == 1 && len(q) == 1 {
		return b.Ints(p[0] * q[0])
	}
	return b.Mul(x, y)
}
