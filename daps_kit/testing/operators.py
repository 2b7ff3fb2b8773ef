r"""Conformance checks of forward models. Each is a function of an `OperatorCase`.

For random images x and z, measurements u, noise model p(y | a) with misfit m and dispersion v:

    derivative     (A(x + h z) - A(x - h z)) / 2h  =  J z,      <u, J z> = <J^T u, z>
    likelihood     log p(y | x) - log p(y | z)     =  -(loss(x) - loss(z)) / 2v
    noise          E[s] = 0 and E[s^2 + s'] = 0 with the score s = d log p(y | a) / da   (Bartlett's identities)
    linear         A(ax + bz) = a A x + b A z,  <A x, u> = <x, A^T u>,  (A^T A + w I) solve_normal(b, w) = b
    modes          A = L g F E,  L L^T = F^T F = I
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from daps_kit.contracts import LinearOperator, Operator, Shape

from .base import (
    Case,
    NotApplicable,
    expect,
    expect_no_global_randomness,
    expect_unchanged,
    expect_z,
    near,
    rows,
    same,
    settings_described,
    settings_import_is_light,
    streams,
    tensor,
)

__all__ = ["CHECKS", "OperatorCase"]

F64 = torch.float64


class OperatorCase(Case):
    """An operator under test, and what it is tried on.

    Args:
        what: a section, settings, or an operator.
        shape: (C, H, W) of the images; an operator brings its own.
        seed: of what is random in it.
    """

    def __init__(self, what: Any, shape: Shape | None = None, *, seed: int = 0) -> None:
        super().__init__("operator", what)
        self.shape: Shape = (
            shape if shape is not None else self.what.shape if self.settings is None else (3, 16, 16)
        )
        self.seed = seed

    def build(self, seed: int, device: str = "cpu") -> Operator:
        """Return an operator built anew from the settings."""
        settings: Any = self.described()
        operator: Operator = settings.build(shape=self.shape, seed=seed, device=torch.device(device))
        return operator

    @cached_property
    def operator(self) -> Operator:
        """The operator."""
        operator: Operator = self.what if self.settings is None else self.build(self.seed)
        return operator

    @property
    def linear(self) -> LinearOperator:
        """The operator, where it is linear."""
        if not isinstance(self.operator, LinearOperator):
            raise NotApplicable("the operator is not linear")
        return self.operator

    def images(self, count: int = 3, dtype: torch.dtype = F64, seed: int = 0) -> Tensor:
        """Return random images within [-1, 1], [count, C, H, W]."""
        return (0.5 * tensor(1000 + seed, (count, *self.shape), F64)).tanh().to(dtype)

    @cached_property
    def measured(self) -> tuple[Tensor, Tensor]:
        """Images in double precision and measurements of them."""
        x = self.images()
        return x, self.operator.measure(x, streams(1, 2, 3)).to(F64)

    def dual(self, seed: int = 0) -> Tensor:
        """Return random numbers with the shape of three measurements, zero where nothing is observed."""
        return self.operator.project(tensor(2000 + seed, self.measured[1].shape, F64))


def _everything(operator: Operator, x: Tensor, y: Tensor) -> list[Tensor]:
    """Return the results of every method."""
    clean, vjp = operator.forward_vjp(x)
    results = [operator.forward(x), clean, vjp(y), operator.jvp(x, x.flip(0)), operator.project(y)]
    results += [
        operator.loss(x, y),
        *operator.loss_grad(x, y),
        operator.log_likelihood(x, y),
        operator.residual(x, y),
    ]
    if isinstance(operator, LinearOperator):
        results += [operator.adjoint(y), operator.solve_normal(x, 0.5)]
    return [*results, operator.to_image(y)]


def shapes(case: OperatorCase) -> None:
    """Every method returns the shape that the contract states, whatever the batch size."""
    operator = case.operator
    expect(
        tuple(operator.shape) == tuple(case.shape), f"shape is {operator.shape}, was built for {case.shape}"
    )
    forms = set()
    for count in (1, 3):
        x = case.images(count, torch.float32)
        y = operator.forward(x)
        forms.add(tuple(y.shape[1:]))
        expect(len(y) == count, f"forward of {count} images returned {len(y)} measurements")
        measured = operator.measure(x, streams(*range(count)))
        gradient = operator.loss_grad(x, measured)[1]
        wanted: list[tuple[str, Tensor, tuple[int, ...]]] = [
            ("measure", measured, tuple(y.shape)),
            ("forward_vjp", operator.forward_vjp(x)[1](y), tuple(x.shape)),
            ("jvp", operator.jvp(x, x), tuple(y.shape)),
            ("loss", operator.loss(x, y), (count,)),
            ("the gradient of loss_grad", gradient, tuple(x.shape)),
            ("log_likelihood", operator.log_likelihood(x, y), (count,)),
            ("residual", operator.residual(x, y), (count,)),
        ]
        if isinstance(operator, LinearOperator):
            wanted.append(("adjoint", operator.adjoint(y), tuple(x.shape)))
            wanted.append(("solve_normal", operator.solve_normal(x, 1.0), tuple(x.shape)))
        for name, got, form in wanted:
            expect(tuple(got.shape) == form, f"{name} returned the shape {tuple(got.shape)}, not {form}")
            expect(torch.isfinite(got).all(), f"{name} returned numbers that are not finite")
        picture = operator.to_image(measured)
        fits = picture.ndim == 4 and len(picture) == count and picture.shape[1] in (1, 3)
        expect(fits, f"to_image returned the shape {tuple(picture.shape)}, not [{count}, 1 or 3, h, w]")
        expect(float(picture.abs().max()) <= 1 + 1e-6, "to_image left [-1, 1]")
    expect(len(forms) == 1, f"the shape of a measurement depends on the batch size: {sorted(forms)}")
    named = all(isinstance(key, str) and isinstance(t, Tensor) for key, t in operator.state().items())
    expect(named, "state() must map names to tensors")


def dtypes(case: OperatorCase) -> None:
    """Float32 in, float32 out; float64 in, float64 out; both agree to float32's precision."""
    results = []
    for dtype in (torch.float32, F64):
        x = case.images(dtype=dtype)
        y = case.dual().to(dtype)
        results.append(_everything(case.operator, x, y))
        wrong = {str(r.dtype) for r in [*results[-1], case.operator.measure(x, streams(1, 2, 3))]} - {
            str(dtype)
        }
        expect(not wrong, f"{dtype} in, {', '.join(sorted(wrong))} out")
    near(results[0][0], results[1][0], 1e-4, "forward in float32 and in float64")


