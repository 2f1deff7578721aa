"""Trees are written whole or go on, from one set of settings."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS

from mmsharp.engine.robustness import tree_writer
from mmsharp.engine.robustness.tree_writer import TreeSettings, write_tree
from mmsharp.errors import MmsharpError
from mmsharp.robustness import TREE_IMAGES, TREE_MANIFEST, Grid, OnTheFly

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

GRID = Grid.of(['shot_noise', 'fog'], [0, 1, 4])


def _all(*arguments, **keywords):
    return list(write_tree(*arguments, **keywords))


def _content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


def test_stopped_and_started_again_the_tree_is_the_same(detector, tmp_path):
    """What is there is not written again; with workers, and file by file in one process."""
    config, _ = detector
    progress = _all(config, tmp_path / 'whole', GRID, TreeSettings(), workers=2)
    assert progress == [(done, 16) for done in range(0, 17, 4)]
    writing = write_tree(config, tmp_path / 'stopped', GRID, TreeSettings())
    assert [next(writing), next(writing)] == [(0, 16), (4, 16)]
    writing.close()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'stopped').rglob('*.png')}
    assert len(before) == 4
    (tmp_path / 'stopped/fog/1/VOC2007/JPEGImages/.000002.png.77.part').write_bytes(b'left by a kill')
    _all(config, tmp_path / 'stopped', GRID, TreeSettings())
    assert {path: path.stat().st_mtime_ns for path in before} == before
    left = _content(tmp_path / 'stopped')
    assert len(left) == 19
    whole = _content(tmp_path / 'whole')
    assert {name: content for name, content in left.items() if not name.endswith('.part')} == whole


def test_names_are_those_of_the_images(detector, classifier, tmp_path):
    """Below the data root for detectors; in the folders of the classes for classifiers, at the size of the crop."""
    _all(detector[0], tmp_path / 'voc', GRID, TreeSettings())
    picture = tmp_path / 'voc/shot_noise/4/VOC2007/JPEGImages/000003.png'
    assert cv2.imread(str(picture)).shape == (64, 80, 3)
    _all(classifier[0], tmp_path / 'classes', GRID, TreeSettings(form='jpg', quality=85))
    assert cv2.imread(str(tmp_path / 'classes/fog/1/disc/5.jpg')).shape == (32, 32, 3)
    manifest = json.loads((tmp_path / 'classes' / TREE_MANIFEST).read_text())
    assert {
        'seed': 0,
        'position': 'after_crop',
        'format': 'jpg',
        'quality': 85,
        'images': 12,
    }.items() <= manifest.items()


def test_with_the_format_of_the_images_another_tool_needs_another_folder_only(detector, classifier, tmp_path):
    """MMDetection's own data set reads the cell with its own annotations; a suffix in capitals stays as it is."""
    config, _ = detector
    _all(config, tmp_path / 'tree', Grid.of('fog', [1]), TreeSettings(form='jpg'))
    given = Path(config.test_dataloader.dataset.data_root) / 'VOC2007'
    cell = tmp_path / 'tree/fog/1/VOC2007'
    for folder in ('Annotations', 'ImageSets'):
        (cell / folder).symlink_to(given / folder)
    described = {**config.test_dataloader.dataset, 'data_root': f'{cell.parent}/'}
    dataset = DATASETS.build(described)
    assert len(dataset) == 4
    assert all(tuple(item['inputs'].shape) == (3, 64, 80) for item in dataset)
    images = tmp_path / 'images'
    shutil.copytree(classifier[0].test_dataloader.dataset.data_root, images)
    for number, suffix in enumerate(('.PNG', '.JPEG', '.jpg')):
        path = images / f'disc/{number}.png'
        cv2.imwrite(str(images / f'disc/{number}{suffix}'), cv2.imread(str(path)))
        if suffix != '.PNG' or not (images / f'disc/{number}.PNG').samefile(path):
            path.unlink()
    changed = Config(classifier[0].to_dict())
    changed.test_dataloader.dataset.data_root = str(images)
    names = {}
    for form in ('jpg', 'png'):
        _all(changed, tmp_path / form, Grid.of('fog', [1]), TreeSettings(form=form))
        names[form] = sorted(path.name for path in (tmp_path / form / 'fog/1/disc').iterdir())
    assert names['jpg'] == ['0.jpg', '1.JPEG', '2.jpg', '3.jpg', '4.jpg', '5.jpg']
    assert names['png'] == ['0.PNG', '1.png', '2.png', '3.png', '4.png', '5.png']


