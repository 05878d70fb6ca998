// Package backbone makes a network from a file a part of a model.
//
// [Open] takes a model of any exporter, as onnxio reads it, and a [Spec] that
// says at which values to cut it, what it expects of a picture, and which of its
// weights may be learned. The [Net] it returns appends that part to a graph under
// construction:
//
//	net, err := backbone.Open(model, backbone.Spec{Cut: []string{"relu4_3"}, Input: backbone.Caffe})
//	m, err := energy.Linear([]int{3, 64, 64}, 1, true, net.Features(backbone.Pixels{Lo: -1, Hi: 1}))
//
// What prepares the picture (range, mean, scale, order of channels, layout)
// becomes nodes of the graph, so the gradient in x goes through it. Networks that
// were exported with the channels last are turned to channels first.
package backbone

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/nn"
)

// A Spec says which network, which part of it, and how it is used.
type Spec struct {
	Net   string   `yaml:"net" json:"net"`                         // a key of [Nets], or the path of an .onnx file
	Cut   []string `yaml:"cut" json:"cut"`                         // values of the file, or layers of a named network
	Input Input    `yaml:"input,omitempty" json:"input"`           // what the network expects; a named network knows
	Train []string `yaml:"train,omitempty" json:"train,omitempty"` // patterns (path.Match) of weights to learn; none: frozen

	Channels string `yaml:"channels,omitempty" json:"channels,omitempty"` // axis of the features at a cut: first, last; "" is second of four, last of three
	Pool     string `yaml:"pool,omitempty" json:"pool,omitempty"`         // average: in place of max pooling, which has smoother gradients
	Rectify  string `yaml:"rectify,omitempty" json:"rectify,omitempty"`   // a key of nn.Activations, after each cut
}

// An Input says what a network expects: pixel·Range/255 − Mean, divided by Std,
// for pixels of 0 … 255. Empty means 255, 0 and 1.
type Input struct {
	Range  float64   `yaml:"range,omitempty" json:"range,omitempty"`   // value of the brightest pixel
	Mean   []float64 `yaml:"mean,omitempty" json:"mean,omitempty"`     // one for each channel in the network's order, or one for all
	Std    []float64 `yaml:"std,omitempty" json:"std,omitempty"`       // likewise
	Order  string    `yaml:"order,omitempty" json:"order,omitempty"`   // of channels: rgb (default) or bgr
	Layout string    `yaml:"layout,omitempty" json:"layout,omitempty"` // of the file's input: nchw or nhwc; "" looks at its sizes
}

// Inputs that many networks share.
var (
	// Caffe is that of networks trained with Caffe, and of Keras' VGG and ResNet.
	Caffe = Input{Range: 255, Mean: []float64{103.939, 116.779, 123.68}, Order: "bgr"}
	// ImageNet is that of torchvision and timm.
	ImageNet = Input{Range: 1, Mean: []float64{0.485, 0.456, 0.406}, Std: []float64{0.229, 0.224, 0.225}}
)

// Pixels say which values of x are the darkest and the brightest.
type Pixels struct{ Lo, Hi float64 }

// A Net is a network, cut and ready to be part of a graph.
type Net struct {
	Spec  Spec
	model *graphs.Model // one input; outputs are the cuts
	last  bool          // channels of its input come last
	in    int           // channels of its input
}

// Open cuts a model. It is not changed. The layers that a named network gives
// names to can be used as well as the values of its file.
func Open(m *graphs.Model, s Spec) (*Net, error) {
	n, err := open(m, s)
	if err != nil {
		return nil, fmt.Errorf("backbone: %s: %w", s.Net, err)
	}
	return n, nil
}

