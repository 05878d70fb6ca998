//go:build cgo

package ort

import (
	"context"
	goruntime "runtime"
	"testing"
	"time"

	"ebmrun/graphs"
	"ebmrun/runtime"
)

// A program that is dropped without Close must not end the process.
func TestDroppedProgram(t *testing.T) {
	e := engineFor(t)
	g := &graphs.Graph{Name: "g"}
	b := graphs.NewBuilder(g)
	x := b.Input("x", graphs.Float32, graphs.MakeShape(4))
	b.Output("y", b.Exp(x))
	if _, err := b.Graph(); err != nil {
		t.Fatal(err)
	}
	collected := make(chan bool, 1)
	func() {
		p, err := e.Compile(context.Background(), graphs.NewModel(g), runtime.Options{})
		if err != nil {
			t.Fatal(err)
		}
		in := []*graphs.Tensor{graphs.Of([]float32{1, 2, 3, 4}, 4)}
		if err := p.Run(context.Background(), in, make([]*graphs.Tensor, 1)); err != nil {
			t.Fatal(err)
		}
		goruntime.AddCleanup(p.(*program), func(c chan bool) { c <- true }, collected)
	}()
	for range 50 {
		goruntime.GC()
		select {
		case <-collected:
			goruntime.GC() // what the program held goes next
			goruntime.GC()
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Error("the program was never collected")
}
