"""Metrics that read their ground truth from a file of their own, told which images of it are evaluated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmsharp.errors import MmsharpError
from mmsharp.type_names import class_names

READER = 'CocoMetric'
"""MMDetection's class that evaluates every image of its ``ann_file``, whether the model saw it or not."""


def settle_ground_truth(dataset: Any, metrics: Iterable[Any]) -> list[str]:
    """Let every ``CocoMetric`` evaluate the images of the dataset, where its file holds more; in place.

    The objects of images that are not in the dataset (``indices``, a shorter list) would count as missed.

    Args:
        dataset: The test set.
        metrics: The evaluator's.

    Returns:
        What was changed, for the user; empty where nothing was.

    Raises:
        MmsharpError: An image of the dataset is not in the file.
    """
    notes: list[str] = []
    if not hasattr(dataset, 'get_data_info'):
        return notes
    for metric in metrics:
        ground_truth = getattr(metric, '_coco_api', None)
        if READER not in class_names(metric) or ground_truth is None or getattr(metric, 'img_ids', None):
            continue
        infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        ids = [info['img_id'] for info in infos if 'img_id' in info]
        known = set(ground_truth.getImgIds())
        foreign = next((info for info in infos if 'img_id' in info and info['img_id'] not in known), None)
        if foreign is not None:
            raise MmsharpError(
                f'the annotations of {type(metric).__name__} lack test images, the first is '
                f'{foreign.get("img_path", foreign["img_id"])}: give test_evaluator the ann_file of test_dataloader'
            )
        if len(ids) == len(infos) and len(set(ids)) < len(known):
            metric.img_ids = ids
            notes.append(
                f'{type(metric).__name__} evaluates the {len(ids)} images of the test set; the other '
                f'{len(known) - len(set(ids))} in its annotations would count as missed'
            )
    return notes
