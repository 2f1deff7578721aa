"""Corrupted images from a disk give the values that computing them gives."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.registry import DATASETS, METRICS, init_default_scope
from mmpretrain.datasets import BaseDataset as PretrainDataset
from mmpretrain.registry import DATASETS as PRETRAIN_DATASETS

from mmsharp.apis import evaluate_robustness
from mmsharp.datasets.transforms import CurrentCell
from mmsharp.engine.robustness.placement import place_corruption
from mmsharp.engine.robustness.sources import FromTree
from mmsharp.engine.robustness.tree_writer import TreeSettings, write_tree
from mmsharp.errors import MmsharpError
from mmsharp.robustness import SEVERITIES, TREE_IMAGES, TREE_MANIFEST, Cell, Grid, OnTheFly, load_results

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

GRID = ['gaussian_noise', 'glass_blur'], [0, 2, 5]


@PRETRAIN_DATASETS.register_module()
class ColouredArrays(PretrainDataset):
    """Pictures in memory, as mmpretrain's CIFAR10 holds them."""

    METAINFO = {'classes': ('square', 'disc')}  # noqa: RUF012 - as MMEngine declares it

    def load_data_list(self):
        random = np.random.RandomState(2)
        images = random.randint(0, 120, (10, 32, 32, 3), dtype=np.uint8)
        for number, image in enumerate(images):
            image[..., number % 2 * 2] += 100
        return [{'img': image, 'gt_label': number % 2} for number, image in enumerate(images)]


def _values(folder):
    return {cell: result.metrics for cell, result in load_results(folder)[1].items()}


def _write(config, folder, **settings):
    done, total = list(write_tree(config, folder, Grid.of(*GRID), TreeSettings(**settings)))[-1]
    assert done == total == 4 * len(DATASETS.build(config.test_dataloader.dataset))
    return folder


@pytest.mark.parametrize('model', ['detector', 'classifier'])
def test_a_tree_of_png_files_gives_the_values_of_the_fly(request, tmp_path, model):
    """In every cell, with workers, for pictures of the full size and for those behind the crop."""
    config, checkpoint = request.getfixturevalue(model)
    init_default_scope(config.default_scope)
    tree = _write(config, tmp_path / 'tree', on_the_fly=OnTheFly(seed=3))
    working = Config(config.to_dict())
    working.test_dataloader.num_workers = 2
    summary = evaluate_robustness(working, checkpoint, tmp_path / 'read', *GRID, corrupted=tree, samples=1)
    evaluate_robustness(config, checkpoint, tmp_path / 'computed', *GRID, seed=3, samples=0)
    assert _values(tmp_path / 'read') == _values(tmp_path / 'computed')
    identity = summary['identity']
    assert identity['source'] == 'tree'
    assert identity['seed'] == 3
    assert identity['position'] == ('after_crop' if model == 'classifier' else 'after_loading')
    with pytest.raises(MmsharpError, match='source: was tree, is computed'):
        evaluate_robustness(config, checkpoint, tmp_path / 'read', *GRID, seed=3, samples=0)


def test_a_released_tree_is_read_without_resizing_again(classifier, tmp_path):
    """Pictures of the model's size in folders of their classes; nobody says how they were made."""
    config, checkpoint = classifier
    init_default_scope('mmpretrain')
    tree = _write(config, tmp_path / 'tree', form='jpg', quality=100)
    (tree / 'corruptions.json').unlink()
    summary = evaluate_robustness(config, checkpoint, tmp_path / 'ready', *GRID, corrupted=tree, samples=0)
    assert summary['identity']['position'] == 'after_crop'
    assert summary['identity']['seed'] is None
    for picture in tree.rglob('*.jpg'):
        cv2.imwrite(str(picture), cv2.resize(cv2.imread(str(picture)), (48, 40)))
    with pytest.raises(MmsharpError, match=r'have the shape \(3, 40, 48\).*\(3, 32, 32\): give position after_loading'):
        evaluate_robustness(config, checkpoint, tmp_path / 'large', *GRID, corrupted=tree, samples=0)
    placed = {'corrupted': tree, 'position': 'after_loading', 'samples': 0}
    assert evaluate_robustness(config, checkpoint, tmp_path / 'large', *GRID, **placed)['scores']['mpc'] is not None


