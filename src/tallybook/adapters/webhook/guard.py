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
)
"""Public by their number, or so to some versions of `ipaddress`, but answered by the machine's own
cloud, by protocols of the network, or by relays into it."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""Addresses that a gateway translates to the IPv4 address in their last 32 bits."""


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, whatever it is written as.

    Args:
        address: a numeric IPv4 or IPv6 address.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    return all(_plainly_public(one) for one in (found, *_inside(found)))


def _plainly_public(address: IPv4Address | IPv6Address) -> bool:
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_loopback
        and not any(address in network for network in _INSIDE)
    ) or (isinstance(address, IPv6Address) and bool(_inside(address)))


def _inside(address: IPv4Address | IPv6Address) -> tuple[IPv4Address, ...]:
    """Return the IPv4 addresses that an IPv6 address leads to."""
    if isinstance(address, IPv4Address):
        return ()
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(one for one in found if one is not None)
