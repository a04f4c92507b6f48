"""Files of others: fetched into the cache, verified, pinned at first use.

``data/registry.yaml`` says which files there are. A file comes into the cache by one rename, after it agreed with the
archive's own md5 and with the sha256 and size of the registry; where the registry knows none, those of the first fetch
are pinned in ``checksums.json`` beside the files, and any other bytes are refused from then on. One process at a time
changes the cache. Nothing here opens a file's contents; ``weights`` does.
"""

from ._cache import check, clean, fetch, fetchable, folder, place, present, verified
from ._zenodo import digest

__all__ = ["check", "clean", "digest", "fetch", "fetchable", "folder", "place", "present", "verified"]
