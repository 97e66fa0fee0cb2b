//! What shows, and changes nothing.

use parti_nats::{
    Control, ForecastError, PartitionId, PartitionPicture, Picture, Presence, Waiting, WhatIf, Wish, WorkerPicture,
};
use serde_json::{Value, json};

use crate::arguments::{Global, Status, Which};
use crate::connect::{self, Link};
use crate::failure::{FINE, Failure, NO};
use crate::lag::{self, Lag};
use crate::show::{Style, Table, Tone, count, human, millis, print, print_json, rfc3339};

/// So many of the things that a group waits for are in one sentence.
const SHOWN_REASONS: usize = 4;

/// `parti status`
pub(crate) async fn status(global: &Global, status: Status) -> Result<u8, Failure> {
    let link = Link::open(global).await?;
    let observer = link.observe().await?;
    let picture = observer.snapshot();
    let lag = if status.lag { Some(Lag::read(&link, &observer, &picture).await) } else { None };
    let waits = Outlook::of(&picture);
    if global.json {
        let mut fields = status_json(&picture, &waits);
        if let Some(lag) = &lag {
            fields["lag"] = lag::fields(lag);
        }
        print_json("status", picture.group.as_str(), fields)?;
    } else {
        let style = Style::of_stdout();
        let lag = lag.map(|lag| lag::lines(&lag, style)).unwrap_or_default();
        let head = header(&picture, &waits, lag, style);
        print(&format!("{}\n\n{head}\n{}", sentence(&picture, &waits), workers_table(&picture).text(style)))?;
    }
    Ok(FINE)
}

/// What a group waits for, and what is yet to move.
pub(crate) struct Outlook {
    pub(crate) waits: Vec<Waiting>,
    /// How many partitions the next rounds move; none where that cannot be told.
    pub(crate) moves: Option<usize>,
}

impl Outlook {
    pub(crate) fn of(picture: &Picture) -> Self {
        let waits = picture.waits_for();
        let is_paused = picture.wishes.contains_key(&Control::Pause);
        // Only where the list is in the store is it known what partitions ask for.
        let stored = picture.list.as_ref().and_then(|list| list.partitions.as_ref().ok());
        let forecast = (waits.is_empty() && !is_paused && stored.is_some())
            .then(|| picture.forecast(&WhatIf::default()))
            .and_then(Result::<_, ForecastError>::ok);
        let moves = forecast.map(|forecast| forecast.rounds.iter().map(|round| round.moves.len()).sum());
        Self { waits, moves }
    }

    /// Whether nothing is under way, and nothing is to come by itself.
    pub(crate) fn is_settled(&self) -> bool {
        self.waits.is_empty() && self.moves.unwrap_or(0) == 0
    }
}

/// The group in one sentence.
pub(crate) fn sentence(picture: &Picture, outlook: &Outlook) -> String {
    let group = &picture.group;
    if outlook.is_settled() {
        let since = picture.age(picture.planned_at()).map(|age| format!(" for {}", human(age))).unwrap_or_default();
        return format!("{group} is settled{since}; nothing waits.");
    }
    let mut reasons: Vec<String> = outlook.waits.iter().map(ToString::to_string).collect();
    if let Some(moves) = outlook.moves.filter(|moves| *moves > 0) {
        reasons.push(format!("{} more to move, in a round that is yet to come", count(moves, "partition")));
    }
    let more = reasons.len().saturating_sub(SHOWN_REASONS);
    reasons.truncate(SHOWN_REASONS);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{group} is not settled: {}{more}.", reasons.join("; "))
}

