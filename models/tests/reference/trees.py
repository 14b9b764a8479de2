#!/usr/bin/env python3
"""Reference values for models/tests/trees.rs, from xgboost, lightgbm and, for quantiles, brute force in fractions.

The libraries' quantile trees differ in how leaves interpolate and break ties by chance or by rounding; so here every
split is tried, in exact fractions, the first of equals winning, and numpy's quantile fills the leaves.

Made once, with xgboost 3.2.0, lightgbm 4.7.0 and numpy 2.4.6:
    pip install xgboost lightgbm && python3 models/tests/reference/trees.py
and pasted into the test. Not run by CI.
"""
from fractions import Fraction

import lightgbm
import numpy as np
import xgboost


def data(n):
    """The test's rows: small integers from a linear congruential generator, and a bent surface with noise."""
    x, rows, labels = 12345, [], []
    def draw(bound):
        nonlocal x
        x = (1103515245 * x + 12345) % 2**31
        return x // 65536 % bound
    for _ in range(n):
        a, b, c = draw(20), draw(16), draw(10)
        rows.append((a, b, c))
        labels.append(3 * a + (b - 8) ** 2 + (20 if c > 6 and a < 9 else 0) + draw(1000) / 37)
    return np.array(rows, np.float32), np.array(labels)


X, y = data(400)
probe = slice(0, 6)

depth_wise = xgboost.train(
    dict(objective="reg:squarederror", max_depth=3, eta=0.3, reg_lambda=2.0, min_child_weight=7, tree_method="exact",
         base_score=float(y.mean()), gamma=0.0), xgboost.DMatrix(X, y), num_boost_round=12)
print("depth-wise", [round(float(v), 4) for v in depth_wise.predict(xgboost.DMatrix(X[probe]))])

leaf_wise = lightgbm.train(
    dict(objective="regression", num_leaves=9, learning_rate=0.2, min_data_in_leaf=7, lambda_l2=0.5, min_data_in_bin=1,
         min_sum_hessian_in_leaf=0.0, verbose=-1, feature_pre_filter=False), lightgbm.Dataset(X, y), num_boost_round=12)
print("leaf-wise", [round(float(v), 4) for v in leaf_wise.predict(X[probe])])


def splits(rows, slopes, depth):
    """Leaves, as lists of rows, of the tree of this depth with the largest gains."""
    def worth(part):
        total = sum((slopes[r] for r in part), Fraction(0))
        return total * total / len(part)
    best = (Fraction(0), None)
    if depth:
        for feature in range(3):
            for cut in sorted({X[r, feature] for r in rows})[:-1]:
                left = [r for r in rows if X[r, feature] <= cut]
                right = [r for r in rows if X[r, feature] > cut]
                if min(len(left), len(right)) >= 7:
                    gain = worth(left) + worth(right) - worth(rows)
                    if gain > best[0]:
                        best = (gain, (left, right))
    if best[1] is None:
        return [rows]
    return [leaf for part in best[1] for leaf in splits(part, slopes, depth - 1)]


for level in (Fraction(1, 10), Fraction(1, 2), Fraction(9, 10)):
    prediction = np.full(len(y), np.quantile(y, float(level)))
    for _ in range(4):
        slopes = [1 - level if p >= label else -level for p, label in zip(prediction, y)]
        for leaf in splits(list(range(len(y))), slopes, 3):
            prediction[leaf] += 0.3 * np.quantile((y - prediction)[leaf], float(level))
    print("quantile", float(level), [round(float(v), 4) for v in prediction[probe]])
