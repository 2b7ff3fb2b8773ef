"""What the conformance checks of all kinds share: how one is run, and how results are compared.

A check is a plain function of a case (a component and what it is tried on). It returns where all is well, raises
`AssertionError` with numbers where not, and `NotApplicable` where the case has nothing to check.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from daps_kit.declare import Declared
from daps_kit.discovery import check_settings
from daps_kit.errors import InvalidPluginError, UserError, did_you_mean
from daps_kit.plugin_file import PREFIX
from daps_kit.random import RandomStreams
from daps_kit.recipe.sections import read_section
from daps_kit.settings import KINDS, ComponentSettings, Kind

__all__ = ["Z_LIMIT", "Case", "Check", "NotApplicable", "Outcome", "run_checks"]

Z_LIMIT = 5.0
"""How many standard errors are allowed: a right component fails one such test with probability 6e-7, or never, for
seeds are fixed."""


class NotApplicable(Exception):
    """A check has nothing to say about a component; the text says why."""


class Case:
    """A component under test.

    Args:
        kind: its kind.
        what: a section as a recipe has it, `{"use": name, ...}`, settings, or the component itself; or a function
            without arguments that returns one of these, for what is not to be made before the tests run.

    Attributes:
        settings: its settings; None where the component itself was given.
    """

    def __init__(self, kind: Kind, what: Any) -> None:
        if inspect.isfunction(what):
            what = what()
        self.kind: Kind = kind
        self.what = what
        self.settings: Any = None
        if isinstance(what, type) and issubclass(what, ComponentSettings):
            what = what()
        if isinstance(what, Mapping | ComponentSettings | Declared):
            self.settings = read_section(kind, what)

    @property
    def label(self) -> str:
        """The component's name."""
        return label(self.what)

    def described(self) -> ComponentSettings:
        """Return the settings.

        Raises:
            NotApplicable: there are none.
        """
        if self.settings is None:
            raise NotApplicable("needs settings, and was given the component itself")
        settings: ComponentSettings = self.settings
        return settings


Check = Callable[[Any], None]


@dataclass(frozen=True)
class Outcome:
    """What came of one check; `detail` is what was found wrong, or why it was skipped or expected to fail."""

    check: str
    status: Literal["passed", "failed", "skipped", "expected"]
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.check}: {self.detail or self.status}"


def label(what: Any) -> str:
    """Return the name of a component, however it is given."""
    if isinstance(what, Mapping):
        return str(what.get("use", "?"))
    if isinstance(what, Declared):
        return what.settings.name
    if isinstance(what, ComponentSettings) or (
        isinstance(what, type) and issubclass(what, ComponentSettings)
    ):
        return what.name
    return type(what).__name__


def check_names(checks: Iterable[Check], expected_failures: Mapping[str, str]) -> None:
    """Refuse expected failures of checks that do not exist."""
    names = [check.__name__ for check in checks]
    for name in expected_failures:
        if name not in names:
            raise UserError(f"no check '{name}'; there are {', '.join(names)}{did_you_mean(name, names)}")


def run_checks(
    case: Case, checks: Sequence[Check], expected_failures: Mapping[str, str] | None = None
) -> list[Outcome]:
    """Run checks, each on its own, and return what came of them.

    Args:
        case: the component.
        checks: the checks.
        expected_failures: names of checks that are known to fail, with the reason; one that passes is a failure.
    """
    expected = expected_failures or {}
    check_names(checks, expected)
    outcomes = []
    for check in checks:
        reason = expected.get(check.__name__)
        try:
            check(case)
        except NotApplicable as why:
            outcomes.append(Outcome(check.__name__, "skipped", str(why)))
        except Exception as error:  # noqa: BLE001 (whatever a component does, the other checks are run)
            detail = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            status: Literal["expected", "failed"] = "expected" if reason else "failed"
            outcomes.append(Outcome(check.__name__, status, f"{reason}: {detail}" if reason else detail))
        else:
            if reason:
                outcomes.append(Outcome(check.__name__, "failed", f"passes, but should fail: {reason}"))
            else:
                outcomes.append(Outcome(check.__name__, "passed"))
    return outcomes


def expect(condition: bool | Tensor, message: str) -> None:
    """Raise `AssertionError(message)` unless the condition holds."""
    if not bool(condition):
        raise AssertionError(message)


def near(got: Tensor, wanted: Tensor, tolerance: float, what: str) -> None:
    """Expect two tensors to agree: largest difference at most `tolerance` times the largest wanted absolute value."""
    expect(
        got.shape == wanted.shape, f"{what}: the shapes {tuple(got.shape)} and {tuple(wanted.shape)} differ"
    )
    got, wanted = got.detach().double(), wanted.detach().double()
    if got.numel() == 0:
        return
    scale = max(float(wanted.abs().max()), 1e-12)
    error = float((got - wanted).abs().max()) / scale
    expect(error <= tolerance, f"{what}: relative error {error:.2g}, allowed {tolerance:.1g}")


