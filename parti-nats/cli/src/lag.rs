//! How far the messages of partitions are behind, for `parti positions` and `parti status --lag`.

use std::collections::{BTreeMap, BTreeSet};

use parti_nats::{Observer, PartitionId, Picture, PositionPicture, StreamEnds, harmless};
use serde_json::{Value, json};

use crate::connect::Link;
use crate::failure::Failure;
use crate::show::{Style, Tone, count};

/// So many of the things that could not be read are told.
const SHOWN_PUZZLES: usize = 4;

/// What the stream of this name holds, or that it is not there, or why that cannot be told.
type Ends = Result<Option<StreamEnds>, Failure>;

/// The positions of a group; none if it has no bucket of them. O(P) requests.
pub(crate) async fn positions(link: &Link, observer: &Observer) -> Result<Option<Vec<PositionPicture>>, Failure> {
    let read = observer.positions().await;
    read.map_err(|error| link.explained(error.into()).trying("read the positions"))
}

/// Positions of a group, and the streams that they are in.
pub(crate) struct Backlog {
    pub(crate) positions: Vec<PositionPicture>,
    streams: BTreeMap<String, Ends>,
}

impl Backlog {
    /// Looks at the streams of these positions, each once.
    pub(crate) async fn of(link: &Link, observer: &Observer, positions: Vec<PositionPicture>) -> Self {
        let mut streams = BTreeMap::new();
        for record in positions.iter().filter_map(|position| position.record.as_ref().ok()) {
            // A name that no stream can have is not asked for.
            let is_name = record.stream.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
                && !record.stream.is_empty();
            if is_name && !streams.contains_key(&record.stream) {
                let ends = observer.stream_ends(&record.stream).await;
                let ends = ends.map_err(|error| link.explained(error.into()).trying("look at the stream of messages"));
                streams.insert(record.stream.clone(), ends);
            }
        }
        Self { positions, streams }
    }

    /// The same, if every stream could be looked at.
    pub(crate) fn whole(mut self) -> Result<Self, Failure> {
        let failed = self.streams.iter().find(|(_, ends)| ends.is_err()).map(|(name, _)| name.clone());
        match failed.and_then(|name| self.streams.remove(&name)) {
            Some(Err(failure)) => Err(failure),
            Some(Ok(_)) | None => Ok(self),
        }
    }

    /// What a stream holds; none if it is not there, or not known.
    pub(crate) fn ends(&self, stream: &str) -> Option<StreamEnds> {
        self.streams.get(stream)?.as_ref().ok().copied().flatten()
    }

    /// How many messages the stream has been given since the last finished one, those of other partitions included.
    pub(crate) fn behind(&self, position: &PositionPicture) -> Option<u64> {
        let record = position.record.as_ref().ok()?;
        Some(self.ends(&record.stream)?.last.value().saturating_sub(record.through.value()))
    }

    /// Why it cannot be told how far a partition is behind.
    fn puzzle(&self, position: &PositionPicture) -> Option<String> {
        let record = match &position.record {
            Ok(record) => record,
            Err(why) => return Some(format!("the position of {}: {why}", position.partition)),
        };
        match self.streams.get(&record.stream) {
            Some(Ok(Some(_))) => None,
            Some(Err(failure)) => Some(failure.text.clone()),
            Some(Ok(None)) | None => Some(format!("there is no stream {}", harmless(&record.stream, 64))),
        }
    }
}

/// How far a group is behind, in a few numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lag {
    /// For so many partitions it is known how far they are.
    known: usize,
    /// Which one is furthest behind, and by how many messages at most.
    furthest: Option<(PartitionId, u64)>,
    /// For all of these together, at most.
    sum: u64,
    /// So many have no position: nobody has worked on their messages yet.
    without: usize,
    /// What could not be read, and why: each once, with how many partitions it concerns.
    puzzles: BTreeMap<String, usize>,
}

impl Lag {
    /// Reads the positions, and looks at their streams; none if there are no positions.
    pub(crate) async fn read(link: &Link, observer: &Observer, picture: &Picture) -> Result<Option<Self>, Failure> {
        let Some(positions) = positions(link, observer).await? else { return Ok(None) };
        Ok(Some(Self::of(&Backlog::of(link, observer, positions).await, picture)))
    }

