//! `parti check`: whether all is well, for monitoring.

use std::time::Duration;

use parti_nats::{Control, Observer, Picture, Presence};
use serde_json::json;

use crate::arguments::{Check, Format, Global};
use crate::connect::Link;
use crate::failure::{CANNOT_TELL, Failure};
use crate::look::Outlook;
use crate::show::{Style, Tone, count, human, millis, print, print_json};

/// An answer that takes longer than this is slow.
const SLOW: Duration = Duration::from_millis(250);
/// By how many thousandths two clocks may differ in rate before somebody should look: the protocol stands an eighth.
const ODD_RATE_PERMILLE: u64 = 20;
/// For how long rates are compared.
const COMPARED: Duration = Duration::from_millis(500);

/// How grave a finding is, with the exit codes of monitoring plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Gravity {
    Fine = 0,
    Warning = 1,
    Critical = 2,
}

impl Gravity {
    fn word(self) -> &'static str {
        match self {
            Self::Fine => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Fine => Tone::Good,
            Self::Warning => Tone::Notable,
            Self::Critical => Tone::Bad,
        }
    }
}

/// What one look has found.
struct Finding {
    /// What was looked at, in a word that does not change.
    name: &'static str,
    gravity: Gravity,
    text: String,
}

/// Numbers for those who draw them.
struct Figures {
    workers: usize,
    unowned: usize,
    moving: usize,
    round_trip: Duration,
}

pub(crate) async fn check(global: &Global, check: Check) -> Result<u8, Failure> {
    let format = if global.json { Format::Json } else { check.format };
    match look(global, &check).await {
        Ok((findings, figures, group)) => {
            let gravest = findings.iter().map(|finding| finding.gravity).max().unwrap_or(Gravity::Fine);
            report(format, &group, &findings, Some(&figures), gravest.word())?;
            Ok(gravest as u8)
        }
        // Where there is no such group, something is wrong for sure; else nobody knows.
        Err(failure) if format == Format::Text => Err(Failure { code: CANNOT_TELL, ..failure }),
        Err(failure) => {
            let group = global.group.as_ref().map(ToString::to_string).unwrap_or_default();
            let finding = Finding { name: "group", gravity: Gravity::Critical, text: failure.text };
            report(format, &group, &[finding], None, "UNKNOWN")?;
            Ok(CANNOT_TELL)
        }
    }
}

async fn look(global: &Global, check: &Check) -> Result<(Vec<Finding>, Figures, String), Failure> {
    let link = Link::open(global).await?;
    let observer = link.observe().await?;
    let (mut findings, round_trip) = server(&observer).await.map_err(|failure| link.explained(failure))?;
    let picture = observer.snapshot();
    findings.extend(observer.warnings().into_iter().map(|warning| Finding {
        name: "buckets",
        gravity: Gravity::Critical,
        text: format!("{}: {}", warning.name, warning.text),
    }));
    group(&picture, &mut findings);
    wishes(&picture, check.wish_age, &mut findings);
    let partitions = picture.partitions();
    let moving = partitions.iter().filter(|partition| partition.is_moving()).count();
    let figures = Figures { workers: picture.workers.len(), unowned: picture.unowned(&partitions), moving, round_trip };
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.gravity));
    Ok((findings, figures, picture.group.to_string()))
}

/// The version, the latency, and the rate of its clock. That it was let in and could read shows that it may.
async fn server(observer: &Observer) -> Result<(Vec<Finding>, Duration), Failure> {
    let mut findings = Vec::new();
    let (gravity, text) = match observer.server_doubt() {
        None => (Gravity::Fine, format!("nats-server {}", observer.server_version())),
        Some(doubt) => (Gravity::Warning, doubt),
    };
    findings.push(Finding { name: "server", gravity, text });
    let before = observer.ask_server().await?;
    let gravity = if before.took > SLOW { Gravity::Warning } else { Gravity::Fine };
    findings.push(Finding { name: "latency", gravity, text: format!("an answer took {}", micros(before.took)) });
    tokio::time::sleep(COMPARED).await;
    let after = observer.ask_server().await?;
    let here = after.asked_at.since(before.asked_at);
    let there = after.time.duration_since(before.time).unwrap_or_default();
    findings.push(clocks(here, there, before.took + after.took));
    Ok((findings, before.took))
}

