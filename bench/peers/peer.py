"""The workloads of `ebmrun bench` in other programs.

    python peer.py MODE WORKLOAD DIR [CHAINS]

MODE is eager, channels-last, compile (PyTorch), jax, torchebm or onnx-ad. `ebmrun bench WORKLOAD --write DIR` has written down the
settings, the weights and what comes of a few steps without noise; a program that does not come to the same is not timed. Prints the same
JSON, `distance` being the relative L2 distance of what it came to. Run each alone: two libraries in one process disturb each other's threads.

    python peer.py export swin-t DIR

writes DIR/swin-t.onnx, a Swin-T with random weights, for `ebmrun bench DIR/swin-t.onnx`.
"""
import functools
import json
import os
import pathlib
import statistics
import sys
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
# Steps of a chain that is timed; the others take one.
STEPS = {"sr16": 20, "sr32": 20, "sr64": 20, "mlp2d": 200, "latent": 200, "vgg16": 2, "posterior": 10}
TOLERANCE = {"langevin": 5e-3, "posterior": 5e-3, "calls": 1e-3, "flow": 1e-3, "matmul": 1e-4}  # 2e-2 for an iteration
SIZE = 0.01  # of a Langevin step that is timed


def age():
    """Seconds since this process began."""
    ticks = float(open("/proc/self/stat").read().rpartition(")")[2].split()[19])
    return float(open("/proc/uptime").read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024


def apart(got, want):
    got, want = np.concatenate([np.ravel(g) for g in got]), np.concatenate([np.ravel(w) for w in want])
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


class Task:
    """What was written down."""

    def __init__(self, name, folder):
        self.name = name
        self.about = json.loads((folder / f"{name}.json").read_text()) if name != "matmul" else {"kind": "matmul"}
        self.file = dict(np.load(folder / f"{name}.npz")) if name != "matmul" else {}
        self.kind, self.onnx = self.about["kind"], folder / f"{name}.onnx"

    def of(self, prefix):
        return {k[len(prefix):]: v for k, v in self.file.items() if k.startswith(prefix)}

    def moved(self, x):
        """How far chains came, beside how far they should."""
        start = self.file["start/x"]
        return apart([x - start], [self.file["end/x"] - start])


# PyTorch.


def slope(act):
    return {"leaky": 0.2, "leaky.05": 0.05}.get(act)


def torch_peer(mode, task):
    import torch
    import torch.nn.functional as F

    torch.manual_seed(1)
    last = torch.channels_last if mode == "channels-last" else torch.contiguous_format
    compiled = torch.compile if mode == "compile" else lambda f: f

    def place(x):
        return x.to(memory_format=last) if x.ndim == 4 else x

    def tensor(x):
        return place(torch.tensor(x))

    def act(name, x):
        if slope(name):
            return F.leaky_relu(x, slope(name))
        return {"relu": F.relu, "swish": F.silu, "gelu": F.gelu, "tanh": torch.tanh}[name](x)

    def score(spec, w, x):
        """f(x) [batch] of an energy network."""
        for i, l in enumerate(spec["Layers"], 1):
            wt, b = w[f"layer{i}.weight"], w[f"layer{i}.bias"]
            x = F.conv2d(x, wt, b, stride=max(l["Stride"], 1), padding=l["Pad"]) if l["Kernel"] else F.linear(x.flatten(1), wt.T, b)
            if i < len(spec["Layers"]) or spec["SumActive"]:
                x = act(spec["Activation"], x)
            if l["Pool"] > 1:
                x = F.max_pool2d(x, l["Pool"])
        return x.flatten(1).sum(1)

    def picture(spec, w, z):
        """g(z) of a generator network."""
        h = act(spec["Activation"], F.linear(z, w["code.weight"].T, w["code.bias"])).view(len(z), spec["Filters"], spec["Start"], spec["Start"])
        for i, l in enumerate(spec["Layers"], 1):
            h = F.conv_transpose2d(place(h), w[f"layer{i}.weight"], w[f"layer{i}.bias"], stride=l["Stride"], padding=l["Pad"])
            h = act(spec["Activation"], h) if i < len(spec["Layers"]) else torch.tanh(h)
        return h

    def squares(a, b):
        return (a - b).flatten(1).pow(2).sum(1)

    def chain(energy, size, clip=0, clamp=(0, 0)):
        """Langevin steps on energy(x, *given) [batch]; tau is a tensor, 0 in a comparison."""
        low, high = clamp

        def step(x, tau, *given):
            if mode == "compile":
                g = torch.func.grad(lambda x: energy(x, *given).sum())(x)
            else:
                x = x.detach().requires_grad_(True)
                (g,) = torch.autograd.grad(energy(x, *given).sum(), x)
                x = x.detach()
            if clip:
                g = g.clamp(-clip, clip)
            x = torch.add(x, g, alpha=-size * size / 2) + (size * tau) * torch.randn_like(x)
            return x.clamp(low, high) if low < high else x

        step = compiled(step)

        def run(x, steps, tau, *given):
            for _ in range(steps):
                x = step(x, tau, *given)
            return x.detach()

        return run

    zero, one = torch.tensor(0.0), torch.tensor(1.0)
    about, n = task.about, STEPS.get(task.name, 1)

    if task.kind == "matmul":
        a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
        return (lambda: torch.mm(a, b)), None, 1, torch.__version__

    if task.kind in ("langevin", "posterior"):
        w = {k: tensor(v) for k, v in task.of("weight/").items()}
        x0, given = tensor(task.file["start/x"]), ()
        if task.kind == "langevin":
            energy = lambda x: -score(about["spec"], w, x)  # noqa: E731
        else:
            given = (tensor(task.file["target"]),)
            energy = lambda z, x: z.pow(2).sum(1) / 2 + squares(x, picture(about["spec"], w, z)) / (2 * about["sigma"] ** 2)  # noqa: E731
        if mode == "torchebm":
            return torchebm_peer(task, energy, x0, n)
        run = chain(energy, about["size"])
        distance = lambda: task.moved(run(x0, about["steps"], zero, *given).numpy())  # noqa: E731
        timed = chain(energy, SIZE)
        return (lambda: timed(x0, n, one, *given)), distance, n, torch.__version__

    if task.kind == "calls":
        torch.manual_seed(1)
        net = place_module(exported(task.name), last).requires_grad_(False)
        x = tensor(task.file["in/x"])
        gradient = compiled(torch.func.grad(lambda x: net(x).sum())) if mode == "compile" else None

        def call():
            if gradient:
                return gradient(x)
            y = x.detach().requires_grad_(True)
            return torch.autograd.grad(net(y).sum(), y)[0]

        return call, (lambda: apart([call().numpy()], [task.file["out/grad/x"]])), 1, torch.__version__

    if task.kind == "flow":
        threads = torch.get_num_threads()
        sys.path.insert(0, str(HERE.parent / "reproduction"))
        import reproduce

        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(threads)

        class Run:
            w = {k[6:]: torch.tensor(v).requires_grad_(True) for k, v in task.file.items() if k.startswith("start/")}

            def weight(self, name, *shape):
                return self.w[name].view(*shape) if shape else self.w[name]

        q = reproduce.Flow(Run(), about["spec"])
        x, e = tensor(task.file["x"]), tensor(task.file["noise"])
        mean = compiled(lambda: q.log_density(q.filled(x, e)).mean())

        def call():
            return torch.autograd.grad(mean(), list(Run.w.values()))

        def distance():
            return apart([g.numpy() for g in call()], [task.file[f"gradient/{k}"] for k in Run.w])

        return call, distance, 1, torch.__version__

    return iteration(task, torch, tensor, chain, score, picture, squares, compiled)


def iteration(task, torch, tensor, chain, score, picture, squares, compiled):
    """A learning iteration, from the paper of each system."""
    c, dims = task.about["config"], task.file["x"].shape[1:]
    sys.path.insert(0, str(HERE.parent.parent / "testdata" / "noise"))
    import philox_normal as philox

    def learnable(prefix, spec, dims):
        """The weights under a prefix, with the shapes that the layers give them."""
        w, inward = {}, dims[0]
        for k, v in task.of(f"start/{prefix}/").items():
            layer, _, what = k.partition(".")
            if what == "bias":
                w[k] = torch.tensor(v)
        if "Codes" in spec:
            inward = spec["Filters"]
            w["code.weight"] = torch.tensor(task.file[f"start/{prefix}/code.weight"]).view(spec["Codes"], -1)
        for i, l in enumerate(spec["Layers"], 1):
            k, v = f"layer{i}.weight", torch.tensor(task.file[f"start/{prefix}/layer{i}.weight"])
            out = len(w[f"layer{i}.bias"])
            if not l["Kernel"]:
                w[k] = v.view(-1, out)
            else:
                w[k] = tensor(v.view(*((inward, out) if "Codes" in spec else (out, inward)), l["Kernel"], l["Kernel"]).numpy())
            inward = out
        return {k: v.requires_grad_(True) for k, v in w.items()}

    def adam(o, w):
        return torch.optim.Adam(list(w.values()), lr=o["LR"], betas=o["Betas"], eps=1e-8, fused=True)

    def settings(l):
        return l["Step"], l["GradClip"], l["Clamp"]

    def tilted(f, sigma):
        return (lambda x: x.flatten(1).pow(2).sum(1) / (2 * sigma**2) - f(x)) if sigma else (lambda x: -f(x))

    @compiled
    def contrast(x, samples):
        # One pass over both batches, as the weights of the examples differ in sign only.
        up, down = f(torch.cat([x, samples])).chunk(2)
        return down.mean() - up.mean() + c.get("ScoreL2", 0) * (up.pow(2).mean() + down.pow(2).mean())

    def update(optimizer, loss, limit=0):
        optimizer.zero_grad()
        loss.backward()
        if limit:
            torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], limit)
        optimizer.step()

    def dense(hidden):
        return {"Activation": "gelu", "SumActive": False, "Layers": [{"Kernel": 0, "Pool": 0, "Stride": 0, "Pad": 0} for _ in [*hidden, 1]]}

    def first(label, step, d):
        """The codes that ours draws in the first iteration."""
        seed = philox.fork(task.about["seed"], label)
        return torch.tensor([philox.normals(seed, k, step % 2**64, d) for k in range(len(x))], dtype=torch.float32)

    x = tensor(task.file["x"])
    d = c["GenSpec"]["Codes"] if "GenSpec" in c else 0
    optimizers, weights = {}, {}

    if task.kind == "generative-convnet":
        w = weights["optim"] = learnable("weights", c["Spec"], dims)
        f = functools.partial(score, c["Spec"], w)
        bank = tensor(task.file["start/chains/x"].reshape(-1, *dims))
        revise = chain(tilted(f, c["Reference"]["Sigma"]), *settings(c["Langevin"]))

        def step(tau, compare):
            at = torch.tensor(task.file["slots"][: len(x)]) if compare else torch.randperm(len(bank))[: len(x)]
            bank[at] = samples = revise(bank[at], c["Langevin"]["Steps"], tau)
            observed = x if compare else x + 0.01 * torch.randn_like(x)
            update(optimizers["optim"], contrast(observed, samples), c["Optim"]["Clip"])

    elif task.kind == "coopnets":
        w, v = learnable("weights", c["Spec"], dims), learnable("generator", c["GenSpec"], dims)
        weights |= {"optim": w, "teach": v}
        f, g = functools.partial(score, c["Spec"], w), functools.partial(picture, c["GenSpec"], v)
        revise, draw = chain(tilted(f, c["Reference"]["Sigma"]), *settings(c["Langevin"])), compiled(g)
        fit = compiled(lambda z, to: squares(to, g(z)).mean() / (2 * c["Sigma"] ** 2))

        def step(tau, compare):
            z = first(1, 0, d) if compare else torch.randn(len(x), d)
            with torch.no_grad():
                draft = draw(z)
            revised = revise(draft, c["Langevin"]["Steps"], tau)
            update(optimizers["optim"], contrast(x, revised), c["Optim"]["Clip"])
            update(optimizers["teach"], fit(z, revised))

    else:
        net = dense(c["Hidden"])
        w, v = learnable("prior", net, [d]), learnable("generator", c["GenSpec"], dims)
        weights |= {"optim": w, "teach": v}
        f, g = functools.partial(score, net, w), functools.partial(picture, c["GenSpec"], v)
        u, sd = tilted(f, c["Reference"]["Sigma"]), c["Reference"]["Sigma"]
        before = chain(u, *settings(c["Prior"]))
        after = chain(lambda z, x: u(z) + squares(x, g(z)) / (2 * c["Sigma"] ** 2), *settings(c["Posterior"]))
        fit = compiled(lambda z, to: squares(to, g(z)).mean() / (2 * c["Sigma"] ** 2))

        def step(tau, compare):
            z0, z1 = (first(1, -1, d), first(2, -1, d)) if compare else (torch.randn(len(x), d), torch.randn(len(x), d))
            low = before(sd * z0, c["Prior"]["Steps"], tau)
            high = after(sd * z1, c["Posterior"]["Steps"], tau, x)
            update(optimizers["optim"], contrast(high, low))
            update(optimizers["teach"], fit(high, x))

    for k, o in (("optim", "Optim"), ("teach", "Teach")):
        if k in weights:
            optimizers[k] = adam(c[o], weights[k])

    def distance():
        step(torch.tensor(0.0), True)
        # Adam's first moment is a share of the gradient.
        return max(apart([optimizers[k].state[p]["exp_avg"].numpy() for p in w.values()], [task.file[f"end/{k}/1/m/{n}"] for n in w])
                   for k, w in weights.items())  # fmt: skip

    tau = torch.tensor(1.0 if task.kind == "latent-ebm" else 0.001)
    return (lambda: step(tau, False)), distance, 1, torch.__version__


