from tallybook.client import Client as Client
from tallybook.client import RefusedEvent as RefusedEvent
from tallybook.client import Stats as Stats
from tallybook.kernel.errors import Conflict as Conflict
from tallybook.kernel.errors import Corrupt as Corrupt
from tallybook.kernel.errors import Forbidden as Forbidden
from tallybook.kernel.errors import Invalid as Invalid
from tallybook.kernel.errors import Missing as Missing
from tallybook.kernel.errors import Refused as Refused
from tallybook.kernel.errors import TallybookError as TallybookError
from tallybook.kernel.errors import Throttled as Throttled
from tallybook.kernel.errors import Timeout as Timeout
from tallybook.kernel.errors import Unavailable as Unavailable

__version__: str
