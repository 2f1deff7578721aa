# What csam.py says, without imports: for configs that have `custom_imports` already. Its head says how it is used.
csam_search = dict(
    granularity='weight',
    ratio=0.5,
    ignore=[],
    # Of channels only, with granularity='channel': input_shape=(3, 224, 224), and, in place of ratio, a budget of what
    # remains, such as budget=dict(params=0.4), with round_to=8.
    parameterisation=dict(type='Soft', percentile=90.0),
    perturbation=dict(type='Uniform', rho=0.05),
    losses=dict(
        stability=dict(type='Stability', weight=1.0),
        margin_ratio=dict(
            type='MarginRatio',
            weight=1.0,
            transform=[
                dict(type='Rotation', degrees=10.0),
                dict(type='Contrast', change=0.4),
                dict(type='Brightness', change=0.4),
            ],
            eta=0.1,
            limit=10.0,
        ),
        consistency=dict(type='Consistency', weight=1.0),
        l1=dict(type='L1', weight=0.01),
        task=dict(type='Task', weight=1.0),
    ),
    train_norms=False,
    collapse=dict(window=512, limit=0.95),
)
# Masks are no weights: decay would shrink them beside the L1 term. The gradient of one is that of its weight times the
# weight, which is far smaller, so that they want a larger rate under SGD.
csam_paramwise = dict(custom_keys=dict(mask_search=dict(lr_mult=10.0, decay_mult=0.0)))
# slim is of channels only.
csam_hooks = dict(pruning=dict(type='mmsharp.MaskSearchHook', search=0.2, slim=True, recalibration=10))

# The same idea for detectors of one stage, ours: over channels, which a detector on a device wants, and without the
# margin of classes, which sigmoids do not have.
csam_detector_search = dict(
    granularity='channel',
    budget=dict(params=0.4),
    input_shape=(3, 256, 320),
    round_to=8,
    perturbation=dict(type='Uniform', rho=0.05),
    losses=dict(
        stability=dict(type='Stability', weight=1.0),
        consistency=dict(type='Consistency', weight=1.0),
        l1=dict(type='L1', weight=0.01),
        task=dict(type='Task', weight=1.0),
    ),
)
# Of SGD, as above; under Adam and its kin lr_mult=1.0 or less.
csam_detector_paramwise = dict(custom_keys=dict(mask_search=dict(lr_mult=10.0, decay_mult=0.0)))
