"""Tasks that are computed in the run's own process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daps_kit.executor import Done, Failed, Said, State
from daps_samplers.executors.local import LocalExecutor, LocalPool
from tests.samplers.executors.toy_job import begin, job


def test_a_task_is_computed_when_it_is_waited_for():
    with LocalExecutor().open(replace(job(), here=begin(b"", 0))) as pool:
        assert (pool.apart, pool.size, pool.states()) == (False, 1, [State("this process", "waiting")])
        assert pool.wait(0.0) == []
        pool.submit(3, b"one")
        assert pool.wait(0.0) == [Done(3, b"0 did 3 bytes: one")]
        pool.submit(4, b"memory")
        assert pool.wait(0.0) == [Failed(4, "memory", "not enough memory")]
        pool.submit(5, b"bug")
        with pytest.raises(ValueError, match="what is this"):
            pool.wait(0.0)
        assert pool.wait(0.0) == []


def test_what_there_is_to_say_comes_first():
    pool = LocalPool(job(), Said("slow"))
    pool.submit(1, b"task")
    assert [*pool.wait(0.0), *pool.wait(0.0)] == [Said("slow"), Done(1, b"2.0")]
