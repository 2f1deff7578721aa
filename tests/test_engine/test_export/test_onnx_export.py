"""What is written as ONNX computes what PyTorch computes, for any batch, or nothing is written."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import ImgDataPreprocessor
from torch import nn

from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.export import onnx_export
from mmsharp.engine.export.onnx_export import export_onnx
from mmsharp.engine.export.raw_outputs import RawOutputs, preprocessing
from mmsharp.errors import MmsharpError
from mmsharp.pruning import ChannelPruner, apply_recipe, tensor_forward

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')

pytestmark = pytest.mark.filterwarnings('ignore')  # exporters and toolboxes warn of what is deprecated

PACKAGED = {
    'classifier': ('mmpretrain', 'mobilenet_v2/mobilenet-v2_8xb32_in1k.py'),
    'single-stage detector': ('mmdet', 'yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py'),
    'two-stage detector': ('mmdet', 'faster_rcnn/faster-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco.py'),
}


def packaged(kind):
    toolbox, name = PACKAGED[kind]
    spec = importlib.util.find_spec(toolbox)
    if spec is None:
        pytest.skip(f'{toolbox} is not installed')
    torch.manual_seed(0)
    return build_model(Config.fromfile(Path(spec.origin).parent / '.mim/configs' / name))


def run(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return {output.name: value for output, value in zip(session.get_outputs(), session.run(None, images), strict=True)}


@pytest.mark.parametrize('kind', ['classifier', 'single-stage detector'])
def test_a_slim_model_is_written(kind, tmp_path):
    """After half of the channels are gone; outputs agree for a batch that the exporter never saw."""
    pytest.importorskip(PACKAGED[kind][0])
    model = packaged(kind)
    forward = tensor_forward(torch.zeros(1, 3, 64, 64))
    pruner = ChannelPruner(budget=dict(channels=0.5))
    pruner.attach(model, forward)
    pruner.update(1.0)
    apply_recipe(model, pruner.recipe())
    report = export_onnx(model, tmp_path / 'slim.onnx', (3, 64, 64), metadata=dict(classes=['a']))
    assert not report['partial']
    images = torch.randn(5, 3, 64, 64)
    with torch.no_grad():
        expected = RawOutputs(model)(images)
    found = run(tmp_path / 'slim.onnx', {'images': images.numpy()})
    assert list(found) == list(report['outputs'])
    for one, other in zip(expected, found.values(), strict=True):
        assert np.abs(one.numpy() - other).max() <= 1e-4 * np.abs(one.numpy()).max()
    (kept,) = [entry.value for entry in onnx.load(tmp_path / 'slim.onnx').metadata_props if entry.key == 'mmsharp']
    assert json.loads(kept) == dict(classes=['a'])


def test_the_first_stage_of_a_two_stage_detector_is_written(tmp_path):
    """Feature maps and region proposal outputs, level by level; the report says that this is not all."""
    model = packaged('two-stage detector')
    report = export_onnx(model, tmp_path / 'first.onnx', (3, 64, 64))
    assert report['partial']
    assert [name for name in report['outputs'] if name.startswith('neck')] == [f'neck_{level}' for level in range(5)]
    assert sum(name.startswith('rpn') for name in report['outputs']) == 10


class ReshapesByBatch(nn.Module):
    """Writes the number of images into the graph, as windows and heads of transformers do."""

    def forward(self, images):
        rows = images.flatten(0, 1)
        return rows.reshape(int(rows.shape[0] / 3), 3, -1).sum(dim=2)


def test_a_batch_that_was_written_into_the_graph_is_noticed(tmp_path):
    """Tracing fixes it; the check finds out, and the other exporter is taken."""
    report = export_onnx(ReshapesByBatch(), tmp_path / 'a.onnx', (3, 4, 4))
    assert report['exporter'] == 'torch.export'
    assert max(report['batches']) > 1
    assert [failure.split(':')[0] for failure in report['failures']] == ['tracing']
    assert report['reads'] == []


class TakesImagesInTurn(nn.Module):
    """Loops over the images, as TOOD does over its anchors."""

    def forward(self, images):
        return torch.cat([number + images[number : number + 1] for number in range(len(images))])


def test_a_model_that_computes_with_the_number_of_images_is_written_for_one(tmp_path):
    """The file takes no other, and the report says so."""
    report = export_onnx(TakesImagesInTurn(), tmp_path / 'a.onnx', (3, 4, 4))
    assert (report['exporter'], report['batches']) == ('tracing of one image', (1, 1, 1))
    session = onnxruntime.InferenceSession(tmp_path / 'a.onnx')
    assert session.get_inputs()[0].shape == [1, 3, 4, 4]


class LooksAtBrightness(nn.Module):
    """Does with some images what it does not with others."""

    def __init__(self, bound):
        super().__init__()
        self.bound = bound

    def forward(self, images):
        return images * 2 if images.mean() > self.bound else images * 3


@pytest.mark.parametrize('bound', [-1.0, 0.0, 1.0])
def test_a_branch_on_what_images_show_is_noticed(bound, tmp_path):
    """A run that is followed shows one side; images of the other side find it."""
    with pytest.raises(MmsharpError, match='cannot be written as ONNX'):
        export_onnx(LooksAtBrightness(bound), tmp_path / 'a.onnx', (3, 8, 8))
    assert not list(tmp_path.iterdir())


def test_a_branch_that_no_image_of_the_check_takes_is_named(tmp_path):
    """The file is written, with the line that its user should look at, and what the other exporter had against it."""
    report = export_onnx(LooksAtBrightness(1000.0), tmp_path / 'a.onnx', (3, 8, 8))
    (place,) = report['reads']
    assert place.startswith(__file__)
    assert 'images * 2 if' in Path(__file__).read_text().splitlines()[int(place.rsplit(':', 1)[1]) - 1]
    assert (report['exporter'], report['failures']) == ('tracing', [])


class Finds(nn.Module):
    """Says where something is, beside how much of it, with a rounding of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        found = self.conv(images)
        return {'mask': found > 0, 'count': (found > 0).sum(dim=(1, 2, 3)), 'sum': (found + 4096.0) - 4096.0}


