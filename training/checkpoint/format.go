package checkpoint

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nlpodyssey/safetensors"

	"ebmrun/training/checkpoint/atomicfile"
)

const (
	modelFile   = "model.json"
	tensorsFile = "tensors.safetensors"

	formatVersion = 1

	// Room for tens of thousands of tensors, and few enough bytes that parsing hostile ones cannot
	// take all memory.
	maxModel  = 16 << 20 // bytes of model.json
	maxHeader = 4 << 20  // bytes of the header of tensors.safetensors
)

// model is the content of model.json. Every byte that Load returns is covered: tensors by their
// own hashes, Meta by MetaSHA256, Step by the folder's name.
type model struct {
	Format     int             `json:"format"`
	Step       int             `json:"step"`
	Meta       json.RawMessage `json:"meta"`
	MetaSHA256 string          `json:"meta_sha256"` // of the compact form
	Tensors    []tensorEntry   `json:"tensors"`     // ascending names
}

type tensorEntry struct {
	Name   string `json:"name"`
	DType  string `json:"dtype"`
	Shape  []int  `json:"shape"`
	SHA256 string `json:"sha256"` // of the little-endian data
}

// view lends a Tensor to the safetensors writer, which asks for the data once.
type view struct {
	Tensor
	dt  safetensors.DType
	n   int
	sum string // set by Data
}

func (v *view) DType() safetensors.DType { return v.dt }
func (v *view) DataLen() uint64          { return uint64(v.n) * v.dt.Size() }

func (v *view) Shape() []uint64 {
	shape := make([]uint64, len(v.Tensor.Shape))
	for i, d := range v.Tensor.Shape {
		shape[i] = uint64(d)
	}
	return shape
}

func (v *view) Data() []byte {
	raw := v.encode()
	v.sum = hexSum(raw)
	return raw
}

// write fills the existing folder dir with the two files of s.
func write(dir string, s *State) error {
	m := model{Format: formatVersion, Step: s.Step, Tensors: []tensorEntry{}}
	var err error
	if m.Meta, err = compact(s.Meta); err != nil {
		return fmt.Errorf("meta: %w", err)
	}
	m.MetaSHA256 = hexSum(m.Meta)

	views := make(map[string]*view, len(s.Tensors))
	header := 0 // generous estimate
	for name, t := range s.Tensors {
		if name == "" || name == "__metadata__" || !utf8.ValidString(name) {
			return fmt.Errorf("tensor %q: name is empty, reserved or not UTF-8", name)
		}
		if err := t.check(); err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		dt, n, _ := t.dtype()
		views[name] = &view{Tensor: t, dt: dt, n: n}
		header += 6*len(name) + 20*len(t.Shape) + 100
	}
	if header > maxHeader {
		return fmt.Errorf("%d tensors: their header takes %d bytes, want at most %d", len(s.Tensors), header, maxHeader)
	}
	err = atomicfile.Create(filepath.Join(dir, tensorsFile), func(w io.Writer) error {
		return safetensors.SerializeToWriter(views, nil, w)
	})
	if err != nil {
		return err
	}

	for _, name := range slices.Sorted(maps.Keys(views)) {
		v := views[name]
		shape := append([]int{}, v.Tensor.Shape...)
		m.Tensors = append(m.Tensors, tensorEntry{Name: name, DType: v.dt.String(), Shape: shape, SHA256: v.sum})
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(m); err != nil {
		return err
	}
	if b.Len() > maxModel {
		return fmt.Errorf("%s: got %d bytes, want at most %d", modelFile, b.Len(), maxModel)
	}
	return atomicfile.Create(filepath.Join(dir, modelFile), func(w io.Writer) error {
		_, err := w.Write(b.Bytes())
		return err
	})
}

// read is the inverse of write: modelJSON is the content of model.json, tensors the size bytes of
// tensors.safetensors. Tensor data is allocated only once it is known to be there.
func read(modelJSON []byte, tensors io.Reader, size int64) (*State, error) {
	m, err := readModel(modelJSON)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", modelFile, brief(err))
	}
	s := &State{Step: m.Step, Tensors: make(map[string]Tensor, len(m.Tensors))}
	if string(m.Meta) != "null" {
		s.Meta = m.Meta
	}
	if err := readTensors(s.Tensors, m.Tensors, bufio.NewReader(tensors), size); err != nil {
		return nil, fmt.Errorf("%s: %w", tensorsFile, brief(err))
	}
	return s, nil
}

