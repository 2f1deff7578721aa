# PSAP, as we read it, on the dense detector of configs/dense/retinanet_r50_voc0712.py.
_base_ = '../magnitude/retinanet_r50_voc0712.py'

default_hooks = dict(pruning=dict(_delete_=True, type='mmsharp.PSAPHook', budget=dict(params=0.4)))
