package data

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ReadCSV reads a table of numbers, one example a row: vectors as in [ReadNPY]. A first row that holds
// no number at all is taken as column names.
func ReadCSV(path string) (*Set, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	defer f.Close()
	return readCSV(f, path)
}

func readCSV(r io.Reader, where string) (*Set, error) {
	in := csv.NewReader(r)
	in.ReuseRecord = true
	in.TrimLeadingSpace = true
	in.Comment = '#'
	s := &Set{Name: filepath.Base(where), H: 1, W: 1, Gain: 1}
	for row := 1; ; row++ {
		rec, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("data: %s: %w", where, err)
		}
		if row == 1 && !anyNumber(rec) {
			continue
		}
		if len(s.Floats)+len(rec) > MaxValues {
			return nil, fmt.Errorf("data: %s: more than %d values", where, MaxValues)
		}
		for col, t := range rec {
			v, err := strconv.ParseFloat(strings.TrimSpace(t), 32)
			if err != nil || !finite(v) {
				return nil, fmt.Errorf("data: %s: row %d, column %d: %q, want a finite number", where, row, col+1, t)
			}
			s.Floats = append(s.Floats, float32(v))
		}
		s.C = len(rec)
		s.N++
	}
	if s.N == 0 {
		return nil, fmt.Errorf("data: %s: no row of numbers", where)
	}
	return s, nil
}

func anyNumber(rec []string) bool {
	for _, t := range rec {
		if _, err := strconv.ParseFloat(strings.TrimSpace(t), 64); err == nil {
			return true
		}
	}
	return false
}
