package runtime

import (
	"fmt"

	"ebmrun/graphs"
)

// A KernelError says that a library has no implementation of an op for an
// element type, although the graph is right.
type KernelError struct {
	Op   string
	Type graphs.DType // Undefined if the library does not let it be known
	Node string
	Err  error // in the library's words
}

func (e *KernelError) Error() string {
	if e.Type == graphs.Undefined {
		return fmt.Sprintf("no kernel for %s (node %q): %v", e.Op, e.Node, e.Err)
	}
	return fmt.Sprintf("no kernel for %s of %v (node %q): %v", e.Op, e.Type, e.Node, e.Err)
}

func (e *KernelError) Unwrap() error { return e.Err }
