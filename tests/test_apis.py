"""What a notebook calls gives what the tools give."""

import copy

import pytest
import torch
from mmengine.config import Config

from mmsharp.apis import init_model, slim
from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.errors import MmsharpError
from mmsharp.pruning import ChannelPruner, tensor_forward

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

CONFIG = Config(
    dict(
        default_scope='mmpretrain',
        model=dict(
            type='ImageClassifier',
            backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=8, stem_channels=8),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=64),
        ),
        data_preprocessor=dict(num_classes=3, mean=[0.0], std=[1.0], to_rgb=False),
    )
)
IMAGE = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)


@pytest.fixture
def checkpoints(tmp_path):
    """The same network dense, with half of its channels masked, and slim, as training writes them."""
    torch.manual_seed(0)
    model = build_model(CONFIG)
    forward = tensor_forward(IMAGE)

    meta = dict(dataset_meta=dict(CLASSES=('a', 'b', 'c')))
    torch.save(dict(meta=meta, state_dict=model.state_dict()), tmp_path / 'dense.pth')
    pruner = ChannelPruner(budget=dict(channels=0.5))
    pruner.attach(model, forward)
    pruner.update(1.0)
    state = PruningState('masked', pruner.recipe(), (3, 32, 32))
    torch.save(dict(meta=meta, state_dict=model.state_dict(), mmsharp=state.to_dict()), tmp_path / 'masked.pth')
    with torch.no_grad():
        expected = forward(model)
    slim(CONFIG, tmp_path / 'masked.pth', tmp_path / 'out', repeats=2)
    small = init_model(tmp_path / 'out' / 'config.py', tmp_path / 'out' / 'slim.pth')
    state = state.slimmed(pruner.recipe())
    torch.save(dict(meta=meta, state_dict=small.state_dict(), mmsharp=state.to_dict()), tmp_path / 'slim.pth')
    return tmp_path, expected


def test_one_call_for_masked_slim_and_deployed_checkpoints(checkpoints):
    """All compute the same; the config passed in stays as it was."""
    folder, expected = checkpoints
    before = copy.deepcopy(CONFIG.to_dict())
    for config, name in ((CONFIG, 'masked'), (CONFIG, 'slim'), (folder / 'out' / 'config.py', 'out/slim')):
        model = init_model(config, folder / f'{name}.pth')
        assert not model.training
        assert model.dataset_meta == dict(classes=('a', 'b', 'c'))
        with torch.no_grad():
            torch.testing.assert_close(tensor_forward(IMAGE)(model), expected, rtol=1e-4, atol=1e-5)
    assert CONFIG.to_dict() == before


def test_without_a_checkpoint_the_model_has_its_initial_weights():
    """And the changes of the config are its own."""
    model = init_model(CONFIG, cfg_options={'model.head.num_classes': 5})
    assert model.head.fc.out_features == 5
    assert CONFIG.model.head.num_classes == 3


def test_a_dense_checkpoint_is_not_deployed_and_a_foreign_one_not_loaded(checkpoints):
    """Each with one clear line."""
    folder, _ = checkpoints
    with pytest.raises(MmsharpError, match='is dense'):
        slim(CONFIG, folder / 'dense.pth', folder / 'nothing')
    with pytest.raises(MmsharpError, match=r'dense\.pth.*does not fit'):
        init_model(CONFIG, folder / 'dense.pth', cfg_options={'model.head.num_classes': 5})
