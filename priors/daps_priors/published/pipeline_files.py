"""Pipelines as the diffusers library saves them: find the folder, read its parts, refuse what does not fit.

A pipeline is a folder with `model_index.json`, which names the class of each part, and a folder for each part with its
configuration and its weights; pipelines of one network may have these beside the index. Only .safetensors are read:
nothing in them can run. The library itself would go on with random numbers in the place of missing weights, so what it
reports is checked here.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from daps_kit.discovery import BUILTIN
from daps_kit.errors import ComponentError, UserError, did_you_mean
from daps_kit.reading import reading
from daps_kit.weights.checkpoints import where

from .preconditioning import Coefficients, Discrete, Preconditioning
from .sources import NOT_PIPELINE, PIPELINE, SOURCES
from .spreading import OFFLOAD, DiskFolder, Spread, quiet, spelt_out

__all__ = ["Pipeline", "ScoreVE", "VPrediction", "XPrediction", "library", "schedule", "without_bars"]


def library(name: str) -> Any:
    """Return diffusers, transformers, huggingface_hub or accelerate.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"this prior needs {name}, which cannot be imported ({error}): pip install 'daps-kit[sd]'"
        ) from error


@contextlib.contextmanager
def without_bars(name: str) -> Iterator[None]:
    """Keep diffusers or transformers from drawing bars on the standard error, where the run tells how far it is."""
    bars = importlib.import_module(f"{name}.utils.logging")
    drawn = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            bars.enable_progress_bar()


