"""Keep copies of the best policies of a run; stop it by rules on KL, diversity and the check; restore a copy."""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.modeling.weights import restore, snapshot, trained_parameters
from pipeline.trainers.ppo.held_out import HeldOutEval, OveroptimisationMonitor
from pipeline.trainers.ppo.section import PPOSection


class BestPolicies:
    """Copies of the trained weights: the best on held-out prompts, the last within ``kl_budget``, the last above
    ``diversity_floor``.

    Attributes:
        monitor: the held-out evaluations that choose the best.
        copies: trained weights by name, under ``best``, ``within_budget`` and ``varied``.
        within: update and KL of the copy ``within_budget``.
        went_back: the update whose policy was restored; None if the weights are the last ones.
    """

    def __init__(self, module: nn.Module, args: PPOSection) -> None:
        self.module, self.kl_budget, self.keep_best = module, args.kl_budget, args.keep_best
        self.monitor = OveroptimisationMonitor(
            args.kl_budget, args.fall_patience, diversity_floor=args.diversity_floor
        )
        self.copies: dict[str, dict[str, Tensor]] = {}
        self.within: list[float] | None = None
        self.went_back: int | None = None

    def current(self, step: int) -> int:
        """The number of updates behind the current weights, after ``step`` updates."""
        return step if self.went_back is None else self.went_back

    def published(self, step: int) -> int:
        """The number of updates behind the final weights."""
        if self.keep_best and self.monitor.best is not None:
            return self.monitor.best.update
        return self.current(step)

    def over_budget(self, update: int, kl: float) -> str | None:
        """Copy the policy if it is within ``kl_budget``; else restore the last one that was.

        Returns:
            The reason to stop the run, or None.
        """
        if self.kl_budget is None:
            return None
        if kl <= self.kl_budget:
            self._set_aside("within_budget")
            self.within = [update, kl]
            return None
        back, back_kl = (update, kl) if self.within is None else (int(self.within[0]), self.within[1])
        self._go_back("within_budget", back)
        best = self.monitor.best
        if self.keep_best and best is not None and best.update != back:
            back, back_kl = best.update, best.kl
        target = f"back to the policy after update {back}, KL {back_kl:.2f}"
        if self.within is None and back == update:
            target = "no policy was within it"
        return f"KL {kl:.2f} after update {update} is over kl_budget {self.kl_budget}: {target}"

    def add(self, held: HeldOutEval) -> str | None:
        """Compare a held-out evaluation with the earlier ones; copy the policy, or restore an earlier one.

        Returns:
            The reason to stop the run, or None.
        """
        monitor = self.monitor
        if monitor.add(held):
            self._set_aside("best")
        if monitor.diversity_floor is not None:
            if not monitor.above_floor(held):
                return self._below_floor(held)
            self._set_aside("varied")
        if monitor.overoptimised and monitor.top is not None:
            return (
                f"the held-out check fell from {monitor.top.check:.3f} at update {monitor.top.update} to "
                f"{held.check:.3f} while the score rose from {monitor.top.score:.3f} to {held.score:.3f}"
            )
        return None

    def restore_best(self) -> None:
        """Restore the best policy, if ``keep_best`` is set and there is one."""
        if self.keep_best and "best" in self.copies:
            restore(trained_parameters(self.module), self.copies["best"])

    def _below_floor(self, held: HeldOutEval) -> str:
        monitor = self.monitor
        assert monitor.varied is not None  # the first evaluation is above any floor
        self._go_back("varied", monitor.varied.update)
        back = monitor.best if self.keep_best and monitor.best is not None else monitor.varied
        return (
            f"{monitor.closings_text(held)} held out after update {held.update}, {monitor.first_closings:.1f} "
            f"before the first, is below diversity_floor {monitor.diversity_floor:g}: back to the policy after "
            f"update {back.update}, with {monitor.closings_text(back)}"
        )

    def _set_aside(self, name: str) -> None:
        self.copies[name] = snapshot(trained_parameters(self.module))

    def _go_back(self, name: str, update: int) -> None:
        if name in self.copies:
            restore(trained_parameters(self.module), self.copies[name])
        self.went_back = update
