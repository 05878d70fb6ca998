package refeval

import (
	"testing"

	"ebmrun/graphs"
)

// TestTable compares the keys of the op table and of the table of kernels.
func TestTable(t *testing.T) {
	known := map[string]bool{"If": true, "Loop": true, "Scan": true} // shapes come from their subgraphs
	for _, op := range graphs.Ops() {
		known[op] = true
		if kernels[op] == nil {
			t.Errorf("%s is in the op table and has no kernel", op)
		}
	}
	for op := range kernels {
		if !known[op] {
			t.Errorf("%s has a kernel and is not in the op table", op)
		}
	}
}
