"""The story of a request that stays for many steps, in words. See telling.py."""

from __future__ import annotations

from collections.abc import Iterator

from server.core.types import Failure, Refusal
from server.recording.file import Header
from server.recording.stay import Stay
from server.recording.story import End, Story
from server.recording.units import ms

WHY_REFUSED = {
    Refusal.DEADLINE: "its first token could not be there in time, as far as was known then. Send fewer requests, allow more time, or add instances.",
    Refusal.QUEUE_FULL: "as many waited as may. Send fewer requests, or add instances.",
    Refusal.DRAINING: "its model was being unloaded. Ask for another version, or ask again when it is loaded.",
    Refusal.OVERLOAD: "requests came faster than they could be taken on. Send fewer.",
    Refusal.TOO_LONG: (
        "its prompt and new tokens together are more than there is ever room for, or than leave the time between tokens as short as was "
        "promised. Ask for fewer."
    ),
}


def stay_lines(story: Story, stay: Stay, header: Header) -> Iterator[tuple[float, str]]:
    """What happened, each with its time."""
    request = story.request
    if stay.came_at is not None:
        yield stay.came_at, f"reached the scheduler; {stay.n_waiting} requests waited, {stay.n_resident} were resident"
    happened = [
        (one.step.formed_at, f"tokens {one.chunk.start} to {one.chunk.stop} of its prompt in step {one.step.id}")
        for one in stay.prompted
    ]
    happened += [(at, f"step {step.id} failed ({detail})") for step, detail, at in stay.problems]
    happened.sort(key=_at)
    if stay.slot_at is not None:
        known = f"; {stay.n_known} tokens of its prompt were kept there from requests before" if stay.n_known else ""
        yield stay.slot_at, f"got a slot on instance {stay.instance}{known}"
    yield from happened
    if stay.first_at is not None:
        left_s = header.left_s(request, stay.first_at)
        yield (
            stay.first_at,
            f"first token, {ms(abs(left_s))} {'before' if left_s >= 0 else 'AFTER'} the end of the time allowed",
        )


def ending(story: Story, stay: Stay) -> str:
    """How it ended, in a few words."""
    if story.end is End.ANSWERED:
        return f"its last token, of {stay.n_tokens}"
    if story.end is End.REFUSED:
        again = f", to be tried again in {ms(story.retry_after_s)}" if story.retry_after_s is not None else ""
        return f"refused: {story.why}{again}"
    return f"{story.end.value}, with {stay.n_tokens} of its tokens"


def why_so(story: Story, stay: Stay, header: Header) -> str:
    """The reason for the end, as far as it is known."""
    match story.end:
        case End.ANSWERED:
            return _why_answered(story, stay, header)
        case End.REFUSED:
            return WHY_REFUSED[Refusal(story.why)]
        case End.FAILED:
            if story.why == Failure.INSTANCE_LOST.value:
                return f"the instance that it was resident on died ({story.detail}). It may be tried again: another is started."
            return f"the model failed on this very request ({story.detail}): a step that fails is run again for each of its requests alone."
        case End.CANCELLED:
            return "its client went away; nobody waited for more tokens."
        case End.OPEN:
            return "it had not ended yet when the recording ended."


def _why_answered(story: Story, stay: Stay, header: Header) -> str:
    gap_s = stay.worst_gap_s
    gaps = "" if gap_s is None else f" The longest time between two tokens was {ms(gap_s)}."
    if stay.first_at is None:
        return f"when its first token came is not in the recording.{gaps}"
    left_s = header.left_s(story.request, stay.first_at)
    if left_s >= 0:
        return f"its first token was in time, {ms(left_s)} were left.{gaps}"
    waited = ""
    if stay.slot_at is not None:
        waited = (
            f": it waited {ms(stay.slot_at - story.request.arrived_at)} for its slot, and its prompt took "
            f"{ms(stay.first_at - stay.slot_at)}"
        )
    return f"its first token was {ms(-left_s)} late{waited}.{gaps}"


def _at(happened: tuple[float, str]) -> float:
    return happened[0]
