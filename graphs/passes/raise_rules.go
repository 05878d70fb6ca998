package passes

import (
	"errors"
	"fmt"
	"slices"

	"ebmrun/graphs"
)

// A raiseRule rewrites one node: it either changes n and returns errUnchanged,
// which appends n after its subgraphs, or appends what stands for it.
type raiseRule func(r *raiser, n *graphs.Node) error

// raiseRules lists the ops whose form or meaning changed between opset 9 and 21,
// and those that others spell out: those of opsets 23 and 24, and Compress in any. For every other op the
// later versions only take more types.
var raiseRules = map[string]raiseRule{
	"ReduceSum": axesToInput(13), "ReduceMean": axesToInput(18), "ReduceMax": axesToInput(18), "ReduceMin": axesToInput(18),
	"ReduceProd": axesToInput(18), "ReduceL1": axesToInput(18), "ReduceL2": axesToInput(18), "ReduceLogSum": axesToInput(18),
	"ReduceLogSumExp": axesToInput(18), "ReduceSumSquare": axesToInput(18),
	"Squeeze": axesToInput(13), "Unsqueeze": axesToInput(13),
	"Clip": raiseClip, "Pad": raisePad, "Slice": raiseSlice, "TopK": raiseTopK, "Split": raiseSplit, "Dropout": raiseDropout,
	"Softmax": raiseSoftmax, "LogSoftmax": raiseSoftmax, "Hardmax": raiseSoftmax,
	"BatchNormalization": raiseBatchNorm, "GroupNormalization": raiseGroupNorm,
	"Scatter": raiseScatter, "Upsample": raiseResize, "Resize": raiseResize,
	"DFT": raiseDFT, "GridSample": raiseGridSample, "RoiAlign": raiseRoiAlign,
	"Compress": spellCompress,
	"Swish":    lowerSwish, "Cast": dropRounding, "CastLike": dropRounding,
	"RMSNormalization": lowerRMSNorm, "QuantizeLinear": lowerQuantize, "DequantizeLinear": lowerQuantize,
}

// newOps are the ops of opsets 23 to 25 that are refused.
var newOps = map[string]bool{"Attention": true, "RotaryEmbedding": true, "TensorScatter": true}

// bfloatSince22 are the ops to which opset 22 only added bfloat16.
var bfloatSince22 = func() map[string]bool {
	set := map[string]bool{}
	for _, op := range []string{
		"Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "AveragePool", "Bernoulli", "Conv", "ConvTranspose", "Cos", "Cosh",
		"DeformConv", "Det", "Elu", "EyeLike", "GRU", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool",
		"GridSample", "HardSigmoid", "HardSwish", "InstanceNormalization", "LSTM", "LpNormalization", "LpPool", "MaxPool",
		"MaxRoiPool", "MaxUnpool", "Mish", "Multinomial", "NegativeLogLikelihoodLoss", "RNN", "RandomNormal",
		"RandomNormalLike", "RandomUniform", "RandomUniformLike", "RoiAlign", "Round", "Selu", "Sin", "Sinh", "Softplus",
		"Softsign", "Tan", "ThresholdedRelu",
	} {
		set[op] = true
	}
	return set
}()

// intsToInput turns an integer list attribute into input i; an absent attribute
// leaves the input out.
func intsToInput(r *raiser, n *graphs.Node, attr string, i int) error {
	a := n.Attr(attr)
	if a == nil {
		return nil
	}
	if a.Ref != "" {
		return fmt.Errorf("attribute %s refers to the function's attribute %q: no form in opset %d", attr, a.Ref, graphs.OpsetVersion)
	}
	if a.Kind != graphs.AttrInts {
		return fmt.Errorf("attribute %s: wanted a list of integers, got kind %d", attr, a.Kind)
	}
	drop(n, attr)
	v, err := r.constant(n, graphs.Ints(a.Ints...))
	set(n, i, v)
	return err
}

