package record

import (
	"fmt"
	"image"
	"image/color"
	imagedraw "image/draw"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/palette"
	"gonum.org/v1/plot/palette/moreland"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// Series is one curve. Points that are not finite interrupt it.
type Series struct {
	Name string // in the legend, which appears when there are two or more curves
	X, Y []float64
}

// Lines is a plot of curves over one pair of axes. Long noisy curves are drawn pale with their
// running mean over them; the vertical axis is logarithmic when all values are positive and span
// three decades or more.
type Lines struct {
	Title, XLabel, YLabel string
	Series                []Series
	Width, Height         float64 // in points of 1/72 inch, drawn at 144 dots an inch; 0 means 420 × 210
	Dark                  bool    // for dark pages
}

// Heat is a picture of a function on a rectangle with points over it, such as a 2-D energy or
// density and samples.
type Heat struct {
	Title, XLabel, YLabel string
	Label                 string // what Z is, beside the colour bar
	XMin, XMax            float64
	YMin, YMax            float64
	NX, NY                int          // cells along each axis
	Z                     []float64    // [NY, NX], the values at the cells' centres, see At; NaN is painted Loud
	Lo, Hi                float64      // range of the colours, values outside take the end colours; both zero: that of Z
	Points                [][2]float64 // drawn as dots where they lie inside
	Size                  float64      // longer side of the map in points of 1/72 inch, drawn at 144 dots an inch; 0 means 300
}

const dpi = 144

// theme holds the colours of one kind of page.
type theme struct {
	ground, ink, grid color.Color
	curves            []color.NRGBA
}

var (
	light = theme{
		ground: color.White, ink: rgb(0x3b424c), grid: rgb(0xe6e9ee),
		curves: []color.NRGBA{rgb(0x2563c9), rgb(0xd9541e), rgb(0x12805c), rgb(0x9333c4), rgb(0xb07d00), rgb(0x5d6673)},
	}
	dark = theme{
		ground: rgb(0x161b22), ink: rgb(0xaeb8c4), grid: rgb(0x2a313b),
		curves: []color.NRGBA{rgb(0x6ea8ff), rgb(0xff8f5c), rgb(0x4ed3a3), rgb(0xcf8bff), rgb(0xe8bb3f), rgb(0x9aa5b3)},
	}
)

func rgb(hex uint32) color.NRGBA {
	return color.NRGBA{R: uint8(hex >> 16), G: uint8(hex >> 8), B: uint8(hex), A: 255}
}

// Values beyond drawable are left out like non-finite ones: axis arithmetic on them overflows.
const drawable = 1e30

func isDrawable(v float64) bool { return math.Abs(v) <= drawable }

// Image draws the plot.
func (l Lines) Image() (image.Image, error) {
	for _, s := range l.Series {
		if len(s.X) != len(s.Y) {
			return nil, fmt.Errorf("record: curve %q: got %d x and %d y values", s.Name, len(s.X), len(s.Y))
		}
	}
	w, h := vg.Length(l.Width), vg.Length(l.Height)
	if w <= 0 {
		w = 420
	}
	if h <= 0 {
		h = 210
	}
	th := light
	if l.Dark {
		th = dark
	}
	p := newPlot(th, l.Title, l.XLabel, l.YLabel)
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color = th.grid
	p.Add(grid)

	logarithmic := spansDecades(l.Series)
	for i, s := range l.Series {
		c := th.curves[i%len(th.curves)]
		raw := segments(s, logarithmic)
		width, strong := vg.Points(1.4), c
		if mean := runningMean(s); mean != nil {
			pale := c
			pale.A = 70
			if err := addLine(p, raw, vg.Points(0.8), pale); err != nil {
				return nil, err
			}
			raw = segments(*mean, logarithmic)
		}
		if err := addLine(p, raw, width, strong); err != nil {
			return nil, err
		}
		if len(l.Series) > 1 && len(raw) > 0 {
			key := &plotter.Line{LineStyle: draw.LineStyle{Color: c, Width: vg.Points(2)}}
			p.Legend.Add(s.Name, key)
		}
	}
	widen(&p.X)
	room := 0. // share of the height that the legend takes
	if len(l.Series) > 1 {
		room = min(0.5, float64(13*len(l.Series))/float64(h-50))
	}
	if logarithmic {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(decades)
		p.Y.Min, p.Y.Max = math.Pow(10, math.Floor(math.Log10(p.Y.Min))), math.Pow(10, math.Ceil(math.Log10(p.Y.Max)))
		p.Y.Max *= math.Pow(p.Y.Max/p.Y.Min, room)
	} else {
		widen(&p.Y)
		p.Y.Max += room * (p.Y.Max - p.Y.Min)
	}
	canvas, dc, err := newCanvas(w, h, th)
	if err != nil {
		return nil, err
	}
	p.Draw(draw.Crop(dc, 4, -10, 4, -6))
	return canvas.Image(), nil
}

// ticks labels an axis at round numbers: four to nine of them, 1, 2 or 5 times a power of ten apart.
func ticks(lo, hi float64) []plot.Tick {
	gap := math.Pow(10, math.Floor(math.Log10((hi-lo)/4)))
	for _, f := range []float64{5, 2} {
		if (hi-lo)/(gap*f) >= 4 {
			gap *= f
			break
		}
	}
	var marks []plot.Tick
	for i := math.Ceil(lo / gap); i*gap <= hi && len(marks) < 20; i++ {
		v := i*gap + 0 // never −0
		marks = append(marks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', 8, 64)})
	}
	return marks
}

// decades labels a logarithmic axis at powers of ten, at most nine of them.
func decades(lo, hi float64) []plot.Tick {
	first, last := int(math.Round(math.Log10(lo))), int(math.Floor(math.Log10(hi)+1e-9))
	var marks []plot.Tick
	for i, each := first, 1+(last-first)/9; i <= last; i += each {
		v, err := strconv.ParseFloat(fmt.Sprintf("1e%d", i), 64)
		if err == nil {
			marks = append(marks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', -1, 64)})
		}
	}
	return marks
}

// newPlot returns a plot in the report's dress.
func newPlot(th theme, title, xLabel, yLabel string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = th.ground
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, xLabel, yLabel
	p.Title.Padding = vg.Points(6)
	p.Title.TextStyle = dressed(p.Title.TextStyle, th, 11)
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Label.TextStyle = dressed(a.Label.TextStyle, th, 9.5)
		a.Tick.Label = dressed(a.Tick.Label, th, 9)
		a.LineStyle.Color, a.Tick.LineStyle.Color = th.ink, th.ink
		a.LineStyle.Width, a.Tick.LineStyle.Width = vg.Points(0.6), vg.Points(0.6)
		a.Tick.Marker, a.Tick.Length = plot.TickerFunc(ticks), vg.Points(4)
		a.Padding = 0
	}
	p.Legend.TextStyle = dressed(p.Legend.TextStyle, th, 9)
	p.Legend.Top, p.Legend.Padding, p.Legend.ThumbnailWidth = true, vg.Points(2), vg.Points(14)
	return p
}

func dressed(s text.Style, th theme, size float64) text.Style {
	s.Color = th.ink
	s.Font.Variant, s.Font.Size = "Sans", vg.Points(size)
	return s
}

// newCanvas makes a canvas of w × h, refusing sizes that no picture needs.
func newCanvas(w, h vg.Length, th theme) (*vgimg.Canvas, draw.Canvas, error) {
	if !(w.Points()*h.Points()*(dpi/72.)*(dpi/72.) <= maxPixels) {
		return nil, draw.Canvas{}, fmt.Errorf("record: plot: got %.0f × %.0f points, want at most %d pixels", w.Points(), h.Points(), maxPixels)
	}
	c := vgimg.NewWith(vgimg.UseWH(w, h), vgimg.UseDPI(dpi), vgimg.UseBackgroundColor(th.ground))
	return c, draw.New(c), nil
}

// addLine adds the pieces of one curve; a piece of one point becomes a dot.
func addLine(p *plot.Plot, pieces []plotter.XYs, width vg.Length, c color.Color) error {
	for _, xys := range pieces {
		if len(xys) == 1 {
			dot, err := plotter.NewScatter(xys)
			if err != nil {
				return fmt.Errorf("record: plot: %w", err)
			}
			dot.GlyphStyle = draw.GlyphStyle{Color: c, Radius: width * 1.3, Shape: draw.CircleGlyph{}}
			p.Add(dot)
			continue
		}
		line, err := plotter.NewLine(xys)
		if err != nil {
			return fmt.Errorf("record: plot: %w", err)
		}
		line.LineStyle = draw.LineStyle{Color: c, Width: width}
		p.Add(line)
	}
	return nil
}

// segments splits s where it cannot be drawn and thins it to what a picture can show: of each run of
// neighbours the lowest and the highest stay, so spikes survive.
func segments(s Series, positive bool) []plotter.XYs {
	const most = 1200
	var pieces []plotter.XYs
	var piece plotter.XYs
	for i, y := range s.Y {
		if isDrawable(s.X[i]) && isDrawable(y) && (!positive || y > 0) {
			piece = append(piece, plotter.XY{X: s.X[i], Y: y})
			continue
		}
		if len(piece) > 0 {
			pieces = append(pieces, piece)
			piece = nil
		}
	}
	if len(piece) > 0 {
		pieces = append(pieces, piece)
	}
	bucket := 2 * len(s.Y) / most
	if bucket < 3 {
		return pieces
	}
	for i, piece := range pieces {
		var thin plotter.XYs
		for run := range slices.Chunk(piece, bucket) {
			lo, hi := 0, 0
			for j, v := range run {
				if v.Y < run[lo].Y {
					lo = j
				}
				if v.Y > run[hi].Y {
					hi = j
				}
			}
			thin = append(thin, run[min(lo, hi)])
			if lo != hi {
				thin = append(thin, run[max(lo, hi)])
			}
		}
		pieces[i] = thin
	}
	return pieces
}

// runningMean smooths a curve long enough to need it, or returns nil: the mean over a window of a
// thirtieth of its length around each point, cut off at the ends.
func runningMean(s Series) *Series {
	const long = 60
	n := len(s.Y)
	if n < long {
		return nil
	}
	sums, counts := make([]float64, n+1), make([]int, n+1)
	for i, y := range s.Y {
		sums[i+1], counts[i+1] = sums[i], counts[i]
		if isDrawable(y) {
			sums[i+1] += y
			counts[i+1]++
		}
	}
	mean := &Series{Name: s.Name, X: s.X, Y: make([]float64, n)}
	for i, y := range s.Y {
		from, to := max(i-n/60, 0), min(i+n/60+1, n)
		mean.Y[i] = math.NaN()
		if isDrawable(y) {
			mean.Y[i] = (sums[to] - sums[from]) / float64(counts[to]-counts[from])
		}
	}
	return mean
}

// spansDecades reports whether a logarithmic axis serves the curves better.
func spansDecades(series []Series) bool {
	lo, hi := math.Inf(1), 0.
	for _, s := range series {
		for _, y := range s.Y {
			if !isDrawable(y) {
				continue
			}
			if y <= 1e-30 {
				return false
			}
			lo, hi = min(lo, y), max(hi, y)
		}
	}
	return hi >= 1000*lo
}

// widen keeps an axis from being empty or narrower than its numbers can tell.
func widen(a *plot.Axis) {
	if a.Min > a.Max { // nothing was drawn
		a.Min, a.Max = 0, 1
		return
	}
	least := 1e-6 * max(math.Abs(a.Min), math.Abs(a.Max))
	if a.Max-a.Min <= least || a.Max == a.Min {
		half := max(least, 0.5*math.Abs(a.Max), 1e-12)
		a.Min, a.Max = a.Min-half, a.Max+half
	}
}

// At returns the centre of cell i, j, where Z[j*NX+i] belongs.
func (h Heat) At(i, j int) (x, y float64) {
	x = h.XMin + (float64(i)+0.5)*(h.XMax-h.XMin)/float64(h.NX)
	y = h.YMin + (float64(j)+0.5)*(h.YMax-h.YMin)/float64(h.NY)
	return x, y
}

// Image draws the map.
func (h Heat) Image() (image.Image, error) {
	if h.NX < 2 || h.NY < 2 || len(h.Z)%h.NX != 0 || len(h.Z)/h.NX != h.NY {
		return nil, fmt.Errorf("record: heat map: got %d values, want those of a grid of %d × %d, each at least 2", len(h.Z), h.NX, h.NY)
	}
	for _, r := range [][2]float64{{h.XMin, h.XMax}, {h.YMin, h.YMax}} {
		if !isDrawable(r[0]) || !isDrawable(r[1]) || !(r[1]-r[0] > 1e-9*max(math.Abs(r[0]), math.Abs(r[1]))) {
			return nil, fmt.Errorf("record: heat map: got axis %v to %v, want it ascending and finite", r[0], r[1])
		}
	}
	colors, err := h.colors()
	if err != nil {
		return nil, err
	}
	size := h.Size
	if size <= 0 {
		size = 300
	}
	// Cells are enlarged here, because the plot would smooth them into each other.
	scale := int(min(max(1, math.Ceil(2*size/float64(max(h.NX, h.NY)))), math.Sqrt(maxPixels/float64(len(h.Z)))))
	if scale < 1 {
		return nil, fmt.Errorf("record: heat map: got %d values, want at most %d", len(h.Z), maxPixels)
	}

	p := newPlot(light, h.Title, h.XLabel, h.YLabel)
	p.Add(plotter.NewImage(h.raster(colors, scale), h.XMin, h.YMin, h.XMax, h.YMax))
	if err := h.addPoints(p); err != nil {
		return nil, err
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = h.XMin, h.XMax, h.YMin, h.YMax

	bar := newPlot(light, "", "", h.Label)
	bar.Add(&plotter.ColorBar{ColorMap: colors, Vertical: true, Colors: 256})
	bar.HideX()
	bar.Title.Text = ""

	// The map keeps the proportions of its axes; margins hold labels and the colour bar.
	dx, dy := h.XMax-h.XMin, h.YMax-h.YMin
	w, ht := vg.Length(size*max(dx/max(dx, dy), 0.25)), vg.Length(size*max(dy/max(dx, dy), 0.25))
	const left, right, bottom, barWidth = 52, 14, 42, 64
	top := vg.Length(14)
	if h.Title != "" {
		top = 30
	}
	canvas, dc, err := newCanvas(left+w+right+barWidth, bottom+ht+top, light)
	if err != nil {
		return nil, err
	}
	area := draw.Crop(dc, 4, -barWidth-right+6, 4, -6)
	p.Draw(area)
	inner := p.DataCanvas(area) // the bar is as high as the map
	bar.Draw(draw.Crop(dc, left+w+right, -8, inner.Min.Y-dc.Min.Y-vg.Points(0.3), inner.Max.Y-dc.Max.Y))
	return canvas.Image(), nil
}

// colors returns the perceptually even map from dark blue over green to yellow, with the range set.
func (h Heat) colors() (palette.ColorMap, error) {
	m, err := moreland.NewLuminance([]color.Color{
		rgb(0x440154), rgb(0x472d7b), rgb(0x3b528b), rgb(0x2c728e), rgb(0x21918c), rgb(0x28ae80), rgb(0x5ec962), rgb(0xaddc30), rgb(0xfde725),
	})
	if err != nil {
		return nil, fmt.Errorf("record: heat map: %w", err)
	}
	lo, hi := h.Lo, h.Hi
	if lo == 0 && hi == 0 {
		lo, hi = math.Inf(1), math.Inf(-1)
		for _, z := range h.Z {
			if isDrawable(z) {
				lo, hi = min(lo, z), max(hi, z)
			}
		}
	}
	if !isDrawable(lo) || !isDrawable(hi) || lo > hi {
		if h.Lo != 0 || h.Hi != 0 {
			return nil, fmt.Errorf("record: heat map: got colour range %v to %v, want it ascending and finite", lo, hi)
		}
		lo, hi = 0, 1 // no finite value
	}
	axis := plot.Axis{Min: lo, Max: hi}
	widen(&axis)
	m.SetMin(axis.Min)
	m.SetMax(axis.Max)
	return m, nil
}

// raster paints Z, scale × scale pixels a cell, the first row at the bottom.
func (h Heat) raster(colors palette.ColorMap, scale int) image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, h.NX*scale, h.NY*scale))
	for j := range h.NY {
		for i := range h.NX {
			c := color.Color(Loud)
			if z := h.Z[j*h.NX+i]; !math.IsNaN(z) {
				if at, err := colors.At(min(max(z, colors.Min()), colors.Max())); err == nil {
					c = at
				}
			}
			x, y := i*scale, (h.NY-1-j)*scale
			imagedraw.Draw(img, image.Rect(x, y, x+scale, y+scale), image.NewUniform(c), image.Point{}, imagedraw.Src)
		}
	}
	return img
}

// addPoints draws the points as light dots with a dark rim, which show on every colour of the map.
func (h Heat) addPoints(p *plot.Plot) error {
	var xys plotter.XYs
	for _, q := range h.Points {
		if q[0] >= h.XMin && q[0] <= h.XMax && q[1] >= h.YMin && q[1] <= h.YMax {
			xys = append(xys, plotter.XY{X: q[0], Y: q[1]})
		}
	}
	if len(xys) == 0 {
		return nil
	}
	for _, g := range []draw.GlyphStyle{
		{Color: color.Black, Radius: vg.Points(1.5), Shape: draw.CircleGlyph{}},
		{Color: color.White, Radius: vg.Points(1), Shape: draw.CircleGlyph{}},
	} {
		s, err := plotter.NewScatter(xys)
		if err != nil {
			return fmt.Errorf("record: heat map: %w", err)
		}
		s.GlyphStyle = g
		p.Add(s)
	}
	return nil
}
