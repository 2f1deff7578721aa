"""A step on real models is the formula written out, and the base wrapper's where the radius is 0."""

import copy

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from real_models import CLASSES, REAL, packaged, pictures, scenes, train_longhand, wrap
from small_network import ALL_ASCENTS, ALL_POLICIES, policy_of

from mmsharp.models import without_downloads
from mmsharp.registry import ASCENTS, POLICIES, build_part
from mmsharp.sharpness import RandomState

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of what is deprecated


def train(model, wrapper, batches):
    """Train, and give the random states that the steps began with."""
    states = []
    for data in batches:
        states.append(RandomState.capture())
        model.train_step(copy.deepcopy(data), wrapper)
    return states


def assert_as_longhand(model, twin):
    expected = dict(twin.named_parameters())
    for name, value in model.named_parameters():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ('ascent', 'policy'),
    [*((name, 'EveryStep') for name in ALL_ASCENTS), *(('SAM', name) for name in ALL_POLICIES if name != 'EveryStep')],
)
def test_training_is_the_formula_written_out(real, ascent, policy):
    """Two passes by hand, or one along the momentum: three steps of every registered ascent and policy."""
    model, twin = real.make(), real.make()
    start = copy.deepcopy(dict(model.named_parameters()))
    batches = [real.batch(seed) for seed in range(3)]
    states = train(model, wrap(model, ascent=dict(type=ascent), policy=policy_of(policy)), batches)
    parts = build_part(ASCENTS, dict(type=ascent)), build_part(POLICIES, policy_of(policy))
    train_longhand(twin, batches, states, *parts)
    assert_as_longhand(model, twin)
    moved = [not torch.equal(value, start[name]) for name, value in model.named_parameters() if value.requires_grad]
    assert all(moved)


@pytest.mark.parametrize('max_norm', [None, 0.1])
def test_accumulation_and_clipping_are_those_of_the_final_gradient(real, max_norm):
    """Each micro-batch has its own ball; only what they sum up to is clipped."""
    model, twin = real.make(), real.make()
    batches = [real.batch(seed) for seed in range(4)]
    clipping = {} if max_norm is None else dict(clip_grad=dict(max_norm=max_norm))
    states = train(model, wrap(model, ascent=dict(type='SAM'), accumulative_counts=2, **clipping), batches)
    parts = build_part(ASCENTS, dict(type='SAM')), build_part(POLICIES, policy_of('EveryStep'))
    train_longhand(twin, batches, states, *parts, counts=2, max_norm=max_norm)
    assert_as_longhand(model, twin)


@pytest.mark.parametrize('ascent', ['SAM', 'AdaSAP'])
def test_frozen_shared_and_unused_parameters(real, ascent):
    """Stages that are frozen, two layers with one weight, and a layer without gradient: as written out."""
    ends = []
    for _ in range(2):
        model = real.make(frozen_stages=real.frozen)
        model.get_submodule(real.shared[1]).weight = model.get_submodule(real.shared[0]).weight
        model.idle = torch.nn.Linear(2, 2)
        ends.append(model)
    model, twin = ends
    twin.idle.load_state_dict(model.idle.state_dict())
    before = copy.deepcopy(dict(model.named_parameters()))
    batches = [real.batch(seed) for seed in range(2)]
    states = train(model, wrap(model, ascent=dict(type=ascent)), batches)
    train_longhand(
        twin, batches, states, build_part(ASCENTS, dict(type=ascent)), build_part(POLICIES, policy_of('EveryStep'))
    )
    assert_as_longhand(model, twin)
    still = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert set(still) == {
        name for name, value in model.named_parameters() if not value.requires_grad or name.startswith('idle')
    }
    assert len(still) > 4


