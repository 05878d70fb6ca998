//go:build cgo

package ort

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"

	onnx "github.com/yalue/onnxruntime_go"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/runtime"
	"ebmrun/runtime/ortlib"
)

// There is one ONNX Runtime environment in a process.
var (
	loadMu sync.Mutex
	loaded ortlib.Library
)

// Open loads ONNX Runtime and returns an engine that checks every provider but
// the CPU's (see [runtime.Check]). library is a file, a folder, or "" to search
// as [ortlib.Find] does. A process can load one library: opening another is an
// error.
func Open(library string) (runtime.Engine, error) {
	e, err := open(library)
	if err != nil {
		return nil, err
	}
	return runtime.Check(e), nil
}

// Loaded returns the path and version of the library in use, "" before Open.
func Loaded() (path, version string) {
	loadMu.Lock()
	defer loadMu.Unlock()
	if loaded.Path == "" {
		return "", ""
	}
	return loaded.Path, onnx.GetVersion()
}

func open(library string) (*engine, error) {
	loadMu.Lock()
	defer loadMu.Unlock()
	if loaded.Path != "" && library == "" {
		return &engine{}, nil
	}
	lib, err := ortlib.Find(library)
	if err != nil {
		return nil, err
	}
	if loaded.Path != "" {
		if lib.Path != loaded.Path {
			return nil, fmt.Errorf("%s is loaded already, and a process can load one ONNX Runtime: cannot load %s", loaded.Path, lib.Path)
		}
		return &engine{}, nil
	}
	onnx.SetSharedLibraryPath(lib.Path)
	if err := onnx.InitializeEnvironment(onnx.WithLogLevelFatal()); err != nil {
		if strings.Contains(err.Error(), "API base: 2") {
			return nil, fmt.Errorf("%s (%s) is too old: ONNX Runtime 1.24 or newer is needed", lib.Path, lib.Rule)
		}
		if other := ortlib.Foreign(lib.Path); other != "" {
			return nil, fmt.Errorf("%s (%s) is for %s, want a library for %s", lib.Path, lib.Rule, other, goruntime.GOARCH)
		}
		return nil, fmt.Errorf("loading %s (%s): %w", lib.Path, lib.Rule, err)
	}
	loaded = lib
	return &engine{}, nil
}

// memories are the library's names of the memory that providers compute in, where
// it is not the processor's.
var memories = map[string]string{runtime.CUDA: "Cuda", runtime.TensorRT: "Cuda"}

// processor is their name of the processor's own.
const processor = "Cpu"

// stagings are those of memory that such a device reads by itself.
var stagings = map[string]string{"Cuda": "CudaPinned", processor: processor}

// engine is the [runtime.Backend] of the loaded library.
type engine struct{}

// Library implements runtime.Backend.
func (*engine) Library() string { return "onnxruntime " + onnx.GetVersion() }

// Providers implements runtime.Backend: those whose libraries lie beside the
// main one, or that are built into it on this system.
func (*engine) Providers() []string { return loaded.Providers() }

// Compile implements runtime.Engine.
func (e *engine) Compile(ctx context.Context, m *graphs.Model, o runtime.Options) (runtime.Program, error) {
	lanes, one := 1, o
	if one.Split = nil; o.Provider == "" || o.Provider == runtime.CPU {
		lanes = o.Split.Lanes(o.Threads)
	}
	if lanes > 1 {
		one.Threads = 1
	}
	if parts := o.Split.Parts(lanes, o.Most); parts > 1 {
		p, err := runtime.Parallel(o.Split, lanes, parts, func(m *graphs.Model) (runtime.Program, error) { return e.compile(ctx, m, one, "") })
		if err == nil {
			return p, nil
		}
		// A graph that cannot be cut, such as one with a batch written into it, runs whole.
	}
	return e.compile(ctx, m, o, "")
}

