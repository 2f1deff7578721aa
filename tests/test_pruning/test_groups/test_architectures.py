"""Masked equals slim on models of packaged configs of both toolboxes."""

import json

import pytest
import torch

from mmsharp.pruning import (
    ChannelMasks,
    Recipe,
    apply_recipe,
    count_parameters,
    find_groups,
    output_tensors,
    tensor_forward,
)
from mmsharp.pruning.forwards.precision import float64_throughout

from ..conftest import assert_masked_equals_slim, masked_and_slim, torch_pruning_members

# toolbox, config, input size, share of the parameters left at half of the channels (at most), layers left dense
ARCHITECTURES = {
    'RetinaNet-R18': ('mmdet', 'retinanet/retinanet_r18_fpn_1x_coco.py', 64, 0.3, 2),
    'SSDLite-MobileNetV2': ('mmdet', 'ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py', 128, 0.45, 12),
    'RTMDet-tiny': ('mmdet', 'rtmdet/rtmdet_tiny_8xb32-300e_coco.py', 64, 0.3, 6),
    'YOLOX-tiny': ('mmdet', 'yolox/yolox_tiny_8xb8-300e_coco.py', 64, 0.3, 9),
    'FCOS-R50': ('mmdet', 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', 64, 0.3, 3),
    'ResNet-18': ('mmpretrain', 'resnet/resnet18_8xb32_in1k.py', 64, 0.3, 1),
    'ResNet-50': ('mmpretrain', 'resnet/resnet50_8xb32_in1k.py', 64, 0.3, 1),
    'ResNet_CIFAR-18': ('mmpretrain', 'resnet/resnet18_8xb16_cifar10.py', 32, 0.3, 1),
    'MobileNetV2': ('mmpretrain', 'mobilenet_v2/mobilenet-v2_8xb32_in1k.py', 64, 0.45, 1),
    'VGG-11-BN': ('mmpretrain', 'vgg/vgg11bn_8xb32_in1k.py', 224, 0.3, 1),
}


# the same, with blocks that attend, split, shuffle or convolve in groups
WITH_BLOCKS = {
    'DeiT-tiny': ('mmpretrain', 'deit/deit-tiny_4xb256_in1k.py', 224, 0.25, 1),
    'Swin-tiny': ('mmpretrain', 'swin_transformer/swin-tiny_16xb64_in1k.py', 224, 0.27, 1),
    'Swin V2-tiny': ('mmpretrain', 'swin_transformer_v2/swinv2-tiny-w8_16xb64_in1k-256px.py', 256, 0.27, 1),
    'MViT V2-tiny': ('mmpretrain', 'mvit/mvitv2-tiny_8xb256_in1k.py', 224, 0.27, 2),
    'DaViT-tiny': ('mmpretrain', 'davit/davit-tiny_4xb256_in1k.py', 224, 0.4, 24),
    'Twins-PCPVT-small': ('mmpretrain', 'twins/twins-pcpvt-small_8xb128_in1k.py', 64, 0.27, 7),
    'Twins-SVT-small': ('mmpretrain', 'twins/twins-svt-small_8xb128_in1k.py', 224, 0.27, 1),
    'XCiT-nano': ('mmpretrain', 'xcit/xcit-nano-12-p16_8xb128_in1k.py', 64, 0.28, 1),
    'TNT-small': ('mmpretrain', 'tnt/tnt-s-p16_16xb64_in1k.py', 224, 0.29, 1),
    'PoolFormer-S12': ('mmpretrain', 'poolformer/poolformer-s12_32xb128_in1k.py', 64, 0.28, 1),
    'EdgeNeXt-xxsmall': ('mmpretrain', 'edgenext/edgenext-xxsmall_8xb256_in1k.py', 64, 0.4, 9),
    'VAN-tiny': ('mmpretrain', 'van/van-tiny_8xb128_in1k.py', 64, 0.29, 1),
    'EfficientFormer-L1': ('mmpretrain', 'efficientformer/efficientformer-l1_8xb128_in1k.py', 224, 0.28, 2),
    'TinyViT-5M': ('mmpretrain', 'tinyvit/tinyvit-5m_8xb256_in1k.py', 224, 0.28, 1),
    'MobileViT-xxsmall': ('mmpretrain', 'mobilevit/mobilevit-xxsmall_8xb128_in1k.py', 64, 0.33, 1),
    'LeViT-128S': ('mmpretrain', 'levit/levit-128s_8xb256_in1k.py', 224, 0.3, 2),
    'Conformer-tiny': ('mmpretrain', 'conformer/conformer-tiny-p16_8xb128_in1k.py', 224, 0.28, 2),
    'Res2Net-50': ('mmpretrain', 'res2net/res2net50-w14-s8_8xb32_in1k.py', 64, 0.3, 1),
    'CSPDarkNet-50': ('mmpretrain', 'cspnet/cspdarknet50_8xb32_in1k.py', 64, 0.3, 1),
    'CSPResNet-50': ('mmpretrain', 'cspnet/cspresnet50_8xb32_in1k.py', 64, 0.3, 1),
    'ShuffleNet V1': ('mmpretrain', 'shufflenet_v1/shufflenet-v1-1x_16xb64_in1k.py', 64, 0.52, 17),
    'ShuffleNet V2': ('mmpretrain', 'shufflenet_v2/shufflenet-v2-1x_16xb64_in1k.py', 64, 0.42, 15),
    'ResNeXt-50': ('mmpretrain', 'resnext/resnext50-32x4d_8xb32_in1k.py', 64, 0.3, 1),
    'RegNetX-400MF': ('mmpretrain', 'regnet/regnetx-400mf_8xb128_in1k.py', 64, 0.32, 1),
    'ResNeSt-50': ('mmpretrain', 'resnest/resnest50_32xb64_in1k.py', 64, 0.3, 1),
    'HorNet-tiny': ('mmpretrain', 'hornet/hornet-tiny_8xb128_in1k.py', 64, 0.38, 96),
    'ConvNeXt V2-atto': ('mmpretrain', 'convnext_v2/convnext-v2-atto_32xb32_in1k.py', 64, 0.3, 1),
    'RetinaNet-Swin-T': ('mmdet', 'swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py', 64, 0.28, 2),
    'RetinaNet-PVT-T': ('mmdet', 'pvt/retinanet_pvt-t_fpn_1x_coco.py', 64, 0.29, 2),
}


@pytest.mark.filterwarnings('ignore:torch.meshgrid')
@pytest.mark.parametrize('name', WITH_BLOCKS)
def test_recipe_of_blocks(name, build_packaged):
    """Masked equals a freshly built model that is slimmed by the recipe from its JSON; sizes are those foretold."""
    toolbox, config, size, left, dense = WITH_BLOCKS[name]
    model = build_packaged(toolbox, config).eval()
    parameters = count_parameters(model)
    forward = tensor_forward(torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)))
    groups = find_groups(model, forward)
    masks = ChannelMasks(groups, [every_second(group.channels) for group in groups.groups])
    with torch.no_grad():
        outputs = [output_tensors(forward(model))]
        masks.apply_(model)
        outputs.append(output_tensors(forward(model)))
        slim = build_packaged(toolbox, config, vary=False)
        apply_recipe(slim, Recipe.from_dict(json.loads(json.dumps(masks.recipe(model).to_dict()))))
        sizes = {name: tensor.shape for name, tensor in slim.state_dict().items()}
        apply_recipe(model, masks.recipe(model))
        assert {name: tensor.shape for name, tensor in model.state_dict().items() if name in sizes} == sizes
        slim.load_state_dict(model.state_dict(), strict=False)
        outputs.append(output_tensors(forward(slim.eval())))
    assert_masked_equals_slim(outputs, tolerance=1e-5)
    assert count_parameters(slim) <= left * parameters
    assert len(groups.dense) == dense, groups.dense


