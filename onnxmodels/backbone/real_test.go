package backbone_test

import (
	"context"
	"math"
	"os"
	"testing"

	"ebmrun/graphs/graphtest"
	"ebmrun/graphs/onnxio"
	"ebmrun/onnxmodels/backbone"
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
