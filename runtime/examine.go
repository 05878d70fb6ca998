package runtime

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"ebmrun/graphs"
)

// A Verdict is what is known about a provider for one graph.
type Verdict struct {
	Provider string  `json:"provider"`
	OK       bool    `json:"ok"`
	Reason   string  `json:"reason,omitempty"` // why not OK
	Distance float64 `json:"distance"`         // the largest relative L2 distance of an output from the CPU provider's
	Seconds  float64 `json:"seconds"`          // of one call of the model compared, the fastest of a few

	// Elsewhere are the nodes that the provider gave to another.
	Elsewhere []Placed `json:"elsewhere,omitempty"`

	// Remembered is set if the verdict comes from an earlier run.
	Remembered bool `json:"-"`
}

// An examination compares providers on one model and one set of inputs. What it
// needs more than once it keeps until close.
type examination struct {
	p  *program
	m  *graphs.Model
	in []*graphs.Tensor

	ready    bool
	feed     []*graphs.Tensor // in without trivial tensors
	want     []*graphs.Tensor // the CPU provider's outputs
	proof    bool             // agreement on feed means something
	seconds  float64          // of a call on the CPU provider
	reserved []Program        // to be closed
}

func (x *examination) close() {
	for _, prog := range x.reserved {
		prog.Close()
	}
}

// verdict recalls or works out whether a provider is right. The error is for what
// says nothing about the provider: ctx, or a model that fails on the CPU provider.
func (x *examination) verdict(ctx context.Context, provider string) (Verdict, error) {
	key := x.key(provider)
	if !x.p.o.Recheck {
		// A failure is tried again for a provider asked for by name: it may have
		// been mended, and the user gets the error at first hand.
		if v, ok := recall(key); ok && (v.OK || x.p.report.Requested == Auto) {
			v.Remembered = true
			return v, nil
		}
	}
	if err := x.prepare(ctx); err != nil {
		return Verdict{}, err
	}
	v := Verdict{Provider: provider, OK: true, Seconds: x.seconds}
	if provider != CPU {
		v = x.examine(ctx, provider)
	}
	if err := ctx.Err(); err != nil {
		return Verdict{}, err
	}
	if x.proof || !v.OK {
		// A cache that cannot be written costs time at the next start, nothing else.
		_ = remember(key, v)
	}
	return v, nil
}

func (x *examination) key(provider string) string {
	o := x.p.o
	dims := make([]string, len(x.in))
	for i, t := range x.in {
		dims[i] = strings.Trim(strings.ReplaceAll(fmt.Sprint(t.Dims), " ", "x"), "[]")
	}
	var opts []string
	precision := graphs.Undefined.String()
	if provider != CPU {
		precision = o.Precision.String()
		for k, v := range o.ProviderOptions {
			opts = append(opts, k+"="+v)
		}
		slices.Sort(opts)
	}
	return strings.Join([]string{
		hash(x.m), strings.Join(dims, ","), provider, strings.Join(opts, ","), x.p.b.Library(), processor(),
		fmt.Sprint(o.Threads), o.Optimize.String(), precision, fmt.Sprint("edition ", edition),
	}, "|")
}

// program compiles the model under examination for a provider.
func (x *examination) program(ctx context.Context, provider string) (Program, error) {
	if x.m == x.p.m {
		return x.p.compile(ctx, provider)
	}
	o := x.p.options(provider)
	o.Repeats = false
	o.Split = x.p.o.Probe.Split
	prog, err := x.p.b.Compile(ctx, x.m, o)
	if err == nil {
		x.reserved = append(x.reserved, prog)
	}
	return prog, err
}

// prepare runs the model on the CPU provider.
func (x *examination) prepare(ctx context.Context) error {
	if x.ready {
		return nil
	}
	prog, err := x.program(ctx, CPU)
	if err != nil {
		return err
	}
	var changed bool
	x.feed, changed = nontrivial(x.in)
	x.want = make([]*graphs.Tensor, len(prog.Outputs()))
	begin := time.Now()
	if err := prog.Run(ctx, x.feed, x.want); err != nil && !changed {
		return err
	} else if changed && (err != nil || !finite(x.want)) {
		// The made-up inputs are outside the model's domain. Those given must do,
		// and prove little.
		x.feed, x.want = x.in, make([]*graphs.Tensor, len(x.want))
		begin = time.Now()
		if err := prog.Run(ctx, x.feed, x.want); err != nil {
			return err
		}
	} else {
		x.proof = !trivialWeights(x.m.Graph) && !allZero(x.want)
	}
	// A call of many seconds is not made twice: nothing is to be chosen by tenths of it.
	if x.seconds = time.Since(begin).Seconds(); x.seconds < 3 {
		x.seconds, err = timeCalls(ctx, prog, x.feed, x.want)
	}
	x.ready = err == nil
	return err
}

