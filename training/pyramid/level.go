package pyramid

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

// A Level is an energy of pictures of one size.
type Level struct {
	C, H, W  int
	Energy   training.Energy
	Langevin training.Langevin
	Frozen   bool // Learn updates nothing

	opt     *training.Optimizer
	ema     *optim.EMA // nil without an average
	settled bool       // the average has become the last weights
	fused   *sampler.Fused
	state   *sampler.State
	params  []optim.Param // those that are learned
}

// NewLevel is a level whose weights an optimizer of the given settings updates,
// except those named in fixed.
func NewLevel(e training.Energy, c, h, w int, l training.Langevin, o training.Optim, fixed ...string) (*Level, error) {
	opt, err := o.New()
	if err != nil {
		return nil, err
	}
	v := &Level{C: c, H: h, W: w, Energy: e, Langevin: l, opt: opt}
	for _, p := range e.Params() {
		if !slices.Contains(fixed, p.Name) {
			v.params = append(v.params, p)
		}
	}
	if f, ok := e.(training.Fuser); ok && l.Fused {
		v.fused = &sampler.Fused{Chain: f.Chain(l.Kernel()), K: l.Steps}
	}
	return v, nil
}

// Average begins an exponential moving average of the weights that are learned, which
// keeps the share decay of itself at every update.
func (v *Level) Average(decay float64) error {
	v.ema = optim.NewEMA(decay)
	return v.ema.Update(v.params)
}

// Averaged calls do with averaged weights, where they are kept, in place of the last. What
// normalisation remembers of those is put back after.
func Averaged(levels []*Level, do func() error) (err error) {
	for _, v := range levels {
		if v.ema == nil || v.settled {
			continue
		}
		last := remembered(v.Energy)
		v.swap()
		v.Energy.Refresh()
		defer func() {
			v.swap()
			err = errors.Join(err, last())
		}()
	}
	return do()
}

func (v *Level) swap() {
	for _, p := range v.params {
		mean := v.ema.Weights(p.Name)
		for j := range mean {
			p.W[j], mean[j] = mean[j], p.W[j]
		}
	}
}

// remembered returns what gives an energy back what it remembers beside its weights.
func remembered(e training.Energy) func() error {
	s, ok := e.(optim.Stateful)
	if !ok {
		return func() error { e.Refresh(); return nil }
	}
	st := optim.State{Tensors: map[string][]float32{}, Counts: s.State().Counts}
	for name, t := range s.State().Tensors {
		st.Tensors[name] = slices.Clone(t)
	}
	return func() error { return s.Restore(st) }
}

// Dim is the number of values of one picture.
func (v *Level) Dim() int { return v.C * v.H * v.W }

// Sample moves the chains x [len(ids), dim] in place by the level's Langevin
// steps, from step number t.
func (v *Level) Sample(ctx context.Context, noise sampler.Noise, ids []uint64, t uint64, x []float32) (sampler.Info, error) {
	if v.fused == nil {
		return v.Move(ctx, noise, v.Langevin.Kernel(), v.Langevin.Steps, ids, t, x)
	}
	if err := v.begin(ids, t, x); err != nil {
		return sampler.Info{}, err
	}
	return v.fused.Run(ctx, noise, v.state, v.Langevin.Steps, nil)
}

// Move does the same with another kernel and number of steps.
func (v *Level) Move(ctx context.Context, noise sampler.Noise, k sampler.Kernel, steps int, ids []uint64, t uint64, x []float32) (sampler.Info, error) {
	if err := v.begin(ids, t, x); err != nil {
		return sampler.Info{}, err
	}
	return sampler.Run(ctx, noise, k, v.Energy, v.state, steps, nil)
}

// begin places chains at x; buffers are kept from one call to the next.
func (v *Level) begin(ids []uint64, t uint64, x []float32) (err error) {
	if v.state == nil || len(v.state.X) != len(x) || v.state.Len() != len(ids) {
		if v.state, err = sampler.NewState(x, v.Dim(), append([]uint64(nil), ids...)); err != nil {
			return err
		}
	}
	v.state.X, v.state.T = x, t
	copy(v.state.Chain, ids)
	v.state.Invalidate()
	return nil
}

