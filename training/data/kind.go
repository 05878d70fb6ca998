package data

import (
	"fmt"
	"strings"
)

// A Kind says what the examples of a set are.
type Kind uint8

const (
	Plain  Kind = iota // pictures [C, H, W], or vectors [C] where H and W are 1
	Video              // clips [C, D, H, W] of D frames
	Voxels             // volumes [C, D, H, W]: full is Hi, empty is Lo
	Cloud              // point sets [H, W]: H points, in no order, of W coordinates
	Path               // trajectories [H, W]: W values at each of H moments
)

var kindNames = []string{"pictures", "video", "voxels", "points", "paths"}

func (k Kind) String() string { return kindNames[k] }

// KindOf is the kind of a name: pictures, video, voxels, points or paths. The empty name is Plain.
func KindOf(name string) (Kind, error) {
	for i, n := range kindNames {
		if n == name {
			return Kind(i), nil
		}
	}
	if name == "" {
		return Plain, nil
	}
	return 0, fmt.Errorf("data: kind %q, want one of %s", name, strings.Join(kindNames, ", "))
}

// deep reports whether examples have an axis of frames or of depth.
func (k Kind) deep() bool { return k == Video || k == Voxels }

// Dims is the shape of one example as networks see it: [C] for vectors, [C, H, W] for pictures,
// [C, D, H, W] for clips and volumes, [H, W] for point sets and trajectories.
func (s *Set) Dims() []int {
	switch {
	case s.Kind == Cloud || s.Kind == Path:
		return []int{s.H, s.W}
	case s.Kind.deep():
		return []int{s.C, s.D, s.H, s.W}
	case s.IsVectors():
		return []int{s.C}
	}
	return []int{s.C, s.H, s.W}
}

// IsVectors reports whether examples are vectors, such as points in the plane.
func (s *Set) IsVectors() bool { return s.Kind == Plain && s.H == 1 && s.W == 1 }

// planes is the number of H×W planes of one example.
func (s *Set) planes() int { return s.C * max(1, s.D) }

// MarshalText implements [encoding.TextMarshaler].
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *Kind) UnmarshalText(b []byte) (err error) {
	*k, err = KindOf(string(b))
	return err
}
