"""Losses on fixed batches: of the network that is evaluated, also where only training mode has them."""

import copy

import pytest
import torch
from real_models import packaged
from robust_data import CLASSES, detector_config, write_voc
from torch import nn
from torch.nn import functional

from mmsharp.apis import init_model
from mmsharp.engine.model_access.fixed_losses import fixed_losses
from mmsharp.engine.model_access.training_flags import detectors_in_training
from mmsharp.sharpness import LossSurface, measure_sharpness

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


def _transformer(name):
    """A packaged detector of the family with few small layers."""
    model = packaged('mmdet', name).model
    model.backbone.update(depth=18, base_channels=8, stem_channels=8, init_cfg=None)
    model.neck.update(in_channels=[16, 32, 64], out_channels=16, norm_cfg=dict(type='GN', num_groups=4))
    for part in (model.encoder, model.decoder):
        part.num_layers = 1
        part.layer_cfg.self_attn_cfg.update(embed_dims=16, num_heads=2)
        part.layer_cfg.ffn_cfg.update(embed_dims=16, feedforward_channels=32)
    model.decoder.layer_cfg.cross_attn_cfg.update(embed_dims=16, num_heads=2)
    model.positional_encoding.num_feats = 8
    model.bbox_head.update(num_classes=len(CLASSES), embed_dims=16)
    model.num_queries = 20
    return model


def _fcos():
    model = packaged('mmdet', 'fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py').model
    model.backbone.update(depth=18, base_channels=8, stem_channels=8, style='pytorch', init_cfg=None)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    model.bbox_head.update(num_classes=len(CLASSES), in_channels=16, feat_channels=32, stacked_convs=1)
    return model


MODELS = {
    'deformable_detr': lambda: _transformer('deformable_detr/deformable-detr_r50_16xb2-50e_coco.py'),
    'dino': lambda: _transformer('dino/dino-4scale_r50_8xb2-12e_coco.py'),
    'fcos': _fcos,
    'retinanet': None,
}


@pytest.fixture(scope='module', params=list(MODELS))
def case(request, tmp_path_factory):
    """A model in evaluation mode, as the tools have it, and its losses."""
    config = detector_config(write_voc(tmp_path_factory.mktemp(request.param)))
    if MODELS[request.param] is not None:
        config.model = MODELS[request.param]()
    config.train_dataloader = config.test_dataloader
    config.train_dataloader.dataset.test_mode = False
    torch.manual_seed(0)
    model = init_model(config)
    model.init_weights()  # some parameters are uninitialised memory before
    model.eval()
    return request.param, model, fixed_losses(config, model, batches=2)


def test_losses_in_evaluation_mode(case):
    """Numbers, the same for the same weights; the model's flags come back."""
    _, model, losses = case
    with torch.no_grad():
        first, second = ([loss(model) for loss in losses] for _ in range(2))
    assert torch.stack(first).isfinite().all()
    assert torch.equal(torch.stack(first), torch.stack(second))
    assert not any(module.training for module in model.modules())


def test_they_are_those_of_training_without_dropout_and_batch_statistics(case):
    """As if dropout had probability 0 and BatchNorm were set to evaluate, and the rest trained."""
    _, model, losses = case
    twin = copy.deepcopy(model).train()
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    with torch.no_grad():
        for loss in losses:
            torch.testing.assert_close(loss(model), loss(twin))


def test_what_worked_in_evaluation_mode_gives_the_same_number(case, monkeypatch):
    """RetinaNet's losses do not depend on the mode; the transformers' were none there, and FCOS's others."""
    name, model, losses = case
    with torch.no_grad():
        ours = losses[0](model)
        monkeypatch.setattr('mmsharp.engine.model_access.training_flags.DETECTOR', 'NoSuchClass')
        if name in ('deformable_detr', 'dino'):
            with pytest.raises(TypeError, match='enc_outputs_class'):
                losses[0](model)
        else:
            assert torch.equal(losses[0](model), ours) == (name == 'retinanet')


def test_sharpness_and_surface(case):
    """Both can be taken, and leave the model in its mode."""
    _, model, losses = case
    found = measure_sharpness(model, losses, rho=0.001)
    assert found.value > 0
    assert LossSurface(model, losses).at(0.0, 0.0) == pytest.approx(found.loss, rel=1e-5)
    assert not any(module.training for module in model.modules())


def test_activation_checkpoints_change_nothing(tmp_path):
    """A backbone with with_cp=True is as sharp as without."""
    config = detector_config(write_voc(tmp_path))
    config.train_dataloader = config.test_dataloader
    found = []
    for with_cp in (False, True):
        config.model.backbone.with_cp = with_cp
        torch.manual_seed(0)
        model = init_model(config)
        found.append(measure_sharpness(model, fixed_losses(config, model, batches=1), rho=0.001, steps=2))
    assert found[0] == found[1]
    assert found[0].value > 0


def test_functions_that_drop_do_nothing():
    """Modules of detectors call them with the flag that the losses need; outside they are torch's own."""

    class BaseDetector(nn.Module):
        def forward(self, x):
            dropped = [function(x, 0.5, self.training) for function in (functional.dropout, functional.dropout2d)]
            return self.training, *dropped

    model, image = BaseDetector().eval(), torch.ones(1, 8, 4, 4)
    before = functional.dropout
    with detectors_in_training(model):
        flag, *found = model(image)
        assert flag
        assert all(torch.equal(each, image) for each in found)
    assert functional.dropout is before
    assert not torch.equal(functional.dropout(image), image)


def test_flags_come_back_after_an_exception():
    """Also those of a part in training mode, and a model that is no detector keeps its mode."""

    class BaseDetector(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout())
            self.own = Own().train()

    class Own(nn.Module):
        pass

    detector = BaseDetector().eval()
    detector.own.train()
    found = []

    def fail():
        with detectors_in_training(detector):
            found.extend(module.training for module in detector.modules())
            raise KeyError('inside')

    with pytest.raises(KeyError):
        fail()
    assert found == [True, False, False, False, True]
    assert [module.training for module in detector.modules()] == [False, False, False, False, True]
    other = Own().eval()
    with detectors_in_training(other):
        assert not other.training
