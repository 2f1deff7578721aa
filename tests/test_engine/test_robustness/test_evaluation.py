"""An evaluation over a grid gives the values of plain test runs, survives kills, and refuses what does not belong."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import time

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmsharp.apis import compare_robustness, evaluate_robustness
from mmsharp.engine.robustness.tree_writer import TreeSettings, write_tree
from mmsharp.errors import MmsharpError
from mmsharp.robustness import Cell, Grid, compare_runs, load_results

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


def _values(folder):
    return {cell: result.metrics for cell, result in load_results(folder)[1].items()}


def _plain_test(config, checkpoint, folder, transform=None, after=None):
    """What the toolbox's own test run gives, with one more transform written into the config's pipeline."""
    config = Config(config.to_dict() | {'work_dir': str(folder), 'load_from': str(checkpoint), 'log_level': 'ERROR'})
    config.experiment_name = f'plain_{folder.name}_{transform}'
    if config.default_scope == 'mmpretrain':
        config.test_dataloader.collate_fn = {'type': 'default_collate'}
    if transform:
        pipeline = config.test_dataloader.dataset.pipeline
        place = next(index for index, step in enumerate(pipeline) if step.type == after) + 1
        pipeline.insert(place, transform)
    return Runner.from_cfg(config).test()


def test_every_cell_is_what_a_plain_test_run_gives(detector, tmp_path):
    """Clean equals the unchanged config; a cell equals the config with mmsharp.Corrupt after the loading transform."""
    config, checkpoint = detector
    before = config.to_dict()
    summary = evaluate_robustness(config, checkpoint, tmp_path / 'grid', ['gaussian_noise', 'fog'], [0, 5], samples=0)
    assert config.to_dict() == before
    found = _values(tmp_path / 'grid')
    assert found[Cell.clean()] == _plain_test(config, checkpoint, tmp_path / 'clean')
    for name in ('gaussian_noise', 'fog'):
        corrupt = {'type': 'mmsharp.Corrupt', 'corruption': name, 'severity': 5}
        plain = _plain_test(config, checkpoint, tmp_path / name, corrupt, 'LoadImageFromFile')
        assert found[Cell(name, 5)] == plain
    assert summary['identity']['position'] == 'after_loading'
    assert summary['metric'] == 'pascal_voc/mAP'
    assert summary['scores']['clean'] > 0.5
    assert summary['scores']['mpc'] == pytest.approx(
        (found[Cell('fog', 5)]['pascal_voc/mAP'] + found[Cell('gaussian_noise', 5)]['pascal_voc/mAP']) / 2
    )
    assert summary['model']['parameters'] > 0
    assert summary['model']['macs'] > 0
    assert summary['model']['input_shape'] == [1, 3, 64, 80]


@RUNNERS.register_module()
class CountingRunner(Runner):
    """One of the user's own."""

    built = 0

    @classmethod
    def from_cfg(cls, cfg):
        cls.built += 1
        cfg.pop('runner_type')
        return super().from_cfg(cfg)


def test_a_runner_of_the_users_own_is_the_one_that_tests(classifier, tmp_path):
    """As in training: the values come from what runner_type names, and another kind is refused."""
    config, checkpoint = classifier
    config = Config(config.to_dict() | dict(runner_type='CountingRunner'))
    evaluate_robustness(config, checkpoint, tmp_path / 'own', 'fog', [0], samples=0)
    assert CountingRunner.built == 1
    config.runner_type = 'FlexibleRunner'
    with pytest.raises(MmsharpError, match='runner_type'):
        evaluate_robustness(config, checkpoint, tmp_path / 'other', 'fog', [0], samples=0)


