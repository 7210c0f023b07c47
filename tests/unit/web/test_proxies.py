"""What proxies say of visitors counts only from those that are configured."""

from __future__ import annotations

import pytest

from coldharbour.web.access.proxies import Proxies, was_forwarded

OURS = Proxies(["10.0.0.2", "192.168.7.0/24", "::1"])


@pytest.mark.parametrize(
    ("peer", "said", "address"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # a stranger's word is nothing
        ("10.0.0.2", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.2", "6.6.6.6, 198.51.100.1", "198.51.100.1"),  # what the visitor made up stands on the left
        ("10.0.0.2", "6.6.6.6, 198.51.100.1, 192.168.7.9", "198.51.100.1"),
        ("10.0.0.2", "", "10.0.0.2"),
    ],
)
def test_the_address_is_the_last_one_that_a_proxy_of_ours_wrote_down(peer: str, said: str, address: str) -> None:
    headers = {b"x-forwarded-for": said.encode()} if said else {}

    assert OURS.visitor_address(peer, headers) == address


@pytest.mark.parametrize(
    ("peer", "name"), [("10.0.0.2", "anna"), ("::1", "anna"), ("10.0.0.3", ""), ("203.0.113.9", ""), ("", "")]
)
def test_a_name_counts_only_from_a_proxy_of_ours(peer: str, name: str) -> None:
    assert OURS.visitor_name(peer, {b"x-forwarded-user": b"anna"}, "X-Forwarded-User") == name


@pytest.mark.parametrize("header", [b"forwarded", b"x-forwarded-for", b"x-real-ip", b"cf-connecting-ip", b"via"])
def test_a_forwarded_request_is_told_by_any_of_the_usual_headers(header: bytes) -> None:
    assert was_forwarded({b"host": b"localhost", header: b"x"})
    assert not was_forwarded({b"host": b"localhost"})