def test_outputs_that_are_no_floats_are_compared_too(tmp_path):
    """Truths and counts, beside an output whose rounding has to be known."""
    report = export_onnx(Finds(), tmp_path / 'a.onnx', (3, 8, 8))
    assert list(report['outputs']) == ['mask', 'count', 'sum']
    assert report['difference'] <= onnx_export.LARGEST_TOLERANCE


@pytest.mark.parametrize('opset', [99, 3, True, '18', 18.0])
def test_an_operator_set_that_is_none_is_refused(opset, tmp_path):
    """By its value, with those that are accepted, before anything is written."""
    with pytest.raises(MmsharpError, match=rf'opset={opset!r} is no version .* from 11 to 23'):
        export_onnx(nn.Conv2d(3, 4, 1), tmp_path / 'a.onnx', (3, 8, 8), opset=opset)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('opset', [13, 17, 20])
def test_the_file_is_of_the_operator_set_that_was_asked_for(opset, tmp_path):
    """Or it is not written."""
    export_onnx(nn.Conv2d(3, 4, 1), tmp_path / 'a.onnx', (3, 8, 8), opset=opset)
    assert onnx.load(tmp_path / 'a.onnx').opset_import[0].version == opset


def test_an_operator_set_that_an_exporter_exchanges_is_noticed(tmp_path, monkeypatch):
    """It writes what it can."""

    def exchanging(raw, images, path, names, opset):
        onnx_export._by_tracing(raw, images, path, names, 17)

    monkeypatch.setattr(onnx_export, 'EXPORTERS', {'exchanging': (exchanging, onnx_export.ANY_BATCH)})
    with pytest.raises(MmsharpError, match='operator set 17, not 18'):
        export_onnx(nn.Conv2d(3, 4, 1), tmp_path / 'a.onnx', (3, 8, 8))


class TakesPixels(nn.Module):
    """Has a preprocessor that does not normalise, and looks at what only pixels reach."""

    def __init__(self):
        super().__init__()
        self.data_preprocessor = nn.Identity()
        self.data_preprocessor._enable_normalize = False

    def forward(self, images, mode='tensor'):
        return images * 2 if images.mean() > 100 else images * 3


def test_images_are_on_the_scale_that_the_model_takes(tmp_path):
    """Pixels, where nothing is normalised: a branch at 100 is found."""
    with pytest.raises(MmsharpError, match=r"differs from PyTorch .* of the kind 'dark'"):
        export_onnx(TakesPixels(), tmp_path / 'a.onnx', (3, 8, 8))


class TakesCentredPixels(nn.Module):
    """A model whose preprocessor subtracts a mean and divides by 1."""

    def __init__(self):
        super().__init__()
        self.data_preprocessor = ImgDataPreprocessor([103.53, 116.28, 123.675], [1.0, 1.0, 1.0])

    def forward(self, images, mode='tensor'):
        return images * 2 if images.std() > 20 else images * 3