// Learn makes one update that descends Σ w_i·f(x_i) + (l2/2)·Σ f(x_i)² and returns
// the scores from before it and the gradient's norm.
func (v *Level) Learn(ctx context.Context, x, w []float32, l2 float64) (score []float32, norm float64, err error) {
	score = make([]float32, len(w))
	if err := v.Energy.Learn(ctx, x, w, float32(l2), score); err != nil {
		return nil, 0, err
	}
	if v.Frozen {
		return score, optim.Norm(v.params), nil
	}
	if norm, err = v.opt.Update(v.params); err != nil {
		return nil, 0, err
	}
	v.Energy.Refresh()
	if v.ema != nil {
		err = v.ema.Update(v.params)
	}
	return score, norm, err
}

// Slow multiplies the level's learning rate.
func (v *Level) Slow(factor float64) { v.opt.Slow(factor) }

// Save puts weights, optimizer and what the energy remembers into a checkpoint
// under the level's number.
func (v *Level) Save(st *checkpoint.State, number int) {
	v.opt.Save(st, fmt.Sprintf("optim%d", number))
	training.SaveParams(st, fmt.Sprintf("weights%d", number), v.Energy.Params())
	if m, ok := v.Energy.(optim.Stateful); ok {
		training.SaveMemory(st, fmt.Sprintf("energy%d", number), m)
	}
	if v.ema != nil {
		training.SaveMemory(st, fmt.Sprintf("average%d", number), v.ema)
	}
}

// Restore takes them back.
func (v *Level) Restore(st *checkpoint.State, number int) error {
	v.settled = false
	if err := v.opt.Restore(st, fmt.Sprintf("optim%d", number)); err != nil {
		return err
	}
	if err := RestoreEnergy(v.Energy, st, number); err != nil || v.ema == nil {
		return err
	}
	return v.restoreAverage(st, number)
}

func (v *Level) restoreAverage(st *checkpoint.State, number int) error {
	name := fmt.Sprintf("average%d", number)
	for _, p := range v.params {
		if _, err := checkpoint.Values[float32](st, name+"/w/"+p.Name, len(p.W)); err != nil {
			return err
		}
	}
	return training.RestoreMemory(st, name, v.ema)
}

// RestoreLearned takes back only what drawing needs: the averaged weights where they
// were kept, else the last.
func (v *Level) RestoreLearned(st *checkpoint.State, number int) error {
	if err := RestoreEnergy(v.Energy, st, number); err != nil || v.ema == nil {
		return err
	}
	if err := v.restoreAverage(st, number); err != nil {
		return err
	}
	v.Settle()
	return nil
}

// Settle makes the averaged weights the last ones, where they are kept, for a level that learns no more.
func (v *Level) Settle() {
	if v.ema == nil {
		return
	}
	same := true
	for _, p := range v.params {
		mean := v.ema.Weights(p.Name)
		same = same && slices.Equal(p.W, mean)
		copy(p.W, mean)
	}
	if v.settled = true; !same {
		v.Energy.Refresh()
	}
}

// RestoreEnergy puts the weights of a level into an energy.
func RestoreEnergy(e training.Energy, st *checkpoint.State, number int) error {
	if err := training.RestoreParams(st, fmt.Sprintf("weights%d", number), e.Params()); err != nil {
		return err
	}
	if m, ok := e.(optim.Stateful); ok {
		return training.RestoreMemory(st, fmt.Sprintf("energy%d", number), m)
	}
	e.Refresh()
	return nil
}

// Contrast is the weights of n data examples and n samples after them whose
// gradient is that of mean f(samples) − mean f(data), or the opposite if flipped.
func Contrast(n int, flipped bool) []float32 {
	w := make([]float32, 2*n)
	for i := range n {
		w[i], w[n+i] = -1/float32(n), 1/float32(n)
		if flipped {
			w[i], w[n+i] = w[n+i], w[i]
		}
	}
	return w
}

// Batches calls do for each batch of n rows with the number of its first row and
// of its rows, and joins what it returns.
func Batches(n, batch int, do func(first, rows int) ([]float32, error)) ([]float32, error) {
	var all []float32
	for first := 0; first < n; first += batch {
		x, err := do(first, min(batch, n-first))
		if err != nil {
			return nil, err
		}
		all = append(all, x...)
	}
	return all, nil
}

