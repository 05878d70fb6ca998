//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package record

// Lock keeps nothing here.
func Lock(string) (release func() error, err error) { return func() error { return nil }, nil }