def test_images_are_as_wide_as_the_preprocessor_leaves_them(tmp_path):
    """Pixels around zero have a deviation of 60."""
    with pytest.raises(MmsharpError, match=r"differs from PyTorch .* of the kind '(faint|dark|bright)'"):
        export_onnx(TakesCentredPixels(), tmp_path / 'a.onnx', (3, 8, 8))


class NeedsSamples(nn.Module):
    """Does not run on images alone."""

    def forward(self, images):
        return images[:, 7]


def test_what_computes_something_else_is_not_written(tmp_path, monkeypatch):
    """Every exporter's failure is in the message, and an earlier file stays."""

    def wrong(raw, images, path, names, opset):
        other = RawOutputs(nn.Sequential(raw.model, nn.ReLU()))
        onnx_export._by_tracing(other, images, path, names, opset)

    monkeypatch.setattr(onnx_export, 'EXPORTERS', {'wrong': (wrong, onnx_export.ANY_BATCH)})
    (tmp_path / 'a.onnx').write_text('before')
    with pytest.raises(MmsharpError, match=r'cannot be written as ONNX: wrong: .*differs from PyTorch'):
        export_onnx(nn.Conv2d(3, 4, 1), tmp_path / 'a.onnx', (3, 8, 8))
    assert [path.name for path in tmp_path.iterdir()] == ['a.onnx']
    assert (tmp_path / 'a.onnx').read_text() == 'before'


class BlowsUp(nn.Module):
    """Takes the difference of nearly equal sums: its last digits are those that rounding left."""

    def __init__(self, constant):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.constant = constant

    def forward(self, images):
        return (self.conv(images) + self.constant) - self.constant


def test_a_network_that_blows_rounding_up_is_compared_by_it(tmp_path, monkeypatch):
    """Its own rounding is further off than the tolerance, and so may the file be; an error beyond is still found."""
    model = BlowsUp(2.0**12)
    assert not export_onnx(model.conv, tmp_path / 'c.onnx', (3, 8, 8))['allowed_for_rounding']

    def other_rounding(raw, images, path, names, opset):
        onnx_export._by_tracing(RawOutputs(BlowsAsMuch(raw.model)), images, path, names, opset)

    class BlowsAsMuch(BlowsUp):
        def __init__(self, model):
            super().__init__(1.1 * model.constant)
            self.conv = model.conv

    monkeypatch.setattr(onnx_export, 'EXPORTERS', {'other': (other_rounding, onnx_export.ANY_BATCH)})
    report = export_onnx(model, tmp_path / 'a.onnx', (3, 8, 8))
    assert onnx_export.TOLERANCE < report['difference'] <= onnx_export.LARGEST_TOLERANCE
    assert report['allowed_for_rounding']
    monkeypatch.setattr(onnx_export, 'ROUNDINGS', 0)
    with pytest.raises(MmsharpError, match='differs from PyTorch'):
        export_onnx(model, tmp_path / 'b.onnx', (3, 8, 8))


@pytest.mark.parametrize(
    ('model', 'shape', 'words'),
    [
        (nn.Conv2d(3, 4, 1), (3, 8), r'shape=\(3, 8\)'),
        (nn.Conv2d(3, 4, 1), (3, 8, 0), r'shape=\(3, 8, 0\)'),
        (nn.Conv2d(3, 4, 1), (5, 8, 8), r'Conv2d does not run on images of shape \(5, 8, 8\)'),
        (NeedsSamples(), (3, 8, 8), 'NeedsSamples does not run'),
    ],
)
def test_bad_input_is_named(model, shape, words, tmp_path):
    """And nothing is written."""
    with pytest.raises(MmsharpError, match=words):
        export_onnx(model, tmp_path / 'a.onnx', shape)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    """With the extra that brings it."""
    monkeypatch.setitem(__import__('sys').modules, 'onnx', None)
    with pytest.raises(MmsharpError, match=r'exporting needs onnx .*\[export\]'):
        export_onnx(nn.Conv2d(3, 4, 1), tmp_path / 'a.onnx', (3, 8, 8))


def test_how_images_are_made_ready_is_told():
    """Numbers and order of a stock detector."""
    pytest.importorskip('mmdet')
    told = preprocessing(packaged('two-stage detector'))
    assert told['mean'] == [123.675, 116.28, 103.53]
    assert told['std'] == [58.395, 57.12, 57.375]
    assert 'reversed' in told['channels']
    assert told['pad_size_divisor'] == 32
