#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# In namespaces that rootlesskit makes.
if [ -z "${INSIDE-}" ]; then
	export INSIDE=1 PATH=$PATH:/usr/sbin:/sbin
	exec rootlesskit --net=host --copy-up=/etc --copy-up=/run --copy-up=/var/lib --propagation=rslave bash "$0"
fi
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
rm -f /run/containerd
# mount(8) takes 255 bytes of options.
containerd --root "$HOME/c" --state "$XDG_RUNTIME_DIR/c" >daemon.log 2>&1 &
daemon=$!
check 'the daemon' timeout 300 bash -c 'until ctr version >/dev/null 2>&1; do sleep 2; done'
ctr_life --cgroup ''
kill $daemon
wait $daemon
done_testing