def test_a_checkpoint_may_be_an_address(classifier, tmp_path, monkeypatch):
    """Downloaded once; the record has the address and the hash of the file, and a comparison finds the model again."""
    config, checkpoint = classifier
    config.dump(tmp_path / 'small.py')
    address, fetched = 'https://example.invalid/zoo/small.pth', []

    def fetch(url, target, *_, **__):
        fetched.append(url)
        shutil.copy(checkpoint, target)

    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    monkeypatch.setattr('torch.hub.download_url_to_file', fetch)
    runs = [tmp_path / 'file', tmp_path / 'address']
    summaries = [
        evaluate_robustness(tmp_path / 'small.py', given, folder, 'fog', [0, 3], samples=0)
        for given, folder in zip((checkpoint, address), runs)
    ]
    assert fetched == [address]
    assert summaries[1]['source']['checkpoint'] == address
    assert summaries[1]['checkpoint'] == 'small.pth'
    assert summaries[0]['identity'] == summaries[1]['identity']
    assert _values(runs[0]) == _values(runs[1])
    assert not compare_robustness(runs)['notes']


def test_a_checkpoint_may_be_in_the_home_folder(classifier, tmp_path, monkeypatch):
    """As check_checkpoint and MMEngine read it; the record has the whole path."""
    config, checkpoint = classifier
    monkeypatch.setenv('HOME', str(checkpoint.parent))
    summary = evaluate_robustness(config, f'~/{checkpoint.name}', tmp_path / 'run', 'fog', [0], samples=0)
    assert summary['source']['checkpoint'] == str(checkpoint)


def test_classifiers_are_corrupted_after_resize_and_crop(classifier, tmp_path):
    """A cell equals the config with mmsharp.Corrupt after the crop."""
    config, checkpoint = classifier
    summary = evaluate_robustness(config, checkpoint, tmp_path / 'grid', 'impulse_noise', [0, 5], samples=0)
    # With one folder per class the bare file name is not unique, so the images are named below the data root.
    root = config.test_dataloader.dataset.data_root
    corrupt = {'type': 'mmsharp.Corrupt', 'corruption': 'impulse_noise', 'severity': 5, 'data_root': root}
    plain = _plain_test(config, checkpoint, tmp_path / 'plain', corrupt, 'CenterCrop')
    assert _values(tmp_path / 'grid')[Cell('impulse_noise', 5)] == plain
    assert summary['identity']['position'] == 'after_crop'
    assert summary['scores']['clean'] == 100.0
    assert summary['scores']['mpc'] < 100.0


def test_workers_and_order_change_nothing_and_finished_cells_are_not_repeated(classifier, tmp_path):
    """Living workers, another order and a grid that grew in the same folder: the same values, each cell once."""
    config, checkpoint = classifier
    evaluate_robustness(config, checkpoint, tmp_path / 'a', ['noise', 'fog'], [0, 2, 5], samples=0)
    working = Config(config.to_dict())
    working.test_dataloader.num_workers = 2
    evaluate_robustness(working, checkpoint, tmp_path / 'b', ['fog'], [5], samples=0)
    first = (tmp_path / 'b' / 'results.jsonl').read_bytes()
    evaluate_robustness(working, checkpoint, tmp_path / 'b', ['fog', 'noise'], [5, 2, 0], samples=0)
    lines = (tmp_path / 'b' / 'results.jsonl').read_bytes()
    assert lines.startswith(first)
    assert len(lines.splitlines()) == 9
    assert _values(tmp_path / 'a') == _values(tmp_path / 'b')
    evaluate_robustness(config, checkpoint, tmp_path / 'b', ['fog', 'noise'], [5, 2, 0], samples=0)
    assert (tmp_path / 'b' / 'results.jsonl').read_bytes() == lines


def _in_child(environment, *arguments, **keywords):
    """Start an evaluation in a forked process, which has all imports already."""

    def work():
        os.environ.update(environment)
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
        torch.set_num_threads(1)
        evaluate_robustness(*arguments, samples=0, **keywords)

    process = multiprocessing.get_context('fork').Process(target=work)
    process.start()
    return process


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_values(classifier, tmp_path):
    """SIGKILL while it runs, twice; finished lines stay byte by byte, and the end is that of an undisturbed run."""
    cells = ['noise', 'fog', 'pixelate'], range(6)
    lines = tmp_path / 'killed' / 'results.jsonl'
    for wanted in (3, 9):
        process = _in_child({}, *classifier, tmp_path / 'killed', *cells)
        while process.is_alive() and (not lines.exists() or lines.read_bytes().count(b'\n') < wanted):
            time.sleep(0.002)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, 'the run finished before it could be killed'
        before = lines.read_bytes()
    evaluate_robustness(*classifier, tmp_path / 'killed', *cells, samples=0)
    assert lines.read_bytes().startswith(before[: before.rfind(b'\n') + 1])
    assert lines.read_bytes().count(b'\n') == 26
    evaluate_robustness(*classifier, tmp_path / 'whole', *cells, samples=0)
    assert _values(tmp_path / 'killed') == _values(tmp_path / 'whole')


