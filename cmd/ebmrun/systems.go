package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"

	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/training"
	"ebmrun/training/abp"
	"ebmrun/training/bind"
	"ebmrun/training/check"
	"ebmrun/training/coarsetofine"
	"ebmrun/training/conditionalcoopnets"
	"ebmrun/training/coopflow"
	"ebmrun/training/coopnets"
	"ebmrun/training/coopvaebm"
	"ebmrun/training/cyclecoopnets"
	"ebmrun/training/data"
	"ebmrun/training/deepframe"
	"ebmrun/training/exam"
	"ebmrun/training/flow"
	"ebmrun/training/frame"
	"ebmrun/training/generativeconvnet"
	"ebmrun/training/generativeswin"
	"ebmrun/training/hierarchicalsparseframe"
	"ebmrun/training/inhomogeneousframe"
	"ebmrun/training/inverseoptimalcontrol"
	"ebmrun/training/judge"
	"ebmrun/training/latentebm"
	"ebmrun/training/mrf"
	"ebmrun/training/multigrid"
	"ebmrun/training/onesidedtranslation"
	"ebmrun/training/optim"
	"ebmrun/training/patchwise"
	"ebmrun/training/pointnet"
	"ebmrun/training/salcoopnets"
	"ebmrun/training/sequencecyclecoopnets"
	"ebmrun/training/sparseframe"
	"ebmrun/training/vae"
	"ebmrun/training/video"
	"ebmrun/training/voxelnet"
)

// A system is a learning system that can be trained.
type system struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Paper string `json:"paper"`

	presets
	// start assembles the system with such settings.
	start func(ctx context.Context, e environment, settings any) (*job, error)
	// open restores what a run has learned, without its data.
	open func(ctx context.Context, e environment, settings any, r *openedRun) error
}

// written are the settings that a run folder's own file holds: every one, whatever
// preset they came from, so that what it leaves out is zero.
func (s system) written(file map[string]any, set *data.Set) (any, error) {
	settings, _ := s.preset("", presetDims(set), set.N) // of the right type, also where no preset fits
	reflect.ValueOf(settings).Elem().SetZero()
	return settings, merge(settings, file)
}

// An environment is what a system is assembled from.
type environment struct {
	engine runtime.Engine
	say    func(line string) // remarks, such as on what is downloaded
	bind   bind.Options
	seed   uint64
	set    *data.Set
	held   *data.Set // examples that are not learned from
	dims   []int
	judge  *judge.Judge

	given []int // dims of what examples are drawn from; nil without
	// The second domain: its examples, those that are not learned from, and its dims; nil without.
	b, heldB *data.Set
	dimsB    []int
}

// energy builds and binds the energy of a description, on the examples.
func (e environment) energy(ctx context.Context, describe func() (energy.Spec, error), sigma float64) (*bind.Energy, error) {
	spec, err := describe()
	if err != nil {
		return nil, err
	}
	m, err := energy.Build(spec, e.dims, sigma, e.seed)
	if err != nil {
		return nil, err
	}
	return bind.New(ctx, m, e.engine, e.bind)
}

// generator builds and binds the generator of a description, whose residual has the deviation sigma.
func (e environment) generator(ctx context.Context, describe func() (generator.Spec, error), sigma float64) (*bind.Generator, error) {
	spec, err := describe()
	if err != nil {
		return nil, err
	}
	m, err := generator.Build(spec, e.dims, e.seed)
	if err != nil {
		return nil, err
	}
	return bind.NewGenerator(ctx, m, e.engine, e.bind.Runtime, sigma)
}

// A job is a system ready to learn.
type job struct {
	training.System
	steps   int
	guard   training.Guard
	remarks []string // what a newcomer should read in the manifest
	reports func() map[string]runtime.Report
	close   func() error
}

// examine has a system measured with what there is.
func (e environment) examine(x *exam.Exam) {
	x.Held = e.held
	if e.judge != nil {
		x.Judge, x.JudgeN = e.judge.Measure, e.judge.N
	}
}

// A bound network tells what it runs on, and holds programs until it is closed.
type bound interface {
	Reports() map[string]runtime.Report
	Close() error
}

// networks are those of one system.
type networks []bound

// Reports are those of all networks.
func (n networks) Reports() map[string]runtime.Report {
	all := map[string]runtime.Report{}
	for _, b := range n {
		maps.Copy(all, b.Reports())
	}
	return all
}

