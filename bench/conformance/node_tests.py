"""Writes ONNX's own node tests as folders, from the data that the onnx package makes (development only).

    python node_tests.py OUT

OUT/test_*/model.onnx with test_data_set_0/input_*.pb and output_*.pb, tensors only. Then

    EBM_ONNX_NODE_TESTS=OUT go test ./bench/conformance -run TestNodeCases -v
"""
import os
import sys
import warnings

import numpy as np
import onnx
from onnx import numpy_helper

warnings.simplefilter("ignore")
from onnx.backend.test.case.node import collect_testcases

out, left = sys.argv[1], 0
for case in collect_testcases(None):
    if case.model is None or not case.data_sets:
        continue
    inputs, outputs = case.data_sets[0]
    try:
        tensors = [[x if isinstance(x, onnx.TensorProto) else numpy_helper.from_array(np.asarray(x)) for x in group if x is not None] for group in (inputs, outputs)]
    except Exception:  # sequences, optionals and maps
        left += 1
        continue
    folder = os.path.join(out, case.name, "test_data_set_0")
    os.makedirs(folder, exist_ok=True)
    onnx.save(case.model, os.path.join(out, case.name, "model.onnx"))
    for what, group in zip(("input", "output"), tensors):
        for i, t in enumerate(group):
            with open(os.path.join(folder, f"{what}_{i}.pb"), "wb") as f:
                f.write(t.SerializeToString())
print(f"{len(os.listdir(out))} cases, {left} without tensors left out, onnx {onnx.__version__}")