def _in_two_processes(*arguments, **keywords):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    group = {'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port}
    environments = [{**group, 'RANK': str(rank), 'LOCAL_RANK': str(rank)} for rank in range(2)]
    processes = [_in_child(environment, *arguments, launcher='pytorch', **keywords) for environment in environments]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


def test_two_processes_give_the_values_of_one(classifier, tmp_path):
    """With the pytorch launcher and gloo the first process alone writes, and the values are those of one process."""
    grid = ['glass_blur', 'impulse_noise'], [0, 5]
    _in_two_processes(*classifier, tmp_path / 'two', *grid)
    evaluate_robustness(*classifier, tmp_path / 'one', *grid, samples=0)
    assert _values(tmp_path / 'two') == _values(tmp_path / 'one')


def test_two_processes_leave_out_what_one_does(robust_data, classifier, tmp_path):
    """Each reads half of the images; both leave out what either of them could not read."""
    images = robust_data.write_class_folders(tmp_path / 'images')
    config = robust_data.classifier_config(images)
    for name in ('disc/1.png', 'square/2.png'):
        (images / name).write_bytes((images / name).read_bytes()[:300])
    arguments = (config, classifier[1]), ('fog', [0, 5])
    _in_two_processes(*arguments[0], tmp_path / 'two', *arguments[1], on_bad_image='skip')
    summary = evaluate_robustness(*arguments[0], tmp_path / 'one', *arguments[1], samples=0, on_bad_image='skip')
    assert summary['images'] == 10
    found = [json.loads((tmp_path / name / 'summary.json').read_text())['left_out'] for name in ('two', 'one')]
    assert found[0] == found[1]
    assert _values(tmp_path / 'two') == _values(tmp_path / 'one')


@pytest.mark.parametrize('workers', [0, 2])
def test_a_truncated_image_stops_the_run_by_name_and_keeps_finished_cells(robust_data, classifier, tmp_path, workers):
    """The message names file and cell, in the main process and in workers; mended, the run goes on."""
    _, checkpoint = classifier
    config = robust_data.classifier_config(robust_data.write_class_folders(tmp_path / 'images'), workers)
    evaluate_robustness(config, checkpoint, tmp_path / 'run', 'fog', [0], samples=0)
    victim = tmp_path / 'images' / 'disc' / '3.png'
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MmsharpError, match=rf'cell fog/1 stopped: cannot read image {victim}.*truncated') as caught:
        evaluate_robustness(config, checkpoint, tmp_path / 'run', 'fog', [0, 1], samples=0)
    assert '\n' not in str(caught.value)
    assert list(_values(tmp_path / 'run')) == [Cell.clean()]
    victim.write_bytes(whole)
    evaluate_robustness(config, checkpoint, tmp_path / 'run', 'fog', [0, 1], samples=0)
    assert list(_values(tmp_path / 'run')) == [Cell.clean(), Cell('fog', 1)]


