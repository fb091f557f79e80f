import orjson
import pytest

from server.recording.file import BadRecording, read
from tests.server.recording.build import HEADER, Tape


def test_a_file_comes_back_as_it_was_written() -> None:
    tape = Tape()
    tape.submit(1.0, 1)
    tape.ring.name(1, "mine")
    recording = tape.recording()
    assert recording.header == HEADER
    assert recording.names == {1: "mine"}
    assert recording.n_events == 3
    assert recording.parts[0].lines[-1].actions == [["run", 1, [1], 1, 0, "idle"]]


@pytest.mark.parametrize("data", [b"", b"{}", b"<html>", b"[1]", b"\xff\xfe", b'"recording"'])
def test_what_is_no_recording_is_refused(data: bytes) -> None:
    with pytest.raises(BadRecording, match="first line is not the header"):
        read(data)


def test_another_format_is_refused_with_a_remedy() -> None:
    with pytest.raises(BadRecording, match=r"format 99, this ferry reads 1: use the ferry that wrote it"):
        read(b'{"recording":99}')


def test_a_header_with_parts_missing_is_refused() -> None:
    with pytest.raises(BadRecording, match="header of the recording is not whole"):
        read(b'{"recording":1,"ferry":"1"}')


def test_a_header_alone_is_refused() -> None:
    with pytest.raises(BadRecording, match="no state to begin with"):
        read(Tape().data().splitlines()[0])


def test_a_line_that_is_cut_off_is_named() -> None:
    data = Tape().data()
    with pytest.raises(BadRecording, match=r"line 4 is no line of a recording"):
        read(data[:-20])


def test_a_profile_that_is_none_is_refused() -> None:
    tape = Tape(chunk_bytes=1)
    header, _, _, state, *_ = tape.data().splitlines()
    broken = orjson.loads(state)
    broken["costs"][0]["profile"]["cells"] = []
    with pytest.raises(BadRecording, match="line 2"):
        read(b"\n".join([header, orjson.dumps(broken)]))


def test_an_event_before_any_state_is_refused() -> None:
    header, _, event, *_ = Tape().data().splitlines()
    with pytest.raises(BadRecording, match="line 2"):
        read(b"\n".join([header, event]))
