"""Test-time augmentation sees one corrupted picture in all of its views."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from mmsharp.apis import evaluate_robustness
from mmsharp.engine.configs.tta import augment_tests, check_augmented
from mmsharp.errors import MmsharpError
from mmsharp.robustness import Cell, load_results

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


def _augmented(config, corrupt=None):
    packing = config.test_dataloader.dataset.pipeline[-1].to_dict()
    packing['meta_keys'] = (*packing['meta_keys'], 'flip', 'flip_direction')
    steps = [
        [{'type': 'Resize', 'scale': scale, 'keep_ratio': True} for scale in ((80, 64), (96, 80))],
        [{'type': 'RandomFlip', 'prob': 1.0}, {'type': 'RandomFlip', 'prob': 0.0}],
        [{'type': 'LoadAnnotations', 'with_bbox': True}],
        [packing],
    ]
    first = [{'type': 'LoadImageFromFile'}, *([corrupt] if corrupt else [])]
    changed = Config(config.to_dict())
    changed.tta_model = {
        'type': 'DetTTAModel',
        'tta_cfg': {'nms': {'type': 'nms', 'iou_threshold': 0.5}, 'max_per_img': 9},
    }
    changed.tta_pipeline = [*first, {'type': 'TestTimeAug', 'transforms': steps}]
    return changed


def test_a_cell_is_what_the_augmented_pipeline_with_the_corruption_gives(detector, tmp_path):
    """Against MMEngine's own test run of the config with mmsharp.Corrupt in its tta_pipeline."""
    config, checkpoint = detector
    evaluate_robustness(_augmented(config), checkpoint, tmp_path / 'run', ['fog'], [0, 3], samples=0, tta=True)
    found = {cell: result.metrics for cell, result in load_results(tmp_path / 'run')[1].items()}
    corrupt = {'type': 'mmsharp.Corrupt', 'corruption': 'fog', 'severity': 3}
    for cell, step in ((Cell.clean(), None), (Cell('fog', 3), corrupt)):
        plain = _augmented(config, step)
        plain.model = {**plain.tta_model, 'module': plain.model}
        plain.test_dataloader.dataset.pipeline = plain.tta_pipeline
        plain.merge_from_dict({'work_dir': str(tmp_path / 'plain'), 'load_from': str(checkpoint), 'log_level': 'ERROR'})
        plain.experiment_name = f'tta_{cell.corruption}_{tmp_path.name}'
        assert found[cell] == Runner.from_cfg(plain).test()


@pytest.mark.parametrize('model', ['detector', 'classifier'])
def test_without_a_word_in_the_config_the_toolboxes_own_defaults_are_taken(request, tmp_path, model):
    """Against MMEngine's own test run of the config as their tools/test.py --tta change it."""
    config, checkpoint = request.getfixturevalue(model)
    metrics = {}
    evaluate_robustness(config, checkpoint, tmp_path / 'run', 'fog', [0], samples=0, tta=True)
    metrics['ours'] = load_results(tmp_path / 'run')[1][Cell.clean()].metrics
    plain = Config(config.to_dict())
    pipeline = plain.test_dataloader.dataset.pipeline
    packing = pipeline[-1].to_dict()
    if model == 'detector':
        packing['meta_keys'] = (*packing['meta_keys'], 'flip', 'flip_direction')
    flips = [{'type': 'RandomFlip', 'prob': 1.0}, {'type': 'RandomFlip', 'prob': 0.0}]
    plain.test_dataloader.dataset.pipeline = [
        *pipeline[:-1],
        {'type': 'TestTimeAug', 'transforms': [flips, [packing]]},
    ]
    merging = {'tta_cfg': {'nms': {'type': 'nms', 'iou_threshold': 0.5}, 'max_per_img': 100}}
    around = {'type': 'DetTTAModel', **merging} if model == 'detector' else {'type': 'AverageClsScoreTTA'}
    plain.model = {**around, 'module': plain.model}
    plain.merge_from_dict({'work_dir': str(tmp_path / 'plain'), 'load_from': str(checkpoint), 'log_level': 'ERROR'})
    plain.experiment_name = f'tta_default_{model}_{tmp_path.name}'
    if model == 'classifier':
        plain.test_dataloader.collate_fn = {'type': 'default_collate'}
    assert metrics['ours'] == Runner.from_cfg(plain).test()


@pytest.mark.parametrize(
    'change',
    [{'default_scope': 'mmengine'}, {'test_dataloader.dataset.pipeline': [{'type': 'LoadImageFromFile'}]}],
    ids=['another toolbox', 'no packing'],
)
def test_where_no_default_is_known_it_is_asked_for(detector, change):
    """As by tools/test.py."""
    config = Config(detector[0].to_dict())
    config.merge_from_dict(change)
    with pytest.raises(MmsharpError, match='--tta needs `tta_model`'):
        augment_tests(config)


@pytest.mark.parametrize(
    ('masks', 'metric'),
    [
        (True, SimpleNamespace(metrics=['bbox'])),
        (False, SimpleNamespace(metrics=['bbox', 'segm'])),
        (False, type('CocoPanopticMetric', (), {})()),
    ],
)
def test_what_the_toolbox_cannot_merge_is_said_before_the_first_image(masks, metric):
    """MMDetection's DetTTAModel merges boxes alone, and fails at masks in the midst of a pass."""
    model = type('DetTTAModel', (), {'module': SimpleNamespace(with_mask=masks)})()
    with pytest.raises(MmsharpError, match='--tta: DetTTAModel of MMDetection merges boxes, and no masks'):
        check_augmented(model, SimpleNamespace(metrics=[metric]))
    check_augmented(type('Own', (), {'module': model.module})(), SimpleNamespace(metrics=[metric]))
    model.module.with_mask = False
    check_augmented(model, SimpleNamespace(metrics=[SimpleNamespace(metrics=['bbox'])]))
