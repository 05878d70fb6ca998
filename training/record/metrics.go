package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// Line is one line of metrics.jsonl.
type Line struct {
	Step   int
	Values map[string]float64
}

// stepKey is the one name a metric cannot have.
const stepKey = "step"

// nonFinite spells the numbers that JSON lacks, the way Protocol Buffers' JSON does.
var nonFinite = map[string]float64{"NaN": math.NaN(), "Infinity": math.Inf(1), "-Infinity": math.Inf(-1)}

// encode returns l as one JSON object and a newline: the step, then the values by ascending name.
func (l Line) encode() ([]byte, error) {
	b := fmt.Appendf(nil, `{"%s":%d`, stepKey, l.Step)
	for _, name := range slices.Sorted(maps.Keys(l.Values)) {
		if name == "" || name == stepKey {
			return nil, fmt.Errorf("metric name %q: empty or reserved", name)
		}
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		var value any = l.Values[name]
		switch v := l.Values[name]; {
		case math.IsNaN(v):
			value = "NaN"
		case math.IsInf(v, 1):
			value = "Infinity"
		case math.IsInf(v, -1):
			value = "-Infinity"
		}
		number, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		b = append(append(append(append(b, ','), key...), ':'), number...)
	}
	return append(b, "}\n"...), nil
}

// decodeLine is the inverse of encode.
func decodeLine(b []byte) (Line, error) {
	var raw map[string]any
	if err := json.Unmarshal(b, &raw); err != nil {
		return Line{}, err
	}
	step, ok := raw[stepKey].(float64)
	if !ok || step != math.Trunc(step) || math.Abs(step) > 1<<53 {
		return Line{}, errors.New("no step")
	}
	delete(raw, stepKey)
	l := Line{Step: int(step), Values: make(map[string]float64, len(raw))}
	for name, value := range raw {
		switch v := value.(type) {
		case float64:
			l.Values[name] = v
		case string:
			if l.Values[name], ok = nonFinite[v]; !ok {
				return Line{}, fmt.Errorf("%q: got %.20q, want a number", name, v)
			}
		default:
			return Line{}, fmt.Errorf("%q: got %T, want a number", name, value)
		}
	}
	return l, nil
}

// ReadMetrics reads metrics.jsonl of the run folder dir. Lines that are not a metrics object, such
// as the last one after a kill, are counted in broken and left out; a missing file has no lines.
func ReadMetrics(dir string) (lines []Line, broken int, err error) {
	f, err := os.Open(filepath.Join(dir, metricsFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("record: %w", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20) // no honest line is longer
	for {
		b, err := r.ReadSlice('\n')
		tooLong := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.ReadSlice('\n')
		}
		if err != nil && err != io.EOF {
			return nil, 0, fmt.Errorf("record: %w", err)
		}
		if tooLong {
			broken++
		} else if len(bytes.TrimSpace(b)) > 0 {
			if l, bad := decodeLine(b); bad != nil {
				broken++
			} else {
				lines = append(lines, l)
			}
		}
		if err == io.EOF {
			return lines, broken, nil
		}
	}
}
