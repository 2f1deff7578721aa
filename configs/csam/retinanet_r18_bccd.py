# C-SAM's idea carried over to a detector, which is ours and beyond the paper: masks over coupled channels, stability of
# class scores and boxes, to 0.40 of the parameters as configs/magnitude/retinanet_r18_bccd.py, with its epochs.
_base_ = ['../magnitude/retinanet_r18_bccd.py', '../_base_/csam_parts.py']

model = dict(
    type='mmsharp.MaskSearch',
    base='RetinaNet',
    search={{_base_.csam_detector_search}},
)
# The base's tenfold rate is for SGD. AdamW moves every mask by about the rate at each step, however small its gradient:
# with 1e-3 a quarter of [0, 1] at most in the 260 steps of the search, and with ten times as much all of it.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(mask_search=dict(lr_mult=1.0, decay_mult=0.0))))
default_hooks = dict(pruning=dict(_delete_=True, type='mmsharp.MaskSearchHook', search=10))
