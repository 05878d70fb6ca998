package onnxio

import (
	"errors"
	"fmt"
	"slices"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxpb"

	"google.golang.org/protobuf/proto"
)

// The Wire fields hold the message a part was read from, without what the part
// itself holds. For graphs and attributes a little more is needed.

// graphWire is the Wire of a graph.
type graphWire struct {
	proto           *onnxpb.GraphProto
	inputs, outputs map[string]*info
	infos           []*info // value_info, in the order of the file
}

// info is a declaration as it was read, with the value as it was then: the
// declaration is written back unless the value has changed since.
type info struct {
	proto  *onnxpb.ValueInfoProto
	was    graphs.Value
	orphan bool // of no value in this graph
}

// attrWire is the Wire of an attribute.
type attrWire struct {
	proto *onnxpb.AttributeProto
	kind  graphs.AttrKind
}

type decoder struct {
	ext *folder // nil if there is no folder
}

// scope resolves names; a subgraph sees the values of the graphs around it.
type scope struct {
	outer  *scope
	values map[string]*graphs.Value
	sparse []*onnxpb.SparseTensorProto // initializers; on encoding only
}

func (s *scope) find(name string) *graphs.Value {
	for ; s != nil; s = s.outer {
		if v := s.values[name]; v != nil {
			return v
		}
	}
	return nil
}

func (s *scope) define(v *graphs.Value) error {
	if v.Name == "" {
		return errors.New("value without a name")
	}
	if s.values[v.Name] != nil {
		return fmt.Errorf("value %s is defined twice", q(v.Name))
	}
	s.values[v.Name] = v
	return nil
}

func decode(b []byte, ext *folder) (*graphs.Model, error) {
	p := &onnxpb.ModelProto{}
	if err := scan(b, p.ProtoReflect().Descriptor()); err != nil {
		return nil, err
	}
	b, raws := lift(b)
	if err := proto.Unmarshal(b, p); err != nil {
		return nil, fmt.Errorf("not a model: %w", err)
	}
	for i, b := range raws {
		p.Graph.Initializer[i].RawData = b
	}
	return (&decoder{ext: ext}).model(p)
}

func (d *decoder) model(p *onnxpb.ModelProto) (*graphs.Model, error) {
	if p.Graph == nil {
		return nil, errors.New("no graph in the file")
	}
	m := &graphs.Model{
		IR: p.GetIrVersion(), Opsets: opsets(p.OpsetImport), Producer: p.GetProducerName(),
		Version: p.GetProducerVersion(), Domain: p.GetDomain(), ModelVer: p.GetModelVersion(),
		Doc: p.GetDocString(), Metadata: entries(p.MetadataProps), Wire: p,
	}
	var err error
	if m.Graph, err = d.graph(p.Graph, nil, 0); err != nil {
		return nil, err
	}
	for _, fp := range p.Functions {
		f, err := d.function(fp)
		if err != nil {
			return nil, fmt.Errorf("function %s: %w", q(fp.GetDomain()+"."+fp.GetName()), err)
		}
		m.Functions = append(m.Functions, f)
	}
	p.Graph, p.Functions = nil, nil
	return m, nil
}

func opsets(ps []*onnxpb.OperatorSetIdProto) []graphs.Opset {
	var out []graphs.Opset
	for _, p := range ps {
		out = append(out, graphs.Opset{Domain: p.GetDomain(), Version: p.GetVersion()})
	}
	return out
}

func entries(ps []*onnxpb.StringStringEntryProto) []graphs.Entry {
	var out []graphs.Entry
	for _, p := range ps {
		out = append(out, graphs.Entry{Key: p.GetKey(), Value: p.GetValue()})
	}
	return out
}

