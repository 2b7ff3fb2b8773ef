"""Samples of a posterior, to be looked at from Python: what `daps_kit.sample` returns, and a run of each image."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from daps_kit.errors import UserError
from daps_kit.failures import Failure, sample_name
from daps_kit.images import encode_png, image_png
from daps_kit.parameters import KERNEL, gathered, near_each_other
from daps_kit.store import Key

from .cost import Cost
from .ensemble import moments, posterior_mean
from .folder import RunFolder, Sample
from .metrics import score
from .pictures import MAX_SAMPLES, Row, draw_grid, draw_std

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["SAVED", "Posterior"]

SHOWN = 4
"""Images that a notebook shows of many."""

SAVED = "posterior.json"
"""What a folder that was saved from Python is known by."""

EXTRA = "pip install 'daps-kit[notebook]'"


class Posterior:
    """Samples of p(x0 | y).

    All are without the first axis, B, where one measurement was given without it; `posterior[b]` gives one image.

    Attributes:
        samples: [B, runs, C, H, W] in [-1, 1]; NaN where a sample was lost.
        measurement: y, [B, ...].
        truth: the true images [B, C, H, W], where they are known.
        failures: why samples were lost, by image and run (by run, for one image).
        names: of the images.
        cost: what a sample cost, on average; None where that is not known.
    """

    def __init__(
        self,
        samples: Tensor,
        measurement: Tensor,
        *,
        residuals: Callable[[], Tensor],
        pictures: Callable[[], Tensor],
        failures: Mapping[tuple[int, int], Failure] | None = None,
        truth: Tensor | None = None,
        names: Sequence[str] = (),
        cost: Cost | None = None,
        single: bool = False,
        traces: Sequence[Mapping[str, Sequence[float]]] = (),
        averages: Tensor | None = None,
        periods: Mapping[str, float] | None = None,
    ) -> None:
        """Hold samples.

        Args:
            samples: [B, runs, C, H, W].
            measurement: [B, ...].
            residuals: gives the residuals of the samples, [B, runs].
            pictures: gives pictures of the measurements, [B, 1 or 3, h, w].
            failures: by image and run.
            truth: [B, C, H, W].
            names: of the images; their numbers where not given.
            cost: of a sample.
            single: whether there is one image, which is to be without the first axis.
            traces: of each sample, image by image, what was unknown of the operator after each level, by name.
            averages: what the sampler gives with each sample (see `daps_kit.contracts.Step`), [B, runs, C, H, W].
            periods: of those of these numbers that mean the same again after so much, such as angles.
        """
        self._traces = list(traces) if any(traces) else []
        self._periods = dict(periods or {})
        self._samples, self._measurement, self._truth = samples, measurement, truth
        self._averages = averages
        self._residuals, self._pictures = residuals, pictures
        self._failures = dict(failures or {})
        self._names = list(names) or [f"image-{index:03d}" for index in range(1, len(samples) + 1)]
        self.cost, self.single = cost, single

    def _given(self, batch: Any) -> Any:
        return batch[0] if self.single else batch

    @property
    def samples(self) -> Tensor:
        """All samples."""
        found: Tensor = self._given(self._samples)
        return found

    @property
    def measurement(self) -> Tensor:
        """What was measured."""
        found: Tensor = self._given(self._measurement)
        return found

    @property
    def truth(self) -> Tensor | None:
        """The true images, where they are known."""
        return None if self._truth is None else self._given(self._truth)

    @property
    def names(self) -> list[str]:
        """What the images are called."""
        return list(self._names)

    @property
    def failures(self) -> dict[Any, Failure]:
        """Why samples were lost."""
        return {key[1] if self.single else key: failure for key, failure in self._failures.items()}

    @property
    def traces(self) -> dict[str, Tensor]:
        """What was unknown of the operator, by name, after each level: [B, runs, levels], of a kernel
        [B, runs, h, w, levels]; empty where nothing was. Angles of an image are moved by their period to where they lie
        around one mean.
        """
        if not self._traces:
            return {}
        count, runs = self._samples.shape[:2]
        levels = max(len(trace) for each in self._traces for trace in each.values())
        found = {}
        for name in next(each for each in self._traces if each):
            rows = [list(each.get(name, [math.nan] * levels)) for each in self._traces]
            values = torch.tensor(rows, dtype=torch.float64).reshape(count, runs, levels)
            found[name] = near_each_other(values, self._periods.get(name))
        joined = gathered(
            found, lambda numbers, size: torch.stack(numbers, 2).reshape(count, runs, *size, levels)
        )
        return {name: self._given(each) for name, each in joined.items()}

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Samples of what was unknown of the operator, by name: [B, runs], of a kernel [B, runs, h, w].

        They belong to the samples of the image.
        """
        return {name: trace[..., -1] for name, trace in self.traces.items()}

    @cached_property
    def _moments(self) -> list[dict[str, Tensor]]:
        return [moments(samples, averages=own) for samples, own in map(self._alive, range(len(self)))]

    def _alive(self, b: int) -> tuple[Tensor, Tensor | None]:
        """Return the samples of an image that were not lost, and what was given with them."""
        there = torch.isfinite(self._samples[b]).flatten(1).all(1)
        return self._samples[b][there], None if self._averages is None else self._averages[b][there]

    @property
    def mean(self) -> Tensor:
        """Posterior mean, the answer of least error, [B, C, H, W]; NaN where all samples were lost.

        It is estimated from the samples and from what the sampler gives with them (see `ensemble.posterior_mean`).
        """
        missing = torch.full_like(self._samples[0, 0], torch.nan)
        alive = map(self._alive, range(len(self)))
        means = [posterior_mean(samples, own) if len(samples) else missing for samples, own in alive]
        found: Tensor = self._given(torch.stack(means))
        return found

    @property
    def std(self) -> Tensor:
        """Standard deviation of the samples, [B, C, H, W]; NaN where there are fewer than two."""
        missing = torch.full_like(self._samples[0, 0], torch.nan)
        found: Tensor = self._given(torch.stack([each.get("std", missing) for each in self._moments]))
        return found

    def quantile(self, q: float | Sequence[float]) -> Tensor:
        """Return quantiles of the samples that were not lost, interpolated.

        Args:
            q: from 0 to 1, one or several.

        Returns:
            [B, C, H, W], with an axis of several before it.

        Raises:
            UserError: q is out of range.
        """
        levels = [q] if isinstance(q, int | float) else list(q)
        if not levels or not all(0 <= level <= 1 for level in levels):
            raise UserError(f"quantile: {q} is not from 0 to 1")
        at = torch.tensor(levels, dtype=self._samples.dtype, device=self._samples.device)
        images = []
        for b, samples in enumerate(self._samples):
            alive, _ = self._alive(b)
            if not len(alive):
                images.append(samples.new_full((len(at), *samples.shape[1:]), torch.nan))
                continue
            parts = torch.split(alive.flatten(1), max(1, 8_000_000 // len(alive)), 1)
            rows = [torch.quantile(part, at, dim=0) for part in parts]
            images.append(torch.cat(rows, 1).reshape(len(at), *samples.shape[1:]))
        found = torch.stack(images, 1)
        found = found[:, 0] if self.single else found
        return found[0] if isinstance(q, int | float) else found

    @cached_property
    def _all_residuals(self) -> Tensor:
        return self._residuals()

    @property
    def residuals(self) -> Tensor:
        """Root mean square residual of each sample in standard deviations of the noise, [B, runs]; about 1 is right."""
        found: Tensor = self._given(self._all_residuals)
        return found

    def metrics(self, truth: Any = None) -> dict[str, Any]:
        """Return how good the samples are: numbers for one image, lists of them for several.

        Args:
            truth: the true images [B, C, H, W] (or [C, H, W]) in [-1, 1]; those that are known where not given.

        Returns:
            `residual`, of a sample on average; with a truth also `psnr` (dB) and `ssim` of the posterior mean,
            `sample_psnr` and `sample_ssim` of a sample on average, and of two samples or more `crps`, `coverage` of the
            interval from 5 to 95 % and the share that is due, `coverage_due`, and `spread_error`, the ratio of spread
            and error. None where it is not known.

        Raises:
            UserError: the truth has another shape.
        """
        known = self._truth_of(truth)
        rows = [self._scores(b, known) for b in range(len(self))]
        flat = [_flat(row, known is not None) for row in rows]
        return flat[0] if self.single else {key: [row[key] for row in flat] for key in flat[0]}

    def _truth_of(self, truth: Any) -> Tensor | None:
        if truth is None:
            return self._truth
        known = torch.as_tensor(truth).to(self._samples)
        shape = (len(self._samples), *self._samples.shape[2:])
        known = known[None] if tuple(known.shape) == shape[1:] and shape[0] == 1 else known
        if tuple(known.shape) != shape:
            raise UserError(f"truth: the shape {list(known.shape)} is not that of the images, {list(shape)}")
        return known

    def _scores(self, b: int, truth: Tensor | None) -> dict[str, Any]:
        """Return the scores of an image, as metrics.json has them."""
        samples = self._samples[b]
        alive = [run for run, x in enumerate(samples) if bool(torch.isfinite(x).all())]
        known = self._all_residuals[b][alive] if alive else self._all_residuals[b]
        # The residual of the mean is not that of a sample; nobody asks for it here.
        return score(
            samples,
            None if truth is None else truth[b],
            lambda images: known if len(images) == len(known) else known.new_full((len(images),), torch.nan),
            averages=None if self._averages is None else self._averages[b],
        )

    # --- one of several, and as the samples

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def shape(self) -> torch.Size:
        """The shape of the samples."""
        return self.samples.shape

    def __getitem__(self, index: Any) -> Any:
        """Return one image by number or name, several by a slice; a tuple indexes the tensor of samples."""
        if isinstance(index, tuple):
            return self.samples[index]
        if isinstance(index, str):
            if index not in self._names:
                raise UserError(f"no image '{index}'; there are {', '.join(self._names[:10])}")
            index = self._names.index(index)
        if self.single and index != 0:
            raise IndexError("there is one image; `.samples` holds its samples")
        places = list(range(len(self)))[index] if isinstance(index, slice) else [range(len(self))[index]]
        runs = self._samples.shape[1]
        failures = {
            (place, run): failure
            for place, b in enumerate(places)
            for (image, run), failure in self._failures.items()
            if image == b
        }
        return Posterior(
            self._samples[places],
            self._measurement[places],
            residuals=lambda: self._all_residuals[places],
            pictures=lambda: self._pictures()[places],
            failures=failures,
            truth=None if self._truth is None else self._truth[places],
            names=[self._names[b] for b in places],
            cost=self.cost,
            single=not isinstance(index, slice),
            traces=[self._traces[b * runs + run] for b in places for run in range(runs)]
            if self._traces
            else (),
            averages=None if self._averages is None else self._averages[places],
            periods=self._periods,
        )

    def __iter__(self) -> Iterator[Posterior]:
        return (self[b] for b in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[np.generic]:
        """Return the samples as an array of numpy."""
        return self.samples.detach().cpu().numpy().astype(dtype or "float32", copy=bool(copy))

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Let functions of torch see the samples."""

        def seen(value: Any) -> Any:
            if isinstance(value, Posterior):
                return value.samples
            if isinstance(value, list | tuple):
                return type(value)(seen(item) for item in value)
            return value

        return function(*seen(tuple(args)), **{key: seen(item) for key, item in (kwargs or {}).items()})

    # --- to be looked at

    def _rows(self, truth: Tensor | None, count: int) -> list[Row]:
        pictures = self._pictures()
        rows = []
        for b in range(min(count, len(self))):
            samples = self._samples[b].cpu()
            scores = self._scores(b, truth)
            found = self._moments[b]
            shown = list(range(min(MAX_SAMPLES, len(samples))))
            if scores["reported"] and scores["reported"]["run"] not in shown:
                shown[-1] = scores["reported"]["run"]
            rows.append(
                Row(
                    self._names[b],
                    None if truth is None else truth[b].cpu(),
                    pictures[b].cpu(),
                    [(run, samples[run]) for run in shown],
                    found["mean"].cpu() if "mean" in found else None,
                    found["std"].cpu() if "std" in found else None,
                    scores,
                )
            )
        return rows

    def __repr__(self) -> str:
        return f"<Posterior of {self._said()}>"

    def _said(self) -> str:
        count, runs, *form = self._samples.shape
        images = f"an image [{', '.join(map(str, form))}]"
        if count > 1:
            images = f"{count} images [{', '.join(map(str, form))}]"
        words = [f"{images}, {runs} sample{'s' * (runs > 1)} {'each' if count > 1 else ''}".strip()]
        residual = self._all_residuals.nanmean()
        if bool(torch.isfinite(residual)):
            words.append(f"residual {float(residual):.2f}")
        words += [
            f"{name} {_told(found, self._periods.get(name))}"
            for name, found in self.parameters.items()
            if name != KERNEL
        ]
        if runs > 1:
            spread = torch.stack(
                [m["std"].mean() for m in self._moments if "std" in m] or [residual.new_tensor(math.nan)]
            )
            words.append(f"standard deviation {float(spread.mean()):.3g}")
        if self.cost is not None:
            words.append(f"{self.cost.calls:.4g} network calls a sample")
        if self._failures:
            words.append(f"{len(self._failures)} lost")
        return ", ".join(words)

    def _repr_html_(self) -> str:
        """Return the picture of the samples with their numbers, for a notebook."""
        picture = draw_grid([("", self._rows(self._truth, SHOWN))], "")
        data = base64.b64encode(encode_png(picture)).decode()
        names = ", ".join(self._names[:SHOWN])
        more = f" (the first {SHOWN} are shown)" if len(self) > SHOWN else ""
        lost = "".join(
            f"<li>{html.escape(f'{sample_name(self._names[b], run)}: {failure}')}</li>"
            for (b, run), failure in list(self._failures.items())[:10]
        )
        known = self.metrics() if self._truth is not None else {}
        table = ""
        if known:
            lists = {key: value if isinstance(value, list) else [value] for key, value in known.items()}
            head = "".join(f"<th>{html.escape(key)}</th>" for key in lists)
            body = "".join(
                f"<tr><td>{html.escape(self._names[b])}</td>"
                + "".join(f"<td>{'' if v[b] is None else format(v[b], '.4g')}</td>" for v in lists.values())
                + "</tr>"
                for b in range(min(SHOWN, len(self)))
            )
            table = f"<table><thead><tr><th>image</th>{head}</tr></thead><tbody>{body}</tbody></table>"
        return (
            f"<div><p>Posterior of {html.escape(self._said())}{more}</p>"
            f'<img style="max-width:100%" alt="measurement, samples, mean and standard deviation of '
            f'{html.escape(names)}" src="data:image/png;base64,{data}">{table}'
            + (f"<ul>{lost}</ul>" if lost else "")
            + "</div>"
        )

    def plot(self, truth: Any = None) -> Any:
        """Return a figure of matplotlib: a row for each of the first images, with scales.

        Args:
            truth: the true images, shown where they are known.

        Raises:
            UserError: matplotlib is not installed, or the truth has another shape.
        """
        try:
            figures: Any = import_module("matplotlib.figure")
        except ImportError:
            raise UserError(f"plot needs matplotlib: {EXTRA}") from None
        rows = self._rows(self._truth_of(truth), SHOWN)
        columns = 1 + (rows[0].truth is not None) + len(rows[0].samples) + 2 * (rows[0].mean is not None)
        figure = figures.Figure(figsize=(2.2 * columns, 2.4 * len(rows)), layout="constrained")
        axes = figure.subplots(len(rows), columns, squeeze=False)
        for row, line in zip(rows, axes, strict=True):
            cells: list[tuple[str, Tensor | None]] = [("measurement", row.measurement)]
            cells += [("truth", row.truth)] if row.truth is not None else []
            cells += [(f"sample {run + 1}", x) for run, x in row.samples]
            cells += [("mean", row.mean)] if row.mean is not None else []
            for axis, (title, image) in zip(line, cells, strict=False):
                if image is not None:
                    shown = ((image + 1) / 2).clamp(0, 1).nan_to_num().movedim(0, -1).numpy()
                    axis.imshow(shown[..., 0] if shown.shape[-1] == 1 else shown, cmap="gray", vmin=0, vmax=1)
                axis.set_title(title, fontsize=9)
            if row.std is not None:
                drawn = line[-1].imshow(row.std.square().mean(0).sqrt().numpy(), cmap="magma", vmin=0)
                line[-1].set_title("standard deviation", fontsize=9)
                figure.colorbar(drawn, ax=line[-1], shrink=0.8)
            for axis in line:
                axis.set_axis_off()
        figure._repr_png_ = partial(_png, figure)  # for notebooks in which matplotlib was not set up
        return figure

    # --- to be kept

    def save(self, folder: str | Path) -> Path:
        """Write samples, measurements, means and deviations as tensors and pictures; `daps_kit.open` reads them.

        Args:
            folder: made where it is not there; it holds nothing else.

        Returns:
            The folder, with the files that `daps-kit run` writes of each image, and grid.png.

        Raises:
            UserError: something else is in it, or it cannot be written.
        """
        path = Path(folder).expanduser().absolute()
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path} is there already and is not empty; choose another folder")
        kept = RunFolder(path)
        pictures, truth = self._pictures().cpu(), self._truth
        for b, name in enumerate(self._names):
            kept.write_measurement(
                name, self._measurement[b].cpu(), None if truth is None else truth[b].cpu(), {}
            )
            kept.write(kept.measurement(name).with_suffix(".png"), image_png(pictures[b]))
            for run, x0 in enumerate(self._samples[b].cpu()):
                trace = self._traces[b * len(self._samples[b]) + run] if self._traces else {}
                average = None if self._averages is None else self._averages[b, run].cpu()
                failure = self._failures.get((b, run))
                kept.write_sample(
                    name, run, Sample(x0, failure, self.cost, parameters=trace, average=average)
                )
                if bool(torch.isfinite(x0).all()):
                    kept.write(kept.sample(name, run).with_suffix(".png"), image_png(x0))
            found = {key: t.cpu() for key, t in self._moments[b].items()}
            if found:
                kept.store.write(Key("posterior", name), found, {})
                kept.write(kept.beside(name, "mean.png"), image_png(found["mean"]))
            if "std" in found:
                kept.write(kept.beside(name, "std.png"), encode_png(draw_std(found["std"])))
        kept.write_json(
            SAVED,
            {
                "names": self._names,
                "runs": self._samples.shape[1],
                "residuals": self._all_residuals.tolist(),
                "periods": self._periods,
            },
        )
        kept.write(kept.grid, encode_png(draw_grid([("", self._rows(truth, 8))], "")))
        return path

    def to_xarray(self) -> Any:
        """Return the samples as a Dataset of xarray, in the convention of ArviZ: `x0` (chain, draw, image, ...).

        Samples are independent draws of one chain. Without the axis of images for one image.

        Raises:
            UserError: xarray is not installed.
        """
        try:
            import xarray  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            raise UserError(f"to_xarray needs xarray: {EXTRA}") from None
        values = self._samples.detach().cpu()
        runs = values.shape[1]
        dims = ["chain", "draw", "image", "channel", "row", "column"]
        data, residuals = values.transpose(0, 1)[None], self._all_residuals.cpu().T[None]
        coords: dict[str, Any] = {"chain": [0], "draw": list(range(runs)), "image": self._names}
        if self.single:
            data, residuals = data[:, :, 0], residuals[:, :, 0]
            dims.remove("image")
            del coords["image"]
        unknown = {}
        for name, found in self.parameters.items():
            batch = (found if self.single else found.transpose(0, 1))[None]
            axes = [*dims[: residuals.ndim], "kernel row", "kernel column"]
            unknown[name] = (axes[: batch.ndim], batch.numpy())
        return xarray.Dataset(
            {"x0": (dims, data.numpy()), "residual": (dims[: residuals.ndim], residuals.numpy()), **unknown},
            coords=coords,
            attrs={"inference_library": "daps-kit", "images": "in [-1, 1]"},
        )


def _png(figure: Any) -> bytes:
    """Return a figure of matplotlib as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _told(values: Tensor, period: float | None) -> str:
    """Return mean and standard deviation of samples of a number, those of several images pooled."""
    known = near_each_other(values[torch.isfinite(values)][:, None], period)
    spread = f" ± {float(known.std()):.2g}" if values.ndim == 1 and len(known) > 1 else ""
    return f"{float(known.mean()):.4g}{spread}"


def _flat(scores: dict[str, Any], known: bool) -> dict[str, Any]:
    """Return the numbers of an image that people ask for first."""

    def of(choice: str, key: str) -> float | None:
        value = (scores.get(choice) or {}).get(key)
        return None if value is None or not math.isfinite(value) else float(value)

    found = {"residual": of("sample_mean", "residual")}
    if known:
        found = {
            "psnr": of("posterior_mean", "psnr"), "ssim": of("posterior_mean", "ssim"),
            "sample_psnr": of("sample_mean", "psnr"), "sample_ssim": of("sample_mean", "ssim"),
            **{key: of("ensemble", key) for key in ("crps", "coverage", "coverage_due", "spread_error")}, **found,
        }  # fmt: skip
    return found