// axesToInput: the attribute axes became input 1 in the given opset.
func axesToInput(version int64) raiseRule {
	return func(r *raiser, n *graphs.Node) error {
		if r.since < version {
			if err := intsToInput(r, n, "axes", 1); err != nil {
				return err
			}
		}
		return errUnchanged
	}
}

// raiseClip: min and max became inputs in opset 11.
func raiseClip(r *raiser, n *graphs.Node) error {
	if r.since < 11 {
		for i, attr := range []string{"min", "max"} {
			a := n.Attr(attr)
			if a == nil {
				continue
			}
			drop(n, attr)
			v, err := r.like(n, n.Inputs[0], float64(a.F))
			if err != nil {
				return err
			}
			set(n, i+1, v)
		}
	}
	return errUnchanged
}

// raisePad: pads and value became inputs in opset 11.
func raisePad(r *raiser, n *graphs.Node) error {
	if r.since >= 11 {
		return errUnchanged
	}
	if err := intsToInput(r, n, "pads", 1); err != nil {
		return err
	}
	if value := n.Float("value", 0); value != 0 && n.Str("mode", "constant") == "constant" {
		v, err := r.like(n, n.Inputs[0], value)
		if err != nil {
			return err
		}
		set(n, 2, v)
	}
	drop(n, "value")
	return errUnchanged
}

// raiseSlice: starts, ends and axes became inputs in opset 10.
func raiseSlice(r *raiser, n *graphs.Node) error {
	if r.since < 10 {
		for i, attr := range []string{"starts", "ends", "axes"} {
			if err := intsToInput(r, n, attr, i+1); err != nil {
				return err
			}
		}
	}
	return errUnchanged
}

// raiseTopK: k became an input in opset 10.
func raiseTopK(r *raiser, n *graphs.Node) error {
	if r.since < 10 {
		k, err := r.constant(n, graphs.Ints(n.Int("k", 0)))
		if err != nil {
			return err
		}
		drop(n, "k")
		set(n, 1, k)
	}
	return errUnchanged
}

// raiseSplit: sizes became an input in opset 13, and since opset 18 a node
// without them names the number of its outputs.
func raiseSplit(r *raiser, n *graphs.Node) error {
	if r.since < 13 {
		if err := intsToInput(r, n, "split", 1); err != nil {
			return err
		}
	}
	if r.since < 18 && n.In(1) == nil {
		n.Inputs = n.Inputs[:1]
		setAttr(n, graphs.I("num_outputs", int64(len(n.Outputs))))
	}
	return errUnchanged
}

// raiseDropout: the ratio became an input in opset 12; a node without the new
// input training_mode drops nothing, then as now. The mask was no bool before
// opset 10: one that is used is refused.
func raiseDropout(r *raiser, n *graphs.Node) error {
	if r.since >= 12 {
		return errUnchanged
	}
	if r.since < 10 {
		if r.used[n.Out(1)] {
			return fmt.Errorf("the mask of a Dropout before opset 10 has no form in opset %d", graphs.OpsetVersion)
		}
		n.Outputs = n.Outputs[:1]
	}
	if a := n.Attr("ratio"); a != nil {
		drop(n, "ratio")
		v, err := r.constant(n, graphs.Of([]float32{a.F}))
		if err != nil {
			return err
		}
		set(n, 1, v)
	}
	return errUnchanged
}

