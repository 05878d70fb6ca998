package accept

import (
	"context"
	"math"
	"slices"

	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/pointnet"
)

// Pointnet is the suite of the generative PointNet.
var Pointnet = Suite{"pointnet", []Part{
	{"surfaces", "128 points on cubes and tori: drawn, and found again", false, surfaces},
}}

// surfaces learns two classes of shapes.
func surfaces(ctx context.Context, e Env, it *Item) error {
	all, err := data.Load(ctx, "synthetic/surfaces", data.Options{Seed: e.Seed, Points: 128, Limit: 1200})
	if err != nil {
		return err
	}
	if all, err = all.OfClass(1, 2); err != nil {
		return err
	}
	set, held, err := all.Split(0.2, e.Seed)
	if err != nil {
		return err
	}
	held = held.Head(64)
	score := func(x []float32) (diag.CloudScore, error) { return diag.Clouds(x, held.X(), 128, 3, diag.Chamfer) }
	floor, err := score(set.X()[:64*set.Dim()])
	if err != nil {
		return err
	}
	mmd := map[string]float64{}
	for _, arm := range []string{Untrained, Works, Flipped} {
		c, err := pointnet.For("small", set.Dims(), set.N)
		if err != nil {
			return err
		}
		c.Sabotage, c.Optim.Over = sabotageOf[arm], c.Steps
		spec, err := c.Network()
		if err != nil {
			return err
		}
		net, err := e.network(ctx, spec, set, c.Reference.Sigma)
		if err != nil {
			return err
		}
		defer net.Close()
		s, err := pointnet.New(c, net, set, e.Seed)
		if err != nil {
			return err
		}
		ended, err := e.learn(ctx, "surfaces", arm, s, shrunk(arm, c.Steps), c.Guard)
		if err != nil {
			return err
		}
		remark := ""
		mmd[arm] = math.Inf(1)
		coverage := 0.0
		if ended != nil {
			remark = ended.Error()
		} else {
			x, err := s.Samples(ctx, 64)
			if err != nil {
				return err
			}
			got, err := score(x)
			if err != nil {
				return err
			}
			mmd[arm], coverage = got.MMD, got.Coverage
			img, err := stripOf(set, slices.Concat(held.X()[:14*set.Dim()], x[:28*set.Dim()]))
			if err := e.show("pointnet-"+arm, img, err); err != nil {
				return err
			}
		}
		switch arm {
		case Works:
			it.Check(arm, "MMD-CD, share of U's", mmd[arm]/mmd[Untrained], AtMost(0.2), remark)
			it.Check(arm, "MMD-CD over that of real sets", mmd[arm]/floor.MMD, AtMost(1.5), remark)
			it.Check(arm, "coverage", coverage, AtLeast(0.4), remark)
		case Flipped:
			it.Check(arm, "MMD-CD, share of U's", mmd[arm]/mmd[Untrained], AtLeast(0.2), remark)
			it.Check(arm, "MMD-CD over that of real sets", mmd[arm]/floor.MMD, AtLeast(3), remark)
		}
		if arm == Works && ended == nil {
			if err := foundAgain(ctx, e, it, &pointnet.Model{Config: c, Field: net, Dims: set.Dims()}, held.Head(16)); err != nil {
				return err
			}
		}
	}
	return nil
}

// foundAgain looks for the starts of held-out sets.
func foundAgain(ctx context.Context, e Env, it *Item, m *pointnet.Model, set *data.Set) error {
	x, err := m.Reconstruct(ctx, set.X(), nil, e.Seed)
	if err != nil {
		return err
	}
	near, far := 0.0, 0.0
	for i := range set.N {
		d, err := diag.Chamfer(x[i*set.Dim():(i+1)*set.Dim()], set.At(i), 3)
		if err != nil {
			return err
		}
		other, err := diag.Chamfer(set.At((i+1)%set.N), set.At(i), 3)
		if err != nil {
			return err
		}
		near, far = near+d, far+other
	}
	it.Check(Works, "Chamfer distance of reconstructions, share of that of pairs", near/far, AtMost(0.3), "")
	return nil
}
