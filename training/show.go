package training

import (
	"fmt"

	"ebmrun/training/data"
	"ebmrun/training/record"
)

// Images are examples x shaped and scaled as those of a set of pictures.
func Images(like *data.Set, x []float32) record.Images {
	return record.Images{Data: x, N: len(x) / like.Dim(), C: like.C, H: like.H, W: like.W, Lo: like.Lo, Hi: like.Hi}
}

// Show is a picture of examples x shaped and scaled as those of a set: pictures as they are, clips as
// rows of frames, volumes by their surface, points and trajectories as drawings. Of channels the first
// three are shown where there are more, otherwise the first. Vectors have no picture.
func Show(tag string, like *data.Set, x []float32) (Picture, error) {
	s, n := like, len(x)/like.Dim()
	if s.IsVectors() {
		return Picture{}, fmt.Errorf("%s: vectors of %d values have no picture", s.Name, s.Dim())
	}
	p := Picture{Tag: tag}
	c := 1 // shown
	if s.C >= 3 && s.Kind != data.Voxels {
		c = 3
	}
	x = channels(x, n, s, c)
	var err error
	switch {
	case s.Kind == data.Video:
		p.Rows, err = record.Frames(x, n, c, s.D, s.H, s.W, s.Lo, s.Hi)
	case s.Kind == data.Voxels:
		p.Images, err = record.Volumes(x, n, s.D, s.H, s.W, (s.Lo+s.Hi)/2)
	case s.Kind == data.Cloud:
		p.Images, err = record.Points(x, n, s.H, s.W, max(s.Hi, -s.Lo))
	case s.Kind == data.Path:
		p.Images, err = record.Tracks(x, n, s.H, s.W)
	default:
		p.Images = record.Images{Data: x, N: n, C: c, H: s.H, W: s.W, Lo: s.Lo, Hi: s.Hi}
	}
	return p, err
}

// channels keeps the first c channels of n examples.
func channels(x []float32, n int, s *data.Set, c int) []float32 {
	if c == s.C {
		return x
	}
	plane := s.Dim() / s.C
	out := make([]float32, 0, n*c*plane)
	for i := range n {
		out = append(out, x[i*s.Dim():][:c*plane]...)
	}
	return out
}
