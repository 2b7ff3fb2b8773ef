"""The folder of a run: self-describing, written file by file so that it is whole whenever the program is killed.

    recipe.yaml                        the resolved recipe, which runs again to the same result
    environment.json                   versions, device and batch size of the last program that worked here
    operator/CxHxW.safetensors         what the operator that images of a shape share drew or read (masks, kernels)
    measurement/NAME.safetensors       y, truth where it is known, operator.* where each image has its own
    measurement/NAME.png               the measurement as a picture;  NAME-truth.png  the true image
    samples/NAME/sample-01.safetensors a sample x0 of the posterior, [C, H, W] in [-1, 1];  sample-01.png
    samples/NAME/sample-01-trajectory.* some annealing levels, where the recipe asks for them
    samples/NAME/posterior.safetensors mean, deviation, quantiles over the runs;  mean.png, std.png
    grid.png  metrics.json  metrics.md
    report.html  report/               the page of the run, and what it shows

A sample is finished when its tensor is there and can be read. Everything else can be made again from the tensors.
Measurements, samples and what is made of them are records in a store: files, as above, or one Zarr store, which leaves
the pictures of each to the page.
"""

from __future__ import annotations

import contextlib
import json
import math
import platform
import shutil
import tempfile
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from daps_kit.errors import RecipeError, UserError
from daps_kit.failures import Failure
from daps_kit.files import natural_key, write_atomic
from daps_kit.images import image_png, load_image, png_is_whole, to_uint8
from daps_kit.reading import content_of
from daps_kit.recipe import file_hashes, hash_lines, load_recipe, plain, plain_yaml, to_yaml
from daps_kit.remote import put, remove, url_of
from daps_kit.report.metrics_file import read_metrics
from daps_kit.report.reading import read_environment
from daps_kit.store import Key, Record, Store, open_store
from daps_kit.tensor_file import DamagedFile

from .claim import RECIPE, Claim
from .cost import COSTS, Cost
from .environment import environment

__all__ = ["RunFolder", "Sample"]

_FREE_KEYS = (
    "name",
    "batch_size",
    "device",
    "execution",
    "store",
    "check_prior",
    "metrics",
    "widen",
    "trackers",
    "video",
    "output",
)
"""Settings that do not change what is sampled."""

TRAJECTORY = ("x_t", "x0hat", "x0y")
"""The images of a level that are kept."""


@dataclass(frozen=True)
class Sample:
    """A sample of the posterior.

    Attributes:
        x0: the image, [C, H, W], NaN where it was lost.
        average: see `daps_kit.contracts.Step`, [C, H, W]; None where the sampler gives none.
        failure: why it was lost.
        cost: what it cost; None in files that do not say.
        doubts: what else went wrong with it.
        sigmas: noise levels of the trajectory that is beside it.
        parameters: values of what is unknown of the operator after each level, by their names; the last are its own.
    """

    x0: Tensor
    failure: Failure | None = None
    cost: Cost | None = None
    doubts: tuple[Failure, ...] = ()
    sigmas: tuple[float, ...] = ()
    parameters: Mapping[str, Sequence[float]] = field(default_factory=dict)
    average: Tensor | None = None

    @property
    def images(self) -> dict[str, Tensor]:
        """The tensors that are kept of it."""
        return {"x0": self.x0} if self.average is None else {"x0": self.x0, "average": self.average}


def averages(samples: Sequence[Sample]) -> Tensor | None:
    """Return the averages of samples, [runs, C, H, W], NaN where one was lost; None where one that was not has none."""
    if not any(sample.average is not None for sample in samples):
        return None
    found = [
        torch.full_like(each.x0, torch.nan) if each.average is None and each.failure else each.average
        for each in samples
    ]
    whole = [each for each in found if each is not None]
    return torch.stack(whole) if len(whole) == len(found) else None


