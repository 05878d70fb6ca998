package conformance

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/onnxio"
	"ebmrun/graphs/onnxpb"
	"ebmrun/graphs/passes"
	"ebmrun/graphs/refeval"

	"google.golang.org/protobuf/proto"
)

// TestNodeCases runs ONNX's own node tests: EBM_ONNX_NODE_TESTS is a folder that
// holds a folder for each, as node_tests.py writes them. Cases with ops outside
// the op table, of other opsets or with element types outside this module are
// counted and left out. Of those that pass, each float output is differentiated
// on the same inputs and compared with finite differences.
func TestNodeCases(t *testing.T) {
	dir := os.Getenv("EBM_ONNX_NODE_TESTS")
	if dir == "" {
		t.Skip("EBM_ONNX_NODE_TESTS is not set")
	}
	models, err := filepath.Glob(filepath.Join(dir, "test_*", "model.onnx"))
	if err != nil || len(models) == 0 {
		t.Fatalf("no test_*/model.onnx in %s (%v)", dir, err)
	}
	left, slopes := map[string]int{}, map[string]int{}
	passed, failed, ops := 0, 0, map[string]bool{}
	for _, path := range models {
		name := filepath.Base(filepath.Dir(path))
		m, in, err := nodeCase(path)
		var out *leftOut
		switch {
		case err == nil:
			passed++
		case errors.As(err, &out):
			left[out.why]++
			continue
		case refusedCases[name] != "":
			left["refused: "+refusedCases[name]]++
			continue
		default:
			failed++
			t.Errorf("%s: %v", name, err)
			continue
		}
		verdict, err := nodeSlopes(t.Context(), m, in)
		slopes[verdict]++
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if verdict == "right" {
			for _, n := range m.Graph.Nodes {
				ops[n.Op] = true
			}
		}
	}
	count := func(m map[string]int) string {
		var why []string
		for w, n := range m {
			why = append(why, fmt.Sprintf("%d %s", n, w))
		}
		sort.Strings(why)
		return strings.Join(why, "; ")
	}
	t.Logf("forward: %d passed, %d failed, left out: %s", passed, failed, count(left))
	t.Logf("slopes: %s; %d ops", count(slopes), len(ops))
}

// nodeSlopes compares the slopes of a case's float outputs with a central
// difference along a random direction, in float64.
func nodeSlopes(ctx context.Context, m *graphs.Model, in []*graphs.Tensor) (string, error) {
	var of []string
	for _, v := range m.Graph.Outputs {
		if v.Type.IsFloat() {
			of = append(of, v.Name)
		}
	}
	var wrt []string
	for _, v := range m.Graph.Inputs {
		if v.Type.IsFloat() {
			wrt = append(wrt, v.Name)
		}
	}
	if len(of) == 0 || len(wrt) == 0 {
		return "without floats", nil
	}
	// integers are settings: axes, shapes, indices
	m, in = passes.Clone(m), slices.Clone(in)
	var fed []*graphs.Value
	var kept []*graphs.Tensor
	settings := map[*graphs.Value]bool{} // scales, and the region of a crop
	for _, n := range m.Graph.Nodes {
		if n.Op == "Resize" {
			settings[n.In(1)], settings[n.In(2)] = true, true
		}
	}
	for i, v := range slices.Clone(m.Graph.Inputs) {
		if v.Const == nil && (!v.Type.IsFloat() || settings[v]) {
			v.Const, v.Shape = in[i], graphs.MakeShape(in[i].Dims...)
			m.Graph.Inits = append(m.Graph.Inits, v)
			continue
		}
		fed, kept = append(fed, v), append(kept, in[i])
	}
	m.Graph.Inputs, in, wrt = fed, kept, wrt[:0]
	for _, v := range fed {
		wrt = append(wrt, v.Name)
	}
	if len(wrt) == 0 {
		return "without floats", nil
	}
	for _, name := range of {
		g, err := autodiff.Grad(m, autodiff.Options{Of: name, Wrt: wrt, Params: true})
		if err != nil {
			return "refused: " + refusal(err), nil
		}
		p, err := refeval.New(g.Graph, graphs.OpsetVersion, refeval.Options{})
		if err != nil {
			return "failed", err
		}
		out, err := p.Run(ctx, in)
		if err != nil {
			return "failed", fmt.Errorf("slopes of %s: %w", name, err)
		}
		r := rand.New(rand.NewPCG(1, 1))
		moved, along := [][]*graphs.Tensor{slices.Clone(in), slices.Clone(in), in}, 0.0
		const h = 1e-5
		size := 0.0
		for i, v := range p.Inputs() {
			x, err := in[i].AsFloats()
			if err != nil || !v.Type.IsFloat() {
				continue
			}
			d := make([]float64, len(x))
			up, down := slices.Clone(x), slices.Clone(x)
			for k := range d {
				d[k] = r.NormFloat64()
				up[k], down[k] = x[k]+h*d[k], x[k]-h*d[k]
			}
			moved[0][i], moved[1][i] = graphs.Of(up, in[i].Dims...), graphs.Of(down, in[i].Dims...)
			for j, o := range p.Outputs() {
				if o.Name == autodiff.GradPrefix+v.Name {
					s, err := out[j].AsFloats()
					if err != nil || len(s) != len(d) {
						return "failed", fmt.Errorf("slope %s: %v of %v (%v)", o.Name, out[j].Dims, in[i].Dims, err)
					}
					for k := range d {
						along += s[k] * d[k]
						size += math.Abs(s[k] * d[k])
					}
				}
			}
		}
		var y [3]float64
		for i := range y {
			got, err := p.Run(ctx, moved[i])
			if err != nil {
				return "not defined around the inputs", nil
			}
			for j, o := range p.Outputs() {
				if o.Name == name {
					for _, v := range must(got[j].AsFloats()) {
						y[i] += v
					}
				}
			}
		}
		want, right, left := (y[0]-y[1])/(2*h), (y[0]-y[2])/h, (y[2]-y[1])/h
		tol := 1e-4*max(size, math.Abs(want)) + 1e-4
		switch {
		case math.IsNaN(along) && notFinite(ctx, g, in):
			return "not a number, as some value on the way is", nil
		case math.IsNaN(want) || math.IsInf(want, 0) || math.Abs(want) > 1e3*(1+size):
			return "at a pole", nil
		case math.Abs(along-want) <= tol:
		case math.Abs(right-left) > tol/4:
			return "at a kink", nil
		default:
			return "wrong", fmt.Errorf("slope of %s along a direction: %g, by difference %g", name, along, want)
		}
	}
	return "right", nil
}