func (d *decoder) function(p *onnxpb.FunctionProto) (*graphs.Function, error) {
	f := &graphs.Function{
		Domain: p.GetDomain(), Name: p.GetName(), Overload: p.GetOverload(),
		AttrNames: p.Attribute, Opsets: opsets(p.OpsetImport), Doc: p.GetDocString(),
		Metadata: entries(p.MetadataProps), Wire: p,
	}
	for _, ap := range p.AttributeProto {
		a, err := d.attr(ap, nil, 0)
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", q(ap.GetName()), err)
		}
		f.AttrDefaults = append(f.AttrDefaults, a)
	}
	g := &graphs.Graph{Name: p.GetName()}
	f.Graph = g
	sc := &scope{values: map[string]*graphs.Value{}}
	for _, name := range p.Input {
		v := &graphs.Value{Name: name}
		if err := sc.define(v); err != nil {
			return nil, err
		}
		g.Inputs = append(g.Inputs, v)
	}
	w, err := d.body(g, sc, p.Node, p.ValueInfo, 0)
	if err != nil {
		return nil, err
	}
	for _, name := range p.Output {
		v := sc.find(name)
		if v == nil {
			return nil, fmt.Errorf("output %s is not defined", q(name))
		}
		g.Outputs = append(g.Outputs, v)
	}
	w.snapshot(sc)
	g.Wire = w
	p.Input, p.Output, p.Attribute, p.AttributeProto, p.Node, p.ValueInfo = nil, nil, nil, nil, nil, nil
	return f, nil
}

func (d *decoder) graph(p *onnxpb.GraphProto, outer *scope, depth int) (*graphs.Graph, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("subgraphs are nested more than %d deep", maxDepth)
	}
	g := &graphs.Graph{Name: p.GetName(), Doc: p.GetDocString(), Metadata: entries(p.MetadataProps)}
	sc := &scope{outer: outer, values: map[string]*graphs.Value{}}
	inputs, outputs := map[string]*info{}, map[string]*info{}
	for i, ip := range p.Input {
		v := &graphs.Value{Name: ip.GetName()}
		err := sc.define(v)
		if err == nil {
			err = declare(v, ip)
		}
		if err != nil {
			return nil, fmt.Errorf("input %d: %w", i, err)
		}
		inputs[v.Name] = &info{proto: ip}
		g.Inputs = append(g.Inputs, v)
	}
	for i, tp := range p.Initializer {
		name := tp.GetName()
		t, err := d.tensor(tp)
		if err != nil {
			return nil, fmt.Errorf("initializer %s: %w", q(name), err)
		}
		v := sc.values[name]
		switch {
		case v == nil:
			v = &graphs.Value{Name: name}
			if err := sc.define(v); err != nil {
				return nil, fmt.Errorf("initializer %d: %w", i, err)
			}
		case v.Const != nil:
			return nil, fmt.Errorf("initializer %s is defined twice", q(name))
		case v.Type != graphs.Undefined && v.Type != t.Type || v.Opaque != nil:
			return nil, fmt.Errorf("initializer %s: wanted %v as declared, got %v", q(name), v.Type, t.Type)
		}
		// An input's own declaration goes first: its default may be overridden.
		v.Const = t
		if v.Type == graphs.Undefined {
			v.Type = t.Type
			if v.Shape == nil {
				v.Shape = graphs.MakeShape(t.Dims...)
			}
		}
		g.Inits = append(g.Inits, v)
		p.Initializer[i] = nil
	}
	for i, sp := range p.SparseInitializer {
		v := &graphs.Value{Name: sp.GetValues().GetName(), Opaque: sp}
		if in := sc.values[v.Name]; in != nil && in.Const == nil {
			continue
		}
		if err := sc.define(v); err != nil {
			return nil, fmt.Errorf("sparse initializer %d: %w", i, err)
		}
	}
	// The outputs' declarations precede value_info, as inputs' do.
	w, err := d.body(g, sc, p.Node, append(slices.Clone(p.Output), p.ValueInfo...), depth)
	if err != nil {
		return nil, err
	}
	for i, op := range p.Output {
		v := sc.find(op.GetName())
		if v == nil {
			return nil, fmt.Errorf("output %d: value %s is not defined", i, q(op.GetName()))
		}
		g.Outputs = append(g.Outputs, v)
		outputs[v.Name] = w.infos[i]
	}
	w.infos = w.infos[len(p.Output):]
	w.proto, w.inputs, w.outputs = p, inputs, outputs
	w.snapshot(sc)
	p.Node, p.Initializer, p.Input, p.Output, p.ValueInfo = nil, nil, nil, nil, nil
	g.Wire = w
	return g, nil
}

