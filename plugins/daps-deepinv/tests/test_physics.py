"""Physics as operators: the contracts, and deepinv's own numbers."""

import importlib.util
import tempfile
from pathlib import Path

import deepinv
import pytest
import torch
from daps_deepinv.physics import operator_of
from deepinv.physics import GaussianNoise, PoissonNoise
from deepinv.utils import TensorList

import daps_kit
from daps_kit.contracts import LinearOperator, RandomStreams
from daps_kit.errors import UserError
from daps_kit.testing import cases

_spec = importlib.util.spec_from_file_location("physics_table", Path(__file__).with_name("physics_table.py"))
physics_table = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(physics_table)
section, BLUR, GAUSSIAN = physics_table.section, physics_table.BLUR, physics_table.GAUSSIAN

FOLDER = tempfile.TemporaryDirectory()
TABLE = physics_table.table(physics_table.files(Path(FOLDER.name)))
NOT_LINEAR = {"phase retrieval", "phase retrieval, Laplace", "phase retrieval, structured", "ptychography"}
WITH_COUNTS = {"blur with photon noise", "blur with camera noise", "tomography in counts"}
EXPECTED = {"single-pixel camera": {"same_seed_same_operator": "its patterns are not drawn"}}
ABOUT_SETTINGS = ("settings_described", "settings_import_is_light")

# For a Gaussian prior each level is exact; denoising the last would not be.
EXACT = {"use": "daps", "final_denoise": False}

pytestmark = pytest.mark.filterwarnings("ignore")  # deepinv's own deprecations


def conformance() -> list:
    parameters = []
    for name, (settings, shape) in TABLE.items():
        for case in cases("operator", settings, shape, name=name, expected_failures=EXPECTED.get(name)):
            # The settings are of one class: looked at once.
            if name == "denoising" or not case.id.endswith(ABOUT_SETTINGS):
                parameters.append(case)
    return parameters


@pytest.mark.parametrize("check", conformance())
def test_conformance(check):
    check()


def built(name: str, seed: int = 0):
    settings, shape = TABLE[name]
    return daps_kit.build("operator", settings, shape=shape, seed=seed), shape


def images(shape, count: int = 2) -> torch.Tensor:
    return 2 * torch.rand(count, *shape, generator=torch.Generator().manual_seed(1)) - 1


def close(got, wanted) -> None:
    if isinstance(wanted, TensorList):
        for one, other in zip(got, wanted, strict=True):
            close(one, other)
    else:
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TABLE)
def test_a_measurement_of_deepinv_is_one_of_the_operator(name):
    """What the physics makes of u = (x + 1) / 2 is what the operator makes of x, there and back."""
    operator, shape = built(name)
    x = images(shape)
    clean = operator.physics.A(operator.images.give((x + 1) / 2))
    assert isinstance(operator, LinearOperator) is (name not in NOT_LINEAR | WITH_COUNTS)
    if name == "tomography in counts":
        clean = clean / 0.02
    close(operator.from_physics(clean), operator.forward(x))
    close(operator.to_physics(operator.from_physics(clean)), clean)


@pytest.mark.parametrize("name", sorted(TABLE.keys() - WITH_COUNTS))
def test_the_noise_is_the_physics(name):
    """Noise drawn by deepinv lies one standard deviation off, as the operator counts them."""
    operator, shape = built(name)
    x = images(shape, 1).expand(64, *shape)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        noisy = operator.physics(operator.images.give((x + 1) / 2))
    y = operator.from_physics(noisy)
    squares = operator.residual(x, y).square()
    count = float(operator.project(torch.ones_like(y))[0].sum())
    assert abs(float(squares.mean()) - 1) < 5 * (2 / (64 * count)) ** 0.5
    unseen = operator.project(torch.ones_like(y)) == 0
    assert not y[unseen].any()


@pytest.mark.parametrize("name", sorted(WITH_COUNTS))
def test_photon_noise_is_the_physics(name):
    """Counts drawn by deepinv and by the operator have the same mean and variance, entry by entry."""
    operator, shape = built(name)
    x = images(shape, 1).expand(400, *shape)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theirs = operator.from_physics(operator.physics(operator.images.give((x + 1) / 2))).double()
    ours = operator.measure(x, RandomStreams(range(400))).double()
    spread = ours.var(0) + 1e-12
    z = (theirs.mean(0) - ours.mean(0)) / (2 * spread / 400).sqrt()
    assert float(z.abs().max()) < 5
    ratio = theirs.var(0).sum() / spread.sum()
    assert abs(float(ratio) - 1) < 0.1


