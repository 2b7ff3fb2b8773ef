"""Components are found by name, and what is asked for wrongly is explained."""

from __future__ import annotations

import pytest

from daps_kit.discovery import InvalidPluginError
from daps_kit.errors import ComponentError
from daps_kit.hooks import hookspec  # noqa: F401 (the module must load without a plugin)
from daps_kit.registry import Registry
from daps_kit.settings import KernelSettings


class Still(KernelSettings):
    """Stays where it is."""

    name = "still"

    def build(self): ...


def test_unknown_names() -> None:
    registry = Registry.discover(third_parties=False)
    with pytest.raises(
        ComponentError, match=r"unknown operator 'gausian_blur'; there are .*did you mean 'gaussian_blur'\?"
    ):
        registry.find("operator", "gausian_blur")
    with pytest.raises(ComponentError, match="'langevin' is a kernel"):
        registry.find("operator", "langevin")
    with pytest.raises(
        ComponentError, match=r"unknown kernel 'daps-kit/langevim'.*did you mean 'langevin'\?"
    ):
        registry.find("kernel", "daps-kit/langevim")
    with pytest.raises(ComponentError, match="unknown kernel 'elsewhere/langevin'"):
        registry.find("kernel", "elsewhere/langevin")


def test_registering_directly() -> None:
    registry = Registry()
    with registry.extended(Still):
        assert registry.find("kernel", "still").qualified == "local/still"
        assert registry.name_in_recipe(Still) == "local/still"
        with pytest.raises(InvalidPluginError, match="twice"):
            registry.add(Still)
    with pytest.raises(ComponentError, match="unknown kernel 'still'; there are none"):
        registry.find("kernel", "still")
    with pytest.raises(ComponentError, match="Still is not offered by any plugin"):
        registry.component_of(Still())
