package inverseoptimalcontrol

import (
	"context"
	"fmt"
	"image/color"

	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/record"
)

// What is drawn on a map.
var (
	asphalt   = color.NRGBA{0xc9, 0xce, 0xd6, 0xff} // the middle of the lane
	block     = color.NRGBA{0x6b, 0x72, 0x80, 0xff} // an obstacle
	dreamt    = color.NRGBA{0x25, 0x63, 0xc9, 0xa0} // predictions
	happened  = color.NRGBA{0xd9, 0x54, 0x1e, 0xff} // what experts did
	beginning = color.NRGBA{0x12, 0x80, 0x5c, 0xff} // where agents start
)

// Maps draws, for each scene, lane and obstacle, k predicted paths [n, k, dim] of normalised
// controls, and over them the experts' if there are any [n, T, agents, 2].
func (m *Model) Maps(ctx context.Context, scenes, x []float32, k int, truth []float32) (record.Images, error) {
	if !plane(m.config.Net) {
		return record.Images{}, fmt.Errorf("inverse-optimal-control: %s leads to no places in the plane", m.config.Net.Dynamics)
	}
	n := len(scenes) / m.sceneSize()
	paths, err := m.Paths(ctx, x, repeated(scenes, n, k))
	if err != nil {
		return record.Images{}, err
	}
	agents := m.config.Net.Agents
	size := m.Moments * agents * 2
	plans := make([]record.Plan, n)
	for i := range plans {
		p, scene := &plans[i], scenes[i*m.sceneSize():(i+1)*m.sceneSize()]
		far := float32(0)
		line := func(from []float32, agent int, ink color.NRGBA, width float64) {
			x, _ := m.says(scene, agent, "x")
			y, _ := m.says(scene, agent, "y")
			xy := [][2]float64{{x, y}}
			for j := 2 * agent; j < len(from); j += 2 * agents {
				xy, far = append(xy, [2]float64{float64(from[j]), float64(from[j+1])}), max(far, from[j])
			}
			p.Tracks = append(p.Tracks, record.Track{XY: xy, Ink: ink, Width: width})
		}
		for agent := range agents {
			for d := range k {
				line(paths[(i*k+d)*size:][:size], agent, dreamt, 2)
			}
			if truth != nil {
				line(truth[i*size:][:size], agent, happened, 1.2)
			}
			x, _ := m.says(scene, agent, "x")
			y, _ := m.says(scene, agent, "y")
			p.Discs = append(p.Discs, record.Disc{X: x, Y: y, Radius: 0.01 * float64(far), Ink: beginning})
			if ox, oy, ok := m.obstacle(scene, agent); ok {
				p.Discs = append(p.Discs, record.Disc{X: ox, Y: oy, Radius: Touch, Ink: block})
			}
		}
		if bend, ok := m.says(scene, 0, "curvature"); ok {
			lane := record.Track{Ink: asphalt, Width: 3}
			for s := range 41 {
				at := float64(far) * float64(s) / 40
				lane.XY = append(lane.XY, [2]float64{at, bend * at * at / 2})
			}
			p.Tracks = append([]record.Track{lane}, p.Tracks...)
		}
	}
	return record.Maps(plans, 240, 96)
}

// Pictures implements [training.Painter]: predicted paths over those of experts, and predicted
// controls as curves.
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	held, k := s.held.Head(12), min(s.Config.Draws, 8)
	x, err := s.Predict(ctx, held.Given.X(), k, s.noise.Seed)
	if err != nil {
		return nil, err
	}
	if !plane(s.Config.Net) {
		p, err := training.Show(record.SamplesTag, held, x)
		return []training.Picture{p}, err
	}
	truth, err := s.Driven(ctx, held)
	if err != nil {
		return nil, err
	}
	img, err := s.Maps(ctx, held.Given.X(), x, k, truth)
	return []training.Picture{{Tag: record.SamplesTag, Images: img}}, err
}

var (
	_ training.Drawer     = (*Model)(nil)
	_ training.Plotter    = (*Model)(nil)
	_ training.Translator = (*Model)(nil)
)

// Draw implements [training.Drawer]: controls, in their own units, in scenes that were held out,
// one after another.
func (m *Model) Draw(ctx context.Context, n int, seed uint64) ([]float32, error) {
	return m.Translate(ctx, m.cycled(n), seed)
}

// cycled are n of the scenes that a run keeps, from the first again after the last.
func (m *Model) cycled(n int) []float32 {
	out := make([]float32, 0, n*m.sceneSize())
	for i := range n {
		at := i * m.sceneSize() % len(m.scenes)
		out = append(out, m.scenes[at:at+m.sceneSize()]...)
	}
	return out
}

// Translate implements [training.Translator]: controls for scenes.
func (m *Model) Translate(ctx context.Context, scenes []float32, seed uint64) ([]float32, error) {
	x, err := m.Predict(ctx, scenes, 1, seed)
	return m.Raw(x), err
}

// Plot implements [training.Plotter]: the paths that draws lead to, in their scenes.
func (m *Model) Plot(ctx context.Context, u []float32) (training.Picture, error) {
	n := len(u) / m.dim()
	if !plane(m.config.Net) {
		like := &data.Set{Kind: data.Path, N: n, C: 1, H: m.Moments, W: m.dim() / m.Moments, Gain: 1}
		return training.Show(record.SamplesTag, like, u)
	}
	img, err := m.Maps(ctx, m.cycled(n), m.normal(u), 1, nil)
	return training.Picture{Tag: record.SamplesTag, Images: img}, err
}
