"""Measures every workload of `ebmrun bench`, ours and other programs', and writes the tables of docs/performance.md.

    python3 bench/measure.py [--minutes 15] [--only PART,...] [--torch PYTHON] [--render]

Every run is a process of its own. Rounds go through all programs in turn until the time is over, at least once; tables show medians over
the rounds and, in a process, over its chains. PYTHON (EBM_TORCH) is an interpreter with bench/requirements.txt; without it there are no
other programs. Parts: workloads, loop, threads, bf16, first, scaling, noise. Lines are kept in bin/bench.jsonl; --render only writes the tables.
"""
import argparse
import json
import math
import os
import pathlib
import platform
import re
import statistics
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
EBMRUN, TEST, LINES, REFERENCE = ROOT / "bin/ebmrun", ROOT / "bin/bench.test", ROOT / "bin/bench.jsonl", ROOT / "bin/bench-reference"
PAGE = ROOT / "docs/performance.md"

TORCH = ["eager", "channels-last", "compile"]
OURS = [("cpu", "no"), ("cpu", "yes"), ("openvino", "no"), ("openvino", "yes")]
NAMES = {("cpu", "no"): "CPU", ("cpu", "yes"): "CPU, fused", ("openvino", "no"): "OpenVINO", ("openvino", "yes"): "OpenVINO, fused"}
# workload: our forms, other programs
WORKLOADS = {
    "sr16": (OURS, TORCH + ["jax", "torchebm"]),
    "sr32": (OURS, TORCH + ["jax", "torchebm", "onnx-ad"]),
    "sr64": (OURS, TORCH + ["jax", "torchebm"]),
    "mlp2d": (OURS, ["eager", "compile", "jax", "torchebm"]),
    "latent": (OURS, ["eager", "compile", "jax", "torchebm"]),
    "posterior": (OURS[::2], TORCH),
    "convnet-iteration": (OURS, TORCH),
    "coopnets-iteration": (OURS, TORCH),
    "latent-ebm-iteration": (OURS, TORCH),
    "flow": (OURS[:1], ["eager", "compile"]),
    "vgg16": (OURS[::2], TORCH + ["jax", "onnx-ad"]),
    "swin-t": (OURS[::2], TORCH[::2] + ["onnx-ad"]),
    "matmul": (OURS[::2], ["eager"]),
}
LOOP = [("sr32", "bare"), ("sr32", "still"), ("sr64", "bare"), ("sr64", "still"),
        ("mlp2d", "bare"), ("mlp2d", "still"), ("mlp2d", "bare-fused"), ("mlp2d", "fused")]  # fmt: skip
CALLS = {"sr16": 100, "sr32": 150, "sr64": 40, "mlp2d": 3000, "mlp2d fused": 150, "latent": 5000}
THREADS = {"one": "one thread", "spinning": "threads within operators, spinning", "sleeping": "the same, sleeping", "parts": "parts of the batch side by side"}
SCALING = [("batch", "sr32", b) for b in (1, 4, 16, 64, 256)] + [("steps", "mlp2d", n) for n in (10, 100, 1000)] + [("side", "sr16", s) for s in (16, 32, 64, 128)]


def run(command, limit=180):
    """The last line of a program's output, and what went wrong."""
    try:
        p = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=limit, cwd=ROOT)
    except subprocess.TimeoutExpired:
        return "", f"no answer in {limit} s"
    errors = [line for line in p.stderr.splitlines() if line.strip()]
    return p.stdout, "" if p.returncode == 0 else (errors or ["failed"])[-1]


