package data

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// CacheDir is where obtained data is kept: EBMRUN_CACHE/data if that variable is set, otherwise
// ebmrun/data in the user's cache folder.
func CacheDir() (string, error) {
	if dir := os.Getenv("EBMRUN_CACHE"); dir != "" {
		return filepath.Join(dir, "data"), nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("data: no cache folder, set EBMRUN_CACHE: %w", err)
	}
	return filepath.Join(dir, "ebmrun", "data"), nil
}

// Obtain makes sure that the named data or network lies in the cache folder, intact, and returns its path; for
// synthetic data, which is drawn in process, the path is empty. What has to be downloaded comes from
// the package client of the [Sources] table; progress (it may be nil) first gets a line that says what,
// how much and from which client. The files must have the SHA-256 of the table. They are written to a temporary
// folder and renamed, so that an interruption leaves either nothing or everything.
func Obtain(ctx context.Context, name string, progress func(line string)) (string, error) {
	s, ok := Find(name)
	if !ok {
		return "", unknown(name)
	}
	if s.draw != nil {
		return "", nil
	}
	if progress == nil {
		progress = func(string) {}
	}
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := s.Package.folder(cache)
	switch got, err := digest(os.DirFS(dir)); {
	case err == nil && got == s.Package.SHA256:
		return filepath.Join(dir, s.path), nil
	case err == nil || !errors.Is(err, fs.ErrNotExist):
		progress(fmt.Sprintf("%s: the copy in %s is damaged and will be replaced", name, dir))
	}
	progress(fmt.Sprintf("%s: getting %s (%.1f MB): %s", name, s.Package.Name, float64(s.Package.Size)/1e6, s.Command()))
	if err := s.Package.install(ctx, cache, dir, progress); err != nil {
		return "", fmt.Errorf("data: %s: %w", name, unobtained{err})
	}
	return filepath.Join(dir, s.path), nil
}

// ErrObtain is what the errors of package clients are: their names are right, and nothing came.
var ErrObtain = errors.New("not obtained")

type unobtained struct{ error }

func (u unobtained) Unwrap() error        { return u.error }
func (u unobtained) Is(target error) bool { return target == ErrObtain }

// install fetches the package and puts its files into dir, a folder of the cache.
func (p Package) install(ctx context.Context, cache, dir string, progress func(string)) error {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(cache, ".tmp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	download, files := filepath.Join(tmp, "download"), filepath.Join(tmp, "files")
	if err := os.Mkdir(download, 0o755); err != nil {
		return err
	}
	src, err := p.fetch(ctx, download, progress)
	if err != nil {
		return err
	}
	put := p.copyFiles
	if unpack := unpackers[p.Name]; unpack != nil {
		put = func(dir string, src fs.FS) error { return unpack(src, dir) }
	}
	if err := put(files, src); err != nil {
		return err
	}
	got, err := digest(os.DirFS(files))
	if err != nil {
		return err
	}
	if got != p.SHA256 {
		return fmt.Errorf("files of %s have SHA-256 %s, want %s", p.Name, got, p.SHA256)
	}
	if now, err := digest(os.DirFS(dir)); err == nil && now == p.SHA256 {
		return nil // another process was faster, and may be reading
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(files, dir)
}

// fetch runs the package client in dir and opens what it left there.
func (p Package) fetch(ctx context.Context, dir string, progress func(string)) (fs.FS, error) {
	out, err := p.run(ctx, dir, p.command()...)
	if err != nil && p.Client == "apt-get" && ctx.Err() == nil {
		progress("the package lists may be missing: apt-get update")
		if _, uerr := p.run(ctx, dir, "apt-get", "update"); uerr != nil {
			return nil, fmt.Errorf("%w (apt-get update fails too: run it as root first)", err)
		}
		out, err = p.run(ctx, dir, p.command()...)
	}
	if err != nil {
		return nil, err
	}
	if p.Client == "go" {
		var mod struct{ Dir, Error string }
		if err := json.Unmarshal(out, &mod); err != nil || mod.Dir == "" {
			return nil, fmt.Errorf("go mod download: want the module's folder, got %q", firstLine(out))
		}
		return os.DirFS(mod.Dir), nil
	}
	ext := map[string]string{"pip": "*.whl", "npm": "*.tgz", "apt-get": "*.deb"}[p.Client]
	found, err := filepath.Glob(filepath.Join(dir, ext))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("%s left %d files %s, want one", p.Client, len(found), ext)
	}
	switch p.Client {
	case "pip":
		return zip.OpenReader(found[0])
	case "npm":
		return os.DirFS(dir), p.untar(dir, found[0])
	}
	if _, err := p.run(ctx, dir, "dpkg-deb", "-x", filepath.Base(found[0]), "."); err != nil {
		return nil, err
	}
	return os.DirFS(dir), nil
}

// run starts a program in dir and returns its standard output. An error ends with what the program said of it.
func (p Package) run(ctx context.Context, dir string, args ...string) ([]byte, error) {
	args, err := locate(args)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GO111MODULE=on", "GOFLAGS=-mod=mod", "GOWORK=off", "PIP_DISABLE_PIP_VERSION_CHECK=1", "LC_ALL=C")
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(args[0]), ctx.Err())
		}
		return nil, fmt.Errorf("%s %s: %w: %s", filepath.Base(args[0]), args[1], err, cmp.Or(telling(stderr.String()), telling(stdout.String())))
	}
	return stdout.Bytes(), nil
}

