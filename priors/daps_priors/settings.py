"""Settings of a prior in a file of weights, of whichever wing it is. Importing this module does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from daps_kit.errors import ComponentError
from daps_kit.settings import FilePath, Shape

from .papers import KARRAS_2022
from .trained.settings import DenoiserSettings

if TYPE_CHECKING:
    import torch

    from daps_kit.contracts import Prior


class Trained(DenoiserSettings):
    """A denoiser trained by `daps-kit train`."""

    name = "trained"
    papers = (KARRAS_2022,)
    path: FilePath = Field(description="the .safetensors file of its weights")
    calibration: FilePath | None = Field(
        None,
        description="measured errors, as `daps-kit calibrate` writes them; in place of its own",
    )

    def build(self, *, shape: Shape | None, device: torch.device) -> Prior:
        """Return the prior.

        Raises:
            daps_kit.errors.UserError: the file is damaged, or its images have another shape.
        """
        from daps_kit import tensor_file
        from daps_kit.calibration import calibrated

        from .photos.prior import load_photos
        from .photos.weights import PhotoDescription
        from .trained.prior import load_trained

        if tensor_file.read(self.path)[1].get("kind") == PhotoDescription.KIND:
            if self.compile or self.calibration:
                raise ComponentError(
                    f"{self.path} is a prior of photographs: it takes no compile and no calibration"
                )
            return load_photos(self.path, shape=shape, device=device, dtype=self.dtype)
        prior = load_trained(self.path, shape=shape, device=device, dtype=self.dtype, compile=self.compile)
        return calibrated(prior, self.calibration)
