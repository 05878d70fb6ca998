package runtime

import (
	"context"
	"fmt"
	"strings"
	"time"

	"ebmrun/graphs"
)

// An Engine compiles models. It is safe for concurrent use.
type Engine interface {
	// Compile prepares m for running. The model's graph must not be modified
	// afterwards. ctx bounds the compilation only.
	Compile(ctx context.Context, m *graphs.Model, o Options) (Program, error)
}

// A Program is a compiled model. It is safe for concurrent use as long as the
// calls do not share output tensors.
type Program interface {
	// Inputs lists the values to be fed, in order: the graph's inputs without
	// those that have a default.
	Inputs() []*graphs.Value

	// Outputs lists the values that a call gives, in order.
	Outputs() []*graphs.Value

	// Run computes out from in, both positional. A nil out[i] is allocated and
	// set; another is written in place and must have the output's type and
	// dimensions. Outputs must not share memory with inputs. Inputs of the wrong
	// number, type, rank or size are an error that names the input, what is wanted
	// and what was got. If ctx ends during the call, Run stops early where the
	// library allows and returns an error that wraps ctx's.
	Run(ctx context.Context, in, out []*graphs.Tensor) error

	// Close waits for calls in flight and frees what the program holds. Closing
	// twice does no harm.
	Close() error
}

// The execution providers that an engine may know.
const (
	CPU      = "cpu"
	OpenVINO = "openvino"
	CUDA     = "cuda"
	TensorRT = "tensorrt"
	CoreML   = "coreml"

	// Auto takes the fastest provider that gives the CPU provider's numbers.
	Auto = "auto"
)

// A Level says how far the library may rewrite a graph before running it.
type Level int

// Optimization levels; the zero value is what libraries do by default.
const (
	OptimizeAll Level = iota
	OptimizeExtended
	OptimizeBasic
	OptimizeNone
)

func (l Level) String() string {
	switch l {
	case OptimizeAll:
		return "all"
	case OptimizeExtended:
		return "extended"
	case OptimizeBasic:
		return "basic"
	case OptimizeNone:
		return "none"
	}
	return fmt.Sprintf("level(%d)", int(l))
}

// Options say how to compile. The zero value is the CPU provider with the
// library's own defaults.
type Options struct {
	// Provider is "", "cpu", "auto" or the name of another execution provider;
	// "" is the CPU provider. A provider that is asked for by name and is missing,
	// fails, or disagrees with the CPU provider is an error; "auto" falls back to
	// the CPU provider and gives the reason in its [Report].
	Provider string

	// ProviderOptions are handed to a provider other than the CPU's as they are.
	ProviderOptions map[string]string

	// Precision, if not Undefined or Float32, is BFloat16 or Float16: a provider may
	// compute float32 nodes in it, and is compared with the CPU provider at that
	// type's tolerance. The CPU provider computes in the graph's own types.
	Precision graphs.DType

	// Threads is the number of threads within one call, 0 for one a core.
	Threads int

	// Optimize is the graph optimization level.
	Optimize Level

	// NoSpin lets idle threads sleep instead of spinning: slower calls, and a
	// machine that others can use meanwhile.
	NoSpin bool

	// NoArena turns the library's memory arena and memory pattern off: slower
	// calls, a smaller resident size.
	NoArena bool

	// Deterministic keeps "auto" on the CPU provider, whose results are the same
	// bits for the same library version, threads and inputs.
	Deterministic bool

	// Probe, if not nil, is run in the program's place when a provider is
	// compared with the CPU provider.
	Probe *Probe

	// Split, if not nil, lets the CPU provider compute parts of the batch side by
	// side, one thread each.
	Split *Split

	// Repeats says that calls will be repeated, see [Repeat], or inputs kept, see [Keep]: a provider
	// that can captures such a call, on the first of them, and starts it as one from then on.
	Repeats bool

	// Most, if not 0, is how many examples of a batch with a Split are computed at once
	// at most: more parts, one after another, and the memory of one of them.
	Most int

	// Recheck ignores remembered verdicts on providers.
	Recheck bool

	// OnReport, if not nil, is told what was chosen, once a program has settled on
	// a provider and again whenever that changes.
	OnReport func(Report)

	// DumpDir, if not empty, is a folder that the model's bytes are written to
	// before they are handed to the library. The environment variable EBMRUN_DUMP
	// sets it for every program that leaves it empty.
	DumpDir string
}

// A Probe is a short stand-in for a long program: two steps of a chain in place
// of fifty, say, because fifty amplify rounding.
type Probe struct {
	Model  *graphs.Model
	Inputs func(in []*graphs.Tensor) []*graphs.Tensor // from the program's inputs
	Split  *Split                                     // of Model, see [Options]
}

// A Report says what a program runs on and why.
type Report struct {
	Requested string `json:"requested"`
	Provider  string `json:"provider"` // "" until the first call has settled it
	Library   string `json:"library"`
	Threads   int    `json:"threads"`

	// Reason says why "auto" did not take another provider; empty if it did.
	Reason string `json:"reason,omitempty"`

	// Candidates are the providers that were compared, also those remembered from
	// an earlier run.
	Candidates []Verdict `json:"candidates,omitempty"`

	// Capture is "captured" if repeated calls are started as one, else why not; empty
	// where none have been made or the provider has no such thing.
	Capture string `json:"capture,omitempty"`

	// Calls and Busy count the finished calls and the time spent in them.
	Calls int64         `json:"calls,omitempty"`
	Busy  time.Duration `json:"busy,omitempty"`
}

// A Describer is a Program that can tell what it runs on.
type Describer interface{ Describe() Report }

// Describe returns p's report; the zero Report if it has none.
func Describe(p Program) Report {
	if d, ok := p.(Describer); ok {
		return d.Describe()
	}
	return Report{}
}

// A Placed counts the nodes of one op that ran on one provider.
type Placed struct {
	Provider string `json:"provider"`
	Op       string `json:"op"`
	Count    int    `json:"count"`
}

func (p Placed) String() string { return fmt.Sprintf("%d×%s on %s", p.Count, p.Op, p.Provider) }

// heavy are the ops that decide how long a network takes, also under the names
// that the library's own rewriting gives them.
var heavy = map[string]bool{
	"Conv": true, "ConvTranspose": true, "MatMul": true, "Gemm": true,
	"FusedConv": true, "FusedMatMul": true, "FusedGemm": true, "Einsum": true,
}

// normal is the provider's name in lower case, the CPU provider for "".
func normal(provider string) string {
	if provider == "" {
		return CPU
	}
	return strings.ToLower(provider)
}
