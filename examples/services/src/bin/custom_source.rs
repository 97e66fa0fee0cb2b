//! A list of partitions of one's own: the lines of a file, each an id and a weight. Edit the file while workers run.
//!
//! ```sh
//! printf 'small 1\nlarge 12\n' > partitions.txt
//! cargo run -p parti-example-services --bin custom_source -- --file partitions.txt
//! ```

#![allow(clippy::print_stdout)] // it is made to be looked at

#[path = "../../../../parti-nats/examples/common/mod.rs"]
mod common;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use parti_nats::{Builder, PartitionGuard, PartitionList, Source, SourceError};

/// How often the file is read. A database would be asked as seldom, or would say when it has changed.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Parser)]
#[command(about = "One worker whose partitions are the lines of a file, each an id and a weight")]
struct Arguments {
    #[command(flatten)]
    server: common::Server,
    /// The file. All workers of a group must read the same list.
    #[arg(long)]
    file: PathBuf,
}

/// The file. An error changes nothing: the last good list stays, and health and log say what is wrong with the new one.
struct Lines(PathBuf);

impl Source for Lines {
    async fn read(&mut self) -> Result<PartitionList, SourceError> {
        let text = tokio::fs::read_to_string(&self.0).await?;
        let pairs = text.lines().filter(|line| !line.trim().is_empty()).map(pair);
        Ok(PartitionList::from_pairs(pairs.collect::<Result<Vec<_>, _>>()?)?)
    }

    async fn changed(&mut self) {
        tokio::time::sleep(INTERVAL).await;
    }
}

fn pair(line: &str) -> Result<(&str, u32), SourceError> {
    let (id, weight) = line.split_once(' ').ok_or_else(|| format!("a line must be `id weight`, but is {line:?}"))?;
    Ok((id, weight.trim().parse()?))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { server, file } = Arguments::parse();
    common::log();
    let mut worker = Builder::new("lines").server(server.url).source(Lines(file)).start()?;
    common::stop_when_told(&worker);
    Ok(worker.run(work).await?)
}

async fn work(guard: impl PartitionGuard) {
    println!("{} is mine, and weighs {}", guard.partition(), guard.weight());
    let reason = guard.released().await;
    println!("{} is mine no longer: {reason:?}", guard.partition());
}
