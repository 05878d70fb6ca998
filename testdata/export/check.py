"""Runs exported files in stock ONNX Runtime and compares them with Go's numbers.

    python check.py FOLDER

FOLDER holds energy.onnx, energy-grad.onnx, sampler.onnx, sampler-unrolled.onnx, weights.npz and
weights.safetensors, and what Go made of them (export/onnxfile writes it in a test):

    x.npy, energy.npy, score.npy, grad.npy    inputs, U(x), f(x) and the gradient of U
    x0.npy, noise.npy                         start and noise of a chain, [batch, ...] and [k, batch, ...]
    samples.npy, samples-energy.npy           where Go's step-by-step sampler ended, and U there
    noise.json                                seed, chain numbers and first step of the noise

Needs onnxruntime and numpy. Prints one line for each check; exits with status 1 if one fails.
"""

import importlib.util
import json
import pathlib
import struct
import sys

import numpy as np
import onnxruntime as ort

ONE_CALL = 1e-5  # of the largest value
CHAIN = 1e-4  # of the largest value, after all steps of a chain
FAILED = []


def report(name, ok, text):
    print(f"{'ok  ' if ok else 'FAIL'} {name}: {text}")
    if not ok:
        FAILED.append(name)


def compare(name, got, want, tolerance):
    if got.shape != want.shape or got.dtype != want.dtype:
        report(name, False, f"{got.dtype}{got.shape}, want {want.dtype}{want.shape}")
        return
    off = float(np.max(np.abs(got.astype(np.float64) - want)) / np.max(np.abs(want)))
    report(name, off <= tolerance, f"off by {off:.1e} of the largest value, at most {tolerance:.0e}")


def session(path, level):
    options = ort.SessionOptions()
    if level is not None:
        options.graph_optimization_level = level
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(net, feeds):
    outputs = [o.name for o in net.get_outputs()]
    return dict(zip(outputs, net.run(outputs, feeds)))


def check_settings(folder):
    meta = session(folder / "sampler.onnx", None).get_modelmeta().custom_metadata_map
    keys = "step noise grad_clip clamp data_gain data_offset reference_sigma system data seed".split()
    missing = [k for k in keys if "ebmrun." + k not in meta]
    report("metadata", not missing, f"lacks {missing}" if missing else f"step {meta['ebmrun.step']}, noise {meta['ebmrun.noise']}")


def check_files(folder, load, level, name):
    x = load("x")
    got = run(session(folder / "energy.onnx", level), {"x": x})
    compare(f"energy, {name}", got["energy"], load("energy"), ONE_CALL)
    compare(f"score, {name}", got["score"], load("score"), ONE_CALL)
    got = run(session(folder / "energy-grad.onnx", level), {"x": x})
    compare(f"gradient, {name}", got["grad/x"], load("grad"), ONE_CALL)
    for file in "sampler.onnx", "sampler-unrolled.onnx":
        got = run(session(folder / file, level), {"x0": load("x0"), "noise": load("noise")})
        compare(f"{file}, {name}", got["x"], load("samples"), CHAIN)
        compare(f"{file} energy, {name}", got["energy"], load("samples-energy"), CHAIN)


def check_any_length(folder, load):
    """The sampler in two calls goes where it goes in one."""
    net, noise = session(folder / "sampler.onnx", None), load("noise")
    half = run(net, {"x0": load("x0"), "noise": noise[:7]})["x"]
    got = run(net, {"x0": half, "noise": noise[7:]})
    compare("sampler.onnx in two calls", got["x"], load("samples"), CHAIN)


def check_own_noise(folder, load):
    """Python draws the noise itself and gets Go's samples."""
    path = pathlib.Path(__file__).parent.parent / "noise" / "philox_normal.py"
    spec = importlib.util.spec_from_file_location("philox_normal", path)
    philox = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(philox)
    source, want = json.loads((folder / "noise.json").read_text()), load("noise")
    count = int(np.prod(want.shape[2:]))
    rows = [
        philox.normals(source["seed"], chain, source["step"] + t, count)
        for t in range(want.shape[0])
        for chain in source["chains"]
    ]
    noise = np.array(rows, np.float32).reshape(want.shape)
    report("noise drawn in Python", noise.tobytes() == want.tobytes(), "the same bits as Go's")
    got = run(session(folder / "sampler.onnx", None), {"x0": load("x0"), "noise": noise})
    compare("samples from Python's noise", got["x"], load("samples"), CHAIN)


def check_weights(folder):
    """The two files of weights hold the same tensors."""
    raw = (folder / "weights.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    head, data = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    head.pop("__metadata__", None)
    with np.load(folder / "weights.npz") as arrays:
        same = sorted(head) == sorted(arrays.files) and all(
            info["dtype"] == "F32"
            and info["shape"] == list(arrays[name].shape)
            and data[slice(*info["data_offsets"])] == arrays[name].astype("<f4").tobytes()
            for name, info in head.items()
        )
    report("weights", same, f"{len(head)} tensors, the same in both files")


def main(folder):
    def load(name):
        return np.load(folder / f"{name}.npy")

    print(f"onnxruntime {ort.__version__}, numpy {np.__version__}")
    check_settings(folder)
    check_files(folder, load, None, "default settings")
    check_files(folder, load, ort.GraphOptimizationLevel.ORT_DISABLE_ALL, "optimizations off")
    check_any_length(folder, load)
    check_own_noise(folder, load)
    check_weights(folder)
    print("failed: " + ", ".join(FAILED) if FAILED else "all checks passed")
    return 1 if FAILED else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(pathlib.Path(sys.argv[1])))
