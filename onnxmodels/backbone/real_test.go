package backbone_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/graphtest"
	"ebmrun/graphs/onnxio"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/backbone"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ref"
	"ebmrun/training/data"
)

// obtained gives the file of a named network, and skips the test unless
// EBMRUN_TEST_DATA=1 says that it may be downloaded.
func obtained(t *testing.T, name string) string {
	t.Helper()
	if os.Getenv("EBMRUN_TEST_DATA") == "" {
		t.Skip("EBMRUN_TEST_DATA is not set")
	}
	path, err := data.Obtain(context.Background(), name, func(l string) { t.Log(l) })
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// load opens a real network.
func load(t *testing.T, s backbone.Spec) *backbone.Net {
	t.Helper()
	path := obtained(t, s.Net)
	n, err := backbone.Load(s, func(string) (string, error) { return path, nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestVGG16: the file holds the weights of Oxford, and energies at three layers
// have the slopes of differences.
func TestVGG16(t *testing.T) {
	file, err := onnxio.Read(obtained(t, "vgg16"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range file.Graph.Nodes {
		if n.Op == "Conv" {
			bias := n.In(2).Const.F32()
			for i, want := range []float64{0.73429835, 0.093403675, 0.06775674, 0.8862966} { // conv1_1, as published
				if math.Abs(float64(bias[i])-want) > 1e-7 {
					t.Errorf("bias %d of conv1_1: wanted %g, got %g", i, want, bias[i])
				}
			}
			break
		}
	}
	for _, cut := range []string{"conv1_2", "conv3_3", "conv4_3"} {
		n := load(t, backbone.Spec{Net: "vgg16", Cut: []string{cut}})
		checkGrad(t, linear(t, n, true, 3, 16, 16), 1, graphtest.GradOptions{Step: 1e-8, Seeds: 1})
	}
}

// TestReference: features of the networks on their real weights, and the slopes of
// an energy on them, are PyTorch's: see testdata/reference.py.
func TestReference(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "reference.json"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		Net, Cut string
		Side     int
		F, Grad  []float64
		Norm     float64
		At       []int
	}
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	engines := map[string]runtime.Engine{"ref": ref.New()}
	if e, err := ort.Open(""); err == nil {
		engines["ort"] = e
	} else {
		enginetest.Unavailable(t, err)
	}
	for _, row := range rows {
		t.Run(fmt.Sprintf("%s/%s/%d", row.Net, row.Cut, row.Side), func(t *testing.T) {
			m := linear(t, load(t, backbone.Spec{Net: row.Net, Cut: []string{row.Cut}}), false, 3, row.Side, row.Side)
			grad, err := autodiff.Grad(m.Model, autodiff.Options{Of: onnxmodels.Score, Wrt: []string{onnxmodels.X}})
			if err != nil {
				t.Fatal(err)
			}
			x := make([]float32, 2*m.Size())
			for k := range x {
				n, c, i, j := k/m.Size(), k/row.Side/row.Side%3, k/row.Side%row.Side, k%row.Side
				x[k] = float32(0.8 * math.Sin(float64(c+1)*(0.11*float64(i)+0.07*float64(j))+float64(n)))
			}
			in := graphs.Of(x, 2, 3, row.Side, row.Side)
			for name, engine := range engines {
				f := runOn(t, engine, m.Model, in)[1].F32()
				made := runOn(t, engine, grad, in)
				g := made[len(made)-1].F32()
				norm := 0.0
				for _, v := range g {
					norm += float64(v) * float64(v)
				}
				norm = math.Sqrt(norm)
				near := func(what string, got, want, within float64) {
					if !(math.Abs(got-want) <= within) {
						t.Errorf("%s: %s: wanted %.7g, got %.7g", name, what, want, got)
					}
				}
				size := max(math.Abs(row.F[0]), 10)
				near("f of picture 0", float64(f[0]), row.F[0], 1e-4*size)
				near("f of picture 1", float64(f[1]), row.F[1], 1e-4*size)
				near("norm of the slope", norm, row.Norm, 1e-3*row.Norm)
				for k, at := range row.At {
					near(fmt.Sprint("slope ", at), float64(g[at]), row.Grad[k], 5e-3*row.Norm/math.Sqrt(float64(len(g))))
				}
			}
		})
	}
}

// TestClasses: the classifiers see a cat in a picture of a cat, and a cup in one of a cup of coffee.
func TestClasses(t *testing.T) {
	for _, net := range []string{"mobilenet-v2", "efficientnet-lite0"} {
		for picture, classes := range map[string][]int{"chelsea": {281, 282, 283, 284, 285, 287}, "coffee": {504, 925, 960, 967, 968}} {
			obtained(t, net)
			set, err := data.Load(t.Context(), picture, data.Options{Size: 224})
			if err != nil {
				t.Fatal(err)
			}
			b := graphs.NewBuilder(&graphs.Graph{Name: "classes"})
			x := b.Input("x", graphs.Float32, graphs.Shape{onnxmodels.Batch, graphs.D(3), graphs.D(224), graphs.D(224)})
			maps, err := load(t, backbone.Spec{Net: net, Cut: []string{"logits"}}).Append(b, x, backbone.Pixels{Lo: float64(set.Lo), Hi: float64(set.Hi)})
			if err != nil {
				t.Fatal(err)
			}
			b.Output("logits", maps[0])
			logits := enginetest.Outputs(t, ref.New(), graphs.NewModel(b.Target()), graphs.Of(set.X(), 1, 3, 224, 224))[0].F32()
			best := 0
			for i, v := range logits {
				if v > logits[best] {
					best = i
				}
			}
			if !slices.Contains(classes, best) {
				t.Errorf("%s: %s is of class %d, wanted one of %v", net, picture, best, classes)
			}
		}
	}
}

func runOn(t *testing.T, e runtime.Engine, m *graphs.Model, in ...*graphs.Tensor) []*graphs.Tensor {
	t.Helper()
	p := enginetest.Compile(t, e, m, runtime.Options{Provider: runtime.CPU, Threads: 1})
	out := make([]*graphs.Tensor, len(p.Outputs()))
	if err := p.Run(t.Context(), in, out); err != nil {
		t.Fatal(err)
	}
	return out
}
