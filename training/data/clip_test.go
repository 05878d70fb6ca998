package data

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// flash is a GIF of n frames of w×h whose grey level is 40 times the frame's number.
func flash(t testing.TB, n, w, h int) []byte {
	g := &gif.GIF{}
	for i := range n {
		p := image.NewPaletted(image.Rect(0, 0, w, h), color.Palette{color.Gray{uint8(40 * i)}, color.White})
		g.Image, g.Delay, g.Disposal = append(g.Image, p), append(g.Delay, 5), append(g.Disposal, gif.DisposalNone)
	}
	var b bytes.Buffer
	if err := gif.EncodeAll(&b, g); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// chunk is one RIFF chunk.
func chunk(id string, body []byte) []byte {
	b := binary.LittleEndian.AppendUint32([]byte(id), uint32(len(body)))
	b = append(b, body...)
	if len(body)%2 == 1 {
		b = append(b, 0)
	}
	return b
}

// movie is an AVI file of one video stream behind one of sound.
func movie(codec string, w, h int, frames ...[]byte) []byte {
	format := make([]byte, 40)
	binary.LittleEndian.PutUint32(format[4:], uint32(w))
	binary.LittleEndian.PutUint32(format[8:], uint32(h))
	copy(format[16:], codec)
	list := func(kind string, body ...[]byte) []byte {
		return chunk("LIST", append([]byte(kind), slices.Concat(body...)...))
	}
	var data []byte
	for _, f := range frames {
		data = append(data, chunk("01dc", f)...)
		data = append(data, chunk("00wb", []byte{1, 2, 3})...)
	}
	return chunk("RIFF", slices.Concat([]byte("AVI "),
		list("hdrl", chunk("avih", make([]byte, 56)),
			list("strl", chunk("strh", []byte("auds0000")), chunk("strf", make([]byte, 18))),
			list("strl", chunk("strh", []byte("vids0000")), chunk("strf", format))),
		list("movi", data)))
}

func TestClips(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "gifs/2.gif", flash(t, 5, 4, 6))
	write(t, dir, "gifs/10.gif", flash(t, 6, 4, 6))
	for i := range 3 {
		m := ramp(4, 6)
		m.Pix[0] = uint8(100 + i)
		write(t, dir, fmt.Sprintf("frames/%d.png", 9+i), pngBytes(t, m))
		write(t, dir, fmt.Sprintf("many/a/%d.png", 9+i), pngBytes(t, m))
		write(t, dir, fmt.Sprintf("many/b/%d.png", 9+i), pngBytes(t, m))
	}
	get := func(name string, o Options) *Set {
		t.Helper()
		s, err := Load(context.Background(), filepath.Join(dir, name), o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := get("gifs/2.gif", Options{Grey: true}) // a GIF is a clip without being told
	if s.Kind != Video || !slices.Equal(s.Dims(), []int{1, 5, 6, 4}) || s.N != 1 || raw(s)[3*24] != 120 {
		t.Errorf("gif: %d of %v, %v", s.N, s.Dims(), raw(s)[3*24])
	}
	// Pieces of two frames: two of the first file, three of the second, in the order of the numbers.
	s = get("gifs", Options{As: Video, Frames: 2, Grey: true, Size: 2})
	if s.N != 5 || !slices.Equal(s.Dims(), []int{1, 2, 2, 2}) || raw(s)[8+4] != 120 || raw(s)[4*8] != 160 {
		t.Errorf("pieces: %d of %v: %v", s.N, s.Dims(), raw(s))
	}
	if s = get("gifs", Options{As: Video, Frames: 2, Limit: 3}); s.N != 3 || s.C != 3 {
		t.Errorf("limit: %d of %v", s.N, s.Dims())
	}
	s = get("frames", Options{As: Video})
	if s.N != 1 || s.D != 3 || raw(s)[24] != 101 {
		t.Errorf("folder of frames: %d of %v", s.N, s.Dims())
	}
	if s = get("many", Options{As: Video, Part: "test", HeldOut: 0.5}); s.N != 1 || s.D != 3 {
		t.Errorf("folder of folders: %d of %v", s.N, s.Dims())
	}

	var jpg bytes.Buffer
	if err := jpeg.Encode(&jpg, ramp(16, 16), &jpeg.Options{Quality: 100}); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "m.avi", movie("MJPG", 16, 16, jpg.Bytes(), nil, jpg.Bytes()))
	s = get("m.avi", Options{})
	if s.D != 3 || s.C != 3 || math.Abs(float64(raw(s)[16*16+17]-raw(s)[17])) > 0 {
		t.Errorf("mjpeg: %v", s.Dims())
	}

	for want, c := range map[string]struct {
		name string
		b    []byte
		o    Options
	}{
		"5 frames, want at least 6":      {"x.gif", flash(t, 5, 4, 6), Options{Frames: 6}},
		"cut short":                      {"x.gif", flash(t, 5, 4, 6)[:60], Options{}},
		"starts with":                    {"x.gif", []byte("GIF88a........"), Options{}},
		"not an AVI":                     {"x.avi", []byte("RIFF0000WAVE"), Options{}},
		"want MJPG or cvid":              {"x.avi", movie("h264", 16, 16, []byte{1}), Options{}},
		"no video stream":                {"x.avi", movie("MJPG", 16, 16), Options{}},
		"want 1 to":                      {"x.avi", movie("MJPG", 1<<20, 1<<20, []byte{1}), Options{}},
		"frame 0":                        {"x.avi", movie("MJPG", 8, 8, jpg.Bytes()), Options{}},
		"frame 0: the file is cut short": {"x.avi", movie("cvid", 8, 8, []byte{1}), Options{}},
		"not a WebP":                     {"x.webp", []byte("RIFF0000AVI "), Options{}},
	} {
		_, err := Load(context.Background(), write(t, t.TempDir(), c.name, c.b), c.o)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), c.name) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want one line with %q", err, want)
		}
	}
	_, err := Load(context.Background(), filepath.Join(dir, "gifs"), Options{As: Video})
	if err == nil || !strings.Contains(err.Error(), "6 frames, want 5") {
		t.Errorf("clips of different length: %v", err)
	}
}