def test_workers_start_no_threads_of_opencv(detector, tmp_path, monkeypatch):
    """One per core is enough; the number is read where a picture is written."""
    seen = tmp_path / 'threads'

    def noting(*arguments):
        with open(seen, 'a') as file:
            file.write(f'{cv2.getNumThreads()}\n')
        return encode(*arguments)

    encode = cv2.imencode
    monkeypatch.setattr(cv2, 'imencode', noting)
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        _all(detector[0], tmp_path / 'tree', Grid.of('fog', [1]), TreeSettings(), workers=1)
    finally:
        cv2.setNumThreads(before)
    assert set(seen.read_text().split()) == {'1'}


def test_pictures_hold_the_pixels_of_the_fly(detector, tmp_path):
    """In the order of channels that files have."""
    _all(detector[0], tmp_path, GRID, TreeSettings(OnTheFly(seed=5)))
    clean = cv2.imread(detector[0].test_dataloader.dataset.data_root + 'VOC2007/JPEGImages/000001.jpg')
    cell = GRID.cells[2]
    expected = OnTheFly(seed=5).image(clean, 'bgr', '000001', cell)
    found = cv2.imread(str(tmp_path / cell.corruption / str(cell.severity) / 'VOC2007/JPEGImages/000001.png'))
    assert np.array_equal(found, expected)


def test_a_folder_of_something_else_is_refused(detector, tmp_path):
    """Of another seed or format, or not of this tool; nothing is written into it."""
    config, _ = detector
    _all(config, tmp_path / 'tree', Grid.of('fog', [1]), TreeSettings())
    before = _content(tmp_path / 'tree')
    for settings, message in (
        (TreeSettings(OnTheFly(seed=1)), 'seed: was 0, is 1'),
        (TreeSettings(form='jpg'), 'format: was png, is jpg'),
        (TreeSettings(OnTheFly(backend='imagecorruptions')), 'backend: was mmsharp'),
    ):
        with pytest.raises(MmsharpError, match=message):
            _all(config, tmp_path / 'tree', GRID, settings)
    assert _content(tmp_path / 'tree') == before
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.txt').touch()
    with pytest.raises(MmsharpError, match='is not empty and no tree of this tool'):
        _all(config, tmp_path / 'mine', GRID, TreeSettings())


@pytest.mark.parametrize('workers', [0, 2])
def test_an_unreadable_image_stops_by_name_and_what_is_written_is_kept(robust_data, tmp_path, workers):
    """Mended, the tool goes on."""
    config = robust_data.detector_config(robust_data.write_voc(tmp_path / 'voc'))
    victim = tmp_path / 'voc/VOC2007/JPEGImages/000003.jpg'
    whole = victim.read_bytes()
    victim.write_bytes(whole[:300])
    with pytest.raises(MmsharpError, match=rf'cannot read image {victim}.*written before are kept') as caught:
        _all(config, tmp_path / 'tree', GRID, TreeSettings(), workers=workers)
    assert '\n' not in str(caught.value)
    assert len(list((tmp_path / 'tree').rglob('*.png'))) >= 8
    victim.write_bytes(whole)
    assert _all(config, tmp_path / 'tree', GRID, TreeSettings())[-1] == (16, 16)


def test_a_full_disk_is_one_clear_error(detector, tmp_path, monkeypatch):
    """With the file that could not be written, and no torn file is left."""

    def full(path, content):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(tree_writer.Path, 'write_bytes', full)
    with pytest.raises(MmsharpError, match=r'cannot write .*\.png \(No space left on device\); the pictures'):
        _all(detector[0], tmp_path, GRID, TreeSettings())
    assert {path.name for path in tmp_path.rglob('*') if path.is_file()} == {TREE_MANIFEST, TREE_IMAGES}


def test_bad_settings_are_refused(detector, tmp_path):
    """Before anything is written."""
    for arguments, message in (({'form': 'gif'}, "format 'gif'"), ({'quality': 0}, 'quality 0')):
        with pytest.raises(MmsharpError, match=message):
            TreeSettings(**arguments)
    with pytest.raises(MmsharpError, match='defines no val_dataloader'):
        _all(detector[0], tmp_path / 'tree', GRID, TreeSettings(), split='val')
    branching = Config(detector[0].to_dict())
    dataset = branching.test_dataloader.dataset
    dataset.pipeline = [
        {'type': 'TestTimeAug', 'transforms': [[{'type': 'LoadImageFromFile'}, {'type': 'PackDetInputs'}]]}
    ]
    with pytest.raises(MmsharpError, match='loads images in branches'):
        _all(branching, tmp_path / 'other', GRID, TreeSettings())