class RunFolder:
    """The folder of a run. Names of items and numbers of runs are those of the recipe.

    Args:
        path: of the folder.
        store: where tensors lie, `files` or `zarr`, if there are none yet.
    """

    def __init__(self, path: Path, store: str = "files") -> None:
        self.path = path
        self._claim = Claim(path, "output", "run")
        self._new_store = store

    @cached_property
    def store(self) -> Store:
        """The records of measurements and samples.

        Raises:
            UserError: it needs zarr, which is not installed.
        """
        return open_store(self.path, self.write, new=self._new_store)

    def read_if_whole(self, key: Key, *, outline: bool = False) -> Record | None:
        """Return a record; None where it is missing or damaged.

        Args:
            key: of the record.
            outline: whether types and shapes of the tensors suffice.
        """
        try:
            return self.store.read(key, outline=outline)
        except UserError:
            return None

    # --- who may write here

    @contextlib.contextmanager
    def claim(self, resolved: str) -> Iterator[None]:
        """Hold the folder for the run of a resolved recipe, which is written first of all.

        Raises:
            UserError: another program holds the folder, it belongs to another recipe or to something else than a
                run, or it cannot be written.
        """
        with self._claim.held() as fresh:
            if fresh:
                self.write(self._claim.recipe, resolved.encode())
            else:
                self.require_same(resolved)
            yield

    @contextlib.contextmanager
    def shared(self) -> Iterator[str]:
        """Let workers write here meanwhile, who are told the token that is yielded.

        It lies in a file that goes with the leftovers of a program that was killed; so what that one's workers are
        still at is no longer written.
        """
        token = uuid.uuid4().hex
        self.write(self._token, token.encode())
        try:
            yield token
        finally:
            self._token.unlink(missing_ok=True)

    def require_shareable(self) -> None:
        """See that workers can write here.

        Raises:
            UserError: it is no folder of a file system.
        """
        if url := url_of(self.path):
            raise UserError(f"execution.shared_folder: {url} is not in a file system that workers share")

    def require_shared(self, token: str) -> None:
        """See that a worker finds the folder of the run that told it the token.

        Raises:
            UserError: it does not.
        """
        try:
            there = content_of(self._token).decode()
        except (OSError, UnicodeDecodeError):
            there = ""
        if there != token:
            raise UserError(
                f"execution.shared_folder: a worker on {platform.node()} does not see {self.path} as the run does; "
                "start workers where they do, or leave shared_folder out"
            )

    @property
    def _token(self) -> Path:
        return self.path / ".shared.tmp"

    def begin(self, names: Sequence[str], runs: int) -> None:
        """Make room for the records of all items and their runs."""
        self.store.begin(names, runs, self._about)

    def _about(self) -> dict[str, object]:
        """Return what a store that is read without the folder says of it: recipe and versions."""
        recipe = content_of(self._claim.recipe).decode() if self._claim.recipe.exists() else ""
        lines = [line for line in recipe.splitlines() if not line.startswith("# file ")]
        versions = {key: self.read_environment().get(key) for key in ("python", "libraries", "plugins")}
        return {"recipe": "\n".join(lines), "versions": versions}

    def require_fitting(self, resolved: str) -> None:
        """Refuse what `claim` would refuse; nothing is written.

        Raises:
            UserError: the folder belongs to another recipe or to something else than a run.
        """
        if self._claim.begun():
            self.require_same(resolved)

    def require_same(self, here: str) -> None:
        """Refuse a recipe that would give other results than those already there; more runs are no others.

        Raises:
            UserError: what differs, one in a line.
        """
        try:
            there = content_of(self._claim.recipe).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"output: {self._claim.recipe} is damaged; choose another folder") from error
        try:
            old, new = (_flatten(plain_yaml(text, RECIPE)) for text in (there, here))
        except RecipeError as error:
            raise UserError(f"output: {self._claim.recipe} is damaged; choose another folder") from error
        if any(key.partition(".")[0] == "trainer" for key in old):
            raise UserError(f"output: {self.path} holds a training; choose another folder")
        if _differences(old, new):
            old = self._with_new_settings() or old
        if _more_runs(old, new):
            old["runs"] = new["runs"]
        if lines := _differences(old, new):
            raise UserError(
                f"output: {self.path} holds the run of another recipe; choose another folder or remove it",
                *lines,
            )
        was, now = file_hashes(there), file_hashes(here)
        changed = {path: "changed" for path, digest in now.items() if was.get(path, digest) != digest}
        # What is gone with all that was called like it belongs to an item that the data no longer have.
        names = {Path(path).stem for path in now}
        changed |= {path: "is gone" for path in was if path not in now and Path(path).stem in names}
        if changed:
            told = ", ".join(f"{path} {what}" for path, what in changed.items())
            raise UserError(
                f"output: {told} since {self.path} was begun; choose another output, or bring back what was there"
            )

    def _with_new_settings(self) -> dict[str, Any] | None:
        """Return the recipe of the folder, newer settings at their defaults; None where it is damaged."""
        try:
            (recipe,) = load_recipe(self._claim.recipe)
        except UserError:
            return None
        return _flatten(plain_yaml(to_yaml(plain(recipe, recipe.registry)), RECIPE))

    def extend(self, resolved: str) -> None:
        """Let the recipe of the folder ask for as many runs as this one, if that is more; then it is not finished.

        From then on it also knows the files that it did not name before, such as pictures that came later.
        """
        there = text = content_of(self._claim.recipe).decode()
        if _more_runs(plain_yaml(there, RECIPE), plain_yaml(resolved, RECIPE)):
            remove(self.path / "metrics.json")
            text = resolved
        new = {**file_hashes(resolved), **file_hashes(there)}
        for path in file_hashes(text):
            del new[path]
        if new or text != there:
            self.write(self._claim.recipe, f"{text.rstrip()}\n{hash_lines(new)}".encode())

    # --- environment

    def read_environment(self) -> dict[str, Any]:
        """Return what `write_environment` wrote; empty where there is nothing to be read."""
        return read_environment(self.path)

    @property
    def batch_size(self) -> int | None:
        """The batch size that the program before used; None where there was none."""
        size = self.read_environment().get("batch_size")
        return size if isinstance(size, int) and size > 0 else None

    @property
    def stages(self) -> list[int]:
        """How many runs the programs before were asked for, rising: those of a stage are drawn after those before."""
        found = self.read_environment().get("runs")
        return [runs for runs in found if isinstance(runs, int)] if isinstance(found, list) else []

    def changed_environment(self, device: torch.device) -> list[str]:
        """Return how libraries, plugins and device differ from those that the program before used."""
        keys = ("device", "device_name", "libraries", "plugins")
        old = self.read_environment()
        if not old:
            return []
        was, now = (_flatten({key: x.get(key) for key in keys}) for x in (old, environment(device)))
        return [
            f"{key} {was.get(key)} is now {now.get(key)}"
            for key in {**was, **now}
            if was.get(key) != now.get(key)
        ]

    def write_environment(self, device: torch.device, batch_size: int, runs: int) -> None:
        """Write with what the run is computed, and how many samples of an item it was asked for."""
        stages = sorted({*self.stages, runs})
        seconds = {key: self.read_environment().get(key, 0) for key in ("seconds", "drawn")}
        now = environment(device) | {"batch_size": batch_size, "runs": stages} | seconds
        self.write_json("environment.json", now)

    def add_seconds(self, seconds: float, samples: int) -> None:
        """Write how long it took to draw so many samples more."""
        now = self.read_environment()
        total = {"seconds": now.get("seconds", 0) + seconds, "drawn": now.get("drawn", 0) + samples}
        self.write_json("environment.json", now | total)

    # --- measurements and operators

    def write_measurement(
        self, name: str, y: Tensor, truth: Tensor | None, state: Mapping[str, Tensor]
    ) -> None:
        """Write an item's measurement, its true image and the state of its own operator."""
        tensors = {"y": y} | ({} if truth is None else {"truth": truth})
        tensors |= {f"operator.{key}": t for key, t in state.items()}
        self.store.write(Key("measurement", name), tensors, {})

    def write_operator(self, shape: tuple[int, int, int], state: Mapping[str, Tensor]) -> None:
        """Write the state of the operator that images of a shape share, unless it is there."""
        if state and self.read_if_whole(_shared(shape)) is None:
            self.store.write(_shared(shape), state, {})

    def read_measurement(self, name: str, *, outline: bool = False) -> tuple[Tensor, Tensor | None] | None:
        """Return an item's measurement and true image; None where the file is missing or damaged."""
        found = self.read_if_whole(Key("measurement", name), outline=outline)
        return (found[0]["y"], found[0].get("truth")) if found and "y" in found[0] else None

    def read_operator(self, name: str, shape: tuple[int, int, int]) -> dict[str, Tensor] | None:
        """Return the state of an item's operator, its own or the shared one; None where it is missing or damaged."""
        found = self.read_if_whole(Key("measurement", name))
        own = {
            key.removeprefix("operator."): t for key, t in (found[0] if found else {}).items() if "." in key
        }
        shared = self.read_if_whole(_shared(shape))
        return own or (shared[0] if shared else None)

    def measured(self, name: str) -> tuple[Tensor, Tensor | None]:
        """Return an item's measurement and true image.

        Raises:
            DamagedFile: the file is gone or damaged.
        """
        self.require()
        found = self.read_measurement(name)
        if found is None:
            raise self._missing(Key("measurement", name))
        return found

    def measurement(self, name: str) -> Path:
        """Return the path of an item's measurement, where each has a file; its pictures are beside it."""
        return self.path / "measurement" / f"{name}.safetensors"

    def write_picture(self, name: str, picture: Tensor) -> None:
        """Write an item's measurement as a picture, [1 or 3, h, w] in [-1, 1], unless it is there."""
        path, size = self.measurement(name).with_suffix(".png"), (picture.shape[-2], picture.shape[-1])
        if self.store.pictures and not png_is_whole(path, size):
            self.write(path, image_png(picture))
        key = Key("picture", name)
        if not self.store.pictures and self.read_if_whole(key, outline=True) is None:
            self.store.write(key, {"picture": torch.from_numpy(to_uint8(picture))}, {})

    def picture(self, name: str) -> Tensor:
        """Return an item's measurement as a picture, [1 or 3, h, w] in [-1, 1].

        Raises:
            UserError: there is none.
        """
        if self.store.pictures:
            return load_image(self.measurement(name).with_suffix(".png"))
        found = self.store.read(Key("picture", name))
        if found is None:
            raise self._missing(Key("picture", name))
        return found[0]["picture"].movedim(-1, 0) / 127.5 - 1

    def _missing(self, key: Key) -> DamagedFile:
        return DamagedFile(f"{self.store.where(key)} is missing or damaged; run the recipe again")

    # --- samples

    def sample(self, name: str, run: int) -> Path:
        """Return the path of a sample, where each has a file; its pictures are beside it."""
        return self.path / "samples" / name / f"sample-{run + 1:02d}.safetensors"

    def trajectory(self, name: str, run: int) -> Path:
        """Return the path of a sample's trajectory."""
        return self.sample(name, run).with_name(f"sample-{run + 1:02d}-trajectory.safetensors")

    def beside(self, name: str, file: str) -> Path:
        """Return the path of a file in the folder of an item's samples."""
        return self.path / "samples" / name / file

    def others(self, names: Collection[str]) -> list[str]:
        """Return the items whose samples are here and that are not among the names."""
        return sorted(self.store.items() - set(names), key=natural_key)

    def write_sample(self, name: str, run: int, sample: Sample) -> None:
        """Write a sample, finished by this."""
        said = {
            "failure": vars(sample.failure) if sample.failure else None,
            **_cost_record(sample.cost),
            "doubts": [vars(doubt) for doubt in sample.doubts],
            **({"sigmas": sample.sigmas} if sample.sigmas else {}),
            **({"parameters": sample.parameters} if sample.parameters else {}),
        }
        self.store.write(Key("sample", name, run), sample.images, {"said": json.dumps(said)})

    def read_sample(self, name: str, run: int, *, outline: bool = False) -> Sample | None:
        """Return a finished sample; None where the file is missing or damaged."""
        found = self.read_if_whole(Key("sample", name, run), outline=outline)
        if not found or "x0" not in found[0]:
            return None
        try:
            said = {key: json.loads(text) for key, text in found[1].items()}
            said = said.get("said", said)  # earlier versions gave each an entry of its own
            return Sample(
                found[0]["x0"],
                _failure(said["failure"]) if said.get("failure") else None,
                _cost(said),
                tuple(_failure(doubt) for doubt in said.get("doubts", ())),
                tuple(said.get("sigmas", ())),
                {name: [float(x) for x in trace] for name, trace in said.get("parameters", {}).items()},
                found[0].get("average"),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def finished(
        self, name: str, run: int, shape: Sequence[int], *, trajectory: bool, outline: bool = False
    ) -> bool:
        """Return whether a sample is there, of a shape, with its trajectory where there is to be one."""
        sample = self.read_sample(name, run, outline=outline)
        if sample is None or sample.x0.shape != torch.Size(shape) or not sample.x0.is_floating_point():
            return False
        if sample.failure and sample.failure.cause == "worker":
            return False
        if not trajectory:
            return True
        levels = self.read_trajectory(name, run) or []
        sigmas = tuple(sigma for sigma, _ in levels)
        shapes = {image.shape for _, images in levels for image in images.values()}
        # Files of earlier versions do not say which levels were kept.
        return shapes == {sample.x0.shape} and sigmas == (sample.sigmas or sigmas)

    def read_trajectory(self, name: str, run: int) -> list[tuple[float, dict[str, Tensor]]] | None:
        """Return noise levels on the way to a sample with their images; None where the file is missing or damaged."""
        found = self.read_if_whole(Key("trajectory", name, run))
        if not found or not {"sigma", *TRAJECTORY} <= found[0].keys():
            return None
        tensors = found[0]
        return [
            (sigma, {key: tensors[key][i] for key in TRAJECTORY})
            for i, sigma in enumerate(tensors["sigma"].tolist())
        ]

    def write_trajectory(
        self, name: str, run: int, levels: Sequence[tuple[float, dict[str, Tensor]]]
    ) -> None:
        """Write noise levels on the way to a sample, with their images."""
        sigma = torch.tensor([sigma for sigma, _ in levels], dtype=torch.float64)
        images = {key: torch.stack([x[key] for _, x in levels]) for key in TRAJECTORY}
        self.store.write(Key("trajectory", name, run), images | {"sigma": sigma}, {})

    def samples(self, name: str, runs: int) -> list[Sample]:
        """Return the samples of an item.

        Raises:
            DamagedFile: one is gone or damaged.
        """
        self.require()
        samples = []
        for run in range(runs):
            sample = self.read_sample(name, run)
            if sample is None:
                raise self._missing(Key("sample", name, run))
            samples.append(sample)
        return samples

    # --- the rest

    @property
    def grid(self) -> Path:
        """The path of the picture that shows everything."""
        return self.path / "grid.png"

    def write_json(self, file: str, content: Any) -> None:
        """Write a JSON file; numbers that are not finite become null."""
        self.write(self.path / file, (_json(content) + "\n").encode())

    @contextlib.contextmanager
    def metrics(self) -> Iterator[MetricsWriter]:
        """Gather what metrics.json says, image by image; what is said of them is on the disk until it is written."""
        self.require()
        with tempfile.TemporaryFile(dir=self.path) as kept:
            yield MetricsWriter(self, kept)

    def write_text(self, file: str, text: str) -> None:
        """Write a text file."""
        self.write(self.path / file, text.encode())

    def require(self) -> None:
        """See that the folder, if it is claimed, is still there.

        Raises:
            UserError: it was removed or moved; so raises whatever writes here.
        """
        self._claim.require()

    def require_disk(self, size: int) -> None:
        """See that the disk has room for so many bytes of samples, those that are here already included.

        Raises:
            UserError: it has not.
        """
        there = self.store.size()
        self.require()
        free = shutil.disk_usage(self.path).free
        if size > there + free:
            raise UserError(
                f"output: the samples need {size / 2**30:.3g} GiB, and the disk of {self.path} has "
                f"{free / 2**30:.3g} free"
            )

    def write(self, path: Path, data: bytes | Iterable[bytes]) -> None:
        """Write a file, given at once or in parts."""
        self.require()
        write_atomic(path, data)
        put(path)


class MetricsWriter:
    """Writes metrics.json, without holding what it says of images in memory."""

    def __init__(self, folder: RunFolder, kept: BinaryIO) -> None:
        self._folder, self._kept, self._any = folder, kept, False

    def add(self, name: str, item: dict[str, Any]) -> None:
        """Take in what there is to say of an image."""
        text = _json({name: item})[1:-1].rstrip()  # without the braces
        self._kept.write((("," if self._any else "") + text.replace("\n", "\n  ")).encode())
        self._any = True

    def write(self, head: dict[str, Any]) -> dict[str, Any]:
        """Write the file, `head` before the images; return what it holds (see `read_metrics`)."""
        begin, end = _json({**head, "images": {}}).rsplit("{}", 1)
        self._folder.write(self._folder.path / "metrics.json", self._parts(begin, end))
        return read_metrics(self._folder.path / "metrics.json")

    def _parts(self, begin: str, end: str) -> Iterator[bytes]:
        yield f"{begin}{{".encode()
        self._kept.seek(0)
        while block := self._kept.read(1 << 16):
            yield block
        yield f"{chr(10) + '  ' if self._any else ''}}}{end}\n".encode()


def _json(content: Any) -> str:
    """Return JSON text; numbers that are not finite become null."""
    return json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)


