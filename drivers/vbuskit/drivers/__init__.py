# SPDX-License-Identifier: MIT
"""The Python half of drivers/: compiles the C, speaks to the host daemon."""
