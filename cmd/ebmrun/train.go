package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"slices"
	"sort"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"ebmrun/runtime"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/judge"
	"ebmrun/training/record"
)

// trainFlags are what a training run is asked for.
type trainFlags struct {
	system    string
	source    source
	out       string
	preset    string
	config    string
	set       []string
	steps     int
	timeLimit time.Duration
	resume    bool
	changed   func(flag string) bool // whether a flag was given
}

func trainCommand(c *common) *cobra.Command {
	var f trainFlags
	cmd := &cobra.Command{
		Use:   "train SYSTEM",
		Short: "Learn a model from data",
		Long: `Learn a model from data and leave a run folder: settings, metrics, sample
pictures, checkpoints and report.html.

Settings come from the preset, then --config, then --set. Keys are paths in
config.yaml, such as langevin.steps, chains.init or optim.lr; "ebmrun systems
SYSTEM PRESET" shows those of a preset.

Ctrl-C lets the iteration under way finish and saves a checkpoint; --resume
goes on from the last one.`,
		Example: example(
			"ebmrun train generative-convnet --data mnist --out runs/mnist",
			"ebmrun train generative-convnet --data orl --size 32 --out runs/faces --set langevin.steps=30",
			"ebmrun train generative-convnet --data synthetic/rings --out runs/rings",
			"ebmrun train generative-convnet --out runs/mnist --resume --steps 2000"),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.system, f.changed = args[0], cmd.Flags().Changed
			return c.train(cmd.Context(), f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.source.Data, "data", "", "a name that \"ebmrun data --list\" shows, or a folder, picture, .npy or .csv")
	fl.IntVar(&f.source.Size, "size", 0, "resize pictures to this many pixels")
	fl.IntVar(&f.source.Width, "width", 0, "width, where it is not --size")
	fl.BoolVar(&f.source.Grey, "grey", false, "one channel")
	fl.IntVar(&f.source.Limit, "limit", 0, "use at most so many examples")
	fl.IntVar(&f.source.Patches, "patches", 0, "cut so many windows of --size at random instead of resizing")
	fl.IntSliceVar(&f.source.Classes, "classes", nil, "only examples of these classes")
	fl.TextVar(&f.source.As, "as", data.Plain, "`kind` of things that a path holds: pictures, video, voxels, points or paths")
	fl.IntVar(&f.source.Frames, "frames", 0, "cut clips and trajectories into pieces of so many moments")
	fl.IntVar(&f.source.Points, "points", 0, "so many points of each point set")
	fl.StringVar(&f.source.Given, "given", "", "what examples are drawn from: grey, edges, hole, or data aligned with them")
	fl.StringVar(&f.source.Depth, "depth", "", "folder of how near is what the pictures of the folder --given show, brighter where it is nearer")
	fl.BoolVar(&f.source.Far, "far", false, "--depth is brighter where it is farther")
	fl.StringVar(&f.source.B, "data-b", "", "data of a second domain")
	fl.BoolVar(&f.source.Disjoint, "disjoint", false, "learn from every other example, and from the rest in the second domain")
	fl.StringVarP(&f.out, "out", "o", "", "run folder to make")
	fl.StringVar(&f.preset, "preset", "small", "small, paper, or a name that \"ebmrun systems SYSTEM\" lists")
	fl.StringVar(&f.config, "config", "", "YAML file of settings")
	fl.StringArrayVar(&f.set, "set", nil, "one setting, key=value (repeatable)")
	fl.IntVar(&f.steps, "steps", 0, "iterations in all (default: the preset's)")
	fl.DurationVar(&f.timeLimit, "time-limit", 0, "stop after so long, with a checkpoint (exit status 4)")
	fl.BoolVar(&f.resume, "resume", false, "go on from the run folder's last checkpoint")
	cmd.MarkFlagRequired("out")
	return cmd
}

// settingsOf works out the settings in force: preset and file, then single ones. A
// run that goes on has no preset: its file holds them all.
func (c *common) settingsOf(row system, f trainFlags, file map[string]any, set *data.Set) (settings any, err error) {
	if f.resume {
		settings, err = row.written(file, set)
	} else if settings, err = row.preset(f.preset, presetDims(set), set.N); err == nil {
		err = merge(settings, file)
	} else if set.Kind == data.Plain && set.H > 1 {
		err = fmt.Errorf("%w; --size N brings pictures to another size", err)
	}
	if err != nil {
		if file != nil {
			err = fmt.Errorf("%s: %w", f.config, err)
		}
		return nil, badInput(err)
	}
	sets := f.set
	if f.steps > 0 {
		sets = append(sets, fmt.Sprintf("steps=%d", f.steps))
	}
	for _, assignment := range sets {
		tree, err := parseSetting(assignment)
		if err == nil {
			err = merge(settings, tree)
		}
		if err != nil {
			return nil, badInput(fmt.Errorf("--set %.80s: %w", assignment, err))
		}
	}
	return settings, nil
}

// rescale brings data to the scale that the settings ask for.
func rescale(settings any, set, held *data.Set) (*data.Set, *data.Set) {
	if s, ok := settings.(interface{ DataScale() string }); ok {
		return data.Rescale(s.DataScale(), set, held)
	}
	return set, held
}

// dimsOf are the dimensions of one example as networks see it; nil of no set.
func dimsOf(s *data.Set) []int {
	if s == nil {
		return nil
	}
	return s.Dims()
}

// presetDims are the dimensions that a preset is chosen by: three of vectors too.
func presetDims(s *data.Set) []int {
	if s.Kind == data.Plain {
		return []int{s.C, s.H, s.W}
	}
	return s.Dims()
}

// loadSource loads the training part of a source and a part held out from it.
func (c *common) loadSource(ctx context.Context, s source) (set, held *data.Set, err error) {
	if s.Data == "" {
		return nil, nil, badInput(errors.New("--data is missing: a name of `ebmrun data --list`, or a path"))
	}
	for _, path := range []string{s.Data, s.B, s.Given, s.Depth} {
		if !utf8.ValidString(path) {
			return nil, nil, badInput(fmt.Errorf("data: %q: wanted a path in UTF-8, which settings can hold", path))
		}
	}
	// Data are most of what a run holds, and it leaves little garbage beside them.
	debug.SetGCPercent(20)
	defer debug.FreeOSMemory()
	two := s.options("", c.say)
	if two.Limit == 0 || two.Limit > 2 {
		two.Limit = 2
	}
	if set, err = data.Load(ctx, s.Data, two); err != nil {
		return nil, nil, badInput(err)
	}
	if set.N == 1 {
		return set, set, nil // one texture: judged by its own patches
	}
	if set, err = data.Load(ctx, s.Data, s.options("train", c.say)); err != nil {
		return nil, nil, badInput(err)
	}
	if held, err = data.Load(ctx, s.Data, s.options("test", c.say)); err != nil {
		return nil, nil, badInput(err)
	}
	return set, held, nil
}

// loadSources loads both domains of a source, the second one nil where there is
// none, and refuses what the system does not take.
func (c *common) loadSources(ctx context.Context, row system, s source) (set, held, b, heldB *data.Set, err error) {
	if set, held, err = c.loadSource(ctx, s); err != nil {
		return
	}
	if s.B != "" {
		second := s
		second.Data, second.Given = s.B, ""
		if b, heldB, err = c.loadSource(ctx, second); err != nil {
			return
		}
	}
	if err = row.takes(s, set, b); err != nil || !s.Disjoint {
		return
	}
	if b == nil {
		err = badInput(errors.New("--disjoint wants two domains: --data-b is missing"))
		return
	}
	if set, err = everyOther(set, 0); err == nil {
		b, err = everyOther(b, 1)
	}
	return
}

// everyOther is half of the examples.
func everyOther(s *data.Set, first int) (*data.Set, error) {
	var index []int
	for i := first; i < s.N; i += 2 {
		index = append(index, i)
	}
	half, err := s.Subset(index)
	if err != nil {
		return nil, badInput(err)
	}
	return half, nil
}

func (c *common) train(ctx context.Context, f trainFlags) error {
	row, err := findSystem(f.system)
	if err != nil {
		return err
	}
	var file map[string]any
	if f.resume {
		m, err := record.ReadManifest(f.out)
		if err != nil {
			return badInput(fmt.Errorf("--resume: %w", err))
		}
		head, settings, err := readConfig(filepath.Join(f.out, "config.yaml"))
		if err != nil {
			return badInput(fmt.Errorf("--resume: %w", err))
		}
		if head.System != f.system {
			return badInput(fmt.Errorf("--resume: %s is a run of %s, not of %s", f.out, head.System, f.system))
		}
		// Numbers depend on the data and on what computes them: go on with the same.
		for _, k := range append(f.source.since(head.Source), option{"seed", c.seed, m.Seed}, option{"threads", c.threads, m.Threads}, option{"micro-batch", c.microBatch, m.MicroBatch}) {
			if f.changed(k.flag) && !reflect.DeepEqual(k.asked, k.was) {
				return badInput(fmt.Errorf("--%s %v: %s began with %v, and a run that is resumed keeps it", k.flag, k.asked, f.out, k.was))
			}
		}
		f.source, file, f.config = head.Source, settings, filepath.Join(f.out, "config.yaml")
		c.seed, c.threads, c.microBatch = m.Seed, m.Threads, m.MicroBatch
		if slices.Contains(providers, m.Provider) {
			c.provider = m.Provider
		}
	} else if err := record.Vacant(f.out); err != nil {
		return badInput(err)
	} else if f.config != "" {
		head, settings, err := readConfig(f.config)
		if err != nil {
			return badInput(err)
		}
		if file = settings; f.source.Data == "" {
			f.source = head.Source
		}
	}
	if !f.resume {
		f.source.Stretch = intakes[row.Name].maps
	}
	set, held, b, heldB, err := c.loadSources(ctx, row, f.source)
	if err != nil {
		return err
	}
	settings, err := c.settingsOf(row, f, file, set)
	if err != nil {
		return err
	}
	planned, err := c.planned(row, f, file, set)
	if err != nil {
		return err
	}
	set, held = rescale(settings, set, held)
	j := &judge.Judge{Name: "mae"}
	if !intakes[row.Name].maps {
		if j, err = judge.New(set, held); err != nil {
			return badInput(err)
		}
	}
	engine, err := c.engine(ctx)
	if err != nil {
		return err
	}
	jb, err := row.start(ctx, environment{
		engine: engine, say: c.say, bind: bind.Options{Runtime: c.options()}, seed: c.seed, judge: j,
		set: set, held: held, dims: dimsOf(set), given: dimsOf(set.Given), b: b, heldB: heldB, dimsB: dimsOf(b),
	}, settings)
	if err != nil {
		return err
	}
	err = c.learn(ctx, row, f, runConfig{runHead{f.system, f.source}, settings}, set, j, jb, planned)
	return errors.Join(err, jb.close())
}

// learn runs a job into its folder and writes the report at the end, also of a
// run that was cut short. planned are the iterations of the settings without --steps.
func (c *common) learn(ctx context.Context, row system, f trainFlags, config runConfig, set *data.Set, j *judge.Judge, jb *job, planned int) error {
	checkpoints := filepath.Join(f.out, "checkpoints")
	best := 0.0
	rec, release := &recorder{}, func() error { return nil }
	defer func() { release() }()
	lock := func() error {
		unlock, err := record.Lock(f.out)
		if err == nil {
			release = unlock
		}
		return badInput(err)
	}
	remark := func() {
		for _, r := range append(jb.remarks, dataNotes(set, j)...) {
			c.say(r)
		}
	}
	var begin func() error
	if f.resume {
		if err := lock(); err != nil {
			return err
		}
		b, fallback, err := training.Resume(jb.System, checkpoints)
		if errors.Is(err, checkpoint.ErrNone) && unbegun(f.out) {
			err = nil
		}
		if err != nil { // none, or of other networks, data or settings
			return badInput(fmt.Errorf("--resume: %s: %w", checkpoints, unfit(err)))
		}
		if fallback != nil {
			c.log.WithError(fallback.Reason).Warnf("the last checkpoint is damaged; going on from iteration %d", fallback.Step)
		}
		best = b
		if rec.Run, err = record.Open(f.out, jb.Iteration()); err != nil {
			return err
		}
		c.say(fmt.Sprintf("resumed at iteration %d", jb.Iteration()))
		remark()
	} else {
		begin = func() (err error) { // when the manifest can say which providers there are
			if err := lock(); err != nil {
				return err
			}
			remark()
			provider, library := providersOf(jb.reports())
			m := record.Manifest{
				Title: row.Name + " on " + config.Head.Source.Data, Version: version(), System: row.Name, Seed: c.seed,
				Data: record.Data{Name: set.Name, Hash: set.Hash()}, Provider: provider, Library: library, Threads: c.threads, MicroBatch: c.microBatch,
				Command: append([]string{"ebmrun"}, os.Args[1:]...), Notes: slices.Concat(jb.remarks, dataNotes(set, j), reportNotes(jb.reports())),
			}
			if rec.Run, err = record.Create(f.out, record.Options{Manifest: m, Config: config}); err != nil {
				return badInput(err)
			}
			return nil
		}
	}
	pace := &pace{planned: planned}
	defer func() {
		if rec.Run != nil {
			rec.Close()
		}
	}()
	if jb.Iteration() >= jb.steps {
		c.say(fmt.Sprintf("all %d iterations are done; --steps N goes further", jb.steps))
	}
	p := c.progress(row.Name, jb.Iteration(), jb.steps)
	err := training.Run(ctx, jb.System, training.Options{
		Steps: jb.steps, TimeLimit: f.timeLimit, Checkpoints: checkpoints, Guard: jb.guard, Best: best,
		Stop: c.stopping(), Begin: begin, Recorder: rec,
		Pictures: func(step int, pics []training.Picture) error { return paint(rec.Run, step, pics) },
		OnStep: func(step int, m training.Metrics) {
			p.step(step, headline(m, j.Name))
		},
		OnEvent: func(step int, what string, err error) {
			c.log.WithError(err).Warnf("iteration %d: %s", step, what)
		},
		OnPhase: p.phase, Took: pace.took,
	})
	p.finish()
	if rec.Run == nil {
		return err
	}
	if line := pace.estimate(jb.steps); line != "" {
		c.say(line)
	}
	if reportErr := record.Report(f.out); err == nil {
		err = reportErr
	}
	if errors.Is(err, training.ErrTimeLimit) || errors.Is(err, training.ErrStopped) {
		err = fmt.Errorf("%w; `ebmrun train %s --out %s --resume` goes on", err, row.Name, shellWord(f.out))
	}
	if err != nil {
		return err
	}
	c.say(fmt.Sprintf("done: %s", filepath.Join(f.out, "report.html")))
	return nil
}

// shellWord is a path as it can be pasted into a shell.
func shellWord(path string) string {
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// unbegun reports whether a run was broken off before its first checkpoint.
func unbegun(dir string) bool {
	lines, _, err := record.ReadMetrics(dir)
	return err == nil && len(lines) == 0
}

// planned is how many iterations the settings ask for where --steps does not.
func (c *common) planned(row system, f trainFlags, file map[string]any, set *data.Set) (int, error) {
	f.steps = 0
	settings, err := c.settingsOf(row, f, file, set)
	if err != nil {
		return 0, err
	}
	if steps := reflect.ValueOf(settings).Elem().FieldByName("Steps"); steps.IsValid() && steps.CanInt() {
		return int(steps.Int()), nil
	}
	return 0, nil
}

// A pace tells what a run would take that is tried for a few iterations.
type pace struct {
	planned int // iterations of the settings
	done    int
	spent   time.Duration
}

// took counts an iteration. The first, which compiles, counts only until there are others.
func (p *pace) took(d time.Duration) {
	if p.done++; p.done == 2 {
		p.spent = 0
	}
	p.spent += d
}

// estimate is a line about all planned iterations, "" where the run has them all.
func (p *pace) estimate(steps int) string {
	if p.done == 0 || steps >= p.planned {
		return ""
	}
	each := p.spent / time.Duration(max(1, p.done-1))
	whole := (time.Duration(p.planned) * each).Round(time.Second)
	days := ""
	if d := whole / (24 * time.Hour); d > 0 {
		days, whole = fmt.Sprintf("%d days ", d), (whole % (24 * time.Hour)).Round(time.Hour)
	}
	return fmt.Sprintf("an iteration takes %v: the %d of these settings would take %s%v", each.Round(time.Millisecond), p.planned, days, whole)
}

// providersOf names the providers in use, joined by + where there are several.
func providersOf(reports map[string]runtime.Report) (provider, library string) {
	set := map[string]bool{}
	for _, r := range reports {
		if r.Provider != "" {
			set[r.Provider] = true
		}
		library = r.Library
	}
	var names []string
	for n := range set {
		names = append(names, n)
	}
	sort.Strings(names)
	return strings.Join(names, "+"), library
}

// dataNotes are the lines about what is learned from, and the floor of its measure.
func dataNotes(set *data.Set, j *judge.Judge) []string {
	lines := []string{fmt.Sprintf("data: %d examples of %s, value = raw·%.6g %+.6g", set.N, sizeText(set), set.Gain, set.Offset)}
	for _, end := range slices.Sorted(maps.Keys(set.LeftOut)) {
		lines = append(lines, fmt.Sprintf("left out: %d of %s, which is not read here", set.LeftOut[end], end))
	}
	switch {
	case j.N == 0:
		return lines
	case j.Floor == 0:
		return append(lines, j.Name+": too few real examples for a floor")
	}
	return append(lines, fmt.Sprintf("%s between real examples (the floor): %.4g", j.Name, j.Floor))
}

// reportNotes are the lines about what computes each network.
func reportNotes(reports map[string]runtime.Report) (lines []string) {
	for _, n := range slices.Sorted(maps.Keys(reports)) {
		r := reports[n]
		line := fmt.Sprintf("%s: %s", n, r.Provider)
		if r.Reason != "" {
			line += " (" + r.Reason + ")"
		}
		if r.Capture != "" {
			line += ", " + r.Capture
		}
		lines = append(lines, line)
	}
	return lines
}

// sizeText writes the size of one example, such as 3×32×32.
func sizeText(s *data.Set) string {
	var text []string
	for _, d := range presetDims(s) {
		text = append(text, fmt.Sprint(d))
	}
	return strings.Join(text, "×")
}

// headline picks the numbers that belong on a progress line.
func headline(m training.Metrics, judged string) map[string]float64 {
	out := map[string]float64{}
	for _, name := range []string{training.Value, "r", "mse", judged} {
		if v, ok := m[name]; ok {
			out[name] = v
		}
	}
	return out
}

// A recorder is a run folder that can go back.
type recorder struct{ *record.Run }

// Rewind implements [training.Rewinder].
func (r *recorder) Rewind(step int) error {
	dir := r.Dir()
	if err := r.Close(); err != nil {
		return err
	}
	run, err := record.Open(dir, step)
	if err == nil {
		r.Run = run
	}
	return err
}

// paint records pictures.
func paint(run *record.Run, step int, pics []training.Picture) error {
	for _, p := range pics {
		if p.Heat != nil {
			img, err := p.Heat.Image()
			if err != nil {
				return err
			}
			if err := run.Picture(step, p.Tag, img); err != nil {
				return err
			}
			continue
		}
		if p.Rows != nil {
			img, err := record.Strip(1, 0, p.Rows...)
			if err != nil {
				return err
			}
			if err := run.Picture(step, p.Tag, img); err != nil {
				return err
			}
			continue
		}
		if err := run.Images(step, p.Tag, p.Images); err != nil {
			return err
		}
	}
	return nil
}
