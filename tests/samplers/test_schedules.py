"""Schedules against finite differences and their own definitions."""

from __future__ import annotations

import numpy as np
import pytest

from daps_samplers.schedules import EDM, VE, VP, TrigFlow

SCHEDULES = {
    "edm": EDM(),
    "edm_rho3": EDM(3.0),
    "ve": VE(),
    "vp": VP(),
    "vp_scaled": VP(1.5, 19.5, "scaled_linear"),
    "trigflow": TrigFlow(),
    "trigflow_half": TrigFlow(0.5),
}
SIGMAS = np.geomspace(0.005, 100.0, 40)

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


@every_schedule
def test_time_is_the_inverse_of_sigma(schedule):
    np.testing.assert_allclose(schedule.sigma(schedule.time(SIGMAS)), SIGMAS, rtol=1e-12)


@every_schedule
def test_derivatives_match_central_differences(schedule):
    t = schedule.time(SIGMAS)
    h = 1e-6 * t * np.maximum(1e-3, 1 / (1 + SIGMAS))
    for function, derivative in (
        (schedule.sigma, schedule.sigma_derivative),
        (schedule.scaling, schedule.scaling_derivative),
    ):
        expected = (function(t + h) - function(t - h)) / (2 * h)
        np.testing.assert_allclose(derivative(t), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@every_schedule
def test_a_grid_falls_from_sigma_max_to_sigma_min(schedule):
    sigmas = schedule.sigmas(50.0, 0.02, 9)
    assert len(sigmas) == 9
    assert (sigmas[0], sigmas[-1]) == (50.0, 0.02)
    assert (np.diff(sigmas) < 0).all()
    assert schedule.sigmas(50.0, 0.02, 1).tolist() == [50.0]


def test_grids_are_those_of_their_papers():
    """Karras et al., eq. (5), for EDM; levels in a ratio for VE (their table 1); even in time for the others."""
    u, high, low = np.linspace(0, 1, 9), 50.0, 0.02
    for rho in (3.0, 7.0):
        expected = (high ** (1 / rho) + u * (low ** (1 / rho) - high ** (1 / rho))) ** rho
        np.testing.assert_allclose(EDM(rho).sigmas(high, low, 9), expected, rtol=1e-12)
    np.testing.assert_allclose(VE().sigmas(high, low, 9), high * (low / high) ** u, rtol=1e-9)
    np.testing.assert_allclose(np.diff(TrigFlow(0.5).times(high, low, 9), 2), 0, atol=1e-12)
    np.testing.assert_allclose(np.diff(VP().times(high, low, 9), 2), 0, atol=1e-12)


def test_schedules_are_those_of_their_formulas():
    t = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(EDM().sigma(t), t)
    np.testing.assert_allclose(VE().sigma(t), np.sqrt(t))
    np.testing.assert_allclose(TrigFlow(0.5).sigma(t), 0.5 * np.tan(t))
    np.testing.assert_allclose(TrigFlow(0.5).scaling(t), np.cos(t))
    linear = 0.1 * t + (20 - 0.1) * t**2 / 2  # the integral of beta from 0.1 to 20
    np.testing.assert_allclose(VP(0.1, 20.0).scaling(t), np.exp(-linear / 2), rtol=1e-12)
    np.testing.assert_allclose(VP(0.1, 20.0).sigma(t), np.sqrt(np.exp(linear) - 1), rtol=1e-9)


def test_variance_preserving_means_what_it_says():
    for schedule in (VP(), VP(1.5, 19.5, "scaled_linear"), TrigFlow()):
        t = schedule.time(SIGMAS)
        np.testing.assert_allclose(schedule.scaling(t) ** 2 * (1 + SIGMAS**2), 1.0, rtol=1e-9)


def test_beta_is_the_derivative_of_its_integral():
    for schedule in (VP(), VP(1.5, 19.5, "scaled_linear")):
        t = np.linspace(0.01, 0.99, 9)
        slope = (schedule.beta_integrated(t + 1e-6) - schedule.beta_integrated(t - 1e-6)) / 2e-6
        np.testing.assert_allclose(schedule.beta(t), slope, rtol=1e-7)


@pytest.mark.parametrize(
    ("high", "low", "points"), [(1.0, 2.0, 5), (1.0, 0.0, 5), (1.0, -1.0, 5), (2.0, 1.0, 0)]
)
def test_impossible_grids_are_refused(high, low, points):
    with pytest.raises(ValueError, match="need"):
        EDM().times(high, low, points)


@pytest.mark.parametrize("make", [lambda: VP(1.0, 0.5), lambda: VP(0.0, 1.0), lambda: TrigFlow(0.0)])
def test_impossible_parameters_are_refused(make):
    with pytest.raises(ValueError, match=r"need|positive"):
        make()
