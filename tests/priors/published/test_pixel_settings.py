"""Settings of the priors over pixels."""

from __future__ import annotations

import subprocess
import sys

from daps_priors.published.ddpm import ARCHITECTURES
from daps_priors.published.pixel_settings import ArchitectureSettings
from tests.priors.published.small import TINY


def test_flags_are_those_of_the_architecture():
    assert set(ArchitectureSettings.model_fields) == set(vars(TINY))
    assert set(ARCHITECTURES) == {"ffhq256", "imagenet256"}


def test_settings_do_not_import_torch():
    code = "import sys, daps_priors.published.pixel_settings; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
