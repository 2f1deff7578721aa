"""The wrapper inside MMEngine's runner, with everything that a config may switch on beside it."""

import copy
import json
import math

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from mmsharp.errors import MmsharpError

pytestmark = [
    pytest.mark.filterwarnings('ignore:.*use_reentrant.*'),
    pytest.mark.filterwarnings('ignore:Detected call of `scheduler.step'),  # MMEngine's own, under accumulation
]


@DATASETS.register_module(force=True)
class TwentyImages(Dataset):
    """Random images with labels, always the same."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        self.images = torch.randn(20, 3, 8, 8, generator=generator)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.images[index], data_samples=torch.tensor(index % 2))


@MODELS.register_module(force=True)
class Layered(BaseModel):
    """A frozen stem, a body with BatchNorm and dropout, a shared layer, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1).requires_grad_(False)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2))
        self.shared = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        features = self.body(self.stem(inputs))
        features = self.shared(torch.relu(self.shared(features)))
        scores = self.head(features.mean(dim=(2, 3)))
        return scores if mode == 'tensor' else dict(loss=nn.functional.cross_entropy(scores, data_samples))


@MODELS.register_module(force=True)
class OwnStep(Layered):
    """A train_step that never enters the wrapper's context."""

    def train_step(self, data, optim_wrapper):
        losses = self(data['inputs'], data['data_samples'], mode='loss')
        optim_wrapper.update_params(losses['loss'])
        return losses


EVERYTHING = dict(
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4),
        dict(type='MultiStepLR', milestones=[2], by_epoch=True),
    ],
    custom_hooks=[dict(type='EMAHook', momentum=0.1)],
    auto_scale_lr=dict(enable=True, base_batch_size=8),
)


def trained(tmp_path, name, wrapper, model='Layered', kind='AdamW', **changes):
    optimizer = dict(
        optimizer=dict(type=kind, lr=0.01, weight_decay=0.1),
        paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0, custom_keys=dict(body=dict(lr_mult=0.5))),
        clip_grad=dict(max_norm=0.5),
        accumulative_counts=2,
    )
    config = dict(
        model=dict(type=model),
        work_dir=str(tmp_path / name),
        experiment_name=f'{tmp_path.name}_{name}',
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            dataset=dict(type='TwentyImages'),
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer, **wrapper),
        default_scope='mmengine',
        randomness=dict(seed=0),
        log_level='ERROR',
    )
    config.update(copy.deepcopy(changes.pop('cfg', {})))
    config.update(copy.deepcopy(changes))
    runner = Runner.from_cfg(Config(config))
    runner.train()
    return runner


def assert_same_run(first, second):
    """Weights, statistics, averages and what the optimizer remembers."""
    for key, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[key]), key
    for ours, theirs in zip(first.hooks, second.hooks):
        if hasattr(ours, 'ema_model'):
            for key, value in ours.ema_model.state_dict().items():
                assert torch.equal(value, theirs.ema_model.state_dict()[key]), key
    states = [runner.optim_wrapper.state_dict()['state'] for runner in (first, second)]
    for index, state in states[0].items():
        assert all(torch.equal(value, states[1][index][name]) for name, value in state.items())
    assert first.optim_wrapper.get_lr() == second.optim_wrapper.get_lr()


def test_radius_zero_is_the_base_wrapper_with_everything_switched_on(tmp_path):
    """Schedulers, per-parameter options, EMA, scaled learning rate, accumulation, clipping: bitwise."""
    plain = trained(tmp_path, 'plain', dict(type='OptimWrapper'), **EVERYTHING)
    ours = trained(
        tmp_path, 'ours', dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='SAM', rho=0.0)), **EVERYTHING
    )
    assert_same_run(plain, ours)
    sharp = trained(tmp_path, 'sharp', dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP')), **EVERYTHING)
    assert not torch.equal(sharp.model.head.weight, ours.model.head.weight)
    assert torch.equal(sharp.model.stem.weight, ours.model.stem.weight)


def test_the_switch_for_activation_checkpointing(tmp_path):
    """MMEngine's activation_checkpointing, which reenters autograd, changes nothing but the memory."""
    wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='SAM', rho=0.1))
    stored = trained(tmp_path, 'stored', wrapper, kind='SGD')
    asked = dict(activation_checkpointing=['shared', 'head'])
    recomputed = trained(tmp_path, 'recomputed', wrapper, kind='SGD', cfg=asked)
    assert 'forward' in vars(recomputed.model.head)  # the switch has wrapped it
    for key, value in stored.model.named_parameters():
        torch.testing.assert_close(recomputed.model.get_parameter(key), value, rtol=1e-5, atol=1e-6)


def test_compile_is_refused_at_the_start(tmp_path):
    """With the reason, before the first step."""
    with pytest.raises(MmsharpError, match='compile=False'):
        trained(
            tmp_path,
            'compiled',
            dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='SAM')),
            cfg=dict(compile=dict(backend='eager')),
        )


def test_a_model_with_a_train_step_of_its_own_is_refused(tmp_path):
    """It never enters optim_context: an error at the first step, not plain training."""
    with pytest.raises(MmsharpError, match='optim_context'):
        trained(tmp_path, 'own', dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='SAM')), model='OwnStep')


@pytest.mark.parametrize(
    ('ascent', 'names'),
    [('AdaSAP', {'loss_gap', 'gradient_norm', 'radius'}), ('MomentumSAM', {'momentum_norm', 'radius'})],
)
def test_readings_reach_the_visualizer(tmp_path, ascent, names):
    """Every backend gets what the local one writes down."""
    wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type=ascent))
    hooks = dict(logger=dict(type='LoggerHook', interval=5))
    trained(tmp_path, ascent, wrapper, kind='Adam', default_hooks=hooks)
    (written,) = tmp_path.glob('*/*/vis_data/scalars.json')
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    assert len(lines) == 3
    for line in lines:
        readings = {key: value for key, value in line.items() if key.startswith('sharpness/')}
        assert set(readings) == {f'sharpness/{name}' for name in names}
        assert all(math.isfinite(value) for value in readings.values())
        assert readings['sharpness/radius'] > 0
