package data

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
	"golang.org/x/image/webp"
)

// maxPixels bounds one picture file: 2^25 is 5792×5792.
const maxPixels = 1 << 25

// ErrSizes is in errors about pictures of several sizes, which a size brings to one.
var ErrSizes = errors.New("ask for a size")

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
	name, starts string // ? stands for any byte
	config       func(io.Reader) (image.Config, error)
	decode       func(io.Reader) (image.Image, error)
}

var pictureFormats = []pictureFormat{
	{"PNG", "\x89PNG", png.DecodeConfig, png.Decode},
	{"JPEG", "\xff\xd8", jpeg.DecodeConfig, jpeg.Decode},
	{"WebP", "RIFF????WEBP", webp.DecodeConfig, webp.Decode},
	{"BMP", "BM", bmp.DecodeConfig, bmp.Decode},
	{"TIFF", "II*\x00", tiff.DecodeConfig, tiff.Decode},
	{"TIFF", "MM\x00*", tiff.DecodeConfig, tiff.Decode},
	{"PGM or PPM", "P?", pnmConfig, decodePNM},
}

// startsAs is whether the first bytes of a file are those of the format.
func (f pictureFormat) startsAs(b []byte) bool {
	for i := range len(f.starts) {
		if i >= len(b) || f.starts[i] != '?' && f.starts[i] != b[i] {
			return false
		}
	}
	return true
}

// A pictureReader is a picture to be read, what it is, and how its pixels lie.
type pictureReader struct {
	*bufio.Reader
	pictureFormat
	lie
}

// sniff looks at the first bytes of a picture, whatever the name of its file says.
func sniff(r io.Reader) (pictureReader, error) {
	p := pictureReader{Reader: bufio.NewReaderSize(r, 1<<16)}
	head, err := p.Peek(1 << 16)
	if err != nil && !errors.Is(err, io.EOF) {
		return p, err
	}
	i := slices.IndexFunc(pictureFormats, func(f pictureFormat) bool { return f.startsAs(head) })
	if i < 0 {
		return p, fmt.Errorf("starts with %q, as no PNG, JPEG, WebP, BMP, TIFF, PGM or PPM does", head[:min(4, len(head))])
	}
	p.pictureFormat, p.lie = pictureFormats[i], lieOf(head)
	return p, nil
}

// pictureConfig is the header of a picture, the right way up.
func pictureConfig(r io.Reader) (image.Config, error) {
	p, err := sniff(r)
	if err != nil {
		return image.Config{}, err
	}
	c, err := p.config(p)
	if p.swaps() {
		c.Width, c.Height = c.Height, c.Width
	}
	return c, err
}

