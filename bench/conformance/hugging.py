"""Networks of transformers and diffusers for the conformance set: published families with few layers and small pictures."""
import torch
import torch.nn as nn

from networks import image, networks


class Pick(nn.Module):
    """One output of a network that takes its inputs by name and returns many; what is constant is given here."""
    def __init__(self, net, names, pick, constants):
        super().__init__()
        self.net, self.names, self.pick, self.constants = net, names, pick, constants

    def forward(self, *inputs):
        out = self.net(**dict(zip(self.names, inputs)), **self.constants)
        if callable(self.pick):
            return self.pick(out)
        out = out[self.pick]
        return out[-1] if isinstance(out, (tuple, list)) else out


class One(Pick):
    def forward(self, x):
        return super().forward(x)


class Two(Pick):
    def forward(self, x, y):
        return super().forward(x, y)


class Three(Pick):
    def forward(self, x, y, z):
        return super().forward(x, y, z)


def build(name, net, pick, inputs, **constants):
    """net() makes the network, inputs() a dictionary of what it is called with."""
    def make():
        given = inputs()
        m = net()
        if hasattr(m, "config"):
            m.config.use_cache = False
        return (One, Two, Three)[len(given) - 1](m, list(given), pick, constants), tuple(given.values())

    networks[name] = make


def hf(name, cls, config, pick="last_hidden_state", size=32, inputs=None, settings=None, constants=None, **kwargs):
    """A transformers model of class cls with a configuration of class config."""
    def net():
        import transformers
        c = getattr(transformers, config)(**{"attn_implementation": "eager", **kwargs})
        for k, v in (settings or {}).items():
            setattr(c, k, v)
        return getattr(transformers, cls)(c)

    build("hf_" + name, net, pick, inputs or (lambda: {"pixel_values": image(size)}), **(constants or {}))


SMALL = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
PATCH = dict(image_size=32, patch_size=8)
ids = lambda *dims, top=40: torch.randint(1, top, dims)


def video(frames, size):
    return lambda: {"pixel_values": torch.randn(1, frames, 3, size, size)}


def tokens(batch=2, length=7, top=40):
    return lambda: {"input_ids": ids(batch, length, top=top)}


def embedded(width=32, length=7):
    return lambda: {"inputs_embeds": torch.randn(2, length, width)}


# ---- pictures ---------------------------------------------------------------------------------------------------------

hf("vit", "ViTForImageClassification", "ViTConfig", "logits", **SMALL, **PATCH)
hf("vit_sdpa", "ViTModel", "ViTConfig", attn_implementation="sdpa", **SMALL, **PATCH)
hf("deit", "DeiTForImageClassificationWithTeacher", "DeiTConfig", "logits", **SMALL, **PATCH)
hf("beit", "BeitModel", "BeitConfig", use_relative_position_bias=True, use_mean_pooling=True, **SMALL, **PATCH)
hf("beit_segmentation", "BeitForSemanticSegmentation", "BeitConfig", "logits", out_indices=[1, 2, 3, 4], use_shared_relative_position_bias=True, add_fpn=True, pool_scales=[1, 2],
   **{**SMALL, "num_hidden_layers": 4}, **PATCH)
hf("data2vec_vision", "Data2VecVisionModel", "Data2VecVisionConfig", use_relative_position_bias=True, **SMALL, **PATCH)
hf("swin", "SwinModel", "SwinConfig", size=32, image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4)
hf("swin_padded", "SwinModel", "SwinConfig", size=36, image_size=36, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4)
hf("swinv2", "Swinv2Model", "Swinv2Config", size=32, image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4)
hf("swin2sr", "Swin2SRForImageSuperResolution", "Swin2SRConfig", "reconstruction", size=16, image_size=16, patch_size=1, embed_dim=16, depths=[2, 1], num_heads=[2, 2],
   window_size=4, upscale=2)
