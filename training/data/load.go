package data

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ebmrun/training/check"
)

// Options say how [Load] presents a data set. The zero value takes everything as it comes.
type Options struct {
	Size  int  // height in pixels, and width unless Width is set; 0 keeps the pictures' own size
	Width int  // width in pixels, if it is not Size
	Grey  bool // one channel in place of three

	// Stretch brings pictures to Size by stretching them, and cuts nothing off those of another shape.
	Stretch bool

	// Part is "train", "test" or "". Data with a test part of its own uses that one; other data is
	// split at random, the same way every time, HeldOut of it (0 means 0.1) into "test". The empty
	// part is the training part where the data comes with a test part, otherwise all of it.
	Part    string
	HeldOut float64

	// As says what a path holds, where that is not pictures or vectors: a folder of frames is a clip as
	// Video, an array of three axes point sets as Cloud or trajectories as Path.
	As     Kind
	Frames int // cut clips, and the trajectories of files, into pieces of so many moments; of synthetic clips their length
	Points int // so many points of each point set, drawn at random where there are more; of synthetic sets their number

	// Given makes data of single examples paired: "grey", "edges" or "hole" derive what each picture is
	// to be drawn from, and anything else is a name or path of a set aligned with this one.
	Given string
	// Depth is a folder of how near is what the pictures of the folder Given show, brighter where it is
	// nearer, or with Far where it is farther: a fourth channel.
	Depth string
	Far   bool

	Classes []int  // only examples with these labels; nil takes all
	Limit   int    // at most so many examples, of several Classes each in turn, or how many to draw of synthetic data; 0 means all, or the default
	Patches int    // so many windows of Size×Width cut at random places, instead of resized pictures
	Seed    uint64 // of synthetic data and of Patches

	rounds bool // pictures are kept as the nearest bytes

	Progress func(line string) // told about downloads; may be nil

	// obtain is [Obtain], for readers that want another package too.
	obtain func(ctx context.Context, name string, progress func(string)) (string, error)
}

func (o Options) height() int { return o.Size }

func (o Options) width() int {
	if o.Width > 0 {
		return o.Width
	}
	return o.Size
}

func (o Options) heldOut() float64 {
	if o.HeldOut > 0 {
		return o.HeldOut
	}
	return 0.1
}

func (o Options) check() error {
	if min(o.Size, o.Width, o.Limit, o.Patches, o.Frames, o.Points) < 0 {
		return fmt.Errorf("data: size %d, width %d, limit %d, patches %d, frames %d, points %d: want no negative number", o.Size, o.Width, o.Limit, o.Patches, o.Frames, o.Points)
	}
	if o.Size == 0 && (o.Width > 0 || o.Patches > 0) {
		return fmt.Errorf("data: a width or a number of patches wants a size too")
	}
	if o.Part != "" && o.Part != "train" && o.Part != "test" {
		return fmt.Errorf("data: part %q, want train, test or nothing", o.Part)
	}
	if o.HeldOut < 0 || o.HeldOut >= 1 {
		return fmt.Errorf("data: held-out share %g, want 0 … 1", o.HeldOut)
	}
	return nil
}

func unknown(name string) error {
	names := make([]string, len(Sources))
	for i, s := range Sources {
		names[i] = s.Name
	}
	return fmt.Errorf("data: %q is neither a file or folder nor a name; %s", name, check.Instead(name, names))
}

