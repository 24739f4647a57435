"""Other names of tests.support.hub, for callers that have not changed yet."""

from tests.support.hub.exchanges import Log
from tests.support.hub.store import OWNER_TOKEN as OWNER_TOKEN
from tests.support.hub.store import READER_TOKEN as READER_TOKEN
from tests.support.hub.upload_server import HubUploadServer as HubUploadServer


def received_bytes(log: Log, path: str = "*") -> int:
    """Return the body bytes that came for the paths that match a glob."""
    return log.received_bytes(path)
