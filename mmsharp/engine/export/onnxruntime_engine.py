"""Layers and networks in onnxruntime on the CPU, to be timed for a latency table."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from mmsharp.engine.export.onnx_export import INPUT, export_onnx, onnx_package
from mmsharp.errors import MmsharpError
from mmsharp.pruning import Forward

OPSET = 18
IR_VERSION = 9
"""Old enough for every onnxruntime that reads the operators."""


class OnnxRuntimeEngine:
    """onnxruntime's CPU provider.

    Networks are what :func:`~mmsharp.engine.export.onnx_export.export_onnx` writes of them.

    Args:
        shape: ``(channels, height, width)`` of the images.
        threads: Of one call.

    Raises:
        MmsharpError: A package of the extra ``[export]`` is missing, or a network cannot be exported.
    """

    def __init__(self, shape: tuple[int, ...], threads: int) -> None:
        self.shape, self.threads = tuple(shape), threads
        self._onnx, self._runtime = onnx_package('onnx'), onnx_package('onnxruntime')

    def layer(self, module: nn.Module, inputs: Tensor) -> Callable[[], Any]:
        """One call of a convolution or linear layer alone."""
        return self._call(self._graph(module, inputs).SerializeToString(), inputs.numpy())

    def network(self, model: nn.Module, forward: Forward) -> Callable[[], Any]:
        """One pass over the images of a forward from :func:`~mmsharp.pruning.tensor_forward`.

        Raises:
            MmsharpError: Only a part of the network can be written, whose time is not the network's, or only for one
                image at a time where there are more.
        """
        images = forward.inputs.numpy()  # type: ignore[attr-defined]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'model.onnx'
            report = export_onnx(model, path, self.shape)
            if report['partial']:
                raise MmsharpError(
                    f'onnxruntime can run only that part of {type(model).__name__} which comes before its boxes, so '
                    'its time is not that of the layers in the table; measure with the engine pytorch'
                )
            if max(report['batches']) < len(images):
                raise MmsharpError(
                    f'{type(model).__name__} can be written as ONNX for one image at a time only, and the batch is '
                    f'{len(images)}; measure with a batch of 1'
                )
            return self._call(path.read_bytes(), images)

    def _call(self, content: bytes, inputs: np.ndarray) -> Callable[[], Any]:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 4
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')  # many sessions take turns
        session = self._runtime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
        return lambda: session.run(None, {INPUT: inputs})

    def _graph(self, module: Any, inputs: Tensor) -> Any:
        """A model of one layer."""
        helper, numpy_helper = self._onnx.helper, self._onnx.numpy_helper
        tensors = [numpy_helper.from_array(module.weight.detach().numpy(), 'weight')]
        names = [INPUT, 'weight']
        if isinstance(module, nn.Linear):
            tensors[0] = numpy_helper.from_array(np.ascontiguousarray(module.weight.detach().numpy().T), 'weight')
            nodes = [helper.make_node('MatMul', names, ['product' if module.bias is not None else 'output'])]
            if module.bias is not None:
                tensors.append(numpy_helper.from_array(module.bias.detach().numpy(), 'bias'))
                nodes.append(helper.make_node('Add', ['product', 'bias'], ['output']))
        else:
            if module.bias is not None:
                tensors.append(numpy_helper.from_array(module.bias.detach().numpy(), 'bias'))
                names.append('bias')
            settings = dict(
                kernel_shape=module.kernel_size, strides=module.stride, dilations=module.dilation, group=module.groups
            )
            transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
            if transposed:
                settings['output_padding'] = module.output_padding
            if isinstance(module.padding, str):
                settings['auto_pad'] = 'SAME_UPPER' if module.padding == 'same' else 'VALID'
            else:
                settings['pads'] = (*module.padding, *module.padding)
            operator = 'ConvTranspose' if transposed else 'Conv'
            nodes = [helper.make_node(operator, names, ['output'], **settings)]
        number = self._onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            nodes,
            'layer',
            [helper.make_tensor_value_info(INPUT, number, list(inputs.shape))],
            [helper.make_tensor_value_info('output', number, None)],
            tensors,
        )
        opsets = [helper.make_opsetid('', OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
