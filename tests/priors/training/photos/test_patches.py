"""The patches of a step: where they come from, what is changed, and that a step depends on its number alone."""

from __future__ import annotations

import pytest
import torch

from daps_priors.training.batches import NoiseLevels
from daps_priors.training.photos.patches import Patches, PatchExamples
from daps_priors.training.photos.pictures import Picture


def patches(**changes) -> Patches:
    base = {"sizes": (16, 32), "pixels": 4 * 32**2, "cap": 10**6, "power": 1.0, "permute": 0.0, "colour": 0.0,
            "levels": NoiseLevels(-1.5, 1.3, 0.0, 0.01, 5.0), "seed": 1}  # fmt: skip
    return Patches(**base | changes)


def flat(height: int, width: int, value: int, weight: float = 1.0) -> Picture:
    return Picture(torch.full((3, height, width), value, dtype=torch.uint8), weight)


def values(examples: PatchExamples, steps: int) -> torch.Tensor:
    """Return the value of each patch of some steps."""
    first = torch.cat([examples.draw(step, 0)[0][:, 0, 0, 0] for step in range(steps)])
    return ((first + 1) * 127.5).round()


def test_a_step_depends_on_its_number_alone():
    pixels = torch.randint(0, 255, (3, 40, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    made = [PatchExamples([Picture(pixels, 1.0)], patches(permute=0.5, colour=0.5)) for _ in range(2)]
    made[0].draw(0, 0)
    for a, b in zip(made[0].draw(7, 0), made[1].draw(7, 0), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(made[0].draw(8, 0)[1][:4], made[0].draw(7, 0)[1][:4])


def test_every_step_has_as_many_pixels():
    examples = PatchExamples([flat(64, 64, 10)], patches())
    shapes = {tuple(examples.draw(step, 0)[0].shape) for step in range(20)}
    assert shapes == {(4, 3, 32, 32), (16, 3, 16, 16)}


def test_pictures_come_by_weight_and_capped_pixels():
    pictures = [flat(32, 32, 0), flat(64, 64, 100), flat(32, 32, 200, weight=2.0)]
    found = values(PatchExamples(pictures, patches(sizes=(16,), cap=2048)), 60)
    shares = [float((found == v).float().mean()) for v in (0, 100, 200)]
    assert shares == pytest.approx([0.2, 0.4, 0.4], abs=0.05)  # 1024 : 2048 : 2 x 1024
    rooted = values(PatchExamples(pictures, patches(sizes=(16,), power=0.5)), 60)
    assert float((rooted == 100).float().mean()) == pytest.approx(2 / 5, abs=0.05)


def test_small_pictures_give_small_patches_only():
    found = PatchExamples([flat(20, 20, 0), flat(64, 64, 200)], patches(sizes=(32,)))
    assert float(values(found, 10).min()) > 0
    only = PatchExamples([flat(20, 20, 0)], patches())
    assert {only.draw(step, 0)[0].shape[-1] for step in range(10)} == {16}
    assert only.crops(2, 256)[0].shape == (3, 16, 16)


def test_turns_and_colours():
    ramp = torch.arange(16, dtype=torch.uint8).repeat(16, 1)
    picture = Picture(torch.stack((ramp, ramp + 100, ramp + 200)), 1.0)
    x0 = PatchExamples([picture], patches(sizes=(16,))).draw(0, 0)[0]
    kinds = {(bool((p[0, 0, 1] - p[0, 0, 0]).abs() > 1e-6), bool(p[0, 0, 0] < p[0, -1, -1])) for p in x0}
    assert len(kinds) == 4  # along either axis, either way
    assert bool((x0.diff(dim=1).flatten(1) > 0.7).all())  # the colours stay in order
    mixed = PatchExamples([picture], patches(sizes=(16,), permute=1.0)).draw(0, 0)[0]
    assert bool((mixed.diff(dim=1) < 0).any())
    changed = PatchExamples([picture], patches(sizes=(16,), colour=1.0)).draw(0, 0)[0]
    assert bool((changed.abs() <= 1).all())
    assert float(changed.mean((1, 2, 3)).std()) > 0.05
    assert float(x0.mean((1, 2, 3)).std()) < 1e-4


def test_noise_levels_stay_within_their_bounds_and_have_their_median():
    examples = PatchExamples([flat(64, 64, 128)], patches(sizes=(16,)))
    x0, sigma, x = (torch.cat(part) for part in zip(*(examples.draw(s, 0) for s in range(40)), strict=True))
    assert 0.0099 < float(sigma.min()) < 0.02
    assert 2 < float(sigma.max()) <= 5.001
    assert float(sigma.log().median()) == pytest.approx(-1.5, abs=0.1)
    ratio = ((x - x0).square().mean((1, 2, 3)).sqrt() / sigma).mean()
    assert float(ratio) == pytest.approx(1, abs=0.02)
