package data

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
)

// write puts a file into a folder, which it makes where needed.
func write(t testing.TB, dir, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if _, err := writeFile(path, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	return path
}

// idxBytes is an IDX file of unsigned bytes.
func idxBytes(data []byte, dims ...uint32) []byte {
	b := []byte{0, 0, 8, byte(len(dims))}
	for _, d := range dims {
		b = binary.BigEndian.AppendUint32(b, d)
	}
	return append(b, data...)
}

func zipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Write(b)
	z.Close()
	return out.Bytes()
}

// npyBytes is an NPY file of version 1.
func npyBytes(dict string, data any) []byte {
	head := dict + strings.Repeat(" ", 63-(10+len(dict))%64) + "\n"
	b := append([]byte("\x93NUMPY\x01\x00"), byte(len(head)), byte(len(head)>>8))
	b = append(b, head...)
	var raw bytes.Buffer
	binary.Write(&raw, binary.LittleEndian, data)
	return append(b, raw.Bytes()...)
}

func npyDict(descr, shape string) string {
	return fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shape)
}

func pngBytes(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// ramp is a grey picture whose pixel at (x, y) is 10·y + x.
func ramp(w, h int) *image.Gray {
	m := image.NewGray(image.Rect(0, 0, w, h))
	for i := range m.Pix {
		m.Pix[i] = uint8(i/w*10 + i%w)
	}
	return m
}

// raw is the values of s in the units of the file, rounded.
func raw(s *Set) (v []int) {
	for _, x := range s.X() {
		v = append(v, int(math.Round(s.Raw(x))))
	}
	return v
}

func TestIDX(t *testing.T) {
	dir := t.TempDir()
	images := write(t, dir, "train-images-idx3-ubyte.gz", zipped(idxBytes([]byte{0, 255, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 3, 2, 2)))
	labels := write(t, dir, "train-labels-idx1-ubyte", idxBytes([]byte{5, 0, 4}, 3))
	write(t, dir, "t10k-images-idx3-ubyte", idxBytes([]byte{9, 9, 9, 9}, 1, 2, 2))

	s, err := ReadIDX(images, labels, 0)
	if err != nil || s.Check() != nil {
		t.Fatal(err, s)
	}
	if s.N != 3 || s.C != 1 || s.H != 2 || s.W != 2 || s.X()[0] != -1 || s.X()[1] != 1 || !slices.Equal(raw(s)[4:], []int{3, 4, 5, 6, 7, 8, 9, 10}) || !slices.Equal(s.Labels, []int{5, 0, 4}) {
		t.Errorf("got %+v", s)
	}
	for _, c := range []struct {
		o      Options
		values []int
		labels []int
	}{
		{Options{Limit: 1}, []int{0, 255, 1, 2}, []int{5}},
		{Options{Part: "train", Limit: 2}, []int{0, 255, 1, 2, 3, 4, 5, 6}, []int{5, 0}},
		{Options{Part: "test"}, []int{9, 9, 9, 9}, nil},
		{Options{Classes: []int{4}, Limit: 1}, []int{7, 8, 9, 10}, []int{4}},
	} {
		s, err := Load(context.Background(), dir, c.o)
		if err != nil || !slices.Equal(raw(s), c.values) || !slices.Equal(s.Labels, c.labels) {
			t.Errorf("%+v: got %+v, %v", c.o, s, err)
		}
	}
	// One file on its own.
	if s, err := Load(context.Background(), images, Options{Size: 4}); err != nil || s.N != 3 || s.H != 4 {
		t.Errorf("one file: %+v, %v", s, err)
	}
}

func TestIDXErrors(t *testing.T) {
	good := idxBytes([]byte{1, 2, 3, 4}, 1, 2, 2)
	for want, b := range map[string][]byte{
		"cut short":          good[:3],
		"axis 2: the file":   good[:13],
		"wants 4 bytes, got": good[:len(good)-1],
		"more bytes":         append(bytes.Clone(good), 0),
		"starts with":        []byte("\x1f\x8b\x08\x00"),
		"holds more than":    idxBytes(nil, 1<<31, 1<<31, 4),
		"below 1":            idxBytes(nil, 0, 2, 2),
		"want [N, H, W]":     idxBytes([]byte{1, 2}, 2),
		"wants 536870911":    idxBytes([]byte{1}, 1, 1, 1<<29-1),
	} {
		_, err := ReadIDX(write(t, t.TempDir(), "images-idx3", b), "", 0)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "images-idx3") {
			t.Errorf("got %v, want an error with %q and the file's name", err, want)
		}
	}
	dir := t.TempDir()
	images := write(t, dir, "i", good)
	if _, err := ReadIDX(images, write(t, dir, "l", idxBytes([]byte{1, 2}, 2)), 0); err == nil || !strings.Contains(err.Error(), "one label for each of 1") {
		t.Errorf("two labels for one picture: %v", err)
	}
	if _, err := ReadIDX(write(t, dir, "i.gz", zipped(good)[:20]), "", 0); err == nil || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("gzip cut short: %v", err)
	}
}