// examine compares a provider with the CPU provider.
func (x *examination) examine(ctx context.Context, provider string) Verdict {
	v := Verdict{Provider: provider}
	fail := func(format string, a ...any) Verdict {
		v.Reason = brief(fmt.Sprintf(format, a...))
		return v
	}
	prog, err := x.program(ctx, provider)
	if err != nil {
		return fail("%v", strings.TrimPrefix(err.Error(), "provider "+provider+": "))
	}
	once := x.p.options(provider)
	once.Repeats = false
	placed, err := x.p.b.Placement(ctx, x.m, once, x.feed)
	if err != nil {
		return fail("%v", err)
	}
	var back []string
	for _, n := range placed {
		if n.Provider == provider {
			continue
		}
		v.Elsewhere = append(v.Elsewhere, n)
		if heavy[n.Op] {
			back = append(back, n.String())
		}
	}
	if len(back) > 0 {
		return fail("it leaves heavy nodes to another provider: %s", strings.Join(back, ", "))
	}
	feed, want, got := x.feed, x.want, make([]*graphs.Tensor, len(x.want))
	for try := 1; ; try++ {
		if err := prog.Run(ctx, feed, got); err != nil {
			return fail("%v", err)
		}
		wrong := x.compare(ctx, prog.Outputs(), feed, want, got, &v)
		if wrong == nil {
			break
		}
		if try == tries {
			return fail("%v", wrong)
		}
		if feed, want, err = x.another(ctx, feed); err != nil {
			return fail("%v", err)
		}
	}
	if v.Seconds, err = timeCalls(ctx, prog, x.feed, got); err != nil {
		return fail("%v", err)
	}
	v.OK = true
	return v
}

// tries is how many inputs a provider must be wrong on. Where a slope jumps, as that
// of ReLU does, rounding may put a unit on the other side, and the outputs then
// differ by more than rounding: by chance, and not on the next inputs. A provider
// that computes something else does so on all.
const tries = 3

// compare reports the first output that is too far from the CPU provider's, and
// notes the largest distance in v. Outputs may be apart by what rounding alone does
// to them: one whose terms cancel is nothing else.
func (x *examination) compare(ctx context.Context, outputs []*graphs.Value, feed, want, got []*graphs.Tensor, v *Verdict) error {
	v.Distance = 0
	var rounding []float64
	for i, w := range want {
		limit := tolerance(w.Type)
		if w.Type.IsFloat() {
			limit = max(limit, tolerance(x.p.o.Precision))
		}
		d := distance(w, got[i], limit)
		if !(d <= limit) && w.Type.IsFloat() {
			if rounding == nil {
				var err error
				if rounding, err = x.rounding(ctx, feed, want); err != nil {
					return err
				}
			}
			if off := apart(w, got[i]); off <= slack*rounding[i] {
				d = limit * off / (slack * rounding[i])
			}
		}
		if !(d <= limit) {
			return fmt.Errorf("output %q is wrong: relative distance %.2g from the CPU provider, wanted at most %.2g", outputs[i].Name, d, limit)
		}
		v.Distance = max(v.Distance, d)
	}
	return nil
}

// slack is how many times as far as [examination.rounding] a provider may be off:
// it adds in another order, and may have other ways to convolve.
const slack = 30

// rounding is how far, in L2, each output of the CPU provider moves when each number
// of the float32 inputs moves by half a millionth of itself, up or down: the least of
// three trials, since one may put a unit of a ReLU on its other side. An output that
// is a sum moves by that share of the size of its terms, one whose terms cancel
// exactly by what rounding has left of them.
func (x *examination) rounding(ctx context.Context, feed, want []*graphs.Tensor) ([]float64, error) {
	prog, err := x.program(ctx, CPU)
	if err != nil {
		return nil, err
	}
	least := make([]float64, len(want))
	for trial := range uint64(3) {
		moved, seed := slices.Clone(feed), trial+1
		for i, t := range feed {
			if old := t.F32(); old != nil {
				v := make([]float32, len(old))
				for j := range v {
					seed = seed*6364136223846793005 + 1442695040888963407
					v[j] = old[j] * (1 + float32(int64(seed>>63)*2-1)*0x1p-21)
				}
				moved[i] = graphs.Of(v, t.Dims...)
			}
		}
		out := make([]*graphs.Tensor, len(want))
		if err := prog.Run(ctx, moved, out); err != nil {
			return nil, err
		}
		for i := range want {
			if d := apart(want[i], out[i]); trial == 0 || d < least[i] {
				least[i] = d
			}
		}
	}
	return least, nil
}

// another returns inputs a little smaller than the given ones, with the CPU
// provider's outputs.
func (x *examination) another(ctx context.Context, in []*graphs.Tensor) (feed, want []*graphs.Tensor, err error) {
	prog, err := x.program(ctx, CPU)
	if err != nil {
		return nil, nil, err
	}
	feed = slices.Clone(in)
	for i, t := range in {
		if old := t.F32(); old != nil {
			v := make([]float32, len(old))
			for j := range v {
				v[j] = old[j] * (31.0 / 32)
			}
			feed[i] = graphs.Of(v, t.Dims...)
		}
	}
	want = make([]*graphs.Tensor, len(prog.Outputs()))
	return feed, want, prog.Run(ctx, feed, want)
}

