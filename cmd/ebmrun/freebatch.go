package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/graphs/passes"
	"ebmrun/runtime"
)

// batchAxis names the axis that --free-batch makes.
const batchAxis = "batch"

// rowTolerance is the relative L2 error by which a row may depend on the size of
// the batch that it is computed in: rounding alone.
var rowTolerance = map[graphs.DType]float64{graphs.Float64: 1e-9, graphs.Float32: 1e-4, graphs.Float16: 2e-2, graphs.BFloat16: 0.15}

// freeBatch rewrites the model in a file so that its batch is a symbolic axis,
// runs both on random inputs, compares row by row, and writes the new one.
func (c *common) freeBatch(ctx context.Context, in, out string) error {
	if sameFile(in, out) {
		return badInput(fmt.Errorf("%s: the new model would replace the old one", out))
	}
	m, err := readModel(in)
	if err != nil {
		return err
	}
	free, freed, err := passes.FreeBatch(m, batchAxis)
	if err != nil {
		return badInput(fmt.Errorf("%s: %w", in, err))
	}
	rows, err := c.compareRows(ctx, m, free, freed)
	if err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := onnxio.Write(out, free); err != nil {
		return err
	}
	if !c.quiet {
		fmt.Fprintf(c.out, "%s: a batch of %d was written into %d nodes and is now the axis %q of inputs %v; %d rows are those of the old model\n",
			printable(out), freed.Batch, freed.Rewritten, batchAxis, freed.Inputs, rows)
	}
	return nil
}

// compareRows runs free on one row more than twice the frozen batch, and old on
// the same rows batch by batch.
func (c *common) compareRows(ctx context.Context, old, free *graphs.Model, freed passes.Freed) (rows int, err error) {
	e, err := c.engineOrRef(ctx)
	if err != nil {
		return 0, err
	}
	batch := int(freed.Batch)
	rows = 2*batch + 1
	var fed []*graphs.Value
	onlyInts := true
	for _, v := range free.Graph.Inputs {
		if v.Const != nil {
			continue
		}
		w := *v
		if slices.Contains(freed.Inputs, v.Name) {
			w.Shape = slices.Clone(v.Shape)
			w.Shape[0] = graphs.D(rows)
		}
		onlyInts = onlyInts && !v.Type.IsFloat()
		fed = append(fed, &w)
	}
	r := rand.New(rand.NewPCG(c.seed, 2))
	in, err := randomInputs(fed, r)
	if err != nil {
		return 0, badInput(err)
	}
	if onlyInts { // rows that are all alike would show nothing
		for i, t := range in {
			bits := make([]float64, t.Len())
			for k := range bits {
				bits[k] = float64(r.IntN(2))
			}
			if in[i], err = graphs.FromFloats(t.Type, bits, t.Dims...); err != nil {
				return 0, badInput(fmt.Errorf("input %s: %w", fed[i].Name, err))
			}
		}
	}
	got, _, err := evaluate(ctx, e, free, c.options(), in, 1)
	if err != nil {
		return 0, fmt.Errorf("the model with a free batch, %d rows: %w", rows, err)
	}
	frozen, err := c.frozenProgram(ctx, e, old)
	if err != nil {
		return 0, err
	}
	defer frozen.Close()
	for _, from := range []int{0, batch, batch + 1} {
		part := slices.Clone(in)
		for i, v := range fed {
			if slices.Contains(freed.Inputs, v.Name) {
				part[i] = takeRows(in[i], from, from+batch)
			}
		}
		want := make([]*graphs.Tensor, len(frozen.Outputs()))
		if err := frozen.Run(ctx, part, want); err != nil {
			return 0, fmt.Errorf("the model as it is: %w", err)
		}
		for i, v := range free.Graph.Outputs {
			have := got[i]
			if len(have.Dims) > 0 && have.Dims[0] == rows && !slices.Equal(have.Dims, want[i].Dims) {
				have = takeRows(have, from, from+batch)
			}
			if d := apart(have, want[i]); !(d <= rowTolerance[v.Type]) {
				return 0, fmt.Errorf("output %s: rows %d to %d of %d differ by %.1e from the same rows in a batch of %d", v.Name, from, from+batch-1, rows, d, batch)
			}
		}
	}
	return rows, nil
}

// frozenProgram compiles a model as it is in its file.
func (c *common) frozenProgram(ctx context.Context, e runtime.Engine, m *graphs.Model) (runtime.Program, error) {
	p, err := e.Compile(ctx, m, c.options())
	if err != nil {
		return nil, fmt.Errorf("the model as it is: %w", err)
	}
	return p, nil
}

// takeRows is part of a tensor along its first axis.
func takeRows(t *graphs.Tensor, from, to int) *graphs.Tensor {
	dims := append([]int{to - from}, t.Dims[1:]...)
	n := graphs.Size(t.Dims[1:])
	return &graphs.Tensor{Type: t.Type, Dims: dims, Data: reflect.ValueOf(t.Data).Slice(from*n, to*n).Interface()}
}

// apart is the relative L2 distance of two tensors, infinite where their types
// or dimensions differ.
func apart(a, b *graphs.Tensor) float64 {
	if a.Type != b.Type || !slices.Equal(a.Dims, b.Dims) {
		return math.Inf(1)
	}
	x, err1 := a.AsFloats()
	y, err2 := b.AsFloats()
	if err1 != nil || err2 != nil {
		if reflect.DeepEqual(a.Data, b.Data) {
			return 0
		}
		return math.Inf(1)
	}
	var diff, norm float64
	for i := range y {
		diff += (x[i] - y[i]) * (x[i] - y[i])
		norm += y[i] * y[i]
	}
	if diff == 0 {
		return 0
	}
	return math.Sqrt(diff / max(norm, 1e-30))
}
