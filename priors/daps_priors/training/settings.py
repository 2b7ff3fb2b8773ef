"""What a training recipe may say about a denoiser. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, Strict, model_validator

from daps_kit.settings import AnyPath, Settings, TrainerSettings

if TYPE_CHECKING:
    from daps_kit.trainer import Trainer

Probability = Annotated[float, Field(ge=0, le=1)]
Width = Annotated[int, Field(ge=8, multiple_of=8)]
Blocks = Annotated[int, Field(ge=1, le=8)]


class NetworkSettings(Settings):
    """Size of the denoiser."""

    components: int = Field(
        128, ge=1, le=4096, description="principal components of the Gaussian (linear) denoiser"
    )
    channels: Annotated[tuple[Width, ...], Strict(False)] = Field(
        (32, 64, 128),
        min_length=1,
        max_length=6,
        description="width of the U-Net at each resolution, finest first",
    )
    blocks: Annotated[tuple[Blocks, ...], Strict(False)] = Field(
        (2, 2, 3),
        min_length=1,
        max_length=6,
        description="residual blocks at each resolution, on the way down and up",
    )
    embedding: int = Field(128, ge=8, description="width of the embedding of the noise level")
    attention: int = Field(2, ge=0, description="self-attention layers at the coarsest resolution")

    @model_validator(mode="after")
    def _one_number_each(self) -> NetworkSettings:
        if len(self.channels) != len(self.blocks):
            raise ValueError(f"channels has {len(self.channels)} resolutions, blocks has {len(self.blocks)}")
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
    learning_rate: float = Field(
        1e-3, gt=0, description="peak of the learning rate, which ends at zero (cosine)"
    )
    warm_up: int = Field(5_000, ge=0, description="images over which the learning rate rises")
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(
        0.05, gt=0, lt=0.25, description="width of the weights' average, relative to the time trained"
    )
    workers: int = Field(
        1, ge=1, le=256, description="one-thread processes that share a batch and average gradients"
    )
    device: str = Field(
        "cpu", description="where to compute, as torch names it; several workers need the cpu"
    )
    bfloat16: bool = Field(
        True,
        description="compute convolutions in bfloat16: faster where the processor has it, slower where not",
    )
    seed: int = Field(
        0, ge=0, description="seed of held-out choice, initial weights, order, noise and augmentation"
    )
    epoch: int | None = Field(
        None, ge=1, description="images between two reports; null: once over the training images"
    )
    checkpoint_seconds: float = Field(120.0, gt=0, description="seconds between two checkpoints")
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
        from .state import Optimisation
        from .trainer import DenoiserTrainer

        written = self.model_dump(mode="json", exclude={"images", "output", "card", "start", "teacher"})
        return DenoiserTrainer(
            output=self.output,
            images=ImageSet(self.images, self.frame + 2 * self.margin, self.validation, self.seed),
            frame=self.frame,
            network=self.network.model_dump(mode="json"),
            levels=NoiseLevels(**self.sigma.model_dump()),
            changes=Augmentation(**self.augment.model_dump()),
            optimisation=Optimisation(
                images_seen=self.images_seen,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                warm_up=self.warm_up,
                weight_decay=self.weight_decay,
                clip=self.clip,
                ema=self.ema,
            ),
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
