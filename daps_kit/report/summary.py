"""The numbers of a run in words: metrics.md, and the line at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from daps_kit.failures import sample_name
from daps_kit.tables import markdown_row, markdown_table

__all__ = [
    "CHOICES",
    "HEADINGS",
    "UNKNOWN",
    "inferred",
    "metrics_markdown",
    "number",
    "outcome",
    "unexplained",
    "with_error",
]

HEADINGS = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "lpips_piq": "LPIPS (piq)",
    "lpips_vgg": "LPIPS (vgg)",
    "lpips_alex": "LPIPS (alex)",
    "fid_torchvision": "FID (torchvision)",
    "fid": "FID",
    "residual": "residual (noise sd)",
    "crps": "CRPS",
    "coverage": "coverage",
    "coverage_due": "coverage due",
    "spread_error": "spread / error",
    "psnr_corrected": "PSNR of infinitely many (dB)",
}
"""The metrics of metrics.json, in their order."""

CHOICES = ("posterior_mean", "sample_mean", "reported", "oracle", "ensemble")
"""What metrics.json tells of the samples of each image, and in its summary."""

_FORMS = {
    "psnr": ".2f",
    "fid_torchvision": ".2f",
    "fid": ".2f",
    "residual": ".3f",
    "coverage": ".3f",
    "coverage_due": ".3f",
    "spread_error": ".3f",
    "psnr_corrected": ".2f",
}
_LABELS = {
    "posterior_mean": "**posterior mean**: the answer of least error",
    "sample_mean": "a sample: an answer that looks like an image (mean over the samples)",
    "reported": "the sample that is shown",
    "oracle": "best sample by each metric (oracle: chosen with the truth)",
}
_SHOWN = {"residual": "smallest residual", "medoid": "the nearest to the others"}


def _form(key: str) -> str:
    return _FORMS.get(key, ".4f")


def number(value: float | None, form: str, missing: str = "–") -> str:
    """Return a number as text, `missing` where there is none."""
    return missing if value is None or not math.isfinite(value) else format(value, form)


def with_error(found: dict[str, Any] | None, form: str, missing: str = "–") -> str:
    """Return a mean and its standard error, where there are any, as text."""
    if not found:
        return missing
    error = found.get("standard_error")
    return number(found["mean"], form, missing) + (
        "" if error is None else f" ± {number(error, form, missing)}"
    )


def outcome(metrics: dict[str, Any]) -> str:
    """Return the numbers of a run in a line: of the posterior mean first, where there are several."""
    one, mean = (metrics["summary"][choice] for choice in ("sample_mean", "posterior_mean"))
    if _single(metrics) or not mean.get("psnr"):
        texts = [", ".join(_phrases(one, ("psnr", "ssim", "residual")))]
    else:
        texts = [
            f"posterior mean {', '.join(_phrases(mean, ('psnr', 'ssim')))}",
            f"a sample {', '.join(_phrases(one, ('psnr', 'residual')))}",
        ]
    if _widened(metrics):
        texts.append(f"intervals widened {metrics['widen']:g} times")
    if lost := len(metrics["lost"]):
        texts.append(f"{lost} sample{'s' * (lost > 1)} lost")
    return "; ".join(text for text in texts if text)


def _widened(metrics: dict[str, Any]) -> bool:
    return bool(metrics.get("widen", 1.0) != 1.0)


def _single(metrics: dict[str, Any]) -> bool:
    """Return whether no image has more than one sample, which is then its mean and the one that is shown."""
    return all(len(item["samples"]) < 2 for item in metrics["images"].values())


def _phrases(found: dict[str, Any], keys: Sequence[str]) -> list[str]:
    phrases = {"psnr": "PSNR {} dB", "ssim": "SSIM {}", "residual": "residual {}"}
    return [phrases[key].format(with_error(found[key], _form(key))) for key in keys if found.get(key)]


def unexplained(metrics: dict[str, Any]) -> list[str]:
    """Return a line for each thing that is likely wrong with measurements, as their samples tell: the worst of each."""
    found: dict[str, list[tuple[float, str]]] = {}
    for name, item in metrics["images"].items():
        noise = item.get("noise")
        if noise and noise["cause"]:
            found.setdefault(noise["cause"], []).append(
                (abs(math.log(noise["ratio"] + 1e-9)), f"{name}: {noise['message']}")
            )
    return [
        max(lines)[1] + (f" (and {len(lines) - 1} more of this kind)" if len(lines) > 1 else "")
        for lines in found.values()
    ]


def metrics_markdown(title: str, metrics: dict[str, Any]) -> str:
    """Return metrics.md, made from the content of metrics.json."""
    images, summary = metrics["images"], metrics["summary"]
    single = _single(metrics)
    keys = [key for key in HEADINGS if key in summary["reported"]]
    head = [HEADINGS[key] for key in keys]
    lines = [f"# {title}", ""]
    if len(images) > 1:
        lines += [f"Mean over {len(images)} images ± standard error.", ""]
    if metrics.get("network_calls"):
        lines += [f"{metrics['network_calls']:.4g} calls of the prior's network for a sample.", ""]
    if _widened(metrics):
        lines += [f"Intervals of pixels are widened {metrics['widen']:g} times about the mean (`widen`).", ""]
    rows = [
        [label, *(with_error(summary[choice].get(key), _form(key)) for key in keys)]
        for choice, label in _LABELS.items()
        if summary[choice] and not (single and choice != "sample_mean")
    ]
    lines += markdown_table(["", *head], rows, left=[0])
    if any(summary["ensemble"].values()):
        lines += [
            "",
            "## How well the spread of the samples fits the truth",
            "",
            *_ensemble(summary["ensemble"]),
        ]
    lines += ["", "## Each image", ""]
    ways: dict[str, None] = {}
    unknown: list[list[str]] = []
    table = markdown_table(["image", "sample", *head], [], left=[0])
    for name, item in images.items():
        record = item["reported"] or {}
        ways |= dict.fromkeys([item["reported_by"]] if record else [])
        unknown += inferred(name, item)
        sample = str(record["run"] + 1) if record else "–"
        cells = [name, sample, *(number(record.get(key), _form(key)) for key in keys)]
        table.append(markdown_row(cells))
    if not single:
        lines += [
            f"The sample that is shown, chosen without the truth: {' or '.join(_SHOWN[way] for way in ways)}.",
            "",
        ]
    if unknown:
        lines += [
            "What was unknown, as the samples have it.",
            "",
            *markdown_table(UNKNOWN, unknown, left=[0, 1]),
            "",
        ]
    lines += table
    if metrics["lost"]:
        lines += ["", "## Lost samples", "", "They count in none of the numbers above.", ""]
        lines += [_sentence(record) for record in metrics["lost"]]
    if told := unexplained(metrics):
        lines += ["", "## Doubtful measurements", "", *(f"- {line}" for line in told)]
    if metrics.get("doubted"):
        lines += ["", "## Doubtful samples", "", "They count as the others.", ""]
        lines += [_sentence(record) for record in metrics["doubted"]]
    return "\n".join(lines) + "\n"


UNKNOWN = ["image", "unknown", "mean", "standard deviation", "from (5 %)", "to (95 %)", "truth"]
"""The columns of what was unknown."""


def inferred(name: str, item: dict[str, Any]) -> list[list[str]]:
    """Return the rows of what was unknown of the operator for an image: of each number."""
    return [
        [name, f"`{key}`", number(found["mean"], ".4g"), *(number(value, ".3g") for value in (
            found["std"], *(found["interval"] or (None, None)))), number(found["truth"], ".4g")]
        for key, found in item.get("parameters", {}).items()
    ]  # fmt: skip


def _ensemble(found: dict[str, Any]) -> list[str]:
    """Return the table of the spread, with what it should be."""
    keys = [key for key in HEADINGS if found.get(key)]
    return [
        *markdown_table(
            [HEADINGS[key] for key in keys], [[with_error(found[key], _form(key)) for key in keys]], left=[]
        ),
        "",
        "Right samples cover what is due, and their spread is as large as their error; below 1 they are too alike.",
    ]


def _sentence(record: dict[str, Any]) -> str:
    return f"- {sample_name(record['image'], record['run'])}: {record['message']}"
