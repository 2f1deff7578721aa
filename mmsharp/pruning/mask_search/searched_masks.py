"""The variables of a mask search as a module, beside the network whose masks they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search.hard_masks import hard_mask, straight_through
from mmsharp.pruning.mask_search.parameterisations import Parameterisation
from mmsharp.pruning.mask_search.units import MaskUnits


class SearchedMasks(nn.Module):
    """One variable per mask. Not begun, searching, finished: buffers of the state dict say which.

    The network keeps its own weights under their own names; masked ones are computed for each pass and handed to
    ``torch.func.functional_call``. (``torch.nn.utils.parametrize`` would rename every masked weight in the state dict,
    and neither dense checkpoints nor the pruning of channels would find it.)

    Args:
        units: What is masked.
        parameterisation: What is learned in place of a mask.

    Raises:
        MmsharpError: The parameterisation cannot lead to as few ones.

    Example:
        >>> from mmsharp.pruning.mask_search import Soft, WeightUnits
        >>> model = nn.Linear(4, 1)
        >>> _ = model.weight.data.copy_(torch.tensor([[4.0, -3.0, 2.0, 1.0]]))
        >>> masks = SearchedMasks(WeightUnits(model, ratio=0.5), Soft(percentile=100))
        >>> masks.begin_(model)
        >>> masks.soft()['weight']
        tensor([[1.0000, 0.7500, 0.5000, 0.2500]], grad_fn=...)
        >>> masks.finish_(model)
        >>> model.weight.tolist()
        [[4.0, -3.0, 0.0, 0.0]]
    """

    begun: Tensor
    finished: Tensor

    def __init__(self, units: MaskUnits, parameterisation: Parameterisation) -> None:
        super().__init__()
        for name, shape in units.shapes.items():
            parameterisation.check(name, torch.Size(shape).numel(), units.kept[name])
        self.units = units
        self.parameterisation = parameterisation
        self.variables = nn.ParameterDict({_key(name): torch.ones(shape) for name, shape in units.shapes.items()})
        self.register_buffer('begun', torch.tensor(False))
        self.register_buffer('finished', torch.tensor(False))

    def by_name(self) -> dict[str, Tensor]:
        """The variables, by the names of the masks."""
        return {name: self.variables[_key(name)] for name in self.units.shapes}

    @torch.no_grad()
    def begin_(self, model: nn.Module) -> None:
        """Set the variables from the model's weights of now; nothing happens at a second call.

        Raises:
            MmsharpError: A weight is not finite; or masks that were loaded are binary, with another number of ones.
        """
        if self.finished:
            self._check_counts()
        if self.begun:
            return
        for name, values in self.units.values(model).items():
            if not values.isfinite().all():
                raise MmsharpError(
                    f'mask search: {name!r} holds weights that are not finite; start from a sound network'
                )
            first = self.parameterisation.initial(values.float(), self.units.fan_in(name))
            self.variables[_key(name)].copy_(first)
        self.begun.fill_(True)

    def soft(self, moved: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The masks of a forward pass, differentiable in the variables.

        Args:
            moved: What a perturbation adds to each variable.

        Raises:
            MmsharpError: A binary mask is to be made of a variable that is not finite.
        """
        if self.finished:
            return self.by_name()
        found = {}
        for name, variable in self.by_name().items():
            here = variable if moved is None else variable + moved[name].to(variable)
            with _naming(name):
                found[name] = self.parameterisation.mask(here, self.units.kept[name])
        return found

    def hard(self, model: nn.Module) -> dict[str, Tensor]:
        """The binary masks of now, exact in number, straight through to the variables; larger weights win ties.

        Raises:
            MmsharpError: A variable is not finite.
        """
        if self.finished:
            return self.by_name()
        magnitudes = self.units.values(model)
        found = {}
        for name, variable in self.by_name().items():
            rank = self.parameterisation.rank(variable)
            with _naming(name):
                binary = hard_mask(rank, self.units.kept[name], magnitudes[name].abs())
            found[name] = straight_through(binary, rank)
        return found

    def masked(self, model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The masked parameters, by name."""
        return self.units.masked(model, masks)

    def project_(self) -> None:
        """Bring the variables back to where they are defined."""
        if not self.finished:
            for variable in self.variables.values():
                self.parameterisation.project_(variable)

    @torch.no_grad()
    def finish_(self, model: nn.Module, masks: Mapping[str, Tensor] | None = None) -> None:
        """Binarise: the variables become the binary masks for good, and masked parameters of the model the products.

        Args:
            model: The network, or an average of its weights.
            masks: The binary masks, where they are known already; by default those of now.

        Raises:
            MmsharpError: A variable is not finite; nothing has been changed then.
        """
        binary = {name: mask.detach().clone() for name, mask in (masks or self.hard(model)).items()}
        for name, variable in self.by_name().items():
            variable.copy_(binary[name])
        for name, product in self.masked(model, binary).items():
            model.get_parameter(name).copy_(product)
        self.begun.fill_(True)
        self.finished.fill_(True)

    def _check_counts(self) -> None:
        for name, mask in self.by_name().items():
            ones, kept = int(mask.count_nonzero()), self.units.kept[name]
            if ones != kept:
                raise MmsharpError(
                    f'mask search: the search that was loaded has ended with {ones} of {mask.numel()} entries kept in '
                    f'{name!r}, and the settings of now keep {kept}; go on with the ratio or budget that it was '
                    'searched with, or begin a new search from a dense model'
                )


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Errors inside say which mask they are about."""
    try:
        yield
    except MmsharpError as error:
        raise MmsharpError(f'mask search: {name!r}: {error}') from None


def _key(name: str) -> str:
    """The name of a mask as a key of ``ParameterDict``, which takes no dots."""
    return name.replace('.', '/')
