"""Certifications of several models side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmsharp.robustness.results import describe_differences

OF_THE_MODEL = frozenset({'checkpoint_sha256', 'config_sha256'})
"""What two certifications that compare may differ in."""


def compare_certifications(found: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """The transforms under which all certified models were certified, and what keeps them from being comparable.

    Args:
        found: Content of ``certification.json`` by the name of the run, ``None`` where a run was not certified; the
            first that was is what the others are compared with.

    Returns:
        ``transforms`` (of each its name under ``transform``, and ``runs``: ``name`` with the scores of
        :meth:`mmsharp.robustness.CertificationScores.to_dict`) and ``notes``; ``None`` if fewer than two were
        certified.

    Example:
        >>> one = dict(identity=dict(seed=0), transforms=[dict(transform='blur:1', clean_accuracy=0.5)])
        >>> two = dict(identity=dict(seed=1), transforms=[dict(transform='blur:1', clean_accuracy=0.4)])
        >>> both = compare_certifications(dict(dense=one, slim=two, other=None))
        >>> [(each['transform'], [run['clean_accuracy'] for run in each['runs']]) for each in both['transforms']]
        [('blur:1', [0.5, 0.4])]
        >>> both['notes']
        ['slim was certified otherwise than dense: seed: was 0, is 1', 'other was not certified']
    """
    certified = {name: summary for name, summary in found.items() if summary is not None}
    if len(certified) < 2:
        return None
    scores = {name: {each['transform']: each for each in summary['transforms']} for name, summary in certified.items()}
    first = next(iter(certified))
    notes = []
    for name, summary in list(certified.items())[1:]:
        differences = describe_differences(_comparable(certified[first]), _comparable(summary))
        if differences:
            notes.append(f'{name} was certified otherwise than {first}: {"; ".join(differences)}')
    notes += [f'{name} was not certified' for name in found if name not in certified]
    everything = dict.fromkeys(transform for of_run in scores.values() for transform in of_run)
    for transform in everything:
        lacking = [name for name, of_run in scores.items() if transform not in of_run]
        if lacking:
            notes.append(f'{transform} is left out: {", ".join(lacking)} was not certified under it')
    return {
        'transforms': [
            {
                'transform': transform,
                'runs': [{'name': name, **_without_bounds(of_run[transform])} for name, of_run in scores.items()],
            }
            for transform in everything
            if all(transform in of_run for of_run in scores.values())
        ],
        'notes': notes,
    }


def _comparable(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary['identity'].items() if name not in OF_THE_MODEL}


def _without_bounds(scores: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in scores.items() if name != 'bounds'}
