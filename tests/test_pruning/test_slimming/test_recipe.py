import json

import pytest
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning import AxisRecipe, LayerRecipe, Recipe, apply_recipe

RECIPE = Recipe(
    {
        'a': LayerRecipe('Conv', {'out': AxisRecipe(4, (0, 3)), 'in': AxisRecipe(3, (1,))}),
        'a.block': LayerRecipe('Parameters', {'gamma.0': AxisRecipe(4, (0, 3))}),
        'a.bn': LayerRecipe('BatchNorm', {'out': AxisRecipe(4, (0, 3))}),
    }
)


def test_round_trip(tmp_path):
    """Saved and loaded it is the same, as plain JSON, and nothing else is left in the folder."""
    RECIPE.save(tmp_path / 'recipe.json')
    assert Recipe.load(tmp_path / 'recipe.json') == RECIPE
    assert json.loads((tmp_path / 'recipe.json').read_text()) == RECIPE.to_dict()
    assert [path.name for path in tmp_path.iterdir()] == ['recipe.json']


def test_recipes_of_the_first_version_are_read():
    """What 0.1 wrote has the same layers and axes."""
    assert Recipe.from_dict({**RECIPE.to_dict(), 'version': 1}) == RECIPE


def changed(path, value):
    data = json.loads(json.dumps(RECIPE.to_dict()))
    *parents, last = path
    inner = data
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return data


AXIS = ('modules', 'a', 'out')
BAD = {
    'no mapping': ([], 'expected a mapping, found list'),
    'unknown key': (changed(['hook'], 'os.system'), r"unknown keys \['hook'\]"),
    'missing key': ({'format': 'mmsharp.recipe', 'version': 1}, r"missing keys \['modules'\]"),
    'other format': (changed(['format'], 'x'), "format is 'x'"),
    'newer version': (changed(['version'], 3), 'version 3 is newer than 2'),
    'version no integer': (changed(['version'], True), 'recipe version is True'),
    'modules no mapping': (changed(['modules'], []), 'modules is a list'),
    'unknown layer': (changed(['modules', 'a', 'type'], 'Attention'), "'a': type 'Attention' is unknown"),
    'layer type no string': (changed(['modules', 'a', 'type'], ['Conv']), "'a': type"),
    'axis that the layer lacks': (
        changed(['modules', 'a.bn', 'in'], {'size': 4, 'kept': [0]}),
        "a BatchNorm has no axis 'in'",
    ),
    'layer without axes': (changed(['modules', 'a'], {'type': 'Conv'}), 'no axis of this Conv is given'),
    'unknown axis': (
        changed(['modules', 'a', 'batch'], {'size': 4, 'kept': [0]}),
        "a Conv has no axis 'batch'; accepted: out, in,",
    ),
    'parameter of a row': (
        changed(['modules', 'a', 'weight.0'], {'size': 4, 'kept': [0]}),
        r"a Conv has no axis 'weight\.0'",
    ),
    'parameter without a dimension': (
        changed(['modules', 'a', 'gamma.'], {'size': 4, 'kept': [0]}),
        r"a Conv has no axis 'gamma\.'",
    ),
    'a path for a parameter': (
        changed(['modules', 'a', '__class__.x.0'], {'size': 4, 'kept': [0]}),
        r"a Conv has no axis '__class__\.x\.0'",
    ),
    'nothing kept': (changed([*AXIS, 'kept'], []), 'kept has to be a list of 1 to 4'),
    'kept a string': (changed([*AXIS, 'kept'], '03'), 'kept has to be a list'),
    'too many': (changed([*AXIS, 'kept'], [0, 1, 2, 3, 3]), 'kept has to be a list'),
    'index out of range': (changed([*AXIS, 'kept'], [0, 4]), 'kept index is 4'),
    'negative index': (changed([*AXIS, 'kept'], [-1]), 'kept index is -1'),
    'index no integer': (changed([*AXIS, 'kept'], [0.0]), r'kept index is 0\.0'),
    'not rising': (changed([*AXIS, 'kept'], [3, 0]), 'have to rise'),
    'repeated': (changed([*AXIS, 'kept'], [3, 3]), 'have to rise'),
    'size no integer': (changed([*AXIS, 'size'], '4'), "size is '4'"),
    'size without end': (changed([*AXIS, 'size'], 2**40), 'size is'),
}


@pytest.mark.parametrize('name', BAD)
def test_strangers_data_is_checked(name):
    """Whatever is not as we write it is refused by name."""
    data, message = BAD[name]
    with pytest.raises(MmsharpError, match=message):
        Recipe.from_dict(data)


