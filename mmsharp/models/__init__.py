"""Backbones that the toolboxes lack, and slim models, as ``type=`` of a config."""

from mmsharp.models.cifar_resnet import CIFARResNet
from mmsharp.models.mobilenet_v1 import MobileNetV1
from mmsharp.models.slim_model import slim_model, without_downloads

__all__ = ['CIFARResNet', 'MobileNetV1', 'slim_model', 'without_downloads']