// Close closes all networks.
func (n networks) Close() error {
	var errs []error
	for _, b := range n {
		errs = append(errs, b.Close())
	}
	return errors.Join(errs...)
}

// titled puts a name before what a network's programs are for.
type titled struct {
	bound
	name string
}

func (l titled) Reports() map[string]runtime.Report {
	all := map[string]runtime.Report{}
	for what, r := range l.bound.Reports() {
		all[l.name+what] = r
	}
	return all
}

// systems is every learning system, in the order of the tutorial's chapters.
var systems = []system{
	{"mrf", "Markov random fields over small cliques: Ising, Potts, auto-binomial, auto-normal", "Besag, 1974; Cross, Jain, PAMI 1983",
		presetsOf(mrf.For, mrf.Presets), startMRF, openMRF},
	{"frame", "FRAME: filters, random fields and maximum entropy, for textures", "Zhu, Wu, Mumford, IJCV 1998",
		presetsOf(frame.For, frame.Presets), startFrame, openFrame},
	{"inhomogeneous-frame", "FRAME with a weight for every filter and place, for aligned objects", "Xie, Hu, Zhu, Wu, CVPR 2014",
		presetsOf(inhomogeneousframe.For, inhomogeneousframe.Presets), startInhomogeneousFrame, openInhomogeneousFrame},
	{"sparse-frame", "FRAME of a few selected wavelets: shared matching pursuit, or generative boosting", "Xie, Hu, Zhu, Wu, IJCV 2015; Xie, Lu, Zhu, Wu, ACHA 2016",
		presetsOf(sparseframe.For, sparseframe.Presets), startSparseFrame, openSparseFrame},
	{"hierarchical-sparse-frame", "Sparse FRAME templates of objects anywhere in pictures, with parts that move", "Xie, Xu, Nijkamp, Wu, Zhu, CVPR 2017",
		presetsOf(hierarchicalsparseframe.For, hierarchicalsparseframe.Presets), startHierarchicalSparseFrame, openHierarchicalSparseFrame},
	{"deep-frame", "FRAME on the units of a pre-learned network, with a linear top layer", "Lu, Zhu, Wu, AAAI 2016",
		presetsOf(deepframe.For, deepframe.Presets), startDeepFRAME, openDeepFRAME},
	{"generative-convnet", "Generative ConvNet: maximum-likelihood learning with Langevin sampling", "Xie, Lu, Zhu, Wu, ICML 2016",
		presetsOf(generativeconvnet.For, generativeconvnet.Presets), startGenerativeConvNet, openGenerativeConvNet},
	{"multigrid", "Energies at several resolutions, each chain starting at the coarser one", "Gao, Lu, Zhou, Zhu, Wu, CVPR 2018",
		presetsOf(multigrid.For, multigrid.Presets), startMultigrid, openMultigrid},
	{"coarse-to-fine", "One energy grown from coarse to fine pictures, and a cascade of chains", "Zhao, Xie, Li, ICLR 2021",
		presetsOf(coarsetofine.For, coarsetofine.Presets), startCoarseToFine, openCoarseToFine},
	{"one-sided-translation", "Pictures of one domain moved to another by the energy of the other alone", "Zhao, Xie, Li, ICLR 2021",
		presetsOf(onesidedtranslation.For, onesidedtranslation.Presets), startOneSided, openOneSided},
	{"patchwise", "Energies of the patches of one picture at several scales", "Zheng, Xie, Li, CVPR 2021",
		presetsOf(patchwise.For, patchwise.Presets), startPatchwise, openPatchwise},
	{"video", "Spatial-temporal generative ConvNet for clips, whole or with holes", "Xie, Zhu, Wu, CVPR 2017",
		presetsOf(video.For, video.Presets), startVideo, openVideo},
	{"voxelnet", "Generative VoxelNet: shapes on a grid, completed and refined", "Xie, Zheng, Gao, Wang, Zhu, Wu, CVPR 2018",
		presetsOf(voxelnet.For, voxelnet.Presets), startVoxelnet, openVoxelnet},
	{"pointnet", "Generative PointNet: sets of points, drawn, reconstructed, interpolated", "Xie, Xu, Zheng, Zhu, Wu, CVPR 2021",
		presetsOf(pointnet.For, pointnet.Presets), startPointnet, openPointnet},
	{"inverse-optimal-control", "The cost of controls behind experts' paths, of one agent or several", "Xu, Xie, Zhao, Baker, Zhao, Wu, TNNLS 2022",
		presetsOf(inverseoptimalcontrol.For, inverseoptimalcontrol.Presets), startControl, openControl},
	{"abp", "Generator learned by alternating back-propagation", "Han, Lu, Zhu, Wu, AAAI 2017",
		presetsOf(abp.For, abp.Presets), startABP, openABP},
	{"coopnets", "Cooperative learning of energy and generator by MCMC teaching", "Xie, Lu, Gao, Zhu, Wu, TPAMI 2020",
		presetsOf(coopnets.For, coopnets.Presets), startCoopNets, openCoopNets},
	{"conditional-coopnets", "Fast initialiser and slow solver of examples given conditions, learned from pairs", "Xie, Zheng, Fang, Zhu, Wu, TPAMI 2021",
		presetsOf(conditionalcoopnets.For, conditionalcoopnets.Presets), startConditional, openConditional},
	{"cycle-coopnets", "Translation between two domains without pairs, by alternating MCMC teaching", "Xie, Zheng, Fang, Zhu, Wu, AAAI 2021",
		presetsOf(cyclecoopnets.For, cyclecoopnets.Presets), startCycle, openCycle},
	{"sequence-cycle-coopnets", "Translation of clips between two domains, with predictors of the next frame", "Xie, Zheng, Fang, Zhu, Wu, AAAI 2021",
		presetsOf(sequencecyclecoopnets.For, sequencecyclecoopnets.Presets), startSequence, openSequence},
	{"salcoopnets", "Saliency maps of pictures, from whole maps or from scribbles", "Zhang, Xie, Zheng, Barnes, AAAI 2022",
		presetsOf(salcoopnets.For, salcoopnets.Presets), startSaliency, openSaliency},
	{"latent-ebm", "Generator with an energy-based prior of its codes", "Pang, Han, Nijkamp, Zhu, Wu, NeurIPS 2020",
		presetsOf(latentebm.For, latentebm.Presets), startLatentEBM, openLatentEBM},
	{"generative-swin", "Saliency maps by a vision transformer with an energy-based prior of its codes", "Zhang, Xie, Barnes, Li, NeurIPS 2021",
		presetsOf(generativeswin.For, generativeswin.Presets), startSwin, openSwin},
	{"flow", "Normalizing flow by maximum likelihood: Glow, RealNVP, Flow++ couplings", "Kingma, Dhariwal, NeurIPS 2018; Dinh, Sohl-Dickstein, Bengio, ICLR 2017",
		presetsOf(flow.For, flow.Presets), startFlow, openFlow},
	{"coopflow", "Cooperative learning of a Langevin flow and a normalizing flow", "Xie, Zhu, Li, Li, ICLR 2022",
		presetsOf(coopflow.For, coopflow.Presets), startCoopFlow, openCoopFlow},
	{"vae", "Variational auto-encoder, the baseline without chains", "Kingma, Welling, ICLR 2014",
		presetsOf(vae.For, vae.Presets), startVAE, openVAE},
	{"coopvaebm", "Energy and variational auto-encoder by variational MCMC teaching", "Xie, Zheng, Li, AAAI 2021",
		presetsOf(coopvaebm.For, coopvaebm.Presets), startCoopVAEBM, openCoopVAEBM},
}

// presets are the settings of a system that have names.
type presets struct {
	// preset returns a pointer to the settings that suit the data.
	preset func(name string, dims []int, examples int) (any, error)
	named  map[string]namedPreset
}

type namedPreset struct {
	title    string
	settings any
}

// presetsOf are a package's presets, as the table has them.
func presetsOf[C any, P ~struct {
	Title  string
	Config C
}](choose func(name string, dims []int, examples int) (C, error), table map[string]P) presets {
	p := presets{named: map[string]namedPreset{}, preset: func(name string, dims []int, examples int) (any, error) {
		c, err := choose(name, dims, examples)
		return &c, err
	}}
	for name, row := range table {
		r := struct {
			Title  string
			Config C
		}(row)
		p.named[name] = namedPreset{r.Title, &r.Config}
	}
	return p
}

// findSystem returns the row of a name.
func findSystem(name string) (system, error) {
	var known []string
	for _, s := range systems {
		if s.Name == name {
			return s, nil
		}
		known = append(known, s.Name)
	}
	return system{}, badInput(fmt.Errorf("no system %q; %s", name, check.Instead(name, known)))
}

func countParams(p []optim.Param) int {
	n := 0
	for _, q := range p {
		n += len(q.W)
	}
	return n
}
