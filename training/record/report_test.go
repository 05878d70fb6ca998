package record

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const evil = `<script>alert("x")</script>&'`

// evilRun records a run whose every string attacks the page.
func evilRun(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	r, err := Create(dir, Options{Config: map[string]string{"note": evil}, Manifest: Manifest{
		Title: evil, Version: evil, System: evil, Data: Data{evil, evil}, Provider: evil, Library: evil,
		Command: []string{evil}, Notes: []string{evil}, Resumed: []Resume{{Step: 5}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for step := range 10 {
		v := map[string]float64{"V": 8.125 - float64(step), "r": 0.0625, "energy/grad_norm": 3 + float64(step), evil: float64(step), "constant": 1}
		if step == 4 {
			v["r"] = math.NaN()
		}
		if err := r.Metrics(step, v); err != nil {
			t.Fatal(err)
		}
		for _, tag := range []string{SamplesTag, "chains"} {
			img := Images{N: 1, C: 1, H: 1, W: 1, Data: []float32{float32(step) / 10}}
			if err := r.Images(step, tag, img); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestReport(t *testing.T) {
	dir := evilRun(t)
	if err := Report(dir); err != nil {
		t.Fatal(err)
	}
	page := read(t, dir, reportFile)

	if strings.Contains(page, "<script") || strings.Contains(page, "ZgotmplZ") {
		t.Error("the page holds a script or a refused value")
	}
	if n := strings.Count(page, "&lt;script&gt;alert("); n < 12 {
		t.Errorf("got %d escaped attacks, want title, lead, facts, settings and metric names", n)
	}
	for _, want := range []string{
		"8.125", "−0.875", "0.0625", "energy/grad_norm", // numbers and names
		"Value function V", "Sampler drift r", "Gradient norms", "Mean score of data minus mean score of samples", // meaning
		"step 0 (first)", "step 9 (last)", "<h2>Samples</h2>", "<h2>Chains</h2>", "<h2>Settings</h2>",
		"from step 5", "1 metric value(s) are NaN or infinite.",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if m := regexp.MustCompile(`(?:src|href|srcset)="([^d"][^"]*)"|https?://|url\(`).FindString(page); m != "" {
		t.Errorf("the page needs %s", m)
	}

	// Every inline picture is a PNG: two tags of six pictures and four charts, none of the constant, in two themes.
	urls := regexp.MustCompile(`data:image/png;base64,([^"]+)`).FindAllStringSubmatch(page, -1)
	if len(urls) != 2*6+2*4 {
		t.Errorf("got %d pictures, want 20", len(urls))
	}
	for _, u := range urls {
		data, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(u[1], "&#43;", "+"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := png.Decode(bytes.NewReader(data)); err != nil {
			t.Error(err)
		}
	}
	balanced(t, page)
}

// balanced reads the page as XML without strictness about void elements.
func balanced(t *testing.T, page string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, []string{"meta", "img", "source"}, xml.HTMLEntity
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestReportOfADamagedFolder(t *testing.T) {
	dir := evilRun(t)
	for name, text := range map[string]string{
		manifestFile:              "{",
		metricsFile:               `{"step":1,"V":2}` + "\n" + `{"step":2,"V`,
		"samples/step-000009.png": "not a picture",
		"samples/step-x.png":      "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, configFile)); err != nil {
		t.Fatal(err)
	}
	if err := Report(dir); err != nil {
		t.Fatal(err)
	}
	page := read(t, dir, reportFile)
	for _, want := range []string{"The manifest cannot be read", "1 line(s) of metrics.jsonl", "The picture samples of step 9 cannot be shown", "step 0 (first)"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "<h2>Settings</h2>") {
		t.Error("settings that are not there were shown")
	}
}

func TestReportOfNothing(t *testing.T) {
	dir := t.TempDir()
	if err := Report(dir); err == nil {
		t.Error("want an error for a folder that holds no run")
	}
	if got, _ := os.ReadDir(dir); len(got) != 0 {
		t.Errorf("got %v, want nothing written", got)
	}
}

func TestReportStaysSmall(t *testing.T) {
	dir, r := create(t)
	values := map[string]float64{}
	for i := range maxCharts + 20 {
		values[fmt.Sprintf("metric%03d", i)] = float64(i)
	}
	for step := range 2 {
		for name := range values {
			values[name]++
		}
		if err := r.Metrics(step, values); err != nil {
			t.Fatal(err)
		}
	}
	for step := 2; step < 60; step++ {
		if err := r.Images(step, SamplesTag, Images{N: 1, C: 1, H: 1, W: 1, Data: []float32{0}}); err != nil {
			t.Fatal(err)
		}
	}
	p, err := newPage(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Charts) != maxCharts || len(p.Metrics) != maxCharts+20 {
		t.Errorf("got %d charts and %d metrics, want %d and %d", len(p.Charts), len(p.Metrics), maxCharts, maxCharts+20)
	}
	if g := p.Galleries[0]; g.First.Step != 2 || g.Last.Step != 59 || len(g.Between) < 5 || len(g.Between) > maxThumbs {
		t.Errorf("got %d pictures between steps %d and %d", len(g.Between), g.First.Step, g.Last.Step)
	}
}

func TestLookup(t *testing.T) {
	for name, want := range map[string]string{
		"V": "Value function V", "energy/grad_norm": "Gradient norms", "grad_norm/energy": "Gradient norms",
		"generator.Grad-Norm": "Gradient norms", "fd_pca": "FD-PCA", "energy": "Energy or score", "energy/loss": "Loss",
	} {
		if i := lookup(name); i < 0 || glossary[i].Title != want {
			t.Errorf("%s: got %d, want %s", name, i, want)
		}
	}
	if i := lookup("valve"); i >= 0 {
		t.Errorf("valve: got %s", glossary[i].Title)
	}
	seen := map[string]bool{}
	for _, term := range glossary {
		for _, name := range term.names {
			if seen[name] {
				t.Errorf("%s is in two families", name)
			}
			seen[name] = true
		}
	}
}

func TestSummarize(t *testing.T) {
	for _, c := range []struct {
		y    []float64
		want metric
	}{
		{[]float64{2, -3, math.NaN(), 7.25, 1e-7}, metric{Name: "a", First: "2", Last: "1e−07", Min: "−3", Max: "7.25"}},
		{[]float64{math.NaN()}, metric{Name: "a", First: "NaN", Last: "NaN", Min: "NaN", Max: "NaN"}},
	} {
		if got := summarize(Series{Name: "a", Y: c.y}); got != c.want {
			t.Errorf("%v: got %+v, want %+v", c.y, got, c.want)
		}
	}
}

// TestReportLeavesOutRepetition: a chart for what moves, no headline for what stands still, no chart of a copy.
func TestReportLeavesOutRepetition(t *testing.T) {
	dir, r := create(t)
	for step := range 3 {
		v := map[string]float64{"held/ade": float64(step), "objective": float64(step), "loss": 2 * float64(step)}
		for i := range maxCurves {
			v[fmt.Sprintf("rule%d/ade", i)] = 5
		}
		if err := r.Metrics(step, v); err != nil {
			t.Fatal(err)
		}
	}
	p, err := newPage(dir)
	if err != nil {
		t.Fatal(err)
	}
	var titles []string
	for _, c := range p.Charts {
		titles = append(titles, c.Title)
	}
	if want := []string{"Errors of paths (held/ade)", "Loss"}; !slices.Equal(titles, want) {
		t.Errorf("got charts %q, want %q", titles, want)
	}
	if len(p.Headlines) != 1 || p.Headlines[0].Name != "held/ade" || len(p.Metrics) != maxCurves+3 {
		t.Errorf("got %+v and %d metrics", p.Headlines, len(p.Metrics))
	}
}

// TestReportLegends: a system's own legend of a picture goes before that of the tag.
func TestReportLegends(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	r, err := Create(dir, Options{Manifest: Manifest{System: "sequence-cycle-coopnets"}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, tag := range []string{SamplesTag, "a-to-b", "drafts", "else"} {
		if err := r.Images(1, tag, Images{N: 1, C: 1, H: 1, W: 1, Data: []float32{0}}); err != nil {
			t.Fatal(err)
		}
	}
	p, err := newPage(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, g := range p.Galleries {
		got[g.Title] = g.Legend
	}
	if got["Samples"] != "Clips, a row each." || !strings.Contains(got["A to b"], "above what becomes") || got["Drafts"] != legends["drafts"] || got["Else"] != "" {
		t.Errorf("got %q", got)
	}
}
