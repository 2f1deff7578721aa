"""CelebA-HQ with the attributes and the split of CelebA, as its authors release it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset

from mmsharp.errors import MmsharpError
from mmsharp.registry import DATASETS

IMAGES = 'CelebA-HQ-img'
ATTRIBUTES = 'CelebAMask-HQ-attribute-anno.txt'
MAPPING = 'CelebA-HQ-to-CelebA-mapping.txt'
PARTITION = 'list_eval_partition.txt'
SPLITS = {'train': '0', 'val': '1', 'test': '2'}
WHERE = (
    'get CelebAMask-HQ from https://github.com/switchablenorms/CelebAMask-HQ and, for the split, '
    'list_eval_partition.txt of CelebA from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html into the same folder'
)


@DATASETS.register_module()
class CelebAHQ(BaseDataset):
    """30,000 faces with one of CelebA's 40 attributes as the class: 0 without it, 1 with it.

    The folder as CelebAMask-HQ is released, with CelebA's list of splits in it::

        data_root/CelebA-HQ-img/0.jpg ... 29999.jpg
        data_root/CelebAMask-HQ-attribute-anno.txt
        data_root/CelebA-HQ-to-CelebA-mapping.txt
        data_root/list_eval_partition.txt

    Which task C-SAM (arXiv 2601.20301) trains on this set is not known; the attribute is ours to choose.

    Args:
        data_root: The folder.
        split: ``'train'``, ``'val'`` or ``'test'``, by CelebA's own partition.
        attribute: The name of a column of the annotation file.
        kwargs: As for MMEngine's ``BaseDataset``: ``pipeline``, ``indices`` ...

    Raises:
        MmsharpError: A file is missing or malformed, or split or attribute are unknown.
    """

    def __init__(
        self,
        data_root: str | os.PathLike[str],
        split: str = 'train',
        attribute: str = 'Male',
        **kwargs: Any,
    ) -> None:
        if split not in SPLITS:
            raise MmsharpError(f'CelebAHQ: split is {split!r}; accepted: {", ".join(SPLITS)}')
        self.split = split
        self.attribute = attribute
        kwargs.setdefault('test_mode', split != 'train')
        kwargs.setdefault('metainfo', dict(classes=(f'not {attribute}', attribute)))
        super().__init__(data_root=os.fspath(data_root), **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Path and label of each image of the split."""
        root = Path(self.data_root)
        labels = self._labels(root)
        wanted = {name for name, part in self._rows(root / PARTITION, 2) if part == SPLITS[self.split]}
        found = []
        for number, _, original in self._rows(root / MAPPING, 3):
            if number.isdigit() and original in wanted:
                name = f'{int(number)}.jpg'
                if name not in labels:
                    raise MmsharpError(f'CelebAHQ: {str(root / ATTRIBUTES)!r} has no line for {name}')
                found.append(dict(img_path=str(root / IMAGES / name), gt_label=labels[name]))
        if not found:
            raise MmsharpError(f'CelebAHQ: {str(root)!r} has no image of the split {self.split!r}; {WHERE}')
        return found

    def _labels(self, root: Path) -> dict[str, int]:
        """By file name; the first line is a count, the second names the attributes."""
        lines = self._lines(root / ATTRIBUTES)
        names = lines[1].split() if len(lines) > 1 else []
        if self.attribute not in names:
            raise MmsharpError(
                f'CelebAHQ: attribute {self.attribute!r} is none of {str(root / ATTRIBUTES)!r}: {", ".join(names)}'
            )
        column = names.index(self.attribute)
        found = {}
        for line in lines[2:]:
            name, *values = line.split()
            if len(values) != len(names) or values[column] not in ('1', '-1'):
                raise MmsharpError(f'CelebAHQ: {str(root / ATTRIBUTES)!r} has a malformed line for {name}')
            found[name] = int(values[column] == '1')
        return found

    def _rows(self, path: Path, columns: int) -> Iterator[list[str]]:
        for line in self._lines(path):
            row = line.split()
            if len(row) != columns:
                raise MmsharpError(f'CelebAHQ: {str(path)!r} has a line of {len(row)} columns, expected {columns}')
            yield row

    @staticmethod
    def _lines(path: Path) -> list[str]:
        try:
            return [line for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
        except OSError as error:
            raise MmsharpError(f'CelebAHQ: {str(path)!r} cannot be read ({error.strerror}); {WHERE}') from error
