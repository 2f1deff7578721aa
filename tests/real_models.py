"""A detector and a classifier as the toolboxes package them, and batches for them: what the modes are tested on.

The detector draws boxes at random, freezes a stage and has BatchNorm in evaluation mode; the classifier has
BatchNorm, dropout and squeeze-and-excitation. They are the packaged configs with smaller layers, on small images. A
detector of one stage stands in where operators have no kernel for half precision on CPUs (mmcv's RoIAlign).
"""

import copy
import importlib.util
import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from mmsharp.engine.model_access.fabricated_samples import detection_sample
from mmsharp.models import without_downloads
from mmsharp.sharpness import RandomState, select_parameters

CLASSES = 10


class Real(NamedTuple):
    """A model that is made anew, with the same weights, at each call, and as many batches as are asked for.

    Args:
        toolbox: The package that it comes from.
        describe: Gives the config of the model.
        batch: Gives the batch of a seed, as a data loader would.
        frozen: How many stages of the backbone a test may freeze.
        shared: Two layers of one shape, which a test may tie.
        block: A residual block, without which the model runs as well.
        last: The parameter that the backward pass reaches first.
    """

    toolbox: str
    describe: Callable[[], Config]
    batch: Callable[[int], dict]
    frozen: int
    shared: tuple[str, str]
    block: str
    last: str

    def config(self, **backbone) -> Config:
        """The config of the model, whose backbone takes other arguments."""
        config = without_downloads(copy.deepcopy(self.describe()))
        config.backbone.update(backbone)
        return config

    def make(self, **backbone) -> BaseModel:
        """The model in training mode."""
        torch.manual_seed(0)
        MMLogger.get_current_instance().setLevel(logging.ERROR)  # it lists every parameter that it initialises
        with DefaultScope.overwrite_default_scope(self.toolbox):
            model = MODELS.build(self.config(**backbone))
            model.init_weights()
        return model.train()


def packaged(toolbox: str, path: str) -> Config:
    """A config from the files that a toolbox installs."""
    root = Path(importlib.util.find_spec(toolbox).origin).parent / '.mim' / 'configs'
    return Config.fromfile(root / path)


def scenes(seed: int, count: int = 2) -> dict:
    """Random images of two sizes with random boxes, as mmdet's loaders give them."""
    generator = np.random.default_rng(seed)
    shapes = [(64, 64), (48, 64)][:count]
    images = [torch.from_numpy(generator.integers(0, 256, (3, *shape), dtype=np.uint8)) for shape in shapes]
    return dict(inputs=images, data_samples=[detection_sample(generator, shape, CLASSES) for shape in shapes])


def pictures(seed: int, count: int = 6) -> dict:
    """Random images with random labels, as mmpretrain's loaders give them."""
    from mmpretrain.structures import DataSample

    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return dict(
        inputs=list(images),
        data_samples=[DataSample().set_gt_label((seed + index) % CLASSES) for index in range(count)],
    )


