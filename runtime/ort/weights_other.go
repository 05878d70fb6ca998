//go:build cgo && !linux && !darwin

package ort

import (
	onnx "github.com/yalue/onnxruntime_go"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
)

func apart(m *graphs.Model) ([]byte, []*graphs.Value, error) {
	data, err := onnxio.Encode(m)
	return data, nil, err
}

func hand(*onnx.SessionOptions, []*graphs.Value) (done func(), err error) { return func() {}, nil }

func heavy([]*graphs.Value) bool { return false }

func tidy([]*graphs.Value) (after func()) { return func() {} }
