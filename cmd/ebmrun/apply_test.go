package main

import (
	"encoding/csv"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// faces is a run folder of two iterations on pictures of 8×8, with chains from
// noise.
func faces(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "faces")
	ebmrun(t, "train", "generative-convnet", "--data", "synthetic/shape", "--size", "8", "--limit", "40", "--preset", "pictures-32", "--provider", "ref", "--quiet",
		"--out", dir, "--steps", "2", "--set", "batch=4", "--set", "chains={init: noise}", "--set", "langevin={steps: 4, step: 0.5, noise: 0.1, clamp: [-1, 1]}",
		"--set", "spec={layers: [{filters: 4, kernel: 3, pad: 1}, {filters: 1, kernel: 8}], activation: swish}").wantOut(t)
	return dir
}

func readPNG(t *testing.T, path string) image.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func writePNG(t *testing.T, at func(x, y int) byte) string {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, 8, 8))
	for i := range img.Pix {
		img.Pix[i] = at(i%8, i/8)
	}
	path := filepath.Join(t.TempDir(), "picture.png")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, img); err != nil {
		t.Fatal(err)
	}
	return path
}

func readCSV(t *testing.T, path string) (head []string, rows [][]float64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range all[1:] {
		var row []float64
		for _, cell := range line {
			v, err := strconv.ParseFloat(cell, 64)
			if err != nil {
				t.Fatal(err)
			}
			row = append(row, v)
		}
		rows = append(rows, row)
	}
	return all[0], rows
}

// apply runs a task with the interpreter, quietly.
func apply(t *testing.T, task, run string, args ...string) result {
	t.Helper()
	return ebmrun(t, append([]string{"apply", task, run, "--provider", "ref", "--quiet"}, args...)...)
}

func TestApplyEnergy(t *testing.T) {
	run, out := trained(t), filepath.Join(t.TempDir(), "e.csv")
	apply(t, "energy", run, "--data", "synthetic/rings", "--limit", "70", "-o", out).wantOut(t, "70 examples of synthetic/rings")
	head, rows := readCSV(t, out)
	if strings.Join(head, " ") != "example class energy score" || len(rows) != 70 {
		t.Fatalf("%v and %d rows", head, len(rows))
	}
	// another split into batches, the same energies
	apply(t, "energy", run, "--data", "synthetic/rings", "--limit", "3", "-o", out).wantOut(t)
	_, few := readCSV(t, out)
	for i, r := range few {
		if d := r[2] - rows[i][2]; d > 1e-4 || d < -1e-4 {
			t.Errorf("example %d: energy %g and %g", i, r[2], rows[i][2])
		}
	}
	// with σ = 2 of the preset, U + f is the reference's energy and not negative
	for _, r := range rows {
		if r[2]+r[3] <= 0 || r[1] < 0 || r[1] > 7 {
			t.Errorf("row %v", r)
		}
	}
}

// TestInpaint: visible pixels come out as they went in, the others are filled,
// and the deviation is zero where nothing was missing.
func TestInpaint(t *testing.T) {
	run, out := faces(t), filepath.Join(t.TempDir(), "a", "out.png")
	value := func(x, y int) byte { return byte(31*x + 3*y) }
	picture := writePNG(t, value)
	mask := writePNG(t, func(x, y int) byte {
		if x >= 3 && x < 6 {
			return 255
		}
		return 0
	})
	apply(t, "inpaint", run, "--image", picture, "--mask", mask, "--truth", picture, "--chains", "3", "-o", out).wantOut(t, "hole of 24 values", "dB")
	got, sd := readPNG(t, out), readPNG(t, strings.TrimSuffix(out, ".png")+"-sd.png")
	changed, spread := 0, 0
	for y := range 8 {
		for x := range 8 {
			v, s := color.GrayModel.Convert(got.At(x, y)).(color.Gray).Y, color.GrayModel.Convert(sd.At(x, y)).(color.Gray).Y
			if hole := x >= 3 && x < 6; !hole && (v != value(x, y) || s != 0) {
				t.Errorf("pixel %d, %d: %d with deviation %d, wanted %d", x, y, v, s, value(x, y))
			} else if hole {
				if v != value(x, y) {
					changed++
				}
				if s > 0 {
					spread++
				}
			}
		}
	}
	if changed < 12 || spread < 12 {
		t.Errorf("of 24 missing pixels %d are new and %d vary", changed, spread)
	}
	full := writePNG(t, func(int, int) byte { return 255 })
	apply(t, "inpaint", run, "--image", picture, "--mask", full, "-o", out).wantError(t, statusBadInput, "one colour")
	apply(t, "inpaint", run, "--image", picture, "-o", out).wantError(t, statusBadInput, "--mask")
	apply(t, "inpaint", run, "--image", "none.png", "--mask", mask, "-o", out).wantError(t, statusBadInput, "none.png")
}

