"""The ways a claimed run ends: a plan, a recorded failure, a wait, or nothing any more.

Each is one transaction, asked for again while the database is away, and too late to be stopped.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from mana_actors.agent.attempt import last_write
from mana_actors.agent.attempt.job import FinalFailure, Job
from mana_actors.agent.attempt.last_write import Closing, Withdrawal, now_text
from mana_actors.agent.attempt.report import Reporter
from mana_actors.agent.attempt.sealed_plan import sealed_for
from mana_actors.agent.attempt.stops import Stops
from mana_actors.agent.backoff import backoff_s
from mana_actors.agent.inputs.sealed_inputs import Unreadable
from mana_actors.agent.model.calls import Tally, plan_note
from mana_actors.agent.planner.loop import PlanOutcome
from mana_actors.agent.planner.prompt import latest_iterations
from mana_actors.agent.retries import retried, retried_close
from mana_actors.crash import CrashPoint
from mana_actors.messages import SKIPPED_GRANT, AgentSettings, Count, Order, Report
from state.log.iterations import PlannedStep, failed_iteration, iteration_from_plan
from state.rules.budgets import shortfall_reason
from state.sealing.derived_text import tells_derived_text
from state.store.agent import AgentStore, MissionNow
from state.store.connect import Superseded

log = logging.getLogger("mana.run")

_LOOK_SOON = timedelta(seconds=2)
_LOOK_AFTER_STOP_S = 0.2
_NO_SENSE = frozenset({"invalid_answer", "truncated", "empty-plan"})


class Ending:
    """Ends claimed runs of one agent, and reports how."""

    def __init__(
        self,
        *,
        store: AgentStore,
        settings: AgentSettings,
        stops: Stops,
        report: Reporter,
        crash: CrashPoint,
    ) -> None:
        self._store, self._settings, self._stops = store, settings, stops
        self._report, self._crash = report, crash

    async def commit(
        self, order: Order, job: Job, tally: Tally, outcome: PlanOutcome, warnings: list[str]
    ) -> Report:
        steps = [
            PlannedStep(call.name, dict(call.arguments), rationale=call.rationale)
            for call in outcome.steps
        ]
        cut_short = outcome.cut_short
        reason = "; ".join(filter(None, [cut_short, *warnings])) or None
        id_ = job.run.iteration_id
        is_derived = tally.used_secrets or tells_derived_text(latest_iterations(job.mission))

        def iteration(now: datetime) -> dict[str, Any]:
            summary = outcome.summary or ""
            written = iteration_from_plan(steps, summary, id_, now_text(now), cut_short)
            return {**written, "usedEncryptedInputs": True} if is_derived else written

        return await self._close(
            order, job, tally, iteration, failed=False, steps=len(steps), reason=reason
        )

    async def fail(
        self,
        order: Order,
        job: Job,
        tally: Tally,
        failure: FinalFailure,
        *,
        again: bool,
        after_s: float | None = None,
    ) -> Report:
        """Back off, or after the last try write a failed iteration that the owner sees.

        Only a model that made no sense counts as a parse failure, not one out of reach (D-34).
        """
        settings = self._settings
        if failure.name in _NO_SENSE:
            tally.counts.append(Count("parse_failures_total"))
        if again and job.failures + 1 < settings.run_attempts:
            delay = backoff_s(
                job.failures,
                settings.backoff_min_s,
                settings.backoff_max_s,
                secrets.SystemRandom().random(),
                after_s,
            )
            return await self._wait(
                order, job, tally, delay, "back-off", failure.message, failed=True
            )
        id_ = job.run.iteration_id

        def iteration(now: datetime) -> dict[str, Any]:
            return failed_iteration(id_, now_text(now), failure.name, failure.message)

        return await self._close(
            order, job, tally, iteration, failed=True, steps=0, reason=failure.message
        )

    async def stop(self, order: Order, job: Job, tally: Tally, reason: str) -> Report:
        """Withdraw it; a cancelled run is closed already, and its decision written."""
        decision = "withdrawn"
        try:
            await retried(
                lambda: self._store.stop(
                    job.run_id, job.attempt, reason, _LOOK_AFTER_STOP_S, plan_note(tally)
                )
            )
        except Superseded:
            decision = None
        log.info(
            "run_stopped agent=%s/%s mission=%s",
            job.run.user_id,
            job.run.agent_id,
            order.mission_id,
        )
        return self._report(
            order,
            "withdrawn",
            decision=decision,
            reason=reason,
            due_at=job.run.due_at,
            tally=tally,
        )

    async def wait_for_keys(self, order: Order, job: Job, tally: Tally, reason: str) -> Report:
        """Come again, however often: an absent key holder is no failure of this mission."""
        settings, chance = self._settings, secrets.SystemRandom().random()
        least, most = settings.backoff_min_s, settings.backoff_max_s
        delay = backoff_s(job.attempt, least, most, chance)
        return await self._wait(order, job, tally, delay, "back-off", reason, failed=False)

    async def skip_unreadable(
        self, order: Order, job: Job, tally: Tally, unreadable: Unreadable
    ) -> Report:
        """Skip rather than plan blind; a new row of the owner's makes it run (D-46)."""
        tally.counts += [Count("grant_skips_total", (unreadable.code,)), *unreadable.counts]
        now = (await retried(lambda: self._store.mission(job.mission.id)) or job.view).now
        self._stops[order.mission_id].close()
        is_news = await retried(
            lambda: self._store.skip(
                job.run_id, job.attempt, unreadable.reason, _LOOK_AFTER_STOP_S, plan_note(tally)
            )
        )
        if is_news:  # noted with the run's end, so counted here and not by who hears the report
            tally.counts.append(Count("agent_decisions_total", (SKIPPED_GRANT,)))
        again = unreadable.again_s
        return self._report(
            order,
            "skip",
            view=job.view,
            decision=SKIPPED_GRANT,
            reason=unreadable.reason,
            due_at=job.run.due_at,
            look_at=None if again is None else now + timedelta(seconds=again),
            tally=tally,
        )

    async def wait_for_room(self, order: Order, job: Job, tally: Tally) -> Report:
        """Nothing was planned yet: come again when room returns or a cap changes, and say so."""
        assert tally.refused is not None, "only a refusal raises BudgetExhausted"
        hold, refusal = tally.refused
        reason = shortfall_reason(refusal)
        self._stops[order.mission_id].close()
        await retried(
            lambda: self._store.wait_for_room(
                job.run_id, job.attempt, hold, reason, plan_note(tally)
            )
        )
        return self._report(
            order,
            "waiting",
            due_at=job.run.due_at,
            decision="skipped-budget",
            reason=reason,
            tally=tally,
        )

    async def _wait(
        self,
        order: Order,
        job: Job,
        tally: Tally,
        delay_s: float,
        what: str,
        reason: str,
        *,
        failed: bool,
    ) -> Report:
        usage_now = (await retried(lambda: self._store.mission(job.mission.id)) or job.view).now
        look_at = usage_now + timedelta(seconds=delay_s)
        self._stops[order.mission_id].close()
        await retried(
            lambda: self._store.wait(
                job.run_id,
                job.attempt,
                look_at,
                what,
                reason,
                failed=failed,
                note=plan_note(tally),
            )
        )
        # The supervisor may have looked before this report came, and put the mission off by 30 s.
        return self._report(
            order, "waiting", due_at=job.run.due_at, look_at=look_at, reason=reason, tally=tally
        )

    async def _close(
        self,
        order: Order,
        job: Job,
        tally: Tally,
        iteration: Callable[[datetime], dict[str, Any]],
        *,
        failed: bool,
        steps: int,
        reason: str | None,
    ) -> Report:
        self._stops[order.mission_id].close()
        ended = await retried_close(
            lambda: self._close_once(
                job, tally, iteration, failed=failed, steps=steps, reason=reason
            ),
            lambda: self._store.landed(job.run_id, job.attempt),
        )
        self._crash("after_commit_before_reply")
        if isinstance(ended, Withdrawal):
            return self._report(
                order,
                "withdrawn",
                decision="withdrawn",
                reason=ended.reason,
                due_at=job.run.due_at,
                tally=tally,
            )
        return self._report(
            order,
            "failed" if failed else "ran",
            decision="failed" if failed else "ran",
            reason=reason or "",
            due_at=job.run.due_at,
            iteration_id=job.run.iteration_id,
            steps=steps,
            tally=tally,
        )

    async def _close_once(
        self,
        job: Job,
        tally: Tally,
        iteration: Callable[[datetime], dict[str, Any]],
        *,
        failed: bool,
        steps: int,
        reason: str | None,
    ) -> Withdrawal | None:
        async with self._store.closing(job.run_id, job.attempt) as (now, connection):
            note = plan_note(tally)
            await self._store.note_plan(connection, job.run_id, job.attempt, note)
            written = iteration(now.now)
            if "usedEncryptedInputs" in written:
                written = sealed_for(await self._store.owner_key(connection), job.run, written)
            ended = last_write.close(
                self._closing(job, now),
                written,
                failed=failed,
                steps=steps,
                reason=reason,
            )
            if isinstance(ended, Withdrawal):
                await self._store.withdraw(
                    connection, job.run_id, job.attempt, ended.reason, now.now + _LOOK_SOON
                )
                return ended
            await self._store.commit(connection, job.run_id, job.attempt, ended)
            self._crash("in_commit")
        return None

    def _closing(self, job: Job, now: MissionNow) -> Closing:
        zone = ZoneInfo(now.time_zone or self._settings.time_zone)
        return Closing(job.run, now.snapshot, now.agent, job.agent.name, zone, now.now)
