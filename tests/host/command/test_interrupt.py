"""What a command does about Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from daps_kit.command.interrupt import interruptible


def test_what_is_pressed_is_known_whatever_became_of_it():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with interruptible() as pressed:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            assert pressed == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_where_control_c_is_ignored_it_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible() as pressed:
            signal.raise_signal(signal.SIGINT)
            assert pressed == []
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_torch_is_imported_leaves_at_once(tmp_path):
    """Amid its C++ a `KeyboardInterrupt` would abort the program."""
    package = tmp_path / "torch.py"
    package.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint('went on')\n")
    program = (
        "from daps_kit.command.interrupt import interruptible\n"
        "try:\n    with interruptible():\n        import torch\nexcept KeyboardInterrupt:\n    print('raised')\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_ctrl_c_where_exceptions_are_ignored_comes_again() -> None:
    """It once fell into a callback of compiled code, and the run went on to its end."""
    program = (
        "import signal, time\n"
        "from daps_kit.command.interrupt import interruptible\n"
        "class Deaf:\n    def __del__(self):\n        signal.raise_signal(signal.SIGINT)\n        time.sleep(1)\n"
        "with interruptible() as pressed:\n"
        "    deaf = Deaf()\n"
        "    try:\n        del deaf\n        time.sleep(30)\n"
        "    except KeyboardInterrupt:\n        print('stopped', len(pressed))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=25, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped 1\n", "")
