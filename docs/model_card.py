"""Write what the model cards say of training, errors and credits anew, from the files of weights.

Run it with `python docs/model_card.py` after weights have changed; tests compare.
"""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import wrap

from daps_kit.tensor_file import read
from daps_priors.photos import weights as photos
from daps_priors.photos.settings import Photos, PhotosGrey
from daps_priors.trained import weights as trained
from daps_priors.trained.prior import WEIGHTS

HERE = Path(__file__).parent
BEGIN = "<!-- measured: written by `python docs/model_card.py` from the file of weights -->\n"
END = "<!-- /measured -->\n"
OTHERS = {
    "BM3D": {"0.05": 37.57, "0.1": 33.36, "0.2": 29.46, "0.4": 25.98},
    "FFDNet": {"0.05": 37.45, "0.1": 33.58, "0.2": 29.87, "0.4": 26.52},
}
"""PSNR of other denoisers on the same squares, dB; FFDNet has learned from thousands of pictures."""
OTHERS_GREY = {"BM3D": {"0.05": 35.44, "0.1": 31.15, "0.2": 27.36, "0.4": 24.17}}
"""The same of the squares without colour."""


def portraits64(file: Path = WEIGHTS / "portraits64.safetensors") -> str:
    """Return the measured part of the card of the portraits."""
    model, calibration, description = trained.load(file)
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


def photographs(file: Path = Photos.file) -> str:
    """Return the measured part of the card of the photographs."""
    import torch

    model, calibration, description = photos.load(file, torch.device("cpu"))
    training, network = description["training"], description["network"]
    settings, psnr = training["settings"], training["psnr"]
    parameters = sum(p.numel() for p in model.parameters())
    widths, blocks = (", ".join(map(str, network[key])) for key in ("widths", "blocks"))
    sizes = ", ".join(str(size) for size in sorted(set(settings["sizes"])))
    facts = [
        f"the Wiener filter of a power law by colour, in the cosine basis of the picture's own size, and on top of it "
        f"a U-Net of {widths} channels and {blocks} blocks: {parameters / 1e6:.2f} million numbers, "
        f"{file.stat().st_size / 1e6:.1f} MB in half precision",
        f"a pixel of the result depends on {model.unet.reach} pixels to each side through the U-Net",
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
        *_grey(PhotosGrey.file),
        "## Credits of photographs",
        "",
        *(f"- {line}" for line in description["card"]["credits"].splitlines()),
    ]
    return "\n".join(lines) + "\n"


def _grey(file: Path) -> list[str]:
    """Return what the card says of the network of grey pictures."""
    training = read(file)[1]["training"]
    psnr, settings = training["psnr"], training["settings"]
    rows = {"photos_grey": psnr["psnr"], "its linear part alone": psnr["linear_psnr"], **OTHERS_GREY}
    rows["photos_grey, on pictures it was trained on"] = psnr["trained_psnr"]
    columns = list(psnr["psnr"])
    return [
        "## Grey pictures: `photos_grey`",
        "",
        f"The same network with one channel, from the weights of `photos` with its filters added up over colours; "
        f"{training['images_seen']:,} patches",
        f"more of the same photographs without colour, peak of the learning rate {settings['learning_rate']:g}, "
        f"finished {training['finished'][:10]}. PSNR as above, of squares without colour:",
        "",
        f"| sigma | {' | '.join(columns)} |",
        f"|---{'|---' * len(columns)}|",
        *(
            f"| {name} | {' | '.join(f'{row[c]:.2f}' if c in row else '' for c in columns)} |"
            for name, row in rows.items()
        ),
        "",
    ]


CARDS = {"portraits64.md": portraits64, "photos.md": photographs}
"""What writes the measured part of each card."""


def current(name: str) -> str:
    """Return a card with its measured part written anew.

    Raises:
        ValueError: the card has lost the marks of that part.
    """
    return replaced((HERE / name).read_text(encoding="utf-8"), CARDS[name]())


def replaced(text: str, part: str) -> str:
    """Return the text of a card with another measured part.

    Raises:
        ValueError: it has lost the marks of that part.
    """
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError("the card has lost its marks")
    return before + BEGIN + part + mark + after


def main() -> int:
    """Write the cards."""
    for name in CARDS:
        (HERE / name).write_text(current(name), encoding="utf-8")
        sys.stdout.write(f"wrote {name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
