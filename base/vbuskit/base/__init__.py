# SPDX-License-Identifier: MIT
"""What every folder leans on: errors, the doors to the outside world, places, artifacts."""
