"""A classifier that wraps a whole network, and names its weights otherwise in checkpoints, is searched to the end."""

import copy

import pytest
import torch
from headless_classifiers import BASES
from mmengine.config import Config
from mmengine.registry import DATASETS
from small_classifier import CHANNELS, WEIGHTS, batch
from torch.utils.data import Dataset

from mmsharp.apis import init_model
from mmsharp.engine.checkpoints.safe_checkpoint import check_checkpoint
from mmsharp.engine.deployment.deploy import deploy
from mmsharp.engine.hooks import RNGStateHook
from mmsharp.engine.pruning.pruning_state import PruningState

mmpretrain = pytest.importorskip('mmpretrain')
pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

HOOK = dict(type='mmsharp.MaskSearchHook', search=2, recalibration=2)


@DATASETS.register_module(force=True)
class LabelledPixels(Dataset):
    """Twelve random images with mmpretrain's samples of three classes."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict:
        sample = mmpretrain.structures.DataSample().set_gt_label(index % 3)
        return dict(inputs=batch(index, images=1)['inputs'][0], data_samples=sample)


LOADER = dict(
    batch_size=6,
    num_workers=0,
    dataset=dict(type='LabelledPixels'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
)


@pytest.mark.parametrize('search', [WEIGHTS, CHANNELS], ids=['weights', 'channels'])
@pytest.mark.parametrize('base', BASES)
def test_it_ends_resumes_and_is_deployed(make_runner, base, search, tmp_path):
    """A run that is resumed in the search and after it ends bitwise like one that was not; what comes out is plain."""
    model = dict(type='mmsharp.MaskSearch', base=base, search=copy.deepcopy(search))

    def made(name, resume=None):
        runner = make_runner(HOOK, name, resume=resume, model=model, max_epochs=4, train_dataloader=LOADER)
        runner.register_hook(RNGStateHook())
        runner.train()
        return check_checkpoint(tmp_path / name / 'epoch_4.pth')

    whole = made('whole')
    for epoch in (1, 3):
        resumed = made(f'resumed_{epoch}', tmp_path / f'whole/epoch_{epoch}.pth')
        assert whole['state_dict'].keys() == resumed['state_dict'].keys()
        assert all(torch.equal(whole['state_dict'][key], resumed['state_dict'][key]) for key in whole['state_dict'])
        assert PruningState.from_checkpoint(whole) == PruningState.from_checkpoint(resumed)
    config = Config(
        dict(
            model=model,
            default_scope='mmpretrain',
            custom_imports=dict(imports=['mmsharp', 'headless_classifiers'], allow_failed_imports=False),
            default_hooks=dict(pruning=HOOK),
        )
    )
    deploy(config, str(tmp_path / 'whole/epoch_4.pth'), tmp_path / 'slim', repeats=1)
    small = init_model(tmp_path / 'slim/config.py', tmp_path / 'slim/slim.pth')
    trained = init_model(config, tmp_path / 'whole/epoch_4.pth')
    assert torch.equal(small(batch()['inputs']), trained(batch()['inputs']))
    if search is WEIGHTS:
        assert int((small.model.fc.weight == 0).sum()) == 15
    else:
        assert small.model.fc.weight.shape == (3, 5)
