// Package bindtest puts networks on an engine for the time of a test.
package bindtest

import (
	"testing"

	"ebmrun/onnxmodels"
	"ebmrun/runtime"
	"ebmrun/training/bind"
)

// On takes what a builder of energies returns, as in On(t, engine, options)(energy.Build(…)), and binds it on one
// thread until the test ends.
func On(t testing.TB, e runtime.Engine, o bind.Options) func(*onnxmodels.Model, error) *bind.Energy {
	o.Runtime.Threads, o.Runtime.NoSpin = 1, true
	return func(m *onnxmodels.Model, err error) *bind.Energy {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		net, err := bind.New(t.Context(), m, e, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { net.Close() })
		return net
	}
}
