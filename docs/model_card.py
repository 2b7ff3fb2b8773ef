"""Write what the model card portraits64.md says of training and errors anew, from the file of weights.

Run it with `python docs/model_card.py` after the weights have changed; a test compares.
"""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import wrap

from daps_priors.trained.prior import WEIGHTS
from daps_priors.trained.weights import load

CARD = Path(__file__).parent / "portraits64.md"
FILE = WEIGHTS / "portraits64.safetensors"
BEGIN = "<!-- measured: written by `python docs/model_card.py` from the file of weights -->\n"
END = "<!-- /measured -->\n"


def measured(file: Path = FILE) -> str:
    """Return the part of the card that comes from a file of weights."""
    model, calibration, description = load(file)
    training, network = description["training"], description["network"]
    settings = training["settings"]
    augment = ", ".join(f"{key} {_plain(value)}" for key, value in settings["augment"].items())
    parameters = sum(tensor.numel() for tensor in model.state_dict().values())
    channels, blocks = (", ".join(map(str, network[key])) for key in ("channels", "blocks"))
    linear = model.gauss.rms_error(calibration.sigma)[0].square()
    rate = f"{settings['learning_rate']:g} falling to zero over {settings['images_seen']:,} images"
    facts = [
        f"a Wiener denoiser ({network['components']} principal components) and on top of it a U-Net of {channels} "
        f"channels, {blocks} blocks and {network['attention']} attention layers: {parameters / 1e6:.2f} million "
        f"numbers, {file.stat().st_size / 1e6:.1f} MB in half precision",
        f"{training['images_seen']:,} images seen in batches of {settings['batch_size']}; Muon and AdamW, learning "
        f"rate {rate}, moving average of the weights; started from {training['start'] or 'nothing'}"
        + (f"; learned from the guesses of {teacher}" if (teacher := training.get("teacher")) else ""),
        f"augmentation: {augment}",
        f"finished {training['finished'][:10]} with torch {training['torch'].partition('+')[0]}; the recipe is "
        "[train/portraits64.yaml](../recipes/train/portraits64.yaml)",
    ]
    lines = [
        "## The network and its training",
        "",
        *(line for fact in facts for line in wrap(fact, 118, initial_indent="- ", subsequent_indent="  ")),
        "",
        "## Errors",
        "",
        f"Mean squared error of a pixel in [-1, 1], denoising {calibration.images} portraits held out of the training,",
        "with the stored weights; beside it what the Wiener denoiser alone does on the training images.",
        "",
        "| sigma | error | Wiener denoiser | ratio |",
        "|---|---|---|---|",
    ]
    for sigma, mse, wiener in zip(
        calibration.sigma.tolist(), calibration.mse.tolist(), linear.tolist(), strict=True
    ):
        lines.append(f"| {sigma:g} | {mse:.2e} | {wiener:.2e} | {mse / wiener:.2f} |")
    return "\n".join(lines) + "\n"


def _plain(value: bool | float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}"


def card(text: str, part: str) -> str:
    """Return the card with its measured part replaced."""
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"{CARD} has lost its marks")
    return before + BEGIN + part + mark + after


def main() -> int:
    """Write the card."""
    text = CARD.read_text(encoding="utf-8")
    CARD.write_text(card(text, measured()), encoding="utf-8")
    sys.stdout.write(f"wrote {CARD.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
