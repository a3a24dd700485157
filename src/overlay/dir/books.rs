// SPDX-License-Identifier: GPL-2.0

//! Whether learning pays, for a mount as a whole.
//!
//! To learn which layers hold which names costs something now, and spares questions later, or never: a directory may have been
//! used for the last time. So a mount keeps books. Each learning is paid for; what there is to pay with is what learning has
//! spared so far, and a sixth of what was asked in vain, which is a tenth of what such lookups cost. As long as nothing is known
//! they are cheaper than overlayfs's by more than half of that: so whatever is done on a mount, in whatever order, costs no more than
//! 1.05 of what it does there.
//!
//! What a layer lists of a directory is noted down from the same books, of which each listing that a layer's filesystem makes gives a little.
//!
//! All costs are in guest instructions, as `make bench ONLY=worst` counts them on tmpfs.

use kernel::sync::atomic::{Atomic, Relaxed};

/// What it costs to ask a layer in vain.
const ASK: u32 = 1200;
/// What else a lookup in vain costs, in layers asked.
const LOOKUP: usize = 1;
/// What the creation of a name that no layer has counts for, in layers asked in vain: it is cheaper than overlayfs's by the share of
/// so many.
pub(super) const CREATION: usize = 5;
/// What it costs to open a layer's directory, to watch it and to close it.
const OPENING: u32 = 2500;
/// What it costs to learn one of its names.
const NAME: u32 = 350;

/// What may be spent of a listing that a layer's filesystem makes, and of each name: a tenth of what erofs needs for a few names,
/// most of which is what the union needs less than overlayfs, and a twenty-fifth for many.
const LISTING: u32 = 800;
const LISTED: u32 = 7;
/// What it costs to note a listing down, and each name.
const NOTING: u32 = 4000;
const NOTED: u32 = 165;
/// What is spared when that is shown in its place, and each name, at the least.
const REPLAYED: u32 = 1000;
const REPLAYED_NAME: u32 = 60;

/// Of what was asked in vain, the share that may be spent without a gain.
const SHARE: u32 = 6;
/// What is spared is saved up to this, so that losses after a long time of gains come to an end, too.
const MOST: i64 = 1 << 26;

/// What `count` things cost, and `names` names.
fn sum(count: usize, each: u32, names: usize, name: u32) -> u64 {
    let names = (names as u64).saturating_mul(u64::from(name));
    names.saturating_add((count as u64).saturating_mul(u64::from(each)))
}

/// What learning the `names` names of `layers` directories costs.
pub(super) fn price(layers: usize, names: usize) -> u64 {
    sum(layers, OPENING, names, NAME)
}

/// What it costs to note down what a layer lists, `names` names.
pub(super) fn noting(names: usize) -> u64 {
    sum(1, NOTING, names, NOTED)
}

