package onnxio

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxpb"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

func decodeText(t testing.TB, text string) *graphs.Model {
	t.Helper()
	m, err := Decode(wireBytes(t, parse(t, text)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func encodeParse(t testing.TB, m *graphs.Model) *onnxpb.ModelProto {
	t.Helper()
	b, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	p := &onnxpb.ModelProto{}
	if err := proto.Unmarshal(b, p); err != nil {
		t.Fatal(err)
	}
	return p
}

func diff(t *testing.T, got, want proto.Message) {
	t.Helper()
	if proto.Equal(got, want) {
		return
	}
	g := strings.Split(prototext.Format(got), "\n")
	w := strings.Split(prototext.Format(want), "\n")
	for i := range min(len(g), len(w)) {
		if strings.Join(strings.Fields(g[i]), " ") != strings.Join(strings.Fields(w[i]), " ") {
			t.Fatalf("line %d: got %s\nwant %s", i, g[i], w[i])
		}
	}
	t.Fatalf("got %d lines, want %d, or a field differs that is not shown", len(g), len(w))
}

func TestRoundTrip(t *testing.T) {
	paths, _ := filepath.Glob("testdata/*.onnx")
	if len(paths) < 4 {
		t.Fatalf("found %d files", len(paths))
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want := &onnxpb.ModelProto{}
			if err := proto.Unmarshal(b, want); err != nil {
				t.Fatal(err)
			}
			m, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			diff(t, encodeParse(t, m), want)
			first, _ := Encode(m)
			again, _ := Encode(m)
			if !bytes.Equal(first, again) {
				t.Error("two encodings differ")
			}
			to := filepath.Join(t.TempDir(), "m.onnx")
			if err := Write(to, m); err != nil {
				t.Fatal(err)
			}
			if got, _ := os.ReadFile(to); !bytes.Equal(got, first) {
				t.Error("Write and Encode differ")
			}
		})
	}
}

func TestDecodeLinks(t *testing.T) {
	m := decodeText(t, kitchenSink)
	if m.IR != 11 || m.Opset("") != 18 || m.Opset("com.example") != 1 || m.Meta("k") != "v" || m.ModelVer != 7 || m.Doc != "a model" {
		t.Errorf("model fields: %+v", m)
	}
	g := m.Graph
	first, branch := g.Nodes[0], g.Nodes[2]
	x, w := g.Input("x"), g.Input("w")
	h := g.Find("h")
	if first.In(0) != x || first.In(1) != nil || first.In(2) != w || len(first.Inputs) != 5 || first.Out(1) != nil || first.Out(0) != h || h.From != first {
		t.Error("inputs and outputs of the first node are not linked")
	}
	wantShape := graphs.Shape{graphs.Sym("n"), graphs.UnknownDim, graphs.UnknownDim, graphs.D(4)}
	if x.Type != graphs.Float32 || !slices.Equal(x.Shape, wantShape) || x.Doc != "an input" {
		t.Errorf("x: %v", x)
	}
	if h.Type != graphs.Float32 || !slices.Equal(h.Shape, graphs.Shape{graphs.Sym("n")}) {
		t.Errorf("h from value_info: %v", h)
	}
	if y := g.Outputs[0]; y.From != branch || y.Type != graphs.Float32 || !slices.Equal(y.Shape, graphs.MakeShape(9)) {
		t.Errorf("y from output and value_info: %v", y)
	}
	if c := g.Input("cond"); c.Shape == nil || len(c.Shape) != 0 {
		t.Errorf("scalar cond has shape %#v", c.Shape)
	}
	if g.Inits[0] != w || !slices.Equal(w.Const.F32(), []float32{1, 2}) {
		t.Error("initializer w is not the input w")
	}
	if r := g.Find("raw"); r.Type != graphs.Float32 || math.Float32bits(r.Const.F32()[1]) != 0x7fa00001 {
		t.Error("raw content")
	}
	if s := g.Input("seq"); s.Opaque == nil || s.Type != graphs.Undefined {
		t.Error("sequence input is not opaque")
	}
	if branch.Domain != "" {
		t.Errorf("domain %q", branch.Domain)
	}
	then := branch.Attr("then_branch").G
	if then.Nodes[0].In(0) != h || then.Nodes[0].In(1) != w || then.Outputs[1] != g.Find("h2") || g.Find("h2").Type != 0 {
		t.Error("subgraph does not share the outer values")
	}
	els := branch.Attr("else_branch").G
	body := els.Nodes[0].Attr("body").Graphs[0]
	if in := body.Nodes[0].Inputs; in[0] != h || in[1] != els.Inits[0] || in[3] != body.Inputs[1] || body.Outputs[0] == x {
		t.Error("nested subgraph does not see the values around it")
	}
	if a := first.Attr("old_float"); a.Kind != graphs.AttrFloat || a.F != 3 {
		t.Errorf("attribute without a type: %+v", a)
	}
	if half := first.Attr("t").T; !reflect.DeepEqual(half.Data, []uint16{0x3c00, 0xc000}) {
		t.Errorf("half tensor: %v", half.Data)
	}
	f := m.Functions[0]
	if f.Graph.Nodes[0].In(0) != f.Graph.Inputs[0] || f.Graph.Outputs[1] != f.Graph.Inputs[0] || f.Graph.Nodes[0].Attr("alpha").Ref != "alpha" ||
		f.AttrDefaults[0].F != 0.5 || f.Opsets[0].Version != 18 || f.Graph.Outputs[0].Type != graphs.Float32 {
		t.Error("function is not linked")
	}
}

// Every element type, in every form that the format allows for it, decodes to
// the same elements and is written back as it was.
func TestTensorForms(t *testing.T) {
	raw2 := func(v any) string { return fmt.Sprintf("raw_data: %q", v) }
	for _, c := range []struct {
		dtype int
		forms []string
		want  any
	}{
		{1, []string{"float_data: [1, -2]", raw2(le(1, -2))}, []float32{1, -2}},
		{2, []string{"int32_data: [1, 255]", raw2("\x01\xff")}, []uint8{1, 255}},
		{3, []string{"int32_data: [1, -1]", raw2("\x01\xff")}, []int8{1, -1}},
		{4, []string{"int32_data: [1, 65535]", raw2("\x01\x00\xff\xff")}, []uint16{1, 65535}},
		{5, []string{"int32_data: [1, -1]", raw2("\x01\x00\xff\xff")}, []int16{1, -1}},
		{6, []string{"int32_data: [1, -1]", raw2("\x01\x00\x00\x00\xff\xff\xff\xff")}, []int32{1, -1}},
		{7, []string{"int64_data: [1, -1]", raw2("\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff")}, []int64{1, -1}},
		{8, []string{`string_data: ["a", ""]`}, [][]byte{[]byte("a"), {}}},
		{9, []string{"int32_data: [1, 0]", "int32_data: [-5, 0]", raw2("\x01\x00"), raw2("\x07\x00")}, []bool{true, false}},
		{10, []string{"int32_data: [15360, 1]", "int32_data: [-50176, 1]", raw2("\x00\x3c\x01\x00")}, []uint16{0x3c00, 1}},
		{11, []string{"double_data: [1, 0]", raw2("\x00\x00\x00\x00\x00\x00\xf0?\x00\x00\x00\x00\x00\x00\x00\x00")}, []float64{1, 0}},
		{12, []string{"uint64_data: [1, 4294967295]", raw2("\x01\x00\x00\x00\xff\xff\xff\xff")}, []uint32{1, math.MaxUint32}},
		{13, []string{"uint64_data: [1, 18446744073709551615]", raw2("\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff")}, []uint64{1, math.MaxUint64}},
		{14, []string{"float_data: [1, 2, 3, 4]", raw2(le(1, 2, 3, 4))}, le(1, 2, 3, 4)},
		{15, []string{"double_data: [0, 1, 0, 0]"}, []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf0?\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")},
		{16, []string{"int32_data: [16256, 1]", raw2("\x80\x3f\x01\x00")}, []uint16{0x3f80, 1}},
		{17, []string{"int32_data: [1, 200]", raw2("\x01\xc8")}, []byte{1, 200}},
		{22, []string{"int32_data: 241", "int32_data: -15", raw2("\xf1")}, []byte{0xf1}},
		{25, []string{"int32_data: 9", raw2("\x09")}, []byte{9}},
	} {
		for _, f := range c.forms {
			text := fmt.Sprintf(`graph { name: "g" initializer { name: "t" data_type: %d dims: 2 %s } }`, c.dtype, f)
			m := decodeText(t, text)
			v := m.Graph.Inits[0]
			if !reflect.DeepEqual(v.Const.Data, c.want) {
				t.Errorf("type %d, %s: got %v, want %v", c.dtype, f, v.Const.Data, c.want)
			}
			diff(t, encodeParse(t, m), parse(t, text))
			// The same elements without a history are stored raw.
			v.Const = &graphs.Tensor{Type: v.Const.Type, Dims: v.Const.Dims, Data: v.Const.Data}
			p := encodeParse(t, m).Graph.Initializer[0]
			if raw := len(p.RawData) > 0; raw == (c.dtype == 8) {
				t.Errorf("type %d made in memory: raw data %q", c.dtype, p.RawData)
			}
			again, err := Encode(m)
			if err != nil {
				t.Fatal(err)
			}
			if m, err = Decode(again); err != nil || !reflect.DeepEqual(m.Graph.Inits[0].Const.Data, c.want) {
				t.Errorf("type %d made in memory: %v", c.dtype, err)
			}
		}
	}
}

func TestSort(t *testing.T) {
	m := decodeText(t, `graph { name: "g"
	  input { name: "x" }
	  node { name: "d" op_type: "If" input: "x" output: "d" attribute { name: "g" type: GRAPH g {
	    node { op_type: "Neg" input: "c" output: "i" } output { name: "i" } } } }
	  node { name: "a" op_type: "Neg" input: "x" output: "a" }
	  node { name: "c" op_type: "Add" input: ["a", "b"] output: "c" }
	  node { name: "e" op_type: "Neg" input: "x" output: "e" }
	  node { name: "b" op_type: "Neg" input: "a" output: "b" }
	  output { name: "d" } }`)
	got := ""
	for _, n := range m.Graph.Nodes {
		got += n.Name
	}
	if got != "aebcd" {
		t.Errorf("order %s, want aebcd", got)
	}
}

// refusals are models that are refused; want is part of the message.
var refusals = map[string]struct{ text, want string }{
	"no graph":                {`ir_version: 3`, "no graph"},
	"cycle":                   {`graph { node { name: "a" op_type: "Neg" input: "y" output: "x" } node { name: "b" op_type: "Neg" input: "x" output: "y" } }`, `cycle: "a" -> "b" -> "a"`},
	"self loop":               {`graph { node { op_type: "Neg" input: "x" output: "x" } }`, `cycle: "x" -> "x"`},
	"cycle through subgraph":  {`graph { node { name: "a" op_type: "If" output: "x" attribute { name: "g" type: GRAPH g { node { op_type: "Neg" input: "x" output: "i" } } } } }`, `cycle: "a" -> "a"`},
	"two inputs":              {`graph { input { name: "x" } input { name: "x" } }`, `input 1: value "x" is defined twice`},
	"two outputs of nodes":    {`graph { node { name: "a" op_type: "P" output: "x" } node { name: "b" op_type: "P" output: "x" } }`, `node "b" (P): value "x" is defined twice`},
	"node output is an input": {`graph { input { name: "x" } node { name: "b" op_type: "P" output: "x" } }`, `value "x" is defined twice`},
	"two initializers":        {`graph { initializer { name: "w" data_type: 1 float_data: 1 } initializer { name: "w" data_type: 1 float_data: 1 } }`, `initializer "w" is defined twice`},
	"declared otherwise":      {`graph { input { name: "w" type { tensor_type { elem_type: 7 } } } initializer { name: "w" data_type: 1 float_data: 1 } }`, `initializer "w": wanted int64 as declared, got float32`},
	"unnamed input":           {`graph { input { } }`, `input 0: value without a name`},
	"missing value":           {`graph { node { name: "n" op_type: "Neg" input: "nope" output: "y" } }`, `node "n" (Neg): input 0: value "nope" is not defined`},
	"missing nameless value":  {`graph { node { op_type: "Neg" input: "nope" output: "" } }`, `node "" (Neg): input 0: value "nope" is not defined`},
	"missing output":          {`graph { output { name: "nope" } }`, `output 0: value "nope" is not defined`},
	"inner value used outside": {`graph { node { op_type: "If" output: "x" attribute { name: "g" type: GRAPH g { node { op_type: "P" output: "i" } } } }
	  node { op_type: "Neg" input: "i" output: "y" } }`, `value "i" is not defined`},
	"function sees no graph":  {`graph { input { name: "x" } } functions { name: "F" domain: "d" output: "x" }`, `function "d.F": output "x" is not defined`},
	"missing function output": {`graph { } functions { name: "F" node { name: "n" op_type: "Neg" input: "x" output: "y" } }`, `node "n" (Neg)`},
	"unknown element type":    {`graph { initializer { name: "w" data_type: 99 dims: 1 raw_data: "x" } }`, `initializer "w": unknown element type 99`},
	"no element type":         {`graph { initializer { name: "w" dims: 1 raw_data: "x" } }`, `unknown element type 0`},
	"unknown value type":      {`graph { input { name: "x" type { tensor_type { elem_type: 99 } } } }`, `value "x": unknown element type 99`},
	"too many elements":       {`graph { initializer { name: "w" data_type: 1 dims: [1000000, 1000000] raw_data: "1234" } }`, `needs 4000000000000 bytes, got 4`},
	"too many typed elements": {`graph { initializer { name: "w" data_type: 1 dims: [1000000, 1000000] float_data: 1 } }`, `needs 1000000000000 entries, got 1`},
	"too few elements":        {`graph { initializer { name: "w" data_type: 7 dims: 1 int64_data: [1, 2] } }`, `needs 1 entries, got 2`},
	"elements in wrong field": {`graph { initializer { name: "w" data_type: 7 dims: 1 float_data: 1 } }`, `needs 1 entries, got 0`},
	"overflow":                {`graph { initializer { name: "w" data_type: 1 dims: [4294967296, 4294967296, 4294967296] } }`, `overflow`},
	"negative dimension":      {`graph { initializer { name: "w" data_type: 1 dims: [0, -1] } }`, `negative dimension`},
	"overflow of a value":     {`graph { input { name: "x" type { tensor_type { elem_type: 1 shape { dim { dim_value: 9223372036854775807 } dim { } dim { dim_value: 2 } } } } } }`, `value "x": dimensions`},
	"raw strings":             {`graph { initializer { name: "w" data_type: 8 dims: 1 raw_data: "x" } }`, `strings cannot be stored`},
	"tensor missing":          {`graph { node { name: "n" op_type: "Constant" output: "x" attribute { name: "value" type: TENSOR } } }`, `node "n" (Constant): attribute "value": tensor is missing`},
	"graph missing":           {`graph { node { name: "n" op_type: "If" output: "x" attribute { name: "then" type: GRAPH } } }`, `attribute "then": graph is missing`},
	"external without folder": {`graph { initializer { name: "w" data_type: 1 data_location: EXTERNAL external_data { key: "location" value: "w" } } }`, `initializer "w": external data "w": only a model read from a file`},
	"tensor in list":          {`graph { node { name: "n" op_type: "X" output: "x" attribute { name: "v" type: TENSORS tensors { } } } }`, `attribute "v": unknown element type 0`},
	"long bad name":           {`graph { output { name: "` + strings.Repeat("n", 5000) + `\n" } }`, `is not defined`},
}

func oneLine(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("not refused, want %q", want)
	}
	s := err.Error()
	if !strings.HasPrefix(s, "onnx: ") || !strings.Contains(s, want) {
		t.Errorf("got %q, want %q in it", s, want)
	}
	if strings.ContainsAny(s, "\n\r\x00") || len(s) > 1000 {
		t.Errorf("not one line: %q", s)
	}
}

func TestRefused(t *testing.T) {
	for name, c := range refusals {
		t.Run(name, func(t *testing.T) {
			_, err := Decode(wireBytes(t, parse(t, c.text)))
			oneLine(t, err, c.want)
		})
	}
	small := wireBytes(t, parse(t, mlp))
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"empty":     {nil, "no graph"},
		"html":      {[]byte("<!DOCTYPE html>\n"), "byte "},
		"inside":    {[]byte{7<<3 | 2, 4, 1<<3 | 2, 2, 1<<3 | 2, 9}, "byte 4 (graph.node): input is cut short"},
		"truncated": {small[:len(small)-3], ": opset_import is cut short"},
		"too deep":  {wireBytes(t, chain(maxDepth+1)), "nested more than 64 deep"},
		"abyss":     {wireBytes(t, chain(2000)), "nested too deeply"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode(c.b)
			oneLine(t, err, c.want)
		})
	}
	if _, err := Decode(wireBytes(t, chain(maxDepth))); err != nil {
		t.Errorf("depth %d: %v", maxDepth, err)
	}
	for n := range small {
		if _, err := Decode(small[:n]); err != nil {
			oneLine(t, err, "")
		}
	}
	_, err := Read(filepath.Join("testdata", "none.onnx"))
	oneLine(t, err, "none.onnx: no such file")
	large := filepath.Join(t.TempDir(), "large.onnx")
	if f, err := os.Create(large); err != nil || f.Truncate(1<<31) != nil || f.Close() != nil {
		t.Fatal("no room for a sparse file")
	}
	_, err = Read(large)
	oneLine(t, err, "file holds 2147483648 bytes, a model at most 2147483647")
	_, err = Read("testdata")
	oneLine(t, err, "testdata: not a regular file")
}

