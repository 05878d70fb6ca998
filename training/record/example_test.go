package record_test

import (
	"fmt"
	"os"
	"path/filepath"

	"ebmrun/training/record"
)

func Example() {
	parent, err := os.MkdirTemp("", "record")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(parent)
	dir := filepath.Join(parent, "run")

	run, err := record.Create(dir, record.Options{
		Config:   map[string]any{"batch": 64},
		Manifest: record.Manifest{Title: "toy", System: "generative-convnet", Seed: 1},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	samples := record.Images{N: 4, C: 1, H: 8, W: 8, Data: make([]float32, 4*8*8)}
	for step := 100; step <= 300; step += 100 {
		if err := run.Metrics(step, map[string]float64{"V": 1 / float64(step), "r": 0.08}); err != nil {
			fmt.Println(err)
		}
		if err := run.Images(step, record.SamplesTag, samples); err != nil {
			fmt.Println(err)
		}
	}
	if err := run.Close(); err != nil {
		fmt.Println(err)
	}
	if err := record.Report(dir); err != nil {
		fmt.Println(err)
	}
	metrics, _ := os.ReadFile(filepath.Join(dir, "metrics.jsonl"))
	fmt.Print(string(metrics))
	// Output:
	// {"step":100,"V":0.01,"r":0.08}
	// {"step":200,"V":0.005,"r":0.08}
	// {"step":300,"V":0.0033333333333333335,"r":0.08}
}
