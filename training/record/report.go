package record

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"image"
	"image/png"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"ebmrun/training/checkpoint/atomicfile"
)

//go:embed report.html.tmpl
var reportSource string

var reportTemplate = template.Must(template.New("report").Parse(reportSource))

// Limits keep a report of an odd folder small enough for a browser.
const (
	maxCharts = 40
	maxCurves = 6  // in one chart
	maxThumbs = 6  // between the first and the last picture of a tag
	maxTags   = 12 // kinds of pictures
)

// page is what the template shows.
type page struct {
	Title     string
	Lead      string // system · data · provider · steps
	Warnings  []string
	Headlines []headline
	Galleries []gallery
	Charts    []chart
	Metrics   []metric
	Facts     []fact
	Config    string
}

type headline struct{ Name, Value, Before, Title string }

type gallery struct {
	Title       string
	Legend      string
	First, Last *shot
	Between     []shot
}

type shot struct {
	Step          int
	URL           template.URL
	Width, Height int
	Pixels        bool // show pixels as squares
}

type chart struct {
	Title, Meaning, Warning string
	Light                   template.URL
	Dark                    template.Srcset
}

type metric struct{ Name, First, Last, Min, Max, Meaning string }

type fact struct{ Name, Value string }

// Report makes report.html in the run folder dir from what the folder holds, replacing an older one.
// The page needs no network and no scripts. Missing parts are left out, broken ones are named on the
// page; only a folder without manifest, metrics and pictures is an error.
func Report(dir string) error {
	p, err := newPage(dir)
	if err != nil {
		return fmt.Errorf("record: report of %s: %w", dir, err)
	}
	err = atomicfile.Write(filepath.Join(dir, reportFile), func(w io.Writer) error {
		return reportTemplate.Execute(w, p)
	})
	if err != nil {
		return fmt.Errorf("record: report of %s: %w", dir, err)
	}
	return nil
}

func newPage(dir string) (*page, error) {
	p := &page{Title: filepath.Base(dir)}
	manifest, err := ReadManifest(dir)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case missing:
		p.warn("There is no manifest: where this run came from is not known.")
	case err != nil:
		p.warn("The manifest cannot be read: %v.", err)
	default:
		p.Facts = facts(manifest)
		p.Title = cmp.Or(manifest.Title, p.Title)
	}

	lines, broken, err := ReadMetrics(dir)
	if err != nil {
		return nil, err
	}
	if broken > 0 {
		p.warn("%d line(s) of %s could not be read and are left out.", broken, metricsFile)
	}
	pictures, err := findPictures(dir)
	if err != nil {
		return nil, err
	}
	if missing && len(lines) == 0 && len(pictures) == 0 {
		return nil, errors.New("not a run folder: no manifest, metrics or pictures")
	}

	series := collect(lines)
	if err := p.addMetrics(series); err != nil {
		return nil, err
	}
	p.addPictures(manifest.System, pictures)

	config, err := readSmall(filepath.Join(dir, configFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.warn("The settings cannot be read: %v.", err)
	}
	p.Config = string(config)

	steps := ""
	if n := len(lines); n > 0 {
		steps = fmt.Sprintf("step %d", lines[n-1].Step)
	}
	lead := []string{manifest.System, manifest.Data.Name, manifest.Provider, steps}
	if !manifest.Start.IsZero() {
		lead = append(lead, manifest.Start.Format("2 January 2006, 15:04 MST"))
	}
	p.Lead = strings.Join(slices.DeleteFunc(lead, func(s string) bool { return s == "" }), " · ")
	return p, nil
}

func (p *page) warn(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}

func facts(m Manifest) []fact {
	list := []fact{
		{"System", m.System}, {"Seed", strconv.FormatUint(m.Seed, 10)},
		{"Data", m.Data.Name}, {"Data hash", m.Data.Hash},
		{"Provider", m.Provider}, {"Native library", m.Library}, {"Threads", strconv.Itoa(m.Threads)},
		{"Program", m.Version}, {"Go", m.Go}, {"Platform", m.Platform},
		{"Started", m.Start.Format("2006-01-02 15:04:05 MST")}, {"Command", strings.Join(m.Command, " ")},
	}
	for _, r := range m.Resumed {
		list = append(list, fact{"Resumed", fmt.Sprintf("from step %d, %s", r.Step, r.Time.Format("2006-01-02 15:04:05 MST"))})
	}
	for _, n := range m.Notes {
		list = append(list, fact{"Note", n})
	}
	return slices.DeleteFunc(list, func(f fact) bool { return f.Value == "" })
}