def place_module(net, last):
    return net.to(memory_format=last)


def exported(name):
    import torch
    import torchvision

    torch.manual_seed(1)
    return {"swin-t": torchvision.models.swin_t}[name]().eval()


def export(name, folder):
    import torch

    net = exported(name)
    torch.onnx.export(net, (torch.zeros(1, 3, 224, 224),), folder / f"{name}.onnx", input_names=["x"], output_names=["y"], dynamo=True, external_data=False)


# torchebm.


def torchebm_peer(task, energy, x0, n):
    import torch
    import torchebm
    from torchebm.core import BaseModel
    from torchebm.samplers import LangevinDynamics

    class Net(BaseModel):
        def forward(self, x):
            return energy(x)

    about = task.about
    still = LangevinDynamics(Net(), step_size=about["size"] ** 2 / 2, noise_scale=1e-30, device="cpu")
    drawn = LangevinDynamics(Net(), step_size=SIZE**2 / 2, noise_scale=1.0, device="cpu")
    return ((lambda: drawn.sample(x=x0.clone(), n_steps=n)), (lambda: task.moved(still.sample(x=x0.clone(), n_steps=about["steps"]).numpy())), n,
            f"{torchebm.__version__}, torch {torch.__version__}")  # fmt: skip


# JAX: pictures are [batch, height, width, channels].


