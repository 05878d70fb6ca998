package energy

import (
	"ebmrun/graphs"
)

// Kernels are fixed filters of one size, Taps [K, Size, Size].
type Kernels struct {
	Size int
	Taps []float32
}

// Responses are the absolute responses |⟨x, B_k,p⟩| of grey pictures [1, H, W] to fixed filters, one
// map [K, …] for each group of them: at every place of a picture whose edges meet where circular is
// set, else where the filter fits.
func Responses(groups []Kernels, circular bool) Features {
	return func(b *graphs.Builder, x *graphs.Value) (maps []*graphs.Value) {
		if len(x.Shape) != 4 || x.Shape[1].N != 1 {
			return []*graphs.Value{b.Fail("energy: responses: wanted grey pictures [1, height, width], got %v", x)}
		}
		for _, g := range groups {
			area := g.Size * g.Size
			if g.Size < 1 || len(g.Taps) == 0 || len(g.Taps)%area != 0 {
				return []*graphs.Value{b.Fail("energy: responses: wanted filters of %d×%d, got %d taps", g.Size, g.Size, len(g.Taps))}
			}
			size := int64(g.Size)
			if h, w := x.Shape[2].N, x.Shape[3].N; h < size || w < size {
				return []*graphs.Value{b.Fail("energy: responses: filters of %d×%d do not fit into pictures of %d×%d", size, size, h, w)}
			}
			in := x
			if circular && g.Size > 1 {
				in = wrap(b, wrap(b, x, 2, size/2), 3, size/2)
			}
			taps := b.Const(graphs.Of(g.Taps, len(g.Taps)/area, 1, g.Size, g.Size))
			r := b.Op("Conv", []*graphs.Value{in, taps}, graphs.IntsAttr("kernel_shape", size, size))
			maps = append(maps, b.Op("Abs", []*graphs.Value{r}))
		}
		return maps
	}
}

// wrap continues an axis of x by n places at both ends with what lies at the other end.
func wrap(b *graphs.Builder, x *graphs.Value, axis, n int64) *graphs.Value {
	end := int64(x.Shape[axis].N)
	head := b.Slice(x, []int64{0}, []int64{n}, []int64{axis}, []int64{1})
	tail := b.Slice(x, []int64{end - n}, []int64{end}, []int64{axis}, []int64{1})
	return b.Concat(axis, tail, x, head)
}

// Atoms are the absolute inner products |⟨x, B_j⟩| with m fixed examples, taps [m, …]: one feature each.
func Atoms(taps []float32) Features {
	return func(b *graphs.Builder, x *graphs.Value) []*graphs.Value {
		size := graphs.Size(x.Shape[1:].Ints())
		if len(taps) == 0 || len(taps)%size != 0 {
			return []*graphs.Value{b.Fail("energy: atoms: wanted some of %d numbers, got %d", size, len(taps))}
		}
		m := len(taps) / size
		across := make([]float32, len(taps)) // [size, m]
		for j := range m {
			for i := range size {
				across[i*m+j] = taps[j*size+i]
			}
		}
		flat := b.Op("Flatten", []*graphs.Value{x}, graphs.I("axis", 1))
		return []*graphs.Value{b.Op("Abs", []*graphs.Value{b.MatMul(flat, b.Const(graphs.Of(across, size, m)))})}
	}
}