// raiseSoftmax: until opset 13 all axes from axis on were one, and the default
// was 1. Where more than one of them counts, the node works on a flattened copy.
func raiseSoftmax(r *raiser, n *graphs.Node) error {
	if r.since >= 13 {
		return errUnchanged
	}
	x := n.Inputs[0]
	axis := n.Int("axis", 1)
	if axis == -1 {
		return errUnchanged
	}
	if rank := x.Rank(); rank >= 0 {
		first, err := graphs.NormAxis(axis, rank)
		if err != nil {
			return err
		}
		last, several := rank-1, 0
		for i := first; i < rank; i++ {
			if d := x.Shape[i]; !d.Known() || d.N != 1 {
				last = i
				several++
			}
		}
		if several <= 1 {
			setAttr(n, graphs.I("axis", int64(last)))
			return errUnchanged
		}
	}
	flat, err := r.op(n, "Flatten", []*graphs.Value{x}, graphs.I("axis", axis))
	if err != nil {
		return err
	}
	y, err := r.op(n, n.Op, []*graphs.Value{flat}, graphs.I("axis", -1))
	if err != nil {
		return err
	}
	shape, err := r.op(n, "Shape", []*graphs.Value{x})
	if err != nil {
		return err
	}
	n.Op, n.Inputs, n.Attrs = "Reshape", []*graphs.Value{y, shape}, nil
	return r.add(n)
}

// raiseBatchNorm: until opset 14 a node with more than one output was one in
// training mode, which updates its statistics; that is refused.
func raiseBatchNorm(r *raiser, n *graphs.Node) error {
	if r.since >= 14 {
		return errUnchanged
	}
	if slices.ContainsFunc(n.Outputs[1:], func(v *graphs.Value) bool { return v != nil }) {
		return errors.New("training-mode BatchNormalization: wanted one output, got several; export the model in inference mode")
	}
	if n.Int("spatial", 1) == 0 {
		return fmt.Errorf("BatchNormalization with spatial = 0 has no form in opset %d", graphs.OpsetVersion)
	}
	n.Outputs = n.Outputs[:1]
	drop(n, "spatial")
	return errUnchanged
}

// raiseGroupNorm: scale and bias, one per group in opsets 18 to 20, are one per
// channel since opset 21.
func raiseGroupNorm(r *raiser, n *graphs.Node) error {
	if r.since >= 21 {
		return errUnchanged
	}
	if n.In(1) == nil || n.In(2) == nil {
		return errors.New("scale or bias is missing")
	}
	x, groups := n.Inputs[0], n.Int("num_groups", 1)
	var repeats *graphs.Value // [1, channels of a group]
	if x.Rank() > 1 && x.Shape[1].Known() && groups > 0 {
		v, err := r.constant(n, graphs.Ints(1, x.Shape[1].N/groups))
		if err != nil {
			return err
		}
		repeats = v
	} else {
		channels, err := r.op(n, "Shape", []*graphs.Value{x}, graphs.I("start", 1), graphs.I("end", 2))
		if err != nil {
			return err
		}
		g, err := r.constant(n, graphs.Ints(groups))
		if err != nil {
			return err
		}
		each, err := r.op(n, "Div", []*graphs.Value{channels, g})
		if err != nil {
			return err
		}
		one, err := r.constant(n, graphs.Ints(1))
		if err != nil {
			return err
		}
		if repeats, err = r.op(n, "Concat", []*graphs.Value{one, each}, graphs.I("axis", 0)); err != nil {
			return err
		}
	}
	axis, err := r.constant(n, graphs.Ints(1))
	if err != nil {
		return err
	}
	flat, err := r.constant(n, graphs.Ints(-1))
	if err != nil {
		return err
	}
	for i := 1; i <= 2; i++ {
		v, err := r.op(n, "Unsqueeze", []*graphs.Value{n.Inputs[i], axis})
		if err != nil {
			return err
		}
		if v, err = r.op(n, "Tile", []*graphs.Value{v, repeats}); err != nil {
			return err
		}
		if v, err = r.op(n, "Reshape", []*graphs.Value{v, flat}); err != nil {
			return err
		}
		n.Inputs[i] = v
	}
	if x.Type == graphs.Float64 {
		setAttr(n, graphs.I("stash_type", int64(graphs.Float64))) // the default would round to float32
	}
	return errUnchanged
}

// raiseScatter: Scatter is ScatterElements since opset 11.
func raiseScatter(_ *raiser, n *graphs.Node) error {
	n.Op = "ScatterElements"
	return errUnchanged
}

