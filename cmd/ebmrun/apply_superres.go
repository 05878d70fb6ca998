package main

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/spf13/cobra"

	"ebmrun/graphs"
	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/pyramid"
	"ebmrun/training/record"
	"ebmrun/training/voxelnet"
)

func superresTask(c *common) *cobra.Command {
	var name string
	var n int
	var factor float64
	cmd, _ := c.task("superres", "Make fine examples of coarse ones",
		`Make examples finer by --factor. A model of shapes takes shapes whose sides are shorter
by a whole factor and gives shapes of its own size with the same block means: those of
--data as they are at the coarse size or, without it, held-out shapes made coarse, and
then the error is told. A model of one picture takes pictures of its own size and gives
larger ones. OUT.npy holds the results, OUT.png shows what was given above them.`,
		"ebmrun apply superres runs/chairs --factor 4 -o refined.png",
		func(ctx context.Context, a *applied) error {
			if n < 1 || !(factor > 1) {
				return badInput(fmt.Errorf("--n and --factor: wanted at least 1 and a number above 1, got %d and %g", n, factor))
			}
			if l, ok := a.Learned.(training.Enlarger); ok {
				return a.enlarge(ctx, l, name, n, factor)
			}
			return a.refine(ctx, a.Learned.(training.Refiner), name, n, factor)
		})
	fl := cmd.Flags()
	fl.StringVar(&name, "data", "", "coarse examples: a name, folder or file (default: held-out examples of the run's data)")
	fl.IntVar(&n, "n", 8, "examples at most")
	fl.Float64Var(&factor, "factor", 2, "how many times finer")
	return cmd
}

// refine makes shapes of the run's size.
func (a *applied) refine(ctx context.Context, l training.Refiner, name string, n int, factor float64) error {
	k := int(factor)
	if factor != math.Floor(factor) || len(a.Dims) != 4 || a.Dims[1]%k+a.Dims[2]%k+a.Dims[3]%k != 0 {
		return badInput(fmt.Errorf("--factor: wanted a whole number that divides the sides of %v, got %g", a.Dims, factor))
	}
	fine := a.Dims
	var truth, coarse []float32
	if name == "" {
		set, err := a.examples(ctx, "", n)
		if err != nil {
			return err
		}
		truth, coarse = set.X(), voxelnet.Coarsen(set.X(), fine, k)
	} else {
		a.Dims = []int{fine[0], fine[1] / k, fine[2] / k, fine[3] / k}
		a.dim = graphs.Size(a.Dims)
		set, err := a.examples(ctx, name, n)
		if a.Dims, a.dim = fine, graphs.Size(fine); err != nil {
			return err
		}
		coarse = set.X()
	}
	y, err := l.Refine(ctx, coarse, k, a.c.seed)
	if err != nil {
		return err
	}
	repeated := voxelnet.Repeat(coarse, fine, k)
	rows := [][]float32{repeated, y}
	if truth != nil {
		rows = append(rows, truth)
		middle := (a.Lo + a.Hi) / 2
		wrong := func(x []float32) float64 {
			sum := 0.0
			for i, v := range x {
				if (v > middle) != (truth[i] > middle) {
					sum++
				}
			}
			return sum / float64(len(x))
		}
		fmt.Fprintf(a.c.out, "%d shapes made %d times coarser and refined: %.4f of the voxels are wrong, %.4f where every coarse value is repeated\n", len(y)/a.dim, k, wrong(y), wrong(repeated))
	}
	path := a.beside(".npy")
	if err := data.WriteNPY(path, y, append([]int{len(y) / a.dim}, fine...)...); err != nil {
		return err
	}
	a.c.say("wrote " + path)
	return a.show(a.out, rows...)
}

// enlarge makes pictures of the run's size larger.
func (a *applied) enlarge(ctx context.Context, l training.Enlarger, name string, n int, factor float64) error {
	if name == "" {
		n = 1 // the picture itself
	}
	set, err := a.part(ctx, name, "", n)
	if err != nil {
		return err
	}
	y, err := l.Enlarge(ctx, set.X(), set.H, set.W, factor)
	if err != nil {
		return err
	}
	h, w := int(math.Round(factor*float64(set.H))), int(math.Round(factor*float64(set.W)))
	path := a.beside(".npy")
	if err := data.WriteNPY(path, y, set.N, set.C, h, w); err != nil {
		return err
	}
	a.c.say("wrote " + path)
	images := func(x []float32) record.Images {
		return record.Images{Data: x, N: set.N, C: set.C, H: h, W: w, Lo: a.Lo, Hi: a.Hi}
	}
	plain := pyramid.Resize(slices.Clone(set.X()), set.H, set.W, h, w)
	img, err := record.Strip(2, 2, images(plain), images(y))
	return a.write(a.out, img, err)
}