/// Whether two clocks went at the same rate, of which one showed a time that differs from the other's by no more than what the
/// round trips may hide.
fn clocks(here: Duration, there: Duration, hidden: Duration) -> Finding {
    let differs = here.abs_diff(there).saturating_sub(hidden);
    let permille = u64::try_from(differs.as_micros() * 1_000 / here.as_micros().max(1)).unwrap_or(u64::MAX);
    let (gravity, text) = if permille > ODD_RATE_PERMILLE {
        let text = format!(
            "the server's clock went {} while this machine's went {}: look at both",
            micros(there),
            micros(here)
        );
        (Gravity::Warning, text)
    } else {
        (Gravity::Fine, "the clocks here and at the server go at the same rate".to_owned())
    };
    Finding { name: "clocks", gravity, text }
}

fn micros(duration: Duration) -> String {
    format!("{}.{:03} ms", duration.as_millis(), duration.as_micros() % 1_000)
}

fn group(picture: &Picture, findings: &mut Vec<Finding>) {
    let mut find = |name, gravity, text| findings.push(Finding { name, gravity, text });
    match picture.acting_leader() {
        Some(leader) => find("leader", Gravity::Fine, format!("worker-{} leads", leader.slot)),
        None => find("leader", Gravity::Critical, "nobody leads: nothing is placed until a worker does".to_owned()),
    }
    match picture.unowned(&picture.partitions()) {
        0 => find("owners", Gravity::Fine, "every partition that is known has an owner".to_owned()),
        unowned => find("owners", Gravity::Critical, format!("nobody owns {}", count(unowned, "partition"))),
    }
    if !picture.unreadable.is_empty() || picture.list.as_ref().is_some_and(|list| list.partitions.is_err()) {
        let keys = picture.unreadable.iter().map(|one| one.key.to_string());
        let list = picture.list.iter().filter(|list| list.partitions.is_err()).map(|_| "the partition list".to_owned());
        let keys = keys.chain(list).collect::<Vec<_>>().join(", ");
        find("records", Gravity::Critical, format!("cannot be read: {keys}: see `parti status`"));
    }
    let silent = picture.workers.values().filter(|worker| picture.presence(worker) == Presence::Silent);
    match silent.count() {
        0 => find("workers", Gravity::Fine, count(picture.workers.len(), "worker")),
        silent => {
            find("workers", Gravity::Warning, format!("{} silent for longer than its lease", count(silent, "worker")));
        }
    }
    let waits = Outlook::of(picture).waits;
    let text = waits.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    // A move under way is the normal course of things.
    let text = if waits.is_empty() { "nothing waits".to_owned() } else { format!("not settled: {text}") };
    find("settled", Gravity::Fine, text);
}

/// Wishes that somebody may have forgotten.
fn wishes(picture: &Picture, wish_age: Duration, findings: &mut Vec<Finding>) {
    for (control, wish) in picture.wishes.iter().filter(|(control, _)| **control != Control::Rebalance) {
        let age = picture.age(wish.written).unwrap_or_default();
        if age > wish_age {
            let by = parti_nats::harmless(&wish.record.by, 64);
            let by = if by.is_empty() { by } else { format!(" by {by}") };
            let text = format!("{control} has been wanted{by} for {}: was it forgotten?", human(age));
            findings.push(Finding { name: "wishes", gravity: Gravity::Warning, text });
        }
    }
}

