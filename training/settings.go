package training

import (
	"cmp"
	"fmt"

	"ebmrun/training/check"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

// Langevin are the settings of short Langevin runs in data or latent space.
type Langevin struct {
	Steps    int        `yaml:"steps"`     // steps per learning iteration
	Step     float64    `yaml:"step"`      // step size s; Δt = s², δ = s²/2
	Noise    float64    `yaml:"noise"`     // noise multiplier τ: 1 samples, 0 descends
	GradClip float64    `yaml:"grad_clip"` // each entry of ∂U/∂x is held within ±grad_clip; 0 is off
	Clamp    [2]float64 `yaml:"clamp"`     // each entry of x is held inside; both 0 is off
	Fused    bool       `yaml:"fused"`     // all steps of an iteration in one graph
}

// Kernel is the sampler with these settings.
func (l Langevin) Kernel() sampler.Langevin {
	return sampler.Langevin{
		Size: float32(l.Step), Noise: float32(l.Noise), GradClip: float32(l.GradClip),
		ClampMin: float32(l.Clamp[0]), ClampMax: float32(l.Clamp[1]),
	}
}

// Check reports the first setting that makes no sense.
func (l Langevin) Check() error {
	return check.First(
		check.AtLeast("langevin.steps", l.Steps, 1),
		check.Positive("langevin.step", l.Step),
		check.AtLeast("langevin.noise", l.Noise, 0),
		check.AtLeast("langevin.grad_clip", l.GradClip, 0),
		check.If(l.Clamp[0] > l.Clamp[1], "langevin.clamp: wanted [low, high], got %v", l.Clamp),
	)
}

// String gives the step size in the three notations that papers use.
func (l Langevin) String() string {
	return fmt.Sprintf("%d steps of s = %.6g (Δt = s² = %.6g, δ = s²/2 = %.6g), noise multiplier %.6g", l.Steps, l.Step, l.Step*l.Step, l.Step*l.Step/2, l.Noise)
}

// Optim are the settings of an optimizer.
type Optim struct {
	Name  string     `yaml:"name"`  // adam (default), sgd or rmsprop
	LR    float64    `yaml:"lr"`    // learning rate
	Betas [2]float64 `yaml:"betas"` // of adam [0.9, 0.999]; the first is the momentum of sgd, the second the decay of rmsprop [0.99]
	Clip  float64    `yaml:"clip"`  // largest joint norm of all gradients; 0 is off
	Decay float64    `yaml:"decay"` // the rate falls along a half cosine to decay·lr; 0 keeps it
	Over  int        `yaml:"over"`  // iterations that the fall takes; 0 is all of the run

	Warmup int `yaml:"warmup,omitempty"` // iterations over which the rate grows from 0
}

// For is o in a run of so many iterations.
func (o Optim) For(steps int) Optim {
	o.Over = cmp.Or(o.Over, steps)
	return o
}

// An Optimizer updates weights and can be slowed down.
type Optimizer struct {
	chain *optim.Chained
	clip  *optim.NormClip
	slow  float64
}

// New builds the optimizer.
func (o Optim) New() (*Optimizer, error) {
	if !(o.LR > 0) {
		return nil, fmt.Errorf("optim.lr: wanted a positive rate, got %g", o.LR)
	}
	rate := optim.Constant(o.LR)
	if o.Decay > 0 {
		if o.Over < 1 {
			return nil, fmt.Errorf("optim.over: wanted the iterations of the decay, got %d", o.Over)
		}
		rate = optim.Cosine(o.LR, o.Decay*o.LR, o.Over)
	}
	if o.Warmup < 0 {
		return nil, fmt.Errorf("optim.warmup: wanted 0 or more iterations, got %d", o.Warmup)
	}
	if o.Warmup > 0 {
		rate = optim.Warmup(o.Warmup, rate)
	}
	for _, b := range o.Betas {
		if !(b >= 0 && b < 1) {
			return nil, fmt.Errorf("optim.betas: wanted numbers from 0 to below 1, got %v", o.Betas)
		}
	}
	opt := &Optimizer{slow: 1}
	var parts []optim.Transform
	// The clip comes first, also where it is off: it measures the gradient norm.
	limit := o.Clip
	if limit <= 0 {
		limit = 1e30
	}
	opt.clip = optim.ClipNorm(limit)
	parts = append(parts, opt.clip)
	switch o.Name {
	case "", "adam":
		b := o.Betas
		if b == [2]float64{} {
			b[0] = 0.9
		}
		parts = append(parts, optim.Adam(b[0], orDefault(b[1], 0.999), 1e-8))
	case "sgd":
		if o.Betas[0] > 0 {
			parts = append(parts, optim.Momentum(o.Betas[0], false))
		}
	case "rmsprop":
		parts = append(parts, optim.RMSProp(orDefault(o.Betas[1], 0.99), 1e-8))
	default:
		return nil, fmt.Errorf("optim.name: wanted adam, sgd or rmsprop, got %q", o.Name)
	}
	parts = append(parts, optim.LearningRate(func(step int) float64 { return opt.slow * rate(step) }))
	opt.chain = optim.Chain(parts...)
	return opt, nil
}

// Update descends along the gradients and returns their norm before clipping.
func (o *Optimizer) Update(p []optim.Param) (norm float64, err error) {
	err = optim.Step(o.chain, p)
	return o.clip.Seen(), err
}

// Slow multiplies the learning rate.
func (o *Optimizer) Slow(factor float64) { o.slow *= factor }

// Rate is the factor that Slow has reached.
func (o *Optimizer) Rate() float64 { return o.slow }