// spellCompress: the elements that a condition picks are those at its true places.
func spellCompress(r *raiser, n *graphs.Node) error {
	if n.In(1) == nil {
		return errors.New("wanted a condition, got none")
	}
	line, err := r.constant(n, graphs.Ints(-1))
	if err != nil {
		return err
	}
	at, err := r.op(n, "NonZero", []*graphs.Value{n.In(1)})
	if err != nil {
		return err
	}
	if at, err = r.op(n, "Reshape", []*graphs.Value{at, line}); err != nil {
		return err
	}
	x := n.Inputs[0]
	if n.Attr("axis") == nil {
		if x, err = r.op(n, "Reshape", []*graphs.Value{x, line}); err != nil {
			return err
		}
	}
	n.Op, n.Inputs = "Gather", []*graphs.Value{x, at}
	return errUnchanged
}

// raiseResize: Upsample and the Resize of opset 10 sample at i/scale, nearest
// rounding down when enlarging and up when shrinking. Opset 11 marks the absent
// one of scales and sizes by an empty tensor, later ones by leaving it out.
//
// The mode tf_half_pixel_for_nn, which went with opset 13 and is still written, takes
// the element under the middle of the new one: what half_pixel takes rounding up.
func raiseResize(r *raiser, n *graphs.Node) error {
	if n.Str("coordinate_transformation_mode", "") == "tf_half_pixel_for_nn" {
		if n.Str("mode", "nearest") != "nearest" || n.Str("nearest_mode", "") != "floor" {
			return fmt.Errorf("coordinate_transformation_mode tf_half_pixel_for_nn has no form in opset %d", graphs.OpsetVersion)
		}
		setAttr(n, graphs.S("coordinate_transformation_mode", "half_pixel"))
		setAttr(n, graphs.S("nearest_mode", "round_prefer_ceil"))
	}
	if r.since >= 13 {
		return errUnchanged
	}
	if r.since >= 11 {
		if n.In(3) != nil {
			n.Inputs[2] = nil
		}
		if roi := n.In(1); roi != nil && roi.Const != nil && roi.Const.Len() == 0 {
			n.Inputs[1] = nil
		}
		return errUnchanged
	}
	scales := n.In(1)
	if scales == nil {
		return errors.New("scales are missing")
	}
	enlarges := n.Op == "Upsample" // by definition
	n.Op, n.Inputs = "Resize", []*graphs.Value{n.Inputs[0], nil, scales}
	setAttr(n, graphs.S("coordinate_transformation_mode", "asymmetric"))
	if n.Str("mode", "nearest") == "bilinear" {
		setAttr(n, graphs.S("mode", "linear"))
	}
	if n.Str("mode", "nearest") != "nearest" {
		return errUnchanged
	}
	rounding := "floor"
	if !enlarges {
		if scales.Const == nil {
			return errors.New("nearest resizing by scales computed at run time: the direction of rounding is not known")
		}
		s, err := scales.Const.AsFloats()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(s, func(f float64) bool { return f < 1 }) {
			rounding = "ceil"
			if slices.ContainsFunc(s, func(f float64) bool { return f > 1 }) {
				return fmt.Errorf("nearest resizing that enlarges one axis and shrinks another has no form in opset %d", graphs.OpsetVersion)
			}
		}
	}
	setAttr(n, graphs.S("nearest_mode", rounding))
	return errUnchanged
}

// raiseDFT: the axis became an input in opset 20, with another default.
func raiseDFT(r *raiser, n *graphs.Node) error {
	if r.since < 20 {
		axis, err := r.constant(n, graphs.Of([]int64{n.Int("axis", 1)}))
		if err != nil {
			return err
		}
		drop(n, "axis")
		set(n, 2, axis)
	}
	return errUnchanged
}

// raiseGridSample: bilinear and bicubic are linear and cubic since opset 20.
func raiseGridSample(r *raiser, n *graphs.Node) error {
	if r.since < 20 {
		switch n.Str("mode", "bilinear") {
		case "bilinear":
			setAttr(n, graphs.S("mode", "linear"))
		case "bicubic":
			setAttr(n, graphs.S("mode", "cubic"))
		}
	}
	return errUnchanged
}

