"""Two hundred strings that run a script, open a request or leave their element wherever text is taken for markup."""

from __future__ import annotations

from itertools import product

MARK = "window.__struck=1"
ELEMENTS = (
    f"<script>{MARK}</script>",
    f"<img src=x onerror={MARK}>",
    f"<svg onload={MARK}>",
    f"<svg><script>{MARK}</script></svg>",
    f"<iframe srcdoc='<script>parent.{MARK}</script>'></iframe>",
    f"<a href=javascript:{MARK} autofocus onfocus={MARK}>x</a>",
    f"<details open ontoggle={MARK}>x</details>",
    f"<input autofocus onfocus={MARK}>",
    f"<style>@import 'javascript:{MARK}';*{{background:url(//evil.example/x)}}</style>",
    f"<body onload={MARK}>",
    f"<math><mi xlink:href=javascript:{MARK}>x</mi></math>",
    f"<object data=javascript:{MARK}></object>",
    f"<base href=//evil.example/><script src=x></script><i x={MARK}>",
    f"<meta http-equiv=refresh content='0;url=javascript:{MARK}'>",
    f"<form action=javascript:{MARK}><button>x</button></form>",
    f"<video><source onerror={MARK}></video>",
    f"<hx-partial hx-target=body><img src=x onerror={MARK}></hx-partial>",
    f"<i hx-get=/healthz hx-trigger=load hx-on:htmx:load={MARK}>x</i>",
    f"<template><img src=x onerror={MARK}></template><link rel=stylesheet href=//evil.example/x>",
    f"{{{{ cycler.__init__.__globals__ }}}}<img src=x onerror={MARK}>",
)
WAYS_OUT = ("", "'>", '">', "--></title></textarea></style></script>", "\r\n\r\ndata: ", "</td></tr></table>", "`'\"",
            "\x1b\x07", "\u2028]]>", "%3C&lt;&#60;")  # fmt: skip
HOSTILE = [way + element for way, element in product(WAYS_OUT, ELEMENTS)]
