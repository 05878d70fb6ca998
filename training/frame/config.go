package frame

import (
	"ebmrun/training"
	"ebmrun/training/check"
	"ebmrun/training/filters"
)

// The models.
const (
	Histogram = "histogram" // a potential for every bin of every filter, Gibbs sampling
	Julesz    = "julesz"    // no potentials: pictures whose histograms are the observed ones, by annealing

	Flip   = "flip"   // sabotage: potentials move the wrong way, or histograms are driven apart
	Freeze = "freeze" // sabotage: potentials stay at zero, or pictures at noise
)

// Config are the settings of the system; see the presets for values that work.
type Config struct {
	Mode    string `yaml:"mode"`   // histogram or julesz
	Steps   int    `yaml:"steps"`  // learning iterations: updates of the potentials
	Levels  int    `yaml:"levels"` // grey levels
	Bins    int    `yaml:"bins"`   // of each histogram
	Chains  int    `yaml:"chains"` // pictures that are sampled side by side
	Sweeps  int    `yaml:"sweeps"` // Gibbs sweeps per iteration
	Filters struct {
		Wavelengths  []float64 `yaml:"wavelengths"`  // of Gabor filters, in pixels
		Orientations int       `yaml:"orientations"` // of Gabor filters
		Blobs        []float64 `yaml:"blobs"`        // deviations of differences of Gaussians
	} `yaml:"filters"` // to choose from, besides the intensity and differences of neighbours
	Select struct {
		Most  int     `yaml:"most"`  // filters to choose
		Every int     `yaml:"every"` // iterations between two choices
		Gap   float64 `yaml:"gap"`   // choose none whose histograms are closer than this (L1)
	} `yaml:"select"`
	Rate        float64        `yaml:"rate"`        // of the potentials: λ += rate·(observed − sampled shares)
	Temperature [2]float64     `yaml:"temperature"` // julesz: from … to, in misplaced responses per nat
	Burn        int            `yaml:"burn"`        // sweeps from noise to a picture that is drawn afterwards
	Guard       training.Guard `yaml:"guard"`

	// Sabotage spoils learning on purpose: "flip" climbs where it should descend, "freeze" never updates.
	Sabotage string `yaml:"sabotage,omitempty"`
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	err := check.First(
		check.OneOf("mode", c.Mode, Histogram, Julesz),
		check.Within("levels", c.Levels, 2, 64),
		check.Within("bins", c.Bins, 2, 64),
		check.AtLeast("steps", c.Steps, 1),
		check.AtLeast("chains", c.Chains, 1),
		check.AtLeast("sweeps", c.Sweeps, 1),
		check.AtLeast("burn", c.Burn, 1),
		check.AtLeast("select.most", c.Select.Most, 1),
		check.AtLeast("select.every", c.Select.Every, 1),
		check.AtLeast("select.gap", c.Select.Gap, 0),
		check.When(c.Mode == Histogram, check.Positive("rate", c.Rate)),
		check.If(c.Mode == Julesz && !(c.Temperature[1] > 0 && c.Temperature[0] >= c.Temperature[1]), "temperature: wanted two positive numbers, the first not below the second, got %v", c.Temperature),
		check.OneOf("sabotage", c.Sabotage, "", Flip, Freeze),
	)
	if err == nil {
		_, err = c.bank()
	}
	return err
}

// bank is the filters to choose from.
func (c *Config) bank() ([]filters.Filter, error) {
	bank := append([]filters.Filter{filters.Intensity()}, filters.Differences()...)
	for _, sd := range c.Filters.Blobs {
		f, err := filters.Blob(sd)
		if err != nil {
			return nil, err
		}
		bank = append(bank, f)
	}
	if len(c.Filters.Wavelengths) == 0 {
		return bank, nil
	}
	round, err := filters.Round(c.Filters.Wavelengths, c.Filters.Orientations)
	return append(bank, round...), err
}

// A Preset is a named set of settings and what it is for.
type Preset struct {
	Title  string
	Config Config
}

func histogram(change func(*Config)) Config {
	c := Config{Mode: Histogram, Steps: 80, Levels: 8, Bins: 15, Chains: 1, Sweeps: 4, Rate: 0.4, Burn: 60}
	c.Filters.Wavelengths, c.Filters.Orientations, c.Filters.Blobs = []float64{3, 5, 8}, 6, []float64{0.7, 1.2, 2}
	c.Select.Most, c.Select.Every, c.Select.Gap = 6, 8, 0.1
	// V sums over all places of all filters
	c.Guard.MaxValue = 1e7
	change(&c)
	return c
}

// Presets is the table of settings with a name. The original papers' sweeps and filter lists could not
// be found: "published" keeps their model, with 15 bins and 8 grey levels, and 10 filters.
var Presets = map[string]Preset{
	"texture": {"one texture of about 64×64, half a minute", histogram(func(*Config) {})},
	"published": {"the published model on one texture: 10 filters, 10 updates of 4 sweeps for each", histogram(func(c *Config) {
		c.Steps, c.Select.Most, c.Select.Every = 100, 10, 10
		c.Filters.Wavelengths, c.Filters.Orientations = []float64{4, 6, 9}, 8
	})},
	"julesz": {"pictures with the observed histograms, by annealing", histogram(func(c *Config) {
		c.Mode, c.Temperature, c.Select.Every = Julesz, [2]float64{8, 2}, 5
	})},
}

// For returns the settings for data of the given dimensions: "small" and "paper" pick the preset that
// fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Named("frame", Presets, "texture", "published", name, 0, dims)
	return p.Config, err
}
