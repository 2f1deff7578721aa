"""A small classifier with a head, BatchNorm and dropout, to search masks for."""

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from torch import nn

import mmsharp  # noqa: F401 (registers its models)


@MODELS.register_module(force=True)
class SmallClassifier(BaseModel):
    """Two convolutions with BatchNorm, dropout, and a linear head; the task is cross-entropy."""

    def __init__(self, width: int = 6, dropout: float = 0.2, data_preprocessor=None) -> None:
        super().__init__(data_preprocessor)
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.inner = nn.Sequential(nn.Conv2d(width, 10, 3, padding=1, bias=False), nn.BatchNorm2d(10), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(10, 3)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if not isinstance(inputs, torch.Tensor):
            inputs = torch.stack(list(inputs))
        scores = self.head(self.dropout(self.inner(self.stem(inputs)).mean(dim=(2, 3))))
        if mode == 'loss':
            return dict(loss=nn.functional.cross_entropy(scores, torch.as_tensor(data_samples)))
        return scores


def batch(seed: int = 0, images: int = 6) -> dict:
    generator = torch.Generator().manual_seed(seed)
    inputs = (127.5 + 60 * torch.randn(images, 3, 8, 8, generator=generator)).clamp(0, 255)
    return dict(inputs=inputs, data_samples=torch.arange(images) % 3)


WEIGHTS = dict(granularity='weight', ratio=0.5)
CHANNELS = dict(granularity='channel', ratio=0.5, input_shape=(3, 8, 8))


def build(search=None, **config):
    """The classifier with masks to search, in training mode, the same weights in every call."""
    torch.manual_seed(0)
    search = WEIGHTS if search is None else search
    model = MODELS.build(dict(type='mmsharp.MaskSearch', base='SmallClassifier', search=search, **config))
    model.train()
    return model


def wrapper_of(model, lr: float = 0.5, **kwargs) -> OptimWrapper:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-2)
    return OptimWrapper(optimizer, **kwargs)


def train(model, steps: int = 3, wrapper=None):
    wrapper = wrapper_of(model) if wrapper is None else wrapper
    return [model.train_step(batch(step), wrapper) for step in range(steps)]


def own_state(model) -> dict[str, torch.Tensor]:
    """The state of the ordinary model, without the masks."""
    return {key: value.clone() for key, value in model.state_dict().items() if not key.startswith('mask_search.')}
