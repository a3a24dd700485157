#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The clients on the drop-in, chosen as Documentation/install.rst has it. The initramfs stays: no overlay is in it.
# shellcheck source=tests/engines/all.sh
. "${HERE:?}/all.sh"

check 'the packages are installed' dpkg --no-triggers -i "$HERE"/rovl-*.deb
check 'the drop-in is chosen' sed -i 's/^#install overlay/install overlay/' /etc/modprobe.d/rovl.conf
is 'overlay is the drop-in' O "$(overlay_taint)"
all_clients