fn header(picture: &Picture, outlook: &Outlook, lag: Vec<(&'static str, String)>, style: Style) -> String {
    let partitions = picture.partitions();
    let moving = partitions.iter().filter(|partition| partition.is_moving()).count();
    let unowned = picture.unowned(&partitions);
    let settled = outlook.is_settled();
    let state =
        style.paint(if settled { "settled" } else { "not settled" }, if settled { Tone::Good } else { Tone::Notable });
    let leader = match (picture.acting_leader(), picture.leader) {
        (Some(leader), _) => format!("worker-{}", leader.slot),
        (None, Some(last)) => style.paint(&format!("nobody, worker-{} was the last", last.slot), Tone::Bad),
        (None, None) => style.paint("nobody", Tone::Bad),
    };
    let term = picture.head.as_ref().map(|head| format!(", term {}", head.term)).unwrap_or_default();
    let mut lines = vec![
        ("State", state),
        ("Leader", leader + &term),
        ("Generation", picture.generation().to_string()),
        ("Workers", picture.workers.len().to_string()),
        ("Partitions", format!("{}, {unowned} unowned, {moving} moving", known(picture, &partitions))),
    ];
    lines.extend(lag);
    lines.extend(picture.wishes.iter().map(|(control, wish)| ("Wish", wish_text(picture, *control, wish, style))));
    let broken = picture.unreadable.iter().map(|unreadable| {
        (
            "Unreadable",
            format!("{} (revision {}): {}", unreadable.key, unreadable.revision, style.cell(&unreadable.why)),
        )
    });
    lines.extend(broken);
    if let Some(Err(why)) = picture.list.as_ref().map(|list| &list.partitions) {
        lines.push(("Unreadable", format!("the partition list: {}", style.cell(why))));
    }
    let lines = lines.into_iter().map(|(name, text)| format!("  {name:<11} {text}\n"));
    lines.collect::<Vec<_>>().concat()
}

/// How many partitions there are, as far as is known.
fn known(picture: &Picture, partitions: &[PartitionPicture]) -> usize {
    let counted = picture.head.as_ref().map_or(0, |head| usize::try_from(head.partitions).unwrap_or(usize::MAX));
    if picture.list.is_some() { partitions.len() } else { partitions.len().max(counted) }
}

fn wish_text(picture: &Picture, control: Control, wish: &Wish, style: Style) -> String {
    let told = |before: &str, text: &str| {
        if text.is_empty() { String::new() } else { format!("{before}{}", style.cell(text)) }
    };
    let age = picture.age(wish.written).map(|age| format!(", {} ago", human(age))).unwrap_or_default();
    format!("{control}{}{age}{}", told(" by ", &wish.record.by), told(": ", &wish.record.reason))
}

/// `parti workers`
pub(crate) async fn workers(global: &Global) -> Result<u8, Failure> {
    let picture = connect::picture(global).await?;
    if global.json {
        let workers: Vec<Value> = picture.workers.values().map(|worker| worker_json(&picture, worker)).collect();
        print_json("workers", picture.group.as_str(), json!({ "workers": workers }))?;
    } else {
        print(&workers_table(&picture).text(Style::of_stdout()))?;
    }
    Ok(FINE)
}

fn workers_table(picture: &Picture) -> Table {
    let mut table = Table::new(&[
        "WORKER", "STATE", "OWNS", "RELEASES", "EXPECTS", "LOAD", "CAPACITY", "RENEWED", "LEASE", "SOFTWARE", "LABELS",
    ]);
    let leads = |worker: &WorkerPicture| picture.acting_leader().is_some_and(|leader| leader.slot == worker.slot);
    for worker in picture.workers.values() {
        let Share { owned, releasing, incoming, load } = Share::of(picture, worker);
        let (state, tone) = state_of(picture, worker);
        let state = if leads(worker) { format!("{state}, leads") } else { state.to_owned() };
        let labels = worker.record.labels.iter().map(|(name, value)| format!("{name}={value}"));
        let plain = |text: String| (text, Tone::Plain);
        table.row(vec![
            plain(format!("worker-{}", worker.slot)),
            (state, tone),
            plain(owned.to_string()),
            plain(releasing.to_string()),
            plain(incoming.to_string()),
            plain(load.to_string()),
            plain(capacity(worker)),
            plain(picture.age(worker.written).map_or_else(|| "?".to_owned(), |age| human(age) + " ago")),
            plain(human(worker.lease())),
            plain(worker.record.software.clone()),
            plain(labels.collect::<Vec<_>>().join(" ")),
        ]);
    }
    table
}

/// What a worker takes compared with others, and the most that it takes.
fn capacity(worker: &WorkerPicture) -> String {
    let record = &worker.record;
    let load = record.max_load.map(|most| format!(", load ≤ {most}")).unwrap_or_default();
    let partitions = record.max_partitions.map(|most| format!(", partitions ≤ {most}")).unwrap_or_default();
    format!("{}{load}{partitions}", record.capacity)
}

/// What a worker has, in numbers.
pub(crate) struct Share {
    pub(crate) owned: usize,
    pub(crate) releasing: usize,
    pub(crate) incoming: usize,
    pub(crate) load: u64,
}

impl Share {
    pub(crate) fn of(picture: &Picture, worker: &WorkerPicture) -> Self {
        let record = picture.assignments.get(&worker.slot).map(|assignment| &assignment.record);
        let record = record.filter(|record| record.tenure == worker.tenure);
        let Some(record) = record else { return Self { owned: 0, releasing: 0, incoming: 0, load: 0 } };
        Self {
            owned: record.owned.len(),
            releasing: record.releasing.len(),
            incoming: record.incoming.len(),
            load: picture.load_of(worker),
        }
    }
}

pub(crate) fn state_of(picture: &Picture, worker: &WorkerPicture) -> (&'static str, Tone) {
    match picture.presence(worker) {
        Presence::Working if picture.wishes.contains_key(&Control::Drain(worker.slot)) => ("drained", Tone::Notable),
        Presence::Working => ("working", Tone::Good),
        Presence::Leaving => ("leaving", Tone::Notable),
        Presence::Restarting => ("restarting", Tone::Notable),
        Presence::Silent => ("silent", Tone::Bad),
    }
}

/// `parti partitions`
pub(crate) async fn partitions(global: &Global, which: &Which) -> Result<u8, Failure> {
    let picture = connect::picture(global).await?;
    let Which { unowned, moving, owner } = *which;
    let is_asked_for = |partition: &PartitionPicture| {
        (!unowned || partition.owner.is_none() && partition.releasing.is_none())
            && (!moving || partition.is_moving())
            && owner.is_none_or(|slot| partition.owner.is_some_and(|owner| owner.slot == slot))
    };
    let mut partitions: Vec<_> = picture.partitions().into_iter().filter(is_asked_for).collect();
    let rank = |partition: &PartitionPicture| match (partition.owner, partition.is_moving()) {
        (None, _) => 0,
        (Some(_), true) => 1,
        (Some(_), false) => 2,
    };
    partitions.sort_by_key(rank); // what is equal stays in the order of the ids
    if global.json {
        let partitions: Vec<Value> = partitions.iter().map(partition_json).collect();
        print_json("partitions", picture.group.as_str(), json!({ "partitions": partitions }))?;
        return Ok(FINE);
    }
    let mut table = Table::new(&["PARTITION", "OWNER", "WEIGHT", "EPOCH", "MOVES"]);
    for partition in &partitions {
        let (owner, tone) = match partition.owner {
            Some(owner) => (format!("worker-{}", owner.slot), Tone::Plain),
            None => ("nobody".to_owned(), Tone::Bad),
        };
        let epoch = partition.owner.map(|owner| owner.token.epoch.to_string()).unwrap_or_default();
        table.row(vec![
            (partition.id.to_string(), Tone::Plain),
            (owner, tone),
            (partition.weight.to_string(), Tone::Plain),
            (epoch, Tone::Plain),
            (moves(partition), Tone::Notable),
        ]);
    }
    print(&table.text(Style::of_stdout()))?;
    Ok(FINE)
}

/// Where a partition is on its way, in words; nothing if it is not.
fn moves(partition: &PartitionPicture) -> String {
    let mut words = Vec::new();
    if let Some(slot) = partition.releasing {
        words.push(format!("worker-{slot} has to release it"));
    }
    if let Some(slot) = partition.incoming {
        words.push(format!("goes to worker-{slot}"));
    }
    if !partition.listed {
        words.push("not in the list any more".to_owned());
    }
    words.join(", ")
}

/// `parti who-owns`
pub(crate) async fn who_owns(global: &Global, id: &str) -> Result<u8, Failure> {
    let id = PartitionId::new(id).map_err(|error| Failure::usage(error.to_string()))?;
    let picture = connect::picture(global).await?;
    let partition = partition(&picture, &id)?;
    if global.json {
        print_json("who_owns", picture.group.as_str(), partition_json(&partition))?;
    } else {
        print(&owner_line(&partition, Style::of_stdout()))?;
    }
    Ok(if partition.owner.is_some() { FINE } else { NO })
}

/// What is known of one partition.
pub(crate) fn partition(picture: &Picture, id: &PartitionId) -> Result<PartitionPicture, Failure> {
    let found = picture.partitions().into_iter().find(|partition| partition.id == *id);
    found.ok_or_else(|| {
        Failure::nothing_there(format!(
            "{id:?} is no partition of {}, as far as its records tell: see `parti partitions`",
            picture.group
        ))
    })
}

/// Who owns a partition, and where it is on its way.
pub(crate) fn owner_line(partition: &PartitionPicture, style: Style) -> String {
    let moves = moves(partition);
    let moves = if moves.is_empty() { moves } else { format!(" ({moves})") };
    let id = style.cell(partition.id.as_str());
    match partition.owner {
        Some(owner) => format!("{id} is with worker-{}, token {}{moves}\n", owner.slot, owner.token),
        None => format!("{id} is with nobody{moves}\n"),
    }
}

fn status_json(picture: &Picture, outlook: &Outlook) -> Value {
    let partitions = picture.partitions();
    let moving = partitions.iter().filter(|partition| partition.is_moving()).count();
    let head = picture.head.as_ref();
    json!({
        "at": rfc3339(picture.taken_at),
        "live": picture.live,
        "settled": outlook.is_settled(),
        "settled_ms": outlook.is_settled().then(|| picture.age(picture.planned_at()).map(millis)).flatten(),
        "sentence": sentence(picture, outlook),
        "waits_for": outlook.waits,
        "moves_to_come": outlook.moves,
        "leader": picture.acting_leader().map(|leader| leader.slot),
        "term": head.map(|head| head.term),
        "generation": picture.generation(),
        "phase": head.map(|head| head.phase),
        "partitions": known(picture, &partitions),
        "unowned": picture.unowned(&partitions),
        "moving": moving,
        "members_revision": picture.members.revision,
        "plan_revision": picture.plan.revision,
        "wishes": picture.wishes.iter().map(|(control, wish)| wish_json(picture, *control, wish)).collect::<Vec<_>>(),
        "unreadable": picture.unreadable.iter().map(|one| json!({
            "key": one.key, "revision": one.revision, "newer": one.newer, "why": one.why,
        })).collect::<Vec<_>>(),
        "list_unreadable": picture.list.as_ref().and_then(|list| list.partitions.as_ref().err()),
        "workers": picture.workers.values().map(|worker| worker_json(picture, worker)).collect::<Vec<_>>(),
    })
}

pub(crate) fn wish_json(picture: &Picture, control: Control, wish: &Wish) -> Value {
    json!({
        "wish": control,
        "by": wish.record.by,
        "reason": wish.record.reason,
        "hold_ms": wish.record.hold_ms,
        "revision": wish.revision,
        "written": wish.written.map(rfc3339),
        "age_ms": picture.age(wish.written).map(millis),
    })
}

pub(crate) fn worker_json(picture: &Picture, worker: &WorkerPicture) -> Value {
    let Share { owned, releasing, incoming, load } = Share::of(picture, worker);
    let record = &worker.record;
    json!({
        "worker": format!("worker-{}", worker.slot),
        "slot": worker.slot,
        "instance": record.instance,
        "tenure": worker.tenure,
        "state": state_of(picture, worker).0,
        "leads": picture.acting_leader().is_some_and(|leader| leader.slot == worker.slot),
        "owned": owned,
        "releasing": releasing,
        "incoming": incoming,
        "load": load,
        "capacity": record.capacity,
        "max_load": record.max_load,
        "max_partitions": record.max_partitions,
        "applied": picture.has_applied(worker),
        "renewed": worker.written.map(rfc3339),
        "age_ms": picture.age(worker.written).map(millis),
        "lease_ms": millis(worker.lease()),
        "software": record.software,
        "labels": record.labels,
        "unwanted": record.unwanted,
    })
}

pub(crate) fn partition_json(partition: &PartitionPicture) -> Value {
    json!({
        "partition": partition.id,
        "weight": partition.weight,
        "owner": partition.owner.map(|owner| owner.slot),
        "token": partition.owner.map(|owner| owner.token),
        "epoch": partition.owner.map(|owner| owner.token.epoch),
        "releasing": partition.releasing,
        "incoming": partition.incoming,
        "listed": partition.listed,
    })
}
