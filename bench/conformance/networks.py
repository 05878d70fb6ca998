"""The networks of the conformance set: published families at reduced sizes, and small hand-written ones.

`networks` maps a name to a function that returns (module, inputs); weights are random.
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

networks = {}
SCRIPTED = {"loop_scripted", "branch_scripted", "while_scripted"}  # with control flow, which only the older exporter keeps


def network(f):
    networks[f.__name__] = f
    return f


def image(size, batch=1, channels=3):
    return torch.randn(batch, channels, size, size)


# ---- torchvision ----------------------------------------------------------------------------------------------------


def vision(name, size, cut=None, **kwargs):
    def build():
        import torchvision.models as tv
        m = getattr(tv, name)(weights=None, **{"num_classes": 10, **kwargs})
        if cut:
            cut(m)
        return m, (image(size),)

    networks["torchvision_" + name] = build


def small_head(features):
    """Replaces classifiers of a hundred million weights."""
    def cut(m):
        m.avgpool = nn.Identity()
        m.classifier = nn.Sequential(nn.Linear(features, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 10))

    return cut


vision("resnet18", 48)
vision("resnext50_32x4d", 48)
vision("vgg11_bn", 32, small_head(512))
vision("alexnet", 64, small_head(256))
vision("squeezenet1_1", 48)
vision("densenet121", 48)
vision("mobilenet_v2", 48)
vision("mobilenet_v3_small", 48)
vision("mobilenet_v3_large", 48)
vision("efficientnet_b0", 48)
vision("shufflenet_v2_x0_5", 48)
vision("mnasnet0_5", 48)
vision("regnet_y_400mf", 48)
vision("regnet_x_400mf", 48)
vision("inception_v3", 96, aux_logits=False, init_weights=False, transform_input=True)
vision("googlenet", 48, aux_logits=False, init_weights=False)


@network
def torchvision_convnext():
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt
    return ConvNeXt([CNBlockConfig(16, 32, 2), CNBlockConfig(32, 64, 1), CNBlockConfig(64, None, 1)], num_classes=10), (image(32, 2),)


@network
def torchvision_swin():
    from torchvision.models.swin_transformer import SwinTransformer
    return SwinTransformer([4, 4], 12, [2, 2], [2, 4], [4, 4], stochastic_depth_prob=0.0, num_classes=10), (image(48),)


@network
def torchvision_swin_v2():
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2
    return SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4], stochastic_depth_prob=0.0, num_classes=10,
                           block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2), (image(64),)


@network
def torchvision_vit():
    from torchvision.models import VisionTransformer
    return VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=10), (image(32, 2),)


@network
def torchvision_maxvit():
    from torchvision.models import MaxVit
    return MaxVit((64, 64), 16, 2, [16, 32], [1, 1], 8, 0.0, num_classes=10), (image(64),)


@network
def torchvision_lraspp():
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    class Wrap(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)

        def forward(self, x):
            return self.net(x)["out"]

    return Wrap(), (image(64),)


@network
def torchvision_fcn():
    from torchvision.models.segmentation.fcn import FCNHead

    class Wrap(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
            self.head = FCNHead(32, 3)

        def forward(self, x):
            return F.interpolate(self.head(self.body(x)), x.shape[-2:], mode="bilinear", align_corners=False)

    return Wrap(), (image(30),)


@network
def torchvision_deeplab():
    from torchvision.models.segmentation.deeplabv3 import ASPP
    class Wrap(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, 4, 1)
            self.head = ASPP(16, [2, 3], 24)

        def forward(self, x):
            return F.interpolate(self.head(self.stem(x)), scale_factor=4, mode="bilinear", align_corners=False)

    return Wrap(), (image(40),)


@network
def torchvision_r2plus1d():
    from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet
    m = VideoResNet(BasicBlock, [Conv2Plus1D] * 4, [1, 1, 1, 1], R2Plus1dStem, num_classes=5)
    return m, (torch.randn(1, 3, 4, 24, 24),)


def video(name, frames, size, cut=lambda m: None, **kwargs):
    def build():
        import torchvision.models.video as tv
        m = getattr(tv, name)(weights=None, **{"num_classes": 10, **kwargs})
        cut(m)
        return m, (torch.randn(1, 3, frames, size, size),)

    networks["torchvision_" + name] = build


video("s3d", 16, 64, lambda m: setattr(m, "avgpool", nn.AdaptiveAvgPool3d(1)))
video("swin3d_t", 4, 48)
video("mc3_18", 4, 32)


@network
def torchvision_mvit():
    from torchvision.models.video.mvit import MSBlockConfig, MViT
    blocks = [MSBlockConfig(1, 16, 32, [3, 3, 3], [1, 2, 2], [1, 1, 1], [1, 1, 1]), MSBlockConfig(2, 32, 32, [3, 3, 3], [1, 1, 1], [3, 3, 3], [1, 2, 2])]
    return MViT((32, 32), 4, blocks, True, True, True, 0.0, 0.1, 0.0, num_classes=5), (torch.randn(1, 3, 4, 32, 32),)


@network
def torchvision_raft():
    """Optical flow: correlations of all pairs, looked up around a place that is moved step by step."""
    from torchvision.models.optical_flow.raft import BottleneckBlock, _raft

    class Wrap(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = _raft(feature_encoder_layers=(8, 8, 12, 16, 24), feature_encoder_block=BottleneckBlock, feature_encoder_norm_layer=nn.InstanceNorm2d,
                             context_encoder_layers=(8, 8, 12, 16, 40), context_encoder_block=BottleneckBlock, context_encoder_norm_layer=None, corr_block_num_levels=2,
                             corr_block_radius=1, motion_encoder_corr_layers=(12,), motion_encoder_flow_layers=(12, 8), motion_encoder_out_channels=16,
                             recurrent_block_hidden_state_size=24, recurrent_block_kernel_size=((3, 3),), recurrent_block_padding=((1, 1),), flow_head_hidden_size=16,
                             use_mask_predictor=False)

        def forward(self, x, y):
            return self.net(x, y, num_flow_updates=2)[-1]

    return Wrap(), (image(128), image(128))


@network
def torchvision_keypoint_head():
    from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
    return nn.Sequential(KeypointRCNNHeads(4, (8, 8)), KeypointRCNNPredictor(8, 3)), (torch.randn(2, 4, 6, 6),)


@network
def torchvision_mask_head():
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    return nn.Sequential(MaskRCNNHeads(4, (8, 8), 1), MaskRCNNPredictor(8, 6, 3)), (torch.randn(2, 4, 6, 6),)


@network
def torchvision_roi_align():
    from torchvision.ops import roi_align
    boxes = torch.tensor([[0, 1.3, 2.1, 7.9, 6.2], [1, 0.2, 0.4, 3.3, 9.0], [0, -2.0, 3.0, 4.5, 12.5]])
    return module(lambda m, x: m.f(roi_align(m.c(x), boxes.to(x.dtype), (3, 2), 0.5, 2, True)), image(9, 2), c=nn.Conv2d(3, 4, 3, padding=1), f=nn.Conv2d(4, 2, 1))


@network
def torchvision_deform_conv():
    from torchvision.ops import deform_conv2d
    return module(lambda m, x: deform_conv2d(x, 0.7 * m.offset(x), m.w, padding=1, mask=m.mask(x).sigmoid()), image(7, 2), offset=nn.Conv2d(3, 18, 3, padding=1),
                  mask=nn.Conv2d(3, 9, 3, padding=1), w=parameter(4, 3, 3, 3))


# ---- timm -----------------------------------------------------------------------------------------------------------


def timm_net(name, size, fused=True, **kwargs):
    """fused=False writes attention out, where the exporter cannot decompose it."""
    def build():
        import timm
        timm.layers.set_fused_attn(fused)
        return timm.create_model(name, pretrained=False, **{"num_classes": 10, **kwargs}), (image(size),)

    networks["timm_" + name] = build


timm_net("levit_128s", 224)
timm_net("nf_resnet26", 48)
timm_net("nf_regnet_b0", 48)
timm_net("davit_tiny", 64, embed_dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), num_heads=(2, 2, 4, 4), window_size=4)
timm_net("pvt_v2_b0", 64)
timm_net("xcit_nano_12_p8_224", 64, img_size=64, depth=3)
timm_net("cait_xxs24_224", 64, img_size=64, depth=2, embed_dim=48)
timm_net("coat_lite_tiny", 64, img_size=64)
timm_net("crossvit_9_240", 240, depth=((1, 1, 0), (1, 1, 0), (1, 1, 0)))
timm_net("twins_pcpvt_small", 64, img_size=64, embed_dims=(16, 32, 64, 96), num_heads=(2, 2, 4, 4), depths=(1, 1, 1, 1))
timm_net("deit_tiny_patch16_224", 64, img_size=64, depth=2)
timm_net("deit3_small_patch16_224", 64, img_size=64, depth=2, embed_dim=48, num_heads=4)
timm_net("vit_small_patch16_224", 64, img_size=64, depth=2, embed_dim=48, num_heads=4, qk_norm=True)
timm_net("eva02_tiny_patch14_224", 56, img_size=56, depth=2)
timm_net("efficientformerv2_s0", 224)
timm_net("hardcorenas_a", 48)
timm_net("ghostnet_050", 48)
timm_net("ghostnetv2_100", 64)
timm_net("res2net50_26w_4s", 48, layers=(1, 1, 1, 1))
timm_net("sequencer2d_s", 64, layers=(1, 1, 1, 1), embed_dims=(24, 48, 48, 48), hidden_sizes=(8, 12, 12, 12))
timm_net("edgenext_xx_small", 64)
timm_net("mobilevit_xxs", 64)
timm_net("mobilevitv2_050", 64)
timm_net("fastvit_t8", 64)
timm_net("repvgg_a0", 48)
timm_net("repvit_m0_9", 64)
timm_net("tinynet_e", 48)
timm_net("lcnet_035", 48)
timm_net("mobilenetv4_conv_small", 64)
timm_net("mobileone_s0", 48)
timm_net("skresnet18", 48)
timm_net("resnest14d", 48)
timm_net("cspresnet50", 64)
timm_net("hrnet_w18_small", 64)
timm_net("ese_vovnet19b_slim", 48)
timm_net("coatnet_nano_rw_224", 64, img_size=64)
timm_net("inception_next_atto", 64)
timm_net("starnet_s1", 64)
timm_net("convit_tiny", 64, img_size=64, depth=3, local_up_to_layer=2)
timm_net("tnt_s_patch16_224", 64, img_size=64, depth=2, embed_dim=48, inner_dim=12, num_heads_outer=4)
timm_net("pit_ti_224", 64, img_size=64)
timm_net("efficientvit_b0", 64)
timm_net("efficientvit_m0", 224)
timm_net("hgnetv2_b0", 64)
timm_net("visformer_tiny", 64, img_size=64)
timm_net("lambda_resnet26t", 64, )
timm_net("botnet26t_256", 64, img_size=64)
timm_net("eca_nfnet_l0", 48)
timm_net("rexnet_100", 48)
timm_net("selecsls42", 64)
timm_net("xception41", 48)
timm_net("tf_efficientnetv2_b0", 48)


timm_net("poolformer_s12", 64)
timm_net("caformer_s18", 64)
timm_net("efficientformer_l1", 224)
timm_net("dla46_c", 64)
timm_net("gcvit_xxtiny", 224)
timm_net("tiny_vit_5m_224", 224)
timm_net("mvitv2_tiny", 64, img_size=64)
timm_net("halonet26t", 256)
timm_net("nextvit_small", 64)


def timm_class(name, module, cls, size, **kwargs):
    """A family whose named models fix their sizes, built at a small size."""
    def build():
        import importlib
        mod = importlib.import_module("timm.models." + module)
        for k, v in kwargs.items():
            if isinstance(v, str):
                kwargs[k] = getattr(mod, v)
        return getattr(mod, cls)(num_classes=10, **kwargs), (image(size),)

    networks["timm_" + name] = build


timm_class("mixer", "mlp_mixer", "MlpMixer", 64, img_size=64, embed_dim=48, num_blocks=2)
timm_class("resmlp", "mlp_mixer", "MlpMixer", 64, img_size=64, embed_dim=48, num_blocks=2, block_layer="ResBlock", norm_layer="Affine", mlp_ratio=4.0)
timm_class("gmlp", "mlp_mixer", "MlpMixer", 64, img_size=64, embed_dim=48, num_blocks=2, block_layer="SpatialGatingBlock", mlp_ratio=6.0)
timm_class("convmixer", "convmixer", "ConvMixer", 56, dim=48, depth=2)
timm_class("focalnet", "focalnet", "FocalNet", 64, embed_dim=24, depths=(1, 1, 1, 1))
timm_class("nest", "nest", "Nest", 64, img_size=64, embed_dims=(24, 48, 48), depths=(1, 1, 1), num_heads=(2, 4, 4))
timm_class("volo", "volo", "VOLO", 64, img_size=64, layers=(1, 1, 1, 1), embed_dims=(24, 48, 48, 48), num_heads=(2, 4, 4, 4), mlp_ratio=3.0, stem_hidden_dim=16)
timm_class("beit", "beit", "Beit", 64, img_size=64, embed_dim=48, depth=2, num_heads=4, use_abs_pos_emb=False, use_shared_rel_pos_bias=True, init_values=0.1)
timm_class("twins", "twins", "Twins", 64, img_size=64, embed_dims=(16, 32, 64, 96), num_heads=(2, 2, 4, 4), depths=(1, 1, 1, 1), sr_ratios=(4, 2, 1, 1), wss=(4, 4, 4, 4))


timm_net("mixnet_s", 48)
timm_net("tf_mixnet_s", 48)
timm_net("resnetblur18", 48)
timm_net("ecaresnet26t", 48)
timm_net("seresnet33ts", 48)
timm_net("gcresnet33ts", 48)
timm_net("sebotnet33ts_256", 64, img_size=64)
timm_net("sehalonet33ts", 256)
timm_net("resnetv2_18", 48)
timm_net("darknet17", 48)
timm_net("cspdarknet53", 64)
timm_net("dpn48b", 48)
timm_net("inception_v4", 96)
timm_net("mambaout_femto", 64)
timm_net("rdnet_tiny", 64)
timm_net("convformer_s18", 64)
timm_net("swiftformer_xs", 64)
timm_net("shvit_s1", 64)
timm_net("fasternet_t0", 64)
timm_net("ghostnetv3_050", 64)
timm_net("lcnetv2_base", 64)
timm_net("efficientvim_m1", 224)
timm_net("iformer_t", 64)
timm_net("tresnet_m", 64)
timm_net("tf_efficientnet_lite0", 48)
timm_net("hiera_tiny_224", 64, False, img_size=64)
timm_net("swinv2_cr_tiny_ns_224", 64, img_size=64, depths=(1, 1, 1, 1), embed_dim=24, window_size=2)
timm_net("vit_relpos_small_patch16_224", 64, False, img_size=64, depth=2, embed_dim=48, num_heads=4)
timm_net("vit_srelpos_small_patch16_224", 64, False, img_size=64, depth=2, embed_dim=48, num_heads=4)
timm_net("samvit_base_patch16", 64, False, img_size=64, depth=2, embed_dim=48, num_heads=4, global_attn_indexes=(1,), window_size=3)
timm_net("vit_small_patch16_dinov3", 64, img_size=64, depth=2, embed_dim=48, num_heads=4)
timm_net("naflexvit_base_patch16_gap", 64, depth=2, embed_dim=48, num_heads=4)
timm_net("vitamin_small_224", 64, img_size=64)
timm_net("convnextv2_atto", 64)
timm_net("maxxvit_rmlp_nano_rw_256", 64, False, img_size=64)
timm_net("haloregnetz_b", 224)
timm_net("pvt_v2_b2_li", 64)
timm_net("sam2_hiera_tiny", 64)
timm_net("csatv2", 512)
timm_net("cpubone_b0_bfrobust", 64)
timm_net("lowformer_b0", 64)
timm_net("cspnext_tiny", 64)
timm_net("cs3darknet_focus_s", 64)
timm_net("repghostnet_050", 64)
timm_net("legacy_seresnet18", 48)
timm_net("legacy_xception", 72)
timm_net("regnetz_005", 48)
timm_net("resnetaa34d", 32)
timm_net("densenetblur121d", 32)
timm_net("gernet_s", 48)
timm_net("hgnet_tiny", 48)
timm_net("bat_resnext26ts", 256)
timm_net("lamhalobotnet50ts_256", 256)
timm_net("coatnext_nano_rw_224", 64, img_size=64)
timm_net("vit_small_r26_s32_224", 64, img_size=64, depth=2, embed_dim=48, num_heads=4)
timm_net("flexivit_small", 64, img_size=64, depth=2, embed_dim=48, num_heads=4)
timm_net("aimv2_large_patch14_224", 56, img_size=56, depth=2, embed_dim=48, num_heads=4)
timm_net("swin_s3_tiny_224", 56, img_size=56, embed_dim=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 4), window_size=(7, 7, 7, 7))
timm_net("deepseek_vit_412m", 56, False, img_size=56, depth=2, embed_dim=48, num_heads=4)
timm_net("qwen3_vit_88m", 64, False, img_size=64, depth=2, embed_dim=48, num_heads=4, pos_embed_grid_size=8)


# ---- hand-written ---------------------------------------------------------------------------------------------------


def conv(i, o, **kw):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, **kw), nn.GroupNorm(2, o), nn.SiLU())


@network
def unet():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = conv(1, 8), conv(8, 16), conv(16, 16)
            self.up1, self.up2 = nn.ConvTranspose2d(16, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
            self.d, self.e, self.out = conv(32, 16), conv(16, 8), nn.Conv2d(8, 1, 1)

        def forward(self, x):
            a = self.a(x)
            b = self.b(F.max_pool2d(a, 2))
            c = self.c(F.max_pool2d(b, 2))
            d = self.d(torch.cat([self.up1(c), b], 1))
            return self.out(self.e(torch.cat([self.up2(d), a], 1)))

    return Net(), (image(16, 2, 1),)


@network
def voxels():
    return nn.Sequential(nn.Conv3d(1, 4, 3, 2, 1), nn.BatchNorm3d(4), nn.ELU(), nn.Conv3d(4, 8, 3, padding=1), nn.Softplus(), nn.MaxPool3d(2),
                         nn.AvgPool3d(2), nn.Flatten(), nn.Linear(8, 3)), (torch.randn(2, 1, 8, 8, 8),)


@network
def pointnet():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.t = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU())
            self.f = nn.Linear(16, 9)
            self.g = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 32, 1))
            self.h = nn.Linear(32, 4)

        def forward(self, x):
            m = self.f(self.t(x).max(2)[0]).view(-1, 3, 3) + torch.eye(3, dtype=x.dtype)
            return self.h(self.g(torch.bmm(m, x)).max(2)[0])

    return Net(), (torch.randn(2, 3, 20),)


def recurrent(kind, **kw):
    def build():
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.r = getattr(nn, kind)(5, 6, batch_first=True, **kw)
                self.o = nn.Linear(12 if kw.get("bidirectional") else 6, 2)

            def forward(self, x):
                return self.o(torch.tanh(self.r(x)[0]))

        return Net(), (torch.randn(2, 7, 5),)

    return build


networks["rnn"] = recurrent("RNN")
networks["rnn_relu_2_layers"] = recurrent("RNN", num_layers=2, nonlinearity="relu")
networks["lstm"] = recurrent("LSTM")
networks["lstm_bidirectional_2_layers"] = recurrent("LSTM", num_layers=2, bidirectional=True)
networks["gru"] = recurrent("GRU")
networks["gru_bidirectional"] = recurrent("GRU", bidirectional=True)


@network
def realnvp():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.nets = nn.ModuleList(nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 8)) for _ in range(4))
            self.masks = nn.Parameter(torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 1]] * 2), requires_grad=False)

        def forward(self, x):
            logdet = torch.zeros_like(x[:, 0])
            for net, m in zip(self.nets, self.masks):
                s, t = net(x * m).chunk(2, 1)
                s = torch.tanh(s)
                x = x * m + (1 - m) * (x * torch.exp(s) + t)
                logdet = logdet + ((1 - m) * s).sum(1)
            return -0.5 * (x**2).sum(1) - 2 * math.log(2 * math.pi) + logdet

    return Net(), (torch.randn(6, 4),)


@network
def deconv_generator():
    return nn.Sequential(nn.ConvTranspose2d(8, 16, 4), nn.BatchNorm2d(16), nn.LeakyReLU(0.2), nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.BatchNorm2d(8),
                         nn.LeakyReLU(0.2), nn.ConvTranspose2d(8, 3, 3, 2, 1, output_padding=1), nn.Tanh()), (torch.randn(2, 8, 1, 1),)


@network
def reflect_padding():
    return nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(3, 6, 7), nn.InstanceNorm2d(6, affine=True), nn.ReLU(), nn.ReplicationPad2d((1, 2, 0, 1)),
                         nn.Conv2d(6, 6, 3, 2), nn.CELU(), nn.CircularPad2d(1), nn.Conv2d(6, 3, 3), nn.Hardtanh(-3, 3)), (image(14, 2),)


@network
def spatial_transformer():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.loc = nn.Sequential(nn.Conv2d(1, 4, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 6))
            self.out = nn.Conv2d(1, 2, 3)

        def forward(self, x):
            theta = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]], dtype=x.dtype) + 0.2 * torch.tanh(self.loc(x)).view(-1, 2, 3)
            grid = F.affine_grid(theta, x.shape, align_corners=False)
            return self.out(F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False))

    return Net(), (image(11, 2, 1),)


@network
def flow_warp():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, a, b):
            n, _, h, w = a.shape
            flow = self.f(torch.cat([a, b], 1))
            ys, xs = torch.meshgrid(torch.linspace(-1, 1, h, dtype=a.dtype), torch.linspace(-1, 1, w, dtype=a.dtype), indexing="ij")
            grid = torch.stack([xs, ys], -1) + 0.3 * flow.permute(0, 2, 3, 1)
            warped = F.grid_sample(b, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
            mirrored = F.grid_sample(b, 2 * grid, mode="bilinear", padding_mode="reflection", align_corners=True)
            return (a - warped) ** 2 + mirrored

    return Net(), (image(9, 2, 1), image(9, 2, 1))


@network
def pixel_shuffle():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Mish(), nn.PixelUnshuffle(2), nn.Conv2d(32, 16, 1), nn.GELU(), nn.PixelShuffle(2), nn.Conv2d(4, 12, 3),
                         nn.PixelShuffle(2)), (image(8, 2),)


@network
def einsum_attention():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.o = nn.Linear(16, 48), nn.Linear(16, 16)

        def forward(self, x):
            q, k, v = self.qkv(x).view(x.shape[0], x.shape[1], 3, 4, 4).unbind(2)
            a = torch.softmax(torch.einsum("bihd,bjhd->bhij", q, k) / 2, -1)
            return self.o(torch.einsum("bhij,bjhd->bihd", a, v).flatten(2))

    return Net(), (torch.randn(2, 6, 16),)


@network
def transformer_decoder():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.d = nn.TransformerDecoderLayer(16, 4, 32, 0.0, activation="gelu", batch_first=True)

        def forward(self, x, y):
            mask = torch.triu(torch.full((x.shape[1], x.shape[1]), float("-inf"), dtype=x.dtype), 1)
            return self.d(x, y, tgt_mask=mask)

    return Net(), (torch.randn(2, 5, 16), torch.randn(2, 7, 16))


@network
def transformer_encoder():
    return nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True, norm_first=True), (torch.randn(2, 5, 16),)


def resize(**kw):
    def build():
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 2, 3)

            def forward(self, x):
                return self.b(F.interpolate(torch.tanh(self.a(x)), **kw))

        return Net(), (image(7, 2, 2),)

    return build


networks["upsample_nearest"] = resize(scale_factor=2, mode="nearest")
networks["upsample_nearest_exact"] = resize(size=(11, 10), mode="nearest-exact")
networks["upsample_bilinear"] = resize(scale_factor=2, mode="bilinear", align_corners=False)
networks["upsample_bilinear_corners"] = resize(size=(13, 12), mode="bilinear", align_corners=True)
networks["downsample_bilinear"] = resize(size=(5, 4), mode="bilinear", align_corners=False)
networks["downsample_antialias"] = resize(size=(5, 4), mode="bilinear", align_corners=False, antialias=True)
networks["upsample_bicubic"] = resize(scale_factor=2, mode="bicubic", align_corners=False)
networks["upsample_bicubic_corners"] = resize(size=(12, 15), mode="bicubic", align_corners=True)
networks["upsample_area"] = resize(size=(3, 4), mode="area")


class Lambda(nn.Module):
    """A function of the input and one weight of the input's last size."""
    def __init__(self, f, size):
        super().__init__()
        self.f, self.w = f, nn.Parameter(torch.randn(size))

    def forward(self, *x):
        return self.f(*x, self.w)


