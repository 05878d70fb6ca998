package data

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/gif"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxClipPixels bounds the pixels of all frames of one file.
const maxClipPixels = 1 << 28

// A clip is a file or folder of frames that can be decoded one after the other.
type clip struct {
	path    string
	n, w, h int
	grey    bool
	each    func(frame func(i int, m image.Image) error) error
}

// errEnough ends a clip before its last frame.
var errEnough = errors.New("enough frames")

// thinned is n frames of a clip, evenly spaced.
func (c *clip) thinned(n int) *clip {
	t, all := *c, c.each
	t.n = n
	t.each = func(frame func(int, image.Image) error) error {
		k := 0
		return all(func(i int, m image.Image) error {
			if k == n || i != k*c.n/n {
				return nil
			}
			k++
			return frame(k-1, m)
		})
	}
	return &t
}

// clipFormats open the files that hold many frames.
var clipFormats = map[string]func(path string) (*clip, error){".gif": openGIF, ".avi": openAVI, ".webp": openWebP}

func clipFormatOf(path string) (func(string) (*clip, error), bool) {
	f, ok := clipFormats[strings.ToLower(filepath.Ext(path))]
	return f, ok
}

// openFrames is the pictures of a folder as a clip, in the order of their names.
func openFrames(dir string) (*clip, error) {
	files, err := pictureFiles(dir)
	if err != nil {
		return nil, err
	}
	c := &clip{path: dir, n: len(files), grey: true}
	for i, f := range files {
		h, err := readHeader(f)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			c.w, c.h = h.w, h.h
		}
		if c.grey = c.grey && h.grey; h.w != c.w || h.h != c.h {
			return nil, fmt.Errorf("data: %s: frame of %d×%d, want %d×%d as in %s", f, h.h, h.w, c.h, c.w, filepath.Base(files[0]))
		}
	}
	c.each = func(frame func(int, image.Image) error) error {
		for i, f := range files {
			m, err := open(f, decodePicture)
			if err == nil {
				err = frame(i, m)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return c, nil
}

// openGIF is an animated GIF as a clip, every frame as it is shown: over those before it, white where
// nothing has been painted.
func openGIF(path string) (*clip, error) {
	c, err := open(path, scanGIF)
	if err != nil {
		return nil, err
	}
	c.path = path
	c.each = func(frame func(int, image.Image) error) error {
		g, err := open(path, gif.DecodeAll)
		if err != nil {
			return err
		}
		shown := image.NewRGBA(image.Rect(0, 0, c.w, c.h))
		white := func(r image.Rectangle) { draw.Draw(shown, r, image.White, image.Point{}, draw.Src) }
		white(shown.Rect)
		var before []uint8
		for i, m := range g.Image {
			if g.Disposal[i] == gif.DisposalPrevious {
				before = append(before[:0], shown.Pix...)
			}
			draw.Draw(shown, m.Rect, m, m.Rect.Min, draw.Over)
			if err := frame(i, shown); err != nil {
				return err
			}
			switch g.Disposal[i] {
			case gif.DisposalBackground:
				white(m.Rect)
			case gif.DisposalPrevious:
				copy(shown.Pix, before)
			}
		}
		return nil
	}
	return c, nil
}

// scanGIF counts the frames of a GIF file and their pixels without decoding one.
func scanGIF(r io.Reader) (*clip, error) {
	in := bufio.NewReader(r)
	head := make([]byte, 13)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, err
	}
	if s := string(head[:6]); s != "GIF87a" && s != "GIF89a" {
		return nil, fmt.Errorf("starts with %q, want GIF89a", s)
	}
	c := &clip{w: int(head[6]) | int(head[7])<<8, h: int(head[8]) | int(head[9])<<8}
	if err := checkPixels(c.w, c.h); err != nil {
		return nil, err
	}
	skip := func(n int) error { _, err := in.Discard(n); return err }
	table := func(flags byte) error { // of colours, where a bit says that there is one
		if flags&0x80 == 0 {
			return nil
		}
		return skip(3 << (flags&7 + 1))
	}
	blocks := func() error {
		for {
			n, err := in.ReadByte()
			if err != nil || n == 0 {
				return err
			}
			if err := skip(int(n)); err != nil {
				return err
			}
		}
	}
	err := table(head[10])
	for err == nil {
		var b byte
		if b, err = in.ReadByte(); err != nil {
			break
		}
		switch b {
		case 0x3b:
			if c.n == 0 {
				return nil, fmt.Errorf("no frame")
			}
			return c, nil
		case 0x21:
			if err = skip(1); err == nil {
				err = blocks()
			}
		case 0x2c:
			if c.n++; c.n > maxClipPixels/(c.w*c.h) {
				return nil, fmt.Errorf("more than %d pixels in all frames", maxClipPixels)
			}
			if _, err = io.ReadFull(in, head[:9]); err != nil {
				break
			}
			if err = table(head[8]); err == nil {
				if err = skip(1); err == nil {
					err = blocks()
				}
			}
		default:
			return nil, fmt.Errorf("block of type %#02x", b)
		}
	}
	return nil, err
}

// ReadClips reads clips: one animated GIF, AVI or WebP file, a folder of frames, or a folder of such files or
// folders, one clip each, in the order of their names. With frames other than zero every clip is cut into
// consecutive pieces of so many, one example each, and what is left over is dropped; without, all must
// have as many as the first. Size, colours and limit are those of [ReadPictures].
func ReadClips(path string, frames, height, width int, grey bool, limit int) (*Set, error) {
	clips, err := clipsOf(path)
	if err != nil {
		return nil, err
	}
	return readClips(filepath.Base(path), clips, frames, height, width, grey, limit)
}

func readClips(name string, clips []*clip, frames, height, width int, grey bool, limit int) (*Set, error) {
	s := &Set{Name: name, Kind: Video, C: 1, D: cmp.Or(frames, clips[0].n), H: height, W: width, Lo: -1, Hi: 1, Gain: byteGain, Offset: byteOffset}
	if height == 0 {
		s.H, s.W = clips[0].h, clips[0].w
	}
	for _, c := range clips {
		switch {
		case frames > 0 && c.n < frames:
			return nil, fmt.Errorf("data: %s: %d frames, want at least %d", c.path, c.n, frames)
		case frames == 0 && c.n != s.D:
			return nil, fmt.Errorf("data: %s: %d frames, want %d as in %s, or ask for a number of frames", c.path, c.n, s.D, clips[0].path)
		case height == 0 && (c.w != s.W || c.h != s.H):
			return nil, fmt.Errorf("data: %s: frames of %d×%d, want %d×%d as in %s, or ask for a size", c.path, c.h, c.w, s.H, s.W, clips[0].path)
		case !c.grey && !grey:
			s.C = 3
		}
		s.N += c.n / s.D
	}
	if limit > 0 {
		s.N = min(s.N, limit)
	}
	if err := checkSize(s.Name, s.N, s.planes(), s.H, s.W); err != nil {
		return nil, err
	}
	s.Floats = make([]float32, s.N*s.Dim())
	first := 0 // example of the clip's first frame
	for _, c := range clips {
		use := min(c.n/s.D, s.N-first) * s.D
		if use == 0 {
			break
		}
		seen := 0
		err := c.each(func(i int, m image.Image) error {
			if i >= use {
				return errEnough
			}
			seen++
			x := planesOf(m, s.C)
			b := m.Bounds()
			one, err := (&Set{Name: c.path, N: 1, C: s.C, H: b.Dy(), W: b.Dx(), Floats: x}).fit(s.H, s.W)
			if err != nil {
				return err
			}
			p := s.H * s.W
			for k := range s.C {
				copy(s.At(first + i/s.D)[(k*s.D+i%s.D)*p:][:p], one.Floats[k*p:])
			}
			return nil
		})
		if err != nil && err != errEnough {
			return nil, err
		}
		if seen < use {
			return nil, fmt.Errorf("data: %s: %d frames, its headers promise %d", c.path, seen, c.n)
		}
		first += use / s.D
	}
	return s, nil
}

// clipsOf opens the clips of a path.
func clipsOf(path string) ([]*clip, error) {
	if open, ok := clipFormatOf(path); ok {
		c, err := open(path)
		return []*clip{c}, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int {
		return cmp.Or(byNumber(a.Name(), b.Name()), cmp.Compare(a.Name(), b.Name()))
	})
	var clips []*clip
	for _, e := range entries {
		open, isClip := clipFormatOf(e.Name())
		full := filepath.Join(path, e.Name())
		st, err := os.Stat(full)
		switch {
		case err != nil:
			return nil, fmt.Errorf("data: %w", err)
		case st.IsDir():
			open = openFrames
		case isClip:
		default:
			if isPicture(e.Name()) {
				c, err := openFrames(path)
				return []*clip{c}, err
			}
			continue
		}
		c, err := open(full)
		if err != nil {
			return nil, err
		}
		clips = append(clips, c)
	}
	if len(clips) == 0 {
		return nil, fmt.Errorf("data: %s: no frames, .gif, .avi or .webp files in this folder", path)
	}
	return clips, nil
}
