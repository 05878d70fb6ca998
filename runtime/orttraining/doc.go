// Package orttraining runs ONNX Runtime's own training stack as a second source
// of gradients. Upstream ended that stack at version 1.19.2; its shared library
// hides the C API, so a worker process drives the Python wheel's extension
// module, over pipes. Neither PyTorch nor the rest of the wheel is needed.
//
// [Open] starts the worker. The engine it returns runs any model, as
// [ebmrun/runtime/ort] does with a newer library, and makes gradient graphs by
// ONNX Runtime's GradientGraphBuilder: see [Engine.Gradient]. These graphs hold
// nodes of the domain com.microsoft, such as ConvGrad, that only this engine can
// run.
//
// A worker that dies ends every call in flight with its last words.
package orttraining
