package accept

import (
	"context"
	"fmt"
	"math"
	"slices"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/hierarchicalsparseframe"
	"ebmrun/training/maxent"
	"ebmrun/training/record"
)

var hierarchicalSparseFrameSuite = Suite{"hierarchical-sparse-frame", []Part{
	{"rigid", "without freedom, SUM3 is the score of a flat template at every place", true, hierarchicalRigid},
	{"faces", "cartoon faces of 64×64, shifted and turned in pictures of 84×84: where they are found", false, hierarchicalFaces},
	{"kinds", "such faces upright and upside down, told apart by EM", false, hierarchicalKinds},
}}

// A place is where a face lies: its middle, and how many turns of half a circle over orientations it has.
type place struct{ y, x, turn float64 }

// placed puts faces of side×side into pictures of wide×wide, shifted by up to 6 pixels and turned by up to
// two of so many orientations; where flip says so they are upside down at first.
func placed(set *data.Set, wide, orientations int, flip func(i int) bool, seed uint64) (*data.Set, []place) {
	out := *set
	out.H, out.W, out.Floats, out.Factors, out.FactorNames = wide, wide, make([]float32, set.N*wide*wide), nil, nil
	var all []place
	r := Env{Seed: seed}.random(3)
	for i := range set.N {
		p := place{float64(wide/2 + r.IntN(13) - 6), float64(wide/2 + r.IntN(13) - 6), float64(r.IntN(5) - 2)}
		all = append(all, p)
		sin, cos := math.Sincos(math.Pi * p.turn / float64(orientations))
		x := set.At(i)
		for k := range wide * wide {
			dy, dx := float64(k/wide)-p.y, float64(k%wide)-p.x
			v, u := float64(set.H)/2-sin*dx+cos*dy, float64(set.W)/2+cos*dx+sin*dy
			if flip != nil && flip(i) {
				v = float64(set.H) - v
			}
			out.At(i)[k] = between(x, set.H, set.W, v, u)
		}
	}
	return &out, all
}

// between is a picture between its pixels, black outside.
func between(x []float32, h, w int, y, z float64) float32 {
	at := func(y, z int) float64 {
		if y < 0 || y >= h || z < 0 || z >= w {
			return -1
		}
		return float64(x[y*w+z])
	}
	i, j := int(math.Floor(y)), int(math.Floor(z))
	fy, fz := y-float64(i), z-float64(j)
	return float32((1-fy)*((1-fz)*at(i, j)+fz*at(i, j+1)) + fy*((1-fz)*at(i+1, j)+fz*at(i+1, j+1)))
}

func hierarchicalConfig(change func(*hierarchicalsparseframe.Config)) (hierarchicalsparseframe.Config, error) {
	c, err := hierarchicalsparseframe.For("object", []int{1, 84, 84}, 0)
	c.Side, c.Steps, c.Levels, c.Object.Level, c.Part.Level, c.Frame.Atoms = 64, 5, 1, 0, 0, 60
	change(&c)
	return c, err
}

// hierarchical assembles a system whose templates are learned on the engine, and learns.
func (e Env) hierarchical(ctx context.Context, what, arm string, c hierarchicalsparseframe.Config, set *data.Set) (*hierarchicalsparseframe.System, error) {
	s, err := hierarchicalsparseframe.New(ctx, c, func(ctx context.Context, taps []float32) (training.Energy, error) {
		m, err := energy.Linear([]int{1, c.Side, c.Side}, 1, false, energy.Atoms(taps))
		if err != nil {
			return nil, err
		}
		return e.Bind(ctx, m)
	}, set, e.Seed)
	if err != nil {
		return nil, err
	}
	_, err = e.learn(ctx, what, arm, s, c.Steps, c.Guard)
	return s, err
}

func hierarchicalRigid(ctx context.Context, e Env, it *Item) error {
	set, err := data.Load(ctx, "synthetic/face", data.Options{Seed: e.Seed, Size: 84, Limit: 1})
	if err != nil {
		return err
	}
	c, err := hierarchicalConfig(func(*hierarchicalsparseframe.Config) {})
	if err != nil {
		return err
	}
	off, most, err := hierarchicalsparseframe.Rigid(c, set.X(), set.H, set.W, e.Seed)
	it.Check("", "largest difference, share of the largest score", off/most, AtMost(1e-4), fmt.Sprintf("%.3g nats", most))
	return err
}

