package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ebmrun/graphs"
)

// A Backend is an Engine that compiles for exactly the provider it is told
// ("" is the CPU provider, "auto" is an error) and checks none.
type Backend interface {
	Engine

	// Library is the library's name and version.
	Library() string

	// Providers lists the providers, other than the CPU's, worth trying here.
	Providers() []string

	// Placement runs m once, as compiled with o, and tells which nodes ran where.
	Placement(ctx context.Context, m *graphs.Model, o Options, in []*graphs.Tensor) ([]Placed, error)
}

// Check returns an engine over b that believes no provider but the CPU's
// unchecked, and that knows "auto".
//
// On the first call of a program that is not for the CPU provider, and again for
// inputs of other dimensions, the model (or Options.Probe) runs on both providers
// with the call's inputs. They agree if each float output has a relative L2
// distance of at most 1e-9 (float64), 1e-3 (float32), 2e-2 (float16) or 0.15
// (bfloat16), the tolerance of Options.Precision if that is larger, and all other
// outputs are equal. Inputs that are all zero would
// prove nothing and are replaced by small numbers. A provider that gives
// convolutions or matrix products back to the CPU provider is refused as well.
// The CPU provider's session is closed afterwards. Graphs that draw random
// numbers cannot be compared.
//
// Verdicts are remembered in the file that [VerdictFile] names, by graph, input
// dimensions, provider and its options, library, processor, threads and
// optimization level.
func Check(b Backend) Engine { return &checked{b: b} }

type checked struct{ b Backend }

// Compile implements Engine.
func (e *checked) Compile(ctx context.Context, m *graphs.Model, o Options) (Program, error) {
	p := &program{b: e.b, m: m, o: o, open: map[string]Program{}}
	switch o.Precision {
	case graphs.Undefined, graphs.Float32, graphs.Float16, graphs.BFloat16:
	default:
		return nil, fmt.Errorf("precision %v: wanted float32, float16 or bfloat16", o.Precision)
	}
	p.report = Report{Requested: normal(o.Provider), Library: e.b.Library(), Threads: o.Threads}
	first := p.report.Requested
	if first == Auto {
		first = CPU
	}
	prog, err := p.compile(ctx, first)
	if err != nil {
		return nil, err
	}
	if p.sig, err = NewSignature(m.Graph); err != nil {
		prog.Close()
		return nil, err
	}
	always := &choice{prog: prog, provider: CPU, any: true}
	switch {
	case p.report.Requested == CPU:
		p.settle(always, "")
	case p.report.Requested == Auto && o.Deterministic:
		p.settle(always, "deterministic results were asked for")
	case p.report.Requested == Auto && len(e.b.Providers()) == 0:
		p.settle(always, "the library has no other provider")
	default:
		return p, nil
	}
	p.release()
	p.tell()
	return p, nil
}

// release lets go of the model when nothing more will be compiled of it: sessions have
// weights of their own. Heavy ones are given back at once, before a first call takes memory.
func (p *program) release() {
	const heavy = 4 << 20 // numbers
	numbers := 0
	for _, v := range p.m.Graph.Inits {
		if v.Const != nil {
			numbers += v.Const.Len()
		}
	}
	p.m, p.o.Probe, p.o.Split = nil, nil, nil
	if numbers >= heavy {
		debug.FreeOSMemory()
	}
}

// A program runs on the provider chosen for the dimensions of its inputs.
type program struct {
	b   Backend
	m   *graphs.Model
	o   Options
	sig *Signature

	choices atomic.Pointer[[]*choice] // grows under mu, read without
	calls   atomic.Int64
	busy    atomic.Int64

	mu     sync.Mutex
	open   map[string]Program // by provider
	kept   []int
	report Report
	closed bool
}

// A choice is the program to use for inputs of the given dimensions.
type choice struct {
	prog     Program
	provider string
	any      bool    // for all dimensions
	dims     [][]int // of the inputs
}

func (c *choice) fits(in []*graphs.Tensor) bool {
	if c.any {
		return true
	}
	if len(c.dims) != len(in) {
		return false
	}
	for i, t := range in {
		if t == nil || !slices.Equal(t.Dims, c.dims[i]) {
			return false
		}
	}
	return true
}

func (p *program) Inputs() []*graphs.Value  { return p.sig.Inputs }
func (p *program) Outputs() []*graphs.Value { return p.sig.Outputs }

func (p *program) Run(ctx context.Context, in, out []*graphs.Tensor) error {
	c, err := p.settled(ctx, in, out)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := c.prog.Run(ctx, in, out); err != nil {
		return err
	}
	p.calls.Add(1)
	p.busy.Add(int64(time.Since(start)))
	return nil
}

// Repeat implements Repeater, as the program that is chosen does it.
func (p *program) Repeat(ctx context.Context, in, out []*graphs.Tensor, r Repetition) error {
	if r.Fresh >= 0 && p.chosen(in) == nil {
		// What a provider is judged by is what the first call is fed.
		if err := r.Next(0, in[r.Fresh]); err != nil {
			return err
		}
	}
	c, err := p.settled(ctx, in, out)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := Repeat(ctx, c.prog, in, out, r); err != nil {
		return err
	}
	p.calls.Add(int64(r.Calls))
	p.busy.Add(int64(time.Since(start)))
	return nil
}

// Keep implements Keeper, as the programs that are chosen do it.
func (p *program) Keep(inputs ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = inputs
	p.keep(inputs...)
}

// Renew implements Keeper.
func (p *program) Renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, prog := range p.open {
		Renew(prog)
	}
}

func (p *program) keep(inputs ...int) {
	for _, prog := range p.open {
		Keep(prog, inputs...)
	}
}