def function(name, f, *shapes):
    networks[name] = lambda: (Lambda(f, shapes[0][-1]), tuple(torch.randn(*s) for s in shapes))


def assign(x, w):
    y = x * w
    y = y.index_put((torch.tensor([0, 2]), torch.tensor([1, 1])), w[:2])
    y[1, 2:4] = w[3] * 2
    y[:, 0] += 1.5
    return torch.sin(y)


function("cumsum", lambda x, w: torch.cumsum(x * w, 1).tanh(), (3, 6))
function("topk", lambda x, w: (torch.topk(x * w, 3, -1)[0] ** 2).sum(-1), (4, 8))
function("sort", lambda x, w: torch.sort(x * w, -1)[0] * w, (4, 8))
function("roll", lambda x, w: torch.roll(x * w, (1, -2), (0, 1)) * x, (5, 6))
function("index_put", assign, (4, 5))
function("index_select", lambda x, w: torch.index_select(x * w, 0, torch.tensor([2, 0, 2])) ** 2 + x[:, [1, 1, 0, 4, 3]][:3], (4, 5))
function("gather_scatter", lambda x, w: torch.zeros_like(x).scatter_add(1, torch.tensor([[0, 2, 2, 1, 4]] * 3), x * w) + torch.gather(x, 1, torch.tensor([[1, 1, 0, 4, 3]] * 3)) ** 2, (3, 5))
function("where_mask", lambda x, w: torch.where(x > 0.3, x * w, torch.exp(x) - w).masked_fill(x < -1, 0.5).logsumexp(1), (4, 5))
function("norms", lambda x, w: torch.linalg.vector_norm(x * w, 3, -1) + F.normalize(x, dim=-1).sum(-1) * x.std(-1) + x.var(-1, unbiased=False) + x.norm(dim=-1), (4, 5))
function("products", lambda x, w: (x * w).prod(-1) + (x + w).cumsum(-1).prod(-1), (4, 5))
function("einsum_trace", lambda x, w: torch.einsum("bii->b", x * w) + torch.einsum("bij,bjk,k->b", x, x, w), (2, 4, 4))
function("pairwise", lambda x, w: torch.exp(-((x * w).unsqueeze(1) - x[:3]).norm(dim=-1)).sum(1), (5, 4))
function("kl_loss", lambda x, y, w: F.kl_div(F.log_softmax(x * w, -1), F.softmax(y, -1), reduction="batchmean") + F.smooth_l1_loss(x, y) + F.huber_loss(x, w.expand_as(x)), (4, 5), (4, 5))
function("bce_loss", lambda x, w: F.binary_cross_entropy_with_logits(x * w, (x.detach() > 0).to(x.dtype), reduction="none").mean(1), (4, 5))
function("cross_entropy", lambda x, w: F.cross_entropy(x * w, torch.tensor([1, 0, 4, 2]), reduction="none"), (4, 5))
function("activations", lambda x, w: sum(f(x * w) for f in (F.hardswish, F.hardsigmoid, F.selu, F.softsign, F.logsigmoid, F.relu6, F.tanhshrink, F.hardshrink, F.softshrink,
                                                           torch.atan, torch.erf, torch.sinh, F.elu, F.mish)), (4, 6))
