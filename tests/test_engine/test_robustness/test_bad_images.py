"""Images that cannot be read are left out of every cell, and the values are those of the set without them."""

import json

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from mmsharp.apis import evaluate_robustness
from mmsharp.datasets.transforms import CurrentCell
from mmsharp.engine.robustness import evaluation
from mmsharp.engine.robustness.bad_images import find_bad_images
from mmsharp.engine.robustness.placement import place_corruption
from mmsharp.engine.robustness.sources import Reading, choose_source
from mmsharp.engine.robustness.tree_writer import TreeSettings, write_tree
from mmsharp.errors import MmsharpError
from mmsharp.robustness import Cell, Grid, OnTheFly, load_results

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

GRID = ['gaussian_noise'], [0, 3]


def _values(folder):
    return {cell: (result.metrics, result.images) for cell, result in load_results(folder)[1].items()}


def _cut(path):
    path.write_bytes(path.read_bytes()[:300])
    return path


def _coco(config, root, names):
    """The config with the annotations of some of its images in one COCO file, read by data set and metric."""
    from mmdet.registry import DATASETS
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    infos = [info for info in DATASETS.build(config.test_dataloader.dataset)]
    images, annotations = [], []
    for number, item in enumerate(infos, start=1):
        sample = item['data_samples']
        if sample.img_id in names:
            name = f'VOC2007/JPEGImages/{sample.img_id}.jpg'
            images.append({'id': number, 'file_name': name, 'width': 80, 'height': 64})
            for box, label in zip(
                sample.gt_instances.bboxes.tensor.tolist(), sample.gt_instances.labels.tolist(), strict=True
            ):
                size = [box[2] - box[0], box[3] - box[1]]
                annotations.append(
                    {'id': len(annotations) + 1, 'image_id': number, 'category_id': label + 1, 'iscrowd': 0}
                    | {'bbox': [*box[:2], *size], 'area': size[0] * size[1]}
                )
    categories = [{'id': label + 1, 'name': name} for label, name in enumerate(('square', 'disc'))]
    path = root / f'{len(names)}.json'
    path.write_text(json.dumps({'images': images, 'annotations': annotations, 'categories': categories}))
    changed = Config(config.to_dict())
    dataset = changed.test_dataloader.dataset
    dataset.update(type='CocoDataset', ann_file=str(path), data_prefix={'img': ''})
    changed.test_evaluator = {'type': 'CocoMetric', 'ann_file': str(path), 'metric': 'bbox'}
    return changed


@pytest.mark.parametrize('kind', ['voc', 'coco'])
@pytest.mark.parametrize('workers', [0, 2])
def test_the_values_are_those_of_the_set_without_the_image(robust_data, tmp_path, kind, workers):
    """Also for a metric that reads its ground truth from a file of its own."""
    root = robust_data.write_voc(tmp_path / 'voc')
    config = robust_data.detector_config(root, workers)
    checkpoint = robust_data.write_checkpoint(config, tmp_path / 'detector.pth', steps=30)
    names = ['000001', '000003', '000004']
    if kind == 'coco':
        whole, fewer = _coco(config, tmp_path, ['000002', *names]), _coco(config, tmp_path, names)
    else:
        (root / 'VOC2007/ImageSets/Main/fewer.txt').write_text('\n'.join(names) + '\n')
        whole, fewer = config, Config(config.to_dict())
        fewer.test_dataloader.dataset.ann_file = 'VOC2007/ImageSets/Main/fewer.txt'
    victim = _cut(root / 'VOC2007/JPEGImages/000002.jpg')
    summary = evaluate_robustness(whole, checkpoint, tmp_path / 'skipped', *GRID, samples=1, on_bad_image='skip')
    evaluate_robustness(fewer, checkpoint, tmp_path / 'fewer', *GRID, samples=0)
    if kind == 'coco':
        # Names of images are numbers of the annotation file here, and these seed the noise: they are the same.
        assert len(_values(tmp_path / 'fewer')) == 2
    assert _values(tmp_path / 'skipped') == _values(tmp_path / 'fewer')
    assert summary['images'] == 3
    assert [bad['image'] for bad in summary['left_out']] == [str(victim)]
    assert 'truncated' in summary['left_out'][0]['reason']
    for name in ('summary.md', 'report.html'):
        assert '000002.jpg' in (tmp_path / 'skipped' / name).read_text()