hf("swin2sr_direct", "Swin2SRForImageSuperResolution", "Swin2SRConfig", "reconstruction", size=16, image_size=16, patch_size=1, embed_dim=16, depths=[2], num_heads=[2],
   window_size=4, upscale=2, upsampler="pixelshuffledirect")
hf("donut_swin", "DonutSwinModel", "DonutSwinConfig", size=32, image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4)
hf("maskformer_swin", "MaskFormerSwinBackbone", "MaskFormerSwinConfig", "feature_maps", size=36, image_size=36, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4],
   window_size=4, out_features=["stage1", "stage2"])
hf("convnext", "ConvNextModel", "ConvNextConfig", hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1])
hf("convnextv2", "ConvNextV2Model", "ConvNextV2Config", hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1])
hf("segformer", "SegformerForSemanticSegmentation", "SegformerConfig", "logits", size=64, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 4],
   decoder_hidden_size=16)
hf("glpn", "GLPNForDepthEstimation", "GLPNConfig", "predicted_depth", size=64, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 4],
   decoder_hidden_size=16)
hf("dpt", "DPTForDepthEstimation", "DPTConfig", "predicted_depth", **{**SMALL, "num_hidden_layers": 4}, **PATCH, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 12, 16],
   fusion_hidden_size=16, is_hybrid=False)
hf("dpt_segmentation", "DPTForSemanticSegmentation", "DPTConfig", "logits", **{**SMALL, "num_hidden_layers": 4}, **PATCH, backbone_out_indices=[0, 1, 2, 3],
   neck_hidden_sizes=[8, 8, 12, 16], fusion_hidden_size=16, is_hybrid=False, readout_type="add")
hf("dinov2", "Dinov2Model", "Dinov2Config", **SMALL, image_size=40, patch_size=8)
hf("dinov2_swiglu", "Dinov2Model", "Dinov2Config", **SMALL, image_size=32, patch_size=8, use_swiglu_ffn=True)
hf("dinov2_registers", "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", **SMALL, image_size=40, patch_size=8, num_register_tokens=2)
hf("dinov3_vit", "DINOv3ViTModel", "DINOv3ViTConfig", **SMALL, **PATCH, num_register_tokens=2)
hf("dinov3_gated", "DINOv3ViTModel", "DINOv3ViTConfig", **SMALL, **PATCH, num_register_tokens=2, use_gated_mlp=True)
hf("dinov3_convnext", "DINOv3ConvNextModel", "DINOv3ConvNextConfig", hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1])
hf("vit_msn", "ViTMSNModel", "ViTMSNConfig", **SMALL, **PATCH)
hf("vitdet", "VitDetModel", "VitDetConfig", **{k: v for k, v in SMALL.items() if k != "intermediate_size"}, image_size=48, patch_size=8, window_size=4, window_block_indices=[0],
   residual_block_indices=[1], use_relative_position_embeddings=True, pretrain_image_size=32)
hf("vitmae", "ViTMAEModel", "ViTMAEConfig", **SMALL, **PATCH, mask_ratio=0.5, inputs=lambda: {"pixel_values": image(32), "noise": torch.rand(1, 16)})
hf("vitmae_pretraining", "ViTMAEForPreTraining", "ViTMAEConfig", "logits", **SMALL, **PATCH, mask_ratio=0.5, decoder_num_hidden_layers=1, decoder_hidden_size=16,
   decoder_intermediate_size=24, decoder_num_attention_heads=2, inputs=lambda: {"pixel_values": image(32), "noise": torch.rand(1, 16)})
hf("ijepa", "IJepaModel", "IJepaConfig", **SMALL, **PATCH)
hf("yolos", "YolosForObjectDetection", "YolosConfig", "pred_boxes", **SMALL, image_size=[32, 40], patch_size=8, num_detection_tokens=5,
   inputs=lambda: {"pixel_values": torch.randn(1, 3, 32, 40)})
