"""Random streams: fixed for ever, independent of the batch, and without global state."""

from __future__ import annotations

import numpy as np
import scipy.stats
import torch

from daps_kit.random import RandomStreams, stream_seed

DRAWS = {
    "normal": lambda streams: streams.normal((3, 7, 5)),
    "normal of one number": lambda streams: streams.normal(()),
    "double": lambda streams: streams.normal((40,), torch.float64),
    "uniform": lambda streams: streams.uniform((9,)),
    "one uniform": lambda streams: streams.uniform(),
    "poisson": lambda streams: streams.poisson(torch.full((len(streams), 50), 3.0)),
}


def test_seeds_are_the_same_on_every_machine():
    assert stream_seed(42, "sampler", "astronaut", 3) == 816058277161715099
    assert stream_seed(0) == 4246866556266386882
    assert 0 <= stream_seed(-1, "a") < 2**63


def test_names_do_not_run_into_each_other():
    names = [(), ("a",), ("a", "b"), ("ab",), ("a", 1), ("a", "1"), ("b", "a"), (1, "a"), ("",), ("", "")]
    seeds = {stream_seed(seed, *name) for name in names for seed in (0, 1, 10)}
    assert len(seeds) == 3 * len(names)


def test_a_sample_draws_the_same_in_any_batch():
    for name, draw in DRAWS.items():
        together = draw(RandomStreams([5, 6, 7]))
        for row, seed in enumerate([5, 6, 7]):
            assert torch.equal(draw(RandomStreams([seed]))[0], together[row]), name
        assert len({tuple(row.flatten().tolist()) for row in together}) == 3, name


def test_streams_go_on():
    streams, again = RandomStreams([1, 2]), RandomStreams([1, 2])
    for draw in DRAWS.values():
        assert torch.equal(draw(streams), draw(again))
    first, second = streams.normal((4,)), streams.normal((4,))
    assert not torch.equal(first, second)


def test_shapes_and_types():
    streams = RandomStreams([1, 2])
    assert len(streams) == 2
    assert streams.normal((3, 4)).shape == (2, 3, 4)
    assert streams.uniform().shape == (2,)
    assert streams.normal((3,), torch.float64).dtype == torch.float64
    assert streams.poisson(torch.ones(2, 5, dtype=torch.float64)).dtype == torch.float64


def test_global_state_is_neither_read_nor_written():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = [draw(RandomStreams([1])) for draw in DRAWS.values()]
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    for made, draw in zip(first, DRAWS.values(), strict=True):
        assert torch.equal(made, draw(RandomStreams([1])))


def test_laws():
    streams = RandomStreams([stream_seed(0, "laws", i) for i in range(2)])
    for row in streams.normal((20_000,)):
        assert scipy.stats.kstest(row, "norm").pvalue > 1e-3
    for row in streams.uniform((20_000,)):
        assert scipy.stats.kstest(row, "uniform").pvalue > 1e-3
    counts = streams.poisson(torch.full((2, 20_000), 2.5))
    expected = scipy.stats.poisson.pmf(np.arange(12), 2.5) * 20_000
    for row in counts:
        observed = np.bincount(row.int().numpy(), minlength=12)[:12]
        statistic = ((observed - expected) ** 2 / expected).sum()
        assert scipy.stats.chi2.sf(statistic, 11) > 1e-3


def test_streams_of_neighbouring_seeds_are_uncorrelated():
    draws = RandomStreams([stream_seed(0, "item", i) for i in range(30)]).normal((4000,))
    correlation = torch.corrcoef(draws) - torch.eye(30)
    assert correlation.abs().max() < 5 / 4000**0.5
