//go:build cgo

package ort

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
)

// TestInBlocks: the form for blocks is the same sum, and only what has such a form, and
// enough to gain by it, is replaced.
func TestInBlocks(t *testing.T) {
	for name, c := range map[string]struct {
		x, w    []int
		strides []int64
		pads    []int64
		more    []*graphs.Attr
		bias    int
		want    bool
	}{
		"stride 2":           {[]int{9, 40, 16, 16}, []int{40, 3, 4, 4}, []int64{2, 2}, []int64{1, 1, 1, 1}, nil, 3, true},
		"an odd kernel":      {[]int{9, 40, 16, 16}, []int{40, 3, 5, 5}, []int64{2, 2}, []int64{2, 2, 2, 2}, []*graphs.Attr{graphs.IntsAttr("output_padding", 1, 1)}, 0, true},
		"stride 1":           {[]int{13, 20, 24, 24}, []int{20, 4, 3, 3}, nil, []int64{1, 1, 1, 1}, nil, 4, true},
		"a stride for each":  {[]int{9, 40, 12, 32}, []int{40, 2, 4, 3}, []int64{2, 1}, []int64{0, 1, 2, 1}, nil, 0, true},
		"no pads":            {[]int{4, 40, 14, 14}, []int{40, 1, 6, 6}, []int64{2, 2}, nil, nil, 1, true},
		"many channels":      {[]int{9, 40, 16, 16}, []int{40, 5, 4, 4}, []int64{2, 2}, []int64{1, 1, 1, 1}, nil, 0, false},
		"stride 3":           {[]int{9, 40, 16, 16}, []int{40, 3, 4, 4}, []int64{3, 3}, []int64{1, 1, 1, 1}, nil, 0, false},
		"an odd picture":     {[]int{9, 40, 16, 16}, []int{40, 3, 5, 5}, []int64{2, 2}, []int64{2, 2, 2, 2}, nil, 0, false},
		"more pads than any": {[]int{9, 40, 16, 16}, []int{40, 3, 4, 4}, []int64{2, 2}, []int64{4, 1, 4, 1}, nil, 0, false},
		"dilated":            {[]int{9, 40, 16, 16}, []int{40, 3, 4, 4}, []int64{2, 2}, []int64{1, 1, 2, 2}, []*graphs.Attr{graphs.IntsAttr("dilations", 2, 2)}, 0, false},
		"single pixels":      {[]int{9, 40, 32, 32}, []int{40, 3, 1, 1}, nil, nil, nil, 0, false},
		"little to do":       {[]int{2, 4, 16, 16}, []int{4, 3, 4, 4}, []int64{2, 2}, []int64{1, 1, 1, 1}, nil, 0, false},
	} {
		for _, constant := range []bool{true, false} {
			normal := normals()
			attrs := c.more
			if c.strides != nil {
				attrs = append(attrs, graphs.IntsAttr("strides", c.strides...))
			}
			if c.pads != nil {
				attrs = append(attrs, graphs.IntsAttr("pads", c.pads...))
			}
			filters := normal(c.w...)
			m := enginetest.Build(t, func(b *graphs.Builder) {
				in := []*graphs.Value{b.Input("x", graphs.Float32, graphs.MakeShape(c.x...))}
				if constant {
					in = append(in, b.Weight("w", filters))
				} else {
					in = append(in, b.Input("w", graphs.Float32, graphs.MakeShape(c.w...)))
				}
				if c.bias > 0 {
					in = append(in, b.Const(normal(c.bias)))
				}
				// twice, so that filters are shared
				b.Output("y", b.Add(b.Op("ConvTranspose", in, attrs...), b.Op("ConvTranspose", in, attrs...)))
			})
			form := inBlocks(m)
			if (form != m) != c.want {
				t.Fatalf("%s: replaced: %v, wanted %v", name, form != m, c.want)
			}
			if !c.want {
				continue
			}
			var ops []string
			for _, n := range form.Graph.Nodes {
				ops = append(ops, n.Op)
			}
			got := strings.Join(ops, " ")
			if strings.Count(got, "Conv") != 2 || strings.Contains(got, "ConvTranspose") || strings.Count(got, "Gather") != 2 {
				t.Errorf("%s: %s", name, got)
			}
			in := []*graphs.Tensor{normal(c.x...), filters}
			if constant {
				in = in[:1]
			}
			want := alike(t, form, m, in, 1e-4)
			e := engineFor(t)
			if !slices.Contains(e.Providers(), runtime.OpenVINO) {
				continue
			}
			p, err := e.compile(t.Context(), m, runtime.Options{Provider: runtime.OpenVINO, Threads: 1}, "")
			if err != nil {
				t.Fatal(name, err)
			}
			out := make([]*graphs.Tensor, 1)
			if err := errors.Join(p.Run(t.Context(), in, out), p.Close()); err != nil {
				t.Fatal(name, err)
			}
			enginetest.Close(t, name, out[0], 1e-4, want...)
		}
	}
}
