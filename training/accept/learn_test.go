package accept

import (
	"context"
	"math"
	"testing"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
)

// lost is a system whose numbers are bad from the start.
type lost struct{}

func (lost) Step(context.Context) (training.Metrics, error) {
	return training.Metrics{"V": math.NaN()}, nil
}
func (lost) Iteration() int                   { return 0 }
func (lost) Save() (*checkpoint.State, error) { return &checkpoint.State{}, nil }
func (lost) Restore(*checkpoint.State) error  { return nil }
func (lost) Slow(float64)                     {}

// TestGuardedArms: a sabotaged arm may be ended by a guard, and is as bad as it should be; where the arm that
// works as specified is, its item is not met, whatever the item makes of such an end.
func TestGuardedArms(t *testing.T) {
	for arm, met := range map[string]bool{Flipped: true, Untrained: true, Works: false} {
		s := Suite{System: "lost", Parts: []Part{{Name: "part", Run: func(ctx context.Context, e Env, it *Item) error {
			ended, err := e.learn(ctx, "lost", arm, lost{}, 3, training.Guard{})
			if ended != nil {
				it.Check(arm, "distance", math.Inf(1), AtLeast(1), endedBy(ended))
			}
			return err
		}}}}
		checks, err := s.Run(t.Context(), Env{})
		if err != nil || len(checks) != 1 || checks[0].Met != met || Accepted(checks) != met || checks[0].Arm != arm {
			t.Errorf("%s: %+v, %v", arm, checks, err)
		}
	}
}
