package data

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"codeberg.org/sbinet/npyio/npy"
)

// ReadNPY reads a NumPy array of examples: [N, H, W] is grey pictures, [N, C, H, W] pictures, [N, D]
// vectors (points in the plane for D = 2). The element type may be bool, an integer or a float; the
// order is C's.
//
// Vectors keep their values. Pictures are scaled to [-1, 1] from the range that their values show:
// bytes from 0 … 255; other types from [-1, 1], [0, 1] or [0, 255], the first that holds all of them.
func ReadNPY(path string) (*Set, error) { return ReadNPYAs(path, Plain) }

// ReadNPYAs reads a NumPy array of examples of another kind than pictures and vectors: clips
// [N, D, H, W] or [N, C, D, H, W], volumes of the same shapes, point sets [N, P, 3] or [N, P, 2],
// trajectories [N, T, K]. Clips and volumes are scaled as pictures are. Points that leave [-1, 1] are
// shifted and scaled to it, all by the same numbers; trajectories keep their values.
func ReadNPYAs(path string, kind Kind) (*Set, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	return readNPY(bufio.NewReaderSize(f, 1<<16), st.Size(), path, kind)
}

// maxNPYHeader bounds the header; NumPy itself writes a few hundred bytes.
const maxNPYHeader = 1 << 16

// npyShapes is the shapes that arrays of examples have.
var npyShapes = [...]struct {
	want        string
	least, most int
}{
	Plain:  {"[N, D], [N, H, W] or [N, C, H, W]", 2, 4},
	Video:  {"[N, D, H, W] or [N, C, D, H, W]", 4, 5},
	Voxels: {"[N, D, H, W] or [N, C, D, H, W]", 4, 5},
	Cloud:  {"[N, P, 3]", 3, 3},
	Path:   {"[N, T, K]", 3, 3},
}

// readNPY reads an array from r, which holds size bytes.
func readNPY(r io.Reader, size int64, where string, as Kind) (*Set, error) {
	head, err := npyHeader(r)
	if err != nil {
		return nil, fmt.Errorf("data: %s: NPY header: %w", where, err)
	}
	in, err := openNPY(io.MultiReader(bytes.NewReader(head), r))
	if err != nil {
		return nil, fmt.Errorf("data: %s: NPY header: %s", where, strings.Join(strings.Fields(err.Error()), " ")) // it quotes the file
	}
	kind := strings.Trim(in.Header.Descr.Type, `'"`)
	width, ok := npyWidth[strings.TrimLeft(kind, "<>|=")]
	if !ok {
		return nil, fmt.Errorf("data: %s: element type %q, want bool, an integer or a float of 32 or 64 bits", where, kind)
	}
	shape := in.Header.Descr.Shape
	if form := npyShapes[as]; len(shape) < form.least || len(shape) > form.most {
		return nil, fmt.Errorf("data: %s: shape %v, want %s%s", where, shape, form.want, otherKinds(as, len(shape)))
	}
	// pictures of bytes stay bytes
	packed := as == Plain && len(shape) > 2 && strings.HasSuffix(kind, "u1")
	fits := checkSize
	if packed {
		fits = checkBytes
	}
	if err := fits(where, shape...); err != nil {
		return nil, err
	}
	if in.Header.Descr.Fortran {
		return nil, fmt.Errorf("data: %s: the array is in Fortran order, want C order (numpy.ascontiguousarray)", where)
	}
	n := 1
	for _, d := range shape {
		n *= d
	}
	if want := int64(len(head)) + int64(n)*int64(width); size != want {
		return nil, fmt.Errorf("data: %s: shape %v of %s wants a file of %d bytes, got %d", where, shape, kind, want, size)
	}
	s := &Set{Name: filepath.Base(where), Kind: as, N: shape[0], C: 1, H: 1, W: 1, Gain: 1}
	if packed {
		s.bytes, s.level, s.Lo, s.Hi, s.Gain, s.Offset = make([]byte, n), &byteValue, -1, 1, byteGain, byteOffset
		_, err = io.ReadFull(r, s.bytes)
	} else {
		s.Floats, err = npyFloats(in, kind)
	}
	if err != nil {
		return nil, fmt.Errorf("data: %s: %w", where, cutShort(err))
	}
	axes := []*int{&s.C, &s.H, &s.W}
	switch {
	case as.deep():
		axes = []*int{&s.C, &s.D, &s.H, &s.W}
	case len(shape) == 2:
		axes = axes[:1]
	}
	for i, d := range shape[1:] {
		*axes[len(axes)-len(shape)+1+i] = d
	}
	if as != Cloud && as != Path && s.C > 4 && s.W <= 4 && len(shape) > 3 {
		return nil, fmt.Errorf("data: %s: shape %v, want channels first: [N, C, H, W]", where, shape)
	}
	if as == Cloud && s.W > 3 {
		return nil, fmt.Errorf("data: %s: shape %v, want points of 2 or 3 coordinates", where, shape)
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	switch {
	case as == Cloud:
		s.scalePoints()
	case as != Path && len(shape) > 2 && !packed:
		return s, s.scalePictures(strings.HasSuffix(kind, "u1"))
	}
	return s, nil
}

// otherKinds hints at the kinds that have shapes of so many axes.
func otherKinds(as Kind, axes int) string {
	if as == Plain && axes == 5 {
		return fmt.Sprintf(", or ask for the kind %s or %s", Video, Voxels)
	}
	return ""
}

// scalePoints brings coordinates to [-1, 1], all by the same map, unless they are there.
func (s *Set) scalePoints() {
	lo, hi := float64(slices.Min(s.Floats)), float64(slices.Max(s.Floats))
	s.Lo, s.Hi = -1, 1
	if lo >= -1 && hi <= 1 {
		return
	}
	s.Gain = 2 / math.Max(hi-lo, 1e-30)
	s.Offset = -(lo + hi) / 2 * s.Gain
	for i, v := range s.Floats {
		s.Floats[i] = float32(max(-1, min(1, float64(v)*s.Gain+s.Offset)))
	}
}

// npyWidth is the element types that are read, with their sizes in bytes.
var npyWidth = map[string]int{
	"b1": 1, "u1": 1, "i1": 1, "u2": 2, "i2": 2, "u4": 4, "i4": 4, "u8": 8, "i8": 8, "f4": 4, "f8": 8,
}

// npyHeader reads the header of an NPY file and nothing behind it.
func npyHeader(r io.Reader) ([]byte, error) {
	head := make([]byte, 8, 12)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, cutShort(err)
	}
	if !bytes.Equal(head[:6], npy.Magic[:]) {
		return nil, fmt.Errorf("starts with %q, want %q", head[:6], npy.Magic[:])
	}
	var length int
	switch head[6] {
	case 1:
		head = head[:10]
		if _, err := io.ReadFull(r, head[8:]); err != nil {
			return nil, cutShort(err)
		}
		length = int(binary.LittleEndian.Uint16(head[8:]))
	case 2:
		head = head[:12]
		if _, err := io.ReadFull(r, head[8:]); err != nil {
			return nil, cutShort(err)
		}
		length = int(binary.LittleEndian.Uint32(head[8:]))
	default:
		return nil, fmt.Errorf("format version %d, want 1 or 2", head[6])
	}
	if length > maxNPYHeader {
		return nil, fmt.Errorf("length %d, want at most %d", length, maxNPYHeader)
	}
	at := len(head)
	head = append(head, make([]byte, length)...)
	_, err := io.ReadFull(r, head[at:])
	return head, cutShort(err)
}

