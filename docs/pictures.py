"""Draw the pictures of README.md, index.md, how-it-works.md and report.md: `python docs/pictures.py [NAME...]`.

They come from what ships with the package, by the command line or from Python, and are kept in the repository, in
docs/pictures, so that the pages can be read on a forge. Those of `report` are taken in headless Chromium.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent / "pictures"


def save(figure: Any, name: str) -> None:
    """Write a figure of matplotlib as a picture of few bytes."""
    import matplotlib.pyplot as plt
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        figure.savefig(Path(folder) / "figure.png", dpi=130, facecolor="white")
        picture = Image.open(Path(folder) / "figure.png").convert("RGB")
        picture.save(HERE / name, quality=82, method=6)
    plt.close(figure)


# --- before and after


def before_after() -> None:
    """Damage a photograph in three ways, restore it by `daps-kit restore`, and lay the pictures side by side."""
    from PIL import Image, ImageDraw, ImageFont
    from scipy.ndimage import gaussian_filter

    with as_file(files("daps_recipes") / "images" / "cat.png") as path:
        cat = np.asarray(Image.open(path).convert("RGB")).astype(float)
    rng = np.random.default_rng(0)
    noisy = cat + 45 * rng.standard_normal(cat.shape)
    blurred = gaussian_filter(cat, (2, 2, 0)) + 2 * rng.standard_normal(cat.shape)
    mask = Image.new("L", (256, 256))
    pen = ImageDraw.Draw(mask)
    for _ in range(9):
        points = np.cumsum(rng.normal(0, 28, (9, 2)), 0) + rng.uniform(40, 216, 2)
        pen.line([tuple(point) for point in points], fill=255, width=4)
    scratched = np.where(np.asarray(mask)[..., None] > 0, 255, cat)

    tries = {
        "noise": (noisy, ()),
        "blur": (blurred, ("--blur", "2")),
        "scratches": (scratched, ("--mask", "mask.png")),
    }
    sheet = Image.new("RGB", (3 * 256 + 2 * 8, 2 * 256 + 8), "white")
    with tempfile.TemporaryDirectory() as folder:
        mask.save(Path(folder) / "mask.png")
        for column, (name, (damaged, options)) in enumerate(tries.items()):
            file = Path(folder) / f"{name}.png"
            Image.fromarray(damaged.clip(0, 255).round().astype(np.uint8)).save(file)
            command = [sys.executable, "-m", "daps_kit", "restore", file.name, *options, "--budget", "fast"]
            subprocess.run(command, cwd=folder, check=True)
            for row, part in enumerate((file, Path(folder) / "restored" / file.name)):
                sheet.paste(Image.open(part), (column * 264, row * 264))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for row, text in enumerate(("before", "after: daps-kit restore")):
        box = pen.textbbox((8, row * 264 + 8), text, font=font)
        pen.rectangle((box[0] - 4, box[1] - 3, box[2] + 4, box[3] + 3), fill="white")
        pen.text((8, row * 264 + 8), text, fill="black", font=font)
    sheet.save(HERE / "before-after.jpg", quality=85, optimize=True)


# --- how it works


def astronaut() -> Any:
    """Return the face that comes with the recipes, [3, 64, 64]."""
    from daps_kit.images import load_image

    with as_file(files("daps_recipes") / "images" / "astronaut.png") as path:
        return load_image(path)


def show(axis: Any, image: Any, title: str = "") -> None:
    """Show an image [C, H, W] without axes."""
    axis.imshow(((image.movedim(0, -1) + 1) / 2).clamp(0, 1), interpolation="nearest")
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])


def denoiser() -> None:
    """Draw a face under more and more noise, and what the prior makes of it."""
    import matplotlib.pyplot as plt
    import torch

    import daps_kit

    face, prior = astronaut()[None], daps_kit.build("prior", {"use": "embedded"})
    noise = torch.randn(face.shape, generator=torch.Generator().manual_seed(1))
    sigmas = (0.1, 0.3, 1, 3, 10)
    figure, axes = plt.subplots(2, 6, figsize=(8.4, 3.1), layout="constrained")
    show(axes[0, 0], face[0], "$x_0$")
    axes[1, 0].axis("off")
    for column, sigma in enumerate(sigmas, 1):
        x_t = face + sigma * noise
        show(axes[0, column], x_t[0] / (1 + sigma), rf"$x_0 + \sigma n,\ \sigma = {sigma}$")
        show(axes[1, column], prior.denoise(x_t, sigma)[0], r"$D(x_t, \sigma)$")
    save(figure, "denoiser.webp")


def levels() -> None:
    """Draw the levels of one sample: the noisy state, the prior's guess, and the draw that knows the measurement."""
    import matplotlib.pyplot as plt
    import torch

    import daps_kit
    from daps_kit.contracts import RandomStreams

    face, prior = astronaut()[None], daps_kit.build("prior", {"use": "embedded"})
    operator = daps_kit.build(
        "operator",
        {"use": "inpainting", "mask_len_range": [32, 33], "margin": 8},
        shape=face.shape[1:],
        seed=42,
    )
    y = operator.measure(face, RandomStreams([0]))
    steps = list(daps_kit.build("sampler", {"use": "daps"}).sample(prior, operator, y, RandomStreams([3])))
    shown = [steps[round(place)] for place in torch.linspace(0, len(steps) - 1, 6).tolist()]
    figure, axes = plt.subplots(3, 7, figsize=(9.6, 4.3), layout="constrained")
    show(axes[0, 0], face[0], "truth")
    show(axes[1, 0], operator.to_image(y)[0], "measurement")
    axes[2, 0].axis("off")
    for column, step in enumerate(shown, 1):
        show(axes[0, column], step.x_t[0] / (1 + step.sigma), rf"$\sigma = {step.sigma:.2g}$")
        show(axes[1, column], step.x0hat[0])
        show(axes[2, column], step.x0y[0])
    for row, text in enumerate(("$x_t$", r"$\hat x_0$", "$x_{0|y}$")):
        axes[row, 1].set_ylabel(text, rotation=0, labelpad=14, va="center")
    save(figure, "levels.webp")


