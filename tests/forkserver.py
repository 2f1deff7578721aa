"""What the server of new processes has imported: one list, since there is one server and its last word counts."""

from multiprocessing import get_context, set_forkserver_preload

set_forkserver_preload(
    [
        'mmengine.runner',
        'mmsharp.apis',
        'mmsharp.engine.hooks',
        'mmsharp.engine.optim_wrappers',
        'mmsharp.engine.prunability.config_trial',
        'mmdet.apis',
        'mmpretrain.apis',
    ]
)


def start() -> None:
    """Wait until the server has imported it all, so that no test's time limit pays for that."""
    process = get_context('forkserver').Process(target=int)
    process.start()
    process.join()
