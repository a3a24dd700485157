#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
check 'pull' buildah pull "docker-archive:$IMAGE"
check 'from' buildah from --name one localhost/base
observe 'run' buildah run --network none one sh -c 'change && view && grep " / " /proc/mounts'
echo note >note
check 'copy' buildah copy one note /data/deep/note
check 'config' buildah config --label some=label one
check 'mount' buildah mount one
check 'commit' buildah commit one localhost/committed
check 'push' buildah push localhost/committed "docker-archive:$OBSERVED/committed.tar:localhost/committed"
check 'umount' buildah umount one
check 'rm' buildah rm one
check 'rmi' buildah rmi -a -f
is 'no image is left' '' "$(buildah images -q)"
done_testing
