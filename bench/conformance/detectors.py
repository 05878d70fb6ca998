"""Whole detectors of torchvision for the conformance set, at reduced sizes and with random weights.

What is differentiated are the boxes and scores that are kept, one row a box: which ones those are has no slope. Random
weights leave scores that are all alike, or all 1, and rounding would choose between them: classification heads are scaled.
The current exporter takes none of them: what is kept has a size that depends on the picture.
"""
import contextlib
import sys

import torch
import torch.nn as nn

from networks import image, networks


class Detector(nn.Module):
    """A picture [1, 3, h, w] to what a detector says of it, as one tensor."""
    def __init__(self, net, pick):
        super().__init__()
        self.net, self.pick = net, pick

    def forward(self, x):
        return self.pick(self.net([x[0]])[0])


def boxes(out):
    return torch.cat([out["boxes"] / 32, out["scores"][:, None]], 1)


@contextlib.contextmanager
def slopes_of_regions():
    """PyTorch's roi_align has no slope in the regions, although the result depends on them: its formula written out has."""
    from torchvision.ops import poolers
    before, formula = poolers.roi_align, sys.modules["torchvision.ops.roi_align"]._roi_align
    poolers.roi_align = lambda x, rois, output_size, spatial_scale, sampling_ratio: formula(x, rois, spatial_scale, *output_size, sampling_ratio, False)
    try:
        yield
    finally:
        poolers.roi_align = before


def detector(name, size, pick=boxes, scale=1.0, **settings):
    def build():
        import torchvision.models.detection as tv
        net = getattr(tv, name)(weights=None, weights_backbone=None, **{"num_classes": 4, **settings})
        for k, p in net.named_parameters():
            if ("classification_head" in k or "mask_fcn_logits" in k) and k.endswith("weight"):
                p.data *= scale
        return Detector(net, pick), (image(size).sigmoid(),)

    networks["torchvision_" + name] = build


SMALL = dict(min_size=64, max_size=64)
RCNN = SMALL | dict(rpn_pre_nms_top_n_test=30, rpn_post_nms_top_n_test=10, box_score_thresh=0.0, box_detections_per_img=6)
ONE_STAGE = dict(score_thresh=0.0, topk_candidates=20, detections_per_img=6)

detector("fasterrcnn_mobilenet_v3_large_320_fpn", 64, **RCNN)
detector("fasterrcnn_resnet50_fpn", 64, **RCNN)
detector("maskrcnn_resnet50_fpn", 64, lambda out: out["masks"], scale=0.01, **RCNN)
detector("keypointrcnn_resnet50_fpn", 64, lambda out: out["keypoints_scores"], **RCNN | {"num_classes": 2, "num_keypoints": 5})
detector("retinanet_resnet50_fpn", 64, **SMALL | ONE_STAGE)
detector("fcos_resnet50_fpn", 64, **SMALL | ONE_STAGE)
detector("ssdlite320_mobilenet_v3_large", 320, scale=0.1, **ONE_STAGE)
detector("ssd300_vgg16", 300, scale=0.01, **ONE_STAGE)

DETECTORS = [n for n in networks if n.startswith("torchvision_") and any(k in n for k in ("rcnn", "retinanet_", "fcos_", "ssdlite", "ssd300"))]
LEGACY = {n: 17 for n in DETECTORS}
