"""What a training minimises: the squared error in units of the linear denoiser's."""

from __future__ import annotations

import pytest
import torch

from daps_priors.training.objective import DenoisingError
from daps_priors.training.teacher import Teacher
from tests.priors.training.small import examples, objective, start


def test_the_loss_is_the_squared_error_over_that_of_the_linear_denoiser() -> None:
    model = start().model
    for p in model.parameters():
        p.data.add_(0.02)
    x0, sigma, x = examples(2).draw(3, 1)
    with torch.no_grad():
        wrong = (model(x, sigma) - x0).square().mean((1, 2, 3))
        linear, _ = model.gauss.rms_error(sigma)
    expected = float((wrong / linear.square()).mean())
    assert float(objective(2).loss(model, 3, 1).detach()) == pytest.approx(expected, rel=1e-4)


def test_it_is_near_one_at_the_start_and_nothing_for_a_teacher_that_is_the_network() -> None:
    model = start().model
    losses = [float(objective().loss(model, step, 0).detach()) for step in range(20)]
    assert sum(losses) / 20 == pytest.approx(1, abs=0.1)
    taught = DenoisingError(examples(), Teacher(start().model, mirror=False))
    assert float(taught.loss(model, 0, 0).detach()) < 1e-6
