//! `parti list`: the partition list in the store.

use parti_nats::{Error, Partition, PartitionBucket, PartitionId, PartitionList, Revision};
use serde_json::json;

use crate::arguments::{Global, List};
use crate::ask::confirm;
use crate::connect::Link;
use crate::failure::{FINE, Failure};
use crate::plan::{read, weighted};
use crate::show::{Style, count, print, print_json};

pub(crate) async fn list(global: &Global, verb: List) -> Result<u8, Failure> {
    let link = Link::open(global).await?;
    match verb {
        List::Show => show(global, &link).await,
        List::Set { file, revision, force } => {
            let list = parse(&read(&file)?)?;
            let bucket = bucket(&link).await?;
            let now = bucket.read().await.map_err(|error| failed(&link, error, "read"))?;
            let expected = revision.map_or(now.revision, Revision::new);
            let what = format!("{} by {}", count(now.partitions.len(), "partition"), list.len());
            confirm(force, &format!("replace the list of {}, {what}", link.group))?;
            let written = bucket.replace(&list, expected).await;
            done(global, &link, written, list.len())
        }
        List::Add { partitions, force } => {
            let added = partitions.iter().map(|text| {
                let (id, weight) = weighted(text)?;
                Ok(Partition::new(id).with_weight(weight.unwrap_or(parti_nats::Weight::MIN)))
            });
            let added = added.collect::<Result<Vec<_>, Failure>>()?;
            confirm(force, &format!("add {} to the list of {}", count(added.len(), "partition"), link.group))?;
            let changed = added.len();
            let written = bucket(&link).await?.add(added).await;
            done(global, &link, written, changed)
        }
        List::Remove { ids, force } => {
            let ids = ids.iter().map(PartitionId::new).collect::<Result<Vec<_>, _>>();
            let ids = ids.map_err(|error| Failure::usage(error.to_string()))?;
            confirm(force, &format!("remove {} from the list of {}", count(ids.len(), "partition"), link.group))?;
            let bucket = bucket(&link).await?;
            let now = bucket.read().await.map_err(|error| failed(&link, error, "read"))?;
            if let Some(id) = ids.iter().find(|id| now.partitions.position(id).is_none()) {
                return Err(Failure::nothing_there(format!(
                    "tried to remove {id:?} from the list of {}: it is not in it: see `parti list show`",
                    link.group
                )));
            }
            let written = bucket.remove(&ids).await;
            done(global, &link, written, ids.len())
        }
    }
}

async fn show(global: &Global, link: &Link) -> Result<u8, Failure> {
    let picture = link.observe().await?.snapshot();
    let Some(list) = picture.list else {
        return Err(Failure::nothing_there(format!(
            "{} has no partition list in the store: its workers have one of their own, or write one with `parti list set`",
            link.group
        )));
    };
    let partitions = list.partitions.map_err(|why| {
        Failure::cannot_tell(format!(
            "the partition list of {} cannot be read: {why}: write it anew with `parti list set`",
            link.group
        ))
    })?;
    if global.json {
        let fields =
            json!({ "revision": list.revision, "count": partitions.len(), "partitions": partitions.as_slice() });
        print_json("list", link.group.as_str(), fields)?;
    } else {
        let style = Style::of_stdout();
        let shown = |partition: &Partition| {
            let Partition { id, weight, placement } = partition;
            let asks = placement.as_ref().map(|placement| {
                let requires = placement.requires.iter().map(|(name, value)| format!("{name}={value}"));
                let pin = placement.pin.iter().map(|slot| format!("worker-{slot}"));
                let prefers = placement.prefers.iter().map(|(name, value)| format!("{name}={value}"));
                let said = |words: &str, asks: Vec<String>| {
                    let asks = Some(asks.join(" ")).filter(|asks| !asks.is_empty());
                    asks.map_or_else(String::new, |asks| format!("  # {words} {}", style.cell(&asks)))
                };
                said("asks for", requires.chain(pin).collect())
                    + &said("prefers", prefers.collect())
                    + &said("apart by", placement.apart.iter().cloned().collect())
                    + &said(
                        "priority",
                        Some(placement.priority.to_string()).filter(|_| placement.priority > 0).into_iter().collect(),
                    )
            });
            format!("{} {weight}{}\n", style.cell(id.as_str()), asks.unwrap_or_default())
        };
        print(&partitions.iter().map(shown).collect::<String>())?;
    }
    Ok(FINE)
}

/// Reads lines of a name and a weight, or JSON as `show --json` has it under `partitions`.
fn parse(text: &str) -> Result<PartitionList, Failure> {
    let start = text.trim_start();
    if start.starts_with(['{', '[']) {
        let bad = |error| Failure::usage(format!("the list must be as `parti list show --json` prints it: {error}"));
        let value: serde_json::Value = serde_json::from_str(text).map_err(bad)?;
        let list = value.get("partitions").cloned().unwrap_or(value);
        let partitions: Vec<Partition> = serde_json::from_value(list).map_err(bad)?;
        return PartitionList::new(partitions).map_err(|error| Failure::usage(error.to_string()));
    }
    let lines = text.lines().map(|line| line.split_once("  #").map_or(line, |(line, _)| line).trim());
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let partitions = lines.map(|line| {
        let (id, weight) = weighted(line)?;
        Ok(Partition::new(id).with_weight(weight.unwrap_or(parti_nats::Weight::MIN)))
    });
    let partitions = partitions.collect::<Result<Vec<_>, Failure>>()?;
    PartitionList::new(partitions).map_err(|error| Failure::usage(error.to_string()))
}

async fn bucket(link: &Link) -> Result<PartitionBucket, Failure> {
    if let Some(domain) = &link.domain {
        let domain = parti_nats::harmless(domain, 64);
        return Err(Failure::usage(format!(
            "the list is edited at a server of its own domain: leave --js-domain {domain} out, and name such a server"
        )));
    }
    let opened = PartitionBucket::open(link.client.clone(), &link.group, 1).await;
    opened.map_err(|error| failed(link, error, "opened"))
}

fn failed(link: &Link, error: Error, what: &str) -> Failure {
    link.explained(error.into()).trying(&format!("have the partition list of {} {what}", link.group))
}

fn done(global: &Global, link: &Link, written: Result<Revision, Error>, changed: usize) -> Result<u8, Failure> {
    let revision = written.map_err(|error| failed(link, error, "written"))?;
    if global.json {
        print_json("list", link.group.as_str(), json!({ "revision": revision, "changed": changed }))?;
    } else {
        print(&format!("{} written, the list has revision {revision}\n", count(changed, "partition")))?;
    }
    Ok(FINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_is_shown() {
        let pinned = Partition::new(PartitionId::new("a b").expect("valid")).requiring("zone", "x");
        let list = PartitionList::new(vec![pinned]).expect("a list");
        let shown = json!({ "v": 1, "partitions": list.as_slice() }).to_string();
        assert_eq!(parse(&shown).expect("readable"), list);
        assert_eq!(parse("a b 2\nc\n# none\n").expect("readable").len(), 2);
        assert_eq!(parse("[[\"a\",0]]").expect_err("no weight").code, crate::failure::USAGE);
    }
}
