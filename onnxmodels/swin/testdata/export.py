"""Writes the Swin transformers that TestOfficial reads: exports of timm's and torchvision's code, and what they compute.

Versions: bench/conformance/requirements.txt. NAME.f32 holds, as little-endian float32, the pictures [2, 3, 16, 16],
weight and bias of the last normalisation [8], and the features after it [2, 4, 4, 8].
"""
import gzip

import torch
from timm.models.swin_transformer import SwinTransformer as Timm
from torchvision.models.swin_transformer import SwinTransformer as Vision

torch.manual_seed(0)
timm = Timm(img_size=16, patch_size=2, window_size=4, embed_dim=4, depths=(2, 1), num_heads=(1, 2), num_classes=3).eval()
vision = Vision([2, 2], 4, [2, 1], [1, 2], [4, 4], stochastic_depth_prob=0.0, num_classes=3).eval()
x = torch.randn(2, 3, 16, 16)
for name, m, features in ("timm", timm, timm.forward_features), ("torchvision-17", vision, lambda x: vision.norm(vision.features(x))):
    with torch.no_grad():
        for n, p in m.named_parameters():
            p.copy_(0.3 * torch.randn_like(p))
            if "norm" in n and n.endswith("weight") or n == "features.0.2.weight":
                p.add_(1)
        parts = x, m.norm.weight, m.norm.bias, features(x)
    if name == "timm":
        torch.onnx.export(m, (x,), "swin.onnx", dynamo=True, opset_version=18, external_data=False)
    else:
        torch.onnx.export(m, (x,), "swin.onnx", dynamo=False, opset_version=17)
    with open("swin.onnx", "rb") as f, gzip.GzipFile(name + ".onnx.gz", "wb", mtime=0) as z:
        z.write(f.read())
    with open(name + ".f32", "wb") as f:
        for p in parts:
            f.write(p.detach().numpy().astype("<f4").tobytes())
