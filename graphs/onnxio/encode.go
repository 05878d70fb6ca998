package onnxio

import (
	"errors"
	"fmt"
	"slices"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxpb"

	"google.golang.org/protobuf/proto"
)

type encoder struct {
	ext *dataFile // nil if all tensors are embedded

	// The initializers of the model's graph whose raw elements are left out, to
	// be written by [stream]; nil if none are.
	later map[*onnxpb.TensorProto]*graphs.Tensor
}

// wire returns a copy of the message a part was read from, or an empty one.
// Messages kept in Wire fields are never changed, as models share them.
func wire[M any, P interface {
	*M
	proto.Message
}](kept any) P {
	if p, ok := kept.(P); ok && p != nil {
		return proto.Clone(p).(P)
	}
	return new(M)
}

// opt is an optional field: present if it says something or was present before.
func opt[T comparable](v T, was *T) *T {
	var zero T
	if v == zero && was == nil {
		return nil
	}
	return &v
}

func (e *encoder) model(m *graphs.Model) (*onnxpb.ModelProto, error) {
	if m == nil || m.Graph == nil {
		return nil, errors.New("model without a graph")
	}
	p := wire[onnxpb.ModelProto](m.Wire)
	p.IrVersion = opt(m.IR, p.IrVersion)
	p.OpsetImport = opsetProtos(m.Opsets, p.OpsetImport)
	p.ProducerName = opt(m.Producer, p.ProducerName)
	p.ProducerVersion = opt(m.Version, p.ProducerVersion)
	p.Domain = opt(m.Domain, p.Domain)
	p.ModelVersion = opt(m.ModelVer, p.ModelVersion)
	p.DocString = opt(m.Doc, p.DocString)
	p.MetadataProps = entryProtos(m.Metadata, p.MetadataProps)
	var err error
	if p.Graph, err = e.graph(m.Graph, nil, 0); err != nil {
		return nil, err
	}
	for _, f := range m.Functions {
		fp, err := e.function(f)
		if err != nil {
			return nil, fmt.Errorf("function %s: %w", q(f.Domain+"."+f.Name), err)
		}
		p.Functions = append(p.Functions, fp)
	}
	return p, nil
}

func opsetProtos(list []graphs.Opset, was []*onnxpb.OperatorSetIdProto) []*onnxpb.OperatorSetIdProto {
	var out []*onnxpb.OperatorSetIdProto
	for i, o := range list {
		if i < len(was) && was[i].GetDomain() == o.Domain && was[i].GetVersion() == o.Version {
			out = append(out, was[i])
			continue
		}
		// The default domain is spelt out: some readers require the field.
		out = append(out, &onnxpb.OperatorSetIdProto{Domain: &o.Domain, Version: &o.Version})
	}
	return out
}

func entryProtos(list []graphs.Entry, was []*onnxpb.StringStringEntryProto) []*onnxpb.StringStringEntryProto {
	var out []*onnxpb.StringStringEntryProto
	for i, o := range list {
		if i < len(was) && was[i].GetKey() == o.Key && was[i].GetValue() == o.Value {
			out = append(out, was[i])
			continue
		}
		out = append(out, &onnxpb.StringStringEntryProto{Key: &o.Key, Value: &o.Value})
	}
	return out
}

func (e *encoder) function(f *graphs.Function) (*onnxpb.FunctionProto, error) {
	if f.Graph == nil {
		return nil, errors.New("no body")
	}
	p := wire[onnxpb.FunctionProto](f.Wire)
	p.Domain = opt(f.Domain, p.Domain)
	p.Name = opt(f.Name, p.Name)
	p.Overload = opt(f.Overload, p.Overload)
	p.DocString = opt(f.Doc, p.DocString)
	p.Attribute = f.AttrNames
	p.OpsetImport = opsetProtos(f.Opsets, p.OpsetImport)
	p.MetadataProps = entryProtos(f.Metadata, p.MetadataProps)
	for _, a := range f.AttrDefaults {
		ap, err := e.attr(a, nil, 0)
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", q(a.Name), err)
		}
		p.AttributeProto = append(p.AttributeProto, ap)
	}
	if len(f.Graph.Inits) > 0 {
		return nil, errors.New("a function cannot hold initializers")
	}
	w, _ := f.Graph.Wire.(*graphWire)
	sc, err := defineAll(f.Graph, nil)
	if err != nil {
		return nil, err
	}
	for _, v := range f.Graph.Inputs {
		p.Input = append(p.Input, v.Name)
	}
	for _, v := range f.Graph.Outputs {
		if err := sc.check(v); err != nil {
			return nil, err
		}
		p.Output = append(p.Output, v.Name)
	}
	if p.Node, err = e.nodes(f.Graph, sc, 0); err != nil {
		return nil, err
	}
	p.ValueInfo = valueInfos(f.Graph, w, sc)
	return p, nil
}

