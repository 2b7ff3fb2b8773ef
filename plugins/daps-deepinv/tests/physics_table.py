"""The physics that are tested: settings as recipes have them, and the shape of the images."""

import torch
from torch import Tensor

BLUR = {"use": "gaussian_blur", "sigma": [1.0, 1.0]}
GAUSSIAN = {"use": "GaussianNoise", "sigma": 0.05}
POISSON = {"use": "PoissonNoise", "gain": 0.02}
LAPLACE = {"use": "LaplaceNoise", "b": 0.05}
CAMERA = {"use": "PoissonGaussianNoise", "gain": 0.02, "sigma": 0.05}


def section(physics: str, arguments=None, noise=GAUSSIAN, **rest) -> dict:
    return {"use": "deepinv", "physics": physics, "arguments": arguments or {}, "noise": noise, **rest}


def files(folder) -> dict[str, dict]:
    """Write the tensors that some physics need, and return them as arguments."""
    generator = torch.Generator().manual_seed(5)

    def write(name: str, tensor: Tensor) -> dict:
        torch.save(tensor, folder / f"{name}.pt")
        return {"file": str(folder / f"{name}.pt")}

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    return {
        "coils": write("coils", torch.complex(rand(1, 3, 16, 16), rand(1, 3, 16, 16)) / 3),
        "filters": write("filters", rand(1, 1, 2, 5, 5)),
        "multipliers": write("multipliers", rand(1, 1, 2, 12, 12)),
    }


def table(f: dict[str, dict]) -> dict[str, tuple[dict, tuple[int, int, int]]]:
    """Return settings and shape by name; `f` is what `files` wrote."""
    masks = {"use": "GaussianMaskGenerator", "acceleration": 2}
    levels = {
        key: GAUSSIAN | {"sigma": sigma} for key, sigma in (("noise_color", 0.02), ("noise_gray", 0.05))
    }
    two = [
        {
            "use": "Blur",
            "filter": BLUR,
            "padding": "circular",
            "noise_model": {"use": "GaussianNoise", "sigma": 0.1},
        },
        {"use": "Tomography", "angles": 4, "noise_model": {"use": "GaussianNoise", "sigma": 0.3}},
    ]
    motion = {"use": "MotionBlurGenerator", "psf_size": [5, 5]}
    return {
        "denoising": (section("Denoising", noise=None), (3, 8, 8)),
        "inpainting": (section("Inpainting", {"mask": 0.5}), (3, 8, 8)),
        "demosaicing": (section("Demosaicing"), (3, 8, 8)),
        "compressed sensing": (section("CompressedSensing", {"m": 40}), (1, 8, 8)),
        "compressed sensing, complex": (
            section("CompressedSensing", {"m": 40, "dtype": "complex64"}),
            (1, 8, 8),
        ),
        "blur": (section("Blur", {"filter": BLUR}), (3, 16, 16)),
        "blur, drawn": (
            section("Blur", {"padding": "reflect"}, generator=motion, draw="per_image"),
            (1, 12, 12),
        ),
        "blur in Fourier space": (section("BlurFFT", {"filter": BLUR}), (3, 12, 12)),
        "space-varying blur": (
            section(
                "SpaceVaryingBlur",
                {"filters": f["filters"], "multipliers": f["multipliers"], "padding": "circular"},
            ),
            (1, 12, 12),
        ),
        "downsampling": (section("Downsampling", {"filter": "bicubic", "factor": 2}), (3, 16, 16)),
        "downsampling, as Matlab": (section("DownsamplingMatlab", {"factor": 2}), (3, 12, 12)),
        "upsampling": (section("Upsampling", {"filter": "bilinear", "img_size": [3, 16, 16]}), (3, 8, 8)),
        "decolorize": (section("Decolorize"), (3, 8, 8)),
        "MRI of a grey image": (section("MRI", generator=masks), (1, 16, 16)),
        "MRI of a colour image": (section("MRI", generator=masks), (3, 16, 16)),
        "MRI of a complex image": (section("MRI", generator=masks), (2, 16, 16)),
        "MRI with coils": (section("MultiCoilMRI", {"coil_maps": f["coils"]}, generator=masks), (1, 16, 16)),
        "tomography": (section("Tomography", {"angles": 6}), (1, 12, 12)),
        "tomography, fan beam": (section("Tomography", {"angles": 6, "fan_beam": True}), (1, 12, 12)),
        "single-pixel camera": (section("SinglePixelCamera", {"m": 30}), (1, 8, 8)),
        "pansharpening": (section("Pansharpen", levels, noise=None), (3, 16, 16)),
        "structured random": (section("StructuredRandom", {"output_size": [1, 8, 8]}), (1, 8, 8)),
        "spectral imaging": (section("CompressiveSpectralImaging"), (5, 8, 8)),
        "unmixing": (section("HyperSpectralUnmixing", {"E": 3, "C": 6}), (3, 8, 8)),
        "stacked": (section("StackedLinearPhysics", {"physics_list": two}, noise=None), (1, 12, 12)),
        "composed": (section("ComposedLinearPhysics", {"physics": two}, noise=None), (1, 12, 12)),
        "phase retrieval": (section("RandomPhaseRetrieval", {"m": 80}), (1, 6, 6)),
        "phase retrieval, structured": (
            section("StructuredRandomPhaseRetrieval", {"output_size": [1, 8, 8], "n_layers": 2}),
            (1, 6, 6),
        ),
        "ptychography": (section("Ptychography"), (1, 12, 12)),
        "blur with photon noise": (section("Blur", {"filter": BLUR}, noise=POISSON), (1, 16, 16)),
        "denoising, Laplace": (section("Denoising", noise=LAPLACE), (3, 8, 8)),
        "blur, Laplace": (section("Blur", {"filter": BLUR}, noise=LAPLACE), (1, 16, 16)),
        "phase retrieval, Laplace": (section("RandomPhaseRetrieval", {"m": 80}, noise=LAPLACE), (1, 6, 6)),
        "blur with camera noise": (section("Blur", {"filter": BLUR}, noise=CAMERA), (1, 16, 16)),
        "tomography in counts": (
            section("Tomography", {"angles": 4}, noise=POISSON | {"normalize": False}),
            (1, 8, 8),
        ),
    }
