#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Sourced by dracut when the root is to be mounted. Leaving the emergency shell tries again.

# shellcheck disable=SC2154 # dracut's
if [ "$root" = rovl ] && ! ismounted "$NEWROOT"; then
	until /usr/lib/rovl/rovl-root "$NEWROOT"; do
		emergency_shell -n rovl "rovl: no root; see the messages above. Leave this shell to try again."
	done
fi
