package graphs

import (
	"fmt"
	"strconv"
	"strings"
)

// A Dim is one axis: a known size (N ≥ 0), a named symbolic size (N < 0, Name
// set) such as "batch", or an unknown size (N < 0, no name).
type Dim struct {
	N    int64
	Name string
}

// UnknownDim is an axis about which nothing is known.
var UnknownDim = Dim{N: -1}

// D is a known axis.
func D(n int) Dim { return Dim{N: int64(n)} }

// Sym is a named axis.
func Sym(name string) Dim { return Dim{N: -1, Name: name} }

// Known reports whether the size is a number.
func (d Dim) Known() bool { return d.N >= 0 }

// Same reports whether two axes are provably equal.
func (d Dim) Same(e Dim) bool {
	if d.Known() || e.Known() {
		return d.N == e.N
	}
	return d.Name != "" && d.Name == e.Name
}

func (d Dim) String() string {
	switch {
	case d.Known():
		return strconv.FormatInt(d.N, 10)
	case d.Name != "":
		return d.Name
	}
	return "?"
}

// A Shape lists the axes of a value. A nil Shape is of unknown rank; a scalar
// has an empty, non-nil Shape.
type Shape []Dim

// MakeShape returns the shape with the given known sizes.
func MakeShape(dims ...int) Shape {
	s := make(Shape, len(dims))
	for i, d := range dims {
		s[i] = D(d)
	}
	return s
}

// Known reports whether every axis is a number.
func (s Shape) Known() bool {
	for _, d := range s {
		if !d.Known() {
			return false
		}
	}
	return s != nil
}

// Ints returns the sizes; valid only if [Shape.Known].
func (s Shape) Ints() []int {
	out := make([]int, len(s))
	for i, d := range s {
		out[i] = int(d.N)
	}
	return out
}

// Same reports whether two shapes are provably equal.
func (s Shape) Same(t Shape) bool {
	if s == nil || t == nil || len(s) != len(t) {
		return false
	}
	for i := range s {
		if !s[i].Same(t[i]) {
			return false
		}
	}
	return true
}