@pytest.mark.parametrize('name', ['LeViT-128S', 'TinyViT-5M', 'EfficientFormer-L1'])
def test_models_in_training_are_looked_at(name, build_packaged):
    """Attention that has its biases only in evaluation mode gets them for the look, and is as before afterwards."""
    toolbox, config, size, _, dense = WITH_BLOCKS[name]
    model = build_packaged(toolbox, config).train()
    attributes = {path: set(vars(module)) for path, module in model.named_modules()}
    forward = tensor_forward(torch.randn(1, 3, size, size))
    assert len(find_groups(model, forward).dense) == dense
    assert {path: set(vars(module)) for path, module in model.named_modules()} == attributes


def every_second(channels):
    """Half of the channels, rounded down, at least one."""
    return torch.arange(channels) % 2 == (0 if channels == 1 else 1)


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_masked_equals_slim(name, build_packaged):
    """Random halves of all groups of a whole model: the slim copy gives what the masked model gives."""
    toolbox, config, size, left, dense = ARCHITECTURES[name]
    model = build_packaged(toolbox, config)
    inputs = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        groups, slim, outputs = masked_and_slim(model, tensor_forward(inputs))
    assert_masked_equals_slim(outputs)
    assert count_parameters(slim) <= left * count_parameters(model)
    assert len(groups.dense) == dense, groups.dense


