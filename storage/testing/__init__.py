"""What must every store do? The contract as tests, for the author of another store. Only tests import it.

from storage.testing import StoreContract

class TestMyStore(StoreContract):
    def make(self) -> ClusterStore:
        return MyStore()
"""

from storage.testing.contract import StoreContract

__all__ = ["StoreContract"]
