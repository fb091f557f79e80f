"""Stories, lists and differences in words. Times are relative to a request's arrival, in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from server.core.types import Close, Failure, GenerateRequest, InferRequest, Refusal
from server.recording.facts import Facts
from server.recording.file import Header
from server.recording.known import read_model
from server.recording.listing import Ended
from server.recording.replay import Difference
from server.recording.story import Admission, End, Ride, Story
from server.recording.telling_stay import ending, stay_lines, why_so
from server.recording.units import after, ms

MOST_BEFORE = 3
"""So many of the batches that ran before are told one by one."""

WHY_CLOSED = {
    Close.FULL: "full, there was no room for the next request",
    Close.IDLE: "everything that waited was in it",
    Close.KNEE: "more rows would not have raised the rate",
    Close.DEADLINE: "more rows would have made the most urgent request in it late",
    Close.LENGTH: "the other lengths that waited would have cost more in padding than they saved",
    Close.PRIORITY: "the next in line had a lower priority and would have been late in a larger batch",
    Close.ALONE: "a second try, alone, because a batch with it in failed",
}


def calendar(header: Header, at: float) -> datetime:
    """A time of the scheduler's clock as UTC."""
    return datetime.fromtimestamp(header.written_ms / 1e3 + at - header.now, UTC)


def story_lines(story: Story, header: Header) -> Iterator[str]:
    """The whole story, a line for each thing that happened, and at last why it ended so."""
    request = story.request
    arrived_at = request.arrived_at
    named = f" {story.name!r}" if story.name else ""
    yield f"request {request.id}{named}: {_asked(request)}"

    def line(at: float, text: str) -> str:
        return f"  {after(at - arrived_at):>12}  {text}"

    when = calendar(header, arrived_at).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    within_s = request.deadline_at - arrived_at
    allowed_s = header.allowed_s(within_s)
    wanted, so = ("answer", "its batch must end") if story.stay is None else ("first token", "its prompt must be done")
    yield line(
        arrived_at,
        f"arrived ({when} UTC); {wanted} wanted within {ms(allowed_s)}, so {so} by "
        f"{after(within_s)}: {ms(allowed_s - within_s)} are kept for the reply",
    )
    came = story.admission if story.stay is None else story.stay.came_at
    if came is None:
        yield f"  {'':>12}  how it was admitted is not in the recording, which begins later, or its model was not open"
    for at, text in _ridden(story) if story.stay is None else stay_lines(story, story.stay, header):
        yield f"  {'':>12}  {text}" if at is None else line(at, text)
    if story.end is not End.OPEN:
        yield line(story.ended_at, _ending(story, header) if story.stay is None else ending(story, story.stay))
    yield f"why: {why(story, header)}"


def _asked(request: InferRequest[None]) -> str:
    urgency = f", priority {request.priority}" if request.priority else ""
    if isinstance(request, GenerateRequest):
        return f"a prompt of {request.length} tokens and up to {request.new_tokens} new ones for {request.model}{urgency}"
    long = f", length {request.length}" if request.length else ""
    return f"{_rows(request.rows)} for {request.model}{long}{urgency}"


def _ridden(story: Story) -> Iterator[tuple[float | None, str]]:
    """Its admission and its batches; without a time: what belongs to the line before."""
    if story.admission is not None:
        for text in _admission(story, story.admission):
            yield story.admission.at, text
    for ride in story.rides:
        yield ride.batch.formed_at, _formed(story, ride)
        for text in _before(story, ride) if ride is story.rides[0] else ():
            yield None, text
        if ride.ended_at is not None:
            yield ride.ended_at, _ended(ride)


def why(story: Story, header: Header) -> str:
    """The reason for the end, with its numbers and, where there is one, the remedy."""
    if story.stay is not None:
        return why_so(story, story.stay, header)
    match story.end:
        case End.ANSWERED:
            left_s = header.left_s(story.request, story.ended_at)
            return f"in time, {ms(left_s)} were left." if left_s >= 0 else _why_late(story, -left_s)
        case End.REFUSED:
            return _why_refused(story, header)
        case End.FAILED:
            return _why_failed(story)
        case End.CANCELLED:
            return "its client went away; nobody waited for the answer any more."
        case End.OPEN:
            return "it had no outcome yet when the recording ended."


def _admission(story: Story, seen: Admission) -> Iterator[str]:
    request = story.request
    late_s = seen.at - request.arrived_at
    came = f"reached the scheduler{f' after {ms(late_s)} of reading and preparing' if late_s > 1e-4 else ''}"
    busy = (
        "an instance was free"
        if seen.free_at <= seen.at
        else f"no instance was expected to be free before {ms(seen.free_at - seen.at)}"
    )
    yield f"{came}; {seen.n_waiting} requests waited ({_rows(seen.rows_waiting)}), {busy}"
    slack_s = request.deadline_at - seen.end_at
    verdict = f"{ms(abs(slack_s))} {'before' if slack_s >= 0 else 'after'} the deadline"
    yield (
        f"predicted: {ms(max(0.0, seen.before_s))} of work before it, {ms(seen.own_s)} for its batch, so the end at "
        f"{after(seen.end_at - request.arrived_at)}, {verdict}: {'refused' if seen.why_not else 'admitted'}"
    )


