package orttraining

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/graphtest"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
)

// theirGaps are the ops above that ONNX Runtime 1.19.2 refuses to differentiate
// on the CPU; ours differentiates all of them.
var theirGaps = strings.Fields(`Atan BatchNormalization Celu CumSum DepthToSpace Einsum Elu GroupNormalization HardSigmoid HardSwish
	InstanceNormalization LRN LayerNormalization Mish PRelu Pad/reflect ReduceL1 ReduceMax ReduceProd ReduceSumSquare Resize/linear Selu
	Sinh Softplus Softsign SpaceToDepth ThresholdedRelu`)

// TestOps compares both sources op by op, and holds the list of what theirs lacks.
func TestOps(t *testing.T) {
	e := open(t)
	r := rand.New(rand.NewPCG(7, 8))
	all := graphtest.Ops(r)
	var names, gaps []string
	for name := range all {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		m, err := all[name].Loss()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wrt := append([]string{"x"}, weightsOf(m.Graph)...)
		if _, err := e.Gradient(t.Context(), m, "loss", wrt...); err != nil {
			gaps = append(gaps, strings.ReplaceAll(name, ", ", "/"))
			continue
		}
		t.Run(name, func(t *testing.T) {
			compare(t, e, parity{name, m, wrt, []*graphs.Tensor{noise(r, 2, 3, 4, 6), noise(r, 2, 3, 4, 6)}})
		})
	}
	if !slices.Equal(gaps, theirGaps) {
		t.Errorf("theirs refused\n%s\nwanted\n%s", strings.Join(gaps, " "), strings.Join(theirGaps, " "))
	}
	t.Logf("%d cases, %d refused", len(names), len(gaps))
}

// TestZoo compares both sources on every energy and generator with a name, in the
// input and in all weights.
func TestZoo(t *testing.T) {
	if testing.Short() {
		t.Skip("every network of the tables")
	}
	e := open(t)
	sizes := [][]int{{2}, {1, 4, 4}, {1, 7, 7}, {1, 16, 16}, {1, 28, 28}, {3, 32, 32}, {3, 64, 64}, {3, 110, 110}, {3, 224, 224}, {16, 3}, {1, 16, 16, 16}, {1, 32, 32, 32}, {1, 24, 32, 32}}
	var table []string
	var r *rand.Rand // begun anew for each network, so that their order does not matter
	zoo := func(kind, name string, build func(dims []int) (parity, error)) {
		r = rand.New(rand.NewPCG(9, 10))
		for _, dims := range sizes {
			c, err := build(dims)
			if err != nil {
				continue // not its size
			}
			t.Run(kind+"/"+name, func(t *testing.T) {
				_, err := e.Gradient(t.Context(), c.m, "loss", c.wrt...)
				if errors.Is(err, ErrNoGradient) {
					table = append(table, fmt.Sprintf("%s %s: %v", kind, name, err))
					return
				}
				compare(t, e, c)
			})
			return
		}
		t.Errorf("%s %s takes none of the sizes", kind, name)
	}
	for name := range energy.Nets {
		zoo("energy", name, func(dims []int) (parity, error) {
			spec, err := energy.ByName(name)
			if err != nil {
				return parity{}, err
			}
			m, err := energy.Build(spec, dims, 1, 7)
			if err != nil {
				return parity{}, err
			}
			names := append([]string{onnxmodels.X}, weightsOf(m.Graph)...)
			loss(t, m.Model, onnxmodels.Energy)
			return parity{name, m.Model, names, []*graphs.Tensor{noise(r, append([]int{1}, dims...)...)}}, nil
		})
	}
	for name := range generator.Nets {
		zoo("generator", name, func(dims []int) (parity, error) {
			spec, err := generator.ByName(name)
			if err != nil {
				return parity{}, err
			}
			m, err := generator.Build(spec, dims, 7)
			if err != nil {
				return parity{}, err
			}
			names := append([]string{generator.Z}, weightsOf(m.Graph)...)
			loss(t, m.Model, generator.X)
			return parity{name, m.Model, names, []*graphs.Tensor{noise(r, 1, m.Codes)}}, nil
		})
	}
	sort.Strings(table)
	t.Logf("refused by theirs:\n%s", strings.Join(table, "\n"))
}
