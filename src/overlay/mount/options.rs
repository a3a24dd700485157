// SPDX-License-Identifier: GPL-2.0

//! The mount options that are not layers: the one list of them, and the values that each takes. Pure.

use crate::overlay::layer::xattr_names::Namespace;

/// A set of values with names.
pub(super) trait Values: Copy + PartialEq + 'static {
    /// All values.
    const NAMES: &'static [(&'static str, Self)];

    /// The value of that name.
    fn named(text: &[u8]) -> Option<Self> {
        let (_, value) = Self::NAMES
            .iter()
            .find(|(name, _)| name.as_bytes() == text)?;
        Some(*value)
    }

    /// The name of the value.
    fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(_, value)| *value == self);
        found.map_or("", |(name, _)| name)
    }
}

macro_rules! values {
    ($(#[$doc:meta])* $type:ident { $($(#[$about:meta])* $value:ident = $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum $type {
            $($(#[$about])* $value,)+
        }

        impl Values for $type {
            const NAMES: &'static [(&'static str, Self)] = &[$(($name, Self::$value),)+];
        }
    };
}

values! {
    /// Whether there is something.
    Switch {
        /// There is not.
        Off = "off",
        /// There is.
        On = "on",
    }
}

values! {
    /// What becomes of redirects, which say where the lower part of a renamed directory is.
    RedirectDir {
        /// None is made; whether they are followed is for a module parameter to say. Never in effect.
        Off = "off",
        /// None is made.
        Follow = "follow",
        /// None is made and none is followed.
        NoFollow = "nofollow",
        /// They are made and followed.
        On = "on",
    }
}

values! {
    /// How the union's UUID is made.
    Uuid {
        /// As with [`Uuid::Null`], and handles of lower objects name no filesystem.
        Off = "off",
        /// None; `statfs` reports the filesystem id of upper, or of the topmost lower layer.
        Null = "null",
        /// From upper's `uuid` attribute, which is made at the first mount of a new upper.
        Auto = "auto",
        /// From upper's `uuid` attribute, which is made where it is not there.
        On = "on",
    }
}

values! {
    /// When a file that is opened for writing is copied up; rovl's own option.
    CopyUp {
        /// By the first write, truncation or shared writable mapping.
        AtWrite = "write",
        /// When it is opened, as overlayfs does.
        AtOpen = "open",
    }
}

values! {
    /// Whether inode numbers tell which filesystem they are of.
    Xino {
        /// They do not.
        Off = "off",
        /// They do where they are the same at the next mount.
        Auto = "auto",
        /// They do, and one that has no room for it is worth a message.
        On = "on",
    }
}

values! {
    /// Whether data in lower layers must match a digest that upper has.
    Verity {
        /// It need not.
        Off = "off",
        /// Where upper has one.
        On = "on",
        /// All of it.
        Require = "require",
    }
}

values! {
    /// What is written back to upper, and when.
    Fsync {
        /// Nothing, ever.
        Volatile = "volatile",
        /// The data of a copy before it is seen, and what programs ask for.
        Auto = "auto",
        /// As [`Fsync::Auto`], and every copy of a file or directory before it is seen, with its attributes.
        Strict = "strict",
    }
}

/// Who chose a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum By {
    /// Nobody.
    Default,
    /// A module parameter.
    Parameter,
    /// An option of the mount.
    Option,
}

/// The value of an option, and who chose it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Setting<T> {
    /// The value.
    pub(crate) value: T,
    /// Who chose it.
    pub(crate) by: By,
}

impl<T> Setting<T> {
    const fn default(value: T) -> Self {
        let by = By::Default;
        Self { value, by }
    }

    /// Whether an option of the mount chose it.
    pub(crate) fn is_asked_for(&self) -> bool {
        matches!(self.by, By::Option)
    }
}

/// A setting of any type.
trait AnySetting {
    /// Takes the value of that name, for an option of the mount; `false` where there is none.
    fn take(&mut self, text: &[u8]) -> bool;
    /// The name of the value.
    fn name(&self) -> &'static str;
}

impl<T: Values> AnySetting for Setting<T> {
    fn take(&mut self, text: &[u8]) -> bool {
        let Some(value) = T::named(text) else {
            return false;
        };
        let by = By::Option;
        *self = Self { value, by };
        true
    }

    fn name(&self) -> &'static str {
        self.value.name()
    }
}

