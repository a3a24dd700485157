// SPDX-License-Identifier: GPL-2.0

//! Operations that several threads do at a time, in one directory or each in its own.

use std::sync::Barrier;
use std::thread;

use anyhow::{bail, Context, Result};
use rustix::fs::{chmod, open, rename, stat, unlink, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::measure::now;
use crate::op::{Fs, Mounting, Object};
use crate::tree::Tree;
use crate::world::{World, BACKINGS};

/// Of the mounts that the threads work on.
pub const LAYERS: usize = 3;

/// What a thread's objects are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// Files of lower layers.
    Lower,
    /// Names that are not there.
    New,
    /// One file of a lower layer, the same for all.
    OneFile,
    /// The directory itself.
    Directory,
}

/// What all threads do to their objects at a time.
struct Verb {
    name: &'static str,
    names: Names,
    /// Operations for each of a thread's files, as a numerator and a denominator.
    rounds: (usize, usize),
    /// For each object before it starts.
    before: fn(&Object) -> Result<()>,
    body: fn(&Object) -> Result<()>,
}

/// A verb and where the threads are.
pub struct Parallel {
    pub name: String,
    verb: &'static Verb,
    /// All in one directory.
    together: bool,
}

fn nothing(_: &Object) -> Result<()> {
    Ok(())
}

fn create(o: &Object) -> Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
    Ok(open(&o.path, flags, Mode::RWXU).map(drop)?)
}

fn look(o: &Object) -> Result<()> {
    Ok(stat(&o.path).map(drop)?)
}

fn miss(o: &Object) -> Result<()> {
    match stat(&o.path) {
        Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
        Ok(_) => bail!("{:?} is there", o.path),
    }
}

fn list(o: &Object) -> Result<()> {
    let dir = open(&o.path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    for entry in Dir::new(dir)? {
        entry?;
    }
    Ok(())
}

const VERBS: [Verb; 11] = [
    Verb {
        name: "create",
        names: Names::New,
        rounds: (1, 1),
        before: nothing,
        body: create,
    },
    Verb {
        name: "copyup",
        names: Names::Lower,
        rounds: (1, 1),
        before: look,
        body: |o| Ok(chmod(&o.path, Mode::RWXU)?),
    },
    Verb {
        name: "lookup",
        names: Names::Lower,
        rounds: (25, 1),
        before: look,
        body: look,
    },
    Verb {
        name: "lookup-one-file",
        names: Names::OneFile,
        rounds: (25, 1),
        before: look,
        body: look,
    },
    Verb {
        name: "first-lookup",
        names: Names::Lower,
        rounds: (1, 1),
        before: nothing,
        body: look,
    },
    Verb {
        name: "missing",
        names: Names::New,
        rounds: (25, 1),
        before: miss,
        body: miss,
    },
    Verb {
        name: "first-missing",
        names: Names::New,
        rounds: (1, 1),
        before: nothing,
        body: miss,
    },
    Verb {
        name: "unlink",
        names: Names::New,
        rounds: (1, 1),
        before: create,
        body: |o| Ok(unlink(&o.path)?),
    },
    Verb {
        name: "whiteout",
        names: Names::Lower,
        rounds: (1, 1),
        before: look,
        body: |o| Ok(unlink(&o.path)?),
    },
    Verb {
        name: "rename",
        names: Names::New,
        rounds: (1, 1),
        before: create,
        body: |o| Ok(rename(&o.path, &o.other)?),
    },
    Verb {
        name: "list",
        names: Names::Directory,
        rounds: (1, 20),
        before: nothing,
        body: list,
    },
];

/// All of them, as a group calls them.
pub fn all(group: &str) -> Vec<Parallel> {
    let mut all = Vec::new();
    for verb in &VERBS {
        let name = format!("{group}-{}", verb.name);
        if verb.names == Names::OneFile {
            all.push(Parallel {
                name,
                verb,
                together: true,
            });
            continue;
        }
        for (together, place) in [(true, "one-directory"), (false, "own-directory")] {
            all.push(Parallel {
                name: format!("{name}-{place}"),
                verb,
                together,
            });
        }
    }
    all
}

/// Layers with a directory for each of so many threads, and `files` files for each in each.
pub fn world(threads: usize, files: usize) -> Result<World> {
    let tree = Tree::Parallel {
        directories: threads,
    };
    World::new(BACKINGS[0], LAYERS, tree, threads * files)
}

impl Parallel {
    /// The objects of a thread that has `files` files.
    fn objects(&self, thread: usize, files: usize) -> Result<Vec<Object>> {
        let dir = if self.together { 0 } else { thread };
        let path = |n: usize| match (self.verb.names, n % files) {
            (Names::Lower, n) if self.together => format!("s0/p{}", thread * files + n),
            (Names::Lower, n) => format!("s{dir}/p{n}"),
            (Names::New, n) => format!("s{dir}/new{thread}-{n}"),
            (Names::OneFile, _) => "s0/p0".into(),
            (Names::Directory, _) => format!("s{dir}"),
        };
        (0..self.count(files))
            .map(|n| Object::new(&path(n)))
            .collect()
    }

    /// How many operations each thread does.
    pub fn count(&self, files: usize) -> usize {
        let (times, of) = self.verb.rounds;
        files * times / of
    }

    /// Prepares it on a new mount, and has `measure` start the threads; what they return is how long they took, in nanoseconds.
    pub fn run<T>(
        &self,
        world: &World,
        fs: Fs,
        (threads, files): (usize, usize),
        measure: impl FnOnce(&dyn Fn() -> Result<i64>) -> Result<T>,
    ) -> Result<T> {
        let site = world.open(fs, true, None, Mounting::default())?;
        let measured = self.start(threads, files, measure);
        world.close(site)?;
        measured
    }

    fn start<T>(
        &self,
        threads: usize,
        files: usize,
        measure: impl FnOnce(&dyn Fn() -> Result<i64>) -> Result<T>,
    ) -> Result<T> {
        let work = (0..threads)
            .map(|thread| self.objects(thread, files))
            .collect::<Result<Vec<_>>>()?;
        // Once each, however often they are used.
        for objects in &work {
            objects.iter().take(files).try_for_each(self.verb.before)?;
        }
        let barrier = Barrier::new(threads);
        let one = |objects: &[Object]| -> Result<(i64, i64)> {
            barrier.wait();
            let start = now();
            objects.iter().try_for_each(self.verb.body)?;
            Ok((start, now()))
        };
        measure(&|| {
            let times = thread::scope(|scope| {
                let running: Vec<_> = work
                    .iter()
                    .map(|objects| scope.spawn(|| one(objects)))
                    .collect();
                running
                    .into_iter()
                    .map(|thread| thread.join().expect("a thread"))
                    .collect::<Result<Vec<_>>>()
            })?;
            let start = times.iter().map(|time| time.0).min().context("no thread")?;
            let end = times.iter().map(|time| time.1).max().context("no thread")?;
            Ok(end - start)
        })
    }
}
