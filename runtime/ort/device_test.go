//go:build cgo && (linux || darwin)

package ort

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	onnx "github.com/yalue/onnxruntime_go"

	"ebmrun/graphs"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
)

// decay is x ← a·x + noise, with the sums of the new x as a second output and how
// often it was reached as a scalar.
func decay(t testing.TB) *graphs.Model {
	return enginetest.Build(t, func(b *graphs.Builder) {
		x := b.Input("x", graphs.Float32, graphs.MakeShape(3, 2))
		a := b.Input("a", graphs.Float32, graphs.Shape{})
		noise := b.Input("noise", graphs.Float32, graphs.MakeShape(3, 2))
		y := b.Add(b.Mul(x, a), noise)
		b.Output("sum", b.Sum(y, false, 1))
		b.Output("y", y)
		b.Output("total", b.Sum(y, false))
	})
}

// TestRepeat makes the same calls one by one and on bindings whose state stays where
// it is, on the CPU provider's own memory: where there is a graphics processor only
// the name of the memory differs.
func TestRepeat(t *testing.T) {
	e := engineFor(t)
	provider, memory := enginetest.Provider(), "Cpu"
	if m := memories[provider]; m != "" {
		memory = m
	}
	compiled := enginetest.Compile(t, e, decay(t), runtime.Options{Provider: provider, ProviderOptions: enginetest.ProviderOptions(), Repeats: true}).(*program)
	for _, calls := range []int{1, 2, 3, 8} {
		var ends [2][]float32
		var seen [2][]float32
		for way, m := range []string{"", memory} {
			compiled.memory = m
			x, y := graphs.Of([]float32{1, 2, 3, 4, 5, 6}, 3, 2), graphs.NewTensor(graphs.Float32, 3, 2)
			a, noise := graphs.Of([]float32{0.5}), graphs.NewTensor(graphs.Float32, 3, 2)
			sum, total := graphs.NewTensor(graphs.Float32, 3), graphs.NewTensor(graphs.Float32)
			err := runtime.Repeat(t.Context(), compiled, []*graphs.Tensor{x, a, noise}, []*graphs.Tensor{sum, y, total}, runtime.Repetition{
				Calls: calls, From: 1, To: 0, Fresh: 2,
				Next: func(call int, t *graphs.Tensor) error {
					for i := range t.F32() {
						t.F32()[i] = float32(call*10 + i)
					}
					return nil
				},
				Done: func(int) error {
					seen[way] = append(append(seen[way], sum.F32()...), total.F32()...)
					return nil
				},
			})
			if err != nil {
				t.Fatalf("%d calls, memory %q: %v", calls, m, err)
			}
			if ends[way] = y.F32(); x.F32()[0] != 1 {
				t.Errorf("%d calls, memory %q: the start was written to", calls, m)
			}
		}
		if !slices.Equal(ends[0], ends[1]) || !slices.Equal(seen[0], seen[1]) {
			t.Errorf("%d calls: one by one %v %v, resident %v %v", calls, ends[0], seen[0], ends[1], seen[1])
		}
		if capture := compiled.Describe().Capture; calls > 1 && provider == runtime.CUDA && capture != Captured {
			t.Errorf("%d calls: %s", calls, capture)
		}
		if calls == 1 && ends[1][0] != 0.5 {
			t.Errorf("one call: wanted 0.5, got %v", ends[1][0])
		}
	}
}

// TestKeep: inputs that are kept are taken once, whatever is fed in their place, until they are
// renewed; what is computed is the same, in new tensors and in given ones. On the CPU provider's own
// memory: where there is a graphics processor only the name of the memory differs.
func TestKeep(t *testing.T) {
	e := engineFor(t)
	provider, memory := enginetest.Provider(), "Cpu"
	if m := memories[provider]; m != "" {
		memory = m
	}
	p := enginetest.Compile(t, e, decay(t), runtime.Options{Provider: provider, ProviderOptions: enginetest.ProviderOptions(), Repeats: true}).(*program)
	p.memory = memory
	x, noise := graphs.Of([]float32{1, 2, 3, 4, 5, 6}, 3, 2), graphs.NewTensor(graphs.Float32, 3, 2)
	y := graphs.NewTensor(graphs.Float32, 3, 2)
	half, double := graphs.Of([]float32{0.5}), graphs.Of([]float32{2})
	call := func(a *graphs.Tensor, want float32) {
		t.Helper()
		for _, out := range [][]*graphs.Tensor{make([]*graphs.Tensor, 3), {nil, y, nil}} {
			if err := p.Run(t.Context(), []*graphs.Tensor{x, a, noise}, out); err != nil {
				t.Fatal(err)
			}
			sum, total := float32(0), out[2].F32()[0]
			for i, v := range out[1].F32() {
				if sum += v; v != want*x.F32()[i] {
					t.Errorf("times %g: %g became %g", want, x.F32()[i], v)
				}
			}
			if total != sum || out[0].F32()[2] != out[1].F32()[4]+out[1].F32()[5] {
				t.Errorf("times %g: sums %v and %g of %v", want, out[0].F32(), total, out[1].F32())
			}
		}
	}
	call(double, 2)
	p.Keep(1)
	call(half, 0.5)
	call(double, 0.5) // not looked at
	x.F32()[0] = 7
	call(double, 0.5)
	p.Renew()
	call(double, 2)
	call(half, 2)
	for range 3 {
		x = graphs.Of([]float32{1, 2, 3, 4, 5, 6}, 3, 2)
		call(half, 2)
	}
	if capture := p.Describe().Capture; provider == runtime.CUDA && capture != Captured {
		t.Error(capture)
	}
	p.Keep()
	call(half, 0.5)
	ctx, cancel := context.WithCancel(t.Context())
	p.Keep(1)
	cancel()
	if err := p.Run(ctx, []*graphs.Tensor{x, half, noise}, make([]*graphs.Tensor, 3)); !errors.Is(err, context.Canceled) {
		t.Errorf("wanted an error that it was stopped, got %v", err)
	}
	call(half, 0.5)
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Error(err)
	}
}

