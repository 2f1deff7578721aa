"""A search ends where it shall: binary, exact, slim where channels were searched, and deployable."""

import copy
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, MODELS
from psap_training import Watch
from small_classifier import CHANNELS, WEIGHTS, own_state
from torch.utils.data import Dataset

from mmsharp.apis import init_model
from mmsharp.engine.checkpoints.safe_checkpoint import check_checkpoint
from mmsharp.engine.deployment.deploy import deploy
from mmsharp.engine.hooks import RNGStateHook
from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.errors import MmsharpError
from mmsharp.models import has_masks, is_searching
from mmsharp.pruning import tensor_forward
from mmsharp.pruning.slimming.slim_difference import slim_difference

HOOK = dict(type='mmsharp.MaskSearchHook', search=2)
BOTH = pytest.mark.parametrize('search', [WEIGHTS, CHANNELS], ids=['weights', 'channels'])


@DATASETS.register_module(force=True)
class FixedPixels(Dataset):
    """Twenty-four random images of pixels from 0 to 255 with three classes, the same in every run."""

    def __init__(self) -> None:
        noise = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(3))
        self.images = (127.5 + 60 * noise).clamp(0, 255)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.images[index], data_samples=torch.tensor(index * index % 3))


@pytest.fixture
def make_runner(make_runner):
    """The runner of all hooks, on images that can be transformed."""
    loader = dict(
        batch_size=6,
        num_workers=0,
        dataset=dict(type='FixedPixels'),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    return partial(make_runner, train_dataloader=loader)


def model_of(search, **config):
    return dict(type='mmsharp.MaskSearch', base='SmallClassifier', search=copy.deepcopy(search), **config)


def state_of(path):
    return check_checkpoint(path)  # with weights_only=True


@BOTH
def test_a_search_ends_and_training_goes_on(make_runner, search, tmp_path):
    """Weights still at first, then exact zeros or a slim network, then weights that learn."""
    runner = make_runner(HOOK, model=model_of(search), max_epochs=4)
    runner.train()
    first, end, last = (state_of(tmp_path / f'run/epoch_{epoch}.pth') for epoch in (1, 2, 4))
    assert not is_searching(runner.model)
    assert {PruningState.from_checkpoint(content).kind for content in (first,)} == {'dense'}
    assert not first['state_dict']['mask_search.finished']
    if search is WEIGHTS:
        assert end['state_dict']['mask_search.finished']
        for content in (end, last):
            for key in ('stem.0.weight', 'inner.0.weight', 'head.weight'):
                weight = content['state_dict'][key]
                assert int((weight == 0).sum()) == round(0.5 * weight.numel())
        kept = end['state_dict']['stem.0.weight'] != 0
        assert torch.equal(
            end['state_dict']['stem.0.weight'][kept], first['state_dict']['stem.0.weight'][kept]
        )  # the search moved none of them
    else:
        assert not has_masks(runner.model)
        assert PruningState.from_checkpoint(end).kind == PruningState.from_checkpoint(last).kind == 'slim'
        assert [tuple(runner.model.stem[0].weight.shape), tuple(runner.model.head.weight.shape)] == [
            (3, 3, 3, 3),
            (3, 5),
        ]
    assert not torch.equal(end['state_dict']['head.weight'], last['state_dict']['head.weight'])


@pytest.mark.parametrize('slim', [True, False], ids=['slim', 'masked'])
@BOTH
@pytest.mark.parametrize('epoch', [1, 2, 3])
def test_a_resumed_run_ends_like_one_that_was_not_interrupted(make_runner, search, epoch, slim, tmp_path):
    """Bitwise, from the search, from its end, and from fine-tuning."""
    if search is WEIGHTS and not slim:
        pytest.skip('weights never become slim')

    def made(name, resume=None):
        hook = dict(HOOK, recalibration=2, slim=slim)
        runner = make_runner(hook, name, resume=resume, model=model_of(search), max_epochs=4)
        runner.register_hook(RNGStateHook())
        runner.train()
        return state_of(tmp_path / name / 'epoch_4.pth')

    whole = made('whole')
    resumed = made('resumed', tmp_path / f'whole/epoch_{epoch}.pth')
    assert whole['state_dict'].keys() == resumed['state_dict'].keys()
    assert all(torch.equal(whole['state_dict'][key], resumed['state_dict'][key]) for key in whole['state_dict'])
    assert PruningState.from_checkpoint(whole) == PruningState.from_checkpoint(resumed)


def test_masked_equals_slim(make_runner, tmp_path):
    """The channels that the search closes can be removed: the network before slimming gives what the slim one does."""
    runner = make_runner(dict(HOOK, slim=False), model=model_of(CHANNELS), max_epochs=3)
    runner.train()
    state = PruningState.from_checkpoint(state_of(tmp_path / 'run/epoch_3.pth'))
    assert state.kind == 'masked'
    model = runner.model.eval()
    assert slim_difference(model, state.recipe, tensor_forward(torch.randn(2, 3, 8, 8))) < 1e-5


@BOTH
@pytest.mark.parametrize('when', ['in the search', 'by binarising', 'never'])
def test_a_collapse_at_the_end_is_noticed(make_runner, search, when, monkeypatch):
    """Of the last images of a search that fills no window, and of the binary network, once each; the run goes on."""
    said = []
    monkeypatch.setattr('mmsharp.models.masked_network.print_log', lambda text, *_: said.append(text))

    class Collapses(Hook):
        """Classes that differ from image to image, until the end of the search or as it ends."""

        priority = 'VERY_HIGH'

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 0 and when != 'in the search':
                varied = 1000 * torch.eye(3).repeat(2, 1)
                self.handle = runner.model.head.register_forward_hook(lambda head, given, scores: scores + varied)

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 7 and when == 'by binarising':
                self.handle.remove()

    runner = make_runner(HOOK, model=model_of(search), max_epochs=2)
    runner.model.head.bias.data.copy_(torch.tensor([0.0, 100.0, 0.0]))
    runner.register_hook(Collapses())
    runner.train()
    expected = {
        'in the search': ['100.0% of the last 48 images got', 'binary masks 100.0% of 48 images get'],
        'by binarising': ['binary masks 100.0% of 48 images get'],
        'never': [],
    }[when]
    assert len(said) == len(expected)
    assert all(words in text for words, text in zip(expected, said))


def test_the_pruner_counts_the_ordinary_network(make_runner, tmp_path):
    """Half of the channels of a chain are a quarter of the inner multiply-accumulates, and not half."""
    runner = make_runner(HOOK, model=model_of(CHANNELS), max_epochs=2)
    runner.train()
    kept = runner.message_hub.get_scalar('train/pruning/macs_kept').current()
    macs = (3 * 6 + 6 * 10) * 9 * 64 + 10 * 3
    assert kept == pytest.approx(((3 * 3 + 3 * 5) * 9 * 64 + 5 * 3) / macs, rel=1e-6)


def test_statistics_are_those_of_the_binary_masks(make_runner):
    """The running mean is that of the binary network on the last batches; without batches the search's stays."""
    means = []
    for recalibration in (4, 0):
        runner = make_runner(
            dict(HOOK, search=1, recalibration=recalibration),
            f's{recalibration}',
            max_epochs=1,
            model=model_of(WEIGHTS),
        )
        runner.train()
        means.append((runner.model.stem[1].running_mean.clone(), runner))
    (mean, runner), (other, _) = means
    images = torch.stack([runner.train_dataloader.dataset[i]['inputs'] for i in range(24)])
    expected = runner.model.stem[0](images).detach().mean(dim=(0, 2, 3))
    torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(other, expected, rtol=1e-4, atol=1e-6)


@BOTH
def test_no_search_is_pruning_by_magnitude(make_runner, search, tmp_path):
    """In one shot, before the first iteration: the weights, or the filters, of the smallest norms of each layer go."""
    runner = make_runner(dict(HOOK, search=0), model=model_of(search), max_epochs=1)
    dense = own_state(runner.model)
    runner.train()
    after = own_state(runner.model)
    if search is WEIGHTS:
        for key in ('stem.0.weight', 'inner.0.weight', 'head.weight'):
            order = dense[key].abs().flatten().sort(descending=True, stable=True).indices
            gone = order[len(order) - round(0.5 * len(order)) :]
            assert not after[key].flatten()[gone].any()
            assert int((after[key] == 0).sum()) == len(gone)
    else:
        norms = dense['inner.0.weight'].flatten(1).norm(dim=1)
        kept = norms.argsort(descending=True)[:5].sort().values.tolist()
        state = PruningState.from_checkpoint(state_of(tmp_path / 'run/epoch_1.pth'))
        assert list(state.recipe.modules['inner.0'].axes['out'].kept) == kept


def config_of(search) -> Config:
    return Config(
        dict(
            model=model_of(search),
            default_scope='mmengine',
            custom_imports=dict(imports=['mmsharp'], allow_failed_imports=False),
            default_hooks=dict(pruning=HOOK),
        )
    )


@pytest.mark.parametrize(
    ('search', 'slim'),
    [(WEIGHTS, True), (CHANNELS, True), (CHANNELS, False)],
    ids=['weights', 'slim channels', 'masked channels'],
)
def test_a_finished_search_is_not_taken_over_with_another_ratio(make_runner, search, slim, tmp_path):
    """Nor, without `resume`, with any: it would be called a search, and nothing be searched."""
    hook = dict(HOOK, slim=slim)
    make_runner(hook, model=model_of(search), max_epochs=3).train()
    path = tmp_path / 'run/epoch_3.pth'
    with pytest.raises(MmsharpError, match=r'keep [0-9]+; go on with the ratio or budget that it was searched with'):
        make_runner(hook, 'other', resume=path, model=model_of(dict(search, ratio=0.3)), max_epochs=4).train()
    if search is WEIGHTS or slim:
        with pytest.raises(MmsharpError, match=r'load_from=.*MaskSearchHook .* dense models; start from a dense one'):
            make_runner(hook, 'again', load_from=str(path), model=model_of(search), max_epochs=4).train()


def test_a_longer_search_comes_too_late(make_runner, tmp_path, caplog):
    """What has ended stays ended, which the log says; weights learn on."""
    make_runner(HOOK, model=model_of(WEIGHTS), max_epochs=3).train()
    first = state_of(tmp_path / 'run/epoch_3.pth')['state_dict']
    runner = make_runner(
        dict(HOOK, search=4),
        'longer',
        resume=tmp_path / 'run/epoch_3.pth',
        model=model_of(WEIGHTS),
        max_epochs=5,
        log_level='INFO',
    )
    runner.train()
    last = own_state(runner.model)
    log = next((tmp_path / 'longer').glob('*/*.log')).read_text()
    assert 'mmsharp: fine-tuning from iteration 12; the search has ended before, and search=4 comes too late' in log
    assert 'search of masks' not in log
    assert torch.equal(last['head.weight'] == 0, first['head.weight'] == 0)
    assert not torch.equal(last['head.weight'], first['head.weight'])


def test_a_search_that_diverges_ends_with_an_error(make_runner, tmp_path):
    """By the name of a layer, with no checkpoint of zeros."""
    runner = make_runner(dict(HOOK, search=1), model=model_of(WEIGHTS), max_epochs=2)
    runner.register_hook(Diverges())
    with pytest.raises(MmsharpError, match=r"'head\.weight': 30 of 30 mask entries are not finite.*diverged"):
        runner.train()
    assert not list((tmp_path / 'run').glob('*.pth'))
    assert own_state(runner.model)['head.weight'].all()


class Diverges(Hook):
    """A search of which one layer gets no numbers, just before it ends."""

    priority = 'VERY_HIGH'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 3:
            runner.model.mask_search.by_name()['head.weight'].data.fill_(float('nan'))


@pytest.mark.parametrize('search', [WEIGHTS, CHANNELS], ids=['weights', 'channels'])
def test_masks_stay_where_they_are_defined(make_runner, search):
    """In [0, 1] after every iteration, as hooks that follow and checkpoints see them, though steps go far beyond."""
    seen = []

    class Looks(Hook):
        priority = 'NORMAL'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if has_masks(runner.model):  # channels end without
                seen.extend(variable.clone() for variable in runner.model.mask_search.variables.values())

    optimizer = dict(type='SGD', lr=50.0, momentum=0.9)
    runner = make_runner(HOOK, model=model_of(search), max_epochs=2, optim_wrapper=dict(optimizer=optimizer))
    runner.register_hook(Looks())
    runner.train()
    assert len(seen) >= 7
    assert all(variable.min() >= 0 and variable.max() <= 1 for variable in seen)
    assert any(((variable == 0) | (variable == 1)).all() for variable in seen)


def test_what_has_no_mask_is_logged(make_runner, tmp_path):
    """By name, with the reason."""
    model = dict(type='mmsharp.MaskSearch', base='FrozenHead', search=WEIGHTS)
    make_runner(HOOK, model=model, max_epochs=2, log_level='INFO').train()
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'mmsharp: whole, because its weights are frozen: head.weight' in log


@MODELS.register_module(force=True)
class FrozenHead(MODELS.get('SmallClassifier')):
    def __init__(self):
        super().__init__()
        self.head.requires_grad_(False)


@BOTH
def test_the_result_is_deployed_as_plain_weights(make_runner, search, tmp_path):
    """`tools/slim.py` writes a folder whose model is ordinary: zeros in its weights, or fewer channels."""
    runner = make_runner(HOOK, model=model_of(search), max_epochs=3)
    runner.train()
    path = tmp_path / 'run/epoch_3.pth'
    deploy(config_of(search), str(path), tmp_path / 'slim', repeats=1)
    weights = torch.load(tmp_path / 'slim/slim.pth', weights_only=True)['state_dict']
    assert not any(key.startswith('mask_search.') for key in weights)
    small = init_model(tmp_path / 'slim/config.py', tmp_path / 'slim/slim.pth')
    trained = init_model(config_of(search), path)
    images = torch.randn(2, 3, 8, 8)
    assert not has_masks(small)
    assert torch.equal(small(images), trained(images))
    recipe = json.loads((tmp_path / 'slim/recipe.json').read_text())
    assert bool(recipe['modules']) == (search is CHANNELS)
    if search is WEIGHTS:
        assert int((weights['head.weight'] == 0).sum()) == 15
    if search is WEIGHTS:  # a dense network with zeros, which may be searched again
        again = make_runner(HOOK, 'again', load_from=str(tmp_path / 'slim/slim.pth'), model=model_of(search))
        again.load_or_resume()
        again.call_hook('before_train')
        assert is_searching(again.model)
        assert torch.equal(again.model.head.weight, weights['head.weight'])
    hooks = Config.fromfile(tmp_path / 'slim/config.py').get('default_hooks') or {}
    assert 'pruning' not in hooks


@BOTH
def test_a_search_that_has_not_ended_is_not_deployed(make_runner, search, tmp_path):
    """The checkpoint of the first epoch."""
    make_runner(HOOK, model=model_of(search), max_epochs=2).train()
    with pytest.raises(MmsharpError, match='before the end of the mask search'):
        deploy(config_of(search), str(tmp_path / 'run/epoch_1.pth'), tmp_path / 'slim', repeats=1)


def test_an_average_of_weights_follows(make_runner, tmp_path):
    """EMA's shadow gets the same masks, in both forms."""
    for search in (WEIGHTS, CHANNELS):
        name = search['granularity']
        ema = [dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.1)]
        runner = make_runner(HOOK, name, model=model_of(search), max_epochs=3, custom_hooks=ema)
        runner.train()
        averaged = state_of(tmp_path / name / 'epoch_3.pth')['state_dict']
        plain = own_state(runner.model)
        for key, value in plain.items():
            assert averaged[key].shape == value.shape, key
        assert torch.equal(averaged['head.weight'] == 0, plain['head.weight'] == 0)


