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

func inferEinsum(c *inferer) error {
	spec, err := ParseEinsum(c.n.Str("equation", ""), len(c.n.Inputs))
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