function("minmax", lambda x, w: torch.maximum(x, w) * torch.minimum(x * 2, w) + x.amax(-1, keepdim=True) - torch.clamp(x, -0.5, 0.8) + torch.clamp(x, min=w), (4, 6))
function("remainder", lambda x, w: torch.remainder(x * 3, 1.3) * w + torch.fmod(x, 0.7) + torch.floor(x) * x + torch.frac(w), (4, 6))
function("fold", lambda x, w: F.fold(F.unfold(x * w, 2, padding=1).square(), (4, 5), 2, padding=1), (2, 3, 4, 5))
function("meshgrid", lambda x, w: torch.stack([torch.outer(a, w) for a in x]).transpose(1, 2).flip(0).tril().reshape(-1) ** 2, (3, 5))
function("unbind_split", lambda x, w: torch.cat([a * b for a, b in zip((x * w).split([1, 3, 2], 1), x.split([1, 3, 2], 1))], 1) + torch.stack(x.unbind(1), 1).square(), (4, 6))
function("determinant", lambda x, w: torch.linalg.det(x * w), (2, 3, 3))
function("fft_power", lambda x, w: torch.fft.rfft(x * w).abs().square(), (3, 8))
function("lrn", lambda x, w: F.local_response_norm(x * w, 3, 0.1, 0.75, 1.0), (2, 5, 4, 4))
function("lp_pool", lambda x, w: F.lp_pool2d(x * w, 2, 2), (2, 3, 4, 4))
function("adaptive_pool", lambda x, w: F.adaptive_avg_pool2d(x * w, (2, 4)).tanh() + F.adaptive_max_pool2d(x, 2).mean(), (2, 3, 8, 8))
function("avg_pool_padded", lambda x, w: F.avg_pool2d(x * w, 3, 2, 1, ceil_mode=True, count_include_pad=False) + F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), (2, 3, 7, 6))
function("rms_norm", lambda x, w: F.rms_norm(x, (6,), w) + F.layer_norm(x, (6,), w), (4, 6))
function("rotary", lambda x, w: (lambda y, t: torch.cat([y[..., :4] * torch.cos(t) - y[..., 4:] * torch.sin(t), y[..., :4] * torch.sin(t) + y[..., 4:] * torch.cos(t)], -1))(
    x * w, torch.outer(torch.arange(5.0), 0.1 ** torch.arange(4.0)).to(x.dtype)), (2, 5, 8))
