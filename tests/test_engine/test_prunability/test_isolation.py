"""Calls in processes of their own, and the ways in which they end."""

import json
import os
import time

import pytest

from mmsharp.engine.prunability.isolation import LOG, run_isolated


@pytest.mark.parametrize(
    ('call', 'arguments', 'reason'),
    [
        (print, ('hello',), None),
        (json.loads, ('{',), 'JSONDecodeError: Expecting property name'),
        (os.abort, (), 'the process was ended by SIGABRT'),
        (os._exit, (3,), 'the process ended with status 3'),
    ],
)
def test_every_end_has_its_reason(call, arguments, reason, tmp_path):
    """A return is none; an exception, a signal and a status say themselves."""
    ended = run_isolated(call, arguments, tmp_path, timeout=60)
    assert ended is None if reason is None else ended.startswith(reason)


def test_what_is_printed_goes_to_the_log(tmp_path):
    """And not to the screen of the survey."""
    run_isolated(print, ('hello',), tmp_path, timeout=60)
    assert (tmp_path / LOG).read_text() == 'hello\n'


def test_an_endless_call_is_killed_in_time(tmp_path):
    """Nothing of it is left."""
    began = time.monotonic()
    assert run_isolated(time.sleep, (600,), tmp_path, timeout=1) == 'took more than 1 seconds'
    assert time.monotonic() - began < 30
