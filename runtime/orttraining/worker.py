"""Serves ONNX Runtime 1.19.2's training build to another process.

A message is two little-endian uint32, the length of a JSON header and the number
of blobs, the header, and the blobs, each a uint64 length and the bytes. Requests
come on standard input and carry "call" and "op"; replies go to the file that was
standard output and carry the same "call" and either results or "error". Calls run
in threads, so that one can be ended while it is under way.
"""

import ctypes
import functools
import glob
import importlib.machinery
import importlib.util
import json
import os
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

replies = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # whatever the library prints is no reply
requests = os.fdopen(os.dup(0), "rb")
writing = threading.Lock()


def extension():
    """The library's extension module, without the packages around it."""
    name = "onnxruntime_pybind11_state"
    for folder in sys.path:
        for file in glob.glob(os.path.join(folder, "onnxruntime", "capi", name + ".*")):
            if not file.endswith((".so", ".pyd")):
                continue
            loader = importlib.machinery.ExtensionFileLoader(name, file)
            spec = importlib.util.spec_from_file_location(name, file, loader=loader)
            module = importlib.util.module_from_spec(spec)
            loader.exec_module(module)
            return module, file
    raise ImportError("no onnxruntime-training in " + sys.executable)


def folders():
    """Where NVIDIA's Python packages keep their libraries."""
    found = []
    for folder in sys.path:
        found += glob.glob(os.path.join(folder, "nvidia", "*", "lib"))
    return sorted(found)


@functools.cache
def preload():
    """Load those libraries, which the loader does not look for there: one that was
    loaded is found by its name. They need each other, so as often as one more loads."""
    waiting, before = [f for d in folders() for f in glob.glob(os.path.join(d, "lib*.so*"))], None
    while len(waiting) != before:
        before, again = len(waiting), []
        for file in waiting:
            try:
                ctypes.CDLL(file, mode=ctypes.RTLD_GLOBAL)
            except OSError:
                again.append(file)
        waiting = again


ort, library = extension()
ort.set_default_logger_severity(4)
objects, running = {}, {}
lock = threading.Lock()
count = 0


def keep(thing):
    global count
    with lock:
        count += 1
        objects[count] = thing
        return count


def exactly(stream, n):
    data = stream.read(n)
    if len(data) < n:
        os._exit(0)  # the other side is gone
    return data


def receive():
    size, blobs = struct.unpack("<II", exactly(requests, 8))
    header = json.loads(exactly(requests, size))
    parts = []
    for _ in range(blobs):
        (n,) = struct.unpack("<Q", exactly(requests, 8))
        parts.append(exactly(requests, n))
    return header, parts


def reply(header, blobs=()):
    text = json.dumps(header).encode()
    with writing:
        replies.write(struct.pack("<II", len(text), len(blobs)))
        replies.write(text)
        for b in blobs:
            replies.write(struct.pack("<Q", len(b)))
            replies.write(b)
        replies.flush()


def options(h):
    so = ort.SessionOptions()
    so.log_severity_level = 4
    level = ort.GraphOptimizationLevel
    so.graph_optimization_level = {
        "all": level.ORT_ENABLE_ALL,
        "extended": level.ORT_ENABLE_EXTENDED,
        "basic": level.ORT_ENABLE_BASIC,
        "none": level.ORT_DISABLE_ALL,
    }[h.get("level", "all")]
    so.intra_op_num_threads = h.get("threads", 0)
    if h.get("no_spin"):
        so.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if h.get("no_arena"):
        so.enable_cpu_mem_arena = False
        so.enable_mem_pattern = False
    return so


def session(model, h):
    if "CUDAExecutionProvider" in h.get("providers", []):
        preload()
    s = ort.InferenceSession(options(h), model, False, True)
    s.initialize_session(h.get("providers", []), h.get("provider_options", []), set())
    return s


def arrays(metas, blobs):
    return [np.frombuffer(b, dtype=m["type"]).reshape(m["dims"]) for m, b in zip(metas, blobs)]