def _detector() -> Config:
    model = packaged('mmdet', 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py').model
    model.backbone.update(depth=18, base_channels=16, stem_channels=16, zero_init_residual=False)
    model.neck.update(in_channels=[16, 32, 64, 128], out_channels=32)
    model.rpn_head.update(in_channels=32, feat_channels=32)
    model.roi_head.bbox_roi_extractor.update(out_channels=32)
    model.roi_head.bbox_head.update(in_channels=32, fc_out_channels=64, num_classes=CLASSES)
    model.train_cfg.rpn_proposal.update(nms_pre=100, max_per_img=50)
    model.train_cfg.rpn.sampler.num = 64
    model.train_cfg.rcnn.sampler.num = 32
    return model


def _dense_detector() -> Config:
    model = packaged('mmdet', 'retinanet/retinanet_r18_fpn_1x_coco.py').model
    model.backbone.update(base_channels=16, stem_channels=16, zero_init_residual=False)
    # Of five levels the last would have one pixel, where torch leaves weight gradients in bfloat16 unwritten on CPUs.
    model.neck.update(in_channels=[16, 32, 64, 128], out_channels=32, num_outs=4)
    model.bbox_head.anchor_generator.strides = [8, 16, 32, 64]
    model.bbox_head.update(in_channels=32, feat_channels=32, num_classes=CLASSES)
    return model


def _classifier() -> Config:
    config = packaged('mmpretrain', 'mobilenet_v3/mobilenet-v3-small_8xb16_cifar10.py')
    model = dict(config.model, data_preprocessor=config.data_preprocessor)
    model['head'] = dict(model['head'], mid_channels=[128], dropout_rate=0.2)
    return Config(dict(model=model)).model


REAL = dict(
    detector=Real(
        'mmdet',
        _detector,
        scenes,
        frozen=2,
        shared=('backbone.layer4.1.conv1', 'backbone.layer4.1.conv2'),
        block='backbone.layer4.1',
        last='roi_head.bbox_head.fc_cls.weight',
    ),
    dense=Real(
        'mmdet',
        _dense_detector,
        scenes,
        frozen=2,
        shared=('backbone.layer4.1.conv1', 'backbone.layer4.1.conv2'),
        block='backbone.layer4.1',
        last='bbox_head.retina_cls.weight',
    ),
    classifier=Real(
        'mmpretrain',
        _classifier,
        pictures,
        frozen=3,
        shared=('backbone.layer10.expand_conv.conv', 'backbone.layer11.expand_conv.conv'),
        block='backbone.layer11',
        last='head.layers.1.fc.weight',
    ),
)


def wrap(model: BaseModel, lr: float = 0.01, kind: str = 'mmsharp.SAMOptimWrapper', **settings):
    """The optimizer wrapper that a config would build for the model."""
    if kind != 'OptimWrapper':
        settings.setdefault('ascent', dict(type='AdaSAP'))
    optimizer = dict(type='SGD', lr=lr, momentum=0.9, weight_decay=1e-3)
    return build_optim_wrapper(model, dict(type=kind, optimizer=optimizer, **settings))


def gradients_of(model: BaseModel, batch: dict, state: RandomState, context=nullcontext) -> dict[str, torch.Tensor]:
    """The gradients of a batch's loss by name of parameter, taken on a copy and with given random numbers."""
    twin = copy.deepcopy(model)
    twin.zero_grad()
    with state.replayed():
        data = twin.data_preprocessor(copy.deepcopy(batch), True)
        with context():
            losses = twin(**data, mode='loss')
        twin.parse_losses(losses)[0].backward()
    return {name: value.grad for name, value in twin.named_parameters() if value.grad is not None}


def displaced(model: BaseModel, ascent, chosen, direction: dict[str, torch.Tensor]) -> BaseModel:
    """A copy of the model at ``w + eps``, the chosen parameters having moved along their directions."""
    moving = [parameter for parameter in chosen if parameter.name in direction]
    eps = [direction[parameter.name].clone() for parameter in moving]
    if eps:
        _, length = ascent.direct_(moving, eps, [None] * len(eps))  # a rounding more grows large in few steps
    moved = copy.deepcopy(model)
    for parameter, part in zip(moving, eps):
        moved.get_parameter(parameter.name).data.add_(part, alpha=length)
    return moved


def train_longhand(model, batches, states, ascent, policy, counts=1, max_norm=None, lr=0.01, context=nullcontext):
    """Sharpness-aware training written out, on copies and without any guard; statistics of BatchNorm stay behind."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-3)
    for first in range(0, len(batches), counts):
        step = first // counts
        kept: dict[str, torch.Tensor] = {}
        for batch, state in zip(batches[first : first + counts], states[first : first + counts]):
            chosen = policy.select(step, select_parameters(model, ascent.default_parameters))
            if ascent.direction == 'gradient':
                direction = gradients_of(model, batch, state, context) if chosen else {}
            else:
                buffers = {name: optimizer.state[value] for name, value in model.named_parameters()}
                direction = {name: part['momentum_buffer'] for name, part in buffers.items() if part}
            gradients = gradients_of(displaced(model, ascent, chosen, direction), batch, state, context)
            for name in {parameter.name for parameter in chosen} & direction.keys():
                kept[name] = kept.get(name, 0) + direction[name] / counts
            for name, gradient in gradients.items():
                parameter = model.get_parameter(name)
                share = gradient / counts
                parameter.grad = share if parameter.grad is None else parameter.grad + share
        if policy.corrects:
            names = [parameter.name for parameter in select_parameters(model, ascent.default_parameters)]
            final = {name: model.get_parameter(name).grad for name in names}
            policy.correct_({name: value for name, value in final.items() if value is not None}, kept)
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        optimizer.zero_grad()
