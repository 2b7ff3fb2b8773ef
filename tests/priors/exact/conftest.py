"""A Gaussian over small images."""

from __future__ import annotations

import pytest
import torch

from tests.priors.exact.normal import SHAPE, D


@pytest.fixture(scope="module")
def covariance():
    root = torch.randn(D, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return root @ root.T / D + 0.05 * torch.eye(D, dtype=torch.float64)


@pytest.fixture(scope="module")
def mean():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
