package onnxio

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ebmrun/graphs/onnxpb"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

//go:generate go test -run TestTestdata -update

var update = flag.Bool("update", false, "write testdata")

// mlp is y = tanh(x·w + b) with a symbolic batch: the smallest useful model.
const mlp = `
ir_version: 8
producer_name: "models_test.go"
opset_import { domain: "" version: 13 }
graph {
  name: "mlp"
  input  { name: "x" type { tensor_type { elem_type: 1 shape { dim { dim_param: "batch" } dim { dim_value: 2 } } } } }
  output { name: "y" type { tensor_type { elem_type: 1 shape { dim { dim_param: "batch" } dim { dim_value: 3 } } } } }
  initializer { name: "w" data_type: 1 dims: [2, 3] float_data: [1, -1, 0.5, 0.25, 2, -2] }
  initializer { name: "b" data_type: 1 dims: [3] float_data: [0, 0.5, -0.5] }
  node { name: "dense" op_type: "Gemm" input: ["x", "w", "b"] output: "h" }
  node { name: "act" op_type: "Tanh" input: "h" output: "y" }
}`

// kitchenSink holds one of everything that must survive; see also odd.
const kitchenSink = `
ir_version: 11
producer_name: ""
producer_version: "1"
domain: "org.example"
model_version: 7
doc_string: "a model"
opset_import { version: 18 }
opset_import { domain: "com.example" version: 1 }
metadata_props { key: "k" value: "v" }
metadata_props { key: "empty" value: "" }
metadata_props { key: "no value" }
graph {
  name: "main"
  doc_string: "a graph"
  metadata_props { key: "g" value: "1" }
  input { name: "x" doc_string: "an input" metadata_props { key: "i" value: "2" }
    type { denotation: "TENSOR" tensor_type { elem_type: 1 shape { dim { dim_param: "n" denotation: "BATCH" } dim { } dim { dim_value: -1 } dim { dim_value: 4 } } } } }
  input { name: "w" type { tensor_type { elem_type: 1 shape { dim { dim_value: 2 } } } } }
  input { name: "seq" type { sequence_type { elem_type { tensor_type { elem_type: 7 } } } } }
  input { name: "cond" type { tensor_type { elem_type: 9 shape { } } } }
  input { name: "untyped" }
  output { name: "y" type { tensor_type { elem_type: 1 } } }
  output { name: "seq2" type { sequence_type { elem_type { tensor_type { elem_type: 7 } } } } }
  output { name: "z" }
  value_info { name: "h" type { tensor_type { elem_type: 1 shape { dim { dim_param: "n" } } } } doc_string: "hidden" }
  value_info { name: "nowhere" type { tensor_type { elem_type: 7 } } }
  value_info { name: "raw" type { tensor_type { elem_type: 1 shape { dim { dim_value: 2 } } } } }
  value_info { name: "y" type { tensor_type { elem_type: 1 shape { dim { dim_value: 9 } } } } }
  value_info { name: "sp" type { tensor_type { elem_type: 1 } } }
  initializer { name: "w" data_type: 1 dims: 2 float_data: [1, 2] doc_string: "weights" }
  initializer { name: "raw" data_type: 1 dims: 2 raw_data: "\000\000\200?\001\000\240\177" metadata_props { key: "t" value: "3" } }
  initializer { name: "empty" data_type: 7 dims: 0 }
  initializer { name: "emptyraw" data_type: 7 dims: [0, 3] raw_data: "" }
  initializer { name: "str" data_type: 8 dims: 3 string_data: ["a", "", "\377"] }
  sparse_initializer { values { name: "sp" data_type: 1 dims: 1 float_data: 5 } indices { data_type: 7 dims: 1 int64_data: 2 } dims: 4 }
  node { name: "first" op_type: "Custom" domain: "com.example" overload: "o" doc_string: "a node"
    metadata_props { key: "n" value: "4" }
    input: ["x", "", "w", "sp", ""] output: ["h", "", "h2"]
    attribute { name: "f" type: FLOAT f: -0.0 doc_string: "an attribute" }
    attribute { name: "i" type: INT i: 0 }
    attribute { name: "i_absent" type: INT }
    attribute { name: "s" type: STRING s: "\377\000" }
    attribute { name: "s_empty" type: STRING s: "" }
    attribute { name: "t" type: TENSOR t { name: "inner" data_type: 10 dims: 2 int32_data: [15360, 49152] } }
    attribute { name: "fs" type: FLOATS floats: [1, nan] }
    attribute { name: "is" type: INTS ints: [1, -2] }
    attribute { name: "is_empty" type: INTS }
    attribute { name: "ss" type: STRINGS strings: ["a", ""] }
    attribute { name: "ts" type: TENSORS tensors { data_type: 9 dims: 2 int32_data: [1, 7] } tensors { data_type: 9 dims: 1 raw_data: "\005" } }
    attribute { name: "tp" type: TYPE_PROTO tp { map_type { key_type: 8 value_type { tensor_type { elem_type: 1 } } } } }
    attribute { name: "tps" type: TYPE_PROTOS type_protos { optional_type { elem_type { tensor_type { elem_type: 1 } } } } }
    attribute { name: "old_float" f: 3 }
    attribute { name: "old_ints" ints: 3 }
    attribute { name: "nothing" }
    attribute { name: "both" type: INT i: 3 f: 4 }
    attribute { name: "sparse" type: SPARSE_TENSOR }
  }
  node { op_type: "SequenceAt" domain: "" input: ["seq", "empty"] output: "seq2" }
  node { name: "if" op_type: "If" domain: "ai.onnx" input: "cond" output: ["y", "z"]
    attribute { name: "then_branch" type: GRAPH g {
      name: "then"
      node { op_type: "Add" input: ["h", "w"] output: "a" }
      output { name: "a" type { tensor_type { elem_type: 1 } } }
      output { name: "h2" type { tensor_type { elem_type: 11 } } }
    } }
    attribute { name: "else_branch" type: GRAPH g {
      name: "else"
      initializer { name: "c" data_type: 11 raw_data: "\000\000\000\000\000\000\360?" }
      node { op_type: "Loop" input: ["", "cond"] output: "e"
        attribute { name: "body" type: GRAPHS graphs {
          name: "body"
          input { name: "k" } input { name: "go" }
          node { op_type: "Custom" input: ["h", "c", "raw", "go"] output: "x" }
          output { name: "x" }
        } }
      }
      output { name: "e" type { } } output { name: "c" }
    } }
  }
}
functions {
  name: "Custom" domain: "com.example" overload: "o" doc_string: "a function"
  input: ["p", "q"] output: ["r", "p"] attribute: ["alpha"]
  attribute_proto { name: "beta" type: FLOAT f: 0.5 }
  opset_import { domain: "" version: 18 }
  metadata_props { key: "f" value: "5" }
  value_info { name: "r" type { tensor_type { elem_type: 1 } } }
  node { op_type: "Elu" input: "p" output: "r" attribute { name: "alpha" type: FLOAT ref_attr_name: "alpha" } }
}`

