package runtime

import (
	"context"
	"fmt"

	"ebmrun/graphs"
)

// A Repetition is a number of calls of one program of which each takes on the
// state that the one before has left.
type Repetition struct {
	Calls int

	// From and To are an output and an input of the same type and dimensions: what a
	// call gives as From, the next takes as To.
	From, To int

	// Fresh is an input that is new in each call, −1 for none. Next fills a tensor
	// with it, of the dimensions of the one passed to [Repeat]. It may be called while
	// an earlier call is under way, from another goroutine, and again for a call.
	Fresh int
	Next  func(call int, t *graphs.Tensor) error

	// Done, if not nil, is called after each call, when all outputs but the state
	// hold what it gave.
	Done func(call int) error
}

// A Repeater is a Program that repeats calls better than one by one: the state
// stays where it is computed.
type Repeater interface {
	Repeat(ctx context.Context, in, out []*graphs.Tensor, r Repetition) error
}

// Remote reports whether a provider computes in memory of its own, so that what a
// program takes and gives is copied there and back.
func Remote(provider string) bool {
	p := normal(provider)
	return p == CUDA || p == TensorRT
}

// Repeat makes the calls of r. in and out are as for Run, all of them tensors; the
// state is read from in once and written to out at the end. What other inputs hold
// must not change meanwhile.
func Repeat(ctx context.Context, p Program, in, out []*graphs.Tensor, r Repetition) error {
	if err := r.check(p, in, out); err != nil {
		return err
	}
	if many, ok := p.(Repeater); ok {
		return many.Repeat(ctx, in, out, r)
	}
	return repeat(ctx, p, in, out, r)
}

// repeat makes the calls one by one, on two tensors for the state that take turns.
func repeat(ctx context.Context, p Program, in, out []*graphs.Tensor, r Repetition) error {
	in, out = append([]*graphs.Tensor(nil), in...), append([]*graphs.Tensor(nil), out...)
	end := out[r.From]
	turns := [2]*graphs.Tensor{end, end}
	if r.Calls > 1 {
		turns[0] = graphs.NewTensor(end.Type, end.Dims...)
	}
	for call := range r.Calls {
		if r.Fresh >= 0 {
			if err := r.Next(call, in[r.Fresh]); err != nil {
				return err
			}
		}
		out[r.From] = turns[(r.Calls-call)%2] // the last is end
		if err := p.Run(ctx, in, out); err != nil {
			return err
		}
		in[r.To] = out[r.From]
		if r.Done != nil {
			if err := r.Done(call); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r Repetition) check(p Program, in, out []*graphs.Tensor) error {
	ins, outs := p.Inputs(), p.Outputs()
	switch {
	case r.Calls < 1:
		return fmt.Errorf("repeat: wanted at least one call, got %d", r.Calls)
	case r.From < 0 || r.From >= len(outs) || r.To < 0 || r.To >= len(ins) || r.Fresh >= len(ins) || r.Fresh == r.To:
		return fmt.Errorf("repeat: state from output %d to input %d and fresh input %d of a program with %d inputs and %d outputs",
			r.From, r.To, r.Fresh, len(ins), len(outs))
	case r.Fresh >= 0 && r.Next == nil:
		return fmt.Errorf("repeat: nothing fills input %q", ins[r.Fresh].Name)
	}
	for i, t := range out {
		if t == nil {
			return fmt.Errorf("repeat: output %q: wanted a tensor, got none", outs[i].Name)
		}
	}
	if from, to := outs[r.From], ins[r.To]; from.Type != to.Type {
		return fmt.Errorf("repeat: output %q of %v cannot become input %q of %v", from.Name, from.Type, to.Name, to.Type)
	}
	return nil
}