def test_another_seed_or_checkpoint_in_the_same_folder_is_refused(robust_data, classifier, tmp_path):
    """The difference is named and the way out is said."""
    config, checkpoint = classifier
    evaluate_robustness(config, checkpoint, tmp_path / 'run', 'fog', [0], samples=0)
    with pytest.raises(MmsharpError, match=r'seed: was 0, is 1.*another --work-dir'):
        evaluate_robustness(config, checkpoint, tmp_path / 'run', 'fog', [0], seed=1, samples=0)
    other = robust_data.write_checkpoint(config, tmp_path / 'other.pth', seed=1)
    with pytest.raises(MmsharpError, match='checkpoint_sha256'):
        evaluate_robustness(config, other, tmp_path / 'run', 'fog', [0], samples=0)
    changed = {'test_dataloader.batch_size': 3}
    with pytest.raises(MmsharpError, match='config_sha256'):
        evaluate_robustness(config, checkpoint, tmp_path / 'run', 'fog', [0], cfg_options=changed, samples=0)


def test_backend_and_constants_are_recorded_and_not_mixed(classifier, tmp_path):
    """The images are of 32 pixels: 'auto' gives CIFAR's values, and each choice is refused in the others' folder."""
    grid = ['gaussian_noise', 'contrast'], [5]
    choices = {
        'auto': {},
        'cifar': {'constants': 'cifar'},
        'imagenet': {'constants': 'imagenet'},
        'reference': {'backend': 'imagecorruptions'},
    }
    values = {}
    for name, chosen in choices.items():
        summary = evaluate_robustness(*classifier, tmp_path / name, *grid, samples=0, **chosen)
        recorded = {key: summary['identity'][key] for key in ('backend', 'constants')}
        assert recorded == {
            'backend': chosen.get('backend', 'mmsharp'),
            'constants': 'imagenet' if name == 'reference' else chosen.get('constants', 'auto'),
        }
        used = 'imagenet' if name in ('imagenet', 'reference') else 'cifar'
        assert summary['constants'] == [used]
        values[name] = _values(tmp_path / name)
    assert values['auto'] == values['cifar']
    with pytest.raises(MmsharpError, match='backend: was mmsharp, is imagecorruptions'):
        evaluate_robustness(*classifier, tmp_path / 'imagenet', *grid, samples=0, backend='imagecorruptions')
    with pytest.raises(MmsharpError, match='constants: was auto, is imagenet'):
        evaluate_robustness(*classifier, tmp_path / 'auto', *grid, samples=0, constants='imagenet')
    notes = compare_runs([tmp_path / 'imagenet', tmp_path / 'reference'])['notes']
    assert any('backend: was mmsharp, is imagecorruptions' in note for note in notes)


@pytest.mark.parametrize('workers', [0, 2])
def test_what_auto_came_to_is_recorded_with_every_cell(robust_data, classifier, tmp_path, workers):
    """Images of both kinds give both; a later start that evaluates nothing knows it too, and a tree says the same."""
    images = robust_data.write_class_folders(tmp_path / 'images')
    small = images / 'disc/2.png'
    cv2.imwrite(str(small), cv2.imread(str(small))[:32, :32])
    config = robust_data.classifier_config(images, workers)
    config.test_dataloader.batch_size = 1
    pipeline = config.test_dataloader.dataset.pipeline
    config.test_dataloader.dataset.pipeline = [pipeline[0], pipeline[-1]]
    arguments = config, classifier[1]
    for _ in range(2):
        summary = evaluate_robustness(*arguments, tmp_path / 'run', 'fog', [0, 1], samples=0)
        assert summary['constants'] == ['cifar', 'imagenet']
    assert summary['identity']['constants'] == 'auto'
    assert [result.constants for result in load_results(tmp_path / 'run')[1].values()] == [(), ('cifar', 'imagenet')]
    assert 'ImageNet-C' in (tmp_path / 'run/report.html').read_text().split('What these numbers are')[1]
    assert 'constants cifar and imagenet' in (tmp_path / 'run/summary.md').read_text()
    list(write_tree(config, tmp_path / 'tree', Grid.of('fog', [1]), TreeSettings()))
    read = evaluate_robustness(*arguments, tmp_path / 'read', 'fog', [0, 1], corrupted=tmp_path / 'tree', samples=0)
    assert read['constants'] == ['cifar', 'imagenet']
    config.test_dataloader.dataset.pipeline = pipeline
    evaluate_robustness(*arguments, tmp_path / 'cropped', 'fog', [0, 1], samples=0)
    notes = compare_runs([tmp_path / 'run', tmp_path / 'cropped'])['notes']
    assert 'cropped was corrupted with the constants cifar, run with cifar and imagenet' in notes


