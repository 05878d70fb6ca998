package data_test

import (
	"context"
	"fmt"

	"ebmrun/training/data"
)

func Example() {
	glyphs, err := data.Load(context.Background(), "synthetic/glyph16", data.Options{Limit: 100, Seed: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	batches, err := data.NewLoader(glyphs, 32, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 4 {
		batch := batches.Next()
		fmt.Println(len(batch.X), len(batch.Labels))
	}
	fmt.Printf("%+v\n", batches.Position())
	// Output:
	// 8192 32
	// 8192 32
	// 8192 32
	// 8192 32
	// {Seed:1 Epoch:1 Index:28}
}