HUGE = 10**5000
LONG = 'x' * 2**20
ENDLESS = {
    'version': (changed(['version'], HUGE), 'recipe version is an integer of 16610 bits'),
    'negative version': (changed(['version'], -HUGE), 'recipe version is an integer of 16610 bits'),
    'size': (changed([*AXIS, 'size'], HUGE), 'size is an integer of 16610 bits'),
    'index': (changed([*AXIS, 'kept'], [HUGE]), 'kept index is an integer of 16610 bits'),
    'index in a list': (changed([*AXIS, 'kept'], [[HUGE]]), r'kept index is \[an integer of 16610 bits\]'),
    'format': (changed(['format'], HUGE), 'format is an integer of'),
    'path': (changed(['modules', LONG], {'type': 'Conv'}), "xx: no axis|xx': no axis"),
    'path that is no string': (changed(['modules', 'a'], {}) | {'modules': {HUGE: {}}}, 'path an integer of'),
    'type': (changed(['modules', 'a', 'type'], LONG), "type 'xxx"),
    'type that is a number': (changed(['modules', 'a', 'type'], HUGE), 'type an integer of'),
    'axis': (changed(['modules', 'a', LONG], {}), "no axis 'xxx"),
    'key': (changed([LONG], 1), r"unknown keys \['xxx"),
    'keys': (changed(['version'], 2) | {str(number): 0 for number in range(100_000)}, r'\(100000 in all\)'),
    'keys of an axis': (changed([*AXIS], {str(number): 0 for number in range(100_000)}), r'\(100000 in all\)'),
}


@pytest.mark.parametrize('name', ENDLESS)
def test_what_is_endless_is_refused_in_few_words(name):
    """Integers that Python does not print, long texts, many keys."""
    data, message = ENDLESS[name]
    with pytest.raises(MmsharpError, match=message) as refusal:
        Recipe.from_dict(data)
    assert len(str(refusal.value)) < 1000


def test_a_long_path_that_the_model_lacks_is_refused_in_few_words():
    """Valid in a recipe, and in no model."""
    recipe = Recipe.from_dict(changed(['modules', LONG], {'type': 'Conv', 'out': {'size': 4, 'kept': [0]}}))
    model = nn.Sequential()
    for refused in (lambda: apply_recipe(model, recipe), lambda: recipe.followed_by(recipe)):
        with pytest.raises(MmsharpError, match='recipe module') as refusal:
            refused()
        assert len(str(refusal.value)) < 600


@pytest.mark.parametrize(
    ('text', 'key'),
    [
        ('{"format": "mmsharp.recipe", "version": 99, "version": 2, "modules": {}}', 'version'),
        ('{"format": "mmsharp.recipe", "version": 2, "modules": {"a": {}, "b": {}, "a": {}}}', 'a'),
        ('{"format": "mmsharp.recipe", "version": 2, "modules": {"a": {"out": {"kept": [0], "kept": [1]}}}}', 'kept'),
    ],
)
def test_a_key_that_is_there_twice_is_refused(tmp_path, text, key):
    """By its name and the file's: readers differ in which of them counts."""
    (tmp_path / 'recipe.json').write_text(text)
    with pytest.raises(MmsharpError, match=rf"recipe\.json.* the key '{key}' is 2 times in one object"):
        Recipe.load(tmp_path / 'recipe.json')


@pytest.mark.parametrize('text', ['', '{"format":', '[' * 100_000, '\x00'])
def test_a_file_that_is_no_json_is_refused(tmp_path, text):
    """Truncated, binary or absurdly nested files give one clear error that names the file."""
    (tmp_path / 'recipe.json').write_text(text)
    with pytest.raises(MmsharpError, match=r'recipe\.json'):
        Recipe.load(tmp_path / 'recipe.json')


def test_missing_file_is_named(tmp_path):
    """No such file."""
    with pytest.raises(MmsharpError, match=r'nowhere\.json.*no such file'):
        Recipe.load(tmp_path / 'nowhere.json')


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    """A write that fails half-way leaves what was there."""
    RECIPE.save(tmp_path / 'recipe.json')

    def fail(*_):
        raise OSError('disk full')

    monkeypatch.setattr('mmsharp.pruning.slimming.recipe.os.replace', fail)
    with pytest.raises(OSError, match='disk full'):
        Recipe({}).save(tmp_path / 'recipe.json')
    assert Recipe.load(tmp_path / 'recipe.json') == RECIPE
    assert [path.name for path in tmp_path.iterdir()] == ['recipe.json']
