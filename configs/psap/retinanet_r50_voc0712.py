# PSAP, as we read it, on the detector of configs/dense/retinanet_r50_voc0712.py. Its four epochs hold few steps of an
# epoch each: one is taken every 500 iterations.
_base_ = '../magnitude/retinanet_r50_voc0712.py'

default_hooks = dict(pruning=dict(_delete_=True, type='mmsharp.PSAPHook', budget=dict(params=0.4), interval=500))
