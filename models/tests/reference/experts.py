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
