"""What a forward pass costs, also of models that have to know the image beside its pixels."""

import importlib.util
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.costs.model_cost import measure_cost
from mmsharp.pruning.forwards.image_sample import image_sample

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of what is deprecated


def test_a_two_stage_detector_is_measured():
    """Its proposals need the image's size, which the sample carries."""
    pytest.importorskip('mmdet')
    root = Path(importlib.util.find_spec('mmdet').origin).parent / '.mim' / 'configs'
    config = Config.fromfile(root / 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py')
    cost = measure_cost(build_model(config), torch.zeros(1, 3, 64, 64), [image_sample((3, 64, 64))], repeats=1)
    assert 'notes' not in cost
    assert cost['macs'] > 1e8
    assert cost['latency_ms'] > 0


def test_what_cannot_be_measured_says_why():
    """And the parameters are counted all the same."""
    cost = measure_cost(nn.Linear(3, 2), torch.zeros(1, 3, 8, 5), repeats=1)
    assert cost['parameters'] == 8
    assert cost['macs'] is None
    assert 'RuntimeError' in cost['notes']


def test_the_mode_of_the_model_comes_back():
    """Training stays training."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Dropout())
    measure_cost(model, torch.zeros(1, 1, 4, 4), repeats=1)
    assert model.training
