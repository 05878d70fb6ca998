"""What PyTorch makes of the real networks: reference.json, which TestReference compares with.

    pip install torch torchvision timm onnx
    python reference.py mobilenet_v2-b0353104.pth efficientnet-lite0-57934424.pth vit_s_focus.onnx > reference.json

`ebmrun data mobilenet-v2`, `efficientnet-lite0` and `vit-s` obtain the three files. Pictures are
x[n, c, i, j] = 0.8·sin((c+1)·(0.11·i + 0.07·j) + n), in [−1, 1]. f = Σ θ·h with θ = 0.1, 0.2, 0.3, 0.1, … over the
features h [K, …] of a cut; given are f, and some numbers of ∂f/∂x with its norm.
"""
import json
import sys

import numpy as np
import onnx
import timm
import torch
import torchvision
from onnx import numpy_helper
from torch.nn import functional as F

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)


def pictures(n, side):
    b, c, i, j = np.meshgrid(np.arange(n), np.arange(3), np.arange(side), np.arange(side), indexing="ij")
    return torch.tensor(np.float32(0.8 * np.sin((c + 1) * (0.11 * i + 0.07 * j) + b)), dtype=torch.float64, requires_grad=True)


def imagenet(x):
    """[−1, 1] to what torchvision's networks expect."""
    return ((x + 1) / 2 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def lite(x):
    return ((x + 1) / 2 * 255 - 127) / 128


def vit(file):
    """DINOv2's ViT-S/14, by hand, on the weights of an export."""
    graph = onnx.load(file).graph
    w = {i.name: torch.tensor(numpy_helper.to_array(i).astype("f8")) for i in graph.initializer}
    made = {n.output[0]: n for n in graph.node}
    matrix = lambda name: w[made[name + "/MatMul_output_0"].input[1]]
    table = lambda name: w[name] if name in w else torch.tensor(numpy_helper.to_array(made[name].attribute[0].t).astype("f8"))

    def run(x):
        h = F.conv2d(x, w["backbone.embeddings.patch_embeddings.projection.weight"], w["backbone.embeddings.patch_embeddings.projection.bias"], stride=14)
        places = table(made["/backbone/embeddings/Reshape_1_output_0"].input[0]).reshape(1, 37, 37, -1).permute(0, 3, 1, 2)
        places = F.interpolate(places, size=h.shape[2:], mode="bicubic", align_corners=False)
        first = (w["backbone.embeddings.cls_token"] + table(made["/backbone/embeddings/Concat_6_output_0"].input[0])).expand(len(x), -1, -1)
        h = torch.cat([first, (h + places).flatten(2).transpose(1, 2)], 1)
        out = {}
        for k in range(12):
            p, q = f"backbone.encoder.layer.{k}.", f"/backbone/encoder/layer.{k}/"
            linear = lambda y, name: y @ matrix(q + name) + w[p + name.replace("/", ".") + ".bias"]
            norm = lambda y, name: F.layer_norm(y, y.shape[-1:], w[p + name + ".weight"], w[p + name + ".bias"], 1e-6)
            heads = lambda y: y.unflatten(2, (6, -1)).transpose(1, 2)
            y = norm(h, "norm1")
            y = F.scaled_dot_product_attention(*(heads(linear(y, f"attention/attention/{n}")) for n in ("query", "key", "value")))
            h = h + linear(y.transpose(1, 2).flatten(2), "attention/output/dense") * w[p + "layer_scale1.lambda1"]
            h = h + linear(F.gelu(linear(norm(h, "norm2"), "mlp/fc1")), "mlp/fc2") * w[p + "layer_scale2.lambda1"]
            out[f"block{k + 1}"] = h.transpose(1, 2)
        return out

    return run


def mobilenet(file):
    net = torchvision.models.mobilenet_v2()
    net.load_state_dict(torch.load(file, weights_only=True))
    net.double().eval()

    def run(x):
        out, h = {}, net.features[0](x)
        for k, block in enumerate(net.features[1:-1], 1):
            for part, name in enumerate(["expand", "depthwise"] if k > 1 else ["depthwise"], 1):
                out[f"block{k}/{name}"] = block.conv[:part](h)
            h = out[f"block{k}"] = block(h)
        out["head"] = net.features[-1](h)
        out["logits"] = net.classifier(out["head"].mean((2, 3)))
        return out

    return run


def efficientnet(file):
    net = timm.create_model("tf_efficientnet_lite0")
    own, state = net.state_dict(), torch.load(file, weights_only=True)
    net.load_state_dict(dict(zip(own, state.values(), strict=True)))  # both list them from the picture to the logits
    net.double().eval()

    def run(x):
        out, h, k = {}, net.bn1(net.conv_stem(x)), 0
        for stage in net.blocks:
            for block in stage:
                k += 1
                h = out[f"block{k}"] = block(h)
        out["head"] = net.bn2(net.conv_head(h))
        out["logits"] = net.classifier(out["head"].mean((2, 3)))
        return out

    return run


def main():
    table = []
    for net, run, prepare, side, cuts in [
        ("mobilenet-v2", mobilenet(sys.argv[1]), imagenet, 64, ["block1", "block3/expand", "block7/depthwise", "block14", "head", "logits"]),
        ("mobilenet-v2", mobilenet(sys.argv[1]), imagenet, 45, ["block7"]),
        ("efficientnet-lite0", efficientnet(sys.argv[2]), lite, 64, ["block1", "block5", "block12", "head", "logits"]),
        ("efficientnet-lite0", efficientnet(sys.argv[2]), lite, 45, ["block5"]),
        ("vit-s", vit(sys.argv[3]), imagenet, 56, ["block1", "block6", "block12"]),
    ]:
        x = pictures(2, side)
        features = run(prepare(x))
        for cut in cuts:
            h = features[cut]
            theta = torch.tensor(np.float32(0.1) * (1 + np.arange(h[0].numel()) % 3)).double().reshape(h.shape[1:])
            f = (h * theta).flatten(1).sum(1)
            (g,) = torch.autograd.grad(f.sum(), x, retain_graph=True)
            flat = g.flatten()
            at = [int(k) for k in np.linspace(0, flat.numel() - 1, 7)]
            table.append({"net": net, "cut": cut, "side": side, "f": f.tolist(), "norm": flat.norm().item(), "at": at, "grad": flat[at].tolist()})
    print("[\n" + ",\n".join(" " + json.dumps(row) for row in table) + "\n]")


main()
