// Package reproduction compares whole runs of learning with PyTorch's. reproduce.py
// has its own form of each learning rule, on PyTorch's gradients and optimizer, and
// starts at our weights with our batches and our noise. What it came to lies in
// testdata/reproduction, so that the comparison needs no PyTorch:
//
//	go test ./bench/reproduction -run TestWrite -write DIR
//	python bench/reproduction/reproduce.py DIR testdata/reproduction
//	go test ./bench/reproduction -v
package reproduction

import (
	"encoding/json"
	"flag"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ebmrun/export/weights"
	"ebmrun/graphs"
	"ebmrun/onnxmodels/conditional"
	"ebmrun/onnxmodels/encoder"
	"ebmrun/onnxmodels/energy"
	nets "ebmrun/onnxmodels/flow"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/abp"
	"ebmrun/training/bind"
	"ebmrun/training/checkpoint"
	"ebmrun/training/conditionalcoopnets"
	"ebmrun/training/coopflow"
	"ebmrun/training/coopnets"
	"ebmrun/training/coopvaebm"
	"ebmrun/training/data"
	"ebmrun/training/flow"
	"ebmrun/training/generativeconvnet"
	"ebmrun/training/latentebm"
	"ebmrun/training/multigrid"
	"ebmrun/training/vae"
)

var write = flag.String("write", "", "folder that the starting points are written to")

const (
	folder = "../../testdata/reproduction"
	steps  = 20 // learning iterations
	batch  = 8
	seed   = 5
	first  = 1e-4 // relative L2 error of a gradient in the first iteration
	last   = 1e-3 // and of a weight after the last
	decay  = 0.5  // of Adam's first moment
)

// The networks: 8×8 pictures, smooth activations.
var (
	dims      = []int{1, 8, 8}
	picture   = energy.Spec{Activation: "swish", Layers: []energy.Layer{{Filters: 4, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 4, Kernel: 3, Pad: 1}, {Filters: 1, Kernel: 4}}}
	drawing   = generator.Spec{Codes: 3, Start: 2, Filters: 4, Activation: "gelu", Tanh: true, Layers: []generator.Layer{{Filters: 4, Kernel: 4, Stride: 2, Pad: 1}, {Kernel: 4, Stride: 2, Pad: 1}}}
	reading   = encoder.Spec{Activation: "tanh", Layers: []encoder.Layer{{Filters: 4, Kernel: 4, Stride: 2, Pad: 1}}}
	half      = energy.Spec{Activation: "swish", Layers: []energy.Layer{{Filters: 4, Kernel: 3, Pad: 1}, {Filters: 1, Kernel: 4}}} // 4×4
	drafting  = conditional.Spec{Codes: 3, Filters: []int{3, 4}, Skip: true, Activation: "swish", Tanh: true}
	bijection = nets.Spec{Levels: 256, Dequantize: nets.Uniform, Bound: 0.9, Plain: true,
		Layers:   []nets.Layer{{Kind: nets.Steps, N: 1, By: nets.Checkerboard}, {Kind: nets.Squeeze}, {Kind: nets.Steps, N: 1}, {Kind: nets.Leave}, {Kind: nets.Steps, N: 1}},
		Coupling: nets.Coupling{Kind: nets.Tanh, Hidden: 3, Activation: "swish"}}

	revision  = training.Langevin{Steps: 5, Step: 0.1, Noise: 0.5}
	bounded   = training.Langevin{Steps: 5, Step: 0.1, Noise: 0.5, Clamp: [2]float64{-1, 1}} // a logit ends soon after
	inference = training.Langevin{Steps: 5, Step: 0.15, Noise: 1}
	adam      = training.Optim{LR: 2e-3, Betas: [2]float64{decay, 0.99}}
	slower    = training.Optim{LR: 1e-3, Betas: [2]float64{decay, 0.999}}
)

// A maker binds networks on an engine.
type maker struct {
	t      *testing.T
	engine runtime.Engine
}

