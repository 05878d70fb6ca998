//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package record

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestLock: one writer at a time, another after it.
func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "run")
	release, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second lock: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	again, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
