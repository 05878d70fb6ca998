package data

import (
	"path/filepath"
	"strings"
)

// PictureNames lists the pictures that [ReadPictures] reads from a path, in its order, and for each a
// name that tells it from the others: its path below the folder, without the ending.
func PictureNames(path string) (files, names []string, err error) {
	if files, err = pictureFiles(path); err != nil {
		return nil, nil, err
	}
	for _, f := range files {
		name, err := filepath.Rel(path, f)
		if err != nil || name == "." {
			name = filepath.Base(f)
		}
		names = append(names, strings.TrimSuffix(name, filepath.Ext(name)))
	}
	return files, names, nil
}

// PictureSize is the height and width of a picture file in pixels.
func PictureSize(path string) (h, w int, err error) {
	head, err := readHeader(path)
	return head.h, head.w, err
}
