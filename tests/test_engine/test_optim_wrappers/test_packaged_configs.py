"""Every optimizer wrapper that the toolboxes package becomes sharpness-aware by its type, or says by name why not."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper, build_optim_wrapper
from mmengine.registry import OPTIMIZERS, DefaultScope

from mmsharp.engine.optim_wrappers import AmpSAMOptimWrapper, SAMOptimWrapper
from mmsharp.errors import MmsharpError

pytestmark = pytest.mark.filterwarnings('ignore')  # configs use what the toolboxes have deprecated

MIXED = ('loss_scale', 'dtype', 'use_fsdp')


class Small(BaseModel):
    """Something with parameters."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=self.layer(inputs).sum())


def packaged(toolbox: str) -> list[ConfigDict]:
    """The distinct wrappers of all configs that say something of theirs, schedules included."""
    root = Path(importlib.util.find_spec(toolbox).origin).parent / '.mim' / 'configs'
    distinct = {}
    for path in sorted(root.rglob('*.py')):
        if 'optim_wrapper' in path.read_text(encoding='utf-8'):
            wrapper = Config.fromfile(path).get('optim_wrapper')
            if wrapper and 'optimizer' in wrapper:
                distinct[json.dumps(wrapper.to_dict(), sort_keys=True, default=str)] = wrapper
    return list(distinct.values())


@pytest.mark.parametrize('toolbox', ['mmdet', 'mmpretrain'])
def test_packaged_wrappers(toolbox):
    """Merged as a config merges: with a key of mixed precision our plain type names it, our mixed one takes it."""
    pytest.importorskip(toolbox)
    wrappers = packaged(toolbox)
    assert len(wrappers) >= 20
    mixed, skipped = 0, set()
    with DefaultScope.overwrite_default_scope(toolbox):
        for wrapper in wrappers:
            kind = wrapper.optimizer.type
            with OPTIMIZERS.switch_scope_and_registry(None) as registry:
                if isinstance(kind, str) and registry.get(kind) is None:
                    skipped.add(kind)  # of another toolbox, with any wrapper
                    continue
            left = [key for key in MIXED if key in wrapper]
            mixed += bool(left)
            for name in ('SAMOptimWrapper', 'AmpSAMOptimWrapper'):
                config = Config(dict(optim_wrapper=wrapper.to_dict()))
                config.merge_from_dict(
                    {'optim_wrapper.type': f'mmsharp.{name}', 'optim_wrapper.ascent': {'type': 'SAM'}}
                )
                config.optim_wrapper.pop('constructor', None)  # looks for layers of its own model
                config.optim_wrapper.pop('paramwise_cfg', None)
                if name == 'SAMOptimWrapper' and left:
                    with pytest.raises(MmsharpError, match=f'{sorted(left)[0]}=.*AmpSAMOptimWrapper'):
                        build_optim_wrapper(Small(), config.optim_wrapper)
                else:
                    built = build_optim_wrapper(Small(), config.optim_wrapper)
                    assert type(built).__name__ == name
    assert mixed >= 3
    assert len(skipped) <= 1


@pytest.mark.parametrize('kind', [SAMOptimWrapper, AmpSAMOptimWrapper])
def test_class_objects_as_type(kind):
    """Pure-Python configs name the class itself."""
    config = ConfigDict(type=kind, optimizer=dict(type=torch.optim.SGD, lr=0.1), ascent=dict(type='SAM'))
    assert type(build_optim_wrapper(Small(), config)) is kind


@pytest.mark.parametrize('kind', ['OptimWrapper', 'AmpOptimWrapper', OptimWrapper, AmpOptimWrapper])
def test_a_type_that_a_tool_writes_over_ours_ends_in_an_error(kind):
    """The toolboxes' --amp leaves `ascent` behind, which no plain wrapper takes: never silent plain training."""
    config = ConfigDict(type=kind, optimizer=dict(type='SGD', lr=0.1), ascent=dict(type='SAM'))
    with pytest.raises((TypeError, AssertionError)):
        build_optim_wrapper(Small(), config)
