"""A program that keeps a cluster of dask: a scheduler, and workers on this machine or in jobs of a queueing system.

It is told what to start in JSON, {module, class, keywords, scale}, as its first argument; answers with a line of JSON,
{address} or {error}; and ends all of it, jobs in queues too, when its standard input is closed: when who asks is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from importlib import import_module

__all__ = ["main"]


def main(told: str) -> None:
    """Keep a cluster."""
    for number in (signal.SIGINT, signal.SIGHUP):  # they are for who asks
        signal.signal(number, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    wanted = json.loads(told)
    try:
        cluster = getattr(import_module(wanted["module"]), wanted["class"])(**wanted["keywords"])
        if wanted["scale"]:
            cluster.scale(wanted["scale"])
    except Exception as error:  # noqa: BLE001 (who asks says it)
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=out, flush=True)
        return
    print(json.dumps({"address": cluster.scheduler_address}), file=out, flush=True)
    sys.stdin.read()
    with contextlib.suppress(Exception):
        cluster.close(timeout=10)
    os._exit(0)
