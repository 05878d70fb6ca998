package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"ebmrun/graphs"
	"ebmrun/training/data"
)

// sources are what a run translates from, [n, From…] in the scale of learning, and the
// true translations where they are known: the conditions of pairs, of the named data or
// held out from the run's own; or else the named examples themselves.
func (a *applied) sources(ctx context.Context, name, depth string, n int) (x, truth []float32, err error) {
	from := a.From
	if from == nil {
		from = a.Dims
	}
	if depth != "" {
		if len(from) != 3 || from[0] != 4 {
			return nil, nil, a.unused("depth")
		}
		set, err := data.ReadPicturesAs(name, data.Options{Size: from[1], Width: from[2], Limit: n, Stretch: a.Head.Source.Stretch, Depth: depth, Far: a.Head.Source.Far})
		if err != nil {
			return nil, nil, badInput(err)
		}
		return a.inScale(set).X(), nil, nil
	}
	if pairs, err := a.pairs(ctx, name, n); err == nil && pairs.Given != nil && slices.Equal(pairs.Given.Dims(), from) && slices.Equal(pairs.Dims(), a.Dims) {
		return pairs.Given.X(), a.inScale(pairs).X(), nil
	}
	if name == "" {
		return nil, nil, badInput(errors.New("wanted --data, what to translate"))
	}
	to := a.Dims
	defer func() { a.Dims, a.dim = to, graphs.Size(to) }()
	a.Dims, a.dim = from, graphs.Size(from)
	var set *data.Set
	if set, err = a.examples(ctx, name, n); err != nil {
		return nil, nil, err
	}
	return set.X(), nil, nil
}

// pairs loads data in the sizes of the run's, with what its examples are given.
func (a *applied) pairs(ctx context.Context, name string, n int) (*data.Set, error) {
	src, part := source{Data: name, Stretch: a.Head.Source.Stretch}, ""
	if name == "" {
		src, part = a.Head.Source, "test"
	}
	if len(a.Dims) == 3 {
		src.Size, src.Width = a.Dims[1], a.Dims[2]
	}
	o := src.options(part, a.c.say)
	o.Limit = n
	return data.Load(ctx, src.Data, o)
}

// shown are pictures [n, from…] with the channels of those of to: grey ones are
// repeated. It is nil if they cannot be shown beside one another.
func shown(x []float32, from, to []int) []float32 {
	switch {
	case slices.Equal(from, to):
		return x
	case len(from) != 3 || len(to) != 3 || from[0] != 1 || !slices.Equal(from[1:], to[1:]):
		return nil
	}
	plane, out := from[1]*from[2], make([]float32, 0, len(x)*to[0])
	for i := range len(x) / plane {
		for range to[0] {
			out = append(out, x[i*plane:(i+1)*plane]...)
		}
	}
	return out
}

// translations shows sources above translations, what they deviate by where that is known,
// and the truth where that is.
func (a *applied) translations(source, y, truth, deviation []float32) error {
	spread := make([]float32, len(deviation))
	for i, v := range deviation {
		spread[i] = a.Lo + min(1, 2*v)*(a.Hi-a.Lo)
	}
	from, to := a.From, a.Dims
	if from == nil {
		from = to
	}
	if len(from) == 3 && from[0] == 4 { // what is nearer is not shown
		plane, colours := from[1]*from[2], make([]float32, 0, len(source)/4*3)
		for x := source; len(x) > 0; x = x[4*plane:] {
			colours = append(colours, x[:3*plane]...)
		}
		source, from = colours, []int{3, from[1], from[2]}
	}
	most := to // of channels
	if len(from) == 3 && len(to) == 3 && from[0] > to[0] {
		most = from
	}
	var rows [][]float32
	for _, r := range []struct {
		x    []float32
		dims []int
	}{{source, from}, {y, to}, {spread, to}, {truth, to}} {
		if x := shown(r.x, r.dims, most); len(x) > 0 {
			rows = append(rows, x)
		}
	}
	if truth != nil {
		mse := average(a.errors(truth, y, nil))
		fmt.Fprintf(a.c.out, "%d examples: mean squared error %.4g to the true ones%s\n", len(y)/a.dim, mse, a.decibels(mse))
	}
	a.Dims, a.dim = most, graphs.Size(most)
	defer func() { a.Dims, a.dim = to, graphs.Size(to) }()
	return a.show(a.out, rows...)
}
