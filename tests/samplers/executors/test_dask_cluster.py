"""The program that keeps a cluster: it says where it is, or why it is not, and ends it with who asks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from daps_samplers.executors.dask import PROGRAM

CLUSTER = """
class Cluster:
    def __init__(self, name):
        self.scheduler_address, self.jobs = "tcp://" + name, 0
        if name == "wrong":
            raise ValueError("no such queue")
        print("noise")

    def scale(self, jobs):
        self.jobs = jobs

    def close(self, timeout):
        open("closed.txt", "w").write(str(self.jobs))
"""


def asked(folder: Path, name: str) -> tuple[dict[str, str], int]:
    """Return what it answers, and how it ends when it is left."""
    (folder / "some_queue.py").write_text(CLUSTER)
    wanted = {"module": "some_queue", "class": "Cluster", "keywords": {"name": name}, "scale": 3}
    command = [sys.executable, "-c", PROGRAM, json.dumps([str(folder), *sys.path]), json.dumps(wanted)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder
    ) as process:
        answer = json.loads(process.stdout.readline())
        process.stdin.close()
        assert process.stdout.read() == b""
        return answer, process.wait(30)


def test_a_cluster_is_kept_and_ended(tmp_path):
    assert asked(tmp_path, "here") == ({"address": "tcp://here"}, 0)
    assert (tmp_path / "closed.txt").read_text() == "3"


def test_why_there_is_none_is_said(tmp_path):
    assert asked(tmp_path, "wrong") == ({"error": "ValueError: no such queue"}, 0)
    assert not (tmp_path / "closed.txt").exists()