def devices(case: OperatorCase) -> None:
    """Results live where the images live, on every device of this machine."""
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        operator = case.operator if device == "cpu" else case.build(case.seed, device)
        x, y = case.images(dtype=torch.float32).to(device), case.dual().to(device, torch.float32)
        elsewhere = {str(r.device.type) for r in _everything(operator, x, y)} - {device}
        expect(not elsewhere, f"images on {device}, results on {', '.join(sorted(elsewhere))}")


def deterministic(case: OperatorCase) -> None:
    """The same arguments give the same results, whatever was asked in between."""
    x, y = case.measured
    first = _everything(case.operator, x, y)
    _everything(case.operator, x.flip(0) / 2, y.flip(0))
    same(_everything(case.operator, x, y), first, "a second call with the same arguments gave another result")


def no_global_randomness(case: OperatorCase) -> None:
    """Building and using the operator neither reads nor moves global random states."""
    x, y = case.measured

    def use() -> list[Tensor]:
        operator = case.operator if case.settings is None else case.build(case.seed)
        return [*_everything(operator, x, y), operator.measure(x, streams(1, 2, 3))]

    expect_no_global_randomness(use)


def input_unchanged(case: OperatorCase) -> None:
    """No method changes its arguments."""
    x, y = (t.clone() for t in case.measured)
    weight = torch.full((len(x),), 0.5, dtype=F64)

    def use() -> None:
        _everything(case.operator, x, y)
        case.operator.measure(x, streams(1, 2, 3))
        if isinstance(case.operator, LinearOperator):
            case.operator.solve_normal(x, weight)

    expect_unchanged(use, x=x, y=y, weight=weight)


def batch_equals_single(case: OperatorCase) -> None:
    """A sample's result does not depend on the rest of the batch; nor does its noise."""
    operator, (x, y) = case.operator, case.measured
    for b in range(len(x)):
        alone = _everything_but_jvp(operator, x[b : b + 1], y[b : b + 1])
        for k, (whole, single) in enumerate(zip(_everything_but_jvp(operator, x, y), alone, strict=True)):
            near(whole[b : b + 1], single, 1e-6, f"sample {b + 1} in a batch and alone (result {k})")
    drawn = operator.measure(x, streams(7, 8, 9))
    alone_drawn = rows(lambda b: operator.measure(x[b : b + 1], streams(7 + b)), len(x))
    near(drawn, alone_drawn, 1e-6, "the noise of a sample in a batch and alone")


