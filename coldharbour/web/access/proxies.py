"""The proxies that are believed: what they say of a visitor counts, and from anybody else it is nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network

FORWARDING = frozenset({
    b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"cf-ray",
    b"cf-connecting-ip",
})  # fmt: skip


def was_forwarded(headers: Mapping[bytes, bytes]) -> bool:
    """Say whether a request came through a proxy that says so."""
    return not FORWARDING.isdisjoint(headers)


class Proxies:
    """The configured proxies, by address or network."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ip_network(network) for network in networks]

    def are(self, address: str) -> bool:
        """Say whether an address is one of them."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def visitor_address(self, peer: str, headers: Mapping[bytes, bytes]) -> str:
        """Return where a request came from: the last address that a proxy of ours wrote down, else the peer's own."""
        address = peer
        for said in reversed(headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")):
            if not self.are(address) or not said.strip():
                break
            address = said.strip()
        return address

    def visitor_name(self, peer: str, headers: Mapping[bytes, bytes], header: str) -> str:
        """Return the name that a proxy of ours gave the visitor; empty if it gave none or the peer is not ours."""
        if not self.are(peer):
            return ""
        return headers.get(header.lower().encode(), b"").decode("latin-1").strip()
