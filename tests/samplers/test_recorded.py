"""The recorded numbers of the published implementation, reproduced through settings: 1e-5 of the largest value."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch

from daps_samplers import Daps, Langevin, Metropolis, Underdamped
from daps_samplers.ode import ProbabilityFlow
from daps_samplers.schedules import EDM, VE, VP, TrigFlow
from daps_samplers.target import DecodedOperator

GOLDEN = Path(__file__).parents[1] / "golden"
KERNELS = {"langevin": Langevin, "hmc": Underdamped, "mh": Metropolis}
SCHEDULES = {"edm": EDM(), "ve": VE(), "vp": VP(), "trigflow": TrigFlow()}


def names(pattern: str) -> list[str]:
    found = sorted(path.stem for path in GOLDEN.glob(pattern))
    assert found, pattern
    return found


def close(ours, recorded: np.ndarray, tolerance: float = 1e-5) -> None:
    ours = ours.numpy() if isinstance(ours, torch.Tensor) else np.asarray(ours)
    assert ours.shape == recorded.shape
    error = np.abs(ours - recorded).max() / (np.abs(recorded).max() or 1.0)
    assert error <= tolerance, f"error {error:.2e} of the largest value"


def kernel_settings(algorithm: str, config: dict) -> Langevin | Underdamped | Metropolis:
    """The published MCMC settings in this package's terms."""
    settings = {
        "steps": config["num_steps"],
        "lr": float(config["lr"]),
        "lr_min_ratio": config["lr_min_ratio"],
        "reach_lr_min": False,
        # The published Langevin and hmc leave out the likelihood's 1/2; its mh has it.
        "tau": config["tau"] if algorithm == "mh" else config["tau"] / sqrt(2),
    }
    if algorithm == "hmc":
        settings["momentum"] = config["momentum"]
    return KERNELS[algorithm](**settings)


@pytest.mark.parametrize("name", names("scheduler_*_[0-9].npz"))
def test_schedules(golden, name):
    arrays, params = golden(name)
    given = params["kwargs"]
    if params["name"] == "vp":
        schedule = VP(
            given.get("beta_min", 0.1), given.get("beta_max", 20.0), given.get("beta_type", "linear")
        )
        high, low = float(schedule.sigma(1.0)), float(schedule.sigma(given.get("epsilon", 1e-5)))
    else:
        schedule = SCHEDULES[params["name"]]
        high, low = given["sigma_max"], given["sigma_min"]
    # sigma_max of a recorded trigflow went through a float32 tangent near its pole.
    close(schedule.times(high, low, given["num_steps"] + 1), arrays["time_steps"])
    close(np.append(schedule.sigmas(high, low, given["num_steps"] + 1)[:-1], 0), arrays["sigma_steps"])
    close(schedule.times(high, low, 4), arrays["time_steps_other_n"])
    t = arrays["t"].astype(np.float64)
    close(schedule.sigma(t), arrays["sigma"])
    close(schedule.sigma_derivative(t), arrays["sigma_derivative"])
    close(schedule.scaling(t), arrays["scaling"])
    close(schedule.scaling_derivative(t), arrays["scaling_derivative"])
    close(schedule.time(arrays["sigma_q"]), arrays["sigma_inv"])
    if params["name"] == "vp":
        close(schedule.beta(t), arrays["beta"])
        close(schedule.beta_integrated(t), arrays["beta_integrated"])
        close(schedule.alpha(t), arrays["alpha"])


@pytest.mark.parametrize("name", names("scheduler_*_tensor_sigma.npz"))
def test_schedules_given_a_tensor(golden, name):
    arrays, params = golden(name)
    schedule = SCHEDULES[params["name"]]
    high, low, points = (
        float(arrays["sigma_max"]),
        params["kwargs"]["sigma_min"],
        params["kwargs"]["num_steps"] + 1,
    )
    close(schedule.times(high, low, points), arrays["time_steps"])
    close(np.append(schedule.sigmas(high, low, points)[:-1], 0), arrays["sigma_steps"])


@pytest.mark.parametrize("name", ["pfode_gaussian", "pfode_bimodal"])
def test_probability_flow(golden, recorded_prior, name):
    arrays, params = golden(name)
    prior = recorded_prior(arrays, params)
    x0, eps = torch.from_numpy(arrays["x0"]), torch.from_numpy(arrays["eps"])
    for case in params["cases"]:
        schedule = SCHEDULES[case["scheduler"]]
        if case["i"] == "vp":
            high, low, steps = (
                float(schedule.sigma(1.0)),
                float(schedule.sigma(1e-5)),
                case["kwargs"]["num_steps"],
            )
        else:
            high, low, steps = case["sigma_max"], case["sigma_min"], case["num_steps"]
        x = ProbabilityFlow(schedule, steps, low).solve(prior, x0 + high * eps, high)
        # The recorded end point is scaled by s(t), ours never is.
        close(x * float(schedule.scaling(schedule.time(low))), arrays[f"out_{case['i']}"])


