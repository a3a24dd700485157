// SPDX-License-Identifier: GPL-2.0

//! Mount options that are not layers: which are known, which values are in effect. Pure.

/// How the union's UUID is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Uuid {
    /// From upper's `uuid` attribute, which is made at the first mount of a new upper; zero without upper.
    #[default]
    Auto,
    /// None; `statfs` reports the filesystem id of upper, or of the topmost lower layer.
    Null,
}

/// When a file that is opened for writing is copied up; rovl's own option.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum CopyUp {
    /// By the first write, truncation or shared writable mapping.
    #[default]
    AtWrite,
    /// When it is opened, as overlayfs does.
    AtOpen,
}

/// What becomes of redirects, which say where the lower part of a renamed directory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RedirectDir {
    /// None is made and none is followed.
    NoFollow,
    /// None is made.
    Follow,
    /// They are made and followed.
    On,
}

impl RedirectDir {
    /// The option's value that says so.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoFollow => "nofollow",
            Self::Follow => "follow",
            Self::On => "on",
        }
    }
}

/// The module parameters, which say what a mount does whose options do not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Defaults {
    /// Redirects are made.
    pub(crate) redirect_dir: bool,
    /// Redirects are followed where they are not made.
    pub(crate) redirect_always_follow: bool,
}

impl Defaults {
    /// What becomes of redirects.
    pub(crate) fn redirect_dir(self) -> RedirectDir {
        if self.redirect_dir {
            RedirectDir::On
        } else {
            self.redirect_dir_off()
        }
    }

    fn redirect_dir_off(self) -> RedirectDir {
        if self.redirect_always_follow {
            RedirectDir::Follow
        } else {
            RedirectDir::NoFollow
        }
    }
}

/// The options in effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Config {
    /// Accepted for compatibility; shown.
    pub(crate) default_permissions: bool,
    /// See [`Uuid`].
    pub(crate) uuid: Uuid,
    /// See [`CopyUp`].
    pub(crate) copy_up: CopyUp,
    /// See [`RedirectDir`].
    pub(crate) redirect_dir: RedirectDir,
    /// The option asks for redirects to be followed.
    pub(crate) wants_redirects: bool,
    defaults: Defaults,
}

/// What an option says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It is in effect now.
    Accepted,
    /// The value is none of the option's.
    BadValue,
    /// It takes no value.
    UnexpectedValue,
    /// A feature that does not exist yet.
    Unsupported,
}

/// An option with values: those that mean what rovl does, and those of overlayfs that it can't do yet.
struct Choice {
    key: &'static [u8],
    accepted: &'static [&'static [u8]],
    unsupported: &'static [&'static [u8]],
}

const CHOICES: &[Choice] = &[
    Choice {
        key: b"redirect_dir",
        accepted: &[b"on", b"follow", b"nofollow", b"off"],
        unsupported: &[],
    },
    Choice {
        key: b"index",
        accepted: &[b"off"],
        unsupported: &[b"on"],
    },
    Choice {
        key: b"uuid",
        accepted: &[b"auto", b"null"],
        unsupported: &[b"on", b"off"],
    },
    Choice {
        key: b"copy_up",
        accepted: &[b"write", b"open"],
        unsupported: &[],
    },
    Choice {
        key: b"nfs_export",
        accepted: &[b"off"],
        unsupported: &[b"on"],
    },
    Choice {
        key: b"xino",
        accepted: &[b"off"],
        unsupported: &[b"on", b"auto"],
    },
    Choice {
        key: b"metacopy",
        accepted: &[b"off"],
        unsupported: &[b"on"],
    },
    Choice {
        key: b"verity",
        accepted: &[b"off"],
        unsupported: &[b"on", b"require"],
    },
    Choice {
        key: b"fsync",
        accepted: &[b"auto"],
        unsupported: &[b"volatile", b"strict"],
    },
];

/// Features of overlayfs that are plain flags and do not exist here yet.
const UNSUPPORTED_FLAGS: &[&[u8]] = &[b"userxattr", b"volatile"];

impl Config {
    /// A mount without options.
    pub(crate) fn new(defaults: Defaults) -> Self {
        Self {
            default_permissions: false,
            uuid: Uuid::default(),
            copy_up: CopyUp::default(),
            redirect_dir: defaults.redirect_dir(),
            wants_redirects: false,
            defaults,
        }
    }