def plane() -> None:
    """Draw the levels in two dimensions, where the posterior is known: many chains at once, on its contours."""
    import matplotlib.pyplot as plt
    import torch

    import daps_kit
    from daps_kit.contracts import LinearOperator, RandomStreams
    from daps_kit.noise import GaussianNoise

    class Sum(LinearOperator):
        def forward(self, x: Any) -> Any:
            return x.sum(1, keepdim=True) / 2

        def adjoint(self, y: Any) -> Any:
            return y.expand(-1, 2, -1, -1) / 2

    angles = torch.arange(16) * (torch.pi / 8)
    means = torch.stack([0.75 * angles.cos(), 0.75 * angles.sin()], 1)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "means.npy", means.reshape(-1, 2, 1, 1).numpy())
        section = {"use": "mixture", "means": str(Path(folder) / "means.npy"), "std": 0.13}
        prior = daps_kit.build("prior", section, shape=(2, 1, 1))
    operator = Sum((2, 1, 1), GaussianNoise(0.08))
    value = 0.1
    grid = torch.linspace(-1.5, 1.5, 240)
    b, a = torch.meshgrid(grid, grid, indexing="ij")
    places = torch.stack([a, b], -1)
    density = torch.exp(-((places[:, :, None] - means) ** 2).sum(-1) / (2 * 0.13**2)).sum(-1)
    posterior = density * torch.exp(-(((a + b) / 2 - value) ** 2) / (2 * 0.08**2))
    posterior /= posterior.max()
    count = 300
    steps = list(
        daps_kit.build("sampler", {"use": "daps", "budget": "accurate"}).sample(
            prior, operator, torch.full((count, 1, 1, 1), value), RandomStreams(range(count))
        )
    )
    chosen = [min(steps, key=lambda step: abs(step.sigma - sigma)) for sigma in (1.0, 0.4, 0.15)] + [
        steps[-1]
    ]
    figure, axes = plt.subplots(1, 5, figsize=(11, 2.5), layout="constrained", sharex=True, sharey=True)
    axes[0].contourf(a, b, density, 8, cmap="Blues")
    axes[0].axline((value, value), slope=-1, color="#c2410c", linewidth=1)
    axes[0].contour(a, b, posterior, [0.1, 0.4, 0.8], colors="#c2410c", linewidths=0.8)
    axes[0].set_title("prior, measurement, posterior", fontsize=9)
    for axis, step in zip(axes[1:], chosen, strict=True):
        axis.contour(a, b, posterior, [0.1, 0.4, 0.8], colors="#c2410c", linewidths=0.8)
        for x, colour, name in ((step.x_t, "#94a3b8", "$x_t$"), (step.x0y, "#1d4ed8", "$x_{0|y}$")):
            axis.scatter(*x.flatten(1).T, s=3, color=colour, label=name, linewidths=0)
        axis.set_title(rf"$\sigma = {step.sigma:.2g}$", fontsize=9)
    axes[1].legend(fontsize=7, loc="upper right", markerscale=2)
    for axis in axes:
        axis.set_aspect("equal")
        axis.set_xlim(-1.5, 1.5)
        axis.set_ylim(-1.5, 1.5)
        axis.set_xticks([])
        axis.set_yticks([])
    save(figure, "plane.webp")


