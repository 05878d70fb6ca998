package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"ebmrun/graphs"
	"ebmrun/runtime"
)

// fake is a backend whose providers compute y = 2x·w + bias in Go, each with its
// own fault.
type fake struct {
	providers []string
	faults    map[string]fault

	mu       sync.Mutex
	compiled []string // provider/graph
	open     map[string]int
	fed      []*graphs.Tensor // last inputs of a provider other than the CPU's
}

type fault struct {
	compile  error
	run      error
	scale    float64 // relative error of every number
	noBias   bool    // the bias is dropped
	lower    bool    // only the first element is wrong
	only     float32 // wrong only if this is the last element of x, unless 0
	slow     time.Duration
	elsewere []runtime.Placed
}

func (f *fake) Library() string     { return "fake 1.0" }
func (f *fake) Providers() []string { return f.providers }

func (f *fake) Placement(_ context.Context, _ *graphs.Model, o runtime.Options, _ []*graphs.Tensor) ([]runtime.Placed, error) {
	return append([]runtime.Placed{{Provider: o.Provider, Op: "Conv", Count: 3}}, f.faults[o.Provider].elsewere...), nil
}

func (f *fake) Compile(_ context.Context, m *graphs.Model, o runtime.Options) (runtime.Program, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.faults[o.Provider].compile; err != nil {
		return nil, err
	}
	f.compiled = append(f.compiled, o.Provider+"/"+m.Graph.Name)
	if f.open == nil {
		f.open = map[string]int{}
	}
	f.open[o.Provider]++
	sig, err := runtime.NewSignature(m.Graph)
	return &fakeProgram{f: f, sig: sig, provider: o.Provider, fault: f.faults[o.Provider]}, err
}

type fakeProgram struct {
	f        *fake
	sig      *runtime.Signature
	provider string
	fault    fault
	closed   bool
}

func (p *fakeProgram) Inputs() []*graphs.Value  { return p.sig.Inputs }
func (p *fakeProgram) Outputs() []*graphs.Value { return p.sig.Outputs }

func (p *fakeProgram) Close() error {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	if !p.closed {
		p.f.open[p.provider]--
	}
	p.closed = true
	return nil
}

func (p *fakeProgram) Run(ctx context.Context, in, out []*graphs.Tensor) error {
	if err := errors.Join(p.sig.Check(in, out), ctx.Err(), p.fault.run); err != nil {
		return err
	}
	time.Sleep(p.fault.slow)
	x, w, bias := in[0].F32(), in[1].F32(), in[2].F32()
	y := graphs.NewTensor(graphs.Float32, in[0].Dims...)
	for i := range x {
		v := 2 * float64(x[i]) * float64(w[i%len(w)])
		if !p.fault.noBias {
			v += float64(bias[0])
		}
		if (!p.fault.lower || i == 0) && (p.fault.only == 0 || x[len(x)-1] == p.fault.only) {
			v *= 1 + p.fault.scale
		}
		y.F32()[i] = float32(v)
	}
	out[0] = y
	if p.provider != runtime.CPU {
		p.f.mu.Lock()
		p.f.fed = in
		p.f.mu.Unlock()
	}
	return nil
}

func model(t *testing.T, name string) *graphs.Model {
	t.Helper()
	b := graphs.NewBuilder(&graphs.Graph{Name: name})
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(2)})
	w := b.Input("w", graphs.Float32, graphs.MakeShape(2))
	bias := b.Input("bias", graphs.Float32, graphs.MakeShape(1))
	b.Output("y", b.Add(b.Mul(b.Scale(x, 2), w), bias))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	return graphs.NewModel(g)
}

func inputs(batch int) []*graphs.Tensor {
	x := graphs.NewTensor(graphs.Float32, batch, 2)
	for i := range x.F32() {
		x.F32()[i] = float32(i + 1)
	}
	return []*graphs.Tensor{x, graphs.Of([]float32{3, 4}, 2), graphs.Of([]float32{0.5}, 1)}
}

