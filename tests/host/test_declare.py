"""Functions as components: their arguments are settings, their docstring describes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import pytest
import torch
from pydantic import Field

import daps_kit
import daps_kit.noise
from daps_kit.declare import Declared
from daps_kit.errors import InvalidPluginError, RecipeError, UserError
from daps_kit.recipe import load_recipe
from daps_kit.recipe.describe import parameters, snippet
from daps_kit.registry import Registry
from daps_kit.testing import check_noise, check_operator, check_prior

if TYPE_CHECKING:
    from torch import Tensor

SHAPE = (1, 6, 5)


@daps_kit.operator(linear=True)
def dim(
    x: Tensor, strength: Annotated[float, Field(ge=0, le=1)] = 0.5, *, side: Literal["left", "both"] = "both"
):
    """Every value times one less the strength.

    A sentence about its customs.

    Args:
        x: images.
        strength: share of the light
            that is lost.
        side (str): where.

    Returns:
        Darker images.
    """
    return x * (1 - strength)


@daps_kit.operator(adjoint=lambda y, gain: y * gain, name="loud", black=0.0)
def amplified(x, gain=2.0):
    return x * gain


@daps_kit.operator
def masked(x, shape, seed, share: float = 0.5):
    """Some pixels, drawn from the seed."""
    draw = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return x * (draw < share).to(x)


@daps_kit.prior(channels=1, sigma_range=(0.01, 100))
def pixels(x, sigma, std: float = 0.5):
    """Independent Gaussian pixels of mean zero."""
    return x * std**2 / (std**2 + sigma**2)


@daps_kit.noise
def normal_like(clean, scale: float = 0.1):
    """Gaussian noise, by its distribution."""
    return torch.distributions.Normal(clean, scale)


def build(section: object):
    return daps_kit.build("operator", section, shape=SHAPE)


def test_the_function_stays_one() -> None:
    x = torch.ones(2, *SHAPE)
    assert torch.equal(dim(x, 0.25), 0.75 * x)
    assert dim.__name__ == "dim"
    assert "less the strength" in (dim.__doc__ or "")
    assert repr(dim) == "<operator dim>"


def test_the_signature_is_the_settings() -> None:
    fields = dim.settings.model_fields
    assert list(fields) == ["noise", "strength", "side"]
    assert fields["strength"].description == "share of the light that is lost"
    assert fields["side"].description == "where"
    assert dim.settings.summary() == "Every value times one less the strength."
    assert dim.settings.conventions() == "A sentence about its customs."
    registry = Registry.discover(third_parties=False)
    registry.add(dim.settings)
    strength = next(p for p in parameters(registry.find("operator", "dim"), registry) if p.name == "strength")
    assert (strength.type, strength.default, strength.range) == ("number", "0.5", ">= 0, <= 1")
    assert "side: both" in snippet(registry.find("operator", "dim"), registry)
    assert (amplified.settings.name, amplified.settings.model_fields["gain"].annotation) == ("loud", float)
    assert amplified.settings.summary() == "The function amplified."
    assert list(masked.settings.model_fields) == ["noise", "share"]


def test_components_are_built_from_functions() -> None:
    x = torch.rand(2, *SHAPE)
    assert torch.equal(build(dim).forward(x), x / 2)
    assert torch.equal(build(dim.of(strength=0.25)).forward(x), 0.75 * x)
    loud = build(amplified.of(gain=3.0))
    assert torch.equal(loud.adjoint(x), 3 * x)
    assert loud.black == 0
    seeds = [daps_kit.build("operator", masked, shape=SHAPE, seed=seed).forward(x) for seed in (0, 0, 1)]
    assert torch.equal(seeds[0], seeds[1])
    assert not torch.equal(seeds[0], seeds[2])
    prior = daps_kit.build("prior", pixels.of(std=1.0))
    torch.testing.assert_close(prior.denoise(x, 1.0), x / 2)
    assert (prior.channels, prior.sigma_range) == (1, (0.01, 100.0))
    noise = daps_kit.build("noise", normal_like)
    torch.testing.assert_close(noise.std(x), torch.full_like(x, 0.1))


def test_functions_pass_the_conformance_kit() -> None:
    heavy = {"settings_import_is_light": "this module imports torch"}
    for function in (dim, amplified, masked):
        check_operator(function, shape=SHAPE, expected_failures=heavy)
    check_prior(pixels, shape=SHAPE, expected_failures=heavy)
    check_noise(normal_like, expected_failures=heavy)
    wrong = daps_kit.operator(name="wrong")(lambda x, a=1.0: x * a + x.mean())
    with pytest.raises(AssertionError, match=r"(?s)operator wrong: .*than in a batch"):
        check_operator(wrong, shape=SHAPE)


def test_settings_are_checked() -> None:
    with pytest.raises(UserError, match=r"dim.strength: Input should be less than or equal to 1"):
        dim.of(strength=2.0)
    with pytest.raises(UserError, match="dim.strengh: Extra inputs"):
        dim.of(strengh=0.2)
    with pytest.raises(RecipeError, match="unknown operator 'dim'"):
        build({"use": "dim"})


def test_paths_are_files_beside_the_recipe(tmp_path: Path) -> None:
    from tests.plugin_files import RECIPE, write_plugin

    write_plugin(
        tmp_path / "deep",
        "from __future__ import annotations\nfrom pathlib import Path\nimport daps_kit\n"
        "@daps_kit.operator\ndef dim(x, mask: Path | None = None, strength: float = 1.0):\n    return x * strength\n"
        "@daps_kit.prior\ndef pixels(x, sigma):\n    return x / (1 + sigma**2)\n",
    )
    recipe = tmp_path / "deep" / "r.yaml"
    recipe.write_text(RECIPE.replace("strength: 0.25", "mask: mask.npy"))
    with pytest.raises(RecipeError, match=r"operator.mask: no such file: .*deep/mask.npy"):
        load_recipe(recipe)
    (tmp_path / "deep" / "mask.npy").write_bytes(b"")
    (loaded,) = load_recipe(recipe)
    assert loaded.operator.files() == [tmp_path / "deep" / "mask.npy"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: 0, "needs the argument x first"),
        (lambda x, *rest: x, r"'\*rest' is no setting"),
        (lambda x, n: x, "the argument 'n' needs a type, such as n: float"),
        (lambda x, name="a": x, "no setting can be called 'name'"),
        (lambda x, noise=1.0: x, "no setting can be called 'noise'"),
        (lambda x, n=None: x, "the argument 'n' needs a type"),
        ("text", "is no function"),
        (dim, "is no function"),
    ],
)
def test_what_cannot_be_a_component(function: object, message: str) -> None:
    with pytest.raises(InvalidPluginError, match=message):
        daps_kit.operator(function)  # type: ignore[call-overload]


def test_types_that_no_recipe_can_hold() -> None:
    def other(x, mask: torch.Tensor): ...

    with pytest.raises(InvalidPluginError, match="a type of its arguments cannot be written in a recipe"):
        daps_kit.operator(other)

    def unknown(x, mask: Nowhere): ...  # noqa: F821

    with pytest.raises(InvalidPluginError, match="the argument 'mask': its type 'Nowhere' is not known"):
        daps_kit.operator(unknown)


def test_noise_is_a_package_and_a_decorator() -> None:
    assert daps_kit.noise.GaussianNoise(0.1).sigma == 0.1
    assert isinstance(daps_kit.noise(name="other")(lambda clean: clean), Declared)
    code = (
        "import sys, daps_kit\n@daps_kit.noise\ndef f(clean, s: float = 1.0): 'Some noise.'\n"
        "assert 'torch' not in sys.modules\nfrom daps_kit.noise import GaussianNoise\n"
        "@daps_kit.noise\ndef g(clean): 'Other noise.'\nprint(f.settings.name, g.settings.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "f g\n", done.stderr


def test_arguments_may_be_unknown() -> None:
    @daps_kit.operator(linear=True, unknowable=["strength"])
    def dimmed(x: torch.Tensor, strength: float = 0.5) -> torch.Tensor:
        """Darker."""
        return x * strength

    assert dimmed.settings.unknowable == {"strength": None}
    with pytest.raises(InvalidPluginError, match="unknowable 'power' is no argument of type float"):

        @daps_kit.operator(unknowable=["power"])
        def other(x: torch.Tensor, strength: float = 0.5) -> torch.Tensor:
            """Darker."""
            return x * strength
