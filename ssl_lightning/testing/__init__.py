"""The public conformance kit: the claims that every method and every datamodule must satisfy, as
small named checks.

    from ssl_lightning.testing import check_method, check_datamodule
    check_method("simclr")              # a name, or a class
    check_datamodule(MyData, root=...)

Each check states one claim, and raises an error where it does not hold. `METHOD_CHECKS` and
`DATAMODULE_CHECKS` list them, so that a test suite can run them one by one.
"""

from .datamodules import DATAMODULE_CHECKS, DataKit, check_datamodule
from .methods import METHOD_CHECKS, MethodKit, check_method
from .tiny import TinyEncoder, TinyImages, TinyText, TinyTokenEncoder, TinyWaves

__all__ = [
    "DATAMODULE_CHECKS",
    "METHOD_CHECKS",
    "DataKit",
    "MethodKit",
    "TinyEncoder",
    "TinyImages",
    "TinyText",
    "TinyTokenEncoder",
    "TinyWaves",
    "check_datamodule",
    "check_method",
]
