from pathlib import Path

from environment.leftovers import is_whole, remove_unfinished


def distribution(folder: Path, name: str, record: bool = True) -> Path:
    """Write a distribution of one module; without a record it looks like one whose installation was killed."""
    metadata = folder / f'{name}-1.0.dist-info'
    metadata.mkdir(parents=True)
    (folder / f'{name}.py').write_text('')
    (metadata / 'METADATA').write_text(f'Name: {name}\n')
    if record:
        lines = [
            f'{name}.py,,',
            f'__pycache__/{name}.pyc,,',
            f'{metadata.name}/METADATA,,',
            f'{metadata.name}/RECORD,,',
        ]
        (metadata / 'RECORD').write_text('\n'.join(lines))
    return metadata


def test_a_whole_distribution_stays(tmp_path: Path) -> None:
    """All files of the record are there: whole, and compiled files do not count."""
    metadata = distribution(tmp_path, 'whole')
    assert is_whole(metadata)
    assert remove_unfinished(tmp_path) == []
    assert metadata.is_dir()


def test_a_distribution_without_record_goes(tmp_path: Path) -> None:
    """pip writes the record last, so without it the installation was cut off."""
    metadata = distribution(tmp_path, 'cut', record=False)
    assert remove_unfinished(tmp_path) == ['cut-1.0']
    assert not metadata.exists()


def test_a_distribution_with_a_missing_file_goes(tmp_path: Path) -> None:
    """A listed file that is missing makes pip's "already satisfied" a lie."""
    distribution(tmp_path, 'gone')
    (tmp_path / 'gone.py').unlink()
    assert remove_unfinished(tmp_path) == ['gone-1.0']


def test_what_pip_set_aside_goes(tmp_path: Path) -> None:
    """A killed uninstallation leaves folders that begin with a tilde."""
    (tmp_path / '~orch').mkdir()
    assert remove_unfinished(tmp_path) == ['~orch']
