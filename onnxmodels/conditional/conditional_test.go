package conditional_test

import (
	"strings"
	"testing"

	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels/conditional"
	"ebmrun/onnxmodels/energy"
)

// nets says what each named generator must come to. Counts of weights are worked out
// by hand: inputs·outputs·kernel² + outputs, summed over layers; with a normalisation
// 2·outputs in place of outputs.
var nets = map[string]struct {
	dims, given []int
	weights     int
}{
	"unet-16":   {[]int{1, 28, 28}, []int{1, 28, 28}, 160 + 8224 + 32832 + 41536 + 32800 + 18464 + 8208 + 4624 + 145},
	"unet-32":   {[]int{1, 32, 32}, []int{3, 32, 32}, 448 + 8224 + 32832 + 41536 + 32800 + 18464 + 8208 + 4624 + 145},
	"unet-64":   {[]int{1, 64, 64}, []int{3, 64, 64}, 448 + 8224 + 32832 + 65600 + 41536 + 65600 + 73792 + 32800 + 18464 + 8208 + 4624 + 145},
	"resnet-16": {[]int{1, 16, 16}, []int{1, 16, 16}, 144 + 32 + 8192 + 64 + 2*(9216+64+9248) + 8208 + 32 + 145},
	"resnet-64": {[]int{3, 64, 64}, []int{3, 64, 64}, 432 + 32 + 8192 + 64 + 32768 + 128 + 3*(36864+128+36928) + 32800 + 64 + 8208 + 32 + 435},
	"resnet-9":  {[]int{3, 64, 64}, []int{3, 64, 64}, 1728 + 128 + 131072 + 256 + 524288 + 512 + 9*(589824+512+590080) + 524416 + 256 + 131136 + 128 + 1731},
	"next-16":   {[]int{1, 16, 16}, []int{2, 16, 16}, 304 + 8224 + 8208 + 4624 + 145},
}

func TestNets(t *testing.T) {
	for name, e := range conditional.Nets {
		want, ok := nets[name]
		if !ok {
			t.Errorf("%s is not in the table of this test", name)
			continue
		}
		m, err := conditional.Build(e.Spec, want.dims, want.given, 1)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		n := 0
		for _, w := range passes.Weights(m.Graph) {
			n += w.Const.Len()
		}
		if n != want.weights {
			t.Errorf("%s: wanted %d weights, got %d", name, want.weights, n)
		}
	}
}

// TestRefused: what does not fit is refused in words.
func TestRefused(t *testing.T) {
	unet, err := conditional.ByName("unet-16")
	if err != nil {
		t.Fatal(err)
	}
	coop, err := energy.ByName("coop-16")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conditional.ByName("unet-17"); err == nil || !strings.Contains(err.Error(), "unet-16") {
		t.Errorf("unknown network: %v", err)
	}
	for want, dims := range map[string][2][]int{
		"of that size":     {{1, 16, 16}, {1, 8, 8}},
		"wanted pictures":  {{16}, {1, 8, 8}},
		"cannot be halved": {{1, 18, 18}, {1, 18, 18}},
	} {
		if _, err := conditional.Build(unet, dims[0], dims[1], 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v given %v: wanted %q, got %v", dims[0], dims[1], want, err)
		}
	}
	if _, err := conditional.BuildEnergy(coop, []int{1, 16, 16}, []int{1, 8, 8}, 0, 1); err == nil {
		t.Error("an energy of pictures of two sizes was built")
	}
}
