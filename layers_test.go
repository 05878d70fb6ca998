// Package ebmrun_test holds the rules that no single package can check: which
// way imports point, who may use which module, and what libraries must not do.
package ebmrun_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "ebmrun/"

// layers says which packages of this module each one may import. "a/..." stands
// for a and all below it; a package falls under its own row, else under the
// longest such pattern. Only code is judged: a test may look anywhere.
var layers = map[string]string{
	"graphs":           "",
	"graphs/onnxpb":    "",
	"graphs/onnxio":    "graphs graphs/onnxpb",
	"graphs/refeval":   "graphs",
	"graphs/passes":    "graphs graphs/refeval",
	"graphs/autodiff":  "graphs graphs/passes graphs/refeval",
	"graphs/graphtest": "graphs graphs/onnxio graphs/refeval",

	"runtime":             "graphs",
	"runtime/ortlib":      "graphs runtime",
	"runtime/ref":         "graphs graphs/passes graphs/refeval runtime",
	"runtime/ort":         "graphs graphs/onnxio graphs/passes runtime runtime/ortlib",
	"runtime/enginetest":  "graphs runtime",
	"runtime/orttraining": "graphs graphs/onnxio graphs/passes runtime runtime/ortlib",

	"onnxmodels":      "graphs",
	"onnxmodels/nn":   "graphs",
	"onnxmodels/...":  "graphs graphs/autodiff graphs/onnxio graphs/passes onnxmodels/...",
	"onnxmodels/swin": "graphs graphs/passes graphs/refeval onnxmodels/...", // what a file's constants come to

	"training/sampler":       "",
	"training/sampler/...":   "training/sampler",
	"training/optim":         "",
	"training/diag":          "",
	"training/checkpoint":    "training/checkpoint/...",
	"training/data":          "training/check training/checkpoint/atomicfile",
	"training/record":        "training/checkpoint/atomicfile",
	"training/check":         "",
	"training":               "training/check training/checkpoint training/data training/optim training/record training/sampler",
	"training/bind":          "graphs/... onnxmodels/... runtime training training/optim training/sampler",
	"training/bind/bindtest": "onnxmodels runtime training/bind",
	// The learning systems, and what measures them, see interfaces and no engine.
	"training/...": "onnxmodels/... training/...",

	"training/checkpoint/atomicfile": "",

	"export/...":    "graphs/... onnxmodels/... training/checkpoint/atomicfile",
	"export/verify": "export/... graphs/... onnxmodels/... runtime/...",

	"cmd/ebmrun": "export/... graphs/... onnxmodels/... runtime/... training/...",
}

// never is what a pattern of layers may not reach although it would.
var never = map[string]string{
	"training/...": "training/bind",
}

// outside says which packages may import which modules; all others are refused.
var outside = map[string]string{
	"github.com/spf13/cobra":            "cmd/ebmrun",
	"github.com/spf13/pflag":            "cmd/ebmrun",
	"github.com/sirupsen/logrus":        "cmd/ebmrun",
	"github.com/schollz/progressbar/v3": "cmd/ebmrun",
	"github.com/mattn/go-isatty":        "cmd/ebmrun",
	"github.com/yalue/onnxruntime_go":   "runtime/ort",
	"google.golang.org/protobuf":        "graphs/onnxio graphs/onnxpb training/record export/ondevice",
	"github.com/google/flatbuffers":     "export/ondevice",
	"github.com/goccy/go-yaml":          "cmd/ebmrun training/...",
	"github.com/nlpodyssey/safetensors": "training/checkpoint export/...",
	"codeberg.org/sbinet/npyio":         "training/data export/...",
	"golang.org/x/image":                "training/data",
	"gonum.org/v1/gonum":                "training/... export/...",
	"gonum.org/v1/plot":                 "training/record",
	"github.com/owulveryck/onnx-go":     "export/verify",
	"gorgonia.org/tensor":               "export/verify",
}

// TestArchitecture: ARCHITECTURE.md names every folder that layers has a row for, and every one below training
// that is no learning system.
func TestArchitecture(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	all, system := map[string]bool{}, map[string]bool{}
	for _, s := range sources(t) {
		all[s.pkg] = true
		ast.Inspect(s.file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == "Config" && path.Dir(s.pkg) == "training" {
				system[s.pkg] = true
			}
			return true
		})
	}
	if !system["training/coopnets"] || system["training/bind"] {
		t.Errorf("learning systems are %v", slices.Sorted(maps.Keys(system)))
	}
	for _, pkg := range slices.Sorted(maps.Keys(all)) {
		if pkg != "." && !system[pkg] && !strings.Contains(string(text), path.Base(pkg)+"/") {
			t.Errorf("ARCHITECTURE.md does not name %s", pkg)
		}
	}
}

// A source is one Go file.
type source struct {
	name string // from the module's root
	pkg  string // its folder
	test bool
	tool bool // a program of its own that a go:generate line runs
	file *ast.File
	fset *token.FileSet
}

