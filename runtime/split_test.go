package runtime_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/runtime"
	"ebmrun/runtime/ref"
)

// batchwise is y = x·w + noise₀ − noise₁ per example, and Σ y over the batch.
func batchwise(t testing.TB, n int) *graphs.Model {
	t.Helper()
	batch := graphs.Sym("batch")
	b := graphs.NewBuilder(&graphs.Graph{Name: "batchwise"})
	x := b.Input("x", graphs.Float32, graphs.Shape{batch, graphs.D(3)})
	noise := b.Input("noise", graphs.Float32, graphs.Shape{graphs.D(2), batch, graphs.D(3)})
	w := b.Input("w", graphs.Float32, graphs.Shape{graphs.D(3)})
	at := func(i int64) *graphs.Value { return b.Gather(noise, b.Const(graphs.Of([]int64{i})), 0) }
	y := b.Add(b.Mul(x, w), b.Sub(at(0), at(1)))
	b.Output("sum", b.Sum(y, false, 0))
	b.Output("y", y)
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	m := graphs.NewModel(g)
	if n > 0 {
		if _, err := passes.SetBatch(g, "batch", n); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func splitting(t testing.TB, n int) *runtime.Split {
	return &runtime.Split{N: n, In: []int{0, 1, -1}, Out: []int{-1, 0}, Model: func(n int) (*graphs.Model, error) { return batchwise(t, n), nil }}
}

func numbers(n int, step float32) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = step*float32(i) - 3
	}
	return x
}

func run(t testing.TB, p runtime.Program, n int, out []*graphs.Tensor) {
	t.Helper()
	in := []*graphs.Tensor{graphs.Of(numbers(3*n, 0.5), n, 3), graphs.Of(numbers(6*n, 0.25), 2, n, 3), graphs.Of([]float32{1, -2, 3}, 3)}
	if err := p.Run(t.Context(), in, out); err != nil {
		t.Fatal(err)
	}
}

// TestParallel: the parts together give what the whole gives, for even and uneven
// parts, buffers given and made, one call after another.
func TestParallel(t *testing.T) {
	const n = 7
	compile := func(m *graphs.Model) (runtime.Program, error) {
		return ref.New().Compile(t.Context(), m, runtime.Options{})
	}
	whole, err := compile(batchwise(t, n))
	if err != nil {
		t.Fatal(err)
	}
	want := make([]*graphs.Tensor, 2)
	run(t, whole, n, want)
	for _, c := range [][2]int{{1, 1}, {2, 2}, {3, 3}, {4, 4}, {5, 5}, {6, 6}, {7, 7}, {1, 2}, {1, 3}, {1, 7}, {2, 3}, {2, 4}, {2, 7}, {3, 5}} {
		lanes, parts, compiled := c[0], c[1], 0
		p, err := runtime.Parallel(splitting(t, n), lanes, parts, func(m *graphs.Model) (runtime.Program, error) {
			compiled++
			return compile(m)
		})
		if err != nil {
			t.Fatal(err)
		}
		if sizes := 1 + min(n%parts, 1); compiled != sizes {
			t.Errorf("%d parts of %d sizes: %d programs", parts, sizes, compiled)
		}
		for range 3 {
			for _, out := range [][]*graphs.Tensor{{nil, nil}, {graphs.NewTensor(graphs.Float32, 3), graphs.NewTensor(graphs.Float32, n, 3)}} {
				run(t, p, n, out)
				for i := range want {
					// the numbers are multiples of 1/4: sums are exact in any order
					if !slices.Equal(out[i].F32(), want[i].F32()) || !slices.Equal(out[i].Dims, want[i].Dims) {
						t.Fatalf("%d lanes, %d parts, output %d: got %v, wanted %v", lanes, parts, i, out[i], want[i])
					}
				}
			}
		}
		if err := errors.Join(p.Close(), p.Close()); err != nil {
			t.Error(err)
		}
		if err := p.Run(t.Context(), []*graphs.Tensor{graphs.Of(numbers(3*n, 1), n, 3), graphs.Of(numbers(6*n, 1), 2, n, 3), graphs.Of(numbers(3, 1), 3)}, want); !errors.Is(err, runtime.ErrClosed) {
			t.Errorf("run after close: %v", err)
		}
	}
}

