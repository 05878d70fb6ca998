package autodiff

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"testing"

	"ebmrun/graphs"
)

// opNotes say what an op's entry in the table leaves open.
var opNotes = map[string]string{
	"Abs": "slope 0 at 0", "Relu": "slope 0 at 0", "Clip": "slope 1 at the bounds; the bounds have slopes too",
	"Max": "ties share the slope", "Min": "ties share the slope", "ReduceMax": "ties share the slope", "ReduceMin": "ties share the slope",
	"ReduceL2": "slope 0 at 0", "GlobalMaxPool": "ties share the slope", "MaxPool": "the first of equal elements gets the slope; storage_order 1 refused",
	"BatchNormalization": "inference; training mode refused", "Dropout": "inference; training mode refused",
	"Conv": "any rank, stride, dilation, padding, groups", "ConvTranspose": "any rank, stride, dilation, padding, groups",
	"Resize":     "any mode; antialiased and cropping need known sizes; scales and region are settings",
	"GridSample": "linear, nearest, cubic; zeros, border, reflection",
	"AffineGrid": "size must be constant",
	"RoiAlign":   "both modes and places of elements; slope of the regions too; how many points a cell has is flat",
	"MaxRoiPool": "ties share the slope; the regions are flat",
	"DeformConv": "images; slopes of kernel, offsets, mask and bias too",
	"Pad":        "constant, reflect, edge, wrap; the pads of the latter must be constant",
	"RNN":        "unrolled where the length is known, at most 1024 and the same for all of the batch; a Loop otherwise",
	"GRU":        "unrolled where the length is known, at most 1024 and the same for all of the batch; a Loop otherwise",
	"LSTM":       "unrolled where the length is known, at most 1024 and the same for all of the batch; a Loop otherwise; peepholes",
	"Einsum":     "any equation, ellipses too; a repeated label needs a known size",
	"Attention":  "opsets 23 to 25; past, masks, groups; windows and nonpad_kv_seqlen refused; softcap together with a mask refused (versions of the op differ)",
	"DFT":        "as matrix products: length known, at most 4096; one-sided inverse refused",
	"STFT":       "as a convolution: step and length of the frames constant, at most 4096",
	"Det":        "up to 4×4",
	"LpPool":     "ceil mode refused",
	"ReduceProd": "sizes of the axes must be known; right at zeros",
	"TopK":       "slope of the values",
	"Mod":        "slope of the divisor too",
	"Pow":        "slope of the exponent 0 where the base is not positive",
	"OneHot":     "slope of the two values",
	"Round":      "straight-through where a quantization is so treated",
	"Cast":       "between float types; 0 through others",
	"CumSum":     "both directions, exclusive too",
	"Tile":       "repeats must be constant",
	"Unique":     "slope refused; of integers it needs none",
	"Slice":      "constant axes and steps; starts, ends and sizes may be computed",
	"Where":      "slope of the branches",
	"ScatterND":  "reductions none, add, mul, max, min", "ScatterElements": "reductions none, add, mul, max, min",
	"MaxUnpool": "output_shape other than the inferred one refused",
	"Col2Im":    "constant sizes", "DequantizeLinear": "slope of the scale; not in blocks",
	"QuantizeLinear": "refused; passed with straight-through slopes on request, together with its DequantizeLinear",
	"If":             "at run time too: slopes of what the branches read (weights held inside a branch have none)", "Loop": "written out where the number of passes is known, at most 1024; any other goes back as a Loop: slopes of what it starts with and of what its body reads", "Scan": "written out where the length is known, at most 1024; a Loop otherwise",
	"GatherND": "batch axes too", "NegativeLogLikelihoodLoss": "slope of scores and weights", "SoftmaxCrossEntropyLoss": "slope of scores and weights",
	"Range": "slope of start and step",
}

// opsTable is the text of docs/ops.md.
func opsTable() []byte {
	kinds := Ops()
	for _, op := range graphs.Ops() {
		if kinds[op] == "" {
			kinds[op] = "refused"
		}
	}
	kinds["If"], kinds["Loop"], kinds["Scan"] = "rule", "rule", "unrolled"
	count := map[string]int{}
	checks := map[string]int{}
	checks["If"], checks["Loop"] = 2, 4 // TestIf, TestLoopsOfUnknownLength
	for _, c := range cases {
		checks[c.op]++
	}
	var ops []string
	for op, k := range kinds {
		ops = append(ops, op)
		count[k]++
	}
	slices.Sort(ops)
	var b bytes.Buffer
	fmt.Fprintf(&b, `# Ops that can be differentiated

This table is made from the tables of the code; a test fails where it is out of date (`+"`UPDATE_GOLDEN=1 go test ./graphs/autodiff`"+` renews it).

- **rule** (%d): a gradient rule of its own. **lowered** (%d): rewritten into ops with rules first. **unrolled** (%d): written out where its extent
  is known. **flat** (%d): the slope is 0 wherever it exists. **refused** (%d): known to the reader and the reference evaluator, not differentiated.
- Spelt out before the table is asked: `+"`Compress`"+`, as the places of its condition, and the ops of sequences (`+"`SequenceAt`, `SplitToSequence`, `ConcatFromSequence`"+`
  and the like) of a known number of elements.
- Every op that is not listed, and every op of another domain, is refused on the path of a gradient, with its name and node.
- **checks**: cases compared with finite differences in float64, in first and second order.

| op | kind | first order | second order | checks | note |
|---|---|---|---|--:|---|
`, count["rule"], count["lowered"], count["unrolled"], count["flat"], count["refused"])
	for _, op := range ops {
		first, checked := "yes", fmt.Sprint(checks[op])
		switch kinds[op] {
		case "flat":
			first, checked = "0", ""
		case "refused":
			first, checked = "no", ""
		case "unrolled":
			checked = ""
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", op, kinds[op], first, first, checked, opNotes[op])
	}
	return b.Bytes()
}

// TestOpsTable compares docs/ops.md with the tables of the code.
func TestOpsTable(t *testing.T) {
	const path = "../../docs/ops.md"
	want := opsTable()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is out of date: run UPDATE_GOLDEN=1 go test ./graphs/autodiff", path)
	}
	kinds := Ops()
	for op := range opNotes {
		if known := slices.Contains(graphs.Ops(), op) || op == "If" || op == "Loop" || op == "Scan"; !known && kinds[op] == "" {
			t.Errorf("there is a note on %s, which is in no table", op)
		}
	}
}