def test_a_checkpoint_that_does_not_fit_is_refused_before_any_cell(classifier, detector, tmp_path):
    """MMEngine would log a warning and evaluate noise."""
    with pytest.raises(MmsharpError, match='does not fit ImageClassifier'):
        evaluate_robustness(classifier[0], detector[1], tmp_path / 'run', 'fog', [0])
    checkpoint = torch.load(classifier[1], weights_only=True)
    name = 'head.fc.weight'
    checkpoint['state_dict'][name] = checkpoint['state_dict'][name][:, :-1]
    torch.save(checkpoint, tmp_path / 'slim.pth')
    with pytest.raises(MmsharpError, match=r"'head.fc.weight' is \[2, 31\], expected \[2, 32\].*config written beside"):
        evaluate_robustness(classifier[0], tmp_path / 'slim.pth', tmp_path / 'run', 'fog', [0])
    assert not (tmp_path / 'run' / 'results.jsonl').exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'corruptions': 'frog'}, "unknown corruption 'frog'"),
        ({'severities': [7]}, 'severity 7'),
        ({'cfg_options': {'test_dataloader.dataset.data_root': '/missing'}}, '/missing.*does not exist'),
        ({'cfg_options': {'test_evaluator': None}}, 'defines no test_evaluator'),
        ({'launcher': 'slurm'}, '--launcher slurm'),
        ({'channel_order': 'gbr'}, "channel_order 'gbr'"),
        ({'backend': 'imgaug'}, "backend 'imgaug'"),
        ({'constants': 'coco'}, "constants 'coco'"),
        ({'backend': 'imagecorruptions', 'constants': 'cifar'}, "no constants 'cifar'"),
    ],
)
def test_bad_input_is_one_clear_error(classifier, tmp_path, arguments, message):
    """Each names the thing and what was expected, before any cell is evaluated."""
    with pytest.raises(MmsharpError, match=message):
        evaluate_robustness(*classifier, tmp_path / 'run', **{'corruptions': 'fog', 'severities': [0]} | arguments)
    assert not (tmp_path / 'run' / 'results.jsonl').exists()


def test_report_and_summary_lie_beside_the_results(detector, tmp_path):
    """The summary is JSON with the scores; the report shows two images in every corruption, and asks for nothing."""
    evaluate_robustness(*detector, tmp_path, ['fog', 'jpeg_compression'], [0, 1], samples=2)
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['scores']['subset'] is True
    report = (tmp_path / 'report.html').read_text()
    assert report.count('<img src="data:image/jpeg;base64,') == 2 * 3
    assert 'http://' not in report
    assert 'https://' not in report
    assert '<script' not in report


def test_other_data_under_the_same_name_is_noticed(robust_data, tmp_path):
    """The same count of images, two of them with other labels: old cells are not mixed with new ones."""
    images = robust_data.write_class_folders(tmp_path / 'images')
    config = robust_data.classifier_config(images)
    checkpoint = robust_data.write_checkpoint(config, tmp_path / 'classifier.pth', steps=2)
    first = evaluate_robustness(config, checkpoint, tmp_path / 'first', ['fog'], [0, 1], samples=0)
    (images / 'square' / '0.png').rename(images / 'disc' / 'was_square.png')
    (images / 'disc' / '0.png').rename(images / 'square' / 'was_disc.png')
    with pytest.raises(MmsharpError, match='data_sha256'):
        evaluate_robustness(config, checkpoint, tmp_path / 'first', ['fog'], [0, 1], samples=0)
    second = evaluate_robustness(config, checkpoint, tmp_path / 'second', ['fog'], [0, 1], samples=0)
    assert first['identity']['data_sha256'] != second['identity']['data_sha256']
    notes = compare_runs([tmp_path / 'first', tmp_path / 'second'])['notes']
    assert any('data_sha256' in note for note in notes)
