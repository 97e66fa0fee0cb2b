//! What operators want: written, and taken back.

use std::time::{Duration, Instant};

use parti_nats::{Control, ControlRecord, Eviction, HumanDuration, Slot};
use serde_json::json;

use crate::arguments::{Drain, Force, Global, Maintenance, Reasoned, Rebalance};
use crate::ask::confirm;
use crate::connect::Link;
use crate::failure::{FINE, Failure, NO};
use crate::show::{human, print, print_json, tell};

/// How often a wait says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// The longest text of a wish.
const MAX_TEXT: usize = 1_000;

/// `parti drain`
pub(crate) async fn drain(global: &Global, drain: Drain) -> Result<u8, Failure> {
    let Drain { slot, wait, at_most, reasoned } = drain;
    let link = Link::open(global).await?;
    let observer = link.observe().await?;
    let picture = observer.snapshot();
    if !picture.workers.contains_key(&slot) {
        return Err(Failure::nothing_there(format!(
            "tried to drain worker-{slot} of {}: nobody has that slot: see `parti workers`",
            picture.group
        )));
    }
    let owned = picture.owned_by(slot);
    confirm(reasoned.force, &format!("drain worker-{slot} of {}, which owns {owned} partitions", picture.group))?;
    wish(global, &link, Control::Drain(slot), reasoned.record()?, !wait).await?;
    if !wait {
        return Ok(FINE);
    }
    let begun = Instant::now();
    loop {
        let left_of = at_most.saturating_sub(begun.elapsed());
        let is_empty = |picture: &parti_nats::Picture| left(picture, slot) == 0;
        if observer.wait_for(left_of.min(TELL_EVERY), is_empty).await.is_ok() {
            let done = format!("worker-{slot} has nothing any more, after {}\n", human(begun.elapsed()));
            let result = json!({ "wish": Control::Drain(slot), "drained": true, "left": 0 });
            return answer(global, &link, "drain", result, &done).map(|()| FINE);
        }
        let left = left(&observer.snapshot(), slot);
        if begun.elapsed() >= at_most {
            let late = format!("worker-{slot} still has {left} of {owned} after {}; the wish stands\n", human(at_most));
            let result = json!({ "wish": Control::Drain(slot), "drained": false, "left": left });
            return answer(global, &link, "drain", result, &late).map(|()| NO);
        }
        let left_of = at_most.saturating_sub(begun.elapsed());
        tell(&format!("{left} of {owned} left, {} gone, at most {} more", human(begun.elapsed()), human(left_of)));
    }
}

/// What a slot's tenure may still hold.
fn left(picture: &parti_nats::Picture, slot: Slot) -> usize {
    picture.assignments.get(&slot).map_or(0, |one| one.record.owned.len() + one.record.releasing.len())
}

/// `parti undrain`
pub(crate) async fn undrain(global: &Global, slot: Slot, force: &Force) -> Result<u8, Failure> {
    withdraw(global, Control::Drain(slot), *force, &format!("let worker-{slot} take part again")).await
}

/// `parti pause`
pub(crate) async fn pause(global: &Global, reasoned: Reasoned) -> Result<u8, Failure> {
    let link = Link::open(global).await?;
    confirm(reasoned.force, &format!("keep the partitions of {} from moving for balance", link.group))?;
    wish(global, &link, Control::Pause, reasoned.record()?, true).await?;
    Ok(FINE)
}

/// `parti resume`
pub(crate) async fn resume(global: &Global, force: &Force) -> Result<u8, Failure> {
    withdraw(global, Control::Pause, *force, "let partitions move for balance again").await
}

/// `parti maintenance`
pub(crate) async fn maintenance(global: &Global, verb: Maintenance) -> Result<u8, Failure> {
    match verb {
        Maintenance::Begin { hold, reasoned } => {
            let link = Link::open(global).await?;
            let time = hold.map_or_else(|| "without end".to_owned(), |hold| format!("for {}", HumanDuration(hold)));
            confirm(reasoned.force, &format!("hold what workers of {} have that are gone, {time}", link.group))?;
            let hold_ms = hold.map(crate::show::millis);
            let record = ControlRecord { hold_ms, ..reasoned.record()? };
            wish(global, &link, Control::Maintenance, record, true).await?;
            Ok(FINE)
        }
        Maintenance::End(force) => {
            withdraw(global, Control::Maintenance, force, "take workers that are gone for crashed again").await
        }
    }
}