hf("poolformer", "PoolFormerModel", "PoolFormerConfig", hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1])
hf("levit", "LevitForImageClassification", "LevitConfig", "logits", size=64, image_size=64, hidden_sizes=[16, 24, 32], num_attention_heads=[2, 2, 4], depths=[1, 1, 1], key_dim=[8, 8, 8],
   settings={"down_ops": [["Subsample", 8, 2, 4, 2, 2], ["Subsample", 8, 3, 4, 2, 2]]})
hf("mobilevit", "MobileViTModel", "MobileViTConfig", size=64, image_size=64, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 12, 16, 16, 20, 24], num_attention_heads=4)
hf("mobilevit_deeplab", "MobileViTForSemanticSegmentation", "MobileViTConfig", "logits", size=64, image_size=64, hidden_sizes=[16, 24, 32],
   neck_hidden_sizes=[8, 8, 12, 16, 16, 20, 24], num_attention_heads=4, aspp_out_channels=12, atrous_rates=[1, 2, 3])
hf("mobilevitv2", "MobileViTV2Model", "MobileViTV2Config", size=64, image_size=64, width_multiplier=0.25)
hf("mobilenet_v1", "MobileNetV1Model", "MobileNetV1Config", size=33, image_size=33, depth_multiplier=0.25)
hf("mobilenet_v2", "MobileNetV2Model", "MobileNetV2Config", size=33, image_size=33, depth_multiplier=0.25)
hf("efficientnet", "EfficientNetModel", "EfficientNetConfig", size=48, image_size=48, width_coefficient=0.25, depth_coefficient=0.3, hidden_dim=320)
hf("focalnet", "FocalNetModel", "FocalNetConfig", image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], use_conv_embed=True, normalize_modulator=True)
hf("cvt", "CvtModel", "CvtConfig", embed_dim=[8, 16, 24], num_heads=[1, 2, 3], depth=[1, 2, 3])
hf("pvt", "PvtModel", "PvtConfig", size=64, image_size=64, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 3, 4])
hf("pvt_v2", "PvtV2Model", "PvtV2Config", size=64, image_size=64, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 3, 4])
hf("pvt_v2_linear", "PvtV2Model", "PvtV2Config", size=64, image_size=64, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 3, 4], linear_attention=True)
hf("regnet", "RegNetModel", "RegNetConfig", embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], groups_width=4, layer_type="y")
hf("resnet", "ResNetModel", "ResNetConfig", embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])
hf("bit", "BitModel", "BitConfig", embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="preactivation", global_padding="SAME", num_groups=2)
hf("hgnetv2", "HGNetV2Backbone", "HGNetV2Config", "feature_maps", embedding_size=8, hidden_sizes=[12, 16, 20, 24], stem_channels=[3, 8, 8], stage_in_channels=[8, 12, 16, 20],
   stage_mid_channels=[8, 8, 8, 8], stage_out_channels=[12, 16, 20, 24], stage_num_blocks=[1, 1, 1, 1], stage_downsample=[False, True, True, True],
   stage_light_block=[False, False, True, True], stage_kernel_size=[3, 3, 5, 5], stage_numb_of_layers=[2, 2, 2, 2])
hf("textnet", "TextNetModel", "TextNetConfig", size=64, image_size=[64, 64], conv_layer_kernel_sizes=[[[3, 3]], [[3, 1]], [[1, 3]], [[3, 3]]],
   conv_layer_strides=[[2], [2], [2], [2]], hidden_sizes=[8, 8, 12, 16, 24], stem_out_channels=8)
hf("hiera", "HieraModel", "HieraConfig", size=64, image_size=[64, 64], embed_dim=8, num_heads=[1, 2, 4, 8], depths=[1, 1, 2, 1])
hf("seggpt", "SegGptModel", "SegGptConfig", **{k: v for k, v in SMALL.items() if k != "intermediate_size"}, image_size=[64, 32], patch_size=8, mlp_dim=48, pretrain_image_size=32,
   decoder_hidden_size=8, intermediate_hidden_state_indices=[0, 1, 1, 1], merge_index=0,
   inputs=lambda: {"pixel_values": image(32), "prompt_pixel_values": image(32), "prompt_masks": image(32)})