// A file of empty messages would take a hundred times its size.
func TestMemoryBound(t *testing.T) {
	nodes := bytes.Repeat([]byte{0x0a, 0x00}, 4<<20)
	b := protowire.AppendBytes(protowire.AppendTag(nil, 7, protowire.BytesType), nodes)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Decode(b)
	runtime.ReadMemStats(&after)
	oneLine(t, err, "too many parts")
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("%d bytes allocated", got)
	}
}

func TestChangesAreWritten(t *testing.T) {
	m := decodeText(t, kitchenSink)
	g := m.Graph
	n := g.Nodes[0]
	g.Find("h").Name = "renamed"
	g.Input("x").Shape = graphs.MakeShape(1, 2, 3, 4)
	g.Inits[0].Const = graphs.Of([]float32{5, 6}, 2)
	n.Attr("i").I = 9
	n.Attr("f").Doc = "new"
	n.Name, n.Doc = "other", ""
	m.SetMeta("k", "new")
	m.SetMeta("more", "1")
	m.IR, m.Producer = 12, "me"
	m.Opsets[0].Version = 19
	g.Find("h2").Type, g.Find("h2").Shape = graphs.Int64, graphs.Shape{graphs.Sym("k"), graphs.UnknownDim}
	g.Outputs = g.Outputs[:2]

	p := encodeParse(t, m)
	gp := p.Graph
	node := gp.Node[0]
	if p.GetIrVersion() != 12 || p.GetProducerName() != "me" || p.OpsetImport[0].GetVersion() != 19 ||
		p.MetadataProps[0].GetValue() != "new" || p.MetadataProps[3].GetKey() != "more" || len(gp.Output) != 2 {
		t.Error("model fields")
	}
	if node.GetName() != "other" || node.GetDocString() != "" || node.Output[0] != "renamed" || gp.Node[2].Attribute[0].G.Node[0].Input[0] != "renamed" {
		t.Error("node fields and renamed value")
	}
	if node.Attribute[1].GetI() != 9 || node.Attribute[0].GetDocString() != "new" {
		t.Error("attributes")
	}
	x := gp.Input[0]
	if x.Type.GetTensorType().Shape.Dim[0].GetDimValue() != 1 || x.GetDocString() != "an input" || len(x.MetadataProps) != 1 {
		t.Errorf("input: %v", x)
	}
	if w := gp.Initializer[0]; !bytes.Equal(w.RawData, le(5, 6)) || w.FloatData != nil || w.GetName() != "w" {
		t.Errorf("initializer: %v", w)
	}
	infos := map[string]*onnxpb.ValueInfoProto{}
	for _, v := range gp.ValueInfo {
		infos[v.GetName()] = v
	}
	h2 := infos["h2"].GetType().GetTensorType()
	if infos["h"] != nil || infos["nowhere"] == nil || infos["renamed"] == nil || h2.GetElemType() != 7 || h2.Shape.Dim[0].GetDimParam() != "k" || h2.Shape.Dim[1].Value != nil {
		t.Errorf("value infos: %v", gp.ValueInfo)
	}
	if old := encodeParse(t, decodeText(t, kitchenSink)); !proto.Equal(old, parse(t, kitchenSink)) {
		t.Error("the change reached another model")
	}
}

