package generativeconvnet

import (
	"fmt"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/data"
)

// The places where chains start in every iteration.
const (
	Persistent  = "persistent" // where they ended last time, out of a bank
	FromData    = "data"       // at the data batch: contrastive divergence
	FromNoise   = "noise"      // at fresh noise: short-run sampling
	Uniform     = "uniform"    // noise in [−1, 1], inside the clamp
	Gaussian    = "gaussian"   // noise N(0, σ_ref²), or N(0, 1)
	defaultBank = 2000

	Flip   = "flip"   // sabotage: the sign of the parameter gradient
	Freeze = "freeze" // sabotage: no updates
)

// Config are the settings of the system; see the presets for values that work.
type Config struct {
	Net  string       `yaml:"net"`            // a named network
	Spec *energy.Spec `yaml:"spec,omitempty"` // or one written out

	Steps     int               `yaml:"steps"` // learning iterations
	Batch     int               `yaml:"batch"` // data examples, and chains, per iteration
	Langevin  training.Langevin `yaml:"langevin"`
	NoiseFor  int               `yaml:"noise_for,omitempty"` // iterations after which sampling goes on without noise; 0 is never
	Chains    Chains            `yaml:"chains"`
	Reference struct {
		Sigma float64 `yaml:"sigma"` // of the Gaussian reference density; 0 is the uniform one
	} `yaml:"reference"`
	Data struct {
		Noise float64 `yaml:"noise"` // deviation of the noise added to every data batch
		Scale string  `yaml:"scale"` // unit is [−1, 1] (default), bytes is [0, 255] and share [0, 1], both minus the data's mean
	} `yaml:"data"`
	Optim    training.Optim `yaml:"optim"`
	ScoreL2  float64        `yaml:"score_l2"` // weight of mean f² of both batches, which holds scores near 0
	Spectral bool           `yaml:"spectral"` // spectral normalisation of the weights
	EMA      float64        `yaml:"ema"`      // decay of the averaged weights that are exported; 0 exports the last
	Guard    training.Guard `yaml:"guard"`

	// Sabotage spoils learning on purpose, to show that an acceptance test can
	// fail: "flip" climbs where it should descend, "freeze" never updates.
	Sabotage string `yaml:"sabotage,omitempty"`
}

// Chains say where sampling starts.
type Chains struct {
	Init    string  `yaml:"init"`    // persistent, data or noise
	Start   string  `yaml:"start"`   // the noise they begin with: uniform (default) or gaussian
	Buffer  int     `yaml:"buffer"`  // persistent: chains in the bank [2000]
	Restart float64 `yaml:"restart"` // persistent: share of chains begun anew in every iteration
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	if err := c.Langevin.Check(); err != nil {
		return err
	}
	switch {
	case c.Steps < 1:
		return fmt.Errorf("steps: wanted at least 1, got %d", c.Steps)
	case c.Batch < 1:
		return fmt.Errorf("batch: wanted at least 1, got %d", c.Batch)
	case c.Chains.Init != Persistent && c.Chains.Init != FromData && c.Chains.Init != FromNoise:
		return fmt.Errorf("chains.init: wanted persistent, data or noise, got %q", c.Chains.Init)
	case c.Chains.Start != "" && c.Chains.Start != Uniform && c.Chains.Start != Gaussian:
		return fmt.Errorf("chains.start: wanted uniform or gaussian, got %q", c.Chains.Start)
	case c.Chains.Init == Persistent && c.Bank() < c.Batch:
		return fmt.Errorf("chains.buffer: wanted at least the batch of %d, got %d", c.Batch, c.Bank())
	case c.Chains.Restart < 0 || c.Chains.Restart > 1:
		return fmt.Errorf("chains.restart: wanted a share from 0 to 1, got %g", c.Chains.Restart)
	case c.Reference.Sigma < 0:
		return fmt.Errorf("reference.sigma: wanted 0 or more, got %g", c.Reference.Sigma)
	case c.NoiseFor < 0:
		return fmt.Errorf("noise_for: wanted 0 or more iterations, got %d", c.NoiseFor)
	case c.Data.Scale != "" && c.Data.Scale != data.Unit && c.Data.Scale != data.Bytes && c.Data.Scale != data.Share:
		return fmt.Errorf("data.scale: wanted unit, bytes or share, got %q", c.Data.Scale)
	case c.Data.Noise < 0:
		return fmt.Errorf("data.noise: wanted 0 or more, got %g", c.Data.Noise)
	case c.ScoreL2 < 0:
		return fmt.Errorf("score_l2: wanted 0 or more, got %g", c.ScoreL2)
	case c.EMA < 0 || c.EMA >= 1:
		return fmt.Errorf("ema: wanted a decay from 0 to below 1, got %g", c.EMA)
	case c.Sabotage != "" && c.Sabotage != Flip && c.Sabotage != Freeze:
		return fmt.Errorf("sabotage: wanted flip or freeze, got %q", c.Sabotage)
	case c.Reference.Sigma == 0 && c.Langevin.Clamp == [2]float64{}:
		return fmt.Errorf("reference.sigma and langevin.clamp are both off: nothing keeps samples in range; set one")
	}
	return nil
}

// DataScale is the scale that the data is to be brought to.
func (c *Config) DataScale() string { return c.Data.Scale }

// Bank is the number of persistent chains.
func (c *Config) Bank() int {
	if c.Chains.Buffer == 0 {
		return defaultBank
	}
	return c.Chains.Buffer
}

// Network is the network's description.
func (c *Config) Network() (energy.Spec, error) {
	if c.Spec != nil {
		return *c.Spec, nil
	}
	return energy.ByName(c.Net)
}