// locate finds the program; pip also goes by other names.
func locate(args []string) ([]string, error) {
	tries := map[string][][]string{"pip": {{"pip"}, {"pip3"}, {"python3", "-m", "pip"}}}[args[0]]
	if tries == nil {
		tries = [][]string{args[:1]}
	}
	for _, t := range tries {
		if path, err := exec.LookPath(t[0]); err == nil {
			return append(append([]string{path}, t[1:]...), args[1:]...), nil
		}
	}
	return nil, fmt.Errorf("the program %s is missing: install %s, or give the path of the data instead of its name", args[0], providers[args[0]])
}

// providers says what to install for a missing program.
var providers = map[string]string{
	"go":       "Go",
	"pip":      "Python 3 with pip (Debian: python3-pip)",
	"npm":      "Node.js with npm",
	"apt-get":  "it (it is part of Debian and its derivatives alone)",
	"dpkg-deb": "dpkg",
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return line
}

// telling is the last line that speaks of an error, "" of nothing; npm ends with where its log is.
func telling(text string) (last string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		of := strings.Contains(strings.ToLower(line), "error") && !strings.Contains(line, "complete log")
		if was := strings.Contains(strings.ToLower(last), "error"); line != "" && (of || !was) {
			last = line
		}
	}
	return last
}

// Limits on what is unpacked: no file of a package comes near the first, nor all of them the second.
const (
	maxFile  = 128 << 20
	maxTotal = 256 << 20
)

// copyFiles copies the files of src that the package takes to dir, which it makes.
func (p Package) copyFiles(dir string, src fs.FS) error {
	if c, ok := src.(io.Closer); ok {
		defer c.Close()
	}
	total := int64(0)
	err := fs.WalkDir(src, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		m := p.take.FindStringSubmatch(path)
		if m == nil {
			return nil
		}
		f, err := src.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		n, err := writeFile(filepath.Join(dir, filepath.FromSlash(m[1])), f)
		if total += n; err == nil && total > maxTotal {
			err = fmt.Errorf("more than %d bytes to unpack", maxTotal)
		}
		return err
	})
	if err == nil && total == 0 {
		err = fmt.Errorf("%s holds no file %s", p.Name, p.take)
	}
	return err
}

// writeFile copies r to a new file, with its folders, and syncs it.
func writeFile(path string, r io.Reader) (int64, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return 0, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, io.LimitReader(r, maxFile+1))
	if err == nil && n > maxFile {
		err = fmt.Errorf("%s: more than %d bytes", filepath.Base(path), maxFile)
	}
	if err == nil {
		err = f.Sync()
	}
	return n, errors.Join(err, f.Close())
}

// untar unpacks the regular files that the package takes from a gzipped tar file into dir.
func (p Package) untar(dir, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	total := int64(0)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) || !p.take.MatchString(h.Name) {
			continue
		}
		n, err := writeFile(filepath.Join(dir, filepath.FromSlash(h.Name)), r)
		if err != nil {
			return err
		}
		if total += n; total > maxTotal {
			return fmt.Errorf("more than %d bytes to unpack", maxTotal)
		}
	}
}

// digest is the SHA-256 of the listing of a folder: for every file, in the order of the paths, a line of
// its SHA-256 and its path, as sha256sum prints it. It does not depend on how the files were packed.
func digest(dir fs.FS) (string, error) {
	list := sha256.New()
	err := fs.WalkDir(dir, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := dir.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		_, err = fmt.Fprintf(list, "%x  %s\n", h.Sum(nil), path)
		return err
	})
	return hex.EncodeToString(list.Sum(nil)), err
}