// TestRepeatOtherwise: what is kept for repeated calls serves none of another kind.
func TestRepeatOtherwise(t *testing.T) {
	e := engineFor(t)
	p := enginetest.Compile(t, e, decay(t), runtime.Options{Provider: enginetest.Provider(), ProviderOptions: enginetest.ProviderOptions(), Repeats: true}).(*program)
	if p.memory == "" {
		p.memory = processor
	}
	x, y := graphs.Of([]float32{1, 2, 3, 4, 5, 6}, 3, 2), graphs.NewTensor(graphs.Float32, 3, 2)
	rest := []*graphs.Tensor{graphs.NewTensor(graphs.Float32, 3), graphs.NewTensor(graphs.Float32)}
	for _, c := range []struct {
		a     float32
		fresh int
	}{{0.5, 2}, {0.5, -1}, {2, 2}, {0, 2}, {2, -1}} {
		noise, last := graphs.Of([]float32{1, 1, 1, 1, 1, 1}, 3, 2), float32(1)
		if c.fresh >= 0 {
			last = 2
		}
		err := runtime.Repeat(t.Context(), p, []*graphs.Tensor{x, graphs.Of([]float32{c.a}), noise}, []*graphs.Tensor{rest[0], y, rest[1]}, runtime.Repetition{
			Calls: 2, From: 1, To: 0, Fresh: c.fresh,
			Next: func(call int, t *graphs.Tensor) error {
				for i := range t.F32() {
					t.F32()[i] = 1 + float32(call)
				}
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range x.F32() {
			if want := (v*c.a+1)*c.a + last; y.F32()[i] != want {
				t.Errorf("times %g, fresh input %d: %g became %g, wanted %g", c.a, c.fresh, v, y.F32()[i], want)
			}
		}
	}
}

func TestRepeatStops(t *testing.T) {
	e := engineFor(t)
	p := enginetest.Compile(t, e, decay(t), runtime.Options{}).(*program)
	p.memory = "Cpu"
	sick := errors.New("no more")
	for name, c := range map[string]struct {
		next, done func(cancel func(), call int) error
		want       error
	}{
		"next":     {func(_ func(), call int) error { return []error{nil, sick, nil, nil, nil}[call] }, nil, sick},
		"done":     {nil, func(_ func(), call int) error { return []error{nil, sick}[call] }, sick},
		"canceled": {nil, func(cancel func(), call int) error { cancel(); return nil }, context.Canceled},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		six := func() *graphs.Tensor { return graphs.NewTensor(graphs.Float32, 3, 2) }
		err := runtime.Repeat(ctx, p, []*graphs.Tensor{six(), graphs.NewTensor(graphs.Float32), six()},
			[]*graphs.Tensor{graphs.NewTensor(graphs.Float32, 3), six(), graphs.NewTensor(graphs.Float32)}, runtime.Repetition{
				Calls: 5, From: 1, To: 0, Fresh: 2,
				Next: func(call int, _ *graphs.Tensor) error {
					if c.next != nil {
						return c.next(cancel, call)
					}
					return nil
				},
				Done: func(call int) error {
					if calls++; c.done != nil {
						return c.done(cancel, call)
					}
					return nil
				},
			})
		cancel()
		if !errors.Is(err, c.want) || calls > 2 {
			t.Errorf("%s: wanted %v after at most two calls, got %v after %d", name, c.want, err, calls)
		}
	}
	err := runtime.Repeat(t.Context(), p, nil, nil, runtime.Repetition{Calls: 1, From: 7})
	if err == nil {
		t.Error("a state from output 7: no error")
	}
}

// TestProve: a captured call is believed if it does what a plain one does, on what it was captured with and on
// other inputs. On the CPU provider's own memory a call is captured by a function here.
func TestProve(t *testing.T) {
	e := engineFor(t)
	six := func() *graphs.Tensor { return graphs.NewTensor(graphs.Float32, 3, 2) }
	in := []*graphs.Tensor{graphs.Of([]float32{1, 2, 3, 4, 5, 6}, 3, 2), graphs.Of([]float32{0.5}), six()}
	out := []*graphs.Tensor{graphs.NewTensor(graphs.Float32, 3), six(), graphs.NewTensor(graphs.Float32)}
	r := runtime.Repetition{Calls: 2, From: 1, To: 0, Fresh: 2, Next: func(call int, t *graphs.Tensor) error {
		for i := range t.F32() {
			t.F32()[i] = float32(call + i)
		}
		return nil
	}}
	type capture = func(l *loop, turn, times int, plain func() error) error
	// frozen gives, from the second replay on, what the first gave.
	first := map[int][]*graphs.Tensor{}
	frozen := func(l *loop, turn, times int, plain func() error) error {
		for i, b := range l.turns[turn].out {
			if times == 1 {
				continue
			}
			if err := b.load(first[turn][i]); err != nil {
				return err
			}
		}
		if times > 1 {
			return nil
		}
		err := plain()
		for i, b := range l.turns[turn].out {
			end := graphs.NewTensor(graphs.Float32, out[i].Dims...)
			err = errors.Join(err, b.store(end))
			first[turn] = append(first[turn], end)
		}
		return err
	}
	for name, c := range map[string]struct {
		replay capture
		wrong  string
	}{
		"right":   {func(_ *loop, _, _ int, plain func() error) error { return plain() }, ""},
		"nothing": {func(*loop, int, int, func() error) error { return nil }, "of a captured call: relative distance +Inf"},
		"frozen":  {frozen, "of a captured call: relative distance"},
		"failing": {func(*loop, int, int, func() error) error { return errors.New("900") }, "900"},
	} {
		p := enginetest.Compile(t, e, decay(t), runtime.Options{Provider: runtime.CPU}).(*program)
		p.memory = processor
		if err := loadAPI(); err != nil {
			t.Fatal(err)
		}
		l, err := p.newLoop(in, out, r)
		if err != nil {
			t.Fatal(err)
		}
		times, plain := [2]int{}, l.call
		l.call = func(ctx context.Context, turn int, o *onnx.RunOptions) error {
			if o == nil {
				return plain(ctx, turn, nil)
			}
			times[turn]++
			return c.replay(l, turn, times[turn], func() error { return plain(ctx, turn, nil) })
		}
		wrong, err := l.prove(t.Context(), in, out, r)
		if err != nil {
			t.Fatal(name, err)
		}
		if c.wrong == "" && wrong != nil || c.wrong != "" && (wrong == nil || !strings.Contains(wrong.Error(), c.wrong)) {
			t.Errorf("%s: wanted %q, got %v", name, c.wrong, wrong)
		}
	}
}

// TestTable holds the places of functions in the library's table against the header
// of the binding.
func TestTable(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/yalue/onnxruntime_go").Output()
	if err != nil {
		t.Skip("no go command: ", err)
	}
	f, err := os.Open(filepath.Join(strings.TrimSpace(string(dir)), "onnxruntime_c_api.h"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entry := regexp.MustCompile(`^\s*(?:ORT_API2_STATUS\((\w+)|ORT_CLASS_RELEASE2?\((\w+)\)|.*\(ORT_API_CALL\*\s*(\w+)\))`)
	at, inside := map[string]int{}, false
	for s := bufio.NewScanner(f); s.Scan(); {
		switch line := s.Text(); {
		case strings.HasPrefix(line, "struct OrtApi {"):
			inside = true
		case inside && strings.HasPrefix(line, "}"):
			inside = false
		case inside && entry.MatchString(line):
			m := entry.FindStringSubmatch(line)
			name := m[1] + m[3]
			if m[2] != "" {
				name = "Release" + strings.TrimPrefix(m[2], "Ort")
			}
			at[strings.ToLower(name)] = len(at)
		}
	}
	source, err := os.ReadFile("device.go")
	if err != nil {
		t.Fatal(err)
	}
	used := regexp.MustCompile(`(?m)^\t([A-Z_]+) = (\d+),$`).FindAllStringSubmatch(string(source), -1)
	if len(used) < 10 {
		t.Fatalf("found %d places in device.go", len(used))
	}
	for _, u := range used {
		name := strings.ToLower(strings.ReplaceAll(u[1], "_", ""))
		if got, ok := at[name]; !ok || strconv.Itoa(got) != u[2] {
			t.Errorf("%s: used at %s, in the header at %d (%v)", u[1], u[2], got, ok)
		}
	}
}
