"""A run folder through any history: runs that are killed or refused, other settings, files changed, damaged and gone.

Hypothesis makes up histories. Whatever came before, a run that ends has all that an unbroken run of the same recipe and
data writes, byte for byte; and a run that is refused says so in a line and changes nothing that was there.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from functools import cache
from pathlib import Path
from unittest.mock import patch

import hypothesis.strategies as st
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

import daps_kit
from daps_kit.errors import UserError

ITEMS = ("ash", "birch")
FILES = ("y/ash.npy", "y/birch.npy", "mean.npy", "sigma.npy")
"""What a run reads: measurements, and files of its prior and of its noise model."""

RECIPE = {
    "format": 1,
    "data": {"use": "measurement", "path": "y", "image_shape": [1, 4, 4]},
    "prior": {"use": "gaussian", "mean": "mean.npy", "std": 0.4},
    "operator": {"use": "inpainting", "mask": "random", "noise": {"use": "gaussian", "sigma": "sigma.npy"}},
    "sampler": {
        "use": "daps",
        "annealing": {"levels": 3, "sigma_max": 5.0, "sigma_min": 0.1},
        "kernel": {"use": "langevin", "steps": 2},
    },
    "runs": 2,
    "trajectory": 2,
    "output": "out",
}
FREE = ("batch_size=1", "batch_size=3", "check_prior=false", "device=cpu")
"""Settings that change no sample."""

OTHER = ("seed=5", "runs=1", "operator.noise.sigma=0.1", "sampler.annealing.levels=4", "prior.std=0.5")
"""Settings that do."""

OWN = ("environment.json", "environment.js", "recipe.yaml", ".lock")
"""Files that tell with what a run was made."""


KINDS = (
    "operator/*.safetensors",
    "measurement/*.safetensors",
    "samples/*/run-??.safetensors",
    "samples/*/*-trajectory.*",
    "samples/*/posterior.safetensors",
    "**/*.png",
    "metrics.*",
    "report.html",
    "report/*",
)
"""Results of a kind: what the operator drew, measurements, samples, trajectories, pictures, tables, the page."""


class Killed(BaseException):
    """The program ends here."""


def write_file(folder: Path, name: str, version: int) -> None:
    """Write the version of a file that a user brings."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng([version, FILES.index(name)])
    values = 0.1 + 0.01 * version if name == "sigma.npy" else draw.normal(0, 0.3, (1, 4, 4))
    np.save(path, np.broadcast_to(values, (1, 4, 4)).astype(np.float32))


def write_recipe(folder: Path) -> Path:
    """Write the recipe, and return where."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE | {"output": str(folder / "out"), "name": "any"}))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file that is whole or was meant to be, by its path; where it lies is left out of the page."""
    here = str(folder.parent).encode()
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().replace(here, b"")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock" and path.suffix != ".tmp"
    }


