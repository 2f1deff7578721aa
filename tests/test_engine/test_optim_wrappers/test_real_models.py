"""The modes of training, on a detector and a classifier as the toolboxes package them."""

import copy
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from mmsharp.models import without_downloads
from mmsharp.registry import ASCENTS, POLICIES, build_part
from mmsharp.sharpness import RandomState, select_parameters

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of what is deprecated


def _packaged(toolbox, path):
    root = Path(importlib.util.find_spec(toolbox).origin).parent / '.mim' / 'configs'
    return Config.fromfile(root / path)


def _detector():
    pytest.importorskip('mmdet')
    from mmdet.testing import demo_mm_inputs

    config = _packaged('mmdet', 'retinanet/retinanet_r18_fpn_1x_coco.py')
    data = [demo_mm_inputs(2, [[3, 64, 64], [3, 64, 96]], num_classes=80, num_items=[2, 1]) for _ in range(2)]
    return 'mmdet', config.model, data


def _classifier():
    pytest.importorskip('mmpretrain')
    from mmpretrain.structures import DataSample

    config = _packaged('mmpretrain', 'resnet/resnet18_8xb16_cifar10.py')
    model = dict(config.model, data_preprocessor=config.data_preprocessor)
    data = []
    for seed in range(2):
        images = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
        samples = [DataSample().set_gt_label((seed + index) % 10) for index in range(4)]
        data.append(dict(inputs=list(images), data_samples=samples))
    return 'mmpretrain', Config(dict(model=model)).model, data


@pytest.fixture(scope='module', params=[_detector, _classifier], ids=['detector', 'classifier'])
def real(request):
    """A function that makes the same model each time, and two batches."""
    torch.manual_seed(0)
    toolbox, described, data = request.param()

    def make(**changes):
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope(toolbox):
            config = without_downloads(copy.deepcopy(described))
            config.backbone.update(changes)
            model = MODELS.build(config)
            model.init_weights()
        return model.train()

    return make, data


def _wrapped(model, lr=0.01, kind='mmsharp.SAMOptimWrapper', **settings):
    settings.setdefault('ascent', dict(type='AdaSAP'))
    return build_optim_wrapper(model, dict(type=kind, optimizer=dict(type='SGD', lr=lr, momentum=0.9), **settings))


def _loss(model, data):
    batch = model.data_preprocessor(copy.deepcopy(data), True)
    return model.parse_losses(model(**batch, mode='loss'))[0]


@pytest.mark.parametrize('name', ['SAM', 'ASAM', 'AdaSAP'])
def test_a_step_is_the_formula_written_out(real, name):
    """Two passes by hand, over accumulated micro-batches and with the final gradient clipped."""
    make, batches = real
    model, twin = make(), make()
    wrapper = _wrapped(model, ascent=dict(type=name), accumulative_counts=2, clip_grad=dict(max_norm=1.0))
    states = []
    for data in batches:
        states.append(RandomState.capture())
        model.train_step(data, wrapper)
    ascent = build_part(ASCENTS, dict(type=name))
    parameters = [p for p in select_parameters(twin, ascent.default_parameters)]
    for data, state in zip(batches, states):
        with state.replayed():
            gradients = torch.autograd.grad(
                _loss(twin, data) / 2, [parameter.tensor for parameter in parameters], allow_unused=True
            )
        used = [(parameter, gradient) for parameter, gradient in zip(parameters, gradients) if gradient is not None]
        eps = [gradient for _, gradient in used]
        with torch.no_grad():
            ascent.perturb_([parameter for parameter, _ in used], eps, [None] * len(eps))
        moved = copy.deepcopy(twin)
        for (parameter, _), part in zip(used, eps):
            moved.get_parameter(parameter.name).data.add_(part)
        moved.zero_grad()
        with state.replayed():
            (_loss(moved, data) / 2).backward()
        for ours, theirs in zip(twin.parameters(), moved.parameters()):
            if theirs.grad is not None:
                ours.grad = theirs.grad if ours.grad is None else ours.grad + theirs.grad
    torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
    torch.optim.SGD(twin.parameters(), lr=0.01, momentum=0.9).step()
    expected = twin.state_dict()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    'settings',
    [
        *(dict(policy=dict(type=name)) for name in sorted(POLICIES.module_dict)),
        dict(ascent=dict(type='MomentumSAM')),
        dict(parameters='norm_only', ascent=dict(type='ASAM', rho=5.0)),
        dict(kind='mmsharp.AmpSAMOptimWrapper', dtype='bfloat16'),
    ],
    ids=str,
)
def test_weights_come_back_and_training_goes_on(real, settings):
    """Without a learning rate no weight moves by a bit; with one all that train do, and stay finite."""
    make, batches = real
    model = make()
    before = {key: value.clone() for key, value in model.named_parameters()}
    wrapper = _wrapped(model, lr=0.0, **copy.deepcopy(settings))
    for data in batches * 2:
        model.train_step(data, wrapper)
    assert all(torch.equal(value, before[key]) for key, value in model.named_parameters())
    wrapper = _wrapped(model, **copy.deepcopy(settings))
    for data in batches:
        model.train_step(data, wrapper)
    after = dict(model.named_parameters())
    assert all(value.isfinite().all() for value in after.values())
    moved = [not torch.equal(value, before[key]) for key, value in after.items() if value.requires_grad]
    assert sum(moved) > 0.5 * len(moved)  # residual branches begin at zero, and what is before them has no gradient


