"""Exports the conformance set: for each network a folder with model.onnx and data.safetensors.

    python export.py OUT [NAME...]

`NAME@13` is the export of the older exporter at that opset, `NAME^23` that of the current one at another than 18, `+batch` one with a symbolic batch, `+size` one with symbolic image sizes too.

data.safetensors holds `in/<input>`, `out/<output>`, `cot/<output>` (the cotangent of the output that is differentiated),
`grad/<input>` and `grad/<initializer>`, all from PyTorch's autograd in float64, and float32 autograd's own relative errors
in its metadata. Weights are random; seeds are fixed. A network that cannot be exported leaves a file failed.txt.
What is already there is not exported again, so that an interrupted run goes on where it stopped.
"""
import contextlib
import copy
import io
import json
import math
import os
import shutil
import sys
import time
import warnings
import zlib

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.numpy import save_file

import detectors
import hugging
import libraries
from networks import FILES, SCRIPTED, networks

torch.set_num_threads(1)
torch.backends.mha.set_fastpath_enabled(False)  # its fused ops have no ONNX form

# Networks that are also exported by the older exporter, with the opset. (It writes wrong files of message_passing, where an index occurs
# twice, and of odd_ops; ONNX Runtime refuses its dilated convolution of weight_standardized with auto_pad.)
LEGACY = {
    "torchvision_resnet18": 13, "torchvision_vgg11_bn": 13, "torchvision_mobilenet_v3_small": 14, "torchvision_densenet121": 13, "torchvision_shufflenet_v2_x0_5": 15,
    "torchvision_swin": 16, "torchvision_swin_v2": 17, "torchvision_vit": 14, "torchvision_convnext": 17, "torchvision_lraspp": 13, "timm_levit_128s": 17,
    "timm_pvt_v2_b0": 16, "timm_xcit_nano_12_p8_224": 15, "timm_crossvit_9_240": 14, "timm_efficientformer_l1": 16, "timm_mixer": 13, "unet": 13, "voxels": 13,
    "pointnet": 13, "rnn": 13, "lstm": 14, "lstm_bidirectional_2_layers": 15, "gru": 13, "gru_bidirectional": 17, "realnvp": 13, "deconv_generator": 14, "reflect_padding": 13,
    "spatial_transformer": 16, "flow_warp": 17, "pixel_shuffle": 13, "einsum_attention": 13, "upsample_nearest": 13, "upsample_bilinear": 14, "upsample_bilinear_corners": 13,
    "upsample_bicubic": 13, "cumsum": 14, "topk": 13, "roll": 13, "index_put": 14, "gather_scatter": 16, "where_mask": 13, "norms": 13, "lrn": 13, "weight_norm_mlp": 13,
    "activations": 14, "attention_causal": 14, "avg_pool_padded": 13, "transformer_encoder": 14, "slices": 13, "rms_norm": 13, "unbind_split": 13, "einsum_trace": 13,
    "loop_scripted": 16, "branch_scripted": 16, "while_scripted": 16, "attention_rotary_masked": 17, "attention_alibi": 14, "unet_to_size_bicubic": 11, "unet_to_size_bilinear": 16,
    "unet_to_size_nearest": 13, "torchvision_fpn": 12, "torchvision_retina_head": 13, "torchvision_ssd_head": 11, "deformable": 16, "conv_lstm": 12, "gru_cells": 13,
    "lstm_projected": 14, "mixture_of_experts": 13, "hyper_convolution": 13, "masked_convolutions": 12, "perceiver": 17,
    "volume_upsampling": 13, "sinkhorn": 15,
}