// defineAll gathers the values defined in g and refuses two of one name.
func defineAll(g *graphs.Graph, outer *scope) (*scope, error) {
	sc := &scope{outer: outer, values: map[string]*graphs.Value{}}
	for _, v := range g.Inputs {
		if err := sc.define(v); err != nil {
			return nil, err
		}
	}
	for _, v := range g.Inits {
		if v.Const == nil {
			return nil, fmt.Errorf("initializer %s has no content", q(v.Name))
		}
		if sc.values[v.Name] == v {
			continue
		}
		if err := sc.define(v); err != nil {
			return nil, err
		}
	}
	for _, n := range g.Nodes {
		for _, v := range n.Outputs {
			if v == nil {
				continue
			}
			if err := sc.define(v); err != nil {
				return nil, fmt.Errorf("node %s: %w", q(n.Label()), err)
			}
		}
	}
	return sc, nil
}

// check reports a value that its name would not lead back to.
func (s *scope) check(v *graphs.Value) error {
	switch got := s.find(v.Name); {
	case got == v:
		return nil
	case got != nil:
		return fmt.Errorf("two values are named %s", q(v.Name))
	}
	if sp, ok := v.Opaque.(*onnxpb.SparseTensorProto); ok {
		for ; s != nil; s = s.outer {
			if slices.Contains(s.sparse, sp) {
				return nil
			}
		}
	}
	return fmt.Errorf("value %s is not defined", q(v.Name))
}

func (e *encoder) graph(g *graphs.Graph, outer *scope, depth int) (*onnxpb.GraphProto, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("subgraphs are nested more than %d deep", maxDepth)
	}
	w, _ := g.Wire.(*graphWire)
	if w == nil {
		w = &graphWire{}
	}
	p := wire[onnxpb.GraphProto](w.proto)
	p.Name = opt(g.Name, p.Name)
	p.DocString = opt(g.Doc, p.DocString)
	p.MetadataProps = entryProtos(g.Metadata, p.MetadataProps)
	if p.Name == nil && w.proto == nil {
		p.Name = proto.String("graph") // required by checkers
	}
	sc, err := defineAll(g, outer)
	if err != nil {
		return nil, err
	}
	sc.sparse = w.proto.GetSparseInitializer()
	for _, v := range g.Inputs {
		p.Input = append(p.Input, valueInfo(v, w.inputs[v.Name]))
	}
	for _, v := range g.Inits {
		tp, err := e.initializer(v.Const, depth)
		if err != nil {
			return nil, fmt.Errorf("initializer %s: %w", q(v.Name), err)
		}
		tp.Name = &v.Name
		p.Initializer = append(p.Initializer, tp)
	}
	if p.Node, err = e.nodes(g, sc, depth); err != nil {
		return nil, err
	}
	for _, v := range g.Outputs {
		if err := sc.check(v); err != nil {
			return nil, fmt.Errorf("output: %w", err)
		}
		p.Output = append(p.Output, valueInfo(v, w.outputs[v.Name]))
	}
	p.ValueInfo = valueInfos(g, w, sc)
	return p, nil
}

// initializer encodes a tensor, or most of it: see the field later.
func (e *encoder) initializer(t *graphs.Tensor, depth int) (*onnxpb.TensorProto, error) {
	if e.later == nil || depth > 0 {
		return e.tensor(t)
	}
	p, bare, err := e.bare(t)
	if bare {
		e.later[p] = t
	}
	return p, err
}

// valueInfos are the declarations read from a file, less those of values that
// are gone, and then those of other values of a known type.
func valueInfos(g *graphs.Graph, w *graphWire, sc *scope) []*onnxpb.ValueInfoProto {
	var out []*onnxpb.ValueInfoProto
	done := map[string]bool{}
	if w != nil {
		for _, in := range w.infos {
			name := in.proto.GetName()
			v := sc.values[name]
			switch {
			case v != nil:
				out = append(out, valueInfo(v, in))
			case in.orphan:
				out = append(out, in.proto)
			}
			done[name] = true
		}
	}
	for _, v := range g.Outputs {
		done[v.Name] = true
	}
	for _, n := range g.Nodes {
		for _, v := range n.Outputs {
			if v != nil && !done[v.Name] && (v.Type != graphs.Undefined || v.Opaque != nil) {
				out = append(out, valueInfo(v, nil))
			}
		}
	}
	return out
}

func valueInfo(v *graphs.Value, was *info) *onnxpb.ValueInfoProto {
	p := &onnxpb.ValueInfoProto{}
	if was != nil {
		if w := &was.was; v.Type == w.Type && slices.Equal(v.Shape, w.Shape) && (v.Shape == nil) == (w.Shape == nil) &&
			v.Opaque == w.Opaque && v.Doc == w.Doc {
			return was.proto
		}
		p = proto.Clone(was.proto).(*onnxpb.ValueInfoProto)
	}
	p.Name = &v.Name
	p.DocString = opt(v.Doc, p.DocString)
	p.Type = typeProto(v)
	return p
}