/// A value for every option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Settings {
    /// Has no effect: permissions are always checked.
    pub(crate) default_permissions: Setting<Switch>,
    /// The layers are used with the credentials of who sets the option, not of who creates the mount.
    pub(crate) override_creds: Setting<Switch>,
    /// See [`RedirectDir`].
    pub(crate) redirect_dir: Setting<RedirectDir>,
    /// See [`CopyUp`].
    pub(crate) copy_up: Setting<CopyUp>,
    /// The links of a lower file stay links of one file when it is copied up.
    pub(crate) index: Setting<Switch>,
    /// See [`Uuid`].
    pub(crate) uuid: Setting<Uuid>,
    /// File handles can be opened.
    pub(crate) nfs_export: Setting<Switch>,
    /// See [`Xino`].
    pub(crate) xino: Setting<Xino>,
    /// Attributes are copied up without data, which is found in the layers below.
    pub(crate) metacopy: Setting<Switch>,
    /// See [`Fsync`].
    pub(crate) fsync: Setting<Fsync>,
    /// The union's own attributes are `user.*` ones.
    pub(crate) userxattr: Setting<Switch>,
    /// See [`Verity`].
    pub(crate) verity: Setting<Verity>,
}

impl Settings {
    const DEFAULT: Self = Self {
        default_permissions: Setting::default(Switch::Off),
        override_creds: Setting::default(Switch::Off),
        redirect_dir: Setting::default(RedirectDir::NoFollow),
        copy_up: Setting::default(CopyUp::AtWrite),
        index: Setting::default(Switch::Off),
        uuid: Setting::default(Uuid::Auto),
        nfs_export: Setting::default(Switch::Off),
        xino: Setting::default(Xino::Off),
        metacopy: Setting::default(Switch::Off),
        fsync: Setting::default(Fsync::Auto),
        userxattr: Setting::default(Switch::Off),
        verity: Setting::default(Verity::Off),
    };
}

/// How an option is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `name=value`
    Value,
    /// `name`, which stands for this value.
    Flag(&'static str),
}

/// An option.
struct Entry {
    name: &'static str,
    form: Form,
    /// Whether it is shown where its value is not the default.
    shown: bool,
    get: fn(&Settings) -> &dyn AnySetting,
    get_mut: fn(&mut Settings) -> &mut dyn AnySetting,
}

macro_rules! options {
    ($($name:literal ($form:expr) sets $field:ident, shown: $shown:literal;)+) => {
        &[$(Entry {
            name: $name,
            form: $form,
            shown: $shown,
            get: |settings| &settings.$field,
            get_mut: |settings| &mut settings.$field,
        },)+]
    };
}

/// The options, in the order in which they are shown.
const OPTIONS: &[Entry] = options! {
    "default_permissions" (Form::Flag("on")) sets default_permissions, shown: true;
    "override_creds" (Form::Flag("on")) sets override_creds, shown: false;
    "nooverride_creds" (Form::Flag("off")) sets override_creds, shown: false;
    "redirect_dir" (Form::Value) sets redirect_dir, shown: true;
    "copy_up" (Form::Value) sets copy_up, shown: true;
    "index" (Form::Value) sets index, shown: true;
    "uuid" (Form::Value) sets uuid, shown: true;
    "nfs_export" (Form::Value) sets nfs_export, shown: true;
    "xino" (Form::Value) sets xino, shown: true;
    "metacopy" (Form::Value) sets metacopy, shown: true;
    "volatile" (Form::Flag("volatile")) sets fsync, shown: false;
    "fsync" (Form::Value) sets fsync, shown: true;
    "userxattr" (Form::Flag("on")) sets userxattr, shown: true;
    "verity" (Form::Value) sets verity, shown: true;
};

/// An option with its value, printed as it is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Spelled {
    name: &'static str,
    value: Option<&'static str>,
}

impl kernel::fmt::Display for Spelled {
    fn fmt(&self, f: &mut kernel::fmt::Formatter<'_>) -> kernel::fmt::Result {
        f.write_str(self.name)?;
        if let Some(value) = self.value {
            f.write_str("=")?;
            f.write_str(value)?;
        }
        Ok(())
    }
}

impl Entry {
    /// The option with the value that it has in `settings`.
    fn spelled(&self, settings: &Settings) -> Spelled {
        Spelled {
            name: self.name,
            value: (self.form == Form::Value).then(|| (self.get)(settings).name()),
        }
    }
}

/// Why an option is not one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BadOption {
    /// Its name is unknown.
    Unknown,
    /// The value is none of the option's.
    Value,
    /// It takes no value.
    Unexpected,
}

