"""Test-time augmentation as a config describes it, or as the toolboxes' own tools do where it says nothing."""

import copy
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.model import is_model_wrapper

from mmsharp.errors import MmsharpError
from mmsharp.type_names import class_names, type_name

DETECTION_KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
"""What MMDetection's merging of views has to know of each."""
MODELS: dict[str, dict[str, Any]] = {
    'mmpretrain': dict(type='mmpretrain.AverageClsScoreTTA'),
    'mmdet': dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)),
}
"""What ``tools/test.py --tta`` of each toolbox puts around a model whose config has no ``tta_model``."""


def augment_tests(config: Config) -> None:
    """Put ``tta_model`` around the model of a config, and ``tta_pipeline`` into its test data, in place.

    What a config of MMDetection or MMPretrain does not have is what their own ``tools/test.py`` supplies: the image and
    its mirror image, whose scores are averaged or whose boxes are merged.

    Raises:
        MmsharpError: The config has no such model or pipeline and is of another toolbox, or its test pipeline does not
            end by packing.

    Example:
        >>> augment_tests(Config(dict(model=dict(type='Other'))))
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: --tta needs `tta_model` and `tta_pipeline` in the config, ...
    """
    scope = config.get('default_scope')
    dataset: Any = (config.get('test_dataloader') or {}).get('dataset') or ConfigDict()
    while 'dataset' in dataset:
        dataset = dataset.dataset
    model = config.get('tta_model') or copy.deepcopy(MODELS.get(scope))
    pipeline = config.get('tta_pipeline') or flipped_too(dataset.get('pipeline'), scope)
    if model is None or pipeline is None:
        raise MmsharpError(
            '--tta needs `tta_model` and `tta_pipeline` in the config, or one of mmpretrain or mmdet whose test '
            f'pipeline ends with PackInputs or PackDetInputs; its default_scope is {scope!r}. Test without --tta'
        )
    config.tta_model, config.tta_pipeline = model, pipeline
    config.model = ConfigDict(**config.tta_model, module=config.model)
    dataset.pipeline = config.tta_pipeline


def check_augmented(model: Any, evaluator: Any) -> None:
    """Refuse what MMDetection's merging of views would fail at with the first image.

    Args:
        model: The built model with its augmentation, wrapped or not; any other passes.
        evaluator: MMEngine's.

    Raises:
        MmsharpError: The model predicts masks, or its masks or panoptic segmentations are evaluated.
    """
    if is_model_wrapper(model):
        model = model.module
    if type(model).__name__ != MODELS['mmdet']['type']:
        return
    inner = model.module
    masks = bool(getattr(inner, 'with_mask', False)) or any(
        'segm' in (getattr(metric, 'metrics', None) or ()) or 'CocoPanopticMetric' in class_names(metric)
        for metric in evaluator.metrics
    )
    if masks:
        raise MmsharpError(
            f'--tta: {type(model).__name__} of MMDetection merges boxes, and no masks as those of '
            f'{type(inner).__name__}; test without --tta, or give the config a tta_model that merges them'
        )


def flipped_too(pipeline: Any, scope: str | None) -> list[Any] | None:
    """A test pipeline that packs the image and its mirror image where ``pipeline`` packs the image.

    Returns:
        The pipeline; ``None`` where it does not end with the packing of the toolbox.

    Example:
        >>> flipped_too([dict(type='Load'), dict(type='PackInputs')], 'mmpretrain')[1]['transforms'][1]
        [{'type': 'PackInputs'}]
        >>> flipped_too([dict(type='Load')], 'mmpretrain') is None
        True
    """
    last: Any = pipeline[-1] if isinstance(pipeline, (list, tuple)) and pipeline else None
    if scope == 'mmdet' and type_name(last) == 'PackDetInputs':
        packing = dict(type=last['type'], meta_keys=DETECTION_KEYS)
    elif scope == 'mmpretrain' and type_name(last) == 'PackInputs':
        packing = copy.deepcopy(last)
    else:
        return None
    flips = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
    return [*copy.deepcopy(list(pipeline[:-1])), ConfigDict(type='TestTimeAug', transforms=[flips, [packing]])]
