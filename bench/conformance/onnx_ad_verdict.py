"""What onnx-ad 0.3.0 makes of the same files: the slopes of the inputs, by ONNX Runtime in float32.

    python onnx_ad_verdict.py DIR [NAME...]

writes DIR/onnx-ad.json: right (within 1e-4 of the same truth), wrong with the error, or the reason of a refusal.
"""
import glob
import json
import multiprocessing
import os
import sys

LIMIT = 60  # seconds for one network


def verdict(folder):
    import numpy as np
    import onnx
    import onnx_ad
    import onnxruntime
    from safetensors.numpy import load_file
    onnxruntime.set_default_logger_severity(4)
    data = load_file(os.path.join(folder, "data.safetensors"))
    of = next(k for k in data if k.startswith("cot/"))[4:]
    names = [k[3:] for k in data if k.startswith("in/")]
    try:
        adj = onnx_ad.reverse(onnx.load(os.path.join(folder, "model.onnx")), inputs=names, outputs=[of], layout="onnx")
    except onnx_ad.UnsupportedOperator as e:
        return "refused: " + str(e).splitlines()[0][:80]
    except Exception as e:
        return f"failed: {type(e).__name__}"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(adj.SerializeToString(), options)
        feed = {n: data["in/" + n].astype(np.float32) for n in names}
        feed["adj_" + of] = data["cot/" + of].astype(np.float32)[..., None]
        got = session.run(["adj_" + n for n in names], feed)
    except Exception as e:
        return "does not run: " + type(e).__name__
    worst = 0.0
    for n, g in zip(names, got):
        want = data["grad/" + n]
        worst = max(worst, float(np.linalg.norm(g[..., 0] - want) / max(np.linalg.norm(want), 1e-30)))
    return "right" if worst <= 1e-4 else f"wrong by {worst:.0e}"


def work(folder, queue):
    queue.put(verdict(folder))


if __name__ == "__main__":
    root, chosen = sys.argv[1], set(sys.argv[2:])
    to = os.path.join(root, "onnx-ad.json")
    verdicts = json.load(open(to)) if os.path.exists(to) else {}
    for path in sorted(glob.glob(os.path.join(root, "*", "data.safetensors"))):
        folder = os.path.dirname(path)
        name = os.path.basename(folder)
        if chosen and name not in chosen or not chosen and name in verdicts:
            continue
        queue = multiprocessing.Queue()
        p = multiprocessing.Process(target=work, args=(folder, queue))
        p.start()
        try:
            verdicts[name] = queue.get(timeout=LIMIT)
        except Exception:
            verdicts[name] = "crashed" if not p.is_alive() else f"no answer in {LIMIT} s"
        p.kill()
        p.join()
        print(name, verdicts[name], flush=True)
        json.dump(verdicts, open(to, "w"), indent=1, sort_keys=True)