func (e *engine) compile(ctx context.Context, m *graphs.Model, o runtime.Options, profile string) (*program, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sig, err := runtime.NewSignature(m.Graph)
	if err != nil {
		return nil, err
	}
	switch strings.ToLower(o.Provider) {
	case "", runtime.CPU:
		m = learningForms(unpooled(asConvolutions(m), byIndex))
	case runtime.OpenVINO: // as fast at transposed convolutions, whose filters are not kept twice
		m = readersApart(inBlocks(m))
		if o.Precision == graphs.Undefined || o.Precision == graphs.Float32 { // equal numbers are equal bits
			m = unpooled(m, byRank)
		}
	default:
		m = asProducts(asConvolutions(m))
	}
	if err := dump(o.DumpDir, m); err != nil {
		return nil, err
	}
	data, large, err := apart(m)
	if err != nil {
		return nil, err
	}
	defer tidy(large)()
	if strings.ToLower(o.Provider) == runtime.OpenVINO && o.Optimize == runtime.OptimizeAll && heavy(large) {
		// The provider rewrites graphs by itself. The library would hand it a transposed
		// copy of each weight too, which it copies several times.
		o.Optimize = runtime.OptimizeNone
	}
	p := &program{sig: sig, memory: memories[strings.ToLower(o.Provider)], types: nodeTypes(m.Graph), calls: make(chan *call, maxCalls)}
	p.inputs, p.outputs = newSlots(sig.Inputs), newSlots(sig.Outputs)
	session := func(o runtime.Options) error {
		if p.memory != "" {
			device.RLock()
			defer device.RUnlock()
		}
		return keepSignalStack(func() error {
			opts, err := sessionOptions(o, profile)
			if err != nil {
				return err
			}
			defer opts.Destroy()
			done, err := hand(opts, large)
			defer done()
			if err != nil {
				return err
			}
			for key, value := range leftOut(m.Graph, o) {
				if err := opts.AddSessionConfigEntry(key, value); err != nil {
					return err
				}
			}
			p.session, err = onnx.NewDynamicAdvancedSessionWithONNXData(data, names(sig.Inputs), names(sig.Outputs), opts)
			if err != nil {
				return fmt.Errorf("graph %q: %w", m.Graph.Name, kernelError(p.types, plain(err)))
			}
			return nil
		})
	}
	if err := p.start(o, session); err != nil {
		return nil, err
	}
	// A program that nobody closes is closed when it is collected: the collector
	// ends the process over memory that is still pinned.
	goruntime.SetFinalizer(p, func(p *program) { p.Close() })
	return p, nil
}

// start makes the session of p: one that captures repeated calls where that is asked for and possible.
func (p *program) start(o runtime.Options, session func(runtime.Options) error) (err error) {
	if p.captures = asked(o)[graphOption] == "1"; !p.captures {
		return session(o)
	}
	if p.plain, err = runOptions(notCaptured); err != nil {
		return err
	}
	not := o
	not.ProviderOptions = maps.Clone(o.ProviderOptions)
	if not.ProviderOptions == nil {
		not.ProviderOptions = map[string]string{}
	}
	not.ProviderOptions[graphOption] = "0"
	if err := session(o); err != nil { // as where a node is not the provider's
		p.capture.Store("not captured: " + err.Error())
		return session(not)
	}
	p.capturing = true
	p.again = func() error { return errors.Join(p.session.Destroy(), session(not)) }
	return nil
}

// plain is the library's text on one line, without the binding's preface.
func plain(err error) error {
	text := strings.Join(strings.Fields(err.Error()), " ")
	for _, preface := range []string{"Error creating C session: ", "Error running network: "} {
		text = strings.TrimPrefix(text, preface)
	}
	text = ofDevice.ReplaceAllString(text, "$1")
	if full.MatchString(text) {
		text += "; no memory is left where this is computed: other programs may hold some of it, and --micro-batch needs less"
	}
	return errors.New(text)
}

