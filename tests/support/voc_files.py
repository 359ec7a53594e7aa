"""Annotations in Pascal VOC's XML."""

from __future__ import annotations


def thing(name: str, box: tuple[object, object, object, object], difficult: int = 0) -> str:
    corners = "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"


def xml(*things: str, size: str = "<size><width>40</width><height>30</height></size>") -> str:
    return f"<annotation>{size}{''.join(things)}</annotation>"
