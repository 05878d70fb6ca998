package data

import (
	"math"
	"math/rand/v2"
)

// Regulator is the problem behind synthetic/regulator: x(t+1) = x(t) + u(t) from x(0) = 1 under the cost
// A·Σ x(t)² + B·Σ u(t)² over T moments. Controls drawn from exp(−cost) are Gaussian: their precision is
// 2·(A·LᵀL + B·I) with L lower-triangular of ones, their mean −(A·LᵀL + B·I)⁻¹·A·Lᵀ·1.
var Regulator = struct {
	T    int
	A, B float64
}{10, 2, 1}

// regulator draws controls [T, 1] exactly from exp(−cost).
func regulator() *synthetic {
	n := Regulator.T
	// Cholesky of Q = A·LᵀL + B·I, where (LᵀL)ij counts the moments from max(i, j) on.
	q := make([][]float64, n)
	for i := range q {
		q[i] = make([]float64, n)
		for j := range i + 1 {
			v := Regulator.A * float64(n-i)
			if i == j {
				v += Regulator.B
			}
			for k := range j {
				v -= q[i][k] * q[j][k]
			}
			if i == j {
				q[i][i] = math.Sqrt(v)
			} else {
				q[i][j] = v / q[j][j]
			}
		}
	}
	back := func(y []float64) { // solves Cᵀ·u = y in place
		for i := n - 1; i >= 0; i-- {
			for k := i + 1; k < n; k++ {
				y[i] -= q[k][i] * y[k]
			}
			y[i] /= q[i][i]
		}
	}
	mean := make([]float64, n)
	for i := range mean {
		mean[i] = -Regulator.A * float64(n-i)
		for k := range i {
			mean[i] -= q[i][k] * mean[k]
		}
		mean[i] /= q[i][i]
	}
	back(mean)
	return &synthetic{
		n:    2000,
		form: func(_, _, _ int) *Set { return form(Path, 1, 0, n, 1) },
		scene: func(r *rand.Rand, e *example) (int, []float32) {
			u := make([]float64, n)
			for i := range u {
				u[i] = r.NormFloat64() / math.Sqrt2
			}
			back(u)
			for i := range u {
				e.x[i] = float32(mean[i] + u[i])
			}
			return 0, nil
		},
	}
}

// Numbers of the vehicle of synthetic/drive.
const (
	DriveStep  = 0.1 // seconds
	DriveBase  = 2.8 // metres between the axles
	DriveSteps = 30
)

// DriveWeights is the cost of synthetic/drive, the weight of each of [DriveFeatures].
var DriveWeights = [6]float64{0.3, 2, 0.1, 0.5, 20, 15}

// A DriveScene is what a vehicle of synthetic/drive finds, in metres and seconds: its lateral place,
// heading and speed at the start, the curvature of the lane, whose middle is y = curvature·x²/2, the
// speed limit and the middle of an obstacle. X is where it starts along the lane, and Others the paths of
// further vehicles that are obstacles too, each moment's weighed OthersWeigh times.
type DriveScene struct {
	Y, Heading, Speed, Curvature, Limit, ObstacleX, ObstacleY float64

	X           float64
	Others      [][][4]float64
	OthersWeigh float64
}

// DriveSceneOf takes a scene from the set's Given, where an eighth number is X.
func DriveSceneOf(v []float32) DriveScene {
	s := DriveScene{Y: float64(v[0]), Heading: float64(v[1]), Speed: float64(v[2]), Curvature: float64(v[3]), Limit: float64(v[4]), ObstacleX: float64(v[5]), ObstacleY: float64(v[6])}
	if len(v) > 7 {
		s.X = float64(v[7])
	}
	return s
}

func (s DriveScene) vector() []float32 {
	return []float32{float32(s.Y), float32(s.Heading), float32(s.Speed), float32(s.Curvature), float32(s.Limit), float32(s.ObstacleX), float32(s.ObstacleY)}
}

// Roll is the states (x, y, heading, speed) that controls (acceleration, steering angle) lead to, by the
// kinematic bicycle about its rear axle: x += v·cos φ·Δ, y += v·sin φ·Δ, φ += v/base·tan δ·Δ, v += a·Δ.
func (s DriveScene) Roll(u [][2]float64) [][4]float64 {
	out := make([][4]float64, len(u))
	at := [4]float64{s.X, s.Y, s.Heading, s.Speed}
	for t, c := range u {
		sin, cos := math.Sincos(at[2])
		v := at[3]
		at = [4]float64{at[0] + v*cos*DriveStep, at[1] + v*sin*DriveStep, at[2] + v/DriveBase*math.Tan(c[1])*DriveStep, v + c[0]*DriveStep}
		out[t] = at
	}
	return out
}