func TestNPY(t *testing.T) {
	for name, c := range map[string]struct {
		b            []byte
		n, ch, h, w  int
		gain, offset float64
		values       []float32
	}{
		"points":    {npyBytes(npyDict("<f4", "(2, 2)"), []float32{1, -20, 300, 4}), 2, 2, 1, 1, 1, 0, []float32{1, -20, 300, 4}},
		"bytes":     {npyBytes(npyDict("|u1", "(1, 1, 3)"), []uint8{0, 51, 255}), 1, 1, 1, 3, 2.0 / 255, -1, []float32{-1, -0.6, 1}},
		"unit":      {npyBytes(npyDict("<f8", "(2, 1, 2)"), []float64{0, 0.5, 1, 0.25}), 2, 1, 1, 2, 2, -1, []float32{-1, 0, 1, -0.5}},
		"signed":    {npyBytes(npyDict("<f4", "(1, 2, 1, 1)"), []float32{-0.5, 1}), 1, 2, 1, 1, 1, 0, []float32{-0.5, 1}},
		"integers":  {npyBytes(npyDict("<i8", "(1, 1, 2)"), []int64{0, 255}), 1, 1, 1, 2, 2.0 / 255, -1, []float32{-1, 1}},
		"bools":     {npyBytes(npyDict("|b1", "(1, 1, 2)"), []bool{true, false}), 1, 1, 1, 2, 2, -1, []float32{1, -1}},
		"shortints": {npyBytes(npyDict("<u2", "(1, 1, 2)"), []uint16{255, 102}), 1, 1, 1, 2, 2.0 / 255, -1, []float32{1, -0.2}},
	} {
		s, err := Load(context.Background(), write(t, t.TempDir(), name+".npy", c.b), Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if s.N != c.n || s.C != c.ch || s.H != c.h || s.W != c.w || s.Gain != c.gain || s.Offset != c.offset {
			t.Errorf("%s: got %+v", name, s)
		}
		for i, v := range c.values {
			if math.Abs(float64(s.X()[i]-v)) > 1e-6 {
				t.Errorf("%s: got %v, want %v", name, s.X(), c.values)
				break
			}
		}
	}
}

func TestNPYErrors(t *testing.T) {
	good := npyBytes(npyDict("<f4", "(1, 2)"), []float32{1, 2})
	two := append([]byte("\x93NUMPY\x02\x00\xff\xff\xff\xff"), good[10:]...)
	for want, b := range map[string][]byte{
		"cut short":               good[:40],
		"file of 136 bytes":       good[:len(good)-1],
		"got 137":                 append(bytes.Clone(good), 0),
		"starts with":             []byte("PK\x03\x04 not an array"),
		"length 4294967295":       two,
		"format version 9":        append([]byte("\x93NUMPY\x09\x00"), good[8:]...),
		"not the text":            npyBytes("{'fortran_order': False, 'descr': '<f4', 'shape': (1, 2), }", []float32{1, 2}),
		"invalid dictionary":      npyBytes("{}", []byte{}),
		"want bool, an integer":   npyBytes(npyDict("<c8", "(1, 2)"), []float32{1, 2, 3, 4}),
		"holds more than":         npyBytes(npyDict("<f4", "(4611686018427387904, 4)"), []float32{}),
		"below 1":                 npyBytes(npyDict("<f4", "(-3, 2)"), []float32{}),
		"want [N, D]":             npyBytes(npyDict("<f4", "(3,)"), []float32{1, 2, 3}),
		"value out of range":      npyBytes(npyDict("<f4", "(99999999999999999999, 4)"), []float32{}),
		"Fortran":                 npyBytes(strings.Replace(npyDict("<f4", "(1, 2)"), "False", "True", 1), []float32{1, 2}),
		"example 0: value 1 is N": npyBytes(npyDict("<f4", "(1, 2)"), []float32{1, float32(math.NaN())}),
		"value 0 is +Inf":         npyBytes(npyDict("<f8", "(1, 1, 1)"), []float64{1e300}),
		"channels first":          npyBytes(npyDict("|u1", "(1, 8, 8, 3)"), make([]uint8, 192)),
		"picture values lie in":   npyBytes(npyDict("<f4", "(1, 1, 2)"), []float32{-3, 500}),
	} {
		_, err := ReadNPY(write(t, t.TempDir(), "x.npy", b))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "x.npy") || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want one line with %q and the file's name", err, want)
		}
	}
}

