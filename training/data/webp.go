package data

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/draw"
	"io"

	"golang.org/x/image/webp"
)

// A webpFrame is one frame of an animated WebP file.
type webpFrame struct {
	at            image.Rectangle
	over, dispose bool   // blended over what is shown; taken away afterwards
	data          []byte // its chunks
}

// openWebP is an animated WebP file as a clip, or a still one as a clip of one frame.
func openWebP(path string) (*clip, error) {
	b, err := open(path, func(r io.Reader) ([]byte, error) {
		b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
		if err == nil && len(b) > maxFile {
			err = fmt.Errorf("more than %d bytes", maxFile)
		}
		return b, err
	})
	if err != nil {
		return nil, err
	}
	w, h, frames, err := parseWebP(b)
	if err != nil {
		return nil, fmt.Errorf("data: %s: %w", path, err)
	}
	c := &clip{path: path, n: len(frames), w: w, h: h}
	c.each = func(frame func(int, image.Image) error) error {
		shown := image.NewRGBA(image.Rect(0, 0, w, h))
		for i, f := range frames {
			m, err := f.decode()
			if err != nil {
				return fmt.Errorf("data: %s: frame %d: %w", path, i, cutShort(err))
			}
			op := draw.Src
			if f.over {
				op = draw.Over
			}
			draw.Draw(shown, f.at, m, m.Bounds().Min, op)
			if err := frame(i, shown); err != nil {
				return err
			}
			if f.dispose {
				draw.Draw(shown, f.at, image.Transparent, image.Point{}, draw.Src)
			}
		}
		return nil
	}
	return c, nil
}

// riffChunks calls each chunk of b in turn.
func riffChunks(b []byte, chunk func(id string, body []byte) error) error {
	for len(b) >= 8 {
		size := int(binary.LittleEndian.Uint32(b[4:]))
		if size > len(b)-8 {
			return fmt.Errorf("chunk %q of %d bytes: %w", b[:4], size, io.ErrUnexpectedEOF)
		}
		if err := chunk(string(b[:4]), b[8:8+size]); err != nil {
			return err
		}
		b = b[min(len(b), 8+size+size%2):]
	}
	return nil
}

// parseWebP finds the size and the frames: those of the ANMF chunks, or the whole of a still picture.
func parseWebP(b []byte) (w, h int, frames []webpFrame, err error) {
	if len(b) < 12 || string(b[:4]) != "RIFF" || string(b[8:12]) != "WEBP" {
		return 0, 0, nil, fmt.Errorf("not a WebP file")
	}
	u24 := func(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }
	err = riffChunks(b[12:], func(id string, body []byte) error {
		switch {
		case id == "VP8X" && len(body) >= 10:
			w, h = u24(body[4:])+1, u24(body[7:])+1
			return checkPixels(w, h)
		case id == "ANMF" && len(body) >= 16:
			x, y := 2*u24(body), 2*u24(body[3:])
			f := webpFrame{
				at:   image.Rect(x, y, x+u24(body[6:])+1, y+u24(body[9:])+1),
				over: body[15]&2 == 0, dispose: body[15]&1 != 0, data: body[16:],
			}
			if w == 0 || !f.at.In(image.Rect(0, 0, w, h)) {
				return fmt.Errorf("frame %v of a picture of %d×%d", f.at, h, w)
			}
			if frames = append(frames, f); len(frames) > maxClipPixels/(w*h) {
				return fmt.Errorf("more than %d pixels in all frames", maxClipPixels)
			}
		}
		return nil
	})
	if err != nil || len(frames) > 0 {
		return w, h, frames, err
	}
	c, err := webp.DecodeConfig(bytes.NewReader(b))
	if err == nil {
		err = checkPixels(c.Width, c.Height)
	}
	return c.Width, c.Height, []webpFrame{{at: image.Rect(0, 0, c.Width, c.Height), data: b[12:]}}, err
}

// decode makes a file of its own out of the chunks, as the decoder wants one.
func (f webpFrame) decode() (image.Image, error) {
	w, h := f.at.Dx(), f.at.Dy()
	var still bytes.Buffer
	add := func(id string, body []byte) error {
		still.WriteString(id)
		binary.Write(&still, binary.LittleEndian, uint32(len(body)))
		still.Write(body)
		if len(body)%2 == 1 {
			still.WriteByte(0)
		}
		return nil
	}
	err := riffChunks(f.data, func(id string, body []byte) error {
		switch id {
		case "ALPH":
			add("VP8X", []byte{0x10, 0, 0, 0, byte(w - 1), byte((w - 1) >> 8), byte((w - 1) >> 16), byte(h - 1), byte((h - 1) >> 8), byte((h - 1) >> 16)})
			return add(id, body)
		case "VP8 ", "VP8L":
			return add(id, body)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	head := binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(still.Len()+4))
	file := append(append(head, "WEBP"...), still.Bytes()...)
	c, err := webp.DecodeConfig(bytes.NewReader(file))
	if err == nil && (c.Width != w || c.Height != h) {
		err = fmt.Errorf("picture of %d×%d, want %d×%d", c.Height, c.Width, h, w)
	}
	if err != nil {
		return nil, err
	}
	return webp.Decode(bytes.NewReader(file))
}
