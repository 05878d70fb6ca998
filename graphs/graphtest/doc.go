// Package graphtest has what tests of graphs share: gradients checked against
// central differences in float64, random inputs that suit an op's domain, and
// graphs as text for golden files.
package graphtest
