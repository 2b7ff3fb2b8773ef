"""What a user gives in Python becomes what the contracts want; most of it is tested with `daps_kit.sample`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import daps_kit
from daps_kit.errors import UserError
from daps_kit.given import as_array, as_noise, as_operator, as_shape, called, device_of, taken
from daps_kit.noise import GaussianNoise
from tests.host.test_declare import dim

SHAPE = (1, 6, 5)


def test_functions_are_called_by_their_names() -> None:
    assert called(as_shape, "operator") == "as_shape"
    assert called(lambda x: x, "operator") == "operator"
    assert called(nn.Identity(), "operator") == "Identity"


def test_devices_are_found_where_numbers_are() -> None:
    meta = nn.Linear(1, 1, device="meta")
    assert device_of([1.0], meta).type == "meta"
    assert device_of(torch.zeros(1), meta).type == "cpu"
    assert device_of(None, 3).type == "cpu"


def test_a_component_made_of_a_function_is_taken() -> None:
    operator = as_operator(dim.of(strength=0.25), daps_kit.build, SHAPE, torch.device("cpu"), noise=0.2)
    assert isinstance(operator.noise, GaussianNoise)
    assert operator.noise.sigma == 0.2
    torch.testing.assert_close(operator.forward(torch.ones(1, *SHAPE)), torch.full((1, *SHAPE), 0.75))


def test_noise_of_an_operator_is_replaced_in_a_copy() -> None:
    operator = daps_kit.build("operator", {"use": "identity"}, shape=SHAPE)
    louder = as_operator(operator, daps_kit.build, SHAPE, torch.device("cpu"), noise=0.5)
    assert (operator.noise.dispersion, louder.noise.dispersion) == pytest.approx((0.05**2, 0.25))
    assert as_noise(louder.noise, daps_kit.build) is louder.noise


def test_no_noise_means_what_it_does_in_a_recipe() -> None:
    noise = {"use": "gaussian", "sigma": 0}
    said = daps_kit.build("operator", {"use": "phase_retrieval", "noise": noise}, shape=(1, 8, 8))
    given = as_operator({"use": "phase_retrieval"}, daps_kit.build, (1, 8, 8), torch.device("cpu"), noise=0)
    assert said.noise.exact
    assert given.noise.exact
    assert given.noise.dispersion == said.noise.dispersion


def test_precision_of_tensors_is_kept() -> None:
    assert as_array(torch.zeros(2, dtype=torch.float64)).dtype == torch.float64
    assert as_array(np.zeros(2)).dtype == torch.float32
    assert as_array(torch.zeros(2, dtype=torch.uint8)).dtype == torch.float32


def test_a_batch_may_have_the_size_of_its_operators_alone() -> None:
    operators = [daps_kit.build("operator", {"use": "identity"}, shape=SHAPE)] * 2
    found = taken(torch.zeros(2, *SHAPE), operators, torch.device("cpu"))
    assert (found.single, found.y.shape) == (False, (2, *SHAPE))
    with pytest.raises(UserError, match="1 measurement need one operator, or as many, not 2"):
        taken(torch.zeros(SHAPE), operators, torch.device("cpu"))
