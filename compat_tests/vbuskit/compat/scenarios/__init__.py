# SPDX-License-Identifier: MIT
"""One file a scenario; `vbuskit.compat.scenario` finds them."""
