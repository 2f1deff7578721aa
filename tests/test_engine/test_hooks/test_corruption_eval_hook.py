"""Robustness scores join the validation metrics, and training does not notice."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import METRICS
from mmengine.runner import Runner

from mmsharp.apis import evaluate_robustness
from mmsharp.engine.hooks.corruption_eval_hook import CorruptionEvalHook
from mmsharp.errors import MmsharpError

SPEC = importlib.util.spec_from_file_location('robust_data', Path(__file__).parents[2] / 'robust_data.py')
robust_data = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(robust_data)

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


class Recorder(Hook):
    """Keeps the metrics that later hooks see."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.seen = []

    def after_val_epoch(self, runner, metrics=None):
        self.seen.append(dict(metrics))


class Warned(Hook):
    """Keeps the warnings of the runner."""

    def __init__(self, texts):
        self.texts = texts

    def before_train(self, runner):
        runner.logger.warning = self.texts.append


def _train(folder, images, hooks, workers=0, **changes):
    """Train two epochs with validation after each."""
    config = robust_data.classifier_config(images, workers)
    loader = config.test_dataloader.to_dict() | {'collate_fn': {'type': 'default_collate'}}
    loader['persistent_workers'] = workers > 0
    shuffled = loader | {'sampler': {'type': 'DefaultSampler', 'shuffle': True}}
    config = Config(
        config.to_dict()
        | {
            'work_dir': str(folder),
            'train_dataloader': shuffled,
            'train_cfg': {'by_epoch': True, 'max_epochs': 2, 'val_interval': 1},
            'optim_wrapper': {'optimizer': {'type': 'Adam', 'lr': 0.005}},
            'val_dataloader': loader,
            'val_cfg': {},
            'val_evaluator': {'type': 'Accuracy', 'topk': (1,)},
            'test_dataloader': None,
            'test_cfg': None,
            'test_evaluator': None,
            'randomness': {'seed': 0},
            'log_level': 'ERROR',
            'experiment_name': f'hook_{folder.name}',
        }
        | changes
    )
    runner = Runner.from_cfg(config)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Twelve synthetic pictures in class folders."""
    return robust_data.write_class_folders(tmp_path_factory.mktemp('hook') / 'images')


@pytest.mark.parametrize(('workers', 'chosen'), [(0, {}), (2, {'backend': 'imagecorruptions'})])
def test_scores_are_those_of_the_evaluation_and_training_goes_on_as_without(images, tmp_path, workers, chosen):
    """The last scores equal evaluate_robustness on the last weights; the weights equal those of a run without hook."""
    recorder = Recorder()
    hook = CorruptionEvalHook(['impulse_noise', 'fog'], severities=[1, 5], **chosen)
    trained = _train(tmp_path / f'with{workers}', images, [hook, recorder], workers)
    plain = _train(tmp_path / f'without{workers}', images, [])
    for name, value in plain.model.state_dict().items():
        assert torch.equal(trained.model.state_dict()[name], value), name
    assert len(recorder.seen) == 2
    checkpoint = tmp_path / 'last.pth'
    torch.save({'state_dict': trained.model.state_dict()}, checkpoint)
    config = robust_data.classifier_config(images)
    cells = ['impulse_noise', 'fog'], [0, 1, 5]
    summary = evaluate_robustness(config, checkpoint, tmp_path / 'run', *cells, samples=0, **chosen)
    last = recorder.seen[-1]
    assert last['accuracy/top1'] == pytest.approx(summary['scores']['clean'])
    assert last['robust/mPC'] == pytest.approx(summary['scores']['mpc'])
    assert last['robust/rPC'] == pytest.approx(summary['scores']['rpc'])
    assert last['robust/weather'] == pytest.approx(summary['scores']['families']['weather'])
    assert trained.message_hub.get_scalar('val/robust/mPC').current() == last['robust/mPC']


BEST = {'type': 'CheckpointHook', 'save_best': 'robust/mPC', 'rule': 'greater'}
FOG = {'monitor': 'robust/fog'}


def test_the_best_checkpoint_can_be_chosen_by_robustness(images, tmp_path):
    """CheckpointHook finds robust/mPC among the metrics of every validation."""
    _train(tmp_path / 'best', images, [CorruptionEvalHook('fog', severities=[1])], default_hooks={'checkpoint': BEST})
    assert list((tmp_path / 'best').rglob('best_*mPC*.pth'))


@pytest.mark.parametrize(
    ('who', 'changes'),
    [
        ('CheckpointHook', {'default_hooks': {'checkpoint': {**BEST, 'save_best': ['accuracy/top1', 'robust/fog']}}}),
        ('EarlyStoppingHook', {'custom_hooks': [{'type': 'EarlyStoppingHook', 'rule': 'greater', **FOG}]}),
        ('ReduceOnPlateauLR', {'param_scheduler': [{'type': 'ReduceOnPlateauLR', 'rule': 'greater', **FOG}]}),
    ],
)
def test_nothing_is_decided_by_a_value_that_is_none(images, tmp_path, who, changes):
    """It is refused before the first step, not after the first epoch."""
    changes = {'default_hooks': {'param_scheduler': {'type': 'ParamSchedulerHook'}}} | changes
    message = rf'{who} decides by robust/fog, and .* computes robust/mPC, robust/rPC, robust/weather'
    with pytest.raises(MmsharpError, match=message):
        _train(tmp_path / 'run', images, [CorruptionEvalHook('fog', severities=[1])], **changes)
    assert not list((tmp_path / 'run').rglob('*.pth'))


@pytest.mark.parametrize('strict', [False, True])
@pytest.mark.parametrize('several', [False, True])
def test_who_decides_by_a_robust_value_waits_for_it(images, tmp_path, strict, several):
    """Training runs to its end, and two of five validations are neither good nor bad."""
    plateau = {'type': 'ReduceOnPlateauLR', 'monitor': 'robust/mPC', 'rule': 'greater', 'patience': 0, 'factor': 0.5}
    plateau['threshold'] = 1e9  # nothing is an improvement but the first
    other = {**plateau, 'monitor': 'accuracy/top1'}
    chosen = {'save_best': ['robust/mPC', 'accuracy/top1']} if several else {}
    early = {'type': 'EarlyStoppingHook', 'monitor': 'robust/mPC', 'rule': 'greater', 'patience': 3, 'strict': strict}
    runner = _train(
        tmp_path / 'run',
        images,
        [CorruptionEvalHook('fog', severities=[1], interval=2)],
        train_cfg={'by_epoch': True, 'max_epochs': 5, 'val_interval': 1},
        default_hooks={'checkpoint': {**BEST, **chosen}, 'param_scheduler': {'type': 'ParamSchedulerHook'}},
        custom_hooks=[early | {'min_delta': 1e9}],
        param_scheduler=[plateau, other],
    )
    assert runner.epoch == 5
    # MMEngine's scheduler has ended before the last validation; its steps count from -1.
    assert [scheduler.last_step for scheduler in runner.param_schedulers] == [1, 3]
    (stopping,) = (hook for hook in runner.hooks if type(hook).__name__ == 'EarlyStoppingHook')
    assert stopping.wait_count == 2
    assert list((tmp_path / 'run').rglob('best_robust_mPC_epoch_2.pth'))
    torch.load(tmp_path / 'run/epoch_5.pth', weights_only=False)


def test_images_that_are_too_small_are_refused_before_the_first_step(tmp_path):
    """And not by the first validation, after an epoch of training."""
    images = robust_data.write_class_folders(tmp_path / 'images')
    config = robust_data.classifier_config(images)
    pipeline = config.test_dataloader.dataset.pipeline
    pipeline[2].crop_size = 24
    loader = config.test_dataloader.to_dict() | {'collate_fn': {'type': 'default_collate'}}
    with pytest.raises(MmsharpError, match=r'image .*0\.png: cannot corrupt an image of 24x24 pixels'):
        _train(tmp_path / 'run', images, [CorruptionEvalHook('fog', severities=[1])], val_dataloader=loader)
    assert not list((tmp_path / 'run').rglob('*.pth'))


def test_an_unknown_metric_is_refused_before_the_first_step(images, tmp_path):
    """And the trial changes nothing: with the right one the weights are those without."""
    with pytest.raises(MmsharpError, match=r"metric 'foo' was not evaluated; .* accuracy/top1"):
        _train(tmp_path / 'run', images, [CorruptionEvalHook('fog', severities=[1], metric='foo')])
    assert not list((tmp_path / 'run').rglob('*.pth'))
    hook = CorruptionEvalHook('fog', severities=[1], metric='accuracy/top1')
    named = _train(tmp_path / 'named', images, [hook]).model.state_dict()
    plain = _train(tmp_path / 'plain', images, []).model.state_dict()
    assert all(torch.equal(named[name], value) for name, value in plain.items())


def test_nothing_is_logged_for_validations_that_are_not_scored(images, tmp_path):
    """With interval 2 of four, two have values, in the metrics and in the log; the history keeps both."""
    recorder = Recorder()
    hook = CorruptionEvalHook('fog', severities=[1], interval=2)
    cfg = {'train_cfg': {'by_epoch': True, 'max_epochs': 4, 'val_interval': 1}}
    runner = _train(tmp_path / 'run', images, [hook, recorder], default_hooks={'logger': {'type': 'LoggerHook'}}, **cfg)
    assert ['robust/mPC' in metrics for metrics in recorder.seen] == [False, True, False, True]
    (log,) = (tmp_path / 'run').rglob('scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    validations = [line for line in lines if 'accuracy/top1' in line]
    assert ['robust/mPC' in line for line in validations] == [False, True, False, True]
    assert len(runner.message_hub.get_scalar('val/robust/mPC').data[0]) == 2


class CocoMetric(BaseMetric):
    """Silent where nothing is found, as MMDetection's of this name: in its first passes here."""

    default_prefix = 'coco'

    def __init__(self, silent, **kwargs):
        super().__init__(**kwargs)
        self.silent = silent

    def process(self, data_batch, data_samples):
        """Keep something."""
        self.results.extend(data_samples)

    def compute_metrics(self, results):
        """Nothing, until enough was asked."""
        self.silent -= 1
        return {} if self.silent >= 0 else {'bbox_mAP': 0.5}


