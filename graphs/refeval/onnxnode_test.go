package refeval_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/graphs/onnxpb"
	"ebmrun/graphs/passes"
	"ebmrun/graphs/refeval"

	"google.golang.org/protobuf/proto"
)

// TestNodeCases runs ONNX's own node tests: EBM_ONNX_NODE_TESTS is a folder that
// holds a folder for each, as `backend-test-tools generate-data` of the onnx
// package writes them. Cases with ops outside the op table, of other opsets or
// with element types outside this module are counted and left out.
func TestNodeCases(t *testing.T) {
	dir := os.Getenv("EBM_ONNX_NODE_TESTS")
	if dir == "" {
		t.Skip("EBM_ONNX_NODE_TESTS is not set")
	}
	models, err := filepath.Glob(filepath.Join(dir, "test_*", "model.onnx"))
	if err != nil || len(models) == 0 {
		t.Fatalf("no test_*/model.onnx in %s (%v)", dir, err)
	}
	left := map[string]int{}
	passed, failed := 0, 0
	for _, path := range models {
		name := filepath.Base(filepath.Dir(path))
		err := nodeCase(path)
		var out *leftOut
		switch {
		case err == nil:
			passed++
		case errors.As(err, &out):
			left[out.why]++
		default:
			failed++
			t.Errorf("%s: %v", name, err)
		}
	}
	var why []string
	for w, n := range left {
		why = append(why, fmt.Sprintf("%d %s", n, w))
	}
	sort.Strings(why)
	t.Logf("%d passed, %d failed, left out: %s", passed, failed, strings.Join(why, "; "))
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

func nodeCase(path string) error {
	m, err := onnxio.Read(path)
	if err != nil {
		return err
	}
	// Opsets beyond the range mostly add types to ops whose meaning stays.
	native := m.Opset("")
	m.Opsets = []graphs.Opset{{Version: min(max(native, onnxio.MinOpset), onnxio.MaxOpset)}}
	if err := knownOps(m.Graph); err != nil {
		return err
	}
	for _, n := range m.Graph.Nodes {
		if n.Op == "Scan" && native < 9 || n.Op == "SpaceToDepth" && native >= 27 && n.Attr("mode") != nil {
			return &leftOut{"in a form of other opsets"}
		}
		mode := n.In(2)
		if n.Op == "Dropout" && mode != nil {
			return &leftOut{"with random results"}
		}
		if n.Op == "Einsum" && strings.Contains(n.Str("equation", ""), "...") {
			return &leftOut{"with an Einsum ellipsis"}
		}
	}
	if err := passes.Raise(m); err != nil {
		if native > onnxio.MaxOpset {
			return &leftOut{"in a form of other opsets"}
		}
		return err
	}
	p, err := refeval.New(m.Graph, m.Opset(""), refeval.Options{Round: true})
	if err != nil {
		return err
	}
	dir := filepath.Join(filepath.Dir(path), "test_data_set_0")
	in := make([]*graphs.Tensor, len(p.Inputs()))
	for i := range in {
		if in[i], err = tensorFile(filepath.Join(dir, fmt.Sprintf("input_%d.pb", i))); err != nil {
			return err
		}
	}
	got, err := p.Run(context.Background(), in)
	if err != nil {
		return err
	}
	for i, g := range got {
		want, err := tensorFile(filepath.Join(dir, fmt.Sprintf("output_%d.pb", i)))
		if err != nil {
			return err
		}
		if err := near(g, want); err != nil {
			return fmt.Errorf("output %d: %w", i, err)
		}
	}
	return nil
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