// TestCinepak decodes a frame whose blocks are known: 8×4 pixels, the left block one entry of the first
// book in grey, the right four entries of the second; then a frame that changes the left block alone.
func TestCinepak(t *testing.T) {
	c := func(id byte, body ...byte) []byte {
		return append([]byte{id, 0, 0, byte(4 + len(body))}, body...)
	}
	frame := func(flags byte, chunks ...[]byte) []byte {
		body := slices.Concat(chunks...)
		strip := append([]byte{0x10, 0, 0, byte(12 + len(body)), 0, 0, 0, 0, 0, 4, 0, 8}, body...)
		return append([]byte{flags, 0, 0, byte(10 + len(strip)), 0, 8, 0, 4, 0, 1}, strip...)
	}
	d := newCinepak(8, 4)
	m, err := d.decode(frame(0,
		c(0x22, 10, 20, 30, 40, 0, 0, 50, 60, 70, 80, 10, 20),
		c(0x20, 100, 101, 102, 103, 0, 0, 1, 2, 3, 4, 0, 0, 5, 6, 7, 8, 0, 0, 9, 10, 11, 12, 0, 0),
		c(0x30, 0x40, 0, 0, 0, 0, 0, 1, 2, 3))) // flags 0 1: one entry, then four
	if err != nil {
		t.Fatal(err)
	}
	at := func(x, y int) [3]uint8 { p := m.(*image.RGBA).RGBAAt(x, y); return [3]uint8{p.R, p.G, p.B} }
	grey := func(v uint8) [3]uint8 { return [3]uint8{v, v, v} }
	for _, p := range []struct {
		x, y int
		want [3]uint8
	}{{0, 0, grey(10)}, {1, 1, grey(10)}, {2, 1, grey(20)}, {0, 3, grey(30)}, {3, 2, grey(40)},
		{4, 0, grey(100)}, {5, 1, grey(103)}, {6, 0, grey(1)}, {4, 3, grey(7)}, {7, 3, grey(12)}} {
		if at(p.x, p.y) != p.want {
			t.Errorf("pixel %d, %d: %v, want %v", p.x, p.y, at(p.x, p.y), p.want)
		}
	}
	// flags: changed, one entry; then not changed. Entry 1 has colours: R = Y + 2v, G = Y − u/2 − v, B = Y + 2u.
	if m, err = d.decode(frame(1, c(0x31, 0x80, 0, 0, 0, 1))); err != nil {
		t.Fatal(err)
	}
	if at(0, 0) != [3]uint8{90, 25, 70} || at(7, 3) != grey(12) {
		t.Errorf("after a change: %v, %v", at(0, 0), at(7, 3))
	}
}

