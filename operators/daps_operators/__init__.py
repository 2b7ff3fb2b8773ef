"""The forward models that ship with daps-kit: their settings, and the door through which the host finds them.

Importing this module does not import torch; each `build` imports the file of its family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from daps_kit.discovery import BUILTIN
from daps_kit.errors import UserError, did_you_mean
from daps_kit.hooks import hookimpl
from daps_kit.paths import existing_file, readable_file
from daps_kit.settings import (
    DrawnOperatorSettings,
    FloatRange,
    GaussianNoiseSettings,
    IntRange,
    NoiseSettings,
    OperatorSettings,
    Shape,
    TrainerSettings,
    resolve_path,
)
from daps_kit.sources import Source
from daps_kit.unknown import Uniform

from .noises import Laplace, Poisson, PoissonGaussian, Student
from .nonlinear_blur import PUBLISHED, TrainBlur
from .papers import BORODENKO_2019, CHUNG_2023, DUCHON_1979, KEYS_1981, TRAN_2021, WIDROW_1996

if TYPE_CHECKING:
    import torch

    from daps_kit.contracts import Operator


def _one_of_or_file(*names: str, suffixes: tuple[str, ...] = ()) -> BeforeValidator:
    """Accept one of the names, or the path of a file: with one of the suffixes, or of any format that is read."""

    def validate(value: Any) -> Any:
        if isinstance(value, str) and value in names:
            return str(value)
        path = resolve_path(value)
        allowed = ", ".join(repr(name) for name in names)
        if (
            not isinstance(path, Path)
            or not path.suffix
            or (suffixes and path.suffix.lower() not in suffixes)
        ):
            files = f"a {' or '.join(suffixes)} file" if suffixes else "a file, such as one.npy or one.png"
            raise ValueError(f"{str(value)!r} is not {allowed} or {files}{did_you_mean(value, names)}")
        return existing_file(value) if suffixes else readable_file(value)

    return BeforeValidator(validate)


BoundaryField = Annotated[
    Literal["reflect", "periodic", "zero", "valid"],
    Field(
        description="what lies beyond the border: the mirrored image (edge not repeated), the image again, the value 0 "
        "(grey), or nothing, so that only what the kernel sees whole is measured"
    ),
]


def _odd(value: int | None) -> int | None:
    if value is not None and value % 2 == 0:
        raise ValueError(f"{value} is even; allowed: odd sizes, such as {value + 1}, whose middle is a pixel")
    return value


class Identity(OperatorSettings):
    """Denoising: the image itself is measured.

    y is [C, H, W] like the image, on [-1, 1].
    """

    name = "identity"

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator."""
        from .mask import Identity

        return Identity(shape, self.noise.build())


