"""Laws of a mask search in two processes: both search with other images and end in the same masks and weights."""

import copy

import pytest
import torch
from distributed_training import runner_of, weights_of
from mmengine.dist import get_rank
from mmengine.registry import DATASETS, MODELS
from small_classifier import CHANNELS, WEIGHTS
from torch.utils.data import Dataset
from two_processes import in_two_processes

from mmsharp.engine.checkpoints.safe_checkpoint import check_checkpoint
from mmsharp.engine.hooks import MaskSearchHook

SEARCHES = {'weights': WEIGHTS, 'channels': CHANNELS}
HOOK = dict(type='mmsharp.MaskSearchHook', search=8, recalibration=2)
WRAPPERS = {
    'plain': dict(type='OptimWrapper', accumulative_counts=2),
    'mixed': dict(type='mmsharp.AmpOptimWrapper'),
}


@DATASETS.register_module(force=True)
class LabelledImagesOfThisRank(Dataset):
    """Random images, others in each process, as pictures of which only the network's input is looked at."""

    def __init__(self) -> None:
        noise = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(get_rank()))
        self.images = (127.5 + 60 * noise).clamp(0, 255)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.images[index], data_samples=torch.tensor(index % 3))


def searching(search):
    """The registered name of a small classifier with masks; runners of these tests know models by name alone."""
    name = f'Searching{search.title()}'

    @MODELS.register_module(name=name, force=True)
    def build(**config):
        return MODELS.build(
            dict(type='mmsharp.MaskSearch', base='SmallClassifier', search=copy.deepcopy(SEARCHES[search]), **config)
        )

    return name


def run(folder, search, wrapper, resume=None, iterations=16):
    """A runner that has been trained."""
    model = searching(search)
    runner = runner_of(
        folder, model, 'LabelledImagesOfThisRank', HOOK, WRAPPERS[wrapper], resume, iterations=iterations
    )
    runner.train()
    return runner


def train(rank, folder, search, wrapper):
    """Parameters, among them the masks, at the end of the search and of the training."""
    ends = {}
    for iterations in (8, 16):
        runner = run(f'{folder}/{iterations}', search, wrapper, iterations=iterations)
        (hook,) = [hook for hook in runner.hooks if isinstance(hook, MaskSearchHook)]
        ends[iterations] = dict(weights=weights_of(runner), kind=hook._state.kind)
    return ends


def train_and_resume(rank, folder, search, wrapper):
    """Parameters at the end: of the whole run, and of runs resumed in the search, at its end and afterwards."""
    runs = {'whole': run(f'{folder}/whole', search, wrapper)}
    for iteration in (4, 8, 12):
        path = f'{folder}/whole/iter_{iteration}.pth'
        runs[f'from {iteration}'] = run(f'{folder}/from_{iteration}', search, wrapper, path)
    return {name: weights_of(runner) for name, runner in runs.items()}


@pytest.mark.parametrize('search', SEARCHES)
@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_both_processes_end_alike(tmp_path, search, wrapper):
    """The same masks and weights, bitwise, of different images; slim where channels were searched."""
    first, second = in_two_processes(train, tmp_path, str(tmp_path / 'run'), search, wrapper)
    for end in (8, 16):
        one, other = first[end], second[end]
        assert one['kind'] == other['kind'] == ('slim' if search == 'channels' else 'dense')
        assert one['weights'].keys() == other['weights'].keys()
        assert [name for name, value in one['weights'].items() if not torch.equal(value, other['weights'][name])] == []
    if search == 'weights':
        masks = {name: mask for name, mask in first[16]['weights'].items() if 'variables' in name}
        assert masks
        for name, mask in masks.items():
            assert torch.equal(mask, first[8]['weights'][name])
            assert int(mask.sum()) == mask.numel() - round(0.5 * mask.numel())


@pytest.mark.slow
@pytest.mark.parametrize('search', SEARCHES)
def test_resuming_is_bitwise_exact(tmp_path, search):
    """In the search, where it ends and in fine-tuning, on both processes."""
    for results in in_two_processes(train_and_resume, tmp_path, str(tmp_path), search, 'plain'):
        whole = results.pop('whole')
        for name, resumed in results.items():
            assert [key for key, value in resumed.items() if not torch.equal(value, whole[key])] == [], name
    assert check_checkpoint(str(tmp_path / 'whole/iter_16.pth'))
