use parti_core::recording::{Recorder, Recording, Replay, Shown};
use parti_core::{Config, GroupName, Instant, Worker};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How many bytes the check of a line has, with the space before it.
const CHECK_BYTES: usize = 9;

/// A recording of whatever bytes is refused with the place, or replayed, and ends. That checks refuse nearly all of them is
/// no excuse for what is behind: with checks that fit, a beginning is read or refused, and a true worker that is told what
/// the lines say goes on.
///
/// # Panics
///
/// If that is not so.
pub fn recording(data: &[u8]) {
    replay(data);
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').map(without_check).collect();
    // What a forged worker does when it is told something is its own affair: there is none.
    let _ = Recording::read(&checked(0, &lines).1);

    let worker = Worker::new(Config::default(), 7, Instant::ORIGIN).expect("the default is valid");
    let group = GroupName::new("fuzz").expect("a valid name");
    let mut bytes = Recorder::new(group, &worker).begin(&worker, Instant::ORIGIN, Some(parti_core::Duration::ZERO));
    let beginning: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').take(2).map(without_check).collect();
    let (check, again) = checked(0, &beginning);
    assert_eq!(bytes, again, "the checks here are those of the recorder");
    let told: Vec<&[u8]> = lines.into_iter().filter(|line| line.starts_with(b"[")).collect();
    bytes.extend(checked(check, &told).1);
    replay(&bytes);
}

/// Goes through all of it.
fn replay(bytes: &[u8]) {
    let Ok(replay) = Replay::new([bytes]) else { return };
    let mut broken = 0;
    for shown in replay {
        match shown {
            Shown::Segment(begun) => drop(begun.texts()),
            Shown::Step(step) => drop(step.texts()),
            Shown::Broken { error, .. } => {
                broken += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(broken <= 1, "nothing comes after what cannot be read");
}

fn without_check(line: &[u8]) -> &[u8] {
    &line[..line.len().saturating_sub(CHECK_BYTES)]
}

/// The lines with checks that fit, and the last of these.
fn checked(mut check: u64, lines: &[&[u8]]) -> (u64, Vec<u8>) {
    let mut bytes = Vec::new();
    for line in lines {
        check = xxh3_64_with_seed(line, check);
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(format!(" {:08x}\n", check >> 32).as_bytes());
    }
    (check, bytes)
}