class Bench:
    def __init__(self, torch, minutes):
        self.torch, self.begin, self.minutes = torch, time.monotonic(), minutes
        self.out = open(LINES, "w")
        self.lines, self.refused = [], set()

    def left(self):
        return self.minutes * 60 - (time.monotonic() - self.begin)

    def keep(self, **line):
        self.lines.append(line)
        self.out.write(json.dumps(line) + "\n")
        self.out.flush()

    def measure(self, part, key, command):
        """One run that prints JSON. A program that refuses is not asked again."""
        if (part, *key) in self.refused:
            return
        start = time.monotonic()
        out, error = run(command)
        if error:
            self.refused.add((part, *key))
            self.keep(part=part, key=key, error=error)
            print(f"{part} {key}: {error}")
            return
        at = json.loads(out)
        self.keep(part=part, key=key, seconds=time.monotonic() - start, **at)
        print(f"{part} {key}: {at['ms_per_step']:.4g} ms, {at['peak_mb']:.0f} MB, first step after {at['first_step_s']:.2f} s", flush=True)

    def ready(self):
        """Writes down what each workload starts from and comes to."""
        REFERENCE.mkdir(parents=True, exist_ok=True)
        if self.torch:
            out, error = run([self.torch, "-c", "import torch,platform;print(torch.__version__)"])
            if error:
                raise SystemExit(f"{self.torch}: {error}")
            if not (REFERENCE / "swin-t.onnx").exists():
                _, error = run([self.torch, "bench/peers/peer.py", "export", "swin-t", REFERENCE], 300)
                if error:
                    print("swin-t:", error)
        for w in WORKLOADS:
            if w != "matmul":
                _, error = run([EBMRUN, "bench", self.file(w), "--write", REFERENCE, "--provider", "cpu", "--quiet"])
                if error:
                    print(f"{w}: {error}")

        for w, (forms, _) in WORKLOADS.items():
            for provider, fused in forms:
                if provider != "cpu":  # the first run compares providers, which takes time and memory
                    run([EBMRUN, "bench", self.file(w), "--first", "--provider", provider, "--quiet", *self.how(w, fused)])

    def how(self, w, fused):
        return ["--fused", fused] if w not in ("posterior", "flow", "vgg16", "swin-t", "matmul") else []

    def file(self, workload):
        return REFERENCE / "swin-t.onnx" if workload == "swin-t" else workload

    def workload(self, w):
        forms, peers = WORKLOADS[w]
        for provider, fused in forms:
            self.measure("workloads", [w, NAMES[provider, fused]],
                         [EBMRUN, "bench", self.file(w), "--json", "--quiet", "--chains", 7, "--provider", provider, *self.how(w, fused)])  # fmt: skip
        for mode in peers if self.torch else []:
            self.measure("workloads", [w, mode], [self.torch, "bench/peers/peer.py", mode, w, REFERENCE, 7])

    def benchmark(self, part, key, pattern, calls):
        """One Go benchmark, in a process of its own."""
        out, error = run([TEST, "-test.run", "^$", "-test.bench", pattern, "-test.benchtime", f"{calls}x"])
        found = re.search(r"([0-9.]+) ms", out)
        if error or not found:
            print(part, *key, error or out)
            return
        self.keep(part=part, key=key, ms_per_step=float(found[1]))
        print(part, *key, found[1], "ms", flush=True)

    def loop(self):
        for net, form in LOOP:
            for provider in ("cpu", "openvino"):
                self.benchmark("loop", [net, form, provider], f"^BenchmarkLoop$/^{form}$/^{net}$/^{provider}$", CALLS[net + " fused" if "fused" in form else net])

    def threads(self):
        for net in ("sr16", "sr32", "mlp2d", "latent"):
            for way in THREADS:
                self.benchmark("threads", [net, way], f"^BenchmarkThreads$/^{net}$/^{way}$", CALLS[net])

    def bf16(self):
        for precision in ("float32", "bf16"):
            self.measure("bf16", [precision], [EBMRUN, "bench", "sr64", "--json", "--quiet", "--chains", 7, "--fused", "no", "--provider", "openvino", "--precision", precision])

    def first(self):
        for provider in ("cpu", "openvino"):
            for w in ("sr32", "mlp2d", "convnet-iteration"):
                self.measure("first", [w, provider], [EBMRUN, "bench", w, "--first", "--json", "--quiet", "--provider", provider])

    def scaling(self):
        for what, w, n in SCALING:
            more = ["--steps", 10] if what == "side" or n == 256 else []
            self.measure("scaling", [what, w, n], [EBMRUN, "bench", w, f"--{what}", n, "--json", "--quiet", "--chains", 7, "--fused", "no", "--provider", "openvino", *more])

    def noise(self):
        out, _ = run(["go", "test", "-run", "^$", "-bench", "Normals", "./training/sampler"])
        for procs, ns in re.findall(r"procs=(\d+)\S*\s.*?([0-9.]+) ns/normal", out):
            self.keep(part="noise", key=[int(procs)], ns=float(ns))
            print("noise", procs, ns, "ns", flush=True)


def machine():
    info = pathlib.Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
    model = re.search(r"model name\s*: (.*)", info)
    extra = [name for flag, name in (("avx512f", "AVX-512"), ("avx512_bf16", "AVX512-BF16"), ("amx_tile", "AMX")) if re.search(rf"\b{flag}\b", info)]
    return f"{os.cpu_count()} × {model[1] if model else platform.machine()}{' with ' + ', '.join(extra) if extra else ''}, {platform.system()}"


# Tables.


def rows(lines, part):
    """Lines of a part by key."""
    by = {}
    for line in lines:
        if line["part"] == part and "error" not in line:
            by.setdefault(tuple(line["key"]), []).append(line)
    return by


def median(lines, field="ms_per_step"):
    return statistics.median(line[field] for line in lines)


def figure(v):
    return f"{v:.3g}" if v < 1000 else f"{v:.0f}"


