import pytest
import torch
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning import count_macs, count_parameters, measure_latencies, measure_latency, tensor_forward


def test_parameters_are_counted_once():
    """Frozen parameters count, shared ones once, buffers not at all."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3)).requires_grad_(False)
    model[1].weight = model[0].weight
    assert count_parameters(model) == 9 + 3 + 3 + 3 + 3


def test_macs_longhand():
    """Kernel size x channels in / groups x positions out, over the batch."""
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2, padding=1), nn.Flatten(), nn.Linear(8 * 36, 5))
    expected = 2 * (9 * 2 * 8 * 36 + 8 * 36 * 5)
    assert count_macs(model, tensor_forward(torch.zeros(2, 4, 6, 6))) == expected


def test_latency_is_the_median_of_the_timed_runs(monkeypatch):
    """Warm-up runs do not count, one slow run does not matter."""
    seconds = iter([0, 100, 0, 1, 0, 2, 0, 50])
    monkeypatch.setattr('time.perf_counter', lambda: next(seconds))
    assert measure_latency(nn.Identity(), tensor_forward(torch.zeros(1)), repeats=3, warmup=1) == 2


def test_models_take_turns_until_the_limit(monkeypatch):
    """One of each per round; what is over the limit is three rounds after the warm-up, and no more."""
    order = []
    clock = iter(range(1000))
    monkeypatch.setattr('time.perf_counter', lambda: next(clock))
    models = [(nn.Identity(), lambda _: order.append('a')), (nn.Identity(), lambda _: order.append('b'))]
    assert measure_latencies(models, repeats=30, warmup=1, limit=1) == [1, 1]
    assert ''.join(order) == 'ab' * 4


def test_no_runs_are_refused():
    """At least one timed run."""
    with pytest.raises(MmsharpError, match='repeats=0'):
        measure_latency(nn.Identity(), tensor_forward(torch.zeros(1)), repeats=0)


@pytest.mark.parametrize('weights', [False, True])
def test_fused_attention_is_counted(weights):
    """``nn.MultiheadAttention`` counts in evaluation as in training, longhand; its fast path is as before."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.MultiheadAttention(32, 4, batch_first=True)

        def forward(self, x):
            return self.block(x, x, x, need_weights=weights)[0]

    expected = 16 * 32 * (96 + 32) + 2 * 16 * 16 * 32
    assert count_macs(Attention(), tensor_forward(torch.zeros(1, 16, 32))) == expected
    assert torch.backends.mha.get_fastpath_enabled()
