"""Where the tensors of a run lie, and what is said of them: its records.

store            what a store does                             opening        which one a folder has
files            a file for each record                       zarr_store    one Zarr store for all of them

Importing this package imports neither torch nor zarr.
"""

from .opening import open_store
from .store import Key, Kind, Record, Store

__all__ = ["Key", "Kind", "Record", "Store", "open_store"]
