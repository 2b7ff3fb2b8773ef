"""The numbers of a run in words: metrics.md, and the line at the end."""

from __future__ import annotations

import math
from typing import Any

from daps_kit.tables import markdown_table

__all__ = ["HEADINGS", "metrics_markdown", "number", "outcome", "with_error"]

HEADINGS = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "lpips_piq": "LPIPS (piq)",
    "lpips_vgg": "LPIPS (vgg)",
    "lpips_alex": "LPIPS (alex)",
    "fid_torchvision": "FID (torchvision)",
    "fid": "FID",
    "residual": "residual (noise sd)",
}
"""The metrics of metrics.json, in their order."""

_FORMS = {"psnr": ".2f", "fid_torchvision": ".2f", "fid": ".2f", "residual": ".3f"}
_CHOICES = {
    "reported": "**reported sample** (smallest residual)",
    "sample_mean": "mean over the samples",
    "posterior_mean": "average of the samples",
    "oracle": "best sample by each metric (oracle: chosen with the truth)",
}


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
    """Return the reported numbers of a run in a line."""
    phrases = {"psnr": "PSNR {} dB", "ssim": "SSIM {}", "residual": "residual {}"}
    found = {key: metrics["summary"]["reported"].get(key) for key in phrases}
    texts = [phrases[key].format(with_error(x, _form(key))) for key, x in found.items() if x]
    lost = len(metrics["lost"])
    return ", ".join([*texts, f"{lost} sample{'s' * (lost > 1)} lost"] if lost else texts)


def metrics_markdown(title: str, metrics: dict[str, Any]) -> str:
    """Return metrics.md, made from the content of metrics.json."""
    images, summary = metrics["images"], metrics["summary"]
    keys = [key for key in HEADINGS if key in summary["reported"]]
    head = [HEADINGS[key] for key in keys]
    lines = [f"# {title}", ""]
    if len(images) > 1:
        lines += [f"Mean over {len(images)} images ± standard error.", ""]
    if metrics.get("network_calls"):
        lines += [f"{metrics['network_calls']:.4g} calls of the prior's network for a sample.", ""]
    rows = [
        [label, *(with_error(summary[choice].get(key), _form(key)) for key in keys)]
        for choice, label in _CHOICES.items()
        if summary[choice]
    ]
    lines += markdown_table(["", *head], rows, left=[0])
    reported = {name: item["reported"] or {} for name, item in images.items()}
    rows = [
        [name, str(record.get("run", "–")), *(number(record.get(key), _form(key)) for key in keys)]
        for name, record in reported.items()
    ]
    lines += ["", "## Each image", "", *markdown_table(["image", "reported run", *head], rows, left=[0])]
    if metrics["lost"]:
        lines += ["", "## Lost samples", "", "They count in none of the numbers above.", ""]
        lines += [_sentence(record) for record in metrics["lost"]]
    if metrics.get("doubted"):
        lines += ["", "## Doubtful samples", "", "They count as the others.", ""]
        lines += [_sentence(record) for record in metrics["doubted"]]
    return "\n".join(lines) + "\n"


def _sentence(record: dict[str, Any]) -> str:
    return f"- {record['image']}, run {record['run']}: {record['message']}"
