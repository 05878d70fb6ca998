package sampler

import (
	"fmt"
	"runtime"
	"testing"
)

// BenchmarkNormals reports nanoseconds per normal number for one 64 × 3 × 32 × 32 batch.
func BenchmarkNormals(b *testing.B) {
	for _, procs := range []int{1, runtime.NumCPU()} {
		b.Run(fmt.Sprintf("procs=%d", procs), func(b *testing.B) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			dst, chain := make([]float32, 64*3072), make([]uint64, 64)
			for i := range chain {
				chain[i] = uint64(i)
			}
			step := uint64(0)
			for b.Loop() {
				Noise{Seed: 1}.Normals(dst, chain, step)
				step++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(dst)), "ns/normal")
			b.ReportAllocs()
		})
	}
}

// BenchmarkLangevin reports nanoseconds per entry of one step on a field that costs nothing, with
// clipping and clamping on.
func BenchmarkLangevin(b *testing.B) {
	s, err := NewState(make([]float32, 64*3072), 3072, Chains(0, 64))
	if err != nil {
		b.Fatal(err)
	}
	k, f := Langevin{Size: 0.1, Noise: 1, GradClip: 1, ClampMin: -1, ClampMax: 1}, free{}
	for b.Loop() {
		if _, err := k.Step(Noise{}, f, s); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(s.X)), "ns/entry")
	b.ReportAllocs()
}

// free is a field that is 0 everywhere.
type free struct{}

func (free) EnergyGrad(x, u, g []float32) error { return nil }