class Pipeline:
    """A saved pipeline.

    Args:
        model: a folder, the name of a checkpoint that `daps-kit checkpoints fetch` brought, or an id of the hub, which
            is fetched to the hub's own cache where it is not there.

    Raises:
        UserError: there is no such thing, no network, or it is no pipeline.
    """

    def __init__(self, model: str) -> None:
        self.folder = _folder(model)
        index = self.folder / "model_index.json"
        if not index.is_file():
            raise UserError(f"{self.folder} is not a pipeline saved by diffusers: it has no model_index.json")
        with reading(index):
            content = json.loads(index.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise UserError("it is damaged: it holds no table")
        self.kind = str(content.get("_class_name"))
        self.classes = {
            part: entry[1]
            for part, entry in content.items()
            if isinstance(entry, list) and len(entry) == 2 and entry[1]
        }

    def require(self, part: str, *allowed: str) -> str:
        """Return the class of a part.

        Raises:
            UserError: the pipeline has no such part, or its class is none of the allowed ones.
        """
        found = self.classes.get(part)
        if found is None:
            raise ComponentError(
                f"{self.folder} ({self.kind}) has no {part}; it has {', '.join(self.classes)}"
            )
        if allowed and found not in allowed:
            raise ComponentError(
                f"{self.folder} ({self.kind}): {part} is a {found}, but allowed is {' or '.join(allowed)}"
            )
        return str(found)

    def read(self, part: str, package: str = "diffusers") -> Any:
        """Return a part without weights: a scheduler or a tokenizer.

        Raises:
            UserError: it is missing, damaged, or of a class that the library does not have.
        """
        kind = self._class(part, package)
        try:
            return kind.from_pretrained(str(self._place(part)), local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            raise self._damaged(part, error) from error

    def network(self, part: str, package: str = "diffusers") -> Any:
        """Return a network with its weights, frozen, in float32.

        Raises:
            UserError: it is missing, damaged, has no .safetensors, or weights do not fit it (the first are named).
        """
        options: dict[str, Any] = {"low_cpu_mem_usage": False} if package == "diffusers" else {}
        network = self._loaded(part, package, options)
        self._require_finite(part, network.state_dict().items())
        return network.float().requires_grad_(False).eval()

    def placed(self, part: str, device: torch.device, dtype: torch.dtype, spread: Spread) -> Any:
        """Return a network of diffusers on its device, or spread over several; what it is given, `handed` brings there.

        Args:
            part: of the pipeline.
            device: of the run.
            dtype: of its weights.
            spread: over which devices.

        Raises:
            UserError: as `network` does; accelerate is not installed; it cannot be spread in this way.
        """
        where = spread.of(part)
        if where is None:
            return self.network(part).to(device=device, dtype=dtype)
        accelerate = library("accelerate")
        if where == OFFLOAD:
            network = self.network(part).to(dtype)
            accelerate.cpu_offload(network, execution_device=device)
            return network
        kind = self._class(part, "diffusers")
        with accelerate.init_empty_weights():
            outline = kind.from_config(kind.load_config(str(self._place(part))))
        if isinstance(where, dict):
            where = spelt_out(outline, part, where)
        elif not getattr(kind, "_no_split_modules", None):
            raise ComponentError(
                f"prior device_map: {where} cannot spread a {kind.__name__}; say where its modules are, or offload"
            )
        names = self._require_finite_files(part)
        kept = DiskFolder()
        options = {
            "device_map": where, "max_memory": spread.memory, "torch_dtype": dtype, "offload_folder": kept.path
        }  # fmt: skip
        try:
            with quiet():
                network = self._loaded(part, "diffusers", options)
        except UserError:
            self._require_fitting(part, kind, {"missing_keys": outline.state_dict().keys() - names})
            raise
        network.offloaded_to = kept  # as long as the network is there
        return network.requires_grad_(False).eval()

    def _require_finite_files(self, part: str) -> set[str]:
        """Refuse weights that are not finite, one by one as they are in the files, and return their names."""
        names = set()
        for file in self._place(part).glob("*.safetensors"):
            with reading(file), safe_open(file, framework="pt") as weights:
                for name in weights.keys():  # noqa: SIM118 (not a mapping)
                    self._require_finite(part, [(name, weights.get_tensor(name))])
                    names.add(name)
        return names

    def _require_finite(self, part: str, weights: Iterable[tuple[str, Tensor]]) -> None:
        for name, tensor in weights:
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise UserError(f"{self._place(part)} is damaged: {name} holds numbers that are not finite")

    def _loaded(self, part: str, package: str, options: dict[str, Any]) -> Any:
        """Return a network that a library loads with some options, all of its weights being there."""
        kind = self._class(part, package)
        folder = self._place(part)
        if not list(folder.glob("*.safetensors")):
            raise UserError(
                f"{folder} holds no weights as .safetensors; `daps-kit checkpoints convert` makes them of a .bin file"
            )
        try:
            # Networks draw random weights before they are given theirs.
            with torch.random.fork_rng(devices=[]), without_bars(package):
                network, report = kind.from_pretrained(
                    str(folder),
                    local_files_only=True,
                    use_safetensors=True,
                    output_loading_info=True,
                    **options,
                )
        except Exception as error:
            # Of another library: whatever it raises, the files are what it did not like.
            raise self._damaged(
                part, error, "with this device_map" if "device_map" in options else ""
            ) from error
        self._require_fitting(part, kind, report)
        return network

    def _require_fitting(self, part: str, kind: Any, report: Mapping[str, Any]) -> None:
        problems = []
        for label, key in (("missing", "missing_keys"), ("unexpected", "unexpected_keys")):
            if names := sorted(map(str, report.get(key) or ())):
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                problems.append(f"{label}: {', '.join(names[:3])}{more}")
        if report.get("mismatched_keys"):
            problems.append(f"of another shape: {sorted(map(str, report['mismatched_keys']))[0]}")
        if problems:
            raise UserError(
                f"the weights in {self._place(part)} do not fit {kind.__name__}: {'; '.join(problems)}"
            )

    def _place(self, part: str) -> Path:
        folder = self.folder / part
        return folder if folder.is_dir() else self.folder

    def _class(self, part: str, package: str) -> Any:
        name = self.require(part)
        kind = getattr(library(package), name, None)
        if kind is None:
            raise UserError(f"{package} has no {name}, which is the {part} of {self.folder}")
        return kind

    def _damaged(self, part: str, error: Exception, how: str = "") -> UserError:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        what = " ".join(filter(None, (f"cannot read the {part} in {self._place(part)}", how)))
        return UserError(f"{what}: {' '.join(lines[:2])}")


def _folder(model: str) -> Path:
    known = [source.name for source in SOURCES]
    if model in known:
        return where(f"{BUILTIN}/{model}")
    folder = Path(model)
    if folder.is_dir():
        return folder
    if "/" not in model or folder.is_absolute():
        raise UserError(f"there is no pipeline '{model}'{did_you_mean(model, known)}")
    hub = library("huggingface_hub")
    options = {
        "allow_patterns": [*PIPELINE, "diffusion_pytorch_model*.safetensors"],
        "ignore_patterns": list(NOT_PIPELINE),
    }
    try:
        return Path(hub.snapshot_download(model, local_files_only=True, **options))
    except Exception as absent:
        if type(absent).__name__ != "LocalEntryNotFoundError":
            raise UserError(f"cannot use '{model}' of the Hugging Face hub: {_line(absent)}") from absent
    try:
        return Path(hub.snapshot_download(model, **options))
    except Exception as error:
        # No network, no such repository, a licence to accept: each has a class of its own, in other versions others.
        raise UserError(f"cannot fetch '{model}' from the Hugging Face hub: {_line(error)}") from error


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


class VPrediction(Discrete):
    """The discrete process with F the velocity v = sqrt(a) n - sqrt(1 - a) x0, a = 1 / (1 + sigma^2)."""

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Return the coefficients at sigma [n]."""
        scale = (1 + sigma**2).rsqrt()
        return Coefficients(scale**2, -sigma * scale, scale, self.time(sigma))


class XPrediction(Discrete):
    """The discrete process with F the clean image."""

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Return the coefficients at sigma [n]."""
        one = torch.ones_like(sigma)
        return Coefficients(0 * one, one, (1 + sigma**2).rsqrt(), self.time(sigma))


class ScoreVE(Preconditioning):
    """The variance-exploding process with F the score of images in [0, 1], told its sigma.

    D_u(u, s) = u + s^2 F(u, s) there; with u = (x + 1) / 2 and s = sigma / 2, D(x, sigma) = 2 D_u(u, s) - 1.

    Args:
        low, high: the smallest and the largest s.
    """

    def __init__(self, low: float, high: float) -> None:
        self.sigma_range = (2 * low, 2 * high)

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Return the coefficients at s [n]."""
        one = torch.ones_like(sigma)
        return Coefficients(one, sigma**2, one, sigma)

    def denoise(self, network: Any, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return D(x, sigma); see `Preconditioning`."""
        return 2 * super().denoise(network, (x + 1) / 2, sigma / 2) - 1


def schedule(scheduler: Any) -> Preconditioning:
    """Return the noise levels that a scheduler stands for, and what the network predicts.

    Raises:
        UserError: a kind of process that is not known here.
    """
    name, config = type(scheduler).__name__, scheduler.config
    if name == "ScoreSdeVeScheduler":
        return ScoreVE(float(config.sigma_min), float(config.sigma_max))
    betas = getattr(scheduler, "betas", None)
    if betas is None:
        raise ComponentError(
            f"the scheduler {name} has no variances (betas); known are those of diffusion in discrete steps, "
            "such as DDPMScheduler and DDIMScheduler, and ScoreSdeVeScheduler"
        )
    # The last step of a schedule that ends in pure noise has no finite sigma.
    betas = torch.as_tensor(betas).double()
    betas = betas[betas < 1]
    kinds = {"epsilon": Discrete, "v_prediction": VPrediction, "sample": XPrediction}
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in kinds:
        raise ComponentError(f"prediction_type is '{prediction}', but known is {', '.join(kinds)}")
    return kinds[prediction](betas)
