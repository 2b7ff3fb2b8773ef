"""An installed plugin is checked component by component."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import Field

from daps_kit.discovery import Plugin
from daps_kit.errors import UserError
from daps_kit.registry import Registry
from daps_kit.testing.plugins import check_plugin, in_words
from tests.host.testing.halved import LIGHT, HalvedSettings


class NeedsPath(HalvedSettings):
    """Half of the image, by a file."""

    name = "needs_path"
    path: str = Field(description="a file")


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.add(HalvedSettings, NeedsPath, distribution="daps-half", version="1.0")
    plugin = Plugin("daps-half:half", "daps-half", "1.0", "half", "ok", provides=tuple(made.components()))
    broken = Plugin(
        "daps-bad:bad", "daps-bad", "2.0", "bad", "broken", error="ImportError: x", remedy="install x"
    )
    made.plugins += [plugin, broken]
    return made


def test_a_plugin_is_checked_component_by_component(registry):
    reports = check_plugin("daps-half", registry)
    lines = in_words(reports)
    assert lines[0].startswith("operator/halved: ")
    assert "1 failed" in lines[0]
    assert "settings_import_is_light" in lines[1]
    assert lines[-1] == (
        "operator/needs_path: not checked, its defaults are not enough (path); its own tests can give more"
    )


def test_one_component_and_a_shape(registry):
    (report,) = check_plugin("operator/halved", registry, shape=(2, 8, 8))
    assert report.skipped == "it cannot be built with its defaults: halved needs 1 or 3 channels"
    (report,) = check_plugin("operator/daps-half/halved", registry, shape=(1, 8, 8))
    assert {o.check for o in report.failed} == set(LIGHT)
    assert replace(report, outcomes=()).failed == ()


def test_a_plugin_that_is_not_there_or_does_not_work(registry):
    with pytest.raises(
        UserError, match=r"no plugin 'daps-halv'; there are daps-bad, daps-half; did you mean 'daps-half'"
    ):
        check_plugin("daps-halv", registry)
    with pytest.raises(UserError, match=r"daps-bad 2.0 is broken: ImportError: x \(install x\)"):
        check_plugin("daps-bad", registry)