func TestFreshModel(t *testing.T) {
	x := &graphs.Value{Name: "x", Type: graphs.Float32, Shape: graphs.Shape{graphs.Sym("n"), graphs.D(2)}}
	w := &graphs.Value{Name: "w", Type: graphs.Float32, Shape: graphs.MakeShape(2), Const: graphs.Of([]float32{1, 2}, 2)}
	h := &graphs.Value{Name: "h", Type: graphs.Float32, Shape: x.Shape}
	y := &graphs.Value{Name: "y", Type: graphs.Float32, Shape: x.Shape}
	g := &graphs.Graph{
		Nodes: []*graphs.Node{
			{Op: "Custom", Domain: "d", Inputs: []*graphs.Value{x, nil, w}, Outputs: []*graphs.Value{h, nil}, Attrs: []*graphs.Attr{
				graphs.I("i", 0), graphs.F("f", 0), graphs.S("s", ""), graphs.IntsAttr("is", 1, 2), graphs.T("t", graphs.Ints(3)),
				{Name: "r", Kind: graphs.AttrInt, Ref: "outer"},
			}},
			{Name: "neg", Op: "Neg", Inputs: []*graphs.Value{h}, Outputs: []*graphs.Value{y}},
		},
		Inputs: []*graphs.Value{x}, Outputs: []*graphs.Value{y}, Inits: []*graphs.Value{w},
	}
	for _, n := range g.Nodes {
		n.Outputs[0].From = n
	}
	want := parse(t, `ir_version: 10 producer_name: "ebmrun" opset_import { domain: "" version: 21 }
	graph { name: "graph"
	  node { op_type: "Custom" domain: "d" input: ["x", "", "w"] output: ["h", ""]
	    attribute { name: "i" type: INT i: 0 } attribute { name: "f" type: FLOAT f: 0 } attribute { name: "s" type: STRING s: "" }
	    attribute { name: "is" type: INTS ints: [1, 2] }
	    attribute { name: "t" type: TENSOR t { data_type: 7 dims: 1 raw_data: "\003\000\000\000\000\000\000\000" } }
	    attribute { name: "r" type: INT ref_attr_name: "outer" } }
	  node { name: "neg" op_type: "Neg" input: "h" output: "y" }
	  initializer { name: "w" data_type: 1 dims: 2 raw_data: "\000\000\200?\000\000\000@" }
	  input { name: "x" type { tensor_type { elem_type: 1 shape { dim { dim_param: "n" } dim { dim_value: 2 } } } } }
	  output { name: "y" type { tensor_type { elem_type: 1 shape { dim { dim_param: "n" } dim { dim_value: 2 } } } } }
	  value_info { name: "h" type { tensor_type { elem_type: 1 shape { dim { dim_param: "n" } dim { dim_value: 2 } } } } }
	}`)
	diff(t, encodeParse(t, graphs.NewModel(g)), want)
}

func TestEncodeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *graphs.Model)
		want   string
	}{
		"no graph":        {func(m *graphs.Model) { m.Graph = nil }, "model without a graph"},
		"undefined value": {func(m *graphs.Model) { m.Graph.Nodes = m.Graph.Nodes[1:] }, `node "act" (Tanh): input 0: value "h" is not defined`},
		"same name":       {func(m *graphs.Model) { m.Graph.Find("h").Name = "w" }, `value "w" is defined twice`},
		"another value":   {func(m *graphs.Model) { m.Graph.Nodes[1].Inputs[0] = &graphs.Value{Name: "x"} }, `two values are named "x"`},
		"no content":      {func(m *graphs.Model) { m.Graph.Inits[0].Const = nil }, `initializer "w" has no content`},
		"wrong length":    {func(m *graphs.Model) { m.Graph.Inits[0].Const.Dims = []int{7} }, `needs 7 entries, got 6`},
		"wrong data":      {func(m *graphs.Model) { m.Graph.Inits[0].Const.Data = []int64{1} }, `float32 tensor holds []int64, wanted []float32`},
		"no data":         {func(m *graphs.Model) { m.Graph.Inits[0].Const.Data = nil }, `holds <nil>`},
		"attribute kind":  {func(m *graphs.Model) { m.Graph.Nodes[0].Attrs = []*graphs.Attr{{Name: "a", Kind: 11}} }, `attribute "a": unknown kind 11`},
		"own subgraph": {func(m *graphs.Model) {
			m.Graph.Nodes[0].Attrs = []*graphs.Attr{graphs.G("g", m.Graph)}
		}, `nested more than 64 deep`},
	} {
		t.Run(name, func(t *testing.T) {
			m := decodeText(t, mlp)
			c.change(m)
			_, err := Encode(m)
			oneLine(t, err, c.want)
			dir := t.TempDir()
			path := filepath.Join(dir, "m.onnx")
			if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
				t.Fatal(err)
			}
			oneLine(t, WriteExternal(path, m), "m.onnx: ")
			if b, _ := os.ReadFile(path); string(b) != "old" {
				t.Error("the old file is gone")
			}
			if list, _ := os.ReadDir(dir); len(list) != 1 {
				t.Errorf("left behind: %v", list)
			}
		})
	}
}

