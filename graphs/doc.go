// Package graphs is an intermediate representation of ONNX graphs.
//
// A [Model] holds a [Graph] of [Node]s and [Value]s; a [Builder] appends nodes
// with their types and shapes worked out by the op table (see [Infer]); package
// graphs/onnxio reads and writes the .onnx bytes. Unknown ops, attributes and
// metadata are kept as they were read, so that a file can be read and written
// back with nothing lost.
//
// Values are pointers inside and names at the edge: two values never share a
// name within a graph, and names are handed out in one place, [Graph.Fresh].
package graphs