// collect turns lines into one series per metric, by name.
func collect(lines []Line) []Series {
	index := map[string]int{}
	var all []Series
	for _, l := range lines {
		for name, v := range l.Values {
			i, ok := index[name]
			if !ok {
				i = len(all)
				index[name] = i
				all = append(all, Series{Name: name})
			}
			all[i].X = append(all[i].X, float64(l.Step))
			all[i].Y = append(all[i].Y, v)
		}
	}
	slices.SortFunc(all, func(a, b Series) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// addMetrics fills the summary, the charts and the table: families in the glossary's order, then
// metrics the glossary does not know.
func (p *page) addMetrics(all []Series) error {
	order := func(s Series) int {
		if i := lookup(s.Name); i >= 0 {
			return i
		}
		return len(glossary)
	}
	slices.SortStableFunc(all, func(a, b Series) int { return cmp.Compare(order(a), order(b)) })
	bad := 0
	for start, end := 0, 0; start < len(all); start = end {
		family := order(all[start])
		end = start + 1
		for family < len(glossary) && end < len(all) && order(all[end]) == family {
			end++
		}
		group := all[start:end]
		t := term{Title: group[0].Name}
		if family < len(glossary) {
			t = glossary[family]
		}
		for i, s := range group {
			m := summarize(s)
			if i == 0 { // the others mean the same
				m.Meaning = t.Meaning
			}
			p.Metrics = append(p.Metrics, m)
			if t.Headline && (len(s.Y) == 1 || !isFlat(s)) {
				p.Headlines = append(p.Headlines, headline{s.Name, m.Last, m.First, t.Title})
			}
		}
		if len(group) > maxCurves { // what stands still is in the table
			group = slices.DeleteFunc(slices.Clone(group), isFlat)
		}
		for curves := range slices.Chunk(group, maxCurves) {
			n := nonFiniteIn(curves)
			bad += n
			if len(p.Charts) == maxCharts || n == 0 && !slices.ContainsFunc(curves, func(s Series) bool { return !isFlat(s) }) ||
				len(curves) == 1 && isCopy(curves[0], all[:start]) {
				continue
			}
			c, err := newChart(t, curves)
			if err != nil {
				return err
			}
			if n > 0 {
				c.Warning = fmt.Sprintf("%d value(s) are not finite: gaps in the curve.", n)
			}
			p.Charts = append(p.Charts, c)
		}
	}
	if bad > 0 {
		p.warn("%d metric value(s) are NaN or infinite.", bad)
	}
	return nil
}

// isFlat reports whether a curve would show no more than the table does.
func isFlat(s Series) bool { return len(s.Y) == 0 || slices.Min(s.Y) == slices.Max(s.Y) }

// isCopy reports whether a curve is one of others under another name, as the objective is.
func isCopy(s Series, others []Series) bool {
	return slices.ContainsFunc(others, func(o Series) bool { return slices.Equal(o.X, s.X) && slices.Equal(o.Y, s.Y) })
}

func nonFiniteIn(group []Series) int {
	n := 0
	for _, s := range group {
		for _, y := range s.Y {
			if math.IsNaN(y) || math.IsInf(y, 0) {
				n++
			}
		}
	}
	return n
}

func newChart(t term, group []Series) (chart, error) {
	c := chart{Title: t.Title, Meaning: t.Meaning}
	if name := group[0].Name; len(group) == 1 && !strings.EqualFold(name, t.Title) && !strings.HasSuffix(t.Title, " "+name) {
		c.Title += " (" + name + ")"
	}
	for _, isDark := range []bool{false, true} {
		img, err := Lines{XLabel: "step", Series: group, Dark: isDark}.Image()
		if err != nil {
			return c, err
		}
		data, err := encodePNG(img)
		if err != nil {
			return c, err
		}
		if isDark {
			c.Dark = template.Srcset(dataURL(data))
		} else {
			c.Light = template.URL(dataURL(data))
		}
	}
	return c, nil
}

// summarize describes a series that has at least one point.
func summarize(s Series) metric {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, y := range s.Y {
		if !math.IsNaN(y) {
			lo, hi = min(lo, y), max(hi, y)
		}
	}
	if lo > hi {
		lo, hi = math.NaN(), math.NaN()
	}
	return metric{Name: s.Name, First: short(s.Y[0]), Last: short(s.Y[len(s.Y)-1]), Min: short(lo), Max: short(hi)}
}

// short prints a number with the digits that people compare, and a proper minus sign.
func short(v float64) string {
	return strings.ReplaceAll(strconv.FormatFloat(v, 'g', 4, 64), "-", "−")
}

// addPictures shows the first, the last and a few between of every tag, samples before others.
func (p *page) addPictures(system string, all []picture) {
	byTag := map[string][]picture{}
	var tags []string
	for _, pic := range all {
		if byTag[pic.tag] == nil {
			tags = append(tags, pic.tag)
		}
		byTag[pic.tag] = append(byTag[pic.tag], pic)
	}
	if len(tags) > maxTags {
		p.warn("Only %d of %d kinds of pictures are shown.", maxTags, len(tags))
		tags = tags[:maxTags]
	}
	for _, tag := range tags {
		list := byTag[tag]
		words := strings.NewReplacer("-", " ", "_", " ").Replace(tag)
		g := gallery{Title: strings.ToUpper(words[:1]) + words[1:], Legend: cmp.Or(legends[system+"/"+tag], legends[tag]), Last: p.shot(list[len(list)-1])}
		if len(list) > 1 {
			g.First = p.shot(list[0])
		}
		if inner := list[1:max(1, len(list)-1)]; len(inner) > 0 {
			stride := (len(inner) + maxThumbs - 1) / maxThumbs
			for i := (len(inner) - 1) % stride / 2; i < len(inner); i += stride {
				if s := p.shot(inner[i]); s != nil {
					g.Between = append(g.Between, *s)
				}
			}
		}
		if g.First != nil || g.Last != nil || g.Between != nil {
			p.Galleries = append(p.Galleries, g)
		}
	}
}

// shot loads one picture, or warns and returns nil.
func (p *page) shot(pic picture) *shot {
	data, err := readSmall(pic.path)
	var config image.Config
	if err == nil {
		config, err = png.DecodeConfig(bytes.NewReader(data))
	}
	if err != nil {
		p.warn("The picture %s of step %d cannot be shown: %v.", pic.tag, pic.step, err)
		return nil
	}
	const small = 400 // such a picture is enlarged, and should show its pixels
	return &shot{pic.step, template.URL(dataURL(data)), config.Width, config.Height, config.Width < small}
}

func dataURL(png []byte) string {
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(png)
}
