//go:build cgo && !linux && !darwin

package ort

import (
	"context"
	"sync"

	onnx "github.com/yalue/onnxruntime_go"

	"ebmrun/graphs"
)

// kept is for systems whose library can be loaded twice, see device.go.
type kept struct{}

type loop struct{}

func (p *program) runKept(context.Context, []*graphs.Tensor, []*graphs.Tensor) (bool, error) {
	return false, nil
}

func (p *program) drop() {}

var device sync.RWMutex // see loop.go

func (p *program) endLoop() {}

func (p *program) guard() (release func()) { return func() {} }

func runOptions(string) (*onnx.RunOptions, error) { return onnx.NewRunOptions() }
