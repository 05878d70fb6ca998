package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// TestSystemsPage: docs/systems.md has every system with its title, paper, package and a picture, and README names it.
func TestSystemsPage(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "systems.md"))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range systems {
		dir := strings.ReplaceAll(s.Name, "-", "")
		row := fmt.Sprintf("| [`%s`](../training/%s) | %s. %s | `ebmrun train %s ", s.Name, dir, s.Title, s.Paper, s.Name)
		if !strings.Contains(string(page), row) {
			t.Errorf("docs/systems.md lacks %q", row)
		}
		if _, err := os.Stat(filepath.Join(root, "training", dir)); err != nil {
			t.Error(err)
		}
		if !strings.Contains(string(readme), "`"+s.Name+"`") {
			t.Errorf("README.md does not name %s", s.Name)
		}
	}
	pictures := regexp.MustCompile(`src="([^"]+)"`).FindAllStringSubmatch(string(page), -1)
	if len(pictures) != len(systems) {
		t.Errorf("docs/systems.md has %d pictures of %d systems", len(pictures), len(systems))
	}
	for _, m := range pictures {
		if _, err := os.Stat(filepath.Join(root, "docs", m[1])); err != nil {
			t.Error(err)
		}
	}
}

// TestLinks: what the documents link to in the repository is there.
func TestLinks(t *testing.T) {
	root := filepath.Join("..", "..")
	files, _ := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	tops, _ := filepath.Glob(filepath.Join(root, "*.md"))
	link := regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]*)?\)`)
	for _, f := range append(files, tops...) {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(f), filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s links to %s, which is not there", f, m[1])
			}
		}
	}
}

// TestSystemsBegin: the commands of docs/systems.md that need no downloads begin to learn.
func TestSystemsBegin(t *testing.T) {
	if testing.Short() {
		t.Skip("every system once")
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "systems.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("`ebmrun (train [^`]+)`").FindAllStringSubmatch(string(page), -1) {
		args := strings.Fields(m[1])
		if data := regexp.MustCompile(`--data (\S+)`).FindStringSubmatch(m[1]); !strings.HasPrefix(data[1], "synthetic/") || strings.Contains(m[1], "hierarchical") { // that one takes its time
			continue
		}
		t.Run(args[1], func(t *testing.T) {
			more := []string{"--steps", "1", "--quiet", "--provider", "cpu", "--out", filepath.Join(t.TempDir(), "run")}
			if !strings.Contains(m[1], "--limit") {
				more = append(more, "--limit", "20")
			}
			ebmrun(t, append(args, more...)...).wantOut(t)
		})
	}
}

// TestPresetsShown: every preset is listed, and what is shown of it is the preset.
func TestPresetsShown(t *testing.T) {
	for _, s := range systems {
		list := ebmrun(t, "systems", s.Name)
		list.wantOut(t)
		for name, p := range s.named {
			if !strings.Contains(list.out, " "+name+": "+p.title) {
				t.Errorf("%s %s is not listed in\n%s", s.Name, name, list.out)
			}
			path := write(t, filepath.Join(t.TempDir(), "config.yaml"), []byte(ebmrun(t, "systems", s.Name, name).out))
			_, tree, err := readConfig(path)
			if err != nil {
				t.Fatal(err)
			}
			got := reflect.New(reflect.TypeOf(p.settings).Elem()).Interface()
			if err := merge(got, tree); err != nil {
				t.Fatal(err)
			}
			if text, want := settingsText(t, got), settingsText(t, p.settings); text != want {
				t.Errorf("%s %s: shown as\n%s\nwanted\n%s", s.Name, name, text, want)
			}
		}
	}
}

func settingsText(t *testing.T, settings any) string {
	t.Helper()
	text, err := yaml.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
