package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/record"
)

const saliencyName = "saliency"

// scored is what eval saliency prints.
type scored struct {
	Metric    string  `json:"metric"`
	MAE       float64 `json:"mae"`
	S         float64 `json:"s_measure"`
	MeanF     float64 `json:"mean_f"`
	MaxF      float64 `json:"max_f"`
	AdaptiveF float64 `json:"adaptive_f"`
	WeightedF float64 `json:"weighted_f"`
	MeanE     float64 `json:"mean_e"`
	MaxE      float64 `json:"max_e"`
	AdaptiveE float64 `json:"adaptive_e"`
	Maps      int     `json:"maps"`
	Data      string  `json:"data"`
	Of        string  `json:"of"`
}

// evalSaliency scores the maps of a folder that have the names of the true ones.
func (c *common) evalSaliency(path string, f evalFlags) error {
	if f.source.Data == "" {
		return badInput(errors.New("saliency: wanted --data, a folder of true maps"))
	}
	if _, err := record.ReadManifest(path); err == nil {
		return badInput(fmt.Errorf("saliency: %s is a run, wanted a folder of maps: `ebmrun apply translate %[1]s --data PICTURES/ -o MAPS/` makes them", path))
	}
	files, names, err := data.PictureNames(path)
	if err != nil {
		return badInput(err)
	}
	maps := map[string]string{}
	for i, name := range names {
		maps[name] = files[i]
	}
	truths, names, err := data.PictureNames(f.source.Data)
	if err != nil {
		return badInput(err)
	}
	var lacking []string
	for i, name := range names {
		if maps[name] == "" {
			lacking = append(lacking, filepath.Base(truths[i]))
		}
	}
	if len(lacking) > 0 {
		return badInput(fmt.Errorf("saliency: %s has no map for %d of the %d of %s: %s", path, len(lacking), len(truths), f.source.Data, strings.Join(lacking[:min(3, len(lacking))], ", ")))
	}
	var m diag.SaliencyMeter
	var dark error // until a true map shows something
	for i, name := range names {
		truth, err := data.ReadPictures(truths[i], 0, 0, true, 0)
		if err != nil {
			return badInput(err)
		}
		x, err := data.ReadPictures(maps[name], 0, 0, true, 0)
		if err == nil {
			x, err = x.Resize(truth.H, truth.W)
		}
		if err != nil {
			return badInput(err)
		}
		if i == 0 || dark != nil {
			truth.Name = f.source.Data
			dark = bright(truth)
		}
		m.Add(brightness(x), brightness(truth), truth.H, truth.W)
		if (i+1)%100 == 0 {
			c.say(fmt.Sprintf("%d of %d maps", i+1, len(names)))
		}
	}
	if dark != nil {
		return badInput(dark)
	}
	s := m.Scores()
	e := scored{saliencyName, s.MAE, s.S, s.MeanF, s.MaxF, s.AdaptiveF, s.WeightedF, s.MeanE, s.MaxE, s.AdaptiveE, len(names), f.source.Data, path}
	if f.asJSON {
		return c.printJSON(e)
	}
	_, err = fmt.Fprintf(c.out, "saliency  mae %.4f  s_measure %.4f  f mean %.4f max %.4f adaptive %.4f weighted %.4f  e mean %.4f max %.4f adaptive %.4f  (%d maps)\n",
		s.MAE, s.S, s.MeanF, s.MaxF, s.AdaptiveF, s.WeightedF, s.MeanE, s.MaxE, s.AdaptiveE, len(names))
	return err
}

// brightness is that of grey pictures, from 0 to 1.
func brightness(s *data.Set) []float32 {
	x := s.X()
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = (v - s.Lo) / (s.Hi - s.Lo)
	}
	return out
}
