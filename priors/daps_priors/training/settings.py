"""What a training recipe may say about a denoiser. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from daps_kit.settings import AnyPath, Settings, TrainerSettings

from .fields import (
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

if TYPE_CHECKING:
    from daps_kit.trainer import Trainer


class NetworkSettings(Settings):
    """Size of the denoiser."""

    components: int = Field(
        128, ge=1, le=4096, description="principal components of the Gaussian (linear) denoiser"
    )
    channels: Widths = Field((32, 64, 128), description="width of the U-Net at each resolution, finest first")
    blocks: Blocks = (2, 2, 3)
    embedding: int = Field(128, ge=8, description="width of the embedding of the noise level")
    attention: int = Field(2, ge=0, description="self-attention layers at the coarsest resolution")

    @model_validator(mode="after")
    def _one_number_each(self) -> NetworkSettings:
        require_one_number_each("channels", self.channels, self.blocks)
        return self

    @property
    def multiple(self) -> int:
        """The number that the side of the frame must be divisible by."""
        return 2 << (len(self.channels) - 1)


class SigmaSettings(Settings):
    """Noise levels seen in training: mostly log-normal, a share uniform in log sigma over the whole range."""

    log_mean: float = Field(-0.6, description="mean of log sigma (natural logarithm)")
    log_std: float = Field(1.4, gt=0, description="standard deviation of log sigma")
    uniform: Probability = Field(0.1, description="share of noise levels drawn uniformly in log sigma")
    minimum: float = Field(0.005, gt=0, description="smallest sigma of the uniform share")
    maximum: float = Field(100.0, gt=0, description="largest sigma of the uniform share")

    @model_validator(mode="after")
    def _ordered(self) -> SigmaSettings:
        if self.minimum >= self.maximum:
            raise ValueError(f"minimum ({self.minimum}) must be below maximum ({self.maximum})")
        return self


class AugmentSettings(Settings):
    """Random changes of the training images. The strong ones fall on a share of the images only."""

    flip: bool = Field(True, description="mirror half of the images left to right")
    jitter: int = Field(
        0, ge=0, le=16, description="largest whole-pixel shift of every image; needs a margin"
    )
    strong: Probability = Field(0.0, description="share of the images that the changes below are made to")
    shift: float = Field(2.5, ge=0, description="standard deviation of the shift, pixels")
    scale: float = Field(0.08, ge=0, lt=1, description="standard deviation of log scale")
    rotation: float = Field(7.0, ge=0, le=180, description="standard deviation of the rotation, degrees")
    colour: float = Field(
        0.35, ge=0, le=2, description="strength of brightness, contrast, gamma, tint and saturation"
    )
    background: Probability = Field(
        0.0,
        description="share of the strong ones whose surroundings are replaced; for aligned portraits only",
    )


class CardSettings(Settings):
    """What is written into the file of weights for those who use it."""

    title: str = Field("", description="name of the prior")
    licence: str = Field("", description="licence of the weights")
    attribution: str = Field("", description="credits that the licences of the images ask for")
    data: str = Field("", description="what the images show, and what they do not")
    limits: str = Field("", description="what the prior must not be used for")


class TrainDenoiser(TrainerSettings):
    """Train a denoiser (a diffusion prior) on images of your own."""

    name = "denoiser"

    images: AnyPath = Field(
        description="a folder, a glob pattern, or a .npz file with a uint8 array `images` [N, H, W, C] (or [N, H, W])"
    )
    start: Literal["embedded"] | AnyPath | None = Field(
        None,
        description="finished weights to start from: a file, or `embedded`; the network here may be larger than theirs",
    )
    teacher: Literal["embedded"] | AnyPath | None = Field(
        None,
        description="finished weights whose guesses are learned in place of the clean images; if augment.flip, the "
        "mean of those for an image and its mirror image",
    )
    frame: int = Field(64, ge=8, description="side of the square images of the prior, pixels")
    margin: int = Field(0, ge=0, description="pixels kept around the frame for shift, scale and rotation")
    validation: int = Field(
        64, ge=1, description="images held out, spread over the whole set, never trained on"
    )
    network: NetworkSettings = Field(NetworkSettings(), description="size of the denoiser")
    sigma: SigmaSettings = Field(SigmaSettings(), description="noise levels seen in training")
    augment: AugmentSettings = Field(AugmentSettings(), description="random changes of the images")
    images_seen: int = Field(
        500_000, ge=1, description="images to train on in all; raise it to train a finished prior further"
    )
    batch_size: int = Field(32, ge=1, description="images a step, over all workers")
    learning_rate: LearningRate = 1e-3
    warm_up: int = Field(5_000, ge=0, description="images over which the learning rate rises")
    weight_decay: WeightDecay = 0.01
    clip: Clip = 1.0
    ema: AverageWidth = 0.05
    workers: int = Field(
        1, ge=1, le=256, description="one-thread processes that share a batch and average gradients"
    )
    device: str = Field(
        "cpu", description="where to compute, as torch names it; several workers need the cpu"
    )
    bfloat16: BFloat16 = True
    seed: int = Field(
        0, ge=0, description="seed of held-out choice, initial weights, order, noise and augmentation"
    )
    epoch: int | None = Field(
        None, ge=1, description="images between two reports; null: once over the training images"
    )
    checkpoint_seconds: CheckpointSeconds = 120.0
    card: CardSettings = Field(CardSettings(), description="what is written into the file of weights")

    @model_validator(mode="after")
    def _fits(self) -> TrainDenoiser:
        if self.frame % self.network.multiple:
            raise ValueError(
                f"frame must be divisible by {self.network.multiple} for this network, not {self.frame}"
            )
        if self.batch_size % self.workers:
            raise ValueError(f"batch_size ({self.batch_size}) must be divisible by workers ({self.workers})")
        if self.augment.jitter > self.margin:
            raise ValueError(f"augment.jitter ({self.augment.jitter}) needs a margin of as many pixels")
        if self.workers > 1 and self.device != "cpu":
            raise ValueError(f"several workers compute on the cpu, not on '{self.device}'")
        return self

    def build(self) -> Trainer:
        """Return the trainer."""
        from .augment import Augmentation
        from .batches import NoiseLevels
        from .dataset import ImageSet
        from .trainer import DenoiserTrainer

        written = self.model_dump(mode="json", exclude={"images", "output", "card", "start", "teacher"})
        return DenoiserTrainer(
            output=self.output,
            images=ImageSet(self.images, self.frame + 2 * self.margin, self.validation, self.seed),
            frame=self.frame,
            network=self.network.model_dump(mode="json"),
            levels=NoiseLevels(**self.sigma.model_dump()),
            changes=Augmentation(**self.augment.model_dump()),
            optimisation=optimisation(self),
            start=self.start,
            teacher=self.teacher,
            workers=self.workers,
            device=self.device,
            bfloat16=self.bfloat16,
            seed=self.seed,
            epoch=self.epoch,
            checkpoint_seconds=self.checkpoint_seconds,
            card=self.card.model_dump(mode="json"),
            settings=written,
        )
