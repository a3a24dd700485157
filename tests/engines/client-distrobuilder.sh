#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck source=tests/engines/common.sh
. "${HERE:?}/common.sh"
cat >image.yaml <<-'YAML'
	image: {distribution: rovl, release: one, architecture: x86_64}
	source: {downloader: debootstrap}
	packages: {manager: opkg}
	actions:
	  - trigger: post-files
	    action: |-
	      #!/bin/sh
	      change
	      view >/view
	      grep ' / ' /proc/mounts >/mount
YAML
mkdir target
check 'pack' timeout 600 distrobuilder pack-lxc --cache-dir "$SCRATCH/cache" --compression gzip image.yaml "$TREE" "$SCRATCH/target"
gzip -dc target/rootfs.tar.gz >"$OBSERVED/image.tar"
observe 'view' tar -xOf "$OBSERVED/image.tar" ./view
observe 'mount' tar -xOf "$OBSERVED/image.tar" ./mount
done_testing
