"""A forward pass can be made again from the state that it began with, and leaves what it left."""

from collections import deque

import numpy as np
import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import nn

from mmsharp.sharpness import ForwardState, frozen_statistics
from mmsharp.sharpness.forward_state import keeps_torch_statistics


class Everything(nn.Module):
    """Changes all that a forward pass is known to change."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.average = ExponentialMovingAverage(nn.Linear(2, 2), momentum=0.5).requires_grad_(False)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer('written', torch.zeros(2))
        self.register_buffer('exchanged', torch.zeros(2))
        self.register_buffer('numpys', torch.zeros(2))
        self.register_buffer('nothing', None)
        self.number, self.text, self.tensor, self.memory = 0, '', torch.zeros(1), torch.zeros(3, 2)
        self.listed, self.named, self.unique, self.queue, self._private = [], {}, set(), deque(maxlen=3), []

    def forward(self, inputs):
        self.number += 1
        self.text += 'a'
        self.tensor = self.tensor + 1
        self.memory[1:] = self.memory[:-1].clone()
        self.memory[0] = inputs[0, :2]
        self.written.data.add_(1)
        self.exchanged = self.exchanged + 1
        self.numpys.numpy()[:] += 1
        for container in (self.listed, self.queue, self._private):
            container.append(self.number)
        self.named[self.number] = self.number
        self.unique.add(self.number)
        self.average.update_parameters(self.layer)
        return self.norm(self.layer(inputs) + self.average(inputs))


def tensors_of(model):
    return {**model.state_dict(), 'tensor': model.tensor, 'memory': model.memory}


def everything_of(model):
    """A copy of all of it, in comparable types."""
    tensors = {key: value.clone() for key, value in tensors_of(model).items()}
    rest = (model.number, model.text, list(model.listed), dict(model.named), set(model.unique), list(model.queue))
    return tensors, (*rest, list(model._private))


def assert_same(first, second):
    assert first[1] == second[1]
    assert all(torch.equal(value, second[0][key]) for key, value in first[0].items())


INPUTS = torch.tensor([[1.0, 2.0], [3.0, 5.0]])


def test_a_second_pass_sees_what_the_first_saw_and_leaves_nothing():
    """Inside, all is as before the first pass, but for BatchNorm's statistics, which do not matter in training."""
    model = Everything()
    model(INPUTS)
    before = everything_of(model)
    state = ForwardState(model)
    model(INPUTS)
    after = everything_of(model)
    objects = [model.memory, model.written, model.exchanged, model.listed, model.named, model.unique, model.queue]
    with state.replayed():
        for key in before[0]:
            if not key.startswith('norm.'):
                assert torch.equal(tensors_of(model)[key], before[0][key]), key
        assert everything_of(model)[1] == before[1]
        model(INPUTS)
    model.norm.load_state_dict({key[5:]: value for key, value in after[0].items() if key.startswith('norm.')})
    assert_same(everything_of(model), after)
    now = [model.memory, model.written, model.exchanged, model.listed, model.named, model.unique, model.queue]
    assert all(one is other for one, other in zip(objects, now))


@pytest.mark.parametrize('replayed', [False, True])
def test_rewinding_goes_back_for_good(replayed):
    """Statistics of BatchNorm too, and after a replay as well."""
    model = Everything()
    model(INPUTS)
    before = everything_of(model)
    objects = [model.memory, model.written, model.exchanged, model.listed, *model.average.parameters()]
    state = ForwardState(model)
    model(INPUTS)
    if replayed:
        with state.replayed():
            model(INPUTS)
    state.rewind()
    assert_same(everything_of(model), before)
    now = [model.memory, model.written, model.exchanged, model.listed, *model.average.parameters()]
    assert all(one is other for one, other in zip(objects, now))


def test_shared_buffers_stay_shared():
    """One tensor under two names is one tensor in the second pass too."""
    model = nn.Module()
    model.register_buffer('one', torch.zeros(1))
    model.child = nn.Module()
    model.child.register_buffer('other', model.one)
    with ForwardState(model).replayed():
        assert model.one is model.child.other
        model.one += 1
    assert model.one is model.child.other
    assert model.one.item() == 0