impl Settings {
    /// Takes option `key` with `value`.
    ///
    /// # Errors
    ///
    /// What is wrong with the option; nothing changes then.
    pub(crate) fn take(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), BadOption> {
        let entry = OPTIONS
            .iter()
            .find(|entry| entry.name.as_bytes() == key)
            .ok_or(BadOption::Unknown)?;
        let text = match (entry.form, value) {
            (Form::Value, Some(value)) => value,
            (Form::Value, None) => return Err(BadOption::Value),
            (Form::Flag(value), None) => value.as_bytes(),
            (Form::Flag(_), Some(_)) => return Err(BadOption::Unexpected),
        };
        match (entry.get_mut)(self).take(text) {
            true => Ok(()),
            false => Err(BadOption::Value),
        }
    }

    /// Where the union's own attributes are.
    #[inline]
    pub(crate) fn namespace(&self) -> Namespace {
        match self.userxattr.value {
            Switch::Off => Namespace::Trusted,
            Switch::On => Namespace::User,
        }
    }

    /// Option `key` with the value that it has.
    #[inline(never)]
    pub(crate) fn spelled(&self, key: &'static str) -> Spelled {
        let entry = OPTIONS.iter().find(|entry| entry.name == key);
        entry.map_or(
            Spelled {
                name: key,
                value: None,
            },
            |entry| entry.spelled(self),
        )
    }

    /// The options whose values are not those of `default`, in the order in which they are shown.
    pub(crate) fn shown<'a>(&'a self, default: &'a Self) -> impl Iterator<Item = Spelled> + 'a {
        OPTIONS
            .iter()
            .filter(|entry| entry.shown && (entry.get)(self).name() != (entry.get)(default).name())
            .map(|entry| entry.spelled(self))
    }

    /// Whether option `key` has the same value in `self` and in `other`.
    pub(crate) fn agrees(&self, other: &Self, key: &[u8]) -> bool {
        OPTIONS.iter().any(|entry| {
            entry.name.as_bytes() == key && (entry.get)(self).name() == (entry.get)(other).name()
        })
    }
}

/// The module parameters, which say what a mount does whose options do not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Parameters {
    /// Redirects are made.
    pub(crate) redirect_dir: bool,
    /// Redirects are followed where they are not made.
    pub(crate) redirect_always_follow: bool,
    /// Attributes are copied up without data.
    pub(crate) metacopy: bool,
    /// The links of a lower file stay links of one file.
    pub(crate) index: bool,
    /// File handles can be opened.
    pub(crate) nfs_export: bool,
    /// Inode numbers tell which filesystem they are of, where they can.
    pub(crate) xino_auto: bool,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Requested {
    /// What the options say, and what those that were not given stand for.
    pub(crate) settings: Settings,
    /// As they were when the mount was begun.
    pub(crate) parameters: Parameters,
    /// Some lower layers are data-only.
    pub(crate) data_layers: bool,
}

impl Requested {
    /// What a mount without options asks for.
    pub(crate) fn new(parameters: Parameters) -> Self {
        let mut settings = Settings::DEFAULT;
        if parameters.redirect_dir || parameters.redirect_always_follow {
            settings.redirect_dir = Setting {
                value: if parameters.redirect_dir {
                    RedirectDir::On
                } else {
                    RedirectDir::Follow
                },
                by: By::Parameter,
            };
        }
        for (on, setting) in [
            (parameters.metacopy, &mut settings.metacopy),
            (parameters.index, &mut settings.index),
            (parameters.nfs_export, &mut settings.nfs_export),
        ] {
            if on {
                *setting = Setting {
                    value: Switch::On,
                    by: By::Parameter,
                };
            }
        }
        if parameters.xino_auto {
            settings.xino = Setting {
                value: Xino::Auto,
                by: By::Parameter,
            };
        }
        Self {
            settings,
            parameters,
            data_layers: false,
        }
    }

    /// Takes option `key` with `value`.
    ///
    /// # Errors
    ///
    /// See [`Settings::take`].
    pub(crate) fn take(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), BadOption> {
        self.settings.take(key, value)?;
        if self.settings.redirect_dir.value == RedirectDir::Off {
            self.settings.redirect_dir.value = if self.parameters.redirect_always_follow {
                RedirectDir::Follow
            } else {
                RedirectDir::NoFollow
            };
        }
        Ok(())
    }
}

#[kernel::macros::kunit_tests(rovl_options)]
mod tests {
    use super::*;