def test_sigma_of_complex_numbers_is_that_of_both_parts_together():
    operator, _ = built("compressed sensing, complex")
    assert operator.noise.sigma == pytest.approx(2 * 0.05 / 2**0.5)


def test_stacked_measurements_have_one_noise_level():
    """Each part is scaled to the first, so that one number is the noise of all."""
    operator, shape = built("stacked")
    assert operator.noise.sigma == pytest.approx(2 * 0.1)
    x = images(shape)
    blurred, sinogram = operator.physics.A(x)
    y = operator.forward(x).flatten(1)
    torch.testing.assert_close(y[:, :144], blurred.flatten(1))
    torch.testing.assert_close(y[:, 144:], sinogram.flatten(1) / 3, rtol=1e-5, atol=1e-6)


def test_what_is_not_measured_is_left_out():
    operator, _ = built("MRI of a grey image")
    mask = operator.physics.mask
    # The lowest and the highest frequencies of a real image are real: nothing is seen of their imaginary parts.
    real = torch.ones_like(mask)
    real[0, 1, [0, 0, 8, 8], [0, 8, 0, 8]] = 0
    torch.testing.assert_close(operator.observed.float(), mask * real)
    assert 0.3 < float(mask.mean()) < 0.7


def test_an_adjoint_that_is_none_is_not_believed():
    """deepinv's adjoint of spectral imaging is not the transpose of its forward; A is differentiated."""
    operator, shape = built("spectral imaging")
    x = images(shape)
    y, back = operator.forward(x), operator.adjoint(operator.forward(x))
    torch.testing.assert_close((y * y).sum(), (x * back).sum(), rtol=1e-5, atol=0)


