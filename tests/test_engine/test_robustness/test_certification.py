"""Certification of a data set: what is chosen, what is kept, and what is refused."""

import json

import pytest
import torch

from mmsharp.apis import certify_robustness, evaluate_robustness, init_model
from mmsharp.engine.robustness import certification
from mmsharp.errors import MmsharpError

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts
QUICK = dict(draws=10, groups=2, grid=2)


def test_a_killed_run_goes_on_with_the_transform_that_is_not_finished(classifier, tmp_path, monkeypatch):
    """What is finished is not certified again, and the end is that of a run that was never stopped."""
    config, checkpoint = classifier
    transforms = ['brightness:0.4', 'rotation:20']
    whole = certify_robustness(config, checkpoint, tmp_path / 'whole', transforms, settings=QUICK)
    plain, called = certification.certify, []

    def dying(predict, images, labels, transform, names, settings):
        called.append(str(transform))
        if called.count('rotation:20') == 3:
            raise KeyboardInterrupt
        return plain(predict, images, labels, transform, names, settings)

    monkeypatch.setattr(certification, 'certify', dying)
    with pytest.raises(KeyboardInterrupt):
        certify_robustness(config, checkpoint, tmp_path / 'killed', transforms, settings=QUICK)
    names = [path.name for path in (tmp_path / 'killed/certification').iterdir()]
    assert names == ['brightness-0.4.json']
    assert called.count('brightness:0.4') == 12
    called.clear()
    monkeypatch.setattr(certification, 'certify', lambda *given: called.append(str(given[3])) or plain(*given))
    found = certify_robustness(config, checkpoint, tmp_path / 'killed', transforms, settings=QUICK)
    assert called == ['rotation:20'] * 12
    for summary in (whole, found):
        for scores in summary['transforms']:
            del scores['seconds']
    assert found == whole
    called.clear()
    more = certify_robustness(config, checkpoint, tmp_path / 'killed', transforms, settings=QUICK | dict(eps=(0.5,)))
    assert called == []
    assert [at['eps'] for at in more['transforms'][0]['eps']] == [0.5]
    with pytest.raises(MmsharpError, match='seed: was 0, is 1'):
        certify_robustness(config, checkpoint, tmp_path / 'killed', transforms, settings=QUICK | dict(seed=1))
    with pytest.raises(MmsharpError, match='images: was 12, is 3'):
        certify_robustness(config, checkpoint, tmp_path / 'killed', transforms, images=3, settings=QUICK)


def test_a_later_call_keeps_what_an_earlier_one_found(classifier, tmp_path, capsys):
    """Summary, tables and report hold both; all rates are those of the last call, and told with flag and draws."""
    config, checkpoint = classifier
    first = certify_robustness(config, checkpoint, tmp_path, ['blur:1', 'brightness:0.4'], settings=QUICK)
    assert 'exact at eps 0.1 * of 20 draws 0.0 %, ' in capsys.readouterr().err
    second = certify_robustness(config, checkpoint, tmp_path, ['gamma:2', 'blur:1'], settings=QUICK | dict(eps=(0.5,)))
    assert 'exact at eps 0.5 of 20 draws ' in capsys.readouterr().err
    assert [scores['transform'] for scores in second['transforms']] == ['gamma:2', 'blur:1', 'brightness:0.4']
    assert second['transforms'][2]['bounds'] == first['transforms'][1]['bounds']
    assert [[at['eps'] for at in scores['eps']] for scores in second['transforms']] == [[0.5]] * 3
    assert json.loads((tmp_path / 'certification.json').read_text()) == second
    for name in ('certification.md', 'certification.csv', 'report.html'):
        assert all(text in (tmp_path / name).read_text() for text in ('blur:1', 'brightness:0.4', 'gamma:2'))
    with pytest.raises(MmsharpError, match='seed: was 0, is 1'):
        certify_robustness(config, checkpoint, tmp_path, 'contrast:0.4', settings=QUICK | dict(seed=1))


def test_a_long_composition_is_certified_and_found_again(classifier, tmp_path):
    """Whatever the length of its name."""
    config, checkpoint = classifier
    text = '+'.join(['brightness:0.123456789'] * 14)
    options = dict(images=1, settings=dict(draws=2, groups=1, grid=0))
    once = certify_robustness(config, checkpoint, tmp_path, text, **options)
    assert certify_robustness(config, checkpoint, tmp_path, text, **options) == once
    assert once['transforms'][0]['transform'] == text


def test_batches_workers_and_a_built_model_change_nothing(classifier, tmp_path):
    """The same certificates from batches of 1 and 5, and from a model in memory, which keeps its mode."""
    config, checkpoint = classifier
    before = config.pretty_text
    first = certify_robustness(config, checkpoint, tmp_path / 'a', 'blur:1', settings=QUICK)
    single = {'test_dataloader.batch_size': 1}
    second = certify_robustness(config, checkpoint, tmp_path / 'b', 'blur:1', settings=QUICK, cfg_options=single)
    model = init_model(config, checkpoint).train()
    third = certify_robustness(config, model, tmp_path / 'c', 'blur:1', settings=QUICK)
    files = [tmp_path / name / 'certification/blur-1.json' for name in 'abc']
    certificates = [json.loads(path.read_text())['certificates'] for path in files]
    assert certificates[0] == certificates[1] == certificates[2]
    assert first['transforms'][0]['bounds'] == second['transforms'][0]['bounds'] == third['transforms'][0]['bounds']
    assert model.training
    assert config.pretty_text == before


def test_grid_and_certification_share_a_report(classifier, tmp_path):
    """In either order both are in it; another model is refused in the folder."""
    config, checkpoint = classifier
    certify_robustness(config, checkpoint, tmp_path, 'gamma:2', settings=QUICK)
    alone = (tmp_path / 'report.html').read_text()
    assert 'Certified under' in alone
    assert 'mPC' not in alone
    options = dict(corruptions='fog', severities=(0, 3), samples=0)
    evaluate_robustness(config, checkpoint, tmp_path, **options)
    both = (tmp_path / 'report.html').read_text()
    assert both.count('Certified under') == 1
    assert 'gamma:2' in both
    assert 'mPC' in both
    certify_robustness(config, checkpoint, tmp_path, 'contrast:0.4', settings=QUICK)
    after = (tmp_path / 'report.html').read_text()
    assert after.count('Certified under') == 1
    assert 'contrast:0.4' in after
    assert 'mPC' in after
    other = init_model(config, checkpoint)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    with pytest.raises(MmsharpError, match='another model'):
        certify_robustness(config, other, tmp_path, 'contrast:0.4', settings=QUICK)


def test_detectors_are_refused_before_anything_long(detector, tmp_path):
    """With the reason, and with what to do instead."""
    config, checkpoint = detector
    with pytest.raises(MmsharpError, match=r'RetinaNet predicts no probabilities.*--corruptions'):
        certify_robustness(config, checkpoint, tmp_path, 'rotation:10', settings=QUICK)
