"""Chain noise in Python: the same bits as training/sampler.Noise in Go.

    python3 philox_normal.py            checks itself against golden.json
    normals(seed, chain, step, count)   standard normal numbers of one chain and step

Standard library only; every product and sum of the cubic is rounded to float32 by `f32`.
"""

import json
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
MASK = 0xFFFFFFFF
NORMALS, UNIFORMS, FORKS = 0 << 30, 1 << 30, 3 << 30


def philox(counter, key):
    """Philox4x32-10: four words from a counter of four words and a key of two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        a, b = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & MASK, (a >> 32) ^ c3 ^ k1, a & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [c0, c1, c2, c3]


def block(seed, chain, step, tail):
    """The four words of one block; tail = stream + block number."""
    return philox(
        (chain & MASK, chain >> 32, step & MASK, tail),
        (seed & MASK, (seed >> 32) ^ (step >> 32)),
    )


def words(seed, chain, step, count):
    """The first words of the stream of normals."""
    out = []
    for b in range((count + 3) // 4):
        out += block(seed, chain, step, NORMALS + b)
    return out[:count]


def f32(x):
    """x rounded to the nearest float32. A product or sum of two float32 numbers formed in Python's
    float64 and rounded once more equals the float32 operation: float64 has more than 2·24 + 2 bits."""
    return struct.unpack("<f", struct.pack("<f", x))[0]


def from_bits(text):
    return struct.unpack("<f", bytes.fromhex(text)[::-1])[0]


PIECES = [
    [from_bits(c) for c in piece]
    for piece in json.loads((HERE / "normal_table.json").read_text())["pieces"]
]


def normal(word):
    """The standard normal number of one word."""
    m = word & 0x7FFFFFFF
    octave = m.bit_length()
    y = (m << (33 - octave)) & MASK
    c = PIECES[8 * octave + (y >> 29)]
    j = float((y >> 5) & 0xFFFFFF)
    z = f32(f32(c[3] * j) + c[2])
    z = f32(f32(z * j) + c[1])
    z = f32(f32(z * j) + c[0])
    return -z if word >> 31 else z


def normals(seed, chain, step, count):
    return [normal(w) for w in words(seed, chain, step, count)]


def uniform(seed, chain, step):
    """The acceptance number of one chain and step, inside (0, 1)."""
    a, b, _, _ = block(seed, chain, step, UNIFORMS)
    return (((a << 32 | b) >> 12) + 0.5) / 2**52


def fork(seed, label):
    """The seed of Noise{seed}.Fork(label)."""
    a, b, _, _ = philox((label & MASK, label >> 32, 0, FORKS), (seed & MASK, seed >> 32))
    return a | b << 32


def check():
    golden = json.loads((HERE / "golden.json").read_text())
    for case in golden["philox"]:
        counter, key, want = ([int(w, 16) for w in case[k]] for k in ("counter", "key", "words"))
        assert philox(counter, key) == want, case
    for case in golden["noise"]:
        at = [int(case[k], 16) for k in ("seed", "chain", "step")]
        assert [f"{w:08x}" for w in words(*at, 16)] == case["words"], case
        got = [struct.pack(">f", z).hex() for z in normals(*at, 16)]
        assert got == case["normals"], (case, got)
        assert [struct.pack(">d", uniform(*at)).hex()] == case["uniforms"], case
    for case in golden["fork"]:
        assert fork(int(case["seed"], 16), int(case["label"], 16)) == int(case["forked"], 16), case
    return len(golden["philox"]), len(golden["noise"]), len(golden["fork"])


if __name__ == "__main__":
    print("philox_normal: %d known answers, %d rows and %d forks agree" % check())
