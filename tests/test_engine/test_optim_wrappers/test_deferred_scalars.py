"""Scalars that stay tensors until somebody reads them are, once read, those of an ordinary history."""

import copy
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub

from mmsharp.engine.optim_wrappers import deferred_scalars
from mmsharp.engine.optim_wrappers.deferred_scalars import DeferredHistoryBuffer, defer_scalar

VALUES = [1.0, 4.0, 2.5, -3.0, 0.125]


def filled(kind=DeferredHistoryBuffer, **options):
    buffer = kind(**options)
    for value in VALUES:
        if kind is HistoryBuffer:
            buffer.update(value)
        else:
            buffer.append(torch.tensor(value))
    return buffer


def unread(buffer) -> int:
    return len(buffer._pending)


@pytest.mark.parametrize(
    'statistic',
    [
        lambda buffer: buffer.current(),
        lambda buffer: buffer.mean(),
        lambda buffer: buffer.mean(2),
        lambda buffer: buffer.max(3),
        lambda buffer: buffer.min(),
        lambda buffer: buffer.data[0].tolist(),
        lambda buffer: buffer.data[1].tolist(),
        lambda buffer: buffer.statistics('mean', 3),
        lambda buffer: len(buffer.data[0]),
    ],
)
def test_every_statistic_is_that_of_an_ordinary_history(statistic):
    """Whichever is asked for first: what was pending is in it."""
    assert statistic(filled()) == statistic(filled(HistoryBuffer))


@pytest.mark.parametrize(
    'keep',
    [
        copy.copy,
        copy.deepcopy,
        lambda buffer: pickle.loads(pickle.dumps(buffer)),
        lambda buffer: buffer,
    ],
    ids=['copy', 'deepcopy', 'pickle', 'itself'],
)
def test_nothing_pending_gets_lost(keep):
    """In a copy or a pickle, which is an ordinary history; and in the buffer that was copied."""
    buffer = filled()
    kept = keep(buffer)
    assert type(kept) is (DeferredHistoryBuffer if kept is buffer else HistoryBuffer)
    assert kept.data[0].tolist() == VALUES
    assert buffer.data[0].tolist() == VALUES
    assert kept.data[1].tolist() == [1.0] * len(VALUES)


def test_reading_does_not_end_the_appending():
    """Readings between: the order is that of the appending."""
    buffer = DeferredHistoryBuffer()
    for value in VALUES:
        buffer.append(torch.tensor(value))
        assert buffer.current() == value
    assert buffer.data[0].tolist() == VALUES


def test_tensors_wait_until_they_are_read():
    """Not one number is taken from a tensor before; with that, the graph is let go at once."""
    buffer = DeferredHistoryBuffer()
    value = torch.tensor(2.0, requires_grad=True)
    buffer.append(value * 3)
    assert unread(buffer) == 1
    assert not buffer._pending[0].requires_grad
    assert buffer.current() == 6.0
    assert unread(buffer) == 0


def test_many_pending_ones_are_read_before_they_fill_the_memory(monkeypatch):
    """Where nobody asks."""
    monkeypatch.setattr(deferred_scalars, 'MOST_PENDING', 3)
    buffer = DeferredHistoryBuffer()
    for number, value in enumerate(VALUES):
        buffer.append(torch.tensor(value))
        assert unread(buffer) == (number + 1) % 3
    assert buffer.data[0].tolist() == VALUES


def test_the_history_is_no_longer_than_asked():
    """The oldest go first, as in an ordinary one."""
    ours, ordinary = filled(max_length=3), filled(HistoryBuffer, max_length=3)
    assert [part.tolist() for part in ours.data] == [part.tolist() for part in ordinary.data]
    assert ours.data[0].tolist() == VALUES[-3:]


def test_dtypes_and_devices_of_one_history_may_differ():
    """Half precision in one step, and a number that float32 does not hold in another."""
    buffer = DeferredHistoryBuffer()
    buffer.append(torch.tensor(0.5, dtype=torch.bfloat16))
    buffer.append(torch.tensor(1 / 3, dtype=torch.float64))
    assert buffer.data[0].tolist() == [0.5, 1 / 3]


def test_the_hub_goes_on_with_what_it_knows():
    """After a resume it holds an ordinary history, which our values follow; its state is one again."""
    hub = MessageHub.get_instance('test_deferred_scalars_resumed')
    hub.update_scalar('train/radius', 7.0)
    for value in VALUES:
        defer_scalar(hub, 'train/radius', torch.tensor(value))
    state = hub.state_dict()
    assert type(state['log_scalars']['train/radius']) is HistoryBuffer
    assert state['log_scalars']['train/radius'].data[0].tolist() == [7.0, *VALUES]
    resumed = MessageHub.get_instance('test_deferred_scalars_resuming')
    resumed.load_state_dict(state)
    defer_scalar(resumed, 'train/radius', torch.tensor(9.0))
    assert resumed.get_scalar('train/radius').data[0].tolist() == [7.0, *VALUES, 9.0]
    assert np.array_equal(hub.get_scalar('train/radius').data[0], [7.0, *VALUES])


def test_a_new_scalar_is_made_once():
    """The second value joins the first."""
    hub = MessageHub.get_instance('test_deferred_scalars_new')
    defer_scalar(hub, 'train/gap', torch.tensor(1.0))
    buffer = hub.log_scalars['train/gap']
    defer_scalar(hub, 'train/gap', torch.tensor(2.0))
    assert hub.log_scalars['train/gap'] is buffer
    assert unread(buffer) == 2
    assert hub.get_scalar('train/gap').mean() == 1.5
