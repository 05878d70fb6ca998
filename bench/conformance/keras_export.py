"""Networks of Keras and TensorFlow, written by tf2onnx, for the conformance set: as export.py, with slopes of TensorFlow in float64.

    pip install tensorflow-cpu==2.21.0 tf2onnx==1.17.0 safetensors
    python keras_export.py OUT [NAME...]
"""
import itertools
import json
import os
import sys
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from keras import layers as L
from onnx import numpy_helper
from safetensors.numpy import save_file

networks = {}


def net(shape, opset=17, batch=2):
    """Registers f, which makes a Keras model of an input of one example's shape."""
    def register(f):
        def make():
            x = keras.Input(shape)
            return keras.Model(x, f(x))
        networks["keras_" + f.__name__] = make, (batch, *shape), opset
        return f
    return register


def application(name, size, opset=17, **kwargs):
    make = lambda: getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None, **kwargs)
    networks["keras_" + name.lower()] = make, (1, size, size, 3), opset


application("MobileNetV2", 32, alpha=0.35)
application("MobileNetV3Small", 32)
application("DenseNet121", 32)
application("Xception", 71)
application("NASNetMobile", 32)


@net((8, 8, 3))
def unet(x):
    a = L.Conv2D(8, 3, padding="same", activation="swish")(x)
    b = L.Conv2D(12, 3, strides=2, padding="same")(a)
    b = L.LeakyReLU()(L.BatchNormalization()(b))
    c = L.UpSampling2D(interpolation="bilinear")(L.SeparableConv2D(8, 3, padding="same")(b))
    d = L.Conv2DTranspose(8, 3, strides=2, padding="same", activation="elu")(b)
    return L.Conv2D(2, 1)(L.Concatenate()([a, c, d]))


@net((7, 5))
def lstm(x):
    return L.Dense(3)(L.LSTM(6)(L.Bidirectional(L.LSTM(4, return_sequences=True))(x)))


@net((7, 5), opset=13)
def gru(x):
    return L.Dense(3)(L.GRU(6, return_sequences=True)(x))


@net((7, 5))
def gru_before(x):
    return L.GRU(6, reset_after=False)(x)


@net((7, 5))
def simple_rnn(x):
    return L.SimpleRNN(6, go_backwards=True)(x)


@net((6, 6, 5, 2))
def conv_lstm(x):
    return L.GlobalMaxPooling2D()(L.ConvLSTM2D(3, 3, padding="same")(x))


@net((6, 12))
def transformer(x):
    h = L.LayerNormalization()(x)
    x = x + L.MultiHeadAttention(3, 4)(h, h, use_causal_mask=True)
    return x + L.Dense(12)(L.Dense(24, activation=lambda x: keras.activations.gelu(x, approximate=True))(L.LayerNormalization()(x)))


@net((10, 6))
def wavenet(x):
    for d in (1, 2, 4):
        x = x + L.Conv1D(6, 2, padding="causal", dilation_rate=d, activation="tanh")(x) * L.Conv1D(6, 2, padding="causal", dilation_rate=d, activation="sigmoid")(x)
    return L.AveragePooling1D(3, padding="same")(x)


@net((6, 6, 6, 2))
def volume(x):
    return L.Conv3DTranspose(2, 2, strides=2)(L.MaxPooling3D(2)(L.PReLU()(L.Conv3D(4, 3, padding="same")(x))))


@net((9, 9, 4))
def pools(x):
    return L.Concatenate()([L.Flatten()(f(x)) for f in (L.AveragePooling2D(2, padding="same"), L.MaxPooling2D(3, 2, padding="same"), L.Cropping2D(2), L.ZeroPadding2D(((1, 0), (0, 2))),
                                                         L.DepthwiseConv2D(3, 2, depth_multiplier=2, padding="same"), L.LocallyConnected2D(2, 3) if hasattr(L, "LocallyConnected2D") else L.Permute((3, 1, 2)))])


@net((8, 8, 6))
def norms(x):
    return L.UnitNormalization()(L.GroupNormalization(3)(x)) + L.RMSNormalization()(x) * L.Activation("mish")(L.Activation("selu")(x))


