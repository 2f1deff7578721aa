"""A runner of MMEngine's kind, by name or by class, or a refusal."""

import pytest
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmsharp.engine.configs.building_runner import build_runner
from mmsharp.errors import MmsharpError


@RUNNERS.register_module(force=True)
class OwnRunner(Runner):
    """One of the user's own."""

    @classmethod
    def from_cfg(cls, cfg):
        return cls(**{key: value for key, value in cfg.items() if key != 'runner_type'})


@pytest.mark.parametrize('kind', ['OwnRunner', OwnRunner])
def test_runners_of_the_users_own(kind, monkeypatch):
    """As MMEngine's builder takes them."""
    monkeypatch.setattr(OwnRunner, '__init__', lambda self, **_: None)
    assert type(build_runner(Config(dict(runner_type=kind)))) is OwnRunner


@pytest.mark.parametrize('kind', ['FlexibleRunner', 'Nowhere', Config])
def test_other_kinds_are_refused(kind):
    """By name, before anything is built."""
    with pytest.raises(MmsharpError, match='no kind of mmengine'):
        build_runner(Config(dict(runner_type=kind)))
