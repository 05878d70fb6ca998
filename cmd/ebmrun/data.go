package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"ebmrun/training"
	"ebmrun/training/check"
	"ebmrun/training/data"
	"ebmrun/training/record"
)

func dataCommand(c *common) *cobra.Command {
	var list, info, asJSON bool
	var preview string
	var from source
	cmd := &cobra.Command{
		Use:   "data NAME | --list",
		Short: "Obtain a named data set and tell where it lies",
		Long: `Obtain a named data set with the package client that has it, check it against its
known hash, and tell where it lies, how large it is and under which licence. Data
that is there already is checked only. Synthetic data is drawn when it is used
and takes no space.

With --preview, NAME may also be a path: a folder of pictures, a picture, an IDX
folder, an .npy array, a .csv table, an animated GIF or an AVI file; --as tells what
else it holds. Clips are shown as rows of frames, volumes by their surface, data in
pairs with what is given above the examples.`,
		Example: example(
			"ebmrun data --list",
			"ebmrun data mnist --preview mnist.png",
			"ebmrun data emoji --info",
			"ebmrun data mnist --json | jq -r .path",
			"ebmrun data furniture-voxels --size 32 --preview chairs.png",
			"ebmrun data ./my-pictures --preview mine.png"),
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case list && len(args) == 0:
				return c.listData(asJSON)
			case list:
				return badInput(errors.New("data: --list takes no name"))
			case info && preview != "":
				return badInput(errors.New("data: --preview needs the data, which --info does not obtain"))
			case len(args) == 0:
				return badInput(errors.New("data: wanted a name (ebmrun data --list shows them)"))
			}
			from.Data = args[0]
			return c.data(cmd.Context(), from, info, asJSON, preview)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&list, "list", false, "list the names")
	f.BoolVar(&info, "info", false, "tell about the data without obtaining it")
	f.BoolVar(&asJSON, "json", false, "as JSON: an object, of --list an array")
	f.StringVar(&preview, "preview", "", "picture file (PNG) to write some examples to")
	f.TextVar(&from.As, "as", data.Plain, "`kind` of things that a path holds: pictures, video, voxels, points or paths")
	f.IntVar(&from.Size, "size", 0, "pixels or voxels that examples are brought to")
	f.IntVar(&from.Frames, "frames", 0, "cut clips and trajectories into pieces of so many moments")
	f.IntVar(&from.Points, "points", 0, "so many points of each point set")
	f.StringVar(&from.Given, "given", "", "what examples are drawn from: grey, edges, hole, or data aligned with them")
	return cmd
}

// A dataset is what is told of data or a network with a name.
type dataset struct {
	Name     string `json:"name"`
	Title    string `json:"title"`
	Holds    string `json:"holds"`
	Licence  string `json:"licence"`
	Download int64  `json:"download_bytes"`    // 0 of what is drawn when used
	Client   string `json:"client,omitempty"`  // which program obtains it
	Command  string `json:"command,omitempty"` // how
	Path     string `json:"path,omitempty"`    // where it lies, once it was obtained
	Bytes    int64  `json:"bytes,omitempty"`   // there
}

func datasetOf(s data.Source) dataset {
	return dataset{Name: s.Name, Title: s.Title, Holds: s.Yields, Licence: s.Licence, Download: s.Package.Size, Client: s.Package.Client, Command: s.Command()}
}

func (c *common) listData(asJSON bool) error {
	var all []dataset
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	for _, s := range slices.Concat(data.Sources, data.Networks) {
		all = append(all, datasetOf(s))
		if !asJSON {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.Name, s.Title, s.Yields, s.Licence, origin(s))
		}
	}
	if asJSON {
		return c.printJSON(all)
	}
	return w.Flush()
}

// origin says how a source is had.
func origin(s data.Source) string {
	if s.Command() == "" {
		return "drawn when used"
	}
	return fmt.Sprintf("%s with %s", byteText(s.Package.Size), s.Package.Client)
}

func (c *common) data(ctx context.Context, from source, info, asJSON bool, preview string) error {
	name := from.Data
	source, known := data.Find(name)
	if !known && (info || asJSON || preview == "") {
		var names []string
		for _, s := range slices.Concat(data.Sources, data.Networks) {
			names = append(names, s.Name)
		}
		hint := ""
		if near := check.Nearest(name, names); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		return badInput(fmt.Errorf("data: no data set or network %q (ebmrun data --list shows them)%s", name, hint))
	}
	if known {
		if err := c.describeData(ctx, source, info, asJSON); err != nil {
			return err
		}
	}
	if preview == "" {
		return nil
	}
	set, err := c.loadPreview(ctx, from)
	if err != nil {
		if known {
			return err
		}
		return badInput(err)
	}
	img, err := previewOf(set)
	if err != nil {
		return badInput(err)
	}
	if err := record.WritePNG(preview, img); err != nil {
		return err
	}
	c.say("preview in " + preview)
	return nil
}

