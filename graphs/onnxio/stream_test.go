package onnxio

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxpb"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// TestStream: a file that is written piece by piece is what Encode gives, and
// reading it, large elements apart, is what Decode gives.
func TestStream(t *testing.T) {
	models := seeds(t)
	for _, name := range []string{"conv2d.onnx", "mlp.onnx", "oddities.onnx", "sequence.onnx", "zfnet512.onnx"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		models[name] = b
	}
	b := graphs.NewBuilder(&graphs.Graph{})
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.D(1)})
	b.Weight("half", &graphs.Tensor{Type: graphs.Float16, Dims: []int{70001}, Data: make([]uint16, 70001)})
	b.Weight("empty", graphs.NewTensor(graphs.Float32, 0))
	b.Output("y", b.Mul(x, b.Weight("long", graphs.NewTensor(graphs.Float32, 1<<17+1))))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	if models["pieces"], err = Encode(graphs.NewModel(g)); err != nil {
		t.Fatal(err)
	}
	for name, file := range models {
		m, err := Decode(file)
		if err != nil {
			continue
		}
		want, err := Encode(m)
		if err != nil {
			continue
		}
		path := filepath.Join(t.TempDir(), "m.onnx")
		if err := Write(path, m); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, want) {
			t.Errorf("%s: Write gives %d bytes, other than the %d of Encode", name, len(got), len(want))
		}
		again, err := Read(path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := Encode(again); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: what is read differs: %v", name, err)
		}
	}
}

// TestLift: parsing with large elements taken out gives what parsing gives, also
// where the graph comes in two fields or a tensor has its elements twice.
func TestLift(t *testing.T) {
	field := func(num protowire.Number, content []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), content)
	}
	large := func(fill byte) []byte { return bytes.Repeat([]byte{fill}, minLifted) }
	name := func(s string) []byte { return field(8, []byte(s)) }
	plain := slices.Concat(field(graphInitializer, slices.Concat(name("a"), field(tensorRaw, large(1)))), field(graphInitializer, name("b")))
	twice := field(graphInitializer, slices.Concat(field(tensorRaw, large(2)), name("c"), field(tensorRaw, large(3))))
	for label, c := range map[string]struct {
		file []byte
		want int // tensors taken out
	}{
		"one":        {field(modelGraph, plain), 1},
		"two graphs": {slices.Concat(field(modelGraph, plain), field(6, []byte("doc")), field(modelGraph, plain)), 2},
		"twice":      {field(modelGraph, slices.Concat(twice, plain, plain, plain)), 3},
		"few":        {field(modelGraph, slices.Concat(twice, plain)), 0},
		"wrong type": {slices.Concat(field(modelGraph, plain), []byte{modelGraph << 3, 1}, field(modelGraph, slices.Concat([]byte{graphInitializer << 3, 1}, plain))), 2},
		"empty":      {nil, 0},
	} {
		want, got := &onnxpb.ModelProto{}, &onnxpb.ModelProto{}
		if err := proto.Unmarshal(c.file, want); err != nil {
			t.Fatal(label, err)
		}
		rest, raws := lift(c.file)
		if err := proto.Unmarshal(rest, got); err != nil {
			t.Fatal(label, err)
		}
		if len(raws) != c.want {
			t.Errorf("%s: %d tensors taken out, wanted %d", label, len(raws), c.want)
		}
		for i, raw := range raws {
			if got.Graph.Initializer[i].RawData != nil {
				t.Errorf("%s: tensor %d was parsed with its elements", label, i)
			}
			got.Graph.Initializer[i].RawData = raw
		}
		if !proto.Equal(got, want) {
			t.Errorf("%s: parsed to something else", label)
		}
	}
}
