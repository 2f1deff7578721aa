"""What only a GPU can show: nobody waits for it, and SyncBN keeps the statistics of the clean pass."""

import copy

import pytest
import torch
import torch.distributed
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from small_network import PAIRS
from torch import nn

from mmsharp.engine.optim_wrappers import SAMOptimWrapper

pytestmark = pytest.mark.gpu


class Network(BaseModel):
    """Convolution, normalisation, dropout and a buffer that the forward writes."""

    def __init__(self, normalisation=nn.BatchNorm2d):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3), normalisation(8), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(8, 4, 3)
        )
        self.register_buffer('calls', torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode='loss'):
        self.calls += 1
        return dict(loss=self.layers(inputs).square().mean())


def batch():
    return dict(inputs=torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1)).cuda())


@pytest.fixture
def waiting_is_an_error():
    """Torch raises where the host would wait for the device."""
    torch.cuda.set_sync_debug_mode('error')
    yield
    torch.cuda.set_sync_debug_mode('default')


@pytest.mark.parametrize(('ascent', 'policy'), [(None, None), *PAIRS])
def test_no_step_waits_for_the_device(ascent, policy, request):
    """Not in the base wrapper, and not in ours: readings stay tensors until somebody looks."""
    model = Network().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    wrapper = (
        OptimWrapper(optimizer)
        if ascent is None
        else SAMOptimWrapper(optimizer, ascent=dict(type=ascent), policy=dict(type=policy))
    )
    data = batch()
    model.train_step(data, wrapper)
    request.getfixturevalue('waiting_is_an_error')
    for _ in range(6):
        model.train_step(data, wrapper)


@pytest.fixture
def process_group(tmp_path):
    """One process with NCCL, as SyncBN wants."""
    torch.distributed.init_process_group('nccl', init_method=f'file://{tmp_path}/group', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures('process_group')
def test_synchronised_statistics_are_those_of_the_clean_pass():
    """SyncBN under DDP: running mean, variance and counter equal those of one plain pass."""
    model = Network(nn.SyncBatchNorm).cuda()
    twin = copy.deepcopy(model)
    wrapped = MMDistributedDataParallel(model, device_ids=[0], broadcast_buffers=False)
    wrapper = SAMOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), ascent=dict(type='SAM', rho=1.0))
    wrapped.train_step(batch(), wrapper)
    twin(**batch())
    for name, buffer in twin.named_buffers():
        assert torch.equal(buffer, model.get_buffer(name)), name