def test_activation_checkpointing_trains_alike(real):
    """The backbone's with_cp=True, which MMEngine's toolboxes make with the reentrant kind."""
    make, batches = real
    ends = []
    for with_cp in (False, True):
        model = make(with_cp=with_cp)
        wrapper = _wrapped(model)
        model.train_step(batches[0], wrapper)
        ends.append(dict(model.named_parameters()))
    for key, value in ends[0].items():
        torch.testing.assert_close(ends[1][key], value, rtol=1e-4, atol=1e-6)


def _two_stage(path):
    from mmdet.testing import demo_mm_inputs

    config = _packaged('mmdet', path)
    data = [demo_mm_inputs(1, [[3, 64, 64]], num_classes=80, num_items=[3], with_mask=False) for _ in range(2)]
    return 'mmdet', config.model, data


def _transformer():
    toolbox, _, data = _classifier()
    config = _packaged('mmpretrain', 'swin_transformer/swin-tiny_16xb64_in1k.py')
    model = Config(dict(model=dict(config.model, data_preprocessor=dict(num_classes=10)))).model
    model.backbone.update(img_size=32, window_size=2, drop_path_rate=0.5, patch_size=2)
    model.head.num_classes = 10
    model.train_cfg = None
    return toolbox, model, data


FURTHER = {
    'samplers of boxes': lambda: _two_stage('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'),
    'a head that remembers': lambda: _two_stage('dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco.py'),
    'DropPath': _transformer,
}


@pytest.mark.parametrize('kind', FURTHER)
def test_radius_zero_is_the_base_wrapper_where_passes_draw_and_remember(kind):
    """Bitwise, with all statistics and all that heads keep beside them."""
    pytest.importorskip('mmpretrain' if kind == 'DropPath' else 'mmdet')
    toolbox, described, data = FURTHER[kind]()
    ends = []
    for wrapped in ('OptimWrapper', 'mmsharp.SAMOptimWrapper'):
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope(toolbox):
            model = MODELS.build(without_downloads(copy.deepcopy(described))).train()
        settings = {} if wrapped == 'OptimWrapper' else dict(ascent=dict(type='SAM', rho=0.0))
        optimizer = dict(type='SGD', lr=0.01, momentum=0.9)
        wrapper = build_optim_wrapper(model, dict(type=wrapped, optimizer=optimizer, **settings))
        torch.manual_seed(1)
        np.random.seed(1)
        for batch in data:
            model.train_step(copy.deepcopy(batch), wrapper)
        history = torch.tensor(getattr(getattr(model, 'roi_head', None), 'iou_history', []))
        ends.append({**model.state_dict(), 'history': history})
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