@pytest.mark.parametrize('settings', [{}, dict(accumulative_counts=2), dict(clip_grad=dict(max_norm=0.1))], ids=str)
def test_radius_zero_is_the_base_wrapper(real, settings):
    """Bitwise: weights, statistics, momentum, and the random numbers of the next step."""
    ends = []
    for kind, given in (('OptimWrapper', {}), ('mmsharp.SAMOptimWrapper', dict(ascent=dict(type='SAM', rho=0.0)))):
        model = real.make()
        wrapper = wrap(model, kind=kind, **given, **copy.deepcopy(settings))
        torch.manual_seed(1)
        train(model, wrapper, [real.batch(seed) for seed in range(4)])
        momenta = [wrapper.optimizer.state[value].get('momentum_buffer') for value in model.parameters()]
        ends.append((model.state_dict(), [value for value in momenta if value is not None], torch.rand(1)))
    (plain, momenta, drawn), (ours, other_momenta, also_drawn) = ends
    assert all(torch.equal(value, ours[key]) for key, value in plain.items())
    assert all(torch.equal(value, other) for value, other in zip(momenta, other_momenta))
    assert torch.equal(drawn, also_drawn)


@pytest.mark.parametrize(
    'settings',
    [
        *(dict(policy=policy_of(name)) for name in ALL_POLICIES),
        dict(ascent=dict(type='MomentumSAM')),
        dict(parameters='norm_only', ascent=dict(type='ASAM', rho=5.0)),
    ],
    ids=str,
)
def test_weights_come_back(real, settings):
    """Without a learning rate no weight moves by a bit, although gradients were taken elsewhere."""
    model = real.make()
    before = copy.deepcopy(dict(model.named_parameters()))
    train(model, wrap(model, lr=0.0, **copy.deepcopy(settings)), [real.batch(seed) for seed in range(3)])
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_activation_checkpointing_trains_alike(real):
    """The backbone's with_cp=True, which MMEngine's toolboxes make with the reentrant kind."""
    ends = []
    for with_cp in (False, True):
        model = real.make(with_cp=with_cp)
        torch.manual_seed(1)
        train(model, wrap(model), [real.batch(seed) for seed in range(2)])
        ends.append(dict(model.named_parameters()))
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-4, atol=1e-6)


def _dynamic_head():
    model = REAL['detector'].config()
    packaged_head = packaged('mmdet', 'dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco.py').model
    model.roi_head.type = packaged_head.roi_head.type
    model.roi_head.bbox_head.loss_bbox = packaged_head.roi_head.bbox_head.loss_bbox
    model.train_cfg.rcnn.dynamic_rcnn = packaged_head.train_cfg.rcnn.dynamic_rcnn
    return 'mmdet', model, scenes


def _transformer():
    config = packaged('mmpretrain', 'swin_transformer/swin-tiny_16xb64_in1k.py')
    model = Config(dict(model=dict(config.model, data_preprocessor=dict(num_classes=CLASSES)))).model
    model.backbone.update(img_size=32, window_size=2, drop_path_rate=0.5, patch_size=2)
    model.head.num_classes = CLASSES
    model.train_cfg = None
    return 'mmpretrain', model, pictures


FURTHER = {
    'a dense head': lambda: ('mmdet', REAL['dense'].config(), scenes),
    'a head that remembers': _dynamic_head,
    'DropPath': _transformer,
}


@pytest.mark.parametrize('kind', FURTHER)
def test_radius_zero_is_the_base_wrapper_where_passes_draw_and_remember(kind):
    """Bitwise, with all statistics and all that heads keep beside them."""
    pytest.importorskip('mmpretrain' if kind == 'DropPath' else 'mmdet')
    toolbox, described, batch = FURTHER[kind]()
    ends = []
    for wrapped in ('OptimWrapper', 'mmsharp.SAMOptimWrapper'):
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope(toolbox):
            model = MODELS.build(without_downloads(copy.deepcopy(described))).train()
        settings = {} if wrapped == 'OptimWrapper' else dict(ascent=dict(type='SAM', rho=0.0))
        torch.manual_seed(1)
        np.random.seed(1)
        train(model, wrap(model, kind=wrapped, **settings), [batch(seed) for seed in range(2)])
        history = torch.tensor(getattr(getattr(model, 'roi_head', None), 'iou_history', []))
        ends.append({**model.state_dict(), 'history': history})
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
    assert kind != 'a head that remembers' or len(ends[0]['history']) == 2
