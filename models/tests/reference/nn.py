#!/usr/bin/env python3
"""Reference values for models/src/nn, computed with numpy alone, from the formulas as PyTorch documents them
(torch.nn.GRU, torch.nn.LSTM, torch.optim.AdamW with clip_grad_norm_), weights output-major as there.

    python3 models/tests/reference/nn.py > models/tests/reference/nn.json
"""
import json
import numpy as np

rng = np.random.default_rng(20)
sigmoid = lambda a: 1 / (1 + np.exp(-a))
uniform = lambda *shape: rng.uniform(-0.7, 0.7, shape)
flat = lambda a: [float(v) for v in np.asarray(a).ravel()]


def gru(inputs=3, hidden=4, steps=7):
    w, u = uniform(3 * hidden, inputs), uniform(3 * hidden, hidden)
    b, c = uniform(3 * hidden), uniform(3 * hidden)
    xs, start = uniform(steps, inputs), uniform(hidden)
    h, states = start, []
    (wr, wz, wn), (ur, uz, un) = np.split(w, 3), np.split(u, 3)
    (br, bz, bn), (cr, cz, cn) = np.split(b, 3), np.split(c, 3)
    for x in xs:
        r = sigmoid(wr @ x + br + ur @ h + cr)
        z = sigmoid(wz @ x + bz + uz @ h + cz)
        n = np.tanh(wn @ x + bn + r * (un @ h + cn))
        h = (1 - z) * n + z * h
        states.append(h)
    # Ours is input-major: the transpose.
    return dict(input=flat(w.T), hidden=flat(u.T), input_bias=flat(b), hidden_bias=flat(c),
                xs=flat(xs), start=flat(start), states=flat(states))


def lstm(inputs=3, hidden=4, steps=7):
    w, u, b = uniform(4 * hidden, inputs), uniform(4 * hidden, hidden), uniform(4 * hidden)
    xs, h, c = uniform(steps, inputs), uniform(hidden), uniform(hidden)
    start, states = np.concatenate([h, c]), []
    for x in xs:
        i, f, g, o = np.split(w @ x + u @ h + b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(np.concatenate([h, c]))
    return dict(input=flat(w.T), hidden=flat(u.T), bias=flat(b), xs=flat(xs), start=flat(start), states=flat(states))


def conv(inputs=2, outputs=3, taps=3, dilation=2, steps=9):
    w, b, xs = uniform(outputs, inputs, taps), uniform(outputs), uniform(steps, inputs)
    padded = np.concatenate([np.zeros(((taps - 1) * dilation, inputs)), xs])
    ys = [[b[o] + sum(np.convolve(padded[t:t + (taps - 1) * dilation + 1:dilation, i], w[o, i, ::-1], 'valid')[0]
                      for i in range(inputs)) for o in range(outputs)] for t in range(steps)]
    return dict(weight=flat(w.transpose(2, 1, 0)), bias=flat(b), xs=flat(xs), ys=flat(ys))


def adam(steps=4, lr=0.01, decay=0.01, norm=1.5):
    theta, m, v = uniform(9), np.zeros(9), np.zeros(9)
    start, gs, after = theta.copy(), rng.normal(size=(steps, 9)) * 0.5, []
    for t, g in enumerate(gs, 1):
        g = g * min(1.0, norm / np.linalg.norm(g))
        theta = theta - lr * decay * theta
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        theta = theta - lr * (m / (1 - 0.9 ** t)) / (np.sqrt(v / (1 - 0.999 ** t)) + 1e-8)
        after.append(theta)
    assert any(np.linalg.norm(g) > norm for g in gs) and any(np.linalg.norm(g) < norm for g in gs)
    return dict(weight=flat(start[:6]), bias=flat(start[6:]), gradients=flat(gs), after=flat(after))


print(json.dumps(dict(gru=gru(), lstm=lstm(), conv=conv(), adam=adam()), separators=(",", ":")))