def cell(lines):
    """Median of the rounds, their spread where there are several, and memory."""
    if not lines:
        return "–"
    of = [line["ms_per_step"] for line in lines]
    spread = f" {figure(min(of))}–{figure(max(of))}" if len(of) > 1 else ""
    return f"{figure(statistics.median(of))}{spread} ({median(lines, 'peak_mb'):.0f})"


def table(head, body):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + ["| " + " | ".join(r) + " |" for r in body])


def tables(lines):
    by, errors = rows(lines, "workloads"), {tuple(line["key"]): line["error"] for line in lines if "error" in line}
    ours, out = [n for n in NAMES.values()], {}
    heads = [*ours, *TORCH, "jax", "torchebm", "onnx-ad"]
    show = [h for h in heads if any((w, h) in by for w in WORKLOADS)]
    names = {"eager": "PyTorch eager", "channels-last": "channels-last", "compile": "torch.compile", "jax": "JAX"}

    def of(w, head):
        got = by.get((w, head))
        return cell(got) if got else "refused" if (w, head) in errors else ""

    mine = [h for h in show if h in ours]
    theirs = [h for h in show if h not in ours]
    if mine:
        out["ours"] = table(["workload", *mine], [[f"`{w}`", *[of(w, h) for h in mine]] for w in WORKLOADS if any((w, h) in by for h in mine)])
    if theirs:
        out["peers"] = table(["workload", *[names.get(h, h) for h in theirs]], [[f"`{w}`", *[of(w, h) for h in theirs]] for w in WORKLOADS if any((w, h) in by for h in theirs)])
    best = {}
    for w in WORKLOADS:
        us = {h: median(by[w, h]) for h in ours if (w, h) in by}
        them = {h: median(by[w, h]) for h in TORCH if (w, h) in by}
        others = {h: median(by[w, h]) for h in ("jax", "torchebm", "onnx-ad") if (w, h) in by}
        if us:
            best[w] = (min(us, key=us.get), us, min(them, key=them.get) if them else "", them, others)
    ratios = []
    for w, (a, us, b, them, others) in best.items():
        if w == "matmul" or not b:
            continue
        least, cpu = min(median(by[w, h], "peak_mb") for h in them), min((h for h in us if h.startswith("CPU")), key=us.get, default=a)
        ratios.append([f"`{w}`", a, names.get(b, b), f"{them[b] / us[a]:.2f}", ", ".join(f"{names.get(h, h)} {v / us[a]:.2f}" for h, v in others.items()) or "–",
                       f"{median(by[w, a], 'peak_mb') / least:.2f}", f"{them[b] / us[cpu]:.2f}, {median(by[w, cpu], 'peak_mb') / least:.2f}"])  # fmt: skip
    if ratios:
        out["ratios"] = table(["workload", "our best", "PyTorch's best", "times as fast", "against others", "memory, share of PyTorch's least", "both, CPU provider"], ratios)
        conv = [best[w][3][best[w][2]] / best[w][1][best[w][0]] for w in ("sr16", "sr32", "sr64") if w in best and best[w][2]]
        if len(conv) == 3:
            out["ratios"] += f"\n\nGeometric mean over the three convolutional nets: {math.prod(conv) ** (1 / 3):.2f} times as fast, the least of them {min(conv):.2f}."
    product = [median(v) for k, v in by.items() if k[0] == "matmul"]
    if product:
        flop = next(line["gflop"] for line in by[next(k for k in by if k[0] == "matmul" and k[1] in ours)])
        limit = flop / min(product) * 1e3
        body = [[f"`{w}`", f"{by[w, best[w][0]][0]['gflop']:.3g}", f"{by[w, best[w][0]][0]['gflop'] / min(best[w][1].values()) * 1e3:.0f}",
                 f"{by[w, best[w][0]][0]['gflop'] / min(best[w][1].values()) * 1e3 / limit:.2f}"]
                for w in best if w != "matmul" and by[w, best[w][0]][0].get("gflop")]  # fmt: skip
        out["arithmetic"] = table(["workload", "10⁹ operations a step", "10⁹ a second", f"of a matrix product's {limit:.0f}"], body)
    loop = rows(lines, "loop")
    body = []
    for net, form, against in (("sr32", "still", "bare"), ("sr64", "still", "bare"), ("mlp2d", "still", "bare"), ("mlp2d", "fused", "bare-fused")):
        for p in ("cpu", "openvino"):
            a, b = loop.get((net, form, p)), loop.get((net, against, p))
            if a and b:
                body.append([f"`{net}`{', fused' if form == 'fused' else ''}", p, f"{median(b):.4g}", f"{median(a):.4g}", f"{median(a) / median(b):.3f}"])
    if body:
        out["loop"] = table(["network", "provider", "bare call, ms", "ours, ms", "ratio"], body)
    threads = rows(lines, "threads")
    nets = list(dict.fromkeys(net for net, _ in threads))
    if nets:
        out["threads"] = table(["gradient, ms", *[f"`{net}`" for net in nets]],
                               [[title, *[f"{median(threads[net, way]):.3g}" if (net, way) in threads else "–" for net in nets]] for way, title in THREADS.items()])  # fmt: skip
    first = rows(lines, "first")
    body = [[f"`{w}`", p, f"{median(v, 'first_step_s'):.2f}"] for (w, p), v in first.items()]
    body += [[f"`{w}`", names[h], f"{median(by[w, h], 'first_step_s'):.2f}"] for w in ("sr32", "mlp2d", "convnet-iteration") for h in TORCH if (w, h) in by]
    if body:
        out["first"] = table(["workload", "program", "seconds to the first step"], body)
    bf16 = rows(lines, "bf16")
    if len(bf16) == 2:
        f, b = median(bf16["float32",]), median(bf16["bf16",])
        out["bf16"] = f"`sr64` step by step, OpenVINO: {figure(f)} ms in float32 and {figure(b)} in bfloat16, {f / b:.2f} times as fast."
    scaling = rows(lines, "scaling")
    body = []
    for (what, w, n), v in scaling.items():
        per = median(v) / v[0]["gflop"] if v[0]["gflop"] else 0
        body.append([f"`{w}`", f"{what} {n}", f"{median(v):.4g}", f"{v[0]['gflop']:.3g}", f"{1e3 / per:.0f}" if per else "–", f"{median(v, 'peak_mb'):.0f}"])
    if body:
        out["scaling"] = table(["workload", "at", "ms a step", "10⁹ operations", "10⁹ a second", "MB"], body)
    noise = rows(lines, "noise")
    if noise:
        out["noise"] = "One normal number takes " + ", ".join(f"{median(v, 'ns'):.3g} ns on {p} {'core' if p == 1 else 'cores'}" for (p,), v in sorted(noise.items())) + "."
    about = next((line for line in lines if line["part"] == "about"), None)
    if about:
        versions = sorted({line["provider"] for line in lines if line["part"] == "workloads" and "error" not in line and line["key"][1] not in ours})
        out["machine"] = f"{about['machine']}; {about['ours']}; {about['rounds']} rounds in {about['minutes']:.0f} minutes. " + (f"Other programs: {'; '.join(versions)}." if versions else "")
    if errors:
        out["machine"] = out.get("machine", "") + " Refused: " + "; ".join(f"{' '.join(map(str, k))}: {e[:120]}" for k, e in errors.items()) + "."
    return out


