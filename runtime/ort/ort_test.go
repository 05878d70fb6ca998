//go:build cgo

package ort

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ortlib"
)

// library is found before the cache folder is moved, in which it may lie.
var library, libraryErr = ortlib.Find("")

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ort-test-")
	if err != nil {
		panic(err)
	}
	os.Setenv("EBMRUN_CACHE", dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func engineFor(t testing.TB) *engine {
	t.Helper()
	enginetest.Unavailable(t, libraryErr)
	e, err := open(library.Path)
	enginetest.Unavailable(t, err)
	return e
}

func TestEngine(t *testing.T) { enginetest.Run(t, runtime.Check(engineFor(t))) }

// TestPlain: what CUDA's libraries say, without the signatures around it.
func TestPlain(t *testing.T) {
	const (
		call  = "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:122 std::conditional_t<THRW, void, onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, int) [with ERRTYPE = cublasStatus_t; bool THRW = true] "
		where = " ; GPU=0 ; hostname=vm ; file=/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_stream_handle.cc ; line=78 ; expr=cublasCreate(&cublas_handle_);"
		full  = "; no memory is left where this is computed: other programs may hold some of it, and --micro-batch needs less"
	)
	for said, want := range map[string]string{
		call + call + "CUBLAS failure 3: the resource allocation failed" + where:                                                                                                                        "CUBLAS failure 3: the resource allocation failed" + full,
		"Error running network: Non-zero status code. Name:'a' Status Message: " + call + "CUDA failure 700: illegal" + where:                                                                           "Non-zero status code. Name:'a' Status Message: CUDA failure 700: illegal",
		"Name:'b' /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:408 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) Failed to allocate memory for requested buffer of size 8": "Name:'b' Failed to allocate memory for requested buffer of size 8" + full,
		"Error creating C session: no\n such op": "no such op",
	} {
		if got := plain(errors.New(said)).Error(); got != want {
			t.Errorf("wanted %q, got %q", want, got)
		}
	}
}

func TestOpenSecondLibrary(t *testing.T) {
	engineFor(t)
	other := filepath.Join(t.TempDir(), "libonnxruntime.so.1.99.0")
	if err := os.WriteFile(other, []byte("no library"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(other); err == nil || !strings.Contains(err.Error(), "loaded already") {
		t.Errorf("wanted an error that one library is loaded already, got %v", err)
	}
	if path, version := Loaded(); path != library.Path || version == "" {
		t.Errorf("Loaded: wanted %s and its version, got %s %q", library.Path, path, version)
	}
}

// TestTypes feeds and fetches each element type, both into given tensors and into
// new ones.
func TestTypes(t *testing.T) {
	e := engineFor(t)
	for _, typ := range []graphs.DType{
		graphs.Float32, graphs.Float64, graphs.Float16, graphs.BFloat16, graphs.Bool,
		graphs.Int64, graphs.Int32, graphs.Int16, graphs.Int8,
		graphs.Uint64, graphs.Uint32, graphs.Uint16, graphs.Uint8,
	} {
		p := enginetest.Compile(t, e, enginetest.Build(t, func(b *graphs.Builder) {
			x := b.Input("x", typ, graphs.Shape{graphs.Sym("n"), graphs.D(2)})
			b.Output("y", b.Transpose(x, 1, 0))
		}), runtime.Options{})
		x, err := graphs.FromFloats(typ, []float64{1, 0, 0, 1, 1, 0}, 3, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, y := range []*graphs.Tensor{nil, graphs.NewTensor(typ, 2, 3)} {
			out := []*graphs.Tensor{y}
			if err := p.Run(t.Context(), []*graphs.Tensor{x}, out); err != nil {
				t.Errorf("%v: %v", typ, err)
				continue
			}
			enginetest.Close(t, typ.String(), out[0], 0, 1, 0, 1, 0, 1, 0)
		}
	}
}

// TestUnknownDims fetches an output whose size is known only after the call.
func TestUnknownDims(t *testing.T) {
	e := engineFor(t)
	for _, typ := range []graphs.DType{graphs.Float32, graphs.Bool, graphs.Float16} {
		in := []*graphs.Value{
			{Name: "x", Type: typ, Shape: graphs.Shape{graphs.Sym("n")}},
			{Name: "keep", Type: graphs.Bool, Shape: graphs.Shape{graphs.Sym("n")}},
		}
		y := &graphs.Value{Name: "y", Type: typ, Shape: graphs.Shape{graphs.UnknownDim}}
		y.From = &graphs.Node{Op: "Compress", Inputs: in, Outputs: []*graphs.Value{y}, Attrs: []*graphs.Attr{graphs.I("axis", 0)}}
		g := &graphs.Graph{Name: "test", Nodes: []*graphs.Node{y.From}, Inputs: in, Outputs: []*graphs.Value{y}}
		p := enginetest.Compile(t, e, graphs.NewModel(g), runtime.Options{})
		x, _ := graphs.FromFloats(typ, []float64{1, 0, 1, 1}, 4)
		out := []*graphs.Tensor{nil}
		err := p.Run(t.Context(), []*graphs.Tensor{x, graphs.Of([]bool{true, true, false, true}, 4)}, out)
		if typ == graphs.Float16 {
			if err == nil || !strings.Contains(err.Error(), `"y"`) {
				t.Errorf("float16: wanted an error that names y, got %v", err)
			}
			out[0] = graphs.NewTensor(typ, 3)
			err = p.Run(t.Context(), []*graphs.Tensor{x, graphs.Of([]bool{true, true, false, true}, 4)}, out)
		}
		if err != nil {
			t.Errorf("%v: %v", typ, err)
			continue
		}
		enginetest.Close(t, typ.String(), out[0], 0, 1, 0, 1)
	}
}

// TestAllocs bounds what a call over the same buffers allocates, whatever their
// size and number.
func TestAllocs(t *testing.T) {
	e := runtime.Check(engineFor(t))
	for _, n := range []int{1, 1 << 16} {
		p := enginetest.Compile(t, e, enginetest.Build(t, func(b *graphs.Builder) {
			x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("n")})
			y := b.Input("y", graphs.Float32, graphs.Shape{graphs.Sym("n")})
			s := b.Input("s", graphs.Float32, graphs.Shape{})
			b.Output("sum", b.Add(x, b.Mul(y, s)))
			b.Output("difference", b.Sub(x, y))
			b.Output("product", b.Mul(x, y))
		}), runtime.Options{Threads: 1})
		vec := func() *graphs.Tensor { return graphs.NewTensor(graphs.Float32, n) }
		in := []*graphs.Tensor{vec(), vec(), graphs.NewTensor(graphs.Float32)}
		out := []*graphs.Tensor{vec(), vec(), vec()}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		allocs := testing.AllocsPerRun(50, func() {
			if err := p.Run(ctx, in, out); err != nil {
				t.Fatal(err)
			}
		})
		if allocs > 4 {
			t.Errorf("%d elements: %v allocations a call, wanted at most 4", n, allocs)
		}
	}
}

// TestViewSlot checks that a slot keeps few views, destroys those replaced, and
// not before they are given back.
func TestViewSlot(t *testing.T) {
	engineFor(t)
	x := &graphs.Value{Name: "x", Type: graphs.Float32, Shape: graphs.Shape{graphs.Sym("n")}}
	s := &newSlots([]*graphs.Value{x})[0]
	first, err := s.take(graphs.NewTensor(graphs.Float32, 2))
	if err != nil {
		t.Fatal(err)
	}
	more := func(n int) {
		t.Helper()
		for range n {
			v, err := s.take(graphs.NewTensor(graphs.Float32, 2))
			if err != nil {
				t.Fatal(err)
			}
			v.release()
		}
	}
	if more(maxViews); len(s.views) != maxViews+1 || !slices.Contains(s.views, first) {
		t.Errorf("wanted a view in use to be kept beside %d others, got %d in all", maxViews, len(s.views))
	}
	if len(first.Value.GetShape()) == 0 {
		t.Error("a view was destroyed while in use")
	}
	first.release()
	if more(2 * maxViews); len(s.views) != maxViews+1 || slices.Contains(s.views, first) {
		t.Errorf("the oldest of %d views was not replaced", len(s.views))
	}
	if len(first.Value.GetShape()) != 0 {
		t.Error("a replaced view was not destroyed")
	}
	s.close()
}

func TestDump(t *testing.T) {
	e := engineFor(t)
	m := enginetest.Build(t, func(b *graphs.Builder) {
		b.Output("y", b.Neg(b.Input("x", graphs.Float32, graphs.MakeShape(1))))
	})
	m.Graph.Name = "net/step 1"
	for _, how := range []string{"option", "variable"} {
		dir := filepath.Join(t.TempDir(), "dump")
		o := runtime.Options{}
		if how == "option" {
			o.DumpDir = dir
		} else {
			t.Setenv("EBMRUN_DUMP", dir)
		}
		enginetest.Compile(t, e, m, o)
		files, _ := filepath.Glob(filepath.Join(dir, "net_step_1-*.onnx"))
		if len(files) != 1 {
			t.Fatalf("%s: wanted one file, got %v", how, files)
		}
		if back, err := onnxio.Read(files[0]); err != nil || len(back.Graph.Nodes) != 1 {
			t.Errorf("%s: the file does not read back: %v", how, err)
		}
	}
}

// slope is the energy of a small network and its gradient, in the ops that such
// gradients consist of.
func slope(t testing.TB) *graphs.Model {
	t.Helper()
	m, err := ortlib.SampleModel()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func slopeInput(n int) *graphs.Tensor {
	x := graphs.NewTensor(graphs.Float32, n, 3, 8, 8)
	for i := range x.F32() {
		x.F32()[i] = float32(i%17)/17 - 0.5
	}
	return x
}

func TestPlacement(t *testing.T) {
	e := engineFor(t)
	in := []*graphs.Tensor{slopeInput(2)}
	got, err := e.Placement(t.Context(), slope(t), runtime.Options{Optimize: runtime.OptimizeNone}, in)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(got, runtime.Placed{Provider: runtime.CPU, Op: "ConvTranspose", Count: 2}) {
		t.Errorf("CPU: wanted two ConvTranspose on cpu, got %v", got)
	}
	if !slices.Contains(e.Providers(), runtime.OpenVINO) {
		t.Skip("the library has no OpenVINO provider")
	}
	got, err = e.Placement(t.Context(), slope(t), runtime.Options{Provider: runtime.OpenVINO}, in)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(got, func(p runtime.Placed) bool { return p.Provider == runtime.OpenVINO }) {
		t.Errorf("OpenVINO: no node on it: %v", got)
	}
}

func TestMissingProvider(t *testing.T) {
	e := engineFor(t)
	for _, name := range []string{runtime.CUDA, runtime.TensorRT, runtime.CoreML} {
		if slices.Contains(e.Providers(), name) {
			continue
		}
		_, err := runtime.Check(e).Compile(t.Context(), slope(t), runtime.Options{Provider: name})
		if err == nil || !strings.Contains(strings.ToLower(err.Error()), name) {
			t.Errorf("wanted an error that names %s, got %v", name, err)
		}
	}
}

// TestGraphicsProviders: a build with the providers for graphics processors, on a machine without
// one, says of each what is missing and in which package it is, and runs nothing in its place.
func TestGraphicsProviders(t *testing.T) {
	e := engineFor(t)
	for provider, library := range map[string]string{runtime.CUDA: "libcublasLt.so.", runtime.TensorRT: "libnvinfer.so."} {
		lacks := strings.Join(loaded.Lacks(t.Context(), provider), "; ")
		if loaded.Beside(provider) != nil || lacks == "" {
			t.Logf("%s: beside the library: %v; lacks %q", provider, loaded.Beside(provider), lacks)
			continue
		}
		_, err := runtime.Check(e).Compile(t.Context(), slope(t), runtime.Options{Provider: provider})
		if err == nil || err.Error() != "provider "+provider+": "+lacks {
			t.Errorf("wanted what it lacks, %s, got %v", lacks, err)
		}
		if strings.Contains(lacks, "no "+library) && !strings.Contains(lacks, "pip's") {
			t.Errorf("%s: no package is named: %s", provider, lacks)
		}
	}
}

// TestAsked records what each provider is asked for.
func TestAsked(t *testing.T) {
	vino := func(threads, hint string) map[string]string {
		return map[string]string{"device_type": "CPU", "num_of_threads": threads, "load_config": `{"CPU": {"INFERENCE_PRECISION_HINT": "` + hint + `"}}`}
	}
	tf32 := map[string]string{"use_tf32": "1", "device_id": "1"}
	for _, c := range []struct {
		o    runtime.Options
		want map[string]string
	}{
		{runtime.Options{}, nil},
		{runtime.Options{Provider: runtime.OpenVINO, Threads: 3}, vino("3", "f32")},
		{runtime.Options{Provider: "OpenVINO", Threads: 3, Precision: graphs.BFloat16}, vino("3", "bf16")},
		{runtime.Options{Provider: runtime.CUDA}, map[string]string{"use_tf32": "0"}},
		{runtime.Options{Provider: runtime.CUDA, ProviderOptions: tf32}, tf32},
		{runtime.Options{Provider: runtime.TensorRT, ProviderOptions: map[string]string{"trt_fp16_enable": "0"}}, map[string]string{"trt_fp16_enable": "0"}},
		{runtime.Options{Provider: "TensorRT"}, nil},
		{runtime.Options{Provider: runtime.CoreML}, nil},
	} {
		if got := asked(c.o); !maps.Equal(got, c.want) {
			t.Errorf("%+v: wanted %v, got %v", c.o, c.want, got)
		}
	}
}

func TestOpenVINO(t *testing.T) {
	e := engineFor(t)
	if !slices.Contains(e.Providers(), runtime.OpenVINO) {
		t.Skip("the library has no OpenVINO provider")
	}
	var reports []runtime.Report
	o := runtime.Options{Provider: runtime.OpenVINO, OnReport: func(r runtime.Report) { reports = append(reports, r) }}
	p := enginetest.Compile(t, runtime.Check(e), slope(t), o)
	cpu := enginetest.Compile(t, e, slope(t), runtime.Options{})
	for _, n := range []int{2, 5} {
		in := []*graphs.Tensor{slopeInput(n)}
		got, want := make([]*graphs.Tensor, 2), make([]*graphs.Tensor, 2)
		if err := p.Run(t.Context(), in, got); err != nil {
			t.Fatal(err)
		}
		if err := cpu.Run(t.Context(), in, want); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			w, _ := want[i].AsFloats()
			enginetest.Close(t, p.Outputs()[i].Name, got[i], 1e-4, w...)
		}
	}
	if len(reports) != 1 || reports[0].Provider != runtime.OpenVINO || !reports[0].Candidates[0].OK {
		t.Errorf("reports: %+v", reports)
	}
}

// BenchmarkRun is the cost of a call that computes next to nothing.
func BenchmarkRun(b *testing.B) {
	e := runtime.Check(engineFor(b))
	p := enginetest.Compile(b, e, enginetest.Build(b, func(g *graphs.Builder) {
		x := g.Input("x", graphs.Float32, graphs.MakeShape(1))
		y := g.Input("y", graphs.Float32, graphs.MakeShape(1))
		g.Output("z", g.Add(x, y))
	}), runtime.Options{})
	in := []*graphs.Tensor{graphs.NewTensor(graphs.Float32, 1), graphs.NewTensor(graphs.Float32, 1)}
	out := []*graphs.Tensor{graphs.NewTensor(graphs.Float32, 1)}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Run(ctx, in, out); err != nil {
			b.Fatal(err)
		}
	}
}

// shortRun is the energy of a five-layer convolutional network on 3×32×32
// pictures, LeakyRelu between layers, and its slope in x; the weights are
// constants.
func shortRun(t testing.TB, filters int) *graphs.Model {
	return enginetest.Build(t, func(b *graphs.Builder) {
		const slope = 0.2
		r := rand.New(rand.NewPCG(1, 2))
		x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(3), graphs.D(32), graphs.D(32)})
		type layer struct {
			w, pre *graphs.Value
			attrs  []*graphs.Attr
		}
		var layers []layer
		channels, h := 3, x
		for i, l := range []struct{ out, kernel, stride, pad int }{
			{filters, 3, 1, 1}, {2 * filters, 4, 2, 1}, {4 * filters, 4, 2, 1}, {8 * filters, 4, 2, 1}, {1, 4, 1, 0},
		} {
			k, s, p := int64(l.kernel), int64(l.stride), int64(l.pad)
			w := graphs.NewTensor(graphs.Float32, l.out, channels, l.kernel, l.kernel)
			for j := range w.F32() {
				w.F32()[j] = float32(r.NormFloat64()) * 0.05
			}
			n := layer{w: b.Weight(fmt.Sprintf("w%d", i), w), attrs: []*graphs.Attr{
				graphs.IntsAttr("kernel_shape", k, k), graphs.IntsAttr("strides", s, s), graphs.IntsAttr("pads", p, p, p, p),
			}}
			n.pre = b.Op("Conv", []*graphs.Value{h, n.w}, n.attrs...)
			h = b.Op("LeakyRelu", []*graphs.Value{n.pre}, graphs.F("alpha", slope))
			layers, channels = append(layers, n), l.out
		}
		last := layers[len(layers)-1].pre
		b.Output("energy", b.Sum(last, false, 1, 2, 3))
		d := b.Full(last, 1)
		for i := len(layers) - 1; i >= 0; i-- {
			d = b.Op("ConvTranspose", []*graphs.Value{d, layers[i].w}, layers[i].attrs...)
			if i > 0 {
				pre := layers[i-1].pre
				d = b.Mul(d, b.Where(b.Greater(pre, b.Scalar(pre, 0)), b.Scalar(pre, 1), b.Scalar(pre, slope)))
			}
		}
		b.Output("grad/x", d)
	})
}

