# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # live/test, which sources this file, has the rest
# The ways that live/test boots in: each function boots_NAME is one.

# As a person does: the disc in a machine with a BIOS.
boots_bios() {
	boot system "$iso"
	console 'reboot: Power down'
	console_lacks 'rovl: still mounted'
}
