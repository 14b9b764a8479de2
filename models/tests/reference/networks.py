#!/usr/bin/env python3
"""Reference values for the shipped networks as a whole and for the anomaly scores, from the formulas: numpy and scikit-learn.

Made once, with numpy 2.4.6 and scikit-learn 1.9.1:
    pip install scikit-learn && python3 models/tests/reference/networks.py
and pasted into the tests of models/src/neural/network.rs, hybrid/network.rs, anomaly/autoencoder.rs and anomaly/forest.rs.
Not run by CI. What is drawn is drawn in the tests in the same order, from the same generator.
"""
import json
import pathlib
import numpy as np

WEIGHTS = pathlib.Path(__file__).parents[2] / "weights"
sigmoid = lambda a: 1 / (1 + np.exp(-a))
softplus = lambda a: np.log1p(np.exp(a))


def softmax(a):
    e = np.exp(a - a[np.isfinite(a)].max())
    return e / e.sum()


def noise(seed):
    """Thousandths from -1 to 1, as `noise` in models/src/nn/reference.rs."""
    x = seed
    while True:
        x = (1103515245 * x + 12345) % 2**31
        yield (x // 65536 % 2001) / 1000 - 1


def draw(source, *shape):
    return np.array([next(source) for _ in range(int(np.prod(shape)))]).reshape(shape)


def tensors(name):
    data = (WEIGHTS / f"{name}.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    body = data[8 + size:]
    return {key: np.frombuffer(body[slice(*at["data_offsets"])], "<f4").reshape(at["shape"]).astype(float)
            for key, at in json.loads(data[8:8 + size]).items() if key != "__metadata__"}


def gru(w, xs):
    h = np.zeros(32)
    for x in xs:
        a = np.split(x @ w["core.gru.input"] + w["core.gru.input_bias"], 3)
        b = np.split(h @ w["core.gru.hidden"] + w["core.gru.hidden_bias"], 3)
        r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
        h = (1 - z) * np.tanh(a[2] + r * b[2]) + z * h
    return h


def lstm(w, xs, prefix="core.lstm.", units=32):
    h, c = np.zeros(units), np.zeros(units)
    for x in xs:
        i, f, g, o = np.split(x @ w[prefix + "input"] + h @ w[prefix + "hidden"] + w[prefix + "bias"], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h


def cnn(w, xs):
    out = xs
    for i, dilation in enumerate((1, 3, 9, 27)):
        padded = np.concatenate([np.zeros((2 * dilation, out.shape[1])), out])
        taps = np.concatenate([padded[k * dilation:k * dilation + len(xs)] for k in range(3)], axis=1)
        active = np.maximum(taps @ w[f"core.cnn.{i}.weight"] + w[f"core.cnn.{i}.bias"], 0)
        out = active if i == 0 else out + active
    return out[-1]


for name, core in (("gru", gru), ("lstm", lstm), ("cnn", cnn)):
    w, source = tensors(name), noise(7)
    xs, features, candidates = draw(source, 100, 26), 2 * draw(source, 58), 3 * draw(source, 14)
    errors, spread = draw(source, 2, 14), draw(source, 5)
    errors[:, 4::5] = np.inf
    inner = np.tanh(np.concatenate([core(w, xs), features]) @ w["head.first.weight"] + w["head.first.bias"])
    raw = inner @ w["head.out.weight"] + w["head.out.bias"]
    shares = softmax(raw[:14] - w["head.trust"] @ errors)
    loose = raw[14:] + spread
    median = loose[1] + shares @ candidates
    above = median + np.cumsum(softplus(loose[2:]))
    print(name, [round(float(v), 6) for v in (median - softplus(loose[0]), median, *above)])

w, source = tensors("prophet_lstm"), noise(7)
xs, features, candidates = draw(source, 100, 8), 3 * draw(source, 8), 3 * draw(source, 6)
inner = np.concatenate([lstm(w, xs, "lstm.", 16), features]) @ w["first.weight"] + w["first.bias"]
raw = np.tanh(inner) @ w["out.weight"] + w["out.bias"]
print("prophet_lstm", round(float(np.tanh(raw[6]) + softmax(raw[:6]) @ candidates), 6))

# The autoencoder: from drawn weights, taught 200 waves by Adam, the gradient at most 1 long; then the scores of a wave, of a
# square wave and of silence: their squared errors in the mean of those before each lesson.
source = noise(7)
sizes = (16, 8, 2, 8, 16)
layers = [[0.5 * draw(source, a, b), 0.5 * draw(source, b)] for a, b in zip(sizes, sizes[1:])]
moments = [[[np.zeros_like(p), np.zeros_like(p)] for p in layer] for layer in layers]
wave = lambda phase: np.sin(phase + np.arange(16) / 4)


def outputs(x):
    out = [x]
    for i, (weight, bias) in enumerate(layers):
        y = out[-1] @ weight + bias
        out.append(np.tanh(y) if i < 3 else y)
    return out


error = lambda x: float(((outputs(x)[-1] - x) ** 2).sum())
usual = []
for t in range(1, 201):
    x = wave(0.7 * t)
    usual.append(error(x))
    out, gradient = outputs(x), []
    d = out[-1] - x
    for i in (3, 2, 1, 0):
        gradient.insert(0, [np.outer(out[i], d), d])
        d = (layers[i][0] @ d) * (1 - out[i] ** 2)
    norm = np.sqrt(sum((g**2).sum() for layer in gradient for g in layer))
    for layer, slopes, moment in zip(layers, gradient, moments):
        for p, g, m in zip(layer, slopes, moment):
            g = g * min(1.0, 1 / norm)
            m[0] = 0.9 * m[0] + 0.1 * g
            m[1] = 0.999 * m[1] + 0.001 * g * g
            p -= 1e-3 * (m[0] / (1 - 0.9**t)) / (np.sqrt(m[1] / (1 - 0.999**t)) + 1e-8)
square = np.where(np.arange(16) % 2 == 0, 1.5, -1.5)
print("autoencoder", [round(float(error(x) / np.mean(usual)), 5) for x in (wave(0.3), square, np.zeros(16))])

# The isolation forest: scikit-learn's trees, leaves as long as the paper's c(n), with harmonic numbers instead of their
# approximation by a logarithm, which is off by up to a sixth in small leaves.
from sklearn.ensemble import IsolationForest

source = noise(7)
points = np.array([[sum(draw(source, 6)), sum(draw(source, 6))] for _ in range(256)])
probes = np.array([[0, 0], [2, 1], [5, -3], [9, 9]], float)
c = lambda n: 0.0 if n < 2 else 2 * sum(1 / i for i in range(1, n)) - 2 * (n - 1) / n
forest = IsolationForest(n_estimators=6000, max_samples=64, random_state=1).fit(points)
lengths = np.zeros(len(probes))
for tree in forest.estimators_:
    leaves, nodes = tree.apply(probes), tree.decision_path(probes).sum(axis=1).A1
    lengths += nodes - 1 + [c(int(n)) for n in tree.tree_.n_node_samples[leaves]]
lengths /= len(forest.estimators_)
print("isolation forest", [round(float(v), 3) for v in lengths], [round(float(2 ** (-v / c(64))), 4) for v in lengths])