hf("sam_vision", "SamVisionModel", "SamVisionConfig", size=64, hidden_size=32, output_channels=16, num_hidden_layers=2, num_attention_heads=4, image_size=64, patch_size=8, mlp_dim=48,
   window_size=3, global_attn_indexes=[1])
hf("sam2_hiera", "Sam2HieraDetModel", "Sam2HieraDetConfig", size=64, hidden_size=16, num_attention_heads=1, image_size=[64, 64], patch_kernel_size=[7, 7],
   patch_stride=[4, 4], patch_padding=[3, 3], query_stride=[2, 2], window_positional_embedding_background_size=[7, 7], blocks_per_stage=[1, 1, 2, 1],
   embed_dim_per_stage=[16, 32, 64, 128], num_attention_heads_per_stage=[1, 2, 4, 8], window_size_per_stage=[8, 4, 4, 2], global_attention_blocks=[3])
hf("siglip_vision", "SiglipVisionModel", "SiglipVisionConfig", "pooler_output", **SMALL, **PATCH)
hf("siglip2_vision", "Siglip2VisionModel", "Siglip2VisionConfig", "last_hidden_state", **SMALL, patch_size=8, num_patches=16,
   inputs=lambda: {"pixel_values": torch.randn(1, 16, 192)}, constants={"pixel_attention_mask": torch.tensor([[1] * 12 + [0] * 4]), "spatial_shapes": torch.tensor([[3, 4]])})
hf("clip_vision", "CLIPVisionModelWithProjection", "CLIPVisionConfig", "image_embeds", **SMALL, **PATCH, projection_dim=12)
hf("clip_text", "CLIPTextModelWithProjection", "CLIPTextConfig", "text_embeds", inputs=tokens(), **SMALL, vocab_size=50, max_position_embeddings=12, projection_dim=12, eos_token_id=49)
hf("blip_vision", "BlipVisionModel", "BlipVisionConfig", **SMALL, **PATCH)
hf("align_vision", "AlignVisionModel", "AlignVisionConfig", size=48, image_size=48, width_coefficient=0.25, depth_coefficient=0.3, hidden_dim=64)
hf("aimv2", "Aimv2VisionModel", "Aimv2VisionConfig", **SMALL, **PATCH)
hf("pixtral", "PixtralVisionModel", "PixtralVisionConfig", **SMALL, **PATCH, settings={"head_dim": 8}, constants={"image_sizes": torch.tensor([[32, 32]])})
hf("vjepa2", "VJEPA2Model", "VJEPA2Config", **{k: v for k, v in SMALL.items() if k != "intermediate_size"}, crop_size=32, patch_size=8, frames_per_clip=4, tubelet_size=2, mlp_ratio=2, pred_hidden_size=16, pred_num_attention_heads=2, pred_num_hidden_layers=1,
   constants={"skip_predictor": True}, inputs=lambda: {"pixel_values_videos": torch.randn(1, 4, 3, 32, 32)})



def on_backbone(name, cls, config, pick, size, backbone, **kwargs):
    """A model with a small backbone, which backbone(transformers) configures."""
    def net():
        import transformers
        return getattr(transformers, cls)(getattr(transformers, config)(backbone_config=backbone(transformers), **kwargs))

    build("hf_" + name, net, pick, lambda: {"pixel_values": image(size)})