func open(m *graphs.Model, s Spec) (*Net, error) {
	named := Nets[s.Net]
	if named.Title != "" && s.Input.empty() {
		s.Input = named.Input
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	m = passes.Clone(m)
	cuts := make([]string, len(s.Cut))
	for i, name := range s.Cut {
		if cuts[i] = name; named.Layers[name] != "" {
			cuts[i] = named.Layers[name]
		}
		if m.Graph.Find(cuts[i]) == nil {
			return nil, fmt.Errorf("cut: no value %q; the nearest are %s", name, nearest(name, append(named.layers(), valuesOf(m.Graph)...)))
		}
	}
	m.Metadata, m.Graph.Metadata = nil, nil
	if err := passes.CutAt(m.Graph, cuts...); err != nil {
		return nil, err
	}
	n := &Net{Spec: s, model: m}
	if err := n.input(); err != nil {
		return nil, err
	}
	if s.Pool == "average" {
		averagePools(n.model.Graph)
	}
	return n, n.freeze()
}

func (in Input) empty() bool {
	return in.Range == 0 && in.Mean == nil && in.Std == nil && in.Order == "" && in.Layout == ""
}

func (s Spec) check() error {
	in := s.Input
	switch {
	case len(s.Cut) == 0:
		return fmt.Errorf("cut: wanted at least one value to cut at, got none")
	case in.Order != "" && in.Order != "rgb" && in.Order != "bgr":
		return fmt.Errorf("input.order: wanted rgb or bgr, got %q", in.Order)
	case in.Layout != "" && in.Layout != "nchw" && in.Layout != "nhwc":
		return fmt.Errorf("input.layout: wanted nchw or nhwc, got %q", in.Layout)
	case in.Range < 0:
		return fmt.Errorf("input.range: wanted a positive number, got %g", in.Range)
	case slices.ContainsFunc(in.Std, func(v float64) bool { return !(v > 0) }):
		return fmt.Errorf("input.std: wanted positive numbers, got %v", in.Std)
	case s.Channels != "" && s.Channels != "first" && s.Channels != "last":
		return fmt.Errorf("channels: wanted first or last, got %q", s.Channels)
	case s.Pool != "" && s.Pool != "average":
		return fmt.Errorf("pool: wanted average or nothing, got %q", s.Pool)
	case s.Rectify != "" && nn.Activations[s.Rectify] == nil:
		return fmt.Errorf("rectify: unknown activation %q", s.Rectify)
	}
	return nil
}

// input finds the one input that the cut values need, and drops the others.
func (n *Net) input() error {
	g := n.model.Graph
	used := map[*graphs.Value]bool{}
	for _, v := range g.Outputs {
		used[v] = true
	}
	for _, node := range g.Nodes {
		for _, v := range node.Inputs {
			used[v] = true
		}
	}
	g.Inputs = slices.DeleteFunc(g.Inputs, func(v *graphs.Value) bool { return v.Const != nil || !used[v] })
	if len(g.Inputs) != 1 {
		return fmt.Errorf("wanted one input before the cut, got %d: %v", len(g.Inputs), g.Inputs)
	}
	x := g.Inputs[0]
	if x.Type != graphs.Float32 || len(x.Shape) != 4 {
		return fmt.Errorf("input: wanted a batch of float32 pictures, got %s", x)
	}
	is := func(d graphs.Dim) bool { return d.N == 1 || d.N == 3 }
	switch layout := n.Spec.Input.Layout; {
	case layout != "":
		n.last = layout == "nhwc"
	case is(x.Shape[1]):
	case is(x.Shape[3]):
		n.last = true
	default:
		return fmt.Errorf("input: %s has neither 1 nor 3 channels on its second or last axis; set input.layout", x)
	}
	c := x.Shape[1]
	if n.last {
		c = x.Shape[3]
	}
	if n.in = 3; c.Known() {
		n.in = int(c.N)
	}
	for name, v := range map[string][]float64{"mean": n.Spec.Input.Mean, "std": n.Spec.Input.Std} {
		if k := len(v); k > 1 && k != n.in {
			return fmt.Errorf("input.%s: wanted one number or %d, got %v", name, n.in, v)
		}
	}
	return nil
}

// freeze gives the weights names that tell which are constants: see [passes.IsWeight].
func (n *Net) freeze() error {
	g := n.model.Graph
	var names []string
	learn := map[string]bool{}
	for _, v := range passes.Weights(g) {
		names = append(names, v.Name)
		for _, pattern := range n.Spec.Train {
			ok, err := path.Match(pattern, v.Name)
			if err != nil {
				return fmt.Errorf("train: pattern %q: %w", pattern, err)
			}
			learn[v.Name] = learn[v.Name] || ok || pattern == "*"
		}
	}
	for _, pattern := range n.Spec.Train {
		if ok := slices.ContainsFunc(names, func(s string) bool { ok, _ := path.Match(pattern, s); return ok || pattern == "*" }); !ok {
			return fmt.Errorf("train: no weight %q; the nearest are %s", pattern, nearest(pattern, names))
		}
	}
	inits := map[string]bool{}
	for _, v := range g.Inits {
		inits[v.Name] = true
	}
	return passes.RenameFunc(g, func(name string) string {
		if inits[name] && !learn[name] {
			return "backbone/const/" + name
		}
		return "backbone/" + name
	})
}

// averagePools turns max pooling into the average over the same windows.
func averagePools(g *graphs.Graph) {
	for _, n := range g.Nodes {
		if n.Op == "MaxPool" && n.Out(1) == nil {
			n.Op = "AveragePool"
			n.Attrs = slices.DeleteFunc(n.Attrs, func(a *graphs.Attr) bool { return a.Name == "storage_order" })
		}
	}
}

// Append appends the network to the graph that reads x [batch, C, H, W], pictures
// with values between pixels.Lo and pixels.Hi, and returns the values at its
// cuts, [batch, K, …] for K features. Grey pictures are shown to a network of
// colours as three equal channels.
func (n *Net) Append(b *graphs.Builder, x *graphs.Value, pixels Pixels) ([]*graphs.Value, error) {
	maps, err := n.append(b, x, pixels)
	if err != nil {
		return nil, fmt.Errorf("backbone: %s: %w", n.Spec.Net, err)
	}
	return maps, nil
}

func (n *Net) append(b *graphs.Builder, x *graphs.Value, pixels Pixels) ([]*graphs.Value, error) {
	if err := b.Err(); err != nil {
		return nil, err
	}
	if len(x.Shape) != 4 || !x.Shape[1].Known() || x.Shape[1].N != int64(n.in) && x.Shape[1].N != 1 {
		return nil, fmt.Errorf("wanted pictures of %d channels, got %s", n.in, x)
	}
	if !(pixels.Lo < pixels.Hi) {
		return nil, fmt.Errorf("wanted a range of pixel values, got %g to %g", pixels.Lo, pixels.Hi)
	}
	part, err := n.sized(x.Shape)
	if err != nil {
		return nil, err
	}
	old := b.Prefix("picture")
	x = n.picture(b, x, pixels)
	b.Prefix(old)
	if err := b.Err(); err != nil {
		return nil, err
	}
	made, err := passes.Inline(b, part, map[string]*graphs.Value{part.Inputs[0].Name: x}, "")
	if err != nil {
		return nil, err
	}
	defer b.Prefix(b.Prefix("features"))
	maps := make([]*graphs.Value, len(part.Outputs))
	for i, v := range part.Outputs {
		h := made[v.Name]
		if n.Spec.Channels == "last" || n.Spec.Channels == "" && len(h.Shape) == 3 {
			perm := []int64{0, int64(len(h.Shape) - 1)}
			for axis := range len(h.Shape) - 2 {
				perm = append(perm, int64(axis+1))
			}
			h = b.Transpose(h, perm...)
		}
		if f := nn.Activations[n.Spec.Rectify]; f != nil {
			h = f(b, h)
		}
		maps[i] = h
	}
	return maps, b.Err()
}

// picture turns x into what the network expects.
func (n *Net) picture(b *graphs.Builder, x *graphs.Value, p Pixels) *graphs.Value {
	in := n.Spec.Input
	if c := x.Shape[1].N; c == 1 && n.in == 3 {
		x = b.Concat(1, x, x, x)
	} else if in.Order == "bgr" && n.in == 3 {
		x = b.Gather(x, b.Ints(2, 1, 0), 1)
	}
	full := in.Range
	if full == 0 {
		full = 255
	}
	of := func(v []float64, c int, none float64) float64 {
		switch len(v) {
		case 0:
			return none
		case 1:
			return v[0]
		}
		return v[c]
	}
	gain, offset := make([]float32, n.in), make([]float32, n.in)
	for c := range n.in {
		unit, std := full/(p.Hi-p.Lo), of(in.Std, c, 1)
		gain[c] = float32(unit / std)
		offset[c] = float32((-p.Lo*unit - of(in.Mean, c, 0)) / std)
	}
	x = b.Add(b.Mul(x, b.Const(graphs.Of(gain, n.in, 1, 1))), b.Const(graphs.Of(offset, n.in, 1, 1)))
	return x
}

// sized is the network for pictures of the given shape [batch, C, H, W].
func (n *Net) sized(x graphs.Shape) (*graphs.Graph, error) {
	m := passes.Clone(n.model)
	in := m.Graph.Inputs[0]
	was, frozen := in.Shape, in.Shape[0].Known() && !x[0].Known()
	in.Shape = graphs.Shape{x[0], graphs.D(n.in), x[2], x[3]}
	if frozen { // the graph may hold the batch that it was exported with
		in.Shape[0] = was[0]
	}
	for _, node := range m.Graph.Nodes { // sizes that the file declares are those of its own input
		for _, v := range node.Outputs {
			if v != nil {
				v.Shape, v.Content = nil, nil
			}
		}
	}
	if n.last {
		turn(m.Graph)
	}
	where := fmt.Sprintf("pictures of %v, where the file declares %v", x, was)
	var err error
	if frozen {
		if m, _, err = passes.FreeBatch(m, x[0].Name); err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
	}
	if m, err = autodiff.Prepare(m); err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	if err := channelsFirst(m.Graph); err != nil {
		return nil, err
	}
	for i, v := range m.Graph.Outputs {
		if len(v.Shape) < 2 || !v.Shape[0].Same(x[0]) || !v.Shape[1:].Known() {
			return nil, fmt.Errorf("%s: cut %q is %v: the file fixes its batch or size", where, n.Spec.Cut[i], v.Shape)
		}
	}
	return m.Graph, nil
}

// Features is the network as what an energy is linear in: see [energy.Linear].
func (n *Net) Features(pixels Pixels) energy.Features {
	return func(b *graphs.Builder, x *graphs.Value) []*graphs.Value {
		maps, err := n.Append(b, x, pixels)
		if err != nil {
			b.Fail("%w", err)
			return nil
		}
		return maps
	}
}

// metaKey is where a model says what it was built on.
const metaKey = "ebmrun.backbone"

// Record notes the network, its cuts and its preprocessing in the model's metadata.
func (n *Net) Record(m *onnxmodels.Model) error {
	text, err := json.Marshal(n.Spec)
	if err == nil {
		m.SetMeta(metaKey, string(text))
	}
	return err
}

// Recorded returns what [Net.Record] noted; false if there is nothing.
func Recorded(m *graphs.Model) (s Spec, ok bool) {
	text := m.Meta(metaKey)
	return s, text != "" && json.Unmarshal([]byte(text), &s) == nil
}