// settled is the choice for inputs like in, made now if need be.
func (p *program) settled(ctx context.Context, in, out []*graphs.Tensor) (*choice, error) {
	if c := p.chosen(in); c != nil {
		return c, nil
	}
	c, changed, err := p.choose(ctx, in, out)
	if err == nil && changed {
		p.tell()
	}
	return c, err
}

func (p *program) chosen(in []*graphs.Tensor) *choice {
	if list := p.choices.Load(); list != nil {
		for _, c := range *list {
			if c.fits(in) {
				return c
			}
		}
	}
	return nil
}

// Describe implements Describer.
func (p *program) Describe() Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.report
	if prog := p.open[r.Provider]; prog != nil {
		r.Capture = Describe(prog).Capture
	}
	r.Calls, r.Busy = p.calls.Load(), time.Duration(p.busy.Load())
	return r
}

func (p *program) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	var errs []error
	for _, prog := range p.open {
		errs = append(errs, prog.Close())
	}
	return errors.Join(errs...)
}

// compile returns the program for a provider, compiled when first asked for.
func (p *program) compile(ctx context.Context, provider string) (Program, error) {
	if prog := p.open[provider]; prog != nil {
		return prog, nil
	}
	prog, err := p.b.Compile(ctx, p.m, p.options(provider))
	if err != nil {
		if provider != CPU {
			return nil, fmt.Errorf("provider %s: %w", provider, err)
		}
		return nil, err
	}
	p.open[provider] = prog
	return prog, nil
}

func (p *program) options(provider string) Options {
	o := p.o
	o.Provider, o.Probe, o.OnReport = provider, nil, nil
	if provider == CPU {
		o.ProviderOptions, o.Precision = nil, graphs.Undefined
	}
	return o
}

// tell hands the report to who wants to know. p.mu is not held, so that the
// program may be used there.
func (p *program) tell() {
	if p.o.OnReport != nil {
		p.o.OnReport(p.Describe())
	}
}

// settle records a choice and reports whether it is another provider than the one
// before. p.mu is held, or p not yet shared.
func (p *program) settle(c *choice, reason string) (changed bool) {
	var list []*choice
	if old := p.choices.Load(); old != nil {
		list = slices.Clone(*old)
	}
	list = append(list, c)
	p.choices.Store(&list)
	changed = p.report.Provider != c.provider
	p.report.Provider, p.report.Reason = c.provider, reason
	return changed
}

// choose settles on a provider for inputs of dimensions not met before.
func (p *program) choose(ctx context.Context, in, out []*graphs.Tensor) (c *choice, changed bool, err error) {
	if err := p.sig.Check(in, out); err != nil {
		return nil, false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false, ErrClosed
	}
	if c := p.chosen(in); c != nil {
		return c, false, nil
	}
	p.keep() // an examination feeds other inputs
	defer func() { p.keep(p.kept...) }()
	x := &examination{p: p, m: p.m, in: in}
	if p.o.Probe != nil {
		x.m, x.in = p.o.Probe.Model, p.o.Probe.Inputs(in)
	}
	defer x.close()

	provider, reason, err := p.pick(ctx, x)
	if err != nil {
		return nil, false, err
	}
	prog, err := p.compile(ctx, provider)
	if err != nil {
		return nil, false, err
	}
	c = &choice{prog: prog, provider: provider}
	for _, t := range in {
		c.dims = append(c.dims, slices.Clone(t.Dims))
	}
	changed = p.settle(c, reason)
	if !slices.ContainsFunc(p.sig.Inputs, func(v *graphs.Value) bool { return !v.Shape.Known() }) { // no other dimensions can come
		p.release()
	}
	return c, changed, p.closeUnused()
}

// pick decides which provider runs inputs like x's, and why no other does.
func (p *program) pick(ctx context.Context, x *examination) (provider, reason string, err error) {
	if want := p.report.Requested; want != Auto {
		v, err := x.verdict(ctx, want)
		if err != nil {
			return "", "", err
		}
		p.report.Candidates = []Verdict{v}
		if !v.OK {
			return "", "", fmt.Errorf("provider %s: %s", want, v.Reason)
		}
		return want, "", nil
	}
	best, err := x.verdict(ctx, CPU)
	if err != nil {
		return "", "", err
	}
	if !best.OK {
		return "", "", fmt.Errorf("provider %s: %s", CPU, best.Reason)
	}
	p.report.Candidates = []Verdict{best}
	var reasons []string
	for _, name := range p.b.Providers() {
		v, err := x.verdict(ctx, name)
		if err != nil {
			return "", "", err
		}
		p.report.Candidates = append(p.report.Candidates, v)
		switch {
		case !v.OK:
			reasons = append(reasons, fmt.Sprintf("%s: %s", name, v.Reason))
		case v.Seconds < best.Seconds:
			best = v
		default:
			reasons = append(reasons, fmt.Sprintf("%s is slower: %.3g ms a call, %s %.3g ms", name, 1e3*v.Seconds, best.Provider, 1e3*best.Seconds))
		}
	}
	if best.Provider != CPU {
		return best.Provider, "", nil
	}
	return CPU, strings.Join(reasons, "; "), nil
}

// closeUnused closes the programs that no choice uses.
func (p *program) closeUnused() error {
	used := map[Program]bool{}
	for _, c := range *p.choices.Load() {
		used[c.prog] = true
	}
	var errs []error
	for provider, prog := range maps.Clone(p.open) {
		if !used[prog] {
			errs = append(errs, prog.Close())
			delete(p.open, provider)
		}
	}
	return errors.Join(errs...)
}

// ErrClosed is returned by Run on a closed program.
var ErrClosed = errors.New("the program is closed")
