from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import daps_kit
from daps_kit.contracts import LinearOperator
from daps_kit.covariance import CosineCovariance, cosine_filter
from daps_kit.errors import RefusalError, UserError
from daps_kit.parameters import kernel_names
from daps_samplers.kernel_draw import conditional, path, positive, sweep

SIZE = 5


def blur(shape: tuple[int, int, int], sigma: float, **how: object) -> LinearOperator:
    section = {
        "use": "motion_blur",
        "kernel": {"unknown": {"size": SIZE}},
        "noise": {"use": "gaussian", "sigma": sigma},
    }
    operator = daps_kit.build("operator", section | how, shape=shape)
    assert isinstance(operator, LinearOperator)
    return operator


def at(operator: LinearOperator, k: np.ndarray) -> LinearOperator:
    assert operator.parameters is not None
    found = operator.parameters.row(0)(dict(zip(kernel_names(SIZE), k.ravel().tolist(), strict=True)))
    assert isinstance(found, LinearOperator)
    return found


def columns(operator: LinearOperator, m: torch.Tensor) -> torch.Tensor:
    """M, [n, C, H, W], one number of the kernel after the other."""
    return torch.cat([at(operator, unit).forward(m) for unit in np.eye(SIZE**2)])


def middle() -> np.ndarray:
    k = np.zeros((SIZE, SIZE))
    k[SIZE // 2, SIZE // 2] = 1
    return k


def test_the_pull_is_that_of_dense_linear_algebra() -> None:
    torch.manual_seed(0)
    shape, v = (3, 12, 14), 0.3
    operator, m, y = blur(shape, v**0.5), torch.randn(1, *shape).double(), torch.randn(1, *shape).double()
    colours = torch.linalg.qr(torch.randn(3, 3).double())[0]
    covariance = CosineCovariance(torch.rand(shape).double() + 0.1, colours)
    sharp = at(operator, middle())  # S = C + v I is diagonal in the cosine basis, exactly
    _, pull = conditional(sharp, covariance, m, y, v, SIZE)
    weighted = cosine_filter(y - sharp.forward(m), 1 / (covariance.power + v), colours)
    dense = (columns(operator, m) * weighted).flatten(1).sum(1)
    np.testing.assert_allclose(pull, dense.numpy(), atol=1e-9 * float(dense.abs().max()))


def test_the_precision_is_that_of_dense_linear_algebra_but_for_borders() -> None:
    torch.manual_seed(1)
    shape, v = (2, 16, 15), 0.2
    operator, m = blur(shape, v**0.5, boundary="zero"), torch.zeros(1, *shape).double()
    m[..., 3:-3, 3:-3] = torch.randn(2, 10, 9).double()  # what no border reaches
    covariance = CosineCovariance(torch.full(shape, 0.5).double(), torch.eye(2).double())
    precision, _ = conditional(at(operator, middle()), covariance, m, m, v, SIZE)
    matrix = columns(operator, m).flatten(1)
    np.testing.assert_allclose(precision, (matrix @ matrix.T / 0.7).numpy(), atol=1e-9)


@pytest.mark.parametrize(("mean", "std"), [(1.0, 0.5), (-0.3, 0.2), (-4.0, 1.0), (0.0, 2.0)])
def test_a_cut_normal_has_the_quantiles_of_scipy(mean: float, std: float) -> None:
    for u in (0.01, 0.4, 0.99):
        wanted = stats.truncnorm.ppf(1 - u, -mean / std, np.inf, mean, std)
        assert positive(mean, std, u) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def test_far_below_zero_a_cut_normal_is_an_exponential() -> None:
    assert positive(-20.0, 1.0, 0.5) == pytest.approx(stats.truncnorm.ppf(0.5, 20, np.inf, -20, 1), rel=0.01)


def test_sweeps_draw_from_the_cut_gaussian() -> None:
    precision, mean = np.array([[2.0, 1.2], [1.2, 1.5]]), np.array([0.2, -0.1])
    rng, k = np.random.default_rng(0), np.array([0.3, 0.3])
    pull, found = precision @ (mean - k), []
    for draws in rng.uniform(size=(20_000, 2)):
        k, pull = sweep(precision, pull, k, range(2), draws)
        found.append(k)

    def density(b: float, a: float) -> float:
        d = np.array([a, b]) - mean
        return float(np.exp(-d @ precision @ d / 2))

    total = integrate.dblquad(density, 0, 6, 0, 6)[0]
    for power in ((1, 0), (0, 1), (1, 1), (2, 0)):

        def weighed(b: float, a: float, p: tuple[int, int] = power) -> float:
            return a ** p[0] * b ** p[1] * density(b, a)

        wanted = integrate.dblquad(weighed, 0, 6, 0, 6)[0] / total
        values = np.prod(np.array(found) ** power, axis=1)
        assert values.mean() == pytest.approx(wanted, abs=0.02)


def test_sweeps_without_draws_end_at_the_mode() -> None:
    rng = np.random.default_rng(1)
    root = rng.normal(size=(6, 6))
    precision, pull = root @ root.T + np.eye(6), 3 * rng.normal(size=6)
    k, left = np.zeros(6), pull
    for _ in range(300):
        k, left = sweep(precision, left, k, range(6), None)
    assert (k >= 0).all()
    assert (k == 0).any()
    np.testing.assert_allclose(left, pull - precision @ k, atol=1e-9)
    assert np.abs(left[k > 0]).max() < 1e-9  # Karush, Kuhn and Tucker
    assert left[k == 0].max() < 1e-9


def test_numbers_that_are_not_meant_stay() -> None:
    k, _ = sweep(np.eye(3), np.ones(3), np.zeros(3), [1], None)
    assert k.tolist() == [0, 1, 0]


def test_the_path_ends_like_that_of_a_known_kernel() -> None:
    sigmas = path([10, 1, 0.25, 0.15, 0.01])
    assert sigmas == sorted(sigmas, reverse=True)
    assert sigmas[-2:] == [0.15, 0.01]
    assert len(sigmas) == 18


def picture() -> torch.Tensor:
    rng, x = np.random.default_rng(3), torch.zeros(3, 48, 48)
    for _ in range(40):
        i, j, h, w = rng.integers(0, 40), rng.integers(0, 40), rng.integers(3, 20), rng.integers(3, 20)
        x[:, i : i + h, j : j + w] = torch.from_numpy(rng.uniform(-0.9, 0.9, (3, 1, 1))).float()
    return x


@pytest.mark.filterwarnings("ignore:.*the measurement is not explained")
def test_a_kernel_and_the_picture_are_found() -> None:
    x, k = picture(), np.zeros((SIZE, SIZE))
    k[2, :] = 0.2
    operator = blur((3, 48, 48), 0.02)
    y = at(operator, k).forward(x[None]).float() + 0.02 * torch.randn(
        1, 3, 48, 48, generator=torch.Generator().manual_seed(0)
    )
    found = daps_kit.sample("photos", operator, y[0], runs=2, seed=0, progress=False)
    kernel = found.parameters["kernel"]
    assert kernel.shape == (2, SIZE, SIZE)
    assert found.traces["kernel"].shape[:3] == (2, SIZE, SIZE)
    assert bool((kernel >= 0).all())
    assert torch.allclose(kernel.sum((1, 2)), torch.ones(2).double())
    for each in kernel.numpy():
        assert (each * k).sum() > 0.9 * np.linalg.norm(each) * np.linalg.norm(k)
    before, after = (float((z - x).square().mean()) for z in (y[0], found.mean))
    assert after < 0.8 * before


def test_what_cannot_be_is_said() -> None:
    for noise, why in (
        ({"use": "gaussian", "sigma": "unknown"}, "which is known"),
        ({"use": "laplace", "scale": 0.1}, "Gaussian"),
    ):
        operator = daps_kit.build(
            "operator",
            {"use": "motion_blur", "kernel": {"unknown": {"size": 3}}, "noise": noise},
            shape=(3, 16, 16),
        )
        with pytest.raises((UserError, RefusalError), match=why):
            daps_kit.sample("photos", operator, torch.zeros(3, 16, 16), runs=1, progress=False)
    with pytest.raises(UserError, match="boundary"):
        blur((3, 16, 16), 0.1, boundary="valid")
    with pytest.raises(UserError, match="4 is even"):
        daps_kit.build(
            "operator", {"use": "motion_blur", "kernel": {"unknown": {"size": 4}}}, shape=(3, 16, 16)
        )
    chain = {"use": "chain", "operators": [{"use": "motion_blur", "kernel": {"unknown": {"size": 3}}}]}
    with pytest.raises(UserError, match="which no chain can"):
        daps_kit.build("operator", chain, shape=(3, 16, 16))
