//go:build cgo

package ort

import (
	goruntime "runtime"
	"slices"
	"testing"

	"ebmrun/graphs"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
)

// TestSignalStack checks that a thread keeps Go's signal stack: the one that
// OpenVINO puts in its place goes away with the last session.
func TestSignalStack(t *testing.T) {
	e := engineFor(t)
	if !slices.Contains(e.Providers(), runtime.OpenVINO) {
		t.Skip("the library has no OpenVINO provider")
	}
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	var before, after signalStack
	if err := sigaltstack(nil, &before); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		if err := sigaltstack(nil, &after); err != nil || after != before {
			t.Errorf("%s: wanted signal stack %+v, got %+v (%v)", when, before, after, err)
		}
	}
	p := enginetest.Compile(t, e, slope(t), runtime.Options{Provider: runtime.OpenVINO})
	check("compiled")
	if err := p.Run(t.Context(), []*graphs.Tensor{slopeInput(2)}, make([]*graphs.Tensor, 2)); err != nil {
		t.Fatal(err)
	}
	check("run")
	p.Close()
	check("closed")
}
