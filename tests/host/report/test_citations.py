"""The papers of a recipe."""

from __future__ import annotations

from daps_kit.papers import Paper
from daps_kit.registry import default_registry
from daps_kit.report.citations import SOFTWARE, papers_of
from daps_kit.settings import KernelSettings

OWN = Paper("own2026", "A kernel of my own", ("Me, Myself",), 2026)


class Mine(KernelSettings):
    """A kernel that names a paper."""

    name = "mine"
    papers = (OWN,)

    def build(self):
        raise NotImplementedError


RECIPE = """\
format: 1
data: {use: prior, count: 2}
prior: {use: gaussian}
operator: {use: identity}
sampler: {use: daps, annealing: {use: edm, levels: 3}, kernel: {use: KERNEL}}
"""


def test_the_method_first_then_its_parts_at_any_depth(tmp_path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.replace("KERNEL", "hmc"))
    found = papers_of(path)
    assert [paper.key for paper in found] == ["zhang2025", "karras2022", "neal2011", "hoffman2014"]
    assert SOFTWARE not in found


def test_those_of_a_plugin_too_and_none_where_it_is_gone(tmp_path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.replace("KERNEL", "mine"))
    with default_registry().extended(Mine):
        assert OWN in papers_of(path)
    assert papers_of(path) is None
