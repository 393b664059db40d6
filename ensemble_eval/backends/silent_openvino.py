"""OpenVINO without its telemetry, and safe to use in threads: whoever needs `openvino` takes it from here.

On import and at each conversion OpenVINO posts its use to an analytics service, each time from a forked child,
and keeps a client id in the home folder. It asks no environment variable; without the package
`openvino_telemetry` it uses a stand-in of its own that does nothing.
"""

import sys

import numpy as np

_reporting = sys.modules.get("openvino_telemetry")
# To import a module that is None here raises ImportError, as if it were not installed.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # the documented way

import openvino  # noqa: E402  # only now
from openvino import properties  # noqa: E402
from openvino.preprocess import PrePostProcessor  # noqa: E402

if _reporting is not None:
    # Somebody imported OpenVINO before: it keeps the module, and asks it for this class each time.
    from openvino.tools.ovc.telemetry_stub import Telemetry

    _reporting.Telemetry = Telemetry  # type: ignore[attr-defined]

# OpenVINO fills its tables of element types when the values of a constant are first asked for, and lets another
# thread run meanwhile; one that asks too then waits for the first and keeps it from going on (seen with 2026.4.1).
_ = openvino.op.Constant(np.zeros(1, np.float32)).data

__all__ = ["PrePostProcessor", "openvino", "properties"]
