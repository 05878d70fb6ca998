package sampler

import (
	"math"
	"math/bits"
	"runtime"
	"sync"
)

//go:generate go run gentable.go

// Noise is a counter-based source of random numbers: every number is a pure function of the seed,
// the chain, the step and its place, whatever the batch split, the number of threads or the
// processor. A checkpoint therefore holds a seed, chain numbers and a step, and no generator state.
//
// The words are those of Philox4x32-10 with
//
//	key     = (seed mod 2³², (seed div 2³²) xor (step div 2³²))
//	counter = (chain mod 2³², chain div 2³², step mod 2³², stream·2³⁰ + block)
//
// Stream 0 holds the normals: number i of a chain's step is made from word i mod 4 of block i div 4
// (i < 2³²). Stream 1 holds the uniforms, stream 3 the seeds of [Noise.Fork].
//
// A word w becomes a normal as follows. Bit 31 is the sign. The other bits, m, stand for the upper
// tail probability (m + ½)/2³²; its normal quantile is read from a table of cubics. Let o be the
// number of bits of m (0 to 31) and y = m·2^(33−o) mod 2³², which drops the leading one. The top
// three bits of y choose segment s, the next 24 bits are j, and
//
//	z = c₀ + j·(c₁ + j·(c₂ + j·c₃)),  c = pieces[8·o + s],
//
// every product and every sum rounded to float32. The error is below 1e-6, |z| is at most 6.338.
// testdata/noise holds the table, reference values and the same formula in Python.
type Noise struct {
	Seed uint64
}

const (
	normalStream  = 0 << 30
	uniformStream = 1 << 30
	forkStream    = 3 << 30
)

// Fork returns a source for another purpose, independent of n and of every other label. Two runs
// over the same chains and steps (say of a prior and of a posterior) take one label each.
func (n Noise) Fork(label uint64) Noise {
	k := n.key(0)
	a, b, _, _ := philox(uint32(label), uint32(label>>32), 0, forkStream, k[0], k[1])
	return Noise{Seed: uint64(a) | uint64(b)<<32}
}

// Normals fills dst [len(chain)*dim] with the standard normal numbers of one step: row i belongs to
// chain[i]. The row length is len(dst)/len(chain); a remainder of dst is left alone.
func (n Noise) Normals(dst []float32, chain []uint64, step uint64) {
	if len(chain) == 0 {
		return
	}
	n.normals(dst, chain, step, move{})
}

// normals fills dst and moves with it.
func (n Noise) normals(dst []float32, chain []uint64, step uint64, m move) {
	f := fill{move: m, dst: dst, chain: chain, dim: len(dst) / len(chain), step: uint32(step), key: n.key(step)}
	f.run()
}

// Block fills dst [k*len(chain)*dim] with the normals of the k steps that start at step, in the
// same bits as k calls of Normals: the noise of a [Chain].
func (n Noise) Block(dst []float32, chain []uint64, step uint64, k int) {
	if k <= 0 {
		return
	}
	size := len(dst) / k
	dim := size / max(1, len(chain))
	blocks := len(chain) * ((dim + 3) / 4) // of a step
	draw := func(from, to int) {
		for from < to {
			i := from / blocks
			end := min(to, (i+1)*blocks)
			f := fill{dst: dst[i*size : (i+1)*size], chain: chain, dim: dim, step: uint32(step + uint64(i)), key: n.key(step + uint64(i)), from: from - i*blocks, to: end - i*blocks}
			f.draw()
			from = end
		}
	}
	// Processors get as much of all steps each, and need not wait for one another after each.
	workers := max(1, min(k*blocks/perWorker, runtime.GOMAXPROCS(0)))
	var others sync.WaitGroup
	for w := 1; w < workers; w++ {
		others.Go(func() { draw(k*blocks*w/workers, k*blocks*(w+1)/workers) })
	}
	draw(0, k*blocks/workers)
	others.Wait()
}

// Uniforms writes one number of the open interval (0, 1) per chain to dst, len(dst) <= len(chain):
// (v + ½)/2⁵² where v is the upper 52 bits of the first word followed by the second.
func (n Noise) Uniforms(dst []float64, chain []uint64, step uint64) {
	k := n.key(step)
	for i := range dst {
		a, b, _, _ := philox(uint32(chain[i]), uint32(chain[i]>>32), uint32(step), uniformStream, k[0], k[1])
		dst[i] = (float64((uint64(a)<<32|uint64(b))>>12) + 0.5) / (1 << 52)
	}
}

func (n Noise) key(step uint64) [2]uint32 {
	return [2]uint32{uint32(n.Seed), uint32(n.Seed>>32) ^ uint32(step>>32)}
}

