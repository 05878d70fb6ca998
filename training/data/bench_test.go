package data

import (
	"bytes"
	"image"
	"image/jpeg"
	"testing"
)

func BenchmarkResize(b *testing.B) {
	s := numbered(1000, 1, 28, 28)
	for b.Loop() {
		if _, err := s.Resize(32, 32); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadNPY(b *testing.B) {
	file := npyBytes(npyDict("<f4", "(1000, 784)"), make([]float32, 784000))
	for b.Loop() {
		if _, err := readNPY(bytes.NewReader(file), int64(len(file)), "x.npy", Plain); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoader(b *testing.B) {
	l, err := NewLoader(numbered(1000, 1, 28, 28), 64, 1)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		l.Next()
	}
}

// BenchmarkPicture is a photo as it is read for learning.
func BenchmarkPicture(b *testing.B) {
	m := image.NewRGBA(image.Rect(0, 0, 400, 300))
	for i := range m.Pix {
		m.Pix[i] = uint8(i * i / 977)
	}
	var jpg bytes.Buffer
	if err := jpeg.Encode(&jpg, m, nil); err != nil {
		b.Fatal(err)
	}
	path := write(b, b.TempDir(), "photo.jpg", jpg.Bytes())
	for b.Loop() {
		if _, err := ReadPicturesAs(path, Options{Size: 224, Stretch: true}); err != nil {
			b.Fatal(err)
		}
	}
}