func readModel(data []byte) (*model, error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, err
	}
	if version.Format != formatVersion {
		return nil, fmt.Errorf("got format version %d, want %d", version.Format, formatVersion)
	}
	var m model
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return nil, err
	}
	if m.Step < 0 {
		return nil, fmt.Errorf("got step %d, want at least 0", m.Step)
	}
	var err error
	if m.Meta, err = compact(m.Meta); err != nil {
		return nil, err
	}
	if got := hexSum(m.Meta); got != m.MetaSHA256 {
		return nil, fmt.Errorf("meta: got SHA-256 %.12s…, want %.12q…", got, m.MetaSHA256)
	}
	return &m, nil
}

// readTensors checks the header of r against want, then reads the data in file order.
func readTensors(dst map[string]Tensor, want []tensorEntry, r io.Reader, size int64) error {
	var prefix [8]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return fmt.Errorf("header length: %w", short(err))
	}
	n := binary.LittleEndian.Uint64(prefix[:])
	if n > maxHeader || int64(n) > size-8 {
		return fmt.Errorf("header length: got %d, want at most %d", n, min(maxHeader, size-8))
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return fmt.Errorf("header: %w", short(err))
	}
	var meta safetensors.Metadata
	if err := json.Unmarshal(raw, &meta); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	infos := meta.Tensors()
	if len(infos) != len(want) {
		return fmt.Errorf("header: got %d tensors, want the %d of %s", len(infos), len(want), modelFile)
	}

	type block struct {
		tensorEntry
		info *safetensors.TensorInfo
	}
	blocks := make([]block, len(want))
	for i, e := range want {
		info, ok := infos[e.Name]
		if !ok {
			return fmt.Errorf("header: no tensor %q", e.Name)
		}
		blocks[i] = block{e, info}
	}
	slices.SortFunc(blocks, func(a, b block) int {
		x, y := a.info.DataOffsets, b.info.DataOffsets
		return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]))
	})

	// The whole layout is checked against the file's real size before any data is allocated.
	end := uint64(0)
	for _, b := range blocks {
		if err := b.agrees(b.info, end); err != nil {
			return fmt.Errorf("tensor %q: %w", b.Name, err)
		}
		end = b.info.DataOffsets[1]
	}
	if got := uint64(size-8) - n; got != end {
		return fmt.Errorf("got %d bytes of data, want %d", got, end)
	}

	for _, b := range blocks {
		if _, dup := dst[b.Name]; dup {
			return fmt.Errorf("tensor %q: listed twice", b.Name)
		}
		raw := make([]byte, b.info.DataOffsets[1]-b.info.DataOffsets[0])
		if _, err := io.ReadFull(r, raw); err != nil {
			return fmt.Errorf("tensor %q: %w", b.Name, short(err))
		}
		if got := hexSum(raw); got != b.SHA256 {
			return fmt.Errorf("tensor %q: got SHA-256 %.12s…, want %.12q…", b.Name, got, b.SHA256)
		}
		data, err := decode(b.info.DType, raw)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", b.Name, err)
		}
		dst[b.Name] = Tensor{Shape: b.Shape, Data: data}
	}
	return nil
}

// agrees reports whether the header's entry has e's type, shape and size and starts at offset.
func (e tensorEntry) agrees(info *safetensors.TensorInfo, offset uint64) error {
	if got := info.DType.String(); got != e.DType {
		return fmt.Errorf("got type %s, want %.12q", got, e.DType)
	}
	n, err := elements(e.Shape)
	if err != nil {
		return err
	}
	same := slices.EqualFunc(info.Shape, e.Shape, func(a uint64, b int) bool { return a == uint64(b) })
	if !same {
		return fmt.Errorf("got shape %v, want %v", info.Shape, e.Shape)
	}
	// elements keeps n·8 within an int, and end cannot wrap: it is at most offset + n·8 twice over.
	want := [2]uint64{offset, offset + uint64(n)*info.DType.Size()}
	if want[1] < offset || info.DataOffsets != want {
		return fmt.Errorf("got offsets %v, want %v", info.DataOffsets, want)
	}
	return nil
}

// compact returns meta without insignificant space; nothing becomes null.
func compact(meta json.RawMessage) (json.RawMessage, error) {
	if len(meta) == 0 {
		return json.RawMessage("null"), nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, meta); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// brief cuts messages that quote a hostile file at length.
func brief(err error) error {
	const limit = 200
	text := err.Error()
	if len(text) <= limit && !strings.Contains(text, "\n") {
		return err
	}
	text = strings.ReplaceAll(text, "\n", " ")
	return errors.New(strings.ToValidUTF8(text[:min(limit, len(text))], "") + "…")
}

// short names the end of a file that should have gone on.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("file is truncated")
	}
	return err
}
