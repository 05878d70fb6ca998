package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/onnxio"
	"ebmrun/graphs/passes"
)

func inspectCommand(c *common) *cobra.Command {
	var asJSON, free bool
	var out string
	cmd := &cobra.Command{
		Use:   "inspect MODEL.onnx",
		Short: "Tell what is in an ONNX model and whether it can be differentiated",
		Long: `Tell what is in an ONNX model: inputs, outputs and their symbolic axes, weights,
versions, producer, metadata, and how often each op occurs. For each op it says
how a gradient passes it: by a rule, lowered (rewritten into primitives first),
flat (its slope is zero), or none. Nodes that stop a gradient between the
float inputs and weights and the float outputs are listed with the reason.

With --free-batch it writes the model with its batch as a symbolic axis: what an
exporter wrote of the batch it traced with into shapes of the graph follows the
input instead. Each node on the way must be known to keep the rows of a batch
apart, or the model is refused; then the rows of another batch are compared with
those of the model as it was. The file is of opset 21.`,
		Example: example("ebmrun inspect energy.onnx", "ebmrun inspect vgg19.onnx --json | jq .problems",
			"ebmrun inspect swin.onnx --free-batch -o swin-any-batch.onnx"),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case !free && out != "":
				return badInput(errors.New("--out: nothing to write without --free-batch"))
			case free && (out == "" || asJSON):
				return badInput(errors.New("--free-batch wants a file to write (-o) and no --json"))
			}
			if free {
				return c.freeBatch(cmd.Context(), args[0], out)
			}
			m, err := onnxio.Read(args[0])
			if err != nil {
				return badInput(err)
			}
			s := inspect(m)
			s.File = args[0]
			if info, err := os.Stat(args[0]); err == nil {
				s.Bytes = info.Size()
			}
			if asJSON {
				return c.printJSON(s)
			}
			return s.write(c.out)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as a JSON object")
	cmd.Flags().BoolVar(&free, "free-batch", false, "write the model with a symbolic batch")
	cmd.Flags().StringVarP(&out, "out", "o", "", "file that --free-batch writes")
	return cmd
}

// A summary is what inspect tells about a model.
type summary struct {
	File     string            `json:"file"`
	Bytes    int64             `json:"bytes"`
	IR       int64             `json:"ir_version"`
	Opsets   map[string]int64  `json:"opsets"`
	Producer string            `json:"producer,omitempty"`
	Graph    string            `json:"graph,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`

	Inputs     []valueInfo         `json:"inputs"`
	Outputs    []valueInfo         `json:"outputs"`
	Axes       map[string][]string `json:"axes,omitempty"` // where each symbolic axis occurs
	Parameters parameterInfo       `json:"parameters"`
	Functions  []string            `json:"functions,omitempty"`
	Nodes      int                 `json:"nodes"` // those of subgraphs included
	Ops        []opInfo            `json:"ops"`

	Differentiable bool      `json:"differentiable"`
	Problems       []problem `json:"problems"`
	Hints          []string  `json:"hints,omitempty"`
}

type valueInfo struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Shape string `json:"shape"`
}

// parameterInfo counts float initializers that are weights; constants are the
// other initializers.
type parameterInfo struct {
	Tensors   int   `json:"tensors"`
	Values    int64 `json:"values"`
	Bytes     int64 `json:"bytes"`
	Constants int   `json:"constants"`
}

type opInfo struct {
	Op       string `json:"op"`
	Count    int    `json:"count"`
	Gradient string `json:"gradient"` // rule, lowered, flat or none
}

type problem struct {
	Node   string `json:"node,omitempty"`
	Op     string `json:"op,omitempty"`
	Reason string `json:"reason"`
}

func inspect(m *graphs.Model) summary {
	g := m.Graph
	s := summary{
		IR: m.IR, Opsets: map[string]int64{}, Graph: g.Name,
		Producer: strings.TrimSpace(m.Producer + " " + m.Version),
		Metadata: map[string]string{}, Axes: map[string][]string{}, Problems: []problem{},
	}
	for _, o := range m.Opsets {
		s.Opsets[cmp.Or(o.Domain, "ai.onnx")] = o.Version
	}
	for _, e := range m.Metadata {
		s.Metadata[e.Key] = e.Value
	}
	for _, f := range m.Functions {
		s.Functions = append(s.Functions, qualified(f.Domain, f.Name))
	}
	s.countParameters(g)
	s.countOps(m)

	ready, err := prepared(m)
	if err != nil {
		s.Problems = append(s.Problems, problem{Reason: err.Error()})
	} else {
		g = ready.Graph // shapes are inferred in it
		for _, p := range autodiff.Problems(g) {
			s.Problems = append(s.Problems, problem{p.Node.Label(), qualified(p.Node.Domain, p.Node.Op), p.Reason})
		}
	}
	s.Differentiable = len(s.Problems) == 0
	s.describeEdge(g)
	return s
}

// prepared is m in the form that gradients are made of, as far as the model
// lets itself be brought there.
func prepared(m *graphs.Model) (*graphs.Model, error) {
	if err := onnxio.CheckOpset(m); err != nil {
		return nil, err
	}
	m = passes.Clone(m)
	if err := passes.Raise(m); err != nil {
		return nil, err
	}
	if _, err := passes.InlineFunctions(m); err != nil {
		return nil, err
	}
	return m, graphs.InferAll(m.Graph, graphs.OpsetVersion)
}

