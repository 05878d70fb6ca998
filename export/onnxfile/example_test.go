package onnxfile_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"ebmrun/export/onnxfile"
	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/chain"
	"ebmrun/runtime/ref"
	"ebmrun/training/bind"
	"ebmrun/training/sampler"
)

// An energy of one's own, U = 2(x − 3)², is written as a graph and exported. Whoever
// gets the file, here or elsewhere, draws from it with the step in its metadata.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, onnxfile.EnergyFile)
	if err := writeWell(file); err != nil {
		fmt.Println(err)
		return
	}
	x, err := draw(file, 2000)
	if err != nil {
		fmt.Println(err)
		return
	}
	mean, square := 0.0, 0.0
	for _, v := range x {
		mean += float64(v) / float64(len(x))
		square += float64(v-3) * float64(v-3) / float64(len(x))
	}
	fmt.Printf("mean %.1f, variance %.2f\n", mean, square)
	// Output: mean 3.0, variance 0.25
}

func writeWell(file string) error {
	b := graphs.NewBuilder(&graphs.Graph{Name: "well"})
	x := b.Input(onnxmodels.X, graphs.Float32, graphs.Shape{onnxmodels.Batch, graphs.D(1)})
	d := b.Sub(x, b.Scalar(x, 3))
	u := b.Sum(b.Scale(b.Mul(d, d), 2), false, 1)
	b.Output(onnxmodels.Energy, u)
	b.Output(onnxmodels.Score, b.Neg(u))
	g, err := b.Graph()
	if err != nil {
		return err
	}
	m, err := onnxmodels.Of(graphs.NewModel(g))
	if err != nil {
		return err
	}
	return onnxfile.Energy(file, m, onnxfile.Meta{Step: chain.Step{Size: 0.1, Noise: 1}, Steps: 500})
}

// draw runs n chains from 0.
func draw(file string, n int) ([]float32, error) {
	read, err := onnxio.Read(file)
	if err != nil {
		return nil, err
	}
	meta, err := onnxfile.ReadMeta(read)
	if err != nil {
		return nil, err
	}
	m, err := onnxmodels.Of(read)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	e, err := bind.Freeze(ctx, m, ref.New(), bind.Options{}) // or ort.Open("")
	if err != nil {
		return nil, err
	}
	defer e.Close()
	s, err := sampler.NewState(make([]float32, n*m.Size()), m.Size(), sampler.Chains(0, n))
	if err != nil {
		return nil, err
	}
	kernel := sampler.Langevin{Size: float32(meta.Step.Size), Noise: float32(meta.Step.Noise)}
	_, err = sampler.Run(ctx, sampler.Noise{Seed: 1}, kernel, e, s, meta.Steps, nil)
	return s.X, err
}