/// What a lookup costs that asks `missed` layers in vain, in layers asked.
#[inline]
pub(super) fn lookup(missed: usize) -> usize {
    match missed {
        0 => 0,
        _ => missed + LOOKUP,
    }
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

/// What it costs to ask `asks` layers in vain.
pub(super) fn cost(asks: u32) -> u64 {
    u64::from(asks) * u64::from(ASK)
}

/// How many names of `layers` directories are learnt for `sum`.
pub(super) fn names(layers: usize, sum: u64) -> usize {
    (sum.saturating_sub(price(layers, 0)) / u64::from(NAME)) as usize
}

/// How many layers have to be asked in vain before `price` can be paid where `left` is left: none if it can be paid now.
pub(super) fn short(price: u64, left: u64) -> u32 {
    asks(price.saturating_sub(left)).saturating_mul(SHARE)
}

/// The books of a mount. Tasks that keep them at a time may overlook each other's last entry.
pub(crate) struct Books(Atomic<i64>);

impl Books {
    /// Those of a new mount.
    pub(super) fn new() -> Self {
        Self(Atomic::new(0))
    }

    fn add(&self, sum: u64) {
        self.0.add(i64::try_from(sum).unwrap_or(MOST), Relaxed);
    }

    /// Adds what was spared, up to [`MOST`].
    fn save(&self, sum: u64) {
        if self.0.load(Relaxed) < MOST {
            self.add(sum);
        }
    }

    /// Lookups in vain cost as much as asking `asks` layers.
    pub(super) fn asked(&self, asks: u32) {
        self.add(cost(asks) / u64::from(SHARE));
    }

    /// `asks` layers were not asked, since they were known not to have the name.
    pub(super) fn spared(&self, asks: u32) {
        self.save(cost(asks));
    }

    /// A layer's filesystem has listed a directory of about `names` names.
    pub(super) fn listed(&self, names: usize) {
        self.save(sum(1, LISTING, names, LISTED));
    }

    /// That was not needed `times` times, for `names` names.
    pub(super) fn replayed(&self, times: usize, names: usize) {
        let all = times.saturating_mul(names);
        self.save(sum(times, REPLAYED, all, REPLAYED_NAME));
    }

    /// Of what was paid, `rest` was too much.
    pub(super) fn refund(&self, rest: u64) {
        self.add(rest);
    }

    /// What there is to pay with.
    pub(super) fn left(&self) -> u64 {
        self.0.load(Relaxed).max(0) as u64
    }

    /// Pays `price`.
    pub(super) fn pay(&self, price: u64) {
        self.0.add(-i64::try_from(price).unwrap_or(MOST), Relaxed);
    }
}

#[kernel::macros::kunit_tests(rovl_books)]
mod tests {
    use super::*;

    /// What it costs to learn directories of `layers` layers with `count` names in all, each of which is asked for until it is
    /// learnt, and never again; and what the lookups cost.
    fn lost(directories: u32, layers: usize, count: usize) -> (i64, i64) {
        let (books, price) = (Books::new(), price(layers, count));
        let mut spent = 0;
        for _ in 0..directories {
            while short(price, books.left()) != 0 {
                let asks = short(price, books.left()).div_ceil(2);
                spent += i64::from(asks) * i64::from(ASK);
                books.asked(asks);
            }
            books.pay(price);
        }
        (i64::from(directories) * price as i64, spent)
    }

    #[test]
    fn losses_are_a_share() {
        for (layers, count) in [(3, 30), (3, 3000), (30, 300), (30, 1 << 20)] {
            for directories in [1, 2, 1000] {
                let (lost, spent) = self::lost(directories, layers, count);
                assert!(lost <= spent / i64::from(SHARE));
            }
        }
    }

    #[test]
    fn gains_are_spent() {
        let (books, price) = (Books::new(), price(3, 3000));
        assert_eq!(short(price, books.left()), asks(price) * SHARE);
        books.pay(price);
        // What it spares pays for the next.
        books.spared(2 * asks(price));
        assert_eq!(short(price, books.left()), 0);
        for _ in 0..1000 {
            books.spared(u32::MAX);
        }
        assert!(books.0.load(Relaxed) <= MOST + i64::from(u32::MAX) * i64::from(ASK));
    }

    /// Directories that are listed so and so often, and never again.
    #[test]
    fn listings_pay() {
        for names in [0, 10, 1000, 100_000] {
            let books = Books::new();
            let (mut given, mut spent) = (0, 0);
            for _ in 0..200 {
                given += sum(1, LISTING, names, LISTED);
                books.listed(names);
                if books.left() >= noting(names) {
                    books.pay(noting(names));
                    spent += noting(names);
                }
                assert!(spent <= given);
            }
            assert!(spent != 0);
            // That it was worth it pays for others.
            books.replayed(8, names);
            assert!(books.left() >= noting(names));
        }
    }

    #[test]
    fn as_many_names_as_asks_pay_for() {
        for (layers, count) in [(2, 0), (3, 1000), (500, 1 << 20)] {
            let found = names(layers, cost(asks(price(layers, count))));
            assert!((count..count + 4).contains(&found));
        }
        assert_eq!(names(3, 0), 0);
    }
}
