"""deepinv in daps-kit: its physics as operators, its denoisers as priors. Importing this module imports neither torch
nor deepinv."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from daps_kit.hooks import hookimpl
from daps_kit.settings import (
    DrawnOperatorSettings,
    FilePath,
    FloatRange,
    Paper,
    PriorSettings,
    Settings,
    resolve_path,
)

if TYPE_CHECKING:
    import torch

    from daps_kit.contracts import Operator, Prior


def _with_files(value: Any) -> Any:
    """Return arguments with the paths of `{file: path}` made absolute; a file that is not there is an error."""
    if isinstance(value, dict):
        if set(value) == {"file"}:
            path = resolve_path(value["file"])
            if not path.is_file():
                raise ValueError(f"no such file: {path}")
            return {"file": str(path)}
        return {str(key): _with_files(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_files(item) for item in value]
    return value


Arguments = Annotated[dict[str, Any], BeforeValidator(_with_files)]
"""Arguments by name; a value may be `{use: name, ...}`, something else of deepinv, or `{file: path}`, a tensor."""


TACHELLA_2025 = Paper(
    "tachella2025",
    "DeepInverse: A Python package for solving imaging inverse problems with deep learning",
    ("Tachella, Julián", "Terris, Matthieu", "Hurault, Samuel", "Wang, Andrew", "others"),
    2025,
    arxiv="2505.20160",
)
"""What to cite of deepinv; the model behind a physics or a denoiser has papers of its own."""

LEVELS = {
    "GaussianNoise": ("sigma",),
    "LaplaceNoise": ("b",),
    "PoissonNoise": ("gain",),
    "PoissonGaussianNoise": ("gain", "sigma"),
}
"""The noise models of deepinv whose likelihood is known here, and what says how much noise there is."""


class DeepinvNoise(Settings):
    """A noise model of deepinv, on its scale, where images lie in [0, 1]."""

    use: Literal["GaussianNoise", "LaplaceNoise", "PoissonNoise", "PoissonGaussianNoise"] = Field(
        description="its name"
    )
    sigma: float | None = Field(
        None,
        gt=0,
        description="standard deviation of GaussianNoise, and of the read noise of PoissonGaussianNoise",
    )
    b: float | None = Field(None, gt=0, description="scale of LaplaceNoise")
    gain: float | None = Field(
        None, gt=0, description="gain of PoissonNoise and PoissonGaussianNoise: 1 / expected counts at 1"
    )
    normalize: bool = Field(True, description="whether PoissonNoise multiplies its counts by the gain")

    @model_validator(mode="after")
    def _stated(self) -> DeepinvNoise:
        wanted = LEVELS[self.use]
        for level in ("sigma", "b", "gain"):
            if level in wanted and getattr(self, level) is None:
                raise ValueError(f"{self.use} needs its {level}")
            if level not in wanted and getattr(self, level) is not None:
                raise ValueError(f"{self.use} has no {level}, but a {' and a '.join(wanted)}")
        return self

    @property
    def call(self) -> dict[str, Any]:
        """The arguments of the noise model."""
        levels = {level: getattr(self, level) for level in LEVELS[self.use]}
        return levels | ({"normalize": self.normalize} if self.use == "PoissonNoise" else {})


class DeepinvPhysics(DrawnOperatorSettings):
    """Any forward model of deepinv: MRI, tomography, single-pixel cameras, pansharpening and many more."""

    name = "deepinv"
    papers = (TACHELLA_2025,)
    physics: str = Field(description="class of deepinv.physics, such as MRI or Tomography")
    arguments: Arguments = Field(
        default_factory=dict,
        description="its arguments; img_size, device and rng are known. A value may be {use: name, ...}, something "
        "else of deepinv such as a filter, or {file: path}, a tensor",
    )
    generator: Arguments | None = Field(
        None,
        description="what draws its parameters, such as a mask: {use: name, ...} of deepinv.physics.generator",
    )
    noise: DeepinvNoise | None = Field(  # type: ignore[assignment]
        None,
        description="its noise model, on deepinv's scale of [0, 1]; the physics' own where not given, never a guess",
    )
    image: Literal["auto", "together", "apart", "real", "complex"] = Field(
        "auto",
        description="how the physics takes an image. together: as it is; apart: each channel alone; real: each "
        "channel alone, as the real part of a complex image in two channels; complex: as complex numbers. auto: real "
        "for MRI of images without two channels, complex where the physics has complex parameters, else together",
    )

    @property
    def per_image(self) -> bool:
        """Whether each image has an operator of its own: where that is asked for and something is drawn."""
        if self.draw == "shared":
            return False
        from .recipes import draws

        return self.generator is not None or draws(self.physics)

    def build(self, *, shape: tuple[int, int, int], seed: int, device: torch.device) -> Operator:
        """Return the operator."""
        from .recipes import build_operator

        return build_operator(self, shape, seed, device)


class DeepinvDenoiser(PriorSettings):
    """Any denoiser of deepinv, within the noise levels it knows."""

    name = "deepinv"
    papers = (TACHELLA_2025,)
    denoiser: str = Field(description="class of deepinv.models, such as DRUNet or TVDenoiser")
    arguments: Arguments = Field(
        default_factory=dict,
        description="its arguments; device is known, and the channels where the images' are",
    )
    weights: FilePath | None = Field(
        None, description="file of its weights, .safetensors or .pt; what deepinv takes where not given"
    )
    sigma_range: FloatRange | None = Field(
        None,
        description="noise levels [low, high] it was trained for, on deepinv's scale of [0, 1]; known for some "
        "denoisers, and needed for the others",
    )

    def build(self, *, shape: tuple[int, int, int] | None, device: torch.device) -> Prior:
        """Return the prior."""
        from .recipes import build_prior

        return build_prior(self, shape, device)


@hookimpl
def daps_operators() -> list[type[DeepinvPhysics]]:
    """Return the operator."""
    return [DeepinvPhysics]


@hookimpl
def daps_priors() -> list[type[DeepinvDenoiser]]:
    """Return the prior."""
    return [DeepinvDenoiser]