@pytest.mark.parametrize('recorded', ['per image', 'as a whole'])
def test_a_tree_of_other_data_with_the_same_names_is_refused(robust_data, detector, tmp_path, recorded):
    """Splits that are numbered from one have names in common; the tree says of which data it was made."""
    config, checkpoint = detector
    init_default_scope('mmdet')
    tree = _write(config, tmp_path / 'tree')
    voc = robust_data.write_voc(tmp_path / 'voc', images=3)
    annotation = voc / 'VOC2007/Annotations/000002.xml'
    annotation.write_text(re.sub(r'<xmin>\d+<', '<xmin>3<', annotation.read_text()))
    message = r'1 of the test images are not .* the first is .*000002\.jpg'
    if recorded == 'as a whole':
        (tree / TREE_IMAGES).unlink()
        message = rf'it records 4 images and .* has 3 images .*once more as before, which adds {TREE_IMAGES}'
    arguments = robust_data.detector_config(voc), checkpoint
    for words in ({}, {'on_bad_image': 'skip'}):
        with pytest.raises(MmsharpError, match=f'written from another data set: {message}'):
            evaluate_robustness(*arguments, tmp_path / 'run', *GRID, corrupted=tree, samples=0, **words)
    manifest = json.loads((tree / TREE_MANIFEST).read_text())
    del manifest['data_sha256']
    (tree / TREE_MANIFEST).write_text(json.dumps(manifest))
    evaluate_robustness(*arguments, tmp_path / 'run', *GRID, corrupted=tree, samples=0)


@pytest.mark.parametrize('part', [{'indices': 3}, {'indices': [3, 1]}, {'ann_file': 'VOC2007/ImageSets/Main/some.txt'}])
def test_a_part_of_the_images_is_read_from_the_tree_of_all(detector, tmp_path, part):
    """Whoever chooses the part and in which order, with the values that computing them gives."""
    config, checkpoint = detector
    init_default_scope('mmdet')
    tree = _write(config, tmp_path / 'tree')
    fewer = Config(config.to_dict())
    fewer.test_dataloader.dataset.update(part)
    some = Path(fewer.test_dataloader.dataset.data_root) / 'VOC2007/ImageSets/Main/some.txt'
    some.write_text('000004\n000002\n')
    evaluate_robustness(fewer, checkpoint, tmp_path / 'read', *GRID, corrupted=tree, samples=0)
    evaluate_robustness(fewer, checkpoint, tmp_path / 'computed', *GRID, samples=0)
    assert _values(tmp_path / 'read') == _values(tmp_path / 'computed')


def test_a_cell_that_the_tree_lacks_is_named_before_its_pictures_are_read(detector, tmp_path):
    """Bad images are looked for in cells that are there."""
    config, checkpoint = detector
    init_default_scope('mmdet')
    tree = _write(config, tmp_path / 'tree')
    for words in ({}, {'on_bad_image': 'skip'}):
        with pytest.raises(MmsharpError, match='fog'):
            evaluate_robustness(config, checkpoint, tmp_path / 'run', 'fog', [0, 1], corrupted=tree, samples=0, **words)


def test_images_that_the_tree_lacks_are_named(robust_data, detector, tmp_path):
    """A test set that goes beyond it."""
    config, checkpoint = detector
    init_default_scope('mmdet')
    fewer = Config(config.to_dict())
    fewer.test_dataloader.dataset.indices = 3
    tree = _write(fewer, tmp_path / 'tree')
    with pytest.raises(MmsharpError, match=r'1 of 4 test images are not in .*000004\.jpg'):
        evaluate_robustness(config, checkpoint, tmp_path / 'run', *GRID, corrupted=tree, samples=0)


def test_a_tree_that_was_killed_before_its_record_gets_it_with_the_next_start(detector, tmp_path):
    """And one whose record is damaged."""
    config, _ = detector
    init_default_scope('mmdet')
    tree = _write(config, tmp_path / 'tree')
    whole = (tree / TREE_IMAGES).read_bytes()
    assert len(json.loads(whole)) == 4
    for damage in (None, b'{'):
        (tree / TREE_IMAGES).unlink()
        if damage is not None:
            (tree / TREE_IMAGES).write_bytes(damage)
        _write(config, tree)
        assert (tree / TREE_IMAGES).read_bytes() == whole


class Paths(BaseMetric):
    """Derives what it needs from the path of an image, as CityScapesMetric does the path of the ground truth."""

    def process(self, data_batch, data_samples):
        """Keep the paths."""
        self.results.extend(sample['img_path'] for sample in data_samples)

    def compute_metrics(self, results):
        """How many are the data set's own."""
        return {'own': sum('/JPEGImages/' in path and path.endswith('.jpg') for path in results)}


def test_metrics_get_the_paths_of_the_data_set(detector, tmp_path):
    """In every cell, although the pictures are read from elsewhere."""
    config = Config(detector[0].to_dict())
    init_default_scope('mmdet')
    tree = _write(config, tmp_path / 'tree')
    config.test_evaluator = {'type': 'mmengine.Paths'}
    METRICS.register_module(module=Paths, force=True)
    try:
        evaluate_robustness(config, detector[1], tmp_path / 'run', *GRID, corrupted=tree, samples=0)
    finally:
        METRICS.module_dict.pop('Paths')
    assert {metrics['own'] for metrics in _values(tmp_path / 'run').values()} == {4}


