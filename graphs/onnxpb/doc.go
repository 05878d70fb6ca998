// Package onnxpb holds the ONNX wire messages, generated from ebmrun_onnx.proto.
// Only graphs/onnxio uses it.
package onnxpb

//go:generate protoc --go_out=. --go_opt=paths=source_relative ebmrun_onnx.proto
