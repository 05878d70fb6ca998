package data

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
)

// maxAVI bounds the bytes of an AVI file.
const maxAVI = 1 << 28

// openAVI is the video stream of an AVI file as a clip: Motion JPEG or Cinepak.
func openAVI(path string) (*clip, error) {
	b, err := open(path, func(r io.Reader) ([]byte, error) {
		b, err := io.ReadAll(io.LimitReader(r, maxAVI+1))
		if err == nil && len(b) > maxAVI {
			err = fmt.Errorf("more than %d bytes", maxAVI)
		}
		return b, err
	})
	if err != nil {
		return nil, err
	}
	a, err := parseAVI(b)
	if err != nil {
		return nil, fmt.Errorf("data: %s: %w", path, err)
	}
	c := &clip{path: path, n: len(a.frames), w: a.w, h: a.h}
	c.each = func(frame func(int, image.Image) error) error {
		decode, err := a.decoder()
		for i, f := range a.frames {
			var m image.Image
			if err == nil {
				m, err = decode(f)
			}
			if err != nil {
				return fmt.Errorf("data: %s: frame %d: %w", path, i, cutShort(err))
			}
			if err := frame(i, m); err != nil {
				return err
			}
		}
		return nil
	}
	return c, nil
}

// An avi is the first video stream of an AVI file.
type avi struct {
	w, h   int
	codec  string
	frames [][]byte
}

// parseAVI walks the RIFF chunks: a stream header of type "vids" gives the stream's number, its format
// the size and codec, and the chunks NNdc and NNdb are its frames.
func parseAVI(b []byte) (*avi, error) {
	if len(b) < 12 || string(b[:4]) != "RIFF" || string(b[8:12]) != "AVI " {
		return nil, fmt.Errorf("not an AVI file")
	}
	a := &avi{}
	streams, video := 0, -1
	var walk func(b []byte, depth int) error
	walk = func(b []byte, depth int) error {
		for len(b) >= 8 {
			id, size := string(b[:4]), int(binary.LittleEndian.Uint32(b[4:]))
			if size > len(b)-8 {
				return fmt.Errorf("chunk %q of %d bytes: %w", id, size, io.ErrUnexpectedEOF)
			}
			body := b[8 : 8+size]
			b = b[min(len(b), 8+size+size%2):]
			switch {
			case id == "LIST" && size >= 4 && depth < 4:
				if err := walk(body[4:], depth+1); err != nil {
					return err
				}
			case id == "strh" && size >= 4:
				if streams++; video < 0 && string(body[:4]) == "vids" {
					video = streams - 1
				}
			case id == "strf" && video == streams-1 && a.codec == "":
				if size < 20 {
					return fmt.Errorf("stream format of %d bytes, want 40", size)
				}
				a.w, a.h = int(int32(binary.LittleEndian.Uint32(body[4:]))), int(int32(binary.LittleEndian.Uint32(body[8:])))
				a.codec = string(body[16:20])
				if err := checkPixels(a.w, a.h); err != nil {
					return err
				}
			case video >= 0 && (id == fmt.Sprintf("%02ddc", video) || id == fmt.Sprintf("%02ddb", video)):
				a.frames = append(a.frames, body)
			}
		}
		return nil
	}
	if err := walk(b[12:], 0); err != nil {
		return nil, err
	}
	if len(a.frames) == 0 || a.codec == "" {
		return nil, fmt.Errorf("no video stream")
	}
	if len(a.frames) > maxClipPixels/(a.w*a.h) {
		return nil, fmt.Errorf("more than %d pixels in all frames", maxClipPixels)
	}
	_, err := a.decoder()
	return a, err
}

// decoder decodes the frames one after the other. An empty chunk repeats the frame before it.
func (a *avi) decoder() (func([]byte) (image.Image, error), error) {
	switch a.codec {
	case "MJPG", "mjpg":
		var last image.Image
		return func(b []byte) (image.Image, error) {
			if len(b) == 0 && last != nil {
				return last, nil
			}
			c, err := jpeg.DecodeConfig(bytes.NewReader(b))
			if err == nil && (c.Width != a.w || c.Height != a.h) {
				err = fmt.Errorf("picture of %d×%d, want %d×%d", c.Height, c.Width, a.h, a.w)
			}
			if err == nil {
				last, err = jpeg.Decode(bytes.NewReader(b))
			}
			return last, err
		}, nil
	case "cvid":
		return newCinepak(a.w, a.h).decode, nil
	}
	return nil, fmt.Errorf("video in the format %q, want MJPG or cvid (Cinepak)", a.codec)
}

// A cinepak decodes Cinepak video: every frame is cut into strips, each with two books of 256 blocks of
// 2×2 pixels. A block of 4×4 pixels is one entry of the first book, doubled in size, or four of the
// second, or stays as it was.
type cinepak struct {
	m     *image.RGBA
	books [][2][256]block // of each strip
}

// A block is four brightnesses and one pair of colour differences.
type block struct {
	y    [4]uint8
	u, v int8
}

func newCinepak(w, h int) *cinepak {
	return &cinepak{m: image.NewRGBA(image.Rect(0, 0, w, h))}
}

