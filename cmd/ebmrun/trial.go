package main

import (
	"context"
	"fmt"
	"math"

	"ebmrun/graphs"
	"ebmrun/runtime"
	"ebmrun/runtime/ortlib"
	"ebmrun/runtime/ref"
)

// trialCalls is how often a trial graph runs, so that the mean time of a call
// means something.
const trialCalls = 20

// try runs a small gradient graph with the given options and compares its
// numbers with those of the pure-Go interpreter.
func try(ctx context.Context, e runtime.Engine, o runtime.Options) (runtime.Report, error) {
	m, err := ortlib.SampleModel()
	if err != nil {
		return runtime.Report{}, err
	}
	in := []*graphs.Tensor{graphs.NewTensor(graphs.Float32, 2, 3, 8, 8)}
	x := in[0].F32()
	for i := range x {
		x[i] = float32(math.Sin(float64(i)))
	}
	want, _, err := evaluate(ctx, ref.New(), m, runtime.Options{}, in, 1)
	if err != nil {
		return runtime.Report{}, fmt.Errorf("interpreter: %w", err)
	}
	got, report, err := evaluate(ctx, e, m, o, in, trialCalls)
	if err != nil {
		return report, err
	}
	for i, w := range want {
		if d := distance(got[i].F32(), w.F32()); !(d < 1e-3) {
			return report, fmt.Errorf("output %s differs from the interpreter's: relative distance %.2g, wanted below 1e-3", m.Graph.Outputs[i].Name, d)
		}
	}
	return report, nil
}

// evaluate compiles m, runs it, and returns what the last call gave.
func evaluate(ctx context.Context, e runtime.Engine, m *graphs.Model, o runtime.Options, in []*graphs.Tensor, calls int) ([]*graphs.Tensor, runtime.Report, error) {
	p, err := e.Compile(ctx, m, o)
	if err != nil {
		return nil, runtime.Report{}, err
	}
	defer p.Close()
	out := make([]*graphs.Tensor, len(p.Outputs()))
	for range calls {
		if err := p.Run(ctx, in, out); err != nil {
			return nil, runtime.Describe(p), err
		}
	}
	return out, runtime.Describe(p), nil
}

// distance is the L2 norm of a − b relative to that of b.
func distance(a, b []float32) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	var diff, norm float64
	for i := range b {
		d := float64(a[i]) - float64(b[i])
		diff += d * d
		norm += float64(b[i]) * float64(b[i])
	}
	return math.Sqrt(diff / max(norm, 1e-30))
}
