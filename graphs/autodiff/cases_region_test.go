package autodiff

import "ebmrun/graphs"

// boxes are regions [count, 4] with the given corners and extents.
func boxes(b *graphs.Builder, corner, extent val) val {
	return b.Concat(1, corner, b.Add(corner, extent))
}

// roi is a RoiAlign of three regions of two images.
func roi(attrs ...*graphs.Attr) func(b *graphs.Builder, x []val) val {
	return func(b *graphs.Builder, x []val) val {
		return b.Op("RoiAlign", []val{x[0], boxes(b, x[1], x[2]), b.Ints(1, 0, 1)}, append(attrs, graphs.I("output_height", 2), graphs.I("output_width", 3))...)
	}
}

var regionCases = func() []gradCase {
	image, corner, extent := in(2, 2, 5, 6), in(3, 2).within(-2.5, 2.5), in(3, 2).within(0.2, 7)
	halves, ratio, largest := graphs.S("coordinate_transformation_mode", "output_half_pixel"), func(n int64) *graphs.Attr { return graphs.I("sampling_ratio", n) }, graphs.S("mode", "max")
	pooled := func(b *graphs.Builder, x []val) val {
		rois := f64(b, []int{3, 5}, 1, -2, 1, 3, 2, 0, 2.6, 0, 7, 9, 1, 1.2, 1.6, 1.2, 1.6)
		return b.Op("MaxRoiPool", []val{x[0], rois}, ai("pooled_shape", 2, 3), graphs.F("spatial_scale", 0.75))
	}
	moves := func(dims ...int) arg { return in(dims...).within(-1.4, 1.4) }
	return []gradCase{
		{"RoiAlign", "", []arg{image, corner, extent}, roi(ratio(2), graphs.F("spatial_scale", 0.75))},
		{"RoiAlign", "whole pixels", []arg{image, corner, extent}, roi(ratio(3), halves)},
		{"RoiAlign", "as many points as it needs", []arg{image, corner, extent}, roi()},
		{"RoiAlign", "as many points as it needs, whole pixels", []arg{image, corner, extent}, roi(halves, graphs.F("spatial_scale", 1.5))},
		{"RoiAlign", "largest", []arg{image, corner, extent}, roi(ratio(2), largest)},
		{"RoiAlign", "largest of as many points as it needs", []arg{image, corner, extent}, roi(largest, graphs.F("spatial_scale", 1.5))},
		{"RoiAlign", "regions turned inside out", []arg{image, corner, in(3, 2).within(-3, -1)}, roi()},
		{"RoiAlign", "largest, turned inside out", []arg{image, corner, in(3, 2).within(-3, -1)}, roi(largest)},
		{"MaxRoiPool", "", []arg{image}, pooled},
		{"DeformConv", "", []arg{in(2, 2, 4, 5), in(3, 2, 2, 3), moves(2, 12, 3, 3)}, op1("DeformConv")},
		{"DeformConv", "mask, bias, pads, strides, dilations", []arg{in(1, 2, 5, 6), in(3, 2, 2, 2), moves(1, 8, 4, 3), in(3), in(1, 4, 4, 3)},
			op1("DeformConv", ai("pads", 1, 1, 2, 0), ai("strides", 2, 2), ai("dilations", 1, 2), ai("kernel_shape", 2, 2))},
		{"DeformConv", "groups", []arg{in(2, 4, 3, 3), in(6, 2, 2, 2), moves(2, 32, 2, 2)}, op1("DeformConv", graphs.I("group", 2), graphs.I("offset_group", 4))},
		{"DeformConv", "offset groups and mask", []arg{in(2, 4, 3, 3), in(2, 4, 1, 2), moves(2, 8, 3, 3), in(2), in(2, 4, 3, 3)}, op1("DeformConv", graphs.I("offset_group", 2), ai("pads", 0, 1, 0, 0))},
	}
}()