func middle(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// poses measures where objects are found, up to the middle and the turn that the template has taken: the
// median distance in pixels, and the share of right turns.
func poses(found []training.Found, all []place, orientations int) (distance, turned float64) {
	step := math.Pi / float64(orientations)
	var turns, dy, dx, off []float64
	for i, f := range found {
		turns = append(turns, math.Round(f.Turn/step)-all[i].turn)
		y, x := 0.0, 0.0
		for _, c := range f.Outline {
			y, x = y+c[0]/4, x+c[1]/4
		}
		// in the object's own frame
		sin, cos := math.Sincos(step * all[i].turn)
		y, x = y-all[i].y, x-all[i].x
		dy, dx = append(dy, -sin*x+cos*y), append(dx, cos*x+sin*y)
	}
	for i := range found {
		off = append(off, math.Hypot(dy[i]-middle(dy), dx[i]-middle(dx)))
		if turns[i] == middle(turns) {
			turned += 1 / float64(len(found))
		}
	}
	return middle(off), turned
}

func hierarchicalFaces(ctx context.Context, e Env, it *Item) error {
	load := func(part string, n int, seed uint64) (*data.Set, []place, error) {
		set, err := data.Load(ctx, "synthetic/face", data.Options{Seed: e.Seed, Size: 64, Limit: n, Part: part})
		if err != nil {
			return nil, nil, err
		}
		s, all := placed(set, 84, 16, nil, seed)
		return s, all, nil
	}
	train, _, err := load("train", 40, e.Seed)
	if err != nil {
		return err
	}
	held, all, err := load("test", 20, e.Seed+1)
	if err != nil {
		return err
	}
	scores := map[string][]float64{}
	const rigid = "no free parts"
	for _, arm := range []string{Works, rigid, hierarchicalsparseframe.Still, Untrained} {
		c, err := hierarchicalConfig(func(c *hierarchicalsparseframe.Config) {
			switch arm {
			case rigid:
				c.Part = hierarchicalsparseframe.Freedom{}
			case hierarchicalsparseframe.Still:
				c.Sabotage = arm
			case Untrained:
				c.Frame.Sabotage, c.Steps = maxent.Freeze, 1
			}
		})
		if err != nil {
			return err
		}
		s, err := e.hierarchical(ctx, "faces", arm, c, train)
		if err != nil {
			return err
		}
		found, err := s.Detect(ctx, held.X())
		if err != nil {
			return err
		}
		for _, f := range found {
			scores[arm] = append(scores[arm], f.Score)
		}
		distance, turned := poses(found, all, c.Frame.Orientations)
		switch arm {
		case Works:
			it.Check(arm, "distance from the true middle, pixels, median", distance, AtMost(3), "")
			it.Check(arm, "right turns", turned, AtLeast(0.8), "")
			pics, err := s.Pictures(ctx)
			if err != nil {
				return err
			}
			for _, p := range pics[:2] {
				img, err := record.Strip(2, 2, p.Rows...)
				if err := e.show("hierarchical-"+p.Tag, img, err); err != nil {
					return err
				}
			}
		case Untrained:
			it.Check(arm, "distance from the true middle, pixels, median", distance, AtLeast(3), "")
			it.Check(arm, "right turns", turned, AtMost(0.6), "")
		default:
			more := share(held.N, func(i int) bool { return scores[Works][i] > scores[arm][i] })
			it.Check(Works, "held-out pictures that score higher than with "+arm, more, AtLeast(0.75), fmt.Sprintf("%.1f px, %.2f of turns", distance, turned))
		}
	}
	return nil
}

func hierarchicalKinds(ctx context.Context, e Env, it *Item) error {
	set, err := data.Load(ctx, "synthetic/face", data.Options{Seed: e.Seed, Size: 64, Limit: 30})
	if err != nil {
		return err
	}
	down := func(i int) bool { return i%2 == 1 }
	moved, _ := placed(set, 84, 16, down, e.Seed)
	moved.Labels = make([]int, set.N)
	for i := range moved.Labels {
		moved.Labels[i] = i % 2
	}
	for _, arm := range []string{Works, Untrained} {
		c, err := hierarchicalConfig(func(c *hierarchicalsparseframe.Config) {
			if c.Clusters = 2; arm == Untrained {
				c.Frame.Sabotage, c.Steps = maxent.Freeze, 1
			}
		})
		if err != nil {
			return err
		}
		s, err := e.hierarchical(ctx, "kinds", arm, c, moved)
		if err != nil {
			return err
		}
		assigned, err := s.Cluster(ctx, moved.X(), 2, e.Seed)
		if err != nil {
			return err
		}
		limit := AtLeast(0.9)
		if arm == Untrained {
			limit = AtMost(0.7)
		}
		it.Check(arm, "purity of two clusters", diag.Purity(assigned, moved.Labels), limit, fmt.Sprintf("%d pictures", set.N))
	}
	return nil
}