def test_the_seed_draws_the_mask():
    settings, shape = TABLE["MRI of a grey image"]
    first, again, other = (daps_kit.build("operator", settings, shape=shape, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.state()["mask"], again.state()["mask"])
    assert not torch.equal(first.state()["mask"], other.state()["mask"])


def test_a_posterior_in_closed_form():
    """x ~ N(m, s^2) and y_d = (x + 1) / 2 + sigma n: mean and variance of x given y_d, from deepinv's side."""
    m, s, sigma = 0.1, 0.4, 0.1
    u = torch.full((1, 1, 8, 8), 0.7)
    operator = operator_of(deepinv.physics.Denoising(GaussianNoise(sigma)), (1, 8, 8))
    prior = daps_kit.build("prior", {"use": "gaussian", "mean": m, "std": s}, shape=(1, 8, 8))
    drawn = daps_kit.sample(prior, operator, operator.from_physics(u), sampler=EXACT, runs=64)
    samples = drawn.samples.double()
    precision = 1 / (s / 2) ** 2 + 1 / sigma**2
    mean = ((m + 1) / 2 / (s / 2) ** 2 + 0.7 / sigma**2) / precision
    count = samples.numel()
    found = (samples + 1) / 2
    assert abs(float(found.mean()) - mean) < 5 * (1 / precision / count) ** 0.5
    assert abs(float(found.var()) * precision - 1) < 5 * (2 / count) ** 0.5


WRONG = {
    "unknown physics": (section("Tomografy"), "did you mean 'Tomography'"),
    "unknown argument": (
        section("Tomography", {"angels": 3}),
        "has no argument 'angels'.*did you mean 'angles'",
    ),
    "unknown filter": (section("Blur", {"filter": {"use": "gausian_blur"}}), "did you mean 'gaussian_blur'"),
    "unknown generator": (
        section("MRI", generator={"use": "Mask"}),
        "deepinv.physics.generator is called 'Mask'",
    ),
    "generator without use": (section("MRI", generator={"acceleration": 4}), "generator must say {use: name"),
    "argument that is no value": (
        section("Blur", {"filter": {"sigma": 1}}),
        "filter must be a value, {file: path}",
    ),
    "wrong argument": (section("Tomography", {"angles": "six"}), "deepinv's Tomography cannot be made"),
    "no noise": (
        section("Blur", {"filter": BLUR}, noise=None),
        "Blur has ZeroNoise, which cannot be sampled",
    ),
    "unknown likelihood": (
        section("Denoising", {"noise_model": {"use": "UniformNoise"}}, noise=None),
        "Denoising has UniformNoise.*must be of one kind, GaussianNoise, LaplaceNoise, PoissonNoise",
    ),
    "noise of two kinds": (
        section("Pansharpen", {"noise_color": GAUSSIAN, "noise_gray": {"use": "PoissonNoise"}}, noise=None),
        "GaussianNoise and PoissonNoise",
    ),
    "no sigma": (section("Denoising", noise={"use": "GaussianNoise"}), "GaussianNoise needs its sigma"),
    "gain of a Gaussian": (
        section("Denoising", noise={"use": "GaussianNoise", "sigma": 0.1, "gain": 1.0}),
        "GaussianNoise has no gain",
    ),
    "complex counts": (
        section(
            "CompressedSensing", {"m": 9, "dtype": "complex64"}, noise={"use": "PoissonNoise", "gain": 1.0}
        ),
        "a complex measurement cannot have PoissonNoise",
    ),
    "camera without read noise": (
        section("Denoising", noise={"use": "PoissonGaussianNoise", "gain": 0.1}),
        "PoissonGaussianNoise needs its sigma",
    ),
    "sigma of Laplace": (
        section("Denoising", noise={"use": "LaplaceNoise", "b": 0.1, "sigma": 0.1}),
        "LaplaceNoise has no sigma, but a b",
    ),
    "complex Laplace": (
        section("CompressedSensing", {"m": 9, "dtype": "complex64"}, noise={"use": "LaplaceNoise", "b": 1.0}),
        "a complex measurement cannot have LaplaceNoise",
    ),
    "images it does not take": (section("Decolorize", {"channels": 5}), "does not take images of shape"),
    "no such file": (section("Blur", {"filter": {"file": "none.npy"}}), "no such file"),
}


@pytest.mark.parametrize(("settings", "message"), WRONG.values(), ids=WRONG)
def test_mistakes_are_explained_in_a_line(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        daps_kit.build("operator", settings, shape=(3, 16, 16))
    assert "\n" not in str(caught.value)


def test_what_hides_the_likelihood_is_refused():
    saturated = deepinv.physics.Denoising(GaussianNoise(0.1), sensor_model=lambda y: y.clamp(0, 1))
    with pytest.raises(UserError, match="Denoising changes a measurement after its noise"):
        operator_of(saturated, (1, 8, 8))
    with pytest.raises(UserError, match="SpatialUnwrapping changes a measurement after its noise"):
        operator_of(deepinv.physics.SpatialUnwrapping(noise_model=GaussianNoise(0.1)), (1, 8, 8))
    soft = deepinv.physics.Inpainting(
        (1, 8, 8), mask=torch.full((1, 8, 8), 0.5), noise_model=GaussianNoise(0.1)
    )
    with pytest.raises(UserError, match="mask of Inpainting must be of zeros and ones"):
        operator_of(soft, (1, 8, 8))
    several = deepinv.physics.Denoising(GaussianNoise(torch.tensor([0.1, 0.2])))
    with pytest.raises(UserError, match="sigma of GaussianNoise must be one positive number, got 2 values"):
        operator_of(several, (1, 8, 8))
    with pytest.raises(UserError, match="gain of PoissonNoise must be one positive number, got 0"):
        operator_of(deepinv.physics.Denoising(PoissonNoise(0.0)), (1, 8, 8))


@pytest.mark.parametrize("suffix", ["npy", "pt", "png"])
def test_tensors_from_files(suffix, tmp_path):
    import numpy as np
    from PIL import Image

    mask = np.zeros((8, 8), dtype=np.float32)
    mask[2:5] = 1
    path = tmp_path / f"mask.{suffix}"
    if suffix == "npy":
        np.save(path, mask)
    elif suffix == "pt":
        torch.save(torch.from_numpy(mask), path)
    else:
        Image.fromarray((255 * mask).astype(np.uint8)).save(path)
    operator = daps_kit.build("operator", section("MRI", {"mask": {"file": str(path)}}), shape=(1, 8, 8))
    torch.testing.assert_close(operator.physics.mask[0, 0].float(), torch.from_numpy(mask))


def test_damaged_files_are_refused(tmp_path):
    (tmp_path / "mask.npy").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot read"):
        daps_kit.build(
            "operator", section("MRI", {"mask": {"file": str(tmp_path / "mask.npy")}}), shape=(1, 8, 8)
        )
    torch.save({"mask": torch.ones(8, 8)}, tmp_path / "mask.pt")
    with pytest.raises(UserError, match="expected one tensor, got dict"):
        daps_kit.build(
            "operator", section("MRI", {"mask": {"file": str(tmp_path / "mask.pt")}}), shape=(1, 8, 8)
        )
