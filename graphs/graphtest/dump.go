package graphtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ebmrun/graphs"
)

// Dump is a graph as text, a line for each input, initializer, node and output.
func Dump(g *graphs.Graph) string {
	var b strings.Builder
	dump(&b, g, "")
	return b.String()
}

func dump(b *strings.Builder, g *graphs.Graph, indent string) {
	for _, v := range g.Inputs {
		fmt.Fprintf(b, "%sinput %v\n", indent, v)
	}
	for _, v := range g.Inits {
		fmt.Fprintf(b, "%sconst %v = %s\n", indent, v, content(v.Const))
	}
	for _, n := range g.Nodes {
		var outs, ins, attrs []string
		for _, v := range n.Outputs {
			outs = append(outs, v.String())
		}
		for _, v := range n.Inputs {
			if v == nil {
				ins = append(ins, "-")
			} else {
				ins = append(ins, v.Name)
			}
		}
		for _, a := range n.Attrs {
			if a.G == nil {
				attrs = append(attrs, a.Name+"="+attr(a))
			}
		}
		op := n.Op
		if n.Domain != "" {
			op = n.Domain + "." + op
		}
		fmt.Fprintf(b, "%s%s = %s(%s)", indent, strings.Join(outs, ", "), op, strings.Join(ins, ", "))
		if len(attrs) > 0 {
			fmt.Fprintf(b, " {%s}", strings.Join(attrs, " "))
		}
		b.WriteByte('\n')
		for _, a := range n.Attrs {
			if a.G != nil {
				fmt.Fprintf(b, "%s  %s:\n", indent, a.Name)
				dump(b, a.G, indent+"    ")
			}
		}
	}
	for _, v := range g.Outputs {
		fmt.Fprintf(b, "%soutput %v\n", indent, v)
	}
}

// content is the value of a short tensor.
func content(t *graphs.Tensor) string {
	if t.Len() > 16 {
		return "…"
	}
	return fmt.Sprint(t.Data)
}

func attr(a *graphs.Attr) string {
	switch a.Kind {
	case graphs.AttrFloat:
		return fmt.Sprint(a.F)
	case graphs.AttrInt:
		return fmt.Sprint(a.I)
	case graphs.AttrString:
		return fmt.Sprintf("%q", a.S)
	case graphs.AttrFloats:
		return fmt.Sprint(a.Floats)
	case graphs.AttrInts:
		return fmt.Sprint(a.Ints)
	case graphs.AttrStrings:
		return fmt.Sprintf("%q", a.Strings)
	case graphs.AttrTensor:
		if a.T != nil {
			return fmt.Sprintf("%v%v%s", a.T.Type, a.T.Dims, content(a.T))
		}
	}
	return "…"
}

// Golden compares text with the file testdata/<name>.golden. UPDATE_GOLDEN=1
// writes the file instead.
func Golden(t testing.TB, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (UPDATE_GOLDEN=1 writes it)", err)
	}
	if got == string(want) {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		var a, b string
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			t.Errorf("%s, line %d:\n got    %s\n wanted %s", path, i+1, a, b)
			return
		}
	}
}