// body decodes the nodes of a graph whose inputs and initializers are in sc,
// and the declarations of its values.
func (d *decoder) body(g *graphs.Graph, sc *scope, nodes []*onnxpb.NodeProto, infos []*onnxpb.ValueInfoProto, depth int) (*graphWire, error) {
	for _, np := range nodes {
		n := &graphs.Node{
			Name: np.GetName(), Op: np.GetOpType(), Domain: np.GetDomain(), Overload: np.GetOverload(),
			Doc: np.GetDocString(), Metadata: entries(np.MetadataProps), Wire: np,
		}
		if n.Domain == "ai.onnx" {
			n.Domain = ""
		}
		for _, name := range np.Output {
			var v *graphs.Value
			if name != "" {
				v = &graphs.Value{Name: name, From: n}
				if err := sc.define(v); err != nil {
					return nil, nodeError(np, err)
				}
			}
			n.Outputs = append(n.Outputs, v)
		}
		g.Nodes = append(g.Nodes, n)
	}
	w := &graphWire{}
	for _, ip := range infos {
		if v := sc.values[ip.GetName()]; v != nil {
			if err := declare(v, ip); err != nil {
				return nil, err
			}
		}
		w.infos = append(w.infos, &info{proto: ip})
	}
	for i, n := range g.Nodes {
		np := nodes[i]
		for k, name := range np.Input {
			var v *graphs.Value
			if name != "" {
				if v = sc.find(name); v == nil {
					return nil, nodeError(np, fmt.Errorf("input %d: value %s is not defined", k, q(name)))
				}
			}
			n.Inputs = append(n.Inputs, v)
		}
		for _, ap := range np.Attribute {
			a, err := d.attr(ap, sc, depth)
			if err != nil {
				return nil, nodeError(np, fmt.Errorf("attribute %s: %w", q(ap.GetName()), err))
			}
			n.Attrs = append(n.Attrs, a)
		}
		np.Input, np.Output, np.Attribute = nil, nil, nil
	}
	return w, sortNodes(g)
}

func nodeError(p *onnxpb.NodeProto, err error) error {
	label := p.GetName()
	for i := 0; label == "" && i < len(p.Output); i++ {
		label = p.Output[i]
	}
	return fmt.Errorf("node %s (%s): %w", q(label), clip(p.GetOpType()), err)
}

// snapshot notes what the declared values look like after reading.
func (w *graphWire) snapshot(sc *scope) {
	note := func(in *info) {
		v := sc.find(in.proto.GetName())
		in.orphan = sc.values[in.proto.GetName()] == nil
		if v != nil {
			if _, ok := v.Opaque.(*onnxpb.SparseTensorProto); ok {
				in.orphan = true
			}
			in.was = graphs.Value{Type: v.Type, Shape: slices.Clone(v.Shape), Opaque: v.Opaque, Doc: v.Doc}
		}
	}
	for _, in := range w.inputs {
		note(in)
	}
	for _, in := range w.outputs {
		note(in)
	}
	for _, in := range w.infos {
		note(in)
	}
}

// declare gives v what a declaration says and is not yet known.
func declare(v *graphs.Value, p *onnxpb.ValueInfoProto) error {
	var t graphs.Value
	if err := typeOf(&t, p.Type); err != nil {
		return fmt.Errorf("value %s: %w", q(v.Name), err)
	}
	if v.Type == graphs.Undefined && v.Opaque == nil {
		v.Type, v.Opaque = t.Type, t.Opaque
	}
	if v.Shape == nil && v.Opaque == nil {
		v.Shape = t.Shape
	}
	if v.Doc == "" {
		v.Doc = p.GetDocString()
	}
	return nil
}