def jax_peer(task):
    import jax
    import jax.numpy as jnp

    if task.kind != "langevin":
        return None
    about, n = task.about, STEPS[task.name]
    spec = about["spec"]
    turn = lambda x: np.moveaxis(x, 1, -1) if x.ndim == 4 else x  # noqa: E731
    w = {k: jnp.asarray(np.moveaxis(v, (0, 1), (3, 2)) if v.ndim == 4 else v) for k, v in task.of("weight/").items()}

    def energy(x):
        for i, l in enumerate(spec["Layers"], 1):
            wt, b = w[f"layer{i}.weight"], w[f"layer{i}.bias"]
            if l["Kernel"]:
                p = (l["Pad"], l["Pad"])
                x = jax.lax.conv_general_dilated(x, wt, (max(l["Stride"], 1),) * 2, (p, p), dimension_numbers=("NHWC", "HWIO", "NHWC")) + b
            else:
                x = x.reshape(len(x), -1) @ wt + b
            if i < len(spec["Layers"]) or spec["SumActive"]:
                x = jax.nn.leaky_relu(x, slope(spec["Activation"])) if slope(spec["Activation"]) else jax.nn.relu(x)
            if l["Pool"] > 1:
                x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return -x.reshape(len(x), -1).sum()

    @functools.partial(jax.jit, static_argnums=(3, 4))
    def chain(x, key, tau, steps, size):
        def step(t, at):
            x, key = at
            key, now = jax.random.split(key)
            return x - size * size / 2 * jax.grad(energy)(x) + size * tau * jax.random.normal(now, x.shape), key

        return jax.lax.fori_loop(0, steps, step, (x, key))[0]

    x0, key = jnp.asarray(turn(task.file["start/x"])), jax.random.key(1)

    def distance():
        x = np.asarray(chain(x0, key, 0.0, about["steps"], about["size"]))
        return task.moved(np.moveaxis(x, -1, 1) if x.ndim == 4 else x)

    return (lambda: chain(x0, key, 1.0, n, SIZE).block_until_ready()), distance, n, jax.__version__