// raiseRoiAlign: opset 16 made half_pixel the default.
func raiseRoiAlign(r *raiser, n *graphs.Node) error {
	if r.since < 16 {
		setAttr(n, graphs.S("coordinate_transformation_mode", "output_half_pixel"))
	}
	return errUnchanged
}

// lowerSwish: x·sigmoid(alpha·x), an op since opset 24.
func lowerSwish(r *raiser, n *graphs.Node) error {
	x := n.Inputs[0]
	alpha, err := r.like(n, x, n.Float("alpha", 1))
	if err != nil {
		return err
	}
	s, err := r.op(n, "Mul", []*graphs.Value{x, alpha})
	if err == nil {
		s, err = r.op(n, "Sigmoid", []*graphs.Value{s})
	}
	if err != nil {
		return err
	}
	n.Op, n.Inputs, n.Attrs = "Mul", []*graphs.Value{x, s}, nil
	return errUnchanged
}

// dropRounding: how to round to a type that opset 21 lacks, since opset 24.
func dropRounding(r *raiser, n *graphs.Node) error {
	drop(n, "round_mode")
	return errUnchanged
}

// lowerQuantize: attributes new in opset 23.
func lowerQuantize(r *raiser, n *graphs.Node) error {
	if r.since < 23 {
		return errUnchanged
	}
	attr := "precision"
	if n.Op == "DequantizeLinear" {
		attr = "output_dtype"
	}
	if n.Int(attr, 0) != 0 {
		return fmt.Errorf("%s with %s has no form in opset %d", n.Op, attr, graphs.OpsetVersion)
	}
	drop(n, attr)
	return errUnchanged
}

// lowerRMSNorm spells out y = scale · x / √(mean(x²) + epsilon), the mean over
// the axes from axis on and computed in the stash type.
func lowerRMSNorm(r *raiser, n *graphs.Node) error {
	if n.In(1) == nil {
		return errors.New("scale is missing")
	}
	x, scale := n.Inputs[0], n.Inputs[1]
	if x.Rank() < 0 {
		return fmt.Errorf("the rank of input %q must be known", x.Name)
	}
	axis, err := graphs.NormAxis(n.Int("axis", -1), x.Rank())
	if err != nil {
		return err
	}
	axes := []int64{}
	for a := axis; a < x.Rank(); a++ {
		axes = append(axes, int64(a))
	}
	op := func(op string, in []*graphs.Value, attrs ...*graphs.Attr) (v *graphs.Value) {
		if err == nil {
			v, err = r.op(n, op, in, attrs...)
		}
		return v
	}
	stash := graphs.DType(n.Int("stash_type", int64(graphs.Float32)))
	u := x
	if x.Type != stash {
		u = op("Cast", []*graphs.Value{x}, graphs.I("to", int64(stash)))
	}
	over, err2 := r.constant(n, graphs.Ints(axes...))
	eps, err3 := r.like(n, &graphs.Value{Type: stash}, n.Float("epsilon", 1e-5))
	if err := errors.Join(err2, err3); err != nil {
		return err
	}
	mean := op("ReduceMean", []*graphs.Value{op("Mul", []*graphs.Value{u, u}), over})
	y := op("Div", []*graphs.Value{u, op("Sqrt", []*graphs.Value{op("Add", []*graphs.Value{mean, eps})})})
	if x.Type != stash {
		if x.Type == graphs.Undefined {
			y = op("CastLike", []*graphs.Value{y, x})
		} else {
			y = op("Cast", []*graphs.Value{y}, graphs.I("to", int64(x.Type)))
		}
	}
	if err != nil {
		return err
	}
	n.Op, n.Inputs, n.Attrs = "Mul", []*graphs.Value{y, scale}, nil
	return r.add(n)
}
