// Package onnxfile writes a learned energy as .onnx files that any ONNX runtime
// can load: the energy, its gradient, and a sampler. The weights are inside.
//
//	energy.onnx        x [batch, …] → energy [batch], score [batch]
//	energy-grad.onnx   x → energy, score, grad/x [batch, …]
//	generator.onnx     z [batch, d] → x [batch, …], of systems that learn one
//	NAME.onnx          any other network: an encoder, a flow, a prior
//	sampler.onnx       x0 [batch, …], noise [k, batch, …] → x [batch, …], energy [batch];
//	                   given [batch, …] too, of an energy under conditions
//
// The reference density, the clip of the gradient and the clamp of the samples
// are part of the graphs. The sampler takes one Langevin step for each entry of
// the noise's first axis, whatever its length, and its energy is that of the
// samples it returns.
//
// A [Meta] goes into the metadata of each file under keys that begin with
// "ebmrun."; [ReadMeta] takes it back. Equal models give equal bytes, and no
// file is seen under its name until it is complete.
package onnxfile

import (
	"fmt"
	"path/filepath"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/chain"
	"ebmrun/onnxmodels/generator"
)

// Names of the files that [All] writes.
const (
	EnergyFile   = "energy.onnx"
	GradientFile = "energy-grad.onnx"
	SamplerFile  = "sampler.onnx"

	GeneratorFile = "generator.onnx"
)

// Energy writes m to the file dst.
func Energy(dst string, m *onnxmodels.Model, meta Meta) error {
	return write(dst, passes.Clone(m.Model), meta, "Energy U(x) of each example, low is likely: p(x) ∝ exp(−U). score is the network's part, without the reference density.")
}

// Gradient writes to dst the model that computes grad/x as well, the gradient of
// the energies' sum.
func Gradient(dst string, m *onnxmodels.Model, meta Meta) error {
	g, err := chain.Gradient(m)
	if err != nil {
		return fmt.Errorf("export: %s: %w", dst, err)
	}
	return write(dst, g, meta, "Energy U(x) of each example, and grad/x, the slope of the energies' sum at x.")
}

// Sampler writes to dst the Langevin sampler with the settings of meta.Step. The
// steps are a Loop that runs once for each entry of the noise's first axis; with
// unroll > 0 they are so many copies of the step, for runtimes without Loop,
// and the axis has that length.
func Sampler(dst string, m *onnxmodels.Model, meta Meta, unroll int) error {
	build := func() (*graphs.Model, error) { return chain.Sampler(m, meta.Step) }
	if unroll != 0 {
		build = func() (*graphs.Model, error) { return unrolled(m, meta.Step, unroll) }
	}
	g, err := build()
	if err != nil {
		return fmt.Errorf("export: %s: %w", dst, err)
	}
	return write(dst, g, meta, "Langevin sampler, one step for each entry of the first axis of noise, which holds standard normal numbers: "+
		"x ← clamp(x − step²/2·clip(∂U/∂x) + noise·step·ε). energy is that of the returned x.")
}

// Generator writes a generator z [batch, d] → x [batch, …] to the file dst. Codes
// are standard normal numbers.
func Generator(dst string, m *generator.Model, meta Meta) error {
	return write(dst, passes.Clone(m.Model), meta, "Generator x = g(z) of examples from codes z, which are standard normal numbers.")
}

// Network writes any other network of a system to the file dst; doc says what it
// takes and gives.
func Network(dst string, m *graphs.Model, meta Meta, doc string) error {
	return write(dst, passes.Clone(m), meta, doc)
}

// All writes the three files into the folder dir, which must exist, and returns
// their paths.
func All(dir string, m *onnxmodels.Model, meta Meta, unroll int) ([]string, error) {
	paths := []string{filepath.Join(dir, EnergyFile), filepath.Join(dir, GradientFile), filepath.Join(dir, SamplerFile)}
	for i, err := range []error{Energy(paths[0], m, meta), Gradient(paths[1], m, meta), Sampler(paths[2], m, meta, unroll)} {
		if err != nil {
			return paths[:i], err
		}
	}
	return paths, nil
}

// unrolled is k steps in one graph that also ends with the energy of the moved x.
func unrolled(m *onnxmodels.Model, s chain.Step, k int) (*graphs.Model, error) {
	steps, err := chain.Unroll(m, s, k)
	if err != nil {
		return nil, err
	}
	u, err := chain.Gradient(m)
	if err != nil {
		return nil, err
	}
	g := steps.Graph
	if err := passes.CutAt(g, chain.X); err != nil {
		return nil, err
	}
	if err := passes.CutAt(u.Graph, onnxmodels.Energy); err != nil {
		return nil, err
	}
	if g.Find(onnxmodels.Energy) != nil { // a step still reads the shape of its energy
		if err := passes.Rename(g, map[string]string{onnxmodels.Energy: g.Fresh("steps/energy")}); err != nil {
			return nil, err
		}
	}
	b := graphs.NewBuilder(g)
	given := map[string]*graphs.Value{}
	for _, v := range u.Graph.Inputs {
		given[v.Name] = g.Input(v.Name)
	}
	last, err := passes.Inline(b, u.Graph, chain.At(given, g.Output(chain.X)), "last")
	if err != nil {
		return nil, err
	}
	b.Output(onnxmodels.Energy, last[onnxmodels.Energy])
	_, err = b.Graph()
	return steps, err
}

func write(dst string, m *graphs.Model, meta Meta, doc string) error {
	meta.put(m)
	m.Producer, m.Version, m.Doc = "ebmrun", meta.Version, doc
	if err := onnxio.Write(dst, m); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}