def test_a_mended_image_is_not_mixed_with_the_cells_without_it(robust_data, tmp_path):
    """The folder holds an evaluation of fewer images, which is said."""
    images = robust_data.write_class_folders(tmp_path / 'images')
    config = robust_data.classifier_config(images)
    checkpoint = robust_data.write_checkpoint(config, tmp_path / 'classifier.pth')
    victim = images / 'disc/3.png'
    whole = victim.read_bytes()
    _cut(victim)
    skipping = {'samples': 0, 'on_bad_image': 'skip'}
    evaluate_robustness(config, checkpoint, tmp_path / 'run', *GRID, **skipping)
    lines = (tmp_path / 'run/results.jsonl').read_bytes()
    evaluate_robustness(config, checkpoint, tmp_path / 'run', *GRID, **skipping)
    assert (tmp_path / 'run/results.jsonl').read_bytes() == lines
    victim.write_bytes(whole)
    with pytest.raises(MmsharpError, match=r'images: was 11, is 12.*left_out.*left out of all, the finished ones too'):
        evaluate_robustness(config, checkpoint, tmp_path / 'run', *GRID, **skipping)


def test_concatenated_sets_count_anew(robust_data, tmp_path):
    """The images of the second part stay where they are."""
    roots = [robust_data.write_class_folders(tmp_path / name) for name in ('first', 'second')]
    config = robust_data.classifier_config(roots[0])
    checkpoint = robust_data.write_checkpoint(config, tmp_path / 'classifier.pth')
    parts = [Config(config.to_dict()).test_dataloader.dataset.to_dict() | {'data_root': str(root)} for root in roots]
    config.test_dataloader.dataset = {'type': 'ConcatDataset', 'datasets': parts}
    for root, name in zip(roots, ('square/0.png', 'disc/5.png'), strict=True):
        _cut(root / name)
    summary = evaluate_robustness(config, checkpoint, tmp_path / 'run', *GRID, samples=0, on_bad_image='skip')
    assert summary['images'] == 22
    assert [bad['image'] for bad in summary['left_out']] == [
        str(roots[0] / 'square/0.png'),
        str(roots[1] / 'disc/5.png'),
    ]


def test_the_images_that_are_left_keep_their_pictures_in_arrays(robust_data, tmp_path):
    """The arrays hold the clean pictures themselves, so every cell has the values of the clean one."""
    random = np.random.RandomState(0)
    labels = [number % 2 for number in range(8)]
    (tmp_path / 'images').mkdir()
    (tmp_path / 'arrays').mkdir()
    pictures = []
    for number, label in enumerate(labels):
        picture = random.randint(0, 120, (32, 32, 3), dtype=np.uint8)
        picture[..., label * 2] += 100
        pictures.append(picture)
        cv2.imwrite(str(tmp_path / f'images/{number}.png'), picture[..., ::-1])
    (tmp_path / 'list.txt').write_text(''.join(f'{number}.png {label}\n' for number, label in enumerate(labels)))
    np.save(tmp_path / 'arrays/labels.npy', np.tile(labels, 5))
    np.save(tmp_path / 'arrays/fog.npy', np.stack(pictures * 5))
    config = robust_data.classifier_config(tmp_path / 'images')
    config.test_dataloader.dataset = {
        'type': 'CustomDataset',
        'data_prefix': str(tmp_path / 'images'),
        'ann_file': str(tmp_path / 'list.txt'),
        'metainfo': {'classes': robust_data.CLASSES},
        'pipeline': [{'type': 'LoadImageFromFile'}, {'type': 'PackInputs'}],
    }
    checkpoint = robust_data.write_checkpoint(config, tmp_path / 'classifier.pth', steps=20)
    for name in ('1.png', '4.png'):
        _cut(tmp_path / 'images' / name)
    skipping = {'corrupted': tmp_path / 'arrays', 'on_bad_image': 'skip', 'samples': 0}
    summary = evaluate_robustness(config, checkpoint, tmp_path / 'run', 'fog', [0, 1, 5], **skipping)
    assert summary['images'] == 6
    assert summary['scores']['clean'] == summary['scores']['mpc'] == 100