// normals turns words into normal numbers, len(dst) <= len(words).
func normals(dst []float32, words []uint32) {
	words = words[:len(dst)]
	for i, w := range words {
		m := w & (1<<31 - 1)
		o := bits.Len32(m)
		y := uint32(uint64(m) << (uint(33-o) & 63))
		c := &pieces[uint8(o<<3)|uint8(y>>29)]
		j := float32(int32(y << 3 >> 8))
		z := float32(c[3]*j) + c[2]
		z = float32(z*j) + c[1]
		z = float32(z*j) + c[0]
		dst[i] = math.Float32frombits(math.Float32bits(z) ^ w&(1<<31))
	}
}

// A move takes the step of [Langevin] with the noise as it is drawn, or without any.
type move struct {
	x, g        []float32 // as long as the noise; none if x is nil
	drift, kick float32
}

// falls reports whether the move draws nothing.
func (m *move) falls() bool { return m.x != nil && m.kick == 0 }

// fall moves n entries from ….
func (m *move) fall(from, n int) {
	x, g := m.x[from:from+n], m.g[from:from+n]
	for i, g := range g {
		x[i] -= float32(m.drift * g)
	}
}

// apply moves the entries from … with noise e.
func (m *move) apply(from int, e []float32) {
	x, g := m.x[from:from+len(e)], m.g[from:from+len(e)]
	for i, e := range e {
		moved := x[i] - float32(m.drift*g[i])
		x[i] = moved + float32(m.kick*e)
	}
}

// A fill is a request for the normals of blocks [from, to), counted over all rows, or
// for the norms of rows [from, to).
type fill struct {
	move
	norms []float64 // if not nil, of the rows of dst
	limit float32   // what these are clipped to, 0 for no clipping

	dst      []float32
	chain    []uint64
	dim      int
	step     uint32
	key      [2]uint32
	from, to int
	done     *sync.WaitGroup
}

// perWorker is the number of blocks worth waking another goroutine for.
const perWorker = 4096

var (
	groups  = sync.Pool{New: func() any { return new(sync.WaitGroup) }}
	fillers = sync.OnceValue(func() chan<- fill {
		// The goroutines live as long as the process, so that a step starts and allocates nothing. They
		// wait for nobody: with fewer of them than parts, a part waits for the first that is done.
		c := make(chan fill)
		for range runtime.NumCPU() {
			go func() {
				for f := range c {
					f.draw()
					f.done.Done()
				}
			}()
		}
		return c
	})
)

// run draws all blocks, on several processors if there are enough of them.
func (f fill) run() {
	blocks := len(f.chain) * ((f.dim + 3) / 4)
	workers := min(blocks/perWorker, runtime.GOMAXPROCS(0))
	if f.norms != nil {
		blocks = len(f.chain)
		workers = min(workers, blocks)
	}
	if workers < 2 {
		f.to = blocks
		f.draw()
		return
	}
	f.done = groups.Get().(*sync.WaitGroup)
	for w := 1; w < workers; w++ {
		part := f
		part.from, part.to = blocks*w/workers, blocks*(w+1)/workers
		f.done.Add(1)
		fillers() <- part
	}
	f.from, f.to = 0, blocks/workers
	f.draw()
	f.done.Wait()
	groups.Put(f.done)
}

// draw does what is asked for from … to−1.
func (f *fill) draw() {
	if f.norms != nil {
		for i := f.from; i < f.to; i++ {
			row := f.dst[i*f.dim : (i+1)*f.dim]
			if f.limit > 0 {
				clip(row, f.limit)
			}
			f.norms[i] = norm(row)
		}
		return
	}
	perRow := (f.dim + 3) / 4
	if perRow == 0 {
		return
	}
	var words [256]uint32
	row, block := f.from/perRow, f.from%perRow
	for left := f.to - f.from; left > 0; {
		count := min(left, perRow-block, len(words)/4)
		at := row*f.dim + 4*block
		e := f.dst[at:min((row+1)*f.dim, at+4*count)]
		if f.falls() {
			f.fall(at, len(e))
		} else {
			id := f.chain[row]
			for i := range count {
				w := (*[4]uint32)(words[4*i:])
				w[0], w[1], w[2], w[3] = philox(uint32(id), uint32(id>>32), f.step, normalStream+uint32(block+i), f.key[0], f.key[1])
			}
			normals(e, words[:])
			if f.x != nil {
				f.apply(at, e)
			}
		}
		left -= count
		if block += count; block == perRow {
			row, block = row+1, 0
		}
	}
}
