"""Pictures of corrupted test images with the model's own predictions, for the report."""

from typing import Any

import numpy as np
import torch

from mmsharp.engine.robustness.evaluation import RobustEvaluation
from mmsharp.errors import MmsharpError
from mmsharp.robustness import Cell, Grid, image_id
from mmsharp.visualization import Detection, SamplePicture, paint_boxes, paint_label

PREFERRED_SEVERITY = 3


def sample_cells(grid: Grid) -> tuple[Cell, ...]:
    """The clean cell and each corruption at severity 3, or at the grid's severity that is nearest to it.

    Example:
        >>> [str(cell) for cell in sample_cells(Grid.of(['fog', 'snow'], [1, 5]))]
        ['clean', 'snow/1', 'fog/1']
    """
    if not grid.severities:
        return (Cell.clean(),)
    severity = min(grid.severities, key=lambda level: (abs(level - PREFERRED_SEVERITY), level))
    return (Cell.clean(), *(Cell(name, severity) for name in grid.corruptions))


def take_samples(evaluation: RobustEvaluation, grid: Grid, count: int, threshold: float = 0.3) -> list[SamplePicture]:
    """Run the model on ``count`` images, spread evenly over the test set, in each cell of :func:`sample_cells`.

    Args:
        evaluation: The built model and data.
        grid: Which corruptions to show.
        count: How many images; none are taken where it is zero.
        threshold: Detections below this score are not painted.
    """
    dataset = evaluation.dataset
    model: Any = evaluation.model
    collate = evaluation.loop.dataloader.collate_fn
    indices = np.linspace(0, len(dataset) - 1, num=min(count, len(dataset)) + 2)[1:-1].round().astype(int)
    pictures: list[SamplePicture] = []
    model.eval()
    for index in dict.fromkeys(indices.tolist()):
        for cell in sample_cells(grid):
            evaluation.current.set(cell)
            data = dataset[index]
            pixels = to_rgb(data['inputs'], evaluation.placement.image_order)
            if pixels is None:
                return pictures
            with torch.no_grad():
                prediction = model.test_step(collate([data]))[0]
            name = image_id({**prediction.metainfo, 'sample_idx': index}, getattr(dataset, 'data_root', None))
            painted, caption = paint(pixels, prediction, (dataset.metainfo or {}).get('classes'), threshold)
            pictures.append(SamplePicture(cell, name, painted, caption))
    return pictures


def to_rgb(inputs: Any, image_order: str) -> np.ndarray | None:
    """The picture in a packed item, (3, H, W) of 0 to 255, as RGB of shape (H, W, 3); ``None`` for anything else."""
    if not isinstance(inputs, torch.Tensor) or inputs.ndim != 3 or inputs.shape[0] != 3:
        return None
    pixels = inputs.permute(1, 2, 0).cpu().numpy()
    pixels = pixels[..., ::-1] if image_order == 'bgr' else pixels
    return np.ascontiguousarray(pixels.clip(0, 255).astype(np.uint8))


def paint(pixels: np.ndarray, prediction: Any, classes: Any, threshold: float) -> tuple[np.ndarray, str]:
    """Paint what a data sample of MMDetection or MMPretrain predicts; anything else leaves the picture as it is."""

    def name(label: int) -> str:
        return str(classes[label]) if classes is not None and label < len(classes) else str(label)

    if 'pred_instances' in prediction:
        instances = prediction.pred_instances.cpu()
        boxes = instances.bboxes.tensor if hasattr(instances.bboxes, 'tensor') else instances.bboxes
        scale = np.tile(np.asarray(prediction.metainfo.get('scale_factor', (1.0, 1.0)), dtype=float)[:2], 2)
        detections = [
            Detection(tuple((box * scale).tolist()), name(int(label)), float(score), int(label))
            for box, label, score in zip(upright(boxes.numpy()), instances.labels, instances.scores, strict=True)
            if score >= threshold
        ]
        return paint_boxes(pixels, detections), f'{len(detections)} detections'
    if 'pred_label' in prediction:
        labels = prediction.pred_label.flatten().tolist()
        truth = set(prediction.gt_label.flatten().tolist()) if 'gt_label' in prediction else None
        text = ', '.join(name(label) for label in labels) or 'no label'
        if 'pred_score' in prediction and len(labels) == 1:
            text += f' {float(prediction.pred_score.max()):.2f}'
        return paint_label(pixels, right=None if truth is None else truth == set(labels)), text
    return pixels, ''


def upright(boxes: np.ndarray) -> np.ndarray:
    """The upright boxes (left, top, right, bottom) around boxes of any of three kinds.

    Args:
        boxes: One in a row: left, top, right, bottom; or rotated ones of centre, width, height and angle in radians; or
            the four corners of quadrilaterals, each x and y.

    Raises:
        MmsharpError: Rows of another length.

    Example:
        >>> upright(np.array([[10.0, 20.0, 8.0, 4.0, np.pi / 2]])).round(3).tolist()
        [[8.0, 16.0, 12.0, 24.0]]
    """
    width = boxes.shape[-1]
    if width == 4:
        return boxes
    if width == 5:
        x, y, w, h, angle = boxes.T
        cosine, sine = np.abs(np.cos(angle)), np.abs(np.sin(angle))
        half_w, half_h = (w * cosine + h * sine) / 2, (w * sine + h * cosine) / 2
        return np.stack([x - half_w, y - half_h, x + half_w, y + half_h], axis=-1)
    if width == 8:
        corners = boxes.reshape(-1, 4, 2)
        return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=-1)
    raise MmsharpError(f'boxes of {width} numbers cannot be painted; known are boxes of 4, 5 and 8')
