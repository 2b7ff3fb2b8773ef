"""A head that tells the spectrum of what is open in a picture: bands of frequency, its file, and its fit."""

from __future__ import annotations

import pytest
import torch

from daps_kit.calibration import CalibrationTable, read_calibration, write_calibration
from daps_kit.contracts import Prior, RandomStreams
from daps_kit.covariance import cosine_inverse
from daps_kit.errors import UserError
from daps_kit.fit_head import SpectrumFit, fit_spectrum, measured
from daps_kit.spectrum_head import FADE, TRUST, WIDER, SpectrumHead, hats, shown
from daps_kit.variance_head import LocalErrors, ratios
from tests.falling_spectrum import SHAPE, falling

SIGMAS = torch.tensor([0.1, 1.0])
LOWEST = 1 / 24
SIDE = 24


def flat():
    return torch.ones_like(ratios(torch.ones(1, *SHAPE), LOWEST)).expand(2, -1, -1)


def made(*, bands=(1 / 8, 1 / 4, 1 / 2), seed=1):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = SpectrumHead(3, 8, bands)
        for p in head.parameters():
            p.data.add_(0.3 * torch.randn(p.shape)).copy_(p.half())
    return head.eval().requires_grad_(False)


def test_bands_of_frequency():
    """Hats of width an octave: alone at their tops, half each between two of them."""
    found = hats((1 / 16, 1 / 8, 1 / 4), 4, 32)
    torch.testing.assert_close(found.sum(0), torch.ones(4, 32))
    for k, cycles in enumerate((4, 8, 16)):
        assert found[:, 0, cycles].tolist() == [float(k == i) for i in range(3)]
    torch.testing.assert_close(hats((1 / 16, 1 / 4), 1, 32)[:, 0, 8], torch.tensor([0.5, 0.5]))
    assert found[:, 0, 0].tolist() == [1, 0, 0]
    assert found[:, 3, 31].tolist() == [0, 0, 1]


def test_the_spectrum_of_a_picture():
    """Of white noise it is that of the noise in every band and colour; brightness does not count."""
    head, colours = SpectrumHead(3, 8, (1 / 32, 1 / 8, 1 / 2)), falling().colours
    x = 3.0 + 0.5 * torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(head.spectrum(x, colours).exp(), torch.full((1, 3, 3), 0.25), rtol=0.1, atol=0)
    # A picture that is too small for the lowest bands has what the next one has.
    small = SpectrumHead(3, 8, (1 / 512, 1 / 256, 1 / 4)).spectrum(x[..., :8, :8], colours)
    assert bool(small.isfinite().all())
    torch.testing.assert_close(small[..., 0], small[..., 1])


def test_large_pictures_are_looked_at_block_by_block(monkeypatch):
    head, x = made(), RandomStreams([1, 2]).normal(SHAPE)
    whole = head.gain(x, torch.eye(3), torch.tensor(0.3))
    monkeypatch.setattr("daps_kit.spectrum_head.BLOCK", 3 * 12 * 3)
    torch.testing.assert_close(head.gain(x, torch.eye(3), torch.tensor(0.3)), whole)


def test_a_head_that_knows_nothing_leaves_the_covariance_as_it_is():
    """That is what a fit starts with."""
    x, v = (RandomStreams(seeds).normal(SHAPE) for seeds in ([1, 2], [3, 4]))
    plain = LocalErrors(SpectrumHead(3), SIGMAS, flat(), LOWEST, 5)
    found = plain.covariance(falling(), x, 0.5 * x, 0.3)
    wider = WIDER ** shown(torch.tensor(0.3).log())
    torch.testing.assert_close(found.multiply(v), wider * falling().multiply(v))
    assert 1 < float(wider) < WIDER


