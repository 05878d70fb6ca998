package inverseoptimalcontrol

import (
	"fmt"
	"math"
	"slices"

	"ebmrun/onnxmodels/control"
	"ebmrun/training/data"
)

// states is the name of the aligned set that says where experts went.
const states = "states"

// Experts are the examples of a set as the system learns from them: normalised controls
// [T, agents·controls], given scenes. Where the data are states, beside them lie the states that
// were seen, in the frame of the scene.
func (c *Config) Experts(set *data.Set) (*data.Set, error) {
	if set.Kind != data.Path {
		return nil, fmt.Errorf("inverse-optimal-control: %s holds %s, wanted paths", set.Name, set.Kind)
	}
	if c.History > 0 {
		return c.fromStates(set)
	}
	n, width := c.Net.Given()[0], c.Net.Dims(set.H)[1]
	if set.W != width {
		return nil, fmt.Errorf("inverse-optimal-control: %s: paths of %d values a moment, wanted %d controls of %d agents", set.Name, set.W, width, c.Net.Agents)
	}
	out := *set
	if set.Given == nil {
		if c.From == nil {
			return nil, fmt.Errorf("inverse-optimal-control: %s says nothing of scenes: wanted --given, or from in the settings", set.Name)
		}
		out.Given = scenes(set, n)
		for i := range set.N {
			for k, v := range c.From {
				out.Given.Floats[i*n+k] = float32(v)
			}
		}
	}
	if out.Given.Dim() != n {
		return nil, fmt.Errorf("inverse-optimal-control: %s: scenes of %d values, wanted %v of %d agents", set.Name, out.Given.Dim(), c.Net.Scene, c.Net.Agents)
	}
	out.Floats = slices.Clone(set.X())
	k := len(c.Net.Unit)
	for i := range out.Floats {
		out.Floats[i] /= float32(c.Net.Unit[i%k])
	}
	out.Lo, out.Hi, out.Gain, out.Offset = 0, 0, 1, 0
	return &out, nil
}

// scenes is a set of n values beside each example, all 0.
func scenes(like *data.Set, n int) *data.Set {
	return &data.Set{Name: like.Name + " scenes", N: like.N, C: n, H: 1, W: 1, Floats: make([]float32, like.N*n), Gain: 1}
}

// fromStates cuts states [History + T, agents·4] of x, y, heading and speed into scenes and
// controls. Everything is turned and shifted so that the first agent stands at 0 with heading 0 when the
// past ends.
func (c *Config) fromStates(set *data.Set) (*data.Set, error) {
	const fields = 4
	agents, moments := c.Net.Agents, set.H-c.History
	if set.W != fields*agents || moments < 1 {
		return nil, fmt.Errorf("inverse-optimal-control: %s: states of %d values over %d moments, wanted x, y, heading and speed of %d agents over more than %d", set.Name, set.W, set.H, agents, c.History)
	}
	k, columns := len(c.Net.Unit), len(c.Net.Scene)
	out := &data.Set{Name: set.Name + " controls", Kind: data.Path, N: set.N, C: 1, H: moments, W: agents * k,
		Floats: make([]float32, set.N*moments*agents*k), Gain: 1, Given: scenes(set, agents*columns)}
	seen := &data.Set{Name: set.Name + " states", Kind: data.Path, N: set.N, C: 1, H: moments, W: fields * agents,
		Floats: make([]float32, set.N*moments*fields*agents), Gain: 1}
	out.Beside = map[string]*data.Set{states: seen}
	for i := range set.N {
		raw := set.At(i)
		at := func(t, agent int) (s [fields]float64) {
			for f := range s {
				s[f] = float64(raw[(t*agents+agent)*fields+f])
			}
			s[0], s[1] = s[0]*c.Metres, s[1]*c.Metres
			return s
		}
		origin := at(c.History-1, 0)
		sin, cos := math.Sincos(origin[2])
		local := func(t, agent int) [fields]float64 {
			s := at(t, agent)
			dx, dy := s[0]-origin[0], s[1]-origin[1]
			return [fields]float64{cos*dx + sin*dy, cos*dy - sin*dx, s[2] - origin[2], s[3]}
		}
		for agent := range agents {
			last := local(c.History-1, agent)
			past := c.current(func(t int) [fields]float64 { return local(t, agent) })
			says := map[string]float64{"x": last[0], "y": last[1], "heading": last[2], "speed": last[3], "acceleration": past[0], "turn": past[1]}
			for j, column := range c.Net.Scene {
				v, ok := says[column]
				if !ok {
					return nil, fmt.Errorf("inverse-optimal-control: net.scene: states say nothing of %q", column)
				}
				out.Given.Floats[(i*agents+agent)*columns+j] = float32(v)
			}
			for t := range moments {
				next := local(c.History+t, agent)
				for f, v := range next {
					seen.Floats[((i*moments+t)*agents+agent)*fields+f] = float32(v)
				}
				for j, v := range c.between(last, next) {
					out.Floats[((i*moments+t)*agents+agent)*k+j] = float32(v / c.Net.Unit[j])
				}
				last = next
			}
		}
	}
	if err := out.Check(); err != nil || c.Drift == 0 {
		return out, err
	}
	var index []int
	for i := range out.N {
		if c.drift(out, i) <= c.Drift {
			index = append(index, i)
		}
	}
	if len(index) == 0 {
		return nil, fmt.Errorf("inverse-optimal-control: %s: no example whose speeds and headings lead within %g m to where it was seen", set.Name, c.Drift)
	}
	return out.Subset(index)
}

