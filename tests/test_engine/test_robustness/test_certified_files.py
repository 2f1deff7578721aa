"""Finished transforms are kept, and never mixed with those of another certification."""

import json

import pytest

from mmsharp.engine.robustness.certified_files import CertifiedFiles, certification_of
from mmsharp.errors import MmsharpError
from mmsharp.files import write_json
from mmsharp.robustness import ImageCertificate, parse_transform

IDENTITY = {'checkpoint_sha256': 'a' * 64, 'config_sha256': 'b' * 64, 'seed': 0, 'versions': {'torch': '2.11'}}
ROTATION = parse_transform('rotation:10')
FOUND = [ImageCertificate('x', 1, 1, 0.25, 10, 0, 1, 0.125, 0.5, 0.75, True, 20)]


def test_what_was_saved_is_loaded(tmp_path):
    """Bit by bit, each transform by itself."""
    files = CertifiedFiles(tmp_path, IDENTITY)
    files.save(ROTATION, FOUND, 1.5)
    assert CertifiedFiles(tmp_path, IDENTITY).load(ROTATION) == (FOUND, 1.5)
    assert files.load(parse_transform('rotation:10+blur:1')) is None
    assert [path.name for path in (tmp_path / 'certification').iterdir()] == ['rotation-10.json']


def test_another_certification_is_refused_by_what_differs(tmp_path):
    """The message names the field and both values."""
    CertifiedFiles(tmp_path, IDENTITY).save(ROTATION, FOUND, 1.5)
    with pytest.raises(MmsharpError, match='seed: was 0, is 1'):
        CertifiedFiles(tmp_path, {**IDENTITY, 'seed': 1}).load(ROTATION)


@pytest.mark.parametrize('damage', ['{', '{}', '[]'])
def test_a_damaged_file_is_named_with_its_remedy(tmp_path, damage):
    """Nothing is certified over it silently."""
    files = CertifiedFiles(tmp_path, IDENTITY)
    files.path(ROTATION).write_text(damage)
    with pytest.raises(MmsharpError, match=r'rotation-10\.json.*remove it'):
        files.load(ROTATION)


def test_certificates_with_other_fields_are_refused(tmp_path):
    """As of another version."""
    files = CertifiedFiles(tmp_path, IDENTITY)
    files.save(ROTATION, FOUND, 1.5)
    content = json.loads(files.path(ROTATION).read_text())
    content['certificates'][0]['more'] = 1
    files.path(ROTATION).write_text(json.dumps(content))
    with pytest.raises(MmsharpError, match='other fields'):
        files.load(ROTATION)


def test_one_folder_is_of_one_model(tmp_path):
    """The corruption grid of another checkpoint or config in the folder is refused, that of this one is not."""
    write_json(tmp_path / 'identity.json', {**IDENTITY, 'seed': 7, 'backend': 'mmsharp'})
    CertifiedFiles(tmp_path, IDENTITY)
    with pytest.raises(MmsharpError, match='checkpoint_sha256 differs'):
        CertifiedFiles(tmp_path, {**IDENTITY, 'checkpoint_sha256': 'c' * 64})


def test_a_report_takes_the_certification_of_its_own_model(tmp_path):
    """And leaves out that of another one."""
    write_json(tmp_path / 'certification.json', {'identity': IDENTITY, 'transforms': []})
    assert certification_of(tmp_path, IDENTITY)['identity'] == IDENTITY
    assert certification_of(tmp_path, {**IDENTITY, 'config_sha256': ''}) is None
