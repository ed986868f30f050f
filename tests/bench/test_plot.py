"""The plot of a run shows what was measured, and reads on a light page and on a dark one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from bench import plot
from bench.svg import Drawing

if TYPE_CHECKING:
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"


def entry(name: str, median: float | None, **others: Any) -> dict[str, Any]:
    """Make up an entry of the document."""
    return {"name": name, "median": median, "yardstick": False, "syncs": True, "mq9_ratio": None} | others


def document() -> dict[str, Any]:
    """Make up a document."""
    sends = {
        "key": "P1a",
        "title": "durable <send>",
        "unit": "sends/s",
        "quantity": "per second",
        "entries": [
            entry("mq9", 1_000_000.0),
            entry("JetStream", 250_000.0, syncs=False, mq9_ratio=4.0),
            entry("RabbitMQ", None),
            entry("the generator's ceiling", 9e6, yardstick=True),
        ],
        "bars": [
            {"against": "JetStream", "value": 2.0},
            {"against": None, "value": 750_000.0},
            {"against": None, "value": None},
        ],
    }
    alone = sends | {
        "key": "P8a",
        "title": "alone",
        "entries": [entry("mq9", 1.0), entry("JetStream", None)],
        "bars": [],
    }
    machine = {"cores": 2, "processor": "P", "system": "S"}
    return {"machine": machine, "rounds": 5, "figures": [sends, alone]}


def drawn(svg: str) -> tuple[list[ET.Element], list[str], list[float]]:
    """Read the bars without those of the legend, the texts, and where marks are."""
    root = ET.fromstring(svg)  # noqa: S314 - our own
    bars = root.findall(f"{SVG}rect")[2:]
    texts = ["".join(text.itertext()) for text in root.findall(f"{SVG}text")]
    marks = [
        float((line.get("points") or "").split(",")[0])
        for line in root.findall(f"{SVG}polyline")
        if line.get("class") == "mark"
    ]
    return bars, texts, marks[1:]


def test_bars_are_as_long_as_their_figures_and_marks_are_where_the_bars_to_reach_are() -> None:
    bars, texts, marks = drawn(plot.draw(document()))
    ours, theirs = (float(bar.get("width") or 0) for bar in bars)
    assert theirs == ours / 4
    assert [bar.get("class") for bar in bars] == ["ours", "weaker"]
    start = float(bars[0].get("x") or 0)
    assert marks == [start + ours * share for share in (0.5, 0.75)]
    assert {"durable <send>", "1.00 M", "250.0 k  (mq9: 4 x)", "could not be measured here"} <= set(texts)


def test_only_what_can_be_compared_is_drawn() -> None:
    _, texts, _ = drawn(plot.draw(document()))
    assert "alone" not in texts
    assert "the generator's ceiling" not in texts
    assert drawn(plot.draw(document(), ["P8"]))[0] == []


def test_another_setting_of_mq9_is_not_a_peer() -> None:
    told = document()
    told["figures"][0]["entries"][1] = entry("mq9, 10,000 mailboxes", 500_000.0, mq9_ratio=2.0)
    bars, texts, _ = drawn(plot.draw(told))
    assert [bar.get("class") for bar in bars] == ["ours", "ours"]
    assert "500.0 k" in texts


def test_every_class_has_a_colour_for_light_and_for_dark_pages() -> None:
    svg = plot.draw(document())
    root = ET.fromstring(svg)  # noqa: S314 - our own
    style = root.findtext(f"{SVG}style") or ""
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    used = {name for part in root.iter() for name in (part.get("class") or "").split()} - {"strong"}
    assert used
    for name in used:
        assert f".{name}{{" in light
        assert f".{name}{{" in dark
    assert "style=" not in svg
    assert "fill=" not in svg


def test_a_drawing_is_as_high_as_what_is_in_it() -> None:
    drawing = Drawing(100, "a & b")
    drawing.bar(0, 50, 10, 20, "ours")
    drawing.line([(0, 0), (10, 90)], "curve")
    root = ET.fromstring(str(drawing))  # noqa: S314 - our own
    assert float(root.get("height") or 0) >= 90
    assert root.findtext(f"{SVG}title") == "a & b"


def test_a_run_can_be_drawn_anew(tmp_path: Path) -> None:
    source, target = tmp_path / "bench.json", tmp_path / "bench.svg"
    source.write_text(json.dumps(document()))
    assert plot.main([str(source), str(target), "P1"]) == 0
    assert target.read_text() == plot.draw(document(), ["P1"])