def test_a_part_of_the_images_of_a_coco_file_is_evaluated_as_a_file_of_its_own(robust_data, tmp_path):
    """The objects of the others are not missed; an image that the metric's file lacks is named."""
    root = robust_data.write_voc(tmp_path / 'voc')
    config = robust_data.detector_config(root)
    checkpoint = robust_data.write_checkpoint(config, tmp_path / 'detector.pth', steps=30)
    whole = _coco(config, tmp_path, ['000001', '000002', '000003', '000004'])
    fewer = _coco(config, tmp_path, ['000001', '000002'])
    part = Config(whole.to_dict())
    part.test_dataloader.dataset.indices = 2
    evaluate_robustness(part, checkpoint, tmp_path / 'part', *GRID, samples=0)
    evaluate_robustness(fewer, checkpoint, tmp_path / 'fewer', *GRID, samples=0)
    assert _values(tmp_path / 'part') == _values(tmp_path / 'fewer')
    assert next(iter(_values(tmp_path / 'part').values()))[0]['coco/bbox_mAP'] > 0
    # Earlier versions evaluated the whole file, and called that evaluation by the same names.
    marked = {name: json.loads((tmp_path / name / 'identity.json').read_text()) for name in ('part', 'fewer')}
    assert "'ground_truth'" in str(marked['part'])
    assert "'ground_truth'" not in str(marked['fewer'])
    whole.test_evaluator.ann_file = fewer.test_evaluator.ann_file
    with pytest.raises(MmsharpError, match=r'annotations of CocoMetric lack test images, the first is .*000003\.jpg'):
        evaluate_robustness(whole, checkpoint, tmp_path / 'run', *GRID, samples=0)


@pytest.mark.parametrize('fault', ['empty', 'loop'])
def test_folders_without_images_and_links_that_lead_back_are_one_line(robust_data, classifier, tmp_path, fault):
    """Of bounded length."""
    images = robust_data.write_class_folders(tmp_path / 'images')
    config = robust_data.classifier_config(images)
    if fault == 'loop':
        (images / 'disc/up').symlink_to('..')
    else:
        for path in images.rglob('*.png'):
            path.unlink()
    with pytest.raises(MmsharpError, match=r'the images cannot be listed .*look at data_root') as caught:
        evaluate_robustness(config, classifier[1], tmp_path / 'run', *GRID)
    assert len(str(caught.value)) < 500


def test_nothing_left_and_nothing_known_are_refused(robust_data, tmp_path):
    """Every image torn; and another word than stop and skip."""
    images = robust_data.write_class_folders(tmp_path / 'images', images=2)
    config = robust_data.classifier_config(images)
    checkpoint = robust_data.write_checkpoint(config, tmp_path / 'classifier.pth')
    with pytest.raises(MmsharpError, match="on_bad_image 'ignore' is none of stop, skip"):
        evaluate_robustness(config, checkpoint, tmp_path / 'run', *GRID, on_bad_image='ignore')
    for path in images.rglob('*.png'):
        path.write_bytes(b'')
    with pytest.raises(
        MmsharpError,
        match=r'none of the 4 test images is left; the first: cannot read image .*0\.png: the file is empty',
    ):
        evaluate_robustness(config, checkpoint, tmp_path / 'run', *GRID, on_bad_image='skip')


