"""Latency tables as data: what they say at any size, and what of a stranger's file is refused."""

import copy
import itertools
import json

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.latency import LatencyTable, LayerTable

LAYER = LayerTable('Linear', {'out': (2, 4, 8), 'in': (3, 6)}, [[1.0, 2.0], [1.5, 4.0], [5.0, 6.0]], 10)
TABLE = LatencyTable({'0': LAYER}, scale=2.0, per_element=0.5, constant=3.0, about={'device': 'cpu'})


def test_between_the_points_it_is_what_scipy_interpolates():
    """SciPy's multilinear interpolation is the reference; outside of the grid the nearest point counts."""
    reference = RegularGridInterpolator(tuple(LAYER.axes.values()), np.array(LAYER.seconds))
    for out, into in itertools.product(range(1, 10), range(1, 8)):
        inside = (min(max(out, 2), 8), min(max(into, 3), 6))
        assert LAYER.at((out, into)) == pytest.approx(float(reference(inside)))


def test_the_prediction_is_its_formula():
    """Longhand, with axes that are not named at their dense size."""
    assert TABLE.features({('0', 'out'): 4}) == (4.0, 40)
    assert TABLE.seconds({('0', 'out'): 4}) == 2.0 * 4.0 + 0.5 * 40 + 3.0
    assert TABLE.seconds({('elsewhere', 'out'): 1}) == TABLE.seconds({})


def test_it_comes_back_from_its_file(tmp_path):
    """Saved and loaded it says the same."""
    TABLE.save(tmp_path / 'table.json')
    loaded = LatencyTable.load(tmp_path / 'table.json')
    assert loaded.to_dict() == TABLE.to_dict()
    assert loaded.seconds({('0', 'in'): 5}) == TABLE.seconds({('0', 'in'): 5})


DAMAGES = {
    'no mapping': (lambda data: [data], 'expected a JSON object'),
    'another format': (lambda data: data.update(format='other'), "expected 'mmsharp.latency_table'"),
    'newer': (lambda data: data.update(version=2), 'newer than 1'),
    'no version': (lambda data: data.update(version=True), 'version is True'),
    'missing key': (lambda data: data.pop('scale'), r"missing keys \['scale'\]"),
    'unknown key': (lambda data: data.update(run='rm'), r"unknown keys \['run'\]"),
    'negative coefficient': (lambda data: data.update(constant=-1.0), 'constant is -1.0'),
    'no layers': (lambda data: data.update(layers={}), 'no layers'),
    'unknown kind': (lambda data: data['layers']['0'].update(type='os.system'), "'os.system'"),
    'unknown axis': (lambda data: data['layers']['0'].update(axes={'depth': [1]}), "no axis 'depth'"),
    'sizes that fall': (lambda data: data['layers']['0']['axes'].update(out=[4, 2, 8]), 'rising positive integers'),
    'sizes of text': (lambda data: data['layers']['0']['axes'].update(out=['2', 4, 8]), 'rising positive integers'),
    'ragged': (lambda data: data['layers']['0'].update(seconds=[[1.0], [1.0, 2.0]]), r'array of shape \(3, 2\)'),
    'another shape': (lambda data: data['layers']['0'].update(seconds=[[1.0, 2.0]]), r'array of shape \(3, 2\)'),
    'negative time': (lambda data: data['layers']['0']['seconds'][0].__setitem__(0, -1.0), 'numbers from 0'),
    'faster when larger': (lambda data: data['layers']['0']['seconds'][2].__setitem__(0, 0.1), 'fall where'),
    'elements': (lambda data: data['layers']['0'].update(elements=-1), 'elements is -1'),
    'endless elements': (
        lambda data: data['layers']['0'].update(elements=10**400),
        'elements is an integer of 1329 bits',
    ),
    'elements of truth': (lambda data: data['layers']['0'].update(elements=True), 'elements is True'),
    'endless coefficient': (lambda data: data.update(scale=10**400), 'scale is an integer of 1329 bits'),
    'infinite coefficient': (lambda data: data.update(scale=float('inf')), 'scale is inf'),
    'endless size': (lambda data: data['layers']['0']['axes'].update(out=[2, 4, 10**30]), 'integers up to 16777216'),
    'endless second': (lambda data: data['layers']['0']['seconds'][2].__setitem__(1, 10**400), 'numbers from 0'),
    'infinite second': (lambda data: data['layers']['0']['seconds'][2].__setitem__(1, float('inf')), 'numbers from 0'),
    'times of text': (lambda data: data['layers']['0'].update(seconds=[['1', '2']] * 3), 'numbers from 0'),
    'times of truth': (lambda data: data['layers']['0'].update(seconds=[[False, True]] * 3), 'numbers from 0'),
    'times of one depth': (lambda data: data['layers']['0'].update(seconds=[1.0, 2.0, 3.0]), r'shape \(3, 2\)'),
    'no finite time': (
        lambda data: data['layers']['0'].update(seconds=[[1e308, 1e308]] * 3),
        'no finite sum',
    ),
    'no time at all': (
        lambda data: data.update(scale=0.0, per_element=0.0, constant=0.0),
        'takes no time',
    ),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_file_is_refused(damage, tmp_path):
    """One line that names the file and what is wrong with it."""
    change, words = DAMAGES[damage]
    data = copy.deepcopy(TABLE.to_dict())
    changed = change(data)
    path = tmp_path / 'table.json'
    path.write_text(json.dumps(changed if isinstance(changed, list) else data))
    with pytest.raises(MmsharpError, match=words) as refusal:
        LatencyTable.load(path)
    assert 'table.json' in str(refusal.value)


def test_a_file_that_is_none_is_refused(tmp_path):
    """Missing, or no JSON: with what to do."""
    (tmp_path / 'text.json').write_text('{')
    for name in ('missing.json', 'text.json'):
        with pytest.raises(MmsharpError, match=r'latency_table\.py'):
            LatencyTable.load(tmp_path / name)


@pytest.mark.parametrize(
    ('model', 'words'),
    [
        (nn.Sequential(nn.Conv2d(6, 8, 1)), 'expected a Linear, found a Conv'),
        (nn.Sequential(nn.Linear(6, 7)), 'expected out of 8, found 7'),
        (nn.Flatten(), 'no such layer'),
    ],
)
def test_a_table_of_another_model_is_refused(model, words):
    """With the layer, what was expected and what was found."""
    TABLE.check_fits(nn.Sequential(nn.Linear(6, 8)))
    with pytest.raises(MmsharpError, match=words):
        TABLE.check_fits(model)


def test_lookups_do_not_change_with_their_order():
    """What is remembered is what would be computed."""
    sizes = [{('0', 'out'): out, ('0', 'in'): into} for out in (2, 5, 8) for into in (3, 4)]
    forth = [TABLE.seconds(each) for each in sizes]
    back = [copy.deepcopy(TABLE).seconds(each) for each in reversed(sizes)]
    assert forth == back[::-1]
    assert torch.tensor(forth).isfinite().all()
