package data

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Sizes that meshes get where none is asked for.
const (
	defaultGrid   = 32   // voxels along each side
	defaultPoints = 1024 // points of a set
)

// A mesh is triangles, or points alone where it has none.
type mesh struct {
	v [][3]float64
	f [][3]int
}

// meshFormats read the files that hold a shape.
var meshFormats = map[string]func(io.Reader) (*mesh, error){".obj": readOBJ, ".off": readOFF, ".xyz": readXYZ}

func isMesh(path string) bool { return meshFormats[strings.ToLower(filepath.Ext(path))] != nil }

// meshLine splits the lines of a text and refuses more vertices or faces than a set could hold.
func meshLines(r io.Reader, line func(f []string) error) error {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for n := 1; in.Scan(); n++ {
		text, _, _ := strings.Cut(in.Text(), "#")
		f := strings.Fields(text)
		if len(f) == 0 {
			continue
		}
		if n > maxPixels {
			return fmt.Errorf("more than %d lines", maxPixels)
		}
		if err := line(f); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return in.Err()
}

func (m *mesh) vertex(f []string) error {
	if len(f) < 3 {
		return fmt.Errorf("%d coordinates, want 3", len(f))
	}
	var p [3]float64
	for i := range p {
		v, err := strconv.ParseFloat(f[i], 64)
		if err != nil || math.Abs(v) > 1e15 || math.IsNaN(v) {
			return fmt.Errorf("coordinate %.20q, want a finite number", f[i])
		}
		p[i] = v
	}
	m.v = append(m.v, p)
	return nil
}

// face adds a polygon as a fan of triangles; base is the number of the first vertex, and negative
// numbers count from the last one where that is 1.
func (m *mesh) face(f []string, base int) error {
	if len(f) < 3 {
		return fmt.Errorf("face of %d corners, want at least 3", len(f))
	}
	at := make([]int, len(f))
	for i, t := range f {
		t, _, _ = strings.Cut(t, "/")
		k, err := strconv.Atoi(t)
		if err == nil && k < 0 && base == 1 {
			k += len(m.v) + 1
		}
		if k -= base; err != nil || k < 0 || k >= len(m.v) {
			return fmt.Errorf("corner %.20q of a face, want one of %d vertices", f[i], len(m.v))
		}
		at[i] = k
	}
	for i := 2; i < len(at); i++ {
		m.f = append(m.f, [3]int{at[0], at[i-1], at[i]})
	}
	return nil
}

// readOBJ reads the vertices and faces of a Wavefront file; everything else in it is passed over.
func readOBJ(r io.Reader) (*mesh, error) {
	m := &mesh{}
	return m, meshLines(r, func(f []string) error {
		switch f[0] {
		case "v":
			return m.vertex(f[1:])
		case "f":
			return m.face(f[1:], 1)
		}
		return nil
	})
}

// readOFF reads an Object File Format: the word OFF, the numbers of vertices, faces and edges, then as
// many lines of the first two.
func readOFF(r io.Reader) (*mesh, error) {
	m := &mesh{}
	var counts []int
	err := meshLines(r, func(f []string) error {
		if counts == nil {
			if rest, ok := strings.CutPrefix(f[0], "OFF"); ok {
				if f = f[1:]; rest != "" {
					f = append([]string{rest}, f...)
				}
			}
			for _, t := range f {
				n, err := strconv.Atoi(t)
				if err != nil || n < 0 {
					return fmt.Errorf("%.20q, want a number of vertices and of faces", t)
				}
				counts = append(counts, n)
			}
			return nil
		}
		if len(m.v) < counts[0] {
			return m.vertex(f)
		}
		n, err := strconv.Atoi(f[0])
		if err != nil || n < 1 || n > len(f)-1 {
			return fmt.Errorf("face of %.20q corners in a line of %d numbers", f[0], len(f))
		}
		if n < 3 {
			return nil
		}
		return m.face(f[1:n+1], 0)
	})
	if err == nil && (len(counts) < 2 || len(m.v) < counts[0]) {
		err = io.ErrUnexpectedEOF
	}
	return m, err
}

// readXYZ reads a table of points, one a line.
func readXYZ(r io.Reader) (*mesh, error) {
	m := &mesh{}
	return m, meshLines(r, m.vertex)
}

// fit moves the mesh so that the middle of its bounding box lies at the origin and the box's longest
// side spans [-1, 1].
func (m *mesh) fit() error {
	if len(m.v) == 0 {
		return fmt.Errorf("no vertex")
	}
	lo, hi := m.v[0], m.v[0]
	for _, p := range m.v {
		for i := range p {
			lo[i], hi[i] = min(lo[i], p[i]), max(hi[i], p[i])
		}
	}
	side := max(hi[0]-lo[0], hi[1]-lo[1], hi[2]-lo[2])
	if side <= 0 {
		return fmt.Errorf("all vertices lie at one place")
	}
	for k := range m.v {
		for i := range m.v[k] {
			m.v[k][i] = (2*m.v[k][i] - lo[i] - hi[i]) / side
		}
	}
	return nil
}

func (m *mesh) area(f [3]int) float64 {
	var a, b [3]float64
	for i := range a {
		a[i], b[i] = m.v[f[1]][i]-m.v[f[0]][i], m.v[f[2]][i]-m.v[f[0]][i]
	}
	return math.Sqrt(sq(a[1]*b[2]-a[2]*b[1])+sq(a[2]*b[0]-a[0]*b[2])+sq(a[0]*b[1]-a[1]*b[0])) / 2
}

func sq(v float64) float64 { return v * v }

// sample draws points evenly over the surface, or n of the points of a mesh without faces.
func (m *mesh) sample(n int, r *rand.Rand, to func(i int, p [3]float64)) {
	if len(m.f) == 0 {
		perm := r.Perm(len(m.v))
		for i := range n {
			to(i, m.v[perm[i%len(perm)]])
		}
		return
	}
	sum := make([]float64, len(m.f))
	total := 0.0
	for k, f := range m.f {
		total += m.area(f)
		sum[k] = total
	}
	for i := range n {
		k, _ := slices.BinarySearch(sum, r.Float64()*total)
		f := m.f[min(k, len(m.f)-1)]
		a, b := math.Sqrt(r.Float64()), r.Float64()
		var p [3]float64
		for j := range p {
			p[j] = (1-a)*m.v[f[0]][j] + a*(1-b)*m.v[f[1]][j] + a*b*m.v[f[2]][j]
		}
		to(i, p)
	}
}

// fill sets the voxels of a size³ grid [z, y from the top, x] that the surface passes through or
// encloses. What is enclosed is what cannot be reached from outside through faces of empty voxels.
func (m *mesh) fill(grid []float32, size int) {
	const empty, full = -1, 1
	for i := range grid {
		grid[i] = empty
	}
	cell := func(v float64) int { return max(0, min(size-1, int((v+1)/2*float64(size)))) }
	mark := func(p [3]float64) { grid[(cell(p[2])*size+cell(-p[1]))*size+cell(p[0])] = full }
	for _, p := range m.v {
		mark(p)
	}
	for _, f := range m.f {
		// Steps of a third of a voxel along the longest side of the triangle.
		long := 0.0
		for i := range f {
			d := 0.0
			for j := range 3 {
				d += sq(m.v[f[i]][j] - m.v[f[(i+1)%3]][j])
			}
			long = max(long, d)
		}
		steps := int(math.Ceil(math.Sqrt(long) * float64(size) * 1.5))
		for a := 0; a <= steps; a++ {
			for b := 0; a+b <= steps; b++ {
				u, v := float64(a)/float64(max(1, steps)), float64(b)/float64(max(1, steps))
				var p [3]float64
				for j := range p {
					p[j] = (1-u-v)*m.v[f[0]][j] + u*m.v[f[1]][j] + v*m.v[f[2]][j]
				}
				mark(p)
			}
		}
	}
	outside := make([]bool, len(grid))
	var queue []int
	reach := func(z, y, x int) {
		if min(z, y, x) < 0 || max(z, y, x) >= size {
			return
		}
		if i := (z*size+y)*size + x; !outside[i] && grid[i] == empty {
			outside[i] = true
			queue = append(queue, i)
		}
	}
	for a := range size {
		for b := range size {
			for _, e := range []int{0, size - 1} {
				reach(e, a, b)
				reach(a, e, b)
				reach(a, b, e)
			}
		}
	}
	for len(queue) > 0 {
		i := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		z, y, x := i/size/size, i/size%size, i%size
		for _, d := range []int{-1, 1} {
			reach(z+d, y, x)
			reach(z, y+d, x)
			reach(z, y, x+d)
		}
	}
	for i := range grid {
		if !outside[i] {
			grid[i] = full
		}
	}
}

// ReadMeshes reads shapes, OBJ, OFF or XYZ files: one, or all those below a folder in the order of
// their paths, and turns each into a volume of size³ voxels (0: 32) or into so many points of its
// surface (0: 1024). Every shape is centred and its longest side spans [-1, 1]; y points up. Folders in
// the folder are classes, as those of [ReadPictures].
func ReadMeshes(path string, as Kind, size, points, limit int) (*Set, error) {
	files, err := filesOf(path, isMesh, ".obj, .off or .xyz")
	if err != nil {
		return nil, err
	}
	size, points = cmp.Or(size, defaultGrid), cmp.Or(points, defaultPoints)
	n := len(files)
	if limit > 0 {
		n = min(n, limit)
	}
	s := &Set{Name: filepath.Base(path), Kind: as, N: n, C: 1, H: points, W: 3, Lo: -1, Hi: 1, Gain: 1}
	if as == Voxels {
		s.D, s.H, s.W, s.Gain, s.Offset = size, size, size, 2, -1
	}
	if err := checkSize(s.Name, s.N, s.planes(), s.H, s.W); err != nil {
		return nil, err
	}
	s.Floats = make([]float32, s.N*s.Dim())
	for i, f := range files[:n] {
		m, err := open(f, func(r io.Reader) (*mesh, error) {
			m, err := meshFormats[strings.ToLower(filepath.Ext(f))](r)
			if err == nil {
				err = m.fit()
			}
			if err == nil && as == Voxels && len(m.f) == 0 {
				err = fmt.Errorf("no faces, which voxels want")
			}
			return m, err
		})
		if err != nil {
			return nil, err
		}
		if as == Voxels {
			m.fill(s.At(i), size)
			continue
		}
		x := s.At(i)
		m.sample(points, rand.New(rand.NewPCG(uint64(i), meshStream)), func(k int, p [3]float64) {
			for j := range p {
				x[3*k+j] = float32(p[j])
			}
		})
	}
	s.classesFrom(path, files, span(s.N))
	return s, nil
}
