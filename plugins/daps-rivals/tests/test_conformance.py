import pytest

from daps_kit.testing import cases

SECTIONS = [
    {"use": "dps", "steps": 100},
    {"use": "pigdm", "steps": 50},
    {"use": "ddrm"},
    {"use": "ddnm", "steps": 50},
    {"use": "diffpir", "steps": 50},
    {"use": "red_diff", "steps": 200},
]


@pytest.mark.parametrize("check", [case for section in SECTIONS for case in cases("sampler", section)])
def test_conformance(check):
    check()
