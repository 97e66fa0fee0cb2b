//! `parti positions` and `parti seek`: how far messages are finished, and where a partition is to go on.

use parti_nats::{Observer, PartitionId, PositionPicture, Sequence, StreamEnds};
use serde_json::{Value, json};

use crate::arguments::{Global, Seek};
use crate::ask::confirm;
use crate::connect::Link;
use crate::failure::{FINE, Failure, NO};
use crate::lag::{self, Backlog};
use crate::show::{Style, Table, Tone, human, print, print_json, rfc3339};

/// `parti positions`
pub(crate) async fn positions(global: &Global) -> Result<u8, Failure> {
    let link = Link::open(global).await?;
    let observer = link.observe().await?;
    let positions = read(&link, &observer).await?;
    let backlog = Backlog::of(&link, &observer, positions).await.whole()?;
    let mut positions: Vec<_> = backlog.positions.iter().collect();
    // Those that are furthest behind come first.
    positions.sort_by_key(|position| std::cmp::Reverse(backlog.behind(position).unwrap_or(u64::MAX)));
    if global.json {
        let positions: Vec<Value> = positions.iter().map(|position| position_json(position, &backlog)).collect();
        print_json("positions", link.group.as_str(), json!({ "positions": positions }))?;
        return Ok(FINE);
    }
    let picture = observer.snapshot();
    let mut table = Table::new(&["PARTITION", "STREAM", "FINISHED", "BEHIND AT MOST", "WRITTEN", "STATE"]);
    for position in &positions {
        let plain = |text: String| (text, Tone::Plain);
        let (stream, through, state) = match &position.record {
            Ok(record) => {
                let failed =
                    record.failed.map(|failed| format!("message {} failed {} times", failed.seq, failed.times));
                let open = if record.open { "open" } else { "let go" };
                let state = failed
                    .map_or_else(|| plain(open.to_owned()), |failed| (format!("{open}, {failed}"), Tone::Notable));
                (record.stream.clone(), record.through.to_string(), state)
            }
            Err(why) => ("?".to_owned(), "?".to_owned(), (why.clone(), Tone::Bad)),
        };
        let behind =
            backlog.behind(position).map_or_else(|| ("?".to_owned(), Tone::Bad), |behind| plain(behind.to_string()));
        let age = picture.age(Some(position.written)).map(|age| human(age) + " ago").unwrap_or_default();
        table.row(vec![
            plain(position.partition.to_string()),
            plain(stream),
            plain(through),
            behind,
            plain(age),
            state,
        ]);
    }
    print(&table.text(Style::of_stdout()))?;
    Ok(FINE)
}

async fn read(link: &Link, observer: &Observer) -> Result<Vec<PositionPicture>, Failure> {
    lag::positions(link, observer).await?.ok_or_else(|| {
        Failure::nothing_there(format!("{} has no positions: no messages follow its partitions", link.group))
    })
}

fn position_json(position: &PositionPicture, backlog: &Backlog) -> Value {
    let record = position.record.as_ref().ok();
    json!({
        "partition": position.partition,
        "revision": position.revision,
        "written": rfc3339(position.written),
        "stream": record.map(|record| &record.stream),
        "through": record.map(|record| record.through),
        "open": record.map(|record| record.open),
        "token": record.map(|record| record.token),
        "failed": record.and_then(|record| record.failed).map(|failed| json!({ "seq": failed.seq, "times": failed.times })),
        "behind_at_most": backlog.behind(position),
        "unreadable": position.record.as_ref().err(),
    })
}

/// `parti seek`
pub(crate) async fn seek(global: &Global, seek: Seek) -> Result<u8, Failure> {
    let id = PartitionId::new(&seek.partition).map_err(|error| Failure::usage(error.to_string()))?;
    let link = Link::open(global).await?;
    let observer = link.observe().await?;
    let found = read(&link, &observer).await?.into_iter().find(|position| position.partition == id);
    let Some(position) = found else {
        return Err(Failure::nothing_there(format!("{id:?} of {} has no position: see `parti positions`", link.group)));
    };
    let record = position.record.clone().map_err(|why| {
        Failure::cannot_tell(format!(
            "the position of {id:?} cannot be read: {why}: delete it by hand, and its owner begins anew"
        ))
    })?;
    if record.open {
        return Err(Failure::no(format!(
            "tried to seek {id:?} of {}: its owner has it open, and would go on where it is: stop the workers, or wait until they have let it go",
            link.group
        )));
    }
    let backlog = Backlog::of(&link, &observer, vec![position.clone()]).await.whole()?;
    let Some(ends) = backlog.ends(&record.stream) else {
        let stream = parti_nats::harmless(&record.stream, 64);
        return Err(Failure::nothing_there(format!(
            "tried to seek {id:?} of {}: there is no stream {stream}",
            link.group
        )));
    };
    let next = next(&seek.to, ends)?;
    let from = record.through.value().saturating_add(1);
    let fields =
        json!({ "partition": id, "stream": record.stream, "from": from, "to": next, "executed": seek.execute });
    if !seek.execute {
        let text = format!("{id} would go on with message {next} instead of {from}; --execute does it\n");
        answer(global, &link, fields, &text)?;
        return Ok(NO);
    }
    confirm(seek.force, &format!("have {id} of {} go on with message {next} instead of {from}", link.group))?;
    let written = link.operate().await?.seek(&position, ends, next).await;
    written.map_err(|error| link.explained(error.into()).trying(&format!("seek {id:?}")))?;
    answer(global, &link, fields, &format!("{id} goes on with message {next} instead of {from}\n"))?;
    Ok(FINE)
}

fn answer(global: &Global, link: &Link, fields: Value, text: &str) -> Result<(), Failure> {
    if global.json { print_json("seek", link.group.as_str(), fields) } else { print(text) }
}

/// The first message that is to come, by what was said and what the stream has.
fn next(to: &str, ends: StreamEnds) -> Result<Sequence, Failure> {
    let (first, after) = (ends.first.value(), ends.last.value().saturating_add(1));
    match to {
        "first" => Ok(ends.first),
        "end" => Ok(Sequence::new(after)),
        number => {
            let bad = || {
                Failure::usage(format!(
                    "--to must be first, end, or the number of a message from {first} to {after}, but is {}",
                    parti_nats::harmless(number, 32)
                ))
            };
            let wanted: u64 = number.parse().map_err(|_| bad())?;
            if (first..=after).contains(&wanted) { Ok(Sequence::new(wanted)) } else { Err(bad()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seeks_to_what_the_stream_has() {
        let ends =
            StreamEnds { created: parti_nats::Timestamp::new(1), first: Sequence::new(5), last: Sequence::new(9) };
        let read = |to| next(to, ends).map(Sequence::value).map_err(|failure| failure.code);
        assert_eq!([read("first"), read("end"), read("7"), read("10")], [Ok(5), Ok(10), Ok(7), Ok(10)]);
        assert_eq!([read("4"), read("11"), read("-1"), read("last")], [Err(2); 4]);
    }
}