// typeOf sets the type and shape of v from their wire form.
func typeOf(v *graphs.Value, p *onnxpb.TypeProto) error {
	if p.GetValue() == nil {
		return nil
	}
	t := p.GetTensorType()
	if t == nil {
		v.Opaque = p
		return nil
	}
	v.Type = graphs.DType(t.GetElemType())
	if v.Type != graphs.Undefined && v.Type != graphs.String && v.Type.Bits() == 0 {
		return fmt.Errorf("unknown element type %d", int32(v.Type))
	}
	if t.Shape == nil {
		return nil
	}
	v.Shape = make(graphs.Shape, len(t.Shape.Dim))
	var known []int64
	for i, dp := range t.Shape.Dim {
		v.Shape[i] = graphs.UnknownDim
		switch x := dp.Value.(type) {
		case *onnxpb.TensorShapeProto_Dimension_DimValue:
			if x.DimValue >= 0 {
				v.Shape[i].N = x.DimValue
				known = append(known, x.DimValue)
			}
		case *onnxpb.TensorShapeProto_Dimension_DimParam:
			v.Shape[i].Name = x.DimParam
		}
	}
	return checkDims(known)
}

func (d *decoder) attr(p *onnxpb.AttributeProto, sc *scope, depth int) (*graphs.Attr, error) {
	a := &graphs.Attr{
		Name: p.GetName(), Kind: attrKind(p), Ref: p.GetRefAttrName(), Doc: p.GetDocString(),
	}
	a.Wire = &attrWire{proto: p, kind: a.Kind}
	var err error
	switch a.Kind {
	case graphs.AttrFloat:
		a.F = p.GetF()
	case graphs.AttrInt:
		a.I = p.GetI()
	case graphs.AttrString:
		if a.S = p.S; a.S != nil {
			p.S = []byte{}
		}
	case graphs.AttrTensor:
		if p.T != nil {
			a.T, err = d.tensor(p.T)
		} else if a.Ref == "" {
			err = errors.New("tensor is missing")
		}
		p.T = nil
	case graphs.AttrGraph:
		if p.G != nil {
			a.G, err = d.graph(p.G, sc, depth+1)
		} else if a.Ref == "" {
			err = errors.New("graph is missing")
		}
		p.G = nil
	case graphs.AttrFloats:
		a.Floats, p.Floats = p.Floats, nil
	case graphs.AttrInts:
		a.Ints, p.Ints = p.Ints, nil
	case graphs.AttrStrings:
		a.Strings, p.Strings = p.Strings, nil
	case graphs.AttrTensors:
		for _, tp := range p.Tensors {
			var t *graphs.Tensor
			if t, err = d.tensor(tp); err != nil {
				break
			}
			a.Tensors = append(a.Tensors, t)
		}
		p.Tensors = nil
	case graphs.AttrGraphs:
		for _, gp := range p.Graphs {
			var g *graphs.Graph
			if g, err = d.graph(gp, sc, depth+1); err != nil {
				break
			}
			a.Graphs = append(a.Graphs, g)
		}
		p.Graphs = nil
	}
	return a, err
}

// attrKind is the declared kind, or for files of the first IR versions, which
// declare none, the kind of the content.
func attrKind(p *onnxpb.AttributeProto) graphs.AttrKind {
	switch {
	case p.GetType() != onnxpb.AttributeProto_UNDEFINED:
		return graphs.AttrKind(p.GetType())
	case p.F != nil:
		return graphs.AttrFloat
	case p.I != nil:
		return graphs.AttrInt
	case p.S != nil:
		return graphs.AttrString
	case p.T != nil:
		return graphs.AttrTensor
	case p.G != nil:
		return graphs.AttrGraph
	case p.Floats != nil:
		return graphs.AttrFloats
	case p.Ints != nil:
		return graphs.AttrInts
	case p.Strings != nil:
		return graphs.AttrStrings
	case p.Tensors != nil:
		return graphs.AttrTensors
	case p.Graphs != nil:
		return graphs.AttrGraphs
	}
	return 0
}
