#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
ENGINE=(docker)
export DOCKER_BUILDKIT=0
mkdir -p /etc/docker
echo "{\"bridge\":\"none\",\"iptables\":false,\"ip6tables\":false${DOCKER_OPTIONS-}}" >/etc/docker/daemon.json
check 'the daemon' systemctl start docker
engine_observe 'driver' info -f '{{.Driver}} {{.DriverStatus}}'
engine_image
engine_life
engine_end
check 'the daemon ends' systemctl stop docker.socket docker containerd
done_testing
