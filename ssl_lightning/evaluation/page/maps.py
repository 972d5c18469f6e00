"""The maps of runs as points that say what they are under the mouse, and the nearest neighbours of
some of them."""

from __future__ import annotations

from collections.abc import Sequence

from .kept import Map
from .writing import colour, data, mark, section, text, uri

SIDE, MARGIN = 400, 8
"""Of a map, in its own units."""
NAMED = 20
"""Classes that are named beside a map."""
QUERIES, NEIGHBOURS = 8, 5
TILE = 36
"""The longest side of a sample beside its neighbours, in pixels."""


def maps(names: Sequence[str], kept: Sequence[Sequence[Map]]) -> tuple[str, str]:
    """The sections of maps and of neighbours."""
    drawn, near, number = [], [], 0
    for run, (name, some) in enumerate(zip(names, kept, strict=True)):
        for each in some:
            title = f"{mark(run)}{text(name)}" + (f", {text(each.stem)}" if len(some) > 1 else "")
            drawn.append(f"<h3>{title}</h3>{_drawn(each, f'map{number}')}")
            if sheet := _neighbours(each, f"map{number}"):
                near.append(f"<h3>{title}</h3>{sheet}")
            number += 1
    note = '<p class="quiet">Near means alike; distances between far groups mean little. Point at a sample.</p>'
    other = (
        '<p class="quiet">Some samples of the map, each with those of the map that are nearest to it by the cosine'
        " of their features, the nearest first.</p>"
    )
    return section("maps", "Map of the features", note * bool(drawn), *drawn), section(
        "neighbours", "Nearest neighbours", other * bool(near), *near
    )


def _drawn(each: Map, key: str) -> str:
    classes = list(dict.fromkeys(sorted(each.classes, key=_natural)))
    numbers = [classes.index(name) for name in each.classes] if classes else [0] * len(each.views[0][2])
    colours = [_of_class(number, len(classes)) for number in range(max(1, len(classes)))]
    figures = []
    for view, (title, how, points, _) in enumerate(each.views):
        marks = "".join(
            f'<path stroke="{shade}" d="'
            + "".join(
                f"M{_at(x)} {_at(1 - y)}h0" for (x, y), number in zip(points, numbers, strict=True) if number == k
            )
            + '"/>'
            for k, shade in enumerate(colours)
        )
        figures.append(
            f'<figure class="card"><figcaption>{text(title or "features")} <span class="quiet">{len(points):,} samples,'
            f' {text(how)}</span></figcaption><svg class="map" data-of="{key}" data-view="{view}"'
            f' viewBox="0 0 {SIDE} {SIDE}" role="img">{marks}<circle class="chosen" r="7"/></svg></figure>'
        )
    legend = "".join(
        f'<span><i style="background:{c}"></i>{text(n)}</span>' for c, n in zip(colours, classes, strict=False)
    )
    kept = {
        "names": each.names,
        "classes": [classes, numbers] if classes else None,
        "lines": each.lines,
        "tile": list(each.size) if each.tiles else None,
        "views": [
            {"points": [[_at(x), _at(1 - y)] for x, y in points], "neighbours": near}
            for _, _, points, near in each.views
        ],
    }
    sprite = f"<style>.{key}{{background-image:url({uri(each.tiles, 'image/jpeg')})}}</style>" if each.tiles else ""
    return (
        f'{sprite}<div class="cards">{"".join(figures)}</div>'
        + (f'<div class="legend">{legend}</div>' if 0 < len(classes) <= NAMED else "")
        + data(f"{key}-data", kept)
    )


def _natural(name: str) -> tuple[int, float, str]:
    """Numbers by value, before names."""
    return (0, float(name), "") if name.isdecimal() else (1, 0.0, name)


def _at(share: float) -> float:
    return round(MARGIN + share * (SIDE - 2 * MARGIN), 1)


def _of_class(number: int, classes: int) -> str:
    if classes <= 10:
        return colour(number)
    return f"hsl({360 * number // classes} {60 + 25 * (number % 2)}% {48 - 12 * (number % 2)}%)"


def _neighbours(each: Map, key: str) -> str:
    """Samples with their neighbours by each view, as tiles or lines; empty without both."""
    if not (each.tiles or each.lines) or not each.views[0][3][0]:
        return ""
    order = sorted(range(len(each.views[0][2])), key=lambda number: each.classes[number : number + 1])
    most = min(QUERIES, len(order))
    queries = [order[(2 * number + 1) * len(order) // (2 * most)] for number in range(most)]  # of most classes
    rows = []
    for query in queries:
        groups = [f'<div class="group"><span class="quiet">sample</span>{_sample(each, key, query)}</div>']
        for title, _, _, near in reversed(each.views):
            some = "".join(_sample(each, key, number) for number in near[query][:NEIGHBOURS])
            groups.append(f'<div class="group"><span class="quiet">{text(title)}</span><div>{some}</div></div>')
        rows.append(f'<div class="near">{"".join(groups)}</div>')
    return f'<div class="{"lines" if each.lines else "tiles"}">{"".join(rows)}</div>'


def _sample(each: Map, key: str, number: int) -> str:
    name = each.names[number] if each.names else f"sample {number}"
    title = text(name + (f" ({each.classes[number]})" if each.classes else ""))
    if not each.tiles:
        return f'<p title="{title}">{text(each.lines[number])}</p>'
    width, height, across = each.size
    scale = TILE / max(width, height)
    place = f"{-scale * width * (number % across):.2f}px {-scale * height * (number // across):.2f}px"
    size = (
        f"width:{scale * width:.2f}px;height:{scale * height:.2f}px;background-size:{scale * width * across:.2f}px auto"
    )
    return f'<span class="tile {key}" title="{title}" style="{size};background-position:{place}"></span>'