def _several(robust_data, tmp_path):
    """Two COCO sets in one config, each with a metric of its own, and weights that find something."""
    roots = [robust_data.write_voc(tmp_path / name, count) for name, count in (('first', 4), ('second', 6))]
    parts = []
    for root, count in zip(roots, (4, 6), strict=True):
        config = robust_data.detector_config(root)
        parts.append(_coco(config, root, [f'{number:06d}' for number in range(1, count + 1)]))
    config = Config(parts[0].to_dict())
    datasets = [part.test_dataloader.dataset.to_dict() for part in parts]
    config.test_dataloader.dataset = {'type': 'ConcatDataset', 'datasets': datasets}
    metrics = [part.test_evaluator.to_dict() for part in parts]
    config.test_evaluator = {'type': 'MultiDatasetsEvaluator', 'metrics': metrics, 'dataset_prefixes': ['A', 'B']}
    return config, parts, robust_data.write_checkpoint(parts[0], tmp_path / 'detector.pth', steps=40)


def test_data_sets_that_are_evaluated_apart_keep_their_values(robust_data, tmp_path):
    """Each has those of its own evaluation and no others; which is the score has to be said; none is left out of."""
    config, parts, checkpoint = _several(robust_data, tmp_path)
    with pytest.raises(MmsharpError, match=r'evaluates A, B apart.*for example A/coco/bbox_mAP'):
        evaluate_robustness(config, checkpoint, tmp_path / 'run', *GRID)
    chosen = {'metric': 'B/coco/bbox_mAP', 'samples': 0}
    with pytest.raises(MmsharpError, match="on_bad_image 'skip' is not for MultiDatasetsEvaluator"):
        evaluate_robustness(config, checkpoint, tmp_path / 'run', *GRID, on_bad_image='skip', **chosen)
    assert not (tmp_path / 'run/results.jsonl').exists()
    summary = evaluate_robustness(config, checkpoint, tmp_path / 'run', *GRID, **chosen)
    evaluate_robustness(parts[1], checkpoint, tmp_path / 'second', ['gaussian_noise'], [0], samples=0)
    (clean, _), *_ = _values(tmp_path / 'run').values()
    assert all(name.startswith(('A/', 'B/')) for name in clean)
    (alone, _), *_ = _values(tmp_path / 'second').values()
    assert summary['scores']['clean'] == alone['coco/bbox_mAP'] > 0


def test_predictions_that_are_only_written_are_no_evaluation(robust_data, tmp_path):
    """It is said before the first cell, instead of a score of zero."""
    config = robust_data.detector_config(robust_data.write_voc(tmp_path / 'voc'))
    config = _coco(config, tmp_path, ['000001', '000002'])
    config.test_evaluator.update(format_only=True, outfile_prefix=str(tmp_path / 'out'))
    checkpoint = robust_data.write_checkpoint(config, tmp_path / 'detector.pth')
    with pytest.raises(MmsharpError, match='format_only=True writes predictions and computes no metric'):
        evaluate_robustness(config, checkpoint, tmp_path / 'run', *GRID)
    assert not (tmp_path / 'run/results.jsonl').exists()


@pytest.fixture
def tree(robust_data, tmp_path):
    """A tree of two corruptions, in the second of which a picture is torn: config, checkpoint and tree."""
    config = robust_data.classifier_config(robust_data.write_class_folders(tmp_path / 'images'))
    init_default_scope('mmpretrain')
    list(write_tree(config, tmp_path / 'tree', Grid.of(['snow', 'fog'], [1]), TreeSettings()))
    _cut(tmp_path / 'tree/fog/1/disc/3.png')
    return config, robust_data.write_checkpoint(config, tmp_path / 'classifier.pth'), tmp_path / 'tree'


@pytest.fixture
def read(monkeypatch):
    """The cells in which all images were read, in order."""
    cells = []

    def find(dataset, current, wanted, *rest):
        cells.extend(str(cell) for cell in wanted)
        return find_bad_images(dataset, current, wanted, *rest)

    monkeypatch.setattr(evaluation, 'find_bad_images', find)
    return cells


