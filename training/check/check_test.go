package check_test

import (
	"errors"
	"math"
	"testing"

	"ebmrun/training/check"
)

func TestRules(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		got  error
		want string // "" is sound
	}{
		{check.AtLeast("steps", 1, 1), ""},
		{check.AtLeast("steps", 0, 1), "steps: wanted at least 1, got 0"},
		{check.AtLeast("warm", -1, 0), "warm: wanted 0 or more, got -1"},
		{check.AtLeast("l2", 0.0, 0), ""},
		{check.AtLeast("l2", -0.5, 0), "l2: wanted 0 or more, got -0.5"},
		{check.AtLeast("l2", nan, 0), "l2: wanted 0 or more, got NaN"},
		{check.Positive("sigma", 1e-9), ""},
		{check.Positive("sigma", 0), "sigma: wanted a positive number, got 0"},
		{check.Positive("sigma", nan), "sigma: wanted a positive number, got NaN"},
		{check.Within("bins", 64, 2, 64), ""},
		{check.Within("bins", 65, 2, 64), "bins: wanted 2 to 64, got 65"},
		{check.Within("share", 1.5, 0, 1), "share: wanted 0 to 1, got 1.5"},
		{check.Within("share", nan, 0, 1), "share: wanted 0 to 1, got NaN"},
		{check.OneOf("mode", "", "", "a"), ""},
		{check.OneOf("mode", "", "a", "b"), `mode: wanted a or b, got ""`},
		{check.OneOf("mode", "c", "", "a", "b", "d"), `mode: wanted a, b or d, got "c"`},
		{check.OneOf("mode", "c", "", "a"), `mode: wanted a, got "c"`},
		{check.In("prior", nil), ""},
		{check.In("prior", errors.New("steps: none")), "prior: steps: none"},
		{check.EachAtLeast("hidden", nil, 1), ""},
		{check.EachAtLeast("hidden", []int{1, 3}, 1), ""},
		{check.EachAtLeast("hidden", []int{3, 0}, 1), "hidden: wanted at least 1 each, got [3 0]"},
		{check.When(false, errors.New("x")), ""},
		{check.When(true, errors.New("x")), "x"},
		{check.If(false, "never"), ""},
		{check.If(true, "cool: %d", 3), "cool: 3"},
		{check.First(nil, nil), ""},
		{check.First(nil, errors.New("a"), errors.New("b")), "a"},
	} {
		if c.got == nil != (c.want == "") || c.got != nil && c.got.Error() != c.want {
			t.Errorf("got %v, want %q", c.got, c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"mnist", "fashion-mnist", "synthetic/rings", "synthetic/ring8", "flow", "coopflow"}
	for name, want := range map[string]string{
		"mnst": "mnist", "mnsit": "mnist", "MNIST": "mnist", "fashion_mnist": "fashion-mnist", "fashionmnist": "fashion-mnist",
		"synthetic/ring": "synthetic/rings", "coop-flow": "coopflow", "flo": "flow", "cifar10": "", "": "", "x": "",
	} {
		if got := check.Nearest(name, names); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
	for want, name := range map[string]string{`did you mean "flow"?`: "flwo", "there are mnist, fashion-mnist, synthetic/rings, synthetic/ring8, flow, coopflow": "abp"} {
		if got := check.Instead(name, names); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
	if got := check.Instead("abp", names[:1]); got != "there is mnist" {
		t.Errorf("one name: got %q", got)
	}
}
