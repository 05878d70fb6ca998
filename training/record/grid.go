package record

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"

	"ebmrun/training/checkpoint/atomicfile"
)

// Images is a batch of pictures, Data [N, C, H, W] with C 1 (grey) or 3 (red, green, blue). Lo is
// shown black and Hi white; both zero means −1 and 1.
type Images struct {
	Data       []float32
	N, C, H, W int
	Lo, Hi     float32
}

// Loud is the colour of pixels that are NaN or infinite.
var Loud = color.NRGBA{R: 255, B: 255, A: 255}

// gap lies between tiles and can be told from black and from white borders.
var gap = color.Gray{Y: 72}

const (
	maxPixels = 1 << 26 // of one picture that is made
	wide      = 480     // pixels that a grid's width has about when the scale is automatic
	readable  = 64      // pixels that the longer side of a tile has at least when the scale is automatic
)

func (m Images) check() error {
	if m.N < 1 || m.H < 1 || m.W < 1 || m.C != 1 && m.C != 3 {
		return fmt.Errorf("record: images: got shape [%d %d %d %d], want at least one image with 1 or 3 channels", m.N, m.C, m.H, m.W)
	}
	// Division keeps hostile sizes from overflowing.
	if n := len(m.Data); n%m.N != 0 || n/m.N%m.C != 0 || n/m.N/m.C%m.H != 0 || n/m.N/m.C/m.H != m.W {
		return fmt.Errorf("record: images: got %d values, want those of shape [%d %d %d %d]", n, m.N, m.C, m.H, m.W)
	}
	if m.Lo >= m.Hi && (m.Lo != 0 || m.Hi != 0) {
		return fmt.Errorf("record: images: got range %v to %v, want it ascending", m.Lo, m.Hi)
	}
	return nil
}

// Grid lays m out in rows of cols tiles (0: nearly square), pad pixels apart, every value drawn as
// a square of scale × scale pixels (0: chosen so that small images can be seen). The result is grey
// for one channel, unless a non-finite value has to be painted [Loud].
func Grid(m Images, cols, pad, scale int) (image.Image, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	if cols <= 0 {
		cols = int(math.Ceil(math.Sqrt(float64(m.N))))
	}
	cols, pad = min(cols, m.N), max(pad, 0)
	if scale <= 0 {
		// a tile that can be seen, and a picture of few tiles that is not lost on a page
		scale = max(1, (readable+max(m.H, m.W)-1)/max(m.H, m.W), wide/(cols*m.W))
	}
	rows := (m.N + cols - 1) / cols
	width := float64(cols)*(float64(m.W)*float64(scale)+float64(pad)) - float64(pad)
	height := float64(rows)*(float64(m.H)*float64(scale)+float64(pad)) - float64(pad)
	if width*height > float64(maxPixels) {
		return nil, fmt.Errorf("record: grid: got %.0f × %.0f pixels, want at most %d in all", width, height, maxPixels)
	}

	var dst draw.Image
	bounds := image.Rect(0, 0, int(width), int(height))
	if m.C == 1 && allFinite(m.Data) {
		dst = image.NewGray(bounds)
	} else {
		dst = image.NewNRGBA(bounds)
	}
	draw.Draw(dst, bounds, image.NewUniform(gap), image.Point{}, draw.Src)
	for n := range m.N {
		x0, y0 := n%cols*(m.W*scale+pad), n/cols*(m.H*scale+pad)
		for y := range m.H {
			for x := range m.W {
				px, py := x0+x*scale, y0+y*scale
				draw.Draw(dst, image.Rect(px, py, px+scale, py+scale), image.NewUniform(m.at(n, y, x)), image.Point{}, draw.Src)
			}
		}
	}
	return dst, nil
}

// Strip draws each batch as one row of frames, for interpolations and chains. All batches have the
// same shape; each is drawn over its own range.
func Strip(pad, scale int, rows ...Images) (image.Image, error) {
	if len(rows) == 0 {
		return nil, fmt.Errorf("record: strip: got no rows")
	}
	all := rows[0]
	all.Data, all.N = nil, 0
	for i, row := range rows {
		if err := row.check(); err != nil {
			return nil, err
		}
		if row.N != rows[0].N || row.C != all.C || row.H != all.H || row.W != all.W {
			return nil, fmt.Errorf("record: strip: row %d differs from the first in shape", i)
		}
		all.Data = append(all.Data, row.over(all)...)
		all.N += row.N
	}
	return Grid(all, rows[0].N, pad, scale)
}

// span is the range of values from black to white.
func (m Images) span() (lo, hi float32) {
	if m.Lo == 0 && m.Hi == 0 {
		return -1, 1
	}
	return m.Lo, m.Hi
}

// over is the values of m, brought from its range to that of like.
func (m Images) over(like Images) []float32 {
	lo, hi := m.span()
	lo2, hi2 := like.span()
	if lo == lo2 && hi == hi2 {
		return m.Data
	}
	out := make([]float32, len(m.Data))
	for i, v := range m.Data {
		out[i] = lo2 + (v-lo)*((hi2-lo2)/(hi-lo))
	}
	return out
}

// at returns the colour of one pixel.
func (m Images) at(n, y, x int) color.Color {
	lo, hi := m.span()
	var rgb [3]uint8
	for c := range m.C {
		v := (float64(m.Data[((n*m.C+c)*m.H+y)*m.W+x]) - float64(lo)) / (float64(hi) - float64(lo))
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return Loud
		}
		rgb[c] = uint8(math.Round(255 * min(max(v, 0), 1)))
	}
	if m.C == 1 {
		return color.Gray{Y: rgb[0]}
	}
	return color.NRGBA{R: rgb[0], G: rgb[1], B: rgb[2], A: 255}
}

func allFinite(data []float32) bool {
	for _, v := range data {
		if v-v != 0 { // NaN for NaN and for both infinities
			return false
		}
	}
	return true
}

// WritePNG writes img to path, whole or not at all.
func WritePNG(path string, img image.Image) error {
	return atomicfile.Write(path, func(w io.Writer) error { return png.Encode(w, img) })
}

func encodePNG(img image.Image) ([]byte, error) {
	var b bytes.Buffer
	err := png.Encode(&b, img)
	return b.Bytes(), err
}