    /// What the option `redirect_dir` says where options are shown; nothing where it is the default by now.
    pub(crate) fn shown_redirect_dir(&self, defaults: Defaults) -> Option<&'static str> {
        (self.redirect_dir != defaults.redirect_dir()).then(|| self.redirect_dir.name())
    }

    /// Takes option `key` with `value`; `None` where it is not an option of this sort.
    pub(crate) fn option(&mut self, key: &[u8], value: Option<&[u8]>) -> Option<Verdict> {
        if key == b"default_permissions" {
            if value.is_some() {
                return Some(Verdict::UnexpectedValue);
            }
            self.default_permissions = true;
            return Some(Verdict::Accepted);
        }
        if UNSUPPORTED_FLAGS.contains(&key) {
            return Some(match value {
                None => Verdict::Unsupported,
                Some(_) => Verdict::UnexpectedValue,
            });
        }
        let choice = CHOICES.iter().find(|choice| choice.key == key)?;
        let Some(value) = value else {
            return Some(Verdict::BadValue);
        };
        if choice.unsupported.contains(&value) {
            return Some(Verdict::Unsupported);
        }
        if !choice.accepted.contains(&value) {
            return Some(Verdict::BadValue);
        }
        match (key, value) {
            (b"uuid", b"null") => self.uuid = Uuid::Null,
            (b"uuid", _) => self.uuid = Uuid::Auto,
            (b"copy_up", b"open") => self.copy_up = CopyUp::AtOpen,
            (b"copy_up", _) => self.copy_up = CopyUp::AtWrite,
            (b"redirect_dir", value) => {
                self.redirect_dir = match value {
                    b"on" => RedirectDir::On,
                    b"follow" => RedirectDir::Follow,
                    b"nofollow" => RedirectDir::NoFollow,
                    _ => self.defaults.redirect_dir_off(),
                };
                self.wants_redirects = self.redirect_dir != RedirectDir::NoFollow;
            }
            _ => {}
        }
        Some(Verdict::Accepted)
    }
}

#[kernel::macros::kunit_tests(rovl_config)]
mod tests {
    use super::*;

    type Case<'a> = (&'a [u8], Option<&'a [u8]>, Option<Verdict>);

    const OFF: Defaults = Defaults {
        redirect_dir: false,
        redirect_always_follow: false,
    };

    #[test]
    fn verdicts() {
        let cases: [Case<'_>; 13] = [
            (b"index", Some(b"off"), Some(Verdict::Accepted)),
            (b"index", Some(b"on"), Some(Verdict::Unsupported)),
            (b"index", Some(b"maybe"), Some(Verdict::BadValue)),
            (b"index", Some(b""), Some(Verdict::BadValue)),
            (b"index", None, Some(Verdict::BadValue)),
            (b"userxattr", None, Some(Verdict::Unsupported)),
            (b"volatile", Some(b"1"), Some(Verdict::UnexpectedValue)),
            (b"default_permissions", None, Some(Verdict::Accepted)),
            (
                b"default_permissions",
                Some(b"x"),
                Some(Verdict::UnexpectedValue),
            ),
            (b"redirect_dir", Some(b"follow"), Some(Verdict::Accepted)),
            (b"redirect_dir", Some(b"never"), Some(Verdict::BadValue)),
            (b"copy_up", Some(b"never"), Some(Verdict::BadValue)),
            (b"nosuch", None, None),
        ];
        for (key, value, verdict) in cases {
            assert_eq!(Config::new(OFF).option(key, value), verdict);
        }
    }

    #[test]
    fn effect() {
        let mut config = Config::new(OFF);
        assert_eq!(config.uuid, Uuid::Auto);
        config.option(b"uuid", Some(b"null"));
        config.option(b"default_permissions", None);
        assert_eq!(config.copy_up, CopyUp::AtWrite);
        config.option(b"copy_up", Some(b"open"));
        assert_eq!(config.copy_up, CopyUp::AtOpen);
        assert_eq!(config.uuid, Uuid::Null);
        assert!(config.default_permissions);
    }

    #[test]
    fn redirects() {
        let on = Defaults {
            redirect_dir: true,
            ..OFF
        };
        let follow = Defaults {
            redirect_always_follow: true,
            ..OFF
        };
        type Case<'a> = (
            Defaults,
            Option<&'a [u8]>,
            RedirectDir,
            bool,
            Option<&'a str>,
        );
        let cases: [Case<'_>; 9] = [
            (OFF, None, RedirectDir::NoFollow, false, None),
            (OFF, Some(b"off"), RedirectDir::NoFollow, false, None),
            (OFF, Some(b"on"), RedirectDir::On, true, Some("on")),
            (
                OFF,
                Some(b"follow"),
                RedirectDir::Follow,
                true,
                Some("follow"),
            ),
            (on, None, RedirectDir::On, false, None),
            (
                on,
                Some(b"off"),
                RedirectDir::NoFollow,
                false,
                Some("nofollow"),
            ),
            (follow, None, RedirectDir::Follow, false, None),
            (follow, Some(b"off"), RedirectDir::Follow, true, None),
            (
                follow,
                Some(b"nofollow"),
                RedirectDir::NoFollow,
                false,
                Some("nofollow"),
            ),
        ];
        for (defaults, value, effect, wanted, shown) in cases {
            let mut config = Config::new(defaults);
            if value.is_some() {
                config.option(b"redirect_dir", value);
            }
            assert_eq!(config.redirect_dir, effect);
            assert_eq!(config.wants_redirects, wanted);
            assert_eq!(config.shown_redirect_dir(defaults), shown);
        }
    }
}
