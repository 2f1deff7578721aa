"""Which modules own a parameter: tied layers are several, a module that is called by several names is one."""

from __future__ import annotations

from torch import nn


def parameter_owners(model: nn.Module) -> dict[int, list[str]]:
    """The names of every parameter by its ``id``, one for each module that has it as its own.

    Example:
        >>> model = nn.ModuleDict(dict(a=nn.Linear(1, 1, bias=False), b=nn.Linear(1, 1, bias=False)))
        >>> model['b'].weight, model['c'] = model['a'].weight, model['b']
        >>> parameter_owners(model)[id(model['c'].weight)]
        ['a.weight', 'b.weight']
    """
    owners: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for own, parameter in module._parameters.items():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append(f'{path}.{own}' if path else own)
    return owners
