package data

import (
	"bufio"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
)

// pnmHeader is the head of a portable grey- or pixmap: P2, P3 (text), P5, P6 (bytes).
type pnmHeader struct {
	magic    byte
	w, h     int
	maxValue int
}

func (h pnmHeader) colour() bool { return h.magic == '3' || h.magic == '6' }

// readPNMHeader reads up to the first value of the raster.
func readPNMHeader(r *bufio.Reader) (h pnmHeader, err error) {
	var m [2]byte
	if _, err := io.ReadFull(r, m[:]); err != nil {
		return h, cutShort(err)
	}
	h.magic = m[1]
	if m[0] != 'P' || (m[1] != '2' && m[1] != '3' && m[1] != '5' && m[1] != '6') {
		return h, fmt.Errorf("starts with %q, want P2, P3, P5 or P6", m[:])
	}
	for _, v := range []*int{&h.w, &h.h, &h.maxValue} {
		if *v, err = readPNMInt(r); err != nil {
			return h, err
		}
	}
	if h.maxValue < 1 || h.maxValue > 65535 {
		return h, fmt.Errorf("largest value %d, want 1 … 65535", h.maxValue)
	}
	return h, nil
}

// readPNMInt reads a decimal number, after white space and comments, and the one byte behind it.
func readPNMInt(r *bufio.Reader) (int, error) {
	n, digits, comment := 0, 0, false
	for {
		c, err := r.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && digits > 0:
			return n, nil
		case err != nil:
			return 0, cutShort(err)
		case comment:
			comment = c != '\n'
		case c >= '0' && c <= '9':
			if digits++; digits > 9 {
				return 0, errors.New("a number of more than 9 digits")
			}
			n = 10*n + int(c-'0')
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			if digits > 0 {
				return n, nil
			}
		case c == '#' && digits == 0:
			comment = true
		default:
			return 0, fmt.Errorf("byte %q, want a number", c)
		}
	}
}

// decodePNM reads a PGM or PPM picture of at most maxPixels.
func decodePNM(rd io.Reader) (image.Image, error) {
	r := bufio.NewReader(rd)
	h, err := readPNMHeader(r)
	if err != nil {
		return nil, err
	}
	if err := checkPixels(h.w, h.h); err != nil {
		return nil, err
	}
	next := func() (int, error) { return readPNMInt(r) }
	if h.magic >= '5' {
		next = func() (int, error) {
			b, err := r.ReadByte()
			v := int(b)
			if err == nil && h.maxValue > 255 {
				b, err = r.ReadByte()
				v = v<<8 | int(b)
			}
			return v, cutShort(err)
		}
	}
	value := func() (uint16, error) {
		v, err := next()
		if err == nil && v > h.maxValue {
			err = fmt.Errorf("value %d, want at most %d", v, h.maxValue)
		}
		return uint16((v*65535 + h.maxValue/2) / h.maxValue), err
	}
	if h.colour() {
		m := image.NewRGBA64(image.Rect(0, 0, h.w, h.h))
		for y := range h.h {
			for x := range h.w {
				var v [3]uint16
				for i := range v {
					if v[i], err = value(); err != nil {
						return nil, err
					}
				}
				m.SetRGBA64(x, y, color.RGBA64{R: v[0], G: v[1], B: v[2], A: 0xffff})
			}
		}
		return m, nil
	}
	m := image.NewGray16(image.Rect(0, 0, h.w, h.h))
	for y := range h.h {
		for x := range h.w {
			v, err := value()
			if err != nil {
				return nil, err
			}
			m.SetGray16(x, y, color.Gray16{Y: v})
		}
	}
	return m, nil
}
