"""Means and covariances over small images, and Bayes' rule for them."""

from __future__ import annotations

import torch

SHAPE, D = (2, 3, 4), 24


def bayes(x, sigma, mean, covariance):
    """E[x0 | x_t = x] by solving (Sigma + sigma^2 I)."""
    matrix = covariance + sigma**2 * torch.eye(D, dtype=torch.float64)
    shift = covariance @ torch.linalg.solve(matrix, (x - mean).flatten(1).T)
    return mean + shift.T.reshape(x.shape)
