"""MMEngine's metric around :func:`mmsharp.robustness.certify`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import nn

from mmsharp.engine.model_access.class_probabilities import ClassProbabilities, labelled_images, scores_of
from mmsharp.engine.model_access.inner_model import inner_model
from mmsharp.engine.model_access.running_model import RunningModel
from mmsharp.engine.robustness.image_progress import ImageProgress
from mmsharp.errors import MmsharpError
from mmsharp.registry import METRICS
from mmsharp.robustness import (
    CertificationSettings,
    ImageCertificate,
    ImageTransform,
    certification_scores,
    certify,
    parse_transforms,
)
from mmsharp.robustness.certification import smallest_supported_rate
from mmsharp.visualization.certification_tables import certification_text


@METRICS.register_module()
class CertifiedRobustness(BaseMetric):
    """Certified accuracy of a classifier of MMPretrain under random transforms, beside its other metrics.

        test_evaluator = [
            dict(type='Accuracy'),
            dict(type='mmsharp.CertifiedRobustness', transforms=['rotation:10', 'brightness:0.4']),
        ]

        test_dataloader = dict(sampler=dict(type='mmsharp.ChosenImages', images=500))

    Every test image goes through the model 1,000 times for each transform, and up to 1,000 times more for the grid of
    empirical robust accuracy; so let :class:`mmsharp.ChosenImages` choose some (the authors of CC-Cert took 500). A
    metric cannot: MMEngine tells it how many images there are when all are through. Images are transformed as the
    pipeline gives them, 8-bit pixels divided by 255, before the model's own preprocessing.
    ``tools/test_robust.py --certify`` gives the same numbers, of the same images, with a report, and goes on where it
    was stopped.

    The metrics are ``certified/<transform>/draws``, how many stand behind each image, and, in per cent as those of
    MMPretrain, ``/accuracy``, ``/empirical`` and, for every failure rate that the draws support, ``/pca@<eps>``
    (CC-Cert's bound, an estimate), ``/pca_capped@<eps>`` (with a limited temperature, by default without a claim beyond
    what the draws support) and ``/exact@<eps>`` (Clopper-Pearson). They are defined in
    :func:`mmsharp.robustness.certify` and :func:`mmsharp.robustness.certification_scores`.

    Rates below ``5 / draws`` are no metrics, for a number in a log has no place for a flag: of the default 1,000 draws
    these are 1e-3 and 1e-4. They stand in the table that is logged, flagged, and the log says that they are left out.
    ``save_best`` of such a rate ends with MMEngine's ``KeyError`` at the first validation.

    Args:
        transforms: Such as ``['rotation:10', 'rotation:10+brightness:0.4']``.
        settings: A dictionary of :class:`mmsharp.robustness.CertificationSettings`, not changed.
        model: What predicts; by default the model whose predictions the metric is given.
        collect_device: As of every metric of MMEngine.
        prefix: Before the names of the metrics.

    Raises:
        MmsharpError: A transform or a setting is not accepted; later, if the model is no classifier.

    Example:
        >>> metric = CertifiedRobustness(['rotation:10'], settings=dict(draws=50, groups=4))
        >>> metric.settings.total_draws
        200
    """

    default_prefix = 'certified'

    def __init__(
        self,
        transforms: str | ImageTransform | Iterable[str | ImageTransform],
        settings: Mapping[str, Any] | CertificationSettings | None = None,
        model: nn.Module | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.transforms = parse_transforms(transforms)
        self.settings = CertificationSettings.of(settings)
        self._model = model
        self._running = RunningModel() if model is None else None
        self._title = f'certifying under {", ".join(map(str, self.transforms))}'
        self._progress: ImageProgress | None = None

    @property
    def model(self) -> nn.Module:
        """What predicts, without wrappers."""
        return inner_model(self._running.model if self._model is None else self._model)  # type: ignore[union-attr]

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Certify the images of a batch under every transform."""
        if not isinstance(data_batch, Mapping):
            raise MmsharpError('mmsharp.CertifiedRobustness got a batch that is no dictionary of inputs and samples')
        for prediction in data_samples:
            scores_of(prediction, self.model)
        predict = ClassProbabilities(self.model)
        if self._progress is None:
            self._progress = ImageProgress(self._title, enabled=is_main_process())
        for image, label, name in labelled_images(data_batch, predict.device):
            found = {}
            for transform in self.transforms:
                [certificate] = certify(predict, [image], [label], transform, [name], self.settings)
                found[str(transform)] = certificate.to_dict()
            self.results.append(found)
            self._progress.update()

    def evaluate(self, size: int) -> dict[str, float]:
        """End the display, then as every metric of MMEngine."""
        if self._progress is not None:
            self._progress.close()
            self._progress = None
        return super().evaluate(size)

    def compute_metrics(self, results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Shares of images in per cent, of all processes, at the rates that the draws support; logs the whole table."""
        metrics: dict[str, float] = {}
        all_scores = []
        for name in map(str, self.transforms):
            scores = certification_scores([ImageCertificate(**found[name]) for found in results], name, self.settings)
            all_scores.append(scores.to_dict())
            metrics[f'{name}/accuracy'] = 100 * scores.clean_accuracy
            if scores.empirical_robust_accuracy is not None:
                metrics[f'{name}/empirical'] = 100 * scores.empirical_robust_accuracy
            metrics[f'{name}/draws'] = scores.draws
            for at in scores.eps:
                if at.supported:
                    metrics[f'{name}/pca@{at.eps:g}'] = 100 * at.pca
                    metrics[f'{name}/pca_capped@{at.eps:g}'] = 100 * at.pca_capped
                    metrics[f'{name}/exact@{at.eps:g}'] = 100 * at.exact
        print_log(f'\n{certification_text(all_scores)}', 'current')
        total = self.settings.total_draws
        left_out = [f'{eps:g}' for eps in self.settings.eps if not self.settings.supports(eps)]
        if left_out:
            print_log(
                f'certification: not among the metrics: eps {", ".join(left_out)}, for {total} draws support rates '
                f'from {smallest_supported_rate(total):g} on; raise draws or groups in settings for smaller ones',
                'current',
            )
        return metrics