def _everything_but_jvp(operator: Operator, x: Tensor, y: Tensor) -> list[Tensor]:
    results = _everything(operator, x, y)
    return results[:3] + results[4:]


def jvp(case: OperatorCase) -> None:
    """J(x) v is the derivative of forward, by central differences in float64."""
    x, v, h = case.measured[0], tensor(3, (3, *case.shape), F64), 1e-6
    differences = (case.operator.forward(x + h * v) - case.operator.forward(x - h * v)) / (2 * h)
    near(case.operator.jvp(x, v), differences, 1e-4, "jvp and central differences")


def vjp(case: OperatorCase) -> None:
    """J(x)^T u is the transpose of the derivative of forward, by central differences in float64; both detached."""
    x, v, h, u = case.measured[0], tensor(3, (3, *case.shape), F64), 1e-6, case.dual()
    y, pull = case.operator.forward_vjp(x.clone().requires_grad_())
    near(y, case.operator.forward(x), 1e-9, "forward_vjp's measurement and forward")
    gradient = pull(u)
    expect(not (y.requires_grad or gradient.requires_grad), "forward_vjp must return detached tensors")
    differences = (case.operator.forward(x + h * v) - case.operator.forward(x - h * v)) / (2 * h)
    _near_dots(gradient, v, u, differences, 1e-5, "<J^T u, v> and <u, J v>")


def _near_dots(a: Tensor, b: Tensor, c: Tensor, d: Tensor, tolerance: float, what: str) -> None:
    """Expect <a, b> = <c, d> for each sample, relative to |a| |b| + |c| |d|."""
    left, right = ((p.double() * q.double()).flatten(1).sum(1) for p, q in ((a, b), (c, d)))
    scale = a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1)
    scale = scale + c.flatten(1).norm(dim=1) * d.flatten(1).norm(dim=1)
    error = float(((left - right).abs() / scale.clamp_min(1e-30)).max())
    expect(error <= tolerance, f"{what}: relative error {error:.2g}, allowed {tolerance:.1g}")


def differentiable(case: OperatorCase) -> None:
    """Autograd through forward gives J(x)^T u."""
    x, u = case.measured[0].clone().requires_grad_(), case.dual()
    y = case.operator.forward(x)
    expect(y.requires_grad, "forward cuts the graph: its result does not require a gradient")
    (gradient,) = torch.autograd.grad(y, x, u)
    near(
        case.operator.forward_vjp(x.detach())[1](u),
        gradient,
        1e-6,
        "forward_vjp and autograd through forward",
    )


def loss_gradient(case: OperatorCase) -> None:
    """The loss_grad pair is the loss and its derivative, by central differences in float64."""
    x, y = case.measured
    x = x.flip(0)  # away from the images that were measured, where the gradient is mostly noise
    v, h = tensor(4, x.shape, F64), 1e-6
    loss, gradient = case.operator.loss_grad(x, y)
    near(loss, case.operator.loss(x, y), 1e-9, "the loss of loss_grad and loss")
    differences = (case.operator.loss(x + h * v, y) - case.operator.loss(x - h * v, y)) / (2 * h)
    near((gradient * v).flatten(1).sum(1), differences, 1e-4, "loss_grad and central differences")


def loss_is_likelihood(case: OperatorCase) -> None:
    """The loss is -2 dispersion times the log-likelihood, up to a constant that does not depend on x."""
    operator, (x, y) = case.operator, case.measured
    other = case.images(seed=1)
    by_loss = (operator.loss(other, y) - operator.loss(x, y)) / (2 * operator.noise.dispersion)
    by_likelihood = operator.log_likelihood(x, y) - operator.log_likelihood(other, y)
    near(by_loss, by_likelihood, 1e-6, "differences of loss / (2 dispersion) and of the log-likelihood")


def noise_moments(case: OperatorCase) -> None:
    """Measurements are drawn from the stated likelihood: mean and variance of its score (z-tests)."""
    operator, count = case.operator, 64
    x = 0.4 * case.images(1).expand(count, *case.shape)  # far from black, where Poisson noise has no score
    y, clean = operator.measure(x, streams(*range(count))), operator.forward(x)
    observed = operator.project(torch.ones_like(y))
    expect(
        float((y * (1 - observed)).abs().max()) == 0,
        "entries that are not observed must be zero in a measurement",
    )

    def score(a: Tensor) -> Tensor:
        return -operator.noise.misfit_grad(a, y) / (2 * operator.noise.dispersion) * observed

    s, h = score(clean), 1e-5
    slope = (score(clean + h) - score(clean - h)) / (2 * h)
    signs = tensor(5, s.shape[1:], F64).sign()
    statistics = {
        "mean of the score": s,
        "mean of the score with random signs": s * signs,
        "variance of the score": s.square() + slope,
    }
    for name, values in statistics.items():
        sums = values.flatten(1).sum(1)
        spread = float(sums.std()) / count**0.5
        if name == "variance of the score" and spread == 0:
            continue  # a density with a kink, as Laplace's: its slope is in the kink, where nobody measures
        expect(spread > 0, "the noise of all samples is the same, or there is none")
        expect_z(float(sums.mean()) / spread, f"{name}: the noise is not what the likelihood states")


