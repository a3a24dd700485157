// SPDX-License-Identifier: GPL-2.0

//! Every option with every other one, and what becomes of each.

mod identity;

#[kernel::macros::kunit_tests(rovl_resolve)]
mod cases {
    use super::super::*;
    use crate::overlay::mount::options::{CopyUp, Parameters};
    use kernel::prelude::*;

    pub(super) const PARAMETERS: Parameters = Parameters {
        redirect_dir: false,
        redirect_always_follow: false,
        metacopy: false,
        index: false,
        nfs_export: false,
        xino_auto: false,
    };

    /// [`resolve`](super::super::resolve), with what it says.
    pub(super) fn resolve(
        requested: &Requested,
        can: &Capabilities,
    ) -> Result<(Effective, Messages), Refusal> {
        let mut messages = Messages::default();
        let effective = super::super::resolve(requested, can, &mut messages)?;
        Ok((effective, messages))
    }

    pub(super) type Choice = (&'static str, Option<&'static str>);

    /// Every option with every value.
    const CHOICES: &[Choice] = &[
        ("default_permissions", None),
        ("override_creds", None),
        ("nooverride_creds", None),
        ("redirect_dir", Some("off")),
        ("redirect_dir", Some("follow")),
        ("redirect_dir", Some("nofollow")),
        ("redirect_dir", Some("on")),
        ("copy_up", Some("write")),
        ("copy_up", Some("open")),
        ("index", Some("off")),
        ("index", Some("on")),
        ("uuid", Some("off")),
        ("uuid", Some("null")),
        ("uuid", Some("auto")),
        ("uuid", Some("on")),
        ("nfs_export", Some("off")),
        ("nfs_export", Some("on")),
        ("xino", Some("off")),
        ("xino", Some("auto")),
        ("xino", Some("on")),
        ("metacopy", Some("off")),
        ("metacopy", Some("on")),
        ("volatile", None),
        ("fsync", Some("volatile")),
        ("fsync", Some("auto")),
        ("fsync", Some("strict")),
        ("userxattr", None),
        ("verity", Some("off")),
        ("verity", Some("on")),
        ("verity", Some("require")),
    ];

    /// Pairs of options that do not mean together what each means alone.
    const DEPENDENT: &[(Choice, Choice)] = &[
        (("userxattr", None), ("redirect_dir", Some("follow"))),
        (("userxattr", None), ("redirect_dir", Some("on"))),
        (("userxattr", None), ("metacopy", Some("on"))),
        (("userxattr", None), ("verity", Some("on"))),
        (("userxattr", None), ("verity", Some("require"))),
        (("metacopy", Some("on")), ("redirect_dir", Some("off"))),
        (("metacopy", Some("on")), ("redirect_dir", Some("follow"))),
        (("metacopy", Some("on")), ("redirect_dir", Some("nofollow"))),
        (("metacopy", Some("on")), ("redirect_dir", Some("on"))),
        (("nfs_export", Some("on")), ("index", Some("off"))),
        (("nfs_export", Some("on")), ("index", Some("on"))),
        (("nfs_export", Some("on")), ("metacopy", Some("on"))),
        (("nfs_export", Some("on")), ("redirect_dir", Some("follow"))),
        (("nfs_export", Some("on")), ("redirect_dir", Some("on"))),
    ];

    pub(super) const WHOLE: Features = Features {
        types: true,
        tmpfile: true,
        direct_io: true,
        whiteouts: true,
        marks: OwnMarks::Work,
        remote: false,
    };

    pub(super) fn upper(features: Option<Features>, identity: Identity) -> Capabilities {
        Capabilities {
            upper: Some(Upper {
                features,
                identity,
                handles: true,
            }),
            ..Capabilities::best(true, true)
        }
    }

