#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Many tasks on the same files, names and mounts; tests/stress/src says what is checked.
. "${0%/*}/../lib.sh"

storm() {
	local what
	for what in copyup names mounts; do
		mkdir "$BASE/$what"
		reports "$what" "$TOOLS/rovl-stress" "$what" --base "$BASE/$what" --fstype "$FSTYPE" --tasks "$TASKS" \
			--seconds "$DURATION" --seed "$SEED"
	done
}
on_each storm
done_testing