// sources parses every Go file of the module, whatever its build constraints.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			if name != "." && (base == "testdata" || base[0] == '.' || base[0] == '_') {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(base) != ".go" {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		s := source{name: filepath.ToSlash(name), test: strings.HasSuffix(base, "_test.go"), file: file, fset: fset}
		s.pkg = path.Dir(s.name)
		s.tool = file.Name.Name == "main" && !strings.HasPrefix(s.pkg, "cmd/")
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// imports are the paths that a file imports.
func (s source) imports() []string {
	var paths []string
	for _, i := range s.file.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		paths = append(paths, p)
	}
	return paths
}

// covers reports whether a pattern stands for a package.
func covers(pattern, pkg string) bool {
	root, open := strings.CutSuffix(pattern, "/...")
	return pkg == root || open && strings.HasPrefix(pkg, root+"/")
}

// within reports whether one of a list of patterns stands for a package.
func within(patterns, pkg string) bool {
	return slices.ContainsFunc(strings.Fields(patterns), func(p string) bool { return covers(p, pkg) })
}

// row is the key of layers that a package falls under, "" for none.
func row(pkg string) string {
	best := ""
	for key := range layers {
		if key == pkg {
			return key
		}
		if covers(key, pkg) && len(key) > len(best) {
			best = key
		}
	}
	return best
}

func TestImportDirection(t *testing.T) {
	used := map[string]bool{}
	for _, s := range sources(t) {
		if s.test || s.tool {
			continue
		}
		key := row(s.pkg)
		if key == "" {
			t.Errorf("%s: package %s has no row in layers", s.name, s.pkg)
			continue
		}
		used[key] = true
		for _, p := range s.imports() {
			to, ours := strings.CutPrefix(p, module)
			if ours && (!within(layers[key], to) || within(never[key], to)) {
				t.Errorf("%s: wrong arrow: %s imports %s; row %q allows %q", s.name, s.pkg, to, key, layers[key])
			}
		}
	}
	for key := range layers {
		if !used[key] {
			t.Errorf("layers: row %q stands for no package", key)
		}
	}
}

func TestModules(t *testing.T) {
	used := map[string]bool{}
	for _, s := range sources(t) {
		if s.test || s.tool {
			continue
		}
		for _, p := range s.imports() {
			if first, _, _ := strings.Cut(p, "/"); !strings.Contains(first, ".") {
				continue // the standard library, or ours
			}
			found := false
			for mod, users := range outside {
				if p != mod && !strings.HasPrefix(p, mod+"/") {
					continue
				}
				found, used[mod] = true, true
				if !within(users, s.pkg) {
					t.Errorf("%s: %s imports %s, which is for %s only", s.name, s.pkg, p, users)
				}
			}
			if !found {
				t.Errorf("%s: %s has no row in outside", s.name, p)
			}
		}
	}
	for mod := range outside {
		if !used[mod] {
			t.Errorf("outside: nobody imports %s", mod)
		}
	}
}

// TestCgo: cgo is behind one door, so that everything else builds and runs
// without a C compiler.
func TestCgo(t *testing.T) {
	for _, s := range sources(t) {
		if s.pkg != "runtime/ort" && slices.Contains(s.imports(), "C") {
			t.Errorf("%s: cgo outside runtime/ort", s.name)
		}
	}
}

// banned are functions and variables of the standard library that libraries do
// not touch: they print nothing, end no process, and draw from no source that
// the caller's seed does not reach.
var banned = map[string]func(name string) bool{
	"fmt": func(name string) bool { return strings.HasPrefix(name, "Print") },
	"os":  func(name string) bool { return slices.Contains([]string{"Stdout", "Stderr", "Exit"}, name) },
	"log": func(string) bool { return true },

	"log/slog":  func(string) bool { return true },
	"math/rand": func(string) bool { return true },
	"math/rand/v2": func(name string) bool {
		return !slices.Contains([]string{"New", "NewPCG", "NewChaCha8", "NewZipf", "Rand", "PCG", "ChaCha8", "Zipf", "Source"}, name)
	},
}

// excused may do what banned forbids, for the reason given.
var excused = map[string]string{
	"training/checkpoint/atomicfile": "names of temporary files must differ between processes",
}

func TestLibrariesAreQuietAndSeeded(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.tool || excused[s.pkg] != "" {
			continue
		}
		names := map[string]string{} // by which the file knows a package of banned
		for _, i := range s.file.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			switch {
			case banned[p] == nil:
			case i.Name != nil:
				names[i.Name.Name] = p
			case p == "math/rand/v2":
				names["rand"] = p
			default:
				names[path.Base(p)] = p
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			p := names[x.Name]
			if p == "" || !banned[p](sel.Sel.Name) || strings.HasPrefix(s.pkg, "cmd/") && !strings.HasPrefix(p, "math/rand") {
				return true
			}
			t.Errorf("%s: %s.%s in %s", s.fset.Position(n.Pos()), p, sel.Sel.Name, s.pkg)
			return true
		})
	}
}

// TestPackageDocs: every package says what it is.
func TestPackageDocs(t *testing.T) {
	said := map[string]bool{}
	for _, s := range sources(t) {
		if s.tool || s.test && s.pkg != "." {
			continue
		}
		said[s.pkg] = said[s.pkg] || s.file.Doc != nil
	}
	for pkg, ok := range said {
		if !ok {
			t.Errorf("package %s has no doc comment", pkg)
		}
	}
}