function("attention_causal", lambda x, w: F.scaled_dot_product_attention(x * w, x, x * x, is_causal=True), (2, 3, 5, 8))
function("attention_grouped", lambda x, y, w: F.scaled_dot_product_attention(x * w, y, y * 0.5, enable_gqa=True), (2, 4, 5, 8), (2, 2, 5, 8))
function("conv_transpose_groups", lambda x, w: F.conv_transpose2d(x, w.view(1, 1, 1, 6).expand(4, 2, 3, 6) * 0.3, stride=(2, 3), padding=1, output_padding=(1, 2), groups=2, dilation=(2, 1)), (2, 4, 3, 6))
function("conv1d_dilated", lambda x, w: F.conv1d(x, w.view(1, 1, -1)[..., :3].expand(4, 2, 3) * 0.5, stride=2, padding=3, dilation=2, groups=2), (2, 4, 11))
function("slices", lambda x, w: (x * w)[::2, 1:-1, ...][:, ::3] ** 2 + (x * w)[1::2, 2:, -1:][:, :2] + x.flip(1)[:2, :2], (4, 6, 5))
function("diagonal", lambda x, w: torch.diagonal(x * w, dim1=-2, dim2=-1).exp() + torch.diag_embed(x[:, 0]).sum(1), (2, 4, 4))
function("chunk_norm", lambda x, w: torch.cat(torch.chunk(F.group_norm(x * w, 2), 2, 1)[::-1], 1), (2, 4, 3, 5))
function("double_where", lambda x, w: torch.where(x.abs() > 0.1, (x * w).abs().clamp(min=1e-3).sqrt(), x**2) * w, (4, 6))


