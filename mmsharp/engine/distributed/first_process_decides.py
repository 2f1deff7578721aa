"""What the processes of a distributed run have to do alike, one of them decides."""

from __future__ import annotations

from typing import TypeVar

from mmengine.dist import broadcast_object_list

Decision = TypeVar('Decision')


def first_process_decides(decision: Decision) -> Decision:
    """The decision of rank 0, on every rank; without a process group the decision that was passed in.

    Ranks see different images and sum in different orders, so that what each of them would decide for itself may
    differ; models of different shapes then wait for each other for ever. Every process of the group has to call this.

    Args:
        decision: Anything that can be pickled.

    Example:
        >>> first_process_decides((3, 224, 224))
        (3, 224, 224)
    """
    holder = [decision]
    broadcast_object_list(holder)
    return holder[0]
