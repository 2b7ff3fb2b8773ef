"""What a training recipe may say about a blur network. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from daps_kit.settings import AnyPath, Settings, TrainerSettings

if TYPE_CHECKING:
    from daps_kit.trainer import Trainer


class ShakeNetworkSettings(Settings):
    """Size of the network and of its encoder."""

    kernel_dim: int = Field(40, ge=2, le=512, description="length of the code of a blur")
    modes: int = Field(
        16,
        ge=1,
        le=96,
        description="principal components of a shake along each axis, two numbers of the code each",
    )
    radius: int = Field(8, ge=4, multiple_of=4, description="how far a shake reaches from its middle, pixels")
    moments: int = Field(96, ge=8, description="points of the path of a shake")
    width: int = Field(32, ge=1, description="features of the network that finds light beyond white")
    hidden: int = Field(512, ge=1, description="features of the encoder")

    @model_validator(mode="after")
    def _room(self) -> ShakeNetworkSettings:
        if 2 * self.modes > self.kernel_dim or self.modes > self.moments:
            raise ValueError(
                f"kernel_dim ({self.kernel_dim}) must be at least 2 modes, and moments at least modes ({self.modes})"
            )
        return self


class BlurCardSettings(Settings):
    """What is written into the file of weights for those who use it."""

    title: str = Field("", description="name of the network")
    licence: str = Field("", description="licence of the weights")
    attribution: str = Field("", description="credits that the licences of the pictures ask for")
    data: str = Field("", description="what the pictures show")
    limits: str = Field("", description="what the network is not")


class TrainBlur(TrainerSettings):
    """Train the network of nonlinear_blur on pictures of your own, blurred by simulated camera shake."""

    name = "blur"

    images: AnyPath = Field(
        description="a folder, a glob pattern, or a .npz file with a uint8 array `images` [N, H, W, 3]; large pictures "
        "are cut into tiles, at their size and at halves of it"
    )
    validation: int = Field(
        64, ge=1, description="images held out, spread over the whole set, never trained on"
    )
    pictures: AnyPath | None = Field(None, description="further images, given as `images` are, or none")
    validation_pictures: int = Field(2, ge=1, description="how many of the further images are held out")
    frame: int = Field(64, ge=16, multiple_of=4, description="side of the blurred pictures, pixels")
    network: ShakeNetworkSettings = Field(ShakeNetworkSettings(), description="size of the network")
    pairs_seen: int = Field(80_000, ge=1, description="pairs of pictures to train on in all")
    batch_size: int = Field(16, ge=1, description="pairs of pictures a step")
    shakes: int = Field(
        7,
        ge=0,
        description="further shakes for each pair, which train the encoder without pictures of their own",
    )
    learning_rate: float = Field(
        2e-3, gt=0, description="peak of the learning rate, which ends at zero (cosine)"
    )
    warm_up: int = Field(1000, ge=0, description="pairs over which the learning rate rises")
    weight_decay: float = Field(1e-4, ge=0, description="decoupled weight decay of AdamW")
    kernel_loss: float = Field(0.01, ge=0, description="weight of the summed error of kernels")
    path_loss: float = Field(0.01, ge=0, description="weight of the distance between paths, pixels")
    prior_loss: float = Field(
        1e-5,
        ge=0,
        description="weight of the divergence of codes from the normal distribution that drawn codes have",
    )
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    shapes: int = Field(
        4096, ge=1, description="shapes of shakes, which are turned and scaled anew each time"
    )
    validation_pairs: int = Field(
        256, ge=1, description="pairs of held-out images and unseen shakes to measure with"
    )
    seed: int = Field(0, ge=0, description="seed of everything that is drawn")
    epoch: int = Field(8_000, ge=1, description="pairs between two reports")
    checkpoint_seconds: float = Field(60.0, gt=0, description="seconds between two checkpoints")
    card: BlurCardSettings = Field(BlurCardSettings(), description="what is written into the file of weights")

    def build(self) -> Trainer:
        """Return the trainer."""
        from .learner import BlurOptimisation, LossWeights
        from .network import ShakeNetworkConfig
        from .trainer import BlurTrainer

        sources = [(self.images, self.validation)]
        if self.pictures is not None:
            sources.append((self.pictures, self.validation_pictures))
        return BlurTrainer(
            output=self.output,
            sources=tuple(sources),
            frame=self.frame,
            network=ShakeNetworkConfig(**self.network.model_dump()),
            optimisation=BlurOptimisation(
                pairs_seen=self.pairs_seen,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                warm_up=self.warm_up,
                weight_decay=self.weight_decay,
                clip=self.clip,
                seed=self.seed,
            ),
            loss_weights=LossWeights(self.kernel_loss, self.path_loss, self.prior_loss),
            shakes=self.shakes,
            shapes=self.shapes,
            validation_pairs=self.validation_pairs,
            epoch=self.epoch,
            checkpoint_seconds=self.checkpoint_seconds,
            seed=self.seed,
            card=self.card.model_dump(mode="json"),
            settings=self.model_dump(mode="json", exclude={"images", "pictures", "output", "card"}),
        )
