"""mmpretrain's classifiers without a head, around a small network of ours: neither timm nor transformers is needed."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS
from small_classifier import SmallClassifier
from torch import nn

pytest.importorskip('mmpretrain')
from mmpretrain.models import HuggingFaceClassifier, TimmClassifier
from mmpretrain.registry import MODELS as CLASSIFIERS


class Network(nn.Module):
    """As a library gives one: images in, logits out."""

    def __init__(self) -> None:
        super().__init__()
        whole = SmallClassifier()
        self.stem, self.inner, self.dropout, self.fc = whole.stem, whole.inner, whole.dropout, whole.head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.dropout(self.inner(self.stem(images)).mean(dim=(2, 3))))


class WithLogits(Network):
    """As transformers gives one: the logits have a name."""

    def forward(self, images: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=super().forward(images))


def around(kind: type, network: type[nn.Module]) -> type:
    """The class with all that it does but for building its network."""

    def build(self, data_preprocessor=None) -> None:
        preprocessor = dict(data_preprocessor or dict(mean=[120.0] * 3, std=[60.0] * 3))
        preprocessor.setdefault('type', 'mmpretrain.ClsDataPreprocessor')
        super(kind, self).__init__(data_preprocessor=preprocessor)
        self.model, self.with_cp = network(), False
        self.loss_module = CLASSIFIERS.build(dict(type='mmpretrain.CrossEntropyLoss'))
        self._register_state_dict_hook(self._remove_state_dict_prefix)
        self._register_load_state_dict_pre_hook(self._add_state_dict_prefix)

    made = type(f'Small{kind.__name__}', (kind,), dict(__init__=build, __module__=__name__))
    return MODELS.register_module(force=True)(made)


SmallTimmClassifier = around(TimmClassifier, Network)
SmallHuggingFaceClassifier = around(HuggingFaceClassifier, WithLogits)
BASES = ['SmallTimmClassifier', 'SmallHuggingFaceClassifier']
