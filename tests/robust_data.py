"""Tiny data sets and models for the tests of robustness evaluation: synthetic images, seconds on one core."""

import json
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope

CLASSES = ('square', 'disc')

XML_OBJECT = (
    '<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{0}</xmin><ymin>{1}</ymin>'
    '<xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>'
)


def write_voc(root: Path, images: int = 4) -> Path:
    """Write bright squares and discs on dark noise in the Pascal VOC layout that mmdet's ``VOCDataset`` reads."""
    for folder in ('Annotations', 'JPEGImages', 'ImageSets/Main'):
        (root / 'VOC2007' / folder).mkdir(parents=True)
    random = np.random.RandomState(0)
    names = [f'{number:06d}' for number in range(1, images + 1)]
    for name in names:
        picture = random.randint(0, 60, (64, 80, 3), dtype=np.uint8)
        left, top, size = random.randint(4, 30), random.randint(4, 24), random.randint(24, 36)
        kind = CLASSES[random.randint(2)]
        if kind == 'square':
            cv2.rectangle(picture, (left, top), (left + size, top + size), (220, 180, 40), -1)
        else:
            cv2.circle(picture, (left + size // 2, top + size // 2), size // 2, (40, 60, 230), -1)
        cv2.imwrite(str(root / 'VOC2007/JPEGImages' / f'{name}.jpg'), picture)
        box = XML_OBJECT.format(left, top, left + size, top + size, name=kind)
        (root / 'VOC2007/Annotations' / f'{name}.xml').write_text(
            f'<annotation><size><width>80</width><height>64</height><depth>3</depth></size>{box}</annotation>'
        )
    (root / 'VOC2007/ImageSets/Main/test.txt').write_text('\n'.join(names) + '\n')
    return root


def detector_config(root: Path, workers: int = 0) -> Config:
    """A RetinaNet of a few thousand parameters on the data of :func:`write_voc`, as a stock config would say it."""
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(80, 64), keep_ratio=True),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
    ]
    model = dict(
        type='RetinaNet',
        data_preprocessor=dict(
            type='DetDataPreprocessor', mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], bgr_to_rgb=True
        ),
        backbone=dict(
            type='ResNet',
            depth=18,
            base_channels=8,
            stem_channels=8,
            out_indices=(2, 3),
            init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18'),
        ),
        neck=dict(type='FPN', in_channels=[32, 64], out_channels=8, num_outs=2),
        bbox_head=dict(
            type='RetinaHead',
            num_classes=len(CLASSES),
            in_channels=8,
            feat_channels=8,
            stacked_convs=1,
            anchor_generator=dict(type='AnchorGenerator', scales=[1.5, 2], ratios=[1.0], strides=[16, 32]),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        ),
        train_cfg=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1),
            sampler=dict(type='PseudoSampler'),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        test_cfg=dict(nms_pre=200, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=50),
    )
    return Config(
        dict(
            default_scope='mmdet',
            model=model,
            test_dataloader=dict(
                batch_size=2,
                num_workers=workers,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(
                    type='VOCDataset',
                    data_root=f'{root}/',
                    ann_file='VOC2007/ImageSets/Main/test.txt',
                    data_prefix=dict(sub_data_root='VOC2007/'),
                    metainfo=dict(classes=CLASSES),
                    test_mode=True,
                    pipeline=pipeline,
                ),
            ),
            test_evaluator=dict(type='VOCMetric', metric='mAP', eval_mode='11points'),
            test_cfg=dict(type='TestLoop'),
            custom_hooks=[],
        )
    )


def coco_config(root: Path, annotations: Path) -> Config:
    """The config of :func:`detector_config` on the same pictures, with COCO's annotations and metric; writes those."""
    folder = root / 'VOC2007'
    names = sorted(path.stem for path in (folder / 'Annotations').glob('*.xml'))
    images = [
        dict(id=number, file_name=f'VOC2007/JPEGImages/{name}.jpg', width=80, height=64)
        for number, name in enumerate(names)
    ]
    objects = []
    for number, name in enumerate(names):
        found = ElementTree.parse(folder / 'Annotations' / f'{name}.xml').find('object')
        left, top, right, bottom = (int(found.find(f'bndbox/{key}').text) for key in ('xmin', 'ymin', 'xmax', 'ymax'))
        width, height = right - left, bottom - top
        label = CLASSES.index(found.find('name').text)
        objects.append(
            dict(
                id=number + 1, image_id=number, category_id=label, bbox=[left, top, width, height], area=width * height
            )
            | dict(iscrowd=0)
        )
    categories = [dict(id=label, name=name) for label, name in enumerate(CLASSES)]
    annotations.write_text(json.dumps(dict(images=images, annotations=objects, categories=categories)))
    config = detector_config(root)
    config.test_dataloader.dataset.update(type='CocoDataset', ann_file=str(annotations), data_prefix=dict(img=''))
    config.test_evaluator = dict(type='CocoMetric', ann_file=str(annotations), metric='bbox')
    return config


def write_class_folders(root: Path, images: int = 6) -> Path:
    """Write one folder of pictures per class, as mmpretrain's ``CustomDataset`` reads them."""
    random = np.random.RandomState(1)
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(images):
            picture = random.randint(0, 120, (40, 48, 3), dtype=np.uint8)
            picture[..., label * 2] += 100
            cv2.imwrite(str(root / name / f'{number}.png'), picture)
    return root


def classifier_config(root: Path, workers: int = 0) -> Config:
    """A small ResNet on the data of :func:`write_class_folders`, as a stock config would say it."""
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='ImageClassifier',
                data_preprocessor=dict(
                    num_classes=len(CLASSES), mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], to_rgb=True
                ),
                backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4, out_indices=(3,)),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=len(CLASSES), in_channels=32, topk=(1,)),
            ),
            test_dataloader=dict(
                batch_size=5,
                num_workers=workers,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(
                    type='CustomDataset',
                    data_root=str(root),
                    with_label=True,
                    pipeline=[
                        dict(type='LoadImageFromFile'),
                        dict(type='ResizeEdge', scale=36, edge='short'),
                        dict(type='CenterCrop', crop_size=32),
                        dict(type='PackInputs'),
                    ],
                ),
            ),
            test_evaluator=dict(type='Accuracy', topk=(1,)),
            test_cfg=dict(),
        )
    )


def write_checkpoint(config: Config, path: Path, steps: int = 0, seed: int = 0) -> Path:
    """Write weights that fit the config: random ones, or after some steps of training on the config's own test data."""
    init_default_scope(config.default_scope)
    torch.manual_seed(seed)
    description = config.copy().model
    description.backbone.init_cfg = None
    model = MODELS.build(description).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    loader = config.copy().test_dataloader
    dataset = DATASETS.build(loader.dataset)
    collate = default_collate if config.default_scope == 'mmpretrain' else pseudo_collate
    items = [dataset[index] for index in range(len(dataset))]
    for _ in range(steps):
        loss, _ = model.parse_losses(model(**model.data_preprocessor(collate(items), True), mode='loss'))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, path)
    return path
