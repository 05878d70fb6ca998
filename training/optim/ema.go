package optim

// EMA keeps an exponential moving average of weights, which starts as a copy of the first weights it
// sees.
type EMA struct {
	memory
	decay float32
}

var _ Stateful = (*EMA)(nil)

// NewEMA returns an average that keeps the share decay of itself at every update.
func NewEMA(decay float64) *EMA { return &EMA{memory: remember("w"), decay: float32(decay)} }

// Update moves the averages towards the weights W of p; gradients are not used.
func (e *EMA) Update(p []Param) error {
	first := e.steps == 0
	if err := e.next(p); err != nil {
		return err
	}
	for i := range p {
		mean := e.of[0][p[i].Name]
		if first {
			copy(mean, p[i].W)
			continue
		}
		for j, w := range p[i].W {
			mean[j] += float32((1 - e.decay) * (w - mean[j]))
		}
	}
	return nil
}

// Weights returns the average of the named parameter, live, or nil if there is none yet.
func (e *EMA) Weights(name string) []float32 { return e.of[0][name] }