/// `parti rebalance`
pub(crate) async fn rebalance(global: &Global, rebalance: Rebalance) -> Result<u8, Failure> {
    let Rebalance { if_generation, reasoned } = rebalance;
    let link = Link::open(global).await?;
    let is_now = link.observe().await?.snapshot().generation().value();
    if let Some(wanted) = if_generation.filter(|wanted| *wanted != is_now) {
        return Err(Failure::no(format!(
            "tried to rebalance {} from generation {wanted}: it has come to {is_now} meanwhile: look at `parti plan` again",
            link.group
        )));
    }
    confirm(reasoned.force, &format!("plan {} anew from generation {is_now}", link.group))?;
    wish(global, &link, Control::Rebalance, reasoned.record()?, true).await?;
    Ok(FINE)
}

/// `parti evict`
pub(crate) async fn evict(global: &Global, slot: Slot, force: &Force) -> Result<u8, Failure> {
    let link = Link::open(global).await?;
    let operator = link.operate().await?;
    confirm(*force, &format!("end the tenure of worker-{slot} of {}, if it is silent for its lease", link.group))?;
    tell(&format!("waiting until worker-{slot} has been silent for its lease"));
    let evicted = operator.evict(slot).await;
    let evicted = evicted.map_err(|error| link.explained(error.into()).trying(&format!("evict worker-{slot}")))?;
    let result = |evicted: bool| json!({ "slot": slot, "evicted": evicted });
    match evicted {
        Eviction::Done => {
            answer(global, &link, "evict", result(true), &format!("the tenure of worker-{slot} has ended\n"))?;
            Ok(FINE)
        }
        Eviction::Alive => {
            let text =
                format!("worker-{slot} is alive, so nothing was done: `parti drain {slot}` takes its work away\n");
            answer(global, &link, "evict", result(false), &text)?;
            Ok(NO)
        }
        Eviction::Nobody => Err(Failure::nothing_there(format!(
            "tried to evict worker-{slot}: nobody has that slot: see `parti workers`"
        ))),
    }
}

/// Writes a wish, and says so if `says`.
async fn wish(
    global: &Global,
    link: &Link,
    control: Control,
    record: ControlRecord,
    says: bool,
) -> Result<(), Failure> {
    let operator = link.operate().await?;
    let written = operator.wish(control, record.clone()).await;
    let trying = format!("write the wish {control}");
    let revision = written.map_err(|error| link.explained(error.into()).trying(&trying))?;
    if !says {
        return Ok(());
    }
    let result = json!({ "wish": control, "revision": revision, "by": record.by, "reason": record.reason });
    answer(global, link, "wish", result, &format!("{control} of {} is wanted (revision {revision})\n", link.group))
}

async fn withdraw(global: &Global, control: Control, force: Force, what: &str) -> Result<u8, Failure> {
    let link = Link::open(global).await?;
    let operator = link.operate().await?;
    confirm(force, &format!("{what} in {}", link.group))?;
    let withdrawn = operator.withdraw(control).await;
    let trying = format!("take back the wish {control}");
    if !withdrawn.map_err(|error| link.explained(error.into()).trying(&trying))? {
        return Err(Failure::nothing_there(format!(
            "{trying} of {}: it was not wanted: see `parti status`",
            link.group
        )));
    }
    let result = json!({ "wish": control, "withdrawn": true });
    answer(global, &link, "wish", result, &format!("{control} of {} is wanted no more\n", link.group))?;
    Ok(FINE)
}

fn answer(global: &Global, link: &Link, kind: &str, result: serde_json::Value, text: &str) -> Result<(), Failure> {
    if global.json { print_json(kind, link.group.as_str(), result) } else { print(text) }
}

impl Reasoned {
    fn record(&self) -> Result<ControlRecord, Failure> {
        if let Some(long) = [&self.by, &self.reason].into_iter().find(|text| text.chars().count() > MAX_TEXT) {
            let count = long.chars().count();
            return Err(Failure::usage(format!(
                "--reason and --by must have at most {MAX_TEXT} characters, but one has {count}: shorten it"
            )));
        }
        Ok(ControlRecord { by: self.by.clone(), reason: self.reason.clone(), hold_ms: None })
    }
}
