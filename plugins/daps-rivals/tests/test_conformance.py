import pytest

from daps_kit.testing import cases

SECTIONS = [
    {"use": "dps", "steps": 100},
    {"use": "pigdm", "steps": 50},
    {"use": "ddrm"},
    {"use": "ddnm", "steps": 50},
    {"use": "diffpir", "steps": 50},
    {"use": "red_diff", "steps": 200},
    {"use": "mmps", "steps": 30, "solver_steps": 2},
    {"use": "tmpd", "steps": 50},
    {"use": "pnp_dm", "iterations": 20, "prior_steps": 5},
    {"use": "sitcom", "steps": 10, "inner": 10, "lr": 0.05},
    {"use": "tds", "steps": 20, "particles": 4},
    {"use": "dcdp", "lr": 0.2},
    {"use": "fast_dips", "steps": 40},
    {"use": "mcgdiff", "steps": 30, "particles": 4},
    {"use": "ddsmc", "steps": 30, "particles": 3},
    {"use": "fps_smc", "steps": 40, "particles": 3},
    {"use": "psld", "steps": 60, "omega": 0.3, "gamma": 0.05},
    {"use": "latino"},
    {"use": "resample", "steps": 30, "every": 5, "pixel_steps": 60, "latent_steps": 60, "latent_lr": 0.05},
    {"use": "pnp_hqs"},
    {"use": "pnp_admm"},
    {"use": "red"},
    {"use": "tv", "weight": 0.5},
    {"use": "wiener"},
]


@pytest.mark.parametrize("check", [case for section in SECTIONS for case in cases("sampler", section)])
def test_conformance(check):
    check()
