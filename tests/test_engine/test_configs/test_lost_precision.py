"""Mixed precision does not get lost unnoticed where our type replaces AmpOptimWrapper and no other key was left."""

import importlib.util
import sys
from pathlib import Path

import pytest

from mmsharp.engine.configs import lost_precision
from mmsharp.engine.configs.config import load_config, settle_amp
from mmsharp.engine.configs.lost_precision import mixed_precision_base, warn_of_lost_precision
from mmsharp.errors import MmsharpError

OURS = "optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='SAM'))\n"
OURS_LAZY = """
from mmsharp.engine.optim_wrappers import SAMOptimWrapper
from mmsharp.sharpness import SAM
optim_wrapper.update(dict(type=SAMOptimWrapper, ascent=dict(type=SAM)))
"""


def lazy(base: str, text: str) -> str:
    return f'from mmengine.config import read_base\nwith read_base():\n    from {base} import *\n{text}'


def lazy_wrapper(name: str) -> str:
    return (
        f'from mmengine.optim import {name}\nfrom torch.optim import SGD\n'
        f'optim_wrapper = dict(type={name}, optimizer=dict(type=SGD, lr=0.1))\n'
    )


MODEL = "model = dict(type='A')\n"
TEXT = "optim_wrapper = dict(type='AmpOptimWrapper', optimizer=dict(type='SGD', lr=0.1))\n"
PLAIN = TEXT.replace('AmpOptimWrapper', 'OptimWrapper')
CHAINS = dict(
    text=(MODEL + TEXT, "_base_ = 'base.py'\n" + OURS),
    list_of_bases=(MODEL + TEXT, "_base_ = ['base.py']\n" + OURS),
    scoped=(MODEL + TEXT.replace('Amp', 'mmengine.Amp'), "_base_ = 'base.py'\n" + OURS),
    base_that_imports=('import torch.nn\n' + MODEL + TEXT, "_base_ = 'base.py'\n" + OURS),
    pure_python=(MODEL + lazy_wrapper('AmpOptimWrapper'), lazy('.base', OURS_LAZY)),
)
HARMLESS = dict(
    text=(MODEL + PLAIN, "_base_ = 'base.py'\n" + OURS),
    pure_python=(MODEL + lazy_wrapper('OptimWrapper'), lazy('.base', OURS_LAZY)),
    comment=(MODEL + PLAIN, "_base_ = 'base.py'  # AmpOptimWrapper gave worse results\n" + OURS),
    nothing_of_ours=(MODEL + TEXT, "_base_ = 'base.py'\n"),
    mixed_precision_of_ours=(MODEL + TEXT, "_base_ = 'base.py'\n" + OURS.replace('SAMOptim', 'AmpSAMOptim')),
)


@pytest.fixture
def warnings(monkeypatch):
    """What is logged."""
    lines = []
    monkeypatch.setattr(lost_precision, 'print_log', lambda message, *_: lines.append(message))
    return lines


def write(folder, **files):
    for name, text in files.items():
        (folder / f'{name}.py').write_text(text)


@pytest.mark.parametrize(('base', 'config'), CHAINS.values(), ids=CHAINS)
def test_the_base_and_the_remedy_are_named(tmp_path, warnings, base, config):
    """By a text config or a pure-Python one, whose type is the class itself."""
    write(tmp_path, base=base, config=config)
    warn_of_lost_precision(load_config(tmp_path / 'config.py'))
    (line,) = warnings
    for words in (str(tmp_path / 'base.py'), 'AmpOptimWrapper', 'SAMOptimWrapper', "type='mmsharp.AmpSAMOptimWrapper'"):
        assert words in line


@pytest.mark.parametrize(('base', 'config'), HARMLESS.values(), ids=HARMLESS)
def test_nothing_is_said_where_nothing_is_lost(tmp_path, warnings, base, config):
    """The base trains in full precision, or mixed precision stays."""
    write(tmp_path, base=base, config=config)
    warn_of_lost_precision(load_config(tmp_path / 'config.py'))
    assert warnings == []