func must[T any](t *testing.T, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (m maker) energy(s energy.Spec, dims []int, sigma float64) *bind.Energy {
	model, err := energy.Build(s, dims, sigma, seed)
	model = must(m.t, model, err)
	e, err := bind.New(m.t.Context(), model, m.engine, bind.Options{})
	return must(m.t, e, err)
}

func (m maker) generator(sigma float64) *bind.Generator {
	model, err := generator.Build(drawing, dims, seed)
	g, err := bind.NewGenerator(m.t.Context(), must(m.t, model, err), m.engine, runtime.Options{}, sigma)
	return must(m.t, g, err)
}

func (m maker) autoencoder(sigma float64) *bind.Autoencoder {
	g, err := generator.Build(drawing, dims, seed)
	must(m.t, g, err)
	e, err := encoder.Build(reading, dims, drawing.Codes, seed)
	a, err := bind.NewAutoencoder(m.t.Context(), must(m.t, e, err), g, m.engine, runtime.Options{}, sigma)
	return must(m.t, a, err)
}

func (m maker) flow() *bind.Flow {
	model, err := nets.Build(bijection, dims, seed)
	f, err := bind.NewFlow(m.t.Context(), must(m.t, model, err), m.engine, runtime.Options{})
	return must(m.t, f, err)
}

// systems is one network of each system: its settings, the system on a set, which
// optimizer moves the weights under a prefix of its checkpoint, and a way to spoil it.
var systems = map[string]struct {
	make     func(m maker, set *data.Set, sabotage string) (training.System, any, error)
	moved    map[string]string
	sabotage string
}{
	"generative-convnet": {func(m maker, set *data.Set, sabotage string) (training.System, any, error) {
		c := generativeconvnet.Config{Spec: &picture, Steps: steps, Batch: batch, Langevin: revision, Optim: adam, ScoreL2: 0.05, Sabotage: sabotage,
			Chains: generativeconvnet.Chains{Init: generativeconvnet.Persistent, Start: generativeconvnet.Gaussian, Buffer: 2 * batch}}
		c.Reference.Sigma, c.Data.Noise = 0.7, 0.05
		s, err := generativeconvnet.New(c, m.energy(picture, dims, c.Reference.Sigma), set, seed)
		return s, c, err
	}, map[string]string{"weights": "optim"}, generativeconvnet.Flip},
	"abp": {func(m maker, set *data.Set, sabotage string) (training.System, any, error) {
		c := abp.Config{Spec: &drawing, Steps: steps, Batch: batch, Sigma: 0.5, Langevin: inference, Optim: adam, Sabotage: sabotage}
		s, err := abp.New(c, m.generator(c.Sigma), set, seed)
		return s, c, err
	}, map[string]string{"generator": "optim"}, abp.Freeze},
	"coopnets":            {cooperative(inference), map[string]string{"weights": "optim", "generator": "teach"}, coopnets.Flip},
	"coopnets-jump-start": {cooperative(training.Langevin{}), map[string]string{"weights": "optim", "generator": "teach"}, coopnets.Flip},
	"latent-ebm": {func(m maker, set *data.Set, sabotage string) (training.System, any, error) {
		c := latentebm.Config{GenSpec: &drawing, Hidden: []int{8, 8}, Steps: steps, Batch: batch, Prior: revision, Posterior: inference, Infer: 1, Sigma: 0.5, Optim: adam, Teach: slower, Sabotage: sabotage}
		c.Reference.Sigma = 0.9
		p, g := m.energy(c.PriorNet(), []int{drawing.Codes}, c.Reference.Sigma), m.generator(c.Sigma)
		if err := g.Under(p); err != nil {
			return nil, c, err
		}
		s, err := latentebm.New(c, p, g, set, seed)
		return s, c, err
	}, map[string]string{"prior": "optim", "generator": "teach"}, latentebm.Flip},
	"vae": {func(m maker, set *data.Set, sabotage string) (training.System, any, error) {
		c := vae.Config{Nets: vae.Nets{EncSpec: &reading, GenSpec: &drawing}, Steps: steps, Batch: batch, Sigma: 0.5, KL: vae.KL{Weight: 1}, Draws: 1, Rounds: 1, Optim: adam, Sabotage: sabotage}
		s, err := vae.New(c, m.autoencoder(c.Sigma), set, seed)
		return s, c, err
	}, map[string]string{"vae": "optim"}, vae.Flip},
	"coopvaebm": {func(m maker, set *data.Set, sabotage string) (training.System, any, error) {
		c := coopvaebm.Config{Spec: &picture, Nets: vae.Nets{EncSpec: &reading, GenSpec: &drawing}, Steps: steps, Batch: batch, Drafts: batch, Langevin: revision,
			Sigma: 0.5, KL: vae.KL{Weight: 1}, Rounds: 1, Optim: adam, Teach: slower, Sabotage: sabotage}
		c.Reference.Sigma = 0.7
		s, err := coopvaebm.New(c, m.energy(picture, dims, c.Reference.Sigma), m.autoencoder(c.Sigma), set, seed)
		return s, c, err
	}, map[string]string{"weights": "optim", "vae": "teach"}, coopvaebm.FlipKL},
	"flow": {func(m maker, set *data.Set, sabotage string) (training.System, any, error) {
		c := flow.Config{Spec: &bijection, Steps: steps, Batch: batch, Begin: 16, Optim: adam, Sabotage: sabotage}
		s, err := flow.New(c, m.flow(), set, seed)
		return s, c, err
	}, map[string]string{"flow": "optim"}, flow.Flip},
	"coopflow": {func(m maker, set *data.Set, sabotage string) (training.System, any, error) {
		c := coopflow.Config{Spec: &picture, NetSpec: &bijection, Steps: steps, Every: 1, Batch: batch, Begin: 16, Langevin: bounded, Optim: adam, Teach: slower, Sabotage: sabotage,
			Search: coopflow.Search{Steps: 1, Rate: 0.1, Fall: 1, Starts: 1}}
		c.Reference.Sigma = 0.7
		s, err := coopflow.New(c, m.energy(picture, dims, c.Reference.Sigma), m.flow(), set, seed)
		return s, c, err
	}, map[string]string{"weights": "optim", "flow": "teach"}, coopflow.Flip},
	"multigrid": {func(m maker, set *data.Set, sabotage string) (training.System, any, error) {
		c := multigrid.Config{Grids: []int{1, 4, 8}, Specs: []energy.Spec{half, picture}, Bins: 8, Steps: steps, Batch: batch, Langevin: revision, Optim: adam, ScoreL2: 0.05, Sabotage: sabotage}
		c.Reference.Sigma, c.Data.Noise = 0.7, 0.05
		s, err := multigrid.New(c, []training.Energy{m.energy(half, []int{1, 4, 4}, c.Reference.Sigma), m.energy(picture, dims, c.Reference.Sigma)}, set, seed)
		return s, c, err
	}, map[string]string{"weights1": "optim1", "weights2": "optim2"}, multigrid.Flip},
	"conditional-coopnets": {func(m maker, set *data.Set, sabotage string) (training.System, any, error) {
		c := conditionalcoopnets.Config{Spec: &picture, InitSpec: &drafting, Steps: steps, Batch: batch, Langevin: revision, Inference: inference, Sigma: 0.5, Truth: 0.5, TruthEnd: 0.1,
			Optim: adam, Teach: slower, Sabotage: sabotage}
		c.Reference.Sigma = 0.7
		e, err := conditional.BuildEnergy(picture, dims, dims, c.Reference.Sigma, seed)
		must(m.t, e, err)
		g, err := conditional.Build(drafting, dims, dims, seed)
		must(m.t, g, err)
		solver, err := bind.NewConditional(m.t.Context(), e, m.engine, bind.Options{})
		must(m.t, solver, err)
		initialiser, err := bind.NewConditionalGenerator(m.t.Context(), g, m.engine, runtime.Options{}, c.Sigma)
		must(m.t, initialiser, err)
		s, err := conditionalcoopnets.New(c, solver, initialiser, mirrored(set), seed)
		return s, c, err
	}, map[string]string{"weights": "optim", "generator": "teach"}, conditionalcoopnets.Flip},
}

// cooperative learns both networks of coopnets; without inference it is the jump-start variant.
func cooperative(inference training.Langevin) func(m maker, set *data.Set, sabotage string) (training.System, any, error) {
	return func(m maker, set *data.Set, sabotage string) (training.System, any, error) {
		c := coopnets.Config{Spec: &picture, GenSpec: &drawing, Steps: steps, Batch: batch, Langevin: revision, Inference: inference, Sigma: 0.5, Optim: adam, Teach: slower, Sabotage: sabotage}
		c.Reference.Sigma = 0.7
		s, err := coopnets.New(c, m.energy(picture, dims, c.Reference.Sigma), m.generator(c.Sigma), set, seed)
		return s, c, err
	}
}

// mirrored gives each picture its mirror image as a condition.
func mirrored(set *data.Set) *data.Set {
	pairs, given := *set, *set
	given.Floats = slices.Clone(set.X())
	for i := 0; i < len(given.X()); i += set.W {
		slices.Reverse(given.X()[i : i+set.W])
	}
	pairs.Given = &given
	return &pairs
}

// floats are the float32 tensors of a state, by name. They share its memory.
func floats(st *checkpoint.State) map[string][]float32 {
	all := map[string][]float32{}
	for name, x := range st.Tensors {
		if v, ok := x.Data.([]float32); ok {
			all[name] = v
		}
	}
	return all
}

func save(t *testing.T, s training.System) *checkpoint.State {
	t.Helper()
	st, err := s.Save()
	return must(t, st, err)
}

// TestWrite writes where each system starts: weights, codes and chains, the batches
// in order, and the settings.
func TestWrite(t *testing.T) {
	if *write == "" {
		t.Skip("no -write DIR")
	}
	set, err := data.Load(t.Context(), "synthetic/glyph16", data.Options{Size: 8, Limit: 32, Seed: seed})
	must(t, set, err)
	put(t, "data", weights.Tensors{"x": graphs.Of(set.X(), set.N, set.C, set.H, set.W)})
	for name, row := range systems {
		s, c, err := row.make(maker{t, ref.New()}, set, "")
		must(t, s, err)
		all := weights.Tensors{"batches": graphs.Of(order(t, set, batch, steps), steps, batch), "begin": graphs.Of(order(t, set, 16, 1), 16), "slots": graphs.Of(slots(), steps, batch)}
		r := rand.New(rand.NewPCG(seed, 1))
		start := floats(save(t, s))
		for _, k := range slices.Sorted(maps.Keys(start)) {
			v := slices.Clone(start[k])
			if strings.HasPrefix(k, "flow/") { // new couplings change nothing
				for i := range v {
					v[i] += float32(0.2 * r.NormFloat64())
				}
			}
			all["start/"+k] = graphs.Of(v, len(v))
		}
		put(t, name, all)
		b, err := json.MarshalIndent(map[string]any{"seed": seed, "moved": row.moved, "config": c}, "", " ")
		if err = os.WriteFile(filepath.Join(*write, name+".json"), must(t, b, err), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func put(t *testing.T, name string, w weights.Tensors) {
	t.Helper()
	f, err := os.Create(filepath.Join(*write, name+".npz"))
	must(t, f, err)
	if err := weights.NPZ(f, w); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// order is which examples the batches hold.
func order(t *testing.T, set *data.Set, n, count int) (index []int64) {
	l, err := data.NewLoader(set, n, seed)
	must(t, l, err)
	for range count {
		for _, i := range l.Next().Index {
			index = append(index, int64(i))
		}
	}
	return index
}

// slots are the persistent chains that each iteration takes.
func slots() (all []int64) {
	for i := range steps {
		for _, k := range rand.New(rand.NewPCG(seed, uint64(i))).Perm(2 * batch)[:batch] {
			all = append(all, int64(k))
		}
	}
	return all
}

func read(t *testing.T, name string) weights.Tensors {
	t.Helper()
	w, _, err := weights.Read(filepath.Join(folder, name+".npz"))
	return must(t, w, err)
}

// drawn is the set of pictures in the file.
func drawn(t *testing.T) *data.Set {
	x := read(t, "data")["x"]
	set := &data.Set{Name: "drawn", N: x.Dims[0], C: x.Dims[1], H: x.Dims[2], W: x.Dims[3], Floats: x.F32(), Lo: -1, Hi: 1, Gain: 1}
	if err := set.Check(); err != nil {
		t.Fatal(err)
	}
	return set
}

// learn runs a system from the start in the file and returns the largest relative
// errors of a gradient in the first iteration and of a weight after the last.
func learn(t *testing.T, e runtime.Engine, name, sabotage string) (gradient, weight float64) {
	t.Helper()
	row, want := systems[name], read(t, name)
	s, _, err := row.make(maker{t, e}, drawn(t), sabotage)
	must(t, s, err)
	start := save(t, s)
	for k, v := range floats(start) {
		from := want["start/"+k]
		if from == nil || copy(v, from.F32()) != len(v) || from.Len() != len(v) {
			t.Fatalf("%s: wanted a start of %d numbers", k, len(v))
		}
	}
	if err := s.Restore(start); err != nil {
		t.Fatal(err)
	}
	compared := 0
	for i := range steps {
		if _, err := s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i > 0 && i < steps-1 {
			continue
		}
		now := floats(save(t, s))
		for prefix, opt := range row.moved {
			for k, w := range now {
				of, ok := strings.CutPrefix(k, prefix+"/")
				switch {
				case !ok:
				case i == 0: // Adam's first moment is then a share of the gradient
					g := slices.Clone(now[opt+"/1/m/"+of])
					for j := range g {
						g[j] /= 1 - decay
					}
					gradient = max(gradient, apart(t, g, want["gradient/"+k]))
				default:
					weight = max(weight, apart(t, w, want["end/"+k]))
					compared++
				}
			}
		}
	}
	ends := 0
	for k := range want {
		if strings.HasPrefix(k, "end/") {
			ends++
		}
	}
	if compared == 0 || compared != ends {
		t.Errorf("compared %d weights of %d", compared, ends)
	}
	return gradient, weight
}

// apart is ‖got − want‖/‖want‖.
func apart(t *testing.T, got []float32, want *graphs.Tensor) float64 {
	t.Helper()
	if want == nil || want.Len() != len(got) {
		t.Fatalf("%d numbers without as many to compare them with", len(got))
	}
	d, n := 0.0, 0.0
	for i, w := range want.F32() {
		d += math.Pow(float64(got[i]-w), 2)
		n += math.Pow(float64(w), 2)
	}
	if d == 0 {
		return 0
	}
	return math.Sqrt(d / n)
}

// TestReproduction: gradients of the first iteration and weights after twenty are
// those that PyTorch came to, and no longer are once the learning rule is spoiled.
func TestReproduction(t *testing.T) {
	for engine, open := range map[string]func() (runtime.Engine, error){
		"ref": func() (runtime.Engine, error) { return ref.New(), nil },
		"ort": func() (runtime.Engine, error) { return ort.Open("") },
	} {
		t.Run(engine, func(t *testing.T) {
			e, err := open()
			enginetest.Unavailable(t, err)
			for _, name := range slices.Sorted(maps.Keys(systems)) {
				t.Run(name, func(t *testing.T) { reproduce(t, e, name) })
			}
		})
	}
}

func reproduce(t *testing.T, e runtime.Engine, name string) {
	g, w := learn(t, e, name, "")
	t.Logf("| %s | %.1e | %.1e |", name, g, w)
	if !(g <= first) {
		t.Errorf("gradients of the first iteration: wanted within %g, got %.3g", first, g)
	}
	if !(w <= last) {
		t.Errorf("weights after %d iterations: wanted within %g, got %.3g", steps, last, w)
	}
	sabotage := systems[name].sabotage
	g, w = learn(t, e, name, sabotage)
	t.Logf("%s: %.2g and %.2g", sabotage, g, w)
	if g < 100*first || w < 10*last {
		t.Errorf("with %q: wanted gradients at least %g and weights %g apart, got %.3g and %.3g", sabotage, 100*first, 10*last, g, w)
	}
}
