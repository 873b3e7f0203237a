"""Decides the next round of actions that bring a node closer to its desired state. Pure: ``now_ns`` is an argument.

The loop calls it. Per instance one round holds one step, so a step that failed is never followed by one that relied
on it. What it refuses to do: stop anything for another reason than a desired state that no longer names it, restart an
instance whose release digest and configuration are unchanged (live parameters aside), start or replace what this
node cannot honour, stop or replace what runs while the site holds its changes, or replace both instances of a hot
standby pair at once: the standby comes first, and the other one hands over to it when it is stopped. A release that
says ``onlineChange`` never stops a program of class control that runs: it takes over, or waits and says for what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.actions import Action, Change, Configure, Connect, Pull, Remove, Replace, Start, Stop, Wait
from agent.pairs import is_standby, pair_of
from agent.placement import ControlNode, Place, place
from agent.runtimes.base import Attempts, Observed, ObservedInstance, Phase, Wanted, frame_digest

_SECOND = 1_000_000_000
FIRST_DELAY_NS = 1 * _SECOND
LONGEST_DELAY_NS = 60 * _SECOND
CRASH_LOOP_AFTER = 3  # failures in a row: one is chance, two may be the same cause, three is a loop
STABLE_NS = 60 * _SECOND  # running this long ends a row of failures
PAIR_NS = 10 * _SECOND  # what a new standby is given to start and to follow
NOT_PLACEABLE = "NotPlaceable"
HELD = "Held"
NO_CONTROL = ControlNode()


def plan(
    desired: Sequence[Wanted] | None,
    observed: Observed,
    now_ns: int,
    node: ControlNode = NO_CONTROL,
    held: str = "",
) -> list[Action]:
    """One round; ``[]`` means converged. ``desired`` is None while nothing verified is known: then nothing changes.

    ``node``: what this machine offers to class control, from its own configuration. ``held``: why what runs stays as
    it is, though the generation in force says otherwise; what is down is started as that generation says.
    """
    if desired is None:
        return [Wait("node", "NoDesiredState", "no verified instructions have arrived yet")]
    actions: list[Action] = []
    names = {instance.name for instance in desired}
    for name, found in sorted(observed.instances.items()):
        if name in names:
            continue
        if found.phase is Phase.EXITED:
            actions.append(Remove(name))
        else:
            actions.append(Wait(name, HELD, held) if held else Stop(name))
    pulling: set[str] = set()
    connecting: set[str] = set()
    places = place(desired, observed.instances, node)
    for instance in sorted(desired, key=lambda wanted: wanted.name):
        step = _step(instance, observed, places[instance.name], now_ns)
        if held and isinstance(step, Replace | Change) and observed.instances[instance.name].phase is not Phase.EXITED:
            step = Wait(instance.name, HELD, held)
        if isinstance(step, Replace):
            step = _in_turn(step, desired, observed, now_ns)
        elif isinstance(step, Change):
            step = _leader_first(step, desired, observed)
        if isinstance(step, Pull):
            if step.artifact.root.digest in pulling:
                step = Wait(instance.name, "Pulling", "another instance needs the same artifact")
            else:
                pulling.add(step.artifact.root.digest)
        elif isinstance(step, Connect):
            if step.segment in connecting:
                step = Wait(instance.name, "Connecting", f"segment {step.segment}")
            else:
                connecting.add(step.segment)
        if step is not None:
            actions.append(step)
    return actions


def _step(instance: Wanted, observed: Observed, where: Place, now_ns: int) -> Action | None:
    found = observed.instances.get(instance.name)
    attempts = observed.attempts.get(instance.name, Attempts())
    unchanged = (
        found is not None
        and found.release_digest == instance.release_digest
        and found.config_digest == instance.config_digest
    )
    if unchanged and found is not None and found.phase is not Phase.EXITED and not found.drift:
        return _configured(instance, observed)
    if instance.artifact is None:
        platforms = ", ".join(artifact.platform for artifact in instance.release.artifacts) or "none"
        return Wait(instance.name, "NoArtifact", f"the release has artifacts for: {platforms}")
    if where.refusal:
        return Wait(instance.name, NOT_PLACEABLE, where.refusal)
    instance = replace(instance, core=where.core) if where.core is not None else instance
    ready_ns = attempts.last_ns + delay_ns(attempts.failures)
    if attempts.failures and now_ns < ready_ns:
        return Wait(instance.name, attempts.reason or "BackOff", attempts.detail, ready_ns)
    if instance.artifact is not None and instance.root not in observed.prepared:
        return Pull(instance.name, instance.artifact)
    if observed.segments is not None:
        missing = [segment for segment in instance.segments if segment not in observed.segments]
        if missing:
            return Connect(instance.name, missing[0])
    if unchanged and found is not None and found.drift:
        return Start(replace(instance, core=found.core))
    if found is None or unchanged:
        return Start(instance)
    if _goes_online(instance, found):
        return _change(instance, found, observed)
    return Replace(instance, found.release_digest, found.config_digest)


def _goes_online(instance: Wanted, found: ObservedInstance) -> bool:
    """Whether a program that runs must not be stopped for this release."""
    control = instance.release.control
    other = found.release_digest != instance.release_digest and found.workload == instance.release.name
    return control is not None and control.online_change and other and found.phase is Phase.RUNNING


def _change(instance: Wanted, found: ObservedInstance, observed: Observed) -> Action:
    begin = f"{instance.release.version} takes over without a stop"
    if found.config_digest != instance.config_digest:
        return Wait(
            instance.name, NOT_PLACEABLE, f"{begin}, but its configuration needs a new start: change that apart"
        )
    if observed.frames.get(instance.name) != frame_digest(instance.release, instance.segments):
        what = "resources, conduits, services, processor or priority"
        return Wait(instance.name, NOT_PLACEABLE, f"{begin}, but other {what} need a new start: release them apart")
    return Change(instance, found.release_digest)


def _leader_first(step: Change, desired: Sequence[Wanted], observed: Observed) -> Action:
    """Of a pair the primary, which usually leads, tries the program while the other could still go on with the old."""
    pair = pair_of(step.instance)
    for other in desired:
        found = observed.instances.get(other.name)
        if not pair or other.name == step.name or pair_of(other) != pair or found is None:
            continue
        if found.phase is Phase.RUNNING and found.release_digest != other.release_digest and is_standby(step.instance):
            return Wait(step.name, "PairInTurn", f"{other.name} tries the program first")
    return step


def _in_turn(step: Replace, desired: Sequence[Wanted], observed: Observed, now_ns: int) -> Action:
    """Waits for the other instance of its pair while that is about to be replaced, or has only just begun. One that
    does not run is nothing to wait for."""
    pair = pair_of(step.instance)
    for other in desired:
        found = observed.instances.get(other.name)
        if not pair or other.name == step.name or pair_of(other) != pair or found is None:
            continue
        if found.phase is not Phase.RUNNING:
            continue
        if (found.release_digest, found.config_digest) != (other.release_digest, other.config_digest):
            if (is_standby(step.instance), other.name) < (is_standby(other), step.name):
                return Wait(step.name, "PairInTurn", f"{other.name} stands by for it and is replaced first")
            continue
        life = observed.attempts.get(other.name, Attempts())
        if life.life_ns and now_ns < life.life_ns + PAIR_NS:
            ready_ns = life.life_ns + PAIR_NS
            return Wait(step.name, "PairInTurn", f"{other.name} has just begun and is to follow first", ready_ns)
    return step


def _configured(instance: Wanted, observed: Observed) -> Action | None:
    """A running instance whose context file says other live parameters than are wanted is given these."""
    told = observed.told.get(instance.name)
    return None if told is None or told == instance.told_digest else Configure(instance)


def delay_ns(failures: int) -> int:
    """How long to wait after that many failures in a row: 1 s, doubling, at most 60 s."""
    if failures <= 0:
        return 0
    return min(FIRST_DELAY_NS << min(failures - 1, 16), LONGEST_DELAY_NS)


def is_crash_loop(attempts: Attempts) -> bool:
    return attempts.failures >= CRASH_LOOP_AFTER


def after_failure(attempts: Attempts, reason: str, detail: str, now_ns: int) -> Attempts:
    return replace(attempts, failures=attempts.failures + 1, last_ns=now_ns, reason=reason, detail=detail)


def after_look(attempts: Attempts, found: ObservedInstance | None, now_ns: int) -> Attempts:
    """What is known of an instance's failures after looking again.

    The end of a life counts as one failure, and so does each life that the engine began by itself. A life that lasts
    ``STABLE_NS`` ends the row.
    """
    if found is None:
        return attempts
    if found.runtime_id != attempts.life:
        first = attempts.life == ""
        missed = not first and not attempts.ended and found.restarts > attempts.restarts
        attempts = replace(attempts, life=found.runtime_id, life_ns=now_ns, restarts=found.restarts, ended=False)
        if missed:
            attempts = after_failure(attempts, found.reason or "Exited", _how(found), now_ns)
        if first and found.phase is Phase.EXITED:  # it ended before this agent began (a power cut): no fault of its own
            attempts = replace(attempts, ended=True)
    if found.phase in (Phase.RESTARTING, Phase.EXITED) and not attempts.ended:
        return replace(after_failure(attempts, found.reason or "Exited", _how(found), now_ns), ended=True)
    if found.phase is Phase.RUNNING and attempts.failures and now_ns - attempts.life_ns >= STABLE_NS:
        return replace(attempts, failures=0, reason="", detail="")
    return attempts


def _how(found: ObservedInstance) -> str:
    if found.detail:
        return found.detail
    return "" if found.exit_code is None else f"exit code {found.exit_code}"
