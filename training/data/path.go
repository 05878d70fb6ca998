package data

import (
	"cmp"
	"fmt"
	"path/filepath"
)

// ReadPaths reads trajectories from a CSV table whose first column numbers them: rows of one number
// follow each other in time, the other columns are the values. With steps other than zero every
// trajectory is cut into consecutive pieces of so many rows and what is left over is dropped; without,
// all must be as long as the first.
func ReadPaths(path string, steps int) (*Set, error) {
	t, err := ReadCSV(path)
	if err != nil {
		return nil, err
	}
	if t.C < 2 {
		return nil, fmt.Errorf("data: %s: %d columns, want a trajectory's number and its values", path, t.C)
	}
	var rows [][][]float32
	for i := range t.N {
		if row := t.At(i); i == 0 || row[0] != t.At(i - 1)[0] {
			rows = append(rows, [][]float32{row[1:]})
		} else {
			rows[len(rows)-1] = append(rows[len(rows)-1], row[1:])
		}
	}
	return pathsOf(filepath.Base(path), rows, t.C-1, steps)
}

// pathsOf cuts trajectories of k values a row into pieces of equal length.
func pathsOf(name string, rows [][][]float32, k, steps int) (*Set, error) {
	s := &Set{Name: name, Kind: Path, C: 1, H: cmp.Or(steps, len(rows[0])), W: k, Gain: 1}
	for i, r := range rows {
		if steps == 0 && len(r) != s.H {
			return nil, fmt.Errorf("data: %s: trajectory %d has %d rows, want %d as the first, or ask for a number of frames", name, i, len(r), s.H)
		}
		for ; len(r) >= s.H; r = r[s.H:] {
			for _, row := range r[:s.H] {
				s.Floats = append(s.Floats, row...)
			}
			s.N++
		}
	}
	if s.N == 0 {
		return nil, fmt.Errorf("data: %s: no trajectory has %d rows", name, s.H)
	}
	return s, s.Check()
}
