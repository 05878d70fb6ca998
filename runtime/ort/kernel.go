//go:build cgo

package ort

import (
	"regexp"
	"slices"
	"strings"

	"ebmrun/graphs"
	"ebmrun/runtime"
)

// noKernel are the ways in which the library says that it has no implementation
// of an op for a type, each with the op and the node where it names them.
var noKernel = []*regexp.Regexp{
	regexp.MustCompile(`Could not find an implementation for (?P<op>[\w.]+)\(\d+\) node with name '(?P<node>[^']*)'`),
	regexp.MustCompile(`Failed to find kernel for (?P<op>[\w.]+)\(\d+\) \(node:'(?P<node>[^']*)'`),
	regexp.MustCompile(`Type '[^']*' of input parameter \([^)]*\) of operator \((?P<op>\w+)\) in node \((?P<node>[^)]*)\) is invalid`),
	regexp.MustCompile(`while running (?P<op>\w+) node\. Name:'(?P<node>[^']*)' Status Message: .*(?:data type is not supported|not implemented|Unsupported data type)`),
}

// nodeTypes notes the float type that each named node works on.
func nodeTypes(g *graphs.Graph) map[string]graphs.DType {
	types := map[string]graphs.DType{}
	for _, n := range g.Nodes {
		for _, v := range n.Inputs {
			if n.Name != "" && v != nil && v.Type.IsFloat() {
				types[n.Name] = v.Type
				break
			}
		}
	}
	return types
}

// kernelError recognises a missing kernel in an error of the library.
func kernelError(types map[string]graphs.DType, err error) error {
	for _, p := range noKernel {
		match := p.FindStringSubmatch(err.Error())
		if match == nil {
			continue
		}
		k := &runtime.KernelError{Op: match[p.SubexpIndex("op")], Node: match[p.SubexpIndex("node")], Err: err}
		for name, t := range types { // the library names a fused node after one that it is made of
			if name == k.Node || strings.HasPrefix(k.Node, name+"/") && k.Type == graphs.Undefined {
				k.Type = t
			}
		}
		return k
	}
	return err
}

// leftOut is what a session is told not to do.
//
//   - Products in float64: the library fuses a Transpose into a MatMul, and has no kernel
//     for the outcome in that type.
//   - Heavy weights that products read transposed, with the CPU provider: the library
//     would keep them turned beside as they are, and each packed, for a tenth of the time. As
//     they are they serve both.
func leftOut(g *graphs.Graph, o runtime.Options) map[string]string {
	const optimizers = "optimization.disable_specified_optimizers"
	var turned []*graphs.Value
	for _, n := range g.Nodes {
		if n.Op == "MatMul" && n.Out(0) != nil && n.Out(0).Type == graphs.Float64 {
			return map[string]string{optimizers: "MatmulTransposeFusion"}
		}
		if n.Op == "Transpose" && n.In(0).Const != nil && !slices.Contains(turned, n.In(0)) {
			turned = append(turned, n.In(0))
		}
	}
	p := strings.ToLower(o.Provider)
	if (p == "" || p == runtime.CPU) && (o.Optimize == runtime.OptimizeAll || o.Optimize == runtime.OptimizeExtended) && heavy(turned) {
		return map[string]string{optimizers: "ConstantFolding", "session.disable_prepacking": "1"}
	}
	return nil
}