func (s *summary) countParameters(g *graphs.Graph) {
	for _, v := range g.Inits {
		if !passes.IsWeight(v) {
			s.Parameters.Constants++
			continue
		}
		n := int64(v.Const.Len())
		s.Parameters.Tensors++
		s.Parameters.Values += n
		s.Parameters.Bytes += (n*int64(v.Const.Type.Bits()) + 7) / 8
	}
}

func (s *summary) countOps(m *graphs.Model) {
	counts := map[string]int{}
	eachNode(m.Graph, func(n *graphs.Node) { counts[qualified(n.Domain, n.Op)]++ })
	kinds := autodiff.Ops()
	for _, name := range s.Functions {
		kinds[name] = "function"
	}
	for op, n := range counts {
		s.Nodes += n
		s.Ops = append(s.Ops, opInfo{op, n, cmp.Or(kinds[op], "none")})
	}
	slices.SortFunc(s.Ops, func(a, b opInfo) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Op, b.Op))
	})
}

// eachNode visits the nodes of a graph and of its subgraphs.
func eachNode(g *graphs.Graph, visit func(*graphs.Node)) {
	for _, n := range g.Nodes {
		visit(n)
		for _, a := range n.Attrs {
			if a.G != nil {
				eachNode(a.G, visit)
			}
			for _, sub := range a.Graphs {
				eachNode(sub, visit)
			}
		}
	}
}

func (s *summary) describeEdge(g *graphs.Graph) {
	inits := map[string]bool{}
	for _, v := range g.Inits {
		inits[v.Name] = true
	}
	for _, v := range g.Inputs {
		if !inits[v.Name] { // else a weight that is listed as an input, as old models do
			s.Inputs = append(s.Inputs, s.describe(v))
			if first := v.Shape; len(first) > 1 && first[0].Known() {
				s.Hints = append(s.Hints, fmt.Sprintf("input %s has a fixed batch of %d; --free-batch writes a model for any size", v.Name, first[0].N))
			}
		}
	}
	for _, v := range g.Outputs {
		s.Outputs = append(s.Outputs, s.describe(v))
	}
	s.Hints = append(s.Hints, frozenBatch(g)...)
}

func (s *summary) describe(v *graphs.Value) valueInfo {
	for _, d := range v.Shape {
		if d.Name != "" && !d.Known() && !slices.Contains(s.Axes[d.Name], v.Name) {
			s.Axes[d.Name] = append(s.Axes[d.Name], v.Name)
		}
	}
	if v.Opaque != nil {
		return valueInfo{v.Name, "not a tensor", ""}
	}
	return valueInfo{v.Name, v.Type.String(), v.Shape.String()}
}

// frozenBatch finds Reshape nodes that turn an activation with a symbolic first
// axis into a fixed number of rows: exporters write the traced batch there.
func frozenBatch(g *graphs.Graph) []string {
	var out []string
	for _, n := range g.Nodes {
		if n.Op != "Reshape" || n.Domain != "" {
			continue
		}
		x, shape := n.In(0), n.In(1)
		if x == nil || shape == nil || len(x.Shape) == 0 || x.Shape[0].Known() {
			continue
		}
		if to, ok := graphs.ConstInts(shape); ok && len(to) > 1 && to[0] > 0 && !slices.Contains(to, -1) {
			out = append(out, fmt.Sprintf("node %q reshapes to the fixed sizes %v although its input's first axis is symbolic: the batch is frozen there, and --free-batch frees it", n.Label(), to))
		}
	}
	return out
}

// qualified names an op with its domain, unless that is ai.onnx.
func qualified(domain, op string) string {
	if domain == "" || domain == "ai.onnx" {
		return op
	}
	return domain + "." + op
}

func (s summary) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(key, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", key, printable(fmt.Sprintf(format, args...)))
	}
	row("file", "%s, %s", s.File, byteText(s.Bytes))
	var opsets []string
	for _, domain := range sortedKeys(s.Opsets) {
		opsets = append(opsets, fmt.Sprintf("%s %d", domain, s.Opsets[domain]))
	}
	row("format", "IR %d, opset %s", s.IR, strings.Join(opsets, ", "))
	if s.Producer != "" {
		row("producer", "%s", s.Producer)
	}
	for _, k := range sortedKeys(s.Metadata) {
		row("metadata", "%s = %s", k, s.Metadata[k])
	}
	for _, v := range s.Inputs {
		row("input", "%s %s%s", v.Name, v.Type, v.Shape)
	}
	for _, v := range s.Outputs {
		row("output", "%s %s%s", v.Name, v.Type, v.Shape)
	}
	for _, a := range sortedKeys(s.Axes) {
		row("axis", "%s, in %s", a, strings.Join(s.Axes[a], ", "))
	}
	p := s.Parameters
	row("parameters", "%d tensors, %d values, %s; %d constants", p.Tensors, p.Values, byteText(p.Bytes), p.Constants)
	row("nodes", "%d", s.Nodes)
	for _, o := range s.Ops {
		row("op", "%s × %d, gradient: %s", o.Op, o.Count, o.Gradient)
	}
	if s.Differentiable {
		row("gradient", "every node on the way can be differentiated")
	}
	for _, p := range s.Problems {
		if p.Op == "" {
			row("gradient", "none: %s", p.Reason)
		} else {
			row("gradient", "stops at node %q (%s): %s", p.Node, p.Op, p.Reason)
		}
	}
	for _, h := range s.Hints {
		row("hint", "%s", h)
	}
	return w.Flush()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// byteText writes a size in decimal units.
func byteText(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d bytes", n)
}
