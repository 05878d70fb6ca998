//go:build !cgo

package ort

import (
	"strings"
	"testing"
)

func TestOpenWithoutCgo(t *testing.T) {
	if _, err := Open(""); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=1") {
		t.Errorf("wanted an error that says how to turn cgo on, got %v", err)
	}
	if d := Diagnose(t.Context(), ""); d.Cgo || len(d.Advice) == 0 || !strings.Contains(d.Advice[0], "cgo") {
		t.Errorf("diagnosis: %+v", d)
	}
}
