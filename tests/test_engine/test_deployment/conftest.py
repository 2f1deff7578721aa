"""Trainings to deploy."""

import pytest
import torch
from deployed_training import Trained


@pytest.fixture(scope='module', params=[False, True], ids=['plain', 'ema'])
def trained(request, tmp_path_factory) -> Trained:
    return Trained(tmp_path_factory.mktemp('run'), request.param)


@pytest.fixture(scope='module')
def images() -> torch.Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