@pytest.mark.parametrize(
    ('hook', 'model', 'words'),
    [
        (dict(HOOK, search=9), WEIGHTS, 'training has only 16'),
        (HOOK, None, "TwoBlocks has none; set model=dict\\(type='mmsharp.MaskSearch'"),
    ],
)
def test_what_cannot_be_is_refused_before_training(make_runner, hook, model, words):
    """Lengths that do not fit, and a model without masks."""
    extra = {} if model is None else dict(model=model_of(model))
    with pytest.raises(MmsharpError, match=words):
        make_runner(hook, max_epochs=4, **extra).train()


@pytest.mark.parametrize('setting', [dict(search=1.0), dict(search='long'), dict(recalibration=-1), dict(slim=1)])
def test_wrong_settings_are_refused_at_once(make_runner, setting):
    """By name and value."""
    with pytest.raises(MmsharpError, match=f'{next(iter(setting))}='):
        make_runner(dict(HOOK, **setting))


@BOTH
def test_the_log_forgets_the_terms_of_the_search(make_runner, search):
    """They are there until it ends; then only what is still computed, with a history of its own."""
    runner, logged = make_runner(HOOK, model=model_of(search), max_epochs=4), []

    def look(runner):
        scalars = runner.message_hub.log_scalars
        losses = {name for name in scalars if name.startswith('train/loss')}
        logged.append((is_searching(runner.model), losses, len(scalars['train/loss'].data[0])))

    runner.register_hook(Watch(look))
    runner.train()
    terms = {f'train/loss_{name}' for name in ('stability', 'margin_ratio', 'consistency', 'l1', 'task')}
    searching = [losses for still, losses, _ in logged if still]
    assert searching
    assert all(losses == {'train/loss', *terms} for losses in searching)
    tuning = logged[len(searching) + 1 :]
    assert tuning
    assert all(losses == {'train/loss'} for _, losses, _ in tuning)
    assert [length for _, _, length in tuning] == list(range(1, len(tuning) + 1))


@BOTH
@pytest.mark.parametrize('still', ['inner.1', None])
def test_normalisations_that_do_not_follow_are_named(make_runner, search, still):
    """As of a detector's backbone with norm_eval=True: its statistics are of the whole network."""
    runner = make_runner(HOOK, model=model_of(search))
    if still:
        runner.register_hook(Watch(before=lambda runner, _: runner.model.inner[1].eval(), priority='HIGHEST'))
    runner.train()
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert log.count('normalisations beside masked layers') == int(bool(still))
    if still:
        assert "1 normalisations beside masked layers, such as 'inner.1'" in log
        assert 'norm_eval=False' in log