def _shared(shape: tuple[int, int, int]) -> Key:
    """Return the key of the state of the operator that images of a shape share."""
    return Key("operator", "x".join(map(str, shape)))


def _cost_record(cost: Cost | None) -> dict[str, float | None]:
    return {key: getattr(cost, field, None) for key, field in COSTS.items()}


def _cost(said: dict[str, Any]) -> Cost | None:
    """Return what a sample cost; earlier versions counted network calls alone."""
    if said.get("network_calls") is None:
        return None
    return Cost(**{field: said.get(key) or 0.0 for key, field in COSTS.items()})


def _failure(said: dict[str, Any]) -> Failure:
    """Return a failure as it was written; files of earlier versions give the reason in words."""
    if "reason" in said:
        return Failure(0, said["level"], said["levels"], said["sigma"], "nan", said["reason"])
    return Failure(**said)


def _more_runs(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Return whether a recipe asks for more runs than that of the folder did."""
    was, now = old.get("runs"), new.get("runs")
    return isinstance(was, int) and isinstance(now, int) and now > was


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the settings that change what is sampled and differ, one in a line."""
    lines = []
    for key in dict.fromkeys([*old, *new]):
        if key.split(".")[0] not in _FREE_KEYS and old.get(key) != new.get(key):
            before, now = (str(values.get(key, "not set")) for values in (old, new))
            lines.append(f"    {key}: {before} there, {now} here")
    return lines


def _flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by their dotted paths."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {
        k: v
        for key, item in value.items()
        for k, v in _flatten(item, f"{path}.{key}" if path else key).items()
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
