package graphs

import (
	"fmt"
	"strings"
)

// An EinsumSpec is a parsed Einsum equation: one label per axis.
type EinsumSpec struct {
	In  []string
	Out string
}

// ParseEinsum reads an Einsum equation without ellipses.
func ParseEinsum(eq string, inputs int) (EinsumSpec, error) {
	eq = strings.ReplaceAll(eq, " ", "")
	if strings.Contains(eq, "...") {
		return EinsumSpec{}, fmt.Errorf("equation %q: ellipses are not supported", eq)
	}
	lhs, rhs, arrow := strings.Cut(eq, "->")
	spec := EinsumSpec{In: strings.Split(lhs, ","), Out: rhs}
	if len(spec.In) != inputs {
		return spec, fmt.Errorf("equation %q is for %d inputs, got %d", eq, len(spec.In), inputs)
	}
	count := map[rune]int{}
	for _, s := range spec.In {
		for _, r := range s {
			if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
				return spec, fmt.Errorf("equation %q: label %q", eq, r)
			}
			count[r]++
		}
	}
	if !arrow {
		for r := 'A'; r <= 'z'; r++ {
			if count[r] == 1 {
				spec.Out += string(r)
			}
		}
	}
	for i, r := range spec.Out {
		if count[r] == 0 || strings.ContainsRune(spec.Out[i+1:], r) {
			return spec, fmt.Errorf("equation %q: output label %q", eq, r)
		}
	}
	return spec, nil
}

// EinsumOf reads the equation of an Einsum node. An ellipsis stands for letters
// that the equation does not use, as many as the operands' ranks leave.
func EinsumOf(n *Node) (EinsumSpec, error) {
	eq := strings.ReplaceAll(n.Str("equation", ""), " ", "")
	if !strings.Contains(eq, "...") {
		return ParseEinsum(eq, len(n.Inputs))
	}
	lhs, rhs, arrow := strings.Cut(eq, "->")
	terms := strings.Split(lhs, ",")
	if len(terms) != len(n.Inputs) {
		return EinsumSpec{}, fmt.Errorf("equation %q is for %d inputs, got %d", eq, len(terms), len(n.Inputs))
	}
	var free []byte
	for r := byte('A'); r <= 'z'; r++ {
		if (r <= 'Z' || r >= 'a') && strings.IndexByte(eq, r) < 0 {
			free = append(free, r)
		}
	}
	widest := 0
	for i, t := range terms {
		before, after, found := strings.Cut(t, "...")
		if !found {
			continue
		}
		x := n.Inputs[i]
		if x == nil || x.Shape == nil {
			return EinsumSpec{}, fmt.Errorf("equation %q: the rank of input %d must be known", eq, i)
		}
		k := len(x.Shape) - len(before) - len(after)
		if k < 0 || k > len(free) || strings.Contains(after, ".") {
			return EinsumSpec{}, fmt.Errorf("equation %q does not fit input %s", eq, x)
		}
		widest = max(widest, k)
		terms[i] = before + string(free[len(free)-k:]) + after // aligned at the last axis
	}
	all := string(free[len(free)-widest:])
	if !arrow { // the ellipsis comes first, then what appears once, in order
		rhs = all
		for r := byte('A'); r <= 'z'; r++ {
			if strings.Count(lhs, string(r)) == 1 && r != '.' {
				rhs += string(r)
			}
		}
	}
	eq = strings.Join(terms, ",") + "->" + strings.Replace(rhs, "...", all, 1)
	return ParseEinsum(eq, len(n.Inputs))
}

func inferEinsum(c *inferer) error {
	for _, x := range c.n.Inputs {
		if x == nil {
			return fmt.Errorf("an operand is missing")
		}
		if x.Shape == nil && strings.Contains(c.n.Str("equation", ""), "...") {
			c.set(0, x.Type, nil)
			return nil
		}
	}
	spec, err := EinsumOf(c.n)
	if err != nil {
		return err
	}
	size := map[rune]Dim{}
	var t DType
	for i, s := range spec.In {
		x, err := c.in(i)
		if err != nil {
			return err
		}
		t = x.Type
		if x.Shape == nil {
			continue
		}
		if len(s) != len(x.Shape) {
			return fmt.Errorf("labels %q do not fit %s", s, x)
		}
		for k, r := range s {
			d, ok := size[r]
			if !ok || !d.Known() && x.Shape[k].Known() {
				size[r] = x.Shape[k]
			} else if d.Known() && x.Shape[k].Known() && d.N != x.Shape[k].N {
				return fmt.Errorf("label %q has sizes %v and %v", r, d, x.Shape[k])
			}
		}
	}
	s := Shape{}
	for _, r := range spec.Out {
		d, ok := size[r]
		if !ok {
			d = UnknownDim
		}
		s = append(s, d)
	}
	c.set(0, t, s)
	return nil
}