@network
def weight_norm_mlp():
    from torch.nn.utils.parametrizations import weight_norm
    return nn.Sequential(weight_norm(nn.Linear(6, 16)), nn.Tanh(), weight_norm(nn.Linear(16, 16)), nn.PReLU(), nn.Linear(16, 1)), (torch.randn(4, 6),)


@network
def spectral_norm_conv():
    from torch.nn.utils.parametrizations import spectral_norm
    return nn.Sequential(spectral_norm(nn.Conv2d(3, 8, 3, 2, 1)), nn.LeakyReLU(0.1), spectral_norm(nn.Conv2d(8, 4, 3, 2)), nn.Flatten(), nn.Linear(4 * 4, 1)), (image(9, 2),)


@network
def energy_short_run():
    def block(i, o, s):
        return [nn.Conv2d(i, o, 3 if s == 1 else 4, s, 1), nn.LeakyReLU(0.2)]

    return nn.Sequential(*block(3, 8, 1), *block(8, 16, 2), *block(16, 32, 2), nn.Conv2d(32, 1, 4)), (image(16, 4),)


@network
def squeeze_excite():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

        def forward(self, x):
            y = F.hardswish(self.a(x))
            return y * F.hardsigmoid(self.c(F.relu(self.b(F.adaptive_avg_pool2d(y, 1))))) + F.adaptive_max_pool2d(y, 1)

    return Net(), (image(9, 2),)


