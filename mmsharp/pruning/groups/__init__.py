"""Groups of coupled channels: what they are, how they are found and tried, and masks over them."""

from mmsharp.pruning.groups.channel_groups import ChannelGroup, DenseLayer, GroupSet, Member

__all__ = ['ChannelGroup', 'DenseLayer', 'GroupSet', 'Member']