def test_an_exception_inside_changes_nothing():
    """The state outside comes back."""
    model = Everything()
    state = ForwardState(model)
    after = everything_of(model)
    with pytest.raises(RuntimeError, match='shapes'), state.replayed():
        model(torch.ones(2, 3))
    assert_same(everything_of(model), after)
    assert np.allclose(model.numpys.numpy(), 0)


def test_batch_normalisation_of_one_s_own_is_told_apart():
    """Only torch's own forward obeys `track_running_stats`."""

    class Own(nn.BatchNorm2d):
        def forward(self, inputs):
            return inputs

    class Named(nn.BatchNorm2d):
        """A subclass that changes nothing."""

    modules = (Named(1), nn.SyncBatchNorm(1), Own(1), nn.GroupNorm(1, 1))
    assert [keeps_torch_statistics(module) for module in modules] == [True, True, False, False]


def test_an_average_keeps_the_statistics_of_its_own_pass():
    """The sources' are copied into it in each forward pass, before it adds what it sees itself."""
    source = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model = nn.ModuleDict(dict(source=source, average=ExponentialMovingAverage(source, momentum=0.5)))

    def forward():
        model['source'](INPUTS)
        model['average'].update_parameters(model['source'])
        model['average'](INPUTS)

    state = ForwardState(model)
    forward()
    after = {key: value.clone() for key, value in model.state_dict().items()}
    assert not torch.equal(after['source.1.running_mean'], after['average.module.1.running_mean'])
    with frozen_statistics(model, state):
        forward()
    assert all(torch.equal(value, after[key]) for key, value in model.state_dict().items())


def test_tensors_that_cannot_be_written_are_left_alone():
    """Results of a graph, expanded ones, those of inference mode: as they were, and nothing is raised."""

    class Holder(nn.Module):
        pass

    model = Holder()
    model.result = torch.ones(2, requires_grad=True) * 2
    model.spread = torch.ones(1).expand(3)
    with torch.inference_mode():
        model.inferred = torch.ones(2)
    held = (model.result, model.spread, model.inferred)
    state = ForwardState(model)
    with state.replayed():
        model.spread = None
    state.rewind()
    assert all(one is other for one, other in zip(held, (model.result, model.spread, model.inferred)))


class Histories(nn.Module):
    """Containers in containers, a compiled part with a counter, and a buffer that the first pass makes."""

    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer('seen', torch.zeros(1))

        def forward(self, x):
            self.seen += 1
            return x * self.seen

    def __init__(self):
        super().__init__()
        self.history = {'losses': [], 'levels': [deque(), {'deep': []}]}
        self.history['itself'] = self.history
        with torch.no_grad():
            self.counter = torch.jit.script(self.Counter())

    def forward(self, x):
        self.history['losses'].append(len(self.history['losses']))
        self.history['levels'][0].append(0)
        self.history['levels'][1]['deep'].append(0)
        self.history['levels'].append(len(self.history['levels']))
        if not hasattr(self, 'made'):
            self.register_buffer('made', torch.zeros(()))
        self.made = self.made + 1
        return self.counter(x), len(self.history['losses']), len(self.history['levels']), self.made.item()


@pytest.mark.filterwarnings('ignore:.*torch.jit.*')
def test_nested_histories_compiled_parts_and_buffers_made_on_the_way():
    """A second pass gives what the first gave; afterwards all is as the first left it, or, rewound, as before it."""
    model = Histories()
    for rewound in (False, True):
        before = model.counter.seen.item()
        lengths = len(model.history['losses']), len(model.history['levels'][1]['deep'])
        state = ForwardState(model)
        first = model(torch.ones(1))
        made, inner = model.made, model.history['levels'][1]['deep']
        with state.replayed():
            second = model(torch.ones(1))
        assert first == second
        assert model.counter.seen.item() == before + 1
        assert model.made is made
        assert model.history['levels'][1]['deep'] is inner
        assert (len(model.history['losses']), len(inner)) == (lengths[0] + 1, lengths[1] + 1)
        if rewound:
            state.rewind()
            assert (len(model.history['losses']), len(inner)) == lengths
            assert model.counter.seen.item() == before
