from __future__ import annotations

import os
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
# for this process, and for the workers, the driver and the proxy that it starts
sys.path[:0] = [str(TESTS), str(TESTS / "python")]
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(TESTS), str(TESTS / "python"), os.environ.get("PYTHONPATH", "")]
)
