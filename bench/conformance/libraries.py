"""Networks of other libraries for the conformance set: segmentation, image processing, flows, graphs, differential equations."""
import torch
import torch.nn as nn

from networks import image, network, networks


class Call(nn.Module):
    """f(x) as a module, with modules and weights by name."""
    def __init__(self, f, **parts):
        super().__init__()
        self.f = f
        for k, v in parts.items():
            setattr(self, k, nn.Parameter(v) if isinstance(v, torch.Tensor) else v)

    def forward(self, *x):
        return self.f(self, *x)


# ---- segmentation_models_pytorch ----------------------------------------------------------------------------------------


def smp(name, size=64, encoder="resnet18", **kwargs):
    def build():
        import segmentation_models_pytorch
        return getattr(segmentation_models_pytorch, name)(encoder, encoder_weights=None, classes=3, **kwargs), (image(size),)

    networks["smp_" + name.lower()] = build


SMALL = dict(encoder_depth=3, decoder_channels=(16, 12, 8))
smp("Unet", decoder_attention_type="scse", encoder_depth=3, decoder_channels=(32, 32, 16))
smp("UnetPlusPlus", **SMALL)
smp("MAnet", **SMALL)
smp("Linknet", encoder_depth=4)
smp("FPN", decoder_pyramid_channels=16, decoder_segmentation_channels=32)
smp("PSPNet", psp_out_channels=16)
smp("PAN", size=128, decoder_channels=8)
smp("DeepLabV3Plus", decoder_channels=16)
smp("UPerNet", decoder_channels=16)
smp("Segformer", encoder="mit_b0", decoder_segmentation_channels=16)

# ---- kornia -------------------------------------------------------------------------------------------------------------


def kornia(name, f, channels=3, size=12):
    networks["kornia_" + name] = lambda: (Call(lambda m, x: f(__import__("kornia"), m.w * x), w=torch.rand(channels, 1, 1) + 0.5), (torch.rand(2, channels, size, size),))


kornia("gaussian_blur", lambda k, x: k.filters.gaussian_blur2d(x, (5, 5), (1.5, 1.5)))
kornia("median_blur", lambda k, x: k.filters.median_blur(x, (3, 3)))
kornia("bilateral_blur", lambda k, x: k.filters.bilateral_blur(x, (3, 3), 0.2, (1.5, 1.5)))
kornia("sobel", lambda k, x: k.filters.sobel(x))
kornia("canny_magnitude", lambda k, x: k.filters.canny(x, hysteresis=False)[0])
kornia("rgb_to_hsv", lambda k, x: k.color.rgb_to_hsv(x))
kornia("rgb_to_lab", lambda k, x: k.color.rgb_to_lab(0.3 * x))
kornia("ssim", lambda k, x: k.losses.ssim_loss(x, x.flip(-1), 5, reduction="none"))
kornia("rotate", lambda k, x: k.geometry.rotate(x, torch.tensor([20.0, 50.0], dtype=x.dtype)))
kornia("warp_perspective", lambda k, x: k.geometry.warp_perspective(x, torch.tensor([[[1.0, 0.1, 0.5], [0.05, 0.9, 0.2], [0.01, 0.02, 1.0]]] * 2, dtype=x.dtype), (10, 11)))
kornia("pyramid", lambda k, x: k.geometry.pyrup(k.geometry.pyrdown(x)))
kornia("harris", lambda k, x: k.feature.harris_response(x))
kornia("spatial_soft_argmax", lambda k, x: k.geometry.spatial_soft_argmax2d(x))

# ---- flows --------------------------------------------------------------------------------------------------------------


def nflows(name, make):
    def build():
        import nflows.flows as flows
        import nflows.transforms as transforms
        from nflows.distributions import StandardNormal
        t = make(transforms)
        return Call(lambda m, x: m.flow.log_prob(x), flow=flows.Flow(transforms.CompositeTransform(t if isinstance(t, list) else [t]), StandardNormal([4]))), (torch.randn(5, 4),)

    networks["nflows_" + name] = build


nflows("maf", lambda t: [t.MaskedAffineAutoregressiveTransform(4, 12), t.ReversePermutation(4), t.MaskedAffineAutoregressiveTransform(4, 12)])
nflows("spline_autoregressive", lambda t: t.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(4, 12, num_bins=4, tails="linear", tail_bound=2.0))
nflows("lu", lambda t: [t.LULinear(4), t.HouseholderSequence(4, 3)])
nflows("quadratic_autoregressive", lambda t: t.MaskedPiecewiseQuadraticAutoregressiveTransform(4, 12, num_bins=4, tails="linear", tail_bound=2.0))


def normflows(name, make):
    def build():
        import normflows as nf
        q0 = nf.distributions.DiagGaussian(4)
        return Call(lambda m, x: m.flow.log_prob(x), flow=nf.NormalizingFlow(q0, make(nf))), (torch.randn(5, 4),)

    networks["normflows_" + name] = build


normflows("spline_coupling", lambda nf: [nf.flows.CoupledRationalQuadraticSpline(4, 1, 8, num_bins=4)])

# ---- graphs (torch_geometric) -------------------------------------------------------------------------------------------


def geometric(name, make, weight=False):
    def build():
        import torch_geometric.nn as pyg
        edges = torch.tensor([[0, 1, 2, 3, 4, 0, 2, 5, 3], [1, 2, 0, 4, 3, 5, 5, 0, 0]])
        return Call(lambda m, x: m.net(x, edges), net=make(pyg)), (torch.randn(6, 5),)

    networks["pyg_" + name] = build


geometric("gcn", lambda g: g.GCNConv(5, 8))
geometric("gat", lambda g: g.GATv2Conv(5, 4, heads=2))
geometric("sage_max", lambda g: g.SAGEConv(5, 8, aggr="max"))
geometric("gin", lambda g: g.GINConv(nn.Sequential(nn.Linear(5, 8), nn.SiLU(), nn.Linear(8, 8)), train_eps=True))
geometric("transformer", lambda g: g.TransformerConv(5, 4, heads=2))
geometric("pna", lambda g: g.PNAConv(5, 8, ["mean", "min", "max", "std"], ["identity", "amplification"], deg=torch.tensor([1, 3, 1, 1])))
geometric("softmax_aggregation", lambda g: g.GENConv(5, 8, learn_t=True))

# ---- differential equations, sound ----------------------------------------------------------------------------------------


@network
def neural_ode():
    from torchdiffeq import odeint
    field = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))
    return Call(lambda m, x: odeint(lambda t, y: m.field(y) + t, x, torch.linspace(0, 1, 4), method="rk4")[-1], field=field), (torch.randn(4, 3),)


@network
def spectrogram():
    window = torch.hann_window(16)

    def f(m, x):
        s = torch.view_as_real(torch.stft(x, 16, 4, window=window, center=False, return_complex=True))
        return torch.log1p(m.mel @ s.square().sum(-1))

    return Call(f, mel=torch.rand(5, 9)), (torch.randn(2, 64),)


@network
def tcn():
    conv = lambda d: nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3, padding=2 * d, dilation=d))
    return Call(lambda m, x: torch.relu(m.b(torch.relu(m.a(x)[..., :-2]))[..., :-4] + x), a=conv(1), b=conv(2)), (torch.randn(2, 4, 20),)

# The current exporter refuses these: their code branches on numbers.
LEGACY = {n: 17 for n in ["nflows_spline_autoregressive", "nflows_quadratic_autoregressive", "neural_ode"]}
