// Package refeval evaluates graphs in plain Go: the reference for the meaning of
// every op in the op table of package graphs. It computes in float64 for
// checking gradients and kernels against, folds constants, and is fast enough to
// run small networks where no other engine is at hand.
//
// Ops have the forms of opset 21; graphs of older opsets are raised first.
package refeval
