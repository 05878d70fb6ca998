package data

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"ebmrun/training/checkpoint/atomicfile"
)

// WriteNPY writes x as a NumPy array of float32 with the given axes, whole or
// not at all. The npyio package writes slices with one axis only.
func WriteNPY(path string, x []float32, dims ...int) error {
	n := 1
	axes := make([]string, len(dims))
	for i, d := range dims {
		n *= d
		axes[i] = fmt.Sprint(d)
	}
	if n != len(x) {
		return fmt.Errorf("data: %s: axes %v hold %d values, got %d", path, dims, n, len(x))
	}
	tuple := strings.Join(axes, ", ")
	if len(dims) == 1 {
		tuple += ","
	}
	header := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }", tuple)
	// magic, version, length and header fill a multiple of 64 bytes and end in a newline
	pad := 63 - (10+len(header))%64
	header += strings.Repeat(" ", pad) + "\n"
	return atomicfile.Write(path, func(w io.Writer) error {
		head := append([]byte("\x93NUMPY\x01\x00"), byte(len(header)), byte(len(header)>>8))
		if _, err := w.Write(append(head, header...)); err != nil {
			return err
		}
		return binary.Write(w, binary.LittleEndian, x)
	})
}