@network
def embedding():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.e, self.p = nn.Embedding(10, 8), nn.Parameter(torch.randn(6, 8))
            self.o = nn.Linear(8, 3)

        def forward(self, x):
            return self.o(self.e(torch.tensor([[1, 4, 4, 0, 9, 1]])) * x + self.p)

    return Net(), (torch.randn(2, 6, 8),)


@network
def vq_soft():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.code = nn.Parameter(torch.randn(12, 4))

        def forward(self, x):
            d = (x.unsqueeze(1) - self.code).square().sum(-1)
            hard = F.embedding(d.argmin(1), self.code)
            return F.softmax(-d, 1) @ self.code + hard

    return Net(), (torch.randn(5, 4),)


@network
def batch_norm_1d():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8, affine=False), nn.Tanh()), (torch.randn(5, 6),)


# ---- later additions: what exporters make of control flow, of sizes known at run time, and of layers that are put together by hand ----


def module(function, *inputs, **parts):
    """A module whose forward is function(self, x) or function(self, x, y), with submodules and parameters as parts."""
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            for k, v in parts.items():
                setattr(self, k, v)

    class One(Net):
        def forward(self, x):
            return function(self, x)

    class Two(Net):
        def forward(self, x, y):
            return function(self, x, y)

    return (One if len(inputs) == 1 else Two)(), inputs


def parameter(*dims):
    return nn.Parameter(torch.randn(*dims) / math.sqrt(dims[0]))


@network
def attention_rotary_masked():
    """Grouped heads, rotary positions and a mask of padded places."""
    def turn(x):
        n, d = x.shape[2], x.shape[3]
        angle = torch.arange(n).unsqueeze(1).to(x.dtype) * 10.0 ** (-torch.arange(0, d, 2).to(x.dtype) / d)
        a, b = x[..., : d // 2], x[..., d // 2:]
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)

    def forward(m, x):
        b, n, _ = x.shape
        q = m.q(x).view(b, n, 4, 8).transpose(1, 2)
        k, v = (w(x).view(b, n, 2, 8).transpose(1, 2).repeat_interleave(2, 1) for w in (m.k, m.v))
        masked = (torch.arange(n) > n - 3).view(1, 1, 1, n)
        a = (turn(q) @ turn(k).transpose(2, 3) / math.sqrt(8)).masked_fill(masked, float("-inf")).softmax(-1)
        return m.o((a @ v).transpose(1, 2).reshape(b, n, 32))

    return module(forward, torch.randn(2, 7, 32), q=nn.Linear(32, 32), k=nn.Linear(32, 16), v=nn.Linear(32, 16), o=nn.Linear(32, 32))


