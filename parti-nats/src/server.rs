//! Which servers will do.

use std::fmt;

use async_nats::ServerInfo;

use crate::error::{Error, ErrorKind};

/// The oldest server whose conditional writes exclude each other in a cluster too, and that was tried.
const OLDEST: Version = Version(2, 10, 26);
/// From the first to the last: streams with one message per subject may refuse every write from some moment on.
const LATCHES: (Version, Version) = (Version(2, 14, 0), Version(2, 14, 5));
/// In a cluster it may delete and add anew such a stream.
const DELETES_IN_CLUSTER: Version = Version(2, 12, 14);
/// From here on a consumer with many literal filters is good for tens of them.
const FILTERS_WELL: Version = Version(2, 12, 7);
/// From here on a consumer can be brought back to its floor.
const RESETS: Version = Version(2, 14, 0);
/// From here on a stream without a limit of its own has this many consumers at most.
const CAPS_CONSUMERS: (Version, usize) = (Version(2, 15, 0), 1_000);
/// From here on the most consumers of a stream can be changed.
const CHANGES_MAX_CONSUMERS: Version = Version(2, 12, 0);
/// What to run instead.
const GOOD: &str = "2.12.15, 2.14.6 or 2.15.0, or newer";

/// The version of a nats-server, without what comes after the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32, u32);

impl Version {
    /// What cannot be read counts as older than all.
    fn parse(text: &str) -> Self {
        let mut numbers = text.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Self(next(), next(), next())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor, patch) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// How somebody finds the server.
pub(crate) fn address(info: &ServerInfo) -> String {
    format!("{}:{}", info.host, info.port)
}

/// Refuses a server that is too old for the protocol.
pub(crate) fn check(info: &ServerInfo) -> Result<(), Error> {
    if Version::parse(&info.version) >= OLDEST {
        return Ok(());
    }
    Err(Error::new(ErrorKind::ServerVersion { server: address(info), version: info.version.clone() }))
}

/// Whether one consumer may have many literal filters: older servers read a backlog slowly then, or pass over messages.
pub(crate) fn filters_well(info: &ServerInfo) -> bool {
    Version::parse(&info.version) >= FILTERS_WELL
}

/// Whether a consumer can be brought back to its floor, so that it delivers again what is not acknowledged.
pub(crate) fn resets_consumers(info: &ServerInfo) -> bool {
    Version::parse(&info.version) >= RESETS
}

/// How many consumers a stream may have that says `max_consumers`; none where nothing limits it.
pub(crate) fn most_consumers(info: &ServerInfo, max_consumers: i32) -> Option<usize> {
    let (from, most) = CAPS_CONSUMERS;
    let of_stream = usize::try_from(max_consumers).ok().filter(|most| *most > 0);
    of_stream.or((Version::parse(&info.version) >= from).then_some(most))
}

/// Whether the most consumers of a stream that is there can be changed.
pub(crate) fn changes_max_consumers(info: &ServerInfo) -> bool {
    Version::parse(&info.version) >= CHANGES_MAX_CONSUMERS
}

/// What is known to be wrong with a server, and what to do.
pub(crate) fn doubt(info: &ServerInfo) -> Option<String> {
    if let Err(error) = check(info) {
        return Some(error.to_string());
    }
    let version = Version::parse(&info.version);
    let why = if (LATCHES.0..=LATCHES.1).contains(&version) {
        "streams like those of a group may refuse every write from some moment on"
    } else if version == DELETES_IN_CLUSTER && info.cluster.is_some() {
        "in a cluster it may delete streams like those of a group and add them anew"
    } else {
        return None;
    };
    Some(format!("{} runs nats-server {version}, which is known to be bad: {why}: run {GOOD}", address(info)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_consumers_a_stream_takes_is_its_own_limit_or_that_of_newer_servers() {
        let most = |version: &str, max_consumers| {
            let info = ServerInfo { version: version.into(), ..ServerInfo::default() };
            (most_consumers(&info, max_consumers), changes_max_consumers(&info))
        };
        assert_eq!((most("2.10.26", -1), most("2.12.8", 0)), ((None, false), (None, true)));
        assert_eq!((most("2.15.1", -1), most("2.15.1", 1_500)), ((Some(1_000), true), (Some(1_500), true)));
        assert_eq!(most("2.10.26", 5), (Some(5), false));
    }

    fn info(version: &str, cluster: Option<&str>) -> ServerInfo {
        let (version, cluster) = (version.to_owned(), cluster.map(str::to_owned));
        ServerInfo { host: "host".into(), port: 4222, version, cluster, ..ServerInfo::default() }
    }

    #[test]
    fn an_old_server_is_refused_by_name_and_version() {
        for version in ["2.10.26", "2.11.0", "2.12.8-preview.1", "2.15.1+build", "3.0.0"] {
            assert!(check(&info(version, None)).is_ok(), "{version}");
        }
        for version in ["2.10.25", "2.9.25", "1.99.0", "", "nonsense"] {
            let error = check(&info(version, None)).expect_err(version).to_string();
            assert!(error.contains(&format!("host:4222 runs {version}")) && error.contains("2.10.26"), "{error}");
            assert!(doubt(&info(version, None)).is_some());
        }
    }

    #[test]
    fn servers_that_are_known_to_be_bad_are_named_with_what_to_run_instead() {
        for (version, cluster) in
            [("2.14.0", None), ("2.14.5", None), ("2.14.5-RC.1", Some("C")), ("2.12.14", Some("C"))]
        {
            let doubt = doubt(&info(version, cluster)).expect(version);
            assert!(doubt.contains("2.12.15") && doubt.contains("host:4222"), "{doubt}");
        }
        for (version, cluster) in [("2.12.14", None), ("2.12.15", Some("C")), ("2.14.6", None), ("2.13.9", Some("C"))] {
            assert_eq!(doubt(&info(version, cluster)), None, "{version}");
        }
    }
}
