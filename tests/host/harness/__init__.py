# SPDX-License-Identifier: GPL-2.0
"""What the host-side tests are made of: guests to talk to, the device's trace, the tests' programs."""

import sys
from pathlib import Path

# The tools of this project are modules next to each other, not a package.
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