# Networks that are also exported with a symbolic batch, and some with symbolic image sizes too.
BATCH = [
    "torchvision_resnet18", "torchvision_vgg11_bn", "torchvision_mobilenet_v3_small", "torchvision_densenet121", "torchvision_shufflenet_v2_x0_5", "torchvision_swin",
    "torchvision_swin_v2", "torchvision_vit", "torchvision_convnext", "torchvision_efficientnet_b0", "torchvision_lraspp", "torchvision_fcn", "timm_levit_128s",
    "timm_pvt_v2_b0", "timm_xcit_nano_12_p8_224", "timm_mixer", "timm_davit_tiny", "timm_deit_tiny_patch16_224", "timm_poolformer_s12", "timm_res2net50_26w_4s",
    "timm_coat_lite_tiny", "timm_mobilevit_xxs", "timm_edgenext_xx_small", "timm_cait_xxs24_224", "unet", "voxels", "pointnet", "lstm", "gru_bidirectional", "rnn", "realnvp",
    "deconv_generator", "reflect_padding", "flow_warp", "spatial_transformer", "pixel_shuffle", "einsum_attention", "transformer_decoder", "upsample_nearest",
    "upsample_bilinear", "upsample_bicubic", "squeeze_excite", "weight_norm_mlp", "energy_short_run", "cumsum", "topk", "attention_causal", "norms", "where_mask", "slices",
    "unbind_split", "rms_norm", "cross_entropy", "gather_scatter", "attention_rotary_masked", "attention_alibi", "unet_to_size_bicubic", "unet_to_size_bilinear",
    "torchvision_fpn", "torchvision_ssd_head", "conv_lstm", "gru_cells", "mixture_of_experts", "message_passing", "masked_convolutions", "perceiver", "deformable", "sinkhorn",
]
SIZES = ["unet", "squeeze_excite", "torchvision_resnet18", "torchvision_mobilenet_v2", "torchvision_squeezenet1_1", "upsample_nearest", "reflect_padding", "pixel_shuffle",
         "unet_to_size_bicubic", "unet_to_size_bilinear", "unet_to_size_nearest", "torchvision_fpn"]


# The same networks and others from the current exporter at later opsets.
NEWER = hugging.NEWER | {
    "attention_causal": [23], "attention_grouped": [23], "rms_norm": [23], "transformer_decoder": [21, 23], "unet": [20, 22], "torchvision_vit": [23], "torchvision_swin_v2": [23],
    "lstm_bidirectional_2_layers": [22], "gru_bidirectional": [23], "spatial_transformer": [20, 22], "flow_warp": [20], "upsample_bicubic": [22], "voxels": [22], "norms": [23],
    "activations": [22], "torchvision_resnet18": [23], "topk": [23], "deconv_generator": [22], "reflect_padding": [22], "attention_rotary_masked": [23], "fft_power": [20],
}
LEGACY |= hugging.LEGACY | detectors.LEGACY | libraries.LEGACY
BATCH += hugging.BATCH
SIZES += hugging.SIZES


def strip_traces(model):
    """Drops the stack traces that the exporter leaves on nodes: they name files of this machine."""
    for nodes in [model.graph.node] + [f.node for f in model.functions]:
        for n in nodes:
            del n.metadata_props[:]
            n.doc_string = ""


def loosen(m):
    """Constant weights (zeros, ones) hide paths and leave statistics trivial: make them random."""
    for p in m.parameters():
        if p.is_floating_point() and p.numel() and (p.numel() == 1 or p.float().std() < 1e-6):
            p.data.add_(0.2 * torch.randn_like(p))
    for name, b in m.named_buffers():
        if name.endswith("running_mean"):
            b.data = 0.3 * torch.randn_like(b)
        elif name.endswith("running_var"):
            b.data = 0.5 + torch.rand_like(b)


BATCH_NORM = torch.nn.functional.batch_norm
DETACH = torch.Tensor.detach