def test_images_are_read_once_per_cell_and_folder(tree, read, tmp_path):
    """A start that finds nothing new to do reads nothing; a smaller grid leaves out what the larger one did."""
    config, checkpoint, folder = tree
    arguments = config, checkpoint, tmp_path / 'run'
    skipping = {'corrupted': folder, 'samples': 0, 'on_bad_image': 'skip'}
    summary = evaluate_robustness(*arguments, ['snow', 'fog'], [0, 1], **skipping)
    assert read == ['clean', 'snow/1', 'fog/1']
    lines = (tmp_path / 'run/results.jsonl').read_bytes()
    assert evaluate_robustness(*arguments, ['snow', 'fog'], [0, 1], **skipping)['left_out'] == summary['left_out']
    assert evaluate_robustness(*arguments, 'snow', [0, 1], **skipping)['images'] == 11
    assert read == ['clean', 'snow/1', 'fog/1']
    assert (tmp_path / 'run/results.jsonl').read_bytes() == lines
    (tmp_path / 'run/unreadable.json').write_text('{')
    evaluate_robustness(*arguments, 'fog', [0, 1], **skipping)
    assert read[3:] == ['clean', 'fog/1']


def test_a_grid_may_grow_by_cells_that_can_be_read(tree, read, tmp_path):
    """The new cells alone are read; one with another torn picture says why it does not go with the finished ones."""
    config, checkpoint, folder = tree
    arguments = config, checkpoint, tmp_path / 'run'
    skipping = {'corrupted': folder, 'samples': 0, 'on_bad_image': 'skip'}
    evaluate_robustness(*arguments, 'snow', [0], **skipping)
    evaluate_robustness(*arguments, 'snow', [0, 1], **skipping)
    assert read == ['clean', 'snow/1']
    with pytest.raises(MmsharpError, match=r'left_out: was \[\], is .*left out of all, the finished ones too'):
        evaluate_robustness(*arguments, ['snow', 'fog'], [0, 1], **skipping)


def test_an_image_that_is_torn_later_is_found_by_the_next_start(robust_data, read, tmp_path):
    """What was read before is not trusted any more once an image fails."""
    images = robust_data.write_class_folders(tmp_path / 'images')
    config = robust_data.classifier_config(images)
    checkpoint = robust_data.write_checkpoint(config, tmp_path / 'classifier.pth')
    arguments = config, checkpoint, tmp_path / 'run', 'fog'
    skipping = {'samples': 0, 'on_bad_image': 'skip'}
    evaluate_robustness(*arguments, [0, 1], **skipping)
    _cut(images / 'disc/3.png')
    with pytest.raises(MmsharpError, match=r'cell fog/2 stopped: cannot read image .*3\.png'):
        evaluate_robustness(*arguments, [0, 1, 2], **skipping)
    with pytest.raises(MmsharpError, match='images: was 12, is 11'):
        evaluate_robustness(*arguments, [0, 1, 2], **skipping)
    assert read == ['clean, sized', 'clean, sized']


def test_parts_are_read_apart(tree):
    """Two processes read half of the images each, and find what one does."""
    config, _, folder = tree
    init_default_scope('mmpretrain')
    dataset = DATASETS.build(config.test_dataloader.dataset)
    current, cells = CurrentCell(), [Reading(Cell.clean()), Reading(Cell('fog', 1))]
    place_corruption(dataset, current, choose_source(folder, OnTheFly()))
    whole = find_bad_images(dataset, current, cells, show=False)
    assert [bad.index for bad in whole['fog/1']] == [3]
    halves = [find_bad_images(dataset, current, cells, show=False, part=(rank, 2)) for rank in (0, 1)]
    assert {cell: halves[0][cell] + halves[1][cell] for cell in whole} == whole


