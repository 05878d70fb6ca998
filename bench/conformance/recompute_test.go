package conformance

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/runtime"
)

// deep is a net of 50 convolutions of 3×3 with an activation each, and with a
// shortcut around every second one where asked for.
func deep(t *testing.T, channels, size, batch int, residual bool) *graphs.Model {
	t.Helper()
	b := graphs.NewBuilder(&graphs.Graph{Name: "deep"})
	r := rand.New(rand.NewPCG(1, 1))
	h := b.Input("x", graphs.Float32, graphs.MakeShape(batch, channels, size, size))
	skip := h
	for i := range 50 {
		w := make([]float32, channels*channels*9)
		for k := range w {
			w[k] = float32(r.NormFloat64()) / float32(3*channels)
		}
		h = b.Op("Conv", []*graphs.Value{h, b.Weight(fmt.Sprintf("w%d", i), graphs.Of(w, channels, channels, 3, 3))}, graphs.IntsAttr("pads", 1, 1, 1, 1))
		h = b.Mul(h, b.Sigmoid(h))
		if residual && i%2 == 1 {
			h = b.Add(h, skip)
			skip = h
		}
	}
	b.Output("y", b.Sum(b.Mul(h, h), false, 1, 2, 3))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	return graphs.NewModel(g)
}

// TestRecompute measures what recomputation saves on a net of 50 layers and what
// it costs, with ONNX Runtime's default optimizations: every run in a process of
// its own, memory as the peak resident size of the calls above that before them.
func TestRecompute(t *testing.T) {
	if os.Getenv("EBM_RECOMPUTE") == "" {
		t.Skip("EBM_RECOMPUTE is not set")
	}
	if kind := os.Getenv("EBM_RECOMPUTE_KIND"); kind != "" {
		measureDeep(t, kind)
		return
	}
	for _, net := range []string{"chain", "residual"} {
		var memory, seconds [2]float64
		for i, how := range []string{"plain", "again"} {
			cmd := exec.Command(os.Args[0], "-test.run", "^TestRecompute$", "-test.v")
			cmd.Env = append(os.Environ(), "EBM_RECOMPUTE_KIND="+net+" "+how)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			_, line, _ := bytes.Cut(out, []byte("measured "))
			if _, err := fmt.Sscan(string(line), &memory[i], &seconds[i]); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		t.Logf("%s: %.0f MB in %.2f s, recomputed %.0f MB in %.2f s: %.2f of the memory at %.2f of the time",
			net, memory[0], seconds[0], memory[1], seconds[1], memory[1]/memory[0], seconds[1]/seconds[0])
		if memory[1] > 0.6*memory[0] || seconds[1] > 1.5*seconds[0] {
			t.Errorf("%s: wanted at most 0.6 of the memory at 1.5 of the time", net)
		}
	}
}

func measureDeep(t *testing.T, kind string) {
	m := deep(t, 32, 96, 4, strings.HasPrefix(kind, "residual"))
	g, err := autodiff.Grad(m, autodiff.Options{Params: true, Recompute: strings.HasSuffix(kind, "again")})
	if err != nil {
		t.Fatal(err)
	}
	p, err := engine(t).Compile(t.Context(), g, runtime.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	x := make([]float32, 4*32*96*96)
	r := rand.New(rand.NewPCG(2, 2))
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	in, out := []*graphs.Tensor{graphs.Of(x, 4, 32, 96, 96)}, make([]*graphs.Tensor, len(p.Outputs()))
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	before := status(t, "VmRSS")
	best := time.Hour
	for range 3 {
		start := time.Now()
		if err := p.Run(t.Context(), in, out); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(start))
	}
	fmt.Printf("measured %g %g\n", status(t, "VmHWM")-before, best.Seconds())
}

// status reads a line of /proc/self/status in MB.
func status(t *testing.T, key string) float64 {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), key+":")
	kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return kb / 1024
}
