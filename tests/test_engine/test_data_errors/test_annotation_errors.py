"""An annotation file that cannot be read is named on one line; a defect keeps its traceback."""

import json
from urllib.error import URLError

import pytest
from mmengine.dataset import BaseDataset

from mmsharp.engine.data_errors.annotation_errors import naming_broken_annotations
from mmsharp.errors import MmsharpError

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

CLASSES = ('square', 'disc')
UNREAD, UNFIT = 'cannot be read .*; mend', 'do not fit the data set .*; look at'
WHOLE = dict(images=[dict(id=1, width=8, height=8, file_name='a.jpg')], annotations=[], categories=[])


def coco(path):
    pytest.importorskip('mmdet')
    from mmdet.datasets import CocoDataset

    more = dict(metainfo=dict(classes=CLASSES), data_prefix=dict(img=''), test_mode=True)
    return CocoDataset(ann_file=str(path), **more)


def coco_metric(path):
    pytest.importorskip('mmdet')
    from mmdet.evaluation import CocoMetric

    return CocoMetric(ann_file=str(path))


def voc(path):
    pytest.importorskip('mmdet')
    from mmdet.datasets import VOCDataset

    root = path.parent
    (root / 'VOC2007/Annotations').mkdir(parents=True)
    path.rename(root / 'VOC2007/Annotations' / path.name)
    (root / 'test.txt').write_text(path.stem)
    prefix = dict(sub_data_root='VOC2007')
    return VOCDataset(data_root=str(root), ann_file='test.txt', data_prefix=prefix, test_mode=True)


def listed(path):
    pytest.importorskip('mmpretrain')
    from mmpretrain.datasets import CustomDataset

    return CustomDataset(ann_file=str(path))


def standard(path):
    return BaseDataset(ann_file=str(path))


@pytest.mark.parametrize(
    ('build', 'name', 'content', 'words'),
    [
        (coco, 'a.json', b'{"images": [', UNREAD),
        (coco, 'a.json', b'', UNREAD),
        (coco, 'a.json', b'[]', UNFIT),
        (coco, 'a.json', json.dumps(dict(WHOLE, images=[dict(id=1)])).encode(), UNFIT),
        (coco_metric, 'a.json', b'{"images": [', UNREAD),
        (voc, 'a.xml', b'<annotation><size>', UNREAD),
        (voc, 'a.xml', b'', UNREAD),
        (voc, 'a.xml', b'<annotation><size><width>8</width></size></annotation>', UNFIT),
        (listed, 'a.txt', b'a.jpg 0\nb.jpg', UNFIT),
        (listed, 'a.txt', b'a.jpg zero', UNFIT),
        (listed, 'a.txt', b'\xff\xfe', UNREAD),
        (standard, 'a.json', b'{"metainfo": ', UNREAD),
    ],
)
def test_a_broken_file_is_named(tmp_path, build, name, content, words):
    """COCO's and MMEngine's JSON, VOC's XML, a list; no parser says from which file it read."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MmsharpError, match=words) as caught, naming_broken_annotations():
        build(tmp_path / name)
    message = str(caught.value)
    assert message.startswith(f"annotations '{tmp_path}")
    assert name in message
    assert '\n' not in message


def test_a_whole_file_is_read(tmp_path):
    """Nothing is in the way."""
    (tmp_path / 'a.json').write_text(json.dumps(WHOLE))
    with naming_broken_annotations():
        assert len(coco(tmp_path / 'a.json')) == 1


class Own(BaseDataset):
    """A data set of the user's own, with a defect."""

    def load_data_list(self):
        return self.no_such_attribute


def test_other_errors_pass_unchanged(tmp_path):
    """A defect in the user's data set, JSON that is no annotation, and refusals."""
    (tmp_path / 'a.json').write_text('{')
    with pytest.raises(AttributeError, match='no_such_attribute'), naming_broken_annotations():
        Own(ann_file=str(tmp_path / 'a.json'))
    with pytest.raises(json.JSONDecodeError), naming_broken_annotations():
        json.loads((tmp_path / 'a.json').read_text())
    with pytest.raises(MmsharpError, match=r'^budget$'), naming_broken_annotations():
        raise MmsharpError('budget')


def test_a_data_set_that_cannot_be_downloaded_is_one_line(tmp_path, monkeypatch):
    """mmpretrain's CIFAR-10 without a network; a download that is none of the data's keeps its traceback."""
    pytest.importorskip('mmpretrain')
    from mmpretrain.datasets import CIFAR10

    def fail(*_, **__):
        raise URLError('no network')

    monkeypatch.setattr('urllib.request.urlopen', fail)
    words = r'cannot be downloaded \(URLError.*no network.*data_root'
    with pytest.raises(MmsharpError, match=words), naming_broken_annotations():
        CIFAR10(data_root=str(tmp_path / 'cifar10'), pipeline=[])
    with pytest.raises(URLError), naming_broken_annotations():
        fail()
