"""What samples cost, counted the same for every sampler: by what it asks of the prior and of the operator.

A network call is one image that the prior's denoiser is asked for. A Jacobian product is one that is pulled back
through it, v -> J^T v, which costs about as much as two calls. An operator product is one A x, A^T y, J x or J^T y; a
solve in closed form counts as the two products of the step that it saves. Batches count as the images in them.

The prior and the operator are seen through classes of their own that share everything with them, so that what they keep
for later, they keep for the next batch, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from torch import Tensor

from daps_kit.contracts import LinearOperator, Operator, Prior
from daps_kit.modes import Modes

__all__ = ["COSTS", "Cost", "Meter", "mean_cost"]

COSTS = {"network_calls": "calls", "jacobian_products": "jacobians", "operator_products": "products"}
"""What files call the fields of `Cost`."""

Component = TypeVar("Component", Prior, Operator, Modes)


@dataclass(frozen=True)
class Cost:
    """What a sample cost.

    Attributes:
        calls: network calls.
        jacobians: products with the transposed Jacobian of the denoiser.
        products: products with the operator, its adjoint or its derivative.
    """

    calls: float = 0.0
    jacobians: float = 0.0
    products: float = 0.0

    @property
    def equivalent(self) -> float:
        """Network calls, a Jacobian product counted as two."""
        return self.calls + 2 * self.jacobians


def mean_cost(parts: Sequence[tuple[Cost, int]]) -> Cost:
    """Return the mean over batches of some samples each."""
    count = sum(samples for _, samples in parts)
    return Cost(
        *(sum(getattr(cost, f.name) * samples for cost, samples in parts) / count for f in fields(Cost))
    )


class Meter:
    """Counts what is asked of the priors and operators that it hands out.

    Args:
        called: hears of every call of a denoiser.
    """

    def __init__(self, called: Callable[[], None] = lambda: None) -> None:
        self._called = called
        self._calls = self._jacobians = self._products = 0
        self._busy = False

    def cost(self, samples: int) -> Cost:
        """Return what a sample cost, on average."""
        return Cost(self._calls / samples, self._jacobians / samples, self._products / samples)

    def prior(self, prior: Prior) -> Prior:
        """Return the prior itself, its denoiser counted."""
        kind = type(prior)

        def denoise(this: Prior, x: Tensor, sigma: float | Tensor) -> Tensor:
            self._calls += len(x)
            self._called()
            denoised = kind.denoise(this, x, sigma)
            if denoised.requires_grad:
                denoised.register_hook(self._pulled_through_prior)  # type: ignore[no-untyped-call]
            return denoised

        return _seen_as(prior, {"denoise": denoise})

    def operator(self, operator: Operator) -> Operator:
        """Return the operator itself, its products counted."""
        kind: Any = type(operator)

        def forward_vjp(this: Any, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
            with self._at_least(len(x)):
                y, vjp = kind.forward_vjp(this, x)

            def counted(v: Tensor) -> Tensor:
                with self._at_least(len(v)):
                    product: Tensor = vjp(v)
                return product

            return y, counted

        def solve_normal(this: Any, b: Tensor, weight: float | Tensor) -> Tensor:
            with self._at_least(2 * len(b)):
                solution: Tensor = kind.solve_normal(this, b, weight)
            return solution

        def modes(this: Any, like: Tensor) -> Modes | None:
            found: Modes | None = kind.modes(this, like)
            if found is None:
                return None
            parts = ("measured", "measured_transposed")
            return _seen_as(found, {name: self._product(getattr(type(found), name)) for name in parts})

        names = [name for name in ("forward", "adjoint", "jvp") if hasattr(kind, name)]
        methods: dict[str, Any] = {name: self._product(getattr(kind, name)) for name in names}
        methods |= {"solve_normal": solve_normal} if hasattr(kind, "solve_normal") else {}
        methods |= {"modes": modes} if hasattr(kind, "modes") else {}
        if not isinstance(operator, LinearOperator) and (part := operator.linear_part) is not None:
            methods["linear_part"] = property(lambda this: self.operator(part))
        return _seen_as(operator, {**methods, "forward_vjp": forward_vjp})

    def _product(self, method: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Return a method that counts as one product, whatever it asks of the operator itself."""

        def counted(this: Any, x: Tensor, *rest: Tensor) -> Tensor:
            if self._busy:
                return method(this, x, *rest)
            self._busy = True
            try:
                result = method(this, x, *rest)
            finally:
                self._busy = False
            self._products += len(x)
            if result.requires_grad:
                result.register_hook(self._pulled_through_operator)  # type: ignore[no-untyped-call]
            return result

        return counted

    @contextlib.contextmanager
    def _at_least(self, products: int) -> Iterator[None]:
        """Count what is done inside, as so many products at least."""
        before = self._products
        yield
        if not self._busy:
            self._products = max(self._products, before + products)

    def _pulled_through_prior(self, gradient: Tensor) -> None:
        self._jacobians += len(gradient)

    def _pulled_through_operator(self, gradient: Tensor) -> None:
        self._products += len(gradient)


def _seen_as(component: Component, methods: dict[str, Any]) -> Component:
    """Return the component itself, seen through a class with methods of its own."""
    kind = type(component)
    metaclass: Any = type(kind)
    seen: Component = object.__new__(metaclass(kind.__name__, (kind,), methods))
    object.__setattr__(seen, "__dict__", component.__dict__)  # shared, not copied
    return seen