    /// Of the partitions that the picture knows; where it does not know all, of all that have a position.
    fn of(backlog: &Backlog, picture: &Picture) -> Self {
        let listed = picture.list.as_ref().is_some_and(|list| list.partitions.is_ok());
        let known: BTreeSet<PartitionId> = picture.partitions().into_iter().map(|partition| partition.id).collect();
        let counts = |position: &&PositionPicture| !listed || known.contains(&position.partition);
        let placed: BTreeSet<&PartitionId> = backlog.positions.iter().map(|position| &position.partition).collect();
        let mut lag = Self { without: known.iter().filter(|id| !placed.contains(id)).count(), ..Self::default() };
        let mut furthest = BTreeMap::<&str, u64>::new();
        for position in backlog.positions.iter().filter(counts) {
            let (Ok(record), Some(behind)) = (&position.record, backlog.behind(position)) else {
                let puzzle = backlog.puzzle(position).unwrap_or_default();
                *lag.puzzles.entry(puzzle).or_default() += 1;
                continue;
            };
            lag.known += 1;
            let most = furthest.entry(&record.stream).or_default();
            *most = behind.max(*most);
            if lag.furthest.as_ref().is_none_or(|(_, most)| behind > *most) {
                lag.furthest = Some((position.partition.clone(), behind));
            }
        }
        // A message is one partition's alone: all of a stream are together no further behind than the one that is furthest.
        lag.sum = furthest.values().fold(0, |sum, most| sum.saturating_add(*most));
        lag
    }
}

/// What the header of `parti status` says of it: names and texts. None is for a group without positions.
pub(crate) fn lines(lag: &Result<Option<Lag>, Failure>, style: Style) -> Vec<(&'static str, String)> {
    let lag = match lag {
        Ok(Some(lag)) => lag,
        Ok(None) => return vec![("Lag", "no positions: no messages follow, or they are kept elsewhere".to_owned())],
        Err(failure) => return vec![("Lag", style.paint("unknown: ", Tone::Bad) + &failure.text)],
    };
    let of = count(lag.known, "partition");
    let told = match &lag.furthest {
        None => "unknown for all partitions".to_owned(),
        Some((_, 0)) => format!("nothing behind in {of}"),
        Some((id, most)) => {
            let id = style.cell(id.as_str());
            format!("at most {} messages behind in {of}; furthest behind is {id}, by at most {most}", lag.sum)
        }
    };
    let without = if lag.without > 0 { format!("; {} without a position", lag.without) } else { String::new() };
    let mut lines = vec![("Lag", told + &without)];
    let puzzles = lag.puzzles.iter().take(SHOWN_PUZZLES);
    lines.extend(puzzles.map(|(why, concerned)| ("Unreadable", format!("{why} ({})", count(*concerned, "partition")))));
    if let Some(more @ 1..) = lag.puzzles.len().checked_sub(SHOWN_PUZZLES) {
        lines.push(("Unreadable", format!("and {more} more: see `parti positions`")));
    }
    lines
}

/// The same for programs.
pub(crate) fn fields(lag: &Result<Option<Lag>, Failure>) -> Value {
    let known = lag.as_ref().ok().and_then(Option::as_ref);
    let furthest = known.and_then(|lag| lag.furthest.as_ref());
    json!({
        "has_positions": lag.as_ref().ok().map(Option::is_some),
        "partitions": known.map(|lag| lag.known),
        "without_position": known.map(|lag| lag.without),
        "behind_at_most": furthest.and(known).map(|lag| lag.sum),
        "furthest_behind_at_most": furthest.map(|(_, most)| most),
        "furthest": furthest.map(|(id, _)| id),
        "unreadable": known.map(|lag| lag.puzzles.iter().map(|(why, concerned)| json!({
            "why": why, "partitions": concerned,
        })).collect::<Vec<_>>()),
        "error": lag.as_ref().err().map(|failure| &failure.text),
    })
}