func TestCheckOpset(t *testing.T) {
	for v, ok := range map[int64]bool{8: false, 9: true, 25: true, 26: false} {
		m := decodeText(t, mlp)
		m.Opsets = []graphs.Opset{{Domain: "x", Version: 99}, {Domain: "ai.onnx", Version: v}}
		if err := CheckOpset(m); ok != (err == nil) {
			t.Errorf("version %d: %v", v, err)
		} else if err != nil {
			oneLine(t, err, fmt.Sprintf("wanted 9 to 25, got %d", v))
		}
		m = decodeText(t, mlp)
		m.Functions = []*graphs.Function{{Opsets: []graphs.Opset{{Domain: "", Version: v}}}}
		if err := CheckOpset(m); ok != (err == nil) {
			t.Errorf("function of version %d: %v", v, err)
		}
	}
	m := decodeText(t, mlp)
	m.Opsets = nil
	oneLine(t, CheckOpset(m), "got none")
}

func FuzzDecode(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			if s := err.Error(); strings.ContainsAny(s, "\n\r") {
				t.Errorf("not one line: %q", s)
			}
			return
		}
		_ = CheckOpset(m)
		first, err := Encode(m)
		if err != nil {
			t.Fatalf("decoded, but not encoded: %v", err)
		}
		if m, err = Decode(first); err != nil {
			t.Fatalf("encoded, but not decoded: %v", err)
		}
		if second, err := Encode(m); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("second round differs: %v", err)
		}
	})
}

