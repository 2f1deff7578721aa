# C-SAM's idea carried over to a detector, which is ours and beyond the paper: masks over coupled channels, stability of
# class scores and boxes, to 0.40 of the parameters as configs/magnitude/retinanet_r50_voc0712.py, with its epochs.
_base_ = ['../magnitude/retinanet_r50_voc0712.py', '../_base_/csam_parts.py']

model = dict(
    type='mmsharp.MaskSearch',
    base='RetinaNet',
    search={{_base_.csam_detector_search}},
    backbone=dict(norm_eval=False),  # soft masks want statistics of their own; the baseline keeps the dense network's
)
optim_wrapper = dict(paramwise_cfg={{_base_.csam_detector_paramwise}})
default_hooks = dict(pruning=dict(_delete_=True, type='mmsharp.MaskSearchHook', search=0.3))
