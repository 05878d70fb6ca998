package data

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// An idxArray is an unsigned-byte array in the IDX format of the MNIST files.
type idxArray struct {
	dims []int
	data []byte
}

// readIDX reads an IDX array of unsigned bytes, at most limit of its first axis if limit is not zero.
// It reserves memory only as fast as bytes arrive, so a header that promises too much costs nothing.
func readIDX(r io.Reader, where string, limit int) (*idxArray, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("data: %s: IDX header: %w", where, cutShort(err))
	}
	if head[0] != 0 || head[1] != 0 || head[2] != 0x08 || head[3] == 0 || head[3] > 4 {
		return nil, fmt.Errorf("data: %s: starts with % x, want an IDX array of unsigned bytes: 00 00 08 and 1 to 4 axes", where, head[:])
	}
	a := &idxArray{dims: make([]int, head[3])}
	for i := range a.dims {
		var b [4]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, fmt.Errorf("data: %s: IDX axis %d: %w", where, i, cutShort(err))
		}
		a.dims[i] = int(binary.BigEndian.Uint32(b[:]))
	}
	if err := checkBytes(where, a.dims...); err != nil {
		return nil, err
	}
	cut := limit > 0 && limit < a.dims[0]
	if cut {
		a.dims[0] = limit
	}
	want := 1
	for _, d := range a.dims {
		want *= d
	}
	var err error
	if a.data, err = io.ReadAll(io.LimitReader(r, int64(want))); err != nil {
		return nil, fmt.Errorf("data: %s: %w", where, cutShort(err))
	}
	if len(a.data) < want {
		return nil, fmt.Errorf("data: %s: shape %v wants %d bytes, got %d: the file is cut short", where, a.dims, want, len(a.data))
	}
	if cut {
		return a, nil
	}
	switch n, err := io.CopyN(io.Discard, r, 1); {
	case n > 0:
		return nil, fmt.Errorf("data: %s: more bytes than shape %v wants", where, a.dims)
	case !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("data: %s: %w", where, err)
	}
	return a, nil
}

// cutShort makes one word of the ways in which a reader says that the file ends too early.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file is cut short")
	}
	return err
}

// readIDXFile reads path, through gzip where the name ends in .gz.
func readIDXFile(path string, limit int) (*idxArray, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	defer f.Close()
	var r io.Reader = bufio.NewReaderSize(f, 1<<16)
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(r); err != nil {
			return nil, fmt.Errorf("data: %s: %w", path, cutShort(err))
		}
	}
	return readIDX(r, path, limit)
}

// ReadIDX reads pictures, an IDX file with axes [N, H, W], and their labels, an IDX file with axis [N].
// Names that end in .gz are unpacked on the way. An empty labels path leaves the set without labels;
// a limit other than zero reads only the first examples.
func ReadIDX(images, labels string, limit int) (*Set, error) {
	a, err := readIDXFile(images, limit)
	if err != nil {
		return nil, err
	}
	s, err := a.set(images)
	if err != nil || labels == "" {
		return s, err
	}
	l, err := readIDXFile(labels, limit)
	if err != nil {
		return nil, err
	}
	if len(l.dims) != 1 || l.dims[0] != s.N {
		return nil, fmt.Errorf("data: %s: shape %v, want one label for each of %d examples", labels, l.dims, s.N)
	}
	s.Labels = make([]int, s.N)
	for i, v := range l.data {
		s.Labels[i] = int(v)
	}
	return s, nil
}

// set makes grey pictures of an [N, H, W] array.
func (a *idxArray) set(where string) (*Set, error) {
	if len(a.dims) != 3 {
		return nil, fmt.Errorf("data: %s: shape %v, want [N, H, W]", where, a.dims)
	}
	return byteSet(filepath.Base(where), a.data, a.dims[0], 1, a.dims[1], a.dims[2])
}

// idxFolder names the picture and label files of one part ("train" or "test") in a folder laid out
// like MNIST's, or reports that it is no such folder. Labels may be missing.
func idxFolder(dir, part string) (images, labels string, ok bool) {
	prefix := map[string][]string{"train": {"train"}, "test": {"t10k", "test"}}[part]
	find := func(kind string) string {
		for _, p := range prefix {
			for _, ext := range []string{".gz", ""} {
				path := filepath.Join(dir, p+"-"+kind+"-ubyte"+ext)
				if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
					return path
				}
			}
		}
		return ""
	}
	images = find("images-idx3")
	return images, find("labels-idx1"), images != ""
}
