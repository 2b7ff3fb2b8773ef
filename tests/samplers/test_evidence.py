"""The evidence, against the density of the measurement as a matrix says it."""

from __future__ import annotations

import pytest
import torch

from daps_kit.api import build
from daps_kit.contracts import Operator
from daps_kit.covariance import CosineCovariance
from daps_kit.noise import PoissonNoise
from daps_samplers import evidence as module
from daps_samplers.evidence import Evidence, known, lanczos
from daps_samplers.target import GaussianTarget

SHAPE = (3, 10, 12)
SIZE = 360
BLUR = {"use": "gaussian_blur", "kernel_size": 9, "intensity": {"unknown": [0.4, 2.0]}}
MASK = {"use": "inpainting", "mask": "random"}
NOISE = {"noise": {"use": "gaussian", "sigma": "unknown"}}


CHAIN = {
    "use": "chain",
    "operators": [
        {"use": "shift", "x": {"unknown": [-2.0, 2.0]}},
        {"use": "affine", "scale": {"unknown": [0.5, 2.0]}, "offset": {"unknown": [-0.5, 0.5]}},
    ],
}


def covariance() -> CosineCovariance:
    down, across = torch.arange(10.0)[:, None], torch.arange(12.0)
    power = torch.tensor([1.0, 0.2, 0.05])[:, None, None] * 0.02 / (1 + down**2 + across**2)
    colours, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))
    return CosineCovariance(power, colours)


def problem(section: dict[str, object], count: int = 1) -> tuple[GaussianTarget, Operator]:
    operator = build("operator", section, shape=SHAPE)
    draw = torch.Generator().manual_seed(1)
    centre = 0.3 * torch.randn(count, *SHAPE, generator=draw)
    clean = covariance().sqrt(torch.randn(count, *SHAPE, generator=draw)) + centre
    y = operator.forward(clean) + operator.project(0.1 * torch.randn(count, *SHAPE, generator=draw))
    return GaussianTarget(centre, covariance(), operator, y, sigma=0.3, likelihood_variance=1.0), operator


def expected(target: GaussianTarget, operator: Operator, values: torch.Tensor) -> torch.Tensor:
    """Return log N(y; A m, A C A^T + V) over what is measured, V the noise's variances, without its constant."""
    assert operator.parameters is not None
    eye = torch.eye(SIZE, dtype=torch.float64).reshape(SIZE, *SHAPE)
    c = covariance().multiply(eye).flatten(1)
    found = []
    for b, each in enumerate(operator.parameters.operators(values)):
        seen = each.project(torch.ones(1, *SHAPE)).flatten() > 0
        nothing = each.forward(torch.zeros(1, *SHAPE, dtype=torch.float64))
        a = (each.forward(eye) - nothing).flatten(1).T[seen]
        s = a @ c @ a.T + torch.diag(each.noise.std(torch.zeros(1, *SHAPE)).double().square().flatten()[seen])
        r = (target.y[b] - each.forward(target.centre[b : b + 1])[0]).double().flatten()[seen]
        found.append(-0.5 * (r @ torch.linalg.solve(s, r) + torch.linalg.slogdet(s)[1]))
    return torch.stack(found)


VALUES = torch.tensor([[0.9, 0.1], [1.6, 0.2]], dtype=torch.float64)


def test_matrices_are_exact() -> None:
    target, operator = problem(BLUR | NOISE, 2)
    assert operator.parameters is not None
    evidence = Evidence(operator.parameters, target)
    assert evidence.dense
    assert not evidence.rough
    assert torch.allclose(evidence.log(VALUES), expected(target, operator, VALUES), rtol=1e-5)
    masked, operator = problem(MASK | NOISE)
    assert operator.parameters is not None
    found = Evidence(operator.parameters, masked).log(VALUES[:1, 1:])
    assert torch.allclose(found, expected(masked, operator, VALUES[:1, 1:]), rtol=1e-5)


def test_beside_a_preconditioner_differences_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DENSE", 10)
    target, operator = problem(BLUR | NOISE, 2)
    assert operator.parameters is not None
    evidence = Evidence(operator.parameters, target)
    assert evidence.rough
    other = torch.tensor([[0.7, 0.12], [1.4, 0.15]], dtype=torch.float64)
    change = expected(target, operator, other) - expected(target, operator, VALUES)
    exact = evidence.log(other) - evidence.log(VALUES)
    rough = evidence.rough_log(other) - evidence.rough_log(VALUES)
    assert float(change.abs().min()) > 5
    assert torch.allclose(exact, change, atol=0.3)
    assert torch.allclose(rough, change, atol=0.1 * float(change.abs().max()))
    assert float((exact - change).abs().max()) < float((rough - change).abs().max())