fn report(
    format: Format,
    group: &str,
    findings: &[Finding],
    figures: Option<&Figures>,
    word: &str,
) -> Result<(), Failure> {
    match format {
        Format::Text => {
            let style = Style::of_stdout();
            let line = |finding: &Finding| {
                let word = format!("{:<8}", finding.gravity.word());
                format!(
                    "{}  {:<8}  {}\n",
                    style.paint(&word, finding.gravity.tone()),
                    finding.name,
                    style.cell(&finding.text)
                )
            };
            print(&findings.iter().map(line).collect::<String>())
        }
        Format::Json => {
            let finding = |finding: &Finding| json!({ "name": finding.name, "status": finding.gravity.word().to_lowercase(), "text": finding.text });
            let mut fields = json!({
                "status": word.to_lowercase(),
                "findings": findings.iter().map(finding).collect::<Vec<_>>(),
            });
            if let Some(figures) = figures {
                fields["workers"] = figures.workers.into();
                fields["unowned"] = figures.unowned.into();
                fields["moving"] = figures.moving.into();
                fields["round_trip_ms"] = millis(figures.round_trip).into();
            }
            print_json("check", group, fields)
        }
        Format::Nagios => {
            let grave = findings.iter().filter(|finding| finding.gravity > Gravity::Fine);
            let texts: Vec<String> =
                grave.map(|finding| parti_nats::harmless(&finding.text, 200).replace('|', "/")).collect();
            let texts = if texts.is_empty() { "all is well".to_owned() } else { texts.join("; ") };
            let data = figures.map(|figures| {
                let Figures { workers, unowned, moving, round_trip } = figures;
                let seconds = round_trip.as_secs_f64();
                format!(" | workers={workers} unowned={unowned};0;0 moving={moving} round_trip={seconds:.6}s")
            });
            print(&format!("PARTI {word} - {group}: {texts}{}\n", data.unwrap_or_default()))
        }
        Format::Prometheus => prometheus(group, findings, figures, word),
    }
}

fn prometheus(group: &str, findings: &[Finding], figures: Option<&Figures>, word: &str) -> Result<(), Failure> {
    let label = group.replace(['\\', '"', '\n'], "_");
    let mut shown = Vec::new();
    let mut gauge = |name: &str, help: &str, lines: Vec<(String, String)>| {
        shown.push(format!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
        for (labels, value) in lines {
            shown.push(format!("{name}{{group=\"{label}\"{labels}}} {value}\n"));
        }
    };
    let status = ["OK", "WARNING", "CRITICAL"].iter().position(|one| *one == word).unwrap_or(3);
    gauge("parti_check_status", "0 fine, 1 warning, 2 critical, 3 unknown.", vec![(String::new(), status.to_string())]);
    let mut gravest = std::collections::BTreeMap::new();
    for finding in findings {
        let known = gravest.entry(finding.name).or_insert(finding.gravity);
        *known = (*known).max(finding.gravity);
    }
    let lines = gravest.into_iter().map(|(name, gravity)| (format!(",check=\"{name}\""), (gravity as u8).to_string()));
    gauge("parti_check_finding", "The gravest finding of each kind.", lines.collect());
    if let Some(figures) = figures {
        let one = |value: String| vec![(String::new(), value)];
        gauge("parti_check_workers", "Workers that have a slot.", one(figures.workers.to_string()));
        gauge("parti_check_partitions_unowned", "Partitions that nobody owns.", one(figures.unowned.to_string()));
        gauge("parti_check_partitions_moving", "Partitions on their way.", one(figures.moving.to_string()));
        let seconds = format!("{:.6}", figures.round_trip.as_secs_f64());
        gauge("parti_check_round_trip_seconds", "How long one answer of the server took.", one(seconds));
    }
    print(&shown.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_wrong_is_told_from_answers_that_were_on_their_way_for_long() {
        let millis = Duration::from_millis;
        for (here, there, hidden, expected) in [
            (500, 501, 0, Gravity::Fine),
            (500, 560, 0, Gravity::Warning),
            (500, 440, 0, Gravity::Warning),
            (500, 560, 55, Gravity::Fine),
            (500, 0, 2, Gravity::Warning),
        ] {
            let finding = clocks(millis(here), millis(there), millis(hidden));
            assert_eq!((finding.name, finding.gravity), ("clocks", expected), "{here} {there}: {}", finding.text);
        }
        let text = clocks(millis(500), millis(560), Duration::ZERO).text;
        assert_eq!(text, "the server's clock went 560.000 ms while this machine's went 500.000 ms: look at both");
    }

    #[test]
    fn what_is_gravest_decides() {
        assert!(Gravity::Critical > Gravity::Warning && Gravity::Warning > Gravity::Fine);
        assert_eq!([Gravity::Fine, Gravity::Warning, Gravity::Critical].map(|gravity| gravity as u8), [0, 1, 2]);
    }
}