// DriveFeatures is the six features of one moment whose weighted sum over all moments is the cost: the
// squares of the distance to the middle of the lane, of the heading against the lane's, of the speed
// against the limit, of acceleration and of steering, and exp(−d²/(2·1.5²)) of the distance d to the
// obstacle.
func (s DriveScene) DriveFeatures(x [4]float64, u [2]float64) [6]float64 {
	d2 := sq(x[0]-s.ObstacleX) + sq(x[1]-s.ObstacleY)
	return [6]float64{
		sq(x[1] - s.Curvature*x[0]*x[0]/2), sq(x[2] - math.Atan(s.Curvature*x[0])), sq(x[3] - s.Limit),
		sq(u[0]), sq(u[1]), math.Exp(-d2 / (2 * 1.5 * 1.5)),
	}
}

// Cost is the cost of controls and its slope in them, by one sweep back over the moments.
func (s DriveScene) Cost(u [][2]float64) (cost float64, slope [][2]float64) {
	x := s.Roll(u)
	w := DriveWeights
	slope = make([][2]float64, len(u))
	var back [4]float64 // slope in the state that moment t leads to
	for t := len(u) - 1; t >= 0; t-- {
		p := x[t]
		f := s.DriveFeatures(p, u[t])
		for k, v := range f {
			cost += w[k] * v
		}
		lane, tilt := p[1]-s.Curvature*p[0]*p[0]/2, p[2]-math.Atan(s.Curvature*p[0])
		near := -w[5] * f[5] / (1.5 * 1.5)
		back[0] += -2*w[0]*lane*s.Curvature*p[0] - 2*w[1]*tilt*s.Curvature/(1+sq(s.Curvature*p[0])) + near*(p[0]-s.ObstacleX)
		back[1] += 2*w[0]*lane + near*(p[1]-s.ObstacleY)
		back[2] += 2 * w[1] * tilt
		back[3] += 2 * w[2] * (p[3] - s.Limit)
		for _, o := range s.Others {
			dx, dy := p[0]-o[t][0], p[1]-o[t][1]
			v := s.OthersWeigh * w[5] * math.Exp(-(dx*dx+dy*dy)/(2*1.5*1.5))
			cost += v
			back[0] -= v * dx / (1.5 * 1.5)
			back[1] -= v * dy / (1.5 * 1.5)
		}
		before := [4]float64{s.X, s.Y, s.Heading, s.Speed}
		if t > 0 {
			before = x[t-1]
		}
		sin, cos := math.Sincos(before[2])
		v, tan := before[3], math.Tan(u[t][1])
		slope[t] = [2]float64{
			2*w[3]*u[t][0] + back[3]*DriveStep,
			2*w[4]*u[t][1] + back[2]*v/DriveBase*(1+tan*tan)*DriveStep,
		}
		back = [4]float64{
			back[0], back[1],
			back[2] + (back[1]*v*cos-back[0]*v*sin)*DriveStep,
			back[3] + (back[0]*cos+back[1]*sin+back[2]*tan/DriveBase)*DriveStep,
		}
	}
	return cost, slope
}

// Minimise descends the cost from controls of zero, with steps that shrink where the cost would rise,
// steering kept within half a radian.
func (s DriveScene) Minimise(steps int) [][2]float64 {
	return s.descend(make([][2]float64, steps), 600)
}

func (s DriveScene) descend(u [][2]float64, most int) [][2]float64 {
	scale := [2]float64{1, 0.02} // of acceleration and steering
	cost, slope := s.Cost(u)
	for rate, n := 0.05, 0; n < most && rate > 1e-9; n++ {
		next := make([][2]float64, len(u))
		for t := range u {
			for k := range scale {
				next[t][k] = u[t][k] - rate*scale[k]*slope[t][k]
			}
			next[t][1] = max(-0.5, min(0.5, next[t][1]))
		}
		c, g := s.Cost(next)
		if c >= cost {
			rate /= 2
			continue
		}
		small := cost-c < 1e-9*cost
		u, cost, slope, rate = next, c, g, rate*1.2
		if small {
			break
		}
	}
	return u
}