@cache
def unbroken(versions: tuple[int, ...]) -> dict[str, bytes]:
    """Return what an unbroken run of these versions of the files writes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, version in zip(FILES, versions, strict=True):
            write_file(folder, file, version)
        daps_kit.run(write_recipe(folder), quiet=True)
        return {name: data for name, data in contents(folder / "out").items() if Path(name).name not in OWN}


class History(RuleBasedStateMachine):
    """What may happen to a folder.

    Attributes:
        versions: of each file, as the user has it now.
        held: those that the folder was begun with; empty where it is not begun.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.out, self.recipe = self.folder / "out", write_recipe(self.folder)
        self.versions, self.held = dict.fromkeys(FILES, 0), {}
        for file in FILES:
            write_file(self.folder, file, 0)
        # Nothing here has to outlive the machine.
        self.patched = patch("daps_kit.files.os.fsync", lambda descriptor: None)
        self.patched.start()

    def teardown(self) -> None:
        self.patched.stop()
        shutil.rmtree(self.folder)

    # --- what is expected

    def look(self) -> None:
        """See with which files the folder is begun."""
        if not (self.out / "recipe.yaml").exists():
            self.held = {}
        elif not self.held:
            self.held = dict(self.versions)

    def refused(self) -> list[str]:
        """Return the files that are others than when the folder was begun."""
        return [file for file, version in self.held.items() if self.versions[file] != version]

    def expect_refusal(self, *overrides: str) -> None:
        before = contents(self.out)
        with pytest.raises(UserError) as caught:
            daps_kit.run(self.recipe, overrides, quiet=True)
        first, *rest = str(caught.value).splitlines()
        assert first.startswith("output: ")
        assert all(line.startswith("    ") for line in rest), "only which settings differ, a line each"
        if not overrides and (self.out / "recipe.yaml").exists():
            assert all(str(self.folder / file) in first for file in self.refused()), "every file that changed"
        assert contents(self.out) == before

    # --- runs

    @rule(override=st.sampled_from([None, *FREE]))
    def run(self, override: str | None) -> None:
        """A run to the end."""
        if self.refused():
            self.expect_refusal(*([override] if override else []))
            return
        result = daps_kit.run(self.recipe, [override] if override else [], quiet=True)
        self.look()
        found = contents(self.out)
        for name, data in unbroken(tuple(self.held.values())).items():
            assert found[name] == data, name
        assert result.samples.shape == (2, 2, 1, 4, 4)

    @precondition(lambda self: not self.refused())
    @rule(writes=st.integers(0, 26), full=st.booleans())
    def broken_run(self, writes: int, full: bool) -> None:
        """A run that is killed, or finds the disk full, when it writes one file more."""
        done: list[object] = []

        def fsync(descriptor: int) -> None:
            if len(done) >= writes:
                raise OSError(errno.ENOSPC, "No space left on device") if full else Killed
            done.append(descriptor)

        with patch("daps_kit.files.os.fsync", fsync), contextlib.suppress(Killed):
            message = ""
            try:
                daps_kit.run(self.recipe, quiet=True)
            except UserError as error:
                message = str(error)
            assert not message or (full and "No space left on device" in message and "\n" not in message)
        self.look()

    @precondition(lambda self: (self.out / "measurement").exists() and self.held)
    @rule(override=st.sampled_from(OTHER))
    def run_of_another_recipe(self, override: str) -> None:
        self.expect_refusal(override)

    # --- what else happens to files

    @rule(file=st.sampled_from(FILES), version=st.integers(0, 1))
    def change_a_file(self, file: str, version: int) -> None:
        """A file of the user's own is another one now, or the old one again."""
        self.versions[file] = version
        write_file(self.folder, file, version)

    @precondition(lambda self: contents(self.out))
    @rule(data=st.data(), kept=st.sampled_from([None, 0, 9, -9]))
    def lose_a_file(self, data: st.DataObject, kept: int | None) -> None:
        """A file is deleted, or is cut."""
        name = data.draw(
            st.sampled_from([name for name in contents(self.out) if name != "recipe.yaml"] or [""])
        )
        path = self.out / name
        if not name:
            return
        if kept is None:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:kept])

    @precondition(lambda self: contents(self.out))
    @rule(kind=st.sampled_from(KINDS), data=st.data(), how=st.sampled_from(["lost", "cut", "wrong"]))
    def lose_results(self, kind: str, data: st.DataObject, how: str) -> None:
        """All results of a kind are deleted, or one is cut or has a wrong bit."""
        found = sorted(self.out.glob(kind))
        if found and how == "lost":
            for path in found:
                path.unlink()
        elif found:
            path = data.draw(st.sampled_from(found))
            content = bytearray(path.read_bytes())
            if content:
                place = data.draw(st.integers(0, len(content) - 1))
                content[place] ^= 1 << data.draw(st.integers(0, 7))
                path.write_bytes(content if how == "wrong" else content[:place])

    @precondition(lambda self: (self.out / "recipe.yaml").exists() and len(contents(self.out)) > 1)
    @rule()
    def run_without_the_recipe(self) -> None:
        """Without its recipe a folder is refused; then it is put back."""
        path = self.out / "recipe.yaml"
        text = path.read_bytes()
        path.unlink()
        self.expect_refusal()
        path.write_bytes(text)


EVERYTHING = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


def test_a_run_folder_through_any_history() -> None:
    run_state_machine_as_test(History, settings=settings(EVERYTHING, max_examples=8, stateful_step_count=10))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_folder_through_many_histories() -> None:
    run_state_machine_as_test(History, settings=settings(EVERYTHING, max_examples=25, stateful_step_count=20))