// loadPreview loads as many examples as a preview can show.
func (c *common) loadPreview(ctx context.Context, from source) (*data.Set, error) {
	o := from.options("", c.say)
	o.Limit, o.Seed = 64, c.seed
	set, err := data.Load(ctx, from.Data, o)
	if err == nil && isPoints(set) {
		o.Limit = 4096
		set, err = data.Load(ctx, from.Data, o)
	}
	return set, err
}

// isPoints reports whether examples are points of the plane.
func isPoints(s *data.Set) bool { return s.C == 2 && s.IsVectors() }

func (c *common) describeData(ctx context.Context, s data.Source, info, asJSON bool) (err error) {
	d := datasetOf(s)
	if !info && d.Command != "" {
		if d.Path, err = data.Obtain(ctx, s.Name, c.say); err != nil {
			return err
		}
		if d.Bytes, err = sizeOnDisk(d.Path); err != nil {
			return err
		}
	}
	if asJSON {
		return c.printJSON(d)
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "name\t%s\ntitle\t%s\nholds\t%s\nlicence\t%s\nfrom\t%s\n", d.Name, d.Title, d.Holds, d.Licence, origin(s))
	if d.Command != "" {
		fmt.Fprintf(w, "command\t%s\n", d.Command)
	}
	if d.Path != "" {
		fmt.Fprintf(w, "path\t%s\non disk\t%s\n", d.Path, byteText(d.Bytes))
	}
	return w.Flush()
}

// sizeOnDisk adds up a file or the files below a folder.
func sizeOnDisk(path string) (int64, error) {
	var total int64
	err := filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}

// previewOf is a grid of examples, or a map of how dense points lie. Pictures in pairs are shown as rows:
// what is given, the examples, and what lies beside them.
func previewOf(s *data.Set) (image.Image, error) {
	switch {
	case isPoints(s):
		return densityOf(s)
	case s.IsVectors() || s.Kind == data.Plain && s.C != 1 && s.C != 3:
		return nil, fmt.Errorf("%s: cannot preview examples of %d×%d×%d: wanted pictures of 1 or 3 channels, or points of the plane", s.Name, s.C, s.H, s.W)
	case s.Kind == data.Video:
		s = someFrames(s.Head(6), 16)
	case s.Kind == data.Plain && (s.Given != nil || s.Beside != nil):
		return pairsOf(s.Head(8))
	}
	p, err := training.Show(record.SamplesTag, s, s.X())
	if err != nil {
		return nil, err
	}
	return imageOf(p)
}

// someFrames is clips with at most n of their frames, evenly spaced.
func someFrames(s *data.Set, n int) *data.Set {
	if s.D <= n {
		return s
	}
	t := &data.Set{Name: s.Name, Kind: s.Kind, N: s.N, C: s.C, D: n, H: s.H, W: s.W, Lo: s.Lo, Hi: s.Hi, Gain: s.Gain, Offset: s.Offset}
	x, p := s.X(), s.H*s.W
	for i := range s.N * s.C {
		for k := range n {
			t.Floats = append(t.Floats, x[(i*s.D+k*s.D/n)*p:][:p]...)
		}
	}
	return t
}

// imageOf draws a picture that is no map.
func imageOf(p training.Picture) (image.Image, error) {
	if p.Rows != nil {
		return record.Strip(1, 0, p.Rows...)
	}
	return record.Grid(p.Images, 0, 1, 0)
}

// pairsOf is a row of pictures for each of the sets that are aligned.
func pairsOf(s *data.Set) (image.Image, error) {
	sets := []*data.Set{s}
	if s.Given != nil {
		sets = []*data.Set{s.Given, s}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Beside)) {
		sets = append(sets, s.Beside[name])
	}
	var rows []record.Images
	colours := 1
	for _, t := range sets {
		if t.IsVectors() || t.H != s.H || t.W != s.W {
			continue
		}
		p, err := training.Show(record.SamplesTag, t, t.X())
		if err != nil {
			return nil, err
		}
		rows = append(rows, p.Images)
		colours = max(colours, p.Images.C)
	}
	for i, r := range rows {
		if plane := r.H * r.W; r.C < colours {
			x := make([]float32, 0, r.N*3*plane)
			for k := range r.N {
				for range 3 {
					x = append(x, r.Data[k*plane:(k+1)*plane]...)
				}
			}
			rows[i].Data, rows[i].C = x, 3
		}
	}
	return record.Strip(1, 0, rows...)
}

// densityOf counts points of the plane in square cells.
func densityOf(s *data.Set) (image.Image, error) {
	const cells = 64
	reach := 0.0
	for _, v := range s.X() {
		reach = max(reach, float64(v), -float64(v))
	}
	reach = max(1.05*reach, 1e-6)
	h := record.Heat{Title: s.Name, XMin: -reach, XMax: reach, YMin: -reach, YMax: reach, NX: cells, NY: cells, Z: make([]float64, cells*cells), Label: "points"}
	cell := func(v float32) int { return min(int((float64(v)+reach)/(2*reach)*cells), cells-1) }
	for i := range s.N {
		p := s.At(i)
		h.Z[cell(p[1])*cells+cell(p[0])]++
	}
	return h.Image()
}
