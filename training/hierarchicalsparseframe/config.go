package hierarchicalsparseframe

import (
	"math"

	"ebmrun/training"
	"ebmrun/training/check"
	"ebmrun/training/sparseframe"
)

// Still spoils learning, to show that a test can fail: objects are not looked for, each is taken to
// lie in the middle of its picture.
const Still = "still"

// Config are the settings of the system; see the presets for values that work.
type Config struct {
	Steps    int     `yaml:"steps"`    // rounds of EM
	Side     int     `yaml:"side"`     // pixels of the square templates
	Parts    int     `yaml:"parts"`    // a template is cut into parts×parts
	Clusters int     `yaml:"clusters"` // templates
	Starts   int     `yaml:"starts"`   // choices of single pictures to begin with, of which the likeliest is taken; 0 begins with clusters at random
	Levels   int     `yaml:"levels"`   // resolutions of a picture, an odd number, the middle one its own
	Spacing  float64 `yaml:"spacing"`  // between two resolutions, as a share of the picture's

	Object Freedom `yaml:"object"` // of a template; it may lie anywhere
	Part   Freedom `yaml:"part"`   // of a part within its template

	Frame sparseframe.Config `yaml:"frame"` // how a template is learned; its turns are these templates' too
	Guard training.Guard     `yaml:"guard"`

	Sabotage string `yaml:"sabotage,omitempty"` // still
}

// A Freedom is how far something may be from where it is at rest, to both sides.
type Freedom struct {
	Shift int `yaml:"shift"` // pixels along each axis
	Turn  int `yaml:"turn"`  // orientations of the wavelets
	Level int `yaml:"level"` // resolutions
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	half := c.Levels / 2
	free := func(name string, f Freedom) error {
		return check.If(f.Shift < 0 || f.Shift > c.Side || f.Turn < 0 || 2*f.Turn >= c.Frame.Orientations && f.Turn > 0 || f.Level < 0 || f.Level > half,
			"%s: wanted a shift up to the side, a turn of less than half the orientations and a level up to %d, got %+v", name, half, f)
	}
	return check.First(
		check.AtLeast("steps", c.Steps, 1),
		check.If(c.Parts < 1 || c.Side < 8 || c.Side%c.Parts != 0, "side, parts: wanted at least 8 pixels, and parts that divide them, got %d and %d", c.Side, c.Parts),
		check.AtLeast("starts", c.Starts, 0),
		check.AtLeast("clusters", c.Clusters, 1),
		check.If(c.Levels < 1 || c.Levels%2 == 0 || !(c.Spacing >= 0 && c.Spacing*float64(half) < 0.9), "levels, spacing: wanted an odd number and a share that leaves the coarsest larger than a tenth, got %d and %g", c.Levels, c.Spacing),
		check.OneOf("sabotage", c.Sabotage, "", Still),
		free("object", c.Object),
		free("part", c.Part),
		check.If(c.Object.Shift != 0, "object.shift: wanted 0, since objects may lie anywhere, got %d", c.Object.Shift),
		c.Frame.Check(),
	)
}

// scale is a level's size, as a share of the picture's.
func (c *Config) scale(level int) float64 { return 1 + c.Spacing*float64(level-c.Levels/2) }

// size is a picture's height or width at a level.
func (c *Config) size(level, n int) int { return int(math.Round(c.scale(level) * float64(n))) }

// preset is for templates of side×side of so many wavelets.
func preset(side, atoms int, change func(*Config)) Config {
	c := Config{
		Steps: 6, Side: side, Parts: 2, Clusters: 1, Starts: 4, Levels: 3, Spacing: 0.1,
		Object: Freedom{Turn: 3, Level: 1}, Part: Freedom{Shift: 3, Turn: 1, Level: 1},
		Frame: sparseframe.Presets["pursuit"].Config,
	}
	c.Frame.Atoms, c.Frame.Orientations, c.Frame.Steps, c.Frame.Chains = atoms, 16, 60, 16
	change(&c)
	return c
}

// A Preset is a named set of settings and what it is for.
type Preset struct {
	Title  string
	Config Config
}

// Presets is the table of settings with a name.
var Presets = map[string]Preset{
	"object": {"one kind of object, about 48×48, anywhere in larger pictures", preset(48, 40, func(*Config) {})},
	"kinds":  {"three kinds of such objects", preset(48, 40, func(c *Config) { c.Clusters = 3 })},
	"aligned": {"three kinds of objects that fill their pictures, upright", preset(64, 60, func(c *Config) {
		c.Clusters, c.Levels, c.Frame.Local = 3, 1, false
		c.Object, c.Part = Freedom{}, Freedom{Shift: 2}
	})},
	"published": {"published: templates of 100×100, five kinds (released code of the co-authors)", preset(100, 300, func(c *Config) {
		c.Steps, c.Clusters, c.Starts = 10, 5, 0
		c.Frame = sparseframe.Presets["published-pursuit"].Config
	})},
}

// For returns the settings for pictures of the given dimensions: "small" and "paper" pick the preset that
// fits, any other name is a key of [Presets]. Templates are three quarters of a picture, those of "aligned" all of it.
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Named("hierarchical-sparse-frame", Presets, "object", "published", name, 3, dims)
	if c := &p.Config; err == nil && name != "paper" && name != "published" {
		if c.Side = min(dims[1], dims[2]); name != "aligned" {
			c.Side = c.Side * 3 / 4
		}
		c.Side = c.Side / c.Parts * c.Parts
	}
	return p.Config, err
}