// brief is a message on one line, without its middle if it is long: libraries put
// what happened first and why last.
func brief(s string) string {
	const head, tail = 80, 240
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > head+tail {
		s = string(r[:head]) + " … " + string(r[len(r)-tail:])
	}
	return s
}

// timeCalls is the duration, in seconds, of the fastest of a few calls: what else
// the machine does makes the others slower. A first call has been made before.
func timeCalls(ctx context.Context, prog Program, in, out []*graphs.Tensor) (float64, error) {
	const calls, budget = 5, time.Second
	best := math.Inf(1)
	for i, begin := 0, time.Now(); i < calls && (i == 0 || time.Since(begin) < budget); i++ {
		start := time.Now()
		if err := prog.Run(ctx, in, out); err != nil {
			return 0, err
		}
		best = min(best, time.Since(start).Seconds())
	}
	return best, nil
}

// nontrivial returns in with small numbers in place of float tensors that are all
// zero: a provider that drops a term whose weights are zero would pass otherwise.
func nontrivial(in []*graphs.Tensor) (feed []*graphs.Tensor, changed bool) {
	feed = slices.Clone(in)
	for i, t := range in {
		if !t.Type.IsFloat() || t.Len() == 0 || !zero(t) {
			continue
		}
		v := make([]float64, t.Len())
		for j := range v {
			_, frac := math.Modf(float64(j+1) * math.Phi) // spread evenly over [0, 1)
			v[j] = 0.2 * (frac - 0.45)
		}
		if x, err := graphs.FromFloats(t.Type, v, t.Dims...); err == nil {
			feed[i], changed = x, true
		}
	}
	return feed, changed
}

// trivialWeights reports whether a graph has constants of the size of weights,
// all of them zero.
func trivialWeights(g *graphs.Graph) bool {
	found := false
	for _, v := range g.Inits {
		if v.Const == nil || !v.Type.IsFloat() || v.Const.Len() < 16 {
			continue
		}
		if !zero(v.Const) {
			return false
		}
		found = true
	}
	return found
}

func zero(t *graphs.Tensor) bool {
	if v := t.F32(); v != nil {
		return !slices.ContainsFunc(v, func(f float32) bool { return f != 0 })
	}
	v, err := t.AsFloats()
	return err == nil && !slices.ContainsFunc(v, func(f float64) bool { return f != 0 })
}

func allZero(ts []*graphs.Tensor) bool {
	return !slices.ContainsFunc(ts, func(t *graphs.Tensor) bool { return !zero(t) })
}

func finite(ts []*graphs.Tensor) bool {
	for _, t := range ts {
		v, _ := t.AsFloats()
		for _, f := range v {
			if math.IsNaN(f) || math.IsInf(f, 0) {
				return false
			}
		}
	}
	return true
}

// tolerance is the largest relative L2 distance between two providers' outputs.
func tolerance(t graphs.DType) float64 {
	switch t {
	case graphs.Float64:
		return 1e-9
	case graphs.Float32:
		return 1e-3
	case graphs.Float16:
		return 2e-2
	case graphs.BFloat16:
		return 0.15
	}
	return 0
}

// Agree reports how two outputs of the same graph are further apart than those of two providers may be.
func Agree(want, got *graphs.Tensor) error {
	if d, limit := distance(want, got, tolerance(want.Type)), tolerance(want.Type); !(d <= limit) {
		return fmt.Errorf("relative distance %.2g, wanted at most %.2g", d, limit)
	}
	return nil
}

// distance is ‖got − want‖ / ‖want‖, which may be at most limit. Elements that are not
// finite must be the same in both. Elements of want count as at least a thousandth
// of the limit, so that rounding about zero is no difference.
func distance(want, got *graphs.Tensor, limit float64) float64 {
	diff := apart(want, got)
	if diff == 0 || math.IsInf(diff, 1) {
		return diff
	}
	var norm float64
	w, _ := want.AsFloats()
	for _, v := range w {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			norm += v * v
		}
	}
	floor := 0.0
	if limit > 0 {
		floor = 1e-3 * limit * math.Sqrt(float64(len(w)))
	}
	return diff / (math.Sqrt(norm) + floor)
}

// apart is ‖got − want‖, infinite for what cannot be compared.
func apart(want, got *graphs.Tensor) float64 {
	if want.Type != got.Type || !slices.Equal(want.Dims, got.Dims) {
		return math.Inf(1)
	}
	w, err := want.AsFloats()
	g, err2 := got.AsFloats()
	if err != nil || err2 != nil {
		return math.Inf(1)
	}
	var diff float64
	for i := range w {
		if math.IsNaN(w[i]) && math.IsNaN(g[i]) || w[i] == g[i] {
			continue
		}
		e := w[i] - g[i]
		if math.IsNaN(e) || math.IsInf(e, 0) {
			return math.Inf(1)
		}
		diff += e * e
	}
	return math.Sqrt(diff)
}
