"""Colour is a choice of whoever asks for the view; the terminal's name does not undo it."""

from __future__ import annotations

import io

import pytest

from forklore.report.styled_lines import Piece, write


@pytest.mark.parametrize("terminal", ["dumb", "unknown", "xterm-256color", None])
@pytest.mark.parametrize("color", [True, False])
def test_it_is_there_if_it_was_asked_for(terminal: str | None, color: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if terminal is None:
        monkeypatch.delenv("TERM", raising=False)
    else:
        monkeypatch.setenv("TERM", terminal)
    file = io.StringIO()
    write([(Piece("4711", "tid"),)], file, color=color)
    assert ("\x1b[" in file.getvalue()) == color
    assert "4711" in file.getvalue()