func TestCSV(t *testing.T) {
	s, err := Load(context.Background(), write(t, t.TempDir(), "p.csv", []byte("x,y\n1, -2\n# note\n3e1,4\n")), Options{})
	if err != nil || s.N != 2 || s.C != 2 || !slices.Equal(s.X(), []float32{1, -2, 30, 4}) {
		t.Errorf("got %+v, %v", s, err)
	}
	for want, text := range map[string]string{
		"row 2, column 1: \"NaN\"":  "1,2\nNaN,4\n",
		"row 1, column 2: \"b\"":    "1,b\n",
		"wrong number of fields":    "1,2\n3\n",
		"no row of numbers":         "x,y\n",
		"row 2, column 2: \"1e99\"": "1,2\n3,1e99\n",
	} {
		_, err := ReadCSV(write(t, t.TempDir(), "p.csv", []byte(text)))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "p.csv") {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

func TestPNM(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		c    int
		want []int
	}{
		"a.pgm": {"P2\n# made by hand\n2 2 255\n0 10\n20 255", 1, []int{0, 10, 20, 255}},
		"b.pgm": {"P5 2 1 255\n\x07\xff", 1, []int{7, 255}},
		"c.pgm": {"P5 1 1 65535\n\x80\x80", 1, []int{128}},
		"d.ppm": {"P6 2 1 255\n\x01\x02\x03\x04\x05\x06", 3, []int{1, 4, 2, 5, 3, 6}},
		"e.ppm": {"P3 1 1 15 15 0 3", 3, []int{255, 0, 51}},
	} {
		s, err := ReadPictures(write(t, t.TempDir(), name, []byte(c.text)), 0, 0, false, 0)
		if err != nil || s.C != c.c || !slices.Equal(raw(s), c.want) {
			t.Errorf("%s: got %v, %v, want %v", name, s, err, c.want)
		}
	}
	for want, text := range map[string]string{
		"starts with":       "P4 1 1\n\x00",
		"cut short":         "P5 2 2 255\n\x01\x02\x03",
		"value 300":         "P2 1 1 255 300",
		"largest value 0":   "P5 1 1 0\n",
		"more than 9":       "P5 99999999999 1 255\n",
		"want 1 to":         "P5 100000 100000 255\n",
		"byte 'x'":          "P2 1 1 255 x",
		"picture of 0×1":    "P5 1 0 255\n",
		"largest value 655": "P5 1 1 65536\n",
	} {
		_, err := ReadPictures(write(t, t.TempDir(), "x.pgm", []byte(text)), 0, 0, false, 0)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "x.pgm") {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

func TestPictureFolder(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b/10.png", "b/9.png", "a/1.png"} {
		m := ramp(4, 6)
		m.Pix[0] = uint8(len(name) + int(name[2]))
		write(t, dir, name, pngBytes(t, m))
	}
	write(t, dir, "b/notes.txt", []byte("no picture"))
	write(t, dir, "b/moving.GIF", []byte("GIF89a"))
	s, err := Load(context.Background(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.LeftOut) != 1 || s.LeftOut[".gif"] != 1 {
		t.Errorf("left out: %v", s.LeftOut)
	}
	if s.N != 3 || s.C != 1 || s.H != 6 || s.W != 4 {
		t.Fatalf("%d×%d×%d×%d", s.N, s.C, s.H, s.W)
	}
	first := []int{raw(s)[0], raw(s)[24], raw(s)[48]}
	if !slices.Equal(first, []int{7 + '1', 7 + '9', 8 + '1'}) { // a/1, b/9, b/10
		t.Errorf("order: %v", first)
	}
	if !slices.Equal(s.Labels, []int{0, 1, 1}) || !slices.Equal(s.Classes, []string{"a", "b"}) {
		t.Errorf("labels %v, classes %v", s.Labels, s.Classes)
	}
	if got := raw(s)[24+1 : 24+8]; !slices.Equal(got, []int{1, 2, 3, 10, 11, 12, 13}) {
		t.Errorf("pixels %v", got)
	}
	if two, err := Load(context.Background(), dir, Options{Limit: 2}); err != nil || two.N != 2 || !slices.Equal(two.Labels, []int{0, 1}) {
		t.Errorf("limit 2: %+v, %v", two, err)
	}

	// A 6×4 picture to 4×4: rows 1 to 4 are kept as they are.
	square, err := Load(context.Background(), dir, Options{Size: 4})
	if err != nil || !slices.Equal(raw(square)[:4], []int{10, 11, 12, 13}) {
		t.Errorf("cut to a square: %v, %v", raw(square), err)
	}
	wide, err := Load(context.Background(), dir, Options{Size: 1, Width: 2})
	if err != nil || wide.H != 1 || wide.W != 2 {
		t.Errorf("1×2: %+v, %v", wide, err)
	}
	patches, err := Load(context.Background(), dir, Options{Size: 2, Patches: 5})
	if err != nil || patches.N != 5 || patches.H != 2 || math.Abs(float64(patches.X()[2]-patches.X()[0])/byteGain-10) > 1e-3 && patches.X()[0] != s.X()[0] {
		t.Errorf("patches: %+v, %v", patches, err)
	}

	// A colour picture makes the set a colour set, unless grey is asked for; white shows through.
	m := image.NewNRGBA(image.Rect(0, 0, 4, 6))
	m.SetNRGBA(1, 0, color.NRGBA{255, 0, 0, 255})
	m.SetNRGBA(2, 0, color.NRGBA{0, 0, 0, 128})
	write(t, dir, "c/x.png", pngBytes(t, m))
	s, err = Load(context.Background(), dir, Options{})
	if err != nil || s.C != 3 || s.N != 4 {
		t.Fatalf("%+v, %v", s, err)
	}
	last := raw(s)[3*72:]
	if got := []int{last[0], last[1], last[2], last[24], last[25], last[48+1]}; !slices.Equal(got, []int{255, 255, 127, 255, 0, 0}) {
		t.Errorf("colours %v", got)
	}
	s, err = Load(context.Background(), dir, Options{Grey: true})
	if err != nil || s.C != 1 || !slices.Equal(raw(s)[72:75], []int{255, 76, 127}) {
		t.Errorf("grey: %+v, %v", s, err)
	}

	var jpg bytes.Buffer
	if err := jpeg.Encode(&jpg, ramp(16, 16), &jpeg.Options{Quality: 100}); err != nil {
		t.Fatal(err)
	}
	s, err = Load(context.Background(), write(t, t.TempDir(), "one.JPG", jpg.Bytes()), Options{})
	if err != nil || s.N != 1 || s.C != 1 || math.Abs(float64(raw(s)[17]-11)) > 3 {
		t.Errorf("jpeg: %+v, %v", s, err)
	}
}

func TestPictureFolderLinks(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "real/x.png", pngBytes(t, ramp(4, 4)))
	if err := os.Symlink(filepath.Dir(file), filepath.Join(dir, "folder")); err != nil {
		t.Skip(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "links"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, filepath.Join(dir, "links", "y.png")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"folder", "links"} {
		if s, err := Load(context.Background(), filepath.Join(dir, name), Options{}); err != nil || s.N != 1 {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
}

func TestPictureErrors(t *testing.T) {
	good := pngBytes(t, ramp(4, 4))
	huge := bytes.Clone(good)
	binary.BigEndian.PutUint32(huge[16:], 1<<20)
	binary.BigEndian.PutUint32(huge[20:], 1<<20)
	for want, files := range map[string]map[string][]byte{
		"no .png, .jpg":    {"a.txt": nil},
		"read as video":    {"a.gif": nil},
		"want 4×4 as in a": {"a.png": good, "b.png": pngBytes(t, ramp(5, 4))},
		"b.png: png":       {"a.png": good, "b.png": good[:len(good)-20]},
		"as no PNG":        {"a.png": []byte("GIF89a..........")},
		"a.png: png":       {"a.png": huge},
		"cut short":        {"a.jpg": []byte("\xff\xd8\xff")},
	} {
		dir := t.TempDir()
		for name, b := range files {
			write(t, dir, name, b)
		}
		_, err := ReadPictures(dir, 0, 0, false, 0)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want one line with %q", err, want)
		}
	}
	if err := checkPixels(1<<20, 1<<20); err == nil {
		t.Error("a picture of a million by a million is accepted")
	}
	if _, err := ReadPictures(write(t, t.TempDir(), "x.gif", good), 0, 0, false, 0); err == nil || !strings.Contains(err.Error(), "want .png") {
		t.Errorf("gif: %v", err)
	}
}

func TestPartsOfAFolder(t *testing.T) {
	dir := t.TempDir()
	for i := range 20 {
		m := ramp(2, 2)
		m.Pix[0] = uint8(i)
		write(t, dir, fmt.Sprintf("%d.png", i), pngBytes(t, m))
	}
	seen := map[int]string{}
	for part, n := range map[string]int{"train": 15, "test": 5} {
		s, err := Load(context.Background(), dir, Options{Part: part, HeldOut: 0.25})
		if err != nil || s.N != n {
			t.Fatalf("%s: %+v, %v", part, s, err)
		}
		for i := range s.N {
			seen[int(math.Round(s.Raw(s.At(i)[0])))] = part
		}
	}
	if len(seen) != 20 {
		t.Errorf("the parts overlap: %v", seen)
	}
}

// TestPartDecoded: a part of a folder is what splitting all of it yields, and nothing else of it is decoded.
func TestPartDecoded(t *testing.T) {
	dir := t.TempDir()
	for k := range 9 {
		m := ramp(6+k, 5)
		m.Pix[0] = uint8(17 * k)
		write(t, dir, fmt.Sprintf("%c/%d.png", 'a'+k%2, k), pngBytes(t, m))
	}
	o := Options{Size: 4, HeldOut: 0.3, Limit: 2}
	all, err := Load(t.Context(), dir, Options{Size: 4})
	if err != nil {
		t.Fatal(err)
	}
	train, test, err := all.Split(0.3, 1)
	if err != nil {
		t.Fatal(err)
	}
	for part, want := range map[string]*Set{"train": train.Head(2), "test": test.Head(2)} {
		o.Part = part
		got, err := Load(t.Context(), dir, o)
		if err != nil || got.Hash() != want.Hash() || !slices.Equal(got.Classes, want.Classes) {
			t.Errorf("%s: %d examples, %v: not those of the whole set", part, got.N, err)
		}
	}
	files, _ := pictureFiles(dir)
	_, out, _ := parts("", len(files), 0.3, 1)
	b, err := os.ReadFile(files[out[0]])
	if err == nil {
		err = os.WriteFile(files[out[0]], b[:len(b)-20], 0o666) // its header can be read
	}
	if err != nil {
		t.Fatal(err)
	}
	o.Part = "train"
	if _, err = Load(t.Context(), dir, o); err != nil {
		t.Error(err)
	}
	if o.Part = "test"; err == nil {
		_, err = Load(t.Context(), dir, o)
	}
	if err == nil || !strings.Contains(err.Error(), files[out[0]]) {
		t.Errorf("a broken picture: %v", err)
	}
}

// TestStretch: pictures of another shape are cut to it, or stretched.
func TestStretch(t *testing.T) {
	dir := t.TempDir()
	m := ramp(6, 2) // 0 … 5
	write(t, dir, "wide.png", pngBytes(t, m))
	for stretch, want := range map[bool][2]byte{false: {2, 3}, true: {1, 4}} {
		s, err := Load(t.Context(), dir, Options{Size: 2, Stretch: stretch})
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range want {
			if got := s.Raw(s.X()[k]); math.Abs(got-float64(v)) > 0.4 {
				t.Errorf("stretched %v: column %d is %.2f, want %d", stretch, k, got, v)
			}
		}
	}
}

func TestDigits(t *testing.T) {
	row := "0,16" + strings.Repeat(",8", 62) + ",7\n"
	path := write(t, t.TempDir(), "digits.csv.gz", zipped([]byte(row)))
	s, err := Load(context.Background(), path, Options{})
	if err != nil || s.H != 8 || s.Labels[0] != 7 || s.X()[0] != -1 || s.X()[1] != 1 || s.X()[2] != 0 || s.Raw(s.X()[1]) != 16 {
		t.Errorf("got %+v, %v", s, err)
	}
}

// checked fails the test if a reader returns a set that is not consistent.
func checked(t *testing.T, s *Set, err error) {
	t.Helper()
	if err != nil {
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("more than one line: %q", err)
		}
		return
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

func FuzzNPY(f *testing.F) {
	f.Add(npyBytes(npyDict("<f4", "(1, 2)"), []float32{1, 2}))
	f.Add(npyBytes(npyDict("|u1", "(1, 2, 2)"), []byte{1, 2, 3, 4}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := readNPY(bytes.NewReader(b), int64(len(b)), "fuzz.npy", Plain)
		checked(t, s, err)
	})
}

func FuzzIDX(f *testing.F) {
	f.Add(idxBytes([]byte{1, 2, 3, 4}, 1, 2, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := readIDX(bytes.NewReader(b), "fuzz", 0)
		if err != nil {
			checked(t, nil, err)
			return
		}
		s, err := a.set("fuzz")
		checked(t, s, err)
	})
}

// FuzzPictures: files of every format, which their first bytes tell.
func FuzzPictures(f *testing.F) {
	var jpg, bitmap, small bytes.Buffer
	if err := errors.Join(jpeg.Encode(&jpg, ramp(4, 4), nil), bmp.Encode(&bitmap, ramp(4, 4)), tiff.Encode(&small, ramp(4, 4), nil)); err != nil {
		f.Fatal(err)
	}
	for _, b := range [][]byte{
		pngBytes(f, ramp(4, 4)), jpg.Bytes(), bitmap.Bytes(), small.Bytes(), []byte("P5 2 2 255\n\x01\x02\x03\x04"), []byte("P3 1 1 15 15 0 3"),
		slices.Concat(jpg.Bytes()[:2], exif(6), jpg.Bytes()[2:]),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		write(t, dir, "fuzz.png", b)
		s, err := ReadPictures(dir, 3, 5, false, 0)
		checked(t, s, err)
	})
}

// exif is the part of a JPEG file that holds its orientation.
func exif(orientation byte) []byte {
	return append([]byte("\xff\xe1\x00\x22Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00"), orientation, 0, 0, 0, 0, 0, 0, 0)
}

// TestPictureFormats: the first bytes of a file say what it is, whatever its name, and EXIF how it lies.
func TestPictureFormats(t *testing.T) {
	m := image.NewRGBA(image.Rect(0, 0, 3, 2)) // red at the left top
	draw.Draw(m, m.Rect, image.White, image.Point{}, draw.Src)
	m.Set(0, 0, color.RGBA{255, 0, 0, 255})
	encoded := func(encode func(io.Writer, image.Image) error, m image.Image) []byte {
		var b bytes.Buffer
		if err := encode(&b, m); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	tiffs := func(w io.Writer, m image.Image) error { return tiff.Encode(w, m, nil) }
	for name, b := range map[string][]byte{"a.jpg": encoded(png.Encode, m), "b.png": encoded(bmp.Encode, m), "c.tif": encoded(tiffs, m)} {
		s, err := Load(context.Background(), write(t, t.TempDir(), name, b), Options{})
		if err != nil || !slices.Equal(raw(s), []int{255, 255, 255, 255, 255, 255, 0, 255, 255, 255, 255, 255, 0, 255, 255, 255, 255, 255}) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}

	// Where the left top corner of what is stored is shown: EXIF 2.3, 4.6.4 A.
	big := image.NewGray(image.Rect(0, 0, 32, 16))
	draw.Draw(big, image.Rect(0, 0, 8, 8), image.White, image.Point{}, draw.Src)
	stored := encoded(func(w io.Writer, m image.Image) error { return jpeg.Encode(w, m, nil) }, big)
	for o, corner := range []string{0: "tl", 1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "tl", 6: "tr", 7: "br", 8: "bl", 9: "tl"} {
		b := slices.Concat(stored[:2], exif(byte(o)), stored[2:])
		s, err := Load(context.Background(), write(t, t.TempDir(), "x.jpg", b), Options{})
		if err != nil {
			t.Fatal(err)
		}
		h, w := 16, 32
		if o >= 5 && o <= 8 {
			h, w = 32, 16
		}
		at := map[string]int{"tl": 0, "tr": w - 1, "bl": (h - 1) * w, "br": h*w - 1}
		if s.H != h || s.W != w {
			t.Errorf("orientation %d: %d×%d", o, s.H, s.W)
			continue
		}
		for c, i := range at {
			if v := raw(s)[i]; (v > 200) != (c == corner) || v > 50 && v < 200 {
				t.Errorf("orientation %d: %d at %s", o, v, c)
			}
		}
	}
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte("id,x,y\n1,1,2\n1,3,4\n2, 0x1p-2,-5\n"), uint8(2))
	f.Add([]byte("# none\n\"1\",2\r\n"), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, steps uint8) {
		path := write(t, t.TempDir(), "fuzz.csv", b)
		s, err := ReadCSV(path)
		checked(t, s, err)
		s, err = ReadPaths(path, int(steps))
		checked(t, s, err)
	})
}
