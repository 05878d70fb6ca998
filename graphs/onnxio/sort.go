package onnxio

import (
	"container/heap"
	"fmt"
	"strings"

	"ebmrun/graphs"
)

// sortNodes puts the nodes of g in topological order, changing as little as
// possible: of the nodes that are ready, the one that came first goes next.
func sortNodes(g *graphs.Graph) error {
	at := make(map[*graphs.Node]int, len(g.Nodes))
	for i, n := range g.Nodes {
		at[n] = i
	}
	deps := make([][]int, len(g.Nodes))
	sorted := true
	for i, n := range g.Nodes {
		uses(n, func(v *graphs.Value) {
			if j, ok := at[v.From]; ok {
				deps[i] = append(deps[i], j)
				sorted = sorted && j < i
			}
		})
	}
	if sorted {
		return nil
	}
	users := make([][]int, len(g.Nodes))
	missing := make([]int, len(g.Nodes))
	ready := &intHeap{}
	for i, d := range deps {
		for _, j := range d {
			users[j] = append(users[j], i)
		}
		if missing[i] = len(d); len(d) == 0 {
			heap.Push(ready, i)
		}
	}
	out := make([]*graphs.Node, 0, len(g.Nodes))
	for ready.Len() > 0 {
		i := heap.Pop(ready).(int)
		out = append(out, g.Nodes[i])
		for _, u := range users[i] {
			if missing[u]--; missing[u] == 0 {
				heap.Push(ready, u)
			}
		}
	}
	if len(out) < len(g.Nodes) {
		return fmt.Errorf("cycle: %s", cycle(g, deps, missing))
	}
	g.Nodes = out
	return nil
}

// cycle names the nodes of one cycle among those that still miss an input.
func cycle(g *graphs.Graph, deps [][]int, missing []int) string {
	i := 0
	for missing[i] == 0 {
		i++
	}
	seen := map[int]int{}
	var path []int
	for {
		if k, ok := seen[i]; ok {
			path = path[k:]
			break
		}
		seen[i] = len(path)
		path = append(path, i)
		for _, j := range deps[i] {
			if missing[j] > 0 {
				i = j
				break
			}
		}
	}
	// The walk went from users to producers; names are given in data order.
	names := []string{q(g.Nodes[path[0]].Label())}
	for k := len(path) - 1; k >= 0; k-- {
		if len(names) == 8 && k > 0 {
			names = append(names, fmt.Sprintf("… %d more", k), q(g.Nodes[path[0]].Label()))
			break
		}
		names = append(names, q(g.Nodes[path[k]].Label()))
	}
	return strings.Join(names, " -> ")
}

// uses calls f with every value a node reads, in its subgraphs too.
func uses(n *graphs.Node, f func(*graphs.Value)) {
	for _, v := range n.Inputs {
		if v != nil {
			f(v)
		}
	}
	for _, a := range n.Attrs {
		for _, g := range subgraphs(a) {
			for _, m := range g.Nodes {
				uses(m, f)
			}
			for _, v := range g.Outputs {
				f(v)
			}
		}
	}
}

func subgraphs(a *graphs.Attr) []*graphs.Graph {
	if a.G != nil {
		return append([]*graphs.Graph{a.G}, a.Graphs...)
	}
	return a.Graphs
}

type intHeap []int

func (h intHeap) Len() int           { return len(h) }
func (h intHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h intHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *intHeap) Push(x any)        { *h = append(*h, x.(int)) }
func (h *intHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