def render(lines):
    """Puts the tables between their marks; the text around them is kept."""
    text = PAGE.read_text()
    for name, body in tables(lines).items():
        text, n = re.subn(rf"(<!-- measured: {name} -->\n).*?(\n<!-- end -->)", lambda m: m[1] + body + m[2], text, flags=re.S)
        if not n:
            print(f"{PAGE.name} has no place for {name}:\n{body}")
    PAGE.write_text(text)


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--minutes", type=float, default=15)
    parse.add_argument("--only", default="noise,first,loop,threads,bf16,workloads,scaling")
    parse.add_argument("--workloads", default=",".join(WORKLOADS))
    parse.add_argument("--torch", default=os.environ.get("EBM_TORCH", ""))
    parse.add_argument("--render", action="store_true")
    args = parse.parse_args()
    if args.render:
        return render([json.loads(line) for line in open(LINES)])
    for name in args.workloads.split(","):
        if name not in WORKLOADS:
            raise SystemExit(f"no workload {name!r}; there are {', '.join(WORKLOADS)}")
    subprocess.run(["go", "build", "-o", EBMRUN, "./cmd/ebmrun"], cwd=ROOT, check=True)
    subprocess.run(["go", "test", "-c", "-o", TEST, "./bench"], cwd=ROOT, check=True)
    parts = args.only.split(",")
    b = Bench(args.torch, args.minutes)
    if "workloads" in parts:
        b.ready()
    rounds, longest = 0, 0
    while not rounds or b.left() > longest:
        start = time.monotonic()
        for part in parts:
            # Small parts are measured three times; the rest of the time is the workloads'.
            if part == "workloads":
                for w in args.workloads.split(","):
                    if rounds and b.left() < longest / len(WORKLOADS):
                        break
                    b.workload(w)
            elif rounds < (1 if part in ("scaling", "noise") else 3):
                getattr(b, part)()
        rounds, longest = rounds + 1, time.monotonic() - start if not rounds else longest * 0.8
    ours = subprocess.run([EBMRUN, "version"], capture_output=True, text=True).stdout.strip().replace("\n", ", ")
    b.keep(part="about", key=[], machine=machine(), ours=ours, rounds=rounds, minutes=(time.monotonic() - b.begin) / 60)
    render(b.lines)


if __name__ == "__main__":
    main()
