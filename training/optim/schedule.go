package optim

import "math"

// A Schedule gives a value for update 0, 1, 2, …. It is a pure function of the step, so a run resumes
// from the count alone.
type Schedule func(step int) float64

// Constant is value at every step.
func Constant(value float64) Schedule { return func(int) float64 { return value } }

// Linear goes from from at step 0 to to at step steps, and stays.
func Linear(from, to float64, steps int) Schedule {
	return func(step int) float64 { return from + (to-from)*share(step, steps) }
}

// Cosine goes from from at step 0 to to at step steps along half a cosine wave, and stays
// (Loshchilov and Hutter, 2017, one period).
func Cosine(from, to float64, steps int) Schedule {
	return func(step int) float64 {
		return to + (from-to)*(1+math.Cos(math.Pi*share(step, steps)))/2
	}
}

// Exponential is from·rate^(step/every), continuously.
func Exponential(from, rate float64, every int) Schedule {
	return func(step int) float64 { return from * math.Pow(rate, float64(step)/float64(max(every, 1))) }
}

// Piece is a value that holds from a step on.
type Piece struct {
	From  int
	Value float64
}

// Piecewise is first until the first of the pieces, which are sorted by From.
func Piecewise(first float64, pieces ...Piece) Schedule {
	return func(step int) float64 {
		value := first
		for _, p := range pieces {
			if step >= p.From {
				value = p.Value
			}
		}
		return value
	}
}

// Warmup multiplies s by (step + 1)/steps during the first steps steps.
func Warmup(steps int, s Schedule) Schedule {
	return func(step int) float64 { return s(step) * share(step+1, steps) }
}

// share returns step/steps held in [0, 1]; 1 if steps is not positive.
func share(step, steps int) float64 {
	if steps <= 0 {
		return 1
	}
	return math.Max(0, math.Min(1, float64(step)/float64(steps)))
}
