# C-SAM with all its settings, for any classifier: our reading of a paper whose formulas could not be read (docs/csam.md
# says what is confirmed and what is ours). MMEngine allows no key in two bases: these come under names of their own,
# for the heir to merge.
#
#     _base_ = ['my_classifier.py', 'path/to/configs/_base_/csam.py']
#     load_from = 'my_classifier.pth'
#     model = dict(type='mmsharp.MaskSearch', base='ImageClassifier', search={{_base_.csam_search}})
#     optim_wrapper = dict(paramwise_cfg={{_base_.csam_paramwise}})
#     default_hooks = {{_base_.csam_hooks}}
#
# `base` is the type that the model had. A config with `custom_imports` of its own cannot have this base beside it, by
# the same rule: add 'mmsharp' to its imports and write the dictionaries into it.
#
# Lengths: a float is a share of the training, an int a number of epochs (of iterations in iteration loops).
custom_imports = dict(imports=['mmsharp'], allow_failed_imports=False)
csam_search = dict(
    granularity='weight',
    ratio=0.5,
    parameterisation=dict(type='Soft', percentile=90.0),
    perturbation=dict(type='Uniform', rho=0.05),
    losses=dict(
        stability=dict(type='Stability', weight=1.0),
        margin_ratio=dict(
            type='MarginRatio',
            weight=1.0,
            transform=dict(type='RandomTransform', rotation=10.0, brightness=0.4, contrast=0.4),
        ),
        consistency=dict(type='Consistency', weight=1.0),
        l1=dict(type='L1', weight=0.01),
        task=dict(type='Task', weight=1.0),
    ),
)
# Masks are no weights: decay would shrink them beside the L1 term. Their gradients are far smaller than weights', as
# each is one of very many, so that they want a larger rate.
csam_paramwise = dict(custom_keys=dict(mask_search=dict(lr_mult=10.0, decay_mult=0.0)))
csam_hooks = dict(pruning=dict(type='mmsharp.MaskSearchHook', search=0.2))
