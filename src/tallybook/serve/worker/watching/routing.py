"""Whether there are rules that no router looks after: the file of streams is what wakes it."""

from tallybook.compose import World

ROUTING_SECONDS = 5.0


def wake_router(world: World) -> int:
    """Make the file of streams where there are rules and no file; return 1 where that was so.

    A rule makes the file itself. It is missing after a restore without it, and where the process
    that stored the rule was killed before it made the file.
    """
    if world.settings.streams_db.exists() or world.rules.version() == 0:
        return 0
    return 1 if world.streams_file.path.exists() else 0
