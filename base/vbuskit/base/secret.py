# SPDX-License-Identifier: MIT
"""What the environment may hold and nobody inherits: cli.py takes it out before anything is started."""

PASSPHRASE = "VBUSKIT_KEY_PASSPHRASE"
