"""The table of families and the folders that the toolboxes bring."""

import pytest

from mmsharp.engine.prunability.families import FAMILIES, SIZES, TOOLBOXES, config_folder, in_scope, packaged_config
from mmsharp.errors import MmsharpError


@pytest.mark.parametrize('toolbox', TOOLBOXES)
def test_every_packaged_folder_is_in_the_table(toolbox):
    """A family that a new release brings, or drops, is noticed."""
    pytest.importorskip(toolbox)
    folders = {path.name for path in config_folder(toolbox).iterdir() if path.is_dir()}
    assert folders - {'_base_', '__pycache__'} == set(FAMILIES[toolbox])


@pytest.mark.parametrize('toolbox', TOOLBOXES)
def test_a_family_has_a_config_or_a_reason(toolbox):
    """What is measured exists, and what is not says why; exactly one of the two."""
    pytest.importorskip(toolbox)
    for name, family in FAMILIES[toolbox].items():
        assert (family.config is None) == (family.reason is not None), name
    for name, family in in_scope(toolbox):
        assert packaged_config(toolbox, name).is_file(), name
        assert (family.size or SIZES[toolbox]) % 2 == 0 or name == 'inception_v3'


def test_a_family_out_of_scope_is_refused_with_its_reason():
    """The error says why, and what to do."""
    with pytest.raises(MmsharpError, match=r"'glip' of mmdet is out of scope \(takes text\); give the path"):
        packaged_config('mmdet', 'glip')


def test_an_unknown_toolbox_is_refused():
    """The accepted ones are named."""
    with pytest.raises(MmsharpError, match=r"'mmseg' is unknown; accepted: mmdet, mmpretrain"):
        config_folder('mmseg')
