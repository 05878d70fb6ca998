"""Learns in PyTorch what TestWrite of reproduction_test.go has written down, and keeps what comes of it.

    python reproduce.py START OUT [SYSTEM...]

START holds SYSTEM.json (settings) and SYSTEM.npz (first weights, codes and chains, the batches in order). OUT/SYSTEM.npz gets
`start/NAME` as it was, `gradient/NAME` of the first iteration and `end/NAME`, the weights after the last. Networks, learning
rules and their slopes are PyTorch's, in float64; only the noise is the project's own (testdata/noise), numbered as the labels
below say. Each rule is written from its paper.
"""
import json
import math
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "testdata" / "noise"))
import philox_normal as philox  # noqa: E402

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
ACTIVATIONS = {"swish": F.silu, "gelu": F.gelu, "tanh": torch.tanh}


class Run:
    """The settings, the start, the weights under their names, and the noise."""

    def __init__(self, start, name):
        about = json.loads((start / f"{name}.json").read_text())
        self.c, self.seed, self.moved = about["config"], about["seed"], about["moved"]
        self.file = dict(np.load(start / f"{name}.npz"))
        self.data = torch.tensor(np.load(start / "data.npz")["x"].astype(float))
        self.w = {k[6:]: torch.tensor(v.astype(float)) for k, v in self.file.items() if k.startswith("start/")}
        for k in self.w:
            self.w[k].requires_grad_(k.split("/")[0] in self.moved)

    def of(self, prefix):
        return {k: v for k, v in self.w.items() if k.startswith(prefix + "/")}

    def weight(self, name, *shape):
        return self.w[name].view(*shape) if shape else self.w[name]

    def noise(self, label, chains, step, *shape):
        """Normals of a stream (0 is the seed's own) for each chain: [len(chains), *shape]."""
        seed = philox.fork(self.seed, label) if label else self.seed
        rows = [philox.normals(seed, int(k), step % 2**64, math.prod(shape)) for k in chains]
        return torch.tensor(rows).view(len(rows), *shape)

    def langevin(self, settings, energy, x, label, chains, begin):
        """x ← x − s²/2·∂U/∂x + s·τ·ε, for the steps of the settings."""
        s, x = settings["Step"], x.detach()
        low, high = settings["Clamp"]
        for t in range(settings["Steps"]):
            x.requires_grad_(True)
            (slope,) = torch.autograd.grad(energy(x).sum(), x)
            x = (x - s * s / 2 * slope).detach() + s * settings["Noise"] * self.noise(label, chains, begin + t, *x.shape[1:])
            if low < high:
                x = x.clamp(low, high)
        return x


# Networks.


def convolutions(run, prefix, spec, x):
    """f(x) [batch] of an energy on pictures."""
    layers = spec["Layers"]
    for i, l in enumerate(layers):
        name = f"{prefix}/layer{i + 1}"
        w = run.weight(f"{name}.weight", l["Filters"], x.shape[1], l["Kernel"], l["Kernel"])
        x = F.conv2d(x, w, run.weight(f"{name}.bias"), stride=max(l["Stride"], 1), padding=l["Pad"])
        if i < len(layers) - 1:
            x = ACTIVATIONS[spec["Activation"]](x)
    return x.flatten(1).sum(1)


def dense(run, name, h):
    b = run.weight(f"{name}.bias")
    return h @ run.weight(f"{name}.weight", h.shape[1], len(b)) + b


def perceptron(run, prefix, hidden, h):
    for i in range(len(hidden)):
        h = F.gelu(dense(run, f"{prefix}/layer{i + 1}", h))
    return dense(run, f"{prefix}/layer{len(hidden) + 1}", h).sum(1)


def generate(run, prefix, spec, z):
    act = ACTIVATIONS[spec["Activation"]]
    h = act(dense(run, f"{prefix}/code", z)).view(len(z), spec["Filters"], spec["Start"], spec["Start"])
    for i, l in enumerate(spec["Layers"]):
        name = f"{prefix}/layer{i + 1}"
        b = run.weight(f"{name}.bias")
        h = F.conv_transpose2d(h, run.weight(f"{name}.weight", h.shape[1], len(b), l["Kernel"], l["Kernel"]), b, stride=l["Stride"], padding=l["Pad"])
        if i < len(spec["Layers"]) - 1:
            h = act(h)
    return torch.tanh(h) if spec["Tanh"] else h


