"""The recipe: which channels a slim model kept, as JSON that anyone may hand you.

A recipe lists, for each layer that changed, its kind and per axis the dense size and the kept indices. It is data: it
is checked in full on the way in, and nothing in it is ever executed.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmsharp.errors import MmsharpError, shown
from mmsharp.files import check_keys, read_json, write_json
from mmsharp.pruning.layers import KIND_BY_NAME, PARAMETER_AXIS

FORMAT = 'mmsharp.recipe'
VERSION = 2
MAX_BYTES = 64 * 2**20
MAX_SIZE = 2**24


@dataclass(frozen=True)
class AxisRecipe:
    """One axis of one layer: its dense size, and the kept positions in rising order."""

    size: int
    kept: tuple[int, ...]


@dataclass(frozen=True)
class LayerRecipe:
    """One layer: its kind (a name of the table in ``layers/table.py``) and its axes that changed."""

    kind: str
    axes: Mapping[str, AxisRecipe]


@dataclass(frozen=True)
class Recipe:
    """Kept channels of every layer that changed, by module path.

    Example:
        >>> recipe = Recipe({'fc': LayerRecipe('Linear', {'out': AxisRecipe(4, (0, 2))})})
        >>> Recipe.from_dict(recipe.to_dict()) == recipe
        True
        >>> recipe.to_dict()['modules']
        {'fc': {'type': 'Linear', 'out': {'size': 4, 'kept': [0, 2]}}}
    """

    modules: Mapping[str, LayerRecipe]

    def to_dict(self) -> dict[str, Any]:
        """The recipe in JSON types."""
        modules = {
            path: {
                'type': layer.kind,
                **{name: {'size': axis.size, 'kept': list(axis.kept)} for name, axis in layer.axes.items()},
            }
            for path, layer in self.modules.items()
        }
        return {'format': FORMAT, 'version': VERSION, 'modules': modules}

    @classmethod
    def from_dict(cls, data: Any) -> Recipe:
        """Read and check a recipe in JSON types.

        Raises:
            MmsharpError: Anything is not as :meth:`to_dict` writes it, or the version is newer than this one.
        """
        check_keys(data, 'recipe', {'format', 'version', 'modules'})
        if data['format'] != FORMAT:
            raise MmsharpError(f'recipe: format is {shown(data["format"])}, expected {FORMAT!r}')
        version = _integer(data['version'], 'recipe version', 1, 2**31)
        if version > VERSION:
            raise MmsharpError(
                f'recipe: version {version} is newer than {VERSION}, which this mmsharp reads; upgrade it'
            )
        if not isinstance(data['modules'], Mapping):
            raise MmsharpError(f'recipe: modules is a {type(data["modules"]).__name__}, expected a mapping')
        return cls({_path(path): _layer(path, layer) for path, layer in data['modules'].items()})

    def followed_by(self, later: Recipe) -> Recipe:
        """One recipe for two in a row: what ``later`` keeps of what this one keeps.

        Raises:
            MmsharpError: ``later`` was not written for a network that this recipe leaves; a layer or a size differs.

        Example:
            >>> first = Recipe({'fc': LayerRecipe('Linear', {'out': AxisRecipe(4, (0, 2, 3))})})
            >>> later = Recipe({'fc': LayerRecipe('Linear', {'out': AxisRecipe(3, (1, 2))})})
            >>> first.followed_by(later).modules['fc'].axes['out']
            AxisRecipe(size=4, kept=(2, 3))
        """
        modules = dict(self.modules)
        for path, layer in later.modules.items():
            before = modules.get(path, LayerRecipe(layer.kind, {}))
            if before.kind != layer.kind:
                raise MmsharpError(f'recipe module {shown(path)}: a {layer.kind} cannot follow a {before.kind}')
            axes = dict(before.axes)
            for name, axis in layer.axes.items():
                left = axes.get(name, AxisRecipe(axis.size, tuple(range(axis.size))))
                if axis.size != len(left.kept):
                    raise MmsharpError(
                        f'recipe module {shown(path)}, axis {shown(name)}: expected size {len(left.kept)}, '
                        f'found {axis.size}'
                    )
                axes[name] = AxisRecipe(left.size, tuple(left.kept[index] for index in axis.kept))
            modules[path] = LayerRecipe(layer.kind, axes)
        return Recipe(modules)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recipe as JSON; the file is either whole or not there."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read and check a recipe file.

        Raises:
            MmsharpError: There is no such file, it is larger than 64 MiB, no JSON, has a key twice, or holds no
                valid recipe.
        """
        source = Path(path)
        if not source.is_file():
            raise MmsharpError(
                f'recipe {str(source)!r}: no such file; `tools/slim.py` writes one beside the slim model'
            )
        if source.stat().st_size > MAX_BYTES:
            raise MmsharpError(f'recipe {str(source)!r}: larger than {MAX_BYTES} bytes, which no recipe is')
        data = read_json(source, 'take the file that `tools/slim.py` writes beside the slim model')
        try:
            return cls.from_dict(data)
        except MmsharpError as error:
            raise MmsharpError(f'{source}: {error}') from None


def _layer(path: str, data: Any) -> LayerRecipe:
    if not isinstance(data, Mapping) or 'type' not in data:
        check_keys(data, f'recipe module {shown(path)}', {'type'})
    kind = KIND_BY_NAME.get(data['type']) if isinstance(data['type'], str) else None
    if kind is None:
        raise MmsharpError(
            f'recipe module {shown(path)}: type {shown(data["type"])} is unknown; accepted: '
            f'{", ".join(sorted(KIND_BY_NAME))}'
        )
    names = [name for name in data if name != 'type']
    described = {tensor for axis in kind.axes.values() for tensor in axis.tensors}
    for name in names:
        parameter = PARAMETER_AXIS.fullmatch(name) if isinstance(name, str) else None
        if name not in kind.axes and (parameter is None or parameter[1] in described):
            raise MmsharpError(
                f'recipe module {shown(path)}: a {kind.name} has no axis {shown(name)}; accepted: '
                f'{", ".join([*kind.axes, "<parameter>.<dimension>"])}'
            )
    if not names:
        raise MmsharpError(f'recipe module {shown(path)}: no axis of this {kind.name} is given')
    return LayerRecipe(
        kind.name, {name: _axis(f'recipe module {shown(path)}, axis {shown(name)}', data[name]) for name in names}
    )


def _axis(what: str, data: Any) -> AxisRecipe:
    check_keys(data, what, {'size', 'kept'})
    size = _integer(data['size'], f'{what}: size', 1, MAX_SIZE)
    kept = data['kept']
    if not isinstance(kept, (list, tuple)) or not 1 <= len(kept) <= size:
        raise MmsharpError(f'{what}: kept has to be a list of 1 to {size} indices')
    indices = tuple(_integer(index, f'{what}: kept index', 0, size - 1) for index in kept)
    if any(first >= second for first, second in itertools.pairwise(indices)):
        raise MmsharpError(f'{what}: kept indices have to rise without repetition')
    return AxisRecipe(size, indices)


def _integer(value: Any, what: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise MmsharpError(f'{what} is {shown(value)}, expected an integer from {low} to {high}')
    return value


def _path(path: Any) -> str:
    if not isinstance(path, str):
        raise MmsharpError(f'recipe: module path {shown(path)} is no string')
    return path