    const OFF: Parameters = Parameters {
        redirect_dir: false,
        redirect_always_follow: false,
        metacopy: false,
        index: false,
        nfs_export: false,
        xino_auto: false,
    };

    #[test]
    fn values() {
        type Case<'a> = (&'a [u8], Option<&'a [u8]>, Result<(), BadOption>);
        let cases: [Case<'_>; 15] = [
            (b"index", Some(b"off"), Ok(())),
            (b"index", Some(b"on"), Ok(())),
            (b"index", Some(b"maybe"), Err(BadOption::Value)),
            (b"index", Some(b""), Err(BadOption::Value)),
            (b"index", None, Err(BadOption::Value)),
            (b"userxattr", None, Ok(())),
            (b"volatile", Some(b"1"), Err(BadOption::Unexpected)),
            (b"fsync", Some(b"never"), Err(BadOption::Value)),
            (b"fsync", None, Err(BadOption::Value)),
            (b"default_permissions", None, Ok(())),
            (
                b"default_permissions",
                Some(b"x"),
                Err(BadOption::Unexpected),
            ),
            (b"redirect_dir", Some(b"follow"), Ok(())),
            (b"redirect_dir", Some(b"never"), Err(BadOption::Value)),
            (b"copy_up", Some(b"never"), Err(BadOption::Value)),
            (b"nosuch", None, Err(BadOption::Unknown)),
        ];
        for (key, value, result) in cases {
            let mut requested = Requested::new(OFF);
            assert_eq!(requested.take(key, value), result);
            if result.is_err() {
                assert_eq!(requested, Requested::new(OFF));
            }
        }
    }

    #[test]
    fn who_chose() {
        let by = |requested: &Requested| requested.settings.redirect_dir.by;
        assert_eq!(by(&Requested::new(OFF)), By::Default);
        let mut requested = Requested::new(Parameters {
            redirect_always_follow: true,
            ..OFF
        });
        assert_eq!(by(&requested), By::Parameter);
        assert_eq!(requested.settings.redirect_dir.value, RedirectDir::Follow);
        assert_eq!(requested.take(b"redirect_dir", Some(b"off")), Ok(()));
        assert_eq!(by(&requested), By::Option);
        assert_eq!(requested.settings.redirect_dir.value, RedirectDir::Follow);
        let mut requested = Requested::new(Parameters {
            metacopy: true,
            ..OFF
        });
        assert_eq!(requested.settings.metacopy.value, Switch::On);
        assert!(!requested.settings.metacopy.is_asked_for());
        assert_eq!(requested.take(b"metacopy", Some(b"on")), Ok(()));
        assert!(requested.settings.metacopy.is_asked_for());
    }

    #[test]
    fn shown() {
        let default = Requested::new(OFF).settings;
        let mut requested = Requested::new(OFF);
        assert!(requested.settings.shown(&default).next().is_none());
        for (key, value) in [
            (&b"uuid"[..], Some(&b"null"[..])),
            (b"override_creds", None),
            (b"default_permissions", None),
            (b"redirect_dir", Some(b"off")),
            (b"volatile", None),
        ] {
            assert_eq!(requested.take(key, value), Ok(()));
        }
        let mut shown = requested.settings.shown(&default);
        let next = shown.next().map(|option| (option.name, option.value));
        assert_eq!(next, Some(("default_permissions", None)));
        let next = shown.next().map(|option| (option.name, option.value));
        assert_eq!(next, Some(("uuid", Some("null"))));
        let next = shown.next().map(|option| (option.name, option.value));
        assert_eq!(next, Some(("fsync", Some("volatile"))));
        assert!(shown.next().is_none());
    }

    #[test]
    fn agrees() {
        let (mut a, mut b) = (Requested::new(OFF), Requested::new(OFF));
        assert_eq!(a.take(b"redirect_dir", Some(b"off")), Ok(()));
        assert!(a.settings.agrees(&b.settings, b"redirect_dir"));
        assert_eq!(b.take(b"redirect_dir", Some(b"on")), Ok(()));
        assert!(!a.settings.agrees(&b.settings, b"redirect_dir"));
        assert!(a.settings.agrees(&b.settings, b"uuid"));
        assert_eq!(a.take(b"volatile", None), Ok(()));
        assert!(!a.settings.agrees(&b.settings, b"volatile"));
        assert_eq!(b.take(b"fsync", Some(b"volatile")), Ok(()));
        assert!(a.settings.agrees(&b.settings, b"volatile"));
        assert!(!a.settings.agrees(&b.settings, b"nosuch"));
    }
}