func FuzzAVI(f *testing.F) {
	f.Add(movie("cvid", 8, 4, []byte{0, 0, 0, 22, 0, 8, 0, 4, 0, 1, 0x10, 0, 0, 12, 0, 0, 0, 0, 0, 4, 0, 8}))
	f.Add(movie("MJPG", 8, 4, []byte{0xff, 0xd8}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadClips(write(t, t.TempDir(), "fuzz.avi", b), 0, 3, 3, false, 0)
		checked(t, s, err)
	})
}

func FuzzGIF(f *testing.F) {
	f.Add(flash(f, 2, 3, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadClips(write(t, t.TempDir(), "fuzz.gif", b), 0, 3, 3, false, 0)
		checked(t, s, err)
	})
}

func FuzzWebP(f *testing.F) {
	anim := append(make([]byte, 12), 1, 0, 0, 2)
	f.Add(chunk("RIFF", slices.Concat([]byte("WEBP"), chunk("VP8X", []byte{2, 0, 0, 0, 3, 0, 0, 3, 0, 0}), chunk("ANMF", append(anim, chunk("VP8L", []byte{0x2f, 0, 0, 0, 0})...)))))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadClips(write(t, t.TempDir(), "fuzz.webp", b), 0, 3, 3, false, 0)
		checked(t, s, err)
	})
}

// plainVP8L is a lossless picture of one colour: every code has one symbol, so pixels take no bits.
func plainVP8L(w, h int, c color.NRGBA) []byte {
	var out []byte
	n := 0
	put := func(v uint32, bits int) {
		for i := range bits {
			if n%8 == 0 {
				out = append(out, 0)
			}
			out[n/8] |= byte(v>>i&1) << (n % 8)
			n++
		}
	}
	put(0x2f, 8)
	put(uint32(w-1), 14)
	put(uint32(h-1), 14)
	put(1, 4) // alpha, version 0
	put(0, 3) // no transform, no cache of colours, one group of codes
	for _, symbol := range []uint8{c.G, c.R, c.B, c.A, 0} {
		put(1, 1)
		put(0, 1)
		put(1, 1)
		put(uint32(symbol), 8)
	}
	return out
}

// TestWebP: a frame fills the picture, the next is laid over a part of it and taken away, a third
// replaces what is under it, also where it is transparent, and a fourth does not.
func TestWebP(t *testing.T) {
	frame := func(x, y, w, h int, flags byte, c color.NRGBA) []byte {
		head := []byte{byte(x / 2), 0, 0, byte(y / 2), 0, 0, byte(w - 1), 0, 0, byte(h - 1), 0, 0, 5, 0, 0, flags}
		return chunk("ANMF", append(head, chunk("VP8L", plainVP8L(w, h, c))...))
	}
	file := chunk("RIFF", slices.Concat([]byte("WEBP"), chunk("VP8X", []byte{0x12, 0, 0, 0, 5, 0, 0, 3, 0, 0}), chunk("ANIM", make([]byte, 6)),
		frame(0, 0, 6, 4, 2, color.NRGBA{200, 0, 0, 255}),
		frame(2, 2, 2, 2, 1, color.NRGBA{0, 100, 0, 255}),
		frame(0, 0, 2, 2, 2, color.NRGBA{9, 9, 9, 0}),
		frame(4, 0, 2, 2, 0, color.NRGBA{9, 9, 9, 0})))
	s, err := Load(context.Background(), write(t, t.TempDir(), "x.webp", file), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Dims(), []int{3, 4, 4, 6}) {
		t.Fatalf("clip of %v", s.Dims())
	}
	x := raw(s)
	at := func(frame, px, py int) [3]int {
		i := frame*24 + py*6 + px
		return [3]int{x[i], x[96+i], x[192+i]}
	}
	for _, c := range []struct {
		frame, x, y int
		want        [3]int
	}{
		{0, 0, 0, [3]int{200, 0, 0}}, {0, 5, 3, [3]int{200, 0, 0}},
		{1, 2, 2, [3]int{0, 100, 0}}, {1, 1, 1, [3]int{200, 0, 0}},
		{2, 2, 2, [3]int{255, 255, 255}}, {2, 0, 0, [3]int{255, 255, 255}}, {2, 5, 0, [3]int{200, 0, 0}},
		{3, 0, 0, [3]int{255, 255, 255}}, {3, 4, 0, [3]int{200, 0, 0}},
	} {
		if got := at(c.frame, c.x, c.y); got != c.want {
			t.Errorf("frame %d, pixel %d, %d: %v, want %v", c.frame, c.x, c.y, got, c.want)
		}
	}
}
