"""A sampler gives a test the images that a certification takes."""

import pytest
from mmengine.registry import DATA_SAMPLERS
from two_processes import in_two_processes

from mmsharp.datasets import ChosenImages, chosen_images
from mmsharp.errors import MmsharpError
from mmsharp.evaluation import CertifiedRobustness
from mmsharp.robustness.certification import choose_images

FIELDS = dict(label=1, margin=0.4, draws=1000, reached=0, bound=1e-9, capped_bound=0.006, exact_bound=0.007)
FIELDS |= dict(right_on_grid=None, grid_points=0, changed=0)


def test_the_images_are_those_of_the_tool_whatever_the_seed_of_the_run():
    """Built as MMEngine builds samplers, from a config that inherits another's arguments."""
    config = dict(type='mmsharp.ChosenImages', images=20, choice_seed=3, shuffle=False)
    for seed in (None, 0, 7):
        sampler = DATA_SAMPLERS.build(config, default_args=dict(dataset=range(1000), seed=seed))
        assert list(sampler) == list(sampler) == choose_images(1000, 20, 3)
        assert len(sampler) == 20


@pytest.mark.parametrize('processes', [1, 2, 3, 8])
def test_processes_share_the_images_without_repeating_one(processes, monkeypatch):
    """Also where they do not divide."""
    parts = []
    for rank in range(processes):
        monkeypatch.setattr(chosen_images, 'get_dist_info', lambda rank=rank: (rank, processes))
        parts.append(list(ChosenImages(range(100), images=7)))
    assert sorted(index for part in parts for index in part) == choose_images(100, 7, 0)


@pytest.mark.parametrize(('options', 'said'), [(dict(images=0), '0 images cannot'), (dict(shuffle=True), 'shuffle')])
def test_other_samplings_are_refused(options, said):
    """With what to do."""
    with pytest.raises(MmsharpError, match=said):
        ChosenImages(range(10), **options)


def share(rank):
    """What the metric finds of five images of eleven, of which those of even index are classified rightly."""
    metric = CertifiedRobustness('blur:1', settings=dict(grid=0))
    for index in ChosenImages(range(11), images=5):
        metric.results.append({'blur:1': dict(image=str(index), predicted=1 - index % 2, **FIELDS)})
    return metric.evaluate(11)['certified/blur:1/accuracy']


def test_the_metric_joins_what_two_processes_found(tmp_path, monkeypatch):
    """Three images there, two here: each counts once."""
    monkeypatch.chdir(tmp_path)
    even = [index % 2 == 0 for index in choose_images(11, 5, 0)]
    assert in_two_processes(share, tmp_path) == [100 * sum(even) / 5] * 2
    assert 0 < sum(even) < 5
