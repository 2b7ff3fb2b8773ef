"""Papers as BibTeX and in words."""

from __future__ import annotations

import re

import pytest

from daps_kit.papers import Paper, bibtex, distinct
from daps_kit.registry import default_registry
from daps_kit.settings import Settings

ARTICLE = Paper(
    "doe2001", "On R&D of 50% masks", ("Doe, Jane", "Roe, R."), 2001, journal="J. of Masks", doi="10.1/x"
)


def test_an_entry_has_its_fields_and_escapes_what_tex_takes_for_its_own() -> None:
    lines = ARTICLE.bibtex().splitlines()
    assert lines[0] == "@article{doe2001,"
    assert lines[-1] == "}"
    fields = dict(re.fullmatch(r"  (\w+) = \{(.*)\},", line).groups() for line in lines[1:-1])
    assert fields == {
        "title": r"{On R\&D of 50\% masks}",
        "author": "Doe, Jane and Roe, R.",
        "journal": "J. of Masks",
        "year": "2001",
        "doi": "10.1/x",
    }


@pytest.mark.parametrize(
    ("place", "kind", "link"),
    [
        ({"booktitle": "Conf", "arxiv": "2407.01521"}, "inproceedings", "https://arxiv.org/abs/2407.01521"),
        ({"publisher": "Press"}, "book", ""),
        ({"url": "https://example.org/x"}, "misc", "https://example.org/x"),
        ({"journal": "J", "doi": "10.1/x", "arxiv": "2407.01521"}, "article", "https://doi.org/10.1/x"),
    ],
)
def test_where_it_appeared_is_what_it_is(place, kind, link) -> None:
    paper = Paper("a", "T", ("A, B",), 2020, **place)
    assert paper.kind == kind
    assert paper.bibtex().startswith(f"@{kind}{{a,")
    assert paper.link == link
    assert ("archiveprefix = {arXiv}" in paper.bibtex()) == ("arxiv" in place)


@pytest.mark.parametrize(
    ("authors", "who"),
    [(("A, B",), "A"), (("A, B", "C, D"), "A and C"), (("A, B", "C, D", "E, F"), "A et al.")],
)
def test_in_words(authors, who) -> None:
    assert (
        str(Paper("a", "T", authors, 2020, journal="J", doi="10.1/x")) == f'{who}, "T", J, 2020, doi 10.1/x'
    )


def test_an_organisation_is_one_name_that_stays_whole() -> None:
    paper = Paper("a", "T", ("{Museum of Masks & Maps}", "A, B", "others"), 2020)
    assert r"author = {{Museum of Masks \& Maps} and A, B and others}" in paper.bibtex()
    assert str(paper).startswith("Museum of Masks & Maps et al.")


def test_each_paper_is_cited_once_and_no_key_twice() -> None:
    same = Paper("doe01", "Another wording", ("Doe, J.",), 2001, doi="10.1/x")
    other = Paper("doe2001", "Something else", ("Doe, Jane",), 2001)
    assert distinct([ARTICLE, same, other]) == [ARTICLE, other]
    text = bibtex([ARTICLE, same, other])
    assert re.findall(r"^@\w+\{(\w+),", text, re.MULTILINE) == ["doe2001", "doe2001b"]


def test_what_ships_names_its_papers_so_that_they_can_be_found() -> None:
    found = [paper for component in default_registry().components() for paper in component.settings.papers]
    assert {component.name for component in default_registry().components() if component.settings.papers} >= {
        "daps", "hmc", "mala", "rto", "exact", "ddpm", "ldm", "photos", "embedded", "nonlinear_blur",
    }  # fmt: skip
    for paper in found:
        assert paper.doi or paper.arxiv or paper.url, paper
        assert re.fullmatch(r"10\.\d{4,9}/\S+", paper.doi or "10.1000/x"), paper
        assert re.fullmatch(r"\d{4}\.\d{4,5}", paper.arxiv or "2407.01521"), paper
        assert all(re.fullmatch(r"[^,]+, [^,]+", author) for author in paper.authors), paper
        assert 1900 < paper.year < 2100
    assert len({paper.key for paper in distinct(found)}) == len(distinct(found)), "keys tell papers apart"


def test_settings_without_papers_have_none() -> None:
    assert Settings.papers == ()
