# AdaSAP on the dense detector of configs/dense/yolov3_mobilenetv2_digits-voc.py.
_base_ = '../dense/yolov3_mobilenetv2_digits-voc.py'
load_from = 'work_dirs/dense/epoch_14.pth'

max_epochs = 16
base_lr = 0.015
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=max_epochs, eta_min=base_lr * 0.02, convert_to_iter_based=True),
]

custom_imports = dict(imports=['mmsharp'], allow_failed_imports=False)
optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'), optimizer=dict(lr=base_lr))
default_hooks = dict(
    pruning=dict(
        type='mmsharp.AdaSAPHook',
        budget=dict(params=0.4),
        warmup=0.1,
        pruning=0.3,
        interval=10,
        # A short run on a small network: the default radius of 0.5 leaves it underfitted (chosen on the val split).
        fine_tuning=dict(type='ASAM', rho=0.1),
    )
)