// once compiles for a provider and runs once on a batch of 2.
func once(t *testing.T, f *fake, o runtime.Options) (runtime.Report, *graphs.Tensor, error) {
	t.Helper()
	if f.faults == nil {
		f.faults = map[string]fault{}
	}
	p, err := runtime.Check(f).Compile(t.Context(), model(t, "main"), o)
	if err != nil {
		return runtime.Report{}, nil, err
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		for provider, n := range f.open {
			if n != 0 {
				t.Errorf("%d programs of %s were left open", n, provider)
			}
		}
	}()
	out := []*graphs.Tensor{nil}
	err = p.Run(t.Context(), inputs(2), out)
	if err == nil && f.open[runtime.CPU]+f.open["a"]+f.open["b"] != 1 {
		t.Errorf("wanted one program open after the check, got %v", f.open)
	}
	return runtime.Describe(p), out[0], err
}

func cache(t *testing.T) string {
	dir := t.TempDir()
	t.Setenv("EBMRUN_CACHE", dir)
	return filepath.Join(dir, "providers.json")
}

// TestNamedProvider plants faults in a provider that is asked for by name.
func TestNamedProvider(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault fault
		want  string // in the error; "" if it is fine
		low   graphs.DType
	}{
		{name: "low precision", fault: fault{scale: 5e-3}, low: graphs.Float16},
		{name: "lower precision", fault: fault{scale: 5e-2}, low: graphs.BFloat16},
		{name: "too low", fault: fault{scale: 5e-2}, low: graphs.Float16, want: "wrong"},
		{name: "right"},
		{name: "rounding", fault: fault{scale: 5e-4}},
		{name: "wrong", fault: fault{scale: 5e-3}, want: `provider a: output "y" is wrong: relative distance 0.005`},
		{name: "one number wrong", fault: fault{scale: 0.1, lower: true}, want: `output "y" is wrong`},
		{name: "by chance", fault: fault{scale: 5e-3, only: 4}},
		{name: "missing", fault: fault{compile: errors.New("no such device")}, want: "provider a: no such device"},
		{name: "fails", fault: fault{run: errors.New("out of memory")}, want: "provider a: out of memory"},
		{name: "heavy nodes elsewhere", fault: fault{elsewere: []runtime.Placed{{Provider: runtime.CPU, Op: "FusedConv", Count: 2}}}, want: "2×FusedConv on cpu"},
		{name: "light nodes elsewhere", fault: fault{elsewere: []runtime.Placed{{Provider: runtime.CPU, Op: "Shape", Count: 2}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache(t)
			f := &fake{faults: map[string]fault{"a": c.fault}}
			for range 2 { // the second time with what is remembered
				r, y, err := once(t, f, runtime.Options{Provider: "A", Precision: c.low})
				if c.want != "" {
					if err == nil || !strings.Contains(err.Error(), c.want) {
						t.Errorf("wanted an error with %q, got %v", c.want, err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if r.Provider != "a" || r.Requested != "a" || !r.Candidates[0].OK || y == nil {
					t.Errorf("report %+v", r)
				}
				if want := len(c.fault.elsewere); len(r.Candidates[0].Elsewhere) != want {
					t.Errorf("wanted %d kinds of nodes elsewhere, got %v", want, r.Candidates[0].Elsewhere)
				}
			}
		})
	}
}

func TestAuto(t *testing.T) {
	slow := 20 * time.Millisecond
	for _, c := range []struct {
		name         string
		cpu, a, b    fault
		options      runtime.Options
		want, reason string
	}{
		{name: "fastest", cpu: fault{slow: slow}, a: fault{slow: slow / 2}, want: "b"},
		{name: "cpu is fastest", a: fault{slow: slow}, b: fault{slow: slow}, want: "cpu", reason: "a is slower: 2"},
		{name: "wrong and fast", cpu: fault{slow: slow}, a: fault{slow: slow / 2}, b: fault{scale: 1}, want: "a"},
		{name: "all wrong", cpu: fault{slow: slow}, a: fault{scale: 1}, b: fault{compile: errors.New("the graph is not acyclic")},
			want: "cpu", reason: "not acyclic"},
		{name: "heavy elsewhere", cpu: fault{slow: slow}, a: fault{elsewere: []runtime.Placed{{Provider: "cpu", Op: "MatMul", Count: 1}}},
			b: fault{run: errors.New("lost")}, want: "cpu", reason: "MatMul"},
		{name: "deterministic", cpu: fault{slow: slow}, options: runtime.Options{Deterministic: true}, want: "cpu", reason: "deterministic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache(t)
			f := &fake{providers: []string{"a", "b"}, faults: map[string]fault{"cpu": c.cpu, "a": c.a, "b": c.b}}
			var told []runtime.Report
			o := c.options
			o.Provider, o.OnReport = runtime.Auto, func(r runtime.Report) { told = append(told, r) }
			for range 2 {
				r, _, err := once(t, f, o)
				if err != nil {
					t.Fatal(err)
				}
				if r.Provider != c.want || !strings.Contains(r.Reason, c.reason) {
					t.Errorf("wanted %s because of %q, got %s because of %q", c.want, c.reason, r.Provider, r.Reason)
				}
			}
			if len(told) != 2 || told[0].Provider != c.want || told[0].Reason == "" && c.reason != "" {
				t.Errorf("reports: %+v", told)
			}
		})
	}
}

// TestTrivialWeights drops a term whose weight is zero in the caller's inputs: a
// provider that does so must not pass.
func TestTrivialWeights(t *testing.T) {
	cache(t)
	f := &fake{faults: map[string]fault{"a": {noBias: true}}}
	p, err := runtime.Check(f).Compile(t.Context(), model(t, "main"), runtime.Options{Provider: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	in := inputs(2)
	in[2].F32()[0] = 0
	if err := p.Run(t.Context(), in, []*graphs.Tensor{nil}); err == nil || !strings.Contains(err.Error(), "wrong") {
		t.Errorf("wanted an error, got %v", err)
	}
	if in[2].F32()[0] != 0 {
		t.Error("the caller's input was changed")
	}
}

func TestRemembered(t *testing.T) {
	file := cache(t)
	f := &fake{}
	count := func(what string) (n int) {
		for _, c := range f.compiled {
			if c == what {
				n++
			}
		}
		return n
	}
	run := func(o runtime.Options, batches ...int) {
		t.Helper()
		o.Provider = "a"
		p, err := runtime.Check(f).Compile(t.Context(), model(t, "main"), o)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for _, n := range batches {
			if err := p.Run(t.Context(), inputs(n), []*graphs.Tensor{nil}); err != nil {
				t.Fatal(err)
			}
		}
	}
	expect := func(what string, n int) {
		t.Helper()
		if got := count("cpu/main"); got != n {
			t.Errorf("%s: wanted %d comparisons so far, got %d", what, n, got)
		}
	}
	run(runtime.Options{}, 2, 2)
	expect("first", 1)
	run(runtime.Options{}, 2)
	expect("again", 1)
	run(runtime.Options{}, 2, 3, 2, 3)
	expect("another batch size", 2)
	run(runtime.Options{Threads: 3}, 2)
	expect("other threads", 3)
	run(runtime.Options{Optimize: runtime.OptimizeNone}, 2)
	expect("other optimization", 4)
	run(runtime.Options{ProviderOptions: map[string]string{"precision": "low"}}, 2)
	expect("other provider options", 5)
	run(runtime.Options{Recheck: true}, 2)
	expect("recheck", 6)
	verdicts, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	older := regexp.MustCompile(`edition \d+`).ReplaceAll(verdicts, []byte("edition 0"))
	if err := os.WriteFile(file, older, 0o644); err != nil {
		t.Fatal(err)
	}
	run(runtime.Options{}, 2)
	expect("another edition of the rewriting", 7)

	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "*")); len(left) != 1 {
		t.Errorf("files left: %v", left)
	}
	if err := os.WriteFile(file, []byte(`{"half`), 0o644); err != nil {
		t.Fatal(err)
	}
	run(runtime.Options{}, 2)
	expect("broken file", 8)
	run(runtime.Options{}, 2)
	expect("mended file", 8)
}

// TestZeroWeights compares a model whose weights are constants, all zero: that it
// agrees is not remembered.
func TestZeroWeights(t *testing.T) {
	file := cache(t)
	m := model(t, "main")
	b := graphs.NewBuilder(m.Graph)
	b.Weight("conv", graphs.NewTensor(graphs.Float32, 4, 4))
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true} {
		p, err := runtime.Check(&fake{}).Compile(t.Context(), m, runtime.Options{Provider: "a"})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Run(t.Context(), inputs(2), []*graphs.Tensor{nil}); err != nil {
			t.Fatal(err)
		}
		p.Close()
		if _, err := os.Stat(file); (err == nil) != want {
			t.Errorf("step %d: wanted remembered %v, got %v", i, want, err == nil)
		}
		m.Graph.Inits[len(m.Graph.Inits)-1].Const.F32()[3] = 1
	}
}

func TestProbe(t *testing.T) {
	cache(t)
	f := &fake{faults: map[string]fault{"a": {}}}
	short := model(t, "short")
	var asked int
	o := runtime.Options{Provider: "a", Probe: &runtime.Probe{Model: short, Inputs: func(in []*graphs.Tensor) []*graphs.Tensor {
		asked++
		x := graphs.Of(in[0].F32()[:2], 1, 2)
		return []*graphs.Tensor{x, in[1], in[2]}
	}}}
	if _, y, err := once(t, f, o); err != nil || y.Dims[0] != 2 {
		t.Fatalf("%v, %v", y, err)
	}
	want := "a/main cpu/short a/short"
	if got := strings.Join(f.compiled, " "); got != want || asked != 1 {
		t.Errorf("wanted %q compiled, got %q", want, got)
	}
	f.faults["a"] = fault{scale: 1}
	o.Recheck = true
	if _, _, err := once(t, f, o); err == nil {
		t.Error("a fault that the probe shows was let pass")
	}
}

// TestRepeatedCheck: a provider is judged by what the first of repeated calls is fed, not by what lay there.
func TestRepeatedCheck(t *testing.T) {
	for _, c := range []struct {
		fault fault
		want  string
	}{{}, {fault{noBias: true}, "is wrong"}} {
		cache(t)
		p, err := runtime.Check(&fake{faults: map[string]fault{"a": c.fault}}).Compile(t.Context(), model(t, "main"), runtime.Options{Provider: "a"})
		if err != nil {
			t.Fatal(err)
		}
		in, out := inputs(1), []*graphs.Tensor{graphs.NewTensor(graphs.Float32, 1, 2)}
		in[2].F32()[0] = 1e-6 // too little to tell
		var last []float32
		r := runtime.Repetition{Calls: 2, Fresh: 2,
			Next: func(call int, t *graphs.Tensor) error {
				t.F32()[0] = 5 + float32(call)
				last = append(last, t.F32()[0])
				return nil
			}}
		err = runtime.Repeat(t.Context(), p, in, out, r)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v", c.fault, err)
		}
		if err == nil && (last[0] != 5 || last[len(last)-1] != 6 || runtime.Describe(p).Calls != 2) {
			t.Errorf("fed %v, %d calls", last, runtime.Describe(p).Calls)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestCheckEndsWithContext(t *testing.T) {
	file := cache(t)
	f := &fake{faults: map[string]fault{"a": {slow: time.Millisecond}}}
	p, err := runtime.Check(f).Compile(t.Context(), model(t, "main"), runtime.Options{Provider: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx, inputs(2), []*graphs.Tensor{nil}); !errors.Is(err, context.Canceled) {
		t.Errorf("wanted %v, got %v", context.Canceled, err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a verdict was remembered although the context had ended")
	}
	if err := p.Run(t.Context(), inputs(2), []*graphs.Tensor{nil}); err != nil {
		t.Errorf("later: %v", err)
	}
}

func TestCheckConcurrent(t *testing.T) {
	cache(t)
	f := &fake{providers: []string{"a"}, faults: map[string]fault{}}
	var p runtime.Program
	p, err := runtime.Check(f).Compile(t.Context(), model(t, "main"), runtime.Options{
		Provider: runtime.Auto,
		OnReport: func(runtime.Report) { runtime.Describe(p) }, // not under a lock
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			n := 1 + i%3
			out := []*graphs.Tensor{nil}
			if err := p.Run(t.Context(), inputs(n), out); err != nil || out[0].Dims[0] != n {
				t.Error(fmt.Errorf("%v: %w", out[0], err))
			}
		})
	}
	wg.Wait()
	if r := runtime.Describe(p); r.Calls != 8 {
		t.Errorf("wanted 8 calls in the report, got %d", r.Calls)
	}
}
