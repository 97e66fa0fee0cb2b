//! What must hold of everything that was said.

use std::collections::{BTreeMap, BTreeSet};

use crate::consumers::Said;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Messages on which work has begun again.
    pub(crate) repeated: usize,
    /// Messages that nobody has finished.
    pub(crate) unfinished: Vec<u64>,
    /// What must never be.
    pub(crate) violations: Vec<String>,
}

/// Judges what was said of these messages: the numbers of each partition, in order.
pub(crate) fn judge(said: &[Said], published: &BTreeMap<String, Vec<u64>>) -> Verdict {
    let mut verdict = Verdict::default();
    for (partition, sequences) in published {
        let mut said: Vec<_> = said.iter().filter(|said| said.partition == *partition).collect();
        // What ends in the nanosecond in which something begins has ended before.
        said.sort_by_key(|said| (said.at, said.begins));
        judge_one(partition, &said, sequences, &mut verdict);
    }
    verdict
}

fn judge_one(partition: &str, said: &[&Said], sequences: &[u64], verdict: &mut Verdict) {
    let (mut begun, mut ended) = (BTreeSet::new(), BTreeSet::new());
    for (place, now) in said.iter().enumerate() {
        if !now.begins {
            ended.insert(now.sequence);
            continue;
        }
        if !begun.insert(now.sequence) {
            verdict.repeated += 1;
        }
        let lower = sequences.iter().take_while(|sequence| **sequence < now.sequence);
        if let Some(skipped) = lower.into_iter().find(|sequence| !ended.contains(sequence)) {
            let what = format!("{partition}: work on {} began before {skipped} was finished", now.sequence);
            verdict.violations.push(what);
        }
        // Work that ends is work all the time, whatever another process says in between.
        let end =
            said[place..].iter().find(|end| !end.begins && (end.process, end.sequence) == (now.process, now.sequence));
        let begins_again = |end: &&&Said| {
            !said[place + 1..].iter().any(|again| {
                again.begins && (again.process, again.sequence) == (now.process, now.sequence) && again.at < end.at
            })
        };
        if let Some(end) = end.filter(begins_again) {
            let others = said[place..].iter().take_while(|other| other.at < end.at);
            if let Some(other) = others.into_iter().find(|other| other.begins && other.process != now.process) {
                let what = format!("{partition}: {} and {} are at work at once", now.process, other.process);
                verdict.violations.push(what);
            }
        }
    }
    verdict.unfinished.extend(sequences.iter().filter(|sequence| !ended.contains(sequence)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(process: u32, sequence: u64, at: u64, begins: bool) -> Said {
        Said { process, partition: "p".into(), sequence, at, begins }
    }

    fn judged(said: &[Said]) -> Verdict {
        judge(said, &[("p".to_owned(), vec![3, 5])].into())
    }

    #[test]
    fn what_must_not_be_is_found() {
        let good = [said(1, 3, 1, true), said(1, 3, 2, false), said(2, 5, 2, true), said(2, 5, 4, false)];
        assert_eq!(judged(&good), Verdict::default());
        assert_eq!(judged(&good[..2]).unfinished, [5]);
        let skipped = [said(1, 5, 1, true), said(1, 5, 2, false), said(1, 3, 3, true), said(1, 3, 4, false)];
        assert_eq!(judged(&skipped).violations.len(), 1);
        let two = [said(1, 3, 1, true), said(2, 3, 2, true), said(1, 3, 3, false), said(2, 3, 4, false)];
        assert_eq!((judged(&two).violations.len(), judged(&two).repeated), (1, 1));
        // The first has not ended: it was killed, or interrupted.
        let killed = [said(1, 3, 1, true), said(2, 3, 2, true), said(2, 3, 4, false)];
        assert_eq!((judged(&killed).violations.len(), judged(&killed).repeated), (0, 1));
    }
}