def test_it_is_kept_and_tells_the_spectrum_of_each_sample(tmp_path):
    head, path = made(), tmp_path / "head.safetensors"
    local = LocalErrors(head, SIGMAS, flat(), LOWEST, 5)
    table = CalibrationTable(SIGMAS, torch.tensor([0.01, 0.1]), torch.ones(2, 3, 9), torch.eye(3), 4, local)
    write_calibration(path, table)
    read = read_calibration(path)
    assert read.local is not None
    x = RandomStreams([1, 2]).normal((3, 9, 12)) * torch.tensor([1.0, 0.2])[:, None, None, None]
    mean = table.covariance(0.3, 9, 12)
    expected = local.covariance(mean, x, 0.5 * x, 0.3)
    assert expected.power.shape == x.shape
    log_g = head(head.spectrum(0.5 * x, mean.colours), torch.tensor(0.3))
    log_g = TRUST * log_g
    gain = expected.power / mean.power / WIDER ** shown(torch.tensor(0.3).log())
    torch.testing.assert_close(gain[:, :, 0, 3], log_g[..., 0].exp())  # a top: 3 / 24 cycles a pixel
    torch.testing.assert_close(gain[:, :, 0, 6], log_g[..., 1].exp())
    torch.testing.assert_close(read.local.covariance(mean, x, 0.5 * x, 0.3).power, expected.power)
    alone = local.covariance(mean, x[1:], 0.5 * x[1:], 0.3)
    torch.testing.assert_close(alone.power[0], expected.power[1], rtol=1e-4, atol=0)
    assert float((expected.power[0] / expected.power[1]).log().abs().max()) > 0.1
    # Nothing is told at high noise levels.
    faded = local.covariance(table.covariance(40 * FADE, 9, 12), x, 0.5 * x, 40 * FADE)
    torch.testing.assert_close(
        faded.power, table.covariance(40 * FADE, 9, 12).power.expand_as(x), rtol=0.05, atol=0
    )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda head: setattr(head, "bands", (1 / 2, 1 / 4, 1 / 8)), "two or more, and rise"),
        (lambda head: head.scale.zero_(), "scale of its head must be positive"),
        (lambda head: head.layers[0].weight.fill_(float("nan")), "not finite"),
    ],
)
def test_what_is_damaged_is_told(tmp_path, spoil, words):
    head, path = made(), tmp_path / "head.safetensors"
    spoil(head)
    local = LocalErrors(head, SIGMAS, flat(), LOWEST, 5)
    write_calibration(
        path,
        CalibrationTable(SIGMAS, torch.tensor([0.01, 0.1]), torch.ones(2, 3, 9), torch.eye(3), 4, local),
    )
    with pytest.raises(UserError, match=words):
        read_calibration(path)


class SharpOrNot(Prior):
    """Half of its pictures are sharp, and what they leave open is white; of others fine detail is known.

    The denoiser does not guess detail, but what it shows is sharp or not like the picture.
    """

    shape = (1, SIDE, SIDE)
    sigma_range = (0.01, FADE / 3)
    fine = 0.05
    """Of the variance of fine detail is left open in pictures that are not sharp."""

    def __init__(self):
        open_ = torch.full((2, 1, 12), 0.01)
        self.calibration = CalibrationTable(
            torch.tensor([0.01, 10.0]), open_[:, 0, 0], open_, torch.eye(1), 4
        )
        self.hat = hats((1 / 16, 1 / 4), SIDE, SIDE)[1]

    def pictures(self, count, seed):
        draw = torch.Generator().manual_seed(seed)
        blur = (self.fine**self.hat).sqrt() ** (torch.arange(count) % 2)[:, None, None, None]
        shown, hidden = torch.randn(2, count, 1, SIDE, SIDE, generator=draw)
        self.shown = cosine_inverse(shown * blur)
        return self.shown + 0.1 * cosine_inverse(hidden * blur)

    def denoise(self, x, sigma):
        return self.shown[: len(x)]


def test_it_finds_which_pictures_have_fine_detail():
    prior, told, gains = SharpOrNot(), [], []
    head = fit_spectrum(
        prior,
        (prior.pictures(16, seed) for seed in range(20)),
        SpectrumFit(steps=300, rate=1e-2),
        watch=told.append,
    )
    assert told == [16 * done for done in range(1, 21)]
    pictures = prior.pictures(64, 99)
    mean = prior.mean_covariance(pictures, 0.1)
    found = measured(prior, head, pictures, chunk=64, tell=lambda sigma, gain: gains.append(gain))
    # By how much the likelihood of what is open may rise, were the spectrum that is true believed that much.
    true = torch.stack([torch.ones(SIDE, SIDE), prior.fine**prior.hat])
    due = float((true - true ** (1 - TRUST) - TRUST * true.log()).mean() / 2)
    assert sum(gains) / len(gains) == pytest.approx(due, rel=0.2)
    power = found.covariance(mean, pictures, prior.shown, 0.1).power / mean.power
    power = power / WIDER ** shown(torch.tensor(0.1).log())
    torch.testing.assert_close(power.mean(0), torch.ones(1, SIDE, SIDE), rtol=0.15, atol=0)
    ratio = (power[1::2].mean(0) / power[0::2].mean(0)).log() / torch.tensor(prior.fine).log() / TRUST
    torch.testing.assert_close(ratio[0], prior.hat, rtol=0, atol=0.2)


def test_a_fit_is_the_same_each_time():
    heads = []
    for _ in range(2):
        prior = SharpOrNot()
        heads.append(fit_spectrum(prior, [prior.pictures(8, 0)], SpectrumFit(steps=5)))
    for a, b in zip(*(head.state_dict().values() for head in heads), strict=True):
        assert torch.equal(a, b)