// Load reads a data set by its name in [Sources], obtaining it first where needed, or by its path. A
// path may be a folder laid out like MNIST's (train-images-idx3-ubyte, with or without .gz), a folder
// of pictures, one picture, an IDX file of pictures, an .npy array, a .csv table, an animated GIF or an
// AVI file; [Options] As tells of folders and arrays that hold something else. A name goes before a
// path; ./NAME is always a path.
func Load(ctx context.Context, nameOrPath string, o Options) (*Set, error) {
	given, err := o.condition(ctx, nameOrPath)
	if err != nil {
		return nil, err
	}
	o.Depth, o.rounds = "", given != nil && given.N*given.Dim() > MaxValues // the larger one of a pair decides for both
	s, err := single(ctx, nameOrPath, o)
	if err == nil && o.Given != "" {
		err = s.pair(given, o)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// single is Load without what is given.
func single(ctx context.Context, nameOrPath string, o Options) (*Set, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if s, ok := Lookup(nameOrPath); ok && s.draw != nil {
		t, err := s.draw.set(s.Name, o)
		if err != nil {
			return nil, err
		}
		return t.finish(o, true)
	} else if ok {
		path, err := Obtain(ctx, nameOrPath, o.Progress)
		if err != nil {
			return nil, err
		}
		o.As, o.obtain = s.as, Obtain
		var t *Set
		if s.read != nil {
			limit := o.Limit
			if o.Part != "" || o.Classes != nil || o.Patches > 0 {
				limit = 0
			}
			if t, err = s.read(ctx, path, o, limit); err == nil {
				t, err = t.finish(o, false)
			}
		} else {
			t, err = loadPath(path, o)
		}
		if err != nil {
			return nil, err
		}
		t.Name = s.Name
		return t, nil
	}
	if _, err := os.Stat(nameOrPath); err != nil {
		if strings.ContainsAny(nameOrPath, `/\.`) && !strings.HasPrefix(nameOrPath, "synthetic/") {
			return nil, fmt.Errorf("data: %w", err)
		}
		return nil, unknown(nameOrPath)
	}
	return loadPath(nameOrPath, o)
}

// loadPath chooses the reader. Readers get the limit only where no later step has to choose among
// more examples than it leaves.
func loadPath(path string, o Options) (*Set, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	limit := o.Limit
	if o.Classes != nil || o.Patches > 0 {
		limit = 0
	}
	if st.IsDir() {
		part := o.Part
		if part == "" {
			part = "train"
		}
		if images, labels, ok := idxFolder(path, part); ok {
			s, err := ReadIDX(images, labels, limit)
			if err != nil {
				return nil, err
			}
			s.Name = filepath.Base(path)
			return s.finish(o, true)
		}
	}
	if _, clip := clipFormatOf(path); o.As == Plain && (st.IsDir() || isPicture(path) && !clip) {
		of := o
		if of.Limit = limit; o.Patches > 0 {
			of.Size, of.Width = 0, 0
		}
		s, err := ReadPicturesAs(path, of)
		if err != nil {
			return nil, err
		}
		return s.finish(o, true)
	}
	if o.Part != "" {
		limit = 0
	}
	s, err := readPath(path, o, limit)
	if err != nil {
		return nil, err
	}
	return s.finish(o, false)
}

// readPath reads what neither is a picture nor a folder of them.
func readPath(path string, o Options, limit int) (*Set, error) {
	name := strings.ToLower(filepath.Base(path))
	_, clip := clipFormatOf(path)
	switch {
	case strings.HasSuffix(name, ".npy"):
		return ReadNPYAs(path, o.As)
	case o.As == Video, o.As == Plain && clip:
		return ReadClips(path, o.Frames, o.height(), o.width(), o.Grey, limit)
	case o.As == Path && strings.HasSuffix(name, ".csv"):
		return ReadPaths(path, o.Frames)
	case o.As.deep() || o.As == Cloud:
		return ReadMeshes(path, o.As, o.Size, o.Points, limit)
	case o.As != Plain:
		return nil, fmt.Errorf("data: %s: %s are read from .npy and .csv files", path, o.As)
	case strings.HasSuffix(name, ".csv"):
		return ReadCSV(path)
	case name == "digits.csv.gz":
		return readDigits(path)
	case strings.Contains(name, "idx"):
		return ReadIDX(path, "", limit)
	}
	return nil, fmt.Errorf("data: %s: want a folder, a picture (.png, .jpg, .bmp, .tif, .pgm, .ppm), .npy, .csv, .gif, .avi, .webp or an IDX file", path)
}

// readDigits reads the UCI digits: 64 pixels of 0 … 16 and a label in each row.
func readDigits(path string) (*Set, error) {
	t, err := open(path, func(r io.Reader) (*Set, error) {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		return readCSV(z, path)
	})
	if err != nil {
		return nil, err
	}
	if t.C != 65 {
		return nil, fmt.Errorf("data: %s: %d columns, want 64 pixels and a label", path, t.C)
	}
	s, err := newSet(t.Name, t.N, 1, 8, 8)
	if err != nil {
		return nil, err
	}
	s.Gain = 2.0 / 16
	s.Labels = make([]int, s.N)
	for i := range s.N {
		row := t.At(i)
		for j, v := range row[:64] {
			s.At(i)[j] = float32(float64(v)*s.Gain + s.Offset)
		}
		s.Labels[i] = int(row[64])
	}
	return s, nil
}

// evenly takes the first examples of every class in turn, at most limit of them: many sets are sorted by
// class.
func (s *Set) evenly(limit int) (*Set, error) {
	of, most := map[int][]int{}, 0
	for i, l := range s.Labels {
		of[l] = append(of[l], i)
		most = max(most, len(of[l]))
	}
	var index []int
	for k := 0; k < most && len(index) < limit; k++ {
		for _, l := range slices.Sorted(maps.Keys(of)) {
			if k < len(of[l]) && len(index) < limit {
				index = append(index, of[l][k])
			}
		}
	}
	return s.Subset(index)
}

// finish applies the options that hold for every kind of data, in this order: part (unless the reader
// chose it), classes, limit, grey, patches or size.
func (s *Set) finish(o Options, parted bool) (*Set, error) {
	var err error
	if o.Part != "" && !parted {
		train, test, err := s.Split(o.heldOut(), 1)
		if err != nil {
			return nil, err
		}
		if s = train; o.Part == "test" {
			s = test
		}
	}
	if o.Classes != nil {
		if s, err = s.OfClass(o.Classes...); err != nil {
			return nil, err
		}
	}
	if o.Limit > 0 && len(o.Classes) > 1 {
		s, err = s.evenly(o.Limit)
	} else if o.Limit > 0 {
		s = s.Head(o.Limit)
	}
	if err != nil {
		return nil, err
	}
	if o.Grey {
		if s, err = s.Grey(); err != nil {
			return nil, err
		}
	}
	switch {
	case o.Size > 0 && s.Lo == s.Hi:
		return nil, fmt.Errorf("data: %s: vectors of %d values have no size in pixels", s.Name, s.Dim())
	case s.Kind != Plain && s.Kind != Video:
	case o.Patches > 0:
		s, err = s.Patches(o.Patches, o.height(), o.width(), o.Seed)
	case o.Size > 0:
		s, err = o.fit(s, o.height(), o.width())
	}
	if err != nil {
		return nil, err
	}
	return s, s.Check()
}
