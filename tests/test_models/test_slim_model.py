"""A slim model is an ordinary type of a config: same outputs, same keys, and the toolboxes load it."""

import copy
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import ConstantInit, PretrainedInit
from mmengine.registry import MODELS, init_default_scope

from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.deployment.deploy import deploy
from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.errors import MmsharpError
from mmsharp.models import without_downloads
from mmsharp.pruning import ChannelPruner, apply_recipe, count_parameters, tensor_forward

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

SPEC = importlib.util.spec_from_file_location('robust_data', Path(__file__).parents[1] / 'robust_data.py')
robust_data = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(robust_data)

KINDS = ('detector', 'classifier')


def ordinary_config(kind: str, folder: Path) -> Config:
    if kind == 'detector':
        pytest.importorskip('mmdet')
        return robust_data.detector_config(folder)
    pytest.importorskip('mmpretrain')
    return robust_data.classifier_config(folder)


class Pruned:
    """A model, masked and then cut, with the recipe between the two."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.config = ordinary_config(kind, folder)
        torch.manual_seed(0)
        self.masked = build_model(self.config)
        self.image = torch.randn(1, 3, 64, 64)
        self.forward = tensor_forward(self.image)
        pruner = ChannelPruner(budget=dict(params=0.5), round_to=1)
        pruner.attach(self.masked, self.forward)
        pruner.update(1.0)
        pruner.apply_()
        self.recipe = pruner.recipe()
        self.slim = copy.deepcopy(self.masked)
        apply_recipe(self.slim, self.recipe)

    def description(self, recipe) -> dict:
        """The config of the slim model."""
        model = copy.deepcopy(self.config.model)
        return Config(dict(model=dict(model, type='mmsharp.SlimModel', base=model.type, recipe=recipe))).model


@pytest.fixture(scope='module', params=KINDS)
def pruned(request, tmp_path_factory) -> Pruned:
    return Pruned(request.param, tmp_path_factory.mktemp('data'))


def flat(outputs) -> list[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    return [tensor for part in outputs for tensor in flat(part)]


@torch.no_grad()
def difference(first, second, forward) -> float:
    pairs = zip(flat(forward(first)), flat(forward(second)), strict=True)
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-6)) for a, b in pairs)


@pytest.mark.parametrize('form', ['path', 'text', 'dict'])
def test_what_is_built_is_the_slim_model(pruned, form, tmp_path):
    """Type, shapes and, with its weights, outputs are those of the model that was cut; masked equals slim."""
    pruned.recipe.save(tmp_path / 'recipe.json')
    path = tmp_path / 'recipe.json'
    recipe = dict(path=path, text=str(path), dict=pruned.recipe.to_dict())[form]
    init_default_scope(pruned.config.default_scope)
    model = MODELS.build(pruned.description(recipe)).eval()
    assert type(model) is type(pruned.slim)
    assert count_parameters(model) <= 0.5 * count_parameters(pruned.masked)
    model.load_state_dict(pruned.slim.state_dict())
    assert difference(pruned.slim, model, pruned.forward) == 0
    assert difference(pruned.masked, model, pruned.forward) < 1e-5


def test_the_config_is_not_changed_by_building(pruned):
    """Built twice from one config: the same shapes, and the config as it was."""
    init_default_scope(pruned.config.default_scope)
    description = pruned.description(pruned.recipe.to_dict())
    before = copy.deepcopy(description)
    shapes = [[tuple(p.shape) for p in MODELS.build(description).parameters()] for _ in range(2)]
    assert shapes[0] == shapes[1]
    assert description == before


def test_no_weights_are_loaded(pruned, tmp_path):
    """An ``init_cfg`` that names weights would download dense ones; the slim model drops it, nested or in a list."""
    init_default_scope(pruned.config.default_scope)
    description = pruned.description(pruned.recipe.to_dict())
    pretrained = dict(type='Pretrained', checkpoint='https://invalid.invalid/dense.pth')
    description.backbone.init_cfg = pretrained
    description.init_cfg = [dict(type='Normal', layer='Linear'), pretrained]
    model = MODELS.build(description)
    model.init_weights()
    assert 'Pretrained' not in str([module.init_cfg for module in model.modules() if hasattr(module, 'init_cfg')])


def test_only_the_initialisation_that_loads_weights_is_dropped():
    """By name, with its scope, or as a class, alone or in a list; the others stay in their order."""
    normal, constant = dict(type='Normal', std=0.1), dict(type=ConstantInit, val=1)
    for kind in ('Pretrained', 'mmengine.Pretrained', PretrainedInit):
        pretrained = dict(type=kind, checkpoint='x.pth')
        for several in (list, tuple):
            model = Config(dict(model=dict(init_cfg=several([normal, pretrained, constant])))).model
            assert without_downloads(model) == dict(init_cfg=several([normal, constant]))
        assert without_downloads(dict(init_cfg=pretrained)) == dict(init_cfg=None)
        assert without_downloads(dict(init_cfg=[pretrained])) == dict(init_cfg=None)
    assert without_downloads(dict(init_cfg=dict(checkpoint='x.pth'))) == dict(init_cfg=None)


def test_an_initialisation_that_only_mentions_the_word_stays():
    """What counts is its type."""
    init_cfg = dict(type='Normal', std=0.1, override=dict(name='Pretrained'))
    assert without_downloads(dict(init_cfg=init_cfg)) == dict(init_cfg=init_cfg)


def test_without_downloads_keeps_everything_else():
    """Kinds of dicts and other initialisations stay; the argument is not changed."""
    normal, pretrained = dict(type='Normal', std=0.1), dict(type='Pretrained', checkpoint='x.pth')
    model = Config(dict(model=dict(a=dict(init_cfg=pretrained), b=[dict(init_cfg=normal)], c=(1, 'x')))).model
    before = copy.deepcopy(model)
    assert without_downloads(model) == dict(a=dict(init_cfg=None), b=[dict(init_cfg=normal)], c=(1, 'x'))
    assert type(without_downloads(model)) is type(model)
    assert model == before


@pytest.mark.parametrize(
    ('content', 'words'),
    [(None, 'does not exist'), ('{', 'recipe'), ('[]', 'recipe'), ('{"format": "other"}', 'recipe')],
)
def test_a_missing_or_malformed_recipe_is_refused(pruned, tmp_path, content, words):
    """By name; the missing one with the words that a config needs."""
    path = tmp_path / 'recipe.json'
    if content is not None:
        path.write_text(content)
    init_default_scope(pruned.config.default_scope)
    with pytest.raises(MmsharpError, match=words) as caught:
        MODELS.build(pruned.description(str(path)))
    if content is None:
        assert 'fileDirname' in str(caught.value)


def test_a_recipe_of_another_model_is_refused(pruned):
    """Before anything is cut."""
    init_default_scope(pruned.config.default_scope)
    recipe = pruned.recipe.to_dict()
    name = next(iter(recipe['modules']))
    recipe['modules']['elsewhere'] = recipe['modules'].pop(name)
    with pytest.raises(MmsharpError, match='elsewhere'):
        MODELS.build(pruned.description(recipe))


@pytest.fixture
def deployed(pruned, tmp_path) -> Path:
    """The folder that tools/slim.py writes."""
    state = PruningState().with_input_shape((3, 64, 64)).slimmed(pruned.recipe)
    meta = dict(dataset_meta=dict(classes=robust_data.CLASSES))
    checkpoint = dict(state_dict=pruned.slim.state_dict(), meta=meta, mmsharp=state.to_dict())
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')
    deploy(pruned.config, str(tmp_path / 'epoch_1.pth'), tmp_path / 'slim', repeats=1)
    return tmp_path / 'slim'


def test_the_recipe_is_found_beside_the_config(pruned, deployed, tmp_path, monkeypatch):
    """From any current folder, also after the folder has moved; the other keys of the model stay where they were."""
    moved = deployed.rename(tmp_path / 'moved')
    monkeypatch.chdir('/')
    config = Config.fromfile(moved / 'config.py')
    assert config.model.recipe == str(moved / 'recipe.json')
    kept = {key: value for key, value in config.model.items() if key not in ('type', 'base', 'recipe')}
    expected = without_downloads(pruned.config.model)
    expected.pop('type')
    assert kept == expected
    assert config.model.base == pruned.config.model.type
    model = build_model(config)
    model.load_state_dict(torch.load(moved / 'slim.pth', weights_only=True)['state_dict'])
    assert difference(pruned.slim, model, pruned.forward) == 0


def test_the_toolbox_s_own_inference_loads_it(pruned, deployed):
    """mmdet.apis or mmpretrain's inferencer, given config and checkpoint and nothing else."""
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    config, weights = str(deployed / 'config.py'), str(deployed / 'slim.pth')
    if pruned.config.default_scope == 'mmdet':
        from mmdet.apis import inference_detector, init_detector

        model = init_detector(config, weights, device='cpu')
        result = inference_detector(model, image)
        assert len(result.pred_instances.bboxes) == len(result.pred_instances.scores)
        assert model.dataset_meta['classes'] == robust_data.CLASSES
    else:
        from mmpretrain import ImageClassificationInferencer, get_model

        model = get_model(config, pretrained=weights, device='cpu')
        result = ImageClassificationInferencer(model)(image)[0]
        assert 0 <= result['pred_score'] <= 1
    assert count_parameters(model) == count_parameters(pruned.slim)
    assert difference(pruned.slim, model, pruned.forward) == 0
