// SPDX-License-Identifier: GPL-2.0

//! The options by which objects are known again.

#[kernel::macros::kunit_tests(rovl_identity)]
mod cases {
    use super::super::super::*;
    use super::super::cases::{asked, outcome, resolve, upper, Choice, PARAMETERS, WHOLE};
    use crate::overlay::mount::options::Parameters;
    use kernel::prelude::*;

    /// The defaults, what is asked for, what can be; what becomes of it, and what is said.
    type Case<'a, Value> = (
        Parameters,
        &'a [Choice],
        Capabilities,
        Value,
        Option<Message>,
    );

    #[test]
    fn uuids() {
        use Uuid::{Auto, Null, Off, On};
        let whole = Some(WHOLE);
        let cases: [(&'static str, Capabilities, Uuid, Option<Message>); 15] = [
            ("auto", upper(whole, Identity::Known), Auto, None),
            ("auto", upper(whole, Identity::Made), On, None),
            ("auto", upper(whole, Identity::Without), Null, None),
            ("on", upper(whole, Identity::Known), On, None),
            ("on", upper(whole, Identity::Made), On, None),
            ("null", upper(whole, Identity::Known), Null, None),
            ("off", upper(whole, Identity::Without), Off, None),
            ("off", Capabilities::best(true, false), Off, None),
            ("auto", upper(None, Identity::Made), On, None),
            (
                "auto",
                upper(whole, Identity::Unreadable(EIO)),
                Null,
                Some(Message::UuidUnreadable(EIO)),
            ),
            (
                "on",
                upper(whole, Identity::Unwritable(ENOSPC)),
                Null,
                Some(Message::UuidUnwritable(ENOSPC)),
            ),
            ("null", upper(whole, Identity::Unreadable(EIO)), Null, None),
            ("auto", Capabilities::best(true, false), Auto, None),
            ("null", Capabilities::best(true, false), Null, None),
            (
                "on",
                Capabilities::best(true, false),
                Null,
                Some(Message::UuidWithoutUpper),
            ),
        ];
        for (value, can, expected, message) in cases {
            let seen = outcome(&[("uuid", Some(value))], &can).map(|(config, messages)| {
                assert_eq!(config.names_filesystems(), expected != Off);
                assert_eq!(config.has_uuid(), expected == Auto || expected == On);
                (config.uuid.value, messages.iter().next().copied())
            });
            assert_eq!(seen, Ok((expected, message)));
        }
    }

    /// What becomes of the index, asked for or not, and what is said of it.
    #[test]
    fn indexes() {
        let default = Parameters {
            index: true,
            ..PARAMETERS
        };
        let with = |handles| Capabilities {
            handles,
            ..Capabilities::best(true, true)
        };
        let poor = upper(
            Some(Features {
                marks: OwnMarks::Missing,
                ..WHOLE
            }),
            Identity::Known,
        );
        let (best, lower) = (with(Handles::All), Capabilities::best(true, false));
        let no_work = upper(None, Identity::Known);
        let no_handles = Capabilities {
            upper: best.upper.map(|upper| Upper {
                handles: false,
                ..upper
            }),
            ..best
        };
        let (on, off) = (Switch::On, Switch::Off);
        let asked_for: &[Choice] = &[("index", Some("on"))];
        let no: &[Choice] = &[("index", Some("off"))];
        let without = Message::NoIndex;
        let cases: [Case<'_, Switch>; 14] = [
            (PARAMETERS, &[], best, off, None),
            (PARAMETERS, asked_for, best, on, None),
            (default, &[], best, on, None),
            (default, no, best, off, None),
            (
                PARAMETERS,
                asked_for,
                lower,
                off,
                Some(Message::IndexWithoutUpper),
            ),
            (default, &[], lower, off, None),
            (PARAMETERS, asked_for, no_work, off, None),
            (PARAMETERS, asked_for, poor, off, Some(Message::IndexOff)),
            (default, no, poor, off, None),
            (
                PARAMETERS,
                asked_for,
                no_handles,
                off,
                Some(Message::NoIndexInUpper),
            ),
            (
                default,
                &[],
                with(Handles::NotOfLower(2)),
                off,
                Some(without(Handles::NotOfLower(2))),
            ),
            (
                PARAMETERS,
                asked_for,
                with(Handles::Ambiguous(1)),
                off,
                Some(without(Handles::Ambiguous(1))),
            ),
            (default, no, with(Handles::Ambiguous(1)), off, None),
            (
                PARAMETERS,
                &[("index", Some("on")), ("userxattr", None)],
                best,
                on,
                None,
            ),
        ];
        for (parameters, choices, can, expected, message) in cases {
            let Ok((config, messages)) = resolve(&asked(parameters, choices), &can) else {
                assert!(false);
                continue;
            };
            assert_eq!(config.index.value, expected);
            assert_eq!(config.has_index(), expected == on);
            // It is bound to the lower layers that it was made with.
            assert_eq!(config.needs_origins(), expected == on);
            let of_index = |message: &&Message| {
                matches!(
                    message,
                    Message::IndexWithoutUpper
                        | Message::IndexOff
                        | Message::NoIndex(_)
                        | Message::NoIndexInUpper
                )
            };
            assert_eq!(messages.iter().find(of_index).copied(), message);
        }
    }

    /// What becomes of handles that can be opened, of the index and of metacopy, or the error; how many messages there are.
    #[test]
    fn handles() {
        let export = Parameters {
            nfs_export: true,
            ..PARAMETERS
        };
        let both = Parameters {
            metacopy: true,
            ..export
        };
        let best = Capabilities::best(true, true);
        let user = Capabilities::best(false, true);
        let lower = Capabilities::best(true, false);
        let none = |can: Capabilities| Capabilities {
            handles: Handles::NotOfLower(1),
            ..can
        };
        let no_work = upper(None, Identity::Without);
        let (off, yes) = (Switch::Off, Switch::On);
        let on: Choice = ("nfs_export", Some("on"));
        let no_index: Choice = ("index", Some("off"));
        let index: Choice = ("index", Some("on"));
        let metacopy: Choice = ("metacopy", Some("on"));
        let verity: Choice = ("verity", Some("on"));
        let follow: Choice = ("redirect_dir", Some("follow"));
        type Case<'a> = (
            Parameters,
            &'a [Choice],
            Capabilities,
            Result<(Switch, Switch, Switch), Error>,
            usize,
        );
        let cases: [Case<'_>; 22] = [
            (PARAMETERS, &[on], best, Ok((yes, yes, off)), 0),
            (PARAMETERS, &[on, index], best, Ok((yes, yes, off)), 0),
            (PARAMETERS, &[on, no_index], best, Err(EINVAL), 0),
            (PARAMETERS, &[on, metacopy], best, Err(EINVAL), 0),
            (PARAMETERS, &[on, verity], best, Ok((yes, yes, off)), 0),
            (PARAMETERS, &[on], user, Ok((yes, yes, off)), 0),
            (
                PARAMETERS,
                &[on, ("userxattr", None)],
                user,
                Ok((yes, yes, off)),
                0,
            ),
            (PARAMETERS, &[on], no_work, Ok((off, off, off)), 1),
            (PARAMETERS, &[on], none(best), Ok((off, off, off)), 2),
            (export, &[], best, Ok((yes, yes, off)), 0),
            (export, &[no_index], best, Ok((off, off, off)), 1),
            (export, &[metacopy], best, Ok((off, yes, yes)), 1),
            (both, &[], best, Ok((yes, yes, off)), 1),
            (both, &[verity], best, Ok((off, yes, yes)), 1),
            (both, &[on], best, Ok((yes, yes, off)), 1),
            (PARAMETERS, &[on], lower, Ok((yes, off, off)), 0),
            (PARAMETERS, &[on, index], lower, Ok((yes, off, off)), 1),
            (PARAMETERS, &[on, no_index], lower, Err(EINVAL), 0),
            (PARAMETERS, &[on, follow], lower, Ok((off, off, off)), 1),
            (PARAMETERS, &[on, follow], best, Ok((yes, yes, off)), 0),
            (PARAMETERS, &[on, metacopy], lower, Ok((off, off, yes)), 1),
            (PARAMETERS, &[on], none(lower), Ok((off, off, off)), 1),
        ];
        for (parameters, choices, can, expected, said) in cases {
            let seen = resolve(&asked(parameters, choices), &can).map(|(effective, messages)| {
                assert_eq!(messages.iter().count(), said);
                let (export, index) = (effective.nfs_export.value, effective.index.value);
                assert_eq!(effective.has_export(), export == Switch::On);
                (export, index, effective.metacopy.value)
            });
            assert_eq!(seen.map_err(|refusal| refusal.error()), expected);
        }
    }

    /// What becomes of numbers that tell their filesystem, and what is said of it.
    #[test]
    fn xinos() {
        use Handles::{All, Ambiguous, Nameless, NotOfLower};
        use Xino::{Auto, Off, On};
        let default = Parameters {
            xino_auto: true,
            ..PARAMETERS
        };
        let several = |has_upper, handles| Capabilities {
            handles,
            filesystems: Filesystems::Several(5),
            ..Capabilities::best(true, has_upper)
        };
        let one = Capabilities::best(true, true);
        let (auto, on): (Choice, Choice) = (("xino", Some("auto")), ("xino", Some("on")));
        let index: Choice = ("index", Some("on"));
        let yes = Some(Message::Xino(5));
        let no = |handles| Some(Message::NoXino(handles));
        let cases: [Case<'_, Xino>; 17] = [
            (PARAMETERS, &[], several(true, All), Off, None),
            (PARAMETERS, &[auto], several(true, All), Auto, yes),
            (default, &[], several(true, All), Auto, yes),
            (
                default,
                &[("xino", Some("off"))],
                several(true, All),
                Off,
                None,
            ),
            (PARAMETERS, &[on], several(true, All), On, yes),
            (default, &[], one, Auto, None),
            (PARAMETERS, &[on], one, On, Some(Message::XinoUseless)),
            (
                default,
                &[],
                several(true, NotOfLower(1)),
                Off,
                no(NotOfLower(1)),
            ),
            (
                default,
                &[],
                several(true, Ambiguous(2)),
                Off,
                no(Ambiguous(2)),
            ),
            (
                default,
                &[],
                several(true, Nameless(2)),
                Off,
                no(Nameless(2)),
            ),
            (default, &[index], several(true, Nameless(2)), Auto, yes),
            (default, &[on], several(true, Nameless(2)), On, yes),
            (default, &[on], several(true, NotOfLower(1)), On, yes),
            // Nothing is copied up.
            (default, &[], several(false, NotOfLower(1)), Auto, yes),
            (default, &[], several(false, Ambiguous(1)), Auto, yes),
            (
                default,
                &[("nfs_export", Some("on"))],
                several(false, All),
                Auto,
                yes,
            ),
            (
                default,
                &[("nfs_export", Some("on"))],
                several(false, Nameless(1)),
                Auto,
                yes,
            ),
        ];
        for (parameters, choices, can, expected, message) in cases {
            let Ok((config, messages)) = resolve(&asked(parameters, choices), &can) else {
                assert!(false);
                continue;
            };
            assert_eq!(config.xino.value, expected);
            assert_eq!(messages.iter().next().copied(), message);
            let numbering = match (can.filesystems, expected) {
                (Filesystems::One, _) => Numbering::OneFs,
                (_, Off) => Numbering::Apart,
                (Filesystems::Several(bits), _) => Numbering::Tagged(bits),
            };
            assert_eq!(config.numbering(can.filesystems), numbering);
        }
    }
}
