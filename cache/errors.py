"""What can be wrong with a store. Each also is the builtin that code unaware of cascade would catch."""


class StoreError(Exception):
    """A store cannot be used as asked."""


class NoStoreError(StoreError, FileNotFoundError):
    """There is no committed store at this place."""


class CorruptStoreError(StoreError, ValueError):
    """Stored bytes are not the ones that were committed."""


class FormatError(CorruptStoreError):
    """The store is of a format that this version does not know: most likely whole, and not for us."""


class BudgetError(StoreError, MemoryError):
    """The work asked for does not fit in the bytes given."""
