package ort

import (
	"context"
	"fmt"
	"strings"

	"ebmrun/graphs"
	"ebmrun/runtime"
	"ebmrun/runtime/ortlib"
)

// Diagnose looks at the machine as [ortlib.Diagnose] does, loads the library if it
// can, and tries each execution provider on a small gradient, against the CPU
// provider, whatever earlier runs remembered.
func Diagnose(ctx context.Context, library string) ortlib.Diagnosis {
	d := ortlib.Diagnose(ctx, library)
	if d.Library == nil || !d.Cgo {
		return d
	}
	e, err := Open(library)
	if err != nil {
		d.Advice = append(d.Advice, err.Error())
		return d
	}
	_, d.Version = Loaded()
	for _, name := range []string{runtime.CPU, runtime.OpenVINO, runtime.CUDA, runtime.TensorRT, runtime.CoreML} {
		t := try(ctx, e, name)
		if lacks := d.Library.Lacks(ctx, name); !t.Works && len(lacks) > 0 {
			t.Reason = strings.Join(lacks, "; ")
		}
		d.Trials = append(d.Trials, t)
	}
	if !d.Trials[0].Works {
		d.Advice = append(d.Advice, fmt.Sprintf("ONNX Runtime %s does not run a small graph (%s): run `ebmrun setup`, or name another library with --ort-library",
			d.Version, d.Trials[0].Reason))
	}
	return d
}

func try(ctx context.Context, e runtime.Engine, provider string) ortlib.Trial {
	t := ortlib.Trial{Provider: provider}
	fail := func(err error) ortlib.Trial {
		t.Reason = strings.TrimPrefix(err.Error(), "provider "+provider+": ")
		return t
	}
	m, err := ortlib.SampleModel()
	if err != nil {
		return fail(err)
	}
	p, err := e.Compile(ctx, m, runtime.Options{Provider: provider, Recheck: true})
	if err != nil {
		return fail(err)
	}
	defer p.Close()
	x := graphs.NewTensor(graphs.Float32, 2, 3, 8, 8)
	for i := range x.F32() {
		x.F32()[i] = float32(i%17)/17 - 0.5
	}
	err = p.Run(ctx, []*graphs.Tensor{x}, make([]*graphs.Tensor, len(p.Outputs())))
	if c := runtime.Describe(p).Candidates; len(c) > 0 {
		t.Verdict = &c[0]
	}
	if err != nil {
		return fail(err)
	}
	t.Works = true
	return t
}
