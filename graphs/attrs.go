package graphs

import (
	"fmt"
	"strings"
)

// kinds names the attributes that ops of opsets 9 to 25 share, by their kind; the
// value of Constant and of an old Pad is not among them.
var kinds = kindsByName(map[AttrKind]string{
	AttrInt: `align_corners allowzero antialias axis batch_axis batch_dims block_size blocksize ceil_mode center_point_box count_include_pad detect_negative detect_positive
		dtype end exclude_outside exclusive fmod group hidden_size ignore_index input_forget interleaved inverse is_causal k keepdims kv_num_heads largest left_window_size
		layout linear_before_reset noop_with_empty_axes num_groups num_heads num_outputs num_scan_inputs offset_group onesided output_dtype output_height output_width p
		q_num_heads qk_matmul_output_mode reverse right_window_size rotary_embedding_dim sampling_ratio saturate select_last_index size softmax_precision sorted spatial start
		stash_type storage_order time_axis to training_mode transA transB upper`,
	AttrFloat:   "alpha beta bias clip cubic_coeff_a epsilon extrapolation_value gamma lambd momentum ratio scale softcap spatial_scale",
	AttrString:  "approximate auto_pad coordinate_transformation_mode direction equation keep_aspect_ratio_policy mode nearest_mode padding_mode reduction round_mode",
	AttrInts:    "axes dilations ends kernel_shape output_padding output_shape pads perm pooled_shape scan_input_axes scan_input_directions scan_output_axes scan_output_directions split starts strides",
	AttrFloats:  "activation_alpha activation_beta scales",
	AttrStrings: "activations",
})

func kindsByName(table map[AttrKind]string) map[string]AttrKind {
	kinds := map[string]AttrKind{}
	for kind, names := range table {
		for _, name := range strings.Fields(names) {
			kinds[name] = kind
		}
	}
	return kinds
}

func (k AttrKind) String() string {
	names := []string{"undefined", "float", "int", "string", "tensor", "graph", "floats", "ints", "strings", "tensors", "graphs"}
	if k >= 0 && int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", int32(k))
}

// checkAttrs refuses attributes of a wrong kind, which would pass for absent ones.
func checkAttrs(n *Node) error {
	for _, a := range n.Attrs {
		if want := kinds[a.Name]; want != 0 && a.Kind != want && a.Ref == "" {
			return fmt.Errorf("attribute %s: wanted kind %s, got %s", a.Name, want, a.Kind)
		}
	}
	return nil
}
