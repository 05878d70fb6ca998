package data

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
)

// A lie is how the pixels of a picture lie: EXIF's Orientation, 2 to 8, anything else for upright ones.
type lie int

func (l lie) swaps() bool { return l >= 5 && l <= 8 } // columns are rows

// lieOf reads the orientation in the first bytes of a JPEG file.
func lieOf(head []byte) lie {
	if !bytes.HasPrefix(head, []byte("\xff\xd8")) {
		return 1
	}
	for b := head[2:]; len(b) >= 4 && b[0] == 0xff && b[1] != 0xda; {
		n := min(len(b), 2+int(binary.BigEndian.Uint16(b[2:])))
		if exif, ok := bytes.CutPrefix(b[4:max(4, n)], []byte("Exif\x00\x00")); ok && b[1] == 0xe1 {
			return exifLie(exif)
		}
		b = b[n:]
	}
	return 1
}

// exifLie finds the orientation among the first entries of EXIF data, which are of 12 bytes each.
func exifLie(b []byte) lie {
	var order binary.ByteOrder = binary.LittleEndian
	if bytes.HasPrefix(b, []byte("MM")) {
		order = binary.BigEndian
	}
	if len(b) < 8 {
		return 1
	}
	at := uint64(order.Uint32(b[4:]))
	if at+2 > uint64(len(b)) {
		return 1
	}
	n, b := order.Uint16(b[at:]), b[at+2:]
	for ; n > 0 && len(b) >= 12; n, b = n-1, b[12:] {
		if order.Uint16(b) == 0x112 {
			return lie(order.Uint16(b[8:]))
		}
	}
	return 1
}

// turn is a picture the right way up.
func (l lie) turn(m image.Image) image.Image {
	if l < 2 || l > 8 {
		return m
	}
	return turned{m, l}
}

// turned shows the pixels of a picture where they belong.
type turned struct {
	image.Image
	lie lie
}

func (t turned) Bounds() image.Rectangle {
	b := t.Image.Bounds()
	if t.lie.swaps() {
		return image.Rect(0, 0, b.Dy(), b.Dx())
	}
	return image.Rect(0, 0, b.Dx(), b.Dy())
}

func (t turned) At(x, y int) color.Color {
	if t.lie.swaps() {
		x, y = y, x
	}
	b := t.Image.Bounds()
	switch t.lie {
	case 2, 3, 7, 8:
		x = b.Dx() - 1 - x
	}
	switch t.lie {
	case 3, 4, 6, 7:
		y = b.Dy() - 1 - y
	}
	return t.Image.At(b.Min.X+x, b.Min.Y+y)
}
