//! `parti plan`: what would move, from the group as it is.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use parti_nats::assign::MoveReason;
use parti_nats::{Forecast, ForecastMove, PartitionId, Picture, Round, Slot, Weight, WhatIf};
use serde_json::{Value, json};

use crate::arguments::{Global, Question};
use crate::connect;
use crate::failure::{FINE, Failure, NO};
use crate::show::{Style, count, print, print_json};

/// So many moves are shown one by one on a terminal.
const SHOWN_MOVES: usize = 20;

pub(crate) async fn plan(global: &Global, question: &Question) -> Result<u8, Failure> {
    let weights = match &question.weights {
        Some(path) => weights(&read(path)?)?,
        None => BTreeMap::new(),
    };
    let picture = connect::picture(global).await?;
    let what_if = WhatIf {
        add: joining(&picture, question).into_iter().map(|slot| (slot, question.capacity)).collect(),
        remove: question.remove.iter().copied().collect(),
        weights,
        strategy: question.strategy,
        move_budget_percent: question.move_budget,
    };
    let forecast = picture.forecast(&what_if).map_err(|error| Failure::from(error).trying("work out a plan"))?;
    if global.json {
        print_json("plan", picture.group.as_str(), plan_json(&picture, &what_if, &forecast))?;
    } else {
        print(&text(&picture, &what_if, &forecast, Style::of_stdout()))?;
    }
    Ok(if forecast.rounds.is_empty() { FINE } else { NO })
}

/// The slots of those that join: as they are named, or the lowest that nobody has.
fn joining(picture: &Picture, question: &Question) -> Vec<Slot> {
    let range = picture.workers.values().find_map(|worker| worker.record.shared.as_ref()?.slots);
    let (first, last) = range.map_or((0, u32::MAX), |(first, last)| (first.value(), last.value()));
    let free = (first..=last).map(Slot::new).filter(|slot| {
        !picture.workers.contains_key(slot)
            && !picture.unreadable.iter().any(|one| one.key == parti_nats::Key::Slot(*slot))
    });
    let lowest = free.take(usize::try_from(question.add).unwrap_or(usize::MAX));
    question.slot.iter().copied().chain(lowest).collect()
}

/// What is in a file, or in the standard input where that is `-`.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(path).map(|read| text = read)
    };
    let failed =
        |error| Failure::usage(format!("tried to read {}: {error}: name a file that can be read", path.display()));
    read.map(|()| text).map_err(failed)
}

/// Reads weights: an object, or lines of a name and a number.
fn weights(text: &str) -> Result<BTreeMap<PartitionId, Weight>, Failure> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| {
            Failure::usage(format!("weights must be an object such as {{\"orders-1\": 3}}: {error}"))
        });
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| weighted(line).map(|(id, weight)| (id, weight.unwrap_or(Weight::MIN)))).collect()
}

/// Reads a line of a name and, after a space, a tab or `=`, its weight.
pub(crate) fn weighted(line: &str) -> Result<(PartitionId, Option<Weight>), Failure> {
    let bad = |error: String| Failure::usage(error);
    let parts = line.rsplit_once([' ', '\t', '=']);
    let (id, weight) = match parts.and_then(|(id, weight)| Some((id.trim_end(), weight.parse::<u32>().ok()?))) {
        Some((id, weight)) => (id, Some(weight)),
        None => (line, None),
    };
    let id = PartitionId::new(id).map_err(|error| bad(error.to_string()))?;
    let rule = || bad(format!("a weight must be from 1 to 4294967295, but that of {id:?} is 0"));
    let weight = weight.map(|weight| Weight::new(weight).ok_or_else(rule)).transpose()?;
    Ok((id, weight))
}

fn text(picture: &Picture, what_if: &WhatIf, forecast: &Forecast, style: Style) -> String {
    let generation = picture.generation();
    let slots = |slots: Vec<&Slot>| slots.iter().map(|slot| format!("worker-{slot}")).collect::<Vec<_>>().join(", ");
    let mut lines = vec![format!("From generation {generation} of {}", picture.group)];
    if !what_if.add.is_empty() {
        lines.push(format!("  joins     {}", slots(what_if.add.keys().collect())));
    }
    if !what_if.remove.is_empty() {
        lines.push(format!("  leaves    {}", slots(what_if.remove.iter().collect())));
    }
    if forecast.rounds.is_empty() {
        lines.push("Nothing moves.".to_owned());
        return lines.join("\n") + "\n";
    }
    let moves: usize = forecast.rounds.iter().map(|round| round.moves.len()).sum();
    let rounds = count(forecast.rounds.len(), "round");
    let cut = if forecast.is_cut { ", and more after those" } else { "" };
    lines.push(format!("{} in {rounds}{cut}.", count(moves, "move")));
    for (number, round) in (1..).zip(&forecast.rounds) {
        lines.extend(round_lines(number, round, style));
    }
    lines.join("\n") + "\n"
}

