#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The storms again, in a control group with little memory that is reclaimed all the time, with the caches
# of all dropped meanwhile.
. "${0%/*}/../lib.sh"

group=/sys/fs/cgroup/stress
if ! { echo +memory >/sys/fs/cgroup/cgroup.subtree_control && mkdir $group; } 2>"$SEEN"; then
	skip 'storms under pressure' "no control group for memory: $(<"$SEEN")"
	done_testing
fi
in_group() {
	(
		echo "$BASHPID" >$group/cgroup.procs
		exec "$@"
	)
}

storm() {
	local what
	# Files on tmpfs are memory that cannot be reclaimed here. The program itself has up to 12M.
	if [ "$1" = tmpfs ]; then echo max >$group/memory.max; else echo 24M >$group/memory.max; fi
	for what in copyup names mounts; do
		mkdir "$BASE/$what"
		reports "$what" in_group "$TOOLS/rovl-stress" "$what" --base "$BASE/$what" --fstype "$FSTYPE" --tasks "$TASKS" \
			--seconds "$DURATION" --seed "$SEED" --reclaim $group
	done
	is 'nothing was killed for want of memory' 'oom_kill 0' "$(grep oom_kill\  $group/memory.events)"
	echo "# limit $(<$group/memory.max), reached $(awk '$1 == "max" { print $2 }' $group/memory.events) times"
}
on_each storm
check 'the control group can go' rmdir $group
done_testing
