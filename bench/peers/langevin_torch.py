"""Langevin steps of the workloads of `ebmrun bench`, in PyTorch eager mode.

    python langevin_torch.py WORKLOAD [CHAINS [cpu|cuda|cuda-graph]]

prints the same JSON. Run it alone: two libraries in one process disturb each
other's threads. On the graphics processor float32 stays float32 (no TF32), noise is
drawn there, and cuda-graph records one step and replays it.
"""
import json
import statistics
import sys
import time

import torch
from torch import nn


def short_run(n):
    act = lambda: nn.LeakyReLU(0.05)
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


def main():
    name = sys.argv[1]
    chains = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    way = sys.argv[3] if len(sys.argv) > 3 else "cpu"
    device = "cpu" if way == "cpu" else "cuda"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(1)
    build, shape, steps = WORKLOADS[name]
    net = build().requires_grad_(False).to(device)
    start, size = torch.randn(shape, device=device), 0.01

    def step(x):
        x.requires_grad_(True)
        g, = torch.autograd.grad(-net(x).sum(), x)
        return x.detach().sub_(g, alpha=size * size / 2).add_(torch.randn_like(x), alpha=size)

    def chain():
        x = start.clone()
        for _ in range(steps):
            x = step(x)
        return x

    if way == "cuda-graph":
        x = start.clone()
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                step(x.clone())
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            moved = step(x.clone())
            x.copy_(moved)

        def chain():
            x.copy_(start)
            for _ in range(steps):
                graph.replay()
            return x

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    chain()
    wait()
    times = []
    for _ in range(chains):
        t = time.perf_counter()
        chain()
        wait()
        times.append(time.perf_counter() - t)
    peak = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))
    print(json.dumps({"workload": name, "ms_per_step": 1e3 * statistics.median(times) / steps,
                      "peak_mb": peak / 1024, "provider": f"torch {torch.__version__} {way}", "fused": False}))


main()