// notFinite reports whether the forward part of a gradient graph passes through
// infinities or what is not a number, as where a mask is −∞.
func notFinite(ctx context.Context, g *graphs.Model, in []*graphs.Tensor) bool {
	g = passes.Clone(g)
	for _, n := range g.Graph.Nodes {
		for _, v := range n.Outputs {
			if v != nil && v.Type.IsFloat() && !strings.HasPrefix(n.Name, "bwd/") && !slices.Contains(g.Graph.Outputs, v) {
				g.Graph.Outputs = append(g.Graph.Outputs, v)
			}
		}
	}
	p, err := refeval.New(g.Graph, graphs.OpsetVersion, refeval.Options{})
	if err != nil {
		return false
	}
	out, err := p.Run(ctx, in)
	if err != nil {
		return false
	}
	for i, t := range out {
		if strings.HasPrefix(p.Outputs()[i].Name, autodiff.GradPrefix) || !t.Type.IsFloat() {
			continue
		}
		for _, x := range must(t.AsFloats()) {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return true
			}
		}
	}
	return false
}

func must(v []float64, err error) []float64 {
	if err != nil {
		return []float64{math.NaN()}
	}
	return v
}

// refusal is the last part of an error, which says why.
func refusal(err error) string {
	s := err.Error()
	return strings.TrimSpace(s[strings.LastIndex(s, ": ")+1:])
}

// refusedCases are cases that the interpreter refuses by name, with the reason:
// runtimes differ on what they mean, or the form is not supported.
var refusedCases = map[string]string{
	"test_attention_3d_with_past_and_present_qk_matmul_softcap": "softcap and mask of Attention: versions of the op differ in their order",
	"test_attention_4d_softcap_neginf_mask":                     "softcap and mask of Attention: versions of the op differ in their order",
	"test_attention_4d_softcap_neginf_mask_poison":              "softcap and mask of Attention: versions of the op differ in their order",
	"test_attention_4d_with_qk_matmul_softcap":                  "softcap and mask of Attention: versions of the op differ in their order",
	"test_dequantizelinear_blocked":                             "blocked quantization",
	"test_quantizelinear_blocked_asymmetric":                    "blocked quantization",
	"test_quantizelinear_blocked_symmetric":                     "blocked quantization",
	"test_dft_irfft":                                            "inverse DFT of one side, new in opset 26",
	"test_dft_irfft_opset19":                                    "inverse DFT of one side, new in opset 26",
	"test_maxunpool_export_with_output_shape":                   "runtimes differ on the indices of a MaxUnpool with output_shape",
	"test_resize_downsample_scales_cubic_align_corners":         "runtimes differ on align_corners with scales",
	"test_resize_downsample_scales_linear_align_corners":        "runtimes differ on align_corners with scales",
}

// A leftOut case asks for what this module does not do.
type leftOut struct{ why string }

func (e *leftOut) Error() string { return "left out: " + e.why }

func supported(t graphs.DType) bool {
	return t <= graphs.Uint64 && t != graphs.String || t == graphs.BFloat16
}