    pub(super) fn asked(parameters: Parameters, choices: &[Choice]) -> Requested {
        let mut requested = Requested::new(parameters);
        for (key, value) in choices {
            let taken = requested.take(key.as_bytes(), value.map(str::as_bytes));
            assert_eq!(taken, Ok(()));
        }
        requested
    }

    pub(super) fn outcome(
        choices: &[Choice],
        can: &Capabilities,
    ) -> Result<(Effective, Messages), Refusal> {
        resolve(&asked(PARAMETERS, choices), can)
    }

    /// The two options set the same thing, so that the last counts.
    fn same_setting(a: &Choice, b: &Choice) -> bool {
        let setting = |name| match name {
            "volatile" => "fsync",
            "nooverride_creds" => "override_creds",
            name => name,
        };
        setting(a.0) == setting(b.0)
    }

    #[test]
    fn pairs() {
        let none = WHOLE;
        let poor = Features {
            marks: OwnMarks::NotPermitted,
            ..none
        };
        let cans = [
            Capabilities::best(true, true),
            Capabilities::best(false, true),
            Capabilities::best(true, false),
            Capabilities::best(false, false),
            upper(Some(poor), Identity::Known),
            upper(Some(none), Identity::Made),
            upper(None, Identity::Without),
        ];
        for can in &cans {
            for a in CHOICES {
                for b in CHOICES {
                    let both = outcome(&[*a, *b], can);
                    if DEPENDENT.contains(&(*a, *b)) || DEPENDENT.contains(&(*b, *a)) {
                        continue;
                    }
                    if same_setting(a, b) {
                        assert_eq!(both, outcome(&[*b], can));
                        continue;
                    }
                    match (outcome(&[*a], can), outcome(&[*b], can)) {
                        (Ok((a, _)), Ok((b, _))) => {
                            let Ok((both, _)) = both else {
                                assert!(both.is_ok());
                                continue;
                            };
                            assert!(combine(&a, &b, can) == *both);
                        }
                        _ => assert!(both.is_err()),
                    }
                }
            }
        }
    }

    /// Each setting as in that one of `a` and `b` which changes it.
    fn combine(a: &Settings, b: &Settings, can: &Capabilities) -> Settings {
        let Ok((default, _)) = outcome(&[], can) else {
            return *a;
        };
        macro_rules! either {
            ($($field:ident)+) => {
                Settings {
                    $($field: if a.$field == default.$field { b.$field } else { a.$field },)+
                }
            };
        }
        either!(default_permissions override_creds redirect_dir copy_up index uuid nfs_export xino
            metacopy fsync userxattr verity)
    }

    /// No option alone is refused where all can be done.
    #[test]
    fn alone() {
        for has_upper in [true, false] {
            let best = Capabilities::best(true, has_upper);
            for choice in CHOICES {
                assert!(outcome(&[*choice], &best).is_ok());
            }
        }
    }

    /// The best case refuses nothing that another one has, and decides no less.
    #[test]
    fn best_is_best() {
        for sysadmin in [false, true] {
            for choice in CHOICES {
                let best = outcome(&[*choice], &Capabilities::best(sysadmin, true));
                let mut can = upper(None, Identity::Without);
                can.sysadmin = sysadmin;
                assert_eq!(best.is_err(), outcome(&[*choice], &can).is_err());
            }
        }
    }