def packed(values):
    values = [np.asarray(v, order="C") for v in values]
    metas = [{"type": v.dtype.str, "dims": list(v.shape)} for v in values]
    return metas, [v.reshape(-1).view(np.uint8).data if v.size else b"" for v in values]


def hello(h, blobs):
    return {
        "version": ort.get_version_string(),
        "providers": ort.get_available_providers(),
        "python": sys.version.split()[0],
        "path": library,
        "names": folders(),
    }, ()


def compile_(h, blobs):
    s = session(blobs[0], h)
    return {"id": keep(s), "providers": s.get_providers()}, ()


def run(h, blobs):
    feeds = dict(zip(h["inputs"], arrays(h["tensors"], blobs)))
    how = ort.RunOptions()
    with lock:
        running[h["call"]] = how
    try:
        out = objects[h["id"]].run(h["outputs"], feeds, how)
    finally:
        with lock:
            running.pop(h["call"], None)
    metas, data = packed(out)
    return {"tensors": metas}, data


def cancel(h, blobs):
    with lock:
        how = running.get(h["target"])
        if how is not None:
            how.terminate = True
    return {}, ()


def close(h, blobs):
    objects.pop(h["id"], None)
    return {}, ()


def gradient(h, blobs):
    b = ort.GradientGraphBuilder(blobs[0], {h["of"]}, set(h["wrt"]), h["of"])
    b.build()
    return {}, [b.get_model()]


def module(h, blobs):
    """Training artifacts in a folder: their state, module and, if there is one, optimizer."""
    device = ort.OrtDevice(ort.OrtDevice.cpu(), ort.OrtDevice.default_memory(), 0)
    state = ort.load_checkpoint(h["checkpoint"])
    m = ort.Module(h["train"], state, None, device, options(h))
    o = ort.Optimizer(h["optimizer"], state, device, options(h)) if h.get("optimizer") else None
    training = True
    return {
        "id": keep((state, m, o)),
        "inputs": m.input_names(training),
        "outputs": m.output_names(training),
    }, ()


def train(h, blobs):
    """One step on each batch: gradients, update, gradients reset."""
    state, m, o = objects[h["id"]]
    out, feeds = ort.OrtValueVector(), ort.OrtValueVector()
    cpu = ort.OrtDevice(ort.OrtDevice.cpu(), ort.OrtDevice.default_memory(), 0)
    given = arrays(h["tensors"], blobs)  # the feeds point into these
    for a in given:
        feeds.push_back(ort.OrtValue.ortvalue_from_numpy(a, cpu))
    m.train_step_with_ort_values(feeds, out)
    got = [v.numpy() for v in out]
    if o is not None and h.get("update", True):
        if "lr" in h:
            o.set_learning_rate(h["lr"])
        o.optimizer_step()
        m.lazy_reset_grad()
    metas, data = packed(got)
    return {"tensors": metas}, data


def parameters(h, blobs):
    state, _, _ = objects[h["id"]]
    names = list(state.parameter_names())
    got = [state.get_parameter(n).data.numpy() for n in names]
    metas, data = packed(got)
    return {"names": names, "tensors": metas}, data


def save(h, blobs):
    state, _, _ = objects[h["id"]]
    ort.save_checkpoint(state, h["path"], h.get("optimizer_state", True))
    return {}, ()


ops = {
    "hello": hello, "compile": compile_, "run": run, "cancel": cancel, "close": close, "gradient": gradient,
    "module": module, "train": train, "parameters": parameters, "save": save,
}


def answer(h, blobs):
    try:
        header, data = ops[h["op"]](h, blobs)
        header["call"] = h["call"]
    except BaseException as e:  # the other side decides what an error means
        header, data = {"call": h["call"], "error": " ".join(str(e).split()) or type(e).__name__}, ()
    reply(header, data)


def main():
    pool = ThreadPoolExecutor(8)
    while True:
        h, blobs = receive()
        if h["op"] in ("cancel", "hello"):
            answer(h, blobs)
        else:
            pool.submit(answer, h, blobs)


main()