STAGES = ["stage1", "stage2", "stage3", "stage4"]
dino = lambda t: t.Dinov2Config(**{**SMALL, "num_hidden_layers": 4}, image_size=56, patch_size=14, out_features=STAGES, reshape_hidden_states=False, attn_implementation="eager")
NECK = dict(patch_size=14, reassemble_hidden_size=32, neck_hidden_sizes=[8, 8, 12, 16], fusion_hidden_size=8, head_hidden_size=8)
on_backbone("upernet", "UperNetForSemanticSegmentation", "UperNetConfig", "logits", 64, lambda t: t.ConvNextConfig(hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1], out_features=STAGES),
            hidden_size=16, pool_scales=[1, 2], use_auxiliary_head=False)
on_backbone("upernet_swin", "UperNetForSemanticSegmentation", "UperNetConfig", "logits", 64,
            lambda t: t.SwinConfig(image_size=64, patch_size=2, embed_dim=8, depths=[1, 1, 2, 1], num_heads=[1, 1, 2, 2], window_size=4, out_features=STAGES), hidden_size=16,
            pool_scales=[1, 2, 3], use_auxiliary_head=False)
on_backbone("depth_anything", "DepthAnythingForDepthEstimation", "DepthAnythingConfig", "predicted_depth", 42, dino, **NECK)
on_backbone("prompt_depth_anything", "PromptDepthAnythingForDepthEstimation", "PromptDepthAnythingConfig", "predicted_depth", 42, dino, **NECK)
on_backbone("vitmatte", "VitMatteForImageMatting", "VitMatteConfig", "alphas", 32,
            lambda t: t.VitDetConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16, num_channels=3, out_features=["stage2"]),
            hidden_size=16, convstream_hidden_sizes=[8, 8, 12], fusion_hidden_sizes=[16, 12, 8, 8])


def sam():
    import transformers
    c = transformers.SamConfig(vision_config=dict(hidden_size=32, output_channels=16, num_hidden_layers=1, num_attention_heads=4, image_size=64, patch_size=8, mlp_dim=48, window_size=3,
                                                  global_attn_indexes=[0], num_pos_feats=8),
                               prompt_encoder_config=dict(hidden_size=16, image_size=64, patch_size=8, mask_input_channels=8),
                               mask_decoder_config=dict(hidden_size=16, mlp_dim=24, num_attention_heads=2, iou_head_hidden_dim=16), initializer_range=0.1)
    return transformers.SamModel(c)


build("hf_sam", sam, "pred_masks", lambda: {"pixel_values": image(64), "input_points": 40 * torch.rand(1, 1, 2, 2)})

# ---- boxes, masks and films -------------------------------------------------------------------------------------------

DETECTION = dict(d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, num_queries=5)


def resnet_backbone(**kw):
    import transformers
    return transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1], **kw)


def detector(name, cls, config, pick="logits", size=64, features=("stage4",), **kwargs):
    def net():
        import transformers
        c = getattr(transformers, config)(backbone_config=resnet_backbone(out_features=list(features)), use_timm_backbone=False, backbone=None,
                                          use_pretrained_backbone=False, attn_implementation="eager", **kwargs)
        return getattr(transformers, cls)(c)

    build("hf_" + name, net, pick, lambda: {"pixel_values": image(size)})


detector("detr", "DetrForObjectDetection", "DetrConfig", "pred_boxes", **DETECTION)
detector("detr_segmentation", "DetrForSegmentation", "DetrConfig", "pred_masks", features=("stage1", "stage2", "stage3", "stage4"), **{**DETECTION, "d_model": 64, "encoder_attention_heads": 8, "decoder_attention_heads": 8})
detector("conditional_detr", "ConditionalDetrForObjectDetection", "ConditionalDetrConfig", "pred_boxes", **DETECTION)
detector("deformable_detr", "DeformableDetrForObjectDetection", "DeformableDetrConfig", "pred_boxes", features=("stage2", "stage3", "stage4"), num_feature_levels=4, size=128, **{**DETECTION, "decoder_layers": 2})
detector("table_transformer", "TableTransformerForObjectDetection", "TableTransformerConfig", "pred_boxes", **DETECTION)
detector("dab_detr", "DabDetrForObjectDetection", "DabDetrConfig", "pred_boxes", **{**{k: v for k, v in DETECTION.items() if k != "d_model"}, "hidden_size": 32})