    #[test]
    fn redirects() {
        let on = Parameters {
            redirect_dir: true,
            ..PARAMETERS
        };
        let follow = Parameters {
            redirect_always_follow: true,
            ..PARAMETERS
        };
        type Effect = Result<(RedirectDir, Option<RedirectDir>), Error>;
        let refused = Err(EPERM);
        // By a mounter with CAP_SYS_ADMIN and by one without; then what is shown.
        let cases: [(Parameters, Option<&'static str>, Effect, Effect); 9] = {
            use RedirectDir::{Follow, NoFollow, On};
            let none = Ok((NoFollow, None));
            [
                (PARAMETERS, None, none, none),
                (PARAMETERS, Some("off"), none, none),
                (PARAMETERS, Some("on"), Ok((On, Some(On))), refused),
                (
                    PARAMETERS,
                    Some("follow"),
                    Ok((Follow, Some(Follow))),
                    refused,
                ),
                (on, None, Ok((On, None)), Ok((On, None))),
                (
                    on,
                    Some("off"),
                    Ok((NoFollow, Some(NoFollow))),
                    Ok((NoFollow, Some(NoFollow))),
                ),
                (follow, None, Ok((Follow, None)), Ok((Follow, None))),
                (follow, Some("off"), Ok((Follow, None)), refused),
                (
                    follow,
                    Some("nofollow"),
                    Ok((NoFollow, Some(NoFollow))),
                    Ok((NoFollow, Some(NoFollow))),
                ),
            ]
        };
        for (parameters, value, privileged, other) in cases {
            let requested = match value {
                None => asked(parameters, &[]),
                value => asked(parameters, &[("redirect_dir", value)]),
            };
            let default = Requested::new(parameters).settings;
            for (sysadmin, expected) in [(true, privileged), (false, other)] {
                let can = Capabilities::best(sysadmin, true);
                let seen = resolve(&requested, &can).map(|(effective, _)| {
                    let shown = effective.shown(&default).next().is_some();
                    let value = effective.redirect_dir.value;
                    (value, shown.then_some(value))
                });
                assert_eq!(seen.map_err(|refusal| refusal.error()), expected);
            }
        }
        let no_upper = Capabilities::best(true, false);
        let seen = outcome(&[("redirect_dir", Some("follow"))], &no_upper);
        let value = seen.map(|(effective, _)| effective.redirect_dir.value);
        assert_eq!(value, Ok(RedirectDir::On));
    }

    #[test]
    fn user_marks() {
        let on = Parameters {
            redirect_dir: true,
            ..PARAMETERS
        };
        let follow = Parameters {
            redirect_always_follow: true,
            ..PARAMETERS
        };
        // What is asked for of redirects, and whether that is refused; what is not is off.
        let cases = [
            (PARAMETERS, None, false),
            (on, None, false),
            (follow, None, false),
            (on, Some("nofollow"), false),
            (on, Some("off"), false),
            (follow, Some("off"), true),
            (PARAMETERS, Some("follow"), true),
            (PARAMETERS, Some("on"), true),
        ];
        for (parameters, value, refused) in cases {
            for (sysadmin, has_upper) in [(true, true), (false, true), (false, false)] {
                let can = Capabilities::best(sysadmin, has_upper);
                let redirects = value.map(|value| ("redirect_dir", Some(value)));
                let mut requested = asked(parameters, &[("userxattr", None)]);
                if let Some((key, value)) = redirects {
                    let taken = requested.take(key.as_bytes(), value.map(str::as_bytes));
                    assert_eq!(taken, Ok(()));
                }
                let seen = resolve(&requested, &can);
                let error = seen.as_ref().err().map(Refusal::error);
                assert_eq!(error, refused.then_some(EINVAL));
                if let Ok((effective, messages)) = seen {
                    assert_eq!(effective.redirect_dir.value, RedirectDir::NoFollow);
                    assert_eq!(effective.namespace(), Namespace::User);
                    assert_eq!(messages.iter().count(), 0);
                }
            }
        }
        assert_eq!(
            outcome(&[], &Capabilities::best(false, true))
                .map(|(effective, _)| effective.namespace()),
            Ok(Namespace::Trusted)
        );
    }

    /// What is for whoever may use `trusted.*`, unless the marks are `user.*`.
    #[test]
    fn data() {
        let with = |choices: &[Choice], data_layers, sysadmin| {
            let requested = Requested {
                data_layers,
                ..asked(PARAMETERS, choices)
            };
            let seen = resolve(&requested, &Capabilities::best(sysadmin, true));
            seen.map(|(effective, _)| effective.verity.value)
                .map_err(|refusal| refusal.error())
        };
        let on: Choice = ("verity", Some("on"));
        let user_marks: Choice = ("userxattr", None);
        assert_eq!(with(&[], true, true), Ok(Verity::Off));
        assert_eq!(with(&[], true, false), Err(EPERM));
        assert_eq!(with(&[user_marks], true, false), Ok(Verity::Off));
        assert_eq!(with(&[on], false, true), Ok(Verity::On));
        assert_eq!(with(&[on], false, false), Err(EPERM));
        assert_eq!(with(&[on, user_marks], true, false), Ok(Verity::On));
    }

    #[test]
    fn fsyncs() {
        use Fsync::{Auto, Strict, Volatile};
        let ignored = Some(Message::VolatileWithoutUpper);
        // With upper and without.
        type Case<'a> = (&'a [Choice], Fsync, (Fsync, Option<Message>));
        let cases: [Case<'_>; 6] = [
            (&[], Auto, (Auto, None)),
            (&[("volatile", None)], Volatile, (Auto, ignored)),
            (&[("fsync", Some("volatile"))], Volatile, (Auto, ignored)),
            (
                &[("fsync", Some("strict")), ("volatile", None)],
                Volatile,
                (Auto, ignored),
            ),
            (
                &[("volatile", None), ("fsync", Some("auto"))],
                Auto,
                (Auto, None),
            ),
            (&[("fsync", Some("strict"))], Strict, (Strict, None)),
        ];
        for (choices, with, without) in cases {
            let seen = |has_upper| {
                outcome(choices, &Capabilities::best(true, has_upper)).map(|(config, messages)| {
                    assert_eq!(config.is_volatile(), config.fsync.value == Volatile);
                    (config.fsync.value, messages.iter().next().copied())
                })
            };
            assert_eq!(seen(true), Ok((with, None)));
            assert_eq!(seen(false), Ok(without));
        }
    }

