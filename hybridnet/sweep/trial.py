"""Before a sweep: does every distinct model train, with its whole batch, on this device?"""

from __future__ import annotations

import gc

import torch
from torch import nn

from hybridnet import config, experiment
from hybridnet.config import DictConfig
from hybridnet.errors import Fault, FaultsError, InputError
from hybridnet.trainer.randomness import seed_everything
from hybridnet.trainer.rehearsal import rehearsal
from hybridnet.trainer.supervised import Trainer

NUM_CLASSES = 10  # the data, which know it, are not read yet
# Pictures: where memory is short the system kills the process, and the data may have fewer than a batch.
MOST_ON_CPU = 256
# Settings of the trainer that a step depends on.
OF_A_STEP = ("device", "precision", "channels_last", "accumulate", "oom", "compile")


def signature(model: nn.Module, cfg: DictConfig) -> str:
    """The same for two jobs whose steps compute with tensors of the same shapes in the same way.

    Numbers with a fraction (dropout, learning rates) decide how well a model learns, not whether it can.

    Args:
        model: may be on the meta device.
        cfg: of the job.
    """
    parts = []
    for name, module in model.named_modules():
        settings = {key: value for key, value in vars(module).items() if isinstance(value, int | str | tuple)}
        parts.append((name, type(module).__qualname__, {k: v for k, v in settings.items() if not k.startswith("_")}))
    shapes = [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()]
    step = {key: value for key, value in config.plain(cfg.trainer).items() if key in OF_A_STEP}
    return repr((parts, shapes, step, _shape(cfg), cfg.optimizer._target_))


def try_model(cfg: DictConfig) -> None:
    """Train one batch of random pictures; on a CPU at most `MOST_ON_CPU` of them.

    Raises:
        InputError: if that fails.
    """
    seed_everything(cfg.seed)
    try:
        trainer = config.build(cfg.trainer)
        try:
            _train_a_batch(cfg, trainer, _without_initial_weights(cfg))
        except Exception:  # a model may need what its constructor computes
            _train_a_batch(cfg, trainer, experiment.build_model(cfg, num_classes=NUM_CLASSES))
    except FaultsError as error:
        raise InputError(*error.faults) from error
    except Exception as error:
        cause = f"{type(error).__name__}: {error}".partition("\n")[0]
        hint = "sweep.try_models=false leaves this test out"
        raise InputError(Fault("model that does not train", "a batch of random pictures", cause, hint)) from error
    finally:
        if torch.cuda.is_available():
            gc.collect()  # a model has reference cycles: the next one must find the memory free
            torch.cuda.empty_cache()


def _without_initial_weights(cfg: DictConfig) -> nn.Module:
    """Drawing the weights takes as long as a step of small pictures; zeros take as much memory."""
    with torch.device("meta"):
        model = experiment.build_model(cfg, num_classes=NUM_CLASSES)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.zero_()
    return model


def _train_a_batch(cfg: DictConfig, trainer: Trainer, model: nn.Module) -> None:
    model.to(trainer.device, memory_format=trainer.memory_format)
    optimizer = config.build(cfg.optimizer)(model)
    scheduler = config.build(cfg.scheduler)(optimizer, 100)
    batch_size, *size = _shape(cfg)
    shape = (min(batch_size, MOST_ON_CPU) if trainer.device.type == "cpu" else batch_size, *size)
    rehearsal(trainer, model, optimizer=optimizer, scheduler=scheduler, shape=shape, num_classes=NUM_CLASSES)()


def _shape(cfg: DictConfig) -> tuple[int, int, int, int]:
    size = cfg.data.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return cfg.data.batch_size, 3, height, width
