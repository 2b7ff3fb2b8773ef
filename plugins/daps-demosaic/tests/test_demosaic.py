import pytest
import torch

from daps_kit import UserError, build
from daps_kit.testing import parametrize


@parametrize("operator", {"use": "demosaic", "pattern": "GRBG"}, shape=(3, 6, 7))
def test_conformance(check):
    check()


def test_a_cell_has_its_colours():
    image = torch.tensor([0.1, 0.2, 0.3]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    y = build("operator", {"use": "demosaic"}, shape=(3, 2, 2)).forward(image)
    torch.testing.assert_close(y[0, 0], torch.tensor([[0.1, 0.2], [0.2, 0.3]]))


def test_gray_images_are_refused():
    with pytest.raises(UserError, match="3 channels"):
        build("operator", {"use": "demosaic"}, shape=(1, 8, 8))