def _shrink(path, width, height):
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (width, height)))
    return path


@pytest.mark.parametrize('workers', [0, 2])
def test_images_that_are_too_small_to_be_corrupted_are_left_out_of_every_cell(robust_data, tmp_path, workers):
    """Of the clean one too; where nothing is corrupted they stay."""
    root = robust_data.write_voc(tmp_path / 'voc')
    config = robust_data.detector_config(root, workers)
    checkpoint = robust_data.write_checkpoint(config, tmp_path / 'detector.pth', steps=30)
    (root / 'VOC2007/ImageSets/Main/fewer.txt').write_text('000001\n000002\n000004\n')
    fewer = Config(config.to_dict())
    fewer.test_dataloader.dataset.ann_file = 'VOC2007/ImageSets/Main/fewer.txt'
    small = _shrink(root / 'VOC2007/JPEGImages/000003.jpg', 80, 24)
    summary = evaluate_robustness(config, checkpoint, tmp_path / 'run', *GRID, samples=0, on_bad_image='skip')
    evaluate_robustness(fewer, checkpoint, tmp_path / 'fewer', *GRID, samples=0)
    assert _values(tmp_path / 'run') == _values(tmp_path / 'fewer')
    (bad,) = summary['left_out']
    assert (bad['image'], bad['cell']) == (str(small), 'all but clean')
    assert f'image {small}: cannot corrupt an image of 80x24 pixels' in bad['reason']
    clean = evaluate_robustness(config, checkpoint, tmp_path / 'clean', 'fog', [0], samples=0, on_bad_image='skip')
    assert (clean['images'], clean['left_out']) == (4, [])
    again = evaluate_robustness(config, checkpoint, tmp_path / 'run', *GRID, samples=0, on_bad_image='skip')
    assert again['left_out'] == summary['left_out']


@pytest.mark.parametrize('known_by', ['annotation', 'header', 'pipeline'])
def test_an_image_that_is_too_small_stops_before_the_first_cell(robust_data, tmp_path, known_by):
    """By its size in the annotations, in the file's header, or what the pipeline makes of the first image."""
    size = '48x24'
    if known_by == 'annotation':
        root = robust_data.write_voc(tmp_path / 'voc')
        small = _shrink(root / 'VOC2007/JPEGImages/000003.jpg', 48, 24)
        annotation = root / 'VOC2007/Annotations/000003.xml'
        annotation.write_text(annotation.read_text().replace('<height>64<', '<height>24<'))
        config = robust_data.detector_config(root)
    else:
        images = robust_data.write_class_folders(tmp_path / 'images')
        config = robust_data.classifier_config(images)
        pipeline = config.test_dataloader.dataset.pipeline
        if known_by == 'header':
            small = _shrink(images / 'square/4.png', 48, 24)
            config.test_dataloader.dataset.pipeline = [pipeline[0], pipeline[-1]]
        else:
            small, size = images / 'disc/0.png', '28x28'
            pipeline[2].crop_size = 28
    checkpoint = robust_data.write_checkpoint(config, tmp_path / 'model.pth')
    with pytest.raises(MmsharpError, match=f'image {small}: cannot corrupt an image of {size} .*--on-bad-image skip'):
        evaluate_robustness(config, checkpoint, tmp_path / 'run', *GRID, samples=0)
    assert not (tmp_path / 'run/results.jsonl').exists()


def test_a_wrong_size_in_the_annotations_refuses_nothing(robust_data, tmp_path):
    """The image itself decides."""
    root = robust_data.write_voc(tmp_path / 'voc')
    for annotation in (root / 'VOC2007/Annotations').iterdir():
        annotation.write_text(annotation.read_text().replace('<height>64<', '<height>6<'))
    config = robust_data.detector_config(root)
    checkpoint = robust_data.write_checkpoint(config, tmp_path / 'detector.pth')
    assert evaluate_robustness(config, checkpoint, tmp_path / 'run', *GRID, samples=0)['images'] == 4