// decodePicture is a picture, the right way up.
func decodePicture(r io.Reader) (image.Image, error) {
	p, err := sniff(r)
	if err != nil {
		return nil, err
	}
	m, err := p.decode(p)
	if err != nil {
		return nil, err
	}
	return p.turn(m), nil
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

// pictureEndings are those of the names of files that are taken for pictures.
var pictureEndings = []string{".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".pnm"}

func isPicture(path string) bool {
	return slices.Contains(pictureEndings, strings.ToLower(filepath.Ext(path)))
}

// readHeader looks at a picture without decoding it and refuses one that is too large.
func readHeader(path string) (header, error) {
	return open(path, func(r io.Reader) (header, error) {
		c, err := pictureConfig(r)
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
	m, err := open(path, decodePicture)
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
	at := func(x, y int) (r, g, b, a uint32) { return m.At(x, y).RGBA() }
	if y, ok := m.(*image.YCbCr); ok { // the same, without a colour on the heap for every pixel
		at = func(x, z int) (r, g, b, a uint32) { return y.YCbCrAt(x, z).RGBA() }
	}
	for i := range p {
		r, g, bl, a := at(b.Min.X+i%b.Dx(), b.Min.Y+i/b.Dx())
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

// ReadPictures reads PNG, JPEG, still WebP, BMP, TIFF, PGM and PPM files: one file, or all those below a
// folder in the order of their paths, turned the way that a JPEG's EXIF says. Values lie in [-1, 1].
//
// With a height and width other than zero each picture is cut to that aspect ratio around its middle
// and resized; without, all must have the size of the first. Grey asks for one channel; otherwise the
// set has three, or one if every picture is grey. Where the folder holds only folders, these are the
// classes. A limit other than zero reads only the first pictures.
func ReadPictures(path string, height, width int, grey bool, limit int) (*Set, error) {
	return ReadPicturesAs(path, Options{Size: height, Width: width, Grey: grey, Limit: limit})
}

// ReadPicturesAs is [ReadPictures] with more to choose: the part, the only one to be decoded, how pictures
// are brought to their size, and depth, a file where path is one.
func ReadPicturesAs(path string, o Options) (*Set, error) {
	all, err := pictureFiles(path)
	if err != nil {
		return nil, err
	}
	files, index, depth := all, span(len(all)), []string(nil)
	if o.Depth != "" {
		if depth, err = DepthOf(path, o.Depth); err != nil {
			return nil, err
		}
	}
	if o.Part != "" {
		train, test, err := parts(path, len(all), o.heldOut(), 1)
		if err != nil {
			return nil, err
		}
		if index = train; o.Part == "test" {
			index = test
		}
	}
	if o.Limit > 0 && o.Limit < len(index) {
		index = index[:o.Limit]
		if o.Part == "" {
			files = files[:o.Limit]
		}
	}
	heads := make([]header, len(files))
	colours, height, width := 1, o.height(), o.width()
	for i, f := range files {
		if heads[i], err = readHeader(f); err != nil {
			return nil, err
		}
		if (!heads[i].grey || depth != nil) && !o.Grey {
			colours = 3
		}
		if height == 0 && (heads[i].w != heads[0].w || heads[i].h != heads[0].h) {
			return nil, fmt.Errorf("data: %s: picture of %d×%d, want %d×%d as in %s, or %w",
				f, heads[i].h, heads[i].w, heads[0].h, heads[0].w, filepath.Base(files[0]), ErrSizes)
		}
	}
	if height == 0 {
		height, width = heads[0].h, heads[0].w
	}
	channels := colours
	if depth != nil {
		channels++
	}
	s, err := byteSet(filepath.Base(path), nil, len(index), channels, height, width)
	if err != nil {
		return nil, err
	}
	s.bytes, s.rounds = make([]byte, s.N*s.Dim()), o.rounds
	err = inTurn(len(index), func(k int) ([]float32, error) {
		i := index[k]
		x, err := o.planes(files[i], heads[i], colours, height, width)
		if err != nil || depth == nil {
			return x, err
		}
		near, err := o.nearness(depth[i], height, width)
		return append(x, near...), err
	}, s.put)
	if err != nil {
		return nil, err
	}
	s.classesFrom(path, all, index)
	s.LeftOut = leftOut(path)
	return s, nil
}

// otherPictures are the ends of names of pictures that cannot be read here.
var otherPictures = []string{".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".cr2", ".nef", ".dng"}

// leftOut counts the pictures of a folder that cannot be read, by the ends of their names; nil without any.
func leftOut(path string) map[string]int {
	end := func(p string) string { return strings.ToLower(filepath.Ext(p)) }
	files, err := filesOf(path, func(p string) bool { return slices.Contains(otherPictures, end(p)) }, "")
	if err != nil { // none, or a file
		return nil
	}
	n := map[string]int{}
	for _, f := range files {
		n[end(f)]++
	}
	return n
}

// DepthOf lists the pictures of depth for those of a path, in the same order: files of the same names where
// both are folders.
func DepthOf(path, depth string) ([]string, error) {
	if err := sameNames(path, depth); err != nil {
		return nil, err
	}
	files, err := pictureFiles(path)
	if err != nil {
		return nil, err
	}
	near, err := pictureFiles(depth)
	if err == nil && len(near) != len(files) {
		err = fmt.Errorf("data: depth %s: %d pictures for %d of %s", depth, len(near), len(files), path)
	}
	return near, err
}

// inTurn makes n things, several at a time, and uses them in order, up to the first error.
func inTurn(n int, load func(k int) ([]float32, error), use func(k int, x []float32)) error {
	most := runtime.GOMAXPROCS(0)
	made, errs := make([][]float32, most), make([]error, most)
	for first := 0; first < n; first += most {
		var w sync.WaitGroup
		some := min(most, n-first)
		for k := range some {
			w.Go(func() { made[k], errs[k] = load(first + k) })
		}
		w.Wait()
		for k := range some {
			if errs[k] != nil {
				return errs[k]
			}
			use(first+k, made[k])
		}
	}
	return nil
}

// planes is a picture as c planes of h×w.
func (o Options) planes(path string, head header, c, h, w int) ([]float32, error) {
	x, b, err := readPlanes(path, c)
	if err != nil {
		return nil, err
	}
	if b.Dx() != head.w || b.Dy() != head.h {
		return nil, fmt.Errorf("data: %s: picture of %d×%d, its header says %d×%d", path, b.Dy(), b.Dx(), head.h, head.w)
	}
	one, err := o.fit(&Set{Name: path, N: 1, C: c, H: b.Dy(), W: b.Dx(), Floats: x}, h, w)
	if err != nil {
		return nil, err
	}
	return one.Floats, nil
}

// nearness is a picture of depth at h×w, high where it is near.
func (o Options) nearness(path string, h, w int) ([]float32, error) {
	head, err := readHeader(path)
	if err != nil {
		return nil, err
	}
	x, err := o.planes(path, head, 1, h, w)
	if o.Far {
		for i, v := range x {
			x[i] = -v
		}
	}
	return x, err
}

// fit brings a set to h×w as the options say.
func (o Options) fit(s *Set, h, w int) (*Set, error) {
	if o.Stretch {
		return s.Resize(h, w)
	}
	return s.fit(h, w)
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
	files, err := filesOf(path, isPicture, ".png, .jpg, .webp, .bmp, .tif, .pgm or .ppm")
	if err != nil {
		isClip := func(p string) bool { _, ok := clipFormatOf(p); return ok }
		if _, none := filesOf(path, isClip, ""); none == nil {
			err = fmt.Errorf("%w, but clips, which are read as video", err)
		}
	}
	return files, err
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

// classesFrom labels examples, the files of an index, with the folder below root that they lie in, if
// each of the files lies in one and there are two at least.
func (s *Set) classesFrom(root string, files []string, index []int) {
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
		s.Classes = names
		for _, i := range index {
			s.Labels = append(s.Labels, labels[i])
		}
	}
}