@lambda f: f()
def maskformers():
    def mask2former():
        import transformers
        c = transformers.Mask2FormerConfig(backbone_config=transformers.SwinConfig(image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
                                                                                   out_features=["stage1", "stage2", "stage3", "stage4"]),
                                           hidden_dim=32, mask_feature_size=32, feature_size=32, encoder_layers=1, decoder_layers=2, num_attention_heads=2, encoder_feedforward_dim=24,
                                           dim_feedforward=24, num_queries=4, num_labels=3)
        return transformers.Mask2FormerForUniversalSegmentation(c)

    def maskformer():
        import transformers
        c = transformers.MaskFormerConfig(backbone_config=transformers.SwinConfig(image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
                                                                                  out_features=["stage1", "stage2", "stage3", "stage4"]),
                                          decoder_config=transformers.DetrConfig(d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
                                                                                 encoder_ffn_dim=24, decoder_ffn_dim=24, num_queries=4),
                                          fpn_feature_size=32, mask_feature_size=32, num_labels=3)
        return transformers.MaskFormerForInstanceSegmentation(c)

    build("hf_mask2former", mask2former, "masks_queries_logits", lambda: {"pixel_values": image(64)})
    build("hf_maskformer", maskformer, "masks_queries_logits", lambda: {"pixel_values": image(64)})


hf("timesformer", "TimesformerModel", "TimesformerConfig", inputs=video(3, 32), **SMALL, **PATCH, num_frames=3)
hf("videomae", "VideoMAEModel", "VideoMAEConfig", inputs=video(4, 32), **SMALL, **PATCH, num_frames=4, tubelet_size=2)
hf("vivit", "VivitModel", "VivitConfig", inputs=video(4, 32), **SMALL, image_size=32, num_frames=4, tubelet_size=[2, 8, 8])

# ---- sound and words: masks, rotary positions, integers ----------------------------------------------------------------

hf("wav2vec2", "Wav2Vec2Model", "Wav2Vec2Config", inputs=lambda: {"input_values": torch.randn(1, 400)}, **SMALL, conv_dim=[8, 8], conv_stride=[5, 2], conv_kernel=[10, 3],
   num_feat_extract_layers=2, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4)
hf("ast", "ASTModel", "ASTConfig", inputs=lambda: {"input_values": torch.randn(1, 24, 16)}, **SMALL, patch_size=8, max_length=24, num_mel_bins=16, frequency_stride=4, time_stride=4)
hf("bert", "BertModel", "BertConfig", inputs=tokens(), **SMALL, vocab_size=50, max_position_embeddings=12)
hf("bert_masked", "BertModel", "BertConfig", inputs=lambda: {"input_ids": ids(2, 7), "attention_mask": torch.tensor([[1] * 7, [1] * 4 + [0] * 3])}, **SMALL, vocab_size=50,
   max_position_embeddings=12)
hf("roberta", "RobertaModel", "RobertaConfig", inputs=tokens(), **SMALL, vocab_size=50, max_position_embeddings=12)
hf("distilbert", "DistilBertModel", "DistilBertConfig", inputs=tokens(), dim=32, n_layers=2, n_heads=4, hidden_dim=48, vocab_size=50, max_position_embeddings=12)
hf("deberta_v2", "DebertaV2Model", "DebertaV2Config", inputs=tokens(), **SMALL, vocab_size=50, max_position_embeddings=12, relative_attention=True, position_buckets=4, pos_att_type=["p2c", "c2p"],
   norm_rel_ebd="layer_norm", share_att_key=True)
