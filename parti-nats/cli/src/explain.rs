//! `parti explain`: why a partition is where it is, and what would move it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parti_nats::{
    Control, ForecastMove, MoveCause, PartitionId, PartitionPicture, Picture, Placement, PlanHistory, Slot, WhatIf,
    WorkerPicture,
};
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::connect;
use crate::failure::{FINE, Failure};
use crate::look;
use crate::show::{Style, Table, Tone, human, millis, print, print_json, rfc3339};

/// What there is to tell of a partition.
struct Account<'a> {
    picture: &'a Picture,
    partition: PartitionPicture,
    /// The moves that are remembered, the newest first.
    moves: Vec<Told>,
    /// How many moves of the plans that are remembered are not named: this partition's may be among them.
    unnamed: u64,
    /// What the list asks for.
    placement: Option<Placement>,
    /// The move that the next rounds would make.
    next: Option<ForecastMove>,
}

/// A move that the plan remembers.
struct Told {
    generation: u64,
    at: Option<SystemTime>,
    from: Option<Slot>,
    to: Option<Slot>,
    cause: MoveCause,
}

pub(crate) async fn explain(global: &Global, id: &str) -> Result<u8, Failure> {
    let id = PartitionId::new(id).map_err(|error| Failure::usage(error.to_string()))?;
    let picture = connect::picture(global).await?;
    let partition = look::partition(&picture, &id)?;
    let account = Account::of(&picture, partition);
    if global.json {
        print_json("explain", picture.group.as_str(), account.json())?;
    } else {
        print(&account.text(Style::of_stdout()))?;
    }
    Ok(FINE)
}

impl<'a> Account<'a> {
    fn of(picture: &'a Picture, partition: PartitionPicture) -> Self {
        let history = picture.head.as_ref().map(|head| head.moves.clone()).unwrap_or_default();
        let list = picture.list.as_ref().and_then(|list| list.partitions.as_ref().ok());
        let listed = list.and_then(|list| list.iter().find(|listed| listed.id == partition.id));
        let forecast = list.and_then(|_| picture.forecast(&WhatIf::default()).ok());
        let moves = forecast.into_iter().flat_map(|forecast| forecast.rounds).flat_map(|round| round.moves);
        let next = moves.into_iter().find(|step| step.partition == partition.id);
        Self {
            picture,
            moves: told(&history, &partition.id),
            unnamed: history.plans().iter().map(parti_nats::PlanMoves::unnamed).sum(),
            placement: listed.and_then(|listed| listed.placement.as_deref().cloned()),
            next,
            partition,
        }
    }

    /// Why it is where it is now.
    fn why_here(&self) -> String {
        let how = self.how_it_came();
        match self.fit() {
            Some(fit) => format!("{how} {fit}"),
            None => how,
        }
    }

