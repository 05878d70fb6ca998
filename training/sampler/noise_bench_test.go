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
