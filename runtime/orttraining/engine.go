package orttraining

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/runtime"
	"ebmrun/runtime/ortlib"
)

// An Engine runs models and differentiates them in a worker process.
type Engine struct {
	runtime.Engine
	b *backend
}

// backend is the [runtime.Backend] of a worker.
type backend struct {
	w         *worker
	version   string
	python    string
	providers []string
	library   ortlib.Library // the extension module, beside which libraries of providers lie
	folders   []string       // of libraries in Python packages, which the worker loads by itself
}

// Open starts a worker with a Python interpreter that has the wheel; "" is that of
// [CPU].
func Open(ctx context.Context, python string) (_ *Engine, err error) {
	if python == "" {
		if python, err = CPU.Find(); err != nil {
			return nil, err
		}
	}
	w, err := start(python)
	if err != nil {
		return nil, err
	}
	m, err := w.call(ctx, header{Op: "hello"})
	if err != nil {
		w.close()
		return nil, fmt.Errorf("%s: %w", python, err)
	}
	b := &backend{w: w, version: m.Version, python: m.Python, providers: m.Providers, library: ortlib.Library{Path: m.Path}, folders: m.Names}
	return &Engine{Engine: runtime.Check(b), b: b}, nil
}

// Close ends the worker; programs of the engine fail from then on.
func (e *Engine) Close() error {
	e.b.w.close()
	return nil
}

// Library is the library's name and version, and the Python that it runs in.
func (e *Engine) Library() string { return e.b.Library() + ", Python " + e.b.python }

// Has reports whether the build has a provider.
func (e *Engine) Has(provider string) bool { return slices.Contains(e.b.providers, names[provider]) }

// Lacks says what keeps the build from running on a provider here, a line for each
// thing, with what mends it.
func (e *Engine) Lacks(ctx context.Context, provider string) []string {
	return e.b.lacks(ctx, provider)
}

func (b *backend) lacks(ctx context.Context, provider string) []string {
	switch {
	case !slices.Contains(b.providers, names[provider]):
		line := fmt.Sprintf("this build has %s", strings.Join(b.providers, ", "))
		if provider == runtime.CUDA {
			line += "; `" + CUDA.Command + "` obtains the build for CUDA 11 (Linux x86-64)"
		}
		return []string{line}
	case provider == runtime.CUDA:
		return b.library.Lacks(ctx, provider, b.folders...)
	}
	return nil
}

// Library implements runtime.Backend.
func (b *backend) Library() string { return "onnxruntime-training " + b.version }

// names are the library's own names of the providers.
var names = map[string]string{runtime.CPU: "CPUExecutionProvider", runtime.CUDA: "CUDAExecutionProvider"}

// Providers implements runtime.Backend.
func (b *backend) Providers() []string {
	if slices.Contains(b.providers, names[runtime.CUDA]) {
		return []string{runtime.CUDA}
	}
	return nil
}

// Placement implements runtime.Backend. The wheel's placement is not asked for:
// what it gives back to the CPU provider runs there.
func (b *backend) Placement(context.Context, *graphs.Model, runtime.Options, []*graphs.Tensor) ([]runtime.Placed, error) {
	return nil, nil
}

// Compile implements runtime.Engine.
func (b *backend) Compile(ctx context.Context, m *graphs.Model, o runtime.Options) (runtime.Program, error) {
	provider := strings.ToLower(o.Provider)
	if provider == "" {
		provider = runtime.CPU
	}
	if lacks := b.lacks(ctx, provider); lacks != nil {
		return nil, fmt.Errorf("%s: %s", b.Library(), strings.Join(lacks, "; "))
	}
	sig, err := runtime.NewSignature(m.Graph)
	if err != nil {
		return nil, err
	}
	id, err := b.session(ctx, m, asked(provider, o))
	if err != nil {
		return nil, err
	}
	p := &program{w: b.w, id: id, sig: sig}
	for _, v := range sig.Inputs {
		p.inputs = append(p.inputs, v.Name)
	}
	for _, v := range sig.Outputs {
		p.outputs = append(p.outputs, v.Name)
	}
	return p, nil
}

// session makes a session in the worker. Where a provider cannot be set up, the library takes
// the processor in silence; here that is an error.
func (b *backend) session(ctx context.Context, m *graphs.Model, h header) (id int, err error) {
	data, err := onnxio.Encode(m)
	if err != nil {
		return 0, err
	}
	r, err := b.w.call(ctx, h, data)
	if err != nil {
		return 0, err
	}
	if !slices.Contains(r.Providers, h.Providers[0]) {
		b.w.call(ctx, header{Op: "close", ID: r.ID})
		return 0, fmt.Errorf("%s could not set up %s and took %s", b.Library(), h.Providers[0], strings.Join(r.Providers, ", "))
	}
	return r.ID, nil
}

// asked is the request for a session: what right numbers and o take of the provider,
// and Options.ProviderOptions over that.
func asked(provider string, o runtime.Options) header {
	h := header{Op: "compile", Level: o.Optimize.String(), Threads: o.Threads, NoSpin: o.NoSpin, NoArena: o.NoArena, Providers: []string{names[provider]}}
	if provider == runtime.CPU {
		return h
	}
	all := map[string]string{}
	if provider == runtime.CUDA {
		all["use_tf32"] = "0" // tensor cores would round float32 to 10 bits
	}
	maps.Copy(all, o.ProviderOptions)
	h.Options = []map[string]string{all}
	return h
}