@pytest.mark.parametrize('beside', [[], [{'type': 'Accuracy', 'topk': (1,)}]])
def test_a_validation_that_found_nothing_does_not_end_training(images, tmp_path, beside):
    """A warning, no robust values, and a best checkpoint from the next one; whatever the other metrics gave."""
    recorder = Recorder()
    warned = []
    hook = CorruptionEvalHook('fog', severities=[1], metric='coco/bbox_mAP')
    METRICS.register_module(module=CocoMetric, force=True)
    try:
        evaluator = [{'type': 'mmengine.CocoMetric', 'silent': 1}, *beside]
        watch = Warned(warned)
        _train(
            tmp_path / 'run',
            images,
            [hook, recorder, watch],
            val_evaluator=evaluator,
            default_hooks={'checkpoint': BEST},
        )
    finally:
        METRICS.module_dict.pop('CocoMetric')
    message = 'this validation lacks coco/bbox_mAP, as where nothing is detected; its robustness is not scored'
    assert [text for text in warned if 'robustness' in text] == [message]
    first, second = recorder.seen
    assert first.get('robust/mPC') is None
    assert len(first) == 2 * len(beside)
    assert second['robust/mPC'] == 0.5
    assert list((tmp_path / 'run').rglob('best_*mPC*epoch_2.pth'))