// drift is how far the headings and speeds of an example lead from its last place, of the agent
// for whom that is most.
func (c *Config) drift(experts *data.Set, i int) (most float64) {
	agents, scene, seen := c.Net.Agents, experts.Given.At(i), experts.Beside[states].At(i)
	for agent := range agents {
		var at [4]float64
		for f, name := range []string{"x", "y", "heading", "speed"} {
			if j := slices.Index(c.Net.Scene, name); j >= 0 {
				at[f] = float64(scene[agent*len(c.Net.Scene)+j])
			}
		}
		for t := range experts.H {
			sin, cos := math.Sincos(at[2])
			next := seen[(t*agents+agent)*len(at):]
			at = [4]float64{at[0] + at[3]*cos*c.Net.Step, at[1] + at[3]*sin*c.Net.Step, float64(next[2]), float64(next[3])}
		}
		end := seen[((experts.H-1)*agents+agent)*len(at):]
		most = max(most, math.Hypot(at[0]-float64(end[0]), at[1]-float64(end[1])))
	}
	return most
}

// current is the constant controls that fit the headings and speeds of the past best, in least squares.
func (c *Config) current(past func(t int) [4]float64) [2]float64 {
	var a, b [4]float64 // the ends of the straight line through the past
	middle, weigh := float64(c.History-1)/2, 0.0
	for t := range c.History {
		weigh += sq(float64(t) - middle)
	}
	for f := range b {
		mean, slope := 0.0, 0.0
		for t := range c.History {
			v := past(t)[f]
			mean, slope = mean+v/float64(c.History), slope+v*(float64(t)-middle)/weigh
		}
		a[f], b[f] = mean, mean+slope
	}
	return c.between(a, b)
}

// between is the controls that lead from the heading and speed of one moment to those of the next.
func (c *Config) between(a, b [4]float64) [2]float64 {
	turn := (b[2] - a[2]) / c.Net.Step
	if c.Net.Dynamics == "bicycle" {
		turn = math.Atan(turn * c.Net.Base / max(a[3], 0.1))
	}
	return [2]float64{(b[3] - a[3]) / c.Net.Step, turn}
}

// Moments is how many moments are controlled in examples of the given dimensions.
func (c *Config) Moments(dims []int) int {
	if len(dims) == 0 {
		return 0
	}
	return dims[0] - c.History
}

// plane reports whether there are paths in the plane to be drawn and measured.
func plane(s control.Spec) bool { return len(s.States()) == 4 }
