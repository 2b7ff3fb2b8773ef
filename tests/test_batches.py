"""What a sample is does not depend on what is computed beside it: batches of 1, 2 and 8, one thread and two."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import daps_kit
from daps_kit.contracts import RandomStreams
from tests.house import ROOT

BOUND = 1e-3
"""Largest difference of a pixel, as docs/recipes.md states it; images are in [-1, 1]."""

BETWEEN_MODES = 1
"""How many of the eight samples of phase retrieval may differ by more: one that passes between two modes, where what
rounding leaves grows."""

SHAPE = (3, 64, 64)
SEEDS = range(8)
TASKS = {
    "inpainting_random": {"use": "inpainting", "mask": "random"},
    "inpainting_box": {"use": "inpainting", "mask": "box"},
    "down_sampling": {"use": "down_sampling"},
    "gaussian_blur": {"use": "gaussian_blur"},
    "motion_blur": {"use": "motion_blur"},
    "high_dynamic_range": {"use": "high_dynamic_range"},
    "phase_retrieval": {"use": "phase_retrieval"},
    "nonlinear_blur": {"use": "nonlinear_blur"},
}


@pytest.fixture(scope="module")
def prior():
    return daps_kit.build("prior", {"use": "embedded"})


@pytest.fixture(scope="module")
def face():
    pixels = np.asarray(Image.open(ROOT / "recipes" / "images" / "astronaut.png").convert("RGB"), np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None]


def draw(prior, operator, y, seeds, budget):
    """Return the samples of some streams, drawn as one batch."""
    sampler = daps_kit.build("sampler", {"use": "daps", "budget": budget})
    *_, last = sampler.sample(prior, operator, y.expand(len(seeds), *y.shape[1:]), RandomStreams(seeds))
    return last.x0y


def differences(prior, face, task, *, batches, budget="fast"):
    """Return by how much entries differ from what one batch of eight on one thread gives, [len(batches), 8, C, H, W].

    Args:
        batches: pairs of a size of batches and a number of threads.
    """
    operator = daps_kit.build("operator", TASKS[task], shape=SHAPE, seed=0)
    y = operator.measure(face, RandomStreams([0]))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = draw(prior, operator, y, SEEDS, budget)
        found = []
        for size, threads in batches:
            torch.set_num_threads(threads)
            parts = [
                draw(prior, operator, y, SEEDS[i : i + size], budget) for i in range(0, len(SEEDS), size)
            ]
            found.append((torch.cat(parts) - whole).abs())
    finally:
        torch.set_num_threads(before)
    print(task, *(f"{float(difference.max()):.1e}" for difference in found))  # with `pytest -s`
    assert float(whole.std(0).mean()) > 0.01, "samples differ from each other"
    return torch.stack(found)


def test_random_inpainting_in_batches_of_two(prior, face):
    """The hardest of the linear ones: many steps of conjugate gradients, whose end rounding decides."""
    assert differences(prior, face, "inpainting_random", batches=[(2, 1)]).max() < BOUND


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_task(prior, face, task):
    budget = 4 if task == "nonlinear_blur" else "fast"  # a network in the operator takes its time
    found = differences(prior, face, task, batches=[(1, 2), (2, 1)], budget=budget)
    if task == "phase_retrieval":
        each = found.amax((0, 2, 3, 4))
        assert int((each > BOUND).sum()) <= BETWEEN_MODES
        assert each.median() < BOUND / 10
    else:
        assert found.max() < BOUND
