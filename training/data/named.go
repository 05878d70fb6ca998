package data

import (
	"archive/zip"
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// treeFrames is the frames of the clip of a tree before a hand comes into view.
const treeFrames = 320

func readTree(_ context.Context, path string, o Options, limit int) (*Set, error) {
	frames := min(cmp.Or(o.Frames, treeFrames), treeFrames)
	most := treeFrames / frames
	if limit > 0 {
		most = min(most, limit)
	}
	h, w := o.sizeOr(64)
	return ReadClips(path, frames, h, w, o.Grey, most)
}

// sizeOr is the size that is asked for, or side×side.
func (o Options) sizeOr(side int) (h, w int) {
	if o.Size == 0 {
		return side, side
	}
	return o.height(), o.width()
}

// readIcons brings the few icons of another shape to that of the rest.
func readIcons(_ context.Context, path string, o Options, limit int) (*Set, error) {
	h, w := o.sizeOr(128)
	return ReadPictures(path, h, w, o.Grey, limit)
}

// readMotion reads the clips of one skin tone that have as many frames as are asked for (24), and of each
// so many, evenly spaced: one example a motion. Clips of two tones show the same motions, frame by frame,
// in the same order.
func readMotion(tone string) func(context.Context, string, Options, int) (*Set, error) {
	return func(_ context.Context, dir string, o Options, limit int) (*Set, error) {
		files, err := filepath.Glob(filepath.Join(dir, "*"+tone+"*.webp"))
		if err != nil {
			return nil, fmt.Errorf("data: %w", err)
		}
		frames := cmp.Or(o.Frames, 24)
		var clips []*clip
		for _, f := range files {
			c, err := openWebP(f)
			if err != nil {
				return nil, err
			}
			if c.n >= frames {
				clips = append(clips, c.thinned(frames))
			}
		}
		if len(clips) == 0 {
			return nil, fmt.Errorf("data: %s: no clip has %d frames", dir, frames)
		}
		h, w := o.sizeOr(64)
		return readClips(filepath.Base(dir), clips, frames, h, w, o.Grey, limit)
	}
}

// pickledBytes finds the bytes of a NumPy array of the given head in a gzipped pickle: the head ends
// with the opcode of a byte string and its length.
func pickledBytes(path, dtype string, n int) ([]byte, error) {
	b, err := open(path, func(r io.Reader) ([]byte, error) {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(io.LimitReader(z, maxFile))
	})
	if err != nil {
		return nil, err
	}
	head := binary.LittleEndian.AppendUint32([]byte{'B'}, uint32(n))
	at := bytes.Index(b[:min(len(b), 512)], head)
	if at < 0 || !bytes.Contains(b[:at], []byte(dtype)) || len(b) < at+len(head)+n {
		return nil, fmt.Errorf("data: %s: no array of %d bytes of type %s", path, n, dtype)
	}
	return b[at+len(head):][:n], nil
}

func readAnimals(_ context.Context, dir string, _ Options, limit int) (*Set, error) {
	const n, side = 10000, 28
	x, err := pickledBytes(filepath.Join(dir, "animal_data_version_3.gz"), "u1", n*side*side)
	if err != nil {
		return nil, err
	}
	l, err := pickledBytes(filepath.Join(dir, "animal_label_version_3.gz"), "i8", 8*n)
	if err != nil {
		return nil, err
	}
	s, err := byteSet("animals", x, n, 1, side, side)
	if err != nil {
		return nil, err
	}
	for i := range n {
		s.Labels = append(s.Labels, int(binary.LittleEndian.Uint64(l[8*i:])))
	}
	if limit > 0 {
		s = s.Head(limit)
	}
	return s, nil
}

// readFlights cuts the flights, sampled every ten seconds, into pieces of 30 moments (or Frames) of four
// values: east and north of the piece's first place in kilometres, the course in radians from east
// against the clock, without jumps, and the speed over ground in metres a second.
func readFlights(_ context.Context, path string, o Options, limit int) (*Set, error) {
	type report struct {
		Timestamp                               int64
		Callsign, Icao24                        string
		Latitude, Longitude, Groundspeed, Track float64
	}
	all, err := open(path, func(r io.Reader) (all []report, err error) {
		z, err := gzip.NewReader(r)
		if err == nil {
			err = json.NewDecoder(bufio.NewReader(z)).Decode(&all)
		}
		return all, err
	})
	if err != nil {
		return nil, err
	}
	const every, earth, knot = 10_000, 6371.0088, 0.514444
	steps := cmp.Or(o.Frames, 30)
	var pieces [][][]float32
	var piece [][]float32
	var origin, last report
	for i, r := range all {
		if i == 0 || len(piece) == 0 || r.Icao24 != last.Icao24 || r.Callsign != last.Callsign || r.Timestamp-last.Timestamp != every {
			piece, origin = nil, r
		}
		course := math.Pi/2 - r.Track*math.Pi/180
		if k := len(piece); k > 0 {
			before := float64(piece[k-1][2])
			course += 2 * math.Pi * math.Round((before-course)/(2*math.Pi))
		}
		rad := math.Pi / 180
		piece = append(piece, []float32{
			float32((r.Longitude - origin.Longitude) * rad * earth * math.Cos(origin.Latitude*rad)),
			float32((r.Latitude - origin.Latitude) * rad * earth),
			float32(course), float32(r.Groundspeed * knot),
		})
		if last = r; len(piece) == steps {
			pieces, piece = append(pieces, piece), nil
			if limit > 0 && len(pieces) == limit {
				break
			}
		}
	}
	if len(pieces) == 0 {
		return nil, fmt.Errorf("data: %s: no flight has %d reports in a row", path, steps)
	}
	return pathsOf("flights", pieces, 4, steps)
}

// readEmojiSaliency composes emoji on photographs: each at a random size, place and side, on a crop of a
// texture or photo of a random tint. The maps are the emoji's opacity, so they are exact; the pictures are
// given. Beside "scribbles" is as in synthetic/salient. Every emoji is used once, skin tones left out.
func readEmojiSaliency(ctx context.Context, dir string, o Options, limit int) (*Set, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.png"))
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	files = slices.DeleteFunc(files, regexp.MustCompile(`-1f3f[b-f]`).MatchString)
	rand.New(rand.NewPCG(1, holeStream)).Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	if limit > 0 {
		files = files[:min(limit, len(files))]
	}
	side := cmp.Or(o.Size, 64)
	var grounds []*Set
	for _, name := range []string{"brick", "grass", "gravel", "coffee", "chelsea"} {
		path, err := o.obtain(ctx, name, o.Progress)
		if err != nil {
			return nil, err
		}
		g, err := ReadPictures(path, 0, 0, false, 0)
		if err != nil {
			return nil, err
		}
		// Shrunk so that a crop holds some of what there is to see.
		if g, err = g.Resize(max(side, 2*side*g.H/max(g.H, g.W)), max(side, 2*side*g.W/max(g.H, g.W))); err != nil {
			return nil, err
		}
		grounds = append(grounds, g)
	}
	s, err := newSet("emoji-saliency", len(files), 1, side, side)
	if err != nil {
		return nil, err
	}
	given, err := newSet("emoji-saliency given", s.N, 3, side, side)
	if err != nil {
		return nil, err
	}
	scribbles, err := newSet("emoji-saliency scribbles", s.N, 1, side, side)
	if err != nil {
		return nil, err
	}
	s.Given, s.Beside = given, map[string]*Set{"scribbles": scribbles}
	for i, f := range files {
		m, err := open(f, png.Decode)
		if err != nil {
			return nil, err
		}
		r := rand.New(rand.NewPCG(uint64(i), meshStream))
		compose(r, given.At(i), s.At(i), side, grounds[r.IntN(len(grounds))], m)
		mask := s.At(i)
		scribble(r, &example{Set: s, next: map[string][]float32{"scribbles": scribbles.At(i)}}, func(x, y float64) float64 {
			return -float64(mask[max(0, min(side-1, int(y)))*side+max(0, min(side-1, int(x)))])
		})
	}
	return s, nil
}

// compose paints a crop of a ground and, on it, an object with its opacity.
func compose(r *rand.Rand, picture, mask []float32, side int, ground *Set, object image.Image) {
	y0, x0 := r.IntN(ground.H-side+1), r.IntN(ground.W-side+1)
	x := ground.X()
	for k := range 3 {
		tint := uniform(r, 0.7, 1)
		for i := range side * side {
			v := x[(min(k, ground.C-1)*ground.H+y0+i/side)*ground.W+x0+i%side]
			picture[k*side*side+i] = float32((float64(v)+1)*tint - 1)
		}
	}
	b := object.Bounds()
	one := &Set{N: 1, C: 4, H: b.Dy(), W: b.Dx(), Floats: make([]float32, 4*b.Dx()*b.Dy()), Gain: 1}
	flip, p := r.IntN(2) == 0, b.Dx()*b.Dy()
	for i := range p {
		x := i % b.Dx()
		if flip {
			x = b.Dx() - 1 - x
		}
		cr, cg, cb, ca := object.At(b.Min.X+x, b.Min.Y+i/b.Dx()).RGBA() // times the opacity
		for k, v := range []uint32{cr, cg, cb, ca} {
			one.Floats[k*p+i] = float32(v) / 0xffff
		}
	}
	size := int(uniform(r, 0.4, 0.8) * float64(side))
	one, err := one.Resize(size, size)
	if err != nil {
		panic(err) // sizes that have been checked
	}
	oy, ox := r.IntN(side-size+1), r.IntN(side-size+1)
	for i := range mask {
		mask[i] = -1
	}
	p = size * size
	for i := range p {
		at := (oy+i/size)*side + ox + i%size
		a := one.Floats[3*p+i]
		mask[at] = 2*a - 1
		for k := range 3 {
			v := &picture[k*side*side+at]
			*v = max(-1, min(1, (1-a)*(*v+1)+2*one.Floats[k*p+i]-1))
		}
	}
}

// furnitureClasses is the classes of furniture by a pattern of its name in the catalogues, the first
// that fits.
var furnitureClasses = []struct {
	class string
	name  *regexp.Regexp
}{
	{"chair", regexp.MustCompile(`(?i)chair|stool`)},
	{"sofa", regexp.MustCompile(`(?i)sofa|couch`)},
	{"bed", regexp.MustCompile(`(?i)\bbed\b`)},
	{"desk", regexp.MustCompile(`(?i)desk`)},
	{"lamp", regexp.MustCompile(`(?i)lamp`)},
	{"cabinet", regexp.MustCompile(`(?i)cabinet|wardrobe|dresser|chest|bookcase|shel`)},
	{"bottle", regexp.MustCompile(`(?i)bottle|\bvase|\bcup\b|\bbowl\b`)},
	{"table", regexp.MustCompile(`(?i)table\b`)},
	{"plant", regexp.MustCompile(`(?i)plant|tree`)},
}

// unpackFurniture takes the models and icons of the classes out of the catalogues, which are ZIP files:
// meshes/CLASS/N.obj, of the OBJ files the lines of vertices and faces alone, and icons/CLASS/N.png.
func unpackFurniture(src fs.FS, dir string) error {
	catalogues, err := fs.Glob(src, "usr/share/sweethome3d/furniture/*.sh3f")
	if err != nil {
		return err
	}
	slices.Sort(catalogues)
	n := 0
	for _, name := range catalogues {
		b, err := fs.ReadFile(src, name)
		if err != nil {
			return err
		}
		z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return fmt.Errorf("%s: %w", path.Base(name), err)
		}
		list, err := fs.ReadFile(z, "PluginFurnitureCatalog.properties")
		if err != nil {
			return fmt.Errorf("%s: %w", path.Base(name), err)
		}
		entries := map[string]map[string]string{} // number → key → value
		var order []string
		for line := range strings.Lines(string(list)) {
			key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			key, number, numbered := strings.Cut(key, "#")
			if !ok || !numbered {
				continue
			}
			if entries[number] == nil {
				entries[number] = map[string]string{}
				order = append(order, number)
			}
			entries[number][key] = value
		}
		for _, number := range order {
			e := entries[number]
			class := ""
			for _, c := range furnitureClasses {
				if class == "" && c.name.MatchString(e["name"]) {
					class = c.class
				}
			}
			model, icon := strings.TrimPrefix(e["model"], "/"), strings.TrimPrefix(e["icon"], "/")
			if class == "" || path.Ext(model) != ".obj" {
				continue
			}
			text, err := fs.ReadFile(z, model)
			if err != nil {
				continue // a model inside a further archive
			}
			picture, err := fs.ReadFile(z, icon)
			if err != nil {
				continue
			}
			n++
			base := fmt.Sprintf("%s/%03d", class, n)
			if _, err := writeFile(filepath.Join(dir, "meshes", base+".obj"), shapeLines(text)); err != nil {
				return err
			}
			if _, err := writeFile(filepath.Join(dir, "icons", base+".png"), bytes.NewReader(picture)); err != nil {
				return err
			}
		}
	}
	if n == 0 {
		return fmt.Errorf("no catalogue of furniture")
	}
	return nil
}

// shapeLines keeps the lines of an OBJ file that tell its shape, without texture and normal numbers.
func shapeLines(text []byte) io.Reader {
	var out bytes.Buffer
	in := bufio.NewScanner(bytes.NewReader(text))
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		f := strings.Fields(in.Text())
		if len(f) < 4 || f[0] != "v" && f[0] != "f" {
			continue
		}
		for i, t := range f[1:] {
			f[i+1], _, _ = strings.Cut(t, "/")
		}
		out.WriteString(strings.Join(f, " ") + "\n")
	}
	return &out
}