hf("modernbert", "ModernBertModel", "ModernBertConfig", inputs=tokens(), **SMALL, vocab_size=50, max_position_embeddings=12, local_attention=4, global_attn_every_n_layers=2, pad_token_id=0)
hf("t5_encoder", "T5EncoderModel", "T5Config", inputs=tokens(), d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=50)
hf("gpt2", "GPT2Model", "GPT2Config", inputs=embedded(), n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=12)
hf("llama", "LlamaModel", "LlamaConfig", inputs=embedded(), **SMALL, num_key_value_heads=2, vocab_size=50, max_position_embeddings=12)
hf("llama_sdpa", "LlamaModel", "LlamaConfig", inputs=embedded(), attn_implementation="sdpa", **SMALL, num_key_value_heads=2, vocab_size=50, max_position_embeddings=12)
hf("qwen3", "Qwen3ForCausalLM", "Qwen3Config", "logits", inputs=tokens(), **SMALL, num_key_value_heads=2, head_dim=8, vocab_size=50, max_position_embeddings=12)
hf("gemma2", "Gemma2Model", "Gemma2Config", inputs=embedded(), **SMALL, num_key_value_heads=2, head_dim=8, vocab_size=50, max_position_embeddings=12, sliding_window=4)
hf("mixtral", "MixtralModel", "MixtralConfig", inputs=embedded(), **SMALL, num_key_value_heads=2, vocab_size=50, max_position_embeddings=12, num_local_experts=3)
hf("mamba", "MambaModel", "MambaConfig", inputs=embedded(16), hidden_size=16, num_hidden_layers=1, state_size=4, vocab_size=50, time_step_rank=4, constants={"use_cache": False})
hf("fnet", "FNetModel", "FNetConfig", inputs=embedded(), hidden_size=32, num_hidden_layers=2, intermediate_size=48, vocab_size=50, max_position_embeddings=12)


def whisper():
    import transformers
    from transformers.models.whisper.modeling_whisper import WhisperEncoder
    return WhisperEncoder(transformers.WhisperConfig(d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=48, num_mel_bins=8, max_source_positions=10,
                                                     attn_implementation="eager"))


build("hf_whisper_encoder", whisper, "last_hidden_state", lambda: {"input_features": torch.randn(1, 8, 20)})


def perceiver():
    import transformers
    return transformers.PerceiverModel(transformers.PerceiverConfig(num_latents=6, d_latents=16, d_model=12, num_blocks=1, num_self_attends_per_block=2, num_self_attention_heads=2,
                                                                    num_cross_attention_heads=2))


build("hf_perceiver", perceiver, "last_hidden_state", lambda: {"inputs": torch.randn(2, 9, 12)})

# ---- diffusers ----------------------------------------------------------------------------------------------------------


def diffusion(name, cls, pick, inputs, constants=None, **kwargs):
    def net():
        import diffusers
        return getattr(diffusers, cls)(**kwargs)

    build("diffusers_" + name, net, pick, inputs, **(constants or {}))


sample = lambda size=16, channels=3: {"sample": image(size, 1, channels)}
diffusion("unet2d", "UNet2DModel", "sample", lambda: {**sample(), "timestep": torch.tensor([7.0])}, sample_size=16, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
          down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=4)
diffusion("unet2d_condition", "UNet2DConditionModel", "sample", lambda: {**sample(16, 4), "timestep": torch.tensor([7.0]), "encoder_hidden_states": torch.randn(1, 5, 12)}, sample_size=16,
          block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
          up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=4, cross_attention_dim=12)
