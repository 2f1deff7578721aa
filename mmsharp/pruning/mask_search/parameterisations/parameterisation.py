"""The contract of a parameterisation."""

from __future__ import annotations

from torch import Tensor


class Parameterisation:
    """What is learned in place of a mask.

    A variable has the mask's shape. :meth:`initial` gives its first value, :meth:`mask` the mask that the network is
    run with, differentiable, and :meth:`rank` what the binary mask is chosen by.
    """

    def initial(self, values: Tensor, fan_in: int) -> Tensor:
        """The first value of a variable.

        Args:
            values: The weights that the mask multiplies, or the norms of the channels that it gates.
            fan_in: How many inputs of the layer are summed for one output; 1 for channels.
        """
        raise NotImplementedError

    def mask(self, variable: Tensor, kept: int) -> Tensor:
        """The mask of a forward pass, of the variable's shape; ``kept`` entries of the binary mask are ones."""
        raise NotImplementedError

    def rank(self, variable: Tensor) -> Tensor:
        """What the binary mask is chosen by: the largest entries stay."""
        raise NotImplementedError

    def project_(self, variable: Tensor) -> None:
        """Bring a variable back, in place, to where it is defined; called after each step."""

    def check(self, name: str, size: int, kept: int) -> None:
        """Refuse a binary mask that this variable cannot lead to.

        Raises:
            MmsharpError: Naming the layer and the setting.
        """