class Function(L.Layer):
    """f(x, w) as a layer, w a weight of one number for each of the last axis."""
    def __init__(self, f):
        super().__init__()
        self.f = f

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), initializer="random_uniform")

    def call(self, x):
        return self.f(x, self.w)

    def compute_output_shape(self, shape):
        return None


def function(name, f, shape, opset=17):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = Function(f)

        def call(self, x):
            return self.layer(x)
    networks["tf_" + name] = Net, (2, *shape), opset


function("einsum", lambda x, w: tf.einsum("nij,nkj,j->nik", x, tf.nn.softmax(x), w), (4, 5))
function("gather_nd", lambda x, w: tf.gather_nd(x * w, [[0, 1], [1, 3], [0, 1]]), (4, 5))
function("scatter_nd", lambda x, w: tf.scatter_nd([[1], [3], [0]], tf.transpose(x * w, [1, 0, 2])[:3], [5, 2, 5]), (4, 5))
function("tensor_scatter", lambda x, w: tf.tensor_scatter_nd_update(x * w, [[0, 1], [1, 2]], x[:, 0] * x[:, 1]), (4, 5))
function("strided", lambda x, w: (x * w)[:, ::-2, tf.newaxis, 1:-1] + x[:, -1:, tf.newaxis, ::2][..., :3], (6, 5))
function("cumsum", lambda x, w: tf.cumsum(x * w, axis=1, exclusive=True, reverse=True), (4, 5))
function("topk", lambda x, w: tf.math.top_k(x * w, 3)[0], (4, 5))
function("reductions", lambda x, w: tf.reduce_logsumexp(x * w, -1) + tf.math.reduce_std(x, -1) + tf.reduce_max(x, 1)[:, :1] + tf.norm(x * w, axis=-1), (4, 5))
function("resize", lambda x, w: tf.image.resize(x * w, (7, 9)) + tf.image.resize(x * w, (7, 9), "nearest"), (4, 5, 3))
function("resize_bicubic", lambda x, w: tf.compat.v1.image.resize_bilinear(x * w, (7, 9), align_corners=True), (4, 5, 3))
function("space_depth", lambda x, w: tf.nn.depth_to_space(tf.nn.space_to_depth(x * w, 2) ** 2, 2), (4, 6, 3))
function("convolution", lambda x, w: tf.nn.conv2d(x * w, tf.ones([2, 2, 3, 2]), 1, "VALID"), (5, 6, 3))
function("mirror", lambda x, w: tf.pad(tf.pad(x * w, [[0, 0], [1, 2], [2, 1]], "REFLECT"), [[0, 0], [1, 1], [0, 2]], "SYMMETRIC"), (4, 5))
function("select", lambda x, w: tf.where(x > w, tf.math.log(1 + tf.abs(x)), tf.math.erf(x)) + tf.clip_by_value(x, -0.5, w), (4, 5))
function("loop", lambda x, w: tf.while_loop(lambda i, y: i < 4, lambda i, y: (i + 1, tf.tanh(y * w) + x), (0, x))[1], (5,))
function("scan", lambda x, w: tf.scan(lambda a, b: tf.tanh(a * w + b), tf.transpose(x, [1, 0, 2]), tf.zeros_like(x[:, 0])), (4, 5))
function("map", lambda x, w: tf.map_fn(lambda a: tf.matmul(a * w, a, transpose_b=True), x), (4, 5))
function("cond", lambda x, w: tf.cond(tf.reduce_sum(w) > -100.0, lambda: x * w, lambda: x - w), (4, 5))
function("one_hot", lambda x, w: tf.einsum("nij,ik->nkj", x * w, tf.one_hot([0, 2, 1, 2], 3, dtype=x.dtype)), (4, 5))
function("lrn", lambda x, w: tf.nn.lrn(x * w, 2, 1.0, 0.5, 0.75), (3, 4, 5))
function("split", lambda x, w: tf.concat([a * b for a, b in zip(tf.split(x * w, 2, 1), tf.unstack(tf.reshape(x, [2, 2, 2, 5])))], 0), (4, 5))
function("matrix", lambda x, w: tf.linalg.band_part(tf.matmul(x * w, x, transpose_a=True), -1, 1) + tf.linalg.diag(w), (4, 5))
function("segments", lambda x, w: tf.math.unsorted_segment_sum(tf.transpose(x * w, [1, 0, 2]), [0, 2, 0, 1], 3), (4, 5))
function("leaky", lambda x, w: tf.nn.leaky_relu(x, 0.3) * tf.nn.relu6(w * x) + tf.nn.softplus(x) * tf.nn.softsign(x) - tf.math.floormod(x, 1.5), (4, 5))