def encode(run, prefix, spec, x):
    for i, l in enumerate(spec["Layers"]):
        w = run.weight(f"{prefix}/encode{i + 1}.weight", l["Filters"], x.shape[1], l["Kernel"], l["Kernel"])
        x = ACTIVATIONS[spec["Activation"]](F.conv2d(x, w, run.weight(f"{prefix}/encode{i + 1}.bias"), stride=l["Stride"], padding=l["Pad"]))
    h = x.flatten(1)
    return dense(run, f"{prefix}/mean", h), dense(run, f"{prefix}/logvar", h)


def tilted(f, sigma):
    """U = ‖x‖²/(2σ²) − f, a Gaussian tilted by exp f."""
    return lambda x: x.flatten(1).pow(2).sum(1) / (2 * sigma**2) - f(x)


def squares(a, b):
    return (a - b).flatten(1).pow(2).sum(1)


class Flow:
    """RealNVP: normalisation of activations and affine couplings, with log-determinants in both directions."""

    def __init__(self, run, spec):
        self.run, self.spec, self.level = run, spec, 2 / (spec["Levels"] - 1)
        self.steps, count = [], 0
        for i, l in enumerate(spec["Layers"]):
            if l["Kind"] != "steps":
                self.steps.append((l["Kind"],))
            for k in range(l["N"]):
                self.steps.append(("step", f"flow/layer{i + 1}.step{k + 1}", l["By"] == "checkerboard", count % 2 == 1))
                count += 1

    def halves(self, h, board):
        if not board:
            return h.chunk(2, 1)
        rows = torch.arange(h.shape[2])[:, None]
        black = 2 * torch.arange(h.shape[3] // 2)[None] + rows % 2
        white = black + 1 - 2 * (rows % 2)
        return h[:, :, rows, black], h[:, :, rows, white]

    def whole(self, a, b, board):
        if not board:
            return torch.cat([a, b], 1)
        y = torch.empty(*a.shape[:3], 2 * a.shape[3])
        rows = torch.arange(y.shape[2])[:, None]
        black = 2 * torch.arange(a.shape[3])[None] + rows % 2
        y[:, :, rows, black], y[:, :, rows, black + 1 - 2 * (rows % 2)] = a, b
        return y

    def affine(self, name, seen, changed):
        """Shift and log-scale of the changed half, from the other."""
        c, hidden = changed.shape[1], self.spec["Coupling"]["Hidden"]
        act = ACTIVATIONS[self.spec["Coupling"]["Activation"]]

        def conv(part, h, filters, k):
            return F.conv2d(h, self.run.weight(f"{name}.{part}.weight", filters, h.shape[1], k, k), self.run.weight(f"{name}.{part}.bias"), padding=k // 2)

        h = act(conv("in", seen, hidden, 3))
        shift, raw = conv("out", act(conv("mid", h, hidden, 1)), 2 * c, 3).chunk(2, 1)
        return shift, self.run.weight(f"{name}.scale", c, 1, 1) * torch.tanh(raw)

    def normal(self, name, h):
        """Bias and log-scale of a normalisation, [C, 1, 1]."""
        return self.run.weight(f"{name}.norm.bias", -1, 1, 1), self.run.weight(f"{name}.norm.scale", -1, 1, 1)

    def log_density(self, x, start=False):
        half = 1 + self.level / 2
        p = (1 + self.spec["Bound"] * x / half) / 2
        logdet = (math.log(self.spec["Bound"] / (2 * half)) - p.log() - (1 - p).log()).flatten(1).sum(1)
        h, codes = torch.logit(p), []
        for kind, *at in self.steps:
            if kind == "squeeze":
                n, c, r, k = h.shape
                h = h.view(n, c, r // 2, 2, k // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(n, 4 * c, r // 2, k // 2)
            elif kind == "leave":
                h, gone = h.chunk(2, 1)
                codes.append(gone)
            else:
                name, board, flip = at
                if start:  # each channel of this batch to mean 0 and deviation 1
                    with torch.no_grad():
                        self.run.w[f"{name}.norm.bias"].copy_(-h.mean((0, 2, 3)))
                        self.run.w[f"{name}.norm.scale"].copy_(-h.var((0, 2, 3), correction=0).log() / 2)
                bias, scale = self.normal(name, h)
                h = (h + bias) * scale.exp()
                logdet = logdet + scale.sum() * h[0, 0].numel()
                a, b = self.halves(h, board)
                if flip:
                    shift, log = self.affine(f"{name}.coupling", b, a)
                    a = (a + shift) * log.exp()
                else:
                    shift, log = self.affine(f"{name}.coupling", a, b)
                    b = (b + shift) * log.exp()
                h, logdet = self.whole(a, b, board), logdet + log.flatten(1).sum(1)
        z = torch.cat([v.flatten(1) for v in codes + [h]], 1)
        return -z.pow(2).sum(1) / 2 - z.shape[1] * math.log(2 * math.pi) / 2 + logdet

    def decode(self, z, like):
        """x of codes: everything undone, from the end."""
        shapes, at = [], list(like)
        for kind, *_ in self.steps:
            if kind == "squeeze":
                at = [4 * at[0], at[1] // 2, at[2] // 2]
            elif kind == "leave":
                at = [at[0] // 2, *at[1:]]
                shapes.append(tuple(at))
        shapes.append(tuple(at))
        codes = [v.view(len(z), *s) for v, s in zip(z.split([math.prod(s) for s in shapes], 1), shapes)]
        h = codes.pop()
        for kind, *at in reversed(self.steps):
            if kind == "squeeze":
                n, c, r, k = h.shape
                h = h.view(n, 2, 2, c // 4, r, k).permute(0, 3, 4, 1, 5, 2).reshape(n, c // 4, 2 * r, 2 * k)
            elif kind == "leave":
                h = torch.cat([h, codes.pop()], 1)
            else:
                name, board, flip = at
                a, b = self.halves(h, board)
                if flip:
                    shift, log = self.affine(f"{name}.coupling", b, a)
                    a = a / log.exp() - shift
                else:
                    shift, log = self.affine(f"{name}.coupling", a, b)
                    b = b / log.exp() - shift
                h = self.whole(a, b, board)
                bias, scale = self.normal(name, h)
                h = h / scale.exp() - bias
        return (2 * torch.sigmoid(h) - 1) * (1 + self.level / 2) / self.spec["Bound"]

    def filled(self, x, normals):
        """Levels and uniform noise between them."""
        return x + (torch.special.ndtr(normals) - 0.5) * self.level

    def snapped(self, x):
        return torch.round((x + 1) / self.level) * self.level - 1

    def begin(self):
        run = self.run
        x = self.snapped(run.data[run.file["begin"]])
        self.log_density(self.filled(x, run.noise(0, range(len(x)), -1, *x.shape[1:])), start=True)


# Learning rules: each returns what one iteration descends on, for every optimizer that moves weights.


def contrast(f, observed, samples, l2=0.0):
    """Minus the log-likelihood's slope, as mean f(samples) − mean f(data); l2 holds the scores of both near 0."""
    up, down = f(observed), f(samples)
    return down.mean() - up.mean() + l2 * (up.pow(2).mean() + down.pow(2).mean())


def generative_convnet(run):
    c = run.c
    f = lambda x: convolutions(run, "weights", c["Spec"], x)  # noqa: E731
    bank = run.w["chains/x"].view(-1, *run.data.shape[1:])

    def step(i, x):
        x = x + c["Data"]["Noise"] * run.noise(1, range(len(x)), i, *x.shape[1:])
        slots = torch.tensor(run.file["slots"][i])
        bank[slots] = run.langevin(c["Langevin"], tilted(f, c["Reference"]["Sigma"]), bank[slots], 0, slots, i * c["Langevin"]["Steps"])
        return {"optim": contrast(f, x, bank[slots], c["ScoreL2"])}

    return step


def posterior(run, g, x, sigma, prior=lambda z: z.pow(2).sum(1) / 2):
    return lambda z: prior(z) + squares(x, g(z)) / (2 * sigma**2)


def abp(run):
    c = run.c
    g = lambda z: generate(run, "generator", c["Spec"], z)  # noqa: E731
    codes = run.w["codes"].view(len(run.data), -1)

    def step(i, x):
        index = torch.tensor(run.file["batches"][i])
        codes[index] = run.langevin(c["Langevin"], posterior(run, g, x, c["Sigma"]), codes[index], 1, index, i * c["Langevin"]["Steps"])
        return {"optim": squares(x, g(codes[index])).mean() / (2 * c["Sigma"] ** 2)}

    return step


def coopnets(run):
    c = run.c
    f = lambda x: convolutions(run, "weights", c["Spec"], x)  # noqa: E731
    g = lambda z: generate(run, "generator", c["GenSpec"], z)  # noqa: E731

    def step(i, x):
        chains = range(len(x))
        z = run.noise(1, chains, i, c["GenSpec"]["Codes"])
        revised = run.langevin(c["Langevin"], tilted(f, c["Reference"]["Sigma"]), g(z), 2, chains, i * c["Langevin"]["Steps"])
        z = run.langevin(c["Inference"], posterior(run, g, revised, c["Sigma"]), z, 3, chains, i * c["Inference"]["Steps"])
        return {"optim": contrast(f, x, revised), "teach": squares(revised, g(z)).mean() / (2 * c["Sigma"] ** 2)}

    return step


def latent_ebm(run):
    c = run.c
    f = lambda z: perceptron(run, "prior", c["Hidden"], z)  # noqa: E731
    g = lambda z: generate(run, "generator", c["GenSpec"], z)  # noqa: E731
    sd = c["Reference"]["Sigma"]

    def step(i, x):
        chains, d = range(len(x)), c["GenSpec"]["Codes"]
        u = tilted(f, sd)
        before = run.langevin(c["Prior"], u, sd * run.noise(1, chains, -1 - i, d), 1, chains, i * c["Prior"]["Steps"])
        after = run.langevin(c["Posterior"], posterior(run, g, x, c["Sigma"], u), sd * run.noise(2, chains, -1 - i, d), 2, chains, i * c["Posterior"]["Steps"])
        return {"optim": contrast(f, after, before), "teach": squares(x, g(after)).mean() / (2 * c["Sigma"] ** 2)}

    return step


def bound(run, i, x, label):
    """Minus the evidence lower bound, with a weight on the divergence."""
    c = run.c
    mean, logvar = encode(run, "vae", c["EncSpec"], x)
    q = torch.distributions.Normal(mean, (logvar / 2).exp())
    z = mean + q.scale * run.noise(label, range(len(x)), i, c["GenSpec"]["Codes"])
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)
    weight = c["KL"]["Weight"] * (min(i / c["KL"]["Warmup"], 1) if c["KL"]["Warmup"] else 1)
    return (squares(x, generate(run, "vae", c["GenSpec"], z)) / (2 * c["Sigma"] ** 2) + weight * kl).mean()


def vae(run):
    return lambda i, x: {"optim": bound(run, i, x, 1)}


def coopvaebm(run):
    c = run.c
    f = lambda x: convolutions(run, "weights", c["Spec"], x)  # noqa: E731

    def step(i, x):
        chains = range(c["Drafts"])
        draft = generate(run, "vae", c["GenSpec"], run.noise(1, chains, i, c["GenSpec"]["Codes"]))
        revised = run.langevin(c["Langevin"], tilted(f, c["Reference"]["Sigma"]), draft, 2, chains, i * c["Langevin"]["Steps"])
        return {"optim": contrast(f, x, revised), "teach": bound(run, i, revised, 3)}

    return step


def flow(run):
    q = Flow(run, run.c["Spec"])
    q.begin()
    return lambda i, x: {"optim": -q.log_density(q.filled(q.snapped(x), run.noise(1, range(len(x)), i, *x.shape[1:]))).mean()}


def coopflow(run):
    c = run.c
    q = Flow(run, c["NetSpec"])
    q.begin()
    f = lambda x: convolutions(run, "weights", c["Spec"], x)  # noqa: E731

    def step(i, x):
        chains = range(len(x))
        draft = q.decode(run.noise(1, chains, i, x[0].numel()), x.shape[1:]).clamp(-1, 1)
        revised = run.langevin(c["Langevin"], tilted(f, c["Reference"]["Sigma"]), draft, 2, chains, i * c["Langevin"]["Steps"])
        return {"optim": contrast(f, x, revised), "teach": -q.log_density(q.filled(revised, run.noise(3, chains, i, *x.shape[1:]))).mean()}

    return step


def multigrid(run):
    c, sides = run.c, run.c["Grids"]
    fs = [lambda x, k=k, spec=spec: convolutions(run, f"weights{k + 1}", spec, x) for k, spec in enumerate(c["Specs"])]

    def step(i, x):
        x = x + c["Data"]["Noise"] * run.noise(1000, range(len(x)), i, *x.shape[1:])
        losses, samples = {}, F.adaptive_avg_pool2d(x, sides[0])
        for k, f in enumerate(fs):
            begun = samples.repeat_interleave(sides[k + 1] // sides[k], 2).repeat_interleave(sides[k + 1] // sides[k], 3)
            samples = run.langevin(c["Langevin"], tilted(f, c["Reference"]["Sigma"]), begun, k + 1, range(len(x)), i * c["Langevin"]["Steps"])
            losses[f"optim{k + 1}"] = contrast(f, F.adaptive_avg_pool2d(x, sides[k + 1]), samples, c["ScoreL2"])
        return losses

    return step


def unet(run, prefix, spec, given, z):
    """A picture of a condition, halved once, with the code at the bottom."""
    act = ACTIVATIONS[spec["Activation"]]

    def conv(name, h, kernel=3, **how):
        b = run.weight(f"{prefix}/{name}.bias")
        return F.conv2d(h, run.weight(f"{prefix}/{name}.weight", len(b), h.shape[1], kernel, kernel), b, padding=1, **how)

    full = act(conv("down1", given))
    low = act(conv("down2", full, 4, stride=2))
    low = act(conv("bottom", torch.cat([low, z[:, :, None, None].expand(-1, -1, *low.shape[2:])], 1)))
    b = run.weight(f"{prefix}/up1.bias")
    h = act(F.conv_transpose2d(low, run.weight(f"{prefix}/up1.weight", low.shape[1], len(b), 4, 4), b, stride=2, padding=1))
    return torch.tanh(conv("out", act(conv("join1", torch.cat([h, full], 1)))))


def conditional_coopnets(run):
    c = run.c

    def step(i, x):
        given, chains = x.flip(3), range(len(x))
        f = lambda x: convolutions(run, "weights", c["Spec"], torch.cat([x, given], 1))  # noqa: E731
        g = lambda z: unet(run, "generator", c["InitSpec"], given, z)  # noqa: E731
        z = run.noise(1, chains, i, c["InitSpec"]["Codes"])
        revised = run.langevin(c["Langevin"], tilted(f, c["Reference"]["Sigma"]), g(z), 2, chains, i * c["Langevin"]["Steps"])
        share = c["Truth"] + (c["TruthEnd"] - c["Truth"]) * i / c["Steps"]
        goal = torch.lerp(revised, x, share)
        z = run.langevin(c["Inference"], posterior(run, g, goal, c["Sigma"]), z, 3, chains, i * c["Inference"]["Steps"])
        return {"optim": contrast(f, x, revised), "teach": squares(goal, g(z)).mean() / (2 * c["Sigma"] ** 2)}

    return step


RULES = {"generative-convnet": generative_convnet, "abp": abp, "coopnets": coopnets, "coopnets-jump-start": coopnets, "latent-ebm": latent_ebm,
         "vae": vae, "coopvaebm": coopvaebm, "flow": flow, "coopflow": coopflow, "multigrid": multigrid,
         "conditional-coopnets": conditional_coopnets}  # fmt: skip


def main(start, out, *names):
    start, out = pathlib.Path(start), pathlib.Path(out)
    np.savez_compressed(out / "data.npz", x=np.load(start / "data.npz")["x"])
    for name in names or RULES:
        run = Run(start, name)
        optimizers = {}
        for prefix, key in run.moved.items():
            s = run.c[key.rstrip("0123456789").capitalize()]
            optimizers[key] = torch.optim.Adam(list(run.of(prefix).values()), lr=s["LR"], betas=s["Betas"], eps=1e-8)
        moved = {k: v for p in run.moved for k, v in run.of(p).items()}
        keep = {k: v for k, v in run.file.items() if k.startswith("start/")}
        step = RULES[name](run)
        for i in range(run.c["Steps"]):
            for key, loss in step(i, run.data[run.file["batches"][i]]).items():
                optimizers[key].zero_grad()
                loss.backward()
            if i == 0:
                keep |= {f"gradient/{k}": v.grad.numpy().astype("f4") for k, v in moved.items()}
            for o in optimizers.values():
                o.step()
        keep |= {f"end/{k}": v.detach().numpy().astype("f4") for k, v in moved.items()}
        np.savez_compressed(out / f"{name}.npz", **keep)
        far = [(v.detach() - torch.tensor(run.file[f"start/{k}"].astype(float))).norm() / v.detach().norm() for k, v in moved.items()]
        print(f"{name}: {len(far)} weights moved by {min(far):.2g} to {max(far):.2g} of themselves")


if __name__ == "__main__":
    main(*sys.argv[1:])