fn round_lines(number: usize, round: &Round, style: Style) -> Vec<String> {
    let figures = &round.figures;
    let thousandths = |permille: u64| format!("{}.{:03}", permille / 1000, permille % 1000);
    let spread = |before, after| format!("{} → {} of the mean load", thousandths(before), thousandths(after));
    let mut lines = vec![
        String::new(),
        format!("Round {number}: {}", count(round.moves.len(), "move")),
        format!("  least     {} can do it, all rounds together", count(figures.least_moves, "move")),
        format!("  budget    {} of {} used", figures.staying_moved - figures.displaced, figures.budget),
        format!("  highest   {}", spread(figures.before.peak_permille, figures.after.peak_permille)),
        format!("  lowest    {}", spread(figures.before.least_permille, figures.after.least_permille)),
    ];
    if figures.spilled_before + figures.spilled_after > 0 {
        let (before, after) = (figures.spilled_before, figures.spilled_after);
        lines.push(format!("  spilled   {before} → {after} are not with a worker that they prefer"));
    }
    if figures.crowded_before + figures.crowded_after > 0 {
        let (before, after) = (figures.crowded_before, figures.crowded_after);
        lines.push(format!("  crowded   {before} → {after} are with others from which they are to be apart"));
    }
    let without_room: usize = round.without_room.iter().map(|(_, count)| count).sum();
    if figures.unassigned > without_room {
        lines.push(format!("  nobody    can hold {}", count(figures.unassigned - without_room, "partition")));
    }
    if without_room > 0 {
        let of_each = round.without_room.iter().map(|(priority, count)| format!("{count} of priority {priority}"));
        let of_each = of_each.collect::<Vec<_>>().join(", ");
        lines.push(format!("  no room   for {}: {of_each}", count(without_room, "partition")));
    }
    let shown = if style.is_whole() { round.moves.len() } else { SHOWN_MOVES.min(round.moves.len()) };
    let name = |slot: Option<Slot>| slot.map_or_else(|| "nobody".to_owned(), |slot| format!("worker-{slot}"));
    for one in &round.moves[..shown] {
        let id = style.cell(one.partition.as_str());
        lines.push(format!("  {id}: {} → {} ({})", name(one.from), name(one.to), why(one)));
    }
    match round.moves.len() - shown {
        0 => {}
        more => lines.push(format!("  … and {more} more")),
    }
    lines
}

/// Why it moves, and whether that takes it to where it would rather be.
fn why(one: &ForecastMove) -> String {
    match one.fit {
        Some(fit) if one.reason != MoveReason::Preferred => format!("{}, {fit}", one.reason),
        Some(_) | None => one.reason.to_string(),
    }
}

fn plan_json(picture: &Picture, what_if: &WhatIf, forecast: &Forecast) -> Value {
    let spread = |spread: &parti_nats::assign::Spread| json!({ "peak_permille": spread.peak_permille, "least_permille": spread.least_permille });
    let round = |round: &Round| {
        let figures = &round.figures;
        let moves = round.moves.iter().map(|one| {
            json!({ "partition": one.partition, "from": one.from, "to": one.to, "reason": one.reason.to_string(), "fit": one.fit.map(|fit| fit.to_string()) })
        });
        json!({
            "moves": moves.collect::<Vec<_>>(),
            "least_moves": figures.least_moves,
            "staying_moved": figures.staying_moved,
            "budget": figures.budget,
            "displaced": figures.displaced,
            "unassigned": figures.unassigned,
            "without_room": round.without_room.iter().map(|(priority, count)| json!({ "priority": priority, "partitions": count })).collect::<Vec<_>>(),
            "spilled_before": figures.spilled_before,
            "spilled_after": figures.spilled_after,
            "crowded_before": figures.crowded_before,
            "crowded_after": figures.crowded_after,
            "before": spread(&figures.before),
            "after": spread(&figures.after),
        })
    };
    json!({
        "generation": picture.generation(),
        "add": what_if.add.keys().collect::<Vec<_>>(),
        "remove": what_if.remove,
        "moves": forecast.rounds.iter().map(|round| round.moves.len()).sum::<usize>(),
        "rounds": forecast.rounds.iter().map(round).collect::<Vec<_>>(),
        "cut": forecast.is_cut,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_lines_or_an_object_and_what_is_neither_is_refused() {
        let read = |text| {
            let weights = weights(text).expect("readable").into_iter();
            weights.map(|(id, weight)| (id.to_string(), weight.get())).collect::<Vec<_>>()
        };
        let expected = [("a b".to_owned(), 3), ("c".to_owned(), 2)];
        assert_eq!(read("# by hand\na b 3\n\nc=2\n"), expected);
        assert_eq!(read("{\"c\": 2, \"a b\": 3}"), expected);
        for wrong in ["a 0", "{\"a\": 0}", "{", "\u{1b} 3"] {
            assert_eq!(weights(wrong).expect_err(wrong).code, crate::failure::USAGE);
        }
    }
}
