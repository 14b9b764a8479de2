#!/usr/bin/env python3
"""Reference values for models/tests/prophet.rs, from Meta's own package and from scipy.

Made once, with prophet 1.5.0 and scipy 1.17.1:
    pip install prophet scipy && python3 models/tests/reference/prophet.py
and pasted into the test. Not run by CI.

Prophet's optimiser stops where its line search fails on the corners of the Laplace prior, a little below the maximum of
its own posterior. So the maximum is found a second time, by scipy's L-BFGS-B over the two signs of each bend, from
Prophet's regressors and priors: that is what the Rust fit is held to.
"""
import logging

import numpy as np
import pandas as pd
import prophet
from prophet import Prophet
from scipy.optimize import minimize

logging.getLogger("cmdstanpy").setLevel(logging.ERROR)


def series(n):
    """As `series` in experts.py, with a trend that bends: up for nine days, then down."""
    x, out = 12345, []
    for t in range(n):
        x = (1103515245 * x + 12345) % 2**31
        hour = t % 24
        bend = t // 4 if t < 216 else 54 - (t - 216) // 2
        out.append(200 + bend + 10 * min(hour, 24 - hour) + x // 65536 % 20 - (60 if t // 24 % 7 >= 5 else 0))
    return np.array(out, float)


hours = np.arange(24 * 14)
ds = pd.to_datetime((hours + 0.5) * 3600, unit="s")
y = series(len(hours))
holiday = 6
y[24 * holiday:24 * (holiday + 1)] += 90
ahead = np.array([0, 5, 12, 29])
print("prophet", prophet.__version__)
for weekly, days in ((False, ()), (True, (holiday, holiday + 8))):
    holidays = None
    if days:
        holidays = pd.DataFrame({"holiday": "fair", "ds": pd.to_datetime(list(days), unit="D")})
    model = Prophet(daily_seasonality=True, weekly_seasonality=weekly, yearly_seasonality=False, holidays=holidays)
    model.fit(pd.DataFrame({"ds": ds, "y": y}))
    future = pd.DataFrame({"ds": pd.to_datetime((hours[-1] + 1 + ahead + 0.5) * 3600, unit="s")})
    features, _, _, _ = model.make_all_seasonality_features(model.history)
    later, _, _, _ = model.make_all_seasonality_features(model.setup_dataframe(future.copy()))
    t, bends = model.history["t"].to_numpy(), model.changepoints_t
    t_later = ((future["ds"] - model.start) / model.t_scale).to_numpy()
    columns = lambda t, rest: np.c_[np.ones(len(t)), t, np.maximum(t[:, None] - bends, 0), rest]
    X, X_later = columns(t, features.to_numpy()), columns(t_later, later.to_numpy())
    scaled, count = y / y.max(), len(bends)

    def loss(theta, sigma):
        error = scaled - X @ theta
        rest = np.r_[theta[:2] / 5, theta[2 + count:] / 10]
        return (len(y) * np.log(sigma) + 0.5 * error @ error / sigma**2 + 2 * sigma**2
                + 0.5 * rest @ rest + np.abs(theta[2:2 + count]).sum() / 0.05)

    def split(p):
        """The loss and its gradient over (base and growth, bends up, bends down, the rest, ln sigma)."""
        up, down, sigma = p[2:2 + count], p[2 + count:2 + 2 * count], np.exp(p[-1])
        theta = np.r_[p[:2], up - down, p[2 + 2 * count:-1]]
        error = scaled - X @ theta
        g = -X.T @ error / sigma**2
        value = (len(y) * p[-1] + 0.5 * error @ error / sigma**2 + 2 * sigma**2 + (up + down).sum() / 0.05
                 + 0.5 * (theta[:2] ** 2).sum() / 25 + 0.5 * (theta[2 + count:] ** 2).sum() / 100)
        slope = np.r_[g[:2] + theta[:2] / 25, g[2:2 + count] + 20, -g[2:2 + count] + 20,
                      g[2 + count:] + theta[2 + count:] / 100, len(y) - error @ error / sigma**2 + 4 * sigma**2]
        return value, slope

    size = X.shape[1] + count + 1
    bounds = [(None, None)] * 2 + [(0, None)] * (2 * count) + [(None, None)] * (size - 2 - 2 * count)
    best = np.r_[np.zeros(size - 1), np.log(0.1)]
    for _ in range(20):
        best = minimize(split, best, jac=True, bounds=bounds, method="L-BFGS-B",
                        options={"maxiter": 50000, "maxfun": 200000, "ftol": 1e-16, "gtol": 1e-10, "maxcor": 50}).x
    theta = np.r_[best[:2], best[2:2 + count] - best[2 + count:2 + 2 * count], best[2 + 2 * count:-1]]
    print("weekly", weekly, "holidays", days)
    beta = model.params["beta"][0]
    k, m, delta = (np.ravel(model.params[name]) for name in ("k", "m", "delta"))
    own = np.r_[m, k, delta, beta]
    print("  loss", "prophet", round(loss(own, float(np.ravel(model.params["sigma_obs"])[0])), 4),
          "scipy", round(loss(theta, np.exp(best[-1])), 4), "sigma", round(float(y.max() * np.exp(best[-1])), 4))
    some = [0, 100, 150, 300]
    print("  curve", "prophet", [round(float(v), 2) for v in model.predict(pd.DataFrame({"ds": ds[some]})).yhat],
          "scipy", [round(float(v), 2) for v in y.max() * (X @ theta)[some]])
    print("  ahead", "prophet", [round(float(v), 2) for v in model.predict(future).yhat],
          "scipy", [round(float(v), 2) for v in y.max() * X_later @ theta])
    print("  bends above 0.01:", np.flatnonzero(np.abs(theta[2:2 + count]) > 0.01).tolist())
