"""Sharpness-aware pruning for the OpenMMLab toolboxes.

``custom_imports = dict(imports=['mmsharp'])`` in a config makes everything reachable as ``type='mmsharp.Name'``;
modules are imported when they are first looked up.
"""

import mmsharp.registry  # noqa: F401 (creates the registries)
from mmsharp.version import __version__

__all__ = ['__version__']
