"""Langevin steps of the workloads of `ebmrun bench` in PyTorch on a graphics processor.

    python langevin_cuda.py [WORKLOAD ...]

prints a line of JSON for each, run eagerly and as a CUDA graph of one step that is
replayed. float32 stays float32 (no TF32), noise is drawn on the device, the state
stays there, and the median is over nine chains.
"""
import json
import statistics
import sys
import time

import torch
from torch import nn


def short_run(n):
    act = lambda: nn.LeakyReLU(0.05)  # noqa: E731
    return nn.Sequential(
        nn.Conv2d(3, n, 3, 1, 1), act(),
        nn.Conv2d(n, 2 * n, 4, 2, 1), act(),
        nn.Conv2d(2 * n, 4 * n, 4, 2, 1), act(),
        nn.Conv2d(4 * n, 8 * n, 4, 2, 1), act(),
        nn.Conv2d(8 * n, 1, 4))


def dense(d, n):
    return nn.Sequential(nn.Linear(d, n), nn.LeakyReLU(0.05), nn.Linear(n, n), nn.LeakyReLU(0.05), nn.Linear(n, 1))


# network, shape of x, steps per chain
WORKLOADS = {
    "sr16": (lambda: short_run(16), (64, 3, 32, 32), 20),
    "sr32": (lambda: short_run(32), (16, 3, 32, 32), 20),
    "sr64": (lambda: short_run(64), (32, 3, 32, 32), 20),
    "mlp2d": (lambda: dense(2, 128), (1000, 2), 200),
    "latent": (lambda: dense(100, 200), (100, 100), 200),
}


def measure(name, way):
    torch.manual_seed(1)
    build, shape, steps = WORKLOADS[name]
    net = build().requires_grad_(False).cuda()
    start, size = torch.randn(shape, device="cuda"), 0.01

    def step(x):
        x.requires_grad_(True)
        g, = torch.autograd.grad(-net(x).sum(), x)
        return x.detach().sub_(g, alpha=size * size / 2).add_(torch.randn_like(x), alpha=size)

    if way == "graph":
        x = start.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step(x.clone())
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            x.copy_(step(x.clone()))

    def chain():
        if way == "graph":
            x.copy_(start)
            for _ in range(steps):
                graph.replay()
        else:
            y = start.clone()
            for _ in range(steps):
                y = step(y)
        torch.cuda.synchronize()

    chain()
    times = []
    for _ in range(9):
        t = time.perf_counter()
        chain()
        times.append(time.perf_counter() - t)
    return 1e3 * statistics.median(times) / steps


torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
for name in sys.argv[1:] or WORKLOADS:
    for way in ("eager", "graph"):
        if name in WORKLOADS:
            print(json.dumps({"workload": name, "way": way, "ms_per_step": measure(name, way), "provider": f"torch {torch.__version__}"}), flush=True)
