package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"ebmrun/training"
	"ebmrun/training/diag"
)

func anomalyTask(c *common) *cobra.Command {
	var name string
	var limit int
	var classes []int
	var at float64
	var cmd *cobra.Command
	cmd, _ = c.task("anomaly", "Tell how well the model finds classes that it has not seen",
		`Judge every held-out example by what the system finds likely, its own judgement or
else minus the energy, and tell the area under the curve of precision and recall with
which the least likely are those of the anomalous classes. These are the classes that
were left out in learning ("train --classes"), or those that --anomalous names. A guess
gets the share of anomalies, which stands beside the area, and so does the area under the
ROC curve, the probability that an anomaly is judged less likely than another example. Areas
of precision and recall compare only at one share of anomalies: --share tells them for
another than that of the examples. Where the judgement is a sum, the same is told of each of
its parts and, for pictures, of how well they are explained for their total variation: a
picture of few and short edges is explained well whatever it is. OUT.csv has a row for every example: its number,
its class, 1 for an anomaly, its judgement and the parts.`,
		"ebmrun apply anomaly runs/mnist-without-1 --anomalous 1 -o judged.csv",
		func(ctx context.Context, a *applied) error {
			learned := a.Head.Source.Classes
			a.Head.Source.Classes = nil // of which others were left out
			set, err := a.examples(ctx, name, limit)
			if err != nil {
				return err
			}
			if set.Labels == nil {
				return badInput(fmt.Errorf("%s has no classes to tell anomalies by", set.Name))
			}
			if len(classes) == 0 && len(learned) == 0 {
				return badInput(errors.New("--anomalous is missing: the run was learned from all classes"))
			}
			odd := func(class int) bool {
				if len(classes) > 0 {
					return slices.Contains(classes, class)
				}
				return !slices.Contains(learned, class)
			}
			judged, err := a.judged(ctx, set.X())
			if err != nil {
				return err
			}
			judged = append(judged, a.byVariation(judged, set.X())...)
			head, positive, share := []string{"example", "class", "anomaly"}, make([]bool, set.N), 0.0
			rows := make([][]float64, set.N)
			for i, class := range set.Labels {
				rows[i] = []float64{float64(i), float64(class), 0}
				if positive[i] = odd(class); positive[i] {
					rows[i][2], share = 1, share+1/float64(set.N)
				}
			}
			for k, p := range judged {
				head = append(head, p.Name)
				surprise := make([]float64, set.N)
				for i, v := range p.Values {
					surprise[i], rows[i] = -v, append(rows[i], v)
				}
				if !cmd.Flags().Changed("share") {
					at = share
				}
				roc, err := diag.ROCArea(surprise, positive)
				if err != nil {
					return badInput(err)
				}
				area, err := diag.AveragePrecisionAt(surprise, positive, at)
				if err != nil {
					return badInput(err)
				}
				by := "by its part " + p.Name
				if k == 0 {
					fmt.Fprintf(c.out, "%d examples of %s, %.1f %% anomalous; areas where %.1f %% are:\n", set.N, set.Name, 100*share, 100*at)
					by = "by " + p.Name
				}
				fmt.Fprintf(c.out, "  average precision %.3f of a guess's %.3f, ROC %.3f of 0.5, %s\n", area, at, roc, by)
			}
			return a.table(a.out, head, rows)
		})
	fl := cmd.Flags()
	fl.StringVar(&name, "data", "", "a name, folder or file (default: held-out examples of the run's data, of all classes)")
	fl.IntVar(&limit, "limit", 1000, "at most so many examples, 0 for all")
	fl.Float64Var(&at, "share", 0, "share of anomalies that areas of precision and recall are for, such as 0.35 (default: that of the examples)")
	fl.IntSliceVar(&classes, "anomalous", nil, "classes that are anomalies (default: those that were left out)")
	return cmd
}

// judged is one number an example, high for likely ones, and what it is, then the
// parts that it is made of.
func (a *applied) judged(ctx context.Context, x []float32) ([]training.Part, error) {
	switch s := a.Learned.(type) {
	case training.Divider:
		return s.Parts(ctx, x, a.c.seed)
	case training.Scorer:
		what, likely, err := s.Score(ctx, x, a.c.seed)
		return []training.Part{{Name: what, Values: likely}}, err
	}
	likely := make([]float64, len(x)/a.dim)
	return []training.Part{{Name: "−energy", Values: likely}}, training.Blocks(len(likely), training.Block, func(from, to int) error {
		u, f := make([]float32, to-from), make([]float32, to-from)
		if err := a.e.Scores(x[from*a.dim:to*a.dim], u, f); err != nil {
			return err
		}
		for i, v := range u {
			likely[from+i] = -float64(v)
		}
		return nil
	})
}

// byVariation is the residual of pictures, where it is a part of what they are judged by, over
// their total variation: the sum of the differences between neighbouring values.
func (a *applied) byVariation(judged []training.Part, x []float32) []training.Part {
	i := slices.IndexFunc(judged, func(p training.Part) bool { return p.Name == training.ResidualPart })
	if i < 0 || len(a.Dims) != 3 {
		return nil
	}
	out := training.Part{Name: "log p(x | z) over the picture's total variation"}
	for k, v := range judged[i].Values {
		variation := diag.TotalVariation(x[k*a.dim:(k+1)*a.dim], a.Dims[1], a.Dims[2])
		out.Values = append(out.Values, v/max(variation, 1)) // a blank picture has none
	}
	return []training.Part{out}
}