diffusion("autoencoder_kl", "AutoencoderKL", lambda out: out.sample, sample, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4,
          down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
diffusion("tiny_autoencoder", "AutoencoderTiny", lambda out: out.sample, sample, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
          num_decoder_blocks=(1, 1))
diffusion("dit", "DiTTransformer2DModel", "sample", lambda: {"hidden_states": image(8, 1, 4), "timestep": torch.tensor([7]), "class_labels": torch.tensor([3])}, num_attention_heads=2,
          attention_head_dim=8, num_layers=2, sample_size=8, patch_size=2, num_embeds_ada_norm=10, norm_num_groups=4)
diffusion("sd3", "SD3Transformer2DModel", "sample", lambda: {"hidden_states": image(8, 1, 4), "encoder_hidden_states": torch.randn(1, 5, 12),
                                                                               "pooled_projections": torch.randn(1, 14)}, sample_size=8, patch_size=2, in_channels=4, num_layers=2,
          attention_head_dim=8, num_attention_heads=2, joint_attention_dim=12, caption_projection_dim=16, pooled_projection_dim=14, out_channels=4, pos_embed_max_size=8, constants={"timestep": torch.tensor([7.0])})
diffusion("unet_1d", "UNet1DModel", "sample", lambda: {"sample": torch.randn(1, 2, 32), "timestep": torch.tensor([7.0])}, sample_size=32, in_channels=2, out_channels=2,
          block_out_channels=(32, 32), layers_per_block=1, down_block_types=("DownBlock1DNoSkip", "AttnDownBlock1D"), up_block_types=("AttnUpBlock1D", "UpBlock1DNoSkip"),
          mid_block_type="UNetMidBlock1D", extra_in_channels=64, norm_num_groups=4, time_embedding_type="fourier")

# ---- which of them are exported in other ways, too ---------------------------------------------------------------------

LEGACY = {"hf_" + n: 17 for n in """vit deit beit data2vec_vision swin swin_padded swinv2 swin2sr donut_swin convnext convnextv2 segformer glpn dpt dinov2 dinov2_swiglu dinov3_vit
    dinov3_convnext vitdet vitmae yolos poolformer levit mobilevit mobilevitv2 mobilenet_v1 efficientnet focalnet cvt pvt pvt_v2 regnet resnet bit textnet hiera upernet
    depth_anything vitmatte sam_vision sam2_hiera siglip_vision clip_vision clip_text blip_vision pixtral detr conditional_detr deformable_detr maskformer timesformer videomae vivit
    mask2former siglip2_vision wav2vec2 ast bert bert_masked t5_encoder gpt2 llama gemma2 mamba whisper_encoder perceiver""".split()}
LEGACY |= {"diffusers_" + n: 17 for n in "unet2d unet2d_condition autoencoder_kl dit sd3".split()}
BATCH = ["hf_" + n for n in """vit deit beit swin swinv2 swin2sr convnextv2 segformer glpn dpt dinov2 dinov3_vit vitdet yolos poolformer levit mobilevit mobilevitv2 focalnet cvt pvt_v2 regnet
    hiera upernet depth_anything clip_vision clip_text siglip_vision detr timesformer videomae vivit bert bert_masked t5_encoder llama qwen3 gemma2 whisper_encoder wav2vec2
    perceiver""".split()] + ["diffusers_unet2d", "diffusers_autoencoder_kl"]
SIZES = ["hf_convnextv2", "hf_segformer", "hf_resnet", "hf_poolformer", "hf_mobilenet_v1", "hf_textnet", "hf_upernet", "diffusers_autoencoder_kl", "diffusers_tiny_autoencoder"]
NEWER = {"hf_vit": [20, 21, 22, 23], "hf_vit_sdpa": [23], "hf_llama": [21, 23], "hf_llama_sdpa": [23], "hf_gemma2": [23], "hf_qwen3": [23], "hf_bert_masked": [20, 23], "hf_swinv2": [20, 23],
         "hf_segformer": [22, 23], "hf_dinov3_vit": [23], "hf_convnextv2": [21], "hf_detr": [23], "hf_t5_encoder": [23], "hf_clip_text": [23], "hf_modernbert": [23], "hf_hiera": [23],
         "hf_whisper_encoder": [23], "hf_mamba": [21], "diffusers_unet2d_condition": [20, 23], "diffusers_sd3": [23], "diffusers_autoencoder_kl": [22]}
