package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"

	"ebmrun/graphs"
)

// CacheDir is the folder for what the project keeps between runs: EBMRUN_CACHE,
// or ebmrun in the user's cache folder.
func CacheDir() (string, error) {
	if dir := os.Getenv("EBMRUN_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder (set EBMRUN_CACHE): %w", err)
	}
	return filepath.Join(dir, "ebmrun"), nil
}

// VerdictFile is the JSON file that verdicts on providers are remembered in.
// Deleting it makes every provider be checked again.
func VerdictFile() (string, error) {
	dir, err := CacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "providers.json"), nil
}

// edition numbers what is done to a graph on its way to a provider, and how it is compared. Raise it with
// a change there that may turn a verdict: those of other editions are not recalled.
const edition = 8

// maxVerdicts bounds the file; it starts afresh when full.
const maxVerdicts = 4096

var verdictMu sync.Mutex

// recall looks a verdict up. A file that cannot be read or parsed holds none.
func recall(key string) (Verdict, bool) {
	verdictMu.Lock()
	defer verdictMu.Unlock()
	path, err := VerdictFile()
	if err != nil {
		return Verdict{}, false
	}
	v, ok := readVerdicts(path)[key]
	return v, ok
}

// remember adds a verdict. The file is replaced whole, so that a reader never
// sees half of one; of two processes that write at once, one verdict is lost and
// worked out again later.
func remember(key string, v Verdict) error {
	verdictMu.Lock()
	defer verdictMu.Unlock()
	path, err := VerdictFile()
	if err != nil {
		return err
	}
	all := readVerdicts(path)
	if len(all) >= maxVerdicts {
		clear(all)
	}
	all[key] = v
	data, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "providers-*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

func readVerdicts(path string) map[string]Verdict {
	all := map[string]Verdict{}
	if data, err := os.ReadFile(path); err == nil && json.Unmarshal(data, &all) != nil {
		clear(all)
	}
	return all
}

// processor names the machine's processor.
var processor = sync.OnceValue(func() string {
	name := goruntime.GOOS + "/" + goruntime.GOARCH
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return name + " " + strings.TrimSpace(v)
		}
	}
	return name
})

// hash identifies a graph for verdicts: ops, attributes, wiring, types, shapes
// and the constants that steer it (integers, scalars). Names do not count, and of
// weights only type and dimensions: a network frozen anew after each epoch is the
// same to a provider.
func hash(m *graphs.Model) string {
	h := sha256.New()
	for _, o := range m.Opsets {
		fmt.Fprintln(h, "opset", o.Domain, o.Version)
	}
	for _, f := range m.Functions {
		fmt.Fprintln(h, "function", f.Domain, f.Name)
		hashGraph(h, f.Graph, map[*graphs.Value]int{})
	}
	hashGraph(h, m.Graph, map[*graphs.Value]int{})
	return hex.EncodeToString(h.Sum(nil)[:12])
}

func hashGraph(w io.Writer, g *graphs.Graph, ids map[*graphs.Value]int) {
	id := func(v *graphs.Value) int {
		if v == nil {
			return -1
		}
		n, ok := ids[v]
		if !ok {
			n = len(ids)
			ids[v] = n
			if v.Const != nil {
				fmt.Fprintln(w, "const", n)
				hashTensor(w, v.Const)
			}
		}
		return n
	}
	for _, v := range g.Inputs {
		fmt.Fprintln(w, "in", id(v), v.Type, v.Shape)
	}
	for _, n := range g.Nodes {
		fmt.Fprintln(w, "node", n.Domain, n.Op)
		for _, v := range n.Inputs {
			fmt.Fprintln(w, id(v))
		}
		for _, a := range n.Attrs {
			fmt.Fprintln(w, "attr", a.Name, a.Kind, a.F, a.I, string(a.S), a.Floats, a.Ints, a.Strings, a.Ref)
			if a.T != nil {
				hashTensor(w, a.T)
			}
			for _, sub := range append(append([]*graphs.Graph{}, a.G), a.Graphs...) {
				if sub != nil {
					hashGraph(w, sub, ids)
				}
			}
		}
		for _, v := range n.Outputs {
			fmt.Fprintln(w, "out", id(v))
		}
	}
	for _, v := range g.Outputs {
		fmt.Fprintln(w, "result", id(v), v.Type)
	}
}

func hashTensor(w io.Writer, t *graphs.Tensor) {
	fmt.Fprintln(w, "tensor", t.Type, t.Dims)
	if small := 256; !t.Type.IsFloat() && t.Len() <= small || t.Len() <= 4 {
		fmt.Fprintln(w, t.Data)
	}
}