@pytest.mark.parametrize('pure_python', [False, True])
def test_the_base_may_be_further_down(tmp_path, pure_python):
    """Below a base with our type already; and a wrapper of full precision between ends the search."""
    (tmp_path / 'inner').mkdir()
    if pure_python:
        write(tmp_path / 'inner', base=MODEL + lazy_wrapper('AmpOptimWrapper'))
        write(tmp_path, ours=lazy('.inner.base', OURS_LAZY), config=lazy('.ours', 'a = 1\n'))
        plain = 'from mmengine.optim import OptimWrapper\noptim_wrapper.update(dict(type=OptimWrapper))\n'
        write(tmp_path / 'inner', plain=lazy('.base', plain), up=lazy('..ours', 'b = 1\n'))
        write(tmp_path, full=lazy('.inner.plain', OURS_LAZY))
    else:
        write(tmp_path / 'inner', base=MODEL + TEXT)
        write(tmp_path, ours="_base_ = 'inner/base.py'\n" + OURS, config="_base_ = ['ours.py']\na = 1\n")
        plain = "_base_ = 'base.py'\noptim_wrapper = dict(type='OptimWrapper')\n"
        write(tmp_path / 'inner', plain=plain, up="_base_ = '../ours.py'\n")
        write(tmp_path, full="_base_ = 'inner/plain.py'\n" + OURS)
    for config in ('config.py', 'inner/up.py'):
        assert mixed_precision_base(tmp_path / config) == str(tmp_path / 'inner' / 'base.py')
    assert mixed_precision_base(tmp_path / 'full.py') is None


def test_a_type_from_the_command_line_replaces_it_too(tmp_path, warnings):
    """Then the config itself is what trained in mixed precision; --amp keeps that."""
    write(tmp_path, config=MODEL + TEXT)
    options = {'optim_wrapper.type': 'mmsharp.SAMOptimWrapper', 'optim_wrapper.ascent.type': 'SAM'}
    config = load_config(tmp_path / 'config.py', options)
    warn_of_lost_precision(config)
    assert len(warnings) == 1
    assert str(tmp_path / 'config.py') in warnings[0]
    settle_amp(config)
    warn_of_lost_precision(config)
    assert len(warnings) == 1


def test_our_tool_says_so_before_it_does_anything(tmp_path, warnings, monkeypatch):
    """Before it looks for the data, which is missing here; not with --amp."""
    missing = "train_dataloader = dict(dataset=dict(type='A', data_root='nowhere'))\n"
    write(tmp_path, base=MODEL + TEXT + missing, config="_base_ = 'base.py'\n" + OURS)
    path = Path(__file__).parents[3] / 'tools' / 'train.py'
    spec = importlib.util.spec_from_file_location('tool_train', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(tmp_path)
    for arguments, count in (([], 1), (['--amp'], 1)):
        monkeypatch.setattr(sys, 'argv', ['train.py', 'config.py', *arguments])
        with pytest.raises(MmsharpError, match='data_root'):
            tool.main()
        assert len(warnings) == count


def test_a_base_in_a_package_is_found(tmp_path, monkeypatch):
    """As pure-Python configs name those of the toolboxes."""
    package = tmp_path / 'package_of_configs'
    (package / 'parts').mkdir(parents=True)
    (package / '__init__.py').write_text('')
    write(package / 'parts', base=MODEL + lazy_wrapper('AmpOptimWrapper'))
    write(tmp_path, config=lazy('package_of_configs.parts.base', OURS_LAZY))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert mixed_precision_base(tmp_path / 'config.py') == str(package / 'parts' / 'base.py')


@pytest.mark.filterwarnings('ignore')  # configs use what the toolboxes have deprecated
@pytest.mark.parametrize('toolbox', ['mmdet', 'mmpretrain'])
def test_packaged_bases_are_found(tmp_path, toolbox):
    """Every config that chooses mixed precision by type, under a text config of ours with a scoped base."""
    pytest.importorskip(toolbox)
    root = Path(importlib.util.find_spec(toolbox).origin).parent / '.mim' / 'configs'
    chosen = [path for path in sorted(root.rglob('*.py')) if "type='AmpOptimWrapper'" in path.read_text('utf-8')]
    assert chosen
    for path in chosen:
        write(tmp_path, config=f'_base_ = {str(path)!r}\n{OURS}')
        assert mixed_precision_base(tmp_path / 'config.py') == str(path)
    inside = chosen[0].relative_to(root)
    write(tmp_path, config=f"_base_ = '{toolbox}::{inside.as_posix()}'\n{OURS}")
    assert mixed_precision_base(tmp_path / 'config.py') == str(chosen[0])