@pytest.mark.parametrize(
    'name',
    [
        'RetinaNet-R18',
        'SSDLite-MobileNetV2',
        'RTMDet-tiny',
        'ResNet_CIFAR-18',
        'Swin-tiny',
        'TinyViT-5M',
        'EdgeNeXt-xxsmall',
    ],
)
def test_masked_equals_slim_in_training_mode(name, build_packaged):
    """The law holds with batch statistics too (frozen and ``norm_eval`` stages included); dropout is switched off."""
    toolbox, config, size, _, _ = {**ARCHITECTURES, **WITH_BLOCKS}[name]
    model = build_packaged(toolbox, config)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, 'drop_prob'):
            module.drop_prob = 0.0
    inputs = torch.randn(4 if size < 224 else 2, 3, size, size, generator=torch.Generator().manual_seed(0))
    # batch statistics of few positions divide by small variances, which enlarges rounding errors of float32
    with torch.no_grad(), float64_throughout():
        _, _, outputs = masked_and_slim(model.double(), tensor_forward(inputs), train=True)
    assert_masked_equals_slim(outputs)


def test_group_normalised_heads_lose_whole_groups(build_packaged):
    """FCOS normalises its head in groups of eight channels: these go together."""
    model = build_packaged('mmdet', ARCHITECTURES['FCOS-R50'][1])
    groups = {group.name: group for group in find_groups(model, tensor_forward(torch.zeros(1, 3, 64, 64))).groups}
    for branch in ('cls', 'reg'):
        for number in range(4):
            group = groups[f'bbox_head.{branch}_convs.{number}.conv']
            assert group.channels == 32
            assert group.members[0].channels.tolist() == [channel for channel in range(32) for _ in range(8)]


def test_l2_norm_of_ssd_is_pruned(build_packaged):
    """SSD scales its first feature map by the norm over channels, which zeros do not change."""
    model = build_packaged('mmdet', 'ssd/ssd300_coco.py')
    forward = tensor_forward(torch.randn(1, 3, 300, 300, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        groups, _, outputs = masked_and_slim(model, forward)
    assert_masked_equals_slim(outputs)
    assert any(member.module == 'neck.l2_norm' for group in groups.groups for member in group.members)


@pytest.mark.parametrize('name', ['SSDLite-MobileNetV2', 'RTMDet-tiny', 'YOLOX-tiny', 'ResNet-50', 'MobileNetV2'])
def test_agrees_with_torch_pruning(name, build_packaged):
    """Torch-Pruning's dependency graph, where it sees the whole model, couples the same layers, group by group."""
    toolbox, config, size, _, _ = ARCHITECTURES[name]
    model = build_packaged(toolbox, config).requires_grad_(True)
    forward = tensor_forward(torch.zeros(1, 3, size, size))
    groups = find_groups(model, forward).groups
    theirs = torch_pruning_members(model, forward)
    assert groups
    for group in groups:
        assert {(member.module, member.axis) for member in group.members} == theirs(group), group.name


def test_frozen_stages_are_pruned(build_packaged):
    """Stages that mmdet freezes take part like the rest; a graph made of gradients does not see them."""
    model = build_packaged('mmdet', ARCHITECTURES['RetinaNet-R18'][1])
    groups = find_groups(model, tensor_forward(torch.zeros(1, 3, 64, 64))).groups
    frozen = {path for path, module in model.named_modules() for p in module.parameters(False) if not p.requires_grad}
    assert {'backbone.conv1', 'backbone.layer1.0.conv1'} <= {group.name for group in groups} & frozen
