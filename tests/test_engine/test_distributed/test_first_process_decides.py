"""Laws of agreement: every process does what the first decides, and the helper of these tests cannot hang."""

import time

import pytest
import torch
import torch.distributed
from two_processes import ProcessError, in_two_processes

from mmsharp.engine.distributed.first_process_decides import first_process_decides


def decide(rank):
    shape = first_process_decides((3, 8 + rank, 8))
    mask = first_process_decides([torch.tensor([rank == 0, True])])
    return shape, mask


def fail_in_one(rank):
    if rank == 1:
        raise ValueError('only here')
    torch.distributed.barrier()


def wait_for_ever(rank):
    if rank == 0:
        time.sleep(1000)


def test_without_a_group_everyone_decides_alone():
    """The value itself comes back."""
    decision = object()
    assert first_process_decides(decision) is decision


def test_the_first_process_decides_for_all(tmp_path):
    """Shapes and masks of rank 0 are those of every rank."""
    for shape, [mask] in in_two_processes(decide, tmp_path):
        assert shape == (3, 8, 8)
        assert mask.tolist() == [True, True]


def test_a_failure_in_one_process_is_the_failure_of_the_test(tmp_path):
    """With its traceback, although the other process waits for it."""
    with pytest.raises(ProcessError, match=r'(?s)^process 1.*in fail_in_one.*ValueError: only here'):
        in_two_processes(fail_in_one, tmp_path)


def test_processes_that_hang_are_killed(tmp_path):
    """Long before the time limit of the test."""
    with pytest.raises(ProcessError, match='not end in time'):
        in_two_processes(wait_for_ever, tmp_path, seconds=4)