// drive is experts' controls [T, 2], acceleration and steering: minimisers of a known cost in scenes, which
// are given, with a little noise. Beside "states" is where they lead, [T, 4].
func drive() *synthetic {
	return &synthetic{
		n: 200,
		form: func(_, _, _ int) *Set {
			s := form(Path, 1, 0, DriveSteps, 2)
			s.Given = form(Plain, 7, 0, 1, 1)
			s.Beside = map[string]*Set{"states": form(Path, 1, 0, DriveSteps, 4)}
			return s
		},
		scene: func(r *rand.Rand, e *example) (int, []float32) {
			s := DriveScene{
				Y: uniform(r, -1, 1), Heading: uniform(r, -0.06, 0.06), Speed: uniform(r, 8, 12),
				Curvature: uniform(r, -0.02, 0.02), Limit: uniform(r, 9, 13),
			}
			s.ObstacleX = uniform(r, 14, 26)
			side := float64(2*r.IntN(2) - 1)
			s.ObstacleY = s.Curvature*s.ObstacleX*s.ObstacleX/2 + side*uniform(r, 0.8, 2.5)
			copy(e.next["given"], s.vector())
			s = DriveSceneOf(e.next["given"]) // as float32 has it
			u := s.Minimise(DriveSteps)
			for t := range u {
				u[t][0] += 0.1 * r.NormFloat64()
				u[t][1] += 0.003 * r.NormFloat64()
				e.x[2*t], e.x[2*t+1] = float32(u[t][0]), float32(u[t][1])
			}
			for t, x := range s.Roll(u) {
				for k, v := range x {
					e.next["states"][4*t+k] = float32(v)
				}
			}
			return 0, nil
		},
	}
}

// ConvoyAgents is how many vehicles synthetic/convoy has.
const ConvoyAgents = 3

// convoy is experts' controls [T, 2·agents] of vehicles that come from three lanes at about the same place
// and want the same lane: minimisers of the sum of the cost of synthetic/drive over all, where each is an
// obstacle to the others, with a little noise. Scenes are those of synthetic/drive with X, side by side.
// Beside "states" is where they go, [T, 4·agents].
func convoy() *synthetic {
	const agents = ConvoyAgents
	return &synthetic{
		n: 120,
		form: func(_, _, _ int) *Set {
			s := form(Path, 1, 0, DriveSteps, 2*agents)
			s.Given = form(Plain, 8*agents, 0, 1, 1)
			s.Beside = map[string]*Set{"states": form(Path, 1, 0, DriveSteps, 4*agents)}
			return s
		},
		scene: func(r *rand.Rand, e *example) (int, []float32) {
			bend, ahead := uniform(r, -0.01, 0.01), r.Perm(agents)
			var scenes [agents]DriveScene
			for k := range scenes {
				s := DriveScene{
					Y: 3*float64(k-1) + uniform(r, -0.3, 0.3), Heading: uniform(r, -0.03, 0.03), Speed: uniform(r, 9, 11),
					Curvature: bend, Limit: uniform(r, 9, 13), X: 2*float64(ahead[k]) + uniform(r, -0.5, 0.5),
				}
				s.ObstacleX = uniform(r, 18, 28)
				s.ObstacleY = bend*s.ObstacleX*s.ObstacleX/2 + float64(2*r.IntN(2)-1)*uniform(r, 1.5, 3)
				if k > 0 {
					s.ObstacleX, s.ObstacleY = scenes[0].ObstacleX, scenes[0].ObstacleY
				}
				copy(e.next["given"][8*k:], append(s.vector(), float32(s.X)))
				scenes[k] = DriveSceneOf(e.next["given"][8*k : 8*k+8]) // as float32 has it
			}
			for k, u := range minimiseTogether(scenes[:], DriveSteps) {
				for t := range u {
					u[t][0] += 0.1 * r.NormFloat64()
					u[t][1] += 0.003 * r.NormFloat64()
					e.x[2*(agents*t+k)], e.x[2*(agents*t+k)+1] = float32(u[t][0]), float32(u[t][1])
				}
				for t, x := range scenes[k].Roll(u) {
					for j, v := range x {
						e.next["states"][4*(agents*t+k)+j] = float32(v)
					}
				}
			}
			return 0, nil
		},
	}
}

// minimiseTogether descends the sum of all costs, one vehicle at a time while the others keep to their
// paths. What two cost each other is in the costs of both, so it weighs twice for who moves.
func minimiseTogether(scenes []DriveScene, steps int) [][][2]float64 {
	u, paths := make([][][2]float64, len(scenes)), make([][][4]float64, len(scenes))
	for k, s := range scenes {
		u[k] = make([][2]float64, steps)
		paths[k] = s.Roll(u[k])
	}
	for range 12 {
		for k, s := range scenes {
			s.Others, s.OthersWeigh = nil, 2
			for j, p := range paths {
				if j != k {
					s.Others = append(s.Others, p)
				}
			}
			u[k] = s.descend(u[k], 100)
			paths[k] = s.Roll(u[k])
		}
	}
	return u
}