// TestParallelConcurrently: calls at once do not mix.
func TestParallelConcurrently(t *testing.T) {
	const n = 8
	p, err := runtime.Parallel(splitting(t, n), 2, 2, func(m *graphs.Model) (runtime.Program, error) {
		return ref.New().Compile(t.Context(), m, runtime.Options{})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			x := make([]float32, 3*n)
			for i := range x {
				x[i] = float32(k)
			}
			in := []*graphs.Tensor{graphs.Of(x, n, 3), graphs.NewTensor(graphs.Float32, 2, n, 3), graphs.Of([]float32{1, 1, 1}, 3)}
			for range 20 {
				out := make([]*graphs.Tensor, 2)
				if err := p.Run(context.Background(), in, out); err != nil {
					t.Error(err)
					return
				}
				if !slices.Equal(out[1].F32(), x) || out[0].F32()[2] != float32(n*k) {
					t.Errorf("call %d got %v, %v", k, out[0], out[1])
				}
			}
		})
	}
	wg.Wait()
}

func TestParallelErrors(t *testing.T) {
	const n = 8
	compile := func(m *graphs.Model) (runtime.Program, error) {
		return ref.New().Compile(t.Context(), m, runtime.Options{})
	}
	for want, spoil := range map[string]func(s *runtime.Split){
		"axes of 3 inputs":   func(s *runtime.Split) { s.In = s.In[:2] },
		"no input has":       func(s *runtime.Split) { s.In = []int{-1, -1, -1} },
		"axis 1 is not":      func(s *runtime.Split) { s.In[0] = 1 },
		"wanted [8,3] for 4": func(s *runtime.Split) { s.Out[1] = -1 }, // would be summed
		"axis 0 is not":      func(s *runtime.Split) { s.Out[0] = 0 },
		"boom":               func(s *runtime.Split) { s.Model = func(int) (*graphs.Model, error) { return nil, errors.New("boom") } },
	} {
		s := splitting(t, n)
		spoil(s)
		if _, err := runtime.Parallel(s, 2, 2, compile); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, wanted %q", err, want)
		}
	}
	// a part that fails ends the call with its error
	p, err := runtime.Parallel(splitting(t, n), 2, 2, compile)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in := []*graphs.Tensor{graphs.NewTensor(graphs.Float32, n, 3), graphs.NewTensor(graphs.Float32, 2, n, 3), graphs.NewTensor(graphs.Float32, 3)}
	if err := p.Run(ctx, in, make([]*graphs.Tensor, 2)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := p.Run(t.Context(), in[:2], make([]*graphs.Tensor, 2)); err == nil {
		t.Error("a call with an input too few went through")
	}
}

func TestLanes(t *testing.T) {
	for _, c := range []struct{ n, threads, want int }{{64, 2, 2}, {64, 1, 1}, {3, 2, 1}, {9, 8, 2}, {8, 2, 2}} {
		if got := (&runtime.Split{N: c.n}).Lanes(c.threads); got != c.want {
			t.Errorf("batch %d on %d threads: %d lanes, wanted %d", c.n, c.threads, got, c.want)
		}
	}
	if got := (*runtime.Split)(nil).Lanes(8); got != 1 {
		t.Errorf("no split: %d lanes", got)
	}
}

// TestParts: lanes are of equal length, and no part has more examples than asked for.
func TestParts(t *testing.T) {
	for _, c := range []struct{ n, lanes, most, want int }{
		{100, 2, 0, 2}, {100, 2, 50, 2}, {100, 2, 49, 4}, {100, 1, 100, 1}, {100, 1, 30, 4}, {7, 2, 1, 7}, {64, 3, 10, 9}, {64, 2, 1000, 2},
	} {
		s := runtime.Split{N: c.n}
		got := s.Parts(c.lanes, c.most)
		if got != c.want {
			t.Errorf("%+v: got %d parts", c, got)
		}
		for i := range got {
			if size := c.n*(i+1)/got - c.n*i/got; c.most > 0 && size > c.most {
				t.Errorf("%+v: part %d has %d examples", c, i, size)
			}
		}
	}
	if got := (*runtime.Split)(nil).Parts(1, 10); got != 1 {
		t.Errorf("without a split: %d parts", got)
	}
}
