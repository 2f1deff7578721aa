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
    other = CertifiedFiles(tmp_path, {**IDENTITY, 'seed': 1})
    CertifiedFiles(tmp_path, IDENTITY).save(ROTATION, FOUND, 1.5)
    with pytest.raises(MmsharpError, match='seed: was 0, is 1'):
        other.load(ROTATION)


def test_a_folder_of_another_certification_is_refused_whatever_is_asked_for(tmp_path):
    """At once, before anything is certified beside it."""
    CertifiedFiles(tmp_path, IDENTITY).save(ROTATION, FOUND, 1.5)
    with pytest.raises(MmsharpError, match=r'rotation-10\.json is of another certification: seed: was 0, is 1'):
        CertifiedFiles(tmp_path, {**IDENTITY, 'seed': 1})


def test_finished_transforms_are_known_from_the_folder(tmp_path):
    """Those of earlier calls too; what a killed process has left half is none."""
    files = CertifiedFiles(tmp_path, IDENTITY)
    blur = parse_transform('blur:1')
    for transform in (ROTATION, blur):
        files.save(transform, FOUND, 1.5)
    (files.folder / '.gamma-2.json.1.part').write_text('{')
    (files.folder / '.hidden.json').write_text('{')
    assert list(map(str, CertifiedFiles(tmp_path, IDENTITY).finished())) == ['blur:1', 'rotation:10']


@pytest.mark.parametrize('name', ['blur-2.json', 'mine.json'])
def test_a_renamed_file_is_refused(tmp_path, name):
    """No transform is counted twice or under another's name."""
    files = CertifiedFiles(tmp_path, IDENTITY)
    files.save(ROTATION, FOUND, 1.5)
    files.path(ROTATION).rename(files.folder / name)
    with pytest.raises(MmsharpError, match=r'holds the transform rotation:10.*remove it'):
        CertifiedFiles(tmp_path, IDENTITY)


def test_long_compositions_have_short_names_of_their_own(tmp_path):
    """Names of files are bounded, differ where the ends alone differ, and lead back to the transform."""
    files = CertifiedFiles(tmp_path, IDENTITY)
    long = [parse_transform('+'.join(['brightness:0.123456789'] * 40 + [end])) for end in ('blur:1', 'blur:2')]
    files.check_writable(long)
    for number, transform in enumerate(long):
        files.save(transform, FOUND, number)
    assert [files.load(transform)[1] for transform in long] == [0, 1]
    assert set(map(str, files.finished())) == set(map(str, long))
    assert max(len(path.name) for path in files.folder.iterdir()) <= 105


def test_what_cannot_be_kept_is_found_before_the_work(tmp_path):
    """The file and the reason are named."""
    files = CertifiedFiles(tmp_path, IDENTITY)
    files.folder.rmdir()
    files.folder.touch()
    with pytest.raises(MmsharpError, match=r'rotation-10\.json cannot be written \(NotADirectoryError.*--work-dir'):
        files.check_writable([ROTATION])


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
