# SPDX-License-Identifier: GPL-2.0
# The user's commands. Each one sets up what it lacks; `make help` lists them.

KERNEL ?= base
export KERNEL KERNEL_SOURCE

.DEFAULT_GOAL := build
.PHONY: help setup build overlay modules_install install shell demo test stress mutants fuzz profile cover bench faults live live-run live-test live-bench live-install tools tools-install deb deb-test engines-test host-test check doc clean

help: ## this list
	@sed -n 's/^\([a-z_-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## toolchain, kernel and guest image (CHECK=1 only reports; KERNEL_SOURCE=newest, here and elsewhere: another kernel)
	@scripts/setup $(if $(CHECK),--check)

# What every other command needs first; silent and quick once it is there.
.PHONY: ready
ready:
	@scripts/setup --quick $(if $(KDIR),--toolchain)

build: ready ## rovl.ko for the guest's kernel, or for the kernel build in KDIR=
	@scripts/module module $(KDIR)

overlay: ready ## the drop-in twin, overlay.ko (KDIR= as above)
	@scripts/module overlay $(KDIR)

modules_install install: ready ## into /lib/modules (KDIR=, INSTALL_MOD_PATH= as the kernel has them)
	@scripts/module install $(KDIR)

shell: build ## an interactive guest with the module loaded and a mount ready
	@scripts/guest --tty 'sh /rovl/scripts/guest-shell'

demo: build ## a Debian tree used, changed and kept intact under a rovl mount
	@demo/run

test: ready ## all tests in the guest (FSTYPE=overlay, KERNEL=debug, ONLY='glob', UPPERFS='ext4 ...')
	@scripts/test

stress: ready ## storms, fsx, fio, stress-ng, pjdfstest (DURATION=20 SEED=1 CPUS=2 PART='glob' SHORT=1; KERNEL, FSTYPE, UPPERFS)
	@scripts/stress

mutants: ready ## breaks the rules of Documentation/security.rst one by one, to see their tests fail (ONLY='glob')
	@scripts/mutants

fuzz: ready ## random layers and operations beside overlayfs (SEED=1 COUNT=200 OPS=200 TIME=600 UPPERFS='tmpfs ext4' CORPUS=ops|layers REPLAY=case.json)
	@scripts/fuzz

profile: ready ## where an operation's instructions go, by symbol (OP=stat, FS='rovl overlay raw', LAYERS=3, BACKING=...)
	@scripts/profile

cover: ready ## which lines of src/overlay/ suites, fuzzer and faults reach (PART='suites fuzz layers faults')
	@scripts/cover

bench: ready ## costs beside overlayfs and raw (ONLY=stat,readdir LAYERS=3,30 BACKING=ext4/ext4 COMPARE=old.json PLOTS=dir)
	@scripts/bench

faults: ready ## failing allocations, failing devices, power cuts, fatal signals (PART='alloc block power signals' SEED=1 SHORT=1 COUNT= TIME= UPPERFS=)
	@scripts/faults

live: ready ## a bootable ISO with a Debian whose root is rovl (LIVE_IMAGE=erofs|squashfs)
	@live/build >/dev/null

live-run: live ## boots it, with a console to work in (WORDS='toram ...': more of the kernel command line)
	@live/run

live-test: live ## boots it in all ways of Documentation/live.rst and looks whether it stays well (PART='glob')
	@live/test

live-bench: live ## what booting costs on rovl and on overlayfs
	@live/bench

live-install: ## what boots a Debian on rovl: initramfs-tools, dracut, manual page (DESTDIR=)
	@live/install $(DESTDIR)

tools: ## the command rovl and mount.rovl, static, with manual pages and completion, in build/tools
	@scripts/setup --quick --toolchain
	@scripts/tools

tools-install: ## installs them (DESTDIR=, PREFIX=/usr/local; mount.rovl goes into /sbin)
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' scripts/tools install

deb: ## Debian packages of modules, command, boot parts and source in build/deb (MODULES=no: without the modules)
	@scripts/setup --quick
	@scripts/deb

deb-test: deb ## installs, upgrades and removes them on a Debian 13 with systemd and its own kernel (PART='glob')
	@scripts/deb-test

engines-test: deb ## docker, containerd, podman and other clients of overlayfs on that Debian, with C's overlay and with the drop-in (PART='glob')
	@scripts/engines-test

host-test: ready ## the first commands of the README on a Debian made from nothing (SUITE=trixie|bookworm, ONLY, UPPERFS)
	@scripts/host-test

check: ready ## format, lints, layering, documents
	@scripts/check

doc: ready ## rustdoc of the module into build/rustdoc/doc
	@scripts/module doc $(KDIR)

clean: ## removes build/ (the cache stays: kernel, image, toolchain)
	rm -rf build