def _formed(story: Story, ride: Ride) -> str:
    batch, request = ride.batch, story.request
    others = len(batch.requests) - 1
    company = "alone" if not others else f"with {others} other{'s' if others > 1 else ''}"
    padded = f", padded from {request.length} to {batch.length}" if batch.length > request.length else ""
    ahead = ", ahead of a free instance" if ride.is_ahead else ""
    return (
        f"batch {batch.id} formed {company}{ahead}: {_rows(batch.rows)}{padded}; {ride.n_left} were left waiting. Closed: "
        f"{batch.close.value} ({WHY_CLOSED[batch.close]})"
    )


def _before(story: Story, own: Ride) -> Iterator[str]:
    before = [ride for ride in story.before if ride.ended_at is None or ride.ended_at > story.request.arrived_at]
    if not before:
        return
    if len(before) > MOST_BEFORE:
        yield f"{len(before)} batches ran or were given before it; the last {MOST_BEFORE}:"
    for ride in before[-MOST_BEFORE:]:
        model = f" of {ride.batch.model}" if ride.batch.model != own.batch.model else ""
        ended = "" if ride.ended_at is None else f", ended {after(ride.ended_at - story.request.arrived_at)}"
        yield f"before it: batch {ride.batch.id}{model}, {_rows(ride.batch.rows)}, {_measured(ride)}{ended}"


def _ended(ride: Ride) -> str:
    how = "ended" if ride.problem is None else f"failed ({ride.problem})"
    waited = "" if ride.hand_over_s is None else f", of which {ms(ride.hand_over_s)} until an instance took it up"
    return f"batch {ride.batch.id} {how}: {_measured(ride)}{waited}"


def _measured(ride: Ride) -> str:
    if ride.took_s is None:
        return f"{ms(ride.expected_s)} predicted"
    return f"took {ms(ride.took_s)}, {ms(ride.expected_s)} predicted ({ride.took_s / ride.expected_s:.2f} times)"


def _ending(story: Story, header: Header) -> str:
    left_s = header.left_s(story.request, story.ended_at)
    if story.end is End.REFUSED:
        again = f", to be tried again in {ms(story.retry_after_s)}" if story.retry_after_s is not None else ""
        return f"refused: {story.why}{again}"
    if story.end is End.ANSWERED:
        return f"answered, {ms(abs(left_s))} {'before' if left_s >= 0 else 'AFTER'} the end of the time allowed"
    return str(story.end.value)


def _why_late(story: Story, late_s: float) -> str:
    """What took longer than was reckoned with: the wait for its batch, or the batch."""
    ride = story.rides[-1]
    took_s = ride.took_s or 0.0
    own_s = took_s - ride.expected_s
    began_at = story.ended_at - took_s
    text = f"{ms(late_s)} late"
    if story.admission is None:
        return f"{text}; its batch took {ms(took_s)}, {ms(ride.expected_s)} were predicted."
    wait_s = began_at - (story.admission.end_at - story.admission.own_s)
    if own_s >= wait_s and ride.hand_over_s is not None and ride.hand_over_s > own_s / 2:
        return (
            f"{text}: an instance took its batch up only {ms(ride.hand_over_s)} after it was formed. The server's process was busy with "
            "something else, most likely with reading other requests: it gets more than one core can read. See --frontends."
        )
    if own_s >= wait_s:
        return (
            f"{text}: its own batch took {ms(own_s)} longer than predicted ({ms(took_s)} instead of {ms(ride.expected_s)}). "
            "If that lasts, ferry_profile_ratio shows it: look what else runs on this machine, or publish the model again here."
        )
    worst = max(story.before, key=_overrun_s, default=None)
    culprit = ""
    if worst is not None and _overrun_s(worst) > 0:
        culprit = f" The most, {ms(_overrun_s(worst))}, came from batch {worst.batch.id}: {_measured(worst)}."
    return f"{text}: its batch began {ms(wait_s)} later than predicted when it came.{culprit}"


def _overrun_s(ride: Ride) -> float:
    return 0.0 if ride.took_s is None else ride.took_s - ride.expected_s


def _why_refused(story: Story, header: Header) -> str:
    seen, request = story.admission, story.request
    if story.why == Refusal.DRAINING.value:
        return "its model was being unloaded. Ask for another version, or ask again when it is loaded."
    if seen is None:
        return f"{story.why}; what the scheduler reckoned with is not in the recording."
    if story.why == Refusal.QUEUE_FULL.value:
        return (
            f"{_rows(seen.rows_waiting)} waited and with its {_rows(request.rows)} there would have been more than the limit of "
            f"{seen.queue_rows}, which is two SLOs' worth of work. Send fewer requests, or add instances."
        )
    if story.ended_at > seen.at:
        return _why_given_up(story, seen)
    left_s = request.deadline_at - seen.at
    if story.retry_after_s is None:
        return (
            f"even alone and at once its batch takes {ms(seen.alone_s)}, and {ms(left_s)} were left of the "
            f"{ms(header.allowed_s(request.deadline_at - request.arrived_at))} allowed. Allow more time: the client's timeout or the model's SLO."
        )
    return (
        f"it would have been {ms(seen.end_at - request.deadline_at)} late: {ms(max(0.0, seen.free_at - seen.at))} until an instance is free, "
        f"{ms(max(0.0, seen.before_s))} of work before it, {ms(seen.own_s)} for its batch, and only {ms(left_s)} left. "
        "Send fewer requests, allow more time, or add instances."
    )


