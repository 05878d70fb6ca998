package autodiff

import (
	"math"
	"slices"

	"ebmrun/graphs"
)

// A recomputer has the backward pass work on values that are computed once more,
// so that those of the forward pass need not be kept until then.
//
// The forward nodes are cut into parts. When the walk back enters a part, the
// part is written down again, starting from the values that it takes from
// outside. Those get a zero added which is computed from the slope that arrives:
// so the copy differs from the original for a library that merges common
// subexpressions, and cannot run before that slope is there. The zero is −0, and
// x + (−0) is x for every x, so the numbers are those of the plain gradient.
type recomputer struct {
	b     *Back
	nodes []*graphs.Node
	part  []int // of each node
	last  int   // the part next to the output, which is not computed again

	current int
	again   map[*graphs.Node]*graphs.Node   // nodes of the current part, written down again
	copies  map[*graphs.Value]*graphs.Value // of values of the forward pass, in the current part
	tie     *graphs.Value                   // −0, once the slope has arrived
}

// newRecomputer chooses the parts for the nodes that of needs.
func newRecomputer(b *Back, nodes []*graphs.Node, needed map[*graphs.Value]bool) *recomputer {
	r := &recomputer{b: b, nodes: nodes, current: -1}
	cuts := chooseCuts(nodes, func(v *graphs.Value) bool { return needed[v] && b.active[v] && v.Type.IsFloat() })
	r.part = make([]int, len(nodes))
	for i, k := range cuts {
		end := len(nodes)
		if i+1 < len(cuts) {
			end = cuts[i+1]
		}
		for j := k; j < end; j++ {
			r.part[j] = i + 1
		}
	}
	r.last = len(cuts)
	return r
}

// weight is the size of a value, counting axes of unknown size as 1: those are
// batches, which all values have in common.
func weight(v *graphs.Value) float64 {
	w := 1.0
	for _, d := range v.Shape {
		if d.Known() {
			w *= float64(d.N)
		}
	}
	return w
}

// chooseCuts returns the nodes at which a new part begins, so that what is kept
// at the cuts and the largest part take the least memory together.
func chooseCuts(nodes []*graphs.Node, counts func(*graphs.Value) bool) []int {
	n := len(nodes)
	made := make([]float64, n+1)  // summed up to each node
	alive := make([]float64, n+1) // made before a node and read by it or later
	last, born := map[*graphs.Value]int{}, map[*graphs.Value]int{}
	for i, node := range nodes {
		made[i+1] = made[i]
		for _, v := range node.Inputs {
			last[v] = i
		}
		for _, v := range node.Outputs {
			if v != nil && counts(v) {
				made[i+1] += weight(v)
				born[v] = i
			}
		}
	}
	for v, from := range born {
		for i := from + 1; i <= last[v]; i++ {
			alive[i] += weight(v)
		}
	}
	total := made[n]
	best, least := []int(nil), total
	for parts := 2; parts <= 64 && parts < n; parts++ {
		var cuts []int
		kept, largest, from := 0.0, 0.0, 0
		for k := 1; k < parts; k++ {
			// the cheapest place around the one that makes parts equal
			at, lo, hi := -1, total*(float64(k)-0.4)/float64(parts), total*(float64(k)+0.4)/float64(parts)
			for i := from + 1; i < n; i++ {
				if made[i] >= lo && made[i] <= hi && (at < 0 || alive[i] < alive[at]) {
					at = i
				}
			}
			if at < 0 {
				continue
			}
			cuts = append(cuts, at)
			kept += alive[at]
			largest, from = max(largest, made[at]-made[from]), at
		}
		largest = max(largest, total-made[from])
		if kept+largest < least {
			best, least = cuts, kept+largest
		}
	}
	return best
}

// node is n, number i of the forward pass, as its rule should see it: reading and
// making copies. dy are the slopes that arrive at it.
func (r *recomputer) node(n *graphs.Node, i int, dy []*graphs.Value) *graphs.Node {
	if r == nil || r.part[i] == r.last {
		return n
	}
	if r.part[i] != r.current {
		for _, d := range dy {
			if d != nil {
				r.enter(r.part[i], d)
				break
			}
		}
	}
	if m := r.again[n]; m != nil {
		return m
	}
	return n
}

// enter writes the nodes of a part down again.
func (r *recomputer) enter(part int, slope *graphs.Value) {
	r.current, r.tie, r.again, r.copies = part, nil, map[*graphs.Node]*graphs.Node{}, map[*graphs.Value]*graphs.Value{}
	defer r.b.Prefix(r.b.Prefix("again"))
	inside := map[*graphs.Value]bool{}
	for i, n := range r.nodes {
		if r.part[i] == part {
			for _, v := range n.Outputs {
				inside[v] = true
			}
		}
	}
	for i, n := range r.nodes {
		if r.part[i] != part {
			continue
		}
		again := false
		for _, v := range n.Inputs {
			if v != nil && r.b.active[v] && v.Type.IsFloat() && v.Const == nil && !inside[v] && r.copies[v] == nil && n.Op != "Shape" && n.Op != "Size" {
				r.copies[v] = r.tied(v, slope)
			}
			again = again || r.copies[v] != nil
		}
		if !again || n.Op == "Shape" || n.Op == "Size" {
			continue
		}
		m := &graphs.Node{Name: r.b.Target().Fresh("again/" + n.Label()), Op: n.Op, Domain: n.Domain, Attrs: n.Attrs,
			Inputs: slices.Clone(n.Inputs), Outputs: make([]*graphs.Value, len(n.Outputs))}
		for j, v := range n.Inputs {
			if w := r.copies[v]; v != nil && w != nil {
				m.Inputs[j] = w
			}
		}
		r.again[n] = m
		for j, v := range n.Outputs {
			if v == nil {
				continue
			}
			w := *v
			w.Name, w.From = m.Name, m
			if len(n.Outputs) > 1 {
				w.Name = r.b.Target().Fresh("again/" + v.Name)
			}
			m.Outputs[j], r.copies[v] = &w, &w
			r.b.active[&w], r.b.copied[&w] = r.b.active[v], v
		}
		r.b.Append(m, graphs.OpsetVersion)
		for j, v := range n.Outputs {
			if v != nil {
				m.Outputs[j].Shape = v.Shape // which may be known by name alone
			}
		}
	}
}

// tied is v + (−0), where the zero waits for the slope.
func (r *recomputer) tied(v, slope *graphs.Value) *graphs.Value {
	b := r.b
	if r.tie == nil || r.tie.Type != v.Type {
		// The sum of at most one element is less than −1 and more than 1 for no number.
		one := b.Sum(b.Slice(b.ReshapeTo(slope, -1), []int64{0}, []int64{1}, []int64{0}, nil), false)
		never := b.Op("And", []*graphs.Value{b.Less(one, b.Scalar(one, -1)), b.Greater(one, b.Scalar(one, 1))})
		r.tie = b.Where(never, b.Scalar(v, 1), b.Scalar(v, math.Copysign(0, -1)))
	}
	w := b.Add(v, r.tie)
	if b.Err() == nil {
		w.Shape = v.Shape
	}
	b.active[w], b.copied[w] = true, v
	return w
}
