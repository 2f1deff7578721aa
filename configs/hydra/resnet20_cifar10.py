# HYDRA's score search on the network of configs/csam/resnet20_cifar10.py, with the same lengths: binary masks of the
# largest scores, straight-through gradients of the task's loss, and normalisations that learn beside the scores.
_base_ = '../csam/resnet20_cifar10.py'

model = dict(
    search=dict(
        parameterisation=dict(_delete_=True, type='Score'),
        perturbation=dict(_delete_=True, type='None'),
        losses=dict(_delete_=True, task=dict(type='Task')),
        train_norms=True,
    )
)
