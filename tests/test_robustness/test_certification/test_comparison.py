"""Certified models are compared under what all of them were certified under."""

from mmsharp.robustness import compare_certifications


def certified(transforms, **identity):
    known = dict(checkpoint_sha256=str(identity), config_sha256='c', seed=0, draws=100)
    scores = [dict(transform=name, clean_accuracy=0.5, bounds=dict(bound=[0.1])) for name in transforms]
    return dict(identity={**known, **identity}, transforms=scores)


def test_transforms_of_all_stand_side_by_side():
    """In the order of the first, without the bounds of single images, and no word where nothing differs."""
    both = compare_certifications(
        dict(dense=certified(['blur:1', 'rotation:10']), slim=certified(['rotation:10', 'blur:1']))
    )
    assert both['notes'] == []
    assert [each['transform'] for each in both['transforms']] == ['blur:1', 'rotation:10']
    for each in both['transforms']:
        assert [run['name'] for run in each['runs']] == ['dense', 'slim']
        assert all('bounds' not in run and run['clean_accuracy'] == 0.5 for run in each['runs'])


def test_what_differs_and_what_lacks_is_said():
    """Another seed, a transform of one alone, a run without certification."""
    found = compare_certifications(
        {'dense': certified(['blur:1', 'gamma:2']), 'none': None, 'slim': certified(['blur:1'], seed=3)}
    )
    assert [each['transform'] for each in found['transforms']] == ['blur:1']
    assert found['notes'] == [
        'slim was certified otherwise than dense: seed: was 0, is 3',
        'none was not certified',
        'gamma:2 is left out: slim was not certified under it',
    ]


def test_one_certified_run_is_not_compared():
    """Nor none."""
    assert compare_certifications({'dense': certified(['blur:1']), 'slim': None}) is None
    assert compare_certifications({'dense': None, 'slim': None}) is None