def test_trajectory_and_inverse(golden, recorded_prior):
    arrays, params = golden("pfode_traj_inverse")
    prior = recorded_prior(arrays, params)
    flow = ProbabilityFlow(EDM(), params["num_steps"], params["sigma_min"])
    x0, eps, high = torch.from_numpy(arrays["x0"]), torch.from_numpy(arrays["eps"]), params["sigma_max"]
    close(torch.stack(flow.trajectory(prior, x0 + high * eps, high)), arrays["traj"])
    close(flow.inverse(prior, x0, high), arrays["inverse"])


@pytest.mark.parametrize("name", names("mcmc_*.npz"))
def test_kernels(golden, recorded_prior, recorded_operator, recorded_streams, name):
    arrays, params = golden(name)
    prior, operator = recorded_prior(arrays, params), recorded_operator(arrays, params)
    x0hat, y, eps = (torch.from_numpy(arrays[key]) for key in ("x0hat", "y", "eps"))
    for case in params["cases"]:
        config, sigma = case["cfg"], case["sigma"]
        sampler = Daps(
            kernel=kernel_settings(params["algo"], config),
            ode=dict(steps=5),
            prior_score=config["prior_solver"],
            prior_sigma_min=config["prior_sigma_min"],
        ).build()
        # A level i of N with the published ratio i / (N + 1).
        level, levels = {0.0: (0, 4), 0.6: (3, 4)}[case["ratio"]]
        target = sampler.conditional.target(
            prior, operator, y, x0hat + sigma * eps, x0hat, sigma, level, levels
        )
        noise = [torch.from_numpy(draw) for draw in arrays["noise"]]
        uniform = [torch.from_numpy(draw) for draw in arrays.get("uniform", [])]
        out, info = sampler.kernel.run(target, x0hat, recorded_streams(noise, uniform))
        assert info.step_size == pytest.approx(case["lr"], rel=1e-12)
        close(out, arrays[f"out_{case['i']}"])


@pytest.mark.parametrize("name", names("daps_*.npz") + names("latentdaps_*.npz"))
def test_whole_runs(golden, recorded_prior, recorded_operator, recorded_streams, toy_latent, name):
    arrays, params = golden(name)
    latent = name.startswith("latent")
    if latent:
        params |= {"scale_factor": 4, "oversample": 2.0}
        prior = toy_latent(arrays, torch.from_numpy(arrays["mu"]), params["s"])
    else:
        prior = recorded_prior(arrays, params)
    annealing, ode, mcmc = params["annealing"], params["diffusion"], params["mcmc"]
    sampler = Daps(
        annealing=dict(
            use=annealing["name"],
            levels=annealing["num_steps"],
            sigma_max=annealing["sigma_max"],
            sigma_min=annealing["sigma_min"],
            reach_sigma_min=False,
        ),
        ode=dict(use=ode["name"], steps=ode["num_steps"], sigma_min=ode["sigma_min"]),
        kernel=kernel_settings(mcmc["mc_algo"], mcmc),
        prior_score=mcmc["prior_solver"],
        prior_sigma_min=mcmc.get("prior_sigma_min", 0.01),
        latent_gradient_clip=1.0 if latent else None,
    ).build()
    start = arrays["z_start_eps" if latent else "x_start_eps"]
    streams = recorded_streams(
        [torch.from_numpy(draw) for draw in (start, *arrays["noise"])],
        [torch.from_numpy(draw) for draw in arrays.get("uniform", [])],
    )
    steps = list(
        sampler.sample(prior, recorded_operator(arrays, params), torch.from_numpy(arrays["y"]), streams)
    )
    close([step.sigma for step in steps], arrays["sigma_steps"][:-1])
    close(prior.decode(steps[-1].x0y), arrays["out"])
    rows = slice(None) if latent else slice(1)
    close(prior.decode(steps[0].x0hat)[rows], arrays["x0hat_0"])
    close(prior.decode(steps[0].x0y)[rows], arrays["x0y_0"])
    # Only the draw for a re-noising that never happens is left over.
    assert len(streams.left) == 1
    assert not streams.uniform_left
    assert not any(step.warnings or step.failures for step in steps)


def test_latent_gradient_clip(golden, recorded_operator, toy_latent):
    arrays, _ = golden("op_latent_wrapper")
    prior = toy_latent(arrays, 0.0, 0.5)
    operator = recorded_operator(arrays, {"op": "down_sampling", "scale_factor": 4})
    z, y = torch.from_numpy(arrays["z"]), torch.from_numpy(arrays["y"])
    for clip, key in ((None, "grad_raw"), (1.0, "grad")):
        problem = DecodedOperator(operator, prior, (4, 16, 16), clip)
        loss, gradient = problem.loss_grad(z, y)
        close(loss, arrays["loss"])
        close(gradient, arrays[key])
    close(problem.forward(z), arrays["out"])
    close(problem.loss(z, y), arrays["loss"])
