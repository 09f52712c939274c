"""What a timeline must be for the programs that draw it, whatever trace it was made of."""

from __future__ import annotations

import json
from typing import Any

import wire


def check_chrome(written: bytes) -> None:
    document = json.loads(written)
    assert document["displayTimeUnit"] == "ms"
    open_until: dict[tuple[int, int], list[float]] = {}
    begun, arrived = [], []
    for event in document["traceEvents"]:
        assert isinstance(event["name"], str)
        match event["ph"]:
            case "X":
                assert event["dur"] >= 0
                within = open_until.setdefault((event["pid"], event["tid"]), [])
                while within and within[-1] <= event["ts"]:
                    within.pop()
                end = event["ts"] + event["dur"]
                assert not within or end <= within[-1] + 0.001
                within.append(end)
            case "s":
                begun.append(event["id"])
            case "f":
                arrived.append(event["id"])
            case kind:
                assert kind in "MiC"
    assert begun == arrived
    assert len(set(begun)) == len(begun)


def packets(written: bytes) -> list[wire.Fields]:
    found = wire.fields(written)
    assert found.keys() == {1}
    return [wire.fields(raw) for raw in found[1] if isinstance(raw, bytes)]


def check_perfetto(written: bytes) -> None:
    tracks: set[Any] = set()
    depth: dict[Any, int] = {}
    last: dict[Any, int] = {}
    begun: list[Any] = []
    arrived: list[Any] = []
    for packet in packets(written):
        assert packet[10] == [1]
        for descriptor in packet.get(60, ()):
            assert isinstance(descriptor, bytes)
            (uuid,) = wire.fields(descriptor)[1]
            assert uuid not in tracks
            tracks.add(uuid)
        for event in packet.get(11, ()):
            assert isinstance(event, bytes)
            told = wire.fields(event)
            assert len(packet[8]) == 1
            (track,), (kind,) = told[11], told[9]
            assert track in tracks
            if kind in (1, 2):  # the reader sorts by time, and keeps the order of what is at one time
                (t,) = packet[8]
                assert int(t) >= last.get(track, 0)
                last[track] = int(t)
            depth[track] = depth.get(track, 0) + {1: 1, 2: -1}.get(int(kind), 0)
            assert depth[track] >= 0
            begun += told.get(47, ())
            arrived += told.get(48, ())
            for name in told.get(23, ()):
                assert isinstance(name, bytes)
                name.decode()
    assert not any(depth.values())
    assert sorted(begun) == sorted(arrived)
    assert len(set(begun)) == len(begun)
