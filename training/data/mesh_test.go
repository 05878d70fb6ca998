package data

import (
	"context"
	"math"
	"path/filepath"
	"strings"
	"testing"
)

// A closed cube from 0 to 10 with an edge of its bounding box twice as long as the others.
const boxOBJ = `# a box
v 0 0 0
v 20 0 0
v 20 10 0
v 0 10 0
v 0 0 10
v 20 0 10
v 20 10 10
v 0 10 10
vt 0 0
f 1/1 2/1 3/1 4/1
f 5 8 7 6
f -8 -4 -3 -7
f 4 3 7 8
f 1 4 8 5
f 2 6 7 3
`

func TestMeshes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "box/1.obj", []byte(boxOBJ))
	write(t, dir, "flat/2.off", []byte("OFF 4 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n"))
	s, err := Load(context.Background(), dir, Options{As: Voxels, Size: 12})
	if err != nil {
		t.Fatal(err)
	}
	if s.N != 2 || s.Kind != Voxels || s.D != 12 || s.Labels[1] != 1 || s.Classes[0] != "box" || s.Raw(1) != 1 || s.Raw(-1) != 0 {
		t.Fatalf("%d of %v, labels %v", s.N, s.Dims(), s.Labels)
	}
	// The box fills its whole width and half of height and depth, its inside too.
	count := 0
	for _, v := range s.At(0) {
		if v == 1 {
			count++
		}
	}
	if s.At(0)[(6*12+6)*12+6] != 1 || s.At(0)[(6*12+1)*12+6] != -1 || count < 12*6*6 || count > 12*8*8 {
		t.Errorf("a box of 12×6×6 fills %d voxels", count)
	}
	p, err := Load(context.Background(), dir, Options{As: Cloud, Points: 4000})
	if err != nil {
		t.Fatal(err)
	}
	onEnds := 0
	for i := range p.H {
		x, y, z := p.At(0)[3*i], p.At(0)[3*i+1], p.At(0)[3*i+2]
		near := func(v, at float32) bool { return math.Abs(math.Abs(float64(v-at))) < 1e-5 }
		ends := near(x, 1) || near(x, -1)
		if ends {
			onEnds++
		}
		if !ends && !near(y, 0.5) && !near(y, -0.5) && !near(z, 0.5) && !near(z, -0.5) || max(x, -x) > 1 || max(y, -y) > 0.50001 {
			t.Fatalf("point %v, %v, %v lies off the surface", x, y, z)
		}
	}
	// The ends are 2 of the 10 units of surface.
	if share := float64(onEnds) / 4000; math.Abs(share-0.2) > 0.03 {
		t.Errorf("%g of the points lie on the ends, want 0.2", share)
	}
	for want, c := range map[string]struct {
		name, text string
		as         Kind
	}{
		"line 2: corner \"9\"":     {"x.obj", "v 0 0 1\nf 1 9 1", Voxels},
		"coordinate \"NaN\"":       {"x.obj", "v 0 NaN 1", Voxels},
		"2 coordinates":            {"x.xyz", "1 2", Cloud},
		"no vertex":                {"x.obj", "f", Cloud},
		"at one place":             {"x.xyz", "1 2 3", Cloud},
		"cut short":                {"x.off", "OFF\n3 1 0\n0 0 0\n", Cloud},
		"no faces":                 {"x.xyz", "1 2 3\n4 5 6", Voxels},
		"want .obj, .off or .xyz":  {"x.png", "", Voxels},
		"face of \"5\" corners in": {"x.off", "OFF\n1 1 0\n0 0 0\n5 0 0", Cloud},
	} {
		if want == "no vertex" {
			c.text = "vn 0 0 1"
		}
		_, err := Load(context.Background(), write(t, t.TempDir(), c.name, []byte(c.text)), Options{As: c.as})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), c.name) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

func FuzzMesh(f *testing.F) {
	f.Add([]byte(boxOBJ), true)
	f.Add([]byte("OFF 3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"), false)
	f.Fuzz(func(t *testing.T, b []byte, obj bool) {
		name := "fuzz.off"
		if obj {
			name = "fuzz.obj"
		}
		path := write(t, t.TempDir(), name, b)
		s, err := ReadMeshes(path, Voxels, 5, 0, 0)
		checked(t, s, err)
		s, err = ReadMeshes(path, Cloud, 0, 7, 0)
		checked(t, s, err)
	})
}

func TestPaths(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "p.csv", []byte("id,x,y\n1,1,2\n1,3,4\n1,5,6\n7,1,1\n7,2,2\n7,9,9\n"))
	s, err := Load(context.Background(), filepath.Join(dir, "p.csv"), Options{As: Path})
	if err != nil || s.N != 2 || s.H != 3 || s.W != 2 || s.At(1)[4] != 9 || s.Kind != Path {
		t.Errorf("%+v, %v", s, err)
	}
	s, err = Load(context.Background(), filepath.Join(dir, "p.csv"), Options{As: Path, Frames: 2})
	if err != nil || s.N != 2 || s.H != 2 || s.At(1)[3] != 2 {
		t.Errorf("pieces: %+v, %v", s, err)
	}
	if _, err := Load(context.Background(), filepath.Join(dir, "p.csv"), Options{As: Path, Frames: 4}); err == nil || !strings.Contains(err.Error(), "no trajectory has 4 rows") {
		t.Errorf("too long: %v", err)
	}
	if _, err := Load(context.Background(), filepath.Join(dir, "p.csv"), Options{As: Path, Size: 4}); err == nil {
		t.Error("trajectories have a size in pixels")
	}
}
