"""A job is begun by its name."""

from __future__ import annotations

import pytest

from daps_kit.errors import UserError
from daps_kit.executor import begin
from tests.samplers.executors.toy_job import FUNCTION, job


def test_a_worker_is_begun_by_its_name():
    assert begin(FUNCTION, b"", 4)(b"task", lambda share: None) == b"4 did 4 bytes: task"
    with pytest.raises(UserError, match="other versions"):
        begin(FUNCTION, b"refuse", 0)


def test_jobs_are_the_same_whatever_was_begun_here():
    assert job(here=1.0) == job(here=2.0)
    assert job(b"a") != job(b"b")