@network
def attention_alibi():
    def forward(m, x):
        n = x.shape[1]
        far = (torch.arange(n)[None] - torch.arange(n)[:, None]).to(x.dtype)
        bias = torch.where(far > 0, torch.full_like(far, -1e4), far) * torch.tensor([0.5, 0.25], dtype=x.dtype).view(2, 1, 1)
        q, k, v = m.qkv(F.layer_norm(x, (16,))).view(-1, n, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        return x + F.scaled_dot_product_attention(q, k, v, bias).transpose(1, 2).flatten(2)

    return module(forward, torch.randn(2, 6, 16), qkv=nn.Linear(16, 48))


def upsampling_unet(mode):
    def forward(m, x):
        a = F.silu(m.down(x))
        b = F.silu(m.deep(F.avg_pool2d(a, 2, ceil_mode=False)))
        up = F.interpolate(b, size=a.shape[-2:], mode=mode, align_corners=None if mode == "nearest" else False)
        return F.interpolate(m.out(torch.cat([a, up], 1)), size=x.shape[-2:], mode=mode, align_corners=None if mode == "nearest" else False)

    return module(forward, image(19, 2), down=nn.Conv2d(3, 6, 3, 2, 1), deep=nn.Conv2d(6, 8, 3, 1, 1), out=nn.Conv2d(14, 2, 1))


for _mode in ("bicubic", "bilinear", "nearest"):
    networks["unet_to_size_" + _mode] = lambda mode=_mode: upsampling_unet(mode)


@network
def torchvision_fpn():
    from torchvision.ops import FeaturePyramidNetwork

    def forward(m, x):
        a = F.relu(m.a(x))
        b = F.relu(m.b(a))
        c = F.relu(m.c(b))
        levels = m.fpn({"a": a, "b": b, "c": c})
        return torch.cat([v.flatten(2) for v in levels.values()], 2)

    return module(forward, image(36, 2), a=nn.Conv2d(3, 6, 3, 2, 1), b=nn.Conv2d(6, 8, 3, 2, 1), c=nn.Conv2d(8, 10, 3, 2, 1), fpn=FeaturePyramidNetwork([6, 8, 10], 4))


@network
def torchvision_retina_head():
    from torchvision.models.detection.retinanet import RetinaNetHead

    def forward(m, x, y):
        out = m.head([x, y])
        return torch.cat([out["cls_logits"], out["bbox_regression"]], 2)

    return module(forward, torch.randn(1, 8, 6, 6), torch.randn(1, 8, 3, 3), head=RetinaNetHead(8, 2, 3))


@network
def torchvision_ssd_head():
    from torchvision.models.detection.ssd import SSDHead

    def forward(m, x, y):
        out = m.head([x, y])
        return torch.cat([out["cls_logits"].softmax(-1), out["bbox_regression"]], 2)

    return module(forward, torch.randn(2, 6, 5, 5), torch.randn(2, 8, 3, 3), head=SSDHead([6, 8], [2, 3], 4))


@network
def deformable():
    """Samples at learned offsets, several a place, weighed by a softmax."""
    def forward(m, x):
        b, c, h, w = x.shape
        at = torch.tanh(m.offset(x)).view(b, 3, 2, h, w).permute(0, 1, 3, 4, 2).reshape(b, 3 * h, w, 2)
        grid = torch.stack(torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")[::-1], -1).to(x.dtype)
        got = F.grid_sample(m.value(x), grid.repeat(3, 1, 1) + 0.3 * at, padding_mode="border", align_corners=True)
        return (got.view(b, 4, 3, h, w) * m.weight(x).softmax(1).unsqueeze(1)).sum(2)

    return module(forward, image(9, 2), offset=nn.Conv2d(3, 6, 3, 1, 1), weight=nn.Conv2d(3, 3, 1), value=nn.Conv2d(3, 4, 1))


@network
def conv_lstm():
    def forward(m, x):
        h = c = torch.zeros_like(x[:, 0, :1]).repeat(1, 4, 1, 1)
        for t in range(3):
            i, f, o, g = m.gates(torch.cat([x[:, t], h], 1)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return m.out(h)

    return module(forward, torch.randn(2, 3, 2, 6, 6), gates=nn.Conv2d(6, 16, 3, 1, 1), out=nn.Conv2d(4, 1, 1))


@network
def gru_cells():
    def forward(m, x):
        h = x.new_zeros(x.shape[0], 5)
        out = []
        for t in range(4):
            h = m.cell(x[:, t], h)
            out.append(h)
        return torch.stack(out, 1).flip(1)

    return module(forward, torch.randn(3, 4, 6), cell=nn.GRUCell(6, 5))


@network
def lstm_projected():
    return module(lambda m, x: m.net(x)[0][:, ::2], torch.randn(2, 6, 5), net=nn.LSTM(5, 8, batch_first=True, proj_size=0, bidirectional=True))


@network
def loop_scripted():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = parameter(6, 6)

        def forward(self, x):
            y = x
            for i in range(5):
                y = torch.tanh(y @ self.w) + x * (0.1 * float(i))
            return y

    return torch.jit.script(Net()), (torch.randn(2, 6),)


@network
def branch_scripted():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 4), nn.Linear(6, 4)

        def forward(self, x):
            y = torch.sin(x)
            if bool(x.sum() > 0):
                z = self.a(y) * y[:, :4]
            else:
                z = torch.exp(self.b(x))
            return z + x[:, 2:]

    return torch.jit.script(Net()), (torch.randn(3, 6),)


@network
def while_scripted():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = parameter(4, 4)

        def forward(self, x):
            y, n = x, 0
            while n < 6 and bool(y.square().sum() < 64.0):
                y = 1.3 * y + torch.tanh(y @ self.w)
                n += 1
            return y

    return torch.jit.script(Net()), (torch.randn(3, 4),)


@network
def mixture_of_experts():
    def forward(m, x):
        best, at = m.gate(x).topk(2, -1)
        picked = m.w[at] @ x[:, None, :, None]
        return (picked.squeeze(-1).relu() * best.softmax(-1).unsqueeze(-1)).sum(1)

    return module(forward, torch.randn(5, 6), gate=nn.Linear(6, 4), w=parameter(4, 7, 6))


@network
def message_passing():
    def forward(m, x):
        a, b = torch.tensor([0, 1, 1, 2, 3, 4, 4]), torch.tensor([1, 0, 2, 3, 1, 0, 3])
        sent = m.f(torch.cat([x[:, a], x[:, b], (x[:, a] - x[:, b]).norm(dim=-1, keepdim=True)], -1)).relu()
        got = torch.zeros(x.shape[0], 5, 8, dtype=x.dtype).index_add(1, b, sent)
        return m.g(torch.cat([x, got], -1)).softmax(-1)

    return module(forward, torch.randn(2, 5, 3), f=nn.Linear(7, 8), g=nn.Linear(11, 4))


@network
def weight_standardized():
    def forward(m, x):
        v, mean = torch.var_mean(m.w, (1, 2, 3), keepdim=True, unbiased=True)
        return F.group_norm(F.conv2d(x, (m.w - mean) * torch.rsqrt(v + 1e-5), padding="same", dilation=2), 2).square()

    return module(forward, image(8, 2), w=parameter(6, 3, 3, 3))


@network
def hyper_convolution():
    """The weights of a convolution are worked out for each example."""
    def forward(m, x):
        b, c, h, w = x.shape
        k = m.make(x.mean((2, 3))).view(b * 4, c, 3, 3)
        return F.conv2d(x.reshape(1, b * c, h, w), k, groups=b, padding=1).view(b, 4, h, w)

    return module(forward, image(7, 2), make=nn.Linear(3, 108))


@network
def spectral_convolution():
    def forward(m, x):
        f = torch.fft.rfft(x, dim=-1)
        return (f.real * m.w).sum(1) + (f.imag.abs() + 1).log().mean(1)

    return module(forward, torch.randn(2, 3, 10), w=parameter(3, 6))


@network
def sinkhorn():
    def forward(m, x):
        p = -torch.cdist(x, m.w[None]).square()
        for _ in range(4):
            p = p - p.logsumexp(2, keepdim=True)
            p = p - p.logsumexp(1, keepdim=True)
        return (p.exp() * torch.cdist(x, m.w[None])).sum((1, 2))

    return module(forward, torch.randn(2, 4, 3), w=parameter(4, 3))


@network
def masked_convolutions():
    def forward(m, x):
        mask = torch.ones_like(m.c.weight)
        mask[:, :, 2:] = 0
        mask[:, :, 1, 2:] = 0
        y = F.conv2d(x, m.c.weight * mask, m.c.bias, padding=1)
        a, b = y.chunk(2, 1)
        return a.tanh() * b.sigmoid()

    return module(forward, image(7, 2, 2), c=nn.Conv2d(2, 8, 3))


@network
def unpooling():
    def forward(m, x):
        y, at = F.max_pool2d(m.a(x).tanh(), 2, return_indices=True)
        return m.b(F.pixel_unshuffle(F.leaky_relu(F.pixel_shuffle(y, 2), 0.2), 2)) + F.adaptive_avg_pool2d(x[:, :1], y.shape[-1])

    return module(forward, image(8, 2), a=nn.Conv2d(3, 8, 3, 1, 1), b=nn.Conv2d(8, 1, 1))


@network
def volume_upsampling():
    def forward(m, x):
        y = F.interpolate(m.a(x), scale_factor=(2, 1.5, 2), mode="trilinear", align_corners=True)
        return m.b(F.hardswish(F.instance_norm(y)))

    return module(forward, torch.randn(1, 2, 4, 4, 3), a=nn.ConvTranspose3d(2, 4, 3, stride=2, padding=1, output_padding=1, bias=False), b=nn.Conv3d(4, 2, 2, groups=2))


@network
def perceiver():
    def forward(m, x):
        z = m.latents.expand(x.shape[0], -1, -1)
        for _ in range(2):
            z = z + m.attend(m.norm(z), x, x, need_weights=False)[0]
            z = z + m.mlp(m.norm(z))
        return z.mean(1)

    return module(forward, torch.randn(2, 9, 16), latents=parameter(1, 4, 16), attend=nn.MultiheadAttention(16, 2, batch_first=True), norm=nn.LayerNorm(16),
                  mlp=nn.Sequential(nn.Linear(16, 24), nn.GELU("tanh"), nn.Linear(24, 16)))


@network
def odd_ops():
    def forward(m, x):
        y = torch.stack([x.cumsum(1), x.flip(1), x.roll(2, 1), torch.tril(x @ x.transpose(1, 2))[:, :, :5].repeat(1, 1, 1)], 1)
        y = torch.cat([y[:, ::2], y[:, 1::2]], -1).unfold(-1, 4, 3)
        y = torch.where(y > 0, torch.atan2(y, y.abs() + 1), F.logsigmoid(y)) + m.w
        return torch.lerp(y, y.clamp(-0.5, 0.5), 0.3).nan_to_num().logsumexp(1) * torch.erf(y).prod(1)

    return module(forward, torch.randn(2, 5, 5), w=parameter(4))


# Files of other writers, made by hand beside a module that computes the same.
FILES = {}


def by_hand(f, opset):
    """f(opset) returns (module, inputs, model): the file is not exported from the module."""
    name = f"{f.__name__}_opset{opset}"
    FILES[name] = lambda: f(opset)
    networks[name] = lambda: f(opset)[:2]


def onnx_file(opset, nodes, x, y, weights, batch="N"):
    from onnx import TensorProto, helper, numpy_helper
    graph = helper.make_graph(nodes, "graph", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch] + x)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch] + y)],
                              [numpy_helper.from_array(v.detach().numpy() if torch.is_tensor(v) else v, k) for k, v in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4 if opset < 10 else 8)


