// Package passes rewrites graphs: copying, joining, cutting and renaming them,
// moving weights between inputs and initializers, simplifying, and raising
// models of older opsets to the one this module works with.
//
// A pass changes the graph it is given and says whether it did; pass a
// [CloneGraph] to keep the original. A pass expects what [graphs.Check]
// verifies (nodes in topological order, each value defined once) and leaves it
// true; a [graphs.Builder] made before a pass is not to be used after it, for it
// may hold values that are gone. After an error the graph is in no defined
// state. Tensors are shared
// between graphs and their copies, never copied: they are immutable.
package passes