// TestShortRunTasks: strips have the wanted frames, and the search for starts
// lowers the error.
func TestShortRunTasks(t *testing.T) {
	run, dir := faces(t), t.TempDir()
	strip := filepath.Join(dir, "strip.png")
	apply(t, "interpolate", run, "--from", "3", "--to", "4", "--frames", "5", "-o", strip).wantOut(t)
	if b := readPNG(t, strip).Bounds(); b.Dx() < 5*b.Dy()-5*b.Dy()/8 {
		t.Errorf("a strip of %v is no row of 5 squares", b)
	}
	rec := filepath.Join(dir, "rec.png")
	apply(t, "reconstruct", run, "--n", "2", "--iters", "25", "-o", rec).wantOut(t, "2 pictures", "25 iterations")
	readPNG(t, rec)
	_, rows := readCSV(t, filepath.Join(dir, "rec-error.csv"))
	if len(rows) != 26 || !(rows[25][1] < 0.5*rows[0][1]) {
		t.Errorf("%d errors, from %v to %v", len(rows), rows[0], rows[len(rows)-1])
	}
	if _, err := os.Stat(filepath.Join(dir, "rec-z.npy")); err != nil {
		t.Error(err)
	}
	apply(t, "interpolate", trained(t), "-o", strip).wantError(t, statusBadInput, "learned from vectors")
	apply(t, "interpolate", run, "--frames", "1", "-o", strip).wantError(t, statusBadInput, "--frames")
	apply(t, "reconstruct", run, "--step", "0", "-o", rec).wantError(t, statusBadInput, "--step")
	apply(t, "interpolate", run).wantError(t, statusBadInput, "--out")
}

func TestLongrun(t *testing.T) {
	run, dir := trained(t), t.TempDir()
	out := filepath.Join(dir, "long.png")
	apply(t, "longrun", run, "--n", "10", "-o", out).wantOut(t, "30 steps from data", "convergent")
	readPNG(t, out)
	head, rows := readCSV(t, filepath.Join(dir, "long-steps.csv"))
	if strings.Join(head, " ") != "step energy deviation saturation" || len(rows) != 31 || rows[30][0] != 30 {
		t.Errorf("%v, %d rows to %v", head, len(rows), rows[len(rows)-1])
	}
	apply(t, "longrun", run, "--n", "10", "--from", "chains", "--steps", "5", "-o", out).wantOut(t, "5 steps from chains")
	apply(t, "longrun", run, "--n", "17", "--from", "chains", "-o", out).wantError(t, statusBadInput, "16 chains")
	apply(t, "longrun", run, "--from", "nowhere", "-o", out).wantError(t, statusBadInput, "nowhere")
}

// TestVerdict: each way of leaving the data is told.
func TestVerdict(t *testing.T) {
	data := state{energy: 1, energySD: 0.5, sd: 1, diversity: 1, saturation: 0.2}
	if d := data.differences(data); d != nil {
		t.Errorf("data differs from itself: %v", d)
	}
	for want, change := range map[string]func(*state){
		"mean energy":    func(s *state) { s.energy = -0.1 },
		"saturated":      func(s *state) { s.saturation = 0.31 },
		"deviation 1.4":  func(s *state) { s.sd = 1.4 },
		"distance betwe": func(s *state) { s.diversity = 0.6 },
	} {
		s := data
		change(&s)
		if d := s.differences(data); len(d) != 1 || !strings.Contains(d[0], want) {
			t.Errorf("wanted %q, got %v", want, d)
		}
	}
}
