"""What a checkpoint says about pruning is checked before anything relies on it."""

import numpy as np
import pytest
import torch

from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.errors import MmsharpError

DENSE = PruningState().to_dict()


def test_it_comes_back_from_either_place():
    """From a training checkpoint and from the meta of a deployed one; where there is none, the model is dense."""
    state = PruningState().with_input_shape((3, 8, 8))
    for checkpoint in (dict(mmsharp=state.to_dict()), dict(meta=dict(mmsharp=state.to_dict()))):
        assert PruningState.from_checkpoint(checkpoint) == state
    for checkpoint in ({}, dict(meta=None), dict(meta={})):
        assert PruningState.from_checkpoint(checkpoint) == PruningState()


@pytest.mark.parametrize(
    ('checkpoint', 'words'),
    [
        (dict(meta=[1]), "'meta' is a list"),
        (dict(meta='text'), "'meta' is a str"),
        (dict(mmsharp=[1]), "'mmsharp' is a list"),
        (dict(mmsharp=False), "'mmsharp' is a bool"),
        (dict(mmsharp=torch.ones(2)), "'mmsharp' is a Tensor"),
        (dict(meta=dict(mmsharp=np.ones(2))), "'mmsharp' is a ndarray"),
        (dict(mmsharp={}), 'version None'),
        *[
            (dict(mmsharp={**DENSE, 'version': version}), 'has version')
            for version in (torch.ones(2), np.ones(2), True, 1.0, '1')
        ],
        *[(dict(mmsharp={**DENSE, 'state': state}), 'malformed: state') for state in (torch.ones(2), ['slim'], 'fat')],
        *[
            (dict(mmsharp={**DENSE, 'state': 'slim', 'recipe': recipe}), 'recipe')
            for recipe in (torch.ones(2), np.ones(2), [1])
        ],
        *[
            (dict(mmsharp={**DENSE, 'input_shape': shape}), 'input_shape')
            for shape in (
                3,
                [3, 2**20, 2**20],
                'abc',
                [3, 8],
                [3, 8, 0],
                [3, 8, -1],
                [3, 8, 8.0],
                [3, 8, True],
                [3, 8, None],
                {},
            )
        ],
    ],
)
def test_what_is_malformed_is_refused(checkpoint, words):
    """By name."""
    with pytest.raises(MmsharpError, match=words):
        PruningState.from_checkpoint(checkpoint)
