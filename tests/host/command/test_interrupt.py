"""What a command does about Ctrl-C."""

from __future__ import annotations

import signal

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