def test_a_resumed_run_scores_the_same_validations(images, tmp_path):
    """With interval 2, the validations of epochs 2 and 4 and the last are scored, wherever the run was resumed."""
    recorder = Recorder()
    cfg = {'train_cfg': {'by_epoch': True, 'max_epochs': 1, 'val_interval': 1}}
    _train(tmp_path / 'run', images, [CorruptionEvalHook('fog', severities=[1], interval=2), recorder], **cfg)
    cfg['train_cfg']['max_epochs'] = 5
    hook = CorruptionEvalHook('fog', severities=[1], interval=2)
    _train(tmp_path / 'run', images, [hook, recorder], resume=True, **cfg)
    assert ['robust/mPC' in metrics for metrics in recorder.seen] == [True, True, False, True, True]


@pytest.mark.parametrize(
    'arguments',
    [
        *({'corruptions': 'frog'}, {'severities': []}, {'interval': 0}, {'channel_order': 'gbr'}, {'seed': -1}),
        *({'backend': 'imgaug'}, {'constants': 'coco'}, {'backend': 'imagecorruptions', 'constants': 'cifar'}),
    ],
)
def test_arguments_are_checked_at_construction(arguments):
    """A config is refused when it is built."""
    with pytest.raises(MmsharpError):
        CorruptionEvalHook(**arguments)
