"""Certificates of finished transforms in a results folder, a file for each, there as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmsharp.errors import MmsharpError, one_line
from mmsharp.files import read_json, write_json
from mmsharp.robustness import ImageCertificate, ImageTransform, describe_differences, parse_transform
from mmsharp.robustness.results import IDENTITY

FOLDER = 'certification'
SUMMARY = 'certification.json'
KEYS = ('identity', 'transform', 'seconds', 'certificates')
SHARED = ('checkpoint_sha256', 'config_sha256')
"""What a certification and a corruption grid in one folder have to have in common."""
LONGEST = 100
"""Characters of a file's name without its ending; file systems end at 143 to 255."""
DIGITS = 16
"""Of the hash at the end of a name that is cut."""
ADVICE = 'remove it to certify that transform again'


class CertifiedFiles:
    """The finished transforms of one certification.

    Args:
        folder: The results folder; ``certification/`` in it is made.
        identity: What the certificates depend on, in JSON types.

    Raises:
        MmsharpError: The folder holds a corruption grid of another checkpoint or config, or a transform of another
            certification, or a damaged file.

    Example:
        >>> import tempfile
        >>> from mmsharp.robustness import parse_transform
        >>> files = CertifiedFiles(tempfile.mkdtemp(), {'seed': 0})
        >>> files.load(parse_transform('rotation:10')) is None
        True
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any]) -> None:
        self.folder = Path(folder) / FOLDER
        self.identity = json.loads(json.dumps(identity, allow_nan=False))
        grid = Path(folder) / IDENTITY
        if grid.is_file():
            known = read_json(grid, 'choose another --work-dir')
            pairs = [(name, known.get(name), self.identity.get(name)) for name in SHARED]
            different = [name for name, there, here in pairs if there is not None and there != here]
            if different:
                raise MmsharpError(
                    f'{folder} holds the corruption grid of another model ({", ".join(different)} differs); choose '
                    'another --work-dir'
                )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.finished()

    def path(self, transform: ImageTransform) -> Path:
        """The file of a transform; where its name is long, cut, with a hash of the whole at the end."""
        name = str(transform).replace(':', '-')
        if len(name) > LONGEST:
            digest = hashlib.sha256(name.encode()).hexdigest()[:DIGITS]
            name = f'{name[: LONGEST - DIGITS - 1]}~{digest}'
        return self.folder / f'{name}.json'

    def check_writable(self, transforms: Sequence[ImageTransform]) -> None:
        """Be sure that what is about to be certified can be kept.

        Raises:
            MmsharpError: A file cannot be written.
        """
        for path in map(self.path, transforms):
            probe = path.with_name(f'.{path.name}.{os.getpid()}.part')
            try:
                probe.touch()
                probe.unlink()
            except OSError as error:
                raise MmsharpError(
                    f'{path} cannot be written ({one_line(error)}); choose another --work-dir'
                ) from error

    def finished(self) -> tuple[ImageTransform, ...]:
        """The transforms that are finished, sorted by the names of their files.

        Raises:
            MmsharpError: A file is damaged, or of another certification.
        """
        return tuple(self._content(path)[0] for path in sorted(self.folder.glob('[!.]*.json')))

    def load(self, transform: ImageTransform) -> tuple[list[ImageCertificate], float] | None:
        """Certificates and seconds of a finished transform; ``None`` where it is not finished.

        Raises:
            MmsharpError: The file is damaged, or its certificates are of another certification.
        """
        path = self.path(transform)
        if not path.is_file():
            return None
        content = self._content(path)[1]
        try:
            return [ImageCertificate(**found) for found in content['certificates']], float(content['seconds'])
        except (TypeError, ValueError) as error:
            raise MmsharpError(f'{path} holds other fields than certificates have ({error}); {ADVICE}') from error

    def save(self, transform: ImageTransform, certificates: Sequence[ImageCertificate], seconds: float) -> None:
        """Keep a finished transform."""
        content = {
            'identity': self.identity,
            'transform': str(transform),
            'seconds': seconds,
            'certificates': [found.to_dict() for found in certificates],
        }
        write_json(self.path(transform), content)

    def _content(self, path: Path) -> tuple[ImageTransform, dict[str, Any]]:
        """A finished transform and what its file holds, which has to be of this certification."""
        content = read_json(path, ADVICE, KEYS)
        differences = describe_differences(content['identity'], self.identity)
        if differences:
            raise MmsharpError(
                f'{path} is of another certification: {"; ".join(differences)}. Choose another --work-dir, or remove '
                'the file if it is no longer needed'
            )
        try:
            transform = parse_transform(content['transform'])
        except MmsharpError as error:
            raise MmsharpError(f'{path}: {error}; or {ADVICE}') from error
        if self.path(transform) != path:
            raise MmsharpError(f'{path} holds the transform {transform}, whose file has another name; {ADVICE}')
        return transform, content


def certification_of(folder: str | Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The certification that a results folder holds, if it is of the checkpoint and the config of an identity.

    Example:
        >>> certification_of('missing', {}) is None
        True
    """
    path = Path(folder) / SUMMARY
    if not path.is_file():
        return None
    found = read_json(path, 'remove it, or certify again', ('identity', 'transforms'))
    return found if all(found['identity'].get(name) == identity.get(name) for name in SHARED) else None
