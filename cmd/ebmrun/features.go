package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/backbone"
)

// smallest is the height and width that pictures are enlarged to for a network that
// has seen photographs.
const smallest = 96

// featureNet reads the network of --features, and tells its hash: a file whose first
// output are the features of data as it is, or LAYER of a network with a name, as
// NETWORK:LAYER, whose features are the means of its maps of pictures [C, H, W].
func (c *common) featureNet(ctx context.Context, name string, dims []int) (m *graphs.Model, hash string, err error) {
	net, layer, found := strings.Cut(name, ":")
	_, named := backbone.Nets[net]
	if !named || !found {
		if m, err = onnxio.Read(name); err != nil {
			return nil, "", err
		}
		b, err := os.ReadFile(name)
		return m, fmt.Sprintf("%x", sha256.Sum256(b)), err
	}
	if len(dims) != 3 || dims[1] < 2 || dims[2] < 2 {
		return nil, "", fmt.Errorf("--features %s: wanted pictures, got examples of %v", name, dims)
	}
	of := sha256.New()
	fmt.Fprintln(of, name)
	obtain := weightsOf(ctx, c.say)
	n, err := backbone.Load(backbone.Spec{Net: net, Cut: []string{layer}}, func(name string) (string, error) {
		path, err := obtain(name)
		if err != nil {
			return "", err
		}
		b, err := os.ReadFile(path)
		of.Write(b)
		return path, err
	})
	if err != nil {
		return nil, "", err
	}
	b := graphs.NewBuilder(&graphs.Graph{Name: "features"})
	x := b.Input("x", graphs.Float32, append(graphs.Shape{onnxmodels.Batch}, graphs.MakeShape(dims...)...))
	if times := (smallest + min(dims[1], dims[2]) - 1) / min(dims[1], dims[2]); times > 1 {
		k := float32(times)
		x = b.Op("Resize", []*graphs.Value{x, nil, b.Const(graphs.Of([]float32{1, 1, k, k}, 4))}, graphs.S("mode", "linear"))
	}
	maps, err := n.Append(b, x, backbone.Pixels{Lo: -1, Hi: 1})
	if err != nil {
		return nil, "", err
	}
	h := maps[0]
	if axes := len(h.Shape) - 2; axes > 0 {
		h = b.Mean(h, false, []int64{2, 3}[:axes]...)
	}
	b.Output("features", h)
	g, err := b.Graph()
	if err != nil {
		return nil, "", err
	}
	return graphs.NewModel(g), fmt.Sprintf("%x", of.Sum(nil)), nil
}
