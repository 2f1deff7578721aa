"""The processes of these tests are forked from a server that has imported what they need, once."""

from mmsharp.engine.prunability.isolation import preload

preload(['mmsharp.engine.prunability.trial', 'mmdet.models', 'mmpretrain.models'])