def test_a_released_tree_is_not_resized_again_by_torchvision(classifier, tmp_path):
    """MMPretrain's wrappers of its transforms are left out in corrupted cells as those of its own are."""
    config = Config(classifier[0].to_dict())
    plain = config.test_dataloader.dataset.pipeline
    config.test_dataloader.dataset.pipeline = [
        plain[0],
        {'type': 'NumpyToPIL', 'to_rgb': True},
        {'type': 'torchvision/Resize', 'size': 36},
        {'type': 'torchvision/CenterCrop', 'size': 32},
        {'type': 'PILToNumpy', 'to_bgr': True},
        plain[-1],
    ]
    init_default_scope('mmpretrain')
    tree = _write(config, tmp_path / 'tree')
    arguments = config, classifier[1]
    evaluate_robustness(*arguments, tmp_path / 'read', *GRID, corrupted=tree, samples=0)
    evaluate_robustness(*arguments, tmp_path / 'computed', *GRID, samples=0)
    assert _values(tmp_path / 'read') == _values(tmp_path / 'computed')
    dataset = DATASETS.build(config.test_dataloader.dataset)
    current = CurrentCell()
    place_corruption(dataset, current, FromTree(tree))
    current.set(Cell('glass_blur', 5))
    written = cv2.imread(str(tree / 'glass_blur/5/disc/0.png'))
    assert np.array_equal(dataset[0]['inputs'].permute(1, 2, 0).numpy(), written)


def test_arrays_give_the_values_of_the_fly(classifier, tmp_path):
    """Written with the pixel functions of the fly; other labels, and a tree for a set without files, are refused."""
    config = Config(classifier[0].to_dict())
    config.test_dataloader.dataset = {'type': 'ColouredArrays', 'ann_file': '', 'pipeline': [{'type': 'PackInputs'}]}
    init_default_scope('mmpretrain')
    dataset = DATASETS.build(config.test_dataloader.dataset)
    images = [dataset.get_data_info(index)['img'] for index in range(len(dataset))]
    labels = [dataset.get_data_info(index)['gt_label'] for index in range(len(dataset))]
    np.save(tmp_path / 'labels.npy', np.tile(labels, 5))
    grid = Grid.of(*GRID)
    for name in grid.corruptions:
        cells = [cell for cell in Grid.of(name, SEVERITIES).cells]
        pictures = [
            OnTheFly(constants='cifar').image(image, 'rgb', f'#{index}', cell)
            for cell in cells
            for index, image in enumerate(images)
        ]
        np.save(tmp_path / f'{name}.npy', np.stack(pictures))
    arguments = config, classifier[1]
    summary = evaluate_robustness(*arguments, tmp_path / 'read', *GRID, corrupted=tmp_path, samples=0)
    evaluate_robustness(*arguments, tmp_path / 'computed', *GRID, constants='cifar', samples=0)
    assert _values(tmp_path / 'read') == _values(tmp_path / 'computed')
    assert summary['identity']['source'] == 'arrays'
    with pytest.raises(MmsharpError, match='does not hold fog/2'):
        evaluate_robustness(*arguments, tmp_path / 'more', 'fog', [2], corrupted=tmp_path, samples=0)
    with pytest.raises(MmsharpError, match='go through the whole pipeline'):
        evaluate_robustness(*arguments, tmp_path / 'more', *GRID, corrupted=tmp_path, position='after_crop')
    np.save(tmp_path / 'labels.npy', 1 - np.tile(labels, 5))
    with pytest.raises(MmsharpError, match='official order'):
        evaluate_robustness(*arguments, tmp_path / 'more', *GRID, corrupted=tmp_path)
    (tmp_path / 'tree/fog/1').mkdir(parents=True)
    with pytest.raises(MmsharpError, match='ColouredArrays does not read files'):
        evaluate_robustness(*arguments, tmp_path / 'more', 'fog', [1], corrupted=tmp_path / 'tree')


def test_a_picture_that_is_missing_or_torn_stops_by_name(detector, tmp_path):
    """In the cell where it is; the cells before are kept."""
    config, checkpoint = detector
    init_default_scope('mmdet')
    tree = _write(config, tmp_path / 'tree')
    victim = tree / 'glass_blur/5/VOC2007/JPEGImages/000002.png'
    victim.write_bytes(victim.read_bytes()[:200])
    with pytest.raises(MmsharpError, match=rf'cell glass_blur/5 stopped: cannot read image {victim}.*truncated'):
        evaluate_robustness(config, checkpoint, tmp_path / 'run', *GRID, corrupted=tree, samples=0)
    assert len(_values(tmp_path / 'run')) == 4
    skipping = {'corrupted': tree, 'samples': 0, 'on_bad_image': 'skip'}
    summary = evaluate_robustness(config, checkpoint, tmp_path / 'skipping', *GRID, **skipping)
    assert [(bad['image'], bad['cell']) for bad in summary['left_out']] == [
        (config.test_dataloader.dataset.data_root + 'VOC2007/JPEGImages/000002.jpg', 'glass_blur/5')
    ]
    assert str(victim) in summary['left_out'][0]['reason']
    victim.unlink()
    with pytest.raises(MmsharpError, match=rf'cannot read image {victim}: no such file'):
        evaluate_robustness(config, checkpoint, tmp_path / 'run', *GRID, corrupted=tree, samples=0)