func (s Shape) String() string {
	if s == nil {
		return "[…]"
	}
	parts := make([]string, len(s))
	for i, d := range s {
		parts[i] = d.String()
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// An Entry is a key and value of a metadata list; order is kept.
type Entry struct{ Key, Value string }

// An Opset names a version of an operator set; the domain "" is ai.onnx.
type Opset struct {
	Domain  string
	Version int64
}

// A Model is what a .onnx file holds.
type Model struct {
	IR        int64
	Opsets    []Opset
	Producer  string
	Version   string // of the producer
	Domain    string
	ModelVer  int64
	Doc       string
	Metadata  []Entry
	Graph     *Graph
	Functions []*Function

	// Wire keeps fields that this package does not model; owned by graphs/onnxio.
	Wire any
}

// The versions written into models made by this module.
const (
	IRVersion    = 10
	OpsetVersion = 21
)

// NewModel wraps a graph made in memory.
func NewModel(g *Graph) *Model {
	return &Model{IR: IRVersion, Opsets: []Opset{{"", OpsetVersion}}, Producer: "ebmrun", Graph: g}
}

// Opset returns the version imported for a domain, 0 if none is.
func (m *Model) Opset(domain string) int64 {
	if domain == "ai.onnx" {
		domain = ""
	}
	for _, o := range m.Opsets {
		if o.Domain == domain || domain == "" && o.Domain == "ai.onnx" {
			return o.Version
		}
	}
	return 0
}

// SetMeta sets a metadata entry, replacing one with the same key.
func (m *Model) SetMeta(key, value string) {
	for i := range m.Metadata {
		if m.Metadata[i].Key == key {
			m.Metadata[i].Value = value
			return
		}
	}
	m.Metadata = append(m.Metadata, Entry{key, value})
}

// Meta returns a metadata entry, "" if there is none.
func (m *Model) Meta(key string) string {
	for _, e := range m.Metadata {
		if e.Key == key {
			return e.Value
		}
	}
	return ""
}

// A Function is a model-local function; its body nodes use names, bound at the
// call.
type Function struct {
	Domain, Name, Overload string
	Graph                  *Graph   // inputs and outputs are untyped
	AttrNames              []string // attributes without a default
	AttrDefaults           []*Attr
	Opsets                 []Opset
	Doc                    string
	Metadata               []Entry
	Wire                   any
}

// A Graph is a list of nodes in topological order with the values at its edge.
// An initializer is a Value with a Const. In a subgraph, values of the
// enclosing graph may be used directly.
type Graph struct {
	Name     string
	Doc      string
	Nodes    []*Node
	Inputs   []*Value
	Outputs  []*Value
	Inits    []*Value // values with Const; a value may be an input as well (a default)
	Metadata []Entry
	Wire     any

	names map[string]bool
}

// A Value is an edge of the graph.
type Value struct {
	Name  string
	Type  DType
	Shape Shape
	Const *Tensor // constant content, nil if computed
	From  *Node   // producing node, nil for inputs and initializers

	// Content is the partly known content of a small integer value of rank 0 or
	// 1 (a shape being computed), nil if nothing is known.
	Content []Dim

	// Opaque is set for values that are not tensors (sequences, optionals, maps);
	// it holds their type in wire form.
	Opaque any
	Doc    string
}

// Index is the position among its producer's outputs.
func (v *Value) Index() int {
	if v.From != nil {
		for i, o := range v.From.Outputs {
			if o == v {
				return i
			}
		}
	}
	return 0
}

// Rank is the number of axes, −1 if unknown.
func (v *Value) Rank() int {
	if v.Shape == nil {
		return -1
	}
	return len(v.Shape)
}

func (v *Value) String() string {
	if v == nil {
		return "<none>"
	}
	return fmt.Sprintf("%s %v%v", v.Name, v.Type, v.Shape)
}

// A Node applies an op. Inputs may hold nil for an omitted optional input;
// omitted outputs are nil too.
type Node struct {
	Name     string
	Op       string
	Domain   string // "" is ai.onnx
	Overload string
	Inputs   []*Value
	Outputs  []*Value
	Attrs    []*Attr
	Doc      string
	Metadata []Entry
	Wire     any
}

// In returns input i, nil if it is absent.
func (n *Node) In(i int) *Value {
	if i < len(n.Inputs) {
		return n.Inputs[i]
	}
	return nil
}

// Out returns output i, nil if it is absent.
func (n *Node) Out(i int) *Value {
	if i < len(n.Outputs) {
		return n.Outputs[i]
	}
	return nil
}

// Label is the node's name, or its first output's name when it has none.
func (n *Node) Label() string {
	if n.Name != "" {
		return n.Name
	}
	for _, o := range n.Outputs {
		if o != nil {
			return o.Name
		}
	}
	return n.Op
}

// AttrKind discriminates attribute values; the numbers are the wire format's.
type AttrKind int32

// Attribute kinds.
const (
	AttrFloat   AttrKind = 1
	AttrInt     AttrKind = 2
	AttrString  AttrKind = 3
	AttrTensor  AttrKind = 4
	AttrGraph   AttrKind = 5
	AttrFloats  AttrKind = 6
	AttrInts    AttrKind = 7
	AttrStrings AttrKind = 8
	AttrTensors AttrKind = 9
	AttrGraphs  AttrKind = 10
)

// An Attr is a named attribute of a node.
type Attr struct {
	Name    string
	Kind    AttrKind
	F       float32
	I       int64
	S       []byte
	T       *Tensor
	G       *Graph
	Floats  []float32
	Ints    []int64
	Strings [][]byte
	Tensors []*Tensor
	Graphs  []*Graph
	Ref     string // name of the enclosing function's attribute
	Doc     string
	Wire    any // attribute of a kind this package does not model
}

// Attr returns the attribute with the given name, nil if absent.
func (n *Node) Attr(name string) *Attr {
	for _, a := range n.Attrs {
		if a.Name == name {
			return a
		}
	}
	return nil
}

// Int returns an integer attribute or its default.
func (n *Node) Int(name string, def int64) int64 {
	if a := n.Attr(name); a != nil && a.Kind == AttrInt {
		return a.I
	}
	return def
}

// Float returns a float attribute or its default.
func (n *Node) Float(name string, def float64) float64 {
	if a := n.Attr(name); a != nil && a.Kind == AttrFloat {
		return float64(a.F)
	}
	return def
}

// Str returns a string attribute or its default.
func (n *Node) Str(name, def string) string {
	if a := n.Attr(name); a != nil && a.Kind == AttrString {
		return string(a.S)
	}
	return def
}

// Ints returns an integer list attribute, nil if absent.
func (n *Node) Ints(name string) []int64 {
	if a := n.Attr(name); a != nil && a.Kind == AttrInts {
		return a.Ints
	}
	return nil
}

// I makes an integer attribute.
func I(name string, v int64) *Attr { return &Attr{Name: name, Kind: AttrInt, I: v} }

// F makes a float attribute.
func F(name string, v float64) *Attr { return &Attr{Name: name, Kind: AttrFloat, F: float32(v)} }

// S makes a string attribute.
func S(name, v string) *Attr { return &Attr{Name: name, Kind: AttrString, S: []byte(v)} }

// IntsAttr makes an integer list attribute.
func IntsAttr(name string, v ...int64) *Attr { return &Attr{Name: name, Kind: AttrInts, Ints: v} }

// T makes a tensor attribute.
func T(name string, t *Tensor) *Attr { return &Attr{Name: name, Kind: AttrTensor, T: t} }

// G makes a graph attribute.
func G(name string, g *Graph) *Attr { return &Attr{Name: name, Kind: AttrGraph, G: g} }

// Fresh hands out a name not yet used in the graph: base itself, or base with a
// numeric suffix. It is the one place where names are made.
func (g *Graph) Fresh(base string) string {
	if g.names == nil {
		g.names = map[string]bool{}
		g.collectNames(g.names)
	}
	name := base
	for i := 1; g.names[name]; i++ {
		name = base + "_" + strconv.Itoa(i)
	}
	g.names[name] = true
	return name
}

func (g *Graph) collectNames(set map[string]bool) {
	for _, v := range g.Inputs {
		set[v.Name] = true
	}
	for _, v := range g.Inits {
		set[v.Name] = true
	}
	for _, n := range g.Nodes {
		if n.Name != "" {
			set[n.Name] = true
		}
		for _, v := range n.Outputs {
			if v != nil {
				set[v.Name] = true
			}
		}
		for _, a := range n.Attrs {
			if a.G != nil {
				a.G.collectNames(set)
			}
			for _, s := range a.Graphs {
				s.collectNames(set)
			}
		}
	}
}

// Find returns the value with the given name, nil if there is none.
func (g *Graph) Find(name string) *Value {
	for _, list := range [][]*Value{g.Inputs, g.Inits, g.Outputs} {
		for _, v := range list {
			if v.Name == name {
				return v
			}
		}
	}
	for _, n := range g.Nodes {
		for _, v := range n.Outputs {
			if v != nil && v.Name == name {
				return v
			}
		}
	}
	return nil
}

// Input returns the graph input with the given name, nil if there is none.
func (g *Graph) Input(name string) *Value {
	for _, v := range g.Inputs {
		if v.Name == name {
			return v
		}
	}
	return nil
}

// Output returns the graph output with the given name, nil if there is none.
func (g *Graph) Output(name string) *Value {
	for _, v := range g.Outputs {
		if v.Name == name {
			return v
		}
	}
	return nil
}

// A NodeError is a failure at one node: where, what, and why.
type NodeError struct {
	Node  *Node
	Opset int64 // 0 if unknown
	Err   error
}

func (e *NodeError) Error() string {
	n := e.Node
	op := n.Op
	if n.Domain != "" {
		op = n.Domain + "." + op
	}
	if e.Opset > 0 {
		return fmt.Sprintf("node %q (%s, opset %d): %v", n.Label(), op, e.Opset, e.Err)
	}
	return fmt.Sprintf("node %q (%s): %v", n.Label(), op, e.Err)
}

func (e *NodeError) Unwrap() error { return e.Err }
