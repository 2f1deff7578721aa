"""The metric gives what the tool gives, from a config alone, and asks the model whose predictions it gets."""

import copy
import importlib.util
from pathlib import Path

import pytest
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmsharp.apis import certify_robustness
from mmsharp.engine.robustness.certified_files import CertifiedFiles
from mmsharp.errors import MmsharpError
from mmsharp.evaluation import CertifiedRobustness
from mmsharp.registry import METRICS
from mmsharp.robustness import parse_transform

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts
QUICK = dict(draws=10, groups=2, grid=2, eps=(0.5, 0.3))
TRANSFORMS = ['rotation:20', 'brightness:0.4+contrast:0.4']


def _robust_data():
    path = Path(__file__).parents[1] / 'robust_data.py'
    spec = importlib.util.spec_from_file_location('robust_data', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    """Config and checkpoint."""
    data, folder = _robust_data(), tmp_path_factory.mktemp('classifier')
    config = data.classifier_config(data.write_class_folders(folder / 'images'))
    return config, data.write_checkpoint(config, folder / 'classifier.pth', steps=20)


@pytest.mark.parametrize('images', [None, 5])
def test_the_metric_of_a_config_is_what_the_tool_finds(classifier, tmp_path, images, capsys, monkeypatch):
    """MMEngine's own test of a config whose evaluator names the metric: the same shares of the same images."""
    config, checkpoint = classifier
    summary = certify_robustness(config, checkpoint, tmp_path / 'tool', TRANSFORMS, images=images, settings=QUICK)
    tested = copy.deepcopy(config)
    metric = dict(type='mmsharp.CertifiedRobustness', transforms=TRANSFORMS, settings=QUICK)
    tested.test_evaluator = [dict(type='Accuracy'), metric]
    tested.test_dataloader.collate_fn = dict(type='default_collate')
    tested.work_dir, tested.load_from = str(tmp_path / 'test'), str(checkpoint)
    tested.custom_imports = dict(imports=['mmsharp'])
    if images is not None:
        tested.test_dataloader.sampler.update(type='mmsharp.ChosenImages', images=images)
    init_default_scope('mmpretrain')
    capsys.readouterr()
    compute, seen = CertifiedRobustness.compute_metrics, []
    monkeypatch.setattr(
        CertifiedRobustness, 'compute_metrics', lambda metric, results: seen.extend(results) or compute(metric, results)
    )
    found = Runner.from_cfg(tested).test()
    assert 'certifying under rotation:20, brightness:0.4+contrast:0.4  1 images, ' in capsys.readouterr().err
    for name in TRANSFORMS:
        kept = CertifiedFiles(tmp_path / 'tool', summary['identity']).load(parse_transform(name))[0]
        assert [results[name] for results in seen] == [certificate.to_dict() for certificate in kept]
    for scores in summary['transforms']:
        start = f'certified/{scores["transform"]}'
        assert found[f'{start}/accuracy'] == pytest.approx(100 * scores['clean_accuracy'])
        assert found[f'{start}/accuracy'] == pytest.approx(found['accuracy/top1'])
        assert found[f'{start}/empirical'] == pytest.approx(100 * scores['empirical_robust_accuracy'])
        assert found[f'{start}/draws'] == scores['draws'] == 20
        for at in scores['eps']:
            for ours, theirs in (('pca', 'pca'), ('pca_capped', 'pca_capped'), ('exact', 'exact')):
                assert found[f'{start}/{ours}@{at["eps"]:g}'] == pytest.approx(100 * at[theirs])
    assert metric['settings'] is QUICK
    assert dict(draws=10, groups=2, grid=2, eps=(0.5, 0.3)) == QUICK
    log = next((tmp_path / 'test').glob('*/*.log')).read_text()
    assert 'exact, 99.9 % confidence' in log


def results_of(draws: int) -> list[dict]:
    """Three right images of four, none of whose draws failed."""
    fields = dict(label=1, margin=0.4, draws=draws, reached=0, bound=1e-9, capped_bound=0.006, exact_bound=0.007)
    fields |= dict(right_on_grid=None, grid_points=0, changed=0)
    return [{'blur:1': dict(image=str(predicted), predicted=predicted, **fields)} for predicted in (0, 1, 1, 1)]


def metric_of(**settings):
    return METRICS.build(dict(type='mmsharp.CertifiedRobustness', transforms='blur:1', settings=dict(settings, grid=0)))


def test_results_of_processes_are_joined_by_image():
    """One result per image, so that MMEngine's collecting over processes keeps them in order and drops padding."""
    found = metric_of().compute_metrics(results_of(1000))
    assert found['blur:1/accuracy'] == found['blur:1/pca@0.01'] == found['blur:1/exact@0.01'] == 75
    assert 'blur:1/empirical' not in found


@pytest.mark.parametrize(
    ('draws', 'kept', 'told'),
    [
        (1000, ['0.1', '0.01'], 'eps 0.001, 0.0001, for 1000 draws support rates from 0.005 on; raise draws or groups'),
        (20, [], 'eps 0.1, 0.01, 0.001, 0.0001, for 20 draws support rates from 0.25 on'),
        (50_000, ['0.1', '0.01', '0.001', '0.0001'], None),
    ],
)
def test_rates_that_the_draws_do_not_support_are_no_metrics(draws, kept, told, monkeypatch):
    """A number in a log or a best checkpoint has no flag: they stand in the table alone, and the log says so once."""
    said = []
    monkeypatch.setattr('mmsharp.evaluation.certified_robustness.print_log', lambda text, *_: said.append(text))
    found = metric_of(draws=draws, groups=1).compute_metrics(results_of(draws))
    shares = [f'blur:1/{name}@{eps}' for eps in kept for name in ('pca', 'pca_capped', 'exact')]
    assert list(found) == ['blur:1/accuracy', 'blur:1/draws', *shares]
    assert found['blur:1/draws'] == draws
    assert (f'0.0001 *{draws:>7}' in said[0]) == (told is not None)
    assert len(said) == (1 if told is None else 2)
    assert told is None or told in said[1]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(transforms=['fog:1']), 'unknown'),
        (dict(transforms=[]), 'no transform'),
        (dict(transforms='blur:1', settings=dict(n=100)), 'no setting'),
        (dict(transforms='blur:1', settings=dict(draws=0)), 'draws'),
    ],
)
def test_arguments_are_checked_at_once(arguments, message):
    """Before any image is tested."""
    with pytest.raises(MmsharpError, match=message):
        CertifiedRobustness(**arguments)


def test_batches_of_unknown_form_are_refused(classifier):
    """Saying what was got."""
    with pytest.raises(MmsharpError, match='no dictionary'):
        CertifiedRobustness('blur:1').process([1], [])