def tf_cnn(opset):
    """As tf2onnx writes a Keras network: channels last outside, transposed around every convolution."""
    import numpy as np
    from onnx import helper
    m, inputs = module(lambda m, x: m.f(F.relu6(m.b(F.max_pool2d(F.elu(m.a(x.permute(0, 3, 1, 2))), 2))).mean((2, 3))).softmax(-1),
                       torch.randn(2, 9, 9, 3), a=nn.Conv2d(3, 4, 3, padding=1), b=nn.Conv2d(4, 6, 3, 2), f=nn.Linear(6, 5))
    loosened(m)
    n = helper.make_node
    pool = n("ReduceMean", ["r"], ["p"], axes=[1, 2], keepdims=0) if opset < 18 else n("ReduceMean", ["r", "spatial"], ["p"], keepdims=0)
    clip = n("Clip", ["u"], ["r"], min=0.0, max=6.0) if opset < 11 else n("Clip", ["u", "lo", "hi"], ["r"])
    nodes = [n("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]), n("Conv", ["t", "a", "ab"], ["c"], auto_pad="SAME_UPPER"), n("Elu", ["c"], ["e"]),
             n("MaxPool", ["e"], ["q"], kernel_shape=[2, 2], strides=[2, 2]), n("Transpose", ["q"], ["s"], perm=[0, 2, 3, 1]),
             n("Transpose", ["s"], ["v"], perm=[0, 3, 1, 2]), n("Conv", ["v", "b"], ["d"], strides=[2, 2], auto_pad="VALID"), n("Transpose", ["d"], ["w"], perm=[0, 2, 3, 1]),
             n("Add", ["w", "bb"], ["u"]), clip, pool, n("MatMul", ["p", "f"], ["g"]), n("Add", ["g", "fb"], ["l"]), n("Softmax", ["l"], ["y"], axis=-1 if opset >= 11 else 1)]
    weights = {"a": m.a.weight, "ab": m.a.bias, "b": m.b.weight, "bb": m.b.bias, "f": m.f.weight.T.contiguous(), "fb": m.f.bias}
    if opset >= 11:
        weights |= {"lo": np.float32(0).reshape(()), "hi": np.float32(6).reshape(())}
    if opset >= 18:
        weights["spatial"] = np.array([1, 2], np.int64)
    return m, inputs, onnx_file(opset, nodes, [9, 9, 3], [5], weights)


def loosened(m):
    """Random weights before a file is made of them."""
    for p in m.parameters():
        p.data = 0.5 * torch.randn_like(p)


def skl_mlp(opset):
    """As skl2onnx writes an MLPRegressor."""
    import numpy as np
    from onnx import helper
    m, inputs = module(lambda m, x: m.c(torch.tanh(m.b(torch.tanh(m.a(x))))), torch.randn(6, 4), a=nn.Linear(4, 8), b=nn.Linear(8, 6), c=nn.Linear(6, 1))
    loosened(m)
    n = helper.make_node
    nodes, at = [n("Cast", ["x"], ["x0"], to=1)], "x0"
    weights = {"shape": np.array([-1, 1], np.int64)}
    for i, layer in enumerate((m.a, m.b, m.c)):
        weights |= {f"coefficient{i}": layer.weight.T.contiguous(), f"intercepts{i}": layer.bias.reshape(1, -1)}
        nodes += [n("MatMul", [at, f"coefficient{i}"], [f"mul{i}"]), n("Add", [f"mul{i}", f"intercepts{i}"], [f"add{i}"])]
        at = f"add{i}"
        if i < 2:
            nodes.append(n("Tanh", [at], [f"act{i}"]))
            at = f"act{i}"
    return m, inputs, onnx_file(opset, nodes + [n("Reshape", [at, "shape"], ["y"])], [4], [1], weights)


for _opset in (9, 11, 15, 21):
    by_hand(tf_cnn, _opset)
for _opset in (9, 13, 23):
    by_hand(skl_mlp, _opset)
