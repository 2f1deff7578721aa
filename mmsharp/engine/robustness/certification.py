"""Certify a classifier on its test data: build once, transform by transform, going on where it was stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size
from torch.utils.data import DataLoader, Subset

from mmsharp.engine.model_access.class_probabilities import ClassProbabilities, labelled_images, scores_of
from mmsharp.engine.robustness.certified_files import SUMMARY, CertifiedFiles
from mmsharp.engine.robustness.data_digest import data_sha256
from mmsharp.engine.robustness.evaluation import RobustEvaluation
from mmsharp.engine.robustness.identity import versions
from mmsharp.engine.robustness.image_progress import ImageProgress
from mmsharp.errors import MmsharpError, deliberate_refusal
from mmsharp.files import write_json
from mmsharp.robustness.certification import (
    IMAGES,
    CertificationSettings,
    ImageCertificate,
    ImageTransform,
    certification_scores,
    certify,
    choose_images,
)
from mmsharp.visualization.certification_tables import rate_text
from mmsharp.visualization.numbers import percent_text


class Certification:
    """A built classifier with its test data, ready to be certified.

    Args:
        evaluation: With model and data, in the clean cell.
        folder: Where finished transforms are kept.
        settings: Draws, temperatures and so on.
        images: How many test images to take, chosen at random by the seed; ``None`` for all.

    Raises:
        MmsharpError: There are several processes, the model is no classifier, or the folder is of another model.
    """

    def __init__(
        self, evaluation: RobustEvaluation, folder: Path, settings: CertificationSettings, images: int | None = IMAGES
    ) -> None:
        if get_world_size() > 1:
            raise MmsharpError(
                'tools/test_robust.py certifies in one process; leave --launcher out, and give each GPU some of the '
                'transforms in a work directory of its own, or use the metric mmsharp.CertifiedRobustness'
            )
        self.evaluation = evaluation
        self.settings = settings
        self.predict = ClassProbabilities(evaluation.model.eval())
        dataset = evaluation.dataset
        self.indices = choose_images(len(dataset), images, settings.seed)
        loader = evaluation.loop.dataloader
        workers = loader.num_workers
        self.loader: Any = DataLoader(
            Subset(dataset, self.indices),
            batch_size=loader.batch_size or 1,
            collate_fn=loader.collate_fn,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        self._check_classifier()
        self.files = CertifiedFiles(folder, self.identity())

    def identity(self) -> dict[str, Any]:
        """What the certificates depend on."""
        return {
            'checkpoint_sha256': self.evaluation.weights_sha256,
            'config_sha256': self.evaluation.config_sha256,
            'data_sha256': data_sha256(self.evaluation.dataset),
            'images': len(self.indices),
            **self.settings.identity(),
            'versions': versions(self.evaluation.cfg.get('default_scope')),
        }

    def run(self, transforms: Sequence[ImageTransform]) -> dict[str, Any]:
        """Certify under every transform that is not finished, and put all together that the folder has.

        Returns:
            ``identity``, ``settings`` and ``transforms``: the scores of each with ``seconds`` and, per image, the
            bounds of those that are classified rightly; first of those that were asked for, then of those that an
            earlier call has finished.

        Raises:
            MmsharpError: An image cannot be read or certified, or a file not be written; finished transforms are kept.
        """
        self.files.check_writable(transforms)
        asked = set(map(str, transforms))
        earlier = [transform for transform in self.files.finished() if str(transform) not in asked]
        found = []
        for number, transform in enumerate(transforms, start=1):
            finished = self.files.load(transform)
            if finished is None:
                began = time.monotonic()
                certificates = self._certify(transform, f'[{number}/{len(transforms)}] {transform}')
                finished = certificates, round(time.monotonic() - began, 3)
                self.files.save(transform, *finished)
            scores = self._scores(transform, *finished)
            found.append(scores)
            first = scores['eps'][0]
            print(
                f'[{number}/{len(transforms)}] {transform!s:<28} clean {percent_text(scores["clean_accuracy"])}, '
                f'exact at eps {rate_text(first)} of {first["draws"]} draws {percent_text(first["exact"])}, '
                f'{scores["seconds"]:.1f} s',
                file=sys.stderr,
            )
        for transform in earlier:
            kept = self.files.load(transform)
            if kept is not None:
                found.append(self._scores(transform, *kept))
        summary = {
            'identity': self.files.identity,
            'settings': {**self.settings.identity(), 'eps': list(self.settings.eps)},
            'transforms': found,
        }
        write_json(self.files.folder.parent / SUMMARY, summary)
        return summary

    def close(self) -> None:
        """End the worker processes."""
        iterator = getattr(self.loader, '_iterator', None)
        if iterator is not None:
            iterator._shutdown_workers()
            self.loader._iterator = None

    def _scores(
        self, transform: ImageTransform, certificates: Sequence[ImageCertificate], seconds: float
    ) -> dict[str, Any]:
        """An entry of the summary."""
        scores = certification_scores(certificates, str(transform), self.settings)
        return {**scores.to_dict(), 'seconds': seconds, 'bounds': _bounds(certificates)}

    def _certify(self, transform: ImageTransform, title: str) -> list[ImageCertificate]:
        certificates: list[ImageCertificate] = []
        device = self.predict.device
        with ImageProgress(title, len(self.indices)) as progress:
            try:
                for batch in self.loader:
                    for image, label, name in labelled_images(batch, device):
                        certificates += certify(self.predict, [image], [label], transform, [name], self.settings)
                        progress.update()
            except MmsharpError as error:
                raise MmsharpError(
                    f'{transform} stopped: {deliberate_refusal(error)}. Finished transforms are kept; mend the cause '
                    'and start again'
                ) from error
        return certificates

    def _check_classifier(self) -> None:
        """One image through the model as its own test would, before anything long begins."""
        batch = self.loader.collate_fn([self.evaluation.dataset[self.indices[0]]])
        predictions = self.evaluation.model.test_step(batch)  # type: ignore[operator]
        for prediction in predictions:
            scores_of(prediction, self.evaluation.model)
        for _ in labelled_images(batch):
            pass


def _bounds(certificates: Sequence[ImageCertificate]) -> dict[str, list[float]]:
    """The bounds of the images that are classified rightly, rising, for curves over eps."""
    right = [found for found in certificates if found.correct]
    return {name: sorted(getattr(found, name) for found in right) for name in ('bound', 'capped_bound', 'exact_bound')}