    /// Whether it is where it would rather be; nothing if it prefers nobody or has no owner.
    fn fit(&self) -> Option<String> {
        let prefers = self.placement.as_ref().map(|placement| &placement.prefers)?;
        let owner = self.picture.workers.get(&self.partition.owner?.slot)?;
        let has_all =
            |worker: &WorkerPicture| prefers.iter().all(|(name, value)| worker.record.labels.get(name) == Some(value));
        let named = prefers.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" and ");
        let slot = owner.slot;
        if prefers.is_empty() {
            None
        } else if has_all(owner) {
            Some(format!("It prefers a worker with {named}, and worker-{slot} is one."))
        } else if self.picture.workers.values().any(has_all) {
            Some(format!(
                "It prefers a worker with {named}, and is spilled to worker-{slot}: none of those has had room."
            ))
        } else {
            Some(format!("It prefers a worker with {named}, and is spilled to worker-{slot}: there is none."))
        }
    }

    fn how_it_came(&self) -> String {
        let pinned = self.placement.as_ref().and_then(|placement| placement.pin);
        let owner = self.partition.owner.map(|owner| owner.slot);
        if let (Some(pin), Some(owner)) = (pinned, owner)
            && pin == owner
        {
            return format!("The list pins it to worker-{pin}.");
        }
        match (self.moves.first(), owner) {
            (Some(last), Some(owner)) if last.to == Some(owner) => {
                format!("It came here in generation {}: {}.", last.generation, sentence(last))
            }
            (Some(last), Some(owner)) => format!(
                "It is yet to follow generation {}: {}; until it is released, worker-{owner} has it.",
                last.generation,
                sentence(last)
            ),
            (Some(last), None) => {
                format!("The last that was planned of it, in generation {}: {}.", last.generation, sentence(last))
            }
            (None, Some(_)) if self.unnamed > 0 => {
                format!("How it came here is not remembered: {} moves of large plans are not named.", self.unnamed)
            }
            (None, Some(_)) => {
                "How it came here is not remembered any more: it has not moved for many plans.".to_owned()
            }
            (None, None) => "Nothing that moved it is remembered.".to_owned(),
        }
    }

    /// What would move it.
    fn what_next(&self) -> String {
        let mut sentences = Vec::new();
        if let Some(placement) = &self.placement {
            let requires = placement.requires.iter().map(|(name, value)| format!("{name}={value}"));
            let requires: Vec<String> = requires.collect();
            if !requires.is_empty() {
                sentences.push(format!("The list asks for a worker with {}.", requires.join(" and ")));
            }
        }
        if let Some(key) = self.placement.as_ref().and_then(|placement| placement.apart.as_ref()) {
            sentences.push(format!("The list keeps it apart from others of {key}."));
        }
        if let Some(owner) = self.partition.owner
            && self.picture.wishes.contains_key(&Control::Drain(owner.slot))
        {
            sentences.push(format!("worker-{} is drained, so it goes to another.", owner.slot));
        }
        match &self.next {
            Some(ForecastMove { to: Some(to), reason, .. }) => {
                sentences.push(format!("A round that is yet to come moves it to worker-{to} ({reason})."));
            }
            Some(ForecastMove { to: None, .. }) => {
                sentences.push("A round that is yet to come takes it away: no worker may have it.".to_owned());
            }
            None => sentences.push(
                "Nothing moves it but the end or a drain of its worker, another list, or a load that becomes uneven."
                    .to_owned(),
            ),
        }
        sentences.join(" ")
    }

    fn text(&self, style: Style) -> String {
        let why = style.cell(&self.why_here());
        let mut text =
            format!("{}{why}\n{}\n", look::owner_line(&self.partition, style), style.cell(&self.what_next()));
        if self.moves.is_empty() {
            return text;
        }
        let mut table = Table::new(&["WHEN", "GENERATION", "FROM", "TO", "CAUSE"]);
        for told in &self.moves {
            let slot = |slot: Option<Slot>| slot.map_or_else(|| "nobody".to_owned(), |slot| format!("worker-{slot}"));
            let age = self.picture.age(told.at).map_or_else(|| "?".to_owned(), |age| human(age) + " ago");
            let cells = [age, told.generation.to_string(), slot(told.from), slot(told.to), told.cause.to_string()];
            table.row(cells.into_iter().map(|cell| (cell, Tone::Plain)).collect());
        }
        text.push('\n');
        text + &table.text(style)
    }

    fn json(&self) -> Value {
        let told = |told: &Told| {
            json!({
                "generation": told.generation,
                "at": told.at.map(rfc3339),
                "age_ms": self.picture.age(told.at).map(millis),
                "from": told.from,
                "to": told.to,
                "cause": told.cause,
                "sentence": sentence(told),
            })
        };
        let next = self.next.as_ref();
        json!({
            "partition": look::partition_json(&self.partition),
            "why_here": self.why_here(),
            "what_next": self.what_next(),
            "moves": self.moves.iter().map(told).collect::<Vec<_>>(),
            "unnamed": self.unnamed,
            "next": next.map(|step| json!({ "to": step.to, "reason": step.reason.to_string() })),
        })
    }
}

fn told(history: &PlanHistory, id: &PartitionId) -> Vec<Told> {
    let told = history.of(id).map(|(plan, cause, moved)| Told {
        generation: plan.generation.value(),
        at: (plan.at_ms > 0).then(|| UNIX_EPOCH + Duration::from_millis(plan.at_ms)),
        from: moved.from,
        to: moved.to,
        cause,
    });
    told.collect()
}

/// A move in words.
fn sentence(told: &Told) -> String {
    let from = told.from.map_or_else(|| "nobody".to_owned(), |slot| format!("worker-{slot}"));
    let why = match told.cause {
        MoveCause::Crash => format!("{from} was gone and had not handed it over"),
        MoveCause::Leave => format!("{from} was leaving"),
        MoveCause::Drain => format!("an operator drained {from}"),
        MoveCause::CrashLoop => format!("the processes of {from} died soon after each start"),
        MoveCause::GivenUp => format!("the application of {from} could not work on it"),
        MoveCause::Away => format!("{from} was to get it and was away for a restart"),
        MoveCause::Pin => "the list pins it".to_owned(),
        MoveCause::Label => format!("{from} lacked a label that the list asks for"),
        MoveCause::Preference => format!("the list prefers other workers to {from}, and one of them had room"),
        MoveCause::Apart => format!("the list keeps it apart from another that {from} had"),
        MoveCause::Room => {
            format!("{from} had no room for it: a more important one took its place, or its limit was lowered")
        }
        MoveCause::Operator => "an operator asked for a rebalance".to_owned(),
        MoveCause::Balance => format!("the load was uneven, and {from} had too much"),
        MoveCause::Load => format!("the measured load was uneven, and {from} had too much"),
        MoveCause::List => "nobody had it".to_owned(),
        _ => "for a reason that this version does not know".to_owned(),
    };
    match told.to {
        Some(to) => format!("{why}, and it went to worker-{to}"),
        None => format!("{why}, and no worker may have it"),
    }
}
