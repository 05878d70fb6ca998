package bind

import (
	"math"
	"slices"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/runtime"
)

// What a session with constants takes, in operations of a chain that it must save: the CPU
// provider packs constant filters ahead and lays pictures out for them, which makes a step
// an eighth to a third shorter and is done anew after every update of the weights.
const (
	operationsASession = 2.5e9
	operationsAWeight  = 10_000
)

// mostConstant is the number of weights above which memory for a second copy is not spent.
const mostConstant = 4 << 20

// constants are programs whose weights are constants, for long chains between two
// updates of the weights. Whether a chain has them depends on what it is and not on what
// was before, so that a run that is resumed takes the same.
type constants struct {
	models map[int]*graphs.Model // by number of examples, as are the next two
	least  map[int]int           // evaluations from which on constants pay
	calls  map[int]*call
	stale  bool   // the weights have changed since
	unsure bool   // they may have, and nobody says so: sum tells
	sum    uint64 // of the weights that calls have
}

// check notices that weights have changed without a word.
func (k *constants) check(b *network) {
	sum := uint64(14695981039346656037) // FNV-1a, word by word
	for _, w := range b.weights {
		for _, v := range w.F32() {
			sum = (sum ^ uint64(math.Float32bits(v))) * 1099511628211
		}
	}
	k.stale, k.sum = k.stale || sum != k.sum, sum
}

// pay reports whether it is better to do a number of evaluations of m for n examples with
// constants. c is the program that is fed the weights.
func (k *constants) pay(b *network, m *graphs.Model, n, evaluations int, c *call) (bool, error) {
	if evaluations == 0 || runtime.Describe(c.program).Provider != runtime.CPU {
		return false, nil
	}
	least, known := k.least[n]
	if !known {
		m, err := sized(m, n)
		if err != nil {
			return false, err
		}
		if k.least == nil {
			k.least = map[int]int{}
		}
		least = b.leastEvaluations(m.Graph)
		k.least[n] = least
	}
	return evaluations >= least, nil
}

// leastEvaluations is from how many evaluations of g on constants pay.
func (b *network) leastEvaluations(g *graphs.Graph) int {
	weights := 0
	for _, w := range b.weights {
		weights += w.Len()
	}
	work, counted := passes.Work(g)
	if weights > mostConstant || work == 0 || !counted || !slices.ContainsFunc(g.Nodes, windowed) {
		return math.MaxInt
	}
	return int(math.Ceil((operationsASession + operationsAWeight*float64(weights)) / float64(work)))
}

// windowed reports whether n is a convolution of more than single pixels.
func windowed(n *graphs.Node) bool {
	return n.Op == "Conv" && n.In(1).Shape.Known() && graphs.Size(n.In(1).Shape.Ints()[2:]) > 1
}

// of returns the program of m with the present weights of b for n examples.
func (k *constants) of(b *network, m *graphs.Model, n int) (*call, error) {
	if k.unsure {
		k.check(b)
		k.unsure = false
	}
	if k.stale {
		if err := k.close(); err != nil {
			return nil, err
		}
	}
	if c := k.calls[n]; c != nil {
		return c, nil
	}
	split := splitOf(m, n)
	split.In = split.In[:len(split.In)-len(b.fed(m))]
	split.Model = func(n int) (*graphs.Model, error) { return k.model(b, m, n) }
	opts := b.options
	opts.Split, opts.Provider, opts.ProviderOptions, opts.OnReport = split, runtime.CPU, nil, nil
	whole, err := k.model(b, m, n)
	if err != nil {
		return nil, err
	}
	p, err := b.engine.Compile(b.ctx, whole, opts)
	if err != nil {
		return nil, err
	}
	c := &call{program: p, in: make([]*graphs.Tensor, len(p.Inputs())), out: make([]*graphs.Tensor, len(p.Outputs()))}
	if k.calls == nil {
		k.calls = map[int]*call{}
	}
	k.calls[n] = c
	return c, nil
}

// model is m for n examples with b's weights as constants. It is made once: sessions
// copy the weights as they are when they are made.
func (k *constants) model(b *network, m *graphs.Model, n int) (*graphs.Model, error) {
	if m := k.models[n]; m != nil {
		return m, nil
	}
	m, err := sized(m, n)
	if err != nil {
		return nil, err
	}
	if err := passes.InputsToWeights(m.Graph, b.fed(m)); err != nil {
		return nil, err
	}
	if k.models == nil {
		k.models = map[int]*graphs.Model{}
	}
	k.models[n] = m
	return m, nil
}

// fed are the weights that m takes as its last inputs.
func (b *network) fed(m *graphs.Model) map[string]*graphs.Tensor {
	weights := map[string]*graphs.Tensor{}
	for i, p := range b.params {
		if m.Graph.Input(p.Name) != nil {
			weights[p.Name] = b.weights[i]
		}
	}
	return weights
}

func (k *constants) close() error {
	err := closeAll(k.calls)
	k.calls, k.stale = nil, false
	return err
}
