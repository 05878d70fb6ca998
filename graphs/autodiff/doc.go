// Package autodiff turns an ONNX graph into the ONNX graph of its gradient.
//
// [Grad] makes a model that computes the outputs of a given one and the slopes
// of one output with respect to chosen inputs and weights. [Append] does the
// same inside a graph under construction. Both walk back from the output and
// apply, node by node, the [Rule] of the node's op; composite ops (LayerNorm,
// Gelu, …) are first rewritten into primitives, and recurrent layers, loops and
// branches of known extent are unrolled. docs/ops.md lists every op.
//
// Everything that a rule emits is in standard ONNX opset 21 and has a rule
// itself, so a gradient can be differentiated again. An op without a rule is
// an error (wrapping [ErrNoRule]) that names the node; nothing is approximated.
//
// Where a function has a kink, the slope follows the usual choice of training
// frameworks: 0 for Relu and Abs at 0, 1 for Clip at its bounds; Max, Min,
// ReduceMax and ReduceMin share the slope evenly among ties.
package autodiff
