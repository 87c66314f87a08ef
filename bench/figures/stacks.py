"""Sampled stacks as text: which functions time is spent in, and how it got there."""

import re
from collections import Counter
from collections.abc import Iterator

import msgspec

SHARE_MIN = 0.02
DEPTH_MAX = 40
TOP = 25
WAITING = frozenset(
    {
        "Condition.wait (threading.py)",
        "wait (threading.py)",
        "_wait_for_tstate_lock (threading.py)",
        "Thread._wait_for_tstate_lock (threading.py)",
        "EpollSelector.select (selectors.py)",
        "select (selectors.py)",
        "_watch (tallybook/serve/supervisor/child.py)",
        "Popen._try_wait (subprocess.py)",
        "_worker (concurrent/futures/thread.py)",
    }
)
"""Where threads sleep: a sampler cannot always tell that from work, so these are left out."""
_LINE = re.compile(r":\d+\)$")
_PLACE = re.compile(r"\((?:.*/)?((?:tallybook|site-packages|bench|tests)/[^)]*)\)")


class Node(msgspec.Struct):
    """A function, called from where it stands in the tree.

    Attributes:
        total: samples in it and in what it calls. own: in itself.
    """

    total: int = 0
    own: int = 0
    calls: dict[str, "Node"] = {}


def parse(collapsed: str) -> list[tuple[list[str], int]]:
    """Return stacks, outermost function first, with samples; of lines `a;b;c 12`.

    Stacks of threads that only wait are left out.
    """
    found = []
    for line in collapsed.splitlines():
        text, _, count = line.rpartition(" ")
        stack = [function(frame) for frame in text.split(";")]
        if text and count.isdigit() and stack[-1] not in WAITING:
            found.append((stack, int(count)))
    return found


def function(frame: str) -> str:
    """Return a frame without its line and with the path that a person needs."""
    bare = _LINE.sub(")", frame)
    return _PLACE.sub(lambda match: f"({match.group(1).removeprefix('site-packages/')})", bare)


def tree(stacks: list[tuple[list[str], int]]) -> Node:
    """Return the tree of all stacks; its root has every sample."""
    root = Node()
    for stack, count in stacks:
        root.total += count
        node = root
        for name in stack:
            node = node.calls.setdefault(name, Node())
            node.total += count
        node.own += count
    return root


def tree_text(root: Node, share_min: float = SHARE_MIN) -> Iterator[str]:
    """Yield the lines of a tree: share of all samples, share of itself, function.

    A chain of functions that each do nothing but call the next is one line, its last.
    """
    yield "total %   self %"
    yield from _lines(root, root.total, 0, share_min)


def _lines(node: Node, whole: int, depth: int, share_min: float) -> Iterator[str]:
    by_size = sorted(node.calls.items(), key=lambda item: (-item[1].total, item[0]))
    for name, called in by_size:
        if not whole or called.total / whole < share_min or depth > DEPTH_MAX:
            continue
        shown, inner = _end_of_chain(name, called)
        shares = f"{100 * inner.total / whole:6.1f}  {100 * inner.own / whole:6.1f}"
        yield f"{shares}  {'  ' * depth}{shown}"
        yield from _lines(inner, whole, depth + 1, share_min)


def _end_of_chain(name: str, node: Node) -> tuple[str, Node]:
    while len(node.calls) == 1 and not node.own:
        ((name, node),) = node.calls.items()
    return name, node


def top_text(stacks: list[tuple[list[str], int]], top: int = TOP) -> Iterator[str]:
    """Yield the functions in which most samples are, whoever called them."""
    whole = sum(count for _, count in stacks) or 1
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for stack, count in stacks:
        own[stack[-1]] += count
        for name in set(stack):
            total[name] += count
    yield "self %   total %"
    for name, count in own.most_common(top):
        yield f"{100 * count / whole:6.1f}  {100 * total[name] / whole:6.1f}  {name}"
