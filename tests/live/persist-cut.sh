#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Up to the power cut, which live/test makes when it reads the last message.
cd /root || exit 1
echo kept >kept && sync kept
mkdir cut
for n in $(seq 20); do
	echo "synced $n" >"cut/new-$n"
	sync "cut/new-$n"
done
# A file of the lower layer: its copy, and then the change, have to be on disk.
echo 'synced' >>/etc/profile && sync /etc/profile
mv cut/new-1 cut/renamed && sync cut
for n in $(seq 200); do echo "not synced $n" >"cut/late-$n"; done
echo '<3>rovl-test: all that was to be synced is' >/dev/kmsg
sleep infinity