func BenchmarkDecode(b *testing.B) { bench(b, func(m *graphs.Model, file []byte) { Decode(file) }) }
func BenchmarkEncode(b *testing.B) { bench(b, func(m *graphs.Model, file []byte) { Encode(m) }) }

func bench(b *testing.B, f func(*graphs.Model, []byte)) {
	m := decodeText(b, mlp)
	m.Graph.Inits[0].Const = graphs.NewTensor(graphs.Float32, 16<<20/4)
	file, err := Encode(m)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		f(m, file)
	}
}

// TestApart: only large initializers of floats are left out, and with them put back the
// model is what it was.
func TestApart(t *testing.T) {
	const big = minLifted / 4
	b := graphs.NewBuilder(&graphs.Graph{Name: "apart"})
	x := b.Input("x", graphs.Float32, graphs.MakeShape(2, big))
	w, ids := graphs.NewTensor(graphs.Float32, big), graphs.NewTensor(graphs.Int64, big)
	small := graphs.NewTensor(graphs.Float32, big-1)
	for i := range big {
		w.F32()[i], ids.Data.([]int64)[i] = float32(i), int64(big-1-i)
	}
	b.Output("y", b.Mul(b.Op("Gather", []*graphs.Value{x, b.Const(ids)}, graphs.I("axis", 1)), b.Weight("w", w)))
	b.Output("z", b.Neg(b.Weight("small", small)))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	m := graphs.NewModel(g)
	whole, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	rest, large, err := Apart(m)
	if err != nil {
		t.Fatal(err)
	}
	if len(large) != 1 || large[0].Name != "w" || len(rest) > len(whole)-minLifted+100 {
		t.Fatalf("wanted w apart, got %v; %d bytes of %d left", large, len(rest), len(whole))
	}
	dir := t.TempDir()
	raw, _ := graphs.EncodeRaw(w)
	if err := os.WriteFile(filepath.Join(dir, "memory"), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "m.onnx"), rest, 0o644); err != nil {
		t.Fatal(err)
	}
	back, err := Read(filepath.Join(dir, "m.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := Encode(back)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, whole) {
		t.Error("the parts do not make the whole")
	}
}
