"""Other names of tests.support.hub, for callers that have not changed yet."""

from tests.support.hub.exchanges import Fault as Fault
from tests.support.hub.exchanges import Log as Log
from tests.support.hub.exchanges import gated as gated
from tests.support.hub.exchanges import invalid_token as invalid_token
from tests.support.hub.read_server import HubServer as HubServer
