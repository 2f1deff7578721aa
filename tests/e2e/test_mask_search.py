"""A mask search from its config to scores on corrupted images, by the commands of docs/csam.md, on few digits."""

import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/csam/resnet18_digits.py'

OPTIONS = (
    'load_from=None',
    'train_cfg.max_epochs=2',
    'train_dataloader.batch_size=4',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
    'test_dataloader.num_workers=0',
    'test_dataloader.persistent_workers=False',
    'val_dataloader.dataset.indices=4',
    f'train_dataloader.dataset.indices=[{",".join(str(index) for index in range(0, 960, 60))}]',
    f'test_dataloader.dataset.indices=[{",".join(str(index) for index in range(0, 240, 24))}]',
    'default_hooks.pruning.search=1',
    'model.backbone.base_channels=8',
    'model.backbone.stem_channels=8',
    'model.head.in_channels=64',
)
GRANULARITIES = {
    'weight': (),
    'channel': ('model.search.granularity=channel', 'model.search.input_shape=(3,32,32)'),
}


def accuracy(work_dir: Path) -> dict[str, float]:
    [path] = work_dir.glob('*/*.json')
    return {key: value for key, value in json.loads(path.read_text()).items() if key.startswith('accuracy')}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize('granularity', ['weight', pytest.param('channel', marks=pytest.mark.large)])
def test_a_search_from_its_config_to_a_robustness_report(tmp_path, digits, command, granularity):
    """Search, binarise, fine-tune, deploy; what is deployed scores as what was trained; a search is resumed."""
    (tmp_path / 'data').symlink_to(digits / 'data')
    options = ('--cfg-options', *OPTIONS, *GRANULARITIES[granularity])
    printed = command('tools/train.py', CONFIG, '--work-dir', 'run', *options, cwd=tmp_path)
    log = printed.stdout + printed.stderr
    assert 'the search ended after iteration 3; 50.0000% of the' in log
    for term in ('loss_stability', 'loss_margin_ratio', 'loss_consistency', 'loss_l1', 'loss_task'):
        assert term in log
    command('tools/slim.py', CONFIG, 'run/epoch_2.pth', '--out', 'slim', '--repeats', 1, *options, cwd=tmp_path)
    report = json.loads((tmp_path / 'slim/slim.json').read_text())
    smaller = report['slim']['parameters'] < 0.3 * report['dense']['parameters']
    assert smaller == (granularity == 'channel')
    if granularity == 'weight':
        weights = torch.load(tmp_path / 'slim/slim.pth', weights_only=True)['state_dict']
        assert int((weights['head.fc.weight'] == 0).sum()) == weights['head.fc.weight'].numel() // 2
    deployed = ('slim/config.py', 'slim/slim.pth')
    command('tools/test.py', *deployed, '--work-dir', 'deployed', cwd=tmp_path)
    command('tools/test.py', CONFIG, 'run/epoch_2.pth', '--work-dir', 'trained', *options, cwd=tmp_path)
    assert accuracy(tmp_path / 'deployed') == accuracy(tmp_path / 'trained')
    grid = ('--corruptions', 'fog', '--severities', 2, '--show-samples', 1)
    command('tools/test_robust.py', *deployed, *grid, '--work-dir', 'robust', cwd=tmp_path)
    assert json.loads((tmp_path / 'robust/summary.json').read_text())['metric'] == 'accuracy/top1'
    resumed = command(
        'tools/train.py', CONFIG, '--work-dir', 'resumed', '--resume', 'run/epoch_1.pth', *options, cwd=tmp_path
    )
    assert 'fine-tuning from iteration 4' in resumed.stdout + resumed.stderr
    assert (tmp_path / 'resumed/epoch_2.pth').is_file()


@pytest.mark.slow
def test_a_search_that_has_not_ended_is_said_so_on_one_line(tmp_path, digits, command):
    """`tools/slim.py` on its checkpoint."""
    (tmp_path / 'data').symlink_to(digits / 'data')
    options = ('--cfg-options', *OPTIONS, 'default_hooks.pruning.search=2')
    command('tools/train.py', CONFIG, '--work-dir', 'run', *options, cwd=tmp_path)
    refused = command('tools/slim.py', CONFIG, 'run/epoch_1.pth', '--out', 'slim', *options, cwd=tmp_path, check=False)
    assert refused.returncode == 2
    assert 'before the end of the mask search' in refused.stderr
    assert 'Traceback' not in refused.stderr
