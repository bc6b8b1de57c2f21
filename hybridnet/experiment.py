"""From a composed configuration to the parts of an experiment, and their faults before any data are read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hybridnet import config, settings
from hybridnet.config import DictConfig
from hybridnet.errors import UNKNOWN_KEY, Fault, InputError, collected
from hybridnet.trainer.protocols import Data

SMALLEST_MAP = 2
LARGEST_TRIED = 512  # pixels; no known network needs as many for its smallest map

# Of this process: the identities of the configurations that it has checked, and the models without memory for their
# weights, by their settings; a sweep's jobs have few.
_checked: set[str] = set()
_blueprints: dict[str, nn.Module] = {}


def check(cfg: DictConfig, *, defaults: DictConfig | None = None) -> nn.Module:
    """Find every fault of a composed configuration, without reading data.

    First every key is held against its target's signature. Then the parts are built, the model without memory for
    its weights, which shows faults between keys; keys that are wrong by themselves are replaced by `defaults` first.

    Returns:
        The model, of two classes and without memory for its weights.

    Raises:
        InputError: with all faults.
    """
    if lost := sorted(config.own_keys("train") - set(cfg)):
        raise InputError(*(Fault("missing value", key, "must be given", f"leave out ~{key}") for key in lost))
    found = config.find_faults(cfg, defaults=defaults)
    for key, why in settings.faults(_top_level, config.top_level(cfg)).items():
        found[key] = Fault("wrong value", f"{key}={cfg[key]}", why)
    used = {key.partition(".")[0] for key in config.references(cfg)}
    found |= {key: _unknown(key, cfg) for key in cfg if key not in config.own_keys("train") | used}
    if cfg.monitor != (of_trainer := config.select(cfg, "trainer.monitor")) and of_trainer is not None:
        cause = f"monitor is {cfg.monitor}, and there is one metric that decides"
        found["trainer.monitor"] = Fault("wrong value", f"trainer.monitor={of_trainer}", cause, f"monitor={of_trainer}")
    if found and defaults is not None:
        found = config.with_examples(found, defaults)
        cfg = config.replaced(cfg, set(found) & set(config.keys(defaults)), by=defaults)
    faults, model = list(found.values()), None
    faults += [_not_a_tracker(key) for key in _loggers(cfg) if not _has_target(cfg, key)]
    if not found or not config.find_faults(cfg, defaults=defaults):
        model, more = _construct(cfg)
        faults += more
    if faults:
        raise InputError(*faults)
    assert model is not None, "a model that could not be built is a fault"
    _checked.add(_identity(cfg))
    return model


def require_files_of(data: Data) -> None:
    """Find what the data would miss when they are read; somebody's own need not know.

    Raises:
        InputError: with all that is missing.
    """
    if hasattr(data, "require_files"):
        data.require_files()


def require_files(cfg: DictConfig) -> None:
    """Find what a new run would miss when it begins to read: the tables, or their source, and the first weights.

    Raises:
        InputError: with all that is missing.
    """
    data, faults = config.build(cfg.data), []
    with collected(faults):
        require_files_of(data)
    with collected(faults):
        _blueprint_of(cfg).backbone.require_weights()
    if faults:
        raise InputError(*faults)


def blueprint(cfg: DictConfig) -> nn.Module:
    """What `check` returns, or has returned for the same configuration before; not to be changed.

    Raises:
        InputError: with all faults.
    """
    return _blueprint_of(cfg) if _identity(cfg) in _checked else check(cfg)


def _identity(cfg: DictConfig) -> str:
    return config.identity(cfg, without=["resume"])  # which a sweep adds to the jobs that were checked


def _top_level(
    *, resume: str | None, resume_allow: Sequence[str], verify_resume: bool, extra_targets: Sequence[str]
) -> None:
    """The signature of those settings of train.yaml that no part takes."""


def _construct(cfg: DictConfig) -> tuple[nn.Module | None, list[Fault]]:
    """The model, and what the parts refuse when they are built, or an image that is too small for the backbone."""
    faults: list[Fault] = []
    built = functools.partial(_built, faults)
    for key in filter(functools.partial(_has_target, cfg), _loggers(cfg)):
        built(key, functools.partial(config.build, config.select(cfg, key)))
    built("trainer", lambda: config.build(cfg.trainer))
    data = built("data", lambda: config.build(cfg.data))
    with torch.device("meta"):
        model = built("model", lambda: _blueprint_of(cfg))
        backbone = built("model", lambda: config.build(cfg.model.backbone) if model is None else model.backbone)
        if backbone is not None and data is not None:
            faults += built("model", lambda: _size_faults(cfg, backbone, data)) or []
        faults[:] = dict.fromkeys(faults)  # what a backbone refuses, or a stage that it lacks, shows twice
    if model is not None:
        _construct_around(model, cfg, faults)
    return model, faults


def _construct_around(model: nn.Module, cfg: DictConfig, faults: list[Fault]) -> None:
    """Note what the parts refuse that are built of the model."""
    built = functools.partial(_built, faults)
    optimizer = built("optimizer", lambda: _optimizer(cfg, model))
    num_frozen = cfg.trainer.freeze_stages if cfg.trainer.freeze_epochs else 0
    built("trainer.freeze_stages", lambda: model.first_stages(num_frozen))
    if config.select(cfg, "trainer.sync_batchnorm"):
        built("trainer.sync_batchnorm", lambda: _require_plain_batch_norm(model))
    if optimizer is not None:
        built("scheduler", lambda: _require_function_of_the_step(config.build(cfg.scheduler)(optimizer, 100)))
    # Nobody shall train a model that cannot be loaded afterwards.
    refused = config.module_faults(cfg.model, extra_targets=cfg.extra_targets)
    faults += [fault._replace(where=f"model.{fault.where}") for fault in refused]


def _built(faults: list[Fault], section: str, construct: Callable[[], Any]) -> Any:
    """What is constructed, or None after its fault was noted, whatever it raises."""
    try:
        return construct()
    except InputError as error:
        faults += error.faults
    except ValueError as error:
        cause, _, hint = str(error).partition("; ")
        faults.append(Fault("wrong value", section, cause, hint))
    except Exception as error:  # of somebody's own part
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        hint = "what each part is given stands in README, Add your own"
        faults.append(Fault("unusable part", section, cause, hint))
    return None


def _optimizer(cfg: DictConfig, model: nn.Module) -> Optimizer:
    optimizer = config.build(cfg.optimizer)(model)
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"{cfg.optimizer._target_} gives a {type(optimizer).__name__}, not an optimizer")
    return optimizer


def _require_function_of_the_step(scheduler: Any) -> None:
    if not isinstance(scheduler, LambdaLR):
        cause = f"{type(scheduler).__name__} is no LambdaLR; only a function of the step can be continued exactly"
        raise InputError(Fault("wrong value", "scheduler._target_", cause, "scheduler=cosine or constant"))


def _blueprint_of(cfg: DictConfig) -> nn.Module:
    """The model of two classes, on the meta device; one for all configurations that agree about it."""
    key = repr(config.plain(cfg.model))
    if key not in _blueprints:
        with torch.device("meta"):
            _blueprints[key] = build_model(cfg, num_classes=2)
    return _blueprints[key]


def build_model(cfg: DictConfig, *, num_classes: int) -> nn.Module:
    """The model, freshly initialised; `model.backbone.load_initial_weights()` loads pretrained ones."""
    return config.build(cfg.model, num_classes=num_classes)


def _size_faults(cfg: DictConfig, backbone: nn.Module, data: Data) -> list[Fault]:
    """Attention over a single row or column of positions does nothing, and neither does most of the last stage."""
    stop = config.select(cfg, "model.stage")
    for key, size in [("image_size", data.image_size), *(("progressive", size) for size in data.sizes.early)]:
        height, width = _map_size(backbone, size, stop=stop)
        if min(height, width) < SMALLEST_MAP:
            smallest = _smallest_size(backbone, above=min(size), stop=stop)
            hint = {"image_size": "set data.image_size={} or larger", "progressive": "use sizes of {} or larger"}[key]
            hint = hint.format(smallest)
            if config.select(cfg, "model.stem") != "small":
                hint += f", or {backbone.hint_for_small_images}"
            needed = f"at least {SMALLEST_MAP}×{SMALLEST_MAP} is needed"
            cause = f"at {size[0]}×{size[1]} pixels the backbone's map is {height}×{width}; {needed}"
            return [Fault("image too small", f"data.{key}={config.select(cfg, f'data.{key}')}", cause, hint)]
    return []


def _smallest_size(backbone: nn.Module, *, above: int, stop: int | None) -> int:
    """The least side of a square picture, larger than one that is too small, whose map is large enough."""

    def is_enough(side: int) -> bool:
        try:
            return min(_map_size(backbone, (side, side), stop=stop)) >= SMALLEST_MAP
        except Exception:  # somebody's network that takes multiples of 32 only
            return False

    low, high = above, 2 * above
    while not is_enough(high) and high < LARGEST_TRIED:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


@functools.lru_cache(maxsize=64)
def _map_size(backbone: nn.Module, size: tuple[int, int], *, stop: int | None) -> tuple[int, int]:
    """Height and width of the backbone's map after the stage `stop`; the backbone is on the meta device."""
    was_training = backbone.training
    feature_map = backbone.eval()(torch.empty(1, 3, *size, device="meta"), stop=stop)
    backbone.train(was_training)
    return tuple(feature_map.shape[2:])


