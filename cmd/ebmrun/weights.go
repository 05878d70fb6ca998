package main

import (
	"context"
	"fmt"

	"ebmrun/training/data"
)

// weightsOf gives the path of a named network's file, obtained where it is not
// there yet, which say is told of.
func weightsOf(ctx context.Context, say func(string)) func(name string) (string, error) {
	return func(name string) (string, error) {
		path, err := data.Obtain(ctx, name, say)
		if err != nil {
			return "", fmt.Errorf("the network %s is not there, and `ebmrun data %s` obtains it: %w", name, name, err)
		}
		return path, nil
	}
}
