package onnxfile

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/chain"
)

// Meta says where a model came from and how it is sampled.
type Meta struct {
	System  string // learning system, such as "generative-convnet"
	Data    string // name of the data set
	Seed    uint64 // of the run
	Version string // of the program that writes, kept as the producer's version

	Step  chain.Step // settings of one Langevin step
	Steps int        // Langevin steps per learning iteration, 0 if unknown

	Sigma float64 // standard deviation of the Gaussian reference, 0 for the uniform one

	// The scale of the data: x = raw·Gain + Offset. A Gain of 0 means 1.
	Gain, Offset float64
}

// Keys of the metadata that are not those of [chain.Step.Describe].
const (
	keySystem = "ebmrun.system"
	keyData   = "ebmrun.data"
	keySeed   = "ebmrun.seed"
	keySteps  = "ebmrun.steps"
	keySigma  = "ebmrun.reference_sigma"
	keyGain   = "ebmrun.data_gain"
	keyOffset = "ebmrun.data_offset"
)

func (a Meta) put(m *graphs.Model) {
	if a.Gain == 0 {
		a.Gain = 1
	}
	f := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	a.Step.Describe(m)
	m.SetMeta(keySigma, f(a.Sigma))
	m.SetMeta(keyGain, f(a.Gain))
	m.SetMeta(keyOffset, f(a.Offset))
	m.SetMeta(keySeed, strconv.FormatUint(a.Seed, 10))
	for _, e := range []graphs.Entry{{Key: keySystem, Value: a.System}, {Key: keyData, Value: a.Data}} {
		if e.Value != "" {
			m.SetMeta(e.Key, e.Value)
		}
	}
	if a.Steps > 0 {
		m.SetMeta(keySteps, strconv.Itoa(a.Steps))
	}
}

// ReadMeta returns what a file of this package says about itself. Entries that
// are missing leave their zero; ones that make no sense are an error.
func ReadMeta(m *graphs.Model) (Meta, error) {
	a := Meta{System: m.Meta(keySystem), Data: m.Meta(keyData), Version: m.Version, Gain: 1}
	var err error
	text := func(key string, set func(string) error) {
		if v := m.Meta(key); v != "" && err == nil {
			if e := set(v); e != nil {
				err = fmt.Errorf("export: metadata %s: wanted %w, got %.40q", key, e, v)
			}
		}
	}
	number := func(key string, p *float64, low float64) {
		text(key, func(v string) (e error) { *p, e = finite(v, low); return e })
	}
	number("ebmrun.step", &a.Step.Size, 0)
	number("ebmrun.noise", &a.Step.Noise, 0)
	number("ebmrun.grad_clip", &a.Step.GradClip, 0)
	number(keySigma, &a.Sigma, 0)
	number(keyGain, &a.Gain, math.Inf(-1))
	number(keyOffset, &a.Offset, math.Inf(-1))
	text("ebmrun.clamp", func(v string) error {
		lo, hi, _ := strings.Cut(v, ",")
		var e, f error
		a.Step.ClampMin, e = finite(lo, math.Inf(-1))
		a.Step.ClampMax, f = finite(hi, a.Step.ClampMin)
		if e != nil || f != nil {
			return fmt.Errorf("low,high")
		}
		return nil
	})
	text(keySeed, func(v string) error {
		var e error
		if a.Seed, e = strconv.ParseUint(v, 10, 64); e != nil {
			return fmt.Errorf("a seed")
		}
		return nil
	})
	text(keySteps, func(v string) error {
		n, e := strconv.Atoi(v)
		if e != nil || n < 1 {
			return fmt.Errorf("a number of steps")
		}
		a.Steps = n
		return nil
	})
	if err == nil && a.Gain == 0 {
		err = fmt.Errorf("export: metadata %s: wanted a scale that can be undone, got 0", keyGain)
	}
	return a, err
}

// finite reads a number of at least low.
func finite(v string, low float64) (float64, error) {
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || f < low {
		return 0, fmt.Errorf("a number of at least %g", low)
	}
	return f, nil
}
