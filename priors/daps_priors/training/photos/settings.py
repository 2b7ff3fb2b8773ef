"""What a training recipe may say about a prior of photographs. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, Strict, model_validator

from daps_kit.settings import AnyPath, Settings, TrainerSettings

from ..fields import (
    AverageWidth,
    BFloat16,
    Blocks,
    CheckpointSeconds,
    Clip,
    LearningRate,
    Probability,
    WeightDecay,
    Widths,
    optimisation,
    require_one_number_each,
)
from ..settings import CardSettings, SigmaSettings

if TYPE_CHECKING:
    from daps_kit.trainer import Trainer

Scale = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0)]], Strict(False)]

UNIT = 64
"""Side of the patch that trainings are counted in, pixels."""


class PhotoNetworkSettings(Settings):
    """Size of the network."""

    widths: Widths = Field(
        (64, 96, 128, 144),
        description="width of the U-Net at each resolution, finest (half the picture's) first",
    )
    blocks: Blocks = (2, 2, 2, 1)
    embedding: int = Field(96, ge=8, description="width of the embedding of the noise level")

    @model_validator(mode="after")
    def _one_number_each(self) -> PhotoNetworkSettings:
        require_one_number_each("widths", self.widths, self.blocks)
        return self

    @property
    def multiple(self) -> int:
        """The number that the sides of patches must be divisible by."""
        return 2 << (len(self.widths) - 1)


class ChangeSettings(Settings):
    """Random changes of the patches; all of them are mirrored and turned as well."""

    permute: Probability = Field(0.4, description="share whose colours are exchanged at random")
    colour: Probability = Field(
        0.6, description="share with another contrast, brightness, saturation and tint"
    )


class TrainPhotos(TrainerSettings):
    """Train a prior of photographs of any size on pictures of your own."""

    name = "photos"

    images: AnyPath = Field(
        description="a folder or glob of pictures, or a .csv file beside them with the columns `file` and `split` "
        "(train, validation, or another for those left out), and for the card `credit`, `licence`, `original`"
    )
    channels: Literal[1, 3] = Field(3, description="1: grey pictures; 3: colour")
    start: AnyPath | None = Field(
        None, description="weights of the same network to start from: a .safetensors file of a trained prior"
    )
    seen_before: int = Field(
        0, ge=0, description="patches of 64 x 64 that those weights have seen, for the record"
    )
    validation: int = Field(
        10, ge=1, description="pictures held out of a folder or glob, spread over it, never trained on"
    )
    validation_side: int = Field(
        192, ge=8, description="side of the central square of held-out pictures that is measured"
    )
    scales: Annotated[tuple[Scale, ...], Strict(False)] = Field(
        ((1.0, 1.0), (0.7, 0.5), (0.5, 0.7), (0.35, 0.3)),
        min_length=1,
        description="scales at which pictures are seen, each with its weight",
    )
    cap: int = Field(
        600_000,
        ge=1,
        description="pixels beyond which a picture gives no more patches, so that large ones do not dominate",
    )
    power: float = Field(
        0.75, ge=0, le=1, description="exponent: the share of a picture is its number of pixels to this power"
    )
    sizes: Annotated[tuple[Annotated[int, Field(ge=8)], ...], Strict(False)] = Field(
        (64, 128, 128, 256),
        min_length=1,
        description="sides of patches; a step has one of them, drawn at random",
    )
    network: PhotoNetworkSettings = Field(PhotoNetworkSettings(), description="size of the network")
    sigma: SigmaSettings = Field(
        SigmaSettings(log_mean=-1.5, log_std=1.3, uniform=0.0, minimum=0.003, maximum=60.0),
        description="noise levels seen in training, none of them beyond minimum and maximum",
    )
    changes: ChangeSettings = Field(ChangeSettings(), description="random changes of the patches")
    images_seen: int = Field(
        500_000,
        ge=0,
        description="patches of 64 x 64 to train on in all; 0: the weights to start from are measured and written",
    )
    batch_size: int = Field(
        32, ge=1, description="a step has as many pixels as so many patches of 64 x 64; larger ones are fewer"
    )
    learning_rate: LearningRate = 2e-3
    warm_up: int = Field(10_000, ge=0, description="patches over which the learning rate rises")
    weight_decay: WeightDecay = 0.01
    clip: Clip = 1.0
    ema: AverageWidth = 0.05
    device: str = Field("cpu", description="where to compute, as torch names it")
    bfloat16: BFloat16 = True
    compile: bool = Field(False, description="compile the network (torch.compile): needs a C++ compiler")
    seed: int = Field(0, ge=0, description="seed of held-out choice, initial weights, patches and noise")
    epoch: int = Field(20_000, ge=1, description="patches between two reports")
    head: int = Field(
        0,
        ge=0,
        description="patches of so many steps are denoised in the end to fit a head, which tells what the denoiser "
        "leaves open in the picture at hand; 0: none",
    )
    checkpoint_seconds: CheckpointSeconds = 120.0
    card: CardSettings = Field(CardSettings(), description="what is written into the file of weights")

    @model_validator(mode="after")
    def _fits(self) -> TrainPhotos:
        unit = self.network.multiple
        for size in self.sizes:
            if size % unit:
                raise ValueError(f"sizes must be divisible by {unit} for this network, not {size}")
        if max(self.sizes) ** 2 > self.batch_size * UNIT**2:
            raise ValueError(
                f"a step of {self.batch_size} patches of {UNIT} x {UNIT} has fewer pixels than one of {max(self.sizes)}"
            )
        if self.images_seen == 0 and self.start is None:
            raise ValueError("with images_seen 0 there must be weights to start from (start)")
        return self

    def build(self) -> Trainer:
        """Return the trainer."""
        from ..batches import NoiseLevels
        from .patches import Patches
        from .pictures import PictureSet
        from .trainer import PhotoTrainer

        written = self.model_dump(mode="json", exclude={"images", "output", "card", "start", "seen_before"})
        return PhotoTrainer(
            output=self.output,
            pictures=PictureSet(
                self.images, self.channels, self.validation, self.validation_side, self.scales, self.seed
            ),
            patches=Patches(
                sizes=self.sizes,
                pixels=self.batch_size * UNIT**2,
                cap=self.cap,
                power=self.power,
                permute=self.changes.permute,
                colour=self.changes.colour,
                levels=NoiseLevels(**self.sigma.model_dump()),
                seed=self.seed,
            ),
            network=self.network.model_dump(mode="json"),
            optimisation=optimisation(self),
            start=self.start,
            seen_before=self.seen_before,
            device=self.device,
            bfloat16=self.bfloat16,
            compile=self.compile,
            epoch=self.epoch,
            checkpoint_seconds=self.checkpoint_seconds,
            card=self.card.model_dump(mode="json"),
            head=self.head,
            settings=written,
        )