// BenchmarkGradient is one step's work of short-run sampling, 32 filters, batch 16.
func BenchmarkGradient(b *testing.B) {
	e := runtime.Check(engineFor(b))
	for _, provider := range []string{runtime.CPU, runtime.OpenVINO} {
		b.Run(provider, func(b *testing.B) {
			p, err := e.Compile(b.Context(), shortRun(b, 32), runtime.Options{Provider: provider})
			if err != nil {
				b.Skip(err)
			}
			defer p.Close()
			r := rand.New(rand.NewPCG(3, 4))
			x := graphs.NewTensor(graphs.Float32, 16, 3, 32, 32)
			for i := range x.F32() {
				x.F32()[i] = r.Float32()*2 - 1
			}
			in := []*graphs.Tensor{x}
			out := []*graphs.Tensor{graphs.NewTensor(graphs.Float32, 16), graphs.NewTensor(graphs.Float32, 16, 3, 32, 32)}
			if err := p.Run(b.Context(), in, out); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Run(b.Context(), in, out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestDiagnose(t *testing.T) {
	e := engineFor(t)
	d := Diagnose(t.Context(), library.Path)
	if d.Version == "" || d.Library == nil || d.Library.Path != library.Path || len(d.Advice) > 0 {
		t.Errorf("diagnosis: %+v", d)
	}
	for _, trial := range d.Trials {
		want := trial.Provider == runtime.CPU || trial.Provider == runtime.OpenVINO && slices.Contains(e.Providers(), runtime.OpenVINO)
		if want && !trial.Works || !trial.Works && trial.Reason == "" || strings.Contains(trial.Reason, "\n") {
			t.Errorf("trial: %+v", trial)
		}
	}
}

// TestPartialProvider runs a graph that OpenVINO may refuse, take in part, or get
// wrong: "auto" must give the right numbers whichever it does.
func TestPartialProvider(t *testing.T) {
	e := engineFor(t)
	m := enginetest.Build(t, func(b *graphs.Builder) {
		x := b.Input("x", graphs.Float32, graphs.MakeShape(4, 2))
		index := b.Input("index", graphs.Int64, graphs.MakeShape(3, 1))
		update := b.Input("update", graphs.Float32, graphs.MakeShape(3, 2))
		b.Output("y", b.Op("ScatterND", []*graphs.Value{x, index, update}, graphs.S("reduction", "add")))
	})
	var report runtime.Report
	p := enginetest.Compile(t, runtime.Check(e), m, runtime.Options{Provider: runtime.Auto, OnReport: func(r runtime.Report) { report = r }})
	in := []*graphs.Tensor{
		graphs.Of([]float32{1, 2, 3, 4, 5, 6, 7, 8}, 4, 2), graphs.Of([]int64{0, 2, 0}, 3, 1),
		graphs.Of([]float32{10, 20, 30, 40, 50, 60}, 3, 2),
	}
	out := []*graphs.Tensor{nil}
	if err := p.Run(t.Context(), in, out); err != nil {
		t.Fatal(err)
	}
	enginetest.Close(t, "y", out[0], 1e-6, 61, 82, 3, 4, 35, 46, 7, 8)
	if report.Provider == "" || report.Provider == runtime.CPU && report.Reason == "" || strings.Contains(report.Reason, "\n") {
		t.Errorf("the report does not say why: %+v", report)
	}
}

// TestPrecision lets OpenVINO compute in bfloat16, where the processor does.
func TestPrecision(t *testing.T) {
	e := engineFor(t)
	m := slope(t)
	for _, o := range []runtime.Options{{Precision: graphs.Int64}, {Precision: graphs.BFloat16, Provider: runtime.CoreML}} {
		if _, err := runtime.Check(e).Compile(t.Context(), m, o); err == nil {
			t.Errorf("precision %v, provider %q: no error", o.Precision, o.Provider)
		}
	}
	if !slices.Contains(e.Providers(), runtime.OpenVINO) {
		t.Skip("the library has no OpenVINO provider")
	}
	distance := func(low graphs.DType) float64 {
		p := enginetest.Compile(t, runtime.Check(e), m, runtime.Options{Provider: runtime.OpenVINO, Precision: low, Recheck: true})
		if err := p.Run(t.Context(), []*graphs.Tensor{slopeInput(2)}, make([]*graphs.Tensor, 2)); err != nil {
			t.Fatal(err)
		}
		return runtime.Describe(p).Candidates[0].Distance
	}
	if d := distance(graphs.Undefined); d > 1e-5 {
		t.Errorf("float32: distance %g from the CPU provider", d)
	}
	flags, _ := os.ReadFile("/proc/cpuinfo")
	if d := distance(graphs.BFloat16); d < 1e-4 && strings.Contains(string(flags), "avx512_bf16") {
		t.Errorf("bfloat16: distance %g from the CPU provider, as if it had not been used", d)
	}
}
