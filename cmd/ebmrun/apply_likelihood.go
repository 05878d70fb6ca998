package main

import (
	"context"
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"ebmrun/training/ais"
	"ebmrun/training/check"
)

// annealed is a model of examples x with codes z whose normalising constants
// annealed importance sampling estimates: that of the prior, then each example's.
type annealed interface {
	LogZ(ctx context.Context, chains int, seed uint64, o ais.Options) (logZ, se float64, err error)
	LogLikelihood(ctx context.Context, x []float32, logZ float64, chains int, seed uint64, o ais.Options) (logp, se []float64, err error)
}

func likelihoodTask(c *common) *cobra.Command {
	var name string
	var limit, chains int
	var o ais.Options
	cmd, _ := c.task("likelihood", "Estimate the likelihood of examples by annealed importance sampling",
		`Estimate log p(x) of examples, the codes integrated out and the learned prior normalised, by
annealed importance sampling: chains of codes go from N(0, σ²I) to the prior, for log Z, and to
the posterior of each example. What is told is in nats, as a density of examples in the scale
of learning (pictures from -1 to 1), with the standard error that the chains' weights show;
that of log Z is common to all examples. An estimate is too low rather than too high where
chains are few or hurried: double --levels, and what stays is right.

OUT.csv has a row for every example: its number, its class (-1 without one), log p(x) and its
standard error. One example takes chains × levels × 5 slopes of the generator.`,
		"ebmrun apply likelihood runs/faces --limit 5 -o likelihood.csv",
		func(ctx context.Context, a *applied) error {
			if err := check.First(check.AtLeast("--limit", limit, 1), check.AtLeast("--chains", chains, 2), check.AtLeast("--levels", o.Levels, 1)); err != nil {
				return badInput(err)
			}
			set, err := a.examples(ctx, name, limit)
			if err != nil {
				return err
			}
			m := a.Learned.(annealed)
			logZ, spread, err := m.LogZ(ctx, 10*chains, c.seed, o)
			if err != nil {
				return err
			}
			logp, se, err := m.LogLikelihood(ctx, set.X(), logZ, chains, c.seed, o)
			if err != nil {
				return err
			}
			rows, square := make([][]float64, set.N), 0.0
			for i := range rows {
				rows[i] = []float64{float64(i), -1, logp[i], se[i]}
				if set.Labels != nil {
					rows[i][1] = float64(set.Labels[i])
				}
				square += se[i] * se[i] / float64(set.N)
			}
			fmt.Fprintf(c.out, "log Z of the prior %.5g ± %.2g nats\n%d examples of %s: log p(x) %.5g nats on average, each ± %.2g (%.4g a value)\n",
				logZ, spread, set.N, set.Name, average(logp), math.Sqrt(square), average(logp)/float64(a.dim))
			return a.table(a.out, []string{"example", "class", "log p(x), nats", "standard error"}, rows)
		})
	fl := cmd.Flags()
	fl.StringVar(&name, "data", "", "a name, folder or file (default: held-out examples of the run's data)")
	fl.IntVar(&limit, "limit", 10, "at most so many examples")
	fl.IntVar(&chains, "chains", 20, "chains an example, and ten times as many for the prior")
	fl.IntVar(&o.Levels, "levels", 200, "temperatures on the way")
	return cmd
}