    #[test]
    fn poor_uppers() {
        let messages = |choices: &[Choice], features: Features| {
            let seen = outcome(choices, &upper(Some(features), Identity::Known));
            seen.map(|(config, messages)| {
                assert_eq!(config.copy_up.value, CopyUp::AtWrite);
                assert_eq!(config.index.value, Switch::Off);
                messages
            })
        };
        let list = |list: &[Message]| {
            let mut messages = Messages::default();
            list.iter().for_each(|message| messages.push(*message));
            Ok(messages)
        };
        let whole = WHOLE;
        assert_eq!(messages(&[], whole), list(&[]));
        let mut poor = Features {
            types: false,
            tmpfile: false,
            direct_io: true,
            whiteouts: false,
            marks: OwnMarks::Missing,
            remote: false,
        };
        use Message::{
            NoMarks, NoTmpfile, NoTypes, NoWhiteouts, NotPermitted, RedirectsOff, UuidOff, XinoOff,
        };
        let all = [
            NoTypes,
            NoTmpfile,
            NoWhiteouts,
            NoMarks,
            RedirectsOff,
            UuidOff,
        ];
        let redirects: &[Choice] = &[("redirect_dir", Some("on"))];
        assert_eq!(messages(redirects, poor), list(&all));
        for value in ["null", "off"] {
            let quiet: &[Choice] = &[("uuid", Some(value)), ("xino", Some("on"))];
            let quiet = messages(quiet, poor);
            let last = quiet.map(|messages| messages.iter().last().copied());
            assert_eq!(last, Ok(Some(Message::XinoUseless)));
        }
        assert_eq!(
            messages(&[("xino", Some("auto")), ("uuid", Some("null"))], poor),
            list(&[NoTypes, NoTmpfile, NoWhiteouts, NoMarks, XinoOff])
        );
        let unprivileged = Features {
            marks: OwnMarks::NotPermitted,
            ..whole
        };
        assert_eq!(
            messages(&[], unprivileged),
            list(&[NoMarks, UuidOff, NotPermitted])
        );
        // What would help is there already.
        assert_eq!(
            messages(&[("userxattr", None)], unprivileged),
            list(&[NoMarks, UuidOff])
        );
        poor.remote = true;
        assert_eq!(messages(&[], poor), Err(Refusal::RemoteUpper(poor)));
        let remote = Features {
            tmpfile: false,
            remote: true,
            ..whole
        };
        assert_eq!(messages(&[], remote), list(&[NoTmpfile]));
    }

