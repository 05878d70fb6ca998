package generativeconvnet

import (
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/check"
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
	Init    string  `yaml:"init"`             // persistent, data or noise
	Start   string  `yaml:"start"`            // the noise they begin with: uniform (default) or gaussian
	Buffer  int     `yaml:"buffer"`           // persistent: chains in the bank [2000]
	Restart float64 `yaml:"restart"`          // persistent: share of chains begun anew in every iteration
	Spread  float64 `yaml:"spread,omitempty"` // of sets of points: each chain's cloud is mapped by 1 + spread·N(0, 1), a matrix of its own
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	return check.First(
		c.Langevin.Check(),
		check.AtLeast("steps", c.Steps, 1),
		check.AtLeast("batch", c.Batch, 1),
		check.OneOf("chains.init", c.Chains.Init, Persistent, FromData, FromNoise),
		check.OneOf("chains.start", c.Chains.Start, "", Uniform, Gaussian),
		check.If(c.Chains.Init == Persistent && c.Bank() < c.Batch, "chains.buffer: wanted at least the batch of %d, got %d", c.Batch, c.Bank()),
		check.Within("chains.restart", c.Chains.Restart, 0, 1),
		check.AtLeast("chains.spread", c.Chains.Spread, 0),
		check.AtLeast("reference.sigma", c.Reference.Sigma, 0),
		check.AtLeast("noise_for", c.NoiseFor, 0),
		check.OneOf("data.scale", c.Data.Scale, "", data.Unit, data.Bytes, data.Share),
		check.AtLeast("data.noise", c.Data.Noise, 0),
		check.AtLeast("score_l2", c.ScoreL2, 0),
		check.If(c.EMA < 0 || c.EMA >= 1, "ema: wanted a decay from 0 to below 1, got %g", c.EMA),
		check.OneOf("sabotage", c.Sabotage, "", Flip, Freeze),
		check.If(c.Reference.Sigma == 0 && c.Langevin.Clamp == [2]float64{}, "reference.sigma and langevin.clamp are both off: nothing keeps samples in range; set one"),
	)
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
	return onnxmodels.Chosen(c.Spec, energy.ByName, c.Net)
}
