"""One optimizer update: forward and backward pass, clipping, update of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from hybridnet.trainer.compilation import Compilation
from hybridnet.trainer.gradients import Gradients
from hybridnet.trainer.graphs import Captured, CudaGraphs, give_up
from hybridnet.trainer.state import Training

# Takes inputs (B, 3, H, W), targets (B, num_classes) and the classes' weights in the loss (num_classes,); returns the
# mean loss () and the logits (B, num_classes), which may be overwritten by the next call.
Update = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


class Step:
    """Updates the weights of a training, one batch at a time.

    Args:
        training: whose weights.
        gradients: adds those of a batch.
        clip_norm: largest norm of the gradient; infinity for no limit.
        compilation: how the update is carried out.

    Raises:
        TrainingError: if the update shall be captured, and the optimizer's cannot be.
    """

    def __init__(self, training: Training, gradients: Gradients, *, clip_norm: float, compilation: Compilation) -> None:
        self.training = training
        self.gradients = gradients
        self.clip_norm = clip_norm
        self.compilation = compilation
        self._trained = [parameter for parameter in training.model.parameters() if parameter.requires_grad]
        self._frozen: list[nn.Parameter] | None = None
        self._update: Update = self.eager
        self._captures = compilation.captures and is_capturable(training.optimizer)
        if self._captures:
            make_capturable(training.optimizer, training.device)
        elif compilation.captures:
            cause = (
                f"{type(training.optimizer).__name__} has no setting `capturable`: a replay would not count its steps"
            )
            give_up("step", "this optimizer", cause, is_optional=compilation.is_optional)

    def begin_epoch(self, frozen: Iterable[nn.Module]) -> None:
        """Set the model to training, except for `frozen` modules: they keep their weights and BatchNorm statistics."""
        model = self.training.model.train()
        modules = list(frozen)
        for module in modules:
            module.eval()
        parameters = [parameter for module in modules for parameter in module.parameters()]
        if self._frozen is not None and [*map(id, parameters)] == [*map(id, self._frozen)]:
            return
        # What is trained has changed: nothing that was compiled or captured for it holds any longer.
        for parameter in self._trained:
            parameter.requires_grad_(True)
        for parameter in parameters:
            parameter.requires_grad_(False)
        self._frozen = parameters
        wrapped = self.training.ranks.wrapped(model, self.training.device)
        self.training.forward = self.compilation.compiled(wrapped)
        self.training.unshared = getattr(wrapped, "no_sync", nullcontext)
        self._update = self.eager
        if self._captures:
            graphs = CudaGraphs(self.training.device)
            self._update = Captured(self.eager, graphs, name="step", is_optional=self.compilation.is_optional)

    def __call__(self, inputs: Tensor, targets: Tensor, loss_weights: Tensor) -> tuple[Tensor, Tensor]:
        """One update; see `Update`."""
        return self._update(inputs, targets, loss_weights)

    def eager(self, inputs: Tensor, targets: Tensor, loss_weights: Tensor) -> tuple[Tensor, Tensor]:
        """The update, operation by operation."""
        optimizer, scaler = self.training.optimizer, self.training.scaler
        try:
            loss, logits = self.gradients.add(self.training, inputs, targets, loss_weights=loss_weights)
            if self.clip_norm < math.inf:  # the norm alone is a pass over all gradients
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(self.training.model.parameters(), self.clip_norm)
            scaler.step(optimizer)
            scaler.update()
        except Exception:
            # The step that takes the place of one that cannot be captured would else find its gradients unscaled.
            getattr(scaler, "_per_optimizer_states", {}).clear()
            raise
        finally:
            optimizer.zero_grad()
        return loss, logits


def is_capturable(optimizer: torch.optim.Optimizer) -> bool:
    """Whether all that changes from one step to the next is in tensors of the device; somebody's own need not do that.

    PyTorch's SGD counts nothing. What others count, and compute from it, would be that of the captured step for ever.
    """
    is_known = all("capturable" in group for group in optimizer.param_groups)
    return is_known or isinstance(optimizer, torch.optim.SGD)


def make_capturable(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Keep the learning rates in tensors, which a captured update reads anew each time, and allow its capture.

    What was counted on a CPU, before a run was continued here, goes to the device too.
    """
    for group in optimizer.param_groups:
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=device)
        if "capturable" in group:
            group["capturable"] = True
    for kept in optimizer.state.values():
        if isinstance(kept.get("step"), Tensor):
            kept["step"] = kept["step"].to(device)