def agrees_along_sigma(
    evidence: Evidence, target: GaussianTarget, operator: Operator, row: torch.Tensor
) -> bool:
    """Return whether each sigma alone changes the evidence of sample 0 as it does by matrices, within 0.01."""
    grid = torch.tensor([0.03, 0.1, 0.3], dtype=torch.float64)
    for place in range(len(row)):
        rows = row.expand(3, -1).clone()
        rows[:, place] = grid
        exact = torch.cat([expected(target, operator, each[None]) for each in rows])
        ours = evidence.along_sigma(0, row.tolist(), place, grid)
        if not torch.allclose(ours - ours[0], exact - exact[0], rtol=1e-4, atol=0.01):
            return False
    return True


CHANNELS = {"noise": {"use": "gaussian", "sigma": ["unknown", 0.1, "unknown"]}}


def test_channels_of_their_own_sigma_are_exact_by_matrices() -> None:
    grey = {"use": "chain", "operators": [MASK, {"use": "gaussian_blur", "kernel_size": 5, "intensity": 0.8}]}
    for section in (MASK, grey):
        target, operator = problem(section | CHANNELS)
        evidence = Evidence(operator.parameters, target)
        assert evidence.dense
        row = torch.tensor([0.05, 0.2], dtype=torch.float64)
        assert torch.allclose(evidence.log(row[None]), expected(target, operator, row[None]), rtol=1e-5)
        assert agrees_along_sigma(evidence, target, operator, row)


def test_channels_of_their_own_sigma_are_exact_by_frequencies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DENSE", 10)
    target, operator = problem({"use": "identity"} | CHANNELS)
    evidence = Evidence(operator.parameters, target)
    assert evidence.rough
    assert evidence.known
    row = torch.tensor([0.05, 0.2], dtype=torch.float64)
    for log in (evidence.log, evidence.rough_log):
        assert torch.allclose(log(row[None]), expected(target, operator, row[None]), rtol=1e-4, atol=0.01)
    assert agrees_along_sigma(evidence, target, operator, row)
    target, operator = problem(MASK | CHANNELS)
    assert not Evidence(operator.parameters, target).known


def test_channels_of_their_own_sigma_beside_a_preconditioner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DENSE", 10)
    target, operator = problem(BLUR | CHANNELS)
    evidence = Evidence(operator.parameters, target)
    values = torch.tensor([[0.9, 0.1, 0.2], [0.7, 0.12, 0.05], [1.6, 0.2, 0.1]], dtype=torch.float64)
    exact = torch.cat([expected(target, operator, row[None]) for row in values])
    ours = torch.cat([evidence.log(row[None]) for row in values])
    assert float((exact - exact[0]).abs().max()) > 20
    assert torch.allclose(ours - ours[0], exact - exact[0], atol=0.3)


def test_directions_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DENSE", 10)
    motion = {"use": "linear_motion_blur", "length": {"unknown": [1, 9]}, "angle": "unknown"}
    target, operator = problem(motion | {"noise": {"use": "gaussian", "sigma": 0.05}})
    assert operator.parameters is not None
    values = torch.tensor([[5.0, 30], [5, 150], [5, 40], [6, 30], [3, 30], [5, 75]], dtype=torch.float64)
    exact = torch.cat([expected(target, operator, row[None]) for row in values])
    evidence = Evidence(operator.parameters, target)
    assert evidence.rough
    ours = torch.cat([evidence.log(row[None]) for row in values])
    assert float((exact - exact[0]).abs().max()) > 100
    assert torch.allclose(ours - ours[0], exact - exact[0], atol=2.0, rtol=0.03)


def test_a_bound_may_end_the_search_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DENSE", 10)
    target, operator = problem(BLUR | NOISE, 2)
    assert operator.parameters is not None
    exact = Evidence(operator.parameters, target).log(VALUES)
    for least in (exact - 1e-6, exact + 5):
        found = Evidence(operator.parameters, target).log(VALUES, least)
        assert bool((found >= exact - 1e-6).all())
        assert torch.equal(found >= least, exact >= least)


def test_conjugate_gradients_add_up_to_the_quadratic_form() -> None:
    draw = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(60, 60, generator=draw, dtype=torch.float64))
    matrix = basis * torch.logspace(-3, 1, 60, dtype=torch.float64) @ basis.T
    r = torch.randn(60, generator=draw, dtype=torch.float64)
    exact = float(r @ torch.linalg.solve(matrix, r))

    def found(most: float) -> tuple[float, int]:
        products = []

        def apply(z: torch.Tensor) -> torch.Tensor:
            products.append(z)
            return matrix @ z

        value = module._quadratic(apply, r, lambda z: z / matrix.diagonal(), 1e-3, most=most)
        return value, len(products)

    value, steps = found(float("inf"))
    assert value == pytest.approx(exact, abs=module.LEFT)
    early, fewer = found(exact / 10)
    assert exact / 10 < early < exact
    assert fewer < steps


@pytest.mark.parametrize("dense", [400, 10])
def test_a_constant_beside_a_linear_operator_is_counted(monkeypatch: pytest.MonkeyPatch, dense: int) -> None:
    monkeypatch.setattr(module, "DENSE", dense)
    target, operator = problem(CHAIN | {"noise": {"use": "gaussian", "sigma": 0.1}})
    assert operator.parameters is not None
    evidence = Evidence(operator.parameters, target)
    values = torch.tensor([[0.5, 1.1, 0.1], [0.3, 0.9, -0.1], [0.2, 1.0, 0.0]], dtype=torch.float64)
    exact = torch.cat([expected(target, operator, row[None]) for row in values])
    ours = torch.cat([evidence.log(row[None]) for row in values])
    assert float((exact - exact[0]).abs().max()) > 20
    assert torch.allclose(ours - ours[0], exact - exact[0], atol=0.01 if dense == 400 else 1.5)


