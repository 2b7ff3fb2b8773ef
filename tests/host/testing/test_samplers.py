"""Each check of samplers catches the fault it is for: a right sampler passes it, one with that fault does not."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import torch

from daps_kit import testing
from daps_kit.contracts import Failure, KernelInfo, LinearOperator, Sampler, Step
from daps_kit.errors import UserError
from tests.host.testing.mutants import assert_caught, assert_complete, assert_passes, parametrize


class Exact(Sampler):
    """Draws x0 given x_t and y exactly, at three noise levels, by solving with dense matrices."""

    sigmas = (10.0, 3.0, 1.0)

    def refusal(self, prior, operator):
        return "" if isinstance(operator, LinearOperator) else "it solves linear systems"

    def sample(self, prior, operator, y, streams):
        shape, levels = prior.state_shape(operator.shape), len(self.sigmas)
        sigmas = [min(max(s, prior.sigma_range[0]), prior.sigma_range[1]) for s in self.sigmas]
        x_t = sigmas[0] * streams.normal(shape)
        lost = torch.zeros(len(y), dtype=torch.bool)
        for level, sigma in enumerate(sigmas):
            mean = prior.denoise(x_t, sigma)
            x0y = self.draw(prior, operator, y, mean, sigma, streams)
            failed = ~torch.isfinite(x0y).flatten(1).all(1)
            new = (failed & ~lost).nonzero().flatten().tolist()
            failures = tuple(Failure(b, level, levels, sigma, "nan") for b in new)
            lost = lost | failed
            yield Step(level, levels, sigma, x_t, mean, x0y, failed, KernelInfo(), failures=failures)
            if level + 1 < levels:
                x_t = x0y + sigmas[level + 1] * streams.normal(shape)

    def draw(self, prior, operator, y, mean, sigma, streams):
        root = (
            prior.denoising_covariance(sigma)
            .sqrt(torch.eye(16).reshape(16, *mean.shape[1:]))
            .flatten(1)
            .double()
        )
        basis = (
            operator.forward(prior.decode(torch.eye(16).reshape(16, *mean.shape[1:]))).flatten(1).double().T
        )
        precision = torch.linalg.inv(root @ root) + basis.T @ basis / operator.noise.dispersion
        residual = (y - operator.forward(prior.decode(mean))).flatten(1).double()
        centre = torch.linalg.solve(precision, (residual @ basis / operator.noise.dispersion).T).T
        values, vectors = torch.linalg.eigh(precision)
        noise = streams.normal((16,), torch.float64) / values.sqrt() @ vectors.T
        return mean + (centre + noise).float().reshape(mean.shape)


# --- faults


class Miscounts(Exact):
    def sample(self, prior, operator, y, streams):
        for step in super().sample(prior, operator, y, streams):
            yield replace(step, level=step.level + 1)


class HalfwayMean(Exact):
    def draw(self, prior, operator, y, mean, sigma, streams):
        x0y = super().draw(prior, operator, y, mean, sigma, streams)
        return x0y + 0.2


class AveragesTheWrong(Exact):
    """Its average is the guess of the prior."""

    def sample(self, prior, operator, y, streams):
        for step in super().sample(prior, operator, y, streams):
            last = step.level + 1 == step.levels
            yield replace(step, average=self.averaged(step) if last else None)

    def averaged(self, step):
        return step.x0hat


class AveragesNothing(AveragesTheWrong):
    def averaged(self, step):
        return 1.2 * step.x0y


class AveragesAPart(AveragesTheWrong):
    def averaged(self, step):
        return step.x0y[:1]


class TooWide(Exact):
    """The covariance sigma^2 I of the published method."""

    def draw(self, prior, operator, y, mean, sigma, streams):
        wide = SimpleNamespace(
            denoising_covariance=lambda s: SimpleNamespace(sqrt=lambda v: s * v), decode=prior.decode
        )
        return super().draw(wide, operator, y, mean, sigma, streams)


class IgnoresDecoder(Exact):
    def draw(self, prior, operator, y, mean, sigma, streams):
        plain = SimpleNamespace(
            denoising_covariance=prior.denoising_covariance,
            decode=lambda z: z.reshape(len(z), *operator.shape),
        )
        return super().draw(plain, operator, y, mean, sigma, streams)


class LeavesRange(Exact):
    def sample(self, prior, operator, y, streams):
        prior.denoise(torch.zeros(1, 1, 4, 4), 100.0)
        return super().sample(prior, operator, y, streams)


class UnrepeatableRun(Exact):
    generator = torch.Generator().manual_seed(0)

    def draw(self, *arguments):
        x0y = super().draw(*arguments)
        return x0y + 1e-3 * torch.randn(x0y.shape, generator=self.generator)


class CoupledRun(Exact):
    def draw(self, *arguments):
        x0y = super().draw(*arguments)
        return x0y + 0.05 * x0y.mean(0)


class HidesFailure(Exact):
    def sample(self, prior, operator, y, streams):
        for step in super().sample(prior, operator, y, streams):
            yield replace(step, x0y=step.x0y.nan_to_num(), failed=torch.zeros_like(step.failed))


class SilentFailure(Exact):
    def sample(self, prior, operator, y, streams):
        for step in super().sample(prior, operator, y, streams):
            yield replace(step, failures=())


class BlamesAnother(Exact):
    def sample(self, prior, operator, y, streams):
        for step in super().sample(prior, operator, y, streams):
            yield replace(step, failures=tuple(replace(f, sample=f.sample + 1) for f in step.failures))


class Misplaces(Exact):
    def sample(self, prior, operator, y, streams):
        for step in super().sample(prior, operator, y, streams):
            yield replace(step, failures=tuple(replace(f, level=f.level + 1) for f in step.failures))


class GlobalRun(Exact):
    def draw(self, *arguments):
        return super().draw(*arguments) + 1e-3 * torch.randn(1)


class ClampsMeasurement(Exact):
    def sample(self, prior, operator, y, streams):
        return super().sample(prior, operator, y.clamp_(-0.5, 0.5), streams)


class HeedsNoData(Exact):
    """A sample of the prior, who calls that an approximation."""

    approximate = "it does not look at y"

    def draw(self, prior, operator, y, mean, sigma, streams):
        return prior.sample(mean.shape[1:], streams).float()


class Scatters(Exact):
    approximate = "it scatters"

    def draw(self, *arguments):
        x0y = super().draw(*arguments)
        return x0y + 2 * arguments[-1].normal(x0y.shape[1:])


class Rambles(Exact):
    approximate = "it has\nmuch to say"


class RefusesLate(Exact):
    def refusal(self, prior, operator):
        return ""

    def sample(self, prior, operator, y, streams):
        prior.denoise(torch.zeros(1, 1, 4, 4), 1.0)
        raise UserError("this cannot be done")


class RefusesAtLength(Exact):
    def refusal(self, prior, operator):
        return "no\nand no again"


class GuessesAtRandom(Exact):
    """With an operator that it does not understand it takes the prior."""

    def refusal(self, prior, operator):
        return ""

    def draw(self, prior, operator, y, mean, sigma, streams):
        return 3 * prior.sample(mean.shape[1:], streams).float()


class SaysItIsDeterministic(Exact):
    deterministic = True


MUTANTS = {
    "steps_described": [Miscounts()],
    "posterior_mean": [HalfwayMean()],
    "posterior_covariance": [TooWide()],
    "average": [AveragesTheWrong(), AveragesNothing(), AveragesAPart()],
    "towards_the_posterior": [HeedsNoData(), Scatters(), Rambles()],
    "latent_prior": [IgnoresDecoder(), RefusesLate(), RefusesAtLength()],
    "nonlinear_operator": [RefusesLate(), RefusesAtLength(), GuessesAtRandom()],
    "within_sigma_range": [LeavesRange()],
    "same_streams_same_samples": [UnrepeatableRun(), SaysItIsDeterministic()],
    "batch_size_independent": [CoupledRun()],
    "failure_reported": [HidesFailure(), SilentFailure(), BlamesAnother(), Misplaces()],
    "no_global_randomness": [GlobalRun()],
    "input_unchanged": [ClampsMeasurement()],
}


def test_every_check_has_a_mutant():
    assert_complete("sampler", MUTANTS)


@parametrize(MUTANTS)
def test_a_check_catches_its_mutant(name, mutant):
    assert_caught("sampler", name, mutant)


def test_a_right_sampler_passes():
    assert_passes("sampler", Exact(), skipped=["average", "nonlinear_operator"])


def test_an_approximate_sampler_is_not_asked_to_be_exact():
    class Near(Exact):
        approximate = "its covariance is too wide"

    skipped = {o.check: o.detail for o in testing.check("sampler", Near()) if o.status == "skipped"}
    assert [*skipped][:3] == ["posterior_mean", "posterior_covariance", "average"]
    assert [*skipped][3:5] == ["latent_prior", "nonlinear_operator"]
    assert skipped["posterior_mean"] == "it is approximate: its covariance is too wide"
    assert skipped["nonlinear_operator"] == "it refuses: it solves linear systems"