class Inpainting(DrawnOperatorSettings):
    """Inpainting: some pixels are hidden, by a box, at random, or by a mask of the user's own.

    y is [C, H, W] like the image, on [-1, 1]; what stands at hidden pixels does not count and may be NaN. A mask from a
    file keeps what is white (not 0) and hides what is black (0) or transparent, unless `mask_is` says otherwise.
    """

    name = "inpainting"
    mask: Annotated[Literal["box", "random"] | Path, _one_of_or_file("box", "random")] = Field(
        "box",
        description="'box', 'random', or a file: an array or a picture of the images' size, [H, W] or [C, H, W] "
        "(0, black or transparent: hidden)",
    )
    mask_len_range: IntRange | None = Field(
        None, description="side of the box in pixels, low <= side < high; half of the image where not given"
    )
    mask_is: Literal["kept", "hidden"] = Field(
        "kept",
        description="what is white, or 1, in a mask from a file: pixels that are kept, or that are hidden",
    )
    margin: int | None = Field(
        None,
        ge=0,
        description="least distance of the box from the border; an eighth of the image where not given",
    )
    mask_prob_range: FloatRange = Field(
        (0.70, 0.71), description="share of pixels hidden at random, drawn uniformly from low to high"
    )

    @field_validator("mask_len_range")
    @classmethod
    def _sides(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not 0 < value[0] < value[1]:
            raise ValueError(f"{list(value)} is no range; allowed: [low, high] with 1 <= low < high")
        return value

    @field_validator("mask_prob_range")
    @classmethod
    def _shares(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] < 1:
            raise ValueError(f"{list(value)} is no range; allowed: [low, high] with 0 <= low <= high < 1")
        return value

    @property
    def per_image(self) -> bool:
        """Whether each image has a mask of its own; never so for a mask from a file."""
        return self.draw == "per_image" and isinstance(self.mask, str)

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator with its mask."""
        from .mask import build_inpainting

        return build_inpainting(
            shape,
            self.noise.build(),
            self.mask,
            side=self.mask_len_range,
            margin=self.margin,
            share=self.mask_prob_range,
            mask_is=self.mask_is,
            seed=seed,
            device=device,
        )


class DownSampling(OperatorSettings):
    """Down-sampling: the image is resized to a coarser grid, antialiased.

    y is [C, ceil(H / s), ceil(W / s)] for the scale factor s, on [-1, 1] like the image. At the border the image is
    mirrored with its edge repeated. It is MATLAB's imresize(x, 1 / s) where s divides H and W, or with `grid: corner`.
    """

    name = "down_sampling"
    unknowable: ClassVar = {"phase_x": None, "phase_y": None}
    papers = (KEYS_1981,)
    scale_factor: int | float = Field(
        4, gt=1, le=10_000, description="how many times fewer pixels along each side"
    )
    kernel: Literal["cubic", "lanczos2", "lanczos3", "box", "linear"] = Field(
        "cubic", description="interpolation kernel"
    )
    antialiasing: bool = Field(True, description="whether the kernel is stretched to the coarse grid")
    grid: Literal["centred", "corner"] = Field(
        "centred",
        description="where the grids meet if the scale factor does not divide the sides: at their centres, or at the "
        "upper left corner as in MATLAB",
    )
    phase_x: float = Field(
        0.0,
        ge=-100,
        le=100,
        description="by how far the coarse grid lies to the right of that, in pixels of the image",
    )
    phase_y: float = Field(
        0.0, ge=-100, le=100, description="by how far it lies below, in pixels of the image"
    )

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator."""
        from .down_sampling import DownSampling

        noise = self.noise.build()
        return DownSampling(
            shape,
            noise,
            self.scale_factor,
            self.kernel,
            self.antialiasing,
            self.grid,
            phase=(self.phase_y, self.phase_x),
        )


class GaussianBlur(OperatorSettings):
    """Gaussian blur: every pixel is spread by a Gaussian of sum 1.

    y is [C, H, W] like the image, on [-1, 1] (smaller where the boundary is `valid`). The kernel is its own mirror
    image, so convolution and correlation are one.
    """

    name = "gaussian_blur"
    unknowable: ClassVar = {"intensity": None}
    kernel_size: int = Field(61, ge=1, le=4001, description="pixels along a side of the kernel, odd")
    intensity: float = Field(3.0, gt=0, le=1000, description="standard deviation of the Gaussian, in pixels")
    boundary: BoundaryField = "reflect"

    _kernel_size = field_validator("kernel_size")(_odd)

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator."""
        from .gaussian_blur import GaussianBlur

        return GaussianBlur(shape, self.noise.build(), self.kernel_size, self.intensity, self.boundary)


class KernelPrior(BaseModel):
    """What is known of a kernel that is not."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    size: int = Field(21, ge=3, le=61, description="pixels along a side that it does not exceed, odd")

    _size = field_validator("size")(_odd)


class UnknownKernel(BaseModel):
    """A kernel that is not known: any numbers that are not negative, of sum 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    unknown: KernelPrior = Field(description="what is known of it")


class MotionBlur(DrawnOperatorSettings):
    """Motion blur: a random path of camera shake, or a kernel of the user's own.

    y is [C, H, W] like the image, on [-1, 1] (smaller where the boundary is `valid`). A kernel from a file is a
    point-spread function: it is convolved with the image, so that it is the picture of a point; with
    `kernel_is: correlation` it has the weights of the pixels around each. Its middle is at (h // 2, w // 2). Random
    kernels are correlated, and so is an unknown one; a simulated measurement then has a random one of its size.
    """

    name = "motion_blur"
    papers = (BORODENKO_2019,)
    kernel: UnknownKernel | Annotated[Literal["random"] | Path, _one_of_or_file("random")] = Field(
        "random",
        description="'random', or a file with a kernel, an array or a picture, which is scaled to sum 1; or "
        "{unknown: {size: 21}}, which is found together with the image",
    )
    kernel_is: Literal["psf", "correlation"] = Field(
        "psf",
        description="what a kernel from a file is: the picture of a point, which is convolved, or the weights of the "
        "pixels around each, which are correlated; one is the other turned by 180 degrees",
    )
    kernel_size: int = Field(61, ge=3, le=4001, description="pixels along a side of a random kernel, odd")
    intensity: float = Field(0.5, ge=0, le=1, description="0: a smooth path, 1: a shaky one")
    boundary: BoundaryField = "reflect"

    _kernel_size = field_validator("kernel_size")(_odd)

    @model_validator(mode="after")
    def _whole(self) -> MotionBlur:
        if isinstance(self.kernel, UnknownKernel) and self.boundary == "valid":
            raise ValueError("an unknown kernel needs a boundary; allowed: reflect, periodic, zero")
        return self

    @property
    def per_image(self) -> bool:
        """Whether each image has a kernel of its own; never so for a kernel from a file."""
        return self.draw == "per_image" and not isinstance(self.kernel, Path)

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator with its kernel."""
        from .motion_blur import build_motion_blur, build_unknown

        if isinstance(self.kernel, UnknownKernel):
            size = self.kernel.unknown.size
            return build_unknown(shape, self.noise.build(), size, self.intensity, self.boundary, seed=seed)
        return build_motion_blur(
            shape,
            self.noise.build(),
            self.kernel,
            kernel_size=self.kernel_size,
            intensity=self.intensity,
            kernel_is=self.kernel_is,
            boundary=self.boundary,
            seed=seed,
        )


KernelSize = Annotated[
    int | None,
    Field(
        ge=1,
        le=4001,
        description="pixels along a side of the kernel, odd; as many as it needs where not given, but the boundary "
        "'valid' needs it, as it says how much is measured",
    ),
]


class LinearMotionBlur(OperatorSettings):
    """Linear motion blur: the camera, or all that it sees, moves along a line at constant speed.

    y is [C, H, W] like the image, on [-1, 1] (smaller where the boundary is `valid`). The kernel is a line one pixel
    wide whose edges fade over a pixel, of sum 1; it is its own mirror image, so convolution and correlation are one.
    """

    name = "linear_motion_blur"
    unknowable: ClassVar = {"length": None, "angle": Uniform(low=0.0, high=180.0)}
    periods: ClassVar = {"angle": 180.0}
    length: float = Field(15.0, ge=1, le=2000, description="of the line, in pixels; 1 is no motion")
    angle: float = Field(
        0.0,
        ge=-360,
        le=360,
        description="of the line against the horizontal, in degrees, counter-clockwise: 90 is upright, 30 rises to the "
        "right; 180 more is the same",
    )
    kernel_size: KernelSize = None
    boundary: BoundaryField = "reflect"

    _kernel_size = field_validator("kernel_size")(_odd)

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator."""
        from .linear_motion import linear_motion
        from .motion_blur import build_shaped

        taps = linear_motion(self.length, self.angle)
        return build_shaped(shape, self.noise.build(), taps, self.kernel_size, self.boundary)


class DefocusBlur(OperatorSettings):
    """Defocus blur: a lens out of focus spreads every pixel over a disc.

    y is [C, H, W] like the image, on [-1, 1] (smaller where the boundary is `valid`). A pixel of the kernel is the
    share of the disc that it covers, so that every radius has one of its own; it is its own mirror image.
    """

    name = "defocus_blur"
    unknowable: ClassVar = {"radius": None}
    radius: float = Field(3.0, gt=0, le=1000, description="of the disc, in pixels; up to 0.5 is in focus")
    kernel_size: KernelSize = None
    boundary: BoundaryField = "reflect"

    _kernel_size = field_validator("kernel_size")(_odd)

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator."""
        from .defocus import disc
        from .motion_blur import build_shaped

        return build_shaped(shape, self.noise.build(), disc(self.radius), self.kernel_size, self.boundary)


class HighDynamicRange(OperatorSettings):
    """High dynamic range: the image is over-exposed and clipped.

    y = clip(scale x, -1, saturation) for the image x on [-1, 1], [C, H, W].
    """

    name = "high_dynamic_range"
    unknowable: ClassVar = {"scale": None, "saturation": None}
    scale: float = Field(2.0, gt=0, description="exposure; values beyond 1 / scale are clipped")
    saturation: float = Field(
        1.0, gt=-1, le=1e6, description="the value beyond which light makes no difference"
    )

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator."""
        from .high_dynamic_range import HighDynamicRange

        return HighDynamicRange(shape, self.noise.build(), self.scale, self.saturation)


class Affine(OperatorSettings):
    """Affine intensities: an exposure, and what a sensor adds to every pixel.

    y = scale x + offset for the image x on [-1, 1], [C, H, W].
    """

    name = "affine"
    unknowable: ClassVar = {"scale": None, "offset": None}
    scale: float = Field(1.0, gt=0, le=1e6, description="by which values are multiplied")
    offset: float = Field(0.0, ge=-1e6, le=1e6, description="what is added to them then")

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator, which is linear where nothing is added."""
        from .affine import Affine, Gain

        noise = self.noise.build()
        return (
            Affine(shape, noise, self.scale, self.offset) if self.offset else Gain(shape, noise, self.scale)
        )


Surroundings = Annotated[
    Literal["reflect", "periodic", "zero"],
    Field(
        description="what lies beyond the border: the mirrored image (edge not repeated), the image again, or the "
        "value 0 (grey)"
    ),
]


class Shift(OperatorSettings):
    """Shift: the image is moved, by parts of a pixel where they are said.

    y is [C, H, W] like the image, on [-1, 1].
    """

    name = "shift"
    papers = (DUCHON_1979,)
    unknowable: ClassVar = {"x": None, "y": None}
    x: float = Field(0.0, ge=-2000, le=2000, description="to the right, in pixels")
    y: float = Field(0.0, ge=-2000, le=2000, description="downwards, in pixels")
    boundary: Surroundings = "reflect"

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator."""
        from .shift import Shift

        return Shift(shape, self.noise.build(), self.x, self.y, self.boundary)


class Rotation(OperatorSettings):
    """Rotation: the image is turned about its middle, by any angle.

    y is [C, H, W] like the image, on [-1, 1].
    """

    name = "rotation"
    papers = (KEYS_1981,)
    unknowable: ClassVar = {"angle": None}
    periods: ClassVar = {"angle": 360.0}
    angle: float = Field(0.0, ge=-360, le=360, description="in degrees, counter-clockwise")
    boundary: Surroundings = "reflect"

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator."""
        from .rotation import Rotation

        return Rotation(shape, self.noise.build(), self.angle, self.boundary)


class Chain(OperatorSettings):
    """Chain: operators one after the other, such as a blur, a shift and an exposure.

    y is what the last of them gives, [C, h, w] or of another shape. What is unknown of them is called by their places:
    `operators.0.length`.
    """

    name = "chain"
    operators: tuple[OperatorSettings, ...] = Field(
        (Identity(),),
        min_length=1,
        max_length=20,
        description="the operators, the first of the image; noise is that of the chain",
    )

    @field_validator("operators")
    @classmethod
    def _without_noise(cls, value: tuple[OperatorSettings, ...]) -> tuple[OperatorSettings, ...]:
        for place, operator in enumerate(value):
            if operator.noise != type(operator).model_fields["noise"].get_default(call_default_factory=True):
                raise ValueError(
                    f"operators.{place} has noise; it belongs to the chain, which is measured at its end"
                )
            if isinstance(operator, Jpeg):
                raise ValueError(
                    f"operators.{place} is jpeg, whose noise differs from number to number: no chain can"
                )
            if isinstance(operator, MotionBlur) and isinstance(operator.kernel, UnknownKernel):
                raise ValueError(f"operators.{place} has a whole kernel that is unknown, which no chain can")
        return value

    @property
    def per_image(self) -> bool:
        """Whether each image has operators of its own."""
        return any(operator.per_image for operator in self.operators)

    def checkpoints(self) -> tuple[str, ...]:
        """Return the published checkpoints of the operators."""
        return tuple(name for operator in self.operators for name in operator.checkpoints())

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the chain, what is random in each operator drawn from a seed of its own."""
        from .chain import build_chain

        def built(place: int, settings: OperatorSettings) -> Callable[[Shape], Operator]:
            return lambda shape: settings.build(shape=shape, seed=seed + place, device=device)

        builds = [built(place, settings) for place, settings in enumerate(self.operators)]
        return build_chain(shape, self.noise.build(), builds, device)


class Jpeg(OperatorSettings):
    """JPEG: a noisy picture was saved in a file that keeps brightness and colours in steps.

    y is [C, H, W] like the image, in another orthonormal basis, in which the noise of the picture is as white as it was
    and what was rounded more has more noise; details of colours that the file does not have are not observed. The
    coding is that of a file, or that of a quality and a sampling as most programs write them.
    """

    name = "jpeg"
    papers = (WIDROW_1996,)
    file: Annotated[Path, BeforeValidator(readable_file)] | None = Field(
        None, description="a JPEG file, whose steps, sampling and orientation count"
    )
    quality: int = Field(75, ge=1, le=100, description="where there is no file: of the coding")
    sampling: Literal["4:4:4", "4:2:2", "4:2:0"] = Field(
        "4:2:0",
        description="where there is no file: of the colours, at all pixels, at every second or every fourth",
    )

    @model_validator(mode="after")
    def _known(self) -> Jpeg:
        noise = self.noise
        plain = isinstance(noise, GaussianNoiseSettings) and isinstance(noise.sigma, float)
        if not plain or noise.left_open or noise.quantised is not None or noise.clipped is not None:
            raise ValueError(
                "jpeg needs gaussian noise with one sigma, which is known; its own rounding is added"
            )
        return self

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator."""
        from daps_kit.jpeg import read_coding, usual_coding

        from .jpeg import Jpeg

        if self.file is None:
            coding = usual_coding(self.quality, self.sampling, grey=shape[0] == 1)
        elif (found := read_coding(self.file)) is None:
            raise UserError(
                f"operator.file: {self.file} is no JPEG file with the usual colours and samplings"
            )
        else:
            coding = found
        assert isinstance(self.noise, GaussianNoiseSettings)
        assert isinstance(self.noise.sigma, float)
        return Jpeg(shape, self.noise.sigma, coding, device)


class PhaseRetrieval(OperatorSettings):
    """Phase retrieval: only the modulus of the Fourier transform is measured.

    y = |F P (x + 1) / 2|: the image counts on [0, 1], each channel by itself, with zeros around it; F is orthonormal,
    with frequency 0 in the middle. y is [C, H + 2 p_h, W + 2 p_w] with p_h = int(oversample / 8 * H) and p_w alike, not
    negative, and largest at frequency 0. Other customs are settings: `centred`, `norm`, `values`; noise is in the units
    of y.
    """

    name = "phase_retrieval"
    oversample: float = Field(
        2.0,
        ge=0,
        le=64,
        description="zeros around the image, in eighths of its height and width on each side",
    )
    centred: bool = Field(
        True, description="whether frequency 0 is in the middle (fftshift), or in the corner"
    )
    norm: Literal["ortho", "none"] = Field(
        "ortho",
        description="orthonormal transform, or the sum without a factor, as numpy.fft.fft2: sqrt(pixels) times larger",
    )
    values: Literal["modulus", "intensity"] = Field(
        "modulus", description="what is measured: the modulus, or its square"
    )

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator."""
        from .phase_retrieval import PhaseRetrieval

        return PhaseRetrieval(
            shape,
            self.noise.build(),
            self.oversample,
            centred=self.centred,
            norm=self.norm,
            values=self.values,
        )


class NonlinearBlur(DrawnOperatorSettings):
    """Nonlinear blur: a network that learnt what shaken cameras do, steered by a kernel code.

    y is [C, H, W] like the image, on [-1, 1].
    """

    name = "nonlinear_blur"
    papers = (TRAN_2021, CHUNG_2023)
    weights: Annotated[
        Literal["embedded", "published"] | Path,
        _one_of_or_file("embedded", "published", suffixes=(".pth", ".safetensors")),
    ] = Field(
        "embedded",
        description="'embedded' (small, shakes of up to 16 pixels; comes with the package), 'published' "
        "(GOPRO_wVAE.pth in the cache folder), or a .pth or .safetensors file, such as `daps-kit train` writes",
    )
    kernel: Annotated[
        Literal["published", "random"] | Path, _one_of_or_file("published", "random", suffixes=(".npy",))
    ] = Field(
        "published",
        description="code of the blur: 'published' (the same for every seed), 'random', or a .npy file",
    )
    kernel_scale: float = Field(1.2, gt=0, description="standard deviation of a drawn code")

    @property
    def per_image(self) -> bool:
        """Whether each image has a kernel code of its own; only a random one can be."""
        return self.draw == "per_image" and self.kernel == "random"

    def files(self) -> list[Path]:
        """Return the files of the weights and of the code; weights that are fetched are checked by their record."""
        shipped = (
            [Path(__file__).parent / "weights" / "blur64.safetensors"] if self.weights == "embedded" else []
        )
        return shipped + super().files()

    def checkpoints(self) -> tuple[str, ...]:
        """Return the published weights, where these are asked for."""
        return (f"{BUILTIN}/{PUBLISHED.name}",) if self.weights == "published" else ()

    def build(self, *, shape: Shape, seed: int, device: torch.device) -> Operator:
        """Return the operator with its network and its kernel code."""
        from .nonlinear_blur.operator import build_nonlinear_blur

        return build_nonlinear_blur(
            shape,
            self.noise.build(),
            self.weights,
            self.kernel,
            kernel_scale=self.kernel_scale,
            seed=seed,
            device=device,
        )


@hookimpl
def daps_operators() -> Iterable[type[OperatorSettings]]:
    """Return the settings of the forward models of this package."""
    return [
        Identity,
        Inpainting,
        DownSampling,
        GaussianBlur,
        MotionBlur,
        LinearMotionBlur,
        DefocusBlur,
        HighDynamicRange,
        Affine,
        Shift,
        Rotation,
        Chain,
        Jpeg,
        PhaseRetrieval,
        NonlinearBlur,
    ]


@hookimpl
def daps_noises() -> Iterable[type[NoiseSettings]]:
    """Return the settings of the noise models that ship."""
    return [GaussianNoiseSettings, Poisson, PoissonGaussian, Laplace, Student]


@hookimpl
def daps_trainers() -> Iterable[type[TrainerSettings]]:
    """Return the settings of what `daps-kit train` trains here."""
    return [TrainBlur]


@hookimpl
def daps_checkpoints() -> Iterable[Source]:
    """Return where published weights of these operators can be fetched."""
    return [PUBLISHED]
