"""Follow channels through one forward pass, by labels that operations carry from tensor to tensor."""

from mmsharp.pruning.tracing.trace import ChannelTrace

__all__ = ['ChannelTrace']
