"""Write what the model card photos.md says of training, errors and credits anew, from the file of weights.

Run it with `python docs/photo_card.py` after the weights have changed; a test compares.
"""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import wrap

from daps_priors.photos.settings import Photos
from daps_priors.photos.weights import load

CARD = Path(__file__).parent / "photos.md"
BEGIN = "<!-- measured: written by `python docs/photo_card.py` from the file of weights -->\n"
END = "<!-- /measured -->\n"
OTHERS = {
    "BM3D": {"0.05": 37.57, "0.1": 33.36, "0.2": 29.46, "0.4": 25.98},
    "FFDNet": {"0.05": 37.45, "0.1": 33.58, "0.2": 29.87, "0.4": 26.52},
}
"""PSNR of other denoisers on the same squares, dB; FFDNet has learned from thousands of pictures."""


def measured(file: Path = Photos.file) -> str:
    """Return the part of the card that comes from a file of weights."""
    import torch

    model, calibration, description = load(file, torch.device("cpu"))
    training, network = description["training"], description["network"]
    settings, psnr = training["settings"], training["psnr"]
    parameters = sum(p.numel() for p in model.parameters())
    widths, blocks = (", ".join(map(str, network[key])) for key in ("widths", "blocks"))
    sizes = ", ".join(str(size) for size in sorted(set(settings["sizes"])))
    facts = [
        f"the Wiener filter of a power law by colour, in the cosine basis of the picture's own size, and on top of it "
        f"a U-Net of {widths} channels and {blocks} blocks: {parameters / 1e6:.2f} million numbers, "
        f"{file.stat().st_size / 1e6:.1f} MB in half precision",
        f"a pixel of the result depends on {model.unet.reach} pixels to each side through the U-Net; tiles overlap by "
        f"{model.unet.halo}",
        f"{training['pictures']} photographs; {training['images_seen']:,} patches of 64 x 64 seen, in steps of "
        f"{settings['batch_size']}, as patches of {sizes}; Muon and AdamW, peak of the learning rate "
        f"{settings['learning_rate']:g}",
        f"finished {training['finished'][:10]} with torch {training['torch'].partition('+')[0]}; the recipe is "
        "[train/photos.yaml](../recipes/train/photos.yaml)",
    ]
    columns = list(psnr["psnr"])
    rows = {
        "photos": psnr["psnr"],
        "its linear part alone": psnr["linear_psnr"],
        **OTHERS,
        "photos, on pictures it was trained on": psnr["trained_psnr"],
        "its linear part alone, on those": psnr["trained_linear_psnr"],
    }
    side = settings["validation_side"]
    lines = [
        "## The network and its training",
        "",
        *(line for fact in facts for line in wrap(fact, 118, initial_indent="- ", subsequent_indent="  ")),
        "",
        "## Errors",
        "",
        "PSNR by denoising in dB (peak 2, for pictures in [-1, 1]; nothing is clipped), mean over the central "
        f"{side} x {side} of",
        f"{calibration.images} photographs held out of the training, by the standard deviation of the noise:",
        "",
        f"| sigma | {' | '.join(columns)} |",
        f"|---{'|---' * len(columns)}|",
        *(
            f"| {name} | {' | '.join(f'{row[c]:.2f}' if c in row else '' for c in columns)} |"
            for name, row in rows.items()
        ),
        "",
        "## Credits of photographs",
        "",
        *(f"- {line}" for line in description["card"]["credits"].splitlines()),
    ]
    return "\n".join(lines) + "\n"


def card(text: str, part: str) -> str:
    """Return the card with its measured part replaced."""
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"{CARD} has lost its marks")
    return before + BEGIN + part + mark + after


def main() -> int:
    """Write the card."""
    CARD.write_text(card(CARD.read_text(encoding="utf-8"), measured()), encoding="utf-8")
    sys.stdout.write(f"wrote {CARD.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