# onnx-ad's gradient graph in ONNX Runtime.


def onnx_ad_peer(task):
    import onnx
    import onnx_ad
    import onnxruntime

    if task.kind not in ("langevin", "calls"):
        return None
    of = "energy" if task.kind == "langevin" else "y"
    x0 = task.file["start/x" if task.kind == "langevin" else "in/x"]
    model = onnx.load(task.onnx)
    for d, n in zip(model.graph.input[0].type.tensor_type.shape.dim, x0.shape):
        d.dim_value = n  # it wants every shape declared
    for v in model.graph.output:
        v.type.tensor_type.shape.ClearField("dim")
        v.type.tensor_type.ClearField("shape")
    adj = onnx_ad.reverse(onnx.shape_inference.infer_shapes(model), inputs=["x"], outputs=[of], layout="onnx")
    session = onnxruntime.InferenceSession(adj.SerializeToString(), providers=["CPUExecutionProvider"])
    shape = [len(x0), 1] if of == "energy" else [1, 1000, 1]
    ones, r = np.ones(shape, np.float32), np.random.default_rng(1)

    def gradient(x):
        return session.run(["adj_x"], {"x": x, "adj_" + of: ones})[0][..., 0]

    version = f"{onnx_ad.__version__ if hasattr(onnx_ad, '__version__') else ''}, onnxruntime {onnxruntime.__version__}"
    if task.kind == "calls":
        return (lambda: gradient(x0)), (lambda: apart([gradient(x0)], [task.file["out/grad/x"]])), 1, version

    def run(steps, size, tau):
        x = x0.copy()
        for _ in range(steps):
            x -= np.float32(size * size / 2) * gradient(x)
            if tau:
                x += np.float32(size * tau) * r.standard_normal(x.shape, dtype=np.float32)
        return x

    n = STEPS[task.name]
    return (lambda: run(n, SIZE, 1)), (lambda: task.moved(run(task.about["steps"], task.about["size"], 0))), n, version


def main(mode, name, folder, chains=7):
    folder = pathlib.Path(folder)
    if mode == "export":
        return export(name, folder)
    task = Task(name, folder)
    peer = {"jax": jax_peer, "onnx-ad": onnx_ad_peer}.get(mode, functools.partial(torch_peer, mode))(task)
    if peer is None:
        sys.exit(f"{mode} has no form of {name}")
    chain, distance, steps, version = peer
    chain()
    first, off = age(), 0.0
    if distance:
        # An iteration is compared from the start, before it is timed.
        off = distance() if task.kind in TOLERANCE else torch_peer(mode, task)[1]()
        if not off <= TOLERANCE.get(task.kind, 2e-2):
            sys.exit(f"{name}: {mode} comes to something else: relative distance {off:.2g}")
    times = []
    for _ in range(int(chains)):
        t = time.perf_counter()
        chain()
        times.append(1e3 * (time.perf_counter() - t) / steps)
    print(json.dumps({"workload": name, "ms_per_step": statistics.median(times), "spread": [min(times), max(times)], "peak_mb": peak(),
                      "provider": f"{mode} {version}", "fused": False, "first_step_s": first, "distance": off}))  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