// Impose returns a projection that writes the known values, those where mask is 1,
// over chains.
func Impose(known, mask []float32) func(x []float32) {
	return func(x []float32) {
		for i, m := range mask {
			if m == 1 {
				x[i] = known[i]
			}
		}
	}
}

// ShrinkKnown is known values and their mask on a grid that is k times coarser: a
// block is known if all of it is.
func ShrinkKnown(known, mask []float32, h, w, k int) (x, m []float32) {
	m = Shrink(mask, h, w, k)
	for i, v := range m {
		if v != 1 {
			m[i] = 0
		}
	}
	return Shrink(known, h, w, k), m
}

// VisibleMean is the mean of what is visible in each plane of size values, 0 where
// nothing is.
func VisibleMean(x, mask []float32, size int) []float32 {
	out := make([]float32, len(x)/size)
	for p := range out {
		sum, n := 0.0, 0.0
		for i := p * size; i < (p+1)*size; i++ {
			if mask[i] == 1 {
				sum += float64(x[i])
				n++
			}
		}
		out[p] = float32(sum / max(n, 1))
	}
	return out
}

// Carry copies the weights that two energies have in common, by name, with what the
// energies remember about them. It is an error if one has another size or if there are
// none.
func Carry(to, from training.Energy) error {
	weights := map[string][]float32{}
	for _, p := range from.Params() {
		weights[p.Name] = p.W
	}
	n := 0
	for _, p := range to.Params() {
		w, ok := weights[p.Name]
		if !ok {
			continue
		}
		if n++; len(w) != len(p.W) {
			return fmt.Errorf("pyramid: weights %s: wanted %d values, got %d", p.Name, len(p.W), len(w))
		}
		copy(p.W, w)
	}
	if n == 0 {
		return fmt.Errorf("pyramid: the energies have no weights in common")
	}
	source, ok := from.(optim.Stateful)
	target, ok2 := to.(optim.Stateful)
	if !ok || !ok2 {
		to.Refresh()
		return nil
	}
	known, mine := source.State(), target.State()
	for name, t := range known.Tensors {
		copy(mine.Tensors[name], t)
	}
	return target.Restore(mine)
}

// Renew makes weights that were set take effect. Unlike [training.Energy]'s Refresh, which
// goes on towards the spectral norms of weights that were learned, it leaves the norms.
func Renew(e training.Energy) error {
	if s, ok := e.(optim.Stateful); ok {
		return s.Restore(s.State())
	}
	e.Refresh()
	return nil
}

// Complete fills in what a mask hides of pictures x of the last level's size. Chains
// begin at the mean of what is visible, each level at the pixels of the one before.
// Blocks that are wholly visible go along the level's chain from their value on the
// level before to their own, as in the chains that the energies have learned from, and
// end there exactly.
func Complete(ctx context.Context, levels []*Level, noise sampler.Noise, ids []uint64, x, mask []float32) ([]float32, error) {
	top := levels[len(levels)-1]
	now, side := VisibleMean(x, mask, top.H*top.W), 1
	// Coarse values of visible pixels must not tell what is hidden beside them.
	x = append([]float32(nil), x...)
	for i, m := range mask {
		if m != 1 {
			x[i] = now[i/(top.H*top.W)]
		}
	}
	for k, v := range levels {
		factor := v.W / side
		known, seen := ShrinkKnown(x, mask, top.H, top.W, top.W/v.W)
		coarse := Grow(Shrink(known, v.H, v.W, factor), side, side, factor)
		way := append([]float32(nil), known...)
		put := Impose(way, seen)
		kernel, steps, step := v.Langevin.Kernel(), v.Langevin.Steps, 0
		kernel.Project = func(now []float32) {
			for i := range way {
				if way[i] = known[i]; step < steps {
					way[i] = coarse[i] + float32(step)/float32(steps)*(known[i]-coarse[i])
				}
			}
			put(now)
			step++
		}
		now = Grow(now, side, side, factor)
		kernel.Project(now)
		if _, err := v.Move(ctx, noise.Fork(uint64(k+1)), kernel, steps, ids, 0, now); err != nil {
			return nil, err
		}
		side = v.W
	}
	return now, nil
}