def _require_plain_batch_norm(model: nn.Module) -> None:
    """PyTorch's conversion would drop what another kind of BatchNorm does besides, such as an activation.

    Raises:
        ValueError: if there is another kind, or one that is frozen.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            kind = type(module).__name__
            if kind != "BatchNorm2d" or not isinstance(module.weight, nn.Parameter):
                raise ValueError(
                    f"{name} is no plain BatchNorm2d with parameters ({kind}); set trainer.sync_batchnorm=false"
                )


def _loggers(cfg: DictConfig) -> list[str]:
    return [f"logger.{name}" for name in cfg.logger]


def _has_target(cfg: DictConfig, key: str) -> bool:
    return config.select(cfg, f"{key}._target_") is not None


def _not_a_tracker(key: str) -> Fault:
    hint = "choose trackers with logger=tensorboard, logger=[tensorboard,mlflow] …"
    return Fault(UNKNOWN_KEY, key, "it has no _target_", hint)


def _unknown(key: str, cfg: DictConfig) -> Fault:
    known = sorted({*config.own_keys("train"), "experiment"})
    match = config.nearest(key, [*known, *(name for name in config.keys(cfg) if name.partition(".")[0] in known)])
    hint = f"did you mean {match}?" if match else f"choose from {', '.join(known)}"
    if key == "experiment":  # where its yaml's content is without the line
        hint = "the first line of an experiment's yaml must be # @package _global_"
    return Fault(UNKNOWN_KEY, key, "nothing takes it", hint)
