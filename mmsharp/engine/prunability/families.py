"""One config of every family in the toolboxes' packaged config folders, or the reason why there is none.

A family is a folder of ``.mim/configs``. Of its configs the table names the one with the narrowest and shallowest
network (by the sizes in the file names) that has the part the family is named after. Folders that only bring other
data, another schedule or other initial weights for a network of another folder are out of scope, and say so.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmsharp.errors import MmsharpError

TOOLBOXES = ('mmdet', 'mmpretrain')
SIZES = {'mmdet': 128, 'mmpretrain': 224}
"""Height and width of the images: a multiple of every detector's largest stride; the classifiers' usual size."""


@dataclass(frozen=True)
class Family:
    """A folder of configs.

    Args:
        config: Path of the config inside the folder; ``None`` if the family is out of scope.
        size: Height and width of the images, where the toolbox's usual size of :data:`SIZES` does not do.
        options: What has to be changed in the config so that the toolbox itself can build, run or train it here, or a
            sharpness-aware step can be taken.
        reason: Why the family is out of scope.
        note: Why the architecture itself keeps its channels together, where reasons of layers do not say it.
    """

    config: str | None
    size: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    note: str | None = None


def _outside(reason: str) -> Family:
    return Family(None, reason=reason)


_VIDEO = _outside('tracks objects in videos')
_TEXT = _outside('takes text')
_PRETRAINING = _outside('self-supervised pre-training')
_MULTIMODAL = _outside('takes text')
_NOT_DISTILLED = {'model.head.distillation': False}
"""mmpretrain trains no distilled heads."""
_NO_DOWNLOAD = {'model.neck.rfp_backbone.pretrained': None}
"""Weights that the initialisation would fetch."""
_STORED = {'model.backbone.no_custom_backward': True}
"""A reversible network runs backward passes of its own, which a sharpness-aware step refuses."""
_NONZERO_EPS = {'model.backbone.norm_cfg.eps': 1e-5}
"""torch 2.11 refuses the 0 of the config."""

_MMDET = {
    'albu_example': _outside('the network of mask_rcnn, other augmentation'),
    'atss': Family('atss_r18_fpn_8xb8-amp-lsj-200e_coco.py'),
    'autoassign': Family('autoassign_r50-caffe_fpn_1x_coco.py'),
    'boxinst': Family('boxinst_r50_fpn_ms-90k_coco.py'),
    'bytetrack': _VIDEO,
    'carafe': Family('faster-rcnn_r50_fpn-carafe_1x_coco.py'),
    'cascade_rcnn': Family('cascade-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco.py'),
    'cascade_rpn': Family('cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco.py'),
    'centernet': Family('centernet_r18_8xb16-crop512-140e_coco.py'),
    'centripetalnet': Family('centripetalnet_hourglass104_16xb6-crop511-210e-mstest_coco.py'),
    'cityscapes': _outside('the network of faster_rcnn, other data'),
    'clrnet': _outside('detects lanes instead of boxes, with data of its own kind'),
    'common': _outside('data and schedules, no network'),
    'condinst': Family('condinst_r50_fpn_ms-poly-90k_coco_instance.py'),
    'conditional_detr': Family('conditional-detr_r50_8xb2-50e_coco.py'),
    'convnext': Family('mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py'),
    'cornernet': Family('cornernet_hourglass104_8xb6-210e-mstest_coco.py'),
    'crowddet': Family('crowddet-rcnn_r50_fpn_8xb2-30e_crowdhuman.py'),
    'dab_detr': Family('dab-detr_r50_8xb2-50e_coco.py'),
    'dcn': Family('faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py'),
    'dcnv2': Family('faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py'),
    'ddod': Family('ddod_r50_fpn_1x_coco.py', size=384),
    'ddq': Family('ddq-detr-4scale_r50_8xb2-12e_coco.py'),
    'deepfashion': _outside('the network of mask_rcnn, other data'),
    'deepsort': _VIDEO,
    'deformable_detr': Family('deformable-detr_r50_16xb2-50e_coco.py'),
    'detectors': Family('detectors_cascade-rcnn_r50_1x_coco.py', options=_NO_DOWNLOAD),
    'detr': Family('detr_r18_8xb2-500e_coco.py'),
    'dino': Family('dino-4scale_r50_8xb2-12e_coco.py', size=256),
    'double_heads': Family('dh-faster-rcnn_r50_fpn_1x_coco.py'),
    'dsdl': _outside('networks of other folders, other data'),
    'dyhead': Family('atss_r50_fpn_dyhead_1x_coco.py'),
    'dynamic_rcnn': Family('dynamic-rcnn_r50_fpn_1x_coco.py'),
    'efficientnet': Family('retinanet_effb3_fpn_8xb4-crop896-1x_coco.py'),
    'empirical_attention': Family('faster-rcnn_r50-attn0010_fpn_1x_coco.py'),
    'fast_rcnn': Family('fast-rcnn_r50_fpn_1x_coco.py'),
    'faster_rcnn': Family('faster-rcnn_r50_fpn_1x_coco.py'),
    'fcos': Family('fcos_r50-caffe_fpn_gn-head_1x_coco.py'),
    'foveabox': Family('fovea_r50_fpn_4xb4-1x_coco.py'),
    'fpg': Family('retinanet_r50_fpg-chn128_crop640_50e_coco.py'),
    'free_anchor': Family('freeanchor_r50_fpn_1x_coco.py'),
    'fsaf': Family('fsaf_r50_fpn_1x_coco.py'),
    'gcnet': Family('mask-rcnn_r50-gcb-r16-c3-c5_fpn_1x_coco.py'),
    'gfl': Family('gfl_r50_fpn_1x_coco.py'),
    'ghm': Family('retinanet_r50_fpn_ghm-1x_coco.py'),
    'glip': _TEXT,
    'gn': Family('mask-rcnn_r50_fpn_gn-all_2x_coco.py'),
    'gn+ws': Family('faster-rcnn_r50_fpn_gn-ws-all_1x_coco.py'),
    'grid_rcnn': Family('grid-rcnn_r50_fpn_gn-head_1x_coco.py'),
    'groie': Family('faste-rcnn_r50_fpn_groie_1x_coco.py'),
    'grounding_dino': _TEXT,
    'guided_anchoring': Family('ga-retinanet_r50_fpn_1x_coco.py'),
    'hrnet': Family('faster-rcnn_hrnetv2p-w18-1x_coco.py'),
    'htc': Family('htc_r50_fpn_1x_coco.py'),
    'instaboost': _outside('the network of mask_rcnn, other augmentation'),
    'lad': Family('lad_r50-paa-r101_fpn_2xb8_coco_1x.py'),
    'ld': Family('ld_r18-gflv1-r101_fpn_1x_coco.py'),
    'legacy_1.x': _outside('networks of other folders, older box coding'),
    'libra_rcnn': Family('libra-retinanet_r50_fpn_1x_coco.py'),
    'lvis': _outside('the network of mask_rcnn, other data'),
    'mask2former': Family('mask2former_r50_8xb2-lsj-50e_coco.py'),
    'mask2former_vis': _VIDEO,
    'mask_rcnn': Family('mask-rcnn_r50_fpn_1x_coco.py'),
    'maskformer': Family('maskformer_r50_ms-16xb1-75e_coco.py'),
    'masktrack_rcnn': _VIDEO,
    'misc': _outside('needs the package detectron2'),
    'mm_grounding_dino': _TEXT,
    'ms_rcnn': Family('ms-rcnn_r50_fpn_1x_coco.py'),
    'nas_fcos': Family('nas-fcos_r50-caffe_fpn_nashead-gn-head_4xb4-1x_coco.py', options=_NONZERO_EPS),
    'nas_fpn': Family('retinanet_r50_nasfpn_crop640-50e_coco.py'),
    'objects365': _outside('networks of other folders, other data'),
    'ocsort': _VIDEO,
    'openimages': _outside('networks of other folders, other data'),
    'paa': Family('paa_r50_fpn_1x_coco.py', size=256),
    'pafpn': Family('faster-rcnn_r50_pafpn_1x_coco.py'),
    'panoptic_fpn': Family('panoptic-fpn_r50_fpn_1x_coco.py'),
    'pascal_voc': Family('faster-rcnn_r50-caffe-c4_ms-18k_voc0712.py'),
    'pisa': Family('retinanet-r50_fpn_pisa_1x_coco.py'),
    'point_rend': Family('point-rend_r50-caffe_fpn_ms-1x_coco.py'),
    'pvt': Family('retinanet_pvtv2-b0_fpn_1x_coco.py'),
    'qdtrack': _VIDEO,
    'queryinst': Family('queryinst_r50_fpn_1x_coco.py'),
    'regnet': Family('retinanet_regnetx-800MF_fpn_1x_coco.py'),
    'reid': _VIDEO,
    'reppoints': Family('reppoints-moment_r50_fpn_1x_coco.py'),
    'res2net': Family('faster-rcnn_res2net-101_fpn_2x_coco.py'),
    'resnest': Family('faster-rcnn_s50_fpn_syncbn-backbone+head_ms-range-1x_coco.py'),
    'resnet_strikes_back': _outside('networks of other folders, other initial weights'),
    'retinanet': Family('retinanet_r18_fpn_1x_coco.py'),
    'rpn': Family('rpn_r50_fpn_1x_coco.py'),
    'rtmdet': Family('rtmdet_tiny_8xb32-300e_coco.py'),
    'sabl': Family('sabl-faster-rcnn_r50_fpn_1x_coco.py'),
    'scnet': Family('scnet_r50_fpn_1x_coco.py'),
    'scratch': _outside('the networks of gn, trained from scratch'),
    'seesaw_loss': Family('mask-rcnn_r50_fpn_seesaw-loss_random-ms-2x_lvis-v1.py'),
    'selfsup_pretrain': _outside('the network of mask_rcnn, other initial weights'),
    'simple_copy_paste': _outside('the network of strong_baselines, other augmentation'),
    'soft_teacher': _outside('two copies of the network of faster_rcnn, trained on two streams of data'),
    'solo': Family('solo_r18_fpn_8xb8-lsj-200e_coco.py'),
    'solov2': Family('solov2-light_r18_fpn_ms-3x_coco.py'),
    'sort': _VIDEO,
    'sparse_rcnn': Family('sparse-rcnn_r50_fpn_1x_coco.py'),
    'ssd': Family('ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py'),
    'strong_baselines': Family('mask-rcnn_r50_fpn_rpn-2conv_4conv1fc_syncbn-all_lsj-50e_coco.py'),
    'strongsort': _VIDEO,
    'swin': Family('mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'),
    'timm_example': _outside('needs the package timm'),
    'tood': Family('tood_r50_fpn_1x_coco.py'),
    'tridentnet': Family('tridentnet_r50-caffe_1x_coco.py'),
    'v3det': _outside('networks of other folders, other data'),
    'vfnet': Family('vfnet_r50_fpn_1x_coco.py'),
    'wider_face': _outside('networks of retinanet and ssd, other data'),
    'yolact': Family('yolact_r50_1xb8-55e_coco.py'),
    'yolo': Family('yolov3_mobilenetv2_8xb24-320-300e_coco.py'),
    'yolof': Family('yolof_r50-c5_8xb8-1x_coco.py'),
    'yolox': Family('yolox_nano_8xb8-300e_coco.py'),
}

_MMPRETRAIN = {
    'arcface': _outside('image retrieval'),
    'barlowtwins': _PRETRAINING,
    'beit': Family('benchmarks/beit-base-p16_8xb64_in1k.py'),
    'beitv2': _outside('self-supervised pre-training of the network of beit'),
    'blip': _MULTIMODAL,
    'blip2': _MULTIMODAL,
    'byol': _PRETRAINING,
    'cae': _PRETRAINING,
    'chinese_clip': _MULTIMODAL,
    'clip': Family('vit-base-p32_pt-64xb64_in1k.py'),
    'conformer': Family('conformer-tiny-p16_8xb128_in1k.py'),
    'convmixer': Family('convmixer-768-32_10xb64_in1k.py'),
    'convnext': Family('convnext-tiny_32xb128_in1k.py'),
    'convnext_v2': Family('convnext-v2-atto_32xb32_in1k.py'),
    'cspnet': Family('cspresnet50_8xb32_in1k.py'),
    'csra': Family('resnet101-csra_1xb16_voc07-448px.py'),
    'davit': Family('davit-tiny_4xb256_in1k.py'),
    'deit': Family('deit-tiny_4xb256_in1k.py'),
    'deit3': Family('deit3-small-p16_64xb64_in1k.py'),
    'densecl': _PRETRAINING,
    'densenet': Family('densenet121_4xb256_in1k.py'),
    'dinov2': _outside('feature extractors without a head'),
    'edgenext': Family('edgenext-xxsmall_8xb256_in1k.py'),
    'efficientformer': Family('efficientformer-l1_8xb128_in1k.py', options=_NOT_DISTILLED),
    'efficientnet': Family('efficientnet-b0_8xb32_in1k.py'),
    'efficientnet_v2': Family('efficientnetv2-b0_8xb32_in1k.py'),
    'eva': Family('benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py'),
    'eva02': Family('eva02-tiny-p14_in1k.py', size=336),
    'flamingo': _MULTIMODAL,
    'glip': _outside('feature extractors without a head'),
    'hivit': Family('hivit-tiny-p16_16xb64_in1k.py'),
    'hornet': Family('hornet-tiny_8xb128_in1k.py'),
    'hrnet': Family('hrnet-w18_4xb32_in1k.py'),
    'inception_v3': Family('inception-v3_8xb32_in1k.py', size=299),
    'itpn': _PRETRAINING,
    'lenet': Family('lenet5_mnist.py', size=32),
    'levit': Family('levit-128s_8xb256_in1k.py', options=_NOT_DISTILLED),
    'llava': _MULTIMODAL,
    'mae': _PRETRAINING,
    'maskfeat': _PRETRAINING,
    'mff': _PRETRAINING,
    'milan': _PRETRAINING,
    'minigpt4': _MULTIMODAL,
    'mixmim': Family('benchmarks/mixmim-base_8xb64_in1k.py'),
    'mlp_mixer': Family('mlp-mixer-base-p16_64xb64_in1k.py'),
    'mobilenet_v2': Family('mobilenet-v2_8xb32_in1k.py'),
    'mobilenet_v3': Family('mobilenet-v3-small-050_8xb128_in1k.py'),
    'mobileone': Family('mobileone-s0_8xb32_in1k.py'),
    'mobilevit': Family('mobilevit-xxsmall_8xb128_in1k.py', size=256),
    'mocov2': _PRETRAINING,
    'mocov3': _PRETRAINING,
    'mvit': Family('mvitv2-tiny_8xb256_in1k.py'),
    'ofa': _MULTIMODAL,
    'otter': _MULTIMODAL,
    'poolformer': Family('poolformer-s12_32xb128_in1k.py'),
    'regnet': Family('regnetx-400mf_8xb128_in1k.py'),
    'replknet': Family('replknet-31B_32xb64_in1k.py'),
    'repmlp': Family(
        'repmlp-base_8xb64_in1k.py',
        note='Its blocks lay the channels beyond the shared sets among the patches of the image and read the result in '
        'another order, so that a channel less would move every other one to another place.',
    ),
    'repvgg': Family('repvgg-A0_8xb32_in1k.py'),
    'res2net': Family('res2net50-w14-s8_8xb32_in1k.py'),
    'resnest': Family('resnest50_32xb64_in1k.py'),
    'resnet': Family('resnet18_8xb32_in1k.py'),
    'resnext': Family('resnext50-32x4d_8xb32_in1k.py'),
    'revvit': Family('revvit-small_8xb256_in1k.py', options=_STORED),
    'riformer': Family('riformer-s12_8xb128_in1k.py'),
    'sam': _outside('feature extractors without a head'),
    'seresnet': Family('seresnet50_8xb32_in1k.py'),
    'shufflenet_v1': Family('shufflenet-v1-1x_16xb64_in1k.py'),
    'shufflenet_v2': Family('shufflenet-v2-1x_16xb64_in1k.py'),
    'simclr': _PRETRAINING,
    'simmim': _PRETRAINING,
    'simsiam': _PRETRAINING,
    'spark': _PRETRAINING,
    'swav': _PRETRAINING,
    'swin_transformer': Family('swin-tiny_16xb64_in1k.py'),
    'swin_transformer_v2': Family('swinv2-tiny-w8_16xb64_in1k-256px.py', size=256),
    't2t_vit': Family('t2t-vit-t-14_8xb64_in1k.py'),
    'tinyvit': Family('tinyvit-5m_8xb256_in1k.py'),
    'tnt': Family('tnt-s-p16_16xb64_in1k.py'),
    'twins': Family('twins-svt-small_8xb128_in1k.py'),
    'van': Family('van-tiny_8xb128_in1k.py'),
    'vgg': Family('vgg11bn_8xb32_in1k.py'),
    'vig': Family('vig-tiny_8xb128_in1k.py'),
    'vision_transformer': Family('vit-base-p32_64xb64_in1k.py'),
    'wrn': Family('wide-resnet50_8xb32_in1k.py'),
    'xcit': Family('xcit-nano-12-p16_8xb128_in1k.py'),
}

FAMILIES: dict[str, dict[str, Family]] = {'mmdet': _MMDET, 'mmpretrain': _MMPRETRAIN}
"""Every folder of packaged configs, by toolbox."""


def in_scope(toolbox: str) -> Iterator[tuple[str, Family]]:
    """Name and entry of the families that are measured.

    Example:
        >>> dict(in_scope('mmpretrain'))['resnet'].config
        'resnet18_8xb32_in1k.py'
    """
    return ((name, family) for name, family in FAMILIES[toolbox].items() if family.config is not None)


def config_folder(toolbox: str) -> Path:
    """Where the toolbox keeps its packaged configs.

    Raises:
        MmsharpError: The toolbox is unknown, not installed, or was installed without its configs.
    """
    if toolbox not in TOOLBOXES:
        raise MmsharpError(f'toolbox {toolbox!r} is unknown; accepted: {", ".join(TOOLBOXES)}')
    spec = importlib.util.find_spec(toolbox)
    if spec is None or spec.origin is None:
        raise MmsharpError(f'{toolbox} is not installed; install it, or choose the other toolbox')
    folder = Path(spec.origin).parent / '.mim' / 'configs'
    if not folder.is_dir():
        raise MmsharpError(f'{str(folder)!r} does not exist: {toolbox} was installed without its configs; reinstall it')
    return folder


def packaged_config(toolbox: str, name: str) -> Path:
    """The file of a family's config.

    Raises:
        MmsharpError: As :func:`config_folder`, or the family is unknown or out of scope.
    """
    family = FAMILIES[toolbox].get(name)
    if family is None or family.config is None:
        why = 'unknown' if family is None else f'out of scope ({family.reason})'
        raise MmsharpError(f'family {name!r} of {toolbox} is {why}; give the path of a config instead')
    return config_folder(toolbox) / name / family.config
