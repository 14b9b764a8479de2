#!/usr/bin/env python3
"""Reference values for models/tests/reference.rs, from statsmodels and numpy.

Made once, with statsmodels 0.15.0 and numpy 2.4.6:
    pip install statsmodels && python3 models/tests/reference/experts.py
and pasted into the test. Not run by CI.
"""
import numpy as np
from statsmodels.tsa.holtwinters import ExponentialSmoothing


def series(n):
    """The test's series: integers from a small linear congruential generator over a daily triangle and a trend."""
    x, out = 12345, []
    for t in range(n):
        x = (1103515245 * x + 12345) % 2**31
        hour = t % 24
        out.append(200 + t // 4 + 10 * min(hour, 24 - hour) + x // 65536 % 20)
    return np.array(out, float)


y = series(24 * 7)
first = y[:24]
for alpha, beta, gamma in ((0.15, 0.0, 0.3), (0.3, 0.1, 0.2)):
    model = ExponentialSmoothing(
        y[24:], trend="add", damped_trend=True, seasonal="add", seasonal_periods=24, initialization_method="known",
        initial_level=first.mean(), initial_trend=0.0, initial_seasonal=first - first.mean())
    fit = model.fit(smoothing_level=alpha, smoothing_trend=beta, smoothing_seasonal=gamma, damping_trend=0.98,
                    optimized=False)
    # Not 24: there statsmodels 0.15 forgets what the last observation taught the season.
    path = fit.forecast(24)
    print("holt_winters", (alpha, beta, gamma), [round(path[k - 1], 6) for k in (1, 3, 12, 23)], round(path[:12].max(), 6))

# Two-minute linear on 10 s bins: thirteen points, 6 and 30 steps ahead of the newest.
line = np.polyfit(np.arange(-12, 1), y[-13:], 1)
print("linear", [round(float(np.polyval(line, k)), 6) for k in (6, 30)])

# Seasonal naive and the 15-minute mean, on hours: yesterday's value, last week's, the last bin alone.
print("seasonal_naive_day", [float(y[-24 + k - 1]) for k in (1, 3, 12, 23)], float(y[-24:-12].max()))
longer = series(24 * 9)
print("seasonal_naive_week", [float(longer[-168 + k - 1]) for k in (1, 3, 12, 23)], float(longer[-168:-156].max()))

# Autocorrelation of the series and of its differences.
from statsmodels.tsa.stattools import acf

print("acf", [round(float(v), 9) for v in acf(y, nlags=48, fft=False)[[1, 12, 24, 48]]])
print("acf of differences", [round(float(v), 9) for v in acf(np.diff(y), nlags=48, fft=False)[[1, 12, 24, 48]]])

# Phase profile on a timer every 12 bins: level of the newest turn plus weighted offsets of the newest four.
cron = series(24 * 30) - 200 + 400 * (np.arange(24 * 30) % 12 == 5)
turns = cron[-48:].reshape(4, 12)
offsets = turns - turns.mean(axis=1, keepdims=True)
profile = turns[-1].mean() + np.average(offsets, axis=0, weights=0.8 ** np.arange(3, -1, -1))
print("phase_profile", [round(float(profile[(k - 1) % 12]), 6) for k in (1, 3, 6, 20)], round(float(profile.max()), 6))

# Recursive least squares with forgetting is this weighted ridge regression (no guard strikes on this data).
keep, ridge, n = 0.99, 2.0, 150
X = np.array([[1.0, (y[t] - 250) / 50, (y[t - 1] - 250) / 50, (y[t - 3] - 250) / 50] for t in range(3, 3 + n)])
target = np.array([(y[t + 1] - 250) / 50 for t in range(3, 3 + n)])
w = keep ** np.arange(n - 1, -1, -1)
beta = np.linalg.solve(X.T @ (w[:, None] * X) + keep**n * ridge * np.eye(4), X.T @ (w * target))
print("rls", [round(float(b), 9) for b in beta])

# ARIMA: conditional sum of squares by scipy, its forecasts by statsmodels' Kalman filter with the same parameters.
from scipy.optimize import least_squares
from statsmodels.tsa.stattools import kpss
from statsmodels.tsa.statespace.sarimax import SARIMAX


def errors(parameters, z, p, q, mean):
    phi, theta, mu = parameters[:p], parameters[p:p + q], parameters[p + q] if mean else 0.0
    e = np.zeros(len(z))
    for t in range(p, len(z)):
        e[t] = (z[t] - mu) - sum(phi[i] * (z[t - 1 - i] - mu) for i in range(p))
        e[t] -= sum(theta[j] * e[t - 1 - j] for j in range(q) if t - 1 - j >= 0)
    return e[p:]


for p, d, q in ((2, 0, 1), (1, 1, 1)):
    z = np.diff(y) if d else y
    start = np.r_[np.zeros(p + q), [z.mean()] * (not d)]
    fit = least_squares(errors, start, args=(z, p, q, not d), xtol=1e-14, ftol=1e-14, gtol=1e-14)
    print("arima", (p, d, q), [round(float(v), 6) for v in fit.x], "squares", round(float((fit.fun**2).sum()), 4))
    sigma = float((fit.fun**2).mean())
    model = SARIMAX(y if d else y - fit.x[-1], order=(p, d, q), enforce_stationarity=False, enforce_invertibility=False)
    ahead = model.filter(np.r_[fit.x[:p + q], sigma]).forecast(12) + (0 if d else fit.x[-1])
    print("  forecast", [round(float(ahead[k - 1]), 4) for k in (1, 3, 6, 12)])
print("kpss", [round(float(kpss(s, "c", nlags=int(4 * (len(s) / 100) ** 0.25))[0]), 9) for s in (y, np.diff(y))])

# StatuScale: 20-value windows; lines from turning points and the deviation; two bins in a row beyond a line are a break.
def statuscale(values):
    window, lines, beyond, since, status, said = [], None, 0, [], "stable", []
    for v in values:
        if len(window) == 20:
            side = int(v > lines[0]) - int(v < lines[1])
            if side == 0 or side * beyond <= 0:
                beyond, since, status = 0, [], "stable"
            if side:
                beyond, since = beyond + side, since + [v]
                if abs(beyond) >= 20:
                    beyond, since, status = 0, [], "stable"
                elif abs(beyond) >= 2:
                    status = "burst" if side > 0 else "slump"
        window = (window + [v])[-20:]
        if len(window) == 20 and status == "stable" and beyond == 0:
            w = np.array(window)
            tops = [b for a, b, c in zip(w, w[1:], w[2:]) if a < b >= c] or [w.max()]
            bottoms = [b for a, b, c in zip(w, w[1:], w[2:]) if a > b <= c] or [w.min()]
            lines = np.mean(tops) + w.std(), np.mean(bottoms) - w.std()
        if len(window) < 20:
            said.append(v)
        elif status == "stable":
            said.append(sum(lines) / 2)
        elif status == "burst":
            said.append(max(np.mean(since), lines[0]))
        else:
            said.append(min(np.mean(since), lines[1]))
    return said


bursting = series(24 * 7) + 150 * (np.arange(24 * 7) % 50 >= 42)
said = statuscale(bursting)
print("statuscale", [round(float(said[t]), 6) for t in (19, 41, 43, 45, 52, 100, 142, 143, 167)])

# Tuned smoothing: one path of levels per factor, the first bins a plain mean; each target takes the factor whose discounted
# absolute errors are least. A level of statsmodels starts from that mean.
from statsmodels.tsa.holtwinters import SimpleExpSmoothing


def levels(values, alpha):
    plain = int(round(1 / alpha, 9))
    means = np.cumsum(values[:plain]) / np.arange(1, len(values[:plain]) + 1)
    model = SimpleExpSmoothing(values[plain:], initialization_method="known", initial_level=means[-1])
    fit = model.fit(smoothing_level=alpha, optimized=False)
    return np.r_[means, fit.fittedvalues[1:], fit.forecast(1)]


bins = np.arange(24 * 21)
smoothed = series(24 * 21) - bins // 4 - 10 * np.minimum(bins % 24, 24 - bins % 24) + 4 * (bins // 50 * 7 % 5)
paths = [levels(smoothed, alpha) for alpha in (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.6, 1.0)]
at = lambda steps: smoothed[steps:]
maximum = np.array([smoothed[t + 1:t + 13].max() for t in range(len(smoothed) - 12)])
for name, steps, truth in (("1", 1, at(1)), ("3", 3, at(3)), ("24", 24, at(24)), ("max 12", 12, maximum)):
    discount = (1 - 1 / 1000) ** np.arange(len(truth) - 1, -1, -1)
    best = int(np.argmin([(discount * abs(truth - path[:-steps])).sum() for path in paths]))
    print("tuned_smoothing", name, "factor", best, round(float(paths[best][-1]), 5))

# The 15-minute mean, on minutes of which some are missing.
holes = np.where(np.arange(24 * 7) % 4 == 1, np.nan, y)
print("mean_15m", round(float(np.nanmean(holes[-15:])), 6))

# RLS-AR on hours: for each distance the weighted ridge regression of all that is settled; no guard strikes on this data.
LAGS, MEANS, keep, ridge = (0, 1, 2, 4, 8), (5, 15, 60), 1 - 1 / 3000, 10.0
loads = series(24 * 30)
padded = np.r_[np.full(59, loads[0]), loads]
mean, movement, level, scale, common = 0.0, 0.0, [], [], []
for t, value in enumerate(loads):
    mean += max(1 / (t + 1), 1 / 60) * (value - mean)
    if t > 0:
        movement += max(1 / t, 1 / 60) * (abs(value - loads[t - 1]) - movement)
    recent = padded[:t + 60][::-1]
    level.append(recent[:15].mean())
    scale.append(0.5 * movement + 0.5 * np.sqrt(mean * 3600 + 0.25) / 3600 + 0.02 * mean)
    day = (loads[t - 24] - level[t]) / scale[t] if t >= 24 else 0.0
    common.append([1.0, *((recent[k] - level[t]) / scale[t] for k in LAGS),
                   *((recent[:k].mean() - level[t]) / scale[t] for k in MEANS), day])
points = {}
for steps in (1, 3, 12):
    ahead = [(loads[t + steps - 24] - level[t]) / scale[t] if t + steps >= 24 else 0.0 for t in range(len(loads))]
    X = np.c_[common, ahead]
    n = len(loads) - steps
    target = np.array([(loads[t + steps] - level[t]) / scale[t] for t in range(n)])
    w = keep ** np.arange(n - 1, -1, -1)
    solve = lambda m: np.linalg.solve(
        X[:m].T @ (w[n - m:, None] * X[:m]) + keep**m * ridge * np.eye(X.shape[1]), X[:m].T @ (w[n - m:] * target[:m]))
    errors = [target[m] - X[m] @ (solve(m) if m else np.zeros(X.shape[1])) for m in range(n)]
    deviation = [np.sqrt(np.mean(np.square(errors[max(0, m - 500):m]))) for m in range(11, n)]
    assert all(abs(e) < 4.5 * d for e, d in zip(errors[11:], deviation)), "a guard may strike"
    points[steps] = level[-1] + scale[-1] * float(X[-1] @ solve(n))
print("rls_ar", [round(float(points[k]), 4) for k in (1, 3, 12)], round(float(max(points.values())), 4))
