package inverseoptimalcontrol

import (
	"context"
	"fmt"
	"slices"

	"gonum.org/v1/gonum/mat"

	"ebmrun/training"
)

// planner is an iterative linear-quadratic regulator (Li and Todorov 2004) with the damping of
// Levenberg and Marquardt: the dynamics are linearised and the cost is expanded to second order
// at the controls so far, the best of that problem are tried, and kept if the cost falls. The
// recursion over moments is written out as one system of all controls, so that costs may look
// at several moments at once.
type planner struct {
	m      *Model
	scenes []float32
	x, g   []float32 // controls [n, dim], and slopes of the energy
	u      []float32
	damp   []float64 // of each example, 0 once it has settled
	steps  []*mat.VecDense
}

// Damping begins here, grows tenfold where the cost does not fall and shrinks where it does; beyond
// stiff nothing moves.
const (
	damped = 1e-3
	stiff  = 1e9
)

// regulate moves n controls [n, dim] in their scenes to a minimum of the energy, in at most so many
// iterations.
func (m *Model) regulate(ctx context.Context, x, scenes []float32, iterations int) error {
	n := len(x) / m.dim()
	if m.Tangent == nil {
		return fmt.Errorf("inverse-optimal-control: iLQR wants the cost along the tangent of its dynamics, got none")
	}
	tangent := m.Tangent.Given(nil)
	for i, p := range m.Energy.Given(nil).Params() {
		copy(tangent.Params()[i].W, p.W) // the same network, in the same order
	}
	tangent.Refresh()
	r := &planner{m: m, scenes: scenes, x: x, g: make([]float32, len(x)), u: make([]float32, n), damp: make([]float64, n), steps: make([]*mat.VecDense, n)}
	for i := range r.damp {
		r.damp[i] = damped
	}
	energy := m.Energy.Given(scenes)
	if err := energy.EnergyGrad(x, r.u, r.g); err != nil {
		return err
	}
	curved := make([]*mat.SymDense, n)
	y, g, u := make([]float32, len(x)), make([]float32, len(x)), make([]float32, n)
	for range iterations {
		if err := ctx.Err(); err != nil {
			return err
		}
		copy(y, x)
		for i := range n {
			if r.damp[i] > stiff {
				continue
			}
			if curved[i] == nil {
				var err error
				if curved[i], err = r.curvature(i); err != nil {
					return err
				}
			}
			r.try(i, curved[i], r.row(y, i))
		}
		if err := energy.EnergyGrad(y, u, g); err != nil {
			return err
		}
		for i := range n {
			switch {
			case r.damp[i] > stiff:
			case u[i] < r.u[i]:
				copy(r.row(x, i), r.row(y, i))
				copy(r.row(r.g, i), r.row(g, i))
				r.u[i], curved[i], r.damp[i] = u[i], nil, max(r.damp[i]/10, 1e-9)
			default:
				r.damp[i] *= 10
			}
		}
	}
	return training.Finite(x)
}

func (r *planner) row(x []float32, i int) []float32 { return x[i*r.m.dim() : (i+1)*r.m.dim()] }

// curvature is that of example i along the tangent: a product with each unit vector.
func (r *planner) curvature(i int) (*mat.SymDense, error) {
	d, k := r.m.dim(), r.m.sceneSize()
	given := slices.Concat(r.scenes[i*k:(i+1)*k], r.row(r.x, i))
	units, h := make([]float32, d*d), make([]float32, d*d)
	for j := range d {
		units[j*d+j] = 1
	}
	c, ok := r.m.Tangent.Given(repeated(given, 1, d)).(training.Curver)
	if !ok {
		return nil, fmt.Errorf("inverse-optimal-control: iLQR wants an energy with curvature, got %T", r.m.Tangent)
	}
	if err := c.HessianVector(repeated(r.row(r.x, i), 1, d), units, h); err != nil {
		return nil, err
	}
	s := mat.NewSymDense(d, nil)
	for a := range d {
		for b := a; b < d; b++ {
			s.SetSym(a, b, (float64(h[a*d+b])+float64(h[b*d+a]))/2)
		}
	}
	return s, nil
}

// try writes the controls to try next to y: −(H + λ)⁻¹·slope further on, λ grown until that
// falls, and within the bounds of a prediction.
func (r *planner) try(i int, h *mat.SymDense, y []float32) {
	d := len(y)
	slope := mat.NewVecDense(d, nil)
	for j, v := range r.row(r.g, i) {
		slope.SetVec(j, -float64(v))
	}
	whole := mat.NewSymDense(d, nil)
	whole.CopySym(h)
	for ; r.damp[i] <= stiff; r.damp[i] *= 10 {
		for j := range d {
			whole.SetSym(j, j, h.At(j, j)+r.damp[i])
		}
		var c mat.Cholesky
		var step mat.VecDense
		if !c.Factorize(whole) || c.SolveVecTo(&step, slope) != nil {
			continue
		}
		bounds := r.m.config.Predict.Clamp
		for j := range y {
			y[j] += float32(step.AtVec(j))
			if bounds != [2]float64{} {
				y[j] = min(max(y[j], float32(bounds[0])), float32(bounds[1]))
			}
		}
		return
	}
}