// openNPY parses a header. The parser indexes into malformed text without looking; what it trips over
// is an error here.
func openNPY(r io.Reader) (in *npy.Reader, err error) {
	defer func() {
		if recover() != nil {
			in, err = nil, errors.New("not the text of an array header")
		}
	}()
	return npy.NewReader(r)
}

// npyFloats reads the elements, whose number has been checked, as float32. Like
// the header's, the parser of element types may trip.
func npyFloats(in *npy.Reader, kind string) (x []float32, err error) {
	defer func() {
		if recover() != nil {
			x, err = nil, fmt.Errorf("element type %q is not one that can be read", kind)
		}
	}()
	switch strings.TrimLeft(kind, "<>|=") {
	case "b1":
		var v []bool
		if err := in.Read(&v); err != nil {
			return nil, err
		}
		x := make([]float32, len(v))
		for i, b := range v {
			if b {
				x[i] = 1
			}
		}
		return x, nil
	case "u1":
		return floats[uint8](in)
	case "i1":
		return floats[int8](in)
	case "u2":
		return floats[uint16](in)
	case "i2":
		return floats[int16](in)
	case "u4":
		return floats[uint32](in)
	case "i4":
		return floats[int32](in)
	case "u8":
		return floats[uint64](in)
	case "i8":
		return floats[int64](in)
	case "f8":
		return floats[float64](in)
	}
	err = in.Read(&x)
	return x, err
}

func floats[T uint8 | int8 | uint16 | int16 | uint32 | int32 | uint64 | int64 | float64](in *npy.Reader) ([]float32, error) {
	var v []T
	if err := in.Read(&v); err != nil {
		return nil, err
	}
	x := make([]float32, len(v))
	for i := range v {
		x[i] = float32(v[i])
	}
	return x, nil
}

// scalePictures brings raw values to [-1, 1]; bytes says that they were stored as unsigned bytes.
func (s *Set) scalePictures(bytes bool) error {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range s.Floats {
		lo, hi = math.Min(lo, float64(v)), math.Max(hi, float64(v))
	}
	switch {
	case bytes:
		s.Gain, s.Offset = byteGain, byteOffset
	case lo >= -1 && lo < 0 && hi <= 1:
		s.Gain, s.Offset = 1, 0
	case lo >= 0 && hi <= 1:
		s.Gain, s.Offset = 2, -1
	case lo >= 0 && hi <= 255:
		s.Gain, s.Offset = byteGain, byteOffset
	default:
		return fmt.Errorf("data: %s: picture values lie in %g … %g, want [-1, 1], [0, 1] or [0, 255]", s.Name, lo, hi)
	}
	for i, v := range s.Floats {
		s.Floats[i] = float32(float64(v)*s.Gain + s.Offset)
	}
	s.Lo, s.Hi = -1, 1
	return nil
}