def affine_batch_norm(x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """F.batch_norm in evaluation mode, written out. PyTorch 2.15's own backward pass is wrong on the CPU for a batch of one
    whose slope comes in through flatten(2).transpose(1, 2), as behind a convolutional stem of a transformer."""
    if training:  # the weights of a network without normalisation layers are standardized so
        return BATCH_NORM(x, mean, var, weight, bias, training, momentum, eps)
    shape = [1, -1] + [1] * (x.ndim - 2)
    y = (x - mean.view(shape)) / torch.sqrt(var.view(shape) + eps)
    if weight is not None:
        y = y * weight.view(shape)
    return y if bias is None else y + bias.view(shape)


@contextlib.contextmanager
def written_out():
    """Slopes of what a file computes: it holds no trace of a detached value."""
    torch.nn.functional.batch_norm, torch.Tensor.detach = affine_batch_norm, lambda x: x
    try:
        with detectors.slopes_of_regions():
            yield
    finally:
        torch.nn.functional.batch_norm, torch.Tensor.detach = BATCH_NORM, DETACH


def difference(m, inputs, cot, gx):
    """The relative error of the slopes gx along themselves, by a central difference in float64."""
    norm = math.sqrt(sum(float((g**2).sum()) for g in gx if g is not None))
    h = 1e-5 / max(norm, 1e-30)
    moved = lambda s: [x if g is None else x + s * g for x, g in zip(inputs, gx)]
    value = lambda s: float((first(m(*moved(s))) * cot).sum())
    with torch.no_grad():
        return abs((value(h) - value(-h)) / (2 * h) - norm**2) / max(norm**2, 1e-30)


def first(y):
    return y[0] if isinstance(y, (tuple, list)) else y


def gradients(m, inputs, cot):
    with written_out():
        return autograd(m, inputs, cot)


def autograd(m, inputs, cot):
    params = dict(m.named_parameters())
    inputs = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    y = first(m(*inputs))
    wanted = [x for x in inputs if x.requires_grad] + [p for p in params.values() if p.requires_grad]
    got = iter(torch.autograd.grad((y * cot.to(y.dtype)).sum(), wanted, allow_unused=True))
    zero = lambda g, x: (torch.zeros_like(x) if g is None else g).data
    gx = [zero(next(got), x) if x.requires_grad else None for x in inputs]  # integers have none
    gp = {k: zero(next(got), p) for k, p in params.items() if p.requires_grad}
    return y.data, gx, gp


def relative(a, b):
    a, b = a.double(), b.double()
    return float((a - b).norm() / max(float(b.norm()), 1e-30))


def run(name, legacy, out, symbolic="", opset=18):
    label = name + (f"@{legacy}" if legacy else "") + (f"^{opset}" if opset != 18 else "") + (f"+{symbolic}" if symbolic else "")
    dst = os.path.join(out, label)
    if any(os.path.exists(os.path.join(dst, f)) for f in ("data.safetensors", "failed.txt")):
        return
    shutil.rmtree(dst, ignore_errors=True)
    os.makedirs(dst)
    start = time.time()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            export(name, legacy, dst, symbolic, opset)
        print(f"{label}: {time.time() - start:.0f} s", flush=True)
    except Exception as e:  # a failed export is a result, too
        text = f"{type(e).__name__}: {e}"
        for f in os.listdir(dst):
            os.remove(os.path.join(dst, f))
        open(os.path.join(dst, "failed.txt"), "w").write(text)
        print(f"{label}: {text.splitlines()[0][:300]}", flush=True)


def axes_of(axes):
    return {k: torch.export.Dim.DYNAMIC for k in axes}


def export(name, legacy, dst, symbolic, opset):
    torch.manual_seed(zlib.crc32(name.encode()))
    m, inputs, *file = FILES[name]() if name in FILES else networks[name]()
    m.eval()
    if not file:
        loosen(m)
        m.eval()
    floating = lambda x, dtype: x.to(dtype) if x.is_floating_point() else x
    inputs = tuple(floating(x, torch.float32) for x in inputs)
    if symbolic and inputs[0].shape[0] == 1:  # a batch of one would be taken for a constant
        inputs = tuple(torch.cat([x, x.flip(-1)]) for x in inputs)
    with torch.no_grad():
        y = first(m(*inputs))
    cot = torch.randn_like(y)
    y32, gx32, gp32 = gradients(m, inputs, cot)
    meta = {"truth": "float64"}
    try:
        m64, in64 = copy.deepcopy(m).double(), [floating(x, torch.float64) for x in inputs]
        y, gx, gp = gradients(m64, in64, cot)
        meta["difference"] = f"{difference(m64, in64, cot, gx):.1e}"
        meta["self/out"] = f"{relative(y32, y):.2e}"
        meta["self/in"] = f"{max((relative(a, b) for a, b in zip(gx32, gx) if b is not None), default=0):.2e}"
    except RuntimeError:
        y, gx, gp, meta["truth"] = y32, gx32, gp32, "float32"
    names = [f"x{i}" for i in range(len(inputs))] if len(inputs) > 1 else ["x"]
    path = os.path.join(dst, "model.onnx")
    axes = {0: "batch", **({2: "height", 3: "width"} if symbolic == "size" else {})} if symbolic else None
    if file:
        onnx.save(file[0], path)
    elif legacy:
        with torch.no_grad():
            torch.onnx.export(m, inputs, path, dynamo=False, opset_version=legacy, input_names=names, output_names=["y"],
                              dynamic_axes={n: axes for n in names} if symbolic else None)
    else:
        torch.onnx.export(m, inputs, path, dynamo=True, opset_version=opset, input_names=names, output_names=["y"], external_data=False, verbose=False,
                          dynamic_shapes=tuple(axes_of(axes) for _ in names) if symbolic else None)
    model = onnx.load(path)
    strip_traces(model)
    onnx.save(model, path)
    out = model.graph.output[0].name
    data = {"in/" + n: x.float().numpy() for n, x in zip(names, inputs)}
    data["out/" + out], data["cot/" + out] = y.numpy(), cot.double().numpy()
    for n, g in zip(names, gx):
        if g is not None:
            data["grad/" + n] = g.numpy()
    # Initializers are found by value: exporters rename and transpose them.
    known = {}
    for k, p in m.named_parameters():
        if k in gp and p.numel() > 1:
            v = p.detach().float().numpy()
            known.setdefault((v.shape, zlib.crc32(v.tobytes())), []).append((k, False))
            if v.ndim == 2:
                t = np.ascontiguousarray(v.T)
                known.setdefault((t.shape, zlib.crc32(t.tobytes())), []).append((k, True))
    found, taken, total = 0, set(), 0
    for init in model.graph.initializer:
        a = numpy_helper.to_array(init)
        if a.dtype != np.float32 or a.size <= 1:
            continue
        total += 1
        hits = known.get((a.shape, zlib.crc32(np.ascontiguousarray(a).tobytes())), [])
        if len({k for k, _ in hits}) != 1 or hits[0][0] in taken:
            continue
        k, t = hits[0]
        taken.add(k)
        g = gp[k].numpy()
        data["grad/" + init.name] = np.ascontiguousarray(g.T if t else g)
        found += 1
    meta["parameters"] = json.dumps({"compared": found, "of": len(gp)})
    meta["ops"] = json.dumps(sorted({n.op_type for n in model.graph.node}))
    save_file({k: np.ascontiguousarray(v).reshape(v.shape) for k, v in data.items()}, os.path.join(dst, "data.safetensors"), metadata=meta)


if __name__ == "__main__":
    out, chosen = sys.argv[1], sys.argv[2:]
    if not chosen:
        chosen = sorted(networks, key=lambda n: n.startswith(("torchvision", "timm")))
    for name in chosen:
        name, _, symbolic = name.partition("+")
        name, _, newer = name.partition("^")
        name, _, opset = name.partition("@")
        if opset or newer or symbolic:  # this one alone
            run(name, int(opset) if opset else None, out, symbolic, int(newer or 18))
            continue
        if name not in SCRIPTED:
            run(name, None, out)
        if name in LEGACY:
            run(name, LEGACY[name], out)
        for opset in NEWER.get(name, []):
            run(name, None, out, opset=opset)
        if name in BATCH:
            run(name, None, out, "batch")
            if name in LEGACY:
                run(name, LEGACY[name], out, "batch")
        if name in SIZES:
            run(name, None, out, "size")
            if name in LEGACY:
                run(name, LEGACY[name], out, "size")
