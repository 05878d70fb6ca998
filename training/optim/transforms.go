package optim

import (
	"fmt"
	"math"
)

// function is a Transform without memory.
type function func(p []Param) error

func (f function) Update(p []Param) error { return f(p) }

// each makes a Transform that rewrites every gradient entry.
func each(f func(g []float32)) Transform {
	return function(func(p []Param) error {
		for i := range p {
			f(p[i].G)
		}
		return nil
	})
}

// Scale multiplies by factor; −(learning rate) ends most chains.
func Scale(factor float64) Transform {
	f := float32(factor)
	return each(func(g []float32) {
		for i := range g {
			g[i] *= f
		}
	})
}

// Clip holds every entry in [−limit, limit].
func Clip(limit float64) Transform {
	l := float32(limit)
	return each(func(g []float32) {
		for i, v := range g {
			if v > l {
				g[i] = l
			} else if v < -l {
				g[i] = -l
			}
		}
	})
}

// WeightDecay adds rate·W: before Adam it is the L2 penalty rate·‖W‖²/2, after Adam the decoupled
// decay of AdamW (Loshchilov and Hutter, 2019).
func WeightDecay(rate float64) Transform {
	r := float32(rate)
	return function(func(p []Param) error {
		for i := range p {
			w, g := p[i].W, p[i].G
			if len(w) < len(g) {
				return fmt.Errorf("optim: parameter %q: want %d weights, got %d", p[i].Name, len(g), len(w))
			}
			for j := range g {
				g[j] += float32(r * w[j])
			}
		}
		return nil
	})
}

// NormClip is the Transform of [ClipNorm].
type NormClip struct {
	Max  float64
	seen float64
}

// ClipNorm scales all gradients together so that their joint Euclidean norm is at most max.
func ClipNorm(max float64) *NormClip { return &NormClip{Max: max} }

// Seen returns the norm that the last update found, before clipping.
func (c *NormClip) Seen() float64 { return c.seen }

// Update implements [Transform].
func (c *NormClip) Update(p []Param) error {
	c.seen = Norm(p)
	if c.seen-c.seen != 0 {
		return fmt.Errorf("optim: norm is %v: %w", c.seen, ErrNonFinite)
	}
	if c.seen <= c.Max {
		return nil
	}
	f := float32(c.Max / c.seen)
	for i := range p {
		g := p[i].G
		for j := range g {
			g[j] *= f
		}
	}
	return nil
}

// scheduled multiplies by a schedule of its own count of updates.
type scheduled struct {
	memory
	sign float64
	s    Schedule
}

// ScaleBy multiplies by s(0) at the first update, s(1) at the second, and so on.
func ScaleBy(s Schedule) Transform { return &scheduled{memory: remember(), sign: 1, s: s} }

// LearningRate multiplies by −s: the end of a chain that descends.
func LearningRate(s Schedule) Transform { return &scheduled{memory: remember(), sign: -1, s: s} }

func (t *scheduled) Update(p []Param) error {
	f := float32(t.sign * t.s(int(t.steps)))
	for i := range p {
		g := p[i].G
		for j := range g {
			g[j] *= f
		}
	}
	t.steps++
	return nil
}

type momentum struct {
	memory
	mu       float32
	nesterov bool
}

// Momentum replaces g by the trace m ← mu·m + g, or with nesterov by g + mu·m of the new trace
// (Sutskever et al., 2013).
func Momentum(mu float64, nesterov bool) Transform {
	return &momentum{memory: remember("m"), mu: float32(mu), nesterov: nesterov}
}

func (t *momentum) Update(p []Param) error {
	if err := t.next(p); err != nil {
		return err
	}
	for i := range p {
		g := p[i].G
		m := t.of[0][p[i].Name][:len(g)]
		for j, v := range g {
			m[j] = float32(t.mu*m[j]) + v
			if t.nesterov {
				g[j] = v + float32(t.mu*m[j])
			} else {
				g[j] = m[j]
			}
		}
	}
	return nil
}

type rmsProp struct {
	memory
	decay float64
	eps   float32
}

// RMSProp replaces g by g/(√v + eps), v ← decay·v + (1 − decay)·g² from v = 0 (Tieleman and
// Hinton, 2012).
func RMSProp(decay, eps float64) Transform {
	return &rmsProp{memory: remember("v"), decay: decay, eps: float32(eps)}
}

func (t *rmsProp) Update(p []Param) error {
	if err := t.next(p); err != nil {
		return err
	}
	d, c := float32(t.decay), float32(1-t.decay)
	for i := range p {
		g := p[i].G
		v := t.of[0][p[i].Name][:len(g)]
		for j, a := range g {
			v[j] = float32(d*v[j]) + float32(c*float32(a*a))
			g[j] = a / (sqrt(v[j]) + t.eps)
		}
	}
	return nil
}

type adam struct {
	memory
	b1, b2 float64
	eps    float32
}

// Adam replaces g by m̂/(√v̂ + eps) with m ← b1·m + (1 − b1)·g, v ← b2·v + (1 − b2)·g²,
// m̂ = m/(1 − b1ᵗ), v̂ = v/(1 − b2ᵗ) at update t = 1, 2, … (Kingma and Ba, 2015, algorithm 1).
func Adam(b1, b2, eps float64) Transform {
	return &adam{memory: remember("m", "v"), b1: b1, b2: b2, eps: float32(eps)}
}

func (t *adam) Update(p []Param) error {
	if err := t.next(p); err != nil {
		return err
	}
	b1, b2, eps := float32(t.b1), float32(t.b2), t.eps
	c1, c2 := float32(1-t.b1), float32(1-t.b2)
	scale1 := float32(1 / (1 - math.Pow(t.b1, float64(t.steps))))
	scale2 := float32(1 / (1 - math.Pow(t.b2, float64(t.steps))))
	for i := range p {
		g := p[i].G
		m, v := t.of[0][p[i].Name][:len(g)], t.of[1][p[i].Name][:len(g)]
		for j, a := range g {
			mj := float32(b1*m[j]) + float32(c1*a)
			vj := float32(b2*v[j]) + float32(c2*float32(a*a))
			m[j], v[j] = mj, vj
			g[j] = float32(scale1*mj) / (sqrt(float32(scale2*vj)) + eps)
		}
	}
	return nil
}

func sqrt(v float32) float32 { return float32(math.Sqrt(float64(v))) }
