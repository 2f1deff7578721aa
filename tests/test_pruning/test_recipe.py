import json

import pytest

from mmsharp.errors import MmsharpError
from mmsharp.pruning import AxisRecipe, LayerRecipe, Recipe

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

    monkeypatch.setattr('mmsharp.pruning.recipe.os.replace', fail)
    with pytest.raises(OSError, match='disk full'):
        Recipe({}).save(tmp_path / 'recipe.json')
    assert Recipe.load(tmp_path / 'recipe.json') == RECIPE
    assert [path.name for path in tmp_path.iterdir()] == ['recipe.json']
