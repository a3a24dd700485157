// SPDX-License-Identifier: GPL-2.0

//! Whether learning pays, for a mount as a whole.
//!
//! To learn which layers hold which names costs something now, and spares questions later, or never: a directory may have been
//! used for the last time. So a mount keeps books. Each learning is paid for; what there is to pay with is what learning has
//! spared so far, a small share of what was asked in vain, and a start. Whatever is done on a mount, in whatever order, costs that
//! share and that start more than without learning, at most.
//!
//! All costs are in guest instructions, as `make bench ONLY=worst` counts them on tmpfs.

use kernel::sync::atomic::{Atomic, Relaxed};

/// What it costs to ask a layer in vain.
const ASK: u32 = 1200;
/// What it costs to open a layer's directory, to watch it and to close it.
const OPENING: u32 = 6000;
/// What it costs to learn one of its names.
const NAME: u32 = 450;

/// What a mount may lose for good: a third of a millisecond.
const START: i64 = 3 << 19;
/// What is saved up at most, so that losses after a long time of gains come to an end, too.
const MOST: i64 = 1 << 26;
/// Of what was asked in vain, the share that may be spent without a gain.
const SHARE: i64 = 16;

/// What learning the `names` names of `layers` directories costs.
pub(super) fn price(layers: usize, names: usize) -> u64 {
    layers as u64 * u64::from(OPENING) + names as u64 * u64::from(NAME)
}

/// How many layers of a directory with `layers` of them are asked in vain before it is worth thinking of its names: what their
/// directories alone cost.
pub(crate) fn patience(layers: u32) -> u32 {
    const { OPENING.div_ceil(ASK) }.saturating_mul(layers)
}

/// How many layers asked in vain cost `price`.
pub(super) fn asks(price: u64) -> u32 {
    u32::try_from(price.div_ceil(u64::from(ASK))).unwrap_or(u32::MAX)
}

/// How many names of `layers` directories are learnt for what it costs to ask `asks` layers.
pub(super) fn names(layers: usize, asks: u32) -> usize {
    let spent = u64::from(asks) * u64::from(ASK);
    (spent.saturating_sub(price(layers, 0)) / u64::from(NAME)) as usize
}

/// The books of a mount. Tasks that keep them at a time may overlook each other's last entry.
pub(crate) struct Books(Atomic<i64>);

impl Books {
    /// Those of a new mount.
    pub(super) fn new() -> Self {
        Self(Atomic::new(START))
    }

    fn enter(&self, sum: i64) {
        if self.0.load(Relaxed) < MOST {
            self.0.add(sum, Relaxed);
        }
    }

    /// `asks` layers were asked in vain.
    pub(super) fn asked(&self, asks: u32) {
        self.enter(i64::from(asks) * i64::from(ASK) / SHARE);
    }

    /// `asks` layers were not asked, since they were known not to have the name.
    pub(super) fn spared(&self, asks: u32) {
        self.enter(i64::from(asks) * i64::from(ASK));
    }

    /// How often questions in vain must have cost what learning does before that is tried: twice, until it has brought a gain.
    pub(super) fn doubt(&self) -> u32 {
        match self.0.load(Relaxed) > START {
            true => 1,
            false => 2,
        }
    }

    /// Whether `price` can be paid.
    pub(super) fn afford(&self, price: u64) -> bool {
        i64::try_from(price).is_ok_and(|price| price <= self.0.load(Relaxed))
    }

    /// Pays `price`.
    pub(super) fn pay(&self, price: u64) {
        self.0.add(-i64::try_from(price).unwrap_or(MOST), Relaxed);
    }
}

#[kernel::macros::kunit_tests(rovl_books)]
mod tests {
    use super::*;

    /// Directories of `layers` layers with `count` names in all that are asked `asks` questions in vain, and never again: what
    /// learning them costs in all.
    fn lost(directories: u32, layers: usize, count: usize, asks: u32) -> i64 {
        let (books, mut paid) = (Books::new(), 0);
        for _ in 0..directories {
            books.asked(asks);
            let price = price(layers, count);
            if books.afford(price) {
                books.pay(price);
                paid += price as i64;
            }
        }
        paid
    }

    #[test]
    fn losses_end() {
        for (layers, count) in [(3, 30), (3, 3000), (30, 300), (30, 30_000)] {
            let enough = asks(price(layers, count));
            let spent = i64::from(enough) * i64::from(ASK) * 1000;
            let lost = lost(1000, layers, count, enough);
            assert!(lost <= spent / SHARE + START);
        }
    }

    #[test]
    fn gains_are_spent() {
        let (books, price) = (Books::new(), price(3, 3000));
        while books.afford(price) {
            books.pay(price);
        }
        // What it spares pays for the next.
        books.spared(asks(price));
        assert!(books.afford(price));
        for _ in 0..1000 {
            books.spared(u32::MAX);
        }
        assert!(books.0.load(Relaxed) <= MOST + i64::from(u32::MAX) * i64::from(ASK));
    }

    #[test]
    fn as_many_names_as_asks_pay_for() {
        for (layers, count) in [(2, 0), (3, 1000), (500, 1 << 20)] {
            let found = names(layers, asks(price(layers, count)));
            assert!((count..count + 4).contains(&found));
        }
        assert_eq!(names(3, 0), 0);
    }
}