    /// What becomes of metacopy and of redirects, asked for or not, or the error.
    #[test]
    fn metacopies() {
        use RedirectDir::{Follow, NoFollow, On};
        let default = Parameters {
            metacopy: true,
            ..PARAMETERS
        };
        let best = Capabilities::best(true, true);
        let user = Capabilities::best(false, true);
        let lower = Capabilities::best(true, false);
        let poor = upper(
            Some(Features {
                marks: OwnMarks::Missing,
                ..WHOLE
            }),
            Identity::Known,
        );
        type Case<'a> = (
            Parameters,
            &'a [Choice],
            Capabilities,
            Result<(Switch, RedirectDir), Error>,
            usize,
        );
        let (off, no) = (Switch::Off, NoFollow);
        let on: Choice = ("metacopy", Some("on"));
        let follow: Choice = ("redirect_dir", Some("follow"));
        let nofollow: Choice = ("redirect_dir", Some("nofollow"));
        let user_marks: Choice = ("userxattr", None);
        let cases: [Case<'_>; 20] = [
            (PARAMETERS, &[], best, Ok((off, no)), 0),
            (PARAMETERS, &[on], best, Ok((Switch::On, On)), 0),
            (
                PARAMETERS,
                &[on, ("redirect_dir", Some("on"))],
                best,
                Ok((Switch::On, On)),
                0,
            ),
            (PARAMETERS, &[on, nofollow], best, Err(EINVAL), 0),
            (PARAMETERS, &[on, follow], best, Err(EINVAL), 0),
            (
                PARAMETERS,
                &[on, ("redirect_dir", Some("off"))],
                best,
                Err(EINVAL),
                0,
            ),
            (PARAMETERS, &[on, follow], lower, Ok((Switch::On, On)), 0),
            (PARAMETERS, &[on, nofollow], lower, Err(EINVAL), 0),
            (PARAMETERS, &[on, user_marks], best, Err(EINVAL), 0),
            (PARAMETERS, &[on], user, Err(EPERM), 0),
            (PARAMETERS, &[on, user_marks], user, Err(EINVAL), 0),
            // Marks, redirects, metacopy, UUID.
            (PARAMETERS, &[on], poor, Ok((off, no)), 4),
            (default, &[], best, Ok((Switch::On, On)), 0),
            (default, &[], user, Ok((Switch::On, On)), 0),
            (
                default,
                &[("metacopy", Some("off"))],
                best,
                Ok((off, no)),
                0,
            ),
            (default, &[nofollow], best, Ok((off, no)), 1),
            (default, &[follow], best, Ok((off, Follow)), 1),
            (default, &[nofollow], lower, Ok((off, no)), 1),
            (default, &[user_marks], best, Ok((off, no)), 0),
            (default, &[user_marks, nofollow], best, Ok((off, no)), 1),
        ];
        for (parameters, choices, can, expected, said) in cases {
            let seen = resolve(&asked(parameters, choices), &can).map(|(effective, messages)| {
                assert_eq!(messages.iter().count(), said);
                assert_eq!(
                    effective.has_metacopy(),
                    effective.metacopy.value == Switch::On
                );
                (effective.metacopy.value, effective.redirect_dir.value)
            });
            assert_eq!(seen.map_err(|refusal| refusal.error()), expected);
        }
    }
}
