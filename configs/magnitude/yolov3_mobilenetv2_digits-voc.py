# The baseline of configs/adasap/yolov3_mobilenetv2_digits-voc.py: the same pruning, phases, epochs and learning rate,
# with plain SGD.
_base_ = '../dense/yolov3_mobilenetv2_digits-voc.py'
load_from = 'work_dirs/dense/epoch_14.pth'

max_epochs = 16
base_lr = 0.015
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=max_epochs, eta_min=base_lr * 0.02, convert_to_iter_based=True),
]

custom_imports = dict(imports=['mmsharp'], allow_failed_imports=False)
default_hooks = dict(
    pruning=dict(type='mmsharp.PruningHook', budget=dict(params=0.4), warmup=0.1, pruning=0.3, interval=10)
)
