"""The ways a claimed run ends: a plan, a recorded failure, a wait, a skip, or nothing any more.

Each is one transaction, asked for again while the database is away, and too late to be stopped.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from mana_actors.agent.attempt.attempt import Attempt, FinalFailure
from mana_actors.agent.inputs.sealed_inputs import Unreadable
from mana_actors.agent.planner.loop import PlanOutcome
from mana_actors.agent.planner.prompt import latest_iterations
from mana_actors.agent.retries import backoff_s, retried, retried_close
from mana_actors.crash import CrashPoint
from mana_actors.messages import AgentSettings, Count
from state.log.iterations import PlannedStep, failed_iteration, iteration_from_plan
from state.log.stamps import text_of
from state.rules.budgets import shortfall_reason
from state.runs.commit import CommitFacts, Iteration, Withdrawal, commit_of
from state.runs.occurrence import Closed, Occurrence
from state.runs.outcome import Failed, Outcome, Ran, SkippedForGrant, Waits, WaitsForRoom, Withdrawn
from state.sealing.derived_text import Place, sealed_iteration, tells_derived_text
from state.sealing.key_pairs import OwnerKey
from state.sealing.values import IV_BYTES, KEY_BYTES, DataKey
from state.store.agent import AgentStore
from state.store.connect import Superseded

log = logging.getLogger("mana.run")

_LOOK_SOON = timedelta(seconds=2)
_LOOK_AFTER_STOP_S = 0.2


class Endings:
    """Ends the claimed runs of one agent."""

    def __init__(self, *, store: AgentStore, settings: AgentSettings, crash: CrashPoint) -> None:
        self._store, self._settings, self._crash = store, settings, crash

    async def commit(self, attempt: Attempt, plan: PlanOutcome, warnings: list[str]) -> Outcome:
        """Write the plan, sealed for its owner where decrypted inputs went into it."""
        occurrence = attempt.job.occurrence
        steps = [
            PlannedStep(call.name, dict(call.arguments), rationale=call.rationale)
            for call in plan.steps
        ]
        is_derived = attempt.tally.used_secrets or tells_derived_text(
            latest_iterations(attempt.job.mission)
        )

        def iteration(now: datetime, owner: OwnerKey | None) -> Iteration:
            written = iteration_from_plan(
                steps, plan.summary or "", occurrence.iteration_id, text_of(now), plan.cut_short
            )
            if not is_derived:
                return written
            return _sealed({**written, "usedEncryptedInputs": True}, owner, occurrence)

        reason = "; ".join(filter(None, [plan.cut_short, *warnings]))
        withdrawn = await self._close(
            attempt,
            iteration,
            state="committed",
            steps=len(steps),
            reason=reason or None,
            is_derived=is_derived,
        )
        due_at, iteration_id = occurrence.due_at, occurrence.iteration_id
        return withdrawn or Ran(due_at, iteration_id, len(steps), reason)

    async def fail(
        self, attempt: Attempt, failure: FinalFailure, *, again: bool, after_s: float | None = None
    ) -> Outcome:
        """Back off, or after the last try write a failed iteration that the owner sees."""
        settings, job = self._settings, attempt.job
        if failure.name in ("invalid_answer", "truncated", "empty-plan"):
            # The model made no sense; one that was out of reach is no parse failure.
            attempt.tally.counts.append(Count("parse_failures_total"))
        if again and job.failures + 1 < settings.run_attempts:
            return await self._back_off(
                attempt, job.failures, failure.message, asked_s=after_s, failed=True
            )
        occurrence = job.occurrence

        def iteration(now: datetime, _: OwnerKey | None) -> Iteration:
            id_ = occurrence.iteration_id
            return failed_iteration(id_, text_of(now), failure.name, failure.message)

        withdrawn = await self._close(
            attempt, iteration, state="failed", steps=0, reason=failure.message
        )
        return withdrawn or Failed(occurrence.due_at, occurrence.iteration_id, failure.message)

    async def wait_for_keys(self, attempt: Attempt, reason: str) -> Outcome:
        """Come again, however often: an absent key holder is no failure of this mission."""
        return await self._back_off(attempt, attempt.job.attempt, reason, failed=False)

    async def wait_for_room(self, attempt: Attempt) -> Outcome:
        """Nothing was planned yet: come again when room returns or a cap changes, and say so."""
        job, tally = attempt.job, attempt.tally
        assert tally.refused is not None, "only a refusal raises BudgetExhausted"
        hold, refusal = tally.refused
        reason = shortfall_reason(refusal)
        attempt.close()
        is_news = await retried(
            lambda: self._store.wait_for_room(job.run_id, job.attempt, hold, reason, tally.note())
        )
        self._crash("after_commit_before_reply")
        return WaitsForRoom(job.occurrence.due_at, reason, is_news)

    async def skip(self, attempt: Attempt, unreadable: Unreadable) -> Outcome:
        """Skip rather than plan blind; a new row of the owner's makes it run."""
        job, tally, reason = attempt.job, attempt.tally, unreadable.reason
        tally.counts += [Count("grant_skips_total", (unreadable.code,)), *unreadable.counts]
        now = (await retried(lambda: self._store.mission(job.mission.id)) or job.view).now
        attempt.close()
        is_news = await retried(
            lambda: self._store.skip(
                job.run_id, job.attempt, reason, _LOOK_AFTER_STOP_S, tally.note()
            )
        )
        self._crash("after_commit_before_reply")
        again_s = unreadable.again_s
        look_at = None if again_s is None else now + timedelta(seconds=again_s)
        return SkippedForGrant(job.occurrence.due_at, reason, look_at, is_news)

    async def stop(self, attempt: Attempt, reason: str) -> Outcome:
        """Withdraw it, unless it was cancelled: then it is closed, and its decision noted."""
        job, ours, is_news = attempt.job, attempt.job.occurrence, True
        try:
            await retried(
                lambda: self._store.stop(
                    job.run_id, job.attempt, reason, _LOOK_AFTER_STOP_S, attempt.tally.note()
                )
            )
        except Superseded:
            is_news = False
        self._crash("after_commit_before_reply")
        log.info("run_stopped agent=%s/%s mission=%s", ours.user_id, ours.agent_id, ours.mission_id)
        return Withdrawn(ours.due_at, reason, is_news)

    async def _back_off(
        self,
        attempt: Attempt,
        failures: int,
        reason: str,
        *,
        asked_s: float | None = None,
        failed: bool,
    ) -> Outcome:
        """Wait the longer, the more often it failed; `failed` counts against its tries."""
        job, settings, chance = attempt.job, self._settings, secrets.SystemRandom().random()
        least, most = settings.backoff_min_s, settings.backoff_max_s
        delay_s = backoff_s(failures, least, most, chance, asked_s)
        now = (await retried(lambda: self._store.mission(job.mission.id)) or job.view).now
        look_at = now + timedelta(seconds=delay_s)
        attempt.close()
        await retried(
            lambda: self._store.wait(
                job.run_id,
                job.attempt,
                look_at,
                "back-off",
                reason,
                failed=failed,
                note=attempt.tally.note(),
            )
        )
        # The supervisor may have looked before the report comes, and put the mission off by 30 s.
        return Waits(job.occurrence.due_at, look_at, reason)

    async def _close(
        self,
        attempt: Attempt,
        iteration: Callable[[datetime, OwnerKey | None], Iteration],
        *,
        state: Closed,
        steps: int,
        reason: str | None,
        is_derived: bool = False,
    ) -> Withdrawn | None:
        """Write the iteration and close the run, unless its owner wants it no longer by then."""
        job, store = attempt.job, self._store
        attempt.close()

        async def once() -> Withdrawal | None:
            async with store.closing(job.run_id, job.attempt) as (now, connection):
                await store.note_plan(connection, job.run_id, job.attempt, attempt.tally.note())
                owner = await store.owner_key(connection) if is_derived else None
                decided = commit_of(
                    CommitFacts(
                        occurrence=job.occurrence,
                        snapshot=now.snapshot,
                        agent=now.agent,
                        agent_name=job.agent.name,
                        zone=ZoneInfo(now.time_zone or self._settings.time_zone),
                        now=now.now,
                        seen=job.seen,
                    ),
                    iteration(now.now, owner),
                    state=state,
                    steps=steps,
                    reason=reason,
                )
                if isinstance(decided, Withdrawal):
                    look_at = now.now + _LOOK_SOON
                    await store.withdraw(
                        connection, job.run_id, job.attempt, decided.reason, look_at
                    )
                    return decided
                await store.commit(connection, job.run_id, job.attempt, decided)
                self._crash("in_commit")
            return None

        ended = await retried_close(once, lambda: store.landed(job.run_id, job.attempt))
        self._crash("after_commit_before_reply")
        return None if ended is None else Withdrawn(job.occurrence.due_at, ended.reason)


def _sealed(iteration: Iteration, owner: OwnerKey | None, occurrence: Occurrence) -> Iteration:
    """The iteration under a key of its own; as it is where its owner registered none."""
    if owner is None:
        return iteration
    place = Place(occurrence.user_id, occurrence.mission_id, iteration["id"])

    def new_iv() -> bytes:
        return secrets.token_bytes(IV_BYTES)

    with DataKey(bytearray(secrets.token_bytes(KEY_BYTES))) as key:
        return sealed_iteration(iteration, owner, place, key, new_iv)
