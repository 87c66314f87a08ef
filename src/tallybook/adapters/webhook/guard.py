"""Which addresses of the network a webhook may reach: public ones.

Whoever may add an endpoint chooses where this server connects to. Without a guard that is a way
into the network behind it: other services, the loopback, the cloud's metadata.
"""

import ipaddress
from ipaddress import IPv4Address, IPv6Address

_INSIDE = (
    ipaddress.ip_network("168.63.129.16/32"),
    ipaddress.ip_network("192.0.0.0/24"),
    ipaddress.ip_network("192.88.99.0/24"),
    ipaddress.ip_network("3fff::/20"),
)
"""Public by their number, or so to some versions of `ipaddress`, but answered by the machine's own
cloud, by protocols of the network, by relays into it, or by nobody."""
_GIVEN_OUT = ipaddress.ip_network("2000::/3")
"""The IPv6 addresses of the public internet; whatever lies elsewhere, such as the former
site-local ones, is inside of something."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""Addresses that a gateway translates to the IPv4 address in their last 32 bits."""
_ISATAP = frozenset((0x0000_5EFE, 0x0200_5EFE))
"""What stands before the IPv4 address that a router of the site tunnels to."""


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, whatever it is written as.

    Args:
        address: a numeric IPv4 or IPv6 address.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, IPv4Address):
        return _is_public4(found)
    translated = _translated(found)
    plainly = found in _GIVEN_OUT and _is_global(found)
    return (plainly or bool(translated)) and all(
        map(_is_public4, (*translated, *_tunnelled(found)))
    )


def _is_public4(address: IPv4Address) -> bool:
    return _is_global(address) and not address.is_reserved


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    return (
        address.is_global
        and not address.is_multicast
        and not any(address in network for network in _INSIDE)
    )


def _translated(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """Return the IPv4 addresses that an IPv6 address stands for."""
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(_last(address))
    return tuple(one for one in found if one is not None)


def _tunnelled(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """Return the IPv4 address behind one that is routed like any other up to its site."""
    return (_last(address),) if (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP else ()


def _last(address: IPv6Address) -> IPv4Address:
    return IPv4Address(int(address) & 0xFFFF_FFFF)