type program struct {
	w               *worker
	id              int
	sig             *runtime.Signature
	inputs, outputs []string

	running sync.RWMutex // held for reading during a call, for writing to close
	closed  bool
}

func (p *program) Inputs() []*graphs.Value  { return p.sig.Inputs }
func (p *program) Outputs() []*graphs.Value { return p.sig.Outputs }

// Run implements runtime.Program.
func (p *program) Run(ctx context.Context, in, out []*graphs.Tensor) error {
	if err := p.sig.Check(in, out); err != nil {
		return err
	}
	p.running.RLock()
	defer p.running.RUnlock()
	if p.closed {
		return runtime.ErrClosed
	}
	metas, blobs, err := pack(in)
	if err != nil {
		return err
	}
	m, err := p.w.call(ctx, header{Op: "run", ID: p.id, Inputs: p.inputs, Outputs: p.outputs, Tensors: metas}, blobs...)
	if err != nil {
		return err
	}
	got, err := unpack(m)
	if err != nil {
		return err
	}
	if len(got) != len(out) {
		return fmt.Errorf("wanted %d outputs, the worker gave %d", len(out), len(got))
	}
	for i, t := range got {
		want := p.sig.Outputs[i]
		if t.Type != want.Type {
			return fmt.Errorf("output %q: declared %v, computed %v", want.Name, want.Type, t.Type)
		}
		if out[i] != nil && !slices.Equal(out[i].Dims, t.Dims) {
			return fmt.Errorf("output %q: the tensor given has dimensions %v, computed %v", want.Name, out[i].Dims, t.Dims)
		}
	}
	for i, t := range got {
		if out[i] == nil {
			out[i] = t
			continue
		}
		to, err := raw(out[i])
		if err != nil {
			return err
		}
		copy(to, m.blobs[i])
	}
	return nil
}

// Close implements runtime.Program.
func (p *program) Close() error {
	p.running.Lock()
	defer p.running.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	_, err := p.w.call(context.Background(), header{Op: "close", ID: p.id})
	if errors.Is(err, ErrWorker) {
		return nil // what it held is gone
	}
	return err
}

// dtypes are NumPy's names of the element types that can be fed and fetched.
var dtypes = map[graphs.DType]string{
	graphs.Float32: "<f4", graphs.Float64: "<f8", graphs.Float16: "<f2",
	graphs.Int64: "<i8", graphs.Int32: "<i4", graphs.Int16: "<i2", graphs.Int8: "|i1",
	graphs.Uint64: "<u8", graphs.Uint32: "<u4", graphs.Uint16: "<u2", graphs.Uint8: "|u1", graphs.Bool: "|b1",
}

// raw is the memory of a tensor's elements.
func raw(t *graphs.Tensor) ([]byte, error) {
	switch v := t.Data.(type) {
	case []float32:
		return bytesOf(v), nil
	case []float64:
		return bytesOf(v), nil
	case []int64:
		return bytesOf(v), nil
	case []int32:
		return bytesOf(v), nil
	case []int16:
		return bytesOf(v), nil
	case []int8:
		return bytesOf(v), nil
	case []uint64:
		return bytesOf(v), nil
	case []uint32:
		return bytesOf(v), nil
	case []uint16:
		return bytesOf(v), nil
	case []uint8:
		return v, nil
	case []bool:
		return bytesOf(v), nil
	}
	return nil, fmt.Errorf("tensors of %v cannot be handed to the training worker", t.Type)
}

func bytesOf[T any](v []T) []byte {
	if len(v) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), len(v)*int(unsafe.Sizeof(v[0])))
}

func pack(in []*graphs.Tensor) (metas []meta, blobs [][]byte, err error) {
	for _, t := range in {
		b, err := raw(t)
		if err != nil {
			return nil, nil, err
		}
		d := dtypes[t.Type]
		if d == "" {
			return nil, nil, fmt.Errorf("tensors of %v cannot be handed to the training worker", t.Type)
		}
		metas, blobs = append(metas, meta{Type: d, Dims: append([]int{}, t.Dims...)}), append(blobs, b)
	}
	return metas, blobs, nil
}

func unpack(m message) (out []*graphs.Tensor, err error) {
	if len(m.Tensors) != len(m.blobs) {
		return nil, fmt.Errorf("the worker announced %d tensors and sent %d", len(m.Tensors), len(m.blobs))
	}
	for i, d := range m.Tensors {
		var t *graphs.Tensor
		for dtype, name := range dtypes {
			if name == d.Type {
				t = graphs.NewTensor(dtype, d.Dims...)
			}
		}
		if t == nil {
			return nil, fmt.Errorf("the worker sent a tensor of NumPy type %q", d.Type)
		}
		to, err := raw(t)
		if err != nil {
			return nil, err
		}
		if copy(to, m.blobs[i]) != len(m.blobs[i]) || len(to) != len(m.blobs[i]) {
			return nil, fmt.Errorf("the worker sent %d bytes for a tensor %v of %v", len(m.blobs[i]), d.Dims, t.Type)
		}
		out = append(out, t)
	}
	return out, nil
}
