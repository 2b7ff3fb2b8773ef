"""Priors of pipelines that diffusers itself saves, and how their decoders are tested."""

from __future__ import annotations

import math

import torch

import daps_kit
from daps_priors.published.latent_settings import Diffusers, StableDiffusion
from daps_samplers.target import DecodedOperator
from tests.priors.published.small import noise

CPU = torch.device("cpu")


def build(folder, shape=None, **options):
    return Diffusers(model=str(folder), **options).build(shape=shape, device=CPU)


def build_stable(folder, shape=(3, 32, 32), **options):
    options.setdefault("prompt", "a face")
    return StableDiffusion(model=str(folder), **options).build(shape=shape, device=CPU)


def push_and_pull(prior, z):
    """Compare J v and J^T u of a decoder, as the samplers take them, with each other and with differences."""
    operator = daps_kit.build("operator", {"use": "identity"}, shape=prior.shape)
    decoded = DecodedOperator(operator, prior, z.shape[1:])
    image, vjp = decoded.forward_vjp(z)
    u, v = noise(*image.shape, seed=3), noise(*z.shape, seed=2)
    push, pull = decoded.jvp(z, v), vjp(u)
    size = float(push.norm() * u.norm())
    assert abs(float((push * u).sum() - (pull * v).sum())) < 1e-4 * size
    if getattr(prior, "codebook", False):
        return  # rounding has no derivative, another stands in
    h = 1e-2
    with torch.no_grad():
        change = (prior.decode(z + h * v) - prior.decode(z - h * v)) / (2 * h)
    assert float((push - change).norm()) < 0.02 * float(change.norm())


def sigma_at(scheduler, t):
    a = float(scheduler.alphas_cumprod[t].double())
    return math.sqrt((1 - a) / a)
