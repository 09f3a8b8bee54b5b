# SPDX-License-Identifier: MIT
"""What goes into an initial RAM disk, and how to look into one."""