def residual(case: OperatorCase) -> None:
    """The residual of the true image is one noise standard deviation (z-test; within 10 % where it is not Gaussian)."""
    operator, count = case.operator, 64
    x = case.images(1).expand(count, *case.shape)
    y = operator.measure(x, streams(*range(count)))
    entries = float(operator.project(torch.ones_like(y))[0].sum())
    mean = float(operator.residual(x, y).square().mean())
    if not operator.noise.gaussian:
        expect(abs(mean - 1) < 0.1, f"mean squared residual {mean:.3f}, not 1")
        return
    expect_z((mean - 1) / (2 / (entries * count)) ** 0.5, f"mean squared residual {mean:.3f}, not 1")


def linearity(case: OperatorCase) -> None:
    """A(ax + bz) = a A x + b A z, and A 0 = 0."""
    operator, x, z = case.linear, case.images(), case.images(seed=1)
    combined = operator.forward(2 * x - 0.5 * z)
    near(
        combined, 2 * operator.forward(x) - 0.5 * operator.forward(z), 1e-9, "A(2x - z/2) and 2 A x - A z / 2"
    )


def dot_test(case: OperatorCase) -> None:
    """<A x, u> = <x, A^T u>; and A^T A x = x, where the operator says that it is orthonormal."""
    x, u = case.images(), case.dual()
    _near_dots(case.linear.forward(x), u, x, case.linear.adjoint(u), 1e-10, "<A x, u> and <x, A^T u>")
    if case.linear.orthonormal:
        near(case.linear.adjoint(case.linear.forward(x)), x, 1e-9, "A^T A x and x")


def solve_normal(case: OperatorCase) -> None:
    """(A^T A + w I) solve_normal(b, w) = b, for one weight and for one a sample."""
    operator, b = case.linear, case.images(seed=2)
    each = torch.tensor([0.01, 0.5, 20.0], dtype=F64)
    weights: list[float | Tensor] = [0.01, 1.0, each]
    for weight in weights:
        solution = operator.solve_normal(b, weight)
        scale = weight.reshape(-1, 1, 1, 1) if isinstance(weight, Tensor) else weight
        again = operator.adjoint(operator.forward(solution)) + scale * solution
        shown = "[B]" if isinstance(weight, Tensor) else f"{weight:g}"
        near(again, b, 1e-4, f"(A^T A + w I) solve_normal(b, w) and b for w = {shown}")


def modes(case: OperatorCase) -> None:
    """A = L g F E with F and L^T orthonormal, and each transpose that of its map, where an operator knows its modes."""
    operator, x, u = case.linear, case.images(), case.dual()
    found = operator.modes(x)
    if found is None:
        return
    generator = torch.Generator().manual_seed(3)
    w = torch.randn(3, *found.shape, dtype=F64, generator=generator)
    c, share = found.coordinates(w), torch.rand(found.gain.shape, dtype=F64, generator=generator)
    none = torch.zeros_like(share)
    near(found.measured(found.gain * found.seen(x, none)), operator.forward(x), 1e-5, "L g F E x and A x")
    near(found.domain(c), w, 1e-9, "F^T F w and w")
    squares = (found.count * c.abs().square()).flatten(1).sum(1)
    near(squares, w.square().flatten(1).sum(1), 1e-9, "|F w|^2 and |w|^2")
    near(found.measured(found.measured_transposed(u)), u, 1e-9, "L L^T y and y")
    near(found.taken(found.placed(x)), x, 1e-9, "an image, and what is taken of where it is placed")
    alone = found.seen(x, none) - share * found.coordinates(found.placed(x))
    near(found.domain(found.seen(x, share)), found.domain(alone), 1e-9, "F E x - share F x and its two parts")
    _near_dots(found.taken(w), x, w, found.placed(x), 1e-9, "<taken w, x> and <w, placed x>")
    measured, pulled = found.measured(c), found.domain(found.measured_transposed(u))
    _near_dots(measured, u, w, pulled, 1e-9, "<L F w, u> and <w, F^T L^T u>")
    seen, back = found.domain(found.seen(x, share)), found.seen_transposed(c, share)
    _near_dots(seen, w, x, back, 1e-9, "<F^T (F E - share F) x, w> and <x, the transpose of F w>")