def forms(a):
    """An array as tf2onnx may lay it out."""
    yield a
    for p in itertools.permutations(range(a.ndim)):
        if a.ndim in (2, 4, 5):
            yield np.transpose(a, p)
    if a.ndim == 4:  # of a convolution of each channel
        h, w, c, m = a.shape
        yield np.transpose(a, (2, 3, 0, 1)).reshape(c * m, 1, h, w)


def export(name, dst):
    make, shape, opset = networks[name]
    seed = zlib.crc32(name.encode())
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)

    def built(kind):
        keras.config.set_floatx(kind)
        keras.utils.set_random_seed(seed % (1 << 31))
        m = make()
        m(tf.constant(x, kind))
        return m

    small, large = built("float32"), built("float64")
    weights = [w.numpy() for w in small.weights]
    for i, w in enumerate(weights):  # constant ones hide paths
        if w.dtype.kind == "f" and w.size and w.std() < 1e-6:
            weights[i] = (w + 0.2 * rng.standard_normal(w.shape)).astype(w.dtype) if "variance" not in small.weights[i].path else (0.5 + rng.random(w.shape)).astype(w.dtype)
    small.set_weights(weights)
    large.set_weights(weights)
    f = tf.function(lambda x: small(x, training=False), autograph=False)
    model, _ = tf2onnx.convert.from_function(f, input_signature=[tf.TensorSpec(shape, tf.float32, name="x")], opset=opset)
    with tf.GradientTape() as tape:
        v = tf.constant(x.astype(np.float32).astype(np.float64))
        tape.watch(v)
        y = large(v, training=False)
        cot = rng.standard_normal(y.shape)
        loss = tf.reduce_sum(y * cot)
    gx, *gw = tape.gradient(loss, [v] + large.trainable_weights)
    out = model.graph.output[0].name
    data = {"in/x": x.astype(np.float32), "out/" + out: y.numpy(), "cot/" + out: cot, "grad/x": tf.convert_to_tensor(gx).numpy()}
    known = {}
    for w, g in zip(small.trainable_weights, gw):
        if g is None or w.numpy().size < 2:
            continue
        for a, b in zip(forms(w.numpy()), forms(tf.convert_to_tensor(g).numpy())):
            known.setdefault((a.shape, zlib.crc32(np.ascontiguousarray(a).tobytes())), []).append((w.path, b))
    taken, found = set(), 0
    for init in model.graph.initializer:
        a = numpy_helper.to_array(init)
        hits = known.get((a.shape, zlib.crc32(np.ascontiguousarray(a).tobytes())), []) if a.dtype == np.float32 else []
        if len({p for p, _ in hits}) == 1 and hits[0][0] not in taken and all(np.array_equal(hits[0][1], b) for _, b in hits):
            taken.add(hits[0][0])
            data["grad/" + init.name] = np.ascontiguousarray(hits[0][1])
            found += 1
    onnx.save(model, os.path.join(dst, "model.onnx"))
    meta = {"truth": "float64", "parameters": json.dumps({"compared": found, "of": len(gw)})}
    save_file({k: np.ascontiguousarray(v).reshape(v.shape) for k, v in data.items()}, os.path.join(dst, "data.safetensors"), metadata=meta)


if __name__ == "__main__":
    out = sys.argv[1]
    for name in sys.argv[2:] or networks:
        dst = os.path.join(out, name)
        if any(os.path.exists(os.path.join(dst, f)) for f in ("data.safetensors", "failed.txt")):
            continue
        os.makedirs(dst, exist_ok=True)
        try:
            export(name, dst)
            print(name, "done", flush=True)
        except Exception as e:
            open(os.path.join(dst, "failed.txt"), "w").write(f"{type(e).__name__}: {e}")
            print(f"{name}: {type(e).__name__}: {str(e)[:300]}", flush=True)