func (c *cinepak) decode(b []byte) (image.Image, error) {
	if len(b) == 0 {
		return c.m, nil
	}
	if len(b) < 10 {
		return nil, io.ErrUnexpectedEOF
	}
	fresh := b[0]&1 == 0 // strips begin with the books of the strip above
	strips := int(binary.BigEndian.Uint16(b[8:]))
	if strips > 64 {
		return nil, fmt.Errorf("%d strips, want at most 64", strips)
	}
	for len(c.books) < strips {
		c.books = append(c.books, [2][256]block{})
	}
	b = b[10:]
	top := 0
	for i := range strips {
		if len(b) < 12 {
			return nil, io.ErrUnexpectedEOF
		}
		size := int(binary.BigEndian.Uint16(b[2:]))
		y0, x0 := int(binary.BigEndian.Uint16(b[4:])), int(binary.BigEndian.Uint16(b[6:]))
		y1, x1 := int(binary.BigEndian.Uint16(b[8:])), int(binary.BigEndian.Uint16(b[10:]))
		if y0 == 0 { // then the next number is the height
			y0, y1 = top, top+y1
		}
		if top = y1; size < 12 || size > len(b) {
			return nil, fmt.Errorf("strip of %d bytes: %w", size, io.ErrUnexpectedEOF)
		}
		if i > 0 && fresh {
			c.books[i] = c.books[i-1]
		}
		if err := c.strip(&c.books[i], b[12:size], image.Rect(x0, y0, x1, y1)); err != nil {
			return nil, err
		}
		b = b[size:]
	}
	return c.m, nil
}

// strip decodes the chunks of one strip.
func (c *cinepak) strip(books *[2][256]block, b []byte, at image.Rectangle) error {
	if !at.In(image.Rect(0, 0, c.m.Rect.Dx()+3, c.m.Rect.Dy()+3)) {
		return fmt.Errorf("strip %v outside the picture", at)
	}
	for len(b) >= 4 {
		id, size := b[0], int(binary.BigEndian.Uint16(b[2:]))
		if size < 4 || size > len(b) {
			return fmt.Errorf("chunk %#x of %d bytes: %w", id, size, io.ErrUnexpectedEOF)
		}
		var err error
		switch body := b[4:size]; {
		case id >= 0x20 && id < 0x28:
			// bit 1: the second book; bit 2: without colours; bit 0: only the entries of a mask
			err = readBook(&books[1-id>>1&1], body, id&4 != 0, id&1 != 0)
		case id >= 0x30 && id <= 0x32:
			err = c.blocks(books, body, at, id)
		}
		if err != nil {
			return err
		}
		b = b[size:]
	}
	return nil
}

// bitReader reads 32 flags at a time, the highest first, from what remains of b.
type bitReader struct {
	b    []byte
	word uint32
	left int
}

func (r *bitReader) bit() (bool, error) {
	if r.left == 0 {
		if len(r.b) < 4 {
			return false, io.ErrUnexpectedEOF
		}
		r.word, r.left, r.b = binary.BigEndian.Uint32(r.b), 32, r.b[4:]
	}
	r.left--
	return r.word>>r.left&1 == 1, nil
}

func (r *bitReader) take(n int) ([]byte, error) {
	if len(r.b) < n {
		return nil, io.ErrUnexpectedEOF
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v, nil
}

func readBook(book *[256]block, b []byte, grey, masked bool) error {
	n := 6
	if grey {
		n = 4
	}
	r := bitReader{b: b}
	for i := range book {
		if masked {
			set, err := r.bit()
			if err != nil {
				return nil // the mask may end early
			}
			if !set {
				continue
			}
		}
		v, err := r.take(n)
		if err != nil {
			return nil // a book need not be full
		}
		book[i] = block{y: [4]uint8(v)}
		if !grey {
			book[i].u, book[i].v = int8(v[4]), int8(v[5])
		}
	}
	return nil
}

// blocks paints a strip. id 0x30: a flag tells one entry from four; 0x31: a flag before it tells whether
// the block changes; 0x32: one entry each.
func (c *cinepak) blocks(books *[2][256]block, b []byte, at image.Rectangle, id byte) error {
	r := bitReader{b: b}
	for y := at.Min.Y; y < at.Max.Y; y += 4 {
		for x := at.Min.X; x < at.Max.X; x += 4 {
			four := false
			var err error
			if id == 0x31 {
				changed, err := r.bit()
				if err != nil {
					return err
				}
				if !changed {
					continue
				}
			}
			if id != 0x32 {
				if four, err = r.bit(); err != nil {
					return err
				}
			}
			if !four {
				v, err := r.take(1)
				if err != nil {
					return err
				}
				e := books[0][v[0]]
				for k, l := range e.y {
					c.quad(x+k%2*2, y+k/2*2, block{[4]uint8{l, l, l, l}, e.u, e.v})
				}
				continue
			}
			v, err := r.take(4)
			if err != nil {
				return err
			}
			for k, e := range v {
				c.quad(x+k%2*2, y+k/2*2, books[1][e])
			}
		}
	}
	return nil
}

// quad paints 2×2 pixels.
func (c *cinepak) quad(x, y int, e block) {
	clamp := func(v int) uint8 { return uint8(max(0, min(255, v))) }
	u, v := int(e.u), int(e.v)
	for k, l := range e.y {
		if p := (image.Point{x + k%2, y + k/2}); p.In(c.m.Rect) {
			g := int(l)
			c.m.SetRGBA(p.X, p.Y, color.RGBA{clamp(g + 2*v), clamp(g - u/2 - v), clamp(g + 2*u), 255})
		}
	}
}
