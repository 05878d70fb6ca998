package record

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image/png"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// TestFrame checks the framing against bytes worked out apart from this package: the CRC-32C test
// vector of RFC 3720 and the first twelve bytes that every TensorFlow event file with a 24-byte
// version event starts with.
func TestFrame(t *testing.T) {
	zeros := make([]byte, 32)
	if got := crc32.Checksum(zeros, castagnoli); got != 0x8a9136aa {
		t.Errorf("CRC-32C of 32 zeros: got %#x, want 0x8a9136aa", got)
	}
	// 0x8a9136aa rotated right by 15 is 0x6d551522; plus 0xa282ead8, modulo 2³².
	if got, want := maskedCRC(zeros), uint32(0x0fd7fffa); got != want {
		t.Errorf("masked CRC: got %#x, want %#x", got, want)
	}
	got := frame(make([]byte, 24))
	want := []byte{0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22}
	if !bytes.Equal(got[:12], want) || len(got) != 8+4+24+4 {
		t.Errorf("got % x… of %d bytes, want % x… of 40", got[:12], len(got), want)
	}
}

// event is what decodeEvents understands of TensorBoard's Event.
type event struct {
	time    float64
	step    int
	version string
	start   bool
	scalars map[string]float32
	images  map[string]imageEvent
}

type imageEvent struct {
	height, width, channels int
	png                     []byte
}

// decodeEvents reads an event file, checking lengths and CRCs with a bit-by-bit CRC of its own.
func decodeEvents(t *testing.T, b []byte) []event {
	t.Helper()
	crc := func(data []byte) uint32 {
		c := ^uint32(0)
		for _, x := range data {
			c ^= uint32(x)
			for range 8 {
				c = c>>1 ^ 0x82f63b78&-(c&1)
			}
		}
		c = ^c
		return (c>>15 | c<<17) + 0xa282ead8
	}
	var all []event
	for len(b) > 0 {
		if len(b) < 16 || binary.LittleEndian.Uint32(b[8:]) != crc(b[:8]) {
			t.Fatal("bad record header")
		}
		n := binary.LittleEndian.Uint64(b)
		data := b[12 : 12+n]
		if binary.LittleEndian.Uint32(b[12+n:]) != crc(data) {
			t.Fatal("bad record data")
		}
		b = b[16+n:]
		e := event{scalars: map[string]float32{}, images: map[string]imageEvent{}}
		for _, f := range fields(t, data) {
			switch f.num {
			case 1:
				e.time = math.Float64frombits(f.n)
			case 2:
				e.step = int(f.n)
			case 3:
				e.version = string(f.b)
			case 7:
				e.start = slices.ContainsFunc(fields(t, f.b), func(f field) bool { return f.num == 1 && f.n == 1 })
			case 5:
				for _, v := range fields(t, f.b) {
					e.value(t, v.b)
				}
			default:
				t.Fatalf("unknown field %d", f.num)
			}
		}
		all = append(all, e)
	}
	return all
}

func (e event) value(t *testing.T, b []byte) {
	tag := ""
	for _, f := range fields(t, b) {
		switch f.num {
		case 1:
			tag = string(f.b)
		case 2:
			e.scalars[tag] = math.Float32frombits(uint32(f.n))
		case 4:
			var img imageEvent
			for _, f := range fields(t, f.b) {
				switch f.num {
				case 1:
					img.height = int(f.n)
				case 2:
					img.width = int(f.n)
				case 3:
					img.channels = int(f.n)
				case 4:
					img.png = f.b
				}
			}
			e.images[tag] = img
		}
	}
}

type field struct {
	num protowire.Number
	n   uint64
	b   []byte
}

func fields(t *testing.T, b []byte) []field {
	t.Helper()
	var all []field
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
		f := field{num: num}
		switch typ {
		case protowire.VarintType:
			f.n, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			f.n = uint64(v)
		case protowire.Fixed64Type:
			f.n, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			f.b, n = protowire.ConsumeBytes(b)
		}
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
		all = append(all, f)
	}
	return all
}

func TestEvents(t *testing.T) {
	dir, r := create(t)
	if err := r.Metrics(7, map[string]float64{"V": 0.25, "nan": math.NaN()}); err != nil {
		t.Fatal(err)
	}
	if err := r.Images(8, SamplesTag, Images{N: 2, C: 1, H: 4, W: 5, Data: make([]float32, 40)}); err != nil {
		t.Fatal(err)
	}
	rgb := Images{N: 1, C: 3, H: 4, W: 4, Data: make([]float32, 48)}
	if err := r.Images(9, "colour", rgb); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"))
	if len(files) != 1 {
		t.Fatalf("got %v, want one event file", files)
	}
	e := decodeEvents(t, []byte(read(t, files[0])))
	if len(e) != 4 || e[0].version != "brain.Event:2" || math.Abs(e[0].time-float64(time.Now().Unix())) > 600 {
		t.Fatalf("got %+v, want a version and three events", e)
	}
	if nan := e[1].scalars["nan"]; e[1].step != 7 || e[1].scalars["V"] != 0.25 || nan == nan || len(e[1].scalars) != 2 {
		t.Errorf("got %+v", e[1])
	}
	img := e[2].images[SamplesTag]
	config, err := png.DecodeConfig(bytes.NewReader(img.png))
	if err != nil {
		t.Fatal(err)
	}
	if e[2].step != 8 || img.channels != 1 || img.width != config.Width || img.height != config.Height || img.width <= img.height {
		t.Errorf("got step %d, %d × %d, %d channels, PNG %d × %d", e[2].step, img.width, img.height, img.channels, config.Width, config.Height)
	}
	if got := e[3].images["colour"].channels; got != 3 {
		t.Errorf("got %d channels, want 3", got)
	}
}