def same(got: Any, wanted: Any, what: str) -> None:
    """Expect two results (tensors, or nested lists of them) to be equal bit by bit."""
    if isinstance(got, Tensor):
        equal = got.shape == wanted.shape and torch.equal(got.nan_to_num(), wanted.nan_to_num())
        expect(equal and torch.equal(got.isnan(), wanted.isnan()), what)
    else:
        for one, other in zip(got, wanted, strict=True):
            same(one, other, what)


def tensor(seed: int, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Return standard normal numbers that depend on the seed alone, [*shape]."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed), dtype=dtype)


def orthogonal(seed: int, size: int) -> Tensor:
    """Return a random orthogonal matrix, [size, size], in double precision."""
    q: Tensor = torch.linalg.qr(tensor(seed, (size, size), torch.float64))[0]
    return q


def streams(*seeds: int) -> RandomStreams:
    """Return one random stream a seed."""
    return RandomStreams(seeds)


def expect_unchanged(action: Callable[[], Any], **inputs: Tensor) -> None:
    """Expect that an action leaves its inputs as they are."""
    before = {name: value.clone() for name, value in inputs.items()}
    action()
    for name, value in inputs.items():
        expect(torch.equal(value, before[name]), f"{name} was changed in place")


def expect_no_global_randomness(action: Callable[[], Any]) -> None:
    """Expect that an action neither moves nor reads the global random states of torch, numpy and random.

    `action` returns a tensor or nested lists of tensors. The states are put back afterwards.
    """
    saved = _global_states()
    try:
        results = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002 (the very state that must not be touched)
            random.seed(seed)
            before = _global_states()
            results.append(action())
            for name, state in _global_states().items():
                untouched = repr(state) == repr(before[name])
                expect(
                    untouched,
                    f"the global random state of {name} was moved; draw from a Generator of your own",
                )
        same(results[0], results[1], "the result depends on the global random state; draw from a Generator")
    finally:
        torch.set_rng_state(torch.tensor(saved["torch"], dtype=torch.uint8))
        np.random.set_state(saved["numpy"])  # noqa: NPY002
        random.setstate(saved["random"])


def _global_states() -> dict[str, Any]:
    legacy: Any = np.random.get_state()  # noqa: NPY002
    kind, keys, *rest = legacy
    state = (kind, tuple(keys.tolist()), *rest)
    return {"torch": torch.get_rng_state().tolist(), "numpy": state, "random": random.getstate()}


def rows(function: Callable[[int], Tensor], count: int) -> Tensor:
    """Return the results of each sample alone, joined to a batch."""
    return torch.cat([function(b) for b in range(count)])


def expect_z(z: float, what: str, allowance: float = 0.0) -> None:
    """Expect a statistic that is standard normal for a right component, give or take an allowance."""
    expect(
        abs(z) <= Z_LIMIT + allowance,
        f"{what}: {z:+.1f} standard errors off, allowed {Z_LIMIT + allowance:.1f}",
    )


# --- checks that any component with settings has to pass


def settings_described(case: Case) -> None:
    """The settings follow the rules: a name, a summary, a description of every field, nothing extra, immutable."""
    settings = case.described()
    expect(isinstance(settings, KINDS[case.kind]), f"{type(settings).__name__} is no {case.kind}")
    try:
        check_settings(case.kind, type(settings))
    except InvalidPluginError as error:
        raise AssertionError(str(error)) from None
    summary = settings.summary()
    expect(10 <= len(summary) <= 160, f"the summary should be one short sentence, got {summary!r}")


def settings_import_is_light(case: Case) -> None:
    """Importing the settings does not import torch, which would slow down every command."""
    module = type(case.described()).__module__
    try:
        findable = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        findable = False
    if not findable or module == "__main__" or module.startswith(PREFIX):
        raise NotApplicable(f"the module {module} cannot be imported by another process")
    heavy = _heavy_imports(module)
    expect(
        not heavy,
        f"importing {module} imports {', '.join(heavy)}; import in build(), not at the top of the file",
    )


@functools.cache
def _heavy_imports(module: str) -> tuple[str, ...]:
    code = f"import sys, {module}; print(*[m for m in ('torch', 'scipy', 'torchvision') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    expect(done.returncode == 0, f"{module} cannot be imported: {done.stderr.strip().rpartition(chr(10))[2]}")
    return tuple(done.stdout.split())


def summary(check: Check) -> str:
    """Return the first line of what a check says of itself."""
    return (inspect.getdoc(check) or "").partition("\n")[0]
