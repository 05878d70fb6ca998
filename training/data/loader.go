package data

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// A Position is a place in the endless shuffled stream of a [Loader]: the next example is number Index
// in the order of the given epoch. Saved and handed to [Loader.Seek], it continues the same stream.
type Position struct {
	Seed  uint64 `json:"seed"`
	Epoch int    `json:"epoch"`
	Index int    `json:"index"`
}

// A Batch is some examples of a set. Its slices belong to the loader and last until the next batch.
type Batch struct {
	X      []float32 // [len(Index), Dims…]
	Given  []float32 // what they are drawn from, [len(Index), Given.Dims…]; nil without
	Labels []int     // nil without labels
	Index  []int     // which examples of the set
	Turned []bool    // which of them are seen in a mirror; nil where the loader holds none up
}

// A Loader yields a set's examples in shuffled mini-batches of one size. Every epoch visits each
// example once, in an order that depends on the seed and the epoch alone; a batch that reaches the end
// of an epoch is filled from the next, so sets smaller than a batch serve too.
type Loader struct {
	Mirror bool // half of the pictures, and what they are drawn from, are turned left to right

	set   *Set
	pos   Position
	order []int  // of pos.Epoch
	side  []bool // which places of the order a mirror turns
	batch Batch
}

// NewLoader starts the stream of the given seed at its beginning.
func NewLoader(s *Set, batch int, seed uint64) (*Loader, error) {
	if err := checkSize(s.Name+": batch", batch, s.Dim()); err != nil {
		return nil, err
	}
	if s.N < 1 {
		return nil, fmt.Errorf("data: %s: no examples", s.Name)
	}
	l := &Loader{set: s, pos: Position{Seed: seed}}
	l.batch.X = make([]float32, batch*s.Dim())
	l.batch.Index = make([]int, batch)
	if s.Given != nil {
		l.batch.Given = make([]float32, batch*s.Given.Dim())
	}
	if s.Labels != nil {
		l.batch.Labels = make([]int, batch)
	}
	l.shuffle()
	return l, nil
}

func (l *Loader) shuffle() {
	r := rand.New(rand.NewPCG(l.pos.Seed, shuffleStream+uint64(l.pos.Epoch)))
	l.order, l.side = r.Perm(l.set.N), l.side[:0]
	for range l.order {
		l.side = append(l.side, r.IntN(2) == 0)
	}
}

// Turn mirrors a picture of the given width, row by row.
func Turn(x []float32, width int) {
	for row := range slices.Chunk(x, width) {
		slices.Reverse(row)
	}
}

// Position is where the next batch begins.
func (l *Loader) Position() Position { return l.pos }

// Seek goes to a position, of any seed.
func (l *Loader) Seek(p Position) error {
	if p.Epoch < 0 || p.Index < 0 || p.Index > l.set.N {
		return fmt.Errorf("data: %s: no position %+v among %d examples", l.set.Name, p, l.set.N)
	}
	l.pos = p
	l.shuffle()
	return nil
}

// Next is the next batch.
func (l *Loader) Next() Batch {
	d := l.set.Dim()
	if l.batch.Turned = nil; l.Mirror {
		l.batch.Turned = make([]bool, len(l.batch.Index))
	}
	for k := range l.batch.Index {
		if l.pos.Index == l.set.N {
			l.pos.Epoch, l.pos.Index = l.pos.Epoch+1, 0
			l.shuffle()
		}
		i, turned := l.order[l.pos.Index], l.Mirror && l.side[l.pos.Index]
		l.pos.Index++
		l.batch.Index[k] = i
		x := l.batch.X[k*d : (k+1)*d]
		if l.set.Copy(x, i); turned {
			l.batch.Turned[k] = true
			Turn(x, l.set.W)
		}
		if g := l.set.Given; g != nil {
			x := l.batch.Given[k*g.Dim() : (k+1)*g.Dim()]
			if g.Copy(x, i); turned {
				Turn(x, g.W)
			}
		}
		if l.batch.Labels != nil {
			l.batch.Labels[k] = l.set.Labels[i]
		}
	}
	return l.batch
}