def _why_failed(story: Story) -> str:
    if story.why == Failure.INSTANCE_LOST.value:
        return f"the instance that ran its batch died ({story.detail}). It may be tried again: another instance is started."
    return (
        f"the model failed on this very request ({story.detail}): a batch that fails is run again, each of its requests alone."
    )


def _why_given_up(story: Story, seen: Admission) -> str:
    arrived_at = story.request.arrived_at
    predicted_s = max(0.0, seen.end_at - seen.own_s - arrived_at)
    waited = f"it was admitted, waited {ms(story.ended_at - arrived_at)} where {ms(predicted_s)} were predicted, and"
    if story.was_hopeless:
        reason = "then even a batch of its own could not end in time."
    else:
        reason = "then its deadline left room for a small batch only, which would have made those behind it late: it was given up for a fuller one."
    return f"{waited} {reason} Batches took longer than predicted, or more urgent requests came."


def list_lines(header: Header, names: dict[int, str], found: Sequence[Ended]) -> Iterator[str]:
    """A table of requests and their ends."""
    yield f"{'request':>12}  {'arrived (UTC)':<12}  {'model':<20} {'latency':>12}  {'deadline':>18}  name"
    for one in found:
        number, late_s = one.request.id, one.late_s
        left = "not known" if late_s is None else f"{ms(abs(late_s))} {'LATE' if late_s > 0 else 'left'}"
        outcome = f"refused: {one.why}" if one.why else left
        when = calendar(header, one.request.arrived_at).strftime("%H:%M:%S.%f")[:-3]
        name = repr(names[number]) if number in names else ""  # it is a client's: it may hold what a terminal obeys
        yield f"{number:>12}  {when:<13}  {one.request.model!s:<20} {ms(one.latency_s):>12}  {outcome:>18}  {name}".rstrip()


def difference_lines(difference: Difference, began_at: float) -> Iterator[str]:
    """What this code decides otherwise, on which event."""
    line = difference.line
    yield f"event {difference.number}, {line.at - began_at:.6f} s after the first: {fact_words(line.event)}"
    for title, actions in (("recorded", line.actions), ("this ferry", difference.decided)):
        for place, facts in enumerate(actions or [["nothing"]]):
            yield f"  {title + ':' if not place else '':<12}{fact_words(facts)}"


def fact_words(facts: Facts) -> str:
    """An event or a decision in a few words."""
    match facts:
        case ["submit", model, requests]:
            return f"requests for {read_model(model)}: {_numbers([one[0] for one in requests])}"
        case ["run", batch, numbers, rows, length, close]:
            return f"run batch {batch}: {_numbers(numbers)}, {_rows(rows)}{f' of length {length}' if length else ''}, closed: {close}"
        case ["answer", batch, None]:
            return f"answer all of batch {batch}"
        case ["answer", batch, numbers]:
            return f"answer {_numbers(numbers)} of batch {batch}"
        case ["refuse", number, why, retry_after_s]:
            return f"refuse #{number}: {why}{'' if retry_after_s is None else f', try again in {ms(retry_after_s)}'}"
        case ["fail", number, why, detail]:
            return f"fail #{number}: {why}, {detail}"
        case ["cancel", model, request]:
            return f"request #{request[0]} for {read_model(model)} is cancelled"
        case ["open" | "open_resident" | "recost" | "closed" | "drain" | "instance_up" as kind, model, *_]:
            return f"{kind.replace('_', ' ')}: {read_model(model)}"
        case ["nothing"]:
            return "nothing"
    return _step_words(facts)


def _step_words(facts: Facts) -> str:
    match facts:
        case ["iterate", number, instance, decode, chunks, *_]:
            parts = [f"a token for {_numbers(decode)}"] if decode else []
            parts += [f"prompt of #{one} from {start} to {stop}" for one, start, stop in chunks]
            return f"step {number} on instance {instance}: {', '.join(parts)}"
        case ["emit", number, numbers, ended]:
            last = f", the last for {_numbers(ended)}" if ended else ""
            return f"tokens of step {number} to {_numbers(numbers)}{last}"
        case ["release", model, instance, numbers]:
            return f"{_numbers(numbers)} left instance {instance} of {read_model(model)}"
    return " ".join([str(facts[0]).replace("_", " "), *map(str, facts[1:])])


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(f"#{number}" for number in numbers)


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"
