package accept

import (
	"context"
	"math"

	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/voxelnet"
)

// Voxelnet is the suite of the generative VoxelNet.
var Voxelnet = Suite{"voxelnet", []Part{
	{"shapes", "boxes, cylinders, spheres and tables of 16³: drawn, completed and refined", false, voxelShapes},
}}

// voxelShapes learns from shapes and has the energy draw, complete and refine. The
// spoiled arms only draw.
func voxelShapes(ctx context.Context, e Env, it *Item) error {
	const size, factor = 16, 4
	set, err := data.Load(ctx, "synthetic/volumes", data.Options{Seed: e.Seed, Size: size, Limit: 600})
	if err != nil {
		return err
	}
	set, held, err := set.Split(1.0/6, e.Seed)
	if err != nil {
		return err
	}
	fill := map[string]float64{}
	for _, arm := range []string{Works, Untrained, Flipped} {
		c, err := voxelnet.For("small", set.Dims(), set.N)
		if err != nil {
			return err
		}
		c.Sabotage, c.Steps = sabotageOf[arm], 120
		c.Optim.Over = c.Steps
		steps := shrunk(arm, c.Steps)
		spec, err := c.Network()
		if err != nil {
			return err
		}
		net, err := e.network(ctx, spec, set, c.Reference.Sigma)
		if err != nil {
			return err
		}
		defer net.Close()
		s, err := voxelnet.New(c, net, set, e.Seed)
		if err != nil {
			return err
		}
		ended, err := e.learn(ctx, "shapes", arm, s, steps, c.Guard)
		if err != nil {
			return err
		}
		iou, occupied := math.Inf(-1), math.Inf(1)
		if ended == nil {
			x, err := s.Samples(ctx, 64)
			if err != nil {
				return err
			}
			iou, occupied = nearestIoU(x, set), math.Abs(full(x)/full(set.X())-1)
			img, err := stripOf(set, x[:16*set.Dim()])
			if err := e.show("voxelnet-"+arm, img, err); err != nil {
				return err
			}
		}
		remark := ""
		if ended != nil {
			remark = ended.Error()
		}
		fill[arm] = iou
		if arm != Works {
			it.Check(arm, "IoU of a sample with the nearest shape", iou, AtMost(0.65), remark)
			continue
		}
		it.Check(arm, "IoU of a sample with the nearest shape", iou, AtLeast(0.65), remark)
		it.Check(arm, "occupied voxels, relative gap from the data's", occupied, AtMost(0.2), remark)
		if ended != nil {
			continue
		}
		model := &voxelnet.Model{Config: c, Field: net, Dims: set.Dims()}
		if err := damaged(ctx, e, it, model, held.Head(20)); err != nil {
			return err
		}
		if err := finer(ctx, e, it, model, held.Head(20), factor); err != nil {
			return err
		}
	}
	return nil
}

// damaged hides 70 % of the voxels of held-out shapes.
func damaged(ctx context.Context, e Env, it *Item, m *voxelnet.Model, set *data.Set) error {
	r := e.random(11)
	mask := make([]float32, set.N*set.Dim())
	for i := range mask {
		if r.Float64() < 0.3 {
			mask[i] = 1
		}
	}
	x, err := m.Reconstruct(ctx, set.X(), mask, e.Seed)
	if err != nil {
		return err
	}
	mean := append([]float32(nil), set.X()...)
	for at := 0; at < len(mean); at += set.Dim() {
		sum, n := 0.0, 0.0
		for i := at; i < at+set.Dim(); i++ {
			if mask[i] != 0 {
				sum, n = sum+float64(mean[i]), n+1
			}
		}
		for i := at; i < at+set.Dim(); i++ {
			if mask[i] == 0 {
				mean[i] = float32(sum / n)
			}
		}
	}
	wrong := func(x []float32) float64 {
		bad, n := 0.0, 0.0
		for i, v := range mask {
			if v == 0 {
				if n++; (x[i] > 0) != (set.X()[i] > 0) {
					bad++
				}
			}
		}
		return bad / n
	}
	it.Check(Works, "wrong among hidden voxels, share of the mean fill's", wrong(x)/wrong(mean), AtMost(0.5), "")
	return nil
}

// finer refines block means of held-out shapes.
func finer(ctx context.Context, e Env, it *Item, m *voxelnet.Model, set *data.Set, factor int) error {
	coarse := voxelnet.Coarsen(set.X(), set.Dims(), factor)
	x, err := m.Refine(ctx, coarse, factor, e.Seed)
	if err != nil {
		return err
	}
	drift := 0.0
	for i, v := range voxelnet.Coarsen(x, set.Dims(), factor) {
		drift = math.Max(drift, math.Abs(float64(v-coarse[i])))
	}
	still := *m
	still.Config.Resolution = training.Langevin{Steps: 1, Step: 1e-9}
	replicated, err := still.Refine(ctx, coarse, factor, e.Seed)
	if err != nil {
		return err
	}
	it.Check(Works, "largest drift of a block's mean", drift, AtMost(1e-5), "")
	gain := 0.0
	for at := 0; at < len(x); at += set.Dim() {
		truth := set.X()[at : at+set.Dim()]
		gain += (iou(x[at:at+set.Dim()], truth) - iou(replicated[at:at+set.Dim()], truth)) / float64(set.N)
	}
	it.Check(Works, "IoU of refined shapes above that of repeated blocks", gain, AtLeast(0.05), "")
	return nil
}

// full is the share of occupied voxels.
func full(x []float32) float64 {
	n := 0.0
	for _, v := range x {
		if v > 0 {
			n++
		}
	}
	return n / float64(len(x))
}

// iou is the intersection of two shapes over their union.
func iou(a, b []float32) float64 {
	both, any := 0.0, 0.0
	for i := range a {
		if a[i] > 0 || b[i] > 0 {
			if any++; a[i] > 0 && b[i] > 0 {
				both++
			}
		}
	}
	return both / math.Max(any, 1)
}

// nearestIoU is the mean, over samples, of the largest IoU with a shape of the set.
func nearestIoU(x []float32, set *data.Set) float64 {
	d, sum := set.Dim(), 0.0
	for at := 0; at < len(x); at += d {
		best := 0.0
		for i := range set.N {
			best = math.Max(best, iou(x[at:at+d], set.At(i)))
		}
		sum += best
	}
	return sum * float64(d) / float64(len(x))
}