def spread() -> None:
    """Draw what samples say together: mean, standard deviation, and the error that it foretells."""
    import matplotlib.pyplot as plt

    import daps_kit
    from daps_kit.contracts import RandomStreams

    face, prior = astronaut()[None], daps_kit.build("prior", {"use": "embedded"})
    operator = daps_kit.build("operator", {"use": "down_sampling", "scale_factor": 4}, shape=face.shape[1:])
    y = operator.measure(face, RandomStreams([0]))
    sampler = daps_kit.build("sampler", {"use": "daps"})
    steps = list(sampler.sample(prior, operator, y.expand(16, -1, -1, -1), RandomStreams(range(16))))
    samples = steps[-1].x0y
    figure, axes = plt.subplots(1, 7, figsize=(11, 1.9), layout="constrained")
    show(axes[0], face[0], "truth")
    show(axes[1], operator.to_image(y)[0], "measurement")
    show(axes[2], samples[0], "a sample")
    show(axes[3], samples[1], "another")
    show(axes[4], samples.mean(0), "mean of 16")
    deviation, error = samples.std(0).mean(0), (samples.mean(0) - face[0]).abs().mean(0)
    for axis, map_, title in (
        (axes[5], deviation, "standard deviation"),
        (axes[6], error, "error of the mean"),
    ):
        axis.imshow(map_, cmap="magma", vmin=0, vmax=0.5)
        axis.set_title(title, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    save(figure, "spread.webp")


# --- the page of a run


def report() -> None:
    """Draw the page of a run, light, dark and on a phone, and that of two runs side by side."""
    import daps_kit
    from daps_kit.report.page import write_side_by_side

    recipe = """
format: 1
name: deblurring
data: {use: prior, count: 6, image_shape: [3, 64, 64]}
prior: {use: embedded}
operator: {use: gaussian_blur, intensity: 2.0, kernel_size: 15, noise: {use: gaussian, sigma: 0.05}}
sampler: {use: daps, budget: fast}
runs: 6
trajectory: 6
seed: 7
"""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipe.yaml").write_text(recipe)
        for run, changes in (("deblurring", ()), ("four-calls", ("sampler.budget=4",))):
            places = [f"name={run}", f"output={folder / run}", *changes]
            daps_kit.run(folder / "recipe.yaml", places, quiet=True)
        write_side_by_side([folder / "deblurring", folder / "four-calls"], folder / "both.html")
        photograph(folder)


def photograph(folder: Path) -> None:
    """Take pictures of the pages of two runs in a folder: `deblurring`, and both in `both.html`."""
    from PIL import Image
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    service = ChromeService(shutil.which("chromedriver") or "chromedriver")
    options.binary_location = shutil.which("chromium") or ""
    driver = Chrome(options=options, service=service)
    # The name of the picture, the page, width and height of the window, dark, and what stands at its top.
    views = (
        ("report-light", "deblurring/report.html", 1280, 1240, False, "body"),
        ("report-dark", "deblurring/report.html", 1280, 1100, True, "#images"),
        ("report-phone", "deblurring/report.html", 390, 1000, True, "#images"),
        ("report-runs", "both.html", 1280, 1060, False, "#images"),
        ("report-differences", "both.html", 1280, 860, False, "#differences"),
    )
    try:
        for name, page, width, height, dark, top in views:
            scale = 1 if width < 500 else 0.75
            sizes = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            driver.get((folder / page).as_uri())
            for _ in range(200):
                if driver.execute_script("return document.documentElement.dataset.ready"):
                    break
                time.sleep(0.1)
            driver.execute_script(
                "document.querySelector(arguments[0]).scrollIntoView({behavior: 'instant'})", top
            )
            time.sleep(1)
            taken = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
            taken.save(HERE / f"{name}.webp", quality=80, method=6)
    finally:
        driver.quit()


DRAWN = {
    "before-after": before_after,
    "denoiser": denoiser,
    "levels": levels,
    "plane": plane,
    "report": report,
    "spread": spread,
}


def main(names: list[str]) -> None:
    """Draw the pictures that are named, or all."""
    import torch

    torch.manual_seed(0)
    HERE.mkdir(exist_ok=True)
    for name in names or DRAWN:
        DRAWN[name]()
        print(name)


if __name__ == "__main__":
    main(sys.argv[1:])
