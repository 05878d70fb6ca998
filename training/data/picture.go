package data

import (
	"bufio"
	"cmp"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxPixels bounds one picture file: 2^25 is 5792×5792.
const maxPixels = 1 << 25

func checkPixels(w, h int) error {
	if w < 1 || h < 1 || w > maxPixels/h {
		return fmt.Errorf("picture of %d×%d, want 1 to %d pixels", h, w, maxPixels)
	}
	return nil
}

// A header is what the first bytes of a picture tell.
type header struct {
	w, h int
	grey bool
}

// A pictureFormat reads the header and the pixels of one file format.
type pictureFormat struct {
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}

var pictureFormats = map[string]pictureFormat{
	".png":  {png.DecodeConfig, png.Decode},
	".jpg":  {jpeg.DecodeConfig, jpeg.Decode},
	".jpeg": {jpeg.DecodeConfig, jpeg.Decode},
	".pgm":  {pnmConfig, decodePNM},
	".ppm":  {pnmConfig, decodePNM},
	".pnm":  {pnmConfig, decodePNM},
}

func pnmConfig(r io.Reader) (image.Config, error) {
	h, err := readPNMHeader(bufio.NewReader(r))
	c := image.Config{Width: h.w, Height: h.h, ColorModel: color.Gray16Model}
	if h.colour() {
		c.ColorModel = color.RGBA64Model
	}
	return c, err
}

// open hands the file to read through a buffer and puts its name before an error.
func open[T any](path string, read func(io.Reader) (T, error)) (v T, err error) {
	f, err := os.Open(path)
	if err != nil {
		return v, fmt.Errorf("data: %w", err)
	}
	defer f.Close()
	if v, err = read(bufio.NewReader(f)); err != nil {
		return v, fmt.Errorf("data: %s: %w", path, cutShort(err))
	}
	return v, nil
}

func formatOf(path string) (pictureFormat, bool) {
	f, ok := pictureFormats[strings.ToLower(filepath.Ext(path))]
	return f, ok
}

// readHeader looks at a picture without decoding it and refuses one that is too large.
func readHeader(path string) (header, error) {
	format, _ := formatOf(path)
	return open(path, func(r io.Reader) (header, error) {
		c, err := format.config(r)
		if err != nil {
			return header{}, err
		}
		return header{w: c.Width, h: c.Height, grey: isGrey(c.ColorModel)}, checkPixels(c.Width, c.Height)
	})
}

// isGrey is whether a file can hold shades of grey alone: its palette may have no other colours.
func isGrey(m color.Model) bool {
	palette, ok := m.(color.Palette)
	if !ok {
		return m == color.GrayModel || m == color.Gray16Model
	}
	return !slices.ContainsFunc(palette, func(c color.Color) bool {
		r, g, b, _ := c.RGBA()
		return r != g || g != b
	})
}

// readPlanes decodes a picture, whose header has been checked, into c planes of values in [-1, 1].
// Transparent parts show white.
func readPlanes(path string, c int) ([]float32, image.Rectangle, error) {
	format, _ := formatOf(path)
	m, err := open(path, format.decode)
	if err != nil {
		return nil, image.Rectangle{}, err
	}
	return planesOf(m, c), m.Bounds(), nil
}

// planesOf is a picture as c planes, 1 or 3, of values in [-1, 1]. Transparent parts show white.
func planesOf(m image.Image, c int) []float32 {
	b := m.Bounds()
	p := b.Dx() * b.Dy()
	if g, ok := m.(*image.Gray); ok && c == 1 {
		x := make([]float32, p)
		for i := range x {
			x[i] = byteValue[g.Pix[i/b.Dx()*g.Stride+i%b.Dx()]]
		}
		return x
	}
	x := make([]float32, 3*p)
	for i := range p {
		r, g, bl, a := m.At(b.Min.X+i%b.Dx(), b.Min.Y+i/b.Dx()).RGBA()
		for k, v := range [3]uint32{r, g, bl} {
			x[k*p+i] = float32(float64(v+0xffff-a)/257*byteGain + byteOffset)
		}
	}
	if c == 1 {
		grey(x[:p], x)
		x = x[:p:p]
	}
	return x
}

// ReadPictures reads PNG, JPEG, PGM and PPM files: one file, or all those below a folder in the order
// of their paths. Values lie in [-1, 1].
//
// With a height and width other than zero each picture is cut to that aspect ratio around its middle
// and resized; without, all must have the size of the first. Grey asks for one channel; otherwise the
// set has three, or one if every picture is grey. Where the folder holds only folders, these are the
// classes. A limit other than zero reads only the first pictures.
func ReadPictures(path string, height, width int, grey bool, limit int) (*Set, error) {
	files, err := pictureFiles(path)
	if err != nil {
		return nil, err
	}
	all := files
	if limit > 0 && limit < len(files) {
		files = files[:limit]
	}
	heads := make([]header, len(files))
	colours := 1
	for i, f := range files {
		if heads[i], err = readHeader(f); err != nil {
			return nil, err
		}
		if !heads[i].grey && !grey {
			colours = 3
		}
		if height == 0 && (heads[i].w != heads[0].w || heads[i].h != heads[0].h) {
			return nil, fmt.Errorf("data: %s: picture of %d×%d, want %d×%d as in %s, or ask for a size",
				f, heads[i].h, heads[i].w, heads[0].h, heads[0].w, filepath.Base(files[0]))
		}
	}
	if height == 0 {
		height, width = heads[0].h, heads[0].w
	}
	s, err := byteSet(filepath.Base(path), nil, len(files), colours, height, width)
	if err != nil {
		return nil, err
	}
	s.bytes = make([]byte, s.N*s.Dim())
	for i, f := range files {
		x, b, err := readPlanes(f, colours)
		if err != nil {
			return nil, err
		}
		if b.Dx() != heads[i].w || b.Dy() != heads[i].h {
			return nil, fmt.Errorf("data: %s: picture of %d×%d, its header says %d×%d", f, b.Dy(), b.Dx(), heads[i].h, heads[i].w)
		}
		one := &Set{Name: f, N: 1, C: colours, H: b.Dy(), W: b.Dx(), Floats: x}
		if one, err = one.fit(height, width); err != nil {
			return nil, err
		}
		s.put(i, one.Floats)
	}
	s.classesFrom(path, all)
	return s, nil
}

// fit crops to the aspect ratio of h×w around the middle and resizes.
func (s *Set) fit(h, w int) (*Set, error) {
	ch, cw := s.H, s.W
	if s.H*w > s.W*h {
		ch = max(1, s.W*h/w)
	} else {
		cw = max(1, s.H*w/h)
	}
	s, err := s.Crop(ch, cw)
	if err != nil {
		return nil, err
	}
	return s.Resize(h, w)
}

// pictureFiles lists the pictures of a path, sorted.
func pictureFiles(path string) ([]string, error) {
	return filesOf(path, func(p string) bool { _, ok := formatOf(p); return ok }, ".png, .jpg, .pgm or .ppm")
}

// filesOf lists the files of a path that are of some kind, sorted.
func filesOf(path string, is func(string) bool, kinds string) ([]string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	if !st.IsDir() {
		if !is(path) {
			return nil, fmt.Errorf("data: %s: not a file to read here: want %s", path, kinds)
		}
		return []string{path}, nil
	}
	var files []string
	err = fs.WalkDir(os.DirFS(path), ".", func(p string, d fs.DirEntry, err error) error {
		if !is(p) || err != nil {
			return err
		}
		// Stat follows links, which folders of pictures are often made of.
		full := filepath.Join(path, filepath.FromSlash(p))
		st, err := os.Stat(full)
		if err == nil && st.Mode().IsRegular() {
			files = append(files, full)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("data: %s: no %s file in this folder", path, kinds)
	}
	slices.SortFunc(files, func(a, b string) int { return cmp.Or(byNumber(a, b), cmp.Compare(a, b)) })
	return files, nil
}

// byNumber compares paths with runs of digits taken as numbers, so that s2/10 comes after s2/9.
func byNumber(a, b string) int {
	for a != "" && b != "" {
		if da, db := digits(a), digits(b); da > 0 && db > 0 {
			na, nb := strings.TrimLeft(a[:da], "0"), strings.TrimLeft(b[:db], "0")
			if c := cmp.Or(cmp.Compare(len(na), len(nb)), cmp.Compare(na, nb)); c != 0 {
				return c
			}
			a, b = a[da:], b[db:]
			continue
		}
		if c := cmp.Compare(a[0], b[0]); c != 0 {
			return c
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// classesFrom labels the first s.N of the files with the folder below root that they lie in, if each
// lies in one and there are two at least.
func (s *Set) classesFrom(root string, files []string) {
	var names []string
	labels := make([]int, len(files))
	for i, f := range files {
		rel, err := filepath.Rel(root, f)
		folder, _, below := strings.Cut(filepath.ToSlash(rel), "/")
		if err != nil || !below {
			return
		}
		if labels[i] = slices.Index(names, folder); labels[i] < 0 {
			labels[i] = len(names)
			names = append(names, folder)
		}
	}
	if len(names) > 1 {
		s.Labels, s.Classes = labels[:s.N], names
	}
}
