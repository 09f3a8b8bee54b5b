# SPDX-License-Identifier: MIT
"""Linux packages: signed modules, the .deb, the RPM."""
