package main

import (
	"context"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"ebmrun/training/data"
	"ebmrun/training/inverseoptimalcontrol"
	"ebmrun/training/record"
)

// controlled is a run that has learned a cost of controls, with experts in its scenes.
type controlled struct {
	*inverseoptimalcontrol.Model
	experts *data.Set
}

// controlled loads experts of the named data, or held out from the run's own.
func (a *applied) controlled(ctx context.Context, name string, n int) (c controlled, err error) {
	m, ok := a.Learned.(*inverseoptimalcontrol.Model)
	if !ok {
		return c, a.lacks(a.task)
	}
	src, part := a.Head.Source, "test"
	if name != "" {
		src, part = source{Data: name, Frames: src.Frames}, ""
	}
	o := src.options(part, a.c.say)
	o.Limit = n
	set, err := data.Load(ctx, src.Data, o)
	if err != nil {
		return c, badInput(err)
	}
	experts, err := m.Experts(set)
	if err != nil {
		return c, badInput(err)
	}
	return controlled{m, experts}, nil
}

func predictTask(c *common) *cobra.Command {
	var name string
	var n, k int
	cmd, _ := c.task("predict", "Paths in given scenes, by a learned cost of controls",
		`Draw --k controls for each scene from exp(−cost), or where the run descends without
noise the best ones, and follow them. OUT.png shows the paths over those that experts
took, OUT.csv the places: scene, draw, moment, agent, x, y. The table tells how far
they are apart, in metres, beside constant velocity and constant control: the root of
the mean square at a quarter, half, three quarters and the end of the time; the mean
distance over the time, its median over draws, and the distance at the end; both for
the best draw of each scene; and the share of draws in which nobody comes within 1 m
of an obstacle or of another.`,
		"ebmrun apply predict runs/drive --n 50 --k 20 -o predicted.png",
		func(ctx context.Context, a *applied) error {
			if n < 1 || k < 1 {
				return badInput(fmt.Errorf("--n and --k: wanted at least 1, got %d and %d", n, k))
			}
			m, err := a.controlled(ctx, name, n)
			if err != nil {
				return err
			}
			x, err := m.Predict(ctx, m.experts.Given.X(), k, c.seed)
			if err != nil {
				return err
			}
			velocity, held := m.Constant(m.experts)
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "metres\tRMSE at 1/4\t1/2\t3/4\tend\tADE\tmedian\tFDE\tbest ADE\tbest FDE\tclear")
			for _, row := range []struct {
				name string
				x    []float32
				k    int
			}{{"predicted", x, k}, {"constant velocity", velocity, 1}, {"constant control", held, 1}, {"experts' controls", m.experts.X(), 1}} {
				e, err := m.Measure(ctx, m.experts, row.x, row.k)
				if err != nil {
					return badInput(err)
				}
				fmt.Fprintf(w, "%s", row.name)
				for _, v := range append(slices.Clone(e.RMSE), e.ADE, e.Median, e.FDE, e.MinADE, e.MinFDE, e.Clear) {
					fmt.Fprintf(w, "\t%.4g", v)
				}
				fmt.Fprintln(w)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if err := a.places(ctx, m, x, k); err != nil {
				return err
			}
			few := m.experts.Head(24)
			truth, err := m.Driven(ctx, few)
			if err != nil {
				return err
			}
			maps, err := m.Maps(ctx, few.Given.X(), x[:few.N*k*few.Dim()], k, truth)
			if err != nil {
				return err
			}
			img, err := record.Grid(maps, 3, 2, 1)
			return a.write(a.out, img, err)
		})
	cmd.Flags().StringVar(&name, "data", "", "a name, folder or file (default: held-out examples of the run's data)")
	cmd.Flags().IntVar(&n, "n", 50, "at most so many scenes")
	cmd.Flags().IntVar(&k, "k", 1, "draws for each")
	return cmd
}

// places writes where k draws for each scene lead.
func (a *applied) places(ctx context.Context, m controlled, x []float32, k int) error {
	scenes := make([]float32, 0, k*m.experts.Given.N*m.experts.Given.Dim())
	for i := range m.experts.N {
		for range k {
			scenes = append(scenes, m.experts.Given.At(i)...)
		}
	}
	paths, err := m.Paths(ctx, x, scenes)
	if err != nil {
		return err
	}
	agents := len(paths) / 2 / m.Moments / m.experts.N / k
	rows := make([][]float64, 0, len(paths)/2)
	for i := 0; i < len(paths); i += 2 {
		r := i / 2
		moment, draw := r/agents, r/agents/m.Moments
		rows = append(rows, []float64{float64(draw / k), float64(draw % k), float64(moment%m.Moments + 1), float64(r % agents), float64(paths[i]), float64(paths[i+1])})
	}
	return a.table(a.beside(".csv"), []string{"scene", "draw", "moment", "agent", "x", "y"}, rows)
}

func explainTask(c *common) *cobra.Command {
	var name string
	var n int
	cmd, _ := c.task("explain", "What a learned cost of controls is made of",
		`Tell for each feature of the cost its weight, its mean over the experts and over what
the model predicts in their scenes, and what it adds to the cost of both. OUT.csv has
a row for every scene: the learned cost of the experts' controls and of the predicted
ones, up to a constant.`,
		"ebmrun apply explain runs/drive -o costs.csv",
		func(ctx context.Context, a *applied) error {
			m, err := a.controlled(ctx, name, n)
			if err != nil {
				return err
			}
			scenes := m.experts.Given.X()
			x, err := m.Predict(ctx, scenes, 1, c.seed)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "feature\tweight\texperts\tpredicted\tcost of experts\tpredicted\twhat it is")
			weights := m.Weights()
			var mean [2][]float64
			var costs [2][]float32
			for i, u := range [][]float32{m.experts.X(), x} {
				if mean[i], err = m.Features(ctx, u, scenes); err != nil {
					return err
				}
				if costs[i], err = m.Costs(ctx, u, scenes); err != nil {
					return err
				}
			}
			for i, f := range m.Names() {
				weight, parts := "-", "-\t-"
				if weights != nil {
					weight, parts = fmt.Sprintf("%.4g", weights[i]), fmt.Sprintf("%.4g\t%.4g", weights[i]*mean[0][i], weights[i]*mean[1][i])
				}
				fmt.Fprintf(w, "%s\t%s\t%.4g\t%.4g\t%s\t%s\n", f[0], weight, mean[0][i], mean[1][i], parts, f[1])
			}
			if err := w.Flush(); err != nil {
				return err
			}
			rows := make([][]float64, m.experts.N)
			for i := range rows {
				rows[i] = []float64{float64(i), float64(costs[0][i]), float64(costs[1][i])}
			}
			return a.table(a.beside(".csv"), []string{"scene", "experts", "predicted"}, rows)
		})
	cmd.Flags().StringVar(&name, "data", "", "a name, folder or file (default: held-out examples of the run's data)")
	cmd.Flags().IntVar(&n, "n", 200, "at most so many scenes")
	return cmd
}
