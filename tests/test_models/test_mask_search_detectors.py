"""Masks are searched in the detectors that the documents name, as the toolbox packages them."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.utils import get_installed_path

from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.prunability.examples import announce_first_iteration, training_batch
from mmsharp.models import is_searching, without_downloads

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

SIZE = 128
LARGE = pytest.mark.large
DETECTORS = [
    'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py',
    pytest.param('retinanet/retinanet_r18_fpn_1x_coco.py', marks=LARGE),
    pytest.param('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', marks=LARGE),
    pytest.param('atss/atss_r50_fpn_1x_coco.py', marks=LARGE),
    pytest.param('gfl/gfl_r50_fpn_1x_coco.py', marks=LARGE),
    pytest.param('yolox/yolox_tiny_8xb8-300e_coco.py', marks=LARGE),
]
SEARCHES = {
    'channel': dict(granularity='channel', ratio=0.3, input_shape=(3, SIZE, SIZE)),
    'weight': dict(granularity='weight', ratio=0.3),
}
LOSSES = dict(
    stability=dict(type='Stability'),
    consistency=dict(type='Consistency'),
    l1=dict(type='L1'),
    task=dict(type='Task'),
)


@pytest.mark.slow
@pytest.mark.parametrize('search', SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize('name', DETECTORS)
def test_a_step_moves_masks_alone(name, search):
    """Weights stay bitwise what they were and parameters of their modules; then the search ends at its ratio."""
    config = Config.fromfile(f'{get_installed_path("mmdet")}/.mim/configs/{name}')
    ordinary = without_downloads(config.model.to_dict())
    if 'norm_eval' in ordinary['backbone']:
        ordinary['backbone']['norm_eval'] = False
    config.model = dict(ordinary, type='mmsharp.MaskSearch', base=ordinary['type'], search=dict(search, losses=LOSSES))
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build_model(config).train()
    announce_first_iteration()
    wrapper = build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)))
    model.begin_search()
    own = {name: value for name, value in model.named_parameters() if not name.startswith('mask_search.')}
    before = {name: value.detach().clone() for name, value in own.items()}
    first = {name: mask.detach().clone() for name, mask in model.mask_search.by_name().items()}
    for seed in range(2):
        losses = model.train_step(training_batch(config, 'mmdet', SIZE, 2, seed=seed), wrapper)
        assert torch.isfinite(losses['loss'])
        assert {'loss_stability', 'loss_consistency', 'loss_l1', 'loss_cls'} <= set(losses)
    after = dict(model.named_parameters())
    assert all(after[name] is value and torch.equal(value, before[name]) for name, value in own.items())
    assert any(not torch.equal(mask, first[name]) for name, mask in model.mask_search.by_name().items())
    model.finish_search()
    assert not is_searching(model)