func parse(t testing.TB, text string) *onnxpb.ModelProto {
	t.Helper()
	p := &onnxpb.ModelProto{}
	if err := prototext.Unmarshal([]byte(text), p); err != nil {
		t.Fatal(err)
	}
	return p
}

func wireBytes(t testing.TB, p proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// odd is kitchenSink with fields that the messages do not know, at every level.
func odd(t testing.TB) *onnxpb.ModelProto {
	p := parse(t, kitchenSink)
	unknown := func(ms ...proto.Message) {
		for i, m := range ms {
			b := protowire.AppendTag(nil, 900, protowire.BytesType)
			m.ProtoReflect().SetUnknown(protowire.AppendString(b, fmt.Sprint("unknown ", i)))
		}
	}
	g, f := p.Graph, p.Functions[0]
	unknown(p, g, g.Node[0], g.Node[0].Attribute[0], g.Node[0].Attribute[5], g.Node[0].Attribute[11].Tp,
		g.Initializer[0], g.Initializer[1], g.SparseInitializer[0], g.Input[0], g.Input[0].Type,
		g.Input[0].Type.GetTensorType().Shape.Dim[0], g.Output[0], g.ValueInfo[0], g.Node[2].Attribute[0].G,
		p.OpsetImport[0], p.MetadataProps[0], f, f.Node[0], f.OpsetImport[0], f.AttributeProto[0])
	// The content of the attribute "sparse" is such a field too.
	sparse := g.Node[0].Attribute[len(g.Node[0].Attribute)-1]
	sparse.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 22, protowire.BytesType), wireBytes(t, g.SparseInitializer[0])))
	return p
}

// chain is a model of a single If nested to the given depth.
func chain(depth int) *onnxpb.ModelProto {
	g := &onnxpb.GraphProto{Output: []*onnxpb.ValueInfoProto{{Name: proto.String("x")}}}
	g.Node = []*onnxpb.NodeProto{{OpType: proto.String("Constant"), Output: []string{"x"}}}
	for range depth {
		name := "x"
		g = &onnxpb.GraphProto{
			Node: []*onnxpb.NodeProto{{OpType: proto.String("If"), Output: []string{name}, Attribute: []*onnxpb.AttributeProto{{
				Name: proto.String("then_branch"), Type: onnxpb.AttributeProto_GRAPH.Enum(), G: g}}}},
			Output: []*onnxpb.ValueInfoProto{{Name: &name}},
		}
	}
	return &onnxpb.ModelProto{Graph: g}
}

// seeds are the inputs that fuzzing starts from, by name.
func seeds(t testing.TB) map[string][]byte {
	small, full := wireBytes(t, parse(t, mlp)), wireBytes(t, odd(t))
	out := map[string][]byte{
		"empty": {}, "garbage": []byte("<!DOCTYPE html>"), "mlp": small, "full": full, "deep": wireBytes(t, chain(80)),
		"truncated": small[:len(small)/2], "truncated-full": full[:len(full)*2/3], "nodes": bytes.Repeat([]byte{0x0a, 0}, 100),
	}
	for name, c := range refusals {
		out[strings.ReplaceAll(name, " ", "-")] = wireBytes(t, parse(t, c.text))
	}
	for i := 0; i < 4; i++ {
		b := bytes.Clone(full)
		for k := i + 5; k < len(b); k += 97 {
			b[k] ^= byte(1 << i)
		}
		out[fmt.Sprint("flipped-", i)] = b
	}
	return out
}

func TestTestdata(t *testing.T) {
	files := map[string][]byte{
		"testdata/mlp.onnx":      wireBytes(t, parse(t, mlp)),
		"testdata/oddities.onnx": wireBytes(t, odd(t)),
	}
	for name, b := range seeds(t) {
		files["testdata/fuzz/FuzzDecode/"+name] = fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", b)
	}
	for name, want := range files {
		if *update {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what models_test.go describes (%v); run go generate", name, err)
		}
	}
}

func le(v ...float32) []byte {
	var b []byte
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}