func typeProto(v *graphs.Value) *onnxpb.TypeProto {
	if p, ok := v.Opaque.(*onnxpb.TypeProto); ok {
		return p
	}
	if v.Type == graphs.Undefined && v.Shape == nil {
		return nil
	}
	t := &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(v.Type))}
	if v.Shape != nil {
		t.Shape = &onnxpb.TensorShapeProto{}
		for _, d := range v.Shape {
			dp := &onnxpb.TensorShapeProto_Dimension{}
			switch {
			case d.Known():
				dp.Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d.N}
			case d.Name != "":
				dp.Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: d.Name}
			}
			t.Shape.Dim = append(t.Shape.Dim, dp)
		}
	}
	return &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{TensorType: t}}
}

func (e *encoder) nodes(g *graphs.Graph, sc *scope, depth int) ([]*onnxpb.NodeProto, error) {
	out := make([]*onnxpb.NodeProto, 0, len(g.Nodes))
	for _, n := range g.Nodes {
		p, err := e.node(n, sc, depth)
		if err != nil {
			return nil, fmt.Errorf("node %s (%s): %w", q(n.Label()), clip(n.Op), err)
		}
		out = append(out, p)
	}
	return out, nil
}

func (e *encoder) node(n *graphs.Node, sc *scope, depth int) (*onnxpb.NodeProto, error) {
	p := wire[onnxpb.NodeProto](n.Wire)
	p.Name = opt(n.Name, p.Name)
	p.OpType = opt(n.Op, p.OpType)
	p.Overload = opt(n.Overload, p.Overload)
	p.DocString = opt(n.Doc, p.DocString)
	p.MetadataProps = entryProtos(n.Metadata, p.MetadataProps)
	if n.Domain != "" || p.GetDomain() != "ai.onnx" {
		p.Domain = opt(n.Domain, p.Domain)
	}
	for i, v := range n.Inputs {
		name := ""
		if v != nil {
			if err := sc.check(v); err != nil {
				return nil, fmt.Errorf("input %d: %w", i, err)
			}
			name = v.Name
		}
		p.Input = append(p.Input, name)
	}
	for _, v := range n.Outputs {
		name := ""
		if v != nil {
			name = v.Name
		}
		p.Output = append(p.Output, name)
	}
	for _, a := range n.Attrs {
		ap, err := e.attr(a, sc, depth)
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", q(a.Name), err)
		}
		p.Attribute = append(p.Attribute, ap)
	}
	return p, nil
}

func (e *encoder) attr(a *graphs.Attr, sc *scope, depth int) (*onnxpb.AttributeProto, error) {
	p := &onnxpb.AttributeProto{Type: onnxpb.AttributeProto_AttributeType(a.Kind).Enum()}
	w, read := a.Wire.(*attrWire)
	read = read && w.kind == a.Kind
	if read {
		p = proto.Clone(w.proto).(*onnxpb.AttributeProto)
	} else if a.Kind < graphs.AttrFloat || a.Kind > graphs.AttrGraphs {
		return nil, fmt.Errorf("unknown kind %d", a.Kind)
	}
	p.Name = opt(a.Name, p.Name)
	p.RefAttrName = opt(a.Ref, p.RefAttrName)
	p.DocString = opt(a.Doc, p.DocString)
	fresh := !read && a.Ref == "" // zero values are spelt out
	var err error
	switch a.Kind {
	case graphs.AttrFloat:
		if p.F = opt(a.F, p.F); fresh {
			p.F = &a.F
		}
	case graphs.AttrInt:
		if p.I = opt(a.I, p.I); fresh {
			p.I = &a.I
		}
	case graphs.AttrString:
		if len(a.S) > 0 {
			p.S = a.S
		} else if fresh {
			p.S = []byte{}
		}
	case graphs.AttrTensor:
		if a.T != nil {
			p.T, err = e.tensor(a.T)
		} else if a.Ref == "" {
			err = errors.New("tensor is missing")
		}
	case graphs.AttrGraph:
		if a.G != nil {
			p.G, err = e.graph(a.G, sc, depth+1)
		} else if a.Ref == "" {
			err = errors.New("graph is missing")
		}
	case graphs.AttrFloats:
		p.Floats = a.Floats
	case graphs.AttrInts:
		p.Ints = a.Ints
	case graphs.AttrStrings:
		p.Strings = a.Strings
	case graphs.AttrTensors:
		for _, t := range a.Tensors {
			tp, err := e.tensor(t)
			if err != nil {
				return nil, err
			}
			p.Tensors = append(p.Tensors, tp)
		}
	case graphs.AttrGraphs:
		for _, g := range a.Graphs {
			gp, err := e.graph(g, sc, depth+1)
			if err != nil {
				return nil, err
			}
			p.Graphs = append(p.Graphs, gp)
		}
	}
	return p, err
}