def elementwise(case: OperatorCase) -> None:
    """Where the operator says that it acts on each entry by itself, one that is changed changes its own alone."""
    if not case.operator.elementwise:
        return
    x = case.images()
    y, changed = case.operator.forward(x), x.flatten(1).clone()
    expect(
        y.shape == x.shape, f"a measurement has the shape {tuple(y.shape[1:])}, images {tuple(x.shape[1:])}"
    )
    for place in (0, changed.shape[1] // 2, changed.shape[1] - 1):
        changed[:, place] = -changed[:, place]
    others = case.operator.forward(changed.reshape(x.shape)).flatten(1) != y.flatten(1)
    others &= changed == x.flatten(1)
    expect(not bool(others.any()), f"{int(others.sum())} entries of y follow entries of x in other places")
    kinks = case.operator.kinks
    for low, high in pairwise((kinks[0] - 1, *kinks, kinks[-1] + 1) if kinks else ()):
        a, middle, b = (
            case.operator.forward(torch.full_like(x, low + t * (high - low))) for t in (0, 0.3, 1)
        )
        near(middle, a + 0.3 * (b - a), 1e-6, f"A between the kinks {low:g} and {high:g} and a straight line")


def same_seed_same_operator(case: OperatorCase) -> None:
    """A seed fixes the operator; one drawn for each image depends on the seed."""
    x = case.images()
    first, second = case.build(5), case.build(5)
    same(first.forward(x), second.forward(x), "two operators built from one seed differ")
    same(list(first.state().values()), list(second.state().values()), "their states differ")
    settings: Any = case.described()
    if "draw" in type(settings).model_fields:
        settings = settings.model_copy(update={"draw": "per_image"})
    if settings.per_image:
        others = [case.build(seed).forward(x) for seed in range(6, 10)]
        differ = any(
            other.shape != first.forward(x).shape or not torch.equal(other, first.forward(x))
            for other in others
        )
        expect(differ, "five seeds gave one operator, though each image is said to have its own")


def stack(case: OperatorCase) -> None:
    """Sample b of a stack is measured by operator b, in every method."""
    x, y = case.measured
    if case.settings is None:
        operators = [case.operator] * 3
    else:
        first = case.build(11)
        operators = [first, case.build(12), first]
    joined = type(operators[0]).stack(operators)
    methods: dict[str, Callable[[Operator, slice], Tensor]] = {
        "forward": lambda o, b: o.forward(x[b]),
        "vjp": lambda o, b: o.forward_vjp(x[b])[1](y[b]),
        "jvp": lambda o, b: o.jvp(x[b], x.flip(0)[b]),
        "loss": lambda o, b: o.loss(x[b], y[b]),
        "loss_grad": lambda o, b: o.loss_grad(x[b], y[b])[1],
        "log_likelihood": lambda o, b: o.log_likelihood(x[b], y[b]),
        "residual": lambda o, b: o.residual(x[b], y[b]),
        "project": lambda o, b: o.project(torch.ones_like(y[b])),
        "to_image": lambda o, b: o.to_image(y[b]),
    }
    if isinstance(joined, LinearOperator):
        methods["adjoint"] = lambda o, b: o.adjoint(y[b])  # type: ignore[attr-defined]
        methods["solve_normal"] = lambda o, b: o.solve_normal(x[b], 0.5)  # type: ignore[attr-defined]
    for name, method in methods.items():
        alone = torch.cat([method(o, slice(b, b + 1)) for b, o in enumerate(operators)])
        near(method(joined, slice(None)), alone, 1e-5, f"{name} of a stack and of its operators")


CHECKS = (
    shapes,
    dtypes,
    devices,
    deterministic,
    no_global_randomness,
    input_unchanged,
    batch_equals_single,
    jvp,
    vjp,
    differentiable,
    loss_gradient,
    loss_is_likelihood,
    noise_moments,
    residual,
    linearity,
    dot_test,
    solve_normal,
    modes,
    elementwise,
    same_seed_same_operator,
    stack,
    settings_described,
    settings_import_is_light,
)
"""The checks of an operator, in the order in which they are run."""