func knownOps(g *graphs.Graph) error {
	for _, v := range append(append([]*graphs.Value{}, g.Inputs...), g.Outputs...) {
		if v.Opaque != nil || !supported(v.Type) && v.Type != graphs.Undefined {
			return &leftOut{"of other types"}
		}
	}
	for _, n := range g.Nodes {
		control := n.Op == "If" || n.Op == "Loop" || n.Op == "Scan"
		if !graphs.Known(n) && !control {
			return &leftOut{"with other ops"}
		}
		for _, o := range n.Outputs {
			if o != nil && (o.Type > graphs.BFloat16 || o.Type == 14 || o.Type == 15) {
				return &leftOut{"of other types"}
			}
		}
		if n.Op == "Cast" && !supported(graphs.DType(n.Int("to", 0))) {
			return &leftOut{"of other types"}
		}
		for _, a := range n.Attrs {
			if a.G != nil {
				if err := knownOps(a.G); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func nodeCase(path string) (*graphs.Model, []*graphs.Tensor, error) {
	m, err := onnxio.Read(path)
	if err != nil {
		return nil, nil, err
	}
	// Opsets beyond the range mostly add types to ops whose meaning stays.
	native := m.Opset("")
	m.Opsets = []graphs.Opset{{Version: min(max(native, onnxio.MinOpset), onnxio.MaxOpset)}}
	if err := knownOps(m.Graph); err != nil {
		return nil, nil, err
	}
	for _, n := range m.Graph.Nodes {
		if n.Op == "Scan" && native < 9 || n.Op == "SpaceToDepth" && native >= 27 && n.Attr("mode") != nil {
			return nil, nil, &leftOut{"in a form of other opsets"}
		}
		mode := n.In(2)
		if n.Op == "Dropout" && mode != nil {
			return nil, nil, &leftOut{"with random results"}
		}
		if n.Op == "Einsum" && strings.Contains(n.Str("equation", ""), "...") {
			return nil, nil, &leftOut{"with an Einsum ellipsis"}
		}
	}
	if native > graphs.OpsetVersion { // ops that are new since 22 are rewritten
		ready, err := autodiff.Prepare(m)
		switch {
		case err == nil:
			m = ready
		case errors.Is(err, autodiff.ErrNoRule):
			return nil, nil, &leftOut{"refused: windows and padded caches of Attention"}
		}
	}
	if err := passes.Raise(m); err != nil {
		if native > onnxio.MaxOpset {
			return nil, nil, &leftOut{"in a form of other opsets"}
		}
		return nil, nil, err
	}
	p, err := refeval.New(m.Graph, m.Opset(""), refeval.Options{Round: true})
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(filepath.Dir(path), "test_data_set_0")
	in := make([]*graphs.Tensor, len(p.Inputs()))
	for i := range in {
		if in[i], err = tensorFile(filepath.Join(dir, fmt.Sprintf("input_%d.pb", i))); err != nil {
			return nil, nil, err
		}
	}
	got, err := p.Run(context.Background(), in)
	if err != nil {
		return nil, nil, err
	}
	for i, g := range got {
		want, err := tensorFile(filepath.Join(dir, fmt.Sprintf("output_%d.pb", i)))
		if err != nil {
			return nil, nil, err
		}
		if err := near(g, want); err != nil {
			return nil, nil, fmt.Errorf("output %d: %w", i, err)
		}
	}
	return m, in, nil
}

// tensorFile reads a TensorProto by way of a model that holds it.
func tensorFile(path string) (*graphs.Tensor, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t := &onnxpb.TensorProto{}
	if err := proto.Unmarshal(raw, t); err != nil {
		return nil, err
	}
	t.Name = proto.String("t")
	b, err := proto.Marshal(&onnxpb.ModelProto{
		IrVersion:   proto.Int64(10),
		OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(21)}},
		Graph:       &onnxpb.GraphProto{Name: proto.String("g"), Initializer: []*onnxpb.TensorProto{t}},
	})
	if err != nil {
		return nil, err
	}
	m, err := onnxio.Decode(b)
	if err != nil {
		return nil, err
	}
	return m.Graph.Inits[0].Const, nil
}

func near(got, want *graphs.Tensor) error {
	if got.Type != want.Type || fmt.Sprint(got.Dims) != fmt.Sprint(want.Dims) {
		return fmt.Errorf("got %v%v, wanted %v%v", got.Type, got.Dims, want.Type, want.Dims)
	}
	a, err := got.AsFloats()
	if err != nil {
		return err
	}
	b, err := want.AsFloats()
	if err != nil {
		return err
	}
	tol := map[graphs.DType]float64{graphs.Float32: 1e-3, graphs.Float64: 1e-6, graphs.Float16: 2e-3, graphs.BFloat16: 2e-2}[got.Type]
	for i := range a {
		if a[i] == b[i] || a[i] != a[i] && b[i] != b[i] {
			continue
		}
		if d := math.Abs(a[i] - b[i]); !(d <= tol*(0.01+math.Abs(b[i]))) {
			return fmt.Errorf("element %d: got %v, wanted %v", i, a[i], b[i])
		}
	}
	return nil
}
