package graphs

import (
	"fmt"
	"slices"
)

// regionShapes: ops that read an image at computed places, by regions or with
// offsets.
func regionShapes() map[string]func(*inferer) error {
	return map[string]func(*inferer) error{"RoiAlign": inferRoiAlign, "MaxRoiPool": inferMaxRoiPool, "DeformConv": inferDeformConv, "NonMaxSuppression": inferNonMax}
}

// A Region is the grid that a RoiAlign or MaxRoiPool node lays over each region.
type Region struct {
	Height, Width int     // of the result
	Scale         float64 // from the coordinates of regions to elements
	Samples       int     // RoiAlign: points a cell and axis, 0 for ⌈extent of the cell⌉
	Half          bool    // RoiAlign: elements have their centres at halves
	Max           bool    // RoiAlign: the largest of the points' weighted elements, not their mean
}

// RegionOf reads the attributes of such a node and checks the shapes of its inputs.
func RegionOf(n *Node) (*Region, error) {
	r := &Region{Scale: n.Float("spatial_scale", 1)}
	size := []int64{n.Int("output_height", 1), n.Int("output_width", 1)}
	columns := int64(4)
	if n.Op == "MaxRoiPool" {
		size, columns = n.Ints("pooled_shape"), 5
	}
	if len(size) != 2 || size[0] < 1 || size[1] < 1 || size[0] > 1<<16 || size[1] > 1<<16 {
		return nil, fmt.Errorf("a grid of size %v", size)
	}
	r.Height, r.Width = int(size[0]), int(size[1])
	if n.Op == "RoiAlign" {
		mode, place, samples := n.Str("mode", "avg"), n.Str("coordinate_transformation_mode", "half_pixel"), n.Int("sampling_ratio", 0)
		if !slices.Contains([]string{"avg", "max"}, mode) || !slices.Contains([]string{"half_pixel", "output_half_pixel"}, place) {
			return nil, fmt.Errorf("mode %q with coordinate_transformation_mode %q", mode, place)
		}
		if samples < 0 || samples > 1<<10 {
			return nil, fmt.Errorf("sampling_ratio %d", samples)
		}
		r.Samples, r.Half, r.Max = int(samples), place == "half_pixel", mode == "max"
	}
	x, rois := n.In(0), n.In(1)
	if x == nil || rois == nil || n.Op == "RoiAlign" && n.In(2) == nil {
		return nil, fmt.Errorf("wanted an image, regions and what image each is of")
	}
	if x.Shape != nil && len(x.Shape) != 4 {
		return nil, fmt.Errorf("image %s, wanted [batch, channels, height, width]", x)
	}
	if s := rois.Shape; s != nil && (len(s) != 2 || s[1].Known() && s[1].N != columns) {
		return nil, fmt.Errorf("regions %s, wanted [count, %d]", rois, columns)
	}
	return r, nil
}

func inferRoiAlign(c *inferer) error { return c.regions() }

func inferMaxRoiPool(c *inferer) error { return c.regions() }

func (c *inferer) regions() error {
	r, err := RegionOf(c.n)
	if err != nil {
		return err
	}
	x, s := c.n.In(0), unknownRank(4)
	if c.n.In(1).Shape != nil {
		s[0] = c.n.In(1).Shape[0]
	}
	if x.Shape != nil {
		s[1] = x.Shape[1]
	}
	s[2], s[3] = D(r.Height), D(r.Width)
	c.set(0, x.Type, s)
	return nil
}

// inferDeformConv: x [batch, channels, height, width], kernel, offset [batch,
// 2·taps·groups, …], bias, mask [batch, taps·groups, …].
func inferDeformConv(c *inferer) error {
	offset, err := c.in(2)
	if err != nil {
		return err
	}
	if err := inferConv(c); err != nil {
		return err
	}
	x, y := c.n.In(0), c.n.Out(0).Shape
	if x.Rank() >= 0 && x.Rank() != 4 {
		return fmt.Errorf("image %s, wanted [batch, channels, height, width]", x)
	}
	w, err := WindowOf(c.n)
	if y == nil || err != nil {
		return nil // its size is known at run time
	}
	groups := c.n.Int("offset_group", 1)
	if d := x.Shape[1]; groups < 1 || d.Known() && d.N%groups != 0 {
		return fmt.Errorf("%d offset groups of %s", groups, x)
	}
	for i, v := range []*Value{offset, c.n.In(4)} {
		if v == nil || v.Shape == nil {
			continue
		}
		channels := groups * w.Kernel[0] * w.Kernel[1] * int64(2-i)
		want := Shape{x.Shape[0], {N: channels}, y[2], y[3]}
		for a, d := range want {
			if len(v.Shape) != 4 || d.Known() && v.Shape[a].Known() && v.Shape[a].N != d.N {
				return fmt.Errorf("offset or mask %s, wanted %v", v, want)
			}
		}
	}
	return nil
}

// inferNonMax: boxes [batch, count, 4], scores [batch, classes, count] → [chosen, 3].
func inferNonMax(c *inferer) error {
	for i, name := range []string{"boxes", "scores"} {
		v, err := c.in(i)
		if err != nil {
			return err
		}
		if v.Shape != nil && (len(v.Shape) != 3 || i == 0 && v.Shape[2].Known() && v.Shape[2].N != 4) {
			return fmt.Errorf("%s %s, wanted boxes [batch, count, 4] and scores [batch, classes, count]", name, v)
		}
	}
	c.set(0, Int64, Shape{UnknownDim, D(3)})
	return nil
}
