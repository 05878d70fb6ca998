package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/record"
)

// toFolder is whether --out asks for a file for each picture: it ends in a slash, or is a
// folder that exists.
func (a *applied) toFolder() bool {
	st, err := os.Stat(a.out)
	return strings.HasSuffix(a.out, "/") || strings.HasSuffix(a.out, string(filepath.Separator)) || err == nil && st.IsDir()
}

// translated is what a translator makes of sources, and what it doubts if it knows that.
func translated(ctx context.Context, l training.Translator, source []float32, seed uint64) (y []float32, doubts map[string][]float32, err error) {
	if d, ok := l.(training.Doubter); ok {
		return d.Doubt(ctx, source, seed)
	}
	y, err = l.Translate(ctx, source, seed)
	return y, nil, err
}

// translateEach writes the translation of every picture of a path, under its name and in
// its size, into the folder --out, and how far draws deviate, where that is known, into
// one beside it. A picture is stretched to what the run takes, and what comes of it back.
func (a *applied) translateEach(ctx context.Context, l training.Translator, path, depth string, most int) error {
	from := a.From
	if from == nil {
		from = a.Dims
	}
	switch {
	case path == "":
		return badInput(errors.New("--out is a folder: wanted --data, pictures to translate"))
	case len(from) != 3 || from[0] != 1 && from[0] != 3 && from[0] != 4 || len(a.Dims) != 3:
		return badInput(fmt.Errorf("--out is a folder: wanted a run on pictures of 1 or 3 channels, or 4 with depth, got one that takes %v", from))
	case (depth != "") != (from[0] == 4):
		return badInput(fmt.Errorf("--depth: wanted for a run that takes depth, and only for one: %s takes %v", a.Name, from))
	}
	files, names, err := data.PictureNames(path)
	near := make([]string, len(files)) // how far what they show is away, where the run looks at it
	if err == nil && depth != "" {
		near, err = data.DepthOf(path, depth)
	}
	if err != nil {
		return badInput(err)
	}
	if most > 0 {
		files = files[:min(most, len(files))]
	}
	taken := map[string]string{}
	for i, file := range files {
		if other, ok := taken[names[i]]; ok {
			return badInput(fmt.Errorf("%s and %s would be written under one name", other, file))
		}
		taken[names[i]] = file
	}
	for i, file := range files {
		h, w, err := data.PictureSize(file)
		if err != nil {
			return badInput(err)
		}
		p, err := data.ReadPicturesAs(file, data.Options{Size: from[1], Width: from[2], Stretch: true, Grey: from[0] == 1, Depth: near[i], Far: a.Head.Source.Far})
		if err != nil {
			return badInput(err)
		}
		x := shown(a.inScale(p).X(), p.Dims(), from)
		y, doubts, err := translated(ctx, l, x, a.c.seed)
		if err != nil {
			return err
		}
		if err := a.writeAs(filepath.Join(a.out, names[i]+".png"), y, a.Lo, a.Hi, h, w); err != nil {
			return err
		}
		if d := doubts["deviation"]; d != nil {
			if err := a.writeAs(filepath.Join(filepath.Clean(a.out)+"-deviation", names[i]+".png"), d, 0, 0.5, h, w); err != nil {
				return err
			}
		}
		if (i+1)%100 == 0 {
			a.c.say(fmt.Sprintf("%d of %d pictures", i+1, len(files)))
		}
	}
	fmt.Fprintf(a.c.out, "%d pictures: wrote %s\n", len(files), a.out)
	return nil
}

// writeAs writes one translation, black at lo and white at hi, as a picture of h×w.
func (a *applied) writeAs(path string, x []float32, lo, hi float32, h, w int) error {
	d := a.Dims
	s := &data.Set{Name: path, N: 1, C: d[0], H: d[1], W: d[2], Floats: x, Lo: lo, Hi: hi}
	s, err := s.Resize(h, w)
	if err != nil {
		return err
	}
	img, err := record.Grid(record.Images{Data: s.X(), N: 1, C: d[0], H: h, W: w, Lo: lo, Hi: hi}, 1, 0, 1)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return record.WritePNG(path, img)
}