def test_where_the_operator_is_diagonal_too_both_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DENSE", 10)
    target, operator = problem({"use": "identity"} | NOISE)
    assert operator.parameters is not None
    evidence = Evidence(operator.parameters, target)
    assert evidence.rough
    values = torch.tensor([[0.01], [0.1], [0.5]], dtype=torch.float64)
    exact = torch.cat([expected(target, operator, row[None]) for row in values])
    for log in (evidence.log, evidence.rough_log):
        ours = torch.cat([log(row[None]) for row in values])
        assert torch.allclose(ours, exact, rtol=1e-4, atol=0.01)


def test_by_lanczos_alone_the_maximum_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DENSE", 10)
    target, operator = problem(MASK | NOISE)
    assert operator.parameters is not None
    evidence = Evidence(operator.parameters, target)
    assert not evidence.rough
    grid = torch.logspace(-2, 0, 41, dtype=torch.float64)[:, None]
    ours = torch.cat([evidence.log(row[None]) for row in grid])
    exact = torch.cat([expected(target, operator, row[None]) for row in grid])
    assert abs(int(ours.argmax()) - int(exact.argmax())) <= 1
    near = (exact - exact.max()).abs() < 10
    assert torch.allclose(ours[near] - ours.max(), exact[near] - exact.max(), atol=1.5)


def test_the_quadrature_is_exact_after_as_many_steps_as_eigenvalues() -> None:
    draw = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(12, 12, generator=draw, dtype=torch.float64))
    spread = torch.tensor([1.0, 1, 1, 1, 2, 2, 2, 5, 5, 7, 7, 7], dtype=torch.float64)
    matrix = basis * spread @ basis.T
    z = torch.randn(3, 12, generator=draw, dtype=torch.float64)
    values, weights = lanczos(lambda v: v @ matrix, z, 6)
    found = z.square().sum(1) * (weights * values.clamp_min(1e-9).log()).sum(1)
    log = basis * spread.log() @ basis.T
    assert torch.allclose(found, (z @ log * z).sum(1), rtol=1e-9)


def test_a_node_at_zero_bounds_the_quadratic_form_from_above() -> None:
    draw = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(80, 80, generator=draw, dtype=torch.float64))
    spread = torch.logspace(-4, 1, 80, dtype=torch.float64)
    matrix = basis * spread @ basis.T
    z = torch.randn(2, 80, generator=draw, dtype=torch.float64)
    exact = (z * torch.linalg.solve(matrix + 1e-3 * torch.eye(80, dtype=torch.float64), z.T).T).sum(1)

    def found(steps: int, *, zero: bool) -> torch.Tensor:
        values, weights = lanczos(lambda v: v @ matrix, z, steps, zero=zero)
        return z.square().sum(1) * (weights / (values + 1e-3)).sum(1)

    for steps in (6, 12):
        assert bool((found(steps, zero=False) < exact).all())
        assert bool((found(steps, zero=True) > exact).all())
    assert torch.allclose(found(70, zero=True), exact, rtol=1e-3)


def test_colours_are_looked_at_apart_where_the_operator_leaves_them_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "DENSE", 10)
    target, operator = problem(MASK | NOISE, 2)
    assert module._channels_alike(operator, target.y)
    values, share = module._quadrature(operator, target.covariance, target.y)
    assert values.shape == share.shape == (2, 3, module.STEPS)
    assert torch.allclose(share.sum((1, 2)), target.y.double().square().sum((1, 2, 3)), rtol=1e-5)
    mixed = build("operator", MASK | NOISE, shape=SHAPE)
    monkeypatch.setattr(mixed, "forward", lambda x: operator.forward(x + 0.1 * x.flip(1)))
    assert not module._channels_alike(mixed, target.y)


def test_an_average_lets_the_noise_be_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DENSE", 10)
    grid = torch.logspace(-2, 0, 101, dtype=torch.float64)
    for section in ({"use": "identity"}, MASK):
        target, operator = problem(section | NOISE)
        assert operator.parameters is not None
        target.covariance = CosineCovariance(covariance().power / 9, covariance().colours, average=True)
        log = Evidence(operator.parameters, target).along_sigma(0, [0.1], 0, grid)
        assert float(grid[int(log.argmax())]) == pytest.approx(0.1, rel=0.15)


def test_only_linear_operators_with_gaussian_noise_have_one() -> None:
    linear = build("operator", {"use": "identity"}, shape=SHAPE)
    assert known(linear)
    assert not known(build("operator", {"use": "high_dynamic_range"}, shape=SHAPE))
    linear.noise = PoissonNoise(100.0)
    assert not known(linear)