// What CUDA's libraries say lies between the signatures of the functions that they were called
// by and the place of the call.
var (
	ofDevice = regexp.MustCompile(`/onnxruntime_src/\S*(?:cuda_call|bfc_arena)\.cc:.*?((?:CU[A-Z_]+ failure \d+: |Failed to allocate )[^;]*[^; ])(?: ;.*)?$`)
	full     = regexp.MustCompile(`CUDA failure 2: |CUBLAS failure 3: |Failed to allocate memory for requested buffer`)
)

func names(vs []*graphs.Value) []string {
	out := make([]string, len(vs))
	for i, v := range vs {
		out[i] = v.Name
	}
	return out
}

// dump writes the model handed to the library into a folder, if one is named.
func dump(dir string, m *graphs.Model) error {
	if dir == "" {
		dir = os.Getenv("EBMRUN_DUMP")
	}
	if dir == "" {
		return nil
	}
	data, err := onnxio.Encode(m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("dumping a model: %w", err)
	}
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\: `, r) {
			return '_'
		}
		return r
	}, m.Graph.Name)
	f, err := os.CreateTemp(dir, name+"-*.onnx")
	if err != nil {
		return fmt.Errorf("dumping a model: %w", err)
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// sessionOptions translates o. A profile prefix makes the session write a profile
// when it is destroyed.
func sessionOptions(o runtime.Options, profile string) (*onnx.SessionOptions, error) {
	opts, err := onnx.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	level := map[runtime.Level]onnx.GraphOptimizationLevel{
		runtime.OptimizeAll:      onnx.GraphOptimizationLevelEnableAll,
		runtime.OptimizeExtended: onnx.GraphOptimizationLevelEnableExtended,
		runtime.OptimizeBasic:    onnx.GraphOptimizationLevelEnableBasic,
		runtime.OptimizeNone:     onnx.GraphOptimizationLevelDisableAll,
	}
	set := []error{
		opts.SetGraphOptimizationLevel(level[o.Optimize]),
		opts.SetIntraOpNumThreads(o.Threads),
		opts.SetInterOpNumThreads(1),
		opts.SetLogSeverityLevel(onnx.LoggingLevelFatal),
	}
	if o.NoSpin {
		set = append(set, opts.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"))
	}
	if o.NoArena {
		set = append(set, opts.SetCpuMemArena(false))
	}
	if p := strings.ToLower(o.Provider); o.NoArena || p == "" || p == runtime.CPU {
		// A pattern of the first call is one block for all that later calls need, beside
		// the blocks that the first call took: slower in no workload of ours.
		set = append(set, opts.SetMemPattern(false))
	}
	if profile != "" {
		set = append(set, opts.EnableProfiling(profile))
	}
	set = append(set, appendProvider(opts, o))
	if err := errors.Join(set...); err != nil {
		opts.Destroy()
		return nil, plain(err)
	}
	return opts, nil
}

// graphOption is the CUDA provider's option to start the kernels of a graph as one.
const graphOption = "enable_cuda_graph"

// asked is what a provider is asked for: what right numbers and o take, and
// Options.ProviderOptions over that.
func asked(o runtime.Options) map[string]string {
	all := map[string]string{}
	switch strings.ToLower(o.Provider) {
	case runtime.OpenVINO:
		threads := o.Threads
		if threads == 0 {
			threads = goruntime.NumCPU()
		}
		// Left alone, a processor with bfloat16 units would use them.
		hint := map[graphs.DType]string{graphs.BFloat16: "bf16", graphs.Float16: "f16"}[o.Precision]
		all["device_type"], all["num_of_threads"] = "CPU", strconv.Itoa(threads)
		all["load_config"] = fmt.Sprintf(`{"CPU": {"INFERENCE_PRECISION_HINT": %q}}`, cmp.Or(hint, "f32"))
	case runtime.CUDA:
		all["use_tf32"] = "0" // tensor cores would round float32 to 10 bits
		if o.Repeats {
			all[graphOption] = "1"
		}
	}
	maps.Copy(all, o.ProviderOptions)
	return all
}

// appendProvider puts the provider in front of the CPU provider, which the library always
// adds. Where that fails for want of something on this machine, the error names it.
func appendProvider(opts *onnx.SessionOptions, o runtime.Options) error {
	name := strings.ToLower(o.Provider)
	if low := o.Precision == graphs.Float16 || o.Precision == graphs.BFloat16; low && name != runtime.OpenVINO {
		return fmt.Errorf("precision %v: only provider openvino computes in another type than the graph's", o.Precision)
	}
	if err := loaded.Beside(name); err != nil {
		return err
	}
	ctx := context.Background()
	if runtime.Remote(name) && ortlib.NoDriver(ctx) != "" { // such a library may end the process
		return errors.New(strings.Join(loaded.Lacks(ctx, name), "; "))
	}
	err := add(opts, name, asked(o))
	if err != nil {
		if lacks := loaded.Lacks(ctx, name); lacks != nil {
			return errors.New(strings.Join(lacks, "; "))
		}
	}
	return err
}

func add(opts *onnx.SessionOptions, name string, options map[string]string) error {
	switch name {
	case "", runtime.CPU:
		return nil
	case runtime.OpenVINO:
		return opts.AppendExecutionProviderOpenVINO(options)
	case runtime.CUDA:
		cuda, err := onnx.NewCUDAProviderOptions()
		if err != nil {
			return err
		}
		defer cuda.Destroy()
		if err := cuda.Update(options); err != nil {
			return err
		}
		return opts.AppendExecutionProviderCUDA(cuda)
	case runtime.TensorRT:
		trt, err := onnx.NewTensorRTProviderOptions()
		if err != nil {
			return err
		}
		defer trt.Destroy()
		if len(options) > 0 {
			if err := trt.Update(options); err != nil {
				return err
			}
		}
		return opts.AppendExecutionProviderTensorRT(trt)
	case runtime.CoreML:
		return opts.AppendExecutionProviderCoreMLV2(options)
	}
	return fmt.Errorf("unknown provider %q: wanted auto, cpu, openvino, cuda, tensorrt or coreml", name)
}

// Placement implements runtime.Backend: one call in a session that profiles.
func (e *engine) Placement(ctx context.Context, m *graphs.Model, o runtime.Options, in []*graphs.Tensor) ([]runtime.Placed, error) {
	dir, err := os.MkdirTemp("", "ebmrun-profile-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	p, err := e.compile(ctx, m, o, filepath.Join(dir, "p"))
	if err != nil {
		return nil, err
	}
	err = p.Run(ctx, in, make([]*graphs.Tensor, len(p.Outputs())))
	// The profile is written as the session ends.
	if err := errors.Join(err, p.Close()); err != nil {
		return nil, err
	}
	files, _ := filepath.Glob(filepath.Join(dir, "p*.json"))
	if len(files) != 1 {
		return nil, fmt.Errorf("the library wrote %d profiles, wanted 1", len(files))
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	return placed(data)
}

// placed counts the node executions in a profile.
func placed(profile []byte) ([]runtime.Placed, error) {
	var events []struct {
		Cat  string
		Args struct {
			Op       string `json:"op_name"`
			Provider string
		}
	}
	if err := json.Unmarshal(profile, &events); err != nil {
		return nil, fmt.Errorf("reading a profile: %w", err)
	}
	var out []runtime.Placed
next:
	for _, ev := range events {
		if ev.Cat != "Node" || ev.Args.Provider == "" {
			continue
		}
		provider := strings.ToLower(strings.TrimSuffix(ev.Args.Provider, "ExecutionProvider"))
		for i := range out {
			if out[i].Provider == provider && out[i].Op == ev.Args.Op {
				out[i].Count++
				continue next
			}
		}
		out = append(out, runtime.Placed{Provider: provider, Op: ev.Args.Op, Count: 1})
	}
	return out, nil
}
