"""Certify a classifier under random transforms."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from mmsharp.apis.configs import as_config
from mmsharp.engine.checkpoints.safe_checkpoint import plain_checkpoints
from mmsharp.engine.robustness.built_model import same_mode
from mmsharp.engine.robustness.certification import Certification
from mmsharp.engine.robustness.evaluation import RobustEvaluation, RobustSettings
from mmsharp.files import write_json
from mmsharp.robustness.certification import IMAGES, CertificationSettings, parse_transforms
from mmsharp.visualization import write_certification_report, write_certification_tables


@plain_checkpoints()
def certify_robustness(
    config: str | os.PathLike[str] | Config,
    checkpoint: str | os.PathLike[str] | nn.Module,
    work_dir: str | os.PathLike[str],
    transforms: str | Iterable[str],
    images: int | None = IMAGES,
    settings: Mapping[str, Any] | CertificationSettings | None = None,
    cfg_options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Certify a classifier of MMPretrain on its test data under random transforms, and write what was found.

    Definitions are in :func:`mmsharp.robustness.certify`. Transforms that are finished in ``work_dir`` are not
    certified again, and stand in the results beside those that are asked for now; another checkpoint, config, data set
    or setting than theirs is refused.

    Args:
        config: The config of the model, unchanged: its test data and test pipeline are used.
        checkpoint: Its weights, opened as plain data only; or a built model, which is left in its mode.
        work_dir: Where ``certification/``, ``certification.json``, ``.md`` and ``.csv`` go, and ``report.html``, as a
            section of the report of a corruption grid in the same folder.
        transforms: Such as ``['rotation:10', 'rotation:10+brightness:0.4']``.
        images: How many test images to take, chosen at random by the seed; ``None`` for all.
        settings: Draws, failure rates, seed and so on; :class:`mmsharp.robustness.CertificationSettings` or a
            dictionary of its arguments.
        cfg_options: Changes of the config, as the toolboxes' ``--cfg-options``.

    Returns:
        The content of ``certification.json``.

    Raises:
        MmsharpError: The model is no classifier, a transform or a setting is not accepted, data is missing, the
            checkpoint is unsafe or does not fit, or the folder holds another certification.
    """
    chosen = parse_transforms(transforms)
    settings = CertificationSettings.of(settings)
    cfg = as_config(config, cfg_options)
    folder = Path(work_dir)
    with same_mode(checkpoint):
        evaluation = RobustEvaluation(cfg, checkpoint, folder, RobustSettings())
        certification = Certification(evaluation, folder, settings, images)
        try:
            summary = certification.run(chosen)
        finally:
            certification.close()
    named = isinstance(checkpoint, nn.Module)
    summary['config'] = cfg.filename and os.path.basename(cfg.filename)
    summary['checkpoint'] = type(checkpoint).__name__ if named else Path(checkpoint).name  # type: ignore[arg-type]
    write_json(folder / 'certification.json', summary)
    write_certification_tables(folder, summary)
    write_certification_report(folder / 'report.html', summary)
    return summary
